"""The fake server, asked by imaplib, imapclient and a bare socket."""

from __future__ import annotations

import imaplib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import pytest
from imapclient import IMAPClient

from .servers.fake import (
    EVERYTHING,
    GMAIL,
    GREETING,
    NEW_YEAR,
    Action,
    Answer,
    Bye,
    Cut,
    Delay,
    Do,
    Edit,
    FakeBox,
    FakeServer,
    Inject,
    Swallow,
    Trap,
)

NOTHING: frozenset[str] = frozenset()


def mail(name: object = 1, size: int = 0) -> bytes:
    return b"Subject: mail %s\r\nMessage-ID: <%s@x>\r\n\r\nhi%s\r\n" % ((str(name).encode(),) * 2 + (b"x" * size,))


class Listening(Protocol):
    @property
    def port(self) -> int: ...


class Raw:
    """A bare connection: what is sent and what comes, byte for byte."""

    def __init__(self, server: Listening, *, login: bool = True) -> None:
        self.socket = socket.create_connection(("127.0.0.1", server.port), timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # else small sends wait for an answer
        self.file = self.socket.makefile("rb")
        self.greeting = self.file.readline()
        if login:
            self.ask(b"LOGIN alice secret")

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self, tag: bytes = b"a") -> list[bytes]:
        """Up to the tagged response or the end, without line ends; literals are lines like others."""
        lines = []
        for line in self.file:
            lines.append(line.rstrip(b"\r\n"))
            if line.startswith((tag + b" ", b"+ ")):
                break
        return lines

    def ask(self, command: bytes) -> list[bytes]:
        self.send(b"a " + command + b"\r\n")
        return self.answer()

    def append(self, command: bytes, *messages: bytes) -> list[bytes]:
        """APPEND with literals that wait for the server."""
        for raw in messages:
            self.send((b"a " if raw is messages[0] else b"") + command + b" {%d}\r\n" % len(raw))
            said = self.answer()
            if not said[-1].startswith(b"+"):
                return said
            self.send(raw)
            command = b""
        self.send(b"\r\n")
        return self.answer()

    def close(self) -> None:
        self.file.close()
        self.socket.close()


@contextmanager
def raw(server: Listening, *, login: bool = True) -> Iterator[Raw]:
    connection = Raw(server, login=login)
    try:
        yield connection
    finally:
        connection.close()


def filled(server: FakeServer, count: int = 3) -> FakeBox:
    box = server.store[b"INBOX"]
    for n in range(1, count + 1):
        box.add(mail(n))
    return box


def flags_of(box: FakeBox) -> dict[int, set[bytes]]:
    return {message.uid: message.flags for message in box.messages}


