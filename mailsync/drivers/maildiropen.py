"""An open Maildir: read, appended to, its flags changed, its messages removed or handed on. Makes no listing."""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import cache, cached_property, partial
from itertools import count
from typing import TYPE_CHECKING, TypeVar

from ..model import Appended, Failure, FlagChange, Flags, Head, Holds, Measured, Message, Uid
from . import delivery, files
from .contract import Box
from .flags import FlagsReader, add_keywords, change_letters, letter_table, split_name, without_letter
from .maildirscan import Names
from .rewriting import rewrite

if TYPE_CHECKING:
    from .maildir import Maildir

KEYWORDS = "dovecot-keywords"

_counter = count()
_WIRE_SIZE = re.compile(r",W=(\d+)(?:,|\Z)")

T = TypeVar("T")
D = TypeVar("D", Uid, Appended)


class OpenMaildir:
    """The `Box` of a Maildir. Other programs deliver, rename and remove meanwhile: each file is looked for again."""

    def __init__(self, box: Maildir) -> None:
        self._box = box
        self._table = letter_table(box.keywords())
        self._letters: dict[Flags, str] = {}  # as the table has them; few messages have others

    @property
    def holds(self) -> Holds:
        return self._box.holds()

    @property
    def validity(self) -> str | None:
        return self._box.validity()

    @cached_property
    def _names(self) -> Names:
        return Names(self._box.path, self._box.mailbox, self._box.inside)

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        flags = FlagsReader(self._table)
        for uid in uids:
            try:
                fd, found = self._names.try_on(uid, partial(files.open_message, inside=self._box.inside))
            except OSError as err:
                yield files.failure(uid, err)
                continue
            try:
                body = files.LocalBody(fd, found.st_size)
                yield Message(uid, flags.of(self._names.where[uid]), found.st_mtime_ns // 10**9, body)
            finally:
                os.close(fd)

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        for uid in uids:
            try:
                head: Head | Failure = self._names.try_on(uid, partial(files.head_of, uid=uid, inside=self._box.inside))
            except OSError as err:
                head = files.failure(uid, err)
            yield head

    def measure(self, uids: Sequence[Uid]) -> Iterator[Measured | Failure]:
        return files.measured(self.fetch(uids))

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

    # ---- to another Maildir ------------------------------------------------------------------------------------------

    def reaches(self, to: Box) -> bool:
        return isinstance(to, OpenMaildir) and self.validity not in (None, to.validity)

    def copy(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        """Hard links, as Dovecot makes them, where the file system has them.

        That is safe: nobody writes to a message that lies in a Maildir, flags are in the names, and each link has a
        unique name of its own, so that no program takes the two for one message.
        """
        return self._transfer(uids, to, keep=True)

    def move(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        return self._transfer(uids, to, keep=False)

    def _transfer(self, uids: Sequence[Uid], to: Box, *, keep: bool) -> Iterator[Appended | Failure]:
        assert isinstance(to, OpenMaildir)
        for batch in delivery.batches(uids):
            # A letter without a meaning would be lost.
            self._table, self._letters = letter_table(self._box.keywords()), {}
            holds = to.holds
            answers = [self._passed_on(uid, to, holds, keep=keep) for uid in batch]
            bulky = [uid for uid, answer in zip(batch, answers, strict=True) if answer is None]
            carried = iter(delivery.carry(bulky, self, to, keep=keep))
            whole = [next(carried) if answer is None else answer for answer in answers]
            # The new place first: a crash between the two leaves two names, never none.
            yield from self._durable(to._durable(whole)) if not keep else to._durable(whole)

    def _passed_on(self, uid: Uid, to: OpenMaildir, holds: Holds, *, keep: bool) -> Appended | Failure | None:
        """What became of it; None if its bytes must be copied."""

        def pass_on(path: str) -> Appended | Failure | None:
            found = os.lstat(path)
            if not stat.S_ISREG(found.st_mode):  # a link that leads elsewhere from another directory
                return None
            here = path.removeprefix(f"{self._box.path}/")
            flags = holds.of(FlagsReader(self._table).of(here))
            if failure := to._homeless(uid, flags, to._learn(flags)):
                return failure
            new = Uid(to._fresh() + _sizes(here, found.st_size))
            where = to._where(new, flags, is_new=here.startswith("new/"))
            try:
                (os.link if keep else os.rename)(path, to._box.at(where))
            except OSError as err:
                if err.errno in (files.NO_LINK if keep else {errno.EXDEV}):
                    return None
                raise
            to._names.where[new] = where
            if not keep:
                del self._names.where[uid]
                self._unlink_others(uid)
            return Appended(uid, new)

        return self._try(uid, pass_on)

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _fresh(self) -> str:
        # The parts of equal length sort in the order of delivery, which is the order of the mailbox.
        seconds, rest = divmod(time.time_ns(), 10**9)
        return f"{seconds}.M{rest // 1000:06}{self._process}Q{next(_counter)}.{_host()}"

    @cached_property
    def _process(self) -> str:
        return f"P{os.getpid()}"

    def _temporary(self) -> str:
        return f"{self._box.path}/tmp/{self._fresh()}"

    def _place(self, batch: Sequence[delivery.Staged]) -> Sequence[Uid | Failure]:
        different = {staged.flags for staged in batch}
        trouble = self._learn(flag for flags in different for flag in flags)
        homeless = {flags for flags in different if without_letter(flags, self._table)}
        answers = [
            (staged.flags in homeless and self._homeless(staged.source, staged.flags, trouble)) or self._deliver(staged)
            for staged in batch
        ]
        return self._durable(answers)

    def _deliver(self, staged: delivery.Staged) -> Uid | Failure:
        uid = Uid(f"{staged.path.rpartition('/')[2]},S={staged.size},W={staged.wire_size}")
        where = self._where(uid, staged.flags, is_new=True)
        try:
            os.rename(staged.path, f"{self._box.path}/{where}")
        except OSError as err:
            return files.failure(staged.source, err)
        self._names.where[uid] = where
        return uid

    def _where(self, uid: Uid, flags: Flags, *, is_new: bool) -> str:
        """Where a message comes to lie; one with flags never lies in new."""
        letters = self._letters.get(flags)
        if letters is None:
            letters = self._letters[flags] = change_letters("", flags, (), self._table)
        return f"new/{uid}" if is_new and not letters else f"cur/{uid}{self._names.separator}{letters}"

    def _change(self, change: FlagChange) -> Uid | Failure:
        def rename(path: str) -> str:
            old = split_name(os.path.basename(path))
            letters = change_letters(old.letters, change.add, change.remove, self._table)
            if set(letters) == set(old.letters):
                return self._names.where[change.uid]
            where = "cur/" + "".join((old.unique, old.separator or self._names.separator, letters, old.extra))
            os.rename(path, self._box.at(where))
            return where

        where = self._try(change.uid, rename)
        if isinstance(where, Failure):
            return where
        self._names.where[change.uid] = where
        return change.uid

    def _remove(self, uid: Uid) -> Uid | Failure:
        def unlink(path: str) -> Uid:
            os.unlink(path)
            del self._names.where[uid]
            self._unlink_others(uid)
            return uid

        return self._try(uid, unlink)

    def _unlink_others(self, uid: Uid) -> None:
        """After the file itself: who moves it at this moment has two names of it, and takes away one."""
        for link in self._names.links.get(uid, ()):
            with suppress(FileNotFoundError):
                os.unlink(self._box.at(link))

    def _try(self, uid: Uid, act: Callable[[str], T]) -> T | Failure:
        """What `act` gives for the file of a message, wherever it is now."""
        if uid in self._names.twins:
            return Failure(uid, f"{self._names.twins[uid]} has the unique name of another message")
        try:
            return self._names.try_on(uid, act)
        except OSError as err:
            return files.failure(uid, err)

    def _learn(self, flags: Iterable[str]) -> str:
        """Give new keywords a letter before any file name carries it. Why some have none, if so."""
        if not (new := without_letter(set(flags), self._table)):
            return ""
        try:
            in_use = self._names.letters()
            rewrite(self._box.at(KEYWORDS), lambda text: add_keywords(text, new, in_use), fsync=self._box.fsync)
        except OSError as err:
            return f"{KEYWORDS}: {files.why(err)}"
        finally:
            self._table, self._letters = letter_table(self._box.keywords()), {}
        return "a Maildir has room for 26 keywords without blanks"

    def _homeless(self, uid: Uid, flags: Flags, trouble: str) -> Failure | None:
        lost = without_letter(flags, self._table)
        return Failure(uid, f"keyword {lost[0]} cannot be kept: {trouble}") if lost else None

    def _durable(self, answers: list[D | Failure]) -> list[D | Failure]:
        return delivery.durable(answers, [self._box.at("cur"), self._box.at("new")] if self._box.fsync else ())


@cache
def _host() -> str:
    return socket.gethostname().replace("/", r"\057").replace(":", r"\072")


def _sizes(name: str, size: int) -> str:
    """What a name tells of sizes: on the wire, only if its other size is right."""
    told = _WIRE_SIZE.search(split_name(name).unique) if f",S={size}," in name else None
    return f",S={size},W={told[1]}" if told else f",S={size}"
