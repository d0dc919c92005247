"""Send messages from one box to another, and look at what the other made of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from . import stopping
from .drivers.contract import Box, Identifies
from .errors import BoxError, Lost
from .identity import examine, key
from .model import Appended, Failure, Head, Identify, Message, MessageId, Uid
from .plan import Change, Copy, Done, Failed, Step


class LostAt(Lost):
    """The connection broke while a step had no answer yet: of several, `at` is the first."""

    def __init__(self, lost: Lost, at: Step) -> None:
        super().__init__(str(lost), lost.hint)
        self.at = at


def send(
    source: Box, target: Box, tasks: Sequence[tuple[Change, Copy]], identify: Identify, *, alone: bool = False
) -> Iterator[Done | Failed]:
    """Fetch and append interleave: neither side ever holds a batch. What a batch was refused with is tried again alone.

    A copy is not `certain` yet if the target may have rewritten it. LostAt if a connection breaks.
    """
    todo = {step.entry.uid: (change, step) for change, step in tasks}
    missing: list[Failure] = []
    waiting: dict[Uid, None] = {}  # without an answer, in the order in which they are sent

    def arriving(uids: Sequence[Uid], alone: bool) -> Iterator[Message]:
        for got in source.fetch(uids):
            stopping.check()  # here, and not while it is told which of several are done: that is to be remembered
            if isinstance(got, Message) and not _is_the_one(got, todo[got.uid][1].entry.id, identify):
                got = Failure(got.uid, "the server gives another text in its place; it may just have gone")
            match got:
                case Message():
                    yield Message(got.uid, todo[got.uid][1].flags, got.date, got.body, alone)
                case Failure():
                    missing.append(got)
                    del waiting[Uid(got.what)]

    def answered(uids: Sequence[Uid], alone: bool) -> Iterator[Done | Failed]:
        refused = []
        waiting.update(dict.fromkeys(uids))
        for result in target.append(arriving(uids, alone)):
            uid = result.source if isinstance(result, Appended) else Uid(result.what)
            del waiting[uid]
            match result:
                case Appended(uid=new, sure=sure):
                    change, step = todo.pop(uid)
                    yield Done(change, step, new, certain=sure and not _is_odd(step.entry.id))
                case Failure(alone=True) if not alone:
                    refused.append(uid)
                case Failure():
                    yield Failed(*todo.pop(uid), result)
        if refused:
            yield from answered(refused, alone=True)

    try:
        yield from answered(list(todo), alone)
        for failure in missing:
            yield Failed(*todo.pop(Uid(failure.what)), failure)
    except Lost as lost:
        if waiting:
            raise LostAt(lost, todo[next(iter(waiting))][1]) from lost
        raise
    except (BoxError, OSError) as err:
        for change, step in todo.values():
            yield Failed(change, step, failure_of(step.entry.uid, err))


def read_back(target: Box, unread: list[Done], identify: Identify) -> Iterator[Done]:
    """Copies that are not certain, with what they are in the target: `unread` is empty then. Lost may be raised before.

    What cannot be looked at stays uncertain: the memory must not say that both sides have it, because under another id
    it would look deleted there in the next run.
    """
    try:
        found = list(_looked_at(target, unread, identify))
    except Lost:
        raise
    except (BoxError, OSError):
        found = list(unread)
    unread.clear()
    yield from found


def failure_of(what: str, err: BoxError | OSError) -> Failure:
    if isinstance(err, BoxError):
        return Failure(what, str(err), err.hint, shared=True)
    return Failure(what, err.strerror or str(err), shared=True)


def _is_the_one(got: Message, id: MessageId, identify: Identify) -> bool:
    """False for a text such as Courier's "message unavailable", which stands for a message that was just expunged."""
    if got.head is None:
        return True
    found = identify(got.head) or identify.whole(got.body.chunks(wire=False))
    # A server that is asked for the Message-ID may give another than the first: then that one is in the header, too.
    return key(found) == key(id) or id.strip("<>").encode("latin-1") in got.head


def _is_odd(id: MessageId) -> bool:
    """True for an id that a server changes when it rewrites what is not plain ASCII."""
    return str(key(id)) != id or id.startswith("<md5:")


def _looked_at(target: Box, unread: Sequence[Done], identify: Identify) -> Iterator[Done]:
    uids = [done.uid for done in unread if done.uid is not None]
    ids = _ids(target, uids, identify) if uids else {}
    whole = [done.uid for done in unread if done.uid is not None and done.uid in ids and _carries_digest(done)]
    digests = {}
    for got in target.fetch(whole) if whole else ():
        if isinstance(got, Message):
            digests[got.uid] = examine(got.body.chunks(wire=False)).pairing
    for done in unread:
        id = ids.get(done.uid) if done.uid is not None else None
        digest = digests.get(done.uid) if done.uid is not None else None
        if id is None or (digest is None and _carries_digest(done)):
            yield done
        else:
            yield replace(done, id=id, digest=digest, certain=True)


def _ids(box: Box, uids: Sequence[Uid], identify: Identify) -> Mapping[Uid, MessageId]:
    if isinstance(box, Identifies):
        return box.ids(uids, identify)
    found = {head.uid: identify(head.header) for head in box.heads(uids) if isinstance(head, Head)}
    whole = [uid for uid, id in found.items() if id is None]
    for got in box.fetch(whole) if whole else ():
        if isinstance(got, Message):
            found[got.uid] = identify.whole(got.body.chunks(wire=False))
    return {uid: id for uid, id in found.items() if id is not None}


def _carries_digest(done: Done) -> bool:
    """True for members of a group, and for drafts."""
    entry, here = done.step.entry, done.step.on.other
    return any(item.digest(here) is not None for item in done.change.items if item.on(here) == entry)
