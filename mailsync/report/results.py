"""What a run has come to, box by box, for whoever is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

from ..model import DELETED, Boxname, Listing, MessageId, Side, Uid
from ..plan import BoxDone, BoxPlan, Copy, Delete, Done, Failed, Outcome, SetFlags, Step
from . import Heads

NO_HEADS: Heads = MappingProxyType({})


class BoxResult(NamedTuple):
    """A box, what was planned for it, and what came of it."""

    plan: BoxPlan
    outcomes: Sequence[Outcome] = ()
    heads: Heads = NO_HEADS

    def done(self) -> list[Step]:
        return [outcome.step for outcome in self.outcomes if isinstance(outcome, Done)]

    def failed(self) -> list[Failed]:
        """Steps that truly failed; what vanished meanwhile did not."""
        return [o for o in self.outcomes if isinstance(o, Failed) and not o.failure.gone]

    def failed_alike(self) -> list[list[Failed]]:
        """Those together that failed at the same thing, on the same side, for the same reason."""
        groups: dict[tuple[object, ...], list[Failed]] = {}
        for one in self.failed():
            groups.setdefault((type(one.step), one.step.on, one.failure.why, one.failure.hint), []).append(one)
        return list(groups.values())

    def boxes(self) -> list[BoxDone]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, BoxDone)]


class Compared(NamedTuple):
    """One box of a store against what is remembered of it: diff mode."""

    boxname: Boxname
    duplicates: Sequence[tuple[Uid, MessageId]]
    new: int
    deleted: int
    flagged: int
    current: int
    heads: Heads = NO_HEADS


class Listed(NamedTuple):
    """One box of a store: list mode. `listing` is None where messages were not asked for."""

    boxname: Boxname
    selectable: bool = True
    listing: Listing | None = None
    heads: Heads = NO_HEADS


@dataclass(frozen=True, slots=True)
class Restored:
    """Messages that --undo has put back into one box."""

    boxname: Boxname
    store: str
    count: int


class MassDeletion(NamedTuple):
    """More deletions on a side than the guard lets pass."""

    limit: int
    counts: Mapping[Side, int]
    by_box: Mapping[Boxname, Mapping[Side, int]]
    seen: Mapping[Boxname, int]  # messages remembered of each box

    @property
    def sides(self) -> list[Side]:
        """Where there are too many."""
        return [side for side in Side if self.counts[side] > self.limit]


def needs_head(step: Step, why_held: str, details: bool) -> bool:
    """Which messages are told by sender and subject: with -m all; else those that were left out on purpose."""
    return details or (isinstance(step, Copy) and why_held in ("ign. del", "too big"))


def in_words(boxname: Boxname, outcome: Done | Failed, names: Mapping[Side, str]) -> str:
    """What came of one step, for -d."""
    step = outcome.step
    match step:
        case Copy(to=to, flags=flags, near=near):
            way = f"{'moved' if near.goes else 'copied'} from {near.boxname} in" if near else "copied to"
            what = f"{way} {names[to]} with [{' '.join(sorted(flags))}]"
        case SetFlags(on=on, add=add, remove=remove):
            what = f"flags +[{' '.join(sorted(add))}] -[{' '.join(sorted(remove))}] in {names[on]}"
        case Delete(on=on, why=why, marks=marks):
            what = f"{f'marked {DELETED}' if marks else 'deleted'} in {names[on]}, because {why.value}"
    failed = f": failed, {outcome.failure.why}" if isinstance(outcome, Failed) else ""
    return f"{boxname}: {step.entry.uid} {step.entry.id} {what}{failed}"
