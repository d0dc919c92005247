"""Lock files: PATH.lock, as most mail programs have them. Ours tell process and host, as Dovecot's do.

What is left of a process of this host that is dead is taken away at once, as is what an unknown one left before the
last start of this host. What another host left stays, unless who wants the lock has a limit for its age; who only reads
passes over what is old.
"""

from __future__ import annotations

import errno
import os
import stat
import time
from _thread import allocate_lock, get_native_id
from contextlib import suppress
from fcntl import LOCK_EX, LOCK_NB, flock
from typing import NamedTuple

from .files import remove, write_all

STALE = 300.0  # seconds without a touch; liblockfile's rule

_NONE_HERE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}

_held: set[str] = set()  # by this process
_one_by_one = allocate_lock()  # who has linked one must have noted it before another thread looks at it


class Owner(NamedTuple):
    """Unknown for what tells no process: empty ones, procmail's "0"."""

    pid: int | None = None
    host: str = ""

    def __str__(self) -> str:
        if self.pid is None:
            return "an unknown process"
        return f"process {self.pid} on {self.host}" if self._elsewhere else f"process {self.pid}"

    @property
    def _elsewhere(self) -> bool:
        return bool(self.host) and self.host != _host()

    def is_dead(self, dotlock: str, age: float) -> bool:
        """Surely: a number without a host may be another host's, and is believed only after a while."""
        if self._elsewhere or (self.pid is not None and not self.host and age <= STALE):
            return False
        if age > uptime():  # what it holds may have been lost with the power
            return True
        if self.pid is None:
            return False
        if self.pid == os.getpid():  # in a container every run may have the same number
            return dotlock not in _held
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            pass
        return False


def take(dotlock: str, limit: float | None = None) -> tuple[str, str | None]:
    """Who is in the way (empty: nobody), and the dotlock if it is ours now; neither where there can be none.

    `limit`: seconds after which it belongs to nobody, whoever has made it. By link(2): O_EXCL is not sure on NFS.
    """
    # The same name for each process that has this number: what killed ones leave does not grow.
    temporary = os.path.join(os.path.dirname(dotlock), f".mailsync-{_host()}-{get_native_id()}.lock")
    try:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        now = _written(temporary)
        try:
            for _ in range(2):  # again if a dead one's was in the way
                with _one_by_one:
                    if _link(temporary, dotlock):
                        _held.add(dotlock)
                        return "", dotlock
                    if busy := _holder(dotlock, now, limit):
                        return busy, None
        finally:
            remove(temporary)
    except OSError as err:
        if err.errno in _NONE_HERE:
            return "", None
        raise
    return f"the lock file {dotlock} comes and goes", None


def release(dotlock: str) -> None:
    remove(dotlock)
    _held.discard(dotlock)


def writer(dotlock: str) -> str:
    """Who writes just now, to be read by the user; empty if nobody does. A dead one's lock is left to who writes."""
    try:
        found = os.lstat(dotlock)
        owner, age = _owner_of(dotlock, found), time.time() - found.st_mtime
    except FileNotFoundError:
        return ""
    return "" if age > STALE or owner.is_dead(dotlock, age) else _told(dotlock, owner, age)


def _written(path: str) -> float:
    """Make a lock file under this name. When that was: the file server's clock may not be ours."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    try:
        write_all(fd, f"{os.getpid()}:{_host()}\n".encode("utf-8", "surrogateescape"))
        return os.fstat(fd).st_mtime
    except BaseException:
        remove(path)
        raise
    finally:
        os.close(fd)


def _link(temporary: str, dotlock: str) -> bool:
    try:
        os.link(temporary, dotlock)
    except FileExistsError:
        return False
    except OSError as err:
        if err.errno not in _NO_LINKS:
            if os.stat(temporary).st_nlink == 2:  # over NFS an answer may be lost, and the link be there
                return True
            raise
        try:
            _written(dotlock)  # a file system without hard links
        except FileExistsError:
            return False
    return True


def _holder(dotlock: str, now: float, limit: float | None) -> str:
    """Who holds it, to be read by the user; empty if it is gone, or was a dead one's and is removed."""
    try:
        found = os.lstat(dotlock)
        owner, age = _owner_of(dotlock, found), now - found.st_mtime
        if owner.is_dead(dotlock, age) or (limit is not None and age > limit):
            _remove_dead(dotlock, found)
            return ""
    except FileNotFoundError:
        return ""
    return _told(dotlock, owner, age)


def _told(dotlock: str, owner: Owner, age: float) -> str:
    return f"{dotlock} belongs to {owner} and is {max(0, int(age))} seconds old"


def _remove_dead(dotlock: str, found: os.stat_result) -> None:
    """Unless another process does so at this moment, and has made its own meanwhile."""
    fd = os.open(dotlock, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        flock(fd, LOCK_EX | LOCK_NB)
        if os.path.samestat(found, os.fstat(fd)) and os.path.samestat(found, os.lstat(dotlock)):
            os.unlink(dotlock)
    except BlockingIOError:
        pass
    finally:
        os.close(fd)


def _owner_of(dotlock: str, found: os.stat_result) -> Owner:
    if not stat.S_ISREG(found.st_mode):
        return Owner()
    try:
        with open(dotlock, "rb") as file:
            pid, _, host = file.read(300).strip().partition(b":")
    except PermissionError:
        return Owner()
    is_one = pid.isdigit() and 0 < int(pid) < 2**31
    return Owner(int(pid), host.decode("utf-8", "surrogateescape")) if is_one else Owner()


def uptime() -> float:
    """Seconds since the start of this host; where the system cannot tell, more than anything is old."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else float("inf")


def _host() -> str:
    return os.uname().nodename.replace("/", "_")
