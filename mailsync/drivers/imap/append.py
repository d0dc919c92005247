"""Give messages to a server: as few round trips as it can take, each byte as it is.

In order of choice: many messages in one APPEND (MULTIAPPEND, RFC 3502); APPENDs that do not wait for each other, with
literals that do not wait either (LITERAL+, or up to 4,096 bytes LITERAL-, RFC 7888); literals that wait. What must not
spoil its neighbours goes by itself: MULTIAPPEND is all or nothing.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from ...errors import Lost
from ...model import Appended, Failure, Holds, Message, Uid
from ...stopping import Stopped
from ..files import FileError, failure, why
from . import answers, sets
from .dates import internal_date
from .tokens import ProtocolError, Status, written
from .wire import Connection

BATCH_BYTES = 8 * 1024 * 1024
BATCH = 500  # messages
AHEAD = 4  # batches whose answers may be missing
SINGLES_AHEAD = 32
IN_MEMORY = 1024 * 1024
LITERAL_MINUS = 4096
PATIENCE = 3  # so many times in a row the server may ask to be left alone

_HEADER = re.compile(rb"(?:[!-9;-~]++:[\t -~]*+\r\n(?:[\t ][\t -~]*+\r\n)*+)++")
MAX_HEADER = 256 * 1024


@dataclass(slots=True)
class Outgoing:
    """A message that is ready to be sent."""

    uid: Uid  # on the side it comes from
    alone: bool
    attributes: bytes  # flags and date, as APPEND has them
    size: int
    pieces: Iterable[bytes]  # none once they are sent: 2,000 messages may wait for their answers
    sure: bool  # a server will keep it as it is, as far as one can tell


@dataclass(slots=True)
class Command:
    """An APPEND that was sent. Its slots are in the order of the messages; a failure needs no answer."""

    tag: bytes = b""
    slots: list[Outgoing | Failure] = field(default_factory=list)
    size: int = 0
    waited: bool = False  # for what the server answers to it

    @property
    def sent(self) -> list[Outgoing]:
        return [slot for slot in self.slots if isinstance(slot, Outgoing)]


class Appender:
    """Appends to one mailbox. `limit`: bytes of the largest message that the server takes (APPENDLIMIT, RFC 7889)."""

    def __init__(self, conn: Connection, name: bytes, holds: Holds, validity: str | None, limit: int | None) -> None:
        self._conn, self._name, self._holds, self._validity, self._limit = conn, name, holds, validity, limit
        self._multi = conn.has("MULTIAPPEND") and conn.has("LITERAL+")
        self._pending: deque[Command] = deque()
        self._full: int | None = None  # size of a message for which there was no room: no larger one is tried
        self._busy = 0  # so many times in a row the server asked to be left alone

    def run(
        self, messages: Iterable[Message], all_sent: Callable[[], None] = lambda: None
    ) -> Iterator[Appended | Failure]:
        """Answers in order. However the input ends, what was sent is whole messages: never a part of one.

        `all_sent` is called before the last answers are waited for: more may be sent then.
        """
        open_batch: Command | None = None
        try:
            for message in messages:
                ready = self._prepare(message)
                if isinstance(ready, Failure):
                    self._slot(open_batch, ready)
                elif self._multi and ready.sure and not message.alone:
                    open_batch = self._add(open_batch, ready)
                    if open_batch.size >= BATCH_BYTES or len(open_batch.slots) >= BATCH:
                        self._conn.push(b"\r\n")
                        open_batch = None
                        yield from self._answered(AHEAD)
                else:
                    if open_batch:
                        self._conn.push(b"\r\n")
                        open_batch = None
                    yield from self._single(ready)
            if open_batch:
                self._conn.push(b"\r\n")
                open_batch = None
            all_sent()
            yield from self._answered(0)
        except GeneratorExit:
            with suppress(Lost):
                self._end(open_batch)
                for _ in self._answered(0):
                    pass
            raise
        except BaseException as err:
            with suppress(Lost):
                self._end(open_batch)
                if isinstance(err, Stopped):
                    self._conn.hurry()
                yield from self._answered(0)  # they are done, and are to be remembered
            raise

    def _end(self, open_batch: Command | None) -> None:
        """The input broke off: end what was begun. Once it is over, nobody wonders what came of it."""
        if self._conn.lost:
            raise Lost("what was begun cannot be ended")
        if open_batch:
            self._conn.push(b"\r\n")
        for command in self._pending:
            command.waited = True  # the server may ask in vain to be left alone

    # ---- sending -----------------------------------------------------------------------------------------------------

    def _slot(self, batch: Command | None, failure: Failure) -> None:
        if batch is None:
            batch = Command()
            self._pending.append(batch)
        batch.slots.append(failure)

    def _add(self, batch: Command | None, ready: Outgoing) -> Command:
        if batch is None:
            batch = Command(self._conn.begin(b"APPEND " + self._name))
            self._pending.append(batch)
        batch.slots.append(ready)
        batch.size += ready.size
        self._send(ready, b"%s {%d+}\r\n" % (ready.attributes, ready.size))
        return batch

    def _single(self, ready: Outgoing) -> Iterator[Appended | Failure]:
        """A message in a command of its own."""
        plus = self._conn.has("LITERAL+") or (self._conn.has("LITERAL-") and ready.size <= LITERAL_MINUS)
        if not plus:  # the server says when to go on: until then, all that came before must have been read
            yield from self._answered(0)
        command = Command(slots=[ready])
        begin = b"APPEND %s%s {%d%s}\r\n" % (self._name, ready.attributes, ready.size, b"+" if plus else b"")
        command.tag = self._conn.begin(begin)
        self._pending.append(command)
        if plus or self._conn.may_go_on(command.tag):
            self._send(ready)
            self._conn.push(b"\r\n")
        yield from self._answered(SINGLES_AHEAD if plus else 0)

    def _send(self, ready: Outgoing, before: bytes = b"") -> None:
        """The bytes of a message. If they are not as many as was said, the connection can only be given up."""
        left = ready.size
        try:
            for piece in ready.pieces:
                left -= len(piece)
                if left < 0:
                    break
                self._conn.push(before + piece, literal=len(piece))
                before = b""
        except FileError as err:
            self._conn.drop()
            raise Lost(f"a message cannot be read any more while it is sent: {why(err)}") from err
        except BaseException:
            self._conn.drop()
            raise
        if left:
            self._conn.drop()
            raise Lost("a message changed while it was sent")
        ready.pieces = ()

    def _prepare(self, message: Message) -> Outgoing | Failure:
        try:
            return self._measured(message)
        except FileError as err:
            return failure(message.uid, err)

    def _measured(self, message: Message) -> Outgoing | Failure:
        if self._busy >= PATIENCE:
            return Failure(
                message.uid, "the server is busy, and was asked often enough", "Try again later.", shared=True
            )
        # What fits into memory is read once.
        whole = b"".join(message.body.chunks(wire=True)) if message.body.size(wire=False) <= IN_MEMORY // 2 else None
        size = message.body.size(wire=True) if whole is None else len(whole)
        if not size:
            return Failure(message.uid, "an empty message: servers do not take it", "Delete it, if it is of no use.")
        if self._limit is not None and size > self._limit:
            why = f"too large for the server, which takes {self._limit} bytes (APPENDLIMIT)"
            return Failure(message.uid, why, "A sizelimit in the channel leaves such messages out without an error.")
        if self._full is not None and size >= self._full:
            return Failure(
                message.uid, "there is no room left on the server", "Delete mail there, or ask for more.", shared=True
            )
        attributes = b" %s %s" % (written(self._holds.of(message.flags)), internal_date(message.date))
        if whole is not None:
            return Outgoing(message.uid, message.alone, attributes, size, (whole,), _is_plain((whole,)))
        sure = _is_plain(message.body.chunks(wire=True))
        return Outgoing(message.uid, message.alone, attributes, size, message.body.chunks(wire=True), sure)

    # ---- answers -----------------------------------------------------------------------------------------------------

    def _answered(self, ahead: int) -> Iterator[Appended | Failure]:
        """The answers to the oldest commands, so that no more than `ahead` are left."""
        while len(self._pending) > ahead:
            command = self._pending[0]
            sent = command.sent
            uids: Iterator[Uid | None] = iter(())
            end = None
            if sent:
                end = self._conn.result(command.tag, insist=True)
                uids = iter(self._uids(end, len(sent)))
            self._pending.popleft()
            for slot in command.slots:
                if isinstance(slot, Failure):
                    yield slot
                elif end is None or end.ok:
                    self._busy = 0
                    uid = next(uids)
                    # Who should tell the uid and does not, may have stored nothing: the next run will see.
                    untold = uid is None and self._conn.has("UIDPLUS")
                    yield Appended(slot.uid, uid, slot.sure and not untold)
                else:
                    yield self._refused(slot, end, command)

    def _refused(self, slot: Outgoing, end: Status, command: Command) -> Failure:
        uid = slot.uid
        seconds = answers.wait(end)
        if seconds is not None:
            self._wait(seconds, end, command, pause=not slot.alone)
        if len(command.sent) > 1 or (seconds is not None and not slot.alone):
            return Failure(uid, str(end), alone=True)
        if end.code == b"OVERQUOTA":
            self._full = slot.size if self._full is None else min(self._full, slot.size)
        shared = end.code == b"OVERQUOTA" or seconds is not None
        return Failure(uid, f"refused by the server: {end}", answers.advice(end), shared=shared)

    def _wait(self, seconds: float, end: Status, command: Command, *, pause: bool) -> None:
        """Once for all commands that were sent before: the server refuses them for the same reason."""
        if command.waited:
            return
        for each in (command, *self._pending):
            each.waited = True
        self._busy += 1
        if pause:
            self._conn.pause(seconds, str(end))

    def _uids(self, end: Status, count: int) -> list[Uid | None]:
        """From [APPENDUID validity uids] (RFC 4315, 3); None where the server does not tell."""
        words = end.argument.split()
        if end.code == b"APPENDUID" and len(words) == 2 and words[0].isdigit():
            if self._validity is not None and words[0] != self._validity.encode():
                self._conn.drop()
                raise Lost("another mailbox has come in its place")
            try:
                uids = sets.parse(words[1], most=count)
            except ProtocolError:
                uids = []
            if len(uids) == count:
                return [Uid(str(uid)) for uid in uids]
        return [None] * count


def _is_plain(pieces: Iterable[bytes]) -> bool:
    """True if no server that we know would change it.

    Its header is nothing but fields in ASCII, and there is neither a NUL nor a CR by itself in it.
    """
    head: bytes | None = b""
    after_cr = False
    for piece in pieces:
        if b"\0" in piece or (after_cr and not piece.startswith(b"\n")):
            return False
        after_cr = piece.endswith(b"\r")
        # Faster than to count, and not equal also where a piece begins or ends between CR and LF.
        odd = piece.replace(b"\r", b"").replace(b"\n", b"\r\n") != piece
        if odd and piece.count(b"\r") - piece.count(b"\r\n") > after_cr:
            return False
        if head is not None:
            head += piece
            end = head.find(b"\r\n\r\n")
            if (end >= 0 or len(head) > MAX_HEADER) and not _HEADER.fullmatch(head, 0, end + 2):
                return False
            head = None if end >= 0 else head
    return not after_cr and (head is None or _HEADER.fullmatch(head) is not None)
