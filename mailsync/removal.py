"""What becomes of a message that is deleted: expunged, marked, put into the trash of its store, kept for --undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial

from .copying import failure_of
from .drivers.contract import Box
from .errors import BoxError, Lost
from .guard import COUNTED
from .kept import KeptRun
from .model import DELETED, NONE, Appended, Boxname, Entry, Failure, FlagChange, Side, Uid
from .moving import leaves, put
from .plan import Delete, Why
from .stores import Store

KEEP_DAYS = 7  # if the channel does not say

Place = Callable[[Boxname], AbstractContextManager[Box]]  # where what is deleted from a box goes
Noted = Callable[[Boxname, Box, Sequence[tuple[Entry, Appended]]], None]


@dataclass(frozen=True, slots=True)
class Removal:
    """How one store deletes. A message that cannot be put away is not deleted."""

    place: Place | None = None
    what: str = ""  # the place, in words
    kinds: tuple[Why, ...] = COUNTED  # what is put there
    noted: Noted | None = None  # is told what has come there, before anything is gone

    def remove(self, boxname: Boxname, box: Box, steps: Sequence[Delete]) -> Iterator[Uid | Failure]:
        """One answer for each, in order; duplicates must be expunged in the order in which they are given."""
        marked = [step.entry.uid for step in steps if step.marks]
        kept = [step for step in steps if self.place and not step.marks and step.why in self.kinds]
        answers: dict[Uid, Uid | Failure] = {}
        if marked:
            changes = [FlagChange(uid, frozenset({DELETED}), NONE) for uid in marked]
            answers.update(zip(marked, box.set_flags(changes), strict=True))
        if kept:
            answers.update(self._put_away(boxname, box, kept))
        left = [step.entry.uid for step in steps if step.entry.uid not in answers]
        if left:
            answers.update(zip(left, box.expunge(left), strict=True))
        for step in steps:
            yield answers[step.entry.uid]

    def _put_away(self, boxname: Boxname, box: Box, steps: Sequence[Delete]) -> dict[Uid, Uid | Failure]:
        """Answers for all that is over: what was copied there must still be expunged."""
        assert self.place
        try:
            with self.place(boxname) as place:
                moves = leaves(box, place)
                arrived, failed = put(box, place, [step.entry.uid for step in steps])
                if self.noted and arrived:
                    told = [(step.entry, arrived[step.entry.uid]) for step in steps if step.entry.uid in arrived]
                    self.noted(boxname, place, told)
        except Lost:
            raise
        except (BoxError, OSError) as err:
            return {step.entry.uid: self._told(failure_of(step.entry.uid, err)) for step in steps}
        over: dict[Uid, Uid | Failure] = {uid: self._told(failure) for uid, failure in failed.items()}
        return over | ({uid: uid for uid in arrived} if moves else {})

    def _told(self, failure: Failure) -> Failure:
        if failure.gone:
            return failure
        return replace(failure, why=f"not deleted, because it cannot be put into {self.what}: {failure.why}")


EXPUNGE = Removal()


def removals_of(stores: Mapping[Side, Store], run: KeptRun, days: int | None) -> dict[Side, Removal]:
    """How each store deletes. `days`: so long the channel keeps what was deleted; None: it does not say.

    Then only what lies on this machine is kept: from a server each message would have to be fetched.
    """
    removals: dict[Side, Removal] = {}
    for side, store in stores.items():
        if trash := store.config.delete.trash:
            noted = None if days == 0 else partial(run.note_trash, side, store.name, trash)
            removals[side] = Removal(store.trash, f"trash {trash}", COUNTED, noted)
        elif days or (days is None and not store.config.server):
            place = partial(run.place, side, store.name)
            removals[side] = Removal(place, "what is kept for --undo", (*COUNTED, Why.REPLACED))
    return removals
