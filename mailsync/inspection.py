"""See what is wrong in what a check has read: names, headers, digests, plans. Knows no store, file or clock."""

from __future__ import annotations

import unicodedata
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from . import groups
from .differ import Case
from .findings import Finding, Kind, Member
from .groups import Fact, Facts
from .header import no_fields
from .identity import examine, identify, key
from .model import Boxname, Duplicates, Entry, Failure, Fault, Key, Side
from .names import BadName, check, collisions
from .plan import BoxPlan, Copy, Delete, Held, SetFlags, Step, Why
from .wording import many

LONG_HEADER = 100 * 1024  # bytes; Postfix takes what is beyond for a part of the body
EMPTY = examine(()).exact


class Place(NamedTuple):
    """A mailbox in one of the stores."""

    side: Side
    store: str
    boxname: Boxname


# ---- names -----------------------------------------------------------------------------------------------------------


def of_names(names: Collection[Boxname], store: str) -> Iterator[Finding]:
    """Those that no mailbox should have, and those that are one where `A` and `a` are the same."""
    for name in names:
        try:
            check(name)
        except BadName as err:
            yield Finding(Kind.BAD_NAME, name, f"no name for a mailbox, in {store}: {err}", store)
    yield from _collisions(names, f"in {store}", store)


def of_names_together(names: Mapping[Side, Collection[Boxname]]) -> Iterator[Finding]:
    """Likewise, where each side has one of the names."""
    a, b = frozenset(names[Side.A]), frozenset(names[Side.B])
    only = [name for name in (*names[Side.A], *names[Side.B]) if (name in a) != (name in b)]
    for found in _collisions(only, "of the other store", ""):
        one, other = found.names
        if (one in a) != (other in a):
            yield found


def _collisions(names: Iterable[Boxname], where: str, store: str) -> Iterator[Finding]:
    for one, other in collisions(names, _folded):
        text = f"the same name as {other} {where} to a server or file system that tells no capitals apart"
        yield Finding(Kind.COLLISION, one, text, store, 1, (), (one, other), "Rename one of the two.")


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name.casefold())


# ---- one mailbox -----------------------------------------------------------------------------------------------------


def of_fault(place: Place, fault: Fault) -> Finding:
    text = f"{fault} in {place.store}"
    return Finding(fault.kind, place.boxname, text, place.store, fault.count, (), fault.names, fault.hint)


def of_box(place: Place, failure: Failure) -> Finding:
    """It cannot be looked into."""
    text = f"cannot be looked into in {place.store}: {failure.why}"
    return Finding(Kind.UNLISTED, place.boxname, text, place.store, hint=failure.hint)


def of_failures(place: Place, failures: Sequence[Failure]) -> Iterator[Finding]:
    """Messages that are there and cannot be read."""
    if failures:
        text = f"{many(len(failures), 'message')} cannot be read in {place.store}: {failures[0]}"
        names = tuple(map(str, failures))
        yield Finding(Kind.UNREADABLE, place.boxname, text, place.store, len(failures), (), names, failures[0].hint)


def of_header(header: bytes) -> Iterator[Kind]:
    if _BY_ID.sure(header) is None:
        yield Kind.NO_ID
    if next(no_fields(header), None) is not None:
        yield Kind.ODD_HEADER
    if len(header) > LONG_HEADER:
        yield Kind.LONG_HEADER


def has_odd_bytes(header: bytes) -> bool:
    """What servers may change or refuse."""
    return b"\0" in header or not header.isascii()


def odd_bytes(number: int) -> str:
    return f"{many(number, 'message')} with NUL or 8-bit bytes in the header"


def is_empty(fact: Fact | Failure | None) -> bool:
    return isinstance(fact, Fact) and fact.exact == EMPTY


_BY_ID = identify("msgid")
_TEXTS = {
    Kind.NO_ID: "without Message-ID",
    Kind.ODD_HEADER: "with lines in the header that are no field",
    Kind.LONG_HEADER: "with a header of more than 100 KB",
    Kind.EMPTY: "without any content",
}


def of_messages(place: Place, found: Mapping[Kind, Sequence[Entry]]) -> Iterator[Finding]:
    """Messages of which something is told: what `of_header` gave; of those that are EMPTY nothing else is."""
    empty = {entry.uid for entry in found.get(Kind.EMPTY, ())}
    for kind, text in _TEXTS.items():
        entries = [entry for entry in found.get(kind, ()) if kind is Kind.EMPTY or entry.uid not in empty]
        if entries:
            yield _finding(kind, place, f"{many(len(entries), 'message')} {text} in {place.store}", entries)


def alike(entries: Iterable[Entry]) -> list[list[Entry]]:
    """Those messages of a mailbox that share an id: only what they contain tells them apart."""
    by_id: dict[Key, list[Entry]] = {}
    for entry in entries:
        by_id.setdefault(key(entry.id), []).append(entry)
    return [members for members in by_id.values() if len(members) > 1]


def of_alike(place: Place, several: Iterable[Sequence[Entry]], facts: Facts) -> Iterator[Finding]:
    """`facts` of all of them; what could not be read is left out."""
    further: list[Entry] = []
    different: list[Entry] = []
    ids = 0
    for members in several:
        known = [entry for entry in members if isinstance(facts.get((place.side, entry.uid)), Fact)]
        one = groups.distinct(place.side, known, facts, Duplicates.IDENTICAL, spared=True)
        further += [step.entry for step in one.duplicates]
        if len(one.entries) > 1:
            ids += 1
            different += one.entries
    if further:
        yield _finding(Kind.IDENTICAL, place, f"{many(len(further), 'duplicate')} in {place.store}", further)
    if different:
        text = f"{len(different)} different messages with {many(ids, 'id')} in {place.store}"
        yield _finding(Kind.SAME_ID, place, text, different)


