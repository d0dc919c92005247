"""Commands and answers over one connection, as many at a time as one likes. Knows IMAP's grammar, no mailbox.

Commands are sent without waiting; their answers are read in order. What a server sends unasked stands between them, and
is handed to whoever reads, who must not take it for an answer. Any fault is `Lost`, after which nothing more is sent.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol

from ... import stopping
from ...errors import Lost
from .account import Tell
from .body import IN_MEMORY, keep
from .session import FAREWELL
from .stream import Stream
from .tokens import (
    Fetched,
    Literal,
    Part,
    ProtocolError,
    Response,
    Status,
    ending,
    fetched,
    fetched_quickly,
    is_words,
    literal_size,
    response,
    status,
)

DEFLATE = "COMPRESS=DEFLATE"
ONLY_ASK = (  # commands that change nothing
    b"LIST ", b"LSUB ", b"NAMESPACE", b"STATUS ", b"SELECT ", b"EXAMINE ", b"UID FETCH ", b"UID SEARCH ", b"ENABLE ",
)  # fmt: skip
SHOWN = 2000  # bytes of a line that -di shows
# What a server may say in answer to one command. Nobody has so many mailboxes or news; of messages there may be more.
MAX_ANSWERS = 100_000
MAX_MESSAGES = 10_000_000  # in a mailbox: a kilobyte is needed for each
PER_MESSAGE = 4  # FETCHes beyond MAX_ANSWERS for each message that a mailbox is said to hold: flags change meanwhile
MAX_HELD = 32 * 1024 * 1024  # bytes of answers that are held in memory until the last one has come
HELD_PER_MESSAGE = 200  # more of them for each message that is known
MAX_TEXT = 16 * 1024 * 1024  # bytes of one answer, literals that are no message among them
PER_LITERAL = 200  # bytes that even an empty one takes


class Dialled(Protocol):
    """What is needed of a connection that is logged in; `dial.Client` is one."""

    wire: Stream
    caps: frozenset[str]

    def next_tag(self) -> bytes: ...
    def end(self, *, wait: bool = True) -> None: ...
    def drop(self) -> None: ...


class Connection:
    """One logged-in connection."""

    def __init__(self, client: Dialled, tell: Tell, sleep: Callable[[float], None] = stopping.sleep) -> None:
        self.client = client
        self._sleep = sleep
        self.caps = client.caps
        self.enabled: set[str] = set()
        self._changed = False  # something on the server, perhaps
        self.tell = tell
        self._wire = client.wire
        self._waiting: dict[bytes, bool] = {}  # tags whose answers were not read yet, in order; True: may change things
        self._results: dict[bytes, Status] = {}
        self._bye = ""
        self._others = self._fetches = 0  # answers since the last one that ended a command
        self._messages = 0  # in the largest mailbox that was opened, as far as it is believed
        self.round_trip = math.inf  # seconds that the quickest answer took
        self._asked: tuple[bytes, float] | None = None  # the tag of a command, and when it was sent
        self.compressed = False  # or was to be, when the connection broke

    @property
    def traffic(self) -> int:
        """Bytes both ways since it was connected."""
        return self._wire.traffic

    @property
    def flow(self) -> float:
        """Bytes a second, while it was the line that was waited for."""
        return self._wire.flow

    @property
    def lost(self) -> bool:
        return self._wire.closed

    @property
    def in_doubt(self) -> bool:
        """True if it broke before the answer to something that changes the store: the server may be at it still."""
        return self.lost and any(self._waiting.values())

    def has(self, *names: str) -> bool:
        """True if all these extensions are there."""
        return self.caps.issuperset(names)

    # ---- commands ----------------------------------------------------------------------------------------------------

    def send(self, *commands: bytes) -> list[bytes]:
        """Send them all at once; their tags."""
        tags = [self.client.next_tag() for _ in commands]
        change = [not command.startswith(ONLY_ASK) for command in commands]
        self._changed = self._changed or any(change)
        idle = not self._waiting
        self._waiting.update(zip(tags, change, strict=True))  # first: of what is sent in part, some may be done
        self.push(b"".join(b"%s %s\r\n" % pair for pair in zip(tags, commands, strict=True)))
        if tags and idle:
            self._asked = tags[0], time.monotonic()
        return tags

    def awaits(self, tag: bytes) -> bool:
        """True while the answer to this command is still to be read."""
        return tag in self._waiting

    def begin(self, command: bytes) -> bytes:
        """Send a command up to its first literal; the rest goes through `push`."""
        tag = self.client.next_tag()
        self._changed = True
        self._waiting[tag] = True
        self.push(b"%s %s" % (tag, command))
        return tag

    def push(self, data: bytes, *, literal: int = 0) -> None:
        """Send as it is. `literal`: so many bytes at its end are of a message; -di says no more than that."""
        if self.tell.wire:
            text = data[: len(data) - literal]
            for line in [*(_lines(text) if text else ()), *([f"[{literal} bytes]"] if literal else ())]:
                self.tell.wire(f"C: {line}")
        try:
            self._wire.send(data)
        except BaseException:
            self.drop()  # a command that is half sent can never be taken back
            raise

    def execute(self, command: bytes) -> tuple[Status, list[Response]]:
        """One command, and all that came until its answer."""
        [tag] = self.send(command)
        found = self.told(tag)
        return self.result(tag), found

    def told(self, tag: bytes, messages: int = 0) -> list[Response]:
        """All that `answers` gives. ProtocolError if it is too much to be held. `messages`: of so many it may tell."""
        found: list[Response] = []
        held = 0
        for one in self.answers(tag):
            found.append(one)
            held += sum(len(part) if isinstance(part, bytes) else part.held for part in one.parts)
            if held > (most := MAX_HELD + HELD_PER_MESSAGE * messages):
                self.drop()
                raise ProtocolError(f"one of more than {most} bytes")
        return found

    def answers(self, tag: bytes, *, insist: bool = False) -> Iterator[Response]:
        """What comes until the answer to this command, which `result` then has. Answers to earlier ones are skipped."""
        while tag not in self._results:
            if tag not in self._waiting:  # `settle` has dropped them, for another command
                raise Lost("its answers were given up")
            found = self._read(insist)
            if found.tag == b"*" and found.kind != b"BYE":
                yield found

    def fetched(self, tag: bytes) -> Iterator[Fetched]:
        """What FETCH answers tell until the answer to this command: as `answers`, without any other of them."""
        while tag not in self._results:
            if tag not in self._waiting:
                raise Lost("its answers were given up")
            if (told := self._read_fetched()) is not None:
                yield told

    def result(self, tag: bytes, *, insist: bool = False) -> Status:
        """How a command ended, once its answers were read; read them first, if that was left undone.

        `insist`: who is stopped while it waits can still have the answer. Else the connection is given up then.
        """
        for _ in self.answers(tag, insist=insist):
            pass
        return self._results.pop(tag)

    def may_go_on(self, tag: bytes) -> bool:
        """Wait for the `+` that a literal needs; False if the command was refused instead."""
        while tag not in self._results:
            if self._read().tag == b"+":
                return True
        return False

    def compress(self) -> None:
        """All that is said from here on (RFC 4978), if the server agrees. Nothing may be outstanding."""
        self.compressed = True
        end, _ = self.execute(b"COMPRESS DEFLATE")
        self.caps -= {DEFLATE}
        if end.ok:
            self._wire.deflate()
        else:
            self.compressed = False
            self.tell.odd(f"the server does not compress, as it offers: {end}")

    def settle(self) -> None:
        """Read and drop what nobody waited for, so that the next answer is that of the next command."""
        while self._waiting:
            tag = next(iter(self._waiting))
            for _ in self.answers(tag):
                pass
            self._results.pop(tag, None)
        self._results.clear()

    def pause(self, seconds: float, why: str) -> None:
        """The server wants to be left alone for a while."""
        self.tell.note(f"the server says: {why}; waiting for {seconds:g} seconds")
        self._sleep(seconds)

    def hurry(self) -> None:
        """We are to end: a server that does not answer is not waited for as long as it may be."""
        self._wire.timeout = min(self._wire.timeout, FAREWELL)

    def end(self) -> None:
        """Log out. Nothing that goes wrong now matters."""
        if self._waiting or self.lost:
            self.client.drop()
        else:
            self.client.end(wait=self._changed)

    def drop(self) -> None:
        self._wire.close()
        self.client.drop()

    # ---- reading -----------------------------------------------------------------------------------------------------

    def _read(self, insist: bool = False) -> Response:
        """One response. How a command ended, and why the server hangs up, is noted."""
        untouched = True
        try:
            line = self._line()
            untouched = False
            return self._response(line)
        except BaseException as err:
            if not (insist and untouched and isinstance(err, stopping.Stopped)):
                self._break(err)
            raise

    def _read_fetched(self) -> Fetched | None:
        """One response, if it is a FETCH: the usual ones in haste."""
        try:
            line = self._line()
            quick = fetched_quickly(line)
            if quick is None:
                found = self._response(line)
                return fetched(found) if is_fetch(found) else None
            self._count_fetch()
            told, size = quick
            if size is None:
                return told
            literal = self._literal(size)
            rest = self._line()
            if rest == b")":
                told.body = literal
                return told
            head = response([line[: line.rindex(b"{")]])
            return fetched(head._replace(parts=[*head.parts, literal, *self._parts(rest)]))
        except BaseException as err:
            self._break(err)
            raise

    def _break(self, err: BaseException) -> None:
        """In the middle of an answer the connection can only be given up: what follows could be taken for another."""
        self.drop()
        if isinstance(err, Lost) and not isinstance(err, ProtocolError):
            raise Lost(f"{err}: {self._bye}" if self._bye else str(err)) from err

    def _response(self, line: bytes) -> Response:
        """The one that begins with this line."""
        found = response([line] if is_words(line) else self._parts(line))
        if found.tag in self._waiting:
            if self._asked and self._asked[0] == found.tag:
                self.round_trip = min(self.round_trip, time.monotonic() - self._asked[1])
            self._results[found.tag] = ending(found)
            del self._waiting[found.tag]
            self._others = self._fetches = 0
        elif is_fetch(found):
            self._count_fetch()
        else:
            self._others += 1
            if self._others > MAX_ANSWERS:
                raise ProtocolError(f"one of more than {MAX_ANSWERS} lines to one command")
            if found.kind == b"BYE":
                self._bye = str(status(found))
            elif found.kind == b"EXISTS" and found.number is not None:
                self._messages = max(self._messages, min(found.number, MAX_MESSAGES))
        return found

    def _count_fetch(self) -> None:
        self._fetches += 1
        if self._fetches > (most := MAX_ANSWERS + PER_MESSAGE * self._messages):
            raise ProtocolError(f"one of more than {most} FETCHes to one command")

    def _parts(self, line: bytes) -> list[Part]:
        """Only one literal of a FETCH may be large: a message, which is kept in a file."""
        parts: list[Part] = []
        held = 0
        message = _FETCH.match(line) is not None
        while found := literal_size(line):
            text, size = found
            held += len(text) + PER_LITERAL
            if size > IN_MEMORY:
                if not message:
                    raise ProtocolError(f"a literal of {size} bytes that is no message")
                message = False
            else:
                held += size
            if held > MAX_TEXT:
                raise ProtocolError(f"a line of more than {MAX_TEXT} bytes")
            parts += text, self._literal(size)
            line = self._line()
        parts.append(line)
        return parts

    def _literal(self, size: int) -> Literal:
        return Literal(self._wire.whole(size)) if size <= IN_MEMORY else keep(self._wire.counted(size), size)

    def _line(self) -> bytes:
        line = self._wire.line()
        if self.tell.wire:
            for shown in _lines(line):
                self.tell.wire(f"S: {shown}")
        return line


_FETCH = re.compile(rb"\* \d+ FETCH ", re.IGNORECASE)


def is_fetch(found: Response) -> bool:
    return found.tag == b"*" and found.kind == b"FETCH" and found.number is not None


def fetches(found: Iterable[Response]) -> Iterator[Response]:
    return filter(is_fetch, found)


def _lines(data: bytes) -> list[str]:
    return [line[:SHOWN].decode("utf-8", "backslashreplace") for line in data.removesuffix(b"\r\n").split(b"\r\n")]
