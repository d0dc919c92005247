"""The engine of the IMAP driver against a server that does what it should not: whatever happens on the wire, what the
driver answers is true, and nothing is doubled or lost.
"""

from __future__ import annotations

import random
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise, product
from pathlib import Path
from typing import TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.drivers.contract import Wanted
from mailsync.drivers.files import FileError
from mailsync.drivers.imap import append, reach, stream
from mailsync.drivers.imap.account import QUIET, Account, Tell
from mailsync.drivers.imap.store import ImapStore
from mailsync.drivers.imap.stream import Stream
from mailsync.drivers.imap.tokens import Literal, Response, fetched
from mailsync.drivers.imap.wire import Connection, fetches
from mailsync.drivers.memory import Bytes
from mailsync.errors import BoxError, Lost, MailsyncError, StoreError
from mailsync.model import (
    ANSWERED,
    DELETED,
    FLAGGED,
    NONE,
    SEEN,
    Appended,
    Failure,
    FlagChange,
    Holds,
    Listing,
    Mailbox,
    Measured,
    Message,
    Uid,
)
from mailsync.spec import Remote

from .mail import (
    MSGID,
    NEW_YEAR,
    Kept,
    Mail,
    Ran,
    configure,
    crlf,
    digests,
    entries,
    kept,
    listing,
    maildir,
    message,
    put,
    read,
    run,
)
from .servers import Login
from .servers.fake import (
    EVERYTHING,
    EXCHANGE,
    GMAIL,
    Action,
    Answer,
    Bye,
    Cut,
    Do,
    Edit,
    FakeServer,
    Inject,
    Swallow,
    Trap,
)
from .servers.stores import Known, no_sleep

T = TypeVar("T")

X, INBOX = Mailbox("x"), Mailbox("INBOX")
TIMEOUT = 5.0  # seconds; nothing here is slow, and what hangs must be seen
CAPABILITIES: Mapping[str, Set[str]] = {
    "none": frozenset(),
    "everything": EVERYTHING,
    "gmail": GMAIL,
    "exchange": EXCHANGE,
    "literal-": frozenset({"LITERAL-", "UIDPLUS"}),
    "uidplus": frozenset({"UIDPLUS"}),
    "condstore": frozenset({"CONDSTORE", "ENABLE"}),
    "multiappend": frozenset({"MULTIAPPEND", "LITERAL+", "UIDPLUS"}),
    "multiappend-without-plus": frozenset({"MULTIAPPEND"}),
}
FEW = ("none", "everything", "exchange")
WORK = "work"


@dataclass
class Told:
    """What a store tells its user, and how long it waited."""

    notes: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)
    slept: list[float] = field(default_factory=list)

    @property
    def tell(self) -> Tell:
        return Tell(note=self.notes.append, odd=self.odd.append)


@contextmanager
def opened(server: FakeServer, told: Told | None = None, timeout: float = TIMEOUT) -> Iterator[ImapStore]:
    account = Account(Remote("127.0.0.1", server.port, user="alice", tls="never"), timeout=timeout)
    secrets = Known(Login("alice", "secret"))
    sleep = told.slept.append if told else no_sleep
    with ImapStore(account, secrets, told.tell if told else QUIET, patterns=("*",), sleep=sleep) as driver:
        yield driver


def fill(server: FakeServer, mailbox: bytes, *names: str, flags: Sequence[bytes] = ()) -> None:
    target = server.store.get(mailbox) or server.store.create(mailbox)
    for name in names:
        target.add(crlf(message(name)), flags)


def on_server(server: FakeServer, mailbox: bytes = b"x") -> list[Kept]:
    """What a mailbox holds, looked at without the driver."""
    return sorted(
        kept(Mail(one.raw.replace(b"\r\n", b"\n"), frozenset(flag.decode() for flag in one.flags), one.date))
        for one in server.store[mailbox].messages
    )


def new(*mails: Mail) -> list[Message]:
    return [Message(Uid(f"new {n}"), mail.flags, mail.date, Bytes(mail.raw)) for n, mail in enumerate(mails)]


def appended(driver: ImapStore, *mails: Mail) -> list[Appended | Failure]:
    with driver.open(X, write=True) as opened:
        return list(opened.append(new(*mails)))


def flagged(driver: ImapStore, *changes: FlagChange) -> list[Uid | Failure]:
    with driver.open(X, write=True) as opened:
        return list(opened.set_flags(changes))


def expunged(driver: ImapStore, *uids: int) -> list[Uid | Failure]:
    with driver.open(X, write=True) as opened:
        return list(opened.expunge([Uid(str(uid)) for uid in uids]))


def uids_on(server: FakeServer, mailbox: bytes = b"x") -> list[int]:
    return [one.uid for one in server.store[mailbox].messages]


# ---- a round of everything -------------------------------------------------------------------------------------------

ROUND = (
    Mail(message("a")),
    Mail(message("b", b"y" * 5000 + b"\n"), frozenset({SEEN, WORK})),
    Mail(message("c"), frozenset({FLAGGED})),
    Mail(message("d"), date=NEW_YEAR + 77),
)
AFTER = sorted(
    kept(mail)
    for mail in (replace(ROUND[0], flags=frozenset({ANSWERED, WORK})), replace(ROUND[2], flags=NONE), ROUND[3])
)
OTHERS = sorted(kept(Mail(message(name), frozenset({SEEN}))) for name in "pq")


@dataclass
class Round:
    """Every kind of command once, done as a run does it: after a connection broke, each step looks again first."""

    driver: ImapStore
    lost: int = 0

    def __call__(self) -> tuple[set[Mailbox], list[Kept], list[Kept]]:
        """The names, and what the two mailboxes hold, as the driver sees it at the end."""
        self.driver.create(X)
        self._until_done(self._append)
        read(self.driver, X)
        self._until_done(self._flag)
        self._until_done(self._expunge)
        self._until_done(self._delete)
        names = {info.mailbox for info in self.driver.boxes(["*"])}
        return names, read(self.driver, X), read(self.driver, INBOX)

    def _until_done(self, step: Callable[[], None]) -> None:
        before = self.lost
        while True:
            try:
                step()
                return
            except Lost:
                self.lost += 1
                assert self.lost - before < 4

    def _uids(self) -> dict[str, Uid]:
        return {str(entry.id)[1]: entry.uid for entry in entries(self.driver, X)}

    def _append(self) -> None:
        there = self._uids()
        missing = [mail for mail, name in zip(ROUND, "abcd", strict=True) if name not in there]
        if missing:
            answers = appended(self.driver, *missing)
            assert all(isinstance(answer, Appended) for answer in answers), answers

    def _flag(self) -> None:
        uids = self._uids()
        changes = [
            FlagChange(uids["a"], add=frozenset({ANSWERED, WORK})),
            FlagChange(uids["c"], remove=frozenset({FLAGGED})),
        ]
        assert [uids["a"], uids["c"]] == flagged(self.driver, *changes)

    def _expunge(self) -> None:
        if uid := self._uids().get("b"):
            assert [uid] == expunged(self.driver, int(uid))

    def _delete(self) -> None:
        if self.driver.find(Mailbox("gone")):
            self.driver.delete(Mailbox("gone"))


