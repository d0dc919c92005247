"""Homes with two stores and a channel, for mailsync and its peers, and the mail that they begin with."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from copy import copy
from dataclasses import replace
from functools import cached_property
from itertools import count
from pathlib import Path

from . import configs
from .changes import change_maildirs, change_mboxes
from .mail import BEGIN, BOXES, count_maildirs, count_mboxes, mails, write_maildirs, write_mboxes
from .measure import Command, Unmeasured, python, took
from .server import Account, Server

ORIGINAL = Path("/usr/bin/mailsync")
AGE = 2.3  # seconds: what is younger, a synchronizer may not trust to be all that comes in its second


class Home:
    """A home directory with the stores `a` and `b`. `a` may lie elsewhere if no run changes it, or on the server."""

    def __init__(self, path: Path, format: str, *, a: Path | Account | None = None, fsync: bool = True) -> None:
        path.mkdir()
        self.path = path
        self._format, self._fsync = format, fsync
        self._far = a or path / "a"
        self.a, self.b = self._far.root if isinstance(self._far, Account) else self._far, path / "b"

    def ours(self) -> Command:
        self._configure("new", configs.mailsync(self._relative, "b", self._format, fsync=self._fsync))
        words = ("-m", "mailsync", "-f", "new", configs.CHANNEL)
        return python(*words, directory=self.path, environment={"HOME": str(self.path)})

    def original(self) -> Command:
        """5.2.7, which knows names relative to the home only, and must be told who the user is."""
        if not ORIGINAL.exists():
            raise Unmeasured("5.2.7 is not installed")
        self._configure("old", configs.original(self._relative, "b"))
        environment = {"HOME": str(self.path), "USER": "nobody-here"}
        return Command((str(ORIGINAL), "-f", "old", configs.CHANNEL), self.path, environment)

    def mbsync(self) -> Command:
        program = _installed("mbsync")
        self.b.mkdir(exist_ok=True)
        file = self._configure("mbsyncrc", configs.mbsync(self._far, self.b, fsync=self._fsync))
        return self._peer(program, "-q", "-c", file, configs.CHANNEL)

    def offlineimap(self) -> Command:
        program = _installed("offlineimap")
        assert isinstance(self._far, Account)
        self.b.mkdir(exist_ok=True)
        file = self._configure("offlineimaprc", configs.offlineimap(self._far, self.b, fsync=self._fsync))
        return self._peer(program, "-c", file, "-o", "-u", "quiet")

    def directly(self) -> Home:
        """The same, without the slow line to the server."""
        home = copy(self)
        if isinstance(self._far, Account):
            home._far = replace(self._far, port=self._far.direct)
        return home

    def change(self, count: int, seed: str) -> None:
        change = change_maildirs if (self.a / BOXES[0]).is_dir() else change_mboxes
        change((self.a, self.b), count, seed)
        if isinstance(self._far, Account):
            owner = self.a.stat()
            for path in self.a.glob("*/new/*"):
                os.chown(path, owner.st_uid, owner.st_gid)

    def count(self) -> int:
        return _count(self.a)

    def check(self) -> None:
        """Speed is worth nothing if the work was not done."""
        a, b = self.count(), _count(self.b)
        if a != b or not a:
            raise RuntimeError(f"after a run {self.a} has {a} messages and {self.b} has {b}")

    @property
    def _relative(self) -> Path | Account:
        local = isinstance(self._far, Path) and self._far.is_relative_to(self.path)
        return Path(os.path.relpath(self.a, self.path)) if local else self._far

    def _configure(self, name: str, text: str) -> str:
        file = self.path / name
        if not file.exists() or file.read_text() != text:  # a run knows its file again
            file.write_text(text)
            file.chmod(0o600)
        return str(file)

    def _peer(self, *words: str) -> Command:
        return Command(words, self.path, {"HOME": str(self.path), "USER": "nobody-here"})


class Place:
    """A directory for all that is measured, and the mail that the cases share.

    Nothing is removed before the end: after a large tree was deleted ext4 makes new files slowly for a while.
    """

    def __init__(self, path: Path, messages: int, sizes: str) -> None:
        self.path, self.messages, self._sizes = path, messages, sizes
        self._numbers = count()
        self._trees: dict[tuple[int, str, int], Path] = {}
        self._accounts: dict[tuple[int, bool], Account] = {}
        # Each directory in a region of the disk of its own, where the file system can.
        subprocess.run(["chattr", "+T", path], check=False, capture_output=True)
        self.server = Server(self.new())

    def close(self) -> None:
        self.server.close()

    def new(self) -> Path:
        return self.path / f"{next(self._numbers)}"

    def home(self, format: str, *, a: Path | Account | None = None, fsync: bool = True) -> Home:
        return Home(self.new(), format, a=a, fsync=fsync)

    @property
    def maildirs(self) -> Path:
        """All mail; never changed."""
        return self.tree(self.messages, self._sizes)

    def tree(self, messages: int, sizes: str, boxes: tuple[str, ...] = BOXES) -> Path:
        """Maildirs with so much mail; never changed, but their files may be linked from elsewhere."""
        key = messages, sizes, len(boxes)
        if key not in self._trees:
            path = self.new()
            write_maildirs(path, mails(messages, sizes=sizes, boxes=boxes), boxes=boxes)
            for part in path.glob("*/*"):  # mail that lies there for long: mbsync waits where it came just now
                os.utime(part, (BEGIN, BEGIN))
            self._trees[key] = path
        return self._trees[key]

    def from_server(
        self,
        messages: int,
        format: str = "maildir",
        *,
        sizes: str = "normal",
        boxes: tuple[str, ...] = BOXES,
        slow: bool = False,
        fsync: bool = True,
        read_only: bool = False,
    ) -> Home:
        """Mail on the server, none here. `read_only`: no run changes it there, so that one account does for all."""
        if read_only:
            account = self.account(messages, slow=slow)
        else:
            account = self.server.account(slow=slow, mail=self.tree(messages, sizes, boxes), boxes=boxes)
        home = self.home(format, a=account, fsync=fsync)
        return self._with_empty_mboxes(home) if format == "mbox" else home

    def account(self, messages: int, *, slow: bool = False) -> Account:
        """Not to be changed."""
        key = messages, slow
        if key not in self._accounts:
            self._accounts[key] = self.server.account(slow=slow, mail=self.tree(messages, "normal"), boxes=BOXES)
        return self._accounts[key]

    def to_server(self, messages: int, *, slow: bool = False) -> Home:
        """Mail here, none on the server."""
        home = self.home("maildir", a=self.server.account(slow=slow))
        link(self.tree(messages, "normal"), home.b)
        return home

    def from_maildir(self, messages: int, *, sizes: str = "normal", fsync: bool = True) -> Home:
        """Mail in Maildirs, and nothing beside them."""
        home = self.home("maildir", fsync=fsync)
        link(self.tree(messages, sizes), home.a)
        return home

    @cached_property
    def settled_maildirs(self) -> Home:
        home = self.home("maildir")
        link(self.maildirs, home.a)
        settle((home, home.ours()))
        return home

    @cached_property
    def settled_mboxes(self) -> Home:
        home = self.home("mbox")
        for side in (home.a, home.b):
            write_mboxes(side, mails(self.messages, sizes=self._sizes))
        settle((home, home.ours()))
        return home

    def one_mbox(self, messages: int) -> Home:
        """All of a store in one mbox, and an empty one beside it."""
        return self.unsettled_mboxes(messages, BOXES[:1])

    def unsettled_mboxes(self, messages: int, boxes: tuple[str, ...] = BOXES) -> Home:
        """Mail on one side. All mailboxes are there: 5.2.7 makes those that are not, but copies nothing into them."""
        home = self.home("mbox")
        write_mboxes(home.a, mails(messages, sizes=self._sizes, boxes=boxes))
        return self._with_empty_mboxes(home)

    def _with_empty_mboxes(self, home: Home) -> Home:
        home.b.mkdir()
        for box in os.listdir(home.a):
            if box.startswith("box"):
                (home.b / box).touch()
        return home


def settle(*todo: tuple[Home, Command]) -> None:
    """Runs that leave nothing to do, and nothing to be in doubt about."""
    for home, command in todo:
        took(command)
        home.check()
    time.sleep(AGE)
    for _ in range(2):  # one that finds nothing may note that, and the next one go by that note
        for _, command in todo:
            took(command)


def link(tree: Path, to: Path) -> None:
    """A copy of a tree whose files are the same as those of the first."""
    subprocess.run(["cp", "-al", tree, to], check=True)


def _installed(name: str) -> str:
    program = shutil.which(name)
    if not program:
        raise Unmeasured(f"{name} is not installed")
    return program


def _count(root: Path) -> int:
    some = next((path for path in root.iterdir() if path.name.startswith("box")), None)
    if some is None:
        return 0
    return count_maildirs(root) if some.is_dir() else count_mboxes(root)
