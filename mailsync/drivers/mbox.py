"""A mailbox that is one mbox file: recognised, listed, opened, created, deleted. Knows nothing of stores or names."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar

from .. import directories
from ..errors import BoxError
from ..model import Holds, Identify, Listing, Mailbox
from ..unchanged import State, state
from .contract import Box
from .files import inode, open_quietly, token, why
from .locks import LOCK_WAIT, locked
from .mboxopen import HOLDS, MboxBox
from .mboxscan import first_postmark
from .mboxspool import is_ours, unfinished
from .mboxtext import LONGEST_LINE


class Mbox:
    """A mailbox that is one file."""

    format: ClassVar[str] = "mbox"

    def __init__(
        self, path: str, mailbox: Mailbox, *, fsync: bool = True, root: str = "", wait: float = LOCK_WAIT
    ) -> None:
        self.path, self.mailbox, self._fsync, self._wait = path, mailbox, fsync, wait

    @staticmethod
    def recognise(path: str) -> bool:
        """A regular file that is empty or begins with a postmark; neither a lock nor one of our temporary files.

        One that begins otherwise since the power was cut while a run brought its first messages counts, too. OSError
        if that cannot be seen. Not to be called for a box that is open: see locks.
        """
        if is_ours(path) or (path.endswith(".lock") and os.path.exists(path.removesuffix(".lock"))):
            return False
        if not stat.S_ISREG(os.stat(path).st_mode):
            return False
        fd = open_quietly(path, os.O_NONBLOCK)
        try:
            first_postmark(os.pread(fd, 4 * LONGEST_LINE, 0))
        except ValueError:
            return unfinished(path, fd) is not None
        finally:
            os.close(fd)
        return True

    def holds(self) -> Holds:
        return HOLDS

    def sight(self) -> dict[str, State | None]:
        return {self.path: state(self.path)}

    def listing(self, identify: Identify, known: Listing | None = None) -> Listing:
        """BoxError if it is locked, cannot be read, or is no mbox (any more)."""
        token_now = token(self.sight().values())
        with self._opened(write=False) as box:
            ids = {entry.uid: entry.id for entry in known.entries} if known else {}
            entries, identity = list(box.entries(identify, ids)), inode(self.path)
            return Listing(self.mailbox, entries, HOLDS, token_now, box.validity, identity=identity)

    @contextmanager
    def open(self, *, write: bool) -> Iterator[Box]:
        """Locked until it is closed. BoxError if it cannot be had within `wait` seconds, or is no mbox."""
        with self._opened(write=write) as box:
            yield box

    def create(self) -> None:
        try:
            directories.make(_directory(self.path), fsync=self._fsync)
            with suppress(FileExistsError):
                os.close(os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
                if self._fsync:
                    directories.sync(_directory(self.path))
            usable = stat.S_ISREG(os.stat(self.path).st_mode)
        except OSError as err:
            raise BoxError(f"{self.path} cannot be created: {why(err)}") from err
        if not usable:
            raise BoxError(f"{self.path} cannot be created: something else has that name")

    def delete(self) -> None:
        with self._opened(write=True) as box:
            if len(box):
                raise BoxError(f"{self.path} is not empty: it holds {len(box)} messages")
            try:
                os.unlink(self.path)
                if self._fsync:
                    directories.sync(_directory(self.path))
            except OSError as err:
                raise BoxError(f"{self.path} cannot be removed: {why(err)}") from err

    @contextmanager
    def _opened(self, *, write: bool) -> Iterator[MboxBox]:
        with locked(self.path, write=write, wait=self._wait) as lock:
            try:
                box = MboxBox(lock, write=write, fsync=self._fsync)
            except (OSError, ValueError) as err:
                reason = why(err) if isinstance(err, OSError) else str(err)
                raise BoxError(f"{self.path} cannot be read as mbox: {reason}") from err
            try:
                yield box
            finally:
                box.close()


def _directory(path: str) -> str:
    return os.path.dirname(os.path.abspath(path))
