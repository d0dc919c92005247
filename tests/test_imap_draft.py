"""What a server tells of changes gives the listing that all of its messages would give; or it is asked again."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.drivers.imap import sets
from mailsync.drivers.imap.draft import Draft, Way
from mailsync.drivers.imap.tokens import Literal, Response, Status, response
from mailsync.drivers.imap.wire import Connection
from mailsync.identity import identify
from mailsync.model import Entry, Flags, Holds, Listing, Mailbox, MessageId, Token, Uid

BOX, RULE, OK = Mailbox("box"), identify("msgid"), Status(b"OK", b"", b"", "done")
Box = dict[int, Flags]
flags = st.frozensets(st.sampled_from(["\\Seen", "\\Flagged", "work"]))
boxes = st.dictionaries(st.integers(1, 30), flags)


def listed(box: Box, modseq: int = 5) -> Listing:
    entries = [Entry(Uid(str(uid)), MessageId(f"<{uid}>"), box[uid], 10, 20) for uid in sorted(box)]
    return Listing(BOX, entries, Holds(), Token(f"1 31 {len(box)} {modseq}"), "1")


def connection(*caps: str, enabled: Iterable[str] = ()) -> Connection:
    found = SimpleNamespace(has=lambda *wanted: set(caps).issuperset(wanted), enabled=set(enabled))
    return cast(Connection, found)


def untagged(text: bytes) -> Response:
    return response([b"* " + text])


def fetch(box: Box, uid: int, *, body: bool = False) -> Response:
    number = sorted(box).index(uid) + 1
    words = " ".join(sorted(box[uid])).encode()
    told = b"* %d FETCH (UID %d FLAGS (%s)" % (number, uid, words)
    if not body:
        return response([told + b")"])
    header = Literal(b"Message-ID: <%d>\r\n\r\n" % uid)
    return response([told + b' RFC822.SIZE 10 INTERNALDATE "01-Jan-1970 00:00:20 +0000" BODY[] ', header, b")"])


def opened(draft: Draft, conn: Connection, box: Box, *told: Response, validity: int = 1) -> Draft:
    lines = [b"%d EXISTS" % len(box), b"OK [UIDVALIDITY %d] v" % validity, b"OK [UIDNEXT 60] n"]
    answers = [*map(untagged, [*lines, b"OK [HIGHESTMODSEQ 9] m"]), *told]
    return draft.opened(conn, answers, OK)


def read(literal: Literal) -> MessageId | None:
    return RULE.sure(literal.read())


def recalled(known: Box) -> Draft:
    draft = Draft(BOX, b'"box"')
    draft.recall(listed(known))
    return draft


def news(known: Box, now: Box) -> list[Response]:
    """The answer to `UID FETCH last+1:*`, which is about the last message in any case (RFC 3501, 6.4.8)."""
    last = max(known, default=0)
    return [fetch(now, uid, body=True) for uid in sorted(now) if uid > last] or [
        fetch(now, uid, body=True) for uid in sorted(now)[-1:]
    ]


def told(draft: Draft) -> dict[str, tuple[str, Flags]]:
    return {entry.uid: (entry.id, entry.flags) for entry in draft.listing(Holds()).entries}


def whole(box: Box) -> dict[str, tuple[str, Flags]]:
    return {str(uid): (f"<{uid}>", box[uid]) for uid in sorted(box)}


def later(known: Box, others: Box) -> Box:
    """What may have become of a mailbox: uids are never used again, and new ones are larger."""
    last = max(known, default=0)
    return {uid if uid in known else uid + last: kept for uid, kept in others.items()}


@given(boxes, boxes, st.integers(0, 100))
def test_changes_told_at_once_give_the_whole(known: Box, others: Box, more: int) -> None:
    """QRESYNC; a server that has forgotten which messages went may name any that are not there."""
    now = later(known, others)
    draft, conn = recalled(known), connection("CONDSTORE", "QRESYNC", enabled=["QRESYNC"])
    commands = draft.asking(conn, b"HEADER", write=False)
    gone = sorted((set(known) | set(range(1, more))) - set(now))
    vanished = [untagged(b"VANISHED (EARLIER) " + text) for text, _ in sets.split(gone)]
    changed = [fetch(now, uid) for uid in sorted(now) if uid in known and now[uid] != known[uid]]
    fresh = opened(draft, conn, now, *vanished, *changed)
    fresh.take(news(known, now), read)
    fresh.end(OK)
    draft.become(fresh)

    assert b"(QRESYNC (1 5))" in commands[0]
    assert whole(now) == told(draft)


@given(boxes, boxes, st.booleans())
def test_changes_and_the_uids_give_the_whole(known: Box, others: Box, esearch: bool) -> None:
    now = later(known, others)
    draft, conn = recalled(known), connection("CONDSTORE", *["ESEARCH"] * esearch)
    commands = draft.asking(conn, b"HEADER", write=False)
    fresh = opened(draft, conn, now)
    if known:
        words = b",".join(text for text, _ in sets.split(sorted(now)))
        plain = b"SEARCH " + b" ".join(b"%d" % uid for uid in sorted(now))
        fresh.take([untagged(b'ESEARCH (TAG "a") UID ALL ' + words if esearch and now else plain)], read)
        fresh.take([fetch(now, uid) for uid in sorted(now) if uid in known and now[uid] != known[uid]], read)
    fresh.take(news(known, now), read)
    draft.become(fresh)

    assert (4 if known else 2) == len(commands)
    assert whole(now) == told(draft)


@given(boxes, boxes)
def test_flags_of_all_give_the_whole(known: Box, others: Box) -> None:
    now = later(known, others)
    draft, conn = recalled(known), connection()
    draft.asking(conn, b"HEADER", write=False)
    fresh = opened(draft, conn, now)
    last = max(known, default=0)
    fresh.take([fetch(now, uid) for uid in sorted(now) if uid <= last], read)
    fresh.take(news(known, now), read)
    draft.become(fresh)

    assert Way.FLAGS is fresh.way
    assert whole(now) == told(draft)


# ---- what does not add up --------------------------------------------------------------------------------------------

KNOWN: Box = {1: frozenset(), 2: frozenset(), 3: frozenset()}


def changes(enabled: bool = False) -> tuple[Draft, Connection]:
    draft = recalled(KNOWN)
    conn = connection("CONDSTORE", "QRESYNC", enabled=["QRESYNC"] * enabled)
    draft.asking(conn, b"HEADER", write=False)
    return draft, conn


def test_other_uidvalidity_is_asked_for_again_and_in_the_end_for_all() -> None:
    draft, conn = changes(True)
    for way in (Way.FLAGS, Way.ALL):
        draft.become(opened(draft, conn, KNOWN, validity=2))

        assert (way, None) == (draft.way, draft.selected)


@pytest.mark.parametrize("now", [{1: frozenset()}, {**KNOWN, 4: frozenset()}], ids=["fewer", "more"])
def test_number_of_messages_that_is_not_right_is_asked_for_again(now: dict[int, Any]) -> None:
    """A server that tells nothing of what has gone, or come."""
    draft, conn = changes(True)

    draft.become(opened(draft, conn, now))

    assert (Way.FLAGS, None) == (draft.way, draft.selected)


def test_command_that_is_refused_is_asked_for_again() -> None:
    draft, conn = changes(True)
    fresh = opened(draft, conn, KNOWN)
    fresh.end(Status(b"NO", b"", b"", "not now"))

    draft.become(fresh)

    assert Way.FLAGS is draft.way


def test_expunge_of_nobody_knows_whom_is_asked_for_again() -> None:
    """Without QRESYNC a message that goes meanwhile is told by its number alone."""
    draft, conn = changes()
    fresh = opened(draft, conn, KNOWN)
    fresh.take([untagged(b"SEARCH 1 2 3"), untagged(b"2 EXPUNGE")], read)

    draft.become(fresh)

    assert Way.FLAGS is draft.way


def test_message_that_vanishes_meanwhile_is_not_listed() -> None:
    draft, conn = changes(True)
    fresh = opened(draft, conn, KNOWN)
    fresh.take([untagged(b"VANISHED 2"), fetch(KNOWN, 3, body=True)], read)
    fresh.end(OK)

    draft.become(fresh)

    assert ["1", "3"] == list(told(draft))


def test_message_that_comes_meanwhile_is_listed_or_not_and_nothing_is_asked_again() -> None:
    for seen in (True, False):
        draft, conn = changes(True)
        fresh = opened(draft, conn, KNOWN)
        now = {**KNOWN, 4: frozenset[str]()}
        fresh.take([untagged(b"4 EXISTS"), *([fetch(now, 4, body=True)] if seen else [])], read)
        fresh.end(OK)
        draft.become(fresh)

        assert ["1", "2", "3", "4"][: 3 + seen] == list(told(draft))


def test_vanished_that_stands_for_all_numbers_there_are_takes_no_room() -> None:
    draft, conn = changes(True)

    draft.become(opened(draft, conn, {}, untagged(b"VANISHED (EARLIER) 1:4294967295")))

    assert {} == told(draft)


@given(st.sets(st.integers(1, 200)), st.sets(st.integers(1, 200)))
def test_numbers_within_a_set_are_found(one: set[int], other: set[int]) -> None:
    text = b",".join(text for text, _ in sets.split(sorted(other)))

    assert not other or sorted(one & other) == sets.within(text, sorted(one))
    assert not other or len(other) == sets.size(text)


# ---- put back to an older state --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("told", "way", "put_back"),
    [(b"OK [UIDNEXT 20] n", Way.ALL, True), (b"OK [HIGHESTMODSEQ 4] m", Way.FLAGS, False)],
    ids=["UIDNEXT", "HIGHESTMODSEQ"],
)
def test_number_that_goes_back_is_asked_for_again(told: bytes, way: Way, put_back: bool) -> None:
    """Only the first tells that uids mean nothing; the other may be an index that was made anew."""
    draft, conn = changes(True)

    draft.become(opened(draft, conn, KNOWN, untagged(told)))

    assert (way, put_back, None) == (draft.way, draft.put_back, draft.selected)


def test_known_uid_of_another_message_makes_all_be_asked_for() -> None:
    draft, conn = changes(True)
    fresh = opened(draft, conn, KNOWN)
    header = Literal(b"Message-ID: <another>\r\n\r\n")
    fresh.take([response([b"* 3 FETCH (UID 3 FLAGS () BODY[] ", header, b")"])], read)

    draft.become(fresh)

    assert (Way.ALL, True, None) == (draft.way, draft.put_back, draft.selected)


@pytest.mark.parametrize("id", ["<2>", "<another>"])
def test_where_the_last_known_one_is_gone_the_one_before_is_read(id: str) -> None:
    draft, conn = changes(True)
    now = {1: KNOWN[1], 2: KNOWN[2], 4: KNOWN[3]}
    fresh = opened(draft, conn, now, untagged(b"VANISHED (EARLIER) 3"))
    fresh.take([fetch(now, 4, body=True)], read)
    draft.become(fresh)
    assert {2} == draft.unsure

    draft.learn(2, MessageId(id))

    assert set() == draft.unsure
    if id == "<2>":
        assert ["1", "2", "4"] == list(told(draft))
    else:
        assert (Way.ALL, True, None) == (draft.way, draft.put_back, draft.selected)


def all_of(draft: Draft, box: Box, *more: Response, validity: int = 1) -> Draft:
    """The mailbox, asked for all its messages."""
    draft.way = Way.ALL
    fresh = opened(draft, connection(), box, validity=validity)
    fresh.take([*(fetch(box, uid, body=True) for uid in sorted(box)), *more], read)
    fresh.end(OK)
    draft.become(fresh)
    return draft


def test_mailbox_that_is_another_is_listed_as_a_whole() -> None:
    """The doubt about what was known of the old one must not become one about the new one."""
    box: Box = {1: frozenset(), 2: frozenset()}
    draft = all_of(recalled({7: frozenset()}), box, validity=2)

    assert (None, whole(box)) == (draft.failure, told(draft))


def test_two_messages_of_one_uid_are_no_listing() -> None:
    """The second one passed for gone, was deleted elsewhere, and what it hid behind was kept in the cache."""
    box: Box = {1: frozenset(), 2: frozenset()}
    other = response([b"* 3 FETCH (UID 2 FLAGS () BODY[] ", Literal(b"Message-ID: <3>\r\n\r\n"), b")"])
    draft = all_of(Draft(BOX, b'"box"'), box, other)

    assert "two messages with one UID" in str(draft.failure)
    assert draft.selected is None


@pytest.mark.parametrize("uid", [0, 2**32])
def test_uid_that_is_none_makes_a_listing_incomplete(uid: int) -> None:
    draft = all_of(Draft(BOX, b'"box"'), {1: frozenset(), uid: frozenset()})

    assert (["1"], 1) == (list(told(draft)), len(draft.unreadable))
