"""One Maildir: messages are files in new/ and cur/, their flags are letters in the file names.

Keywords are Dovecot's (`dovecot-keywords`). Knows nothing of other mailboxes: `local` finds and names them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache, cached_property, partial
from itertools import count
from typing import ClassVar

from ..errors import BoxError
from ..model import (
    HIDDEN,
    Appended,
    Entry,
    Failure,
    FlagChange,
    Flags,
    Head,
    Holds,
    Identify,
    Known,
    Listing,
    Mailbox,
    Message,
    Token,
    Uid,
)
from . import delivery, files
from .flags import (
    FlagsReader,
    add_keywords,
    change_letters,
    in_delivery_order,
    letter_table,
    maildir_holds,
    parse_keywords,
    split_name,
    without_letter,
)
from .maildirscan import Names

KEYWORDS = "dovecot-keywords"
ABANDONED = 36 * 3600  # seconds; a file in tmp/ that is older belongs to nobody (maildir(5))

_counter = count()


class Maildir:
    format: ClassVar[str] = "maildir"

    def __init__(self, path: str, mailbox: Mailbox, *, fsync: bool = True) -> None:
        self.path, self.mailbox, self.fsync = path, mailbox, fsync

    @staticmethod
    def recognise(path: str) -> bool:
        return all(os.path.isdir(os.path.join(path, part)) for part in ("cur", "new", "tmp"))

    def holds(self) -> Holds:
        """What it can keep, or could if it were created. BoxError if its keywords cannot be read."""
        return maildir_holds(self.keywords())

    def validity(self) -> str | None:
        """Device and inode: a Maildir made anew under this name is another one."""
        return files.inode(self.path)

    def token(self) -> Token | None:
        if not self.recognise(self.path):
            return None
        stamp = files.stamp(*(self.at(part) for part in ("cur", "new", KEYWORDS)))
        return None if stamp is None else Token(stamp)

    def listing(self, identify: Identify, known: Known | None = None) -> Listing:
        """All messages in the order of their delivery. The heads of those that are `known` are not read.

        BoxError if a directory cannot be read: a part of a listing would look like deletions.
        """
        token = self.token()
        names = Names(self.path, self.mailbox)
        # Read after the names: a keyword is written down before the first name that carries its letter.
        keywords = self.keywords()
        flags = FlagsReader(letter_table(keywords))
        entries: list[Entry] = []
        unreadable = [
            Failure(uid, f"{other} has the unique name of another message", "Rename one of the two by hand.")
            for uid, other in names.twins.items()
        ]
        for uid in in_delivery_order(names.where):
            try:
                before = known.get(uid) if known else None
                id = before.id if before else names.identity(uid, identify)
            except FileNotFoundError:
                continue  # removed just now
            except OSError as err:
                unreadable.append(files.failure(uid, err))
                continue
            where = names.where.get(uid)  # None: the last look at the names did not find it any more
            if id != HIDDEN and where:
                entries.append(Entry(uid, id, flags.of(where)))
        return Listing(
            self.mailbox, entries, maildir_holds(keywords), token, self.validity(), unreadable=tuple(unreadable)
        )

    @contextmanager
    def open(self, *, write: bool) -> Iterator[OpenMaildir]:
        if not self.recognise(self.path):
            raise BoxError(f"{self.mailbox}: no Maildir at {self.path}")
        if write:
            for part in ("cur", "new", "tmp"):
                if not os.access(self.at(part), os.W_OK | os.X_OK):
                    raise BoxError(f"{self.mailbox}: {self.at(part)} cannot be written to")
        yield OpenMaildir(self)

    def create(self) -> None:
        """BoxError if it cannot be made. No error where it is there already."""
        try:
            for part in ("tmp", "new", "cur"):  # cur last: till then it is no Maildir
                files.make_directories(self.at(part), fsync=self.fsync)
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
                for part in ("new", "cur", "tmp"):  # new first: it fails if a message has just come
                    os.rmdir(self.at(part))
                    removed.append(part)
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
                files.sync_directory(os.path.dirname(os.path.abspath(self.path)))
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot be deleted: {files.why(err)}") from err

    def at(self, *parts: str) -> str:
        return os.path.join(self.path, *parts)

    def keywords(self) -> dict[int, str]:
        """BoxError if they cannot be read: all messages would seem to have lost theirs."""
        try:
            with open(self.at(KEYWORDS), "rb") as file:
                return parse_keywords(file.read())
        except FileNotFoundError:
            return {}
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot read {self.at(KEYWORDS)}: {files.why(err)}") from err

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


class OpenMaildir:
    """The `Box` of a Maildir. Other programs deliver, rename and remove meanwhile: each file is looked for again."""

    def __init__(self, box: Maildir) -> None:
        self._box = box
        self._table = letter_table(box.keywords())

    @property
    def holds(self) -> Holds:
        return self._box.holds()

    @property
    def validity(self) -> str | None:
        return self._box.validity()

    @cached_property
    def _names(self) -> Names:
        return Names(self._box.path, self._box.mailbox)

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        flags = FlagsReader(self._table)
        for uid in uids:
            try:
                fd, stat = self._names.try_on(uid, files.open_message)
            except OSError as err:
                yield files.failure(uid, err)
                continue
            try:
                body = files.LocalBody(fd, stat.st_size)
                yield Message(uid, flags.of(self._names.where[uid]), stat.st_mtime_ns // 10**9, body)
            finally:
                os.close(fd)

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        for uid in uids:
            try:
                head: Head | Failure = self._names.try_on(uid, partial(files.head_of, uid=uid))
            except OSError as err:
                head = files.failure(uid, err)
            yield head

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        return delivery.deliver(messages, temporary=self._temporary, place=self._place, fsync=self._box.fsync)

    def set_flags(self, changes: Sequence[FlagChange]) -> Iterator[Uid | Failure]:
        for batch in delivery.batches(changes):
            trouble = self._learn(flag for change in batch for flag in change.add)
            answers = [self._homeless(change.uid, change.add, trouble) or self._change(change) for change in batch]
            yield from self._durable(answers)

    def expunge(self, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        for batch in delivery.batches(uids):
            yield from self._durable([self._remove(uid) for uid in batch])

    def _temporary(self) -> str:
        # The parts of equal length sort in the order of delivery, which is the order of the mailbox.
        seconds, rest = divmod(time.time_ns(), 10**9)
        name = f"{seconds}.M{rest // 1000:06}P{os.getpid()}Q{next(_counter)}.{_host()}"
        return f"{self._box.path}/tmp/{name}"

    def _place(self, batch: Sequence[delivery.Staged]) -> Sequence[Uid | Failure]:
        trouble = self._learn(flag for staged in batch for flag in staged.flags)
        answers = [self._homeless(staged.source, staged.flags, trouble) or self._deliver(staged) for staged in batch]
        return self._durable(answers)

    def _deliver(self, staged: delivery.Staged) -> Uid | Failure:
        uid = Uid(f"{os.path.basename(staged.path)},S={staged.size},W={staged.wire_size}")
        letters = change_letters("", staged.flags, (), self._table)
        where = f"cur/{uid}{self._names.separator}{letters}" if letters else f"new/{uid}"
        try:
            os.rename(staged.path, self._box.at(where))
        except OSError as err:
            return files.failure(staged.source, err)
        self._names.where[uid] = where
        return uid

    def _change(self, change: FlagChange) -> Uid | Failure:
        def rename(path: str) -> str:
            old = split_name(os.path.basename(path))
            letters = change_letters(old.letters, change.add, change.remove, self._table)
            if set(letters) == set(old.letters):
                return self._names.where[change.uid]
            where = "cur/" + "".join((old.unique, old.separator or self._names.separator, letters, old.extra))
            os.rename(path, self._box.at(where))
            return where

        return self._act(change.uid, rename)

    def _remove(self, uid: Uid) -> Uid | Failure:
        def unlink(path: str) -> None:
            os.unlink(path)
            for link in self._names.links.get(uid, ()):
                with suppress(FileNotFoundError):
                    os.unlink(self._box.at(link))

        return self._act(uid, unlink)

    def _act(self, uid: Uid, act: Callable[[str], str | None]) -> Uid | Failure:
        """Rename or remove the file of a message; `act` gives where it is then."""
        if uid in self._names.twins:
            return Failure(uid, f"{self._names.twins[uid]} has the unique name of another message")
        try:
            where = self._names.try_on(uid, act)
        except OSError as err:
            return files.failure(uid, err)
        if where is None:
            del self._names.where[uid]
        else:
            self._names.where[uid] = where
        return uid

    def _learn(self, flags: Iterable[str]) -> str:
        """Give new keywords a letter before any file name carries it. Why some have none, if so."""
        if not (new := without_letter(set(flags), self._table)):
            return ""
        try:
            in_use = self._names.letters()
            files.rewrite(self._box.at(KEYWORDS), lambda text: add_keywords(text, new, in_use), fsync=self._box.fsync)
        except OSError as err:
            return f"{KEYWORDS}: {files.why(err)}"
        finally:
            self._table = letter_table(self._box.keywords())
        return "a Maildir has room for 26 keywords without blanks"

    def _homeless(self, uid: Uid, flags: Flags, trouble: str) -> Failure | None:
        lost = without_letter(flags, self._table)
        return Failure(uid, f"keyword {lost[0]} cannot be kept: {trouble}") if lost else None

    def _durable(self, answers: list[Uid | Failure]) -> list[Uid | Failure]:
        return delivery.durable(answers, [self._box.at("cur"), self._box.at("new")] if self._box.fsync else ())


@cache
def _host() -> str:
    return socket.gethostname().replace("/", r"\057").replace(":", r"\072")


def _bookkeeping(name: str) -> bool:
    return name in (KEYWORDS, "dovecot-uidlist", "maildirfolder") or name.startswith("dovecot.index")
