"""What was found in a box while its plan was made, and the record must know of it once that is carried out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from .differ import Case, Recorded
from .identity import key
from .model import Key, Side, Uid
from .plan import BoxPlan


class Quiet(NamedTuple):
    """Messages in as little room as can be: 50,000 of them lie here until the run is over."""

    uids: list[Uid]
    keys: list[Key]  # the same strings as those of the memory

    def by_key(self) -> dict[Key, Uid]:
        return dict(zip(self.keys, self.uids, strict=True))


@dataclass(frozen=True, slots=True)
class Found:
    """One box as it was seen."""

    recorded: Recorded
    validity: Mapping[Side, str | None]
    identity: Mapping[Side, str | None]
    quiet: Mapping[Side, Quiet]  # the messages that need nothing
    unreadable: Mapping[Side, Sequence[Uid]]  # they may be remembered, too
    doubted: frozenset[Side] = frozenset()  # looked at twice, and not the same mailbox: what is there proves nothing

    def there(self, plan: BoxPlan) -> Mapping[Side, frozenset[Uid]]:
        """All messages of the box, whose plan this is."""
        return {side: frozenset(self.quiet[side].uids) | _busy(plan, side) for side in Side}


def quiet_in(plan: BoxPlan, side: Side, case: Case) -> Quiet:
    """The messages of a side that the plan does not name."""
    busy = _busy(plan, side)
    names, known = case.names, dict(zip(case.seen, case.seen, strict=True))
    uids, ids = [], []
    for entry in case.listings[side].entries:
        if entry.uid not in busy:
            id = key(entry.id)
            id = names.get(id, id)
            uids.append(entry.uid)
            ids.append(known.get(id, id))
    return Quiet(uids, ids)


def _busy(plan: BoxPlan, side: Side) -> frozenset[Uid]:
    return frozenset(entry.uid for change in plan.changes for item in change.items if (entry := item.on(side)))
