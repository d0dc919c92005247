"""Targets: what a server says."""

from __future__ import annotations

import socket
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from mailsync.drivers.imap import sets, tokens, utf7
from mailsync.drivers.imap.account import QUIET, Account
from mailsync.drivers.imap.body import ServerBody
from mailsync.drivers.imap.dates import internal_date, parse_date
from mailsync.drivers.imap.deflate import Deflated
from mailsync.drivers.imap.draft import Draft, Way
from mailsync.drivers.imap.listing import first_look
from mailsync.drivers.imap.login import attempt
from mailsync.drivers.imap.mailboxes import Codec, found, token_of
from mailsync.drivers.imap.sasl import Plain, SaslError
from mailsync.drivers.imap.scram import ScramSha256
from mailsync.drivers.imap.select import selected
from mailsync.drivers.imap.session import Link, Session
from mailsync.drivers.imap.stream import Stream
from mailsync.drivers.imap.tokens import Fetched, Literal, ProtocolError, Response, Status
from mailsync.drivers.imap.wire import Connection
from mailsync.errors import Lost, StoreError
from mailsync.identity import identify
from mailsync.model import NONE, Entry, Holds, Listing, Mailbox, MessageId, Token, Uid
from mailsync.spec import Remote

from . import target

T = TypeVar("T")

MSGID = identify("msgid")
MANY = 10_000
CAPS = frozenset({"CONDSTORE", "ENABLE", "ESEARCH", "QRESYNC", "UIDPLUS"})
READERS: tuple[Callable[[Response], object], ...] = (
    tokens.status,
    tokens.listed,
    tokens.namespaces,
    token_of,
    lambda one: found([one], Codec()),
    lambda one: selected(Mailbox("x"), [one], Status(b"OK", b"", b"", "")),
)


