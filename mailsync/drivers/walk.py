"""Walk the directories below a root for what may be mailboxes, as deep as patterns reach. Opens no file."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from ..model import BoxInfo, Failure, Mailbox
from ..names import MAILDIR_PARTS, Patterns, is_inbox
from .files import scan, why
from .places import is_taken

_OURS = re.compile(r"\.lock$|^\..*\.mailsync-[a-z]+$|\.[0-9]+\.tmp$")


class Entry(NamedTuple):
    name: str
    path: str
    is_dir: bool
    is_file: bool  # neither: a link that leads nowhere, or to what is neither

    @property
    def hidden(self) -> bool:
        return self.name.startswith(".")


@dataclass(frozen=True, slots=True)
class Walk:
    """The names below one root, as deep as a pattern reaches."""

    wanted: Patterns
    format: str | None  # what else lies there is no mail of this walk
    known_as_inbox: str | None  # path of what is listed as INBOX
    info: Callable[[Mailbox, str, str | None], BoxInfo]

    def below(
        self, above: str, entries: Iterable[Entry], around: frozenset[tuple[int, int]], *, in_mailbox: bool
    ) -> Iterator[BoxInfo]:
        """The names in one directory. In one that is a mailbox itself, files are its own and never mailboxes."""
        for entry in entries:
            # A number that is no directory is a message of MH, wherever it leads.
            its_own = entry.is_file or entry.name in MAILDIR_PARTS or (entry.name.isdigit() and not entry.is_dir)
            if in_mailbox and its_own:
                continue
            if not above and is_taken(entry.name):
                yield unseen(Mailbox(entry.name), "this name means another place: as a mailbox it cannot be reached")
            elif entry.is_dir:
                yield from self._directory(Mailbox(above + entry.name), entry, around)
            elif self._listed(Mailbox(above + entry.name), entry) and not is_ours(entry.name):
                info = self.info(Mailbox(above + entry.name), entry.path, self.format)
                # An empty .keep or .nobackup is a mark, and .#x a lock of Emacs: no mail.
                if not entry.hidden or (info.selectable and _holds_bytes(entry.path)):
                    yield info

    def _directory(self, mailbox: Mailbox, entry: Entry, around: frozenset[tuple[int, int]]) -> Iterator[BoxInfo]:
        matches, level = self._listed(mailbox, entry), Mailbox(f"{mailbox}/")
        reaches, wanted_level = self.wanted.reaches(level), self.wanted.matches(level)
        if not (matches or reaches or wanted_level):
            return
        info = self.info(mailbox, entry.path, self.format)
        if entry.hidden and not info.selectable and not info.failure:
            return
        if matches or info.failure:
            yield info
        elif wanted_level:
            yield BoxInfo(level, selectable=False)
        if not reaches or info.failure:
            return
        try:
            here = inode_of(os.stat(entry.path))
            if here not in around:
                yield from self.below(level, entries_of(entry.path), around | {here}, in_mailbox=info.selectable)
        except OSError as err:
            yield unseen(mailbox, why(err))

    def _listed(self, mailbox: Mailbox, entry: Entry) -> bool:
        return self.wanted.matches(mailbox) and not is_inbox(mailbox) and entry.path != self.known_as_inbox


def is_ours(name: str) -> bool:
    """Lock and temporary files, of this program and of others: never mail."""
    return _OURS.search(name) is not None


def entries_of(path: str) -> list[Entry]:
    """What lies in a directory, but for what is neither file nor directory: that is never touched."""
    entries = []
    with scan(path) as found:
        for each in found:
            try:
                is_dir, is_file = each.is_dir(), each.is_file()
            except OSError:  # a link that leads in circles, or where we may not look
                is_dir = is_file = False
            if is_dir or is_file or each.is_symlink():
                entries.append(Entry(each.name, os.path.join(path, each.name), is_dir, is_file))
    return entries


def inode_of(found: os.stat_result) -> tuple[int, int]:
    return found.st_dev, found.st_ino


def _holds_bytes(path: str) -> bool:
    try:
        return os.path.getsize(path) > 0
    except OSError:
        return False


def unseen(mailbox: Mailbox, why: str, hint: str = "") -> BoxInfo:
    return BoxInfo(mailbox, selectable=False, failure=Failure(mailbox, why, hint))
