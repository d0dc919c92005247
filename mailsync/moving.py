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
    The Failure of one that did not arrive is `alone`: it may be sent. LostAt if a connection breaks.
    """
    left = {_near(step).entry.uid: (change, step) for change, step in tasks}
    arrived: list[tuple[Task, Appended]] = []
    try:
        for answer in _arriving(source, target, dict(left), goes=goes):
            uid = answer.source if isinstance(answer, Appended) else Uid(answer.what)
            change, step = left.pop(uid)
            if isinstance(answer, Failure):
                yield Failed(change, step, replace(answer, alone=True))
            else:
                arrived.append(((change, step), answer))
        yield from _finished(target, arrived, exact=not leaves(source, target))
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
        changes = [change for uid in uids if (change := _difference(source, uid, tasks[uid][1]))]
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


def _finished(target: Box, arrived: Sequence[tuple[Task, Appended]], *, exact: bool) -> Iterator[Done | Failed]:
    """`exact`: they have the flags of their copies; else those that the source could keep of what they had."""
    changes: dict[Uid, FlagChange] = {}
    for (_, step), answer in arrived:
        change = None if exact else _difference(target, answer.uid or Uid(""), step)
        if change:
            changes[answer.source] = change
    known = [change for change in changes.values() if change.uid]
    answers = zip(known, target.set_flags(known), strict=True) if known else ()
    failed = {change.uid: answer for change, answer in answers if isinstance(answer, Failure)}
    for (change_of, step), answer in arrived:
        if answer.uid in failed:
            yield Failed(change_of, step, Failure(step.entry.uid, f"it arrived, but {failed[answer.uid].why}"))
        else:
            certain = answer.uid is not None or answer.source not in changes
            yield Done(change_of, step, answer.uid, _near(step).entry.id, certain=certain)


def _difference(box: Box, uid: Uid, step: Copy) -> FlagChange | None:
    """From the flags that the message has where it lies to those of the copy."""
    near = _near(step)
    has, wanted = box.holds.of(near.entry.flags), box.holds.of(step.flags)
    changing = box.holds.of(near.changing)
    add, remove = wanted - (has - changing), (has | changing) - wanted
    return FlagChange(uid, add, remove) if add or remove else None


def _near(step: Copy) -> Near:
    assert step.near
    return step.near
