"""An open MH mailbox: read, appended to, its flags changed, its messages removed or handed on. Makes no listing."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from ..errors import BoxError
from ..model import NONE, SEEN, Appended, Failure, FlagChange, Flags, Head, Holds, Measured, Message, Uid
from ..unchanged import State, lasting, state
from . import delivery, files
from .contract import Box
from .flags import SequenceChange, edit_sequences, flags_by_number
from .rewriting import rewrite

if TYPE_CHECKING:
    from .mh import Mh

TEMPORARY = ",mailsync."  # a name with a comma is no message for MH
TRIES = 4  # times a number is looked for that no other program has taken

_counter = count()

Edits = tuple[Sequence[SequenceChange], Collection[int]]  # and numbers that leave all sequences

D = TypeVar("D", Uid, Appended)


class Coming(NamedTuple):
    """A file that is to become a message."""

    source: Uid
    flags: Flags
    path: str


class OpenMh:
    """The `Box` of an MH mailbox. A uid tells the file, whatever number it has: other programs give it another one."""

    def __init__(self, box: Mh) -> None:
        self._box = box
        self._next: int | None = None  # the number after the highest
        self._numbers: dict[int, list[int]] = {}  # by inode, as they were
        self._directory: State | None = None  # at that time

    @property
    def holds(self) -> Holds:
        return self._box.holds()

    @property
    def validity(self) -> str | None:
        return self._box.validity()

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        flags = self._flags(uids)
        for uid in uids:
            try:
                fd, stat = self._open(uid)
            except OSError as err:
                yield files.failure(uid, err)
                continue
            try:
                body = files.LocalBody(fd, stat.st_size)
                yield Message(uid, flags.get(uid, NONE), stat.st_mtime_ns // 10**9, body)
            finally:
                os.close(fd)

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        for uid in uids:
            try:
                head: Head | Failure = files.head_of(self._box.at(str(self._number(uid))), uid, self._box.inside)
            except OSError as err:
                head = files.failure(uid, err)
            yield head

    def measure(self, uids: Sequence[Uid]) -> Iterator[Measured | Failure]:
        return files.measured(self.fetch(uids))

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        self._sweep()
        place, fsync = self._place, self._box.fsync
        return delivery.deliver(messages, temporary=self._temporary, place=place, fsync=fsync, distinct=True)

    def set_flags(self, changes: Sequence[FlagChange]) -> Iterator[Uid | Failure]:
        for batch in delivery.batches(changes):
            found: dict[Uid, int | Failure] = {}

            def changed(batch: Sequence[FlagChange] = batch, found: dict[Uid, int | Failure] = found) -> Edits:
                found.update(self._still([change.uid for change in batch]))
                there = [(number, change) for change in batch if isinstance(number := found[change.uid], int)]
                return [SequenceChange(number, change.add, change.remove) for number, change in there], ()

            failed = self._tried(changed)
            for change in batch:
                answer = found.get(change.uid)
                if isinstance(answer, Failure):
                    yield answer
                else:
                    yield files.failure(change.uid, failed) if failed else change.uid

    def expunge(self, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        for batch in delivery.batches(uids):
            answers: list[Uid | Failure] = []

            def removed(batch: Sequence[Uid] = batch, answers: list[Uid | Failure] = answers) -> Edits:
                # Before its flags: without them a message would look as if the user had changed them, and wanted it.
                # If that fails, the numbers that stay do no harm: what is appended under one of them clears it first.
                gone = []
                found = self._still(batch)
                for uid in batch:
                    number = one if isinstance(one := found[uid], Failure) else self._unlink(uid)
                    answers.append(number if isinstance(number, Failure) else uid)
                    gone += [] if isinstance(number, Failure) else [number]
                return [], gone

            failed = self._tried(removed)
            if failed and not answers:  # it stayed locked
                answers += [files.failure(uid, failed) for uid in batch]
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
        flags = self._flags(uids)
        holds = to.holds
        answers: dict[Uid, Appended | Failure | None] = {}
        coming = []
        for uid, number in self._still(uids).items():
            if isinstance(number, Failure):
                answers[uid] = number
            else:
                coming.append(Coming(uid, holds.of(flags.get(uid, NONE)), self._box.at(str(number))))
        try:
            for one, taken in zip(coming, to._numbered(coming, to._take), strict=True):
                answers[one.source] = Appended(one.source, taken) if isinstance(taken, str) else taken
            return [answers[uid] for uid in uids]
        except OSError as err:  # the sequences cannot be written
            return [files.refusal(uid, err) for uid in uids]

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _number(self, uid: Uid) -> int:
        """The number that it has now. FileNotFoundError if it is gone."""
        for _ in self._looks():
            if number := self._found(uid):
                return number
        raise _gone()

    def _still(self, uids: Sequence[Uid]) -> dict[Uid, int | Failure]:
        """As `_number`, in their order. The directory is read once for all, and not for each."""
        found: dict[Uid, int | Failure] = {}
        missed: OSError = _gone()
        try:
            for _ in self._looks():
                found |= {uid: one for uid in uids if uid not in found and (one := self._tried_to_find(uid))}
                if len(found) == len(set(uids)):
                    break
        except OSError as err:
            missed = err
        return {uid: found.get(uid) or files.failure(uid, missed) for uid in uids}

    def _looks(self) -> Iterator[None]:
        """Know the numbers better at each step: those that were, of the directory, of each file. OSError."""
        yield
        now = state(self._box.path)
        if now != self._directory or not lasting(now):
            self._directory, self._numbers = now, self._box.inodes()
            yield
            if not self._tells_inodes():
                places = self._box.places()
                self._numbers = {}
                for number, file in places.items():
                    self._numbers.setdefault(_inode(file), []).append(number)
                yield

    def _found(self, uid: Uid) -> int | None:
        """By what is known; looked at."""
        file, _, only = uid.partition("+")
        numbers = self._numbers.get(_inode(file), ())
        return next((n for n in numbers if (not only or only == str(n)) and self._is(n, file)), None)

    def _tells_inodes(self) -> bool:
        """False on some file systems: what a directory says differs from what the file says."""
        for inode, numbers in self._numbers.items():
            with suppress(FileNotFoundError):
                return os.stat(self._box.at(str(numbers[0]))).st_ino == inode
        return True

    def _is(self, number: int, file: str) -> bool:
        try:
            return file_of(os.stat(self._box.at(str(number)))) == file
        except FileNotFoundError:
            return False

    def _tried_to_find(self, uid: Uid) -> int | Failure | None:
        try:
            return self._found(uid)
        except OSError as err:
            return files.failure(uid, err)

    def _flags(self, uids: Sequence[Uid]) -> dict[Uid, Flags]:
        """Of those that are there."""
        with self._box.unchanging() as sequences:
            numbers = {uid: number for uid, number in self._still(uids).items() if isinstance(number, int)}
        flags = flags_by_number(sequences, sorted(set(numbers.values())))
        return {uid: flags[number] for uid, number in numbers.items()}

    def _open(self, uid: Uid) -> tuple[int, os.stat_result]:
        fd, stat = files.open_message(self._box.at(str(self._number(uid))), self._box.inside)
        if file_of(stat) != uid.partition("+")[0]:
            os.close(fd)
            raise _another()
        return fd, stat

    def _unlink(self, uid: Uid) -> int | Failure:
        """The number that it had until then."""
        try:
            number = self._number(uid)
            os.unlink(self._box.at(str(number)))
        except OSError as err:
            return files.failure(uid, err)
        return number

    def _edit(self, edits: Callable[[], Edits]) -> None:
        """Change the sequences as `edits` says, which is asked while no program of MH gives messages other numbers.

        OSError if they cannot be written.
        """
        if path := self._box.sequences_file:
            rewrite(path, lambda text: edit_sequences(text, *edits()), fsync=self._box.fsync)
        else:
            edits()

    def _tried(self, edits: Callable[[], Edits]) -> OSError | None:
        try:
            self._edit(edits)
        except OSError as err:
            return err
        return None

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
        self, batch: Sequence[Coming], put: Callable[[Coming, int], Uid | Failure | None]
    ) -> list[Uid | Failure | None]:
        """What `put` gives for each file and its number: None if it cannot be there, FileExistsError if one is.

        Flags first, then the number: a message that is seen before its flags would look as if it had been read.
        """
        answers: dict[int, Uid | Failure | None] = {}
        undo: list[SequenceChange] = []
        placed: dict[int, FlagChange] = {}
        waiting = dict(enumerate(batch))
        for _ in range(TRIES):
            first = self._next or max(self._box.numbers(), default=0) + 1
            self._next = first + len(waiting)
            numbers = dict(zip(waiting, range(first, self._next), strict=True))
            new = [SequenceChange(n, batch[i].flags, frozenset({SEEN}) - batch[i].flags) for i, n in numbers.items()]
            edits = undo + new, numbers.values()
            self._edit(partial(_same, edits))
            undo = []
            for index, number in numbers.items():
                # Who takes this number after us gets none of these flags. His own `unseen` stays: better unread than
                # lost from sight.
                flagged = SequenceChange(number, remove=batch[index].flags - {SEEN})
                try:
                    answer = answers[index] = put(waiting[index], number)
                    del waiting[index]
                    if answer is None or isinstance(answer, Failure):
                        undo.append(flagged)
                    else:
                        flags = batch[index].flags
                        placed[number] = FlagChange(answer, flags, frozenset({SEEN}) - flags)
                except FileExistsError:
                    undo.append(flagged)
                    self._next = None
            if not waiting:
                break
        if undo:
            self._edit(partial(_same, (undo, ())))
        self._flag_again(placed)
        for index, one in waiting.items():
            answers[index] = Failure(one.source, "other programs took every number first")
        return [answers[i] for i in range(len(batch))]

    def _flag_again(self, placed: Mapping[int, FlagChange]) -> None:
        """A program that gives messages other numbers just then forgets the flags of those that are not there yet."""
        with suppress(BoxError, OSError):  # the messages are there all the same
            flags = flags_by_number(self._box.sequences(), sorted(placed))
            lost = [one for number, one in placed.items() if one.add - flags[number] or one.remove & flags[number]]
            for _ in self.set_flags(lost):
                pass

    def _put(self, staged: Coming, number: int) -> Uid | Failure:
        try:
            uid = uid_of(file_of(os.stat(staged.path)))
            os.link(staged.path, self._box.at(str(number)))
        except FileExistsError:
            raise
        except OSError as err:
            return files.failure(staged.source, err)
        files.remove(staged.path)  # if it stays, the message is there all the same
        return uid

    def _take(self, message: Coming, number: int) -> Uid | Failure | None:
        """A second name for a message that lies in another mailbox; None if it can have none."""
        temporary = self._temporary()  # which nobody gives to another message while we look at it
        try:
            if os.path.islink(message.path):  # it would lead elsewhere from here
                return None
            os.link(message.path, temporary)
            if file_of(os.stat(temporary)) != message.source.partition("+")[0]:
                raise _another()
            return self._put(message._replace(path=temporary), number)
        except FileExistsError:
            raise
        except OSError as err:
            return None if err.errno in files.NO_LINK else files.failure(message.source, err)
        finally:
            files.remove(temporary)

    def _durable(self, answers: list[D | Failure]) -> list[D | Failure]:
        return delivery.durable(answers, (self._box.path,) if self._box.fsync else ())


def is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 19


def uid_of(file: str, number: int | None = None) -> Uid:
    """`number`: of a second link to the same file, which only that tells from the first."""
    return Uid(file if number is None else f"{file}+{number}")


def file_of(stat: os.stat_result) -> str:
    """What stays the same when another program gives the message another number."""
    # The size, too: an inode is soon used again, and the time may be the date of the message.
    return f"{stat.st_ino}.{stat.st_mtime_ns}.{stat.st_size}"


def _inode(file: str) -> int:
    """0, which no message has, for what is no file of ours."""
    inode = file.partition(".")[0]
    return int(inode) if inode.isascii() and inode.isdigit() else 0


def _same(edits: Edits) -> Edits:
    return edits


def _gone() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "no longer there")


def _another() -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, "another message has this number now")
