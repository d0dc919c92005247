"""What is remembered of a message: a function of what is true, not a log of what was done.

An id is remembered if both sides have it, or if it was remembered and one side still has it. Each flag is remembered
as it is where both sides agree, else as it was. This one rule covers -n, held steps, failures and kills: the memory
that a save in the middle of a run writes is as right as that at its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .model import DELETED, DRAFT, NONE, Boxname, Digests, Entry, Flags, Holds, Key, Line, Side
from .plan import BoxDone, BoxPlan, Change, Done, Item, Outcome, Rename


@dataclass
class Remembering:
    """The memory of a channel during a run: right at any moment, so that it can be saved at any moment."""

    memory: dict[Boxname, dict[Key, tuple[Line, ...]]]
    changed: bool = False  # since it was saved
    touched: dict[Boxname, set[Key]] = field(default_factory=dict)  # what was changed since it was loaded
    _now: dict[tuple[Boxname, Key], Change] = field(default_factory=dict)

    def begin(self, box: BoxPlan) -> None:
        """Take in what is true of a box before its first step; of one that is renamed, once that is done.

        Never before: to remember under the new name what still has the old one would look like a deletion of all of it.
        """
        if not box.rename:
            self._begin(box)

    def note(self, box: BoxPlan, outcome: Outcome) -> None:
        """Take in what came true; a step that failed changes nothing."""
        if isinstance(outcome, BoxDone) and outcome.what == "rename" and not outcome.failure and box.rename:
            self._rename(box.rename)
            self._begin(box)
        if isinstance(outcome, Done) and outcome.certain:
            where = (box.boxname, outcome.change.key)
            done = self._now[where].after(outcome.step, box.holds, outcome.uid, outcome.id, outcome.digest)
            self._now[where] = done
            self._write(box, done)

    def forget(self, boxname: Boxname) -> None:
        """The box is gone from both sides."""
        if boxname in self.memory:
            self._touch(boxname, *self.memory.pop(boxname))

    def current(self, box: BoxPlan) -> list[Change]:
        """The changes of a box with their items as they are now."""
        return [self._now.get((box.boxname, change.key), change) for change in box.changes]

    def end(self, box: BoxPlan) -> None:
        """No more outcomes will come for this box."""
        for change in box.changes:
            self._now.pop((box.boxname, change.key), None)

    def _begin(self, box: BoxPlan) -> None:
        if box.boxname not in self.memory and box.exists:
            self.memory[box.boxname] = {}
            self._touch(box.boxname)
        for change in box.changes:
            self._now[box.boxname, change.key] = change
            self._write(box, change)
        if not box.exists and not self.memory.get(box.boxname, True):
            self.forget(box.boxname)

    def _rename(self, rename: Rename) -> None:
        """What needs nothing is in no change, but in the memory of the old name."""
        lines = self.memory.pop(rename.old, {})
        self._touch(rename.old, *lines)
        self._touch(rename.new, *lines)
        self.memory[rename.new] = lines

    def _write(self, box: BoxPlan, change: Change) -> None:
        seen = self.memory.setdefault(box.boxname, {})
        now = lines(change, box.holds, box.complete)
        if seen.get(change.key, ()) != now:
            self._touch(box.boxname, change.key)
            if now:
                seen[change.key] = now
            else:
                del seen[change.key]

    def _touch(self, boxname: Boxname, *keys: Key) -> None:
        self.changed = True
        self.touched.setdefault(boxname, set()).update(keys)


def lines(change: Change, holds: Mapping[Side, Holds], complete: bool) -> tuple[Line, ...]:
    """What is to be remembered of one id, as its items are now; () = nothing.

    `complete`: both sides were listed without a message that could not be read. If not, nothing is forgotten.
    """
    if len(change.items) == 1:
        line = _line(change.items[0], holds, complete)
        return () if line is None else (_with_digests(change.items[0], line, False),)
    alive = [(item, line) for item in change.items if (line := _line(item, holds, complete)) is not None]
    return tuple(_with_digests(item, line, len(change.items) > 1) for item, line in alive)


def agreed(a: Flags, b: Flags, was: Flags | None, holds: Mapping[Side, Holds]) -> Flags | None:
    """The flags that both sides have agreed on; None if they never did.

    A flag that one side cannot hold is not remembered: if that side can hold it one day, it must look new there, and
    not taken away.
    """
    if a == b:
        return a
    a, b = holds[Side.B].of(a), holds[Side.A].of(b)
    if a == b:
        return a
    if was is None:
        return None
    return (a & b) | ((a ^ b) & was)


def _line(item: Item, holds: Mapping[Side, Holds], complete: bool) -> Line | None:
    a, b, was = item.a, item.b, item.line
    if a is None and b is None:
        return None if complete else was
    if a is None or b is None:
        return _with_mark(was, a or b)
    flags = agreed(a.flags, b.flags, was.flags if was else None, holds)
    return Line(a.id, flags, None, None if a.id == b.id else b.id)


def _with_mark(was: Line | None, left: Entry | None) -> Line | None:
    """A message that is left on one side, and marked \\Deleted there: if the mark goes, a user wants it back."""
    if was is None or left is None or DELETED not in left.flags or DELETED in (was.flags or ()):
        return was
    return was._replace(flags=(was.flags or NONE) | {DELETED})


def _with_digests(item: Item, line: Line, group: bool) -> Line:
    """Digests stand only where an id alone does not tell which message is meant: in groups, and for drafts."""
    if item.a is None or item.b is None:
        return line
    if item.digest_a is None or item.digest_b is None:
        return line
    if group or DRAFT in item.a.flags or DRAFT in item.b.flags:
        return line._replace(digests=Digests(item.digest_a, item.digest_b))
    return line
