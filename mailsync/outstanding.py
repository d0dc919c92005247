"""Copies that are still to come, over all boxes: what is deleted elsewhere waits for them. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from .model import Boxname, Key, Side
from .plan import BoxPlan, Copy, Done, Failed

Where = tuple[Side, Key]


class Outstanding:
    """Kept per box, because the plan of a box may be replaced by another in the middle of a run."""

    def __init__(self, boxes: Iterable[BoxPlan]) -> None:
        self._coming: dict[Boxname, Counter[Where]] = {}
        self._failed: dict[Boxname, set[Where]] = {}
        for box in boxes:
            self.expect(box)

    def expect(self, box: BoxPlan) -> None:
        """The copies of this plan; those of an earlier plan of the same box are forgotten."""
        self._failed.pop(box.boxname, None)
        self._coming.pop(box.boxname, None)
        copies = Counter((s.to, change.key) for change in box.changes for s in change.steps if isinstance(s, Copy))
        if copies:
            self._coming[box.boxname] = copies

    def over(self, box: BoxPlan, outcome: Done | Failed) -> None:
        """One of them is done, or failed."""
        where = (outcome.step.on, outcome.change.key)
        coming = self._coming.get(box.boxname, Counter())
        coming[where] -= 1
        if coming[where] <= 0:
            del coming[where]
        if not coming:
            self._coming.pop(box.boxname, None)
        if isinstance(outcome, Failed):
            self._failed.setdefault(box.boxname, set()).add(where)

    def is_coming(self, side: Side, key: Key) -> bool:
        return any((side, key) in copies for copies in self._coming.values())

    def has_failed(self, side: Side, key: Key) -> bool:
        return any((side, key) in copies for copies in self._failed.values())
