"""The disk refuses one step, or all from there on: clear words, its own scope, the right exit code; the next run heals.

The disk is one in memory: see tests/disk. What real ones do is in test_disk_full.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any

import pytest

from mailsync.model import Boxname, Side

from .disk import Fault, why_not
from .disk.model import Attributes, Done, Make, Sync, Truncate, Unlink, Write
from .disk.story import ALL, AREAS, CACHE, Contents, Stories, Story, area, few, looked, retried, strata
from .test_disk_crashes import few_or_all
from .tried import FAILING, PLANTED, Points

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.timeout(1800)]

ERRORS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT)
FEW = 12  # of so many strata, one has a point in the short form for a pair
MOST = 2 * len(ERRORS)  # points of a stratum of the cache


# ---- one step, or all that follow ------------------------------------------------------------------------------------


@FAILING
@few_or_all
@pytest.mark.parametrize(("a", "b"), ALL)
def test_step_that_fails_is_told_and_the_next_run_heals(
    stories: Stories, a: str, b: str, whole: bool, record_property: Points
) -> None:
    """Each step, or a few; of each kind in each area once with each error."""
    story, number = stories.varied(a, b)
    steps, points = story.steps(), 0
    for n, turn in all_points(steps) if whole else zip(few(steps, number, FEW, cache=True), count(number)):
        points += check_error(story, fault_at(steps, n, turn))
    assert points
    record_property("points", points)


def all_points(steps: Sequence[Done]) -> Iterator[tuple[int, int]]:
    """Steps, each with the number of its turn in its stratum."""
    for stratum in strata(steps, cache=True):
        cached = area(steps[stratum[0]].path) == "cache"
        for turn in range(MOST if cached else max(len(stratum), len(ERRORS))):
            yield stratum[turn % len(stratum)], turn


def fault_at(steps: Sequence[Done], n: int, turn: int) -> Fault:
    """Of this step alone; or, each second time, of all that come then in the same area."""
    path, error = steps[n].path, ERRORS[turn % len(ERRORS)]
    if error == errno.EACCES and isinstance(steps[n].step, Attributes):
        error = errno.EIO  # there are disks whose owner may set no dates: they go without
    if turn % 2:
        within = AREAS.get(area(path), ("",))
        return Fault(sum(done.path.startswith(within) for done in steps[:n]), within, error, always=True)
    return Fault(n, error=error)


def check_error(story: Story, fault: Fault, bug: Callable[[], None] | None = None) -> int:
    """0 if this run did not come so far."""
    acted = story.sync(fault, bug)
    if not acted.state.hit:
        return 0
    ran = acted.done
    where = f"{'; '.join(map(str, acted.state.hit[:3]))}, {errno.errorcode[fault.error]}: {ran}"
    assert not re.search("Traceback|is a bug|: :", ran.err), where
    if ran.code:
        assert os.strerror(fault.error) in ran.err, f"without the reason: {where}"
        assert ran.code in (codes := codes_of(acted.state.hit)), f"not one of {codes}: {where}"
    else:
        assert "" == ran.err, where
    if made_again(fault, acted.state.hit):
        assert 0 == ran.code, f"a call was not made again: {where}"
    if all(hit.path.startswith(CACHE) for hit in acted.state.hit):
        assert 0 == ran.code, f"only the cache was concerned: {where}"
    left = acted.disk.snapshot()
    try:
        if not ran.code:
            assert story.expected == story.machine.act(left, looked).done, "not all was done"
        story.check(left, retried)
    except AssertionError as err:
        raise AssertionError(f"{where}: {err}") from err
    return 1


def made_again(fault: Fault, hits: Sequence[Done]) -> bool:
    """Whether it hinders nobody who makes the call again, for all of the data or the rest."""
    if fault.short:
        return not fault.always
    return fault.error == errno.EINTR and all(isinstance(hit.step, Write | Sync | Truncate) for hit in hits)


def codes_of(hits: Sequence[Done]) -> set[int]:
    """The exit codes that may come of it: 8 where msinfo cannot be saved, 1 for a mailbox, or the lock of the run."""
    paths = {hit.path for hit in hits}
    ours = {path for path in paths if area(path) in ("msinfo", "home")}
    return ({8} if ours else set()) | ({1} if paths - ours or "" in paths else set())


# ---- former defects --------------------------------------------------------------------------------------------------

NO_ROOM, BROKEN, DENIED, FIXED = errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS
FORMER = {
    # It had been renamed; then it was sent, too, and lay there twice.
    "moved_message_whose_old_directory_cannot_be_synced_is_not_sent": (
        "maildir", Fault(0, ("b/other/new",), BROKEN, (Sync,)), 1,
    ),
    "arrived_message_whose_directory_cannot_be_synced_is_told_by_its_own_name": (
        "maildir", Fault(0, ("b/box/cur",), DENIED, (Sync,), always=True), 1,
    ),
    "lock_of_the_run_needs_no_room": ("maildir", Fault(0, (".local/",), NO_ROOM, (Truncate, Write)), 0),
    "msinfo_beside_which_nothing_can_be_written_is_told": (
        "mh", Fault(0, ("..msinfo",), FIXED, (Make,), always=True), 8,
    ),
    # It got the date of that moment instead, without a word.
    "message_whose_date_cannot_be_kept_fails": ("maildir", Fault(0, ("a/deep",), NO_ROOM, (Attributes,)), 1),
    # What had been appended was told as failed, and sent a second time.
    "mbox_whose_spool_cannot_be_removed_has_what_was_appended": (
        "mbox", Fault(0, ("b/.box.mailsync-append",), NO_ROOM, (Unlink,)), 0,
    ),
    # It counted as not moved, and was sent a second time.
    "moved_message_whose_temporary_name_cannot_be_removed_is_not_sent": (
        "mh", Fault(0, ("b/box/,mailsync",), DENIED, (Unlink,)), 0,
    ),
}  # fmt: skip


@FAILING
@pytest.mark.parametrize("name", FORMER)
def test_former_defect(stories: Stories, name: str) -> None:
    format, fault, code = FORMER[name]
    story = stories("maildir", format)

    assert 1 == check_error(story, fault)
    assert code == story.sync(fault).done.code


# ---- its own scope ---------------------------------------------------------------------------------------------------

BOXES = {"box": ("a", "b"), "other": ("b",), "deep": ("a",)}  # what a run changes, and where


@FAILING
@pytest.mark.parametrize(("a", "b", "error"), [("maildir", "mbox", errno.EIO), ("mh", "maildir", errno.ENOSPC)])
def test_mailbox_that_cannot_be_written_spoils_no_other(
    stories: Stories, a: str, b: str, error: int, record_property: Points
) -> None:
    story, points = stories(a, b), 0
    for box, sides in BOXES.items():
        for side in sides:
            within = (f"{side}/{box}", f"{side}/.{box}.")
            acted = story.sync(Fault(0, within, error, always=True))
            ran = acted.done

            assert acted.state.hit
            assert 1 == ran.code, ran
            assert box in ran.err
            assert os.strerror(error) in ran.err
            found = story.machine.act(acted.disk.snapshot(), looked).done
            assert others(story.expected[Side(side)], box) == others(found[Side(side)], box), ran
            story.check(acted.disk.snapshot(), retried)
            points += 1
    record_property("points", points)


def others(contents: Contents, box: str) -> Contents:
    """Without this one; `other` gives a message to `box`, so it shares its lot."""
    spoilt = {"box", "other"} if box in ("box", "other") else {"deep/fresh"}
    return {name: held for name, held in contents.items() if name not in spoilt}


@FAILING
@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
def test_cache_that_cannot_be_written_hinders_nothing(stories: Stories, error: int) -> None:
    story = stories("maildir", "mbox")
    acted = story.sync(Fault(0, (CACHE,), error, always=True))

    assert acted.state.hit
    assert (0, "") == (acted.done.code, acted.done.err)
    assert story.expected == story.machine.act(acted.disk.snapshot(), looked).done


@FAILING
@pytest.mark.parametrize("error", [errno.EDQUOT, errno.EROFS])
def test_nothing_is_deleted_that_cannot_be_kept(stories: Stories, error: int) -> None:
    story = stories("maildir", "mbox")
    acted = story.sync(Fault(0, (".local/state/mailsync/deleted",), error, always=True))
    found = story.machine.act(acted.disk.snapshot(), looked).done

    assert 1 == acted.done.code
    for id in ("m2", "m3"):
        assert re.search(f"<{id}@x> cannot be deleted .*{os.strerror(error)}", acted.done.err), acted.done.err
    assert 1 == sum((found[Side.A][Boxname("box")] - story.expected[Side.A][Boxname("box")]).values())
    assert 1 == sum((found[Side.B][Boxname("box")] - story.expected[Side.B][Boxname("box")]).values())
    story.check(acted.disk.snapshot(), retried)


on_some = pytest.mark.parametrize(("a", "b"), [("maildir", "mbox"), ("mh", "mh"), ("maildir++", "dovecot")])


@FAILING
@few_or_all
@on_some
def test_interrupted_calls_are_made_again(
    stories: Stories, a: str, b: str, whole: bool, record_property: Points
) -> None:
    """EINTR, as a signal may cause it where a user's process is the disk; from some calls it is an error."""
    story, number = stories.varied(a, b)
    steps = story.steps()
    at = {s[k] for s in strata(steps, cache=True) for k in (0, len(s) // 2, -1)} if whole else few(steps, number, FEW)
    points = sum(check_error(story, Fault(n, error=errno.EINTR)) for n in sorted(at))
    assert points
    record_property("points", points)


@FAILING
@few_or_all
@on_some
def test_writes_of_which_half_is_taken_are_gone_on_with(
    stories: Stories, a: str, b: str, whole: bool, record_property: Points
) -> None:
    """Of mail, of msinfo, of the cache. Or then there is no more room anywhere."""
    story, _ = stories.varied(a, b)
    steps, points = story.steps(), 0
    for k, stratum in enumerate(strata(steps, cache=True)):
        sizes = {n: len(step.data) for n in stratum if isinstance(step := steps[n].step, Write) and len(step.data) > 1}
        most = (MOST if area(steps[stratum[0]].path) == "cache" else len(sizes)) if whole else 1
        for turn, n in enumerate(sorted(sizes, key=sizes.__getitem__, reverse=True)[:most]):
            for always in (False, True) if whole else ((k + turn) % 2 == 0,):
                points += check_error(story, Fault(n, error=errno.ENOSPC, short=True, always=always))
    assert points
    record_property("points", points)


# ---- planted bugs ----------------------------------------------------------------------------------------------------


def errors_of_writes_are_ignored() -> None:
    real = os.write

    def write(fd: int, data: Any) -> int:
        try:
            return real(fd, data)
        except OSError:
            return len(data)

    os.write = write


def short_writes_are_taken_for_whole() -> None:
    real = os.write

    def write(fd: int, data: Any) -> int:
        real(fd, data)
        return len(data)

    os.write = write


def caught(story: Story, bug: Callable[[], None] | None, *, short: bool) -> list[str]:
    """Where one write of a message, or of msinfo, shows the bug: half of it is taken; or, not `short`, none, ever."""
    found = []
    for within in ("a/box", "b/box", "a/deep", "..msinfo"):
        paths = (within, f"b/.{within[2:]}.")
        try:
            assert check_error(story, Fault(0, paths, errno.ENOSPC, (Write,), always=not short, short=short), bug)
        except AssertionError:
            found.append(within)
    return found


@PLANTED
@pytest.mark.parametrize(
    ("bug", "short"), [(errors_of_writes_are_ignored, False), (short_writes_are_taken_for_whole, True)]
)
@pytest.mark.parametrize(("a", "b"), [("maildir", "mbox"), ("mh", "mh")])
def test_failing_writes_catch(stories: Stories, bug: Callable[[], None], short: bool, a: str, b: str) -> None:
    story = stories(a, b)

    assert caught(story, bug, short=short), "no write that fails shows this bug"
    assert [] == caught(story, None, short=short)