@contextmanager
def round_on(server: FakeServer) -> Iterator[Round]:
    """Logged in, so that whatever comes now comes in the middle of something."""
    server.store.create(b"gone")
    fill(server, b"INBOX", "p", "q", flags=[rb"\Seen"])
    with opened(server) as driver:
        driver.boxes(["*"])
        yield Round(driver)


def check(server: FakeServer, seen: tuple[set[Mailbox], list[Kept], list[Kept]]) -> None:
    assert ({"INBOX", "x"}, AFTER, OTHERS) == seen
    assert {b"INBOX", b"x"} == set(server.store)
    assert (AFTER, OTHERS) == (on_server(server), on_server(server, b"INBOX"))


SHAPES: Sequence[Mapping[str, int]] = (
    {"window": 1},
    {"split": 1},
    {"split": 2},
    {"split": 7},
    {"literals": True, "split": 5},
    {"order": 1},
    {"order": 2, "literals": True},
    {"unsolicited": True},
)


@pytest.mark.parametrize(
    ("name", "shape"),
    [*((name, shape) for name in CAPABILITIES for shape in ({}, {"literals": True})), *product(FEW, SHAPES)],
    ids=str,
)
def test_all_is_done_whatever_a_server_can_and_however_it_answers(name: str, shape: Mapping[str, int]) -> None:
    with FakeServer(CAPABILITIES[name], **shape) as server, round_on(server) as whole:  # type: ignore[arg-type]
        check(server, whole())

        assert 0 == whole.lost


def commands_of_a_round(capabilities: Set[str]) -> int:
    with FakeServer(capabilities) as server, round_on(server) as whole:
        before = len(server.log)
        whole()
        return len(server.log) - before


NOISE = (
    b"* 4 FETCH (FLAGS (\\Draft))\r\n",
    b"* 4 FETCH (UID 4000 FLAGS (\\Deleted))\r\n",
    b"* 40 EXPUNGE\r\n",
    b"* 9 EXISTS\r\n",
    b"* VANISHED 4000:4005\r\n",
    b"* VANISHED (EARLIER) 1:3\r\n",
    b"* 0 RECENT\r\n",
    b"* OK Still here {5}\r\n",
    b"* NO [ALERT] The cellar is on fire\r\n",
    b"* OK [UIDVALIDITY 999] of some other mailbox\r\n",
    b"* CAPABILITY IMAP4rev1\r\n",
    b'* STATUS "x" (MESSAGES 0)\r\n',
    b"* X-GM-NEWS 3 (whatever\r\n",
    b"+ idle\r\n",
    b"zzz9 OK done\r\n",
    b"zzz9 NO [NONEXISTENT] done\r\n",
)


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("noise", NOISE, ids=bytes.decode)
@pytest.mark.parametrize("after", [0, 1, -1])
def test_what_nobody_asked_for_changes_nothing(name: str, noise: bytes, after: int) -> None:
    with FakeServer(CAPABILITIES[name]) as server, round_on(server) as whole:
        # Where a mailbox is opened, it tells how many messages are in it.
        server.script.append(
            Trap(rb"^(?!.*(SELECT|EXAMINE))" if b"EXISTS" in noise else b"", Inject(noise, after), nth=0)
        )
        check(server, whole())

        assert 0 == whole.lost


FAULTS: Mapping[str, Action] = {
    "swallow": Swallow(),
    "bye-before": Bye("going down", "before"),
    "bye-after": Bye("going down", "after"),
    "bye-instead": Bye("going down", "instead"),
    "cut-1": Cut(1),
    "cut-25": Cut(25),
    "reset": Cut(25, reset=True),
    "no-imap": Edit(lambda answer: b"what?\r\n" + answer),
    "huge-literal": Edit(lambda answer: answer.replace(b"\r\n", b" {99999999999}\r\n", 1)),
}


@pytest.mark.parametrize("name", FEW)
@pytest.mark.parametrize("fault", FAULTS)
def test_connection_that_breaks_at_any_command_costs_nothing(name: str, fault: str) -> None:
    """Each fault at every fifth command, no two at the same ones."""
    count = commands_of_a_round(CAPABILITIES[name])
    for nth in range(1 + list(FAULTS).index(fault) % 5, count + 1, 1 if fault == "swallow" else 5):
        with FakeServer(CAPABILITIES[name]) as server, round_on(server) as whole:
            server.script.append(Trap(rb"^(?!\* GREETING)", FAULTS[fault], nth=nth))
            check(server, whole())


@pytest.mark.parametrize("name", FEW)
def test_server_that_breaks_off_twice_costs_nothing(name: str) -> None:
    for nth in range(1, commands_of_a_round(CAPABILITIES[name]) + 1, 4):
        with FakeServer(CAPABILITIES[name]) as server, round_on(server) as whole:
            server.script += [Trap(rb"^(?!\* GREETING)", Swallow(), nth) for nth in (nth, nth + 5)]
            check(server, whole())


@pytest.mark.parametrize("name", FEW)
def test_message_that_comes_at_any_moment_stays_and_confuses_nothing(name: str) -> None:
    """Where there is more than EXPUNGE, also one that is marked \\Deleted."""
    late = Mail(message("z"), frozenset({DELETED} if "UIDPLUS" in CAPABILITIES[name] else {SEEN}))

    def deliver(server: FakeServer) -> None:
        fill(server, b"x", "z", flags=[flag.encode() for flag in late.flags])

    for nth in range(1, commands_of_a_round(CAPABILITIES[name]) + 1):
        with FakeServer(CAPABILITIES[name]) as server, round_on(server) as whole:
            server.store.create(b"x")
            server.script.append(Trap(b"", Do(deliver), nth=nth))
            whole()
            came = [kept(late)] if server.script[0].met >= nth else []

            assert 0 == whole.lost
            assert sorted([*AFTER, *came]) == on_server(server), nth


def test_mailbox_that_was_made_unheard_is_subscribed() -> None:
    with FakeServer(EVERYTHING) as server:
        server.script.append(Trap(rb"CREATE", Swallow()))
        with opened(server) as driver:
            driver.create(X)

        assert server.store[b"x"].subscribed


# ---- answers that end too early --------------------------------------------------------------------------------------

LISTING = rb"UID FETCH 1:\* "
READING = rb"BODY\.PEEK\[\]"


def answer_to(match: bytes, server: FakeServer, act: Callable[[], object]) -> bytes:
    """The bytes of one answer, undisturbed."""
    found: list[bytes] = []

    def note(answer: bytes) -> bytes:
        found.append(answer)
        return answer

    server.script.append(Trap(match, Edit(note)))
    act()
    server.script.clear()
    return found[0]


