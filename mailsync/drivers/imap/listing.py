"""List many mailboxes in few round trips: each is opened and asked for all its messages in one flight with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain, islice

from ...model import HIDDEN, Failure, Identify, MessageId
from . import sets
from .body import ServerBody
from .draft import Draft, Way
from .select import opening, selected
from .tokens import Fetched, Literal, fetched
from .wire import Connection, fetches

BOXES = 32  # in one flight
BYTES = 16_000  # of commands in one flight: a server that answers before it reads on must be able to take them
GENTLE = 200_000  # messages in one flight, about; a listing waits in memory until its flight is over


def flights(drafts: Sequence[Draft]) -> Iterator[list[Draft]]:
    """Parts that are worth one round trip each; the size of a part depends on what those before it held."""
    left = list(drafts)
    most = BOXES
    while left:
        size, count = 0, 0
        while count < min(most, len(left)) and (not count or size + 2 * len(left[count].name) + 400 < BYTES):
            size += 2 * len(left[count].name) + 200
            count += 1
        flight, left = left[:count], left[count:]
        yield flight
        largest = max(draft.selected.exists if draft.selected else 0 for draft in flight)
        most = max(1, min(BOXES, GENTLE // max(largest, 1)))


def ways(identify: Identify) -> Sequence[tuple[bytes, Callable[[Literal], MessageId | None]]]:
    """What is asked for to know an id, and how it is read: few fields first; of those not told by them, the header.

    The whole header: asked for fields, Courier passes over `Message-ID :`, Dovecot over a name that is folded before
    the colon, Cyrus over all behind the first thousand lines. What has nothing in its header is told by all of it.
    """
    fields = b" ".join(name.upper() for name in identify.quick)
    return (
        (
            b"HEADER.FIELDS (%s)" % fields if fields else b"HEADER",
            lambda literal: identify.sure(ServerBody(literal).head()),
        ),
        (b"HEADER", lambda literal: identify(ServerBody(literal).head())),
        (b"", lambda literal: identify.whole(ServerBody(literal).chunks(wire=True))),
    )


def first_look(conn: Connection, flight: Sequence[Draft], identify: Identify, *, write: bool) -> None:
    """Open each, and ask for all that is not known. Lost in the middle: those that are done have their `selected`.

    So have not those that must be asked again, in another way.
    """
    what, read = ways(identify)[0]
    enable = enabling(conn) if any(draft.way is Way.CHANGES for draft in flight) else []
    asked = [draft.asking(conn, what, write=write) for draft in flight]
    tags = iter(conn.send(*enable, *chain.from_iterable(asked)))
    if enable and not conn.result(next(tags)).ok:
        conn.enabled.discard("QRESYNC")
        conn.caps -= {"QRESYNC"}
        for draft in flight:
            draft.doubt()
    for draft, commands in zip(flight, asked, strict=True):
        opened, *rest = islice(tags, len(commands))
        told = conn.told(opened, messages=len(draft.known))
        end = conn.result(opened)
        if not end.ok:
            for tag in rest:
                conn.result(tag)  # refused, or about whatever was opened before: nothing of it counts
            if draft.way is not Way.ALL:
                draft.doubt()
            else:
                gone = end.code in (b"NONEXISTENT", b"TRYCREATE")
                draft.failure = Failure(draft.mailbox, f"cannot be opened: {end}", gone=gone)
            continue
        fresh = draft.opened(conn, told, end)
        for tag in rest:
            fresh.take(conn.answers(tag), read)
            fresh.end(conn.result(tag))
        draft.become(fresh)


def enabling(conn: Connection) -> list[bytes]:
    """What makes the server tell, of a mailbox that is opened, what has changed in it (RFC 7162, 3.2.3)."""
    if not conn.has("QRESYNC", "ENABLE") or "QRESYNC" in conn.enabled:
        return []
    conn.enabled.add("QRESYNC")
    return [b"ENABLE QRESYNC"]


def second_look(conn: Connection, flight: Sequence[Draft], identify: Identify, *, write: bool) -> None:
    """Ask for more of those that the first look did not tell."""
    for what, read in ways(identify)[1:]:
        for draft, told in _again(conn, flight, b"(UID BODY.PEEK[%s])" % what, write):
            if told.body is not None and told.uid in draft.unsure and (id := read(told.body)) is not None:
                draft.learn(told.uid, id)
    there = {(draft.mailbox, told.uid) for draft, told in _again(conn, flight, b"(UID)", write)}
    for draft in flight:
        if draft.unsure and not draft.failure:
            for uid in [uid for uid in draft.unsure if (draft.mailbox, uid) not in there]:
                draft.learn(uid, HIDDEN)  # expunged just now: to be seen no more
            draft.give_up("the server does not give its header")


def _again(conn: Connection, flight: Sequence[Draft], items: bytes, write: bool) -> Iterator[tuple[Draft, Fetched]]:
    """FETCH for the messages that are unsure, box by box."""
    todo = [draft for draft in flight if draft.unsure and not draft.failure]
    for draft in todo:
        asked = [b"UID FETCH %s %s" % (text, items) for text, _ in sets.split(sorted(draft.unsure))]
        opened, *tags = conn.send(opening(conn, draft.name, write=write), *asked)
        told = conn.told(opened)
        end = conn.result(opened)
        at = selected(draft.mailbox, told, end) if end.ok else None
        if at is None or not draft.selected or at.validity != draft.selected.validity:
            draft.failure = Failure(draft.mailbox, f"changed while it was listed: {end}")
        for tag in tags:
            for answer in fetches(conn.answers(tag)):
                if not draft.failure:
                    yield draft, fetched(answer)
            conn.result(tag)
