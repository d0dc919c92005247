"""What all local formats do with files: read without a trace, replace in one step.

Knows nothing of mailboxes, names or flags.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TypeVar

from .. import stopping
from ..header import reduced
from ..model import Failure, Head, Identify, Measured, Message, MessageId, Token, Uid
from ..unchanged import State, lasting, state
from .contract import AtOnce

CHUNK = 256 * 1024
HEAD = 4096  # what is read first of a message
LONGEST_HEAD = 1024 * 1024  # what is held of a header as it is
SMALL = 4_000_000  # bytes: sequences of MH with half a million ranges
LARGEST = 2**32  # bytes: sizes of IMAP end before (RFC 3501, 4.2); so does whoever waits for such a message
PAUSES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0)  # seconds, between looks at a directory that keeps changing

NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}  # between these places, of this file

PLAINLY = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY
QUIETLY = PLAINLY | getattr(os, "O_NOATIME", 0)

# The one literal in front lets the search hop from line to line; two would be sought byte by byte.
_BLANK_LINE = re.compile(rb"\n\r?\n")

T = TypeVar("T")


class FileError(OSError):
    """A file of ours, or one a message is read from, fails: that spoils one message.

    Other OSErrors that come out of a body (its server's connection) are not ours to catch.
    """


# What is wrong with the disk or with us, and not with one message.
_OF_ALL = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENODEV}
)


def why(error: OSError) -> str:
    """For a Failure or BoxError."""
    text = error.strerror or str(error)
    return f"disk full ({text})" if error.errno in (errno.ENOSPC, errno.EDQUOT) else text


def failure(uid: Uid, error: OSError) -> Failure:
    return replace(refusal(uid, error), gone=isinstance(error, FileNotFoundError))


def refusal(uid: Uid, error: OSError) -> Failure:
    """A message that cannot be written."""
    return Failure(uid, why(error), shared=error.errno in _OF_ALL)


# ---- reading ---------------------------------------------------------------------------------------------------------


def open_quietly(path: str, flags: int = 0) -> int:
    """Open for reading, the access time untouched.

    Who may not ask for that (not the owner) could not put the time back either; then it is touched.
    """
    try:
        return os.open(path, flags | QUIETLY)
    except PermissionError:
        return os.open(path, flags | PLAINLY)


def open_message(path: str, inside: Sequence[str] = ()) -> tuple[int, os.stat_result]:
    """A file descriptor to be closed by the caller, and the file's stat. OSError if it is no regular file.

    `inside`: a link must lead into one of these directories. Who can put a link among mail shall not have any file of
    the user's sent to a server.
    """
    fd = open_inside(path, inside) if inside else open_quietly(path, os.O_NONBLOCK)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise FileError(errno.EINVAL, "not a regular file", path)
        _size(found)
    except OSError:
        os.close(fd)
        raise
    return fd, found


def open_inside(path: str, inside: Sequence[str]) -> int:
    """A FIFO that was put there since the listing is not waited for."""
    try:
        return open_quietly(path, os.O_NONBLOCK | os.O_NOFOLLOW)
    except OSError as err:
        if not os.path.islink(path):
            raise
        real = os.path.realpath(path)
        if not any(f"{real}/".startswith(f"{os.path.realpath(one).rstrip('/')}/") for one in inside):
            raise FileError(errno.ELOOP, "a link that leads out of the store", path) from err
        return open_quietly(real, os.O_NONBLOCK | os.O_NOFOLLOW)


def is_message(entry: os.DirEntry[str], directory: str, mailbox: str) -> bool:
    """Whether it is a file; or a link, unless to a directory: what it leads to is looked at when it is read.

    A link to a message of the same mailbox is none: of two that are equal one would be removed, and be the wrong one.
    """
    if not entry.is_symlink():
        return entry.is_file()
    real = os.path.realpath(os.path.join(directory, entry.name))
    return not os.path.isdir(real) and not real.startswith(f"{os.path.realpath(mailbox)}/")


def _size(found: os.stat_result) -> int:
    """FileError if it is too large to be a message."""
    if found.st_size >= LARGEST:
        raise FileError(errno.EFBIG, f"{found.st_size} bytes are no message")
    return found.st_size


def read_small(path: str, inside: Sequence[str] = ()) -> bytes:
    """All of what lies beside mail. OSError if it is no regular file, or not small; `inside` as above."""
    fd = open_small(path, inside)
    try:
        return read_rest(fd)
    finally:
        os.close(fd)


def open_small(path: str, inside: Sequence[str] = ()) -> int:
    fd, found = open_message(path, inside)
    if found.st_size > SMALL:
        os.close(fd)
        raise FileError(errno.EFBIG, f"{found.st_size} bytes, and {SMALL} are the most", path)
    return fd


def read_rest(fd: int) -> bytes:
    return b"".join(iter(lambda: os.read(fd, CHUNK), b""))


@contextmanager
def scan(path: str) -> Iterator[Iterator[os.DirEntry[str]]]:
    """The entries of a directory, whose access time stays; their `path` is the bare name."""
    fd = open_quietly(path, os.O_DIRECTORY)
    try:
        with os.scandir(fd) as entries:
            yield entries
    finally:
        os.close(fd)


def read_head(fd: int) -> bytes:
    """The header block of a message, with the end of its last line and without the blank line.

    Of one that is too long only what tells the message from others.
    """
    data = more = os.pread(fd, HEAD, 0)
    size = HEAD
    while True:
        if data.startswith((b"\n", b"\r\n")):
            return b""
        if end := _BLANK_LINE.search(data):
            return data[: end.start() + 1]
        if not more:
            return data
        if len(data) >= LONGEST_HEAD:
            return reduced(LocalBody(fd, _size(os.fstat(fd))).chunks(wire=False))
        size = min(8 * size, LONGEST_HEAD)
        more = os.pread(fd, size - len(data), len(data))
        data += more


def identity_of(path: str, identify: Identify, inside: Sequence[str]) -> MessageId:
    """The id of the message in a file. OSError if it cannot be read."""
    stopping.check()  # a mailbox may hold a million of them
    fd = open_inside(path, inside)
    try:
        id = identify(read_head(fd))
        return identify.whole(LocalBody(fd, _size(os.fstat(fd))).chunks(wire=False)) if id is None else id
    finally:
        os.close(fd)


def head_of(path: str, uid: Uid, inside: Sequence[str]) -> Head:
    fd, found = open_message(path, inside)
    try:
        return Head(uid, read_head(fd), found.st_mtime_ns // 10**9)
    finally:
        os.close(fd)


def measured(answers: Iterable[Message | Failure]) -> Iterator[Measured | Failure]:
    """What was fetched, measured: read in pieces and counted, because a size in a file's name may be wrong."""
    for got in answers:
        if isinstance(got, Failure):
            yield got
            continue
        try:
            yield Measured(got.uid, got.body.size(wire=True), got.date)
        except FileError as err:
            yield failure(got.uid, err)


class LocalBody(AtOnce):
    """The bytes of an open file, read as they are asked for; a part of the file for formats that need it."""

    def __init__(self, fd: int, length: int, start: int = 0) -> None:
        self._fd, self._length, self._start = fd, length, start
        self._wire_size: int | None = None

    def size(self, *, wire: bool) -> int:
        if not wire:
            return self._length
        if self._wire_size is None:
            count = LineEnds()
            for chunk in self.chunks(wire=False):
                count.add(chunk)
            self._wire_size = count.wire_size
        return self._wire_size

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        """FileError if the file cannot be read or is shorter than it was."""
        return to_wire(self._raw()) if wire else self._raw()

    def at_once(self) -> tuple[bytes, int] | None:
        if self._length > CHUNK:
            return None
        data = b"".join(self._raw())
        return data, wire_size(data)

    def _raw(self) -> Iterator[bytes]:
        at, end = self._start, self._start + self._length
        while at < end:
            try:
                chunk = os.pread(self._fd, min(CHUNK, end - at), at)
            except OSError as err:
                raise FileError(err.errno, err.strerror) from err
            if not chunk:
                raise FileError(errno.EIO, "the file became shorter while it was read")
            at += len(chunk)
            yield chunk


def to_wire(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """LF becomes CRLF where it is not CRLF already; a CR that stands alone stays."""
    carry = b""
    for chunk in chunks:
        data = carry + chunk
        cut = len(data) - data.endswith(b"\r")  # the LF of a CR at the end may be in the next chunk
        carry = data[cut:]
        whole = data[:cut]
        if b"\r" in whole:
            bare = whole.count(b"\n") != whole.count(b"\r\n")
            yield whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if bare else whole
        else:
            yield whole.replace(b"\n", b"\r\n")
    if carry:
        yield carry


def wire_size(text: bytes) -> int:
    """What a message, or a part that neither begins nor ends within a line end, takes on the wire."""
    if b"\r" in text:
        return len(text) + text.count(b"\n") - text.count(b"\r\n")
    return len(text.replace(b"\n", b"\r\n"))  # hops from line to line; count looks at each byte


@dataclass(slots=True)
class LineEnds:
    """Counts what a message takes in a file and on the wire."""

    size: int = 0
    wire_size: int = 0
    _after_cr: bool = False

    def add(self, chunk: bytes) -> None:
        self.size += len(chunk)
        self.wire_size += wire_size(chunk) - (self._after_cr and chunk.startswith(b"\n"))
        self._after_cr = chunk.endswith(b"\r") if chunk else self._after_cr


def steadily(path: str, look: Callable[[], T]) -> T:
    """What `look` finds in a directory that does not change meanwhile; OSError if it never stays the same.

    A file that is renamed while its directory is read may be given under neither name: it would look deleted.
    """
    for pause in PAUSES:
        time.sleep(pause)
        before = state(path)
        sure = lasting(before)
        found = look()
        # A change in the same tick of the clock as the last one does not show: then two looks must agree.
        if (sure or found == look()) and before == state(path):
            return found
    raise FileError(errno.EAGAIN, "another program changes it all the time", path)


def inode(path: str) -> str | None:
    """Device and inode; None if it is not there."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return f"{found.st_dev}:{found.st_ino}"


def token(states: Iterable[State | None]) -> Token | None:
    """What differs whenever one of these was changed or replaced since; None while a change might not show."""
    found = list(states)
    if not all(map(lasting, found)):
        return None
    return Token(" ".join("-" if each is None else ".".join(map(str, each)) for each in found))


# ---- writing ---------------------------------------------------------------------------------------------------------


def write_all(fd: int, data: bytes) -> None:
    """FileError if not all of it could be written."""
    try:
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, memoryview(data)[written:])
    except OSError as err:
        raise FileError(err.errno, err.strerror) from err


def unwritable(directory: str) -> str:
    """Why nothing can be made in it; empty if something can."""
    if os.access(directory, os.W_OK | os.X_OK):
        return ""
    read_only = os.statvfs(directory).f_flag & os.ST_RDONLY
    return os.strerror(errno.EROFS if read_only else errno.EACCES)


def sync_directory(path: str) -> None:
    """Make what was created, renamed or removed in a directory durable."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as err:
        if err.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no such thing
            err.filename = path
            raise
    finally:
        os.close(fd)


def make_directories(path: str, *, fsync: bool) -> None:
    """Make a directory, 0700, with those above it. No error where it is there already."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    make_directories(parent, fsync=fsync)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):  # else another program was faster
            raise
    if fsync:
        sync_directory(parent)


def remove(path: str) -> None:
    with suppress(OSError):
        os.unlink(path)
