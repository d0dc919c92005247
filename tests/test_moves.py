"""Mail that went to another mailbox, and mailboxes that have another name: no message goes over the wire again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailsync.drivers.contract import Transfers
from mailsync.drivers.imap.store import ImapStore
from mailsync.model import FLAGGED, SEEN, Appended, FlagChange, Flags, Mailbox

from .mail import Mail, configure, entries, local, maildir, message, put, run
from .servers.stores import store
from .test_imap_counts import NEAR, Far, far, mark_seen, messages, synced

FEW, MANY = 2000, 10_000
SENT = rb"APPEND|BODY(\.PEEK)?\[\]"  # a whole message goes over the wire
CHANNEL = "channel c near far { msinfo .msinfo }\n"
SERVERS = ["dovecot", "cyrus-alt", "courier", "fake", "fake-bare"]  # with MOVE and UIDPLUS, or without
X, Y, Z = "x", "y", "z"

each_server = pytest.mark.parametrize(
    ("server", "count"),
    [
        ("dovecot", FEW),
        *((server, 100) for server in SERVERS[1:]),
        *(
            pytest.param(server, MANY, marks=[pytest.mark.torture, pytest.mark.timeout(600)])
            for server in ("dovecot", "cyrus-alt", "fake-bare")
        ),
    ],
)


@contextmanager
def synchronized(home: Path, server: str, mails: dict[str, list[bytes]]) -> Iterator[Far]:
    """Mailboxes with these messages, in Maildirs and on a server."""
    with far(server) as peer:
        configure(home, NEAR + peer.config + CHANNEL)
        for name, raws in mails.items():
            maildir(home / "Mail" / name, *raws)
        synced(peer)
        yield peer


@contextmanager
def client(peer: Far) -> Iterator[ImapStore]:
    """Another program on the same account."""
    port = peer.behind.port if peer.behind else peer.wire.port
    with store(port, peer.login, "*", prefix=peer.behind.prefix if peer.behind else "") as driver:
        yield driver


def on_server(peer: Far, name: str) -> Mailbox:
    return Mailbox((peer.behind.prefix if peer.behind else "") + name)


def there(peer: Far, name: str) -> list[tuple[str, Flags]]:
    """Ids and flags of a mailbox of the server; empty if it is not there."""
    with client(peer) as driver:
        if driver.find(on_server(peer, name)) is None:
            return []
        return sorted((one.id, one.flags) for one in entries(driver, on_server(peer, name)))


def here(home: Path, name: str) -> list[tuple[str, Flags]]:
    if not (home / "Mail" / name).exists():
        return []
    return sorted((one.id, one.flags) for one in entries(local(home, "Mail/*"), f"Mail/{name}"))


def inodes(home: Path, name: str) -> set[int]:
    return {file.stat().st_ino for file in (home / "Mail" / name).glob("*/*")}


def move_here(home: Path, source: str, target: str) -> None:
    for file in (home / "Mail" / source).glob("cur/*"):
        file.rename(home / "Mail" / target / "cur" / file.name)


def pass_on_there(peer: Far, source: str, target: str, *, goes: bool) -> None:
    with client(peer) as driver:
        uids = [one.uid for one in entries(driver, on_server(peer, source))]
        with (
            driver.open(on_server(peer, source), write=True) as lies,
            driver.open(on_server(peer, target), write=True) as to,
        ):
            assert isinstance(lies, Transfers)
            assert all(isinstance(one, Appended) for one in (lies.move if goes else lies.copy)(uids, to))


def check_settled(home: Path, peer: Far, *names: str) -> None:
    for name in names:
        assert here(home, name) == there(peer, name), name
    assert [] == run("-s", "--json", "c").steps


# ---- moved -----------------------------------------------------------------------------------------------------------


@each_server
def test_messages_moved_in_the_maildir_are_moved_on_the_server(home: Path, server: str, count: int) -> None:
    with synchronized(home, server, {X: messages(count), Y: []}) as peer:
        move_here(home, X, Y)
        said = synced(peer)

        assert 0 == said.count(SENT)
        assert 1 == said.count(b"UID MOVE|UID COPY"), said.lines
        assert len(said.lines) < 40, said.lines
        assert (0, count) == (len(there(peer, X)), len(there(peer, Y)))
        check_settled(home, peer, X, Y)
    assert not list(home.rglob("kept"))


@each_server
def test_messages_moved_on_the_server_are_moved_in_the_maildir(home: Path, server: str, count: int) -> None:
    with synchronized(home, server, {X: messages(count), Y: []}) as peer:
        files = inodes(home, X)
        pass_on_there(peer, X, Y, goes=True)
        said = synced(peer)

        assert 0 == said.count(SENT)
        assert len(said.lines) < 40, said.lines
        assert (set(), files) == (inodes(home, X), inodes(home, Y))
        check_settled(home, peer, X, Y)


@pytest.mark.parametrize("server", SERVERS)
def test_flags_that_were_changed_on_either_side_go_with_a_moved_message(home: Path, server: str) -> None:
    with synchronized(home, server, {X: messages(3), Y: []}) as peer:
        mark_seen((home / "Mail/x").glob("cur/*"))
        move_here(home, X, Y)
        with client(peer) as driver:
            uids = [one.uid for one in entries(driver, on_server(peer, X))]
            with driver.open(on_server(peer, X), write=True) as box:
                list(box.set_flags([FlagChange(uid, frozenset({FLAGGED})) for uid in uids]))
        said = synced(peer)

        assert 0 == said.count(SENT)
        assert [{SEEN, FLAGGED}] * 3 == [flags for _, flags in there(peer, Y)]
        check_settled(home, peer, X, Y)


@pytest.mark.parametrize("server", ["dovecot", "fake-bare"])
def test_message_that_was_changed_while_it_was_moved_is_sent(home: Path, server: str) -> None:
    """It is another message under the old id."""
    with synchronized(home, server, {X: messages(2), Y: []}) as peer:
        for file in (home / "Mail/x").glob("cur/*"):
            (home / "Mail/y/cur" / file.name).write_bytes(file.read_bytes() + b"another line\n")
            file.unlink()
        said = synced(peer)

        assert 1 <= said.count(b"APPEND")
        check_settled(home, peer, X, Y)


def test_server_that_tells_wrong_sizes_gets_moved_messages_anew(home: Path) -> None:
    """GNU Mailutils counts its own bookkeeping; what is not surely the same is sent."""
    with synchronized(home, "imap4d", {X: messages(3), Y: []}) as peer:
        move_here(home, X, Y)
        synced(peer)

        assert (0, 3) == (len(there(peer, X)), len(there(peer, Y)))
        check_settled(home, peer, X, Y)


# ---- copied ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("server", SERVERS)
def test_messages_copied_in_the_maildir_are_copied_on_the_server(home: Path, server: str) -> None:
    with synchronized(home, server, {X: messages(100), Y: []}) as peer:
        maildir(home / "Mail/y", *messages(100))
        said = synced(peer)

        assert (0, 1) == (said.count(SENT), said.count(b"UID COPY"))
        assert (100, 100) == (len(there(peer, X)), len(there(peer, Y)))
        check_settled(home, peer, X, Y)


@pytest.mark.parametrize("server", SERVERS)
def test_messages_copied_on_the_server_are_copied_in_the_maildir(home: Path, server: str) -> None:
    with synchronized(home, server, {X: messages(100), Y: []}) as peer:
        pass_on_there(peer, X, Y, goes=False)
        said = synced(peer)

        assert 0 == said.count(SENT)
        assert (inodes(home, X), 100) == (inodes(home, Y), len(inodes(home, Y)))
        check_settled(home, peer, X, Y)


# ---- renamed ---------------------------------------------------------------------------------------------------------


@each_server
def test_mailbox_renamed_in_the_store_of_maildirs_is_renamed_on_the_server(home: Path, server: str, count: int) -> None:
    with synchronized(home, server, {X: messages(count), Y: messages(3)}) as peer:
        os.rename(home / "Mail/x", home / "Mail/z")
        said = synced(peer)

        assert (0, 1) == (said.count(SENT), said.count(b"RENAME"))
        assert len(said.lines) < 40, said.lines
        assert ([], count) == (there(peer, X), len(there(peer, Z)))
        check_settled(home, peer, X, Y, Z)


@each_server
def test_mailbox_renamed_on_the_server_is_renamed_in_the_store_of_maildirs(home: Path, server: str, count: int) -> None:
    with synchronized(home, server, {X: messages(count), Y: messages(3)}) as peer:
        files = inodes(home, X)
        with client(peer) as driver:
            driver.rename(on_server(peer, X), on_server(peer, Z))
        said = synced(peer)

        assert 0 == said.count(SENT)
        assert (False, files) == ((home / "Mail/x").exists(), inodes(home, Z))
        check_settled(home, peer, X, Y, Z)


@pytest.mark.parametrize("server", ["dovecot", "cyrus-alt", "fake-bare"])
def test_mailbox_is_renamed_with_those_below_it_and_with_what_came_meanwhile(home: Path, server: str) -> None:
    mails = {"x": [message(1), message(2)], "x/below": [message(3)], "y": [message(4)]}
    with synchronized(home, server, mails) as peer:
        os.rename(home / "Mail/x", home / "Mail/z")
        put(local(home, "Mail/*"), "Mail/z", [Mail(message("new-here"))])
        with client(peer) as driver:
            put(driver, on_server(peer, "x"), [Mail(message("new-there"))])
        said = synced(peer)

        assert (1, 1) == (said.count(b"RENAME"), said.count(b"APPEND"))
        assert ["<1@x>", "<2@x>", "<new-here@x>", "<new-there@x>"] == [id for id, _ in here(home, "z")]
        check_settled(home, peer, "x", "x/below", "y", "z", "z/below")


@pytest.mark.parametrize("pair", ["map x INBOX", "map INBOX x map x INBOX"])
def test_mailbox_that_is_inbox_on_the_server_is_copied_under_its_new_name(home: Path, pair: str) -> None:
    """INBOX cannot be renamed: its messages go there, and it stays."""
    name = "x" if pair == "map x INBOX" else "INBOX"
    with far("dovecot") as peer:
        configure(home, NEAR + peer.config + CHANNEL.replace("msinfo", f"{pair} msinfo", 1))
        maildir(home / "Mail" / name, *messages(3))
        maildir(home / "Mail" / "y", message("y"))
        synced(peer)
        os.rename(home / "Mail" / name, home / "Mail/z")
        said = synced(peer)

        assert (0, 0) == (said.count(b"RENAME"), said.count(SENT))
        assert (3, 3, 0) == (len(here(home, "z")), len(there(peer, "z")), len(here(home, name)))
        assert [] == run("-s", "--json", "c").steps
