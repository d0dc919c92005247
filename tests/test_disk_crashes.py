"""A run is killed, or the power cut, at any step that changes something on the disk: the next one goes on.

It ends as if nothing had happened: nothing is lost, doubled or back again. The disk is one in memory (see tests/disk).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import cycle
from typing import Any

import pytest

from mailsync import moving, removal
from mailsync.drivers.mboxopen import MboxBox
from mailsync.drivers.mboxscan import Edit

from .disk import MODELS, Disk, Fault, why_not
from .disk.story import ALL, PAIRS, REMOTE, Stories, Story, after_a_start, cuts, every, few, healed
from .test_planted import memory_deleted_before_append
from .tried import KILLED, PLANTED, POWER, Points

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.timeout(1800)]

TORTURE = pytest.mark.torture
TELLING = (("maildir", "mbox"), ("maildir++", "mh"), ("mbox", "mbox"), ("mh", "mh"))  # between them all there is

few_or_all = pytest.mark.parametrize("whole", [False, pytest.param(True, marks=TORTURE)], ids=["few", "all"])


# ---- killed ----------------------------------------------------------------------------------------------------------


@KILLED
@few_or_all
@pytest.mark.parametrize(("a", "b"), ALL)
def test_next_run_goes_on_where_one_was_killed(
    stories: Stories, a: str, b: str, whole: bool, record_property: Points
) -> None:
    """At each step, or at a few of many kinds."""
    story, number = stories.varied(a, b)
    steps = story.steps()
    record_property("points", check_kills(story, every(steps, 1) if whole else few(steps, number, 10)))


@KILLED
@TORTURE
def test_next_run_goes_on_wherever_one_was_killed_that_wrote_to_its_cache(
    stories: Stories, record_property: Points
) -> None:
    story = stories("maildir", "mh")
    record_property("points", check_kills(story, every(story.steps(), 3, cache=True)))


@KILLED
@few_or_all
@pytest.mark.parametrize(("a", "b"), [("maildir", "mbox"), ("maildir++", "mh")])
def test_runs_killed_again_and_again_leave_no_more_than_a_few(
    stories: Stories, a: str, b: str, whole: bool, record_property: Points
) -> None:
    """What one leaves is used again, or taken away, by the next."""
    story, points, kills = stories(a, b), 0, 5
    usual = kinds_of_files(story.machine.act(story.before, healed).disk)
    for n in every(story.steps(), 9 if whole else 120, 40):
        disk = story.before
        for _ in range(kills):
            disk = story.sync(Fault(n), disk=disk).disk.snapshot()
            points += 1
        left = kinds_of_files(story.check(disk)) - usual
        assert max(left.values(), default=0) < kills - 1, left
    record_property("points", points)


def kinds_of_files(disk: Disk) -> Counter[str]:
    """By what they are called, whatever numbers are in it."""
    return Counter(re.sub(r"[0-9a-f]{12,}|[0-9]+", "N", path) for path, _ in disk.walk())


def check_kills(story: Story, at: Iterable[int]) -> int:
    """How many there were."""
    points = 0
    for n in at:
        acted = story.sync(Fault(n))
        if acted.answer is None:  # else this run had fewer steps
            note(acted.state.hit, partial(story.check, acted.disk.snapshot()))
            points += 1
    assert points
    return points


def note(where: object, check: Callable[[], object]) -> None:
    """Tells where it was, for who reads a failure."""
    try:
        check()
    except AssertionError as err:
        raise AssertionError(f"{where}: {err}") from err


# ---- power cut -------------------------------------------------------------------------------------------------------


@POWER
@few_or_all
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_next_run_goes_on_after_a_power_cut(
    stories: Stories, a: str, b: str, whole: bool, record_property: Points
) -> None:
    """After each step, after each third, or after a few."""
    story, number = stories.varied(a, b)
    disk = story.sync().disk
    at = every(disk.done, 1 if (a, b) in TELLING else 3, number) if whole else few(disk.done, number, 16)[:1]
    record_property("points", check_cuts(story, cuts(disk, at)))


@POWER
@TORTURE
def test_next_run_goes_on_after_a_power_cut_that_spoils_the_cache(stories: Stories, record_property: Points) -> None:
    story = stories("maildir", "mh")
    disk = story.sync().disk
    record_property("points", check_cuts(story, cuts(disk, every(disk.done, 12, 1, cache=True), cache=True)))


@POWER
@few_or_all
@pytest.mark.parametrize(("a", "b"), REMOTE)
def test_next_run_goes_on_after_a_power_cut_here_where_a_server_kept_all(
    stories: Stories, a: str, b: str, whole: bool, record_property: Points
) -> None:
    """The server has all that it was told until then: each cut is of a run of its own, with one model after another."""
    story, number = stories.varied(a, b)
    steps = story.steps()
    at = every(steps, 3, number, cache=True) if whole else few(steps, number, 16, cache=True)
    record_property("points", check_cuts(story, cuts_of_runs(story, at)))


def cuts_of_runs(story: Story, at: Iterable[int]) -> Iterator[tuple[str, Disk]]:
    models = cycle(MODELS.items())
    for n in at:
        acted = story.sync(Fault(n))
        if acted.answer is None:
            name, model = next(models)
            yield f"{name} before {acted.state.hit}", acted.disk.cut(len(acted.disk.done), model(n))


def check_cuts(story: Story, left: Iterable[tuple[str, Disk]]) -> int:
    """How many there were."""
    points = 0
    for where, disk in left:
        note(where, partial(story.check, disk, after_a_start))
        points += 1
    assert points
    return points


# ---- planted bugs ----------------------------------------------------------------------------------------------------


def files_are_not_synced() -> None:
    drop_fsync(lambda path: os.path.isfile(path))


def directories_are_not_synced() -> None:
    drop_fsync(lambda path: os.path.isdir(path) and os.path.basename(path) in ("cur", "new"))


def parents_of_new_directories_are_not_synced() -> None:
    drop_fsync(lambda path: path.endswith(("/a", "/deep")))


def kept_mail_is_not_synced() -> None:
    drop_fsync(lambda path: "/deleted" in path)


def drop_fsync(unless: Callable[[str], bool]) -> None:
    real = os.fsync
    os.fsync = lambda fd: None if unless(os.readlink(f"/proc/self/fd/{fd}")) else real(fd)


def deleted_before_it_is_put_away() -> None:
    """Bytes in memory, then gone, then written."""
    put = moving.put

    def planted(source: Any, target: Any, uids: Any) -> Any:
        class Read:
            kept = [(got, b"".join(got.body.chunks(wire=False))) for got in source.fetch(uids)]

            def fetch(self, uids: Any) -> Any:
                from mailsync.drivers.memory import Bytes
                from mailsync.model import Message

                list(source.expunge(uids))
                return (Message(got.uid, got.flags, got.date, Bytes(raw)) for got, raw in self.kept)

        return put(Read(), target, uids)  # type: ignore[arg-type]

    removal.put = planted  # type: ignore[attr-defined]
    removal.leaves = lambda source, target: True  # type: ignore[attr-defined]


def msinfo_is_erased_first() -> None:
    with pytest.MonkeyPatch.context() as patch:
        memory_deleted_before_append(patch)
        patch._setattr.clear()  # this process ends with it


def mbox_is_rewritten_in_its_place() -> None:
    def planted(self: Any, data: Any, edits: Any) -> None:
        text, at = b"", 0
        for edit in [*edits, Edit(len(data), len(data), b"")]:
            text += data[at : edit.start] + edit.new
            at = edit.end
        os.ftruncate(self._lock.fd, 0)
        os.pwrite(self._lock.fd, text, 0)
        os.fsync(self._lock.fd)

    MboxBox._rewrite = planted  # type: ignore[method-assign]


CUT = [
    (files_are_not_synced, "maildir", "maildir"),
    (files_are_not_synced, "mh", "mbox"),
    (directories_are_not_synced, "maildir", "maildir"),
    (parents_of_new_directories_are_not_synced, "mbox", "mbox"),
    (kept_mail_is_not_synced, "maildir", "mh"),
]
KILLS = [
    (deleted_before_it_is_put_away, "maildir", "mh", "/deleted/"),
    (msinfo_is_erased_first, "maildir", "mh", ".msinfo"),
    (mbox_is_rewritten_in_its_place, "mbox", "mbox", "b/box"),
]


def named(bug: object) -> str:
    return getattr(bug, "__name__", str(bug))


@PLANTED
@pytest.mark.parametrize(("bug", "a", "b"), CUT, ids=named)
def test_power_cuts_catch(stories: Stories, bug: Callable[[], None], a: str, b: str) -> None:
    story, disk = stories(a, b), planted(stories(a, b), bug)

    assert any(
        breaks(story, disk.cut(n, MODELS[model](n)))
        for n in range(len(disk.done), 0, -10)
        for model in ("nothing", "names")
    ), "no power cut shows this bug"


@PLANTED
@pytest.mark.parametrize(("bug", "a", "b", "where"), KILLS, ids=named)
def test_kills_catch(stories: Stories, bug: Callable[[], None], a: str, b: str, where: str) -> None:
    """Kills between what is done there."""
    story, disk = stories(a, b), planted(stories(a, b), bug)
    points = reversed([n for n, done in enumerate(disk.done) if where in done.path])

    assert any(breaks(story, disk.killed(n)) for n in points), "no kill shows this bug"


def planted(story: Story, bug: Callable[[], None]) -> Disk:
    acted = story.sync(bug=bug)
    assert 0 == acted.done.code, acted.done
    return acted.disk


def breaks(story: Story, disk: Disk) -> bool:
    try:
        story.check(disk, after_a_start)
    except AssertionError:
        return True
    return False
