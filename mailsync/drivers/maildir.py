"""One Maildir: messages are files in new/ and cur/, their flags are letters in the file names.

Keywords are Dovecot's (`dovecot-keywords`). Knows nothing of other mailboxes: `local` finds and names them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar

from .. import directories, stopping
from ..errors import BoxError
from ..model import HIDDEN, Entry, Failure, Holds, Identify, Listing, Mailbox
from ..unchanged import State, state
from . import files
from .delivery import ABANDONED
from .flags import FlagsReader, in_delivery_order, letter_table, maildir_holds, parse_keywords
from .maildiropen import KEYWORDS, OpenMaildir
from .maildirscan import Names

# As they are made; they go the other way round. So what a killed run leaves is not taken for a Maildir that has lost
# one of them, and mail with it.
PARTS = ("cur", "new", "tmp")


class Maildir:
    format: ClassVar[str] = "maildir"

    def __init__(self, path: str, mailbox: Mailbox, *, fsync: bool = True, root: str = "") -> None:
        self.path, self.mailbox, self.fsync = path, mailbox, fsync
        self.inside = (path, root or path)  # where links may lead

    @staticmethod
    def recognise(path: str) -> bool:
        return all(os.path.isdir(os.path.join(path, part)) for part in PARTS)

    def holds(self) -> Holds:
        """What it can keep, or could if it were created. BoxError if its keywords cannot be read."""
        return maildir_holds(self.keywords())

    def validity(self) -> str | None:
        """Device and inode: a Maildir made anew under this name is another one."""
        return files.inode(self.path)

    def sight(self) -> dict[str, State | None]:
        return {path: state(path) for path in (self.at("cur"), self.at("new"), self.at(KEYWORDS))}

    def listing(self, identify: Identify, known: Listing | None = None) -> Listing:
        """All messages in the order of their delivery. The heads of those that are `known` are not read.

        BoxError if a directory cannot be read: a part of a listing would look like deletions.
        """
        token = files.token(self.sight().values())
        self._refuse_links()
        names = Names(self.path, self.mailbox, self.inside, stopping.sleep)
        # Read after the names: a keyword is written down before the first name that carries its letter.
        keywords = self.keywords()
        flags = FlagsReader(letter_table(keywords))
        validity = self.validity()
        ids = {entry.uid: entry.id for entry in known.entries} if known and known.validity == validity else {}
        entries: list[Entry] = []
        unreadable = [
            Failure(uid, f"{other} has the unique name of another message", "Rename one of the two by hand.")
            for uid, other in names.twins.items()
        ]
        for uid in in_delivery_order(names.where):
            try:
                id = ids[uid] if uid in ids else names.identity(uid, identify)
            except FileNotFoundError:
                continue  # removed just now
            except OSError as err:
                unreadable.append(files.failure(uid, err))
                continue
            where = names.where.get(uid)  # None: the last look at the names did not find it any more
            if id != HIDDEN and where:
                entries.append(Entry(uid, id, flags.of(where)))
        return Listing(
            self.mailbox, entries, maildir_holds(keywords), token, validity, tuple(unreadable), identity=validity
        )

    @contextmanager
    def open(self, *, write: bool) -> Iterator[OpenMaildir]:
        if not self.recognise(self.path):
            raise BoxError(f"{self.mailbox}: no Maildir at {self.path}")
        self._refuse_links()
        if write:
            for part in PARTS:
                if why_not := files.unwritable(self.at(part)):
                    raise BoxError(f"{self.mailbox}: {self.at(part)} cannot be written to: {why_not}")
        yield OpenMaildir(self)

    def create(self) -> None:
        """BoxError if it cannot be made. No error where it is there already."""
        try:
            for part in PARTS:
                directories.make(self.at(part), fsync=self.fsync)
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot be created: {files.why(err)}") from err

    def delete(self) -> None:
        """Take away cur, new, tmp and the files Dovecot keeps beside them; what else is there keeps the directory.

        BoxError, and nothing gone, if there is a message or any other thing in them, or a delivery is under way.
        """
        try:
            self._refuse_unless_empty()
            removed: list[str] = []
            try:
                for part in reversed(PARTS):
                    os.rmdir(self.at(part))
                    removed.append(part)
                    if self.fsync:
                        directories.sync(self.path)
            except OSError:
                for part in removed:
                    os.mkdir(self.at(part), 0o700)
                raise
            with files.scan(self.path) as found:
                ours = [
                    entry.name for entry in found if entry.is_file(follow_symlinks=False) and _bookkeeping(entry.name)
                ]
            for name in ours:
                os.unlink(self.at(name))
            with suppress(OSError):  # other mailboxes lie in it
                os.rmdir(self.path)
            if self.fsync:
                directories.sync(os.path.dirname(os.path.abspath(self.path)))
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot be deleted: {files.why(err)}") from err

    def at(self, *parts: str) -> str:
        return os.path.join(self.path, *parts)

    def keywords(self) -> dict[int, str]:
        """BoxError if they cannot be read: all messages would seem to have lost theirs."""
        try:
            return parse_keywords(files.read_small(self.at(KEYWORDS), self.inside))
        except FileNotFoundError:
            return {}
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot read {self.at(KEYWORDS)}: {files.why(err)}") from err

    def _refuse_links(self) -> None:
        """Its parts are its own: of another directory, each file would be a message that may be removed."""
        for part in PARTS:
            if os.path.islink(self.at(part)):
                raise BoxError(
                    f"{self.mailbox}: {self.at(part)} is a link", "A mailbox may be a link, but none of its parts."
                )

    def _refuse_unless_empty(self) -> None:
        for part in ("new", "cur"):
            with files.scan(self.at(part)) as found:
                if next(found, None) is not None:
                    raise BoxError(f"{self.mailbox} is not empty: {self.at(part)}")
        with files.scan(self.at("tmp")) as found:
            old = [(entry.name, entry.stat(follow_symlinks=False)) for entry in found]
        for name, stat in old:
            if stat.st_ctime > time.time() - ABANDONED:  # mtime is the date of the message
                raise BoxError(f"{self.mailbox}: a message is being delivered: {self.at('tmp', name)}")
        for name, _ in old:
            os.unlink(self.at("tmp", name))


def _bookkeeping(name: str) -> bool:
    return name in (KEYWORDS, "dovecot-uidlist", "maildirfolder") or name.startswith("dovecot.index")