# ---- by other people's clients ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [NOTHING, EVERYTHING, GMAIL])
@pytest.mark.parametrize("split", [None, 1, 7])
def test_imaplib_finds_what_it_stored(capabilities: frozenset[str], split: int | None) -> None:
    with FakeServer(capabilities, split=split) as server:
        client = imaplib.IMAP4("127.0.0.1", server.port)
        client.login("alice", "secret")
        client.create("a/b")
        client.append("a/b", r"(\Seen $Work)", '" 2-Jan-2024 03:04:05 +0100"', mail())
        client.select("a/b")
        status, found = client.uid("FETCH", "1:*", "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
        client.store("1", "+FLAGS", r"\Deleted")
        expunged = client.expunge()
        client.logout()

    assert "OK" == status
    head, body = found[0]
    assert mail() == body
    line = rb'1 (UID 1 FLAGS ($Work \Seen) INTERNALDATE " 2-Jan-2024 02:04:05 +0000" RFC822.SIZE %d BODY[] {%d}'
    assert line % (len(mail()), len(mail())) == head
    assert ("OK", [b"1"]) == expunged


@pytest.mark.parametrize("literals", [False, True])
@pytest.mark.parametrize("order", [None, 1, 2])
def test_imapclient_finds_what_it_stored(literals: bool, order: int | None) -> None:
    with FakeServer(literals=literals, order=order) as server:
        client = IMAPClient("127.0.0.1", server.port, ssl=False)
        client.plain_login("alice", "secret")
        client.create_folder("Entwürfe & mehr")
        client.multiappend("Entwürfe & mehr", [mail(1), mail(2)])
        listed = client.list_folders()
        selected = client.select_folder("Entwürfe & mehr")
        found = client.fetch([1, 2], ["FLAGS", "BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)]", "MODSEQ"])
        namespace = client.namespace()
        moved = client.move([1], "INBOX")
        left = client.search("ALL")
        client.logout()

    assert ["Entwürfe & mehr", "INBOX"] == [name for _, _, name in listed]
    assert 2 == selected[b"EXISTS"]
    assert {1: b"Message-ID: <1@x>\r\n\r\n", 2: b"Message-ID: <2@x>\r\n\r\n"} == {
        uid: values[b"BODY[HEADER.FIELDS (MESSAGE-ID)]"] for uid, values in found.items()
    }
    assert ((("", "/"),), None, None) == namespace
    assert moved is None
    assert [2] == left
    assert [mail(1)] == [message.raw for message in server.store[b"INBOX"].messages]
    assert b"Entw&APw-rfe &- mehr" in server.store


# ---- capabilities ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        b"UID MOVE 1 INBOX",
        b"MOVE 1 INBOX",
        b"UID EXPUNGE 1",
        b"UNSELECT",
        b"NAMESPACE",
        b"ENABLE UTF8=ACCEPT",
        b'ID ("name" "x")',
        b"SELECT INBOX (CONDSTORE)",
        b"FETCH 1 MODSEQ",
        b"FETCH 1 FLAGS (CHANGEDSINCE 1)",
        b"STORE 1 (UNCHANGEDSINCE 1) FLAGS ()",
        b"STATUS INBOX (HIGHESTMODSEQ)",
        b'LIST "" "*" RETURN (SUBSCRIBED)',
        b'LIST "" "*" RETURN (STATUS (MESSAGES))',
        b'LIST (SUBSCRIBED) "" "*"',
        b'LIST "" (a b)',
        b"APPEND INBOX {1+}",
        b"NONSENSE",
    ],
)
def test_what_is_not_announced_is_not_there(command: bytes) -> None:
    with FakeServer(NOTHING) as server, raw(server) as client:
        filled(server)
        client.ask(b"SELECT INBOX")
        said = client.ask(command)

    assert said[-1].startswith(b"a BAD ")


def test_what_is_announced_after_the_login_may_differ() -> None:
    with FakeServer(greeted={"AUTH=PLAIN"}) as server, raw(server, login=False) as client:
        after = client.ask(b"LOGIN alice secret")

    assert b"* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN] the fake is ready\r\n" == client.greeting
    assert b"CONDSTORE" in after[-1]


def test_message_sent_in_vain_is_taken_for_commands() -> None:
    with FakeServer(NOTHING) as server, raw(server) as client:
        client.send(b"a APPEND INBOX {12+}\r\n\xff\xe4 \xfc \0\r\n{ \r\n\r\n")
        said = [client.file.readline().split()[:2] for _ in range(4)]

    assert [[b"a", b"BAD"], [b"\xff\xe4", b"BAD"], [b"{", b"BAD"], [b"*", b"BAD"]] == said


def test_append_of_several_needs_multiappend() -> None:
    with FakeServer(NOTHING) as server, raw(server) as client:
        said = client.append(b"APPEND INBOX", mail(1), mail(2))

    assert b"a BAD not without MULTIAPPEND" == said[-1]
    assert [] == server.store[b"INBOX"].messages


