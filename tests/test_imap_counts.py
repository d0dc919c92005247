"""What whole runs cost on the wire: flights and commands, counted, on the fake server and on Dovecot."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import ceil
from pathlib import Path

import pytest
from imapclient import IMAPClient

from mailsync.drivers.imap import sets
from mailsync.drivers.imap.append import BATCH_BYTES
from mailsync.drivers.imap.listing import BOXES

from .mail import configure, forget_cache, maildir, message, run, within
from .servers import Login, Server, server
from .servers.fake import EVERYTHING, FakeServer
from .servers.proxy import Proxy

BETWEEN = 0.02  # seconds of silence that part two flights
MANY = 1000
NEAR = "store near { pat Mail/* prefix Mail/ format maildir fsync no }\n"
LISTING = rb"UID FETCH 1:\* .*BODY\.PEEK\[HEADER"
BODIES = rb"UID FETCH (\S+) .*BODY\.PEEK\[\]"


# ---- servers whose wire is counted -----------------------------------------------------------------------------------


@dataclass
class Far:
    """An account on a server, and what goes over the wire to it."""

    wire: FakeServer | Proxy
    login: Login
    behind: Server | None = None  # the real one
    name: str = "far"

    def put(self, mailbox: str, *raws: bytes) -> None:
        """Unseen messages, without any client; their uids begin with 1."""
        if isinstance(self.wire, FakeServer):
            box = self.wire.store.create(mailbox.encode())
            for raw in raws:
                box.add(raw.replace(b"\n", b"\r\n"))
        else:
            assert self.behind
            root = self.behind.maildir(self.login)
            assert root
            maildir(root / mailbox, *raws)
            self.behind.give(self.login, root)

    @contextmanager
    def client(self) -> Iterator[IMAPClient]:
        """Another program."""
        port = self.behind.port if self.behind else self.wire.port
        with IMAPClient("127.0.0.1", port, ssl=False) as client:
            client.login(self.login.user, self.login.password)
            yield client

    @property
    def config(self) -> str:
        where = f"localhost:{self.wire.port}/user={self.login.user}/notls"
        return f"store {self.name} {{ server {{{where}}} passwd {self.login.password} }}\n"


@contextmanager
def far(server_name: str, delay: float = 0.0, name: str = "far") -> Iterator[Far]:
    """`fake` and `fake-bare`, or a real server. `delay`: flights can be told apart."""
    if server_name.startswith("fake"):
        with FakeServer(frozenset() if server_name == "fake-bare" else EVERYTHING, settle=delay) as fake:
            yield Far(fake, Login("alice", "secret"), name=name)
    else:
        behind = server(server_name)
        with Proxy(behind.port, delay_to_client=delay) as proxy:
            yield Far(proxy, behind.new_login(), behind, name)


@dataclass
class Said:
    """What a run said to a server."""

    lines: list[bytes]
    flights: int

    def count(self, regex: bytes) -> int:
        return sum(1 for line in self.lines if re.search(regex, line))

    def bodies(self) -> Counter[int]:
        """How often each message was asked for, by uid."""
        found = (re.search(BODIES, line) for line in self.lines)
        return Counter(uid for one in found if one for uid in sets.parse(one[1], most=10**6))


def synced(peer: Far, *args: str) -> Said:
    """A run in which nothing fails, up to its LOGOUT: who has changed nothing does not wait for the farewell."""
    tally = peer.wire.tally
    said, flights = len(tally.log), tally.flights
    ran = run(*args, "c")
    assert (0, "") == (ran.code, ran.err), ran.err

    def all_left() -> bool:
        new = Said(tally.log[said:], 0)
        return new.count(rb" LOGOUT$") == new.count(rb"^\S+ (LOGIN|AUTHENTICATE) ")

    assert within(30, all_left)
    return Said(tally.log[said:], tally.flights - flights)


def channel(home: Path, *stores: str) -> None:
    names = " ".join(store.split()[1] for store in stores)
    configure(home, "".join(stores) + f"channel c {names} {{ msinfo .msinfo }}\n")


def messages(count: int, size: int = 100) -> list[bytes]:
    return [message(n, b"x" * (size - 1) + b"\n") for n in range(count)]


def mark_seen(files: Iterable[Path]) -> None:
    for file in files:
        file.rename(f"{file}S")


on_both = pytest.mark.parametrize("where", ["fake", "dovecot"])


# ---- nothing to do ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["fake-bare", "fake", "dovecot-bare", "dovecot"])
@pytest.mark.parametrize("boxes", [5, 40, 70])
def test_run_with_nothing_to_do_takes_a_few_flights_whatever_the_server_can(home: Path, where: str, boxes: int) -> None:
    with far(where, BETWEEN) as peer:
        channel(home, NEAR, peer.config)
        for n in range(boxes):
            two = message(n), message(f"{n}b")
            maildir(home / f"Mail/box{n}", *two)
            peer.put(f"box{n}", *two)
        synced(peer)
        again = synced(peer)
        forget_cache(home)
        anew = synced(peer)

    assert boxes <= anew.count(LISTING)
    assert anew.flights <= 6 + ceil(boxes / BOXES), anew.lines
    assert again.count(LISTING) <= 1  # INBOX is empty
    assert again.flights <= (6 + ceil(boxes / BOXES) if where.endswith("bare") else 4), again.lines


@pytest.mark.parametrize("where", ["fake-bare", "fake", "dovecot-bare", "dovecot"])
def test_run_asks_only_for_what_has_changed(home: Path, where: str) -> None:
    """One box of ten has a new message, one another flag, one a message less."""
    with far(where, BETWEEN) as peer:
        channel(home, NEAR, peer.config)
        for n in range(10):
            maildir(home / f"Mail/box{n}", *(message(f"{n}.{m}") for m in range(20)))
        synced(peer)
        synced(peer)
        with peer.client() as client:
            client.append("box1", message("new").replace(b"\n", b"\r\n"))
            client.select_folder("box2")
            client.add_flags([3], [rb"\Flagged"])
            client.select_folder("box3")
            client.delete_messages([4])
            client.expunge()
        said = synced(peer)
        messages_there = [file.name for file in (home / "Mail").rglob("*.*") if file.parent.name in ("cur", "new")]
        nothing = synced(peer)
        forget_cache(home)
        anew = synced(peer)

    if not where.endswith("bare"):
        opened = {line.split()[2] for line in said.lines if line.split()[1] in (b"SELECT", b"EXAMINE")}
        assert {b'"box1"', b'"box2"', b'"box3"'} == opened
    assert said.count(LISTING) <= 1, said.lines
    assert {21} == set(said.bodies())
    assert (200, 1) == (len(messages_there), sum(name.endswith(":2,F") for name in messages_there))
    assert 0 == nothing.count(rb"FETCH.*BODY\.PEEK\[\]") == anew.count(rb"FETCH.*BODY\.PEEK\[\]")


# ---- copies ----------------------------------------------------------------------------------------------------------


@on_both
def test_new_messages_come_in_few_fetches_and_each_body_once(home: Path, where: str) -> None:
    with far(where) as peer:
        channel(home, NEAR, peer.config)
        peer.put("box", *messages(MANY))
        said = synced(peer)

    assert Counter(range(1, MANY + 1)) == said.bodies()
    assert said.count(b"FETCH") - said.count(LISTING) <= 4, said.lines


@on_both
def test_first_download_of_many_boxes_takes_no_flight_for_each_and_each_body_once(home: Path, where: str) -> None:
    with far(where, BETWEEN) as peer:
        channel(home, NEAR, peer.config)
        for n in range(20):
            peer.put(f"box{n}", *messages(5))
        said = synced(peer)

    assert dict.fromkeys(range(1, 6), 20) == said.bodies()
    assert said.flights <= 10, said.lines


@on_both
def test_first_upload_of_many_boxes_takes_one_flight_for_each(home: Path, where: str) -> None:
    with far(where, BETWEEN) as peer:
        channel(home, NEAR, peer.config)
        for n in range(20):
            mark_seen(maildir(home / f"Mail/box{n}", *messages(5)))
        said = synced(peer)

    assert 20 == said.count(b"CREATE")
    assert said.flights <= 20 + 15, said.lines


@on_both
@pytest.mark.parametrize("size", [100, 20_000], ids=["small", "20_kB"])
def test_new_messages_go_in_few_appends(home: Path, where: str, size: int) -> None:
    with far(where) as peer:
        channel(home, NEAR, peer.config)
        mark_seen(maildir(home / "Mail/box", *messages(MANY, size))[::3])
        said = synced(peer)

    total = MANY * len(message(MANY, b"x" * size).replace(b"\n", b"\r\n"))
    assert said.count(b"APPEND") <= ceil(total / BATCH_BYTES) + 2, said.lines


@on_both
def test_bodies_between_two_servers_come_once(home: Path, where: str) -> None:
    with far(where, name="one") as source, far(where, name="other") as target:
        channel(home, source.config, target.config)
        source.put("box", *messages(MANY))
        begin = len(target.wire.tally.log)
        said = synced(source)
        there = Said(target.wire.tally.log[begin:], 0)

    assert (Counter(range(1, MANY + 1)), Counter()) == (said.bodies(), there.bodies())
    assert said.count(b"FETCH") - said.count(LISTING) <= 4, said.lines
    assert there.count(b"APPEND") <= 3, there.lines


# ---- changes ---------------------------------------------------------------------------------------------------------


@on_both
def test_same_flag_change_on_many_messages_is_few_stores(home: Path, where: str) -> None:
    with far(where) as peer:
        channel(home, NEAR, peer.config)
        files = maildir(home / "Mail/box", *messages(MANY))
        peer.put("box", *messages(MANY))
        synced(peer)
        mark_seen(files)
        said = synced(peer)

    assert 1 <= said.count(b"UID STORE") <= 3, said.lines


@on_both
@pytest.mark.parametrize("step", [1, 2], ids=["in_a_row", "every_second"])
def test_many_deletions_are_one_expunge_for_each_set(home: Path, where: str, step: int) -> None:
    with far(where) as peer:
        channel(home, NEAR, peer.config)
        files = maildir(home / "Mail/box", *messages(MANY + 1))
        peer.put("box", *messages(MANY + 1))
        synced(peer)
        deleted = [(uid, file) for uid, file in enumerate(files, 1) if uid <= MANY and uid % step == 0]
        for _, file in deleted:
            file.unlink()
        said = synced(peer, f"--allow-mass-delete={MANY}")

    expected = [text for text, _ in sets.split([uid for uid, _ in deleted])]
    assert expected == [line.split()[-1] for line in said.lines if b"UID EXPUNGE" in line]


@on_both
def test_equal_group_asks_for_no_digest_in_the_second_run(home: Path, where: str) -> None:
    """Three messages with one id: only a first look must tell which is which."""
    group = [message("same", text) for text in (b"one\n", b"two\n", b"three\n")]
    with far(where) as peer:
        channel(home, NEAR, peer.config)
        maildir(home / "Mail/box", *group)
        peer.put("box", *group)
        first, second = synced(peer), synced(peer)

    assert (Counter({1: 1, 2: 1, 3: 1}), Counter()) == (first.bodies(), second.bodies())
