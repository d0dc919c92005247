"""COMPRESS=DEFLATE (RFC 4978): what a connection sends and receives, pressed. Knows nothing of IMAP."""

from __future__ import annotations

import zlib
from typing import Protocol

RAW = -zlib.MAX_WBITS  # without header and checksum
PIECE = 64 * 1024  # bytes at a time, pressed or not
MAX_EMPTY = 1024 * 1024  # pressed bytes in a row that stand for nothing: a packet or two would be usual


class Line(Protocol):
    """A socket that does not block, in TLS or not."""

    def send(self, data: memoryview, /) -> int: ...
    def recv(self, size: int, /) -> bytes: ...


class Deflated:
    """In the place of a socket. `early`: pressed bytes that were received already.

    What is received is never unpacked further than there is room for: a small answer may stand for gigabytes.
    """

    def __init__(self, line: Line, early: bytes = b"") -> None:
        self._line = line
        self._packer = zlib.compressobj(wbits=RAW)
        self._unpacker = zlib.decompressobj(RAW)
        self._packed = early  # not unpacked yet
        self._more = bool(early)  # perhaps there is something to be had without receiving anything
        self._outgoing = memoryview(b"")  # pressed, not sent yet
        self._empty = 0  # pressed bytes that came since the last that stood for anything
        self._taken = 0  # how many bytes that was before

    def send(self, data: memoryview) -> int:
        """As of a socket, but after a fault that means 'not now' the same data must be given again."""
        if not self._taken:
            part = data[:PIECE]
            self._outgoing = memoryview(self._packer.compress(part) + self._packer.flush(zlib.Z_SYNC_FLUSH))
            self._taken = len(part)
        while self._outgoing:
            self._outgoing = self._outgoing[self._line.send(self._outgoing) :]
        taken, self._taken = self._taken, 0
        return taken

    def recv_into(self, room: memoryview) -> int:
        """As of a socket, but OSError also for what nobody can unpack."""
        while not self._unpacker.eof:
            if not self._more:
                self._packed = self._line.recv(PIECE)
                if not self._packed:
                    return 0
                self._empty += len(self._packed)
                if self._empty > MAX_EMPTY:
                    raise OSError(f"the server has compressed nothing into more than {MAX_EMPTY} bytes")
            try:
                found = self._unpacker.decompress(self._packed, len(room))
            except zlib.error as err:
                raise OSError("what the server has compressed cannot be read") from err
            self._packed = self._unpacker.unconsumed_tail
            self._more = bool(self._packed) or len(found) == len(room)  # a full room may hide that there is more
            if found:
                self._empty = 0
                room[: len(found)] = found
                return len(found)
        raise OSError("the server has ended what it compresses")
