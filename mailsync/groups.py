"""Tell the messages of one id apart, where the id alone does not: several in one box, and drafts saved again.

Members are paired by what they contain, never by order or number: both of those lose mail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from .model import DELETED, Digest, Duplicates, Entry, Failure, Flags, Line, MessageId, Side, Uid
from .plan import Copy, Delete, Item, SetFlags, Step, Why


class Fact(NamedTuple):
    """What only reading a whole message tells."""

    pairing: Digest  # of the canonical whole, odd bytes folded: equal on two servers that fold them otherwise
    exact: Digest  # of the canonical whole
    size: int  # bytes on the wire


Facts = Mapping[tuple[Side, Uid], Fact | Failure]


class Distinct(NamedTuple):
    """The members of one side without its duplicates."""

    entries: tuple[Entry, ...]  # flags of duplicates united
    duplicates: tuple[Delete, ...]
    real: Mapping[Uid, Flags]  # flags of those whose flags were united, as they truly are


def distinct(
    side: Side,
    members: Sequence[Entry],
    facts: Facts,
    rule: Duplicates,
    *,
    spared: bool,
    marks: bool = False,
    twins: Mapping[Digest, int] | None = None,
) -> Distinct:
    """One of each. The first stays; the others are to be deleted unless `rule` keeps, or policy `spared`, them.

    Where policy only `marks`, one that is marked counts as gone: its flags are those of the first no more.
    `twins`: how many messages each pairing digest stands for here. A server that rewrites mail makes equal what is not:
    of such messages so many stay.
    """
    if rule is Duplicates.SAME_ID:
        same: list[list[Entry]] = [list(members)] if members else []
    else:
        same = list(_by_exact(side, members, facts).values())
    alike = Counter(_fact(facts, side, each[0]).pairing for each in same) if twins else Counter[Digest]()
    entries, duplicates, real = [], [], {}
    for first, *others in same:
        stay = 0
        if others and twins:
            pairing = _fact(facts, side, first).pairing
            stay = max(0, twins.get(pairing, 0) - alike[pairing])
        others, staying = others[stay:], others[:stay]
        if others and rule is not Duplicates.KEEP:
            why = Why.SAME_ID if rule is Duplicates.SAME_ID else Why.DUPLICATE
            duplicates += [Delete(side, other, why, stays=first.uid) for other in others]
            here = [other for other in others if not (marks and DELETED in other.flags)]
            flags = first.flags if spared else _united([first, *here])
            if flags != first.flags:
                real[first.uid] = first.flags
                first = first._replace(flags=flags)
        entries += [first, *staying]
    return Distinct(tuple(entries), tuple(duplicates), real)


def with_united_flags(
    steps: Sequence[Step], items: Sequence[Item], real: Mapping[Side, Mapping[Uid, Flags]]
) -> Iterator[Step]:
    """The steps, so that the first of several duplicates also gets the flags of those that go.

    A deletion names the message with the flags that it has.
    """
    rest = {(side, uid) for side in Side for uid in real[side]}
    for step in steps:
        where = (step.on, step.entry.uid)
        if where not in rest or isinstance(step, Copy):
            yield step
            continue
        rest.discard(where)
        true = real[step.on][step.entry.uid]
        entry = step.entry._replace(flags=true)
        if isinstance(step, SetFlags):
            goal = (step.entry.flags | step.add) - step.remove
            yield SetFlags(step.on, entry, goal - true, true - goal)
        else:
            yield replace(step, entry=entry)
    for item in items:
        for side in Side:
            left = item.on(side)
            if left is not None and (side, left.uid) in rest:
                true = real[side][left.uid]
                yield SetFlags(side, left._replace(flags=true), left.flags - true, true - left.flags)


def twins(side: Side, lines: Sequence[Line], others: Sequence[Entry], facts: Facts) -> Mapping[Digest, int]:
    """How many messages each pairing digest stands for on this side: by what is remembered, and by what the `others` on
    the other side are.
    """
    remembered = Counter(line.digests.on(side) for line in lines if line.digests)
    different = Counter(
        _fact(facts, side.other, same[0]).pairing for same in _by_exact(side.other, others, facts).values()
    )
    return remembered | different  # the greater of both


def pair(lines: Sequence[Line], members: Mapping[Side, Sequence[Entry]], facts: Facts) -> tuple[Item, ...]:
    """The messages behind one id.

    A line names its message on each side by that side's digest; while one with that digest is left there, it stands for
    all lines that name it: that one of them was deleted cannot be told. What no line names pairs by equal digest, and
    what is left over stands alone: it is new. A line without digest (5.2.7 wrote it) is given to a message only where
    there is no choice.
    """
    left = {side: _by_digest(side, members[side], facts) for side in Side}
    there = {side: set(left[side].digests()) for side in Side}
    items = []
    for line in lines:
        if line.digests:
            a = left[Side.A].take(line.digests.a, line.id)
            b = left[Side.B].take(line.digests.b, line.alias or line.id)
            missing = Side.A if a is None else Side.B
            twin = (a is None) != (b is None) and line.digests.on(missing) in there[missing]
            items.append(Item(line, a, b, line.digests.a, line.digests.b, twin))
    plain = [line for line in lines if not line.digests]
    for digest in left[Side.A].digests():
        while digest in left[Side.A] and digest in left[Side.B]:
            line_or_none = plain.pop(0) if plain else None
            items.append(Item(line_or_none, left[Side.A].take(digest), left[Side.B].take(digest), digest, digest))
    alone = [Item(None, None, None).put(side, entry, digest) for side in Side for digest, entry in left[side].all()]
    if plain and len(alone) == 1 and not items:
        alone = [alone[0]._replace(line=plain.pop(0))]
    items += alone
    if plain and not items:
        items = [Item(line, None, None) for line in plain]
    return tuple(items)


def unpaired(lines: Sequence[Line], members: Mapping[Side, Sequence[Entry]]) -> tuple[Item, ...]:
    """The one message behind an id, where its content does not matter."""
    a, b = members[Side.A], members[Side.B]
    return (Item(lines[0] if lines else None, a[0] if a else None, b[0] if b else None),)


def _by_exact(side: Side, members: Sequence[Entry], facts: Facts) -> dict[Digest, list[Entry]]:
    same: dict[Digest, list[Entry]] = {}
    for entry in members:
        same.setdefault(_fact(facts, side, entry).exact, []).append(entry)
    return same


class _Members:
    def __init__(self, entries: Iterable[tuple[Digest, Entry]]) -> None:
        self._entries: dict[Digest, list[Entry]] = {}
        for digest, entry in entries:
            self._entries.setdefault(digest, []).append(entry)

    def __contains__(self, digest: Digest) -> bool:
        return bool(self._entries.get(digest))

    def digests(self) -> list[Digest]:
        return list(self._entries)

    def take(self, digest: Digest, id: MessageId | None = None) -> Entry | None:
        """One with this digest; of several the one with this id, if it is there."""
        found = self._entries.get(digest)
        if not found:
            return None
        return found.pop(next((n for n, entry in enumerate(found) if entry.id == id), 0))

    def all(self) -> list[tuple[Digest, Entry]]:
        return [(digest, entry) for digest, entries in self._entries.items() for entry in entries]


def _by_digest(side: Side, members: Sequence[Entry], facts: Facts) -> _Members:
    return _Members((_fact(facts, side, entry).pairing, entry) for entry in members)


def _fact(facts: Facts, side: Side, entry: Entry) -> Fact:
    fact = facts[side, entry.uid]
    assert isinstance(fact, Fact)  # the differ holds an id with a failure before it comes here
    return fact


def _united(entries: Sequence[Entry]) -> Flags:
    flags: Flags = frozenset().union(*(e.flags for e in entries))
    return flags if all(DELETED in e.flags for e in entries) else flags - {DELETED}