def test_literal_minus_takes_no_large_one_unasked() -> None:
    small, large = b"a APPEND INBOX {4096+}\r\n", b"a APPEND INBOX {4097+}\r\n"
    with FakeServer({"LITERAL-"}) as server, raw(server) as client:
        client.send(small + b"x" * 4096 + b"\r\n")
        first = client.answer()
        client.send(large + b"x" * 4097)
        second = client.answer()

    assert b"a OK done" == first[-1]
    assert b"a BAD [TOOBIG] more than LITERAL- allows" == second[-1]


def test_login_by_sasl_in_one_step_and_in_two() -> None:
    token = b"dXNlcj1hbGljZQFhdXRoPUJlYXJlciBzZWNyZXQBAQ=="  # alice, secret
    with FakeServer() as server:
        with raw(server, login=False) as client:
            one = client.ask(b"AUTHENTICATE XOAUTH2 " + token)
        with raw(server, login=False) as client:
            asked = client.ask(b"AUTHENTICATE PLAIN")
            client.send(b"AGFsaWNlAHNlY3JldA==\r\n")
            two = client.answer()

    assert one[-1].startswith(b"a OK ")
    assert [b"+ "] == asked
    assert two[-1].startswith(b"a OK ")


def test_wrong_token_is_explained_before_it_is_refused() -> None:
    with FakeServer() as server, raw(server, login=False) as client:
        challenge = client.ask(b"AUTHENTICATE XOAUTH2 dXNlcj1hbGljZQFhdXRoPUJlYXJlciB4AQE=")
        client.send(b"\r\n")
        said = client.answer()

    assert [b"+ eyJzdGF0dXMiOiI0MDAiLCJzY2hlbWVzIjoiQmVhcmVyIn0="] == challenge
    assert b"a NO [AUTHENTICATIONFAILED] wrong user or password" == said[-1]


# ---- mailboxes -------------------------------------------------------------------------------------------------------


def test_list_tells_status_and_special_use_of_all() -> None:
    with FakeServer() as server, raw(server) as client:
        server.store.create(b"a/All").attributes.add(rb"\All")
        filled(server)
        said = client.ask(b'LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT))')

    assert [
        rb'* LIST (\HasNoChildren) "/" INBOX',
        b"* STATUS INBOX (MESSAGES 3 UIDNEXT 4)",
        rb'* LIST (\Noselect \HasChildren) "/" a',
        rb'* LIST (\All \HasNoChildren) "/" a/All',
        b"* STATUS a/All (MESSAGES 0 UIDNEXT 1)",
        b"a OK done",
    ] == said


def test_list_of_subscribed_ones_leaves_out_the_others() -> None:
    with FakeServer() as server, raw(server) as client:
        for name in (b"one", b"two"):
            client.ask(b"CREATE " + name)
        client.ask(b"SUBSCRIBE one")
        extended = client.ask(b'LIST (SUBSCRIBED) "" "*"')
        plain = client.ask(b'LSUB "" "*"')

    assert [b"INBOX", b"one"] == [line.split()[-1] for line in extended[:-1]]
    assert [b"INBOX", b"one"] == [line.split()[-1] for line in plain[:-1]]


def test_percent_matches_one_level_and_star_all() -> None:
    with FakeServer(NOTHING, delimiter=b".") as server, raw(server) as client:
        client.ask(b"CREATE a.b.c")
        one = client.ask(b'LIST "" a.%')
        every = client.ask(b'LIST "" a*')
        none = client.ask(b'LIST "" ""')

    assert [rb'* LIST (\Noselect) "." a.b'] == one[:-1]
    assert [b"a", b"a.b", b"a.b.c"] == [line.split()[-1] for line in every[:-1]]
    assert [rb'* LIST (\Noselect) "." ""'] == none[:-1]


