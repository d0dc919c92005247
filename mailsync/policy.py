"""What config and options keep back of the steps that a box needs. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from .model import DELETED, BoxPolicy, Entry, Holds, Side, SidePolicy
from .plan import Copy, Delete, SetFlags, Step, Why

UNREADABLE = "messages that cannot be read there: it may be one of them"
MARKED_DELETED = "ign. del"
TOO_BIG, TOO_OLD = "too big", "too old"
LIMITS = (TOO_BIG, TOO_OLD)  # what is not sent may still be copied inside its store


def why_held(step: Step, policy: BoxPolicy, holds: Mapping[Side, Holds], complete: Mapping[Side, bool]) -> str:
    """Why a step is not to be carried out; "" if it is.

    `complete`: the side was listed without a message that could not be read; else absence proves nothing there.
    """
    side = policy.sides[step.on]
    if side.refuses:
        return side.refuses
    match step:
        case Copy(to=to, entry=entry):
            if DELETED in entry.flags and not policy.copy_deleted:
                return MARKED_DELETED
            limit = "" if step.rescues else limit_of(policy, entry)
            return limit or ("" if complete[to] else UNREADABLE)
        case SetFlags():
            return ""
        case Delete(on=on, why=why):
            if side.spares:
                return side.spares
            if step.marks and DELETED not in holds[on]:
                return f"this mailbox cannot keep {DELETED}"
            return UNREADABLE if why in (Why.GONE_THERE, Why.REPLACED) and not complete[on.other] else ""


def may_delete(side: SidePolicy) -> bool:
    return not (side.refuses or side.spares)


def limit_of(policy: BoxPolicy, entry: Entry) -> str:
    """The limit that a new message is beyond."""
    if policy.sizelimit is not None and (entry.size or 0) > policy.sizelimit:
        return TOO_BIG
    if policy.oldest is not None and entry.date is not None and entry.date < policy.oldest:
        return TOO_OLD
    return ""
