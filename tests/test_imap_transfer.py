"""Messages that go from one mailbox of a server to another, when the server does not do as it should: none is lost, and
of none is said what is not so.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence, Set
from contextlib import contextmanager

import pytest

from mailsync.drivers.contract import Transfers
from mailsync.drivers.imap.store import ImapStore
from mailsync.errors import Lost
from mailsync.model import FLAGGED, SEEN, Appended, Failure, FlagChange, Mailbox, Uid

from .mail import entries
from .servers.fake import EVERYTHING, EXCHANGE, Answer, Cut, Do, Edit, FakeServer, Swallow, Trap
from .test_imap_engine import Told, fill, opened

X, Y = Mailbox("x"), Mailbox("y")
WITHOUT_MOVE = EVERYTHING - {"MOVE"}
WITHOUT_UIDS = EVERYTHING - {"UIDPLUS"}
SERVERS = {
    "move": EVERYTHING,
    "exchange": EXCHANGE,
    "copy": WITHOUT_MOVE,
    "move-without-uids": WITHOUT_UIDS,
    "nothing": frozenset[str](),
}
Edited = Callable[[bytes], bytes]


@contextmanager
def serving(capabilities: Set[str] = EVERYTHING) -> Iterator[FakeServer]:
    """Three messages in `x`, \\Seen; one in `y`."""
    with FakeServer(capabilities) as server:
        fill(server, b"x", "1", "2", "3", flags=[rb"\Seen"])
        fill(server, b"y", "old")
        yield server


def transfer(driver: ImapStore, verb: str, *uids: int) -> list[Appended | Failure]:
    """From `x` to `y`."""
    with driver.open(X, write=True) as x, driver.open(Y, write=True) as y:
        assert isinstance(x, Transfers)
        assert x.reaches(y)
        wanted = [Uid(str(uid)) for uid in uids]
        return list(x.move(wanted, y) if verb == "move" else x.copy(wanted, y))


def held(server: FakeServer, mailbox: bytes) -> list[tuple[str, set[str]]]:
    return [
        (re.findall(rb"<(.*)@x>", one.raw)[0].decode(), {flag.decode() for flag in one.flags})
        for one in server.store[mailbox].messages
    ]


def told(answers: Sequence[Appended | Failure]) -> list[object]:
    """The new uid; None if it is not known; "gone"; or why not."""
    return [one.uid if isinstance(one, Appended) else "gone" if one.gone else one.why for one in answers]


def names(server: FakeServer) -> list[list[str]]:
    return [[name for name, _ in held(server, mailbox)] for mailbox in (b"x", b"y")]


def edited(old: bytes, new: bytes) -> Edit:
    return Edit(lambda answer: re.sub(old, new, answer))


@pytest.mark.parametrize("capabilities", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("verb", ["move", "copy"])
def test_messages_go_without_being_sent_and_answers_are_in_order(verb: str, capabilities: Set[str]) -> None:
    with serving(capabilities) as server:
        with opened(server) as driver:
            answers = transfer(driver, verb, 3, 1)

        assert [("3", "3"), ("1", "2")] == [(one.source, one.uid) for one in answers if isinstance(one, Appended)]
        assert [["2"] if verb == "move" else ["1", "2", "3"], ["old", "1", "3"]] == names(server)
        assert [{SEEN}] * 2 == [flags for _, flags in held(server, b"y")[1:]]
        assert 0 == server.count(rb"APPEND|BODY")


def test_mailbox_that_is_only_read_and_that_of_another_connection_are_out_of_reach() -> None:
    with (
        serving() as server,
        opened(server) as driver,
        opened(server) as other,
        driver.open(X, write=True) as x,
        driver.open(Y, write=False) as read,
        other.open(Y, write=True) as far,
        driver.open(X, write=True) as again,
    ):
        assert isinstance(x, Transfers)
        assert [False] * 3 == [x.reaches(box) for box in (read, far, again)]


@pytest.mark.parametrize("capabilities", SERVERS.values(), ids=SERVERS)
def test_flags_that_a_server_forgets_on_the_way_are_set_again(capabilities: Set[str]) -> None:
    def forget(server: FakeServer) -> None:
        server.store[b"y"].set_flags(server.store[b"y"].messages[-1].uid, ())

    with serving(capabilities) as server:
        with opened(server) as driver, driver.open(X, write=True) as x, driver.open(Y, write=True) as y:
            assert isinstance(x, Transfers)
            for uid in "12":
                server.script[:] = [Trap(rb'SELECT "?y', Do(forget), nth=1 if "UIDPLUS" in capabilities else 2)]
                assert all(isinstance(answer, Appended) for answer in x.move([Uid(uid)], y))

        assert [("1", {SEEN}), ("2", {SEEN})] == held(server, b"y")[1:]
        assert [("3", {SEEN})] == held(server, b"x")


def test_flags_are_looked_at_only_until_it_is_known_that_they_are_kept() -> None:
    with serving() as server, opened(server) as driver:
        transfer(driver, "move", 1)
        before = len(server.log)
        transfer(driver, "move", 2)
        commands = [re.sub(rb"^\S+ ", b"", line) for line in server.log[before:]]

    assert [rb'SELECT "x"', rb'SELECT "y"', rb'SELECT "x"', b"UID FETCH 2 (UID FLAGS)", rb'UID MOVE 2 "y"'] == [
        line.replace(b" (CONDSTORE)", b"") for line in commands
    ]


def test_flag_that_the_other_mailbox_cannot_keep_stays_behind() -> None:
    with serving() as server:
        server.store[b"y"].permanent_flags = {rb"\Deleted"}
        with opened(server) as driver:
            assert ["2"] == told(transfer(driver, "move", 1))
        assert ("1", set()) == held(server, b"y")[1]


@pytest.mark.parametrize("capabilities", [EVERYTHING, WITHOUT_MOVE], ids=["move", "copy"])
def test_message_that_vanishes_just_before_is_gone_and_the_others_go(capabilities: Set[str]) -> None:
    with serving(capabilities) as server:
        server.script.append(Trap(rb"UID (MOVE|COPY)", Do(lambda server: server.store[b"x"].remove(2))))
        with opened(server) as driver:
            assert ["2", "gone", "3"] == told(transfer(driver, "move", 1, 2, 3))
        assert [[], ["old", "1", "3"]] == names(server)


@pytest.mark.parametrize("capabilities", SERVERS.values(), ids=SERVERS)
def test_only_message_vanishes_just_before_it_is_copied(capabilities: Set[str]) -> None:
    with serving(capabilities) as server:
        server.script.append(Trap(rb"UID COPY", Do(lambda server: server.store[b"x"].remove(2))))
        with opened(server) as driver:
            assert ["gone"] == told(transfer(driver, "copy", 2))
        assert [["1", "3"], ["old"]] == names(server)


@pytest.mark.parametrize("verb", ["move", "copy"])
def test_message_that_is_refused_spoils_no_other(verb: str) -> None:
    with serving() as server:
        server.script.append(Trap(rb"UID (MOVE|COPY) \S*(2|:)", Answer("NO [LIMIT] that one is too bad"), nth=0))
        with opened(server) as driver:
            first, second, third = told(transfer(driver, verb, 1, 2, 3))
        assert ("2", "3") == (first, third)
        assert "that one is too bad" in str(second)
        assert [["2"] if verb == "move" else ["1", "2", "3"], ["old", "1", "3"]] == names(server)


def test_mailbox_that_is_not_there_is_asked_for_once() -> None:
    def delete(server: FakeServer) -> None:
        server.store.delete(b"y")

    with serving() as server:
        server.script.append(Trap(rb"UID MOVE", Do(delete)))
        with opened(server) as driver:
            answers = transfer(driver, "move", 1, 2, 3)
        assert all(isinstance(one, Failure) and one.hint and not one.gone for one in answers)
        assert (1, ["1", "2", "3"]) == (server.count("UID MOVE"), [name for name, _ in held(server, b"x")])


@pytest.mark.parametrize("always", [False, True])
def test_server_that_is_busy_is_waited_for_once(always: bool) -> None:
    said = Told()
    with serving() as server:
        server.script.append(Trap(rb"UID MOVE", Answer("NO [INUSE] later"), nth=0 if always else 1))
        with opened(server, said) as driver:
            answers = told(transfer(driver, "move", 1, 2))

        assert (1, 2) == (len(said.slept), server.count("UID MOVE"))
    assert ["2", "3"] == answers or (always and all("later" in str(why) for why in answers))


@pytest.mark.parametrize(
    "code", [rb"", rb"[COPYUID]", rb"[COPYUID 3 1:2 7]", rb"[COPYUID 3 x y]", rb"[COPYUID 3 1:* 1:*]"]
)
@pytest.mark.parametrize("verb", ["move", "copy"])
def test_uid_that_is_not_told_is_not_guessed(verb: str, code: bytes) -> None:
    with serving() as server:
        server.script.append(Trap(rb"UID (MOVE|COPY)", edited(rb"\[COPYUID [^]]*\]", code)))
        with opened(server) as driver:
            assert [None, None] == told(transfer(driver, verb, 1, 2))
        assert ["old", "1", "2"] == names(server)[1]


def test_message_that_a_server_leaves_out_is_not_removed() -> None:
    with serving(WITHOUT_MOVE) as server:
        server.script.append(Trap(rb"UID COPY", edited(rb"COPYUID 3 1:2 2:3", rb"COPYUID 3 1 2")))
        with opened(server) as driver:
            assert ["2", "the server leaves it out"] == told(transfer(driver, "move", 1, 2))
        assert ["2", "3"] == names(server)[0]


@pytest.mark.parametrize("verb", ["move", "copy"])
def test_messages_that_went_into_another_mailbox_are_looked_for_anew(verb: str) -> None:
    with serving() as server:
        server.script.append(Trap(rb"UID (MOVE|COPY)", edited(rb"COPYUID 3", rb"COPYUID 4")))
        with opened(server) as driver, pytest.raises(Lost):
            transfer(driver, verb, 1)
        assert "1" in names(server)[1]


@pytest.mark.parametrize("capabilities", [WITHOUT_UIDS, frozenset[str]()], ids=["move", "nothing"])
def test_uids_among_those_of_another_delivery_are_not_guessed(capabilities: Set[str]) -> None:
    with serving(capabilities) as server:
        server.script.append(Trap(rb"UID (MOVE|COPY)", Do(lambda server: fill(server, b"y", "other"))))
        with opened(server) as driver:
            assert [None, None] == told(transfer(driver, "move", 1, 2))
        assert [["3"], ["old", "other", "1", "2"]] == names(server)


def test_flags_of_what_has_come_are_ours_to_change() -> None:
    with serving() as server, opened(server) as driver:
        entries(driver, Y)
        with driver.open(X, write=True) as x, driver.open(Y, write=True) as y:
            assert isinstance(x, Transfers)
            [answer] = x.move([Uid("1")], y)
            assert isinstance(answer, Appended)
            assert ["2"] == list(y.set_flags([FlagChange(Uid("2"), frozenset({FLAGGED}))]))
        assert ("1", {SEEN, FLAGGED}) == held(server, b"y")[1]


@pytest.mark.parametrize("capabilities", SERVERS.values(), ids=SERVERS)
@pytest.mark.parametrize("fault", [Cut(0), Swallow()], ids=["cut", "swallowed"])
@pytest.mark.parametrize("verb", ["move", "copy"])
def test_message_is_there_wherever_the_connection_breaks(
    verb: str, fault: Cut | Swallow, capabilities: Set[str]
) -> None:
    broken = 0
    for nth in range(1, 30):
        with serving(capabilities) as server:
            with opened(server) as driver:
                driver.boxes(["*"])
                trap = Trap(rb"UID|EXPUNGE|SELECT|CLOSE|EXAMINE", fault, nth=nth)
                server.script.append(trap)
                try:
                    answers = transfer(driver, verb, 1, 2)
                except Lost:
                    broken += 1
                else:
                    assert all(isinstance(answer, Appended) for answer in answers)
            x, y = names(server)
            assert {"1", "2", "3"} == {*x, *y} - {"old"}
            assert sorted(x) == sorted(set(x))
            assert sorted(y) == sorted(set(y))
            if trap.met < nth:
                break
    assert trap.met < nth
    assert broken > 3