def test_mailbox_is_renamed_with_those_below_it() -> None:
    with FakeServer() as server, raw(server) as client:
        client.ask(b"CREATE a/b")
        client.append(b"APPEND a/b", mail())
        client.ask(b"RENAME a z")

    assert [b"INBOX", b"z", b"z/b"] == sorted(server.store)
    assert [mail()] == [message.raw for message in server.store[b"z/b"].messages]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (b"CREATE inbox", b"ALREADYEXISTS"),
        (b"CREATE Other", b"CANNOT"),
        (b"CREATE INBOX.BOX", b"ALREADYEXISTS"),
        (b"DELETE INBOX", b"CANNOT"),
        (b"DELETE none", b"NONEXISTENT"),
        (b"RENAME none INBOX.x", b"NONEXISTENT"),
        (b"RENAME INBOX.Box INBOX.BOX", b"ALREADYEXISTS"),
        (b"SELECT none", b"NONEXISTENT"),
        (b"COPY 1 INBOX.none", b"TRYCREATE"),
    ],
)
def test_refusal_says_why(command: bytes, code: bytes) -> None:
    with FakeServer(delimiter=b".", prefix=b"INBOX.", case_insensitive=True) as server, raw(server) as client:
        filled(server)
        server.store.create(b"INBOX.Box")
        client.ask(b"SELECT INBOX")
        said = client.ask(command)

    assert said[-1].startswith(b"a NO [%s]" % code)


def test_names_are_utf8_once_that_is_enabled() -> None:
    with FakeServer() as server, raw(server) as client:
        client.ask(b"ENABLE UTF8=ACCEPT")
        client.ask('CREATE "Entwürfe & 日本"'.encode())
        said = client.ask(b'LIST "" E%')

    assert b"Entw&APw-rfe &- &ZeVnLA-" in server.store
    assert '"Entwürfe & 日本"'.encode() in said[0]


# ---- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("numbers", "uids"),
    [
        (b"1:*", [2, 3, 5]),
        (b"*", [5]),
        (b"9:*", [5]),
        (b"*:9", [5]),
        (b"4", []),
        (b"5,2", [2, 5]),
        (b"3:2", [2, 3]),
        (b"1,3:4", [3]),
    ],
)
def test_uid_set_finds(numbers: bytes, uids: list[int]) -> None:
    with FakeServer() as server, raw(server) as client:
        filled(server, 5).remove(1, 4)
        client.ask(b"SELECT INBOX")
        said = client.ask(b"UID FETCH %s UID" % numbers)

    assert uids == [int(found[1]) for line in said if (found := re.search(rb"UID (\d+)", line))]


@pytest.mark.parametrize(
    ("item", "value"),
    [
        (b"BODY.PEEK[]", b"A: 1\r\nTo: x\r\n y\r\nB: 2\r\n\r\nhi\r\n"),
        (b"BODY.PEEK[HEADER]", b"A: 1\r\nTo: x\r\n y\r\nB: 2\r\n\r\n"),
        (b"BODY.PEEK[TEXT]", b"hi\r\n"),
        (b"BODY.PEEK[HEADER.FIELDS (TO)]", b"To: x\r\n y\r\n\r\n"),
        (b"BODY.PEEK[HEADER.FIELDS (b a)]", b"A: 1\r\nB: 2\r\n\r\n"),
        (b"BODY.PEEK[]<3.4>", b"1\r\nT"),
        (b"BODY.PEEK[]<30.999>", b""),
    ],
)
def test_part_of_a_message_is_fetched(item: bytes, value: bytes) -> None:
    with FakeServer() as server:
        server.store[b"INBOX"].add(b"A: 1\r\nTo: x\r\n y\r\nB: 2\r\n\r\nhi\r\n")
        client = imaplib.IMAP4("127.0.0.1", server.port)
        client.login("alice", "secret")
        client.select("INBOX")
        _, found = client.fetch("1", item.decode())
        client.logout()

    assert isinstance(found[0], tuple)
    assert value == found[0][1]
    assert set() == server.store[b"INBOX"].messages[0].flags


def test_body_without_peek_marks_as_seen() -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 1)
        client.ask(b"SELECT INBOX")
        said = client.ask(b"FETCH 1 BODY[TEXT]")

    assert {1: {rb"\Seen"}} == flags_of(box)
    assert rb"* 1 FETCH (FLAGS (\Seen))" in said


