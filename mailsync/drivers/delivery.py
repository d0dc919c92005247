"""Messages written to files of their own, durably and in batches: what Maildir and MH have in common."""

from __future__ import annotations

import errno
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import TypeVar

from ..directories import sync
from ..errors import BoxError, Lost
from ..model import Appended, Failure, Flags, Message, Uid
from .contract import AtOnce, Box
from .files import FileError, LineEnds, refusal, remove, why, write_all

BATCH = 500  # messages made durable together, or
BATCH_BYTES = 32 * 1024 * 1024
ABANDONED = 36 * 3600  # seconds; a temporary file that is older belongs to nobody (maildir(5))
OPEN_SHARE = 4  # a batch keeps at most one in so many of the files open that a process may: both sides may deliver

_NO_DATE = {errno.EINVAL, errno.ERANGE, errno.EOVERFLOW, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS}

T = TypeVar("T")
D = TypeVar("D", Uid, Appended)


def batches(items: Iterable[T]) -> Iterator[list[T]]:
    """Parts of a size that is worth one fsync of a directory."""
    left = iter(items)
    while batch := list(islice(left, BATCH)):
        yield batch


def durable(answers: list[D | Failure], directories: Iterable[str]) -> list[D | Failure]:
    """The answers of a batch, after its directories are on the disk; failures if that cannot be."""
    for directory in directories:
        try:
            sync(directory)
        except OSError as err:
            # It is done, but may not last: not to be done in another way.
            doubt = Failure("", f"{directory} cannot be synced: {why(err)}", shared=True)
            return [one if isinstance(one, Failure) else replace(doubt, what=_what(one)) for one in answers]
    return answers


def carry(uids: Sequence[Uid], source: Box, to: Box, *, keep: bool) -> list[Appended | Failure]:
    """Copy the bytes of messages to another mailbox, and remove them in the old one once they are there."""
    unread: list[Failure | None] = []

    def messages() -> Iterator[Message]:
        for got in source.fetch(uids):
            unread.append(got if isinstance(got, Failure) else None)
            if isinstance(got, Message):
                yield replace(got, flags=to.holds.of(got.flags))

    arrived = iter(list(to.append(messages())))
    copied = [next(arrived) if failure is None else failure for failure in unread]
    return copied if keep else removed(source, copied)


def removed(source: Box, copied: Sequence[Appended | Failure]) -> list[Appended | Failure]:
    """The answers to a move, of which only the copies are made yet. What was copied is told so, whatever happens.

    Lost: who looks again finds out what became of them.
    """
    going = [copy.source for copy in copied if isinstance(copy, Appended)]
    done: list[Uid | Failure] = []
    try:
        for answer in source.expunge(going):
            done.append(answer)
    except Lost:
        raise
    except (BoxError, OSError) as err:
        failed = Failure("", why(err) if isinstance(err, OSError) else str(err))
        done += [replace(failed, what=uid) for uid in going[len(done) :]]
    answers = iter(done)
    return [_moved(copy, next(answers)) if isinstance(copy, Appended) else copy for copy in copied]


def _moved(copy: Appended, answer: Uid | Failure) -> Appended | Failure:
    # Who else removed it, too, was only faster.
    if isinstance(answer, Failure) and not answer.gone:
        return replace(answer, why=f"it was copied, but {answer.why}", shared=True)
    return copy


def _what(answer: Uid | Appended) -> Uid:
    return answer.source if isinstance(answer, Appended) else answer


@dataclass(slots=True)
class Staged:
    """A message in its temporary file: all of it, with its date, but not yet in its place."""

    source: Uid
    flags: Flags
    path: str
    size: int
    wire_size: int
    fd: int | None  # open until it is durable: to open 10,000 files again takes as long as to write them

    def sync(self) -> None:
        """Wait until it is on the disk, if that was wanted; closed in any case, OSError included."""
        fd, self.fd = self.fd, None
        if fd is not None:
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    def discard(self) -> None:
        if self.fd is not None:
            os.close(self.fd)
            self.fd = None
        remove(self.path)


