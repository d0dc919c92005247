"""A TCP proxy between a client and an IMAP server: it counts, and breaks the connection where it is told to.

It looks at lines and literals only, so that any server will do; what follows STARTTLS is passed on unread.

    with Proxy(server.port, swallow="APPEND", nth=2) as proxy:
        run(proxy.port)
    assert 3 == proxy.count("APPEND")
"""

from __future__ import annotations

import re
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from .fakewire import LITERAL, Tally, listen, reset_on_close


@dataclass(frozen=True, slots=True)
class Piece:
    """Some bytes of one direction: of a line, or of a literal."""

    data: bytes
    first: bool = False  # a command or response begins here
    last: bool = False  # and ends here
    literal: int = 0  # bytes of a literal: the how manieth on this connection
    half: int = 0  # so many of the data belong to the first half of the literal


class Scanner:
    """Cuts a stream at lines and literals. Holds nothing back."""

    def __init__(self) -> None:
        self.text = b""  # of the current command or response, so far; of a literal its {size}
        self._first = True
        self._line = b""
        self._literals = 0
        self._size = self._left = 0  # of the current literal

    def pieces(self, data: bytes) -> Iterator[Piece]:
        while data:
            if self._left:
                piece, data = data[: self._left], data[self._left :]
                half = max(0, self._size // 2 - (self._size - self._left))
                self._left -= len(piece)
                yield Piece(piece, literal=self._literals, half=min(half, len(piece)))
                continue
            end = data.find(b"\n") + 1
            piece, data = (data[:end], data[end:]) if end else (data, b"")
            self.text = (b"" if self._first else self.text) + piece
            self._line += piece
            first, last = self._first, False
            self._first = False
            if end:
                found = LITERAL.search(self._line.rstrip(b"\r\n"))
                self._line = b""
                self.text = self.text.rstrip(b"\r\n")
                if found:
                    self._literals += 1
                    self._size = self._left = int(found[1])
                else:
                    self._first = last = True
            yield Piece(piece, first, last)


@dataclass(slots=True)
class Link:
    """One client's connection, and the one to the server that belongs to it."""

    client: socket.socket
    server: socket.socket
    faulty: bool
    lock: threading.Lock = field(default_factory=threading.Lock)
    waiting: deque[bytes] = field(default_factory=deque)  # tags of commands that were not answered yet
    swallowed: bytes = b""  # the tag whose answer is not to be passed on
    answered: bool = False  # the client was sent something since it sent something
    over: bool = False
    stalled: bool = False
    broken: bool = False  # by us, as we were told to: cut, stalled, or its server killed

    @property
    def local(self) -> int:
        """The port of our end of the connection to the server."""
        return int(self.server.getsockname()[1])

    def mute(self) -> bool:
        """What the server sends now belongs to the answer that is not to be passed on."""
        return bool(self.swallowed and self.waiting) and self.waiting[0] == self.swallowed

    def cut(self, *, reset: bool) -> None:
        """The client gets all that was passed on already, unless `reset` takes even that from it."""
        self.over = self.broken = True
        with suppress(OSError):
            self.server.shutdown(socket.SHUT_RDWR)
            if reset:
                reset_on_close(self.client)
            self.client.shutdown(socket.SHUT_RD if reset else socket.SHUT_WR)

    def shut(self) -> None:
        self.over = True
        for sock in (self.client, self.server):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Proxy:
    """Listens on 127.0.0.1 while its `with` block runs. Bytes are counted per connection and direction."""

    def __init__(
        self,
        target_port: int,
        *,
        swallow: str | bytes | None = None,  # the server executes this command, its answer is not passed on: cut
        nth: int = 1,  # of the commands in which `swallow` is found, over all connections
        times: int = 1,  # and so often in all, the others each on a further connection
        bye: Literal["", "instead", "before", "after"] = "",  # what the server says: not executed, or before its answer
        cut_to_client: int | None = None,  # after so many bytes
        cut_to_server: int | None = None,
        cut_literal_to_client: int | None = None,  # in the middle of the nth
        cut_literal_to_server: int | None = None,
        stall_to_client: int | None = None,  # after so many bytes nothing is taken or passed on any more, either way
        stall_to_server: int | None = None,
        watch: Callable[[bytes, Link], bool] | None = None,  # sees each command before its end is passed on; True: cut
        edit: Callable[[bytes], bytes] | None = None,  # each response to the client; each is held until it is complete
        heard: bytearray | None = None,  # gets all that clients send
        reset: bool = False,  # a cut is seen as ECONNRESET, not as an end
        first_only: bool = False,  # only the first connection is cut or stalled by bytes and literals
        chunk: int | None = None,  # read and pass on so many bytes at a time, in small buffers
        delay_to_client: float = 0.0,  # seconds
        delay_to_server: float = 0.0,
        rate_to_client: float | None = None,  # bytes a second
    ) -> None:
        self._target_port = target_port
        self._swallow = re.compile(swallow.encode() if isinstance(swallow, str) else swallow, re.I) if swallow else None
        self._until, self._times = nth, times
        self._bye = bye
        self._cut_to_client = cut_to_client
        self._cut_to_server = cut_to_server
        self._cut_literal_to_client = cut_literal_to_client
        self._cut_literal_to_server = cut_literal_to_server
        self._stall_to_client = stall_to_client
        self._stall_to_server = stall_to_server
        self._watch = watch
        self._edit, self._heard = edit, heard
        self._ending = threading.Event()
        self._reset = reset
        self._first_only = first_only
        self._chunk = chunk
        self._delay_to_client = delay_to_client
        self._delay_to_server = delay_to_server
        self._rate_to_client = rate_to_client
        self.tally = Tally()
        self.literals = {"to_client": 0, "to_server": 0}  # of the connection that had most
        self._listener = listen(chunk)
        self._links: list[Link] = []
        self._threads: list[threading.Thread] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def flights(self) -> int:
        """How often clients sent something after they had been sent something. Sure only with a delay."""
        return self.tally.flights

    @property
    def connections(self) -> int:
        return self.tally.connections

    @property
    def received(self) -> int:
        """Bytes from clients."""
        return self.tally.received

    @property
    def sent(self) -> int:
        """Bytes to clients."""
        return self.tally.sent

    @property
    def met(self) -> int:
        """How many connections were broken as we were told to."""
        return sum(link.broken for link in self._links)

    def count(self, regex: str | bytes) -> int:
        return self.tally.count(regex)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        self._ending.set()
        for link in self._links:
            link.shut()
        for thread in self._threads:
            thread.join()

    # ---- connections -------------------------------------------------------------------------------------------------

    def _start(self, target: Callable[..., None], *arguments: object) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.tally.connections += 1
            link = Link(client, server, faulty=self.tally.connections == 1 or not self._first_only)
            self._links.append(link)
            self._start(self._serve, link)

    def _serve(self, link: Link) -> None:
        back = self._start(self._to_client, link)
        self._to_server(link)
        back.join()
        link.client.close()
        link.server.close()

    def _to_server(self, link: Link) -> None:
        scanner = Scanner()
        cut = Cut(self._cut_to_server, self._cut_literal_to_server) if link.faulty else Cut()
        stall = Cut(self._stall_to_server) if link.faulty else Cut()
        for data in self._arriving(link.client, self._delay_to_server, lambda size: self._came(link, size)):
            if self._heard is not None:
                self._heard += data
            for piece in scanner.pieces(data):
                self._note(piece, "to_server")
                seen = piece.last and self._command(link, scanner.text)
                if link.swallowed and self._bye == "instead" and not link.over:
                    self._hang_up(link)
                self._pass_on(link, link.server, piece.data[: min(cut.allowed(piece), stall.allowed(piece))])
                if (cut.reached or seen) and not link.over:
                    link.cut(reset=self._reset)
            self._hold(link, stall)
        with suppress(OSError):
            link.server.shutdown(socket.SHUT_WR)

    def _to_client(self, link: Link) -> None:
        scanner = Scanner()
        held = b""
        cut = Cut(self._cut_to_client, self._cut_literal_to_client) if link.faulty else Cut()
        stall = Cut(self._stall_to_client) if link.faulty else Cut()
        mute = False
        for data in self._arriving(link.server, self._delay_to_client, lambda size: None):
            for piece in scanner.pieces(data):
                self._note(piece, "to_client")
                if self._edit:
                    held += piece.data
                    piece = replace(piece, data=self._edit(held) if piece.last else b"")
                    held = b"" if piece.last else held
                with link.lock:
                    mute = (self._bye != "after" and link.mute()) if piece.first else mute
                if not mute:
                    if self._rate_to_client:
                        time.sleep(len(piece.data) / self._rate_to_client)
                    self._pass_on(link, link.client, piece.data[: min(cut.allowed(piece), stall.allowed(piece))])
                swallowed = piece.last and self._answered(link, scanner.text)
                if (cut.reached or swallowed) and not link.over:
                    self._hang_up(link)
            self._hold(link, stall)
        if not link.over:
            with suppress(OSError):
                link.client.shutdown(socket.SHUT_WR)

    def _arriving(self, sock: socket.socket, delay: float, came: Callable[[int], None]) -> Iterator[bytes]:
        """What comes, each piece `delay` seconds later, up to the end of the connection."""
        queue: deque[tuple[float, bytes]] = deque()
        open_ = True
        while open_ or queue:
            left = max(0.0, queue[0][0] - time.monotonic()) if queue else None
            if open_ and select.select([sock], [], [], left)[0]:
                try:
                    data = sock.recv(self._chunk or 65536)
                except OSError:
                    data = b""
                open_ = bool(data)
                if data:
                    came(len(data))
                    queue.append((time.monotonic() + delay, data))
            elif left:
                time.sleep(left)
            while queue and queue[0][0] <= time.monotonic():
                yield queue.popleft()[1]

    def _hang_up(self, link: Link) -> None:
        if self._bye:
            self._pass_on(link, link.client, b"* BYE the server is going down\r\n")
        link.cut(reset=self._reset)

    def _hold(self, link: Link, stall: Cut) -> None:
        """A network that is silent: what the client sends from now on fills the buffers."""
        link.stalled = link.stalled or stall.reached
        if link.stalled:
            link.broken = True
            self._ending.wait()

    def is_over(self) -> bool:
        """All connections have ended, and what clients sent was passed on."""
        return all(link.client.fileno() < 0 for link in self._links)

    def _note(self, piece: Piece, direction: str) -> None:
        self.literals[direction] = max(self.literals[direction], piece.literal)

    def _came(self, link: Link, size: int) -> None:
        with self.tally.lock, link.lock:
            self.tally.received += size
            self.tally.flights += link.answered
            link.answered = False

    def _pass_on(self, link: Link, to: socket.socket, data: bytes) -> None:
        """Once the link is cut, what still comes is read and dropped: so the client gets all that was sent to it."""
        if link.over or not data or link.stalled:
            return
        if to is link.client:
            with self.tally.lock, link.lock:
                self.tally.sent += len(data)
                link.answered = True
        step = self._chunk or len(data)
        for at in range(0, len(data), step):
            try:
                to.sendall(data[at : at + step])
            except OSError:
                return

    # ---- commands ----------------------------------------------------------------------------------------------------

    def _command(self, link: Link, text: bytes) -> bool:
        """Take note of a command; True if the connection ends behind it."""
        with self.tally.lock, link.lock:
            self.tally.log.append(text)
            tag, blank, _ = text.partition(b" ")
            if not blank:
                return False  # what AUTHENTICATE asked for
            link.waiting.append(tag)
            if self._swallow and self._swallow.search(text):
                self._until -= 1
                if self._until <= 0 and self._times and not link.swallowed:
                    self._times -= 1
                    link.swallowed = tag
        return bool(self._watch and self._watch(text, link))

    def _answered(self, link: Link, text: bytes) -> bool:
        """Take note of a response; True if it ends the answer that is not passed on."""
        tag = text.partition(b" ")[0]
        with link.lock:
            if tag in link.waiting:
                link.waiting.remove(tag)
        return bool(link.swallowed) and tag == link.swallowed


@dataclass(slots=True)
class Cut:
    """Where one direction ends: after so many bytes, or in the middle of the nth literal."""

    after: int | None = None
    literal: int | None = None
    reached: bool = False

    def allowed(self, piece: Piece) -> int:
        """How many bytes of this piece come through."""
        size = len(piece.data)
        if self.literal is not None and piece.literal == self.literal:
            self.reached = piece.half < size
            size = piece.half
        if self.after is not None:
            self.reached = self.reached or size >= self.after
            size = min(size, self.after)
            self.after -= size
        return size
