"""Nothing is quadratic: four times the mail takes four times the work, and memory that grows with the ids alone."""

from __future__ import annotations

import cProfile
import pstats
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailsync.config import StoreConfig
from mailsync.drivers.contract import Wanted
from mailsync.drivers.memory import Memory
from mailsync.identity import identify, key
from mailsync.model import SEEN, Boxname, Entry, Failure, Holds, Identify, Line, Listing, Mailbox, MessageId, Side, Uid
from mailsync.msinfo import text
from mailsync.msinfo.text import Memory as Remembered
from mailsync.planner import Options, Planner
from mailsync.record import Record
from mailsync.stores import over

from .mail import configure, maildir, message, run

LINEAR = 4.4  # four times as much, and a tenth for what does not grow
BYTES = 1_100  # of memory for each message of a mailbox: both sides, and what is remembered; 934 with Python 3.11
SEEN_ONLY = frozenset({SEEN})


def ids(count: int) -> Iterator[MessageId]:
    return (MessageId(f"<{n}.{n * 7919 % 1_000_003}@mail.example.org>") for n in range(count))


@dataclass
class Large(Memory):
    """A store with one mailbox of so many messages, without their bodies."""

    count: int = 0

    def listings(self, wanted: Sequence[Wanted], identify: Identify) -> Iterator[tuple[Mailbox, Listing | Failure]]:
        for each in wanted:
            entries = [Entry(Uid(str(n)), id, SEEN_ONLY, 100, 100) for n, id in enumerate(ids(self.count), 1)]
            yield each.mailbox, Listing(each.mailbox, entries, Holds(any_keyword=True), validity="1")


def remembered(count: int) -> Remembered:
    return {Boxname("box"): {key(id): (Line(id, SEEN_ONLY),) for id in ids(count)}}


def planned(count: int) -> None:
    """A box with so many messages on both sides, of which nearly all are remembered."""
    stores = {}
    for side in Side:
        driver = Large(count=count)
        driver.create(Mailbox("box"))
        stores[side] = over(StoreConfig(side.value, patterns=("*",)), driver, ("*",))
    plan = Planner(stores, identify("msgid"), Options(), Record(None, "")).plan(remembered(count - count // 100))

    assert [] == list(plan.steps())


def calls(act: Callable[[], object]) -> int:
    profile = cProfile.Profile()
    profile.runcall(act)
    return int(pstats.Stats(profile).total_calls)  # type: ignore[attr-defined]


# ---- one large mailbox -----------------------------------------------------------------------------------------------


def test_work_of_a_plan_grows_with_the_messages() -> None:
    planned(1000)

    assert calls(lambda: planned(20_000)) < LINEAR * calls(lambda: planned(5_000))


@pytest.mark.parametrize("count", [50_000, pytest.param(1_000_000, marks=pytest.mark.torture)])
def test_memory_of_a_plan_grows_with_the_ids(count: int) -> None:
    few, many = (peak(n) for n in (count // 5, count))

    assert (many - few) / (count - count // 5) < BYTES


def peak(count: int) -> int:
    """Bytes that a process takes which lists and diffs such a mailbox."""
    code = f"import resource; from tests.test_scale import planned; planned({count}); print(resource.getrusage(0)[2])"
    # What a process's parent held counts as its own peak: this one holds next to nothing.
    through = ["/bin/sh", "-c", '"$@"; exit $?', "sh"]
    done = subprocess.run(
        [*through, sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    return int(done.stdout) * 1024


# ---- many mailboxes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("many", [400, pytest.param(5000, marks=pytest.mark.torture)])
def test_work_of_a_run_grows_with_the_mailboxes(home: Path, many: int) -> None:
    def counted(boxes: int) -> tuple[int, int, int]:
        near, far = f"near{boxes}", f"far{boxes}"
        stores = "".join(f"store {s} {{ pat {s}/* prefix {s}/ format maildir fsync no }}\n" for s in (near, far))
        configure(home, f"{stores}channel c {near} {far} {{ msinfo .msinfo{boxes} }}\n")
        for n in range(boxes):
            maildir(home / near / f"box{n}", message(n))
        first = calls(lambda: run("-q", "c"))
        again = calls(lambda: run("-q", "--full", "c"))
        (home / near / "box1/cur/9.x:2,").write_bytes(message("new"))
        return first, again, calls(lambda: run("-q", "c"))

    counted(10)
    few, all_of = counted(many // 4), counted(many)

    assert all(more < LINEAR * less for more, less in zip(all_of, few, strict=True)), (few, all_of)


# ---- msinfo ----------------------------------------------------------------------------------------------------------


def test_work_of_reading_and_writing_msinfo_grows_with_the_ids() -> None:
    def counted(count: int) -> int:
        memory = remembered(count)
        return calls(lambda: text.parse(text.format(memory, "c", "msgid", 0.0), "msgid"))

    assert counted(20_000) < LINEAR * counted(5_000)
