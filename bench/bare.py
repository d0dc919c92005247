"""IMAP on a bare socket: it reads what comes, and drops it. Knows a command's end, and nothing else of the protocol."""

from __future__ import annotations

import re
import socket
from types import TracebackType
from typing import Self

PIECE = 1 << 20
_EXISTS = re.compile(rb"\* (\d+) EXISTS\r\n")


class Bare:
    """A connection, logged in. RuntimeError if the server refuses something."""

    def __init__(self, port: int, user: str, password: str) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=60)
        self._buffer = bytearray(PIECE)
        self._tag = 0
        self._socket.recv(PIECE)  # the greeting
        self.drain(f"LOGIN {user} {password}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def select(self, mailbox: str) -> int:
        """How many messages it has."""
        found = _EXISTS.search(self.drain(f"EXAMINE {mailbox}"))
        return int(found[1]) if found else 0

    def drain(self, command: str) -> bytes:
        """The last bytes of the answer, some hundred or more."""
        self._tag += 1
        tag = b"b%d " % self._tag
        self._socket.sendall(tag + command.encode() + b"\r\n")
        view, end = memoryview(self._buffer), b""
        while not (end.endswith(b"\r\n") and b"\r\n" + tag in b"\r\n" + end):
            size = self._socket.recv_into(view)
            if not size:
                raise RuntimeError(f"the server hung up after {command}")
            end = (end + bytes(view[max(0, size - 500) : size]))[-1000:]
        if b"\r\n" + tag + b"OK" not in b"\r\n" + end:
            raise RuntimeError(f"{command}: {end.decode(errors='replace')}")
        return end
