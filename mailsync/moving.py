"""Copy or move messages from one box of a store to another of it: no message is sent to or from the other side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from .copying import LostAt, failure_of
from .drivers.contract import Box, Transfers
from .errors import BoxError, Lost
from .model import Appended, Failure, FlagChange, Message, Uid
from .plan import Change, Copy, Done, Failed, Near

Task = tuple[Change, Copy]


def transfer(source: Box, target: Box, tasks: Sequence[Task], *, goes: bool) -> Iterator[Done | Failed]:
    """One answer for each of these copies, all of which lie in `source`; each has its flags when it is answered.

    `goes`: they are to be moved. Where the store cannot, they are copied, and must be deleted afterwards: see `leaves`.
    The Failure of one that did not arrive is `alone`: it may be sent. Not if it is `shared`: it may have arrived, or
    sending would fail, too. LostAt if a connection breaks.
    """
    left = {_near(step).entry.uid: (change, step) for change, step in tasks}
    try:
        for answer in _arriving(source, target, dict(left), goes=goes):
            uid = answer.source if isinstance(answer, Appended) else Uid(answer.what)
            change, step = left.pop(uid)
            match answer:
                case Appended(uid=new):
                    yield Done(change, step, new, _near(step).entry.id)
                case Failure():
                    yield Failed(change, step, replace(answer, alone=not answer.shared))
    except Lost as lost:
        if left:
            raise LostAt(lost, next(iter(left.values()))[1]) from lost
        raise
    except (BoxError, OSError) as err:
        for change, step in left.values():
            yield Failed(change, step, replace(failure_of(step.entry.uid, err), alone=True))


def leaves(source: Box, target: Box) -> bool:
    """True if what is moved is gone from the source when it has arrived."""
    return isinstance(source, Transfers) and source.reaches(target)


def put(source: Box, target: Box, uids: Sequence[Uid]) -> tuple[dict[Uid, Appended], dict[Uid, Failure]]:
    """Bring these to any other box, with their flags: what arrived, and what did not. See `leaves`."""
    arrived: dict[Uid, Appended] = {}
    failed: dict[Uid, Failure] = {}

    def messages() -> Iterator[Message]:
        for got in source.fetch(uids):
            if isinstance(got, Message):
                yield replace(got, alone=True)
            else:
                failed[Uid(got.what)] = got

    moved = source.move(uids, target) if isinstance(source, Transfers) and source.reaches(target) else None
    for answer in moved or target.append(messages()):
        if isinstance(answer, Appended):
            arrived[answer.source] = answer
        else:
            failed[Uid(answer.what)] = answer
    return arrived, failed


def _arriving(source: Box, target: Box, tasks: Mapping[Uid, Task], *, goes: bool) -> Iterator[Appended | Failure]:
    uids = list(tasks)
    if isinstance(source, Transfers) and source.reaches(target):
        if not goes:
            yield from source.copy(uids, target)
            return
        # Flags first: whenever it is cut off, what has arrived has the right ones.
        changes = [change for uid in uids if (change := _change(source, uid, tasks[uid][1]))]
        answers = source.set_flags(changes) if changes else ()
        failed = {Uid(answer.what): answer for answer in answers if isinstance(answer, Failure)}
        yield from failed.values()
        yield from source.move([uid for uid in uids if uid not in failed], target)
        return
    missing: list[Failure] = []

    def messages() -> Iterator[Message]:
        for got in source.fetch(uids):
            if isinstance(got, Message):
                yield replace(got, flags=tasks[got.uid][1].flags, alone=True)
            else:
                missing.append(got)

    yield from target.append(messages())
    yield from missing


def _change(box: Box, uid: Uid, step: Copy) -> FlagChange | None:
    """From the flags that the message has where it lies to those of the copy."""
    has, wanted = box.holds.of(_near(step).entry.flags), box.holds.of(step.flags)
    return FlagChange(uid, wanted - has, has - wanted) if has != wanted else None


def _near(step: Copy) -> Near:
    assert step.near
    return step.near
