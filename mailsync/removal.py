"""What becomes of a message that is deleted: expunged, marked, put into the trash of its store, kept for --undo."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from .copying import failure_of
from .drivers.contract import Box, Transfers
from .errors import BoxError, Lost
from .guard import COUNTED
from .model import DELETED, NONE, Appended, Boxname, Failure, FlagChange, Message, Uid
from .plan import Delete, Why

Place = Callable[[Boxname], AbstractContextManager[Box]]  # where what is deleted from a box goes
Noted = Callable[[Boxname, Box, Mapping[Uid, Appended]], None]


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
        kept = [step.entry.uid for step in steps if self.place and not step.marks and step.why in self.kinds]
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

    def _put_away(self, boxname: Boxname, box: Box, uids: Sequence[Uid]) -> dict[Uid, Uid | Failure]:
        """Answers for all that is over: what was copied there must still be expunged."""
        assert self.place
        try:
            with self.place(boxname) as place:
                moves = isinstance(box, Transfers) and box.reaches(place)
                arrived, failed = _arrived(box, place, uids)
                if self.noted and arrived:
                    self.noted(boxname, place, arrived)
        except Lost:
            raise
        except (BoxError, OSError) as err:
            failed = {uid: failure_of(uid, err) for uid in uids}
            return {uid: self._told(failure) for uid, failure in failed.items()}
        over: dict[Uid, Uid | Failure] = {uid: self._told(failure) for uid, failure in failed.items()}
        return over | ({uid: uid for uid in arrived} if moves else {})

    def _told(self, failure: Failure) -> Failure:
        if failure.gone:
            return failure
        return replace(failure, why=f"not deleted, because it cannot be put into {self.what}: {failure.why}")


EXPUNGE = Removal()


def _arrived(box: Box, place: Box, uids: Sequence[Uid]) -> tuple[dict[Uid, Appended], dict[Uid, Failure]]:
    arrived: dict[Uid, Appended] = {}
    failed: dict[Uid, Failure] = {}

    def messages() -> Iterator[Message]:
        for got in box.fetch(uids):
            if isinstance(got, Message):
                yield replace(got, alone=True)
            else:
                failed[Uid(got.what)] = got

    answers = box.move(uids, place) if isinstance(box, Transfers) and box.reaches(place) else place.append(messages())
    for answer in answers:
        if isinstance(answer, Appended):
            arrived[answer.source] = answer
        else:
            failed[Uid(answer.what)] = answer
    return arrived, failed
