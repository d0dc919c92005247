"""Give a small file new content at once, while other programs change it, too: MH's sequences, a Maildir's keywords."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial

from .. import directories, stopping
from . import dotlocks
from .files import FileError, open_small, read_rest, remove, write_all

LOCK_WAIT = 10.0  # seconds
LOCK_STALE = 120.0  # seconds; Dovecot's limit for its small files


def rewrite(path: str, edit: Callable[[bytes], bytes], *, fsync: bool, wait: float = LOCK_WAIT) -> None:
    """Make it `edit` of what it is, b"" if there is none. OSError if that cannot be.

    Locked as other programs do: by PATH.lock (Dovecot, Python), and by fcntl on the file itself (nmh). It keeps its
    mode and, if a link, its place. An edit that changes nothing writes nothing.
    """
    path = os.path.realpath(path)
    until = time.monotonic() + wait
    opened = partial(directories.regular, path, os.O_RDWR)
    with _dotlock(f"{path}.lock", until), _record_lock(path, opened, fcntl.LOCK_EX, until) as held:
        old = b"" if held is None else read_rest(held)
        new = edit(old)
        if new != old:
            _replace(path, new, None if held is None else stat.S_IMODE(os.fstat(held).st_mode), fsync)


@contextmanager
def unchanging(path: str, inside: Sequence[str] = (), wait: float = LOCK_WAIT) -> Iterator[bytes]:
    """The text of a small file, b"" if there is none, while nobody who locks it by fcntl changes what it is about.

    Writes nothing. OSError if it stays locked, or as `read_small`.
    """
    until = time.monotonic() + wait
    while True:
        with _record_lock(path, lambda: open_small(path, inside), fcntl.LOCK_SH, until) as held:
            if held is None or _has_name(held, path):  # else it was replaced while we waited
                yield b"" if held is None else read_rest(held)
                return
        _wait(path, until)


def _has_name(fd: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


def _replace(path: str, new: bytes, mode: int | None, fsync: bool) -> None:
    directory, name = os.path.split(path)
    temporary = os.path.join(directory, f".{name}.mailsync-new")
    with suppress(FileNotFoundError):  # a killed run left it
        os.unlink(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        if mode is not None:
            os.fchmod(fd, mode)
        write_all(fd, new)
        if fsync:
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        remove(temporary)
        raise
    finally:
        os.close(fd)
    if fsync:
        directories.sync(directory)


@contextmanager
def _dotlock(dotlock: str, until: float) -> Iterator[None]:
    while True:
        busy, taken = dotlocks.take(dotlock, LOCK_STALE)
        if not busy:
            break
        _wait(dotlock, until)
    try:
        yield
    finally:
        if taken is not None:
            dotlocks.release(taken)


@contextmanager
def _record_lock(path: str, opened: Callable[[], int], kind: int, until: float) -> Iterator[int | None]:
    """The file, open and locked; None if there is none."""
    try:
        fd = opened()
    except FileNotFoundError:
        yield None
        return
    try:
        while True:
            try:
                fcntl.lockf(fd, kind | fcntl.LOCK_NB)
                break
            except OSError as err:
                if err.errno not in (errno.EACCES, errno.EAGAIN):
                    break  # no such locks here; PATH.lock has to do
            _wait(path, until)
        yield fd
    finally:
        os.close(fd)


def _wait(path: str, until: float) -> None:
    if time.monotonic() > until:
        raise FileError(errno.EAGAIN, "locked by another program", path)
    stopping.sleep(0.05)
