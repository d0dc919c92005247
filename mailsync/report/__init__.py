"""What a run tells, and to whom. The channel speaks to a `Report`; which one it is, is the command line's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ..model import Boxname, Failure, Head, Listing, MessageId, Side, Uid
from ..plan import BoxDone, BoxPlan, Copy, Done, Failed, Outcome, Step

Heads = Mapping[tuple[Side, Uid], Head]


@dataclass(frozen=True, slots=True)
class BoxResult:
    """A box, what was planned for it, and what came of it."""

    plan: BoxPlan
    outcomes: Sequence[Outcome] = ()
    heads: Heads = field(default_factory=dict)

    def done(self) -> list[Step]:
        return [outcome.step for outcome in self.outcomes if isinstance(outcome, Done)]

    def failed(self) -> list[Failed]:
        """Steps that truly failed; what vanished meanwhile did not."""
        return [o for o in self.outcomes if isinstance(o, Failed) and not o.failure.gone]

    def boxes(self) -> list[BoxDone]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, BoxDone)]


@dataclass(frozen=True, slots=True)
class Compared:
    """One box of a store against what is remembered of it: diff mode."""

    boxname: Boxname
    duplicates: Sequence[tuple[Uid, MessageId]]
    new: int
    deleted: int
    flagged: int
    current: int
    heads: Heads = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Listed:
    """One box of a store: list mode. `listing` is None where messages were not asked for."""

    boxname: Boxname
    selectable: bool = True
    listing: Listing | None = None
    heads: Heads = field(default_factory=dict)


@dataclass(slots=True)
class Summary:
    """A run in numbers."""

    copied: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))  # to this side
    flagged: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    deleted: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    failed: int = 0  # steps and boxes
    held: int = 0  # deletions held by the guard


class Report(Protocol):
    """Whoever is told."""

    @property
    def details(self) -> bool:
        """True if each message is told: its header must then be read."""

    def begin(self, verb: str, names: Sequence[str], *, simulate: bool = False) -> None:
        """`verb` is "sync", "diff" or "list"; `names`: the channel and its stores, or the store."""

    def box(self, result: BoxResult) -> None: ...
    def compared(self, compared: Compared) -> None: ...
    def listed(self, listed: Listed) -> None: ...
    def removed(self, boxname: Boxname, mailboxes: Sequence[tuple[str, Failure | None]]) -> None:
        """-D: the box, and each mailbox that was removed with it, or why it was not."""

    def expect(self, steps: int) -> None:
        """So many steps are to come."""

    def step(self, step: Step) -> None:
        """One more is over."""

    def note(self, text: str) -> None:
        """Worth knowing, with -vw."""

    def debug(self, text: str) -> None:
        """What happens inside, with -d."""

    def problem(self, text: str, hint: str = "") -> None:
        """What went wrong, and what to do next."""

    def end(self, summary: Summary) -> None: ...


def needs_head(step: Step, why_held: str, details: bool) -> bool:
    """Which messages are told by sender and subject: with -m all; else those that were left out on purpose."""
    return details or (isinstance(step, Copy) and why_held in ("ign. del", "too big"))