def deliver(
    messages: Iterable[Message],
    *,
    temporary: Callable[[], str],
    place: Callable[[Sequence[Staged]], Sequence[Uid | Failure]],
    fsync: bool,
    distinct: bool = False,
) -> Iterator[Appended | Failure]:
    """Write messages in batches. A batch is answered when all of it is durable.

    `distinct`: no two files have the same time, though their dates, which are whole seconds, may be equal.

    `temporary` gives a path that no file has. `place` puts finished files where they are seen, with their directories
    made durable, and answers each. What was not placed when this ends, in whatever way, is removed.
    """
    batch: list[Staged | Failure] = []
    weight = 0
    most = _batch_size() if fsync else BATCH
    try:
        for message in messages:
            staged = _stage(message, temporary, fsync, distinct)
            batch.append(staged)
            weight += 0 if isinstance(staged, Failure) else staged.size
            if len(batch) >= most or weight >= BATCH_BYTES:
                answers = _settle(batch, place)
                batch, weight = [], 0
                yield from answers
        answers = _settle(batch, place)
        batch = []
        yield from answers
    finally:
        for staged in batch:
            if not isinstance(staged, Failure):
                staged.discard()


def _batch_size() -> int:
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return BATCH if limit == resource.RLIM_INFINITY else max(1, min(BATCH, limit // OPEN_SHARE))


def _stage(message: Message, temporary: Callable[[], str], fsync: bool, distinct: bool) -> Staged | Failure:
    path = temporary()
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as err:
        return refusal(message.uid, err)
    staged = Staged(message.uid, message.flags, path, 0, 0, fd)
    try:
        whole = message.body.at_once() if isinstance(message.body, AtOnce) else None
        if whole is not None:
            text, staged.wire_size = whole
            staged.size = len(text)
            write_all(fd, text)
        else:
            count = LineEnds()
            for chunk in message.body.chunks(wire=False):
                write_all(fd, chunk)
                count.add(chunk)
            staged.size, staged.wire_size = count.size, count.wire_size
        _date(fd, message.date, distinct)
        if not fsync:
            staged.fd = None
            os.close(fd)
        elif hasattr(os, "posix_fadvise"):
            # Starts writing to the disk now, so that the fsyncs of the batch find little left to wait for.
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    except FileError as err:
        staged.discard()
        return refusal(message.uid, err)
    except BaseException:
        staged.discard()
        raise
    return staged


def _date(fd: int, date: int, distinct: bool) -> None:
    """One that no file can have here is left out. FileError for other reasons."""
    try:
        fraction = int.from_bytes(os.urandom(8)) % 10**9 if distinct else 0
        os.utime(fd, ns=(time.time_ns(), date * 10**9 + fraction))
    except OverflowError:
        pass
    except OSError as err:
        if err.errno not in _NO_DATE:
            raise FileError(err.errno, err.strerror) from err


def _settle(
    batch: Sequence[Staged | Failure], place: Callable[[Sequence[Staged]], Sequence[Uid | Failure]]
) -> list[Appended | Failure]:
    """The answers of a batch, in its order."""
    synced = [_synced(staged) for staged in batch]
    ready = [staged for staged in synced if not isinstance(staged, Failure)]
    try:
        placed: Iterator[Uid | Failure] = iter(place(ready) if ready else ())
    except OSError as err:
        placed = iter([refusal(staged.source, err) for staged in ready])
    answers: list[Appended | Failure] = []
    for staged in synced:
        if isinstance(staged, Failure):
            answers.append(staged)
            continue
        answer = next(placed)
        if isinstance(answer, Failure):
            remove(staged.path)
            answers.append(replace(answer, what=staged.source))
        else:
            answers.append(Appended(staged.source, answer))
    return answers


def _synced(staged: Staged | Failure) -> Staged | Failure:
    if isinstance(staged, Staged):
        try:
            staged.sync()
        except OSError as err:
            staged.discard()
            return refusal(staged.source, err)
    return staged