@pytest.mark.parametrize(
    ("how", "left"),
    [(b"FLAGS", {b"$b"}), (b"+FLAGS", {rb"\Seen", b"$A", b"$b"}), (b"-FLAGS", {rb"\Seen", b"$A"})],
)
@pytest.mark.parametrize("silent", [b"", b".SILENT"])
def test_store_changes_flags(how: bytes, left: set[bytes], silent: bytes) -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 1)
        box.set_flags(1, [rb"\Seen", b"$A"])
        client.ask(b"SELECT INBOX")
        said = client.ask(b"UID STORE 1 %s%s ($B)" % (how, silent))

    assert {flag.lower() for flag in left} == {flag.lower() for flag in box.messages[0].flags}
    assert (1 if silent else 2) == len(said)


def test_flags_that_are_not_permanent_are_not_kept() -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 1)
        box.permanent_flags = {rb"\Seen", b"$Junk"}
        client.ask(b"SELECT INBOX")
        client.ask(rb"STORE 1 FLAGS (\Seen \Flagged $junk $other)")

    assert {1: {rb"\Seen", b"$junk"}} == flags_of(box)


def test_store_passes_over_what_was_changed_since() -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 3)
        client.ask(b"SELECT INBOX (CONDSTORE)")
        since = box.modseq
        box.set_flags(2, [b"$x"])
        said = client.ask(rb"UID STORE 1:3 (UNCHANGEDSINCE %d) +FLAGS.SILENT (\Seen)" % since)

    assert {1: {rb"\Seen"}, 2: {b"$x"}, 3: {rb"\Seen"}} == flags_of(box)
    assert b"* 1 FETCH (UID 1 MODSEQ (6))" == said[0]
    assert b"* 2 FETCH (FLAGS ($x) MODSEQ (5))" in said
    assert b"a OK [MODIFIED 2] done" == said[-1]


def test_fetch_of_changes_brings_only_those() -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 3)
        since = box.modseq
        box.set_flags(2, [b"$x"])
        client.ask(b"SELECT INBOX")
        said = client.ask(b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE %d)" % since)

    assert [b"* 2 FETCH (UID 2 FLAGS ($x) MODSEQ (5))", b"a OK done"] == said


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (b"ALL", b" 1 2 3"),
        (b"UID 2:*", b" 2 3"),
        (b"DELETED", b" 2"),
        (b"UNDELETED 1:2", b" 1"),
        (b'HEADER Message-ID "<3@X"', b" 3"),
        (b'HEADER X-None ""', b""),
        (b'HEADER Subject "" NOT DELETED', b" 1 3"),
        (b"OR UID 1 (DELETED UID 2)", b" 1 2"),
        (b"KEYWORD $x", b" 3"),
    ],
)
def test_search_finds(keys: bytes, found: bytes) -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 3)
        box.set_flags(2, [rb"\Deleted"])
        box.set_flags(3, [b"$X"])
        client.ask(b"SELECT INBOX")
        said = client.ask(b"UID SEARCH " + keys)

    assert b"* SEARCH" + found == said[0]


def test_copies_and_moves_tell_the_new_uids() -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 4)
        server.store.create(b"to").add(mail("old"))
        client.ask(b"SELECT INBOX")
        copied = client.ask(b"UID COPY 4,1:2 to")
        moved = client.ask(b"UID MOVE 1,3:4 to")

    assert [b"a OK [COPYUID 2 1:2,4 2:4] done"] == copied
    assert [
        b"* OK [COPYUID 2 1,3:4 5:7] moved",
        b"* 4 EXPUNGE",
        b"* 3 EXPUNGE",
        b"* 1 EXPUNGE",
        b"a OK done",
    ] == moved
    assert [2] == [message.uid for message in box.messages]


