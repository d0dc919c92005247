"""The formats of local mailboxes: imported when they are needed, recognised by looking. Knows no names."""

from __future__ import annotations

import os
import stat
from contextlib import AbstractContextManager
from functools import cache
from typing import ClassVar, Protocol

from ..model import Holds, Identify, Listing, Mailbox
from ..unchanged import State
from .contract import Box

FORMATS = ("maildir", "mbox", "mh")


class Local(Protocol):
    """One mailbox of one format. Made without looking: the file or directory need not be there."""

    format: ClassVar[str]

    def __init__(self, path: str, mailbox: Mailbox, *, fsync: bool = True, root: str = "") -> None:
        """`root`: of its store, out of which nothing in the mailbox may lead."""

    @staticmethod
    def recognise(path: str) -> bool: ...
    def holds(self) -> Holds: ...
    def sight(self) -> dict[str, State | None]:
        """The files and directories that a listing depends on, as they are now. OSError if that cannot be seen."""

    def listing(self, identify: Identify, known: Listing | None = None) -> Listing: ...
    def open(self, *, write: bool) -> AbstractContextManager[Box]: ...
    def create(self) -> None: ...
    def delete(self) -> None: ...


@cache
def by_name(name: str) -> type[Local]:
    match name:
        case "maildir" | "maildir++":
            from .maildir import Maildir

            return Maildir
        case "mbox":
            from .mbox import Mbox

            return Mbox
        case "mh":
            from .mh import Mh

            return Mh
    raise ValueError(name)


def recognise(path: str, only: str | None = None) -> type[Local] | None:
    """What lies there, if it is mail. Nothing but files and directories is ever opened: a FIFO would hang. OSError."""
    mode = os.stat(path).st_mode
    fitting = ("maildir", "mh") if stat.S_ISDIR(mode) else ("mbox",) if stat.S_ISREG(mode) else ()
    return next((by_name(name) for name in fitting if only in (None, name) and by_name(name).recognise(path)), None)
