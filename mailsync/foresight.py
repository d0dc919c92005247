"""Tell stores that are far away what a plan will want of them, so that they need not wait for it box by box."""

from __future__ import annotations

from collections.abc import Mapping

from .drivers.contract import Coming, CreatesMany, Foresees
from .model import Boxname, Mailbox, Side
from .plan import BoxPlan, Copy, Plan
from .stores import Store


class Foresight:
    """Of the boxes of a plan, in its order."""

    def __init__(self, plan: Plan, stores: Mapping[Side, Store]) -> None:
        self._boxes, self._stores = plan.boxes, stores
        self._place = {box.boxname: n for n, box in enumerate(plan.boxes)}
        self._told = dict.fromkeys(Side, 0)  # of so many boxes, as far as there is anything to tell
        self._made: dict[Side, set[Mailbox]] = {}

    def before(self, box: BoxPlan) -> None:
        """Tell of this box, and of those after it up to the first that needs more than copies in one direction."""
        begin = self._place[box.boxname]
        for side, store in self._stores.items():
            if not isinstance(store.driver, Foresees) or begin < self._told[side]:
                continue
            coming: list[Coming] = []
            end = begin
            for each in (box, *self._boxes[begin + 1 :]):
                if not _is_simple(each, side):
                    break
                end += 1
                if one := _coming(each, side, store.mailbox(each.boxname)):
                    coming.append(one)
            self._told[side] = max(end, begin + 1)
            if coming:
                store.driver.foresee(coming)

    def create(self, side: Side, boxname: Boxname) -> None:
        """Create a mailbox. If the store can, all that the plan creates there come into being with the first."""
        store = self._stores[side]
        if side not in self._made and isinstance(store.driver, CreatesMany):
            self._made[side] = set()  # if the connection breaks, the others are created one by one
            names = [each.boxname for each in self._boxes if side in each.create and not each.rename]
            self._made[side].update(store.driver.create_all([store.mailbox(name) for name in names]))
        if store.mailbox(boxname) not in self._made.get(side, ()):
            store.create(boxname)


def _is_simple(box: BoxPlan, side: Side) -> bool:
    """True if that side sees nothing of it but messages that are read there, or that come from the other side."""
    if box.rename:
        return False
    directions = set()
    for change in box.changes:
        if change.held:  # to be told, its header is read before
            return False
        for step in change.steps:
            if step.on is side and (not isinstance(step, Copy) or step.near):
                return False
            if isinstance(step, Copy):
                directions.add(step.to)
    return len(directions) < 2


def _coming(box: BoxPlan, side: Side, mailbox: Mailbox) -> Coming | None:
    copies = [step for step in box.steps() if isinstance(step, Copy)]
    if not copies:
        return None
    if copies[0].to is side:
        return Coming(mailbox, write=True)
    return Coming(mailbox, [step.entry.uid for step in copies], sum(step.entry.size or 0 for step in copies))
