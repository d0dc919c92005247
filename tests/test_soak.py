"""Syncs one after another in one process, with a small change before each: nothing but the mail itself grows."""

from __future__ import annotations

import ctypes
import gc
import os
import random
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

import pytest

from mailsync.cache import Cache
from mailsync.directories import directory, put
from mailsync.drivers import mboxkept
from mailsync.drivers.contract import Transfers
from mailsync.drivers.delivery import carry
from mailsync.drivers.local import LocalStore
from mailsync.model import ANSWERED, FLAGGED, SEEN, Appended, Boxname, Flags, Listing, MessageId

from . import scenario
from .mail import Mail, digest, listing, message, run, within
from .scenario import Stores, place
from .servers import server
from .tried import PLANTED, SOAK

PAIRS = [("maildir", "dovecot"), ("maildir", "mbox")]
SHORT, LONG = 60, 2000  # runs
EVERY = 100  # runs, after which both stores are compared with the model
MOST, BOXES = 40, 8  # messages, mailboxes
OBJECTS, MEMORY, PAGES = 400, 4 << 20, 48 << 10  # that may be more at the end; a database grows and shrinks by pages
FLAGS = [SEEN, FLAGGED, ANSWERED]


@dataclass
class Model:
    """What both stores hold after each run, and what is done to one of them before it. No mailbox is empty: -D."""

    stores: Stores
    dice: random.Random
    boxes: dict[str, dict[str, Flags]] = field(default_factory=dict)
    names: Iterator[int] = field(default_factory=count)
    deleted: dict[str, int] = field(default_factory=lambda: {"a": 0, "b": 0})  # by the side where that was done

    def change(self) -> None:
        side = self.dice.choice("ab")
        full = sum(map(len, self.boxes.values())) >= MOST
        acts: list[Callable[[str], None]] = [self.deliver, self.delete, self.delete if full else self.deliver]
        more = [self.new_mailbox] if len(self.boxes) < BOXES else []
        act = self.dice.choice([*acts, self.flag, self.move, self.rename, *more])
        (act if self.boxes else self.new_mailbox)(side)
        self.boxes = {boxname: box for boxname, box in self.boxes.items() if box}

    def deliver(self, side: str) -> None:
        self._put(side, self.dice.choice(sorted(self.boxes)))

    def new_mailbox(self, side: str) -> None:
        self._put(side, f"box-{next(self.names)}")

    def delete(self, side: str) -> None:
        boxname, name = self._any()
        self._change(side, boxname, name, None)
        del self.boxes[boxname][name]
        self.deleted[side] += 1

    def flag(self, side: str) -> None:
        boxname, name = self._any()
        self.boxes[boxname][name] ^= {self.dice.choice(FLAGS)}
        self._change(side, boxname, name, self.boxes[boxname][name])

    def move(self, side: str) -> None:
        boxname, name = self._any()
        target = self.dice.choice(sorted(self.boxes))
        if target == boxname:
            return
        with self.stores.opened(side) as store:
            found = listing(store.driver, store.mailbox(Boxname(boxname))).entries
            uids = [one.uid for one in found if one.id == f"<{name}@x>"]
            with store.open(Boxname(boxname), write=True) as box, store.open(Boxname(target), write=True) as to:
                moved = box.move(uids, to) if isinstance(box, Transfers) else carry(uids, box, to, keep=False)
                assert [Appended] == list(map(type, moved))
        self.boxes[target][name] = self.boxes[boxname].pop(name)

    def rename(self, side: str) -> None:
        boxname, new = self.dice.choice(sorted(self.boxes)), f"box-{next(self.names)}"
        with self.stores.opened(side) as store:
            store.rename(Boxname(boxname), Boxname(new))
        self.boxes[new] = self.boxes.pop(boxname)

    def compare(self) -> None:
        expected = {
            boxname: {(digest(message(name)), flags): 1 for name, flags in box.items()}
            for boxname, box in self.boxes.items()
        }
        for side in "ab":
            with self.stores.opened(side) as store:
                found = {name: dict(box) for name, box in scenario.contents(store).items() if name != "INBOX"}
            assert expected == found, side

    def _any(self) -> tuple[str, str]:
        boxname = self.dice.choice(sorted(self.boxes))
        return boxname, self.dice.choice(sorted(self.boxes[boxname]))

    def _put(self, side: str, boxname: str) -> None:
        name, flags = str(next(self.names)), frozenset(self.dice.sample(FLAGS, self.dice.randrange(3)))
        with self.stores.opened(side) as store:
            scenario.fill(store, {Boxname(boxname): [Mail(message(name), flags)]})
        self.boxes.setdefault(boxname, {})[name] = flags

    def _change(self, side: str, boxname: str, name: str, flags: Flags | None) -> None:
        with self.stores.opened(side) as store:
            scenario.change(store, Boxname(boxname), {MessageId(f"<{name}@x>"): flags})


@dataclass(frozen=True)
class Burden:
    """What this process and its files take between two runs, in which no connection is open."""

    descriptors: int
    threads: int
    files: tuple[str, ...]  # of our own, and litter
    objects: int  # of Python
    memory: int  # bytes
    size: int  # bytes of our own files, but for what is kept of deleted messages


