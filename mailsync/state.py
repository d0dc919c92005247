"""Where mailsync keeps its own files, and the lock that keeps two runs of one channel apart."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path

from .directories import directory
from .errors import Locked, MailsyncError


def cache_file(store: str) -> Path:
    """The cache of a store, of which this tells where it is."""
    return Path(directory("cache")) / f"{_name('store', store)}.sqlite"


def record_file(channel: str, msinfo: str) -> Path:
    """The record of a channel. `msinfo`: its mailbox, as an absolute name."""
    return Path(directory("cache")) / f"{_name(channel, msinfo)}.sqlite"


def ledger_file(channel: str, msinfo: str) -> Path:
    """Where the messages of a channel that fail again and again are listed. `msinfo`: as above."""
    return Path(directory("state")) / f"{_name(channel, msinfo)}.ledger.json"


def kept_directory(channel: str, msinfo: str) -> Path:
    """Where what its runs have deleted is kept for a while."""
    return Path(directory("state")) / "deleted" / _name(channel, msinfo)


@contextmanager
def run_lock(channel: str, msinfo: str) -> Iterator[None]:
    """Hold the channel; Locked if another run has it. The lock ends with the process, however that ends."""
    path = Path(directory("state")) / f"{_name(channel, msinfo)}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
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
        os.ftruncate(fd, 0)
        os.pwrite(fd, b"%d\n" % os.getpid(), 0)
        yield
    finally:
        os.close(fd)


def _name(channel: str, msinfo: str) -> str:
    return blake2b(f"{channel}\0{msinfo}".encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
