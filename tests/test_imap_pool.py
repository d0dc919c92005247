"""Several connections to one account: what is listed is the same, and no thread or connection is left."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from mailsync.drivers.contract import Wanted
from mailsync.drivers.imap.account import Account, Tell
from mailsync.drivers.imap.store import ImapStore
from mailsync.errors import LoginError
from mailsync.model import Failure, Listing, Mailbox
from mailsync.spec import Remote

from .mail import MSGID, configure, maildir, message, run, signalled, within
from .servers import Login, server
from .servers.fake import EVERYTHING, Action, Answer, Bye, Cut, Do, FakeServer, Trap
from .servers.stores import Known, no_sleep

BOUND = 30.0  # seconds, after which a meeting that does not happen has failed
NAMES = [Mailbox(f"box{number}") for number in range(150)]
ALICE = Login("alice", "secret")
LOGIN = b"AUTHENTICATE"


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No thread is left over."""
    yield
    assert [] == [thread.name for thread in threading.enumerate() if "_work" in thread.name]


def store(port: int, connections: int, login: Login = ALICE, told: list[str] | None = None) -> ImapStore:
    account = Account(Remote("127.0.0.1", port, user=login.user, tls="never"), timeout=20)
    tell = Tell(odd=told.append) if told is not None else Tell()
    return ImapStore(account, Known(login), tell, patterns=("*",), connections=connections, sleep=no_sleep)


def listings(driver: ImapStore, names: Sequence[Mailbox] = NAMES) -> dict[Mailbox, Listing | Failure]:
    found = list(driver.listings([Wanted(name) for name in names], MSGID))
    assert len(found) == len(names)
    return dict(found)


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    """Two messages in each mailbox, but in every seventh none, and in every fifth one without Message-ID."""
    with FakeServer(EVERYTHING) as fake:
        for number, name in enumerate(NAMES):
            box = fake.store.create(name.encode())
            if number % 7:
                box.add(message(f"{name}-1").replace(b"\n", b"\r\n"), [rb"\Seen"])
                box.add((b"X: y\r\n\r\n" if number % 5 == 0 else message(f"{name}-2")).replace(b"\n", b"\r\n"))
        yield fake


def expected(fake: FakeServer) -> dict[Mailbox, Listing | Failure]:
    with store(fake.port, 1) as driver:
        return listings(driver)


@pytest.mark.parametrize("connections", [1, 2, 4, 8])
def test_listings_are_the_same_over_any_number_of_connections(fake: FakeServer, connections: int) -> None:
    alone, before = expected(fake), fake.connections
    with store(fake.port, connections) as driver:
        found = [listings(driver), listings(driver)]

    assert [alone, alone] == found
    assert before < fake.connections <= before + 2 * connections - 1
    assert within(BOUND, lambda: fake.connections == fake.count("LOGOUT"))


@pytest.mark.parametrize("connections", [1, 2, 4])
def test_listings_of_a_real_server_are_the_same(connections: int) -> None:
    dovecot = server("dovecot")
    login = dovecot.new_login()
    mail = dovecot.maildir(login)
    assert mail is not None
    for name in NAMES:
        maildir(mail / name, message(f"{name}-1"), message(f"{name}-2"))
    dovecot.give(login, mail)
    with store(dovecot.port, 1, login) as driver:
        alone = listings(driver)
    with store(dovecot.port, connections, login) as driver:
        found = listings(driver)

    assert alone == found
    assert {2} == {len(one.entries) for one in found.values() if isinstance(one, Listing)}


def test_each_connection_does_a_part(fake: FakeServer) -> None:
    seen: set[int] = set()
    # Each connection has a thread of its own there.
    fake.script.append(Trap(rb"SELECT|EXAMINE", Do(lambda _: seen.add(threading.get_ident())), nth=0))
    with store(fake.port, 3) as driver:
        listings(driver)

    assert 3 == len(seen)


@pytest.mark.parametrize("answer", ["NO [LIMIT] too many connections", "NO [UNAVAILABLE] busy", "NO go away"])
def test_connection_that_is_refused_is_done_without(fake: FakeServer, answer: str) -> None:
    alone, told = expected(fake), list[str]()
    fake.script += [Trap(LOGIN, Answer(answer), nth=number) for number in (2, 3, 4)]
    with store(fake.port, 4, told=told) as driver:
        found = listings(driver)

    assert alone == found
    assert 3 == sum("one connection less" in text for text in told), told


@pytest.mark.parametrize("action", [Bye("later"), Cut(0), Cut(50), Cut(300, reset=True), Answer("NO [INUSE] not now")])
@pytest.mark.parametrize("nth", [1, 40, 80, 120])
@pytest.mark.parametrize("command", [rb"UID FETCH", rb"EXAMINE|SELECT"])
def test_connection_that_breaks_is_no_fault(fake: FakeServer, command: bytes, nth: int, action: Action) -> None:
    """Whichever it is: what a server refuses another connection, the first one is asked for."""
    alone = expected(fake)
    trap = Trap(command, action, nth=nth)
    fake.script.append(trap)
    with store(fake.port, 4) as driver:
        found = listings(driver)
    failed = {name for name, one in found.items() if isinstance(one, Failure)}

    assert trap.met
    assert {name: one for name, one in alone.items() if name not in failed} == {
        name: one for name, one in found.items() if name not in failed
    }
    assert len(failed) <= isinstance(action, Answer)


def test_listing_that_is_left_early_leaves_no_thread(fake: FakeServer) -> None:
    driver = store(fake.port, 4)
    with driver:
        stream = iter(driver.listings([Wanted(name) for name in NAMES], MSGID))
        first = next(stream)

    assert isinstance(first[1], Listing)


def test_login_that_is_refused_is_an_error_as_ever(fake: FakeServer) -> None:
    fake.script.append(Trap(LOGIN, Answer("NO go away"), nth=0))
    with store(fake.port, 4) as driver, pytest.raises(LoginError):
        listings(driver)


def test_few_mailboxes_take_one_connection(fake: FakeServer) -> None:
    with store(fake.port, 8) as driver:
        listings(driver, NAMES[:32])

    assert 1 == fake.connections


def stores(fake: FakeServer, connections: int) -> str:
    remote = f"{{127.0.0.1:{fake.port}/user=alice}}"
    return (
        f"store far {{ server {remote} passwd secret connections {connections} }}\n"
        "store near { pat n/* prefix n/ }\nchannel c far near { msinfo .msinfo exclude INBOX }\n"
    )


def test_run_over_several_connections_brings_all(home: Path, fake: FakeServer) -> None:
    configure(home, stores(fake, 4))
    ran = [run("c"), run("--json", "c")]

    assert [0, 0] == [each.code for each in ran], ran
    assert [] == ran[1].steps
    assert sum(2 for number in range(150) if number % 7) == len([*home.glob("n/*/cur/*"), *home.glob("n/*/new/*")])


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("number", [10, 100])
def test_signal_ends_all_of_them(home: Path, fake: FakeServer, signum: int, number: int) -> None:
    configure(home, stores(fake, 4))
    asked, go_on = threading.Event(), threading.Event()

    def hang(_: FakeServer) -> None:
        asked.set()
        go_on.wait(BOUND)

    fake.script.append(Trap(rb"UID FETCH", Do(hang), nth=number))
    ran = signalled(home, signum, lambda: asked.wait(BOUND), go_on.set)

    assert (128 + signum, False) == (ran.code, "Traceback" in ran.err), ran.err
