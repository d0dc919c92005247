"""The modes that only look: a store listed, and a store against what a channel remembers of it."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence

from . import differ, look
from .differ import Case
from .errors import UsageError
from .groups import Fact, Facts
from .identity import key
from .model import (
    NONE,
    Boxname,
    BoxPolicy,
    BoxSeen,
    Digest,
    Duplicates,
    Entry,
    Failure,
    Identify,
    Key,
    Listing,
    Side,
    Uid,
)
from .msinfo.mailbox import Msinfo
from .names import Patterns, order
from .plan import Copy, Delete, SetFlags
from .report import Report, Summary
from .report.results import Compared, Listed
from .stores import Store

HERE, REMEMBERED = Side.A, Side.B


def list_store(store: Store, identify: Identify, report: Report) -> Summary:
    """The boxnames of a store; with -m their messages, too."""
    report.begin("list", [store.name])
    summary = Summary()
    contents = store.contents()
    report.debug(store.told(contents))
    stores = dict.fromkeys(Side, store)
    for boxname in order(contents.boxes):
        if not report.details or not contents.boxes[boxname].selectable:
            report.listed(Listed(boxname, contents.boxes[boxname].selectable))
            continue
        for _, found in look.listings(stores, {boxname: frozenset({HERE})}, identify):
            if isinstance(found, Failure):
                summary.failed += 1
                report.problem(f"{boxname}: {found.why}", found.hint)
            else:
                listing = found[HERE]
                heads = look.heads(
                    stores, dict.fromkeys(Side, boxname), ((HERE, entry.uid) for entry in listing.entries)
                )
                report.listed(Listed(boxname, True, listing, heads))
                for failure in listing.unreadable:
                    summary.failed += 1
                    report.problem(f"{boxname}: {failure}", failure.hint)
    summary.failed += _tell_failed(contents.failed, contents.strays, report)
    for boxname, why in contents.unwanted.items():
        report.note(f"{boxname}: {why}")
    report.end(summary)
    return summary


def compare(
    channel: str, store: Store, msinfo: Msinfo, identify: Identify, report: Report, only: Sequence[str] = ()
) -> Summary:
    """What happened in a store since the last run: the same diff, with the memory in the place of the other store."""
    report.begin("diff", [channel, store.name])
    summary = Summary()
    memory = msinfo.load()
    for note in msinfo.notes:
        report.note(note)
    for note in msinfo.forged:
        report.note(note, asked=True)
    contents = store.contents()
    report.debug(store.told(contents))
    stores = dict.fromkeys(Side, store)
    wanted = {name: info.selectable for name, info in contents.boxes.items()}
    seen = [name for name in memory if memory[name] and store.wants(name) and name not in contents.unwanted]
    gone = [name for name in seen if name not in wanted]
    todo = {name: frozenset({HERE}) for name in order(name for name in wanted if wanted[name])}
    todo |= {name: frozenset() for name in order(gone) if not contents.failure(name)}
    if only:
        todo = {name: on for name, on in todo.items() if Patterns(only).matches(name)}
        if not todo:
            raise UsageError(f"store {store.name} has no mailbox {', '.join(only)}, and none is remembered")
    for boxname, found in look.listings(stores, todo, identify):
        if isinstance(found, Failure):
            summary.failed += 1
            report.problem(f"{boxname}: {found.why}", found.hint)
            continue
        listing = found[HERE]
        for failure in listing.unreadable:
            summary.failed += 1
            report.problem(f"{boxname}: {failure}", failure.hint)
        report.compared(_compared(stores, boxname, listing, memory.get(boxname, {}), report.details))
    for failure in contents.nameless.values():
        summary.failed += 1
        report.problem(failure.why, failure.hint)
    summary.failed += _tell_failed({n: f for n, f in contents.failed.items() if memory.get(n)}, (), report)
    report.end(summary)
    return summary


def _tell_failed(failed: Mapping[Boxname, Failure], strays: Container[Boxname], report: Report) -> int:
    """Names that cannot be looked into. Returns how many of them are a problem."""
    problems = 0
    for boxname, failure in failed.items():
        if boxname in strays:
            report.note(f"{boxname}: {failure.why}")
        else:
            problems += 1
            report.problem(f"{boxname}: {failure.why}", failure.hint)
    return problems


def _compared(stores: look.Stores, boxname: Boxname, listing: Listing, seen: BoxSeen, details: bool) -> Compared:
    flags = {key(entry.id): entry.flags for entry in listing.entries}  # where none were agreed, none have changed
    remembered = [
        Entry(Uid(f"{n}.{id}"), line.id, flags.get(id, NONE) if line.flags is None else line.flags)
        for id, lines in seen.items()
        for n, line in enumerate(lines)
    ]
    there = Listing(listing.mailbox, remembered, listing.holds)
    policy = BoxPolicy(copy_deleted=True, duplicates=Duplicates.IDENTICAL)
    case = Case(boxname, {HERE: listing, REMEMBERED: there}, seen, policy)
    asked = differ.questions(case)
    read = look.facts(stores, dict.fromkeys(Side, boxname), {HERE: asked[HERE]})
    facts = {**read, **_remembered_facts(seen, _first_digests(listing, read))}
    plan = differ.diff(case, facts)
    steps = list(plan.steps())
    duplicates = [step for step in plan.duplicates if step.on is HERE]
    new = sum(isinstance(s, Copy) and s.to is REMEMBERED for s in steps)
    deleted = sum(isinstance(s, Delete) and s.on is REMEMBERED for s in steps)
    flagged = sum(isinstance(s, SetFlags) and s.on is REMEMBERED for s in steps)
    heads = (
        look.heads(stores, dict.fromkeys(Side, boxname), ((HERE, s.entry.uid) for s in duplicates)) if details else {}
    )
    current = len(listing.entries) - len(duplicates)
    return Compared(boxname, [(s.entry.uid, s.entry.id) for s in duplicates], new, deleted, flagged, current, heads)


def _remembered_facts(seen: BoxSeen, members: Mapping[Key, Digest]) -> Facts:
    """A remembered message is known by its digest; one without, by that of the first with its id."""
    facts: dict[tuple[Side, Uid], Fact | Failure] = {}
    for id, lines in seen.items():
        for n, line in enumerate(lines):
            digest = line.digests.on(HERE) if line.digests else members.get(id, Digest(""))
            facts[REMEMBERED, Uid(f"{n}.{id}")] = Fact(digest, Digest(f"{digest}{n}"), 0)
    return facts


def _first_digests(listing: Listing, facts: Facts) -> dict[Key, Digest]:
    found: dict[Key, Digest] = {}
    for entry in listing.entries:
        fact = facts.get((HERE, entry.uid))
        if isinstance(fact, Fact):
            found.setdefault(key(entry.id), fact.pairing)
    return found