def test_uid_expunge_removes_only_those_it_names() -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 3)
        for uid in (1, 2):
            box.set_flags(uid, [rb"\Deleted"])
        client.ask(b"SELECT INBOX")
        said = client.ask(b"UID EXPUNGE 2:3")

    assert [b"* 2 EXPUNGE", b"a OK done"] == said
    assert [1, 3] == [message.uid for message in box.messages]


def test_close_expunges_and_unselect_does_not() -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 1)
        box.set_flags(1, [rb"\Deleted"])
        client.ask(b"SELECT INBOX")
        client.ask(b"UNSELECT")
        before = len(box.messages)
        client.ask(b"SELECT INBOX")
        client.ask(b"CLOSE")

    assert (1, 0) == (before, len(box.messages))


def test_examined_mailbox_is_not_changed() -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 1)
        client.ask(b"EXAMINE INBOX")
        client.ask(b"FETCH 1 BODY[]")
        said = client.ask(rb"STORE 1 FLAGS (\Seen)")

    assert said[-1].startswith(b"a NO [READ-ONLY]")
    assert {1: set()} == flags_of(box)


def test_several_messages_are_appended_at_once() -> None:
    first, second = mail(1), mail(2, 5000)
    with FakeServer() as server, raw(server) as client:
        date = b'"13-Feb-2009 23:31:30 +0000"'
        client.send(
            b"a APPEND INBOX (\\Seen) %s {%d+}\r\n%s {%d+}\r\n%s\r\n" % (date, len(first), first, len(second), second)
        )
        said = client.answer()
        box = server.store[b"INBOX"]

    assert [b"a OK [APPENDUID 1 1:2] done"] == said
    expected = [(first, {rb"\Seen"}, 1234567890), (second, set(), NEW_YEAR)]
    assert expected == [(message.raw, message.flags, message.date) for message in box.messages]


def test_literal8_is_taken_once_utf8_is_enabled() -> None:
    with FakeServer() as server, raw(server) as client:
        client.ask(b"ENABLE UTF8=ACCEPT")
        client.send(b"a APPEND INBOX UTF8 (~{%d+}\r\n%s)\r\n" % (len(mail()), mail()))
        said = client.answer()

    assert [b"a OK [APPENDUID 1 1] done"] == said
    assert [mail()] == [message.raw for message in server.store[b"INBOX"].messages]


def refuse_virus(message: bytes) -> str | None:
    return "[CANNOT] a virus" if b"virus" in message else None


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"message_limit": 100}, b"[TOOBIG]"),
        ({"capabilities": frozenset({"APPENDLIMIT=100", "MULTIAPPEND"})}, b"[TOOBIG]"),
        ({"quota": 200}, b"[OVERQUOTA]"),
        ({"refuse": refuse_virus}, b"[CANNOT] a virus"),
    ],
)
def test_refused_message_refuses_all_of_its_append(options: dict[str, object], code: bytes) -> None:
    with FakeServer(**options) as server, raw(server) as client:  # type: ignore[arg-type]
        said = client.append(b"APPEND INBOX", mail(1), mail("virus", 200))
        after = client.ask(b"NOOP")

    assert said[-1].startswith(b"a NO " + code)
    assert [b"a OK done"] == after
    assert [] == server.store[b"INBOX"].messages


def test_append_to_no_mailbox_is_refused_before_its_message_is_sent() -> None:
    with FakeServer() as server, raw(server) as client:
        said = client.ask(b'APPEND "none" {1000}')

    assert [b"a NO [TRYCREATE] no such mailbox"] == said


def test_gmail_stores_no_message_twice() -> None:
    with FakeServer(GMAIL, gmail=True) as server, raw(server) as client:
        first = client.append(b"APPEND INBOX", mail())
        second = client.append(b"APPEND INBOX", mail())

    assert [b"a OK [APPENDUID 1 1] done"] == first == second
    assert 1 == len(server.store[b"INBOX"].messages)


