"""Keep a mistake from becoming a mass deletion. Pure: it looks at the plan and at what was seen of each store."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from .config.values import MaxDelete
from .errors import Replaced
from .model import Boxname, Side
from .plan import BoxPlan, Change, Copy, Delete, Held, Plan, Why

COUNTED = (Why.GONE_THERE, Why.SAME_ID, Why.MARKED)  # not: an identical copy stays, or a newer one came


@dataclass(frozen=True, slots=True)
class Sight:
    """What a run found of one store."""

    name: str
    lists: bool  # at least one mailbox
    same: bool  # its mailboxes are those seen last time (UIDVALIDITY, inode); False also where no record tells


def check(plan: Plan, sights: Mapping[Side, Sight], allowed: int | None) -> None:
    """Replaced, if a store that held mail is not the one that was seen: an empty mount point, another account.

    `allowed`: so many deletions the user has agreed to (--allow-mass-delete).
    """
    seen = sum(len(box.seen) for box in plan.boxes)
    for side in Side:
        sight, found = sights[side], sum(box.found[side] for box in plan.boxes)
        if not seen or found or (allowed is not None and allowed >= seen) or _holds_moved(plan, side):
            continue
        if not sight.lists:
            raise Replaced(
                f"store {sight.name} has no mailbox at all, and {seen} of its messages were seen in the last run;"
                " nothing was done",
                f"Is it mounted, is its pat right? If its mail is truly to go: --allow-mass-delete={seen}",
            )
        if seen > 1 and not sight.same:
            raise Replaced(
                f"store {sight.name} holds none of the {seen} messages that were seen in it in the last run, and its"
                " mailboxes are not known to be the same ones; nothing was done",
                f"Is it the right store? If its mail is truly to go: --allow-mass-delete={seen}",
            )


def _holds_moved(plan: Plan, side: Side) -> bool:
    """True if a message that was seen in one mailbox is now in another one of this store."""
    seen = {key for box in plan.boxes for key in box.seen}
    steps = (
        (step, change.key)
        for box in plan.boxes
        for change in box.changes
        for step in (*change.steps, *(held.step for held in change.held))
    )
    return any(isinstance(step, Copy) and step.to is side.other and key in seen for step, key in steps)


def limit(plan: Plan, most: MaxDelete, allowed: int | None) -> int:
    """So many deletions of one side pass; `allowed` as in `check`."""
    return max(most.of(sum(len(box.seen) for box in plan.boxes)), allowed or 0)


def deletions(plan: Plan) -> dict[Side, int]:
    """How many messages a plan deletes on each side, as the guard counts them: what comes to another box is not."""
    return _sums(by_box(plan).values())


def by_box(plan: Plan) -> dict[Boxname, dict[Side, int]]:
    """The same, for each box of which something is deleted."""
    coming = {
        (step.to, change.key)
        for box in plan.boxes
        for change in box.changes
        for step in change.steps
        if isinstance(step, Copy)
    }
    counts: dict[Boxname, dict[Side, int]] = {}
    for box in plan.boxes:
        for change in box.changes:
            for step in change.steps:
                if isinstance(step, Delete) and step.why in COUNTED and (step.on, change.key) not in coming:
                    counts.setdefault(box.boxname, dict.fromkeys(Side, 0))[step.on] += 1
    return counts


def hold(plan: Plan, limit: int) -> Plan:
    """The plan as it is, or with all its deletions held if they are more than `limit` on one side; moves are done."""
    if max(deletions(plan).values()) <= limit:
        return plan
    return replace(plan, boxes=tuple(map(_held, plan.boxes)))


def _sums(counts: Iterable[Mapping[Side, int]]) -> dict[Side, int]:
    sums = dict.fromkeys(Side, 0)
    for each in counts:
        for side in Side:
            sums[side] += each[side]
    return sums


def _held(box: BoxPlan) -> BoxPlan:
    changes = tuple(map(_without_deletions, box.changes))
    return replace(box, changes=changes, remove=()) if changes != box.changes else box


def _without_deletions(change: Change) -> Change:
    deletes = tuple(step for step in change.steps if isinstance(step, Delete) and step.why is not Why.MOVED)
    if not deletes:
        return change
    rest = tuple(step for step in change.steps if step not in deletes)
    return replace(change, steps=rest, held=change.held + tuple(Held(step, "max_delete") for step in deletes))
