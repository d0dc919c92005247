"""The lock that keeps two runs of one channel apart, and what our files of a channel are called."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from .digest import blake2b
from .directories import directory, make, regular
from .errors import Locked, MailsyncError


@contextmanager
def run_lock(channel: str, msinfo: str) -> Iterator[None]:
    """Hold the channel; Locked if another run has it. The lock ends with the process, however that ends.

    `msinfo`: its mailbox, as an absolute name.
    """
    path = os.path.join(directory("state"), f"{name_of(channel, msinfo)}.lock")
    try:
        make(os.path.dirname(path))
        fd = regular(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as err:
        raise MailsyncError(
            f"cannot make the lock {path}: {err.strerror}", "Set XDG_STATE_HOME to a directory that can be written."
        ) from err
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(fd, 32).decode("ascii", "replace").strip() or "unknown"
            raise Locked(
                f"channel {channel} is being synchronized by another mailsync (process {owner})",
                "Wait for it to end.",
            ) from None
        with suppress(OSError):  # only who waits for it would want to know
            os.ftruncate(fd, 0)
            os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(fd)


def name_of(channel: str, msinfo: str) -> str:
    return blake2b(f"{channel}\0{msinfo}".encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
