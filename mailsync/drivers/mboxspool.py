"""What is to be appended to an mbox lies in a file beside it first: so a killed run leaves no half of a message behind.

Knows nothing of messages: only where the mbox ended, and what was to come after that.
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from typing import NamedTuple, Self

from .. import directories
from ..digest import blake2b
from .files import FileError, write_all
from .mboxtext import LONGEST_LINE, is_postmark

_HEADER = "mailsync-append %020d %020d %020d %s\n"  # where the mbox ended, its inode, bytes to come, a hash of its end
_HEADER_SIZE = len(_HEADER % (0, 0, 0, "0" * 32))
_BLOCK = 1024 * 1024


class SpoolError(FileError):
    """What is to be appended cannot be written, or not be brought into the mbox, which is as it was."""


class Tail(NamedTuple):
    """What a killed run left in an mbox, and nobody must see. `gap` goes in its place."""

    start: int
    end: int
    gap: bytes


def beside(path: str, what: str) -> str:
    """A file of ours in the directory of an mbox. `is_ours` knows its name."""
    return os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.mailsync-{what}")


def is_ours(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(".") and ".mailsync-" in name


class Spool:
    """Bytes on their way to the end of an mbox, which is open for writing and locked. SpoolError if not.

    Leaving the context without `commit` leaves the mbox as it was.
    """

    def __init__(self, path: str, fd: int, *, fsync: bool) -> None:
        self._path, self._mbox, self._fsync = beside(path, "append"), fd, fsync
        self._old = os.fstat(fd).st_size
        self.size = 0
        self._committed = False
        self._waiting: list[bytes] = []  # to be written; a message comes in many small pieces
        self._waits = 0  # how many bytes that is
        try:
            with suppress(FileNotFoundError):
                os.unlink(self._path)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as err:
            raise _spool_error(err) from err
        try:
            write_all(self._fd, b"\0" * _HEADER_SIZE)  # until it is complete it is no spool
        except OSError as err:
            self.__exit__()
            raise _spool_error(err) from err

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        """A spool that came back with the next power cut would cut what was changed in the mbox since."""
        with suppress(OSError):
            os.ftruncate(self._fd, 0)  # if it cannot be removed
        os.close(self._fd)
        with suppress(OSError):
            os.unlink(self._path)
            if self._committed and self._fsync:
                directories.sync(os.path.dirname(self._path))

    def write(self, data: bytes) -> None:
        """An error may come later, from `cut` or `commit`."""
        self._waiting.append(data)
        self._waits += len(data)
        self.size += len(data)
        if self._waits >= _BLOCK:
            self._flush()

    def cut(self, size: int) -> None:
        """Forget what was written after `size`."""
        self._flush()
        os.ftruncate(self._fd, _HEADER_SIZE + size)
        os.lseek(self._fd, 0, os.SEEK_END)
        self.size = size

    def commit(self) -> None:
        """All of it into the mbox, durable; or SpoolError, and the mbox is as it was."""
        self._flush()
        inode = os.fstat(self._mbox).st_ino
        header = _HEADER % (self._old, inode, self.size, _end_hash(self._mbox, self._old))
        try:
            os.pwrite(self._fd, header.encode(), 0)
            if self._fsync:
                os.fsync(self._fd)
                directories.sync(os.path.dirname(self._path))
            os.lseek(self._mbox, self._old, os.SEEK_SET)
            for at in range(0, self.size, _BLOCK):
                write_all(self._mbox, os.pread(self._fd, min(_BLOCK, self.size - at), _HEADER_SIZE + at))
            if self._fsync:
                os.fsync(self._mbox)
            self._committed = True
        except OSError as err:
            with suppress(OSError):
                os.ftruncate(self._mbox, self._old)
            raise _spool_error(err) from err

    def _flush(self) -> None:
        try:
            write_all(self._fd, b"".join(self._waiting))
        except OSError as err:
            raise _spool_error(err) from err
        self._waiting.clear()
        self._waits = 0


def unfinished(path: str, fd: int) -> Tail | None:
    """What a killed run left at the end of this mbox: all of its batch, because none of it was acknowledged.

    None where there is nothing, where the batch is complete, or where another program has changed the file so that it
    cannot be told any more. A delivery that came after it is kept.
    """
    try:
        spool = os.open(beside(path, "append"), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        mbox, found = os.fstat(fd), os.fstat(spool)
        # In a directory of many users nobody may make us cut another one's mail.
        if not stat.S_ISREG(found.st_mode) or found.st_uid not in (mbox.st_uid, os.geteuid()):
            return None
        fields = os.pread(spool, _HEADER_SIZE, 0).split()
        if len(fields) != 5 or fields[0] != b"mailsync-append":
            return None
        old, inode, length = map(int, fields[1:4])
        if mbox.st_ino != inode or mbox.st_size < old or fields[4].decode() != _end_hash(fd, old):
            return None
        same = _common(fd, old, spool, _HEADER_SIZE, min(length, mbox.st_size - old))
        if same == length:
            return None
        if old + same == mbox.st_size:
            return Tail(old, mbox.st_size, b"")
        return _before_delivery(fd, old, old + same, mbox.st_size)
    finally:
        os.close(spool)


def remove_spool(path: str) -> None:
    with suppress(OSError):
        os.unlink(beside(path, "append"))


def _spool_error(err: OSError) -> SpoolError:
    return SpoolError(err.errno, err.strerror)


def _before_delivery(fd: int, old: int, differs: int, size: int) -> Tail | None:
    """The file goes on otherwise than the batch: by a message of another program, or by nothing but a crash's zeros."""
    begin = max(old, differs - LONGEST_LINE)
    text = os.pread(fd, differs - begin + LONGEST_LINE, begin)
    same = differs - begin
    # Its postmark follows, perhaps after blank lines; or it began like ours, and the difference is within it.
    after = len(text) - len(text[same:].lstrip(b"\r\n"))
    for at in (after, text.rfind(b"From ", 0, same + len(b"From "))):
        end = text.find(b"\n", max(at, 0))
        if at >= 0 and end >= same and is_postmark(text[at:end]):
            before = os.pread(fd, 2, max(0, old - 2)) if old else b"\n\n"
            return Tail(old, begin + at, b"" if before == b"\n\n" else b"\n" if before.endswith(b"\n") else b"\n\n")
    if all(not os.pread(fd, _BLOCK, at).strip(b"\0") for at in range(differs, size, _BLOCK)):
        return Tail(old, size, b"")
    return None


def _common(fd: int, at: int, other: int, other_at: int, limit: int) -> int:
    """How many bytes are the same in two files."""
    done = 0
    while done < limit:
        one = os.pread(fd, min(_BLOCK, limit - done), at + done)
        two = os.pread(other, len(one), other_at + done)
        if not one or one != two:
            return done + next(
                (i for i, (x, y) in enumerate(zip(one, two, strict=False)) if x != y), min(len(one), len(two))
            )
        done += len(one)
    return done


def _end_hash(fd: int, size: int) -> str:
    """Tells whether the file up to `size` still is the one that was appended to."""
    begin = max(0, size - 4096)
    return blake2b(os.pread(fd, size - begin, begin), digest_size=16).hexdigest()
