"""Homes with two stores and a channel, for mailsync and for 5.2.7, and the mail that they begin with."""

from __future__ import annotations

import os
import subprocess
from functools import cached_property
from itertools import count
from pathlib import Path

from .mail import BOXES, count_maildirs, count_mboxes, mails, write_maildirs, write_mboxes
from .measure import Command, python, took

ORIGINAL = Path("/usr/bin/mailsync")
CHANNEL = "ab"


class Home:
    """A home directory with the stores `a` and `b`. `a` may lie elsewhere if no run changes it."""

    def __init__(self, path: Path, format: str, *, a: Path | None = None, fsync: bool = True) -> None:
        path.mkdir()
        self.path = path
        self.a, self.b = a or path / "a", path / "b"
        self._configure("new", f"format {format} fsync {'yes' if fsync else 'no'}", "max_delete 1000000")
        self._configure("old", "", "")

    def ours(self) -> Command:
        return python("-m", "mailsync", "-f", "new", CHANNEL, directory=self.path, environment={"HOME": str(self.path)})

    def original(self) -> Command:
        """5.2.7, which knows names relative to the home only, and must be told who the user is."""
        environment = {"HOME": str(self.path), "USER": "nobody-here"}
        return Command((str(ORIGINAL), "-f", "old", CHANNEL), self.path, environment)

    def settle(self, command: Command) -> None:
        """A run that leaves nothing to do."""
        took(command)
        self.check()

    def count(self) -> int:
        return _count(self.a)

    def check(self) -> None:
        """Speed is worth nothing if the work was not done."""
        a, b = self.count(), _count(self.b)
        if a != b:
            raise RuntimeError(f"after a run {self.a} has {a} messages and {self.b} has {b}")

    def _configure(self, name: str, store: str, channel: str) -> None:
        a = os.path.relpath(self.a, self.path) if self.a.is_relative_to(self.path) else self.a
        stores = "".join(f"store {side} {{ pat {at}/% prefix {at}/ {store} }}\n" for side, at in (("a", a), ("b", "b")))
        file = self.path / name
        file.write_text(f"{stores}channel {CHANNEL} a b {{ msinfo .msinfo {channel} }}\n")
        file.chmod(0o600)


class Place:
    """A directory for all that is measured, and the mail that the cases share.

    Nothing is removed before the end: after a large tree was deleted ext4 makes new files slowly for a while.
    """

    def __init__(self, path: Path, messages: int, sizes: str) -> None:
        self.path, self.messages, self._sizes = path, messages, sizes
        self._numbers = count()
        # Each directory in a region of the disk of its own, where the file system can.
        subprocess.run(["chattr", "+T", path], check=False, capture_output=True)

    def new(self) -> Path:
        return self.path / f"{next(self._numbers)}"

    def home(self, format: str, *, a: Path | None = None, fsync: bool = True) -> Home:
        return Home(self.new(), format, a=a, fsync=fsync)

    @cached_property
    def maildirs(self) -> Path:
        """All mail; never changed."""
        path = self.new()
        write_maildirs(path, mails(self.messages, sizes=self._sizes))
        return path

    @cached_property
    def settled_maildirs(self) -> Home:
        home = self.home("maildir")
        subprocess.run(["cp", "-al", self.maildirs, home.a], check=True)
        home.settle(home.ours())
        return home

    @cached_property
    def settled_mboxes(self) -> Home:
        home = self.home("mbox")
        for side in (home.a, home.b):
            write_mboxes(side, mails(self.messages, sizes=self._sizes))
        home.settle(home.ours())
        return home

    def one_mbox(self, messages: int) -> Home:
        """All of a store in one mbox, and an empty one beside it."""
        return self.unsettled_mboxes(messages, BOXES[:1])

    def unsettled_mboxes(self, messages: int, boxes: tuple[str, ...] = BOXES) -> Home:
        """Mail on one side. All mailboxes are there: 5.2.7 makes those that are not, but copies nothing into them."""
        home = self.home("mbox")
        write_mboxes(home.a, mails(messages, sizes=self._sizes, boxes=boxes))
        home.b.mkdir()
        for box in os.listdir(home.a):
            (home.b / box).touch()
        return home


def _count(root: Path) -> int:
    some = next(root.iterdir())
    return count_maildirs(root) if some.is_dir() else count_mboxes(root)
