"""Look over the plans of all boxes: what one box does may depend on another. Pure."""

from __future__ import annotations

from dataclasses import replace

from .model import Key, Side
from .plan import BoxPlan, Change, Copy, Delete, Held, Plan, Why

WAITS = "its copy into another mailbox is held"


def join(plan: Plan) -> Plan:
    """The plan, with each deletion held that belongs to a copy which is held: a moved message stays where it was.

    Else the message would be gone from that store until the copy may be made.
    """
    waiting = {
        (held.step.to, change.key)
        for box in plan.boxes
        for change in box.changes
        for held in change.held
        if isinstance(held.step, Copy)
    }
    if not waiting:
        return plan
    return replace(plan, boxes=tuple(_box(box, waiting) for box in plan.boxes))


def _box(box: BoxPlan, waiting: set[tuple[Side, Key]]) -> BoxPlan:
    changes = tuple(_joined(change, waiting) for change in box.changes)
    return box if changes == box.changes else replace(box, changes=changes, remove=())


def _joined(change: Change, waiting: set[tuple[Side, Key]]) -> Change:
    held = [
        step
        for step in change.steps
        if isinstance(step, Delete) and step.why is Why.GONE_THERE and (step.on, change.key) in waiting
    ]
    if not held:
        return change
    steps = tuple(step for step in change.steps if step not in held)
    return replace(change, steps=steps, held=change.held + tuple(Held(step, WAITS) for step in held))
