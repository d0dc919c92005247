"""Where a user's files of each kind lie: configuration, state, cache; and how a small one is written and read.

Imports next to nothing.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from contextlib import suppress


def directory(kind: str) -> str:
    """As the XDG Base Directory Specification has it; on systems with rules of their own, as platformdirs has it.

    `kind`: "cache", "config" or "state".
    """
    if sys.platform in ("darwin", "win32"):
        import platformdirs

        match kind:
            case "cache":
                return platformdirs.user_cache_dir("mailsync")
            case "config":
                return platformdirs.user_config_dir("mailsync")
        return platformdirs.user_state_dir("mailsync")
    # Said again here, because a run that finds nothing to do would spend a tenth of its time on that import.
    home = os.environ.get(f"XDG_{kind.upper()}_HOME", "").strip()
    if not os.path.isabs(home):
        home = ""
    usual = {"cache": "~/.cache", "config": "~/.config", "state": "~/.local/state"}
    return os.path.join(home or os.path.expanduser(usual[kind]), "mailsync")


def make(path: str, *, fsync: bool = False) -> None:
    """A directory for its owner alone, whatever the umask; so is what is made above it. No error where it is there."""
    if os.path.isdir(path):
        return
    parent = os.path.dirname(os.path.abspath(path))
    make(parent, fsync=fsync)
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        if not os.path.isdir(path):  # else another program was faster
            raise
    if fsync:
        sync(parent)


def sync(path: str) -> None:
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


def put(path: str, text: str) -> None:
    """Write a file of ASCII anew, for its owner alone; whoever reads it has all of the old or of the new one."""
    beside = f"{path}.{os.getpid()}"
    make(os.path.dirname(path))
    try:
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with open(fd, "w", encoding="ascii") as file:
            file.write(text)
        os.replace(beside, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(beside)
        raise


def regular(path: str, flags: int, mode: int = 0o600) -> int:
    """As os.open. OSError if it is no regular file: a FIFO would be waited for."""
    fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, mode)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def get(path: str) -> str:
    """What `put` has written. OSError or ValueError if it was not that: nobody else may say what is done, or told."""
    with open(path, encoding="ascii", opener=regular) as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.geteuid() or found.st_mode & 0o022:
            raise PermissionError(errno.EPERM, "written by somebody else, perhaps", path)
        return file.read()
