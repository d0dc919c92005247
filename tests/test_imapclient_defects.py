"""What imapclient 4.1.0 gets wrong, and that we do not: one test for each, ours first.

A test that fails in its part about imapclient means that it was mended there: look whether our own way is still worth
its lines.
"""

from __future__ import annotations

import shlex
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from imapclient import IMAPClient, imap_utf7
from imapclient.exceptions import ProtocolError
from imapclient.imapclient import join_message_ids
from imapclient.response_parser import parse_fetch_response

from mailsync.drivers.contract import Transfers
from mailsync.drivers.imap import sets, utf7
from mailsync.drivers.imap.account import QUIET, Account
from mailsync.drivers.imap.dial import dial
from mailsync.drivers.imap.sasl import XOAuth2
from mailsync.drivers.imap.stream import Stream
from mailsync.drivers.imap.tokens import fetched, literal_size, response
from mailsync.drivers.imap.wire import Connection
from mailsync.drivers.memory import Bytes
from mailsync.model import NONE, SEEN, Appended, Failure, FlagChange, Mailbox, Message, Uid
from mailsync.spec import Remote

from .mail import entries, message
from .servers import Login
from .servers.fake import EVERYTHING, FakeServer
from .servers.stores import Known, store
from .test_imap_dial import Peer, answering, running

ALICE = Login("alice", "secret")
PAIR = (ALICE.user, ALICE.password)
INBOX = Mailbox("INBOX")


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """With three messages in INBOX."""
    with FakeServer(EVERYTHING) as server:
        for n in range(3):
            server.store[b"INBOX"].add(message(n).replace(b"\n", b"\r\n"))
        yield server


@contextmanager
def theirs(port: int, user: str = "", password: str = "") -> Iterator[IMAPClient]:
    """imapclient as it comes; logged in, if a user is given."""
    client = IMAPClient("127.0.0.1", port, ssl=False, timeout=5)
    try:
        if user:
            client.login(user, password)
            client.select_folder("INBOX")
        yield client
    finally:
        client.shutdown()


def account(port: int, tunnel: str = "") -> Account:
    return Account(Remote("127.0.0.1", port, user="alice", tls="never"), tunnel=tunnel, timeout=5)


# ---- 1, 2: sets of messages ------------------------------------------------------------------------------------------


def test_1_range_of_messages_is_asked_for_and_answered(fake: FakeServer) -> None:
    with store(fake.port, ALICE) as ours:
        uids = [entry.uid for entry in entries(ours, INBOX)]
        with ours.open(INBOX, write=True) as box:
            answers = list(box.set_flags([FlagChange(uid, frozenset({SEEN}), NONE) for uid in uids]))

    assert (["1", "2", "3"], uids) == (uids, answers)
    assert [1, 1] == [fake.count(rb"UID FETCH 1:\* "), fake.count(rb"UID STORE 1:3 ")]
    with theirs(fake.port, *PAIR) as client:
        with pytest.raises(ValueError, match="invalid literal for int"):
            client.fetch("1:*", ["FLAGS"])
        with pytest.raises(ValueError, match="invalid literal for int"):
            client.add_flags("1:3", [SEEN])


def test_2_many_messages_are_short_sets() -> None:
    everyone, every_second = range(1, 20_001), range(1, 40_001, 2)
    lines = [text for text, _ in sets.split(every_second)]

    assert [b"1:20000"] == [text for text, _ in sets.split(everyone)]
    assert all(len(line) < 8000 for line in lines)
    assert list(every_second) == sets.parse(b",".join(lines), most=10**6)
    assert 108_893 == len(join_message_ids(list(everyone)))


# ---- 3: bytes --------------------------------------------------------------------------------------------------------


def test_3_bare_cr_goes_as_it_is(fake: FakeServer) -> None:
    raw = message("cr", b"a\rb\r\rc\n")
    with store(fake.port, ALICE) as ours, ours.open(INBOX, write=True) as box:
        [answer] = box.append([Message(Uid("x"), NONE, 0, Bytes(raw))])

    assert isinstance(answer, Appended)
    assert fake.store[b"INBOX"].messages[-1].raw.endswith(b"\r\n\r\na\rb\r\rc\r\n")
    with theirs(fake.port, *PAIR) as client:
        client.append("INBOX", raw.replace(b"\n", b"\r\n"))
    assert fake.store[b"INBOX"].messages[-1].raw.endswith(b"\r\n\r\na\r\nb\r\n\r\nc\r\n")