@pytest.mark.parametrize("match", [rb"LIST", rb"EXAMINE|SELECT", LISTING, rb"BODY\.PEEK\[HEADER\]", READING])
def test_answer_that_is_cut_anywhere_is_read_again(match: bytes) -> None:
    def look() -> object:
        names = sorted(info.mailbox for info in driver.boxes(["*"]))
        return names, read(driver, X)

    with FakeServer(EXCHANGE) as server:
        fill(server, b"x", "1", "2", flags=[rb"\Seen"])
        server.store[b"x"].add(b"Subject: no id\r\n\r\nhi\r\n")
        with opened(server) as driver:
            expected = look()
            whole = answer_to(match, server, look)
            line_ends = {at + n for at in range(len(whole)) if whole[at : at + 2] == b"\r\n" for n in (0, 1, 2)}
            for at in sorted({*range(0, len(whole), 17), *line_ends, len(whole) - 1} - {len(whole)}):
                server.script.append(Trap(match, Cut(at)))
                assert expected == look(), at


@pytest.mark.parametrize("match", [rb"APPEND", rb"STORE", rb"EXPUNGE"])
def test_answer_that_is_cut_anywhere_is_never_taken_for_a_whole_one(match: bytes) -> None:
    """Cut to the byte: either it is known to be done, or it is Lost; and it was done once."""
    act: Mapping[bytes, Callable[[ImapStore], Sequence[object]]] = {
        rb"APPEND": lambda driver: appended(driver, ROUND[0]),
        rb"STORE": lambda driver: flagged(driver, FlagChange(Uid("1"), frozenset({FLAGGED}))),
        rb"EXPUNGE": lambda driver: expunged(driver, 1),
    }
    with FakeServer(EXCHANGE) as server:
        fill(server, b"x", "1", "2")
        with opened(server) as driver:
            whole = answer_to(match, server, partial(act[match], driver))
    for at in range(len(whole)):
        with FakeServer(EXCHANGE) as server:
            fill(server, b"x", "1", "2")
            server.script.append(Trap(match, Cut(at)))
            with opened(server) as driver, pytest.raises(Lost):
                act[match](driver)
            expected = {rb"APPEND": [1, 2, 3], rb"STORE": [1, 2], rb"EXPUNGE": [2]}[match]
            assert expected == uids_on(server)


def test_cut_list_is_an_error_and_never_a_part() -> None:
    with FakeServer(EXCHANGE) as server:
        for n in range(20):
            server.store.create(b"box %d" % n)
        server.script.append(Trap(rb'LIST "" "\*"', Cut(300), nth=0))
        with opened(server) as driver, pytest.raises(StoreError):
            driver.boxes(["*"])


def test_mailbox_whose_listing_always_breaks_off_spoils_no_other() -> None:
    with FakeServer(EVERYTHING) as server:
        for name in (b"a", b"b", b"c"):
            fill(server, name, "1")
        server.script += [Trap(rb'(SELECT|EXAMINE) "b"', Swallow(), nth=0)]
        with opened(server) as driver:
            assert 1 == len(entries(driver, "a"))
            found = dict(driver.listings([Wanted(Mailbox(name)) for name in "abc"], MSGID))

    assert ["b"] == [name for name, what in found.items() if isinstance(what, Failure)]


def test_server_that_says_nothing_is_given_up() -> None:
    with FakeServer(EVERYTHING) as server, opened(server, timeout=0.2) as driver:
        fill(server, b"x", "1")
        server.script.append(Trap(rb"UID STORE", Edit(lambda _: b"")))
        began = time.monotonic()
        with pytest.raises(Lost, match="nothing came"):
            flagged(driver, FlagChange(Uid("1"), frozenset({FLAGGED})))

        assert time.monotonic() - began < 2


# ---- others at the same mail -----------------------------------------------------------------------------------------


def test_message_that_vanishes_while_it_is_listed_is_not_listed() -> None:
    with FakeServer(EXCHANGE) as server:
        fill(server, b"x", "1", "2", "3", "4")
        server.script.append(Trap(LISTING, Do(lambda server: server.store[b"x"].remove(2, 3))))
        with opened(server) as driver:
            found = listing(driver, X)

    assert (["1", "4"], True) == ([entry.uid for entry in found.entries], found.complete)


def test_message_that_a_listing_leaves_out_makes_it_incomplete() -> None:
    with FakeServer(EXCHANGE) as server:
        fill(server, b"x", "1", "2", "3")
        server.script.append(Trap(LISTING, Edit(lambda answer: answer[answer.index(b"* 2 ") :])))
        with opened(server) as driver:
            found = listing(driver, X)

    assert ["x: 1 messages were not listed"] == [str(failure) for failure in found.unreadable]


@pytest.mark.parametrize("noise", [b"* VANISHED 1\r\n", b"* VANISHED (EARLIER) 1:99\r\n", b"* 99 EXPUNGE\r\n"])
def test_what_is_gone_elsewhere_does_not_hide_that_a_message_is_missing(noise: bytes) -> None:
    with FakeServer(EXCHANGE) as server:
        fill(server, b"x", "1", "2", "3")
        server.script.append(Trap(LISTING, Edit(lambda answer: noise + answer[answer.index(b"* 2 ") :])))
        with opened(server) as driver:
            assert not listing(driver, X).complete


def test_flags_that_change_while_they_are_listed_are_the_last_ones() -> None:
    with FakeServer(EXCHANGE) as server:
        fill(server, b"x", "1", "2", "3")
        noise = b"* 1 FETCH (FLAGS (\\Flagged))\r\n* 2 FETCH (FLAGS (\\Flagged))\r\n"
        server.script.append(Trap(LISTING, Inject(noise, after=2)))
        with opened(server) as driver:
            assert [{FLAGGED}, {FLAGGED}, NONE] == [entry.flags for entry in entries(driver, X)]


@pytest.mark.parametrize(
    "act",
    [
        lambda driver: flagged(driver, FlagChange(Uid("1"), frozenset({FLAGGED}))),
        lambda driver: expunged(driver, 1),
    ],
)
def test_mailbox_that_was_replaced_after_its_listing_is_not_touched(act: Callable[[ImapStore], object]) -> None:
    with FakeServer(EVERYTHING) as server:
        fill(server, b"x", "1", "2")
        with opened(server) as driver:
            listing(driver, X)
            server.store[b"x"].renumber(77)
            server.store[b"x"].messages.reverse()
            for one, uid in zip(server.store[b"x"].messages, (1, 2), strict=True):
                one.uid = uid
            before = on_server(server)
            for _ in range(2):
                driver.holds(X)
                with pytest.raises(Lost):
                    act(driver)

            assert before == on_server(server)
            assert 2 == len(entries(driver, X))  # listed anew, it is a mailbox like any other
            act(driver)


