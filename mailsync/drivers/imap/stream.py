"""Bytes to and from a server: one socket, one buffer. Knows lines and counted bytes; nothing of IMAP.

Sending never waits for a peer that itself waits for us to read: while the way out is full, what comes in is taken into
the buffer. Any fault of the connection is `Lost`, after which the stream is closed and never used again.
"""

from __future__ import annotations

import math
import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from ... import stopping
from ...errors import Lost

if TYPE_CHECKING:
    import ssl

    from .deflate import Deflated

BUFFER = 256 * 1024  # bytes; more would not stay in the processor's cache
ROOM = 16 * 1024  # less than this is not worth a call
ENOUGH = 32 * 1024  # bytes, to know how fast a line is
MAX_LINE = 16 * 1024 * 1024  # bytes; a server that sends more without a line end is broken, or means harm
MAX_FIRST_LINE = 64 * 1024  # the same before the login, where anybody may be at the other end


class Stream:
    """A connected socket, plain or TLS. `timeout`: seconds without any byte in either direction."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self._sock = sock
        self._through: socket.socket | Deflated = sock  # what is to be sent and received passes here
        self._tls: ssl.SSLSocket | None = None
        self._full: tuple[type[OSError], ...] = (BlockingIOError,)  # nothing goes out now
        self._hungry: tuple[type[OSError], ...] = ()  # TLS must read before anything goes out
        self.timeout = timeout
        self.max_line = MAX_LINE
        self._buffer = bytearray(BUFFER)
        self._view = memoryview(self._buffer)
        self._at = self._end = 0  # what was received, and not read, lies between them
        self.traffic = 0  # bytes both ways
        self._flowing = False  # something came since something was sent, or goes out as fast as it can
        self._flowed, self._flow_time = 0, 0.0  # bytes and seconds while it was so
        self._ended = ""  # why nothing more comes in
        sock.setblocking(False)
        self._is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and hasattr(socket, "TCP_QUICKACK")

    @property
    def socket(self) -> socket.socket:
        return self._sock

    @property
    def closed(self) -> bool:
        return self._sock.fileno() < 0

    def pending(self) -> bool:
        """True if something was received that was not read."""
        return self._at < self._end or (self._tls is not None and self._tls.pending() > 0)

    def secure(self, context: ssl.SSLContext, hostname: str) -> ssl.SSLSocket:
        """Begin TLS. OSError (ssl.SSLError, TimeoutError) if it cannot be had; then the stream is of no more use."""
        from ssl import SSLWantReadError, SSLWantWriteError  # many streams are on this machine, and without TLS

        if self.pending():  # sent before TLS, read as if it came after: command injection (CVE-2011-0411)
            self.close()
            raise Lost("the server sent data between STARTTLS and TLS")
        sock = context.wrap_socket(self._sock, server_hostname=hostname, do_handshake_on_connect=False)
        self._sock = self._through = self._tls = sock
        self._full, self._hungry = (BlockingIOError, SSLWantWriteError), (SSLWantReadError,)
        while True:
            try:
                sock.do_handshake()
                return sock
            except SSLWantReadError:
                events = select.POLLIN
            except SSLWantWriteError:
                events = select.POLLOUT
            if not stopping.poll(sock, events, self.timeout):
                raise TimeoutError

    def deflate(self) -> None:
        """All is compressed from here on, both ways (RFC 4978). What is received already, and not read, is so, too."""
        from .deflate import Deflated  # with zlib

        early = self.whole(self._end - self._at)
        self._through = Deflated(self._sock, early)

    @property
    def flow(self) -> float:
        """Bytes a second, as far as the line and not an answer was waited for; infinite until there were enough."""
        return self._flowed / self._flow_time if self._flowed >= ENOUGH and self._flow_time else math.inf

    def send(self, data: bytes) -> None:
        """All of it is given to the system when this returns."""
        self._flowing = False
        if self._ended:
            raise Lost(f"the connection broke: {self._ended}")
        left = memoryview(data)
        self.traffic += len(data)
        while left:
            try:
                sent = self._through.send(left)
                left = left[sent:]
                self._flowed += sent if self._flowing else 0
            except self._full:
                self._flowing = True
                if self._wait(select.POLLIN | select.POLLOUT) & select.POLLIN and not self._ended:
                    self._receive()
            except self._hungry:
                self._wait(select.POLLIN)
            except OSError as err:
                raise self._lost(err) from err

    def line(self) -> bytes:
        """The next line without its line end."""
        start = self._at
        while (stop := self._buffer.find(b"\n", start, self._end)) < 0:
            unread = self._end - self._at
            if unread > self.max_line:
                self.close()
                raise Lost(f"the server sent a line without end: more than {self.max_line} bytes")
            self._fill()
            start = self._at + unread
        line = bytes(self._view[self._at : stop])
        self._at = stop + 1
        return line[:-1] if line[-1:] == b"\r" else line

    def whole(self, size: int) -> bytes:
        """The next `size` bytes at once."""
        while self._end - self._at < size:
            self._fill(size)
        self._at += size
        return bytes(self._view[self._at - size : self._at])

    def counted(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, in pieces as they come. What is not taken of them is lost to the next reader."""
        while size:
            if self._at == self._end:
                self._fill()
            piece = self.whole(min(size, self._end - self._at))
            size -= len(piece)
            yield piece

    def close(self) -> None:
        self._ended = self._ended or "it is closed"
        with suppress(OSError):
            self._sock.close()

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def _fill(self, wanted: int = 0) -> None:
        """At least one byte more in the buffer, which has room for as many as are `wanted` in all."""
        while not self._receive(wanted):
            if self._is_tcp:
                # Courier and GNU mailutils send an answer in small pieces, each of which waits for our acknowledgement
                # of the one before (RFC 896); the system would put that off for 40 ms, and forgets what it is told.
                self._sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            self._wait(select.POLLIN)

    def _receive(self, wanted: int = 0) -> bool:
        """What is there, without waiting; False if nothing is. At the end of the stream: Lost, once all is read."""
        if self._ended:
            raise Lost(f"the connection broke: {self._ended}")
        self._make_room(wanted)
        try:
            count = self._through.recv_into(self._view[self._end :])
        except (*self._full, *self._hungry):
            return False
        except OSError as err:
            raise self._lost(err) from err
        if not count:
            self.close()
            self._ended = "the server closed it"
            raise Lost(f"the connection broke: {self._ended}")
        self._end += count
        self.traffic += count
        self._flowed += count if self._flowing else 0
        self._flowing = True
        return True

    def _make_room(self, wanted: int) -> None:
        """What was not read moves to the front where the room behind it is too small, and the buffer grows if it must.

        Once all was read it has its usual size again.
        """
        unread = self._end - self._at
        needed = max(wanted, unread + ROOM)
        if unread and len(self._buffer) - self._at >= needed:
            return
        old, size = self._view[self._at : self._end], BUFFER
        while size < needed:
            size *= 2
        if size != len(self._buffer):
            self._buffer = bytearray(size)
            self._view = memoryview(self._buffer)
        self._view[:unread] = old
        self._at, self._end = 0, unread

    def _wait(self, events: int) -> int:
        begin = time.monotonic()
        found = stopping.poll(self._sock, events, self.timeout)
        self._flow_time += time.monotonic() - begin if self._flowing else 0
        if not found:
            self.close()
            self._ended = f"nothing came for {self.timeout:g} second{'' if self.timeout == 1 else 's'}"
            raise Lost(f"the connection broke: {self._ended}")
        return found

    def _lost(self, err: OSError) -> Lost:
        self.close()
        self._ended = err.strerror or str(err)
        return Lost(f"the connection broke: {self._ended}")