# ---- 4, 5: the socket ------------------------------------------------------------------------------------------------

RELAY = """
import os, socket, sys, threading
server = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def back():
    while data := server.recv(65536):
        os.write(1, data)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 65536):
    server.sendall(data)
"""


def test_4_command_is_a_connection(fake: FakeServer) -> None:
    tunnel = shlex.join([sys.executable, "-c", RELAY, str(fake.port)])
    client = dial(account(fake.port, tunnel), Known(ALICE))
    box = client.handed().select_folder("INBOX")
    client.end()

    assert 3 == box[b"EXISTS"]
    with pytest.raises(AttributeError, match="settimeout"):
        IMAPClient(tunnel, stream=True, ssl=False)


@contextmanager
def lines(*pieces: bytes) -> Iterator[Connection]:
    """A connection to a server that says this, piece by piece, and takes a command without looking at it."""
    ours, server = socket.socketpair()
    with ours, server:

        def say() -> None:
            for piece in pieces:
                server.sendall(piece)
                time.sleep(0.02)

        thread = threading.Thread(target=say)
        thread.start()
        yield Connection(Spoken(Stream(ours, 5)), QUIET)
        thread.join()


@dataclass
class Spoken:
    """What a Connection needs of its client."""

    wire: Stream
    caps: frozenset[str] = frozenset()

    def next_tag(self) -> bytes:
        return b"A1"

    def end(self, *, wait: bool = True) -> None:
        self.wire.close()

    drop = end


def test_5_nothing_is_lost_around_a_continuation() -> None:
    """What comes with it in one packet, what comes before it, and a line in two packets."""
    with lines(b"* 4 EXI", b"STS\r\n+ go on\r\n* 5 EXISTS\r\nA1 OK done\r\n") as conn:
        tag = conn.begin(b"IDLE\r\n")
        goes_on = conn.may_go_on(tag)
        pending = conn.client.wire.pending()
        numbers = [answer.number for answer in conn.answers(tag)]

    assert (True, True, [5]) == (goes_on, pending, numbers)
    with running(idling("+ idling\r\n* 3 EXISTS")) as server, theirs(server.port) as client:
        client.idle()
        assert [] == client.idle_check(timeout=0.2)
    with (
        running(idling("* 3 EXISTS", "+ idling")) as server,
        theirs(server.port) as client,
        pytest.raises(IMAPClient.Error, match="Unexpected IDLE response"),
    ):
        client.idle()


def idling(*answers: str) -> Callable[[Peer], None]:
    return answering({"IDLE": answers}, caps="IMAP4rev1 IDLE", greeting="* PREAUTH hi")


# ---- 6, 7, 8: what the server says -----------------------------------------------------------------------------------


def test_6_uids_of_copies_are_known(fake: FakeServer) -> None:
    fake.store.create(b"other").uidnext = 41
    with (
        store(fake.port, ALICE) as ours,
        ours.open(INBOX, write=True) as box,
        ours.open(Mailbox("other"), write=True) as other,
    ):
        assert isinstance(box, Transfers)
        copied = list(box.copy([Uid("1"), Uid("3")], other))
        [moved] = box.move([Uid("2")], other)

    assert ["41", "42", "43"] == [one.uid for one in (*copied, moved) if isinstance(one, Appended)]
    with theirs(fake.port, *PAIR) as client:
        assert [None, None] == [client.copy([1], "other"), client.move([1], "other")]


@pytest.mark.parametrize("words", [("123", "NIL", SEEN), ("[x", SEEN)])
def test_7_flags_are_words(words: tuple[str, ...]) -> None:
    answer = f"* 1 FETCH (UID 1 FLAGS ({' '.join(words)}))".encode()

    assert frozenset(words) == fetched(response([answer])).flags


def test_7_literal_of_binary_is_a_literal() -> None:
    assert 3 == (literal_size(b"* 1 FETCH (UID 1 BINARY[] ~{3}") or (b"", 0))[1]
    assert [[8], [8, 9]] == [sets.parse(b"8", most=1), sets.parse(b"8:9", most=2)]


def test_7_imapclient_parses_them_as_something_else() -> None:
    [words] = parse_fetch_response([rb"1 (UID 1 FLAGS (123 NIL \Seen))"]).values()
    [binary] = parse_fetch_response([(b"1 (UID 1 BINARY[] ~{3}", b"abc"), b")"]).values()

    assert (123, None, rb"\Seen") == words[b"FLAGS"]
    assert b"~{3}" == binary[b"BINARY[]"]
    with pytest.raises(ProtocolError):
        parse_fetch_response([rb"1 (UID 1 FLAGS ([x))"])


