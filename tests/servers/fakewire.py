"""The bytes of the fake server: a connection that can be narrow, commands with their literals, tokens, strings."""

from __future__ import annotations

import fcntl
import re
import socket
import struct
import termios
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TypeAlias

from .fakestore import Bad

TOKEN = re.compile(rb' +|(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\]|\\.)*)"|~?\{(?P<size>\d+)\+?\}')
ATOM = re.compile(rb'(?:\[[^\]]*\]|[^\s()"{])+')  # blanks belong to it in BODY[HEADER.FIELDS (FROM TO)]
LITERAL = re.compile(rb"\{(\d+)(\+?)\}$")
QUOTABLE = re.compile(rb"[^\r\n\0\x80-\xff]{0,1000}")
PLAIN = re.compile(rb'[^\r\n\0"\\\x80-\xff(){ %*\]]+')
SEGMENT = 536  # bytes; small segments make the kernel give small buffers, on the client's side too


class Closed(Exception):
    """This connection is over."""


class Literal(bytes):
    """A string that came as a literal."""


Token: TypeAlias = "bytes | list[Token]"


@dataclass(slots=True)
class Tally:
    """What went over all connections."""

    received: int = 0  # bytes from clients
    sent: int = 0
    flights: int = 0
    connections: int = 0
    log: list[bytes] = field(default_factory=list)  # the clients' lines; of a literal its size
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, regex: str | bytes) -> int:
        """How many client lines this is found in, whatever the case."""
        pattern = re.compile(regex.encode() if isinstance(regex, str) else regex, re.IGNORECASE)
        with self.lock:
            return sum(1 for line in self.log if pattern.search(line))


@dataclass(slots=True)
class Wire:
    """One connection, server's end. It never reads while it has something to send that the client did not take."""

    socket: socket.socket
    tally: Tally
    window: int | None = None
    split: int | None = None
    settle: float = 0.0  # seconds
    _buffer: bytearray = field(default_factory=bytearray)
    _answered: bool = False  # something was sent since the last bytes came
    _early: int = 0  # bytes not read yet, but here before the last answer was sent
    _packer: zlib._Compress | None = None
    _unpacker: zlib._Decompress | None = None

    def compress(self) -> None:
        if self._packer is None:
            self._packer, self._unpacker = zlib.compressobj(wbits=-15), zlib.decompressobj(-15)

    def line(self) -> bytes:
        """The next line without its line end."""
        start = 0
        while (end := self._buffer.find(b"\n", start)) < 0:
            start = len(self._buffer)
            self._receive()
        line = bytes(self._buffer[:end]).removesuffix(b"\r")
        del self._buffer[: end + 1]
        return line

    def exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive()
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    def send(self, data: bytes) -> None:
        if not data:
            return
        if not self._answered:
            self._early = self._settled()
            self._answered = True
        if self._packer:
            data = self._packer.compress(data) + self._packer.flush(zlib.Z_SYNC_FLUSH)
        step = self.split or len(data)
        try:
            for at in range(0, len(data), step):
                self.socket.sendall(data[at : at + step])
                if self.split:
                    time.sleep(0)  # let the client see the piece alone
        except OSError as err:
            raise Closed from err
        with self.tally.lock:
            self.tally.sent += len(data)

    def hang_up(self, *, reset: bool = False) -> None:
        """Close. Without `reset` the client surely gets all that was sent, whatever it is sending itself."""
        with suppress(OSError):
            if reset:
                reset_on_close(self.socket)
            else:
                self.socket.shutdown(socket.SHUT_WR)
                self.socket.settimeout(2)
                while self.socket.recv(65536):
                    pass
        self.socket.close()

    def _receive(self) -> None:
        try:
            piece = self.socket.recv(self.window or 65536)
        except OSError as err:
            raise Closed from err
        if not piece:
            raise Closed
        self._buffer += self._unpacker.decompress(piece) if self._unpacker else piece
        with self.tally.lock:
            self.tally.received += len(piece)
            if self._answered and len(piece) > self._early:
                self.tally.flights += 1
                self._answered = False
        self._early = max(0, self._early - len(piece))

    def _settled(self) -> int:
        """Wait for the end of what the client is sending; how many bytes of it are still to be read."""
        waiting = _readable(self.socket)
        while self.settle:
            time.sleep(self.settle)
            before, waiting = waiting, _readable(self.socket)
            if before == waiting:
                break
        return waiting


