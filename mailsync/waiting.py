"""Steps that failed before and wait for their next try: what a run asks the ledger, and what it writes there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from .ledger import Case, Ledger, case_of
from .model import Boxname, Failure, MessageId, Side, Uid
from .plan import Done, Failed, Step

FAILED_BEFORE = "failed before"

Kind = tuple[type[Step], Side]


@dataclass
class Waiting:
    """The ledger during one run."""

    ledger: Ledger
    now: float
    _failed: list[tuple[Case, Kind, Failure]] = field(default_factory=list)
    _done: Counter[Kind] = field(default_factory=Counter)

    def why(self, boxname: Boxname, step: Step) -> str:
        """Why a step is not tried now; "" if it is."""
        entry = self.ledger.waits(case_of(boxname, step), self.now) if len(self.ledger) else None
        return f"{FAILED_BEFORE}: {entry.reason}" if entry else ""

    def is_new(self, boxname: Boxname, side: Side, failure: Failure) -> bool:
        """A message that cannot be read: whether that is to be told now, and not only when its time comes."""
        case = Case(boxname, "read", side, Uid(failure.what), MessageId(""))
        if self.ledger.waits(case, self.now):
            return False
        self.ledger.failed(case, self.now, failure.why, failure.hint)
        return True

    def note(self, boxname: Boxname, outcome: Done | Failed) -> None:
        """Only what is the message's own fault waits: not that a mailbox cannot be written, or a server is full."""
        kind = (type(outcome.step), outcome.step.on)
        if isinstance(outcome, Done):
            self._done[kind] += 1
            if len(self.ledger):
                self.ledger.done(case_of(boxname, outcome.step))
        elif not outcome.failure.gone and not outcome.failure.shared:
            self._failed.append((case_of(boxname, outcome.step), kind, outcome.failure))

    def keep(self, boxname: Boxname, there: Mapping[Side, Collection[Uid]]) -> None:
        """All messages of a mailbox: what is no longer there waits no more."""
        if len(self.ledger):
            self.ledger.keep(boxname, there)

    def save(self) -> Failure | None:
        counts = Counter(kind for _, kind, _ in self._failed)
        for case, kind, failure in self._failed:
            if self._done[kind] or counts[kind] == 1:
                self.ledger.failed(case, self.now, failure.why, failure.hint)
        self._failed.clear()
        return self.ledger.save()
