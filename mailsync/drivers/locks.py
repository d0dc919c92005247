"""Keep other mail programs out of an mbox file: a record lock (fcntl), then flock, then a dotlock.

Knows nothing of what is in it. The order is the one of Debian Policy 11.6; flock is what programs of BSD use. Who only
reads makes no dotlock, but waits while there is one. A record lock is held by the open file where the system can do
that (Linux); elsewhere by the process, and then it is lost as soon as the process closes *any* descriptor of that file.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import struct
import sys
import time
from _thread import get_ident
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .. import stopping
from ..errors import BoxError
from . import dotlocks
from .files import open_quietly, why

LOCK_WAIT = 30.0  # seconds
REFRESH = 60.0  # seconds

_NO_RECORD_LOCKS = {errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS}  # some network file systems
_REMOTE = ("nfs", "cifs", "smb", "fuse", "9p", "afs", "ceph", "lustre", "gfs", "ocfs")  # kinds of file systems
_BY_FILE = sys.platform == "linux" and struct.calcsize("P") == 8  # the layout below is the one of 64 bits

_writing: dict[str, int] = {}  # the files that this process has locked for writing, and in which thread


class Lock:
    """A locked file, by its only descriptor: whoever opens the file a second time may drop the lock by closing it.

    `dotlocked` is False for a shared lock, and where the directory cannot be written to (/var/mail): then only the
    record lock keeps others out.
    """

    def __init__(self, fd: int, path: str, dotlock: str | None, *, write: bool) -> None:
        self.fd, self.path, self._dotlock, self._write = fd, path, dotlock, write
        self._touched = time.monotonic()

    @property
    def dotlocked(self) -> bool:
        return self._dotlock is not None

    @property
    def survives_close(self) -> bool:
        """Whether other descriptors of the file may be closed."""
        return _BY_FILE

    def refresh(self) -> None:
        """To be called in long work: an old dotlock may be taken for a dead one's. BoxError if that has happened."""
        if self._dotlock is None or time.monotonic() - self._touched < REFRESH:
            return
        try:
            os.utime(self._dotlock)
        except OSError as err:
            raise BoxError(f"the lock file {self._dotlock} was taken away: {why(err)}") from err
        self._touched = time.monotonic()

    def replace(self, fd: int, temporary: str) -> None:
        """Another file, open as `fd`, takes the place of the locked one. At no moment can others have either."""
        _record_lock(fd, write=self._write)
        _flock(fd, write=self._write)
        os.replace(temporary, self.path)
        os.close(self.fd)
        self.fd = fd

    def release(self) -> None:
        if self._write:
            _writing.pop(self.path, None)
        if self._dotlock is not None:
            dotlocks.release(self._dotlock)
        with suppress(OSError):
            _unlock(self.fd)  # another descriptor of it may outlive this one, and keep the locks with it
        os.close(self.fd)


@contextmanager
def locked(path: str, *, write: bool, wait: float = LOCK_WAIT) -> Iterator[Lock]:
    """Hold a regular file, links followed: shared for reading, or alone for writing.

    A thread that holds it for writing may read it beside that.
    BoxError when it cannot be opened or stays locked longer than `wait` seconds.
    """
    lock = _acquire(os.path.realpath(path), write, wait)
    try:
        yield lock
    finally:
        lock.release()


def _acquire(path: str, write: bool, wait: float) -> Lock:
    if not write and _writing.get(path) == get_ident():
        return Lock(_open(path, write), path, None, write=False)
    until = time.monotonic() + wait
    pause = 0.02
    while True:
        fd = _open(path, write)
        try:
            busy, dotlock = _try(fd, path, write)
            if not busy:
                if write:
                    _writing[path] = get_ident()
                return Lock(fd, path, dotlock, write=write)
        except OSError as err:
            os.close(fd)
            raise BoxError(f"{path} cannot be locked: {why(err)}") from err
        # Who holds the dotlock may wait for the record lock: let go of it, or both wait for ever.
        os.close(fd)
        if time.monotonic() >= until:
            raise BoxError(f"{path} is locked: {busy}", hint=_hint(path))
        stopping.sleep(min(pause, max(0.0, until - time.monotonic())))
        pause = min(2 * pause, 0.2)


def _try(fd: int, path: str, write: bool) -> tuple[str, str | None]:
    """Who is in the way (empty: nobody), and the dotlock that we hold now."""
    if not (_record_lock(fd, write=write) and _flock(fd, write=write)):
        return "another program is using it", None
    if not _same(fd, path):
        return "it is replaced again and again", None
    return dotlocks.take(f"{path}.lock") if write else (dotlocks.writer(f"{path}.lock"), None)


def _open(path: str, write: bool) -> int:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):  # before opening: a FIFO would hang, a device may act
            raise BoxError(f"{path} is not a regular file")
        if not write:
            return open_quietly(path, os.O_NONBLOCK)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
        try:
            return os.open(path, flags | getattr(os, "O_NOATIME", 0))
        except PermissionError:
            return os.open(path, flags)
    except OSError as err:
        raise BoxError(f"{path} cannot be opened: {why(err)}") from err


def _same(fd: int, path: str) -> bool:
    """False if another file has taken that name while we waited."""
    try:
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False


# ---- record locks ----------------------------------------------------------------------------------------------------


def _record_lock(fd: int, *, write: bool) -> bool:
    """False if another has it. True, too, where the file system knows no such locks."""
    try:
        if _BY_FILE:
            _by_file(fd, fcntl.F_WRLCK if write else fcntl.F_RDLCK)
        else:
            fcntl.lockf(fd, (fcntl.LOCK_EX if write else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as err:
        if err.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if err.errno not in _NO_RECORD_LOCKS:
            raise
    return True


def _unlock(fd: int) -> None:
    if _BY_FILE:
        _by_file(fd, fcntl.F_UNLCK)
        fcntl.flock(fd, fcntl.LOCK_UN)
    else:
        fcntl.lockf(fd, fcntl.LOCK_UN)


def _by_file(fd: int, kind: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, 0, 0))


def _flock(fd: int, *, write: bool) -> bool:
    """False if another has it. True where that cannot be told: over a network our own record lock may be in the way."""
    if not _BY_FILE:
        return True
    try:
        fcntl.flock(fd, (fcntl.LOCK_EX if write else fcntl.LOCK_SH) | fcntl.LOCK_NB)
    except OSError as err:
        return err.errno != errno.EWOULDBLOCK or not _is_local(fd)
    return True


def _is_local(fd: int) -> bool:
    device = os.fstat(fd).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    with suppress(OSError), open("/proc/self/mountinfo") as mounts:  # proc(5)
        for mount in mounts:
            before, _, after = mount.partition(" - ")
            if before.split()[2] == number:
                return not after.startswith(_REMOTE)
    return False


def _hint(path: str) -> str:
    return f"Close other mail programs; if none is running and {path}.lock exists, remove it. Then run mailsync again."