def listen(window: int | None = None) -> socket.socket:
    """A listening socket on loopback. With `window`, it and its clients get small buffers.

    Who sends without reading is then stuck after some 100 kB of commands with 150 kB of answers: the latter is what the
    client's own receive buffer takes.
    """
    listener = socket.socket()
    if window:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)  # less only makes small answers slow
        with suppress(OSError):
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
    listener.bind(("127.0.0.1", 0))
    listener.listen(100)
    return listener


def reset_on_close(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _readable(sock: socket.socket) -> int:
    try:
        return int(struct.unpack("i", fcntl.ioctl(sock, termios.FIONREAD, b"\0\0\0\0"))[0])
    except OSError:  # closed by now
        return 0


# ---- commands --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """`text` without the line end; where a literal was, its `{size}` is left."""

    text: bytes
    literals: tuple[bytes, ...] = ()

    @property
    def tag(self) -> bytes:
        return self.text.partition(b" ")[0] or b"*"

    def tokens(self) -> list[Token]:
        """What follows the tag."""
        literals = iter(self.literals)
        stack: list[list[Token]] = [[]]
        at = len(self.tag)
        while at < len(self.text):
            found = TOKEN.match(self.text, at) or ATOM.match(self.text, at)
            if not found:
                raise Bad(b"syntax error")
            at = found.end()
            match found.lastgroup:
                case "open":
                    stack.append([])
                case "close" if len(stack) > 1:
                    done = stack.pop()
                    stack[-1].append(done)
                case "close":
                    raise Bad(b"unbalanced )")
                case "quoted":
                    stack[-1].append(re.sub(rb"\\(.)", rb"\1", found["quoted"]))
                case "size":
                    literal = next(literals, None)
                    if literal is None:
                        raise Bad(b"no such literal")
                    stack[-1].append(Literal(literal))
                case None if found[0].strip(b" "):
                    stack[-1].append(found[0])
        if len(stack) > 1:
            raise Bad(b"unbalanced (")
        return stack[0]


class Arguments:
    """The tokens of a command, taken one by one; Bad where one is missing or of another kind."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens

    def __bool__(self) -> bool:
        """Something is left."""
        return bool(self._tokens)

    def string(self) -> bytes:
        if not isinstance(self.peek(), bytes):
            raise Bad(b"missing argument")
        token = self._tokens.pop(0)
        assert isinstance(token, bytes)
        return token

    def word(self) -> bytes:
        return self.string().upper()

    def group(self) -> Arguments:
        """What is in the next parentheses."""
        token = self._tokens.pop(0) if self._tokens else None
        if not isinstance(token, list):
            raise Bad(b"missing parenthesis")
        return Arguments(list(token))

    def group_or_one(self) -> Arguments:
        return self.group() if isinstance(self.peek(), list) else Arguments([self.string()])

    def peek(self) -> Token | None:
        return self._tokens[0] if self._tokens else None

    def words(self) -> list[bytes]:
        return [word.upper() for word in self.strings()]

    def strings(self) -> list[bytes]:
        return list(self._all())

    def end(self) -> None:
        if self._tokens:
            raise Bad(b"too many arguments")

    def _all(self) -> Iterator[bytes]:
        while self._tokens:
            yield self.string()


# ---- strings ---------------------------------------------------------------------------------------------------------


def literal(text: bytes) -> bytes:
    return b"{%d}\r\n%s" % (len(text), text)


def quoted(text: bytes) -> bytes:
    return b'"%s"' % re.sub(rb'(["\\])', rb"\\\1", text)
