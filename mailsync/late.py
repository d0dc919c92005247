"""What a server did late: a copy that was sent again, because a connection broke, came twice after all.

A server may carry out a command that it had received before the connection broke when we have looked already and sent
the same once more; no client can prevent that. So one looks again, and one of the two goes. Left alone is all that may
be something else: an id that stood for several messages, messages that differ, flags that somebody has changed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

from . import look
from .errors import BoxError
from .groups import Fact, Facts
from .identity import key
from .model import Boxname, Entry, Failure, Identify, Key, Side, SidePolicy, Uid
from .plan import BoxPlan, Change, Copy, Delete, Mark, Why, mark
from .policy import may_delete

Again = tuple[Side, Key]  # where to, and what


def sent_again(unanswered: Collection[Mark], plan: BoxPlan) -> set[Again]:
    """The copies of this plan that may have been sent already, each the only message with its id."""
    return {
        (step.to, change.key)
        for change in plan.changes
        for step in change.steps
        if isinstance(step, Copy) and mark(step) in unanswered and len(change.items) == 1
    }


def surplus(
    stores: look.Stores, boxname: Boxname, side: Side, keys: Collection[Key], ours: Collection[Uid], identify: Identify
) -> list[Delete]:
    """What has come there once too often. `ours`: of two, this one stays. BoxError if that cannot be seen."""
    [(_, found)] = look.listings(stores, {boxname: frozenset({side})}, identify)
    if isinstance(found, Failure):
        raise BoxError(found.why, found.hint)
    same: dict[Key, list[Entry]] = {}
    for entry in found[side].entries:
        if (id := key(entry.id)) in keys:
            same.setdefault(id, []).append(entry)
    several = [entries for entries in same.values() if len(entries) > 1]
    uids = [entry.uid for entries in several for entry in entries]
    facts = look.facts(stores, {side: boxname}, {side: uids})
    return [
        delete
        for entries in several
        if len({(entry.flags, _content(facts, side, entry)) for entry in entries}) == 1
        for delete in _all_but_one(side, entries, ours)
    ]


def plan_of(box: BoxPlan, deletions: Sequence[Delete], policy: SidePolicy) -> BoxPlan:
    """To remove them, and nothing else; of a store that deletes nothing: nothing."""
    marked = [replace(one, marks=policy.marks) for one in deletions]
    changes = tuple(Change(key(one.entry.id), (), (one,)) for one in marked) if may_delete(policy) else ()
    return BoxPlan(box.boxname, changes, 0, box.holds, box.sides, {}, {})


def _content(facts: Facts, side: Side, entry: Entry) -> object:
    """Of one that cannot be read: like no other."""
    fact = facts.get((side, entry.uid))
    return fact.exact if isinstance(fact, Fact) else entry.uid


def _all_but_one(side: Side, entries: Sequence[Entry], ours: Collection[Uid]) -> list[Delete]:
    stays = next((entry for entry in entries if entry.uid in ours), entries[0])
    return [Delete(side, entry, Why.DUPLICATE, stays=stays.uid) for entry in entries if entry is not stays]