def test_mailbox_that_is_replaced_while_it_is_open_is_not_touched() -> None:
    def replace_it(server: FakeServer) -> None:
        server.store[b"x"].renumber(77)

    with FakeServer(EVERYTHING) as server:
        fill(server, b"x", "1", "2")
        with opened(server) as driver, driver.open(X, write=True) as box:
            server.script.append(Trap(rb"UID FETCH", Do(replace_it)))
            with pytest.raises(Lost):
                list(box.expunge([Uid("1")]))
            with pytest.raises(Lost):
                list(box.expunge([Uid("1")]))

        assert [1, 2] == uids_on(server)


def test_flags_that_another_program_has_changed_are_left_to_the_next_run() -> None:
    with FakeServer(EVERYTHING) as server:
        fill(server, b"x", "1", "2")
        with opened(server) as driver:
            listing(driver, X)
            server.store[b"x"].set_flags(1, [rb"\Answered"])
            changes = [FlagChange(Uid(uid), frozenset({SEEN})) for uid in "12"]
            first, second = flagged(driver, *changes)

            assert isinstance(first, Failure)
            assert (True, "2") == (first.gone, second)
            assert [{rb"\Answered"}, {rb"\Seen"}] == [one.flags for one in server.store[b"x"].messages]
            listing(driver, X)
            assert ["1"] == flagged(driver, changes[0])


def test_without_uidplus_what_another_program_has_marked_survives_and_is_told() -> None:
    told = Told()
    with FakeServer(frozenset()) as server:
        fill(server, b"x", "1", "2", "3")
        server.store[b"x"].set_flags(2, [rb"\Deleted", rb"\Seen"])
        server.script.append(
            Trap(rb"STORE 1 .*Deleted", Do(lambda server: server.store[b"x"].set_flags(3, [rb"\Deleted"])))
        )
        with opened(server, told) as driver:
            assert ["1"] == expunged(driver, 1)

        assert [(2, {rb"\Deleted", rb"\Seen"}), (3, {rb"\Deleted"})] == [
            (one.uid, one.flags) for one in server.store[b"x"].messages
        ]
    assert 1 == len(told.odd)
    assert "no UIDPLUS" in told.odd[0]


def test_without_uidplus_nothing_is_expunged_where_a_foreign_mark_stays() -> None:
    with FakeServer(frozenset()) as server:
        fill(server, b"x", "1", "2")
        server.store[b"x"].set_flags(2, [rb"\Deleted"])
        server.script.append(Trap(rb"STORE 2 -FLAGS", Answer("NO not allowed"), nth=0))
        with opened(server) as driver:
            [answer] = expunged(driver, 1)

        assert isinstance(answer, Failure)
        assert [1, 2] == uids_on(server)
        assert 0 == server.count(rb"\bEXPUNGE")


@pytest.mark.parametrize("capabilities", [frozenset(), frozenset({"UIDPLUS"})])
def test_uid_that_is_gone_and_taken_for_its_neighbour_harms_nobody(capabilities: Set[str]) -> None:
    """As GNU mailutils does: each command about UID 1, which is gone, is done to UID 2."""

    def at_neighbour(server: FakeServer) -> None:
        server.store[b"x"].messages[0].uid = 1

    def back(answer: bytes) -> bytes:
        server.store[b"x"].messages[0].uid = 2
        return answer.replace(b"UID 1 ", b"UID 2 ")

    with FakeServer(capabilities) as server:
        fill(server, b"x", "1", "2", "3")
        with opened(server) as driver:
            uid = listing(driver, X).entries[0].uid
            server.store[b"x"].remove(1)
            before = on_server(server)
            for action in (Do(at_neighbour), Edit(back)):
                server.script.append(Trap(rb"UID (FETCH|STORE|EXPUNGE) 1 ", action, nth=0))
            for answers in (
                flagged(driver, FlagChange(uid, frozenset({FLAGGED}))),
                expunged(driver, 1),
                fetched_from(driver, uid),
            ):
                [answer] = answers
                assert isinstance(answer, Failure)
                assert answer.gone

        assert (before, [2, 3]) == (on_server(server), uids_on(server))


def fetched_from(driver: ImapStore, *uids: Uid) -> list[Message | Failure]:
    with driver.open(X, write=False) as opened:
        return list(opened.fetch(uids))


