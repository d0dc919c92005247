"""Two stores with two mailboxes each, what users do there, and what must be true of both when all is done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.contract import Driver
from mailsync.model import Mailbox

from .mail import Ran, digest, forget_cache, local, raws, read, run, run_apart
from .users import SEEN, ImapUser, MhUser, User, raw

BOXES = ("x", "y")
# The messages of mailbox x; what was done with them before the run that is looked at.
QUIET, SEEN_IN_A, SEEN_IN_B, GONE_IN_A, GONE_IN_B, MOVED_IN_A, MOVED_IN_B, NEW_IN_A, NEW_IN_B = range(1, 10)
QUIET_TOO, IN_Y, LATE = 11, 10, 20

Found = Mapping[str, Counter[tuple[int, frozenset[str]]]]  # numbers and flags of the messages of each mailbox


@dataclass
class Truth:
    """What users did with each message, on whichever side."""

    delivered: dict[int, str] = field(default_factory=dict)  # number: mailbox
    dropped: set[int] = field(default_factory=set)
    moved: dict[int, dict[str, str]] = field(default_factory=dict)  # by side: where to
    flagged: dict[int, set[str]] = field(default_factory=dict)  # and must be so in the end
    ever: dict[int, set[str]] = field(default_factory=dict)  # flags that somebody has set

    def flag(self, number: int, flag: str) -> None:
        self.flagged.setdefault(number, set()).add(flag)
        self.ever.setdefault(number, set()).add(flag)

    def boxes(self, number: int) -> set[str]:
        """Where it may be in the end; several, if both sides have moved it elsewhere."""
        return set(self.moved.get(number, {}).values()) or {self.delivered[number]}

    def check(self, found: Found) -> None:
        """Of mailboxes that are equal on all sides: nothing lost, doubled, back again, or with others' flags."""
        for number in self.delivered:
            here = {box: [flags for (one, flags) in mails.elements() if one == number] for box, mails in found.items()}
            copies = sum(map(len, here.values()))
            in_boxes = {box for box, flags in here.items() if flags}
            if number in self.dropped:
                assert copies <= (number in self.moved), f"{number} was deleted"
            elif len(self.boxes(number)) == 1:
                assert self.boxes(number) == in_boxes, f"{number} is in {in_boxes}"
                assert copies == 1, f"{number} is there {copies} times"
            else:
                assert in_boxes <= self.boxes(number), f"{number} is in {in_boxes}"
                assert in_boxes, f"{number} is lost"
                assert copies == len(in_boxes), f"{number} is doubled"
            for flags in (flags for each in here.values() for flags in each):
                assert flags >= self.flagged.get(number, set()), f"{number} has only {set(flags)}"
                assert flags <= self.ever.get(number, set()), f"{number} has {set(flags)}"
        assert {number for mails in found.values() for number, _ in mails} <= self.delivered.keys()


@dataclass
class Side:
    """A store: its block of the configuration, who uses it, and how its mailboxes are called."""

    user: User
    config: str
    prefix: str = ""
    files: Path | None = None  # the home below which its mail lies on this machine, though users come over a server

    @contextmanager
    def opened(self) -> Iterator[Driver]:
        if self.files:
            yield local(self.files)
        elif isinstance(self.user, ImapUser):
            with self.user.store() as store:
                yield store
        else:
            yield local(self.user.root.parent)

    def found(self) -> Found:
        """What its driver finds there; all of it must be as it was delivered."""
        contents = {}
        with self.opened() as driver:
            for box in BOXES:
                mailbox = Mailbox(self.prefix + box)
                contents[box] = Counter(
                    (int(one.id[1 : one.id.index("@")]), one.flags) for one in read(driver, mailbox)
                )
                expected = [digest(raw(number)) for number, _ in contents[box].elements()]
                assert sorted(expected) == sorted(map(digest, raws(driver, mailbox))), f"{box}: changed"
        return contents


