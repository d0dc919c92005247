"""The checker is checked: each planted bug must be caught by the laws."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from mailsync import channel, differ, moving, remember, removal
from mailsync.model import Appended
from mailsync.msinfo import mailbox, text
from mailsync.plan import Done

from .test_laws import SCENARIOS, Laws, Scenario, check_kill_points
from .test_laws_wide import WIDE_SCENARIOS, WideLaws, WideScenario
from .tried import PLANTED


def memory_before_mail(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run is going to do is remembered before it is done."""
    carry_out = channel.Run.carry_out

    def planted(self: Any, planner: Any) -> None:
        for box in self.plan.boxes:
            self._remembering.begin(box)
            for change in box.changes:
                for step in change.steps:
                    self._remembering.note(box, Done(change, step))
        self._save()
        carry_out(self, planner)

    monkeypatch.setattr(channel.Run, "carry_out", planted)


def memory_deleted_before_append(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old msinfo goes before the new one is there."""
    save = mailbox.Msinfo.save

    def planted(self: Any, memory: Any, now: float, touched: Any) -> Any:
        if self._old:
            with self.driver.open(self.mailbox, write=True) as box:
                list(box.expunge([uid for _, uid in self._old]))
            self._old = frozenset()
        return save(self, memory, now, touched)

    monkeypatch.setattr(mailbox.Msinfo, "save", planted)


def flags_unknown_read_as_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of 5.2.7, which knows of no flags, is read as a message without any."""
    parse = text.parse

    def planted(raw: bytes, kind: str) -> Any:
        memory, notes = parse(raw, kind)
        known = {
            boxname: {
                id: tuple(line._replace(flags=line.flags or frozenset()) for line in lines) for id, lines in box.items()
            }
            for boxname, box in memory.items()
        }
        return known, notes

    monkeypatch.setattr(text, "parse", planted)


def unreadable_read_as_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message that cannot be read counts as one that is not there."""
    diff = differ.diff

    def planted(case: Any, facts: Any) -> Any:
        seen_whole = {side: replace(listing, unreadable=()) for side, listing in case.listings.items()}
        return diff(replace(case, listings=seen_whole), facts)

    monkeypatch.setattr(differ, "diff", planted)


def failed_steps_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """A box's end is remembered as planned, whatever came of it."""
    lines = remember.lines

    def planted(change: Any, holds: Any, complete: bool) -> Any:
        for step in change.steps:
            change = change.after(step, holds, None, None)
        return lines(change, holds, complete)

    monkeypatch.setattr(remember, "lines", planted)


def members_paired_by_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """The messages of one id are told apart by their place in the mailbox."""
    from mailsync import groups
    from mailsync.model import Side
    from mailsync.plan import Item

    def planted(lines: Any, members: Any, facts: Any) -> Any:
        longest = max(len(lines), *(len(members[side]) for side in Side))

        def at(things: Any, n: int) -> Any:
            return things[n] if n < len(things) else None

        return tuple(Item(at(lines, n), at(members[Side.A], n), at(members[Side.B], n)) for n in range(longest))

    monkeypatch.setattr(groups, "pair", planted)


def renamed_box_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a box that was renamed only the messages are remembered that needed something."""

    def planted(self: Any, rename: Any) -> None:
        self.memory.pop(rename.old, None)
        self.memory[rename.new] = {}

    monkeypatch.setattr(remember.Remembering, "_rename", planted)


def moved_without_flags(monkeypatch: pytest.MonkeyPatch) -> None:
    """A message keeps the flags of the box that it was moved from."""
    monkeypatch.setattr(moving, "_change", lambda box, uid, step: None)


def deleted_before_it_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is deleted is taken for kept, or in the trash, unseen."""
    monkeypatch.setattr(removal, "put", lambda source, target, uids: ({uid: Appended(uid, None) for uid in uids}, {}))
    monkeypatch.setattr(removal, "leaves", lambda source, target: False)


WIDE_BUGS = [renamed_box_not_remembered, moved_without_flags, deleted_before_it_is_kept]
BUGS = [
    memory_before_mail,
    memory_deleted_before_append,
    flags_unknown_read_as_none,
    unreadable_read_as_deleted,
    failed_steps_remembered,
    members_paired_by_order,
]


@PLANTED
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_the_laws_catch(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)

    caught = [scenario.__name__ for scenario in SCENARIOS if breaks_a_law(scenario)]

    assert caught, "no scenario, cut off anywhere, shows this bug"


@PLANTED
@pytest.mark.parametrize("bug", WIDE_BUGS, ids=lambda bug: bug.__name__)
def test_the_wide_laws_catch(bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    bug(monkeypatch)

    assert any(map(breaks_a_wide_law, WIDE_SCENARIOS)), "no scenario, cut off anywhere, shows this bug"


def breaks_a_wide_law(scenario: WideScenario) -> bool:
    try:
        check_kill_points(scenario, False, WideLaws)
    except AssertionError:
        return True
    return False


def breaks_a_law(scenario: Scenario) -> bool:
    try:
        for interrupt in (False, True):
            check_kill_points(scenario, interrupt, Laws)
    except AssertionError:
        return True
    return False


def test_without_a_bug_nothing_is_caught() -> None:
    assert not any(map(breaks_a_law, SCENARIOS))
