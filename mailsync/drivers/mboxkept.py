"""Where the messages of an mbox lie, for the next time this process opens it: it is listed, then changed.

Knows only whether a file still is the one that was read.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Self

from ..unchanged import is_past
from .mboxscan import Contents
from .mboxtext import Source

MOST = 30_000  # files and messages together, about 300 bytes each

_kept: dict[str, tuple[State, Contents]] = {}


@dataclass(frozen=True, slots=True)
class State:
    """A file at one moment. ctime, because tools that copy files put mtime back."""

    device: int
    inode: int
    size: int
    mtime: int  # nanoseconds
    ctime: int

    @classmethod
    def of(cls, fd: int) -> Self:
        found = os.fstat(fd)
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)

    def lasting(self) -> bool:
        """Whether any change from now on would make it another one: the clock has moved on since the last."""
        return is_past(self.ctime)


def keep(path: str, state: State, contents: Contents) -> None:
    """To be called under the lock under which it was read. The file's data is let go.

    What is kept stays until it is asked for: a run lists all boxes, then changes them in the same order.
    """
    _kept.pop(path, None)
    if len(contents) + sum(1 + len(each) for _, each in list(_kept.values())) < MOST:
        contents.data = b""
        _kept[path] = state, contents


def kept(path: str, state: State, data: Source) -> Contents | None:
    """What was kept of this file, if it is the same, with its data; nobody else has it then."""
    before, contents = _kept.pop(path, (None, None))
    if contents is None or before != state:
        return None
    contents.data = data
    return contents