def test_8_name_that_is_no_utf_7_is_a_name_and_stays_the_same(fake: FakeServer) -> None:
    for name in (b"Tom & Jerry", b"&"):
        fake.store.create(name).add(message(1).replace(b"\n", b"\r\n"))
    with store(fake.port, ALICE) as ours:
        names = {info.mailbox for info in ours.boxes(["*"])}
        found = {name: len(entries(ours, name)) for name in names}

    assert {"INBOX": 3, "Tom & Jerry": 1, "&": 1} == found
    with theirs(fake.port, *PAIR) as client, pytest.raises(UnicodeDecodeError):
        client.list_folders()
    assert b"&" != imap_utf7.encode(imap_utf7.decode(b"&"))
    assert None is utf7.decode(b"&")


# ---- 9, 10, 12: the login --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [frozenset[str](), EVERYTHING], ids=["LOGIN", "PLAIN"])
def test_9_password_may_be_of_any_letters(capabilities: frozenset[str]) -> None:
    with FakeServer(capabilities, passwords={"alice": "p\u00e4\u20ac\u00df"}) as fake:
        client = dial(account(fake.port), Known(Login("alice", "p\u00e4\u20ac\u00df")))
        client.end()
        with theirs(fake.port) as other, pytest.raises(UnicodeEncodeError):
            other.login("alice", "p\u00e4\u20ac\u00df")

    assert ("PLAIN" if capabilities else "LOGIN") == client.mechanism


def test_9_token_is_not_sent_as_an_answer_to_its_refusal() -> None:
    assert b"" == XOAuth2("alice", "token").answer(b'{"status":"400"}')
    refusing = answering({"AUTHENTICATE XOAUTH2": ["+ ", "+ eyJzdGF0dXMiOiI0MDAifQ==", "T NO no"]})
    with running(refusing) as server, theirs(server.port) as client:
        with pytest.raises(IMAPClient.Error):
            client.oauth2_login("alice", "token")
        first, second = server.heard[-2:]

    assert first == second != ""


def test_10_nothing_is_written_down_for_a_log_that_nobody_reads(fake: FakeServer) -> None:
    client = dial(account(fake.port), Known(ALICE))
    debug = client.handed()._imap.debug
    client.end()
    with theirs(fake.port) as other:
        assert (0, 5) == (debug, other._imap.debug)


def test_11_name_with_quotes_is_a_name(fake: FakeServer) -> None:
    fake.store.create(b'a"b\\c').add(b"Message-ID: <1@x>\r\n\r\n")
    with store(fake.port, ALICE) as ours:
        found = ours.find(Mailbox('a"b\\c'))
        listed = len(entries(ours, Mailbox('a"b\\c')))

    assert (True, 1) == (found is not None and found.selectable, listed)


def test_11_special_mailboxes_are_told_with_the_others(fake: FakeServer) -> None:
    with store(fake.port, ALICE) as ours:
        ours.boxes(["*"])

    assert 1 == fake.count(rb'LIST "" "\*" RETURN \(SPECIAL-USE\)')
    with theirs(fake.port, *PAIR) as client:
        client.find_special_folder(rb"\Sent")
    assert 1 == fake.count(rb'LIST "" "\*"$')


def test_12_login_is_one_flight(fake: FakeServer) -> None:
    dial(account(fake.port), Known(ALICE)).end()
    ours = [line.partition(b" ")[2] for line in fake.log]
    begin = len(fake.log)
    with theirs(fake.port) as client:
        client.plain_login(*PAIR)

    assert [b"AUTHENTICATE PLAIN AGFsaWNlAHNlY3JldA==", b"LOGOUT"] == ours
    assert 3 == len(fake.log) - begin  # CAPABILITY, AUTHENTICATE, its answer


def test_12_change_is_made_only_to_what_nobody_else_has_changed(fake: FakeServer) -> None:
    with store(fake.port, ALICE) as ours:
        entries(ours, INBOX)
        fake.store[b"INBOX"].set_flags(2, [rb"\Flagged"])
        with ours.open(INBOX, write=True) as box:
            answers = list(box.set_flags([FlagChange(Uid(str(uid)), frozenset({SEEN}), NONE) for uid in (1, 2)]))

    assert ["1", True] == [answers[0], isinstance(answers[1], Failure)]
    assert {rb"\Flagged"} == fake.store[b"INBOX"].messages[1].flags