@dataclass
class Scene:
    """Channel `c` between the sides a and b, which one or several machines synchronize."""

    sides: Mapping[str, Side]
    homes: Sequence[Path]
    truth: Truth = field(default_factory=Truth)
    flagged_by: dict[int, set[str]] = field(default_factory=dict)  # on which sides
    running: bool = False

    def deliver(self, side: str, box: str, number: int) -> bool:
        if done := self.sides[side].user.deliver(box, number):
            self.truth.delivered[number] = box
        return done

    def flag(self, side: str, box: str, number: int, flag: str = SEEN) -> bool:
        if done := self.sides[side].user.flag(box, number, flag):
            self.truth.flag(number, flag)
            self.flagged_by.setdefault(number, set()).add(side)
        return done

    def drop(self, side: str, box: str, number: int) -> bool:
        if done := self.sides[side].user.drop(box, number):
            self.truth.dropped.add(number)
        return done

    def move(self, side: str, box: str, number: int) -> bool:
        to = {"x": "y", "y": "x"}[box]
        if done := self.sides[side].user.move(box, number, to):
            self.truth.moved.setdefault(number, {})[side] = to
            if self.running and side not in self.flagged_by.get(number, {side}):
                self.truth.flagged.pop(number, None)  # both at once: the flag may stay with the copy that goes
        return done

    def tidy(self, side: str, box: str) -> bool:
        return self.sides[side].user.tidy(box)

    def begin(self) -> None:
        """Settled once; then everything happens that a run has to do."""
        for side in self.sides.values():
            for box in BOXES:
                side.user.make(box)
        for number in (QUIET, SEEN_IN_A, SEEN_IN_B, GONE_IN_A, GONE_IN_B, QUIET_TOO, MOVED_IN_A, MOVED_IN_B):
            self.deliver("a", "x", number)
        self.deliver("a", "y", IN_Y)
        self.settle()
        self.change()

    def change(self) -> None:
        self.flag("a", "x", SEEN_IN_A)
        self.flag("b", "x", SEEN_IN_B)
        self.drop("a", "x", GONE_IN_A)
        self.drop("b", "x", GONE_IN_B)
        self.move("a", "x", MOVED_IN_A)
        self.move("b", "x", MOVED_IN_B)
        self.deliver("a", "x", NEW_IN_A)
        self.deliver("b", "x", NEW_IN_B)

    def note(self, side: str, told: Mapping[str, Any]) -> None:
        """What a user has done there: see `churn`."""
        number, box = told["number"], told["box"]
        match told["did"]:
            case "deliver":
                self.truth.delivered[number] = box
            case "drop":
                self.truth.dropped.add(number)
            case "flag":
                self.truth.flag(number, told["flag"])
            case "move":
                self.truth.moved.setdefault(number, {})[side] = told["to"]

    def run(self, at: int = 0, *, apart: bool = False) -> Ran:
        """A run of one machine while others are at work: it fails in parts at most, and says in which."""
        ran = (run_apart if apart else run_in)(self.homes[at], "c")
        assert ran.code in (0, 1), ran
        assert bool(ran.code) == ("mailsync: " in ran.err), ran
        assert "Traceback" not in ran.err
        return ran

    def check(self) -> None:
        """Nobody is at work any more: one run makes all sides equal, as they must be; then there is nothing to do."""
        self.settle()
        if any(isinstance(side.user, MhUser) for side in self.sides.values()):
            for number in self.truth.moved:  # a flag that comes while a message goes to another mailbox may be lost
                self.truth.flagged.pop(number, None)
        for home in self.homes:
            forget_cache(home)
            assert [] == run_in(home, "-s", "--json", "c").steps
        first, *others = (side.found() for side in self.sides.values())
        assert [first] * len(others) == others
        self.truth.check(first)

    def settle(self) -> None:
        """One run; of machines that have mail of their own the first must run again to have what the last brought."""
        for home in self.homes if len(self.sides) == 2 else [*self.homes, self.homes[0]]:
            ran = run_in(home, "c")
            assert 0 == ran.code, ran
            if len(self.sides) == 2 and self.running:
                break


def run_in(home: Path, *args: str) -> Ran:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(home))
        patch.chdir(home)
        return run(*args)
