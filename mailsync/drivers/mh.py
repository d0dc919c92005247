"""One MH mailbox: a directory of numbered files, with the flags in sequences beside them.

Knows nothing of other mailboxes: `local` finds and names them.
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from typing import ClassVar

from ..errors import BoxError
from ..model import (
    HIDDEN,
    NONE,
    SEEN,
    SYSTEM,
    Appended,
    Entry,
    Failure,
    FlagChange,
    Head,
    Holds,
    Identify,
    Known,
    Listing,
    Mailbox,
    Measured,
    Message,
    Token,
    Uid,
)
from . import delivery, files
from .flags import Ranges, SequenceChange, edit_sequences, flags_by_number, parse_sequences

SEQUENCES = ".mh_sequences"
BOOKKEEPING = (SEQUENCES, ".xmhcache")
TEMPORARY = ",mailsync."  # a name with a comma is no message for MH
TRIES = 4  # times a number is looked for that no other program has taken

_counter = count()


def profile_path(home: str) -> str | None:
    """Where `~/.mh_profile` says that MH mail lies; None if it says nothing."""
    path = _profile(home).get("path")
    return os.path.join(home, path) if path else None


class Mh:
    format: ClassVar[str] = "mh"

    def __init__(self, path: str, mailbox: Mailbox, *, fsync: bool = True) -> None:
        self.path, self.mailbox, self.fsync = path, mailbox, fsync
        name = _sequences_name()
        self.sequences_file = os.path.join(path, name) if name else None  # None: the user wants no public sequences

    @staticmethod
    def recognise(path: str) -> bool:
        """A directory with sequences or a numbered message. OSError if it cannot be read.

        An empty numbered file, or one that is an mbox, tells nothing: archives are named by years.
        """
        if not os.path.isdir(path):
            return False
        names = {SEQUENCES, _sequences_name()}
        with files.scan(path) as found:
            return any(
                (entry.name in names or (_is_number(entry.name) and _is_message(os.path.join(path, entry.name))))
                and entry.is_file()
                for entry in found
            )

    def holds(self) -> Holds:
        return Holds(SYSTEM, any_keyword=True) if self.sequences_file else Holds(NONE)

    def validity(self) -> str | None:
        """Device and inode: a directory made anew under this name is another mailbox."""
        return files.inode(self.path)

    def token(self) -> Token | None:
        if not os.path.isdir(self.path):
            return None
        stamp = files.stamp(self.path, self.sequences_file or self.path)
        return None if stamp is None else Token(stamp)

    def listing(self, identify: Identify, known: Known | None = None) -> Listing:
        """All messages by number. The heads of those that are `known` are not read. BoxError if it cannot be read."""
        token = self.token()
        numbers = self.numbers()
        # Read after the numbers: what is appended has its flags before its number.
        flags = flags_by_number(self.sequences(), numbers)
        entries: list[Entry] = []
        unreadable: list[Failure] = []
        for number in numbers:
            path = self.at(str(number))
            uid = Uid(str(number))
            try:
                uid = _uid(number, os.stat(path))
                before = known.get(uid) if known else None
                id = before.id if before else files.identity_of(path, identify)
            except FileNotFoundError:
                continue  # removed just now
            except OSError as err:
                unreadable.append(files.failure(uid, err))
                continue
            if id != HIDDEN:
                entries.append(Entry(uid, id, flags[number]))
        return Listing(self.mailbox, entries, self.holds(), token, self.validity(), tuple(unreadable))

    @contextmanager
    def open(self, *, write: bool) -> Iterator[OpenMh]:
        if not os.path.isdir(self.path):
            raise BoxError(f"{self.mailbox}: no directory at {self.path}")
        if write and not os.access(self.path, os.W_OK | os.X_OK):
            raise BoxError(f"{self.mailbox}: {self.path} cannot be written to")
        yield OpenMh(self)

    def create(self) -> None:
        """Made with an empty file for sequences, which is what it is recognised by. BoxError if it cannot be made."""
        try:
            files.make_directories(self.path, fsync=self.fsync)
            os.close(os.open(self.sequences_file or self.at(SEQUENCES), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if self.fsync:
                files.sync_directory(self.path)
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot be created: {files.why(err)}") from err

    def delete(self) -> None:
        """Take away the sequences, and the directory unless other mailboxes lie in it.

        BoxError, and nothing gone, if there is a message or a file that is not MH's.
        """
        try:
            with files.scan(self.path) as found:
                names = [entry.name for entry in found if not entry.is_dir(follow_symlinks=False)]
            ours = {*BOOKKEEPING, os.path.basename(self.sequences_file or SEQUENCES)}
            other = next((name for name in sorted(names) if name not in ours), None)
            if other is not None:
                raise BoxError(f"{self.mailbox} is not empty: {self.at(other)}")
            for name in names:
                os.unlink(self.at(name))
            with suppress(OSError):  # other mailboxes lie in it
                os.rmdir(self.path)
            if self.fsync:
                files.sync_directory(os.path.dirname(os.path.abspath(self.path)))
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot be deleted: {files.why(err)}") from err

    def at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def numbers(self) -> list[int]:
        """BoxError if not all of them can be had: a part would look like deletions."""
        try:
            return sorted(files.steadily(self.path, self._scan))
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot be listed: {files.why(err)}") from err

    def sequences(self) -> dict[str, Ranges]:
        """BoxError if they cannot be read: all messages would seem to have lost their flags."""
        try:
            if self.sequences_file:
                with open(self.sequences_file, "rb", opener=files.open_quietly) as file:
                    return parse_sequences(file.read())
        except FileNotFoundError:
            pass
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot read {self.sequences_file}: {files.why(err)}") from err
        return {}

    def _scan(self) -> list[int]:
        with files.scan(self.path) as found:
            return [int(entry.name) for entry in found if _is_number(entry.name) and entry.is_file()]


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
            yield from delivery.durable(answers, (self._box.path,) if self._box.fsync else ())

    def _path(self, uid: Uid) -> str:
        return self._box.at(str(_number(uid)))

    def _check(self, uid: Uid) -> None:
        """FileNotFoundError if another file has this number now, or none."""
        if _uid(_number(uid), os.stat(self._path(uid))) != uid:
            raise FileNotFoundError(errno.ENOENT, "another message has this number now")

    def _still(self, uid: Uid) -> Uid | Failure:
        try:
            self._check(uid)
        except OSError as err:
            return files.failure(uid, err)
        return uid

    def _open(self, uid: Uid) -> tuple[int, os.stat_result]:
        fd, stat = files.open_message(self._path(uid))
        if _uid(_number(uid), stat) != uid:
            os.close(fd)
            raise FileNotFoundError(errno.ENOENT, "another message has this number now")
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
            files.rewrite(path, lambda text: edit_sequences(text, changes, cleared), fsync=self._box.fsync)

    def _temporary(self) -> str:
        return self._box.at(f"{TEMPORARY}{time.time_ns()}.{os.getpid()}.{next(_counter)}")

    def _place(self, batch: Sequence[delivery.Staged]) -> Sequence[Uid | Failure]:
        """Flags first, then the number: a message that is seen before its flags would look as if it had been read."""
        answers: dict[int, Uid | Failure] = {}
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
                try:
                    answers[index] = self._link(waiting[index], number)
                    del waiting[index]
                except FileExistsError:
                    # Another program took the number. Its own `unseen` stays: better unread than lost from sight.
                    undo.append(SequenceChange(number, remove=batch[index].flags - {SEEN}))
                    self._next = None
            if not waiting:
                break
        self._edit(undo)
        for index, staged in waiting.items():
            answers[index] = Failure(staged.source, "other programs took every number first")
        return delivery.durable([answers[i] for i in range(len(batch))], (self._box.path,) if self._box.fsync else ())

    def _link(self, staged: delivery.Staged, number: int) -> Uid | Failure:
        """FileExistsError if there is a message of this number."""
        path = self._box.at(str(number))
        try:
            os.link(staged.path, path)
            uid = _uid(number, os.stat(path))
            os.unlink(staged.path)
        except FileExistsError:
            raise
        except OSError as err:
            return files.failure(staged.source, err)
        return uid


def _is_number(name: str) -> bool:
    return name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 19


def _is_message(path: str) -> bool:
    """False for what is empty or may be an mbox. What cannot be read is a message that cannot be read."""
    try:
        fd, _ = files.open_message(path)
    except OSError:
        return True
    try:
        return os.pread(fd, len(b"From "), 0) not in (b"", b"From ")
    finally:
        os.close(fd)


def _number(uid: Uid) -> int:
    """0, which no message has, for what is no uid of ours."""
    number = uid.partition(".")[0]
    return int(number) if _is_number(number) else 0


def _uid(number: int, stat: os.stat_result) -> Uid:
    # The size, too: a number and an inode are soon used again, and the time is the date of the message.
    return Uid(f"{number}.{stat.st_ino}.{stat.st_mtime_ns}.{stat.st_size}")


def _sequences_name() -> str | None:
    return _profile(os.path.expanduser("~")).get("mh-sequences", SEQUENCES) or None


def _profile(home: str) -> dict[str, str]:
    """The entries of the user's profile, names in lower case."""
    try:
        with open(os.path.join(home, ".mh_profile"), "rb") as file:
            lines = os.fsdecode(file.read()).replace("\n ", " ").replace("\n\t", " ").split("\n")
    except OSError:
        return {}
    entries = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in entries if colon}