@dataclass
class Soak:
    home: Path
    port: int | None
    local: str  # the sides that are on this machine
    model: Model

    def run(self, runs: int) -> None:
        for number in range(1, runs + 1):
            self.model.change()
            ran = run("-q", "-D", "ab")
            assert (0, "") == (ran.code, ran.err), (number, ran)
            if number % EVERY == 0:
                self.model.compare()
                gc.collect()  # mailsync ends soon, and so looks for cycles after 100,000 objects only
        self.model.compare()

    def burden(self) -> Burden:
        assert within(20, lambda: not self._connections())
        mboxkept._kept.clear()  # the users of an mbox are other processes
        for _ in range(3):
            gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        ours = [*self.home.glob(".cache/**/*"), *self.home.glob(".local/state/**/*"), self.home / ".msinfo-ab"]
        ours = [file for file in ours if file.is_file() and "deleted" not in file.parts]
        ours = [file for file in ours if not file.name.startswith("settled-")]  # of runs that have found nothing
        tmp = [*self.home.rglob("tmp/*"), *self.home.rglob("*.lock"), *self.home.rglob("*.mailsync*")]
        files = tuple(sorted(map(str, [*ours, *tmp])))
        # Not the pages of files: those come and go with what else this machine has to do.
        status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
        memory = sum(int(status[name].split()[0]) * 1024 for name in ("RssAnon", "VmSwap"))
        size = sum(file.stat().st_size for file in ours)
        return Burden(
            len(os.listdir("/proc/self/fd")), threading.active_count(), files, len(gc.get_objects()), memory, size
        )

    def known(self) -> int:
        """Mailboxes of which something is kept."""
        found = 0
        for file in self.home.glob(".cache/mailsync/*.sqlite"):
            with closing(sqlite3.connect(file)) as db:
                found += db.execute("SELECT COUNT(*) FROM box").fetchone()[0]
        return found

    def kept(self) -> int:
        """Messages that were deleted on this machine, and can be put back for a while."""
        return sum(1 for _ in self.home.glob(".local/state/mailsync/deleted/*/*/*/[cn]*/*"))

    def _connections(self) -> int:
        """Those of this process that are open (proc(5), net/tcp)."""
        there = f":{self.port or 0:04X}"
        lines = (line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:])
        return sum(1 for line in lines if line[2].endswith(there) and line[3] == "01")


@pytest.fixture(params=PAIRS, ids=" ".join)
def soak(request: pytest.FixtureRequest, home: Path) -> Soak:
    places = {side: place(name, side) for side, name in zip("ab", request.param, strict=True)}
    for side in "ab":
        (home / side).mkdir()
    far = "dovecot" in request.param
    model = Model(scenario.channels(home, places, ["ab"]), random.Random(20260101))
    return Soak(home, server("dovecot").port if far else None, "a" if far else "ab", model)


def grown(soak: Soak, warm: int, runs: int) -> Mapping[str, tuple[object, object]]:
    """What was another after all of the runs than after so many, or more than it may be."""
    soak.run(warm)
    before = soak.burden()

    soak.run(runs - warm)

    after = soak.burden()
    same = {name: (getattr(before, name), getattr(after, name)) for name in ("descriptors", "threads", "files")}
    # What is deleted on one side is deleted on the other by us.
    same["kept"] = soak.kept(), sum(soak.model.deleted["b" if side == "a" else "a"] for side in soak.local)
    most = {
        "objects": (after.objects, before.objects + OBJECTS),
        "memory": (after.memory, before.memory + MEMORY),
        "size": (after.size, before.size + PAGES),
        # Two caches, and one record for both sides; INBOX is there on a server.
        "mailboxes": (soak.known(), 4 * (len(soak.model.boxes) + 1)),
    }
    return {name: two for name, two in same.items() if two[0] != two[1]} | {
        name: two for name, two in most.items() if two[0] > two[1]
    }


@SOAK
def test_nothing_grows_with_the_number_of_runs(soak: Soak, record_property: Callable[[str, object], None]) -> None:
    assert {} == grown(soak, 20, SHORT)
    record_property("points", SHORT)


@SOAK
@pytest.mark.torture
@pytest.mark.timeout(1800)
def test_nothing_grows_with_thousands_of_runs(soak: Soak, record_property: Callable[[str, object], None]) -> None:
    assert {} == grown(soak, 200, LONG)
    record_property("points", LONG)


# ---- the checker is checked ------------------------------------------------------------------------------------------


def descriptor(monkeypatch: pytest.MonkeyPatch) -> None:
    """One is opened by each run, and never closed."""
    enter = LocalStore.__enter__

    def leaks(self: LocalStore) -> LocalStore:
        os.open(os.devnull, os.O_RDONLY)
        return enter(self)

    monkeypatch.setattr(LocalStore, "__enter__", leaks)


def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known of mailboxes that are gone stays in the cache."""
    monkeypatch.setattr(Cache, "forget", lambda self, gone: None)


def objects(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run leaves what it has listed."""
    left: list[object] = []
    keep = Cache.keep

    def leaves(self: Cache, found: Listing) -> None:
        left.append(found)
        keep(self, found)

    monkeypatch.setattr(Cache, "keep", leaves)


def litter(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of each run stays."""
    enter = LocalStore.__enter__

    def leaves(self: LocalStore) -> LocalStore:
        put(os.path.join(directory("state"), f"left.{time.time_ns()}"), "")
        return enter(self)

    monkeypatch.setattr(LocalStore, "__enter__", leaves)


BUGS: Mapping[Callable[[pytest.MonkeyPatch], None], str] = {
    descriptor: "descriptors",
    rows: "mailboxes",
    objects: "objects",
    litter: "files",
}


@PLANTED
@pytest.mark.parametrize("soak", [("maildir", "mbox")], indirect=True, ids=" ".join)
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_soak_catches(soak: Soak, bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """By what it leaves; without a bug nothing is found in as many runs, see above."""
    bug(monkeypatch)

    assert BUGS[bug] in grown(soak, 20, SHORT)
