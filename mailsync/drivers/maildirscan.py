"""Where the messages of a Maildir lie, while other programs rename them. Knows names, and nothing of flags."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

from ..errors import BoxError
from ..model import Identify, Mailbox, MessageId, Uid
from . import files
from .flags import split_name, split_unique

TRIES = 4  # times a message is looked for again while other programs rename it

T = TypeVar("T")


class Names:
    """Where each message lies now, as other programs go on renaming: uid -> "cur/NAME" or "new/NAME"."""

    where: dict[Uid, str]
    links: dict[Uid, list[str]]  # other names of the same file: a program moves it, or died while it did
    twins: dict[Uid, str]  # another message with the same unique name: no uid can tell the two apart
    separator: str  # what this box writes before the letters

    def __init__(self, path: str, mailbox: Mailbox, inside: Sequence[str], sleep: files.Sleep = time.sleep) -> None:
        self._path, self._mailbox, self._inside, self._sleep = path, mailbox, inside, sleep
        self.refresh()

    def refresh(self) -> None:
        """BoxError if a directory cannot be read, or if cur never stays the same while it is read."""
        try:
            files.steadily(os.path.join(self._path, "cur"), self._scan, self._sleep)
        except OSError as err:
            raise BoxError(f"{self._mailbox}: cannot be listed: {files.why(err)}") from err

    def identity(self, uid: Uid, identify: Identify) -> MessageId:
        """`try_on`, in haste while a message lies where it lay: nearly all of 50,000 do."""
        if where := self.where.get(uid):
            try:
                return files.identity_of(f"{self._path}/{where}", identify, self._inside)
            except FileNotFoundError:
                pass
        return self.try_on(uid, partial(files.identity_of, identify=identify, inside=self._inside))

    def try_on(self, uid: Uid, act: Callable[[str], T]) -> T:
        """What `act` gives for the path of a message, looked for again if it was renamed. FileNotFoundError: gone."""
        for _ in range(TRIES):
            if uid not in self.where:
                break
            try:
                return act(f"{self._path}/{self.where[uid]}")
            except FileNotFoundError:
                self.refresh()
        raise FileNotFoundError(errno.ENOENT, "no longer there", uid)

    def letters(self) -> set[str]:
        """All that are in use, with or without a meaning."""
        return {c for where in self.where.values() for c in split_name(where).letters}

    def _scan(self) -> dict[Uid, str]:
        self.where, self.links, self.twins = {}, {}, {}
        where = self.where
        separators = set()
        for part in ("new", "cur"):  # in this order a message on its way to cur is met at least once
            directory = os.path.join(self._path, part)
            with files.scan(directory) as found:
                for entry in found:
                    name = entry.name
                    if name[0] == "." or not files.is_message(entry, directory, self._path):
                        continue
                    unique, separator = split_unique(name)
                    uid = Uid(unique)
                    separators.add(separator)
                    if uid in where:
                        self._met_again(uid, f"{part}/{name}")
                    else:
                        where[uid] = f"{part}/{name}"
        self.separator = next((s for s in (":2,", ";2,", "!2,") if s in separators), ":2,")
        return where

    def _met_again(self, uid: Uid, where: str) -> None:
        """Two names with one unique part: most often one file, moved while the directories were read."""
        first, second = (self._inode(name) for name in (self.where[uid], where))
        if second is None:
            return
        if first == second:
            self.links.setdefault(uid, []).append(self.where[uid])
        elif first is not None:
            self.twins[uid] = self.where[uid]
        self.where[uid] = where

    def _inode(self, where: str) -> int | None:
        try:
            return os.lstat(os.path.join(self._path, where)).st_ino
        except FileNotFoundError:
            return None
