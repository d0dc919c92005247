"""An open MH mailbox: read, appended to, its flags changed, its messages removed or handed on. Makes no listing."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import BoxError
from ..model import SEEN, Appended, Failure, FlagChange, Flags, Head, Holds, Measured, Message, Uid
from . import delivery, files
from .contract import Box
from .flags import SequenceChange, edit_sequences, flags_by_number
from .rewriting import rewrite

if TYPE_CHECKING:
    from .mh import Mh

TEMPORARY = ",mailsync."  # a name with a comma is no message for MH
TRIES = 4  # times a number is looked for that no other program has taken

_counter = count()

T = TypeVar("T")
D = TypeVar("D", Uid, Appended)


class Coming(NamedTuple):
    """A file that is to become a message."""

    source: Uid
    flags: Flags
    path: str


class OpenMh:
    """The `Box` of an MH mailbox. A number may mean another file by now: inode and time are compared first."""

    def __init__(self, box: Mh) -> None:
        self._box = box
        self._next: int | None = None  # the number after the highest

    @property
    def holds(self) -> Holds:
        return self._box.holds()

    @property
    def validity(self) -> str | None:
        return self._box.validity()

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        flags = flags_by_number(self._box.sequences(), sorted({number for uid in uids if (number := _number(uid))}))
        for uid in uids:
            try:
                fd, stat = self._open(uid)
            except OSError as err:
                yield files.failure(uid, err)
                continue
            try:
                body = files.LocalBody(fd, stat.st_size)
                yield Message(uid, flags[_number(uid)], stat.st_mtime_ns // 10**9, body)
            finally:
                os.close(fd)

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        for uid in uids:
            try:
                self._check(uid)
                head: Head | Failure = files.head_of(self._path(uid), uid)
            except OSError as err:
                head = files.failure(uid, err)
            yield head

    def measure(self, uids: Sequence[Uid]) -> Iterator[Measured | Failure]:
        return files.measured(self.fetch(uids))

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        self._sweep()
        return delivery.deliver(messages, temporary=self._temporary, place=self._place, fsync=self._box.fsync)

    def set_flags(self, changes: Sequence[FlagChange]) -> Iterator[Uid | Failure]:
        for batch in delivery.batches(changes):
            answers = [self._still(change.uid) for change in batch]
            there = [change for change, answer in zip(batch, answers, strict=True) if not isinstance(answer, Failure)]
            try:
                self._edit([SequenceChange(_number(change.uid), change.add, change.remove) for change in there])
            except OSError as err:
                answers = [answer if isinstance(answer, Failure) else files.failure(answer, err) for answer in answers]
            yield from answers

    def expunge(self, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        for batch in delivery.batches(uids):
            answers = [self._unlink(uid) for uid in batch]
            # After the files: without its flags a message would look as if the user had changed them, and wanted it.
            # If it fails, the numbers that stay do no harm: what is appended under one of them first clears it.
            with suppress(OSError):
                self._edit([], {_number(answer) for answer in answers if not isinstance(answer, Failure)})
            if not self._box.recognise(self._box.path):  # its numbers told that it is a mailbox; it still is one
                with suppress(BoxError):
                    self._box.create()
            yield from self._durable(answers)

    # ---- to another MH mailbox ---------------------------------------------------------------------------------------

    def reaches(self, to: Box) -> bool:
        return isinstance(to, OpenMh) and self.validity not in (None, to.validity)

    def copy(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        """All their bytes: programs of MH write to a message where it lies, which would change a link, too."""
        for batch in delivery.batches(uids):
            yield from delivery.carry(batch, self, to, keep=True)

    def move(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        """By a link to a new number: a rename would take the place of what another program delivers just now."""
        assert isinstance(to, OpenMh)
        for batch in delivery.batches(uids):
            links = self._links(batch, to)
            moved = iter(delivery.removed(self, to._durable([one for one in links if one is not None])))
            bulky = [uid for uid, one in zip(batch, links, strict=True) if one is None]
            carried = iter(delivery.carry(bulky, self, to, keep=False))
            yield from [next(carried) if one is None else next(moved) for one in links]

    def _links(self, uids: Sequence[Uid], to: OpenMh) -> list[Appended | Failure | None]:
        """Second names in another mailbox; None if the bytes of a message must be copied."""
        flags = flags_by_number(self._box.sequences(), sorted({_number(uid) for uid in uids}))
        holds = to.holds
        coming = [Coming(uid, holds.of(flags[_number(uid)]), self._path(uid)) for uid in uids]
        try:
            return to._numbered(coming, to._take)
        except OSError as err:  # the sequences cannot be written
            return [files.refusal(uid, err) for uid in uids]

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _path(self, uid: Uid) -> str:
        return self._box.at(str(_number(uid)))

    def _check(self, uid: Uid) -> None:
        """FileNotFoundError if another file has this number now, or none."""
        if uid_of(_number(uid), os.stat(self._path(uid))) != uid:
            raise _another()

    def _still(self, uid: Uid) -> Uid | Failure:
        try:
            self._check(uid)
        except OSError as err:
            return files.failure(uid, err)
        return uid

    def _open(self, uid: Uid) -> tuple[int, os.stat_result]:
        fd, stat = files.open_message(self._path(uid))
        if uid_of(_number(uid), stat) != uid:
            os.close(fd)
            raise _another()
        return fd, stat

    def _unlink(self, uid: Uid) -> Uid | Failure:
        try:
            self._check(uid)
            os.unlink(self._path(uid))
        except OSError as err:
            return files.failure(uid, err)
        return uid

    def _edit(self, changes: Sequence[SequenceChange], cleared: Collection[int] = ()) -> None:
        """OSError if the sequences cannot be written."""
        path = self._box.sequences_file
        if path and (changes or cleared):
            rewrite(path, lambda text: edit_sequences(text, changes, cleared), fsync=self._box.fsync)

    def _sweep(self) -> None:
        """Take away what killed runs left: nobody else would."""
        for name in os.listdir(self._box.path):
            path = self._box.at(name)
            with suppress(OSError):
                if name.startswith(TEMPORARY) and os.lstat(path).st_ctime < time.time() - delivery.ABANDONED:
                    os.unlink(path)

    def _temporary(self) -> str:
        return self._box.at(f"{TEMPORARY}{time.time_ns()}.{os.getpid()}.{next(_counter)}")

    def _place(self, batch: Sequence[delivery.Staged]) -> Sequence[Uid | Failure]:
        coming = [Coming(staged.source, staged.flags, staged.path) for staged in batch]
        return self._durable([one for one in self._numbered(coming, self._put) if one is not None])

    def _numbered(
        self, batch: Sequence[Coming], put: Callable[[Coming, int], T | Failure | None]
    ) -> list[T | Failure | None]:
        """What `put` gives for each file and its number: None if it cannot be there, FileExistsError if one is.

        Flags first, then the number: a message that is seen before its flags would look as if it had been read.
        """
        answers: dict[int, T | Failure | None] = {}
        undo: list[SequenceChange] = []
        waiting = dict(enumerate(batch))
        for _ in range(TRIES):
            first = self._next or max(self._box.numbers(), default=0) + 1
            self._next = first + len(waiting)
            numbers = dict(zip(waiting, range(first, self._next), strict=True))
            new = [SequenceChange(n, batch[i].flags, frozenset({SEEN}) - batch[i].flags) for i, n in numbers.items()]
            self._edit(undo + new, numbers.values())
            undo = []
            for index, number in numbers.items():
                # Who takes this number after us gets none of these flags. His own `unseen` stays: better unread than
                # lost from sight.
                flagged = SequenceChange(number, remove=batch[index].flags - {SEEN})
                try:
                    answer = answers[index] = put(waiting[index], number)
                    del waiting[index]
                    undo += [flagged] if answer is None or isinstance(answer, Failure) else []
                except FileExistsError:
                    undo.append(flagged)
                    self._next = None
            if not waiting:
                break
        self._edit(undo)
        for index, one in waiting.items():
            answers[index] = Failure(one.source, "other programs took every number first")
        return [answers[i] for i in range(len(batch))]

    def _put(self, staged: Coming, number: int) -> Uid | Failure:
        path = self._box.at(str(number))
        try:
            os.link(staged.path, path)
            uid = uid_of(number, os.stat(path))
            os.unlink(staged.path)
        except FileExistsError:
            raise
        except OSError as err:
            return files.failure(staged.source, err)
        return uid

    def _take(self, message: Coming, number: int) -> Appended | Failure | None:
        """A second name for a message that lies in another mailbox; None if it can have none."""
        path = self._box.at(str(number))
        try:
            if os.path.islink(message.path):  # it would lead elsewhere from here
                return None
            os.link(message.path, path)
            found = os.stat(path)
            if uid_of(_number(message.source), found) != message.source:
                os.unlink(path)
                raise _another()
        except FileExistsError:
            raise
        except OSError as err:
            return None if err.errno in files.NO_LINK else files.failure(message.source, err)
        return Appended(message.source, uid_of(number, found))

    def _durable(self, answers: list[D | Failure]) -> list[D | Failure]:
        return delivery.durable(answers, (self._box.path,) if self._box.fsync else ())


def is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 19


def _number(uid: Uid) -> int:
    """0, which no message has, for what is no uid of ours."""
    number = uid.partition(".")[0]
    return int(number) if is_number(number) else 0


def uid_of(number: int, stat: os.stat_result) -> Uid:
    # The size, too: a number and an inode are soon used again, and the time is the date of the message.
    return Uid(f"{number}.{stat.st_ino}.{stat.st_mtime_ns}.{stat.st_size}")


def _another() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "another message has this number now")