def test_unsolicited_flags_come_between() -> None:
    with FakeServer(unsolicited=True) as server, raw(server) as client:
        filled(server, 1)
        client.ask(b"SELECT INBOX")
        said = client.ask(rb"UID STORE 1 +FLAGS.SILENT (\Seen)")

    assert [b"* 1 FETCH (FLAGS ())", b"a OK done"] == said


# ---- several connections ---------------------------------------------------------------------------------------------


def test_session_is_told_what_another_did() -> None:
    with FakeServer() as server, raw(server) as one, raw(server) as other:
        filled(server, 4)
        for client in (one, other):
            client.ask(b"SELECT INBOX")
        other.ask(rb"UID STORE 1,3 +FLAGS (\Deleted)")
        other.ask(rb"UID STORE 4 +FLAGS (\Seen)")
        other.ask(b"EXPUNGE")
        other.append(b"APPEND INBOX", mail("new"))
        said = one.ask(b"NOOP")
        again = one.ask(b"NOOP")

    expected = [b"* 3 EXPUNGE", b"* 1 EXPUNGE", rb"* 2 FETCH (FLAGS (\Seen))", b"* 3 EXISTS", b"a OK done"]
    assert expected == said
    assert [b"a OK done"] == again


def test_numbers_stay_during_fetch_by_number() -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 3)
        client.ask(b"SELECT INBOX")
        box.remove(1)
        during = client.ask(b"FETCH 1:3 UID")
        after = client.ask(b"NOOP")

    assert [b"* 2 FETCH (UID 2)", b"* 3 FETCH (UID 3)", b"a OK done"] == during
    assert [b"* 1 EXPUNGE", b"a OK done"] == after


@pytest.mark.parametrize("change", [lambda box: box.renumber(7), None])
def test_session_ends_when_its_mailbox_is_another(change: Callable[[FakeBox], None] | None) -> None:
    with FakeServer() as server, raw(server) as client:
        box = server.store.create(b"box")
        client.ask(b"SELECT box")
        if change:
            change(box)
        else:
            server.store.delete(b"box")
        said = client.ask(b"UID FETCH 1:* UID")

    assert 1 == len(said)
    assert said[0].startswith(b"* BYE ")


# ---- the script ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "said", "done"),
    [
        (Inject(b"* OK x\r\n"), [b"* OK x", b"* 1 FETCH (FLAGS ($x))", b"* 2 FETCH (FLAGS ($x))", b"a OK done"], True),
        (Inject(b"* 9 EXISTS\r\n", after=1), [b"* 1 FETCH (FLAGS ($x))", b"* 9 EXISTS", b"* 2 FETCH"], True),
        (Bye("go", "before"), [b"* BYE go", b"* 1 FETCH (FLAGS ($x))", b"* 2 FETCH (FLAGS ($x))", b"a OK done"], True),
        (Bye("go", "after"), [b"* 1 FETCH (FLAGS ($x))", b"* 2 FETCH (FLAGS ($x))", b"a OK done", b"* BYE go"], True),
        (Bye("go", "instead"), [b"* BYE go"], False),
        (Cut(5), [b"* 1 F"], True),
        (Swallow(), [], True),
        (Answer("NO [UNAVAILABLE] try later"), [b"a NO [UNAVAILABLE] try later"], False),
        (Edit(lambda answer: answer.replace(b"$x", b"$y")), [b"* 1 FETCH (FLAGS ($y))"], True),
        (Do(lambda server: server.store[b"INBOX"].remove(1)), [b"* 2 FETCH (FLAGS ($x))", b"a OK done"], True),
    ],
    ids=lambda value: type(value).__name__,
)
def test_trap_springs(action: Action, said: list[bytes], done: bool) -> None:
    with FakeServer() as server, raw(server) as client:
        box = filled(server, 2)
        client.ask(b"SELECT INBOX")
        server.script.append(Trap(rb"^a STORE", action, nth=2))
        client.ask(b"STORE 2 FLAGS ()")
        client.send(b"a STORE 1:2 FLAGS ($x)\r\n")
        answer = client.answer()
        if isinstance(action, Bye):
            answer += client.answer()

    assert said == [line[: len(end)] for line, end in zip(answer, said, strict=False)]
    assert done == (flags_of(box)[2] == {b"$x"})