class Said(socket.socket):
    """A socket from which some bytes come, so many at a time, and then the end. What is sent to it is forgotten."""

    def __init__(self, data: bytes, size: int | None = None) -> None:
        super().__init__()
        self._left = memoryview(data)
        self._size = size or max(1, len(data))

    def recv(self, size: int, flags: int = 0) -> bytes:
        piece = bytes(self._left[: min(size, self._size)])
        self._left = self._left[len(piece) :]
        return piece

    def recv_into(self, buffer: object, nbytes: int = 0, flags: int = 0) -> int:
        assert isinstance(buffer, memoryview)
        piece = self.recv(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def send(self, data: object, flags: int = 0) -> int:
        assert isinstance(data, memoryview)
        return len(data)


class Logged:
    """A client that is logged in; its tags are a1, a2 and so on."""

    def __init__(self, said: Said, caps: frozenset[str] = CAPS) -> None:
        self.wire = Stream(said, 1)
        self.caps = caps
        self._tags = map(b"a%d".__mod__, count(1))

    def next_tag(self) -> bytes:
        return next(self._tags)

    def end(self, *, wait: bool = True) -> None:
        self.drop()

    def drop(self) -> None:
        self.wire.close()


@dataclass(frozen=True)
class Heard:
    """What was read, and whether the server broke a rule after it."""

    items: list[object]
    broken: bool


def _heard(data: bytes, size: int | None, read: Callable[[Connection, bytes], Iterator[object]]) -> Heard:
    conn = Connection(Logged(Said(data, size)), QUIET)
    items: list[object] = []
    try:
        [tag] = conn.send(b"NOOP")
        for item in read(conn, tag):
            items.append(_plain(item))
        conn.result(tag)
    except ProtocolError:
        return Heard(items, True)
    except Lost:
        pass
    finally:
        conn.drop()
    return Heard(items, False)


def _plain(item: object) -> object:
    """With the bytes of its literals, which may lie in files."""
    match item:
        case Response():
            return item._replace(
                parts=[part if isinstance(part, bytes) else Literal(part.read()) for part in item.parts]
            )
        case Fetched(body=Literal() as body):
            item.body = Literal(body.read())
    return item


def _fetches(responses: Iterable[object], broken: bool) -> Heard:
    told: list[object] = []
    for one in responses:
        assert isinstance(one, Response)
        if one.kind == b"FETCH" and one.number is not None:
            try:
                told.append(tokens.fetched(one))
            except ProtocolError:
                return Heard(told, True)
    return Heard(told, broken)


def _sizes(data: bytes) -> int:
    """In pieces of how many bytes it may come."""
    return len(data) % 7 + 1


@target
def answers(data: bytes) -> None:
    """The same is read however it is cut; FETCHes are read in haste as at leisure; each reader reads or refuses."""
    whole = _heard(data, None, Connection.answers)
    assert whole == _heard(data, _sizes(data), Connection.answers)
    quick = _heard(data, None, Connection.fetched)
    slow = _fetches(whole.items, whole.broken)
    assert quick == slow
    for one in whole.items:
        assert isinstance(one, Response)
        for reader in READERS:
            with suppress(ProtocolError):
                reader(one)


@target
def listing(data: bytes) -> None:
    """What is not told makes a listing incomplete, never shorter; a known message is never told under another uid."""
    known = [Entry(Uid(str(uid)), MessageId(f"<{uid}@x>"), NONE, 9, 9) for uid in (3, 5, 8, 9)]
    before = Listing(Mailbox("x"), known, Holds(), Token("7 10 4 50"), "7")
    for listing, caps in (
        (None, frozenset[str]()),
        (before, frozenset[str]()),
        (before, CAPS),
        (before, CAPS - {"QRESYNC"}),
    ):
        conn = Connection(Logged(Said(data), caps), QUIET)
        draft = Draft(Mailbox("x"), b'"x"')
        draft.recall(listing)
        with suppress(Lost):
            first_look(conn, [draft], MSGID, write=False)
        conn.drop()
        if draft.selected is None:
            continue
        made = draft.listing(Holds())
        if not made.unreadable and not draft.unsure:
            assert len(made.entries) >= draft.selected.exists - _expunges(data)
        ids = {entry.uid: entry.id for entry in known}
        if draft.way is not Way.ALL and draft.selected.validity == "7":
            assert all(ids.get(entry.uid, entry.id) == entry.id for entry in made.entries)


def _expunges(data: bytes) -> int:
    """How many messages may have been told to be gone, at most."""
    upper = data.upper()
    return 2**32 if b"VANISHED" in upper else upper.count(b"EXPUNGE")


@target
def names(data: bytes) -> None:
    """A name comes back as the same bytes, and in modified UTF-7 there is one way to write it."""
    text = utf7.decode(data)
    if text is not None:
        assert utf7.encode(text) == data
    codec = Codec()
    mailbox = codec.mailbox(data)
    if data.upper() != b"INBOX":
        assert codec.raw(mailbox) == data


@target
def uid_sets(data: bytes) -> None:
    """A set is bounded, and read alike whatever is asked of it."""
    try:
        numbers = sets.parse(data, most=MANY)
    except ProtocolError:
        with suppress(ProtocolError):
            sets.within(data, [1, 2, 2**32 - 1])
        return
    assert sets.size(data) == len(numbers) <= MANY
    assert sorted(set(numbers)) == sets.within(data, sorted(set(numbers)))


@target
def words(data: bytes) -> None:
    """Flags and dates come back as they were."""
    flags = tokens.flag_set(data)
    assert tokens.flag_set(tokens.written(flags)[1:-1]) == flags
    date = parse_date(data)
    if date is not None and 0 <= date <= 253402300799:
        assert parse_date(internal_date(date).strip(b'"')) == date


@target
def bodies(data: bytes) -> None:
    """A body has the same size as it is long, both ways."""
    body = ServerBody(Literal(data))
    for wire in (False, True):
        assert body.size(wire=wire) == len(b"".join(body.chunks(wire=wire)))
    assert len(body.head()) <= len(data)


@target
def deflated(data: bytes) -> None:
    """What is unpacked is what zlib unpacks; however it comes, but for what stands just before a fault."""
    unpacker = zlib.decompressobj(-15)
    expected = b""
    with suppress(zlib.error):
        expected = unpacker.decompress(data, 2**20)
    got = _unpacked(data, None)
    assert got[: len(expected)] == expected[: len(got)]
    other = _unpacked(data, _sizes(data))
    assert got[: len(other)] == other[: len(got)]


def _unpacked(data: bytes, size: int | None) -> bytes:
    line = Deflated(Said(data, size))
    room = memoryview(bytearray(4096))
    got = b""
    with suppress(OSError):
        while len(got) < 2**20 and (length := line.recv_into(room)):
            got += room[:length]
    return got[: 2**20]


@target
def login(data: bytes) -> None:
    """Whatever a server says up to the login ends in a login or in a known error; SCRAM believes no forger."""
    account = Account(Remote("h", 1, user="u", tls="never"))
    unproved = ScramSha256("u", "not what the server knows", "nonce")
    for way in (Plain("u", "p"), ScramSha256("u", "p", "nonce"), unproved):
        with suppress(StoreError, Lost, SaslError):
            session = Session(account, Link(Said(data), private=True))
            session._tags = b"a"  # which else nobody can guess
            try:
                assert not (attempt(session, way).ok and way is unproved)
            finally:
                session.close()