def _finding(kind: Kind, place: Place, text: str, entries: Sequence[Entry]) -> Finding:
    members = [Member(place.side, entry.uid, entry.id) for entry in entries]
    return Finding(kind, place.boxname, text, place.store, len(members), members)


# ---- both sides ------------------------------------------------------------------------------------------------------


def of_plan(plan: BoxPlan, stores: Mapping[Side, str]) -> Iterator[Finding]:
    """What only one side has, and why; duplicates are told for each side alone."""
    if not plan.exists:
        remembered = sum(map(len, plan.seen.values()))
        text = f"remembered with {many(remembered, 'message')}, and in neither store"
        yield Finding(Kind.BOX_FORGOTTEN, plan.boxname, text, count=remembered)
        return
    for side in plan.create:
        yield Finding(Kind.MISSING, plan.boxname, f"not there in {stores[side]}", stores[side])
    for (kind, store, text), steps in _by_text(plan, stores).items():
        members = [_lies(step) for step in steps]
        yield Finding(kind, plan.boxname, f"{many(len(steps), 'message')} {text}", store, len(steps), members)
    if plan.complete:
        lines = [
            item.line
            for change in plan.changes
            for item in change.items
            if item.line is not None and item.a is None and item.b is None
        ]
        if lines:
            text = f"{many(len(lines), 'message')} remembered that neither store has any more"
            yield Finding(Kind.FORGOTTEN, plan.boxname, text, count=len(lines), names=[line.id for line in lines])


def differing(case: Case, facts: Facts, plan: BoxPlan | None) -> Iterator[Member]:
    """Messages that pass for the same on both sides, and are not: the first side's, where both have one.

    `facts`: of all messages. `plan`: what is known to be on one side only is not told again.
    """
    single, several = case.index
    a, b = single[Side.A], single[Side.B]
    for id in a:
        if id in b and id not in several:
            here, there = facts.get((Side.A, a[id].uid)), facts.get((Side.B, b[id].uid))
            if isinstance(here, Fact) and isinstance(there, Fact) and here.pairing != there.pairing:
                yield Member(Side.A, a[id].uid, a[id].id)
    told = set() if plan is None else {_lies(step)[:2] for step in _all_steps(plan)}
    for id, members in several.items():
        where = [(side, entry.uid) for side in Side for entry in members[side]]
        if not all(members[side] for side in Side) or not all(isinstance(facts.get(w), Fact) for w in where):
            continue
        entries = {s: groups.distinct(s, members[s], facts, Duplicates.IDENTICAL, spared=True).entries for s in Side}
        for item in groups.pair(case.known.get(id, ()), entries, facts):
            entry = item.a or item.b
            side = Side.A if item.a else Side.B
            alone = item.a is None or item.b is None
            if entry is not None and alone and not item.twin and (side, entry.uid) not in told:
                yield Member(side, entry.uid, entry.id)


def of_differing(boxname: Boxname, members: Sequence[Member], stores: Mapping[Side, str]) -> Iterator[Finding]:
    if members:
        be = "differs" if len(members) == 1 else "differ"
        text = f"{many(len(members), 'message')} with the same id {be} between {stores[Side.A]} and {stores[Side.B]}"
        yield Finding(Kind.DIFFERS, boxname, text, count=len(members), members=members)


def _by_text(plan: BoxPlan, stores: Mapping[Side, str]) -> dict[tuple[Kind, str, str], list[Step]]:
    """Steps of which the same is told, together: copies, deletions, flags, and at last what is held."""
    found: dict[tuple[Kind, str, str], list[Step]] = {}
    for step in sorted(plan.steps(), key=_order):
        if not _is_duplicate(step):
            found.setdefault(_told(step, stores[step.on]), []).append(step)
    for held in plan.held():
        if not _is_duplicate(held.step):
            found.setdefault(_told_held(held, stores[held.step.on]), []).append(held.step)
    return found


def _told(step: Step, store: str) -> tuple[Kind, str, str]:
    match step:
        case Copy():
            return Kind.NEW, store, f"to copy to {store}"
        case Delete(why=why):
            return Kind.DELETED, store, f"to delete in {store}: {why.value}"
        case SetFlags():
            return Kind.FLAGS, store, f"with flags to change in {store}"


def _told_held(held: Held, store: str) -> tuple[Kind, str, str]:
    what = {Copy: "not copied to", Delete: "not deleted in", SetFlags: "with flags not changed in"}[type(held.step)]
    return Kind.HELD, store, f"{what} {store}, held: {held.why}"


def _order(step: Step) -> tuple[int, str]:
    kinds = (Copy, Delete, SetFlags)
    return kinds.index(type(step)), step.on.value


def _is_duplicate(step: Step) -> bool:
    return isinstance(step, Delete) and step.why in (Why.DUPLICATE, Why.SAME_ID)


def _all_steps(plan: BoxPlan) -> Iterator[Step]:
    yield from plan.steps()
    for held in plan.held():
        yield held.step


def _lies(step: Step) -> Member:
    """The message of a step, where it is now."""
    return Member(step.to.other if isinstance(step, Copy) else step.on, step.entry.uid, step.entry.id)
