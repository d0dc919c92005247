"""The three-way diff of one box. Knows nothing of other boxes, files, servers or time.

| here | there | seen |                                                          |
|------|-------|------|----------------------------------------------------------|
| x    | x     | any  | keep; flags merge three-way                              |
| x    | -     | -    | new: copy there                                          |
| x    | -     | x    | deleted there: delete here, unless it was kept since     |
| -    | -     | x    | forget                                                   |
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from . import groups, remember
from .groups import Facts
from .identity import key
from .model import (
    DELETED,
    DRAFT,
    FLAGGED,
    Boxname,
    BoxPolicy,
    BoxSeen,
    Duplicates,
    Entry,
    Failure,
    Flags,
    Holds,
    Key,
    Line,
    Listing,
    Side,
    Uid,
)
from .plan import BoxPlan, Change, Copy, Delete, Held, Item, SetFlags, Step, Why, safe_order
from .policy import limit_of, may_delete, why_held

Recorded = Callable[[Side, Uid], bool | None]
Members = Mapping[Side, Sequence[Entry]]  # the messages with one id


@dataclass(frozen=True)
class Case:
    """One box as it is: what the differ decides from."""

    boxname: Boxname
    listings: Mapping[Side, Listing]
    seen: BoxSeen = field(default_factory=dict)
    policy: BoxPolicy = field(default_factory=BoxPolicy)
    # Was this uid there when the memory was saved? None: no record tells.
    recorded: Recorded = lambda side, uid: None

    @property
    def holds(self) -> Mapping[Side, Holds]:
        return {side: self.listings[side].holds for side in Side}

    def complete(self, side: Side) -> bool:
        return self.listings[side].complete

    @cached_property
    def names(self) -> Mapping[Key, Key]:
        """What an id counts as, where that is another: an alias is the message's, and messages that share one are told
        apart by what they contain.
        """
        return _names(self.seen)

    @cached_property
    def known(self) -> BoxSeen:
        """What is remembered, by what the ids count as."""
        if not self.names:
            return self.seen
        known: dict[Key, tuple[Line, ...]] = {}
        for id, lines in self.seen.items():
            name = self.names.get(id, id)
            known[name] = known.get(name, ()) + lines
        return known

    @cached_property
    def index(self) -> tuple[dict[Side, dict[Key, Entry]], dict[Key, Members]]:
        """The entries of each side by id; and the members of each id that takes a look into its messages."""
        return _index(self)


def questions(case: Case) -> dict[Side, list[Uid]]:
    """The messages that must be read as a whole before `diff` can decide: members of groups, drafts; few or none."""
    asked: dict[Side, list[Uid]] = {side: [] for side in Side}
    for id, members in case.index[1].items():
        if not _settled(case, id, members):
            for side in Side:
                asked[side] += [entry.uid for entry in members[side]]
    return asked


def undated(case: Case) -> dict[Side, list[Uid]]:
    """The messages whose date must be known to tell whether they are copied, and the listing does not have it."""
    limited = case.policy.oldest is not None
    return _new(case, lambda entry: limited and entry.date is None)


def unsized(case: Case) -> dict[Side, list[Uid]]:
    """Likewise for their size; but not of those that are too old."""
    limited = case.policy.sizelimit is not None
    return _new(case, lambda entry: limited and entry.size is None and not limit_of(case.policy, entry))


def diff(case: Case, facts: Facts) -> BoxPlan:
    """The plan of one box. `facts` holds an answer for all that `questions` asked."""
    single, several = case.index
    a, b = single[Side.A], single[Side.B]
    holds = case.holds
    complete = all(map(case.complete, Side))
    changes = []
    quiet = 0
    settled = a.keys() == b.keys() == case.known.keys()
    for id in a if settled else {**a, **b, **dict.fromkeys(case.known)}:
        lines = case.known.get(id, ())
        if id in several:
            members = several[id]
            if _settled(case, id, members):
                quiet += len(lines)
                continue
            change = _group(case, id, lines, members, facts)
        else:
            ea, eb = a.get(id), b.get(id)
            if ea is not None and eb is not None and lines and ea.flags == eb.flags == lines[0].flags:
                quiet += 1
                continue
            change = _change(case, id, (Item(lines[0] if lines else None, ea, eb),))
        if change.steps or change.held or remember.lines(change, holds, complete) != lines:
            changes.append(change)
        else:
            quiet += change.remaining()
    # The lines of an id that counts as another are in the change of that one, if there is one.
    changed = {change.key for change in changes}
    changes += [Change(id, ()) for id in case.seen if case.names.get(id) in changed]
    duplicates = sorted((step for change in changes for step in _duplicates(change)), key=_place_in(case))
    found = {side: sum(id in single[side] for id in case.known) for side in Side}
    return BoxPlan(
        case.boxname,
        tuple(changes),
        quiet,
        holds,
        case.policy.sides,
        case.seen,
        found,
        tuple(duplicates),
        complete=complete,
    )


def merge(a: Flags, b: Flags, seen: Flags | None, holds: Mapping[Side, Holds]) -> Flags:
    """Three-way, per flag, of the flags that both sides can hold. Never agreed: united, but \\Deleted only if both."""
    a, b = holds[Side.B].of(holds[Side.A].of(a)), holds[Side.A].of(holds[Side.B].of(b))
    if seen is None:
        return (a | b) - {DELETED} | (a & b)
    return (a & b) | ((a ^ b) - seen)


def _new(case: Case, asked: Callable[[Entry], bool]) -> dict[Side, list[Uid]]:
    """Of the messages that may be copied those that are asked for."""
    single, several = case.index
    found: dict[Side, list[Uid]] = {side: [] for side in Side}
    for side in Side:
        new = single[side].keys() - single[side.other].keys() - case.known.keys() - several.keys()
        found[side] += [single[side][id].uid for id in new if asked(single[side][id])]
    for id, members in several.items():
        if not _settled(case, id, members):
            for side in Side:
                found[side] += [entry.uid for entry in members[side] if asked(entry)]
    return found


# ---- which messages an id stands for ---------------------------------------------------------------------------------


def _names(seen: BoxSeen) -> Mapping[Key, Key]:
    """The first of each set of ids that aliases make one, for all others of it."""
    names: dict[Key, Key] = {}

    def name(id: Key) -> Key:
        while id in names:
            id = names[id]
        return id

    for id, lines in seen.items():
        for line in lines:
            if line.alias is not None and (one := name(id)) != (other := name(key(line.alias))):
                names[other] = one
    return {id: name(id) for id in names}


def _index(case: Case) -> tuple[dict[Side, dict[Key, Entry]], dict[Key, Members]]:
    single: dict[Side, dict[Key, Entry]] = {Side.A: {}, Side.B: {}}
    extra: dict[tuple[Side, Key], list[Entry]] = {}
    several: dict[Key, Members] = {}
    by_content = case.policy.duplicates is not Duplicates.SAME_ID
    odd = {id for id, lines in case.known.items() if len(lines) > 1 or lines[0].digests} if by_content else set()
    for side in Side:
        ids = single[side]
        for entry in case.listings[side].entries:
            id = key(entry.id)
            if case.names:
                id = case.names.get(id, id)
            if id in ids:
                extra.setdefault((side, id), []).append(entry)
                odd.add(id)
            else:
                ids[id] = entry
                if by_content and DRAFT in entry.flags:
                    odd.add(id)
    for id in odd:
        several[id] = {s: [single[s][id], *extra.get((s, id), ())] if id in single[s] else [] for s in Side}
    return single, several


def _settled(case: Case, id: Key, members: Members) -> bool:
    """True if this group is as it was when the memory was saved, which then has nothing to do for it."""
    lines = case.known.get(id, ())
    return bool(lines) and all(
        len(members[side]) == len(lines)
        and all(
            entry.flags == lines[0].flags and DRAFT not in entry.flags and case.recorded(side, entry.uid)
            for entry in members[side]
        )
        for side in Side
    ) and all(line.flags == lines[0].flags for line in lines)  # fmt: skip


def _group(case: Case, id: Key, lines: Sequence[Line], members: Members, facts: Facts) -> Change:
    rule = case.policy.duplicates
    if rule is Duplicates.SAME_ID:
        return _by_rule(case, id, lines, members, facts, rule)
    answers = [facts[side, entry.uid] for side in Side for entry in members[side]]
    failure = next((answer for answer in answers if isinstance(answer, Failure)), None)
    if failure:
        return _unreadable(id, lines, members, failure)
    change = _by_rule(case, id, lines, members, facts, rule)
    held_to = {held.step.to for held in change.held if isinstance(held.step, Copy)}
    if len(change.items) == 2 and held_to == set(Side):
        # Two messages that stay where they are: without their duplicates their id would make them one.
        return _by_rule(case, id, lines, members, facts, Duplicates.KEEP)
    return change


def _by_rule(
    case: Case, id: Key, lines: Sequence[Line], members: Members, facts: Facts, duplicates: Duplicates
) -> Change:
    policy = case.policy
    same_id = duplicates is Duplicates.SAME_ID
    twins = {} if same_id else {side: groups.twins(side, lines, members[side.other], facts) for side in Side}
    one = {
        side: groups.distinct(
            side,
            members[side],
            facts,
            duplicates,
            spared=not may_delete(policy.sides[side]),
            marks=policy.sides[side].marks,
            twins=twins.get(side),
        )
        for side in Side
    }
    entries = {side: one[side].entries for side in Side}
    items = groups.unpaired(lines, entries) if same_id else groups.pair(lines, entries, facts)
    real = {side: one[side].real for side in Side}
    return _change(case, id, items, [step for side in Side for step in one[side].duplicates], real)


def _unreadable(id: Key, lines: Sequence[Line], members: Members, failure: Failure) -> Change:
    """Nothing is done, and what is remembered stays, for an id one of whose messages cannot be read."""
    side = Side.A if members[Side.A] else Side.B
    first = members[side][0]
    items = tuple(Item(line, None, None).put(side, first) for line in lines)
    return Change(id, items, (), (Held(Copy(side.other, first, first.flags), f"cannot be read: {failure.why}"),))


# ---- what each message needs -----------------------------------------------------------------------------------------


def _change(
    case: Case,
    id: Key,
    items: tuple[Item, ...],
    duplicates: Sequence[Delete] = (),
    real: Mapping[Side, Mapping[Uid, Flags]] | None = None,
) -> Change:
    wanted = [step for item in items for step in _wanted(case, item)]
    if real:
        wanted = list(groups.with_united_flags(wanted, items, real))
    wanted += duplicates
    copied_to = {step.to for step in wanted if isinstance(step, Copy)}
    steps: list[Step] = []
    held: list[Held] = []
    for step in sorted(wanted, key=safe_order):
        if isinstance(step, Delete) and step.why is Why.GONE_THERE and step.on in copied_to:
            step = replace(step, why=Why.REPLACED)
        if isinstance(step, Delete) and case.policy.sides[step.on].marks:
            if DELETED in step.entry.flags:
                continue
            step = replace(step, marks=True)
        why = why_held(step, case.policy, case.holds, {side: case.complete(side) for side in Side})
        if why:
            held.append(Held(step, why))
        else:
            steps.append(step)
    return Change(id, items, tuple(steps), tuple(held))


def _wanted(case: Case, item: Item) -> Iterator[Step]:
    """The truth table."""
    match item.a, item.b:
        case _ if item.twin:  # keep, and tell nothing apart
            pass
        case Entry() as a, Entry() as b:
            flags = merge(a.flags, b.flags, item.line.flags if item.line else None, case.holds)
            if case.policy.expunge_all and DELETED in flags:
                yield Delete(Side.A, a, Why.MARKED)
                yield Delete(Side.B, b, Why.MARKED)
            else:
                yield from _flag_steps({Side.A: a, Side.B: b}, flags, case.holds)
        case None, None:  # gone from both: forget
            pass
        case _:
            side = Side.A if item.a else Side.B
            entry = item.on(side)
            assert entry
            if item.line is None or _is_another(case, side, entry, item.line):  # new here
                yield Copy(side.other, entry, entry.flags)
                if case.policy.expunge_all and DELETED in entry.flags and not case.policy.copy_deleted:
                    yield Delete(side, entry, Why.MARKED)
            elif _is_kept(case, side, entry, item.line):
                yield Copy(side.other, entry, entry.flags, rescues=True)
            else:  # deleted there
                yield Delete(side, entry, Why.GONE_THERE)


def _is_another(case: Case, side: Side, entry: Entry, line: Line) -> bool:
    """True if this may not be the message that was seen."""
    if line.digests is not None and line.digests.a != line.digests.b:
        return True  # the server there rewrites mail: that what is gone was this one is no more than likely
    return case.recorded(side, entry.uid) is False


def _is_kept(case: Case, side: Side, entry: Entry, line: Line) -> bool:
    """True if a message that is gone there must live on: a user has wanted it since, or that store has lost it."""
    if case.listings[side.other].put_back:
        return True
    if line.flags is None or DELETED in entry.flags:
        return False
    # What the other side cannot hold was never agreed: it may have been there all the time.
    return FLAGGED in case.holds[side.other].of(entry.flags) - line.flags or DELETED in line.flags


def _flag_steps(entries: Mapping[Side, Entry], flags: Flags, holds: Mapping[Side, Holds]) -> Iterator[SetFlags]:
    for side, entry in entries.items():
        add, remove = flags - entry.flags, holds[side.other].of(entry.flags) - flags
        if add or remove:
            yield SetFlags(side, entry, add, remove)


def _duplicates(change: Change) -> Iterator[Delete]:
    for step in (*change.steps, *(held.step for held in change.held)):
        if isinstance(step, Delete) and step.why in (Why.DUPLICATE, Why.SAME_ID):
            yield step


def _place_in(case: Case) -> Callable[[Delete], int]:
    """The order in which duplicates are told, as 5.2.7 does: that of the mailbox."""
    places: dict[Side, dict[Uid, int]] = {}

    def place(step: Delete) -> int:
        if step.on not in places:
            places[step.on] = {entry.uid: n for n, entry in enumerate(case.listings[step.on].entries)}
        return places[step.on][step.entry.uid]

    return place
