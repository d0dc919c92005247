"""Look over the plans of all boxes: a message that goes from one and comes to another was moved. Pure.

A copy whose message lies in another box of the target need not be sent; with a deletion there it is a move. But only
where both are surely the same: `candidates` tells what may be, who can look into messages says what is, `join` uses it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from .differ import merge
from .model import NONE, Boxname, Digest, Entry, Flags, Holds, Key, Side, Uid
from .plan import BoxPlan, Change, Copy, Delete, Held, Item, Mark, Near, Plan, SetFlags, Step, Why, mark, safe_order
from .policy import LIMITS, MARKED_DELETED

WAITS = "its copy into another mailbox is held"

Quiet = Callable[[Side, Key, Boxname], tuple[Boxname, Entry] | None]
Place = tuple[Boxname, Mark]  # of a step in the plan


@dataclass(frozen=True, slots=True)
class Candidate:
    """A copy, and a message of the target store that may be the same."""

    boxname: Boxname
    copy: Copy
    source: Boxname
    item: Item  # of the source; where it needs nothing, only its entry there
    leaving: Entry | None = None  # the plan deletes it there: as it truly lies, without the flags of its duplicates
    changing: Flags = NONE  # the flags that the plan changes there
    sure: bool = False  # they are known to be the same

    @property
    def place(self) -> Place:
        return self.boxname, mark(self.copy)

    @property
    def goes(self) -> bool:
        return self.leaving is not None

    @property
    def entry(self) -> Entry:
        """The message in the target store."""
        entry = self.item.on(self.copy.to)
        assert entry
        return entry


@dataclass(frozen=True, slots=True)
class _Lying:
    """A message of a store that some plan names."""

    boxname: Boxname
    item: Item
    digest: Digest | None
    leaving: Entry | None
    changing: Flags


def settle_rescues(plan: Plan) -> Plan:
    """What a user wants back, and has in another box already, is moved there and not copied back."""
    arriving = {
        (step.to, change.key): box.boxname for box, change, step, why in _copies(plan) if not (step.rescues or why)
    }

    def moved(box: BoxPlan, change: Change) -> Change:
        [item, *others] = change.items or (None,)
        if item is None or others or item.digest_a or item.digest_b:
            return change
        steps = tuple(_moved_instead(box, change, step, arriving) for step in change.steps)
        return change if steps == change.steps else replace(change, steps=steps)

    return _each(plan, moved)


def candidates(plan: Plan, quiet: Quiet) -> Iterator[Candidate]:
    """At most one for each copy that is planned, or held only because of what does not concern a message that is there:
    a limit; with a move also the flag \\Deleted.

    `quiet`: a message with this id in another box of that side than the one that is named, which needs nothing.
    """
    copies = list(_copies(plan))
    wanted = {(step.to, change.key) for _, change, step, _ in copies}
    lying = _lying(plan, wanted)
    claimed: set[tuple[str, Boxname, Uid, Side]] = set()  # a message moves once, and is copied once to each box
    for box, change, step, why in copies:
        digest = _digest_of(change, step)
        around = [one for one in lying.get((step.to, change.key), ()) if one.boxname != box.boxname]
        if why == MARKED_DELETED:
            around = [one for one in around if one.leaving]
        for one in sorted((one for one in around if one.digest == digest), key=lambda one: not one.leaving):
            entry = one.item.on(step.to)
            assert entry
            claim = ("" if one.leaving else box.boxname, one.boxname, entry.uid, step.to)
            if claim not in claimed:
                claimed.add(claim)
                sure = digest is not None
                yield Candidate(box.boxname, step, one.boxname, one.item, one.leaving, one.changing, sure)
                break
        else:
            found = None if around or digest or why == MARKED_DELETED else quiet(step.to, change.key, box.boxname)
            if found:
                source, entry = found
                yield Candidate(box.boxname, step, source, Item(None, None, None).put(step.to, entry))


def join(plan: Plan, found: Iterable[Candidate]) -> Plan:
    """The plan with its moves, and with each deletion held that belongs to a copy which is held.

    Else a message that was moved would be gone from that store until the copy may be made.
    """
    boxes = {box.boxname: box for box in plan.boxes}
    used = [
        replace(one, sure=one.sure and _keeps_flags(one, boxes[one.boxname], boxes[one.source].holds[one.copy.to]))
        for one in found
    ]
    near = {one.place: one for one in used if one.sure or one.goes}
    moves = {(one.source, one.copy.to, one.entry.uid) for one in used if one.sure and one.goes}

    def joined(box: BoxPlan, change: Change) -> Change:
        released = [held for held in change.held if (one := near.get((box.boxname, mark(held.step)))) and one.sure]
        steps: list[Step] = []
        for step in (*(held.step for held in released), *change.steps):
            one = near.get((box.boxname, mark(step)))
            if one and isinstance(step, Copy):
                steps += _arrival(box, step, one)
            elif isinstance(step, Delete) and (box.boxname, step.on, step.entry.uid) in moves:
                steps.append(replace(step, why=Why.MOVED))
            else:
                steps.append(step)
        if tuple(steps) == change.steps:
            return change
        held = tuple(held for held in change.held if held not in released)
        return replace(change, steps=tuple(sorted(steps, key=safe_order)), held=held)

    return _holding(_each(plan, joined) if near else plan)


def _arrival(box: BoxPlan, step: Copy, one: Candidate) -> Iterator[Step]:
    """The copy, and with a move the flags that users have changed in the old box meanwhile."""
    flags = _flags(one, box)
    yield replace(
        step, flags=flags, near=Near(one.source, one.leaving or one.entry, _moves(one, box)) if one.sure else None
    )
    here, other = step.entry.flags, step.to.other
    add, remove = box.holds[step.to].of(flags) - here, box.holds[step.to].of(here) - flags
    if (add or remove) and not box.sides[other].refuses:
        yield SetFlags(other, step.entry, add, remove)


def _flags(one: Candidate, box: BoxPlan) -> Flags:
    """Those that the copy is to have."""
    if not one.goes:
        return one.copy.flags
    here, there = one.copy.entry.flags, one.entry.flags
    a, b = (here, there) if one.copy.to is Side.B else (there, here)
    merged = merge(a, b, one.item.line.flags if one.item.line else None, box.holds)
    return merged | (here - box.holds[one.copy.to].of(here))


def _moves(one: Candidate, box: BoxPlan) -> bool:
    return one.goes and not box.sides[one.copy.to].marks


def _keeps_flags(one: Candidate, box: BoxPlan, source: Holds) -> bool:
    """Whether the message can have its flags when it arrives: cut off afterwards, wrong ones would look changed.

    Before a move they can be changed where it lies; a copy must have them as they are.
    """
    holds = box.holds[one.copy.to]
    wanted = holds.of(_flags(one, box))
    if _moves(one, box):
        return source.of(wanted) == wanted
    return holds.of(one.entry.flags) == wanted and not one.changing


def _moved_instead(box: BoxPlan, change: Change, step: Step, arriving: Mapping[tuple[Side, Key], Boxname]) -> Step:
    if not isinstance(step, Copy) or not step.rescues:
        return step
    on = step.to.other
    target = arriving.get((on, change.key))
    if target is None or target == box.boxname or box.sides[on].spares or box.sides[on].refuses or not box.complete:
        return step
    return Delete(on, step.entry, Why.GONE_THERE, marks=box.sides[on].marks)


def _holding(plan: Plan) -> Plan:
    waiting = {
        (held.step.to, change.key)
        for box in plan.boxes
        for change in box.changes
        for held in change.held
        if isinstance(held.step, Copy)
    }

    def waits(box: BoxPlan, change: Change) -> Change:
        held = [
            step
            for step in change.steps
            if isinstance(step, Delete)
            and step.why in (Why.GONE_THERE, Why.REPLACED)
            and (step.on, change.key) in waiting
        ]
        if not held:
            return change
        steps = tuple(step for step in change.steps if step not in held)
        return replace(change, steps=steps, held=change.held + tuple(Held(step, WAITS) for step in held))

    return _each(plan, waits) if waiting else plan


def _each(plan: Plan, act: Callable[[BoxPlan, Change], Change]) -> Plan:
    """The plan with these changes; a box with a deletion that is held is not removed."""

    def acted(box: BoxPlan) -> BoxPlan:
        changes = tuple(act(box, change) for change in box.changes)
        if all(new is old for new, old in zip(changes, box.changes, strict=True)):
            return box
        stays = any(isinstance(held.step, Delete) for change in changes for held in change.held)
        return replace(box, changes=changes, remove=() if stays else box.remove)

    return replace(plan, boxes=tuple(map(acted, plan.boxes)))


def _copies(plan: Plan) -> Iterator[tuple[BoxPlan, Change, Copy, str]]:
    """Those that are planned, and those that may be held for nothing; with the reason."""
    for box in plan.boxes:
        for change in box.changes:
            for step in change.steps:
                if isinstance(step, Copy):
                    yield box, change, step, ""
            for held in change.held:
                if isinstance(held.step, Copy) and held.why in (*LIMITS, MARKED_DELETED):
                    yield box, change, held.step, held.why


def _lying(plan: Plan, wanted: Collection[tuple[Side, Key]]) -> Mapping[tuple[Side, Key], list[_Lying]]:
    found: dict[tuple[Side, Key], list[_Lying]] = {}
    for box in plan.boxes:
        for change in box.changes:
            if not any((s, change.key) in wanted and any(i.on(s) is not None for i in change.items) for s in Side):
                continue
            leaving = {
                (s.on, s.entry.uid): s.entry for s in change.steps if isinstance(s, Delete) and s.why is Why.GONE_THERE
            }
            flags = {(s.on, s.entry.uid): s.add | s.remove for s in change.steps if isinstance(s, SetFlags)}
            for side in Side:
                if (side, change.key) in wanted:
                    found.setdefault((side, change.key), []).extend(
                        _Lying(
                            box.boxname,
                            item,
                            item.digest(side),
                            leaving.get((side, entry.uid)),
                            flags.get((side, entry.uid), NONE),
                        )
                        for item in change.items
                        if (entry := item.on(side)) is not None
                    )
    return found


def _digest_of(change: Change, step: Copy) -> Digest | None:
    here = step.to.other
    return next(
        (i.digest(here) for i in change.items if (e := i.on(here)) is not None and e.uid == step.entry.uid), None
    )