@pytest.mark.parametrize("reset", [False, True])
def test_connection_is_cut_within_a_literal(reset: bool) -> None:
    with FakeServer() as server, raw(server) as client:
        server.store[b"INBOX"].add(mail(1, 1000))
        client.ask(b"SELECT INBOX")
        server.script.append(Trap("FETCH", Cut(100, reset=reset)))
        client.send(b"a UID FETCH 1 BODY.PEEK[]\r\n")
        got = b""
        with pytest.raises(ConnectionResetError) if reset else _nothing():
            while piece := client.socket.recv(1000):
                got += piece

    assert got.startswith(b"* 1 FETCH (UID 1 BODY[] {1") or reset
    assert len(got) == 100 or reset


@contextmanager
def _nothing() -> Iterator[None]:
    yield


def test_delay_delays() -> None:
    with FakeServer() as server, raw(server) as client:
        server.script.append(Trap("NOOP", Delay(0.1)))
        start = time.monotonic()
        client.ask(b"NOOP")

    assert time.monotonic() - start >= 0.1


def test_trap_for_the_greeting_refuses_a_connection() -> None:
    with FakeServer() as server:
        server.script.append(Trap(re.escape(GREETING), Answer("BYE too many connections"), nth=0))
        with raw(server, login=False) as client:
            greeting = client.greeting

    assert b"* BYE too many connections\r\n" == greeting


# ---- the connection --------------------------------------------------------------------------------------------------


def test_what_the_client_did_is_counted() -> None:
    with FakeServer() as server, raw(server) as client:
        client.append(b"APPEND INBOX", mail())
        client.append(b"APPEND INBOX", mail())

    assert [
        b"a LOGIN alice secret",
        b"a APPEND INBOX {%d}" % len(mail()),
        b"a APPEND INBOX {%d}" % len(mail()),
    ] == server.log
    assert 2 == server.count("append inbox")
    assert 1 == server.connections
    assert sum(len(line) + 2 for line in server.log) + 2 * len(mail() + b"\r\n") == server.received


def test_pipelined_commands_are_one_flight() -> None:
    with FakeServer(settle=0.02) as server, raw(server) as client:
        before = server.flights
        for n in range(20):  # in pieces, as fast as they come
            client.send(b"%d NOOP\r\n" % n)
        client.answer(b"19")
        pipelined = server.flights - before
        for _ in range(20):
            client.ask(b"NOOP")

    assert 1 == pipelined
    assert 20 == server.flights - before - pipelined


ASKING = b"a UID FETCH 1:* BODY.PEEK[]\r\n" * 5000


def test_narrow_server_blocks_a_client_that_sends_without_reading() -> None:
    with FakeServer(window=1) as server, raw(server) as client:
        filled(server, 10).add(mail("large", 10_000))
        client.ask(b"SELECT INBOX")
        client.socket.settimeout(1)
        with pytest.raises(TimeoutError):
            client.send(ASKING)
        stuck = server.received
        time.sleep(0.1)

        assert stuck == server.received


def test_narrow_server_serves_a_client_that_reads_meanwhile() -> None:
    with FakeServer(window=1) as server, raw(server) as client:
        filled(server, 10)
        client.ask(b"SELECT INBOX")
        sending = threading.Thread(target=client.send, args=[ASKING])
        sending.start()
        tagged = sum(client.answer()[-1] == b"a OK done" for _ in range(5000))
        sending.join()

    assert 5000 == tagged


def test_narrow_server_takes_messages_in_packets_of_one_byte() -> None:
    with FakeServer(window=1, split=1) as server, raw(server) as client:
        said = client.append(b"APPEND INBOX", mail(1, 10_000))

    assert [b"a OK [APPENDUID 1 1] done"] == said