def test_message_without_content_is_a_failure_and_not_gone() -> None:
    with FakeServer(EVERYTHING) as server:
        fill(server, b"x", "1", "2", "3")
        edit = Edit(
            lambda answer: (
                b"* 1 FETCH (UID 1 FLAGS ())\r\n* 2 FETCH (UID 2 BODY[] NIL)\r\n" + answer[answer.index(b"* 3") :]
            )
        )
        server.script.append(Trap(READING, edit, nth=0))
        with opened(server) as driver:
            one, two, three = fetched_from(driver, *map(Uid, "123"))

    assert isinstance(three, Message)
    assert [False, False] == [each.gone for each in (one, two) if isinstance(each, Failure)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_messages_are_measured_however_a_server_answers(shape: Mapping[str, int]) -> None:
    with FakeServer(EVERYTHING, **shape) as server:  # type: ignore[arg-type]
        fill(server, b"x", "1", "two", "3")
        server.script.append(Trap(rb"UID FETCH", Inject(b"* 2 FETCH (UID 2 FLAGS (\\Seen))\r\n", 1)))
        with opened(server) as driver, driver.open(X, write=False) as box:
            server.store[b"x"].remove(3)
            two, gone, one = box.measure([Uid("2"), Uid("3"), Uid("1")])

    assert [Measured(Uid(uid), len(crlf(message(name))), NEW_YEAR) for uid, name in (("1", "1"), ("2", "two"))] == [
        one,
        two,
    ]
    assert isinstance(gone, Failure)
    assert gone.gone
    assert 0 == server.count("BODY")


def test_message_without_a_date_is_not_measured_and_not_gone() -> None:
    with FakeServer(EVERYTHING) as server:
        fill(server, b"x", "1", "2")
        without_first = Edit(lambda answer: re.sub(rb'INTERNALDATE "[^"]*"', b"FLAGS ()", answer, count=1))
        server.script.append(Trap(rb"UID FETCH", without_first))
        with opened(server) as driver, driver.open(X, write=False) as box:
            first, second = box.measure([Uid("1"), Uid("2")])

    assert isinstance(first, Failure)
    assert not first.gone
    assert isinstance(second, Measured)


def test_header_of_megabytes_spoils_nothing() -> None:
    raw = b"Message-ID: <long@x>\r\n" + b"X: %s\r\n" % (b"y" * 900) * 2500 + b"\r\nhi\r\n"
    odd = b"Message-ID : <odd@x>\r\n" + raw.partition(b"\r\n")[2]
    with FakeServer(EVERYTHING) as server:
        for each in (raw, odd, b"Message-ID: <%s@x>\r\n\r\nhi\r\n" % (b"z" * 2_000_000)):
            server.store.get(b"x", server.store[b"INBOX"]).add(each)
        with opened(server) as driver:
            found = entries(driver, INBOX)
            assert ["<long@x>", "<odd@x>"] == [entry.id for entry in found[:2]]
            assert 3 == len(found)
            with driver.open(INBOX, write=False) as box:
                assert 3 == sum(not isinstance(head, Failure) for head in box.heads([entry.uid for entry in found]))


# ---- giving messages to a server -------------------------------------------------------------------------------------


def test_batch_that_is_refused_as_a_whole_is_to_be_tried_alone() -> None:
    with FakeServer(EVERYTHING, refuse=lambda raw: "I do not like it" if b"bad" in raw else None) as server:
        server.store.create(b"x")
        mails = [Mail(message("1")), Mail(message("bad")), Mail(message("3"))]
        with opened(server) as driver:
            together = appended(driver, *mails)
            with driver.open(X, write=True) as box:
                apart = list(box.append([replace(each, alone=True) for each in new(*mails)]))

        assert [True] * 3 == [each.alone for each in together if isinstance(each, Failure)]
        assert [type(each) for each in apart] == [Appended, Failure, Appended]
        assert [False] == [each.alone for each in apart if isinstance(each, Failure)]
        assert 2 == len(uids_on(server))


def test_message_over_the_limit_that_was_told_is_not_sent() -> None:
    with FakeServer(EVERYTHING - {"APPENDLIMIT=35651584"} | {"APPENDLIMIT=1000"}) as server:
        server.store.create(b"x")
        with opened(server) as driver:
            large, small = appended(driver, Mail(message("large", b"y" * 1000)), Mail(message("small")))

        assert isinstance(large, Failure)
        assert (True, False) == ("APPENDLIMIT" in large.why, large.alone)
        assert isinstance(small, Appended)
        assert 0 == server.count(rb"\{1\d\d\d\+?\}")


@pytest.mark.parametrize("capabilities", [EVERYTHING, EXCHANGE, frozenset()], ids=["multi", "plus", "none"])
def test_message_that_is_too_big_spoils_no_other(capabilities: Set[str]) -> None:
    with FakeServer(capabilities - {"APPENDLIMIT=35651584"}, message_limit=1000) as server:
        server.store.create(b"x")
        mails = [Mail(message("1")), Mail(message("large", b"y" * 1000)), Mail(message("3"))]
        with opened(server) as driver, driver.open(X, write=True) as box:
            one, large, three = box.append([replace(each, alone=True) for each in new(*mails)])

        assert isinstance(large, Failure)
        assert ("TOOBIG" in large.why, "sizelimit" in large.hint) == (True, True)
        assert all(isinstance(each, Appended) for each in (one, three))


def test_message_for_which_there_is_no_room_is_not_sent_again_as_a_larger_one() -> None:
    with FakeServer(EXCHANGE, quota=1000) as server:
        server.store.create(b"x")
        sizes = [600, 5000, 7000, 100]
        mails = [Mail(message(str(size), b"y" * size)) for size in sizes]
        with opened(server) as driver, pytest.MonkeyPatch.context() as patch:
            patch.setattr(append, "SINGLES_AHEAD", 0)
            answers = appended(driver, *mails)

        assert [Appended, Failure, Failure, Appended] == [type(each) for each in answers]
        assert 0 == server.count(rb"\{7\d\d\d\+\}")


@pytest.mark.parametrize("capabilities", [EVERYTHING, EXCHANGE, frozenset()], ids=["multi", "plus", "none"])
def test_server_that_wants_to_be_left_alone_is_waited_for_once(capabilities: Set[str]) -> None:
    told = Told()
    with FakeServer(capabilities) as server:
        server.store.create(b"x")
        throttled = Answer("NO Request is throttled. Suggested Backoff Time: 100 milliseconds")
        server.script += [Trap(rb"APPEND", throttled, nth) for nth in ((1, 2, 3) if capabilities == EXCHANGE else (1,))]
        mails = [Mail(message(str(n))) for n in range(3)]
        with opened(server, told) as driver:
            answers = appended(driver, *mails)
            again = [mail for mail, answer in zip(mails, answers, strict=True) if isinstance(answer, Failure)]
            with driver.open(X, write=True) as box:
                assert all(
                    isinstance(each, Appended) for each in box.append([replace(m, alone=True) for m in new(*again)])
                )

        assert 3 == len(uids_on(server))
    assert [0.1] == told.slept
    assert [
        "the server says: Request is throttled. Suggested Backoff Time: 100 milliseconds; waiting for 0.1 seconds"
    ] == (told.notes)


@pytest.mark.parametrize("known", [False, True])
def test_mailbox_whose_messages_are_refused_for_a_while_does_not_pass_for_empty(known: bool) -> None:
    with FakeServer() as server, opened(server) as driver:
        fill(server, b"x", "1", "2")
        before = listing(driver, "x") if known else None
        server.script.append(Trap(b"UID FETCH", Answer("NO Request is throttled. Backoff Time: 10 milliseconds")))
        [(_, found)] = driver.listings([Wanted(X, lambda: before)], MSGID)

    assert isinstance(found, Listing)
    assert (2, True) == (len(found.entries), found.complete)


def test_server_that_is_never_ready_is_not_asked_for_ever() -> None:
    told = Told()
    with FakeServer(frozenset({"UIDPLUS"})) as server:
        server.store.create(b"x")
        server.script.append(Trap(rb"APPEND", Answer("NO [UNAVAILABLE] later"), nth=0))
        with opened(server, told) as driver:
            answers = appended(driver, *(Mail(message(str(n))) for n in range(20)))

        assert 20 == sum(isinstance(each, Failure) for each in answers)
        assert append.PATIENCE == len(told.slept) == server.count(rb"APPEND")


def test_login_that_is_too_much_for_now_is_waited_for() -> None:
    told = Told()
    with FakeServer(EVERYTHING) as server:
        server.script += [Trap(rb"GREETING", Bye("Too many simultaneous connections."), nth) for nth in (1, 2)]
        with opened(server, told) as driver:
            assert ["INBOX"] == [info.mailbox for info in driver.boxes(["*"])]

    assert (2, 2) == (len(told.slept), len(told.notes))


def test_command_that_is_refused_for_a_while_is_given_again() -> None:
    told = Told()
    with FakeServer(EVERYTHING) as server:
        server.script.append(Trap(rb"CREATE", Answer("NO [INUSE] later")))
        with opened(server, told) as driver:
            driver.create(X)

        assert b"x" in server.store
    assert 1 == len(told.slept)


def forgets_flags(server: FakeServer) -> None:
    """From now on what comes in is without flags."""
    keep = server.keep
    server.keep = lambda box, raw, flags, date: keep(box, raw, (), date)  # type: ignore[method-assign]


@pytest.mark.parametrize("capabilities", [EVERYTHING, EXCHANGE, frozenset()], ids=["multi", "plus", "none"])
def test_flags_that_come_with_an_append_and_are_forgotten_are_set_afterwards(capabilities: Set[str]) -> None:
    with FakeServer(capabilities) as server:
        server.store.create(b"x")
        forgets_flags(server)
        with opened(server) as driver:
            put(driver, X, ROUND)
            put(driver, X, ROUND)
            assert sorted(2 * [kept(mail) for mail in ROUND]) == read(driver, X)


def test_flag_that_a_mailbox_cannot_keep_is_not_sent() -> None:
    with FakeServer(EVERYTHING) as server:
        server.store.create(b"x").permanent_flags = {rb"\Seen", rb"\Deleted"}
        with opened(server) as driver:
            put(driver, X, [Mail(message("1"), frozenset({SEEN, FLAGGED, WORK}))])
            assert Holds(frozenset({SEEN, DELETED})).flags == listing(driver, X).holds.flags
            assert ["1"] == flagged(driver, FlagChange(Uid("1"), frozenset({FLAGGED})))

        assert [{rb"\Seen"}] == [one.flags for one in server.store[b"x"].messages]
        assert 0 == server.count(rb"Flagged|work")


@pytest.mark.parametrize("words", ["NO [CANNOT] invalid keyword", "BAD Command Argument Error. 11"])
def test_flag_that_is_refused_is_a_failure(words: str) -> None:
    with FakeServer(EVERYTHING) as server:
        fill(server, b"x", "1", "2")
        server.script.append(Trap(rb"STORE .*work|APPEND .*work", Answer(words), nth=0))
        with opened(server) as driver:
            changes = [FlagChange(Uid("1"), frozenset({WORK})), FlagChange(Uid("2"), frozenset({SEEN}))]
            refused, done = flagged(driver, *changes)
            [failure] = appended(driver, Mail(message("3"), frozenset({WORK})))

    assert isinstance(refused, Failure)
    assert (True, "2") == (words.partition(" ")[2].rpartition("] ")[2] in refused.why, done)
    assert isinstance(failure, Failure)


@pytest.mark.parametrize("capabilities", [EVERYTHING, frozenset()], ids=["everything", "none"])
def test_keyword_that_a_mailbox_spells_otherwise_stays(capabilities: Set[str]) -> None:
    with FakeServer(capabilities) as server:
        fill(server, b"x", "1", flags=[b"work"])
        with opened(server) as driver:
            [answer] = appended(driver, Mail(message("2"), frozenset({"WORK"})))

        assert isinstance(answer, Appended)
        assert [{b"work"}, {b"work"}] == [one.flags for one in server.store[b"x"].messages]


@pytest.mark.parametrize(
    "code", [b"", b"[APPENDUID]", b"[APPENDUID 2]", b"[APPENDUID 2 x]", b"[APPENDUID 2 1:*]", b"[APPENDUID 2 7:9]"]
)
def test_uid_that_is_not_told_is_not_guessed(code: bytes) -> None:
    """Nor is it remembered that the message is there: once the next run did not find it, it was deleted here."""

    def without_code(answer: bytes) -> bytes:
        return re.sub(rb"\[APPENDUID [^]]*\]", code, answer)

    with FakeServer(EVERYTHING) as server:
        server.store.create(b"x")
        server.script.append(Trap(rb"APPEND", Edit(without_code), nth=0))
        with opened(server) as driver:
            answers = appended(driver, *ROUND)
            expected = [Appended(one.uid, None, sure=False) for one in new(*ROUND)]
            assert expected == answers
            assert sorted(kept(mail) for mail in ROUND) == read(driver, X)


def test_message_that_went_into_another_mailbox_is_lost() -> None:
    with FakeServer(EVERYTHING) as server:
        fill(server, b"x", "1")
        server.script.append(Trap(rb"APPEND", Edit(lambda answer: answer.replace(b"APPENDUID 2", b"APPENDUID 3"))))
        with opened(server) as driver, pytest.raises(Lost):
            appended(driver, Mail(message("2")))


@pytest.mark.parametrize(("size", "plus"), [(4096, True), (4097, False)])
def test_small_literals_do_not_wait_where_large_ones_must(size: int, plus: bool) -> None:
    raw = message("1")
    body = b"y" * (size - len(crlf(raw)) + len(b"hi\r\n") - 2) + b"\n"
    with FakeServer(frozenset({"LITERAL-", "UIDPLUS"})) as server:
        server.store.create(b"x")
        with opened(server) as driver:
            appended(driver, Mail(message("1", body)))

        assert int(plus) == server.count(rb"\{%d\+\}" % size)
        assert size == len(server.store[b"x"].messages[0].raw)


@dataclass
class Failing:
    """The body of a local file that can be read so many times."""

    times: int = 0
    pieces: int = 2 * append.IN_MEMORY // 1000

    def size(self, *, wire: bool) -> int:
        return sum(map(len, self.chunks(wire=wire)))

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        self.times -= 1
        yield b"X: y\r\n\r\n"
        for n in range(self.pieces):
            if self.times < 0 and n == self.pieces // 2:
                raise FileError(5, "Input/output error")
            yield b"y" * 1000


@pytest.mark.parametrize("capabilities", [EVERYTHING, frozenset()], ids=["everything", "none"])
def test_message_that_cannot_be_read_spoils_no_other(capabilities: Set[str]) -> None:
    one, bad, three = new(Mail(message("1")), Mail(message("2")), Mail(message("3")))
    with FakeServer(capabilities) as server:
        server.store.create(b"x")
        with opened(server) as driver, driver.open(X, write=True) as box:
            answers = list(box.append([one, replace(bad, body=Failing()), three]))

        assert [Appended, Failure, Appended] == [type(each) for each in answers]
        assert 2 == len(uids_on(server))


def test_message_that_ends_too_early_on_its_way_is_never_stored_in_part() -> None:
    one, bad = new(Mail(message("1")), Mail(message("2")))
    with FakeServer(EXCHANGE) as server:
        server.store.create(b"x")
        with opened(server) as driver:
            with pytest.raises(Lost), driver.open(X, write=True) as box:
                list(box.append([one, replace(bad, body=Failing(3))]))

            assert ["<1@x>"] == [entry.id for entry in entries(driver, X)]


def test_input_that_breaks_off_leaves_whole_messages_and_a_connection_that_works() -> None:
    def until_it_breaks() -> Iterator[Message]:
        yield from new(*ROUND)
        raise BoxError("the source is gone")

    with FakeServer(EVERYTHING) as server:
        server.store.create(b"x")
        with opened(server) as driver:
            with pytest.raises(BoxError, match="source"), driver.open(X, write=True) as box:
                list(box.append(until_it_breaks()))
            assert sorted(map(kept, ROUND)) == read(driver, X)

        assert 1 == server.connections


# ---- from one server to another --------------------------------------------------------------------------------------


def hasty(call: Callable[[], T], seconds: float = 30) -> T:
    """What hangs must not hang the tests."""
    done: list[T] = []
    thread = threading.Thread(target=lambda: done.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert done, "it hangs, or failed"
    return done[0]


@pytest.mark.parametrize("capabilities", [EVERYTHING, EXCHANGE, GMAIL], ids=["multi", "plus", "minus"])
@pytest.mark.parametrize(("window", "size", "count"), [(1, 300, 120), (4096, 5_000_000, 3)], ids=["many", "large"])
def test_narrow_lines_on_both_sides_do_not_block_each_other(
    capabilities: Set[str], window: int, size: int, count: int
) -> None:
    body = (b"y" * 98 + b"\n") * (size // 99)
    with FakeServer(capabilities, window=window) as source, FakeServer(capabilities, window=window) as target:
        for n in range(count):
            source.store[b"INBOX"].add(crlf(message(n, body)), [rb"\Seen"])
        target.store.create(b"x")

        def copied() -> list[Appended | Failure]:
            with opened(source) as a, opened(target) as b:
                uids = [entry.uid for entry in entries(a, INBOX)]
                with a.open(INBOX, write=False) as left, b.open(X, write=True) as right:
                    return list(right.append(each for each in left.fetch(uids) if isinstance(each, Message)))

        answers = hasty(copied)

        assert [Appended] * count == [type(each) for each in answers]
        assert on_server(source, b"INBOX") == on_server(target)


def test_source_that_breaks_off_in_the_middle_of_a_batch_is_read_on() -> None:
    with FakeServer(EVERYTHING) as source, FakeServer(EVERYTHING) as target:
        fill(source, b"INBOX", *map(str, range(50)))
        target.store.create(b"x")
        source.script += [Trap(READING, Cut(9000), 1), Trap(READING, Cut(7, reset=True), 2)]
        with opened(source) as a, opened(target) as b:
            uids = [entry.uid for entry in entries(a, INBOX)]
            with a.open(INBOX, write=False) as left, b.open(X, write=True) as right:
                answers = list(right.append(each for each in left.fetch(uids) if isinstance(each, Message)))

        assert 50 == sum(isinstance(each, Appended) for each in answers)
        assert on_server(source, b"INBOX") == on_server(target)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "WAITS", (0.0,) * 4)


def far(name: str, server: FakeServer) -> str:
    return f"store {name} {{ server {{127.0.0.1:{server.port}/user=alice/notls}} passwd secret timeout {TIMEOUT:g} }}\n"


def channel(home: Path, *stores: str) -> None:
    configure(home, "".join(stores) + "channel ab a b { msinfo .msinfo }\n")


def settled(*args: str) -> Ran:
    """A second run finds nothing to do."""
    ran = run("--json", "ab", *args)
    assert (0, []) == (ran.code, ran.steps), ran.err
    return ran


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("fault", ["swallow", "cut-1", "reset", "bye-instead", "bye-after"])
@pytest.mark.parametrize("capabilities", [EVERYTHING, EXCHANGE, frozenset()], ids=["multi", "plus", "none"])
def test_run_whose_append_was_not_answered_doubles_and_loses_nothing(
    home: Path, fault: str, capabilities: Set[str]
) -> None:
    with FakeServer(capabilities) as a, FakeServer(capabilities) as b:
        fill(a, b"INBOX", *"12345", flags=[rb"\Seen"])
        fill(a, b"x", *"678", flags=[b"work"])
        fill(b, b"INBOX", *"1x")
        for nth in (1, 3):
            b.script.append(Trap(rb"APPEND", FAULTS[fault], nth))
        a.script.append(Trap(rb"APPEND", FAULTS[fault]))
        channel(home, far("a", a), far("b", b))
        first = run("ab")
        if first.code:  # what is told as failed is done by the next one
            assert 1 == first.code, first.err
            run("ab")
        settled()

        for name in (b"INBOX", b"x"):
            assert on_server(a, name) == on_server(b, name)
        assert (6, 3) == (len(uids_on(a, b"INBOX")), len(uids_on(a)))


@pytest.mark.usefixtures("impatient")
def test_run_over_narrow_lines_that_break_doubles_and_loses_nothing(home: Path) -> None:
    large = (b"y" * 98 + b"\n") * 50_000
    with FakeServer(EVERYTHING, window=4096) as a, FakeServer(EVERYTHING, window=4096) as b:
        for n in range(3):
            a.store[b"INBOX"].add(crlf(message(n, large)))
            b.store[b"INBOX"].add(crlf(message(n + 3, large)))
        b.script.append(Trap(rb"APPEND", Swallow()))
        a.script += [Trap(READING, Cut(7_000_000)), Trap(rb"APPEND", Swallow())]
        channel(home, far("a", a), far("b", b))
        assert 0 == run("ab").code
        settled()

        assert on_server(a, b"INBOX") == on_server(b, b"INBOX")
        assert 6 == len(uids_on(a, b"INBOX"))


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ["none", "everything"])
def test_run_that_breaks_off_at_any_command_doubles_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A Maildir and a server: copies both ways, flags, deletions and a new mailbox."""

    def prepared(number: int) -> tuple[FakeServer, Path]:
        home = tmp_path / str(number)
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.chdir(home)
        files = maildir(home / "Mail" / "INBOX", *(message(n) for n in range(4)))
        maildir(home / "Mail" / "new", message("new"))
        server = FakeServer(CAPABILITIES[name])
        fill(server, b"INBOX", *"234567", flags=[rb"\Seen"])
        near = "store b { pat Mail/* prefix Mail/ format maildir fsync no }\n"
        channel(home, far("a", server), near)
        with server:
            assert 0 == run("ab").code
        files[0].unlink()
        files[1].rename(f"{files[1]}F")
        again = FakeServer(CAPABILITIES[name])
        again.store.update(server.store)
        again.store[b"INBOX"].remove(*[m.uid for m in server.store[b"INBOX"].messages if b"<6@x>" in m.raw])
        fill(again, b"INBOX", "8", "9")
        maildir(home / "Mail" / "newer", message("newer"))
        channel(home, far("a", again), near)
        return again, home

    def outcome(server: FakeServer, home: Path) -> object:
        far_side = {key.decode(): [one.exact for one in on_server(server, key)] for key in server.store}
        near_side = {key.removeprefix("Mail/"): sorted(box) for key, box in digests(home, "Mail/*").items()}
        return {key: sorted(box) for key, box in far_side.items()}, near_side

    server, home = prepared(0)
    with server:
        before = len(server.log)
        assert 0 == run("ab").code
        commands = len(server.log) - before
        settled()
        expected = outcome(server, home)
    for nth in range(3, commands + 1, 3):  # after the login, which is not tried again
        server, home = prepared(nth)
        with server:
            server.script.append(Trap(rb"", Swallow(), nth))
            ran = run("ab")
            server.script.clear()
            if ran.code:
                run("ab")
            settled()
            assert expected == outcome(server, home), (nth, server.log)


# ---- the wire by itself ----------------------------------------------------------------------------------------------


@dataclass
class Dialled:
    """A connection that is logged in, to a peer in this process."""

    wire: Stream
    caps: frozenset[str] = frozenset()
    tags: int = 0

    def next_tag(self) -> bytes:
        self.tags += 1
        return b"T%d" % self.tags

    def end(self, *, wait: bool = True) -> None:
        self.wire.close()

    drop = end


def responses(session: bytes, cuts: Sequence[int] = (), *commands: bytes) -> list[Response] | Lost:
    """What a connection makes of a server that says this, in pieces, and hangs up."""
    ours, theirs = socket.socketpair()
    ends = sorted({0, *(cut % (len(session) + 1) for cut in cuts), len(session)})

    def speak() -> None:
        with suppress(OSError):  # they may hang up first
            for begin, end in pairwise(ends):
                theirs.sendall(session[begin:end])
                time.sleep(0)
            theirs.shutdown(socket.SHUT_WR)

    thread = threading.Thread(target=speak)
    try:
        conn = Connection(Dialled(Stream(ours, TIMEOUT)), QUIET)
        tags = conn.send(*(commands or (b"ONE", b"TWO")))
        thread.start()
        found = []
        for tag in tags:
            found += [
                each._replace(
                    parts=[Literal(part.read()) if isinstance(part, Literal) else part for part in each.parts]
                )
                for each in conn.answers(tag)
            ]
            conn.result(tag)
        return found
    except Lost as lost:
        return lost
    finally:
        thread.join()
        ours.close()
        theirs.close()


SESSION = (
    b"* FLAGS (\\Seen work)\r\n* 2 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\nT1 OK [READ-WRITE] done\r\n"
    b"* 1 FETCH (UID 4 FLAGS (\\Seen) BODY[] {12}\r\na\r\nb {3}\r\ncd)\r\n"
    b'* 2 FETCH (BODY[HEADER] {0}\r\n FLAGS () UID 5 INTERNALDATE "01-Jan-2024 00:00:00 +0000")\r\n'
    b'* LIST (\\Noselect) "/" {4}\r\na"b\r\r\n* X-OTHER {2}\r\n\r\n {1}\r\nx\r\n'
    b"* 7 EXPUNGE\r\n+ go on {4}\r\nT2 NO done {9}\r\n"
)


@given(st.lists(st.integers(0, len(SESSION)), max_size=30))
def test_answers_are_the_same_however_they_are_cut(cuts: list[int]) -> None:
    whole, cut = responses(SESSION), responses(SESSION, cuts)

    assert isinstance(whole, list)
    assert 8 == len(whole)
    assert whole == cut


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(SESSION)),
        st.integers(0, 12),
        st.one_of(
            st.binary(max_size=6),
            st.sampled_from(
                [b"{", b"}", b"{9}\r\n", b"{99999999999}\r\n", b"\r", b"\n", b"(", b")", b'"', b"[", b"\\"]
            ),
            st.sampled_from([b"T1 OK ", b"* BYE x\r\n", b"* ", b"T2 FETCH x\r\n", b"9" * 30, b"NIL", b"+ \r\n"]),
        ),
    ),
    max_size=5,
)


@given(MUTATIONS, st.integers(0, len(SESSION)))
def test_whatever_a_server_says_ends_in_answers_or_lost(mutations: list[tuple[int, int, bytes]], end: int) -> None:
    session = SESSION
    for at, less, more in mutations:
        session = session[:at] + more + session[at + less :]
    for said in (session, session[:end]):
        found = responses(said)
        if isinstance(found, list):
            for each in fetches(found):
                with suppress(Lost):
                    fetched(each)


@pytest.mark.parametrize("seed", range(20))
def test_driver_survives_a_server_that_garbles_its_answers(seed: int) -> None:
    """Each answer may be changed in a few bytes: what comes of it is an answer or one of our errors, and no loop."""
    chance = random.Random(seed)

    def garbled(answer: bytes) -> bytes:
        if chance.random() < 0.6:
            return answer
        data = bytearray(answer)
        for _ in range(chance.randint(1, 3)):
            at = chance.randrange(len(data))
            data[at : at + chance.randint(0, 3)] = chance.choice(
                [b"", b"(", b")", b'"', b"{3}\r\n", b"9", b"\r\n", b"\0\xff", b"*"]
            )
        return bytes(data)

    with FakeServer(CAPABILITIES[chance.choice(list(CAPABILITIES))]) as server, opened(server, timeout=0.2) as driver:
        fill(server, b"x", "1", "2", "3")
        driver.boxes(["*"])
        server.script.append(Trap(rb"^(?!\* GREETING|\S+ (LOGIN|AUTH|CAPA))", Edit(garbled), nth=0))
        acts: list[Callable[[], object]] = [
            lambda: driver.boxes(["*"]),
            lambda: list(driver.listings([Wanted(X)], MSGID)),
            lambda: fetched_from(driver, *map(Uid, "123")),
            lambda: appended(driver, *ROUND),
            lambda: flagged(driver, FlagChange(Uid("2"), frozenset({SEEN}), frozenset({FLAGGED}))),
            lambda: expunged(driver, 2),
            lambda: driver.create(Mailbox("y")),
            lambda: driver.find(X),
        ]
        for act in acts:
            with suppress(MailsyncError):
                act()

        assert {1, 3} <= set(uids_on(server))


def test_answers_may_come_in_another_order() -> None:
    session = b"* 1 EXISTS\r\nT2 OK two\r\n* 2 EXISTS\r\nT1 NO one\r\n"

    found = responses(session)

    assert isinstance(found, list)
    assert [1, 2] == [one.number for one in found]


def test_words_that_end_like_a_literal_are_words() -> None:
    session = b"T1 BAD unknown: APPEND x {12}\r\n* 1 EXISTS\r\nT2 OK\r\n"
    found = responses(session)

    assert isinstance(found, list)
    assert [1] == [one.number for one in found]


def test_command_that_ends_in_something_else_is_lost() -> None:
    assert isinstance(responses(b"T1 FETCH x\r\nT2 OK\r\n"), Lost)


def test_line_without_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MAX_LINE", 10_000)

    assert "without end" in str(responses(b"* OK " + b"x" * 600_000))


def test_large_command_and_large_answer_pass_each_other() -> None:
    """Both ends send more than any buffer takes before they read."""
    ours, theirs = socket.socketpair()
    size = 4_000_000

    def serve() -> None:
        theirs.sendall(b"* 1 FETCH (BODY[] {%d}\r\n" % size + b"y" * size + b")\r\n")
        left = size + len(b"T1 \r\n")
        while left:
            left -= len(theirs.recv(65536))
        theirs.sendall(b"T1 OK\r\n")

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    conn = Connection(Dialled(Stream(ours, TIMEOUT)), QUIET)
    end, [found] = conn.execute(b"x" * size)
    thread.join(TIMEOUT)
    body = fetched(found).body

    assert body is not None
    assert (True, size) == (end.ok, len(body.read()))
    ours.close()
    theirs.close()
