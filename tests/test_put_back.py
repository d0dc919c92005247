"""Servers that are put back to an older state, give uids to other messages, or are another server all of a sudden.

UIDVALIDITY should tell that (RFC 3501, 2.3.1.1). Where it does not, uids that are known are those of other messages,
and what is missing was not deleted by anyone.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Protocol

import pytest
from imapclient import IMAPClient

from .mail import Ran, configure, forget_cache, local, message, raws, run
from .servers import Login, server
from .servers.fake import EVERYTHING, FakeServer
from .servers.proxy import Proxy
from .tried import CHANGED

pytestmark = CHANGED

ABILITIES = {
    "qresync": EVERYTHING,
    "condstore": EVERYTHING - {"QRESYNC"},
    "bare": frozenset({"IMAP4rev1"}),
}
SENT = rb"UID FETCH \S+ .*BODY\.PEEK\[\]|APPEND"
THEN, LOST = ["1", "2", "3", "4"], ["5", "6", "7"]


class Account(Protocol):
    """INBOX of a server that can be put back; `count` as in `Proxy`."""

    port: int
    login: Login

    def deliver(self, *names: str) -> None: ...
    def delete(self, *names: str) -> None: ...
    def save(self) -> None: ...
    def put_back(self) -> None: ...
    def names(self) -> list[str]: ...
    def count(self, regex: bytes) -> int: ...


class Fake:
    def __init__(self, fake: FakeServer) -> None:
        self.fake, self.port, self.login, self.count = fake, fake.port, Login("alice", "secret"), fake.count

    def deliver(self, *names: str) -> None:
        for name in names:
            self.fake.store[b"INBOX"].add(crlf(name))

    def delete(self, *names: str) -> None:
        box = self.fake.store[b"INBOX"]
        box.remove(*(one.uid for one in box.messages if one.raw in map(crlf, names)))

    def save(self) -> None:
        self._saved = deepcopy(self.fake.store[b"INBOX"])

    def put_back(self) -> None:
        self.fake.store[b"INBOX"] = deepcopy(self._saved)

    def names(self) -> list[str]:
        return sorted(map(name_of, (one.raw for one in self.fake.store[b"INBOX"].messages)))


class Real:
    """Dovecot, whose files are put back with its index."""

    def __init__(self, proxy: Proxy, home: Path) -> None:
        self.server = server("dovecot")
        self.login, self.port, self.count = self.server.new_login(), proxy.port, proxy.count
        root = self.server.maildir(self.login)
        assert root
        self.root, self._saved = root, home / "saved"

    @contextmanager
    def client(self) -> Iterator[IMAPClient]:
        with IMAPClient("127.0.0.1", self.server.port, ssl=False) as client:
            client.login(self.login.user, self.login.password)
            client.select_folder("INBOX")
            yield client

    def deliver(self, *names: str) -> None:
        with self.client() as client:
            for name in names:
                client.append("INBOX", crlf(name))

    def delete(self, *names: str) -> None:
        with self.client() as client:
            client.delete_messages([uid for name in names for uid in client.search(["SUBJECT", f"mail {name}"])])
            client.expunge()

    def save(self) -> None:
        shutil.copytree(self.root, self._saved)

    def put_back(self) -> None:
        shutil.rmtree(self.root)
        shutil.copytree(self._saved, self.root)
        self.server.give(self.login, self.root)

    def names(self) -> list[str]:
        with self.client() as client:
            uids = client.search()
            found = client.fetch(uids, ["BODY.PEEK[]"]) if uids else {}
        return sorted(name_of(one[b"BODY[]"]) for one in found.values())


@contextmanager
def account(where: str, home: Path) -> Iterator[Account]:
    if where == "dovecot":
        with Proxy(server("dovecot").port) as proxy:
            yield Real(proxy, home)
    else:
        with FakeServer(ABILITIES[where]) as fake:
            yield Fake(fake)


def crlf(name: str) -> bytes:
    return message(name).replace(b"\n", b"\r\n")


def name_of(raw: bytes) -> str:
    return raw.partition(b"Message-ID: <")[2].partition(b"@")[0].decode()


def here(home: Path) -> list[str]:
    return sorted(map(name_of, raws(local(home, "md/*"), "md/INBOX")))


def synced(home: Path, *args: str) -> Ran:
    ran = run(*args, "--json", "c")
    assert (0, "") == (ran.code, ran.err), ran
    return ran


def delete_here(home: Path, name: str) -> None:
    [file] = (file for file in (home / "md/INBOX").glob("[cn]*/*") if f"<{name}@x>".encode() in file.read_bytes())
    file.unlink()


@pytest.fixture(params=[*ABILITIES, "dovecot"])
def far(request: pytest.FixtureRequest, home: Path) -> Iterator[Account]:
    """It has lost the last three of seven messages, and both stores have had them."""
    with account(request.param, home) as there:
        begin(home, there)
        yield there


def begin(home: Path, there: Account) -> None:
    where = f"{{127.0.0.1:{there.port}/user={there.login.user}/notls}}"
    far = f"store far {{ server {where} passwd {there.login.password} }}\n"
    configure(home, f"store md {{ pat md/* prefix md/ format maildir }}\n{far}channel c md far {{ msinfo .msinfo }}\n")
    there.deliver(*THEN)
    synced(home)
    there.save()
    there.deliver(*LOST)
    synced(home)
    synced(home)
    there.put_back()


def equal(home: Path, there: Account, *names: str) -> None:
    """Both hold these, and no more is to be done, whatever is known."""
    assert (sorted(names), sorted(names)) == (here(home), there.names())
    forget_cache(home)
    assert [] == synced(home, "-s").steps
    assert (sorted(names), sorted(names)) == (here(home), there.names())


# ---- the state of then -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2, 4, 6])
def test_messages_that_have_come_since_are_seen_and_what_was_lost_comes_back(
    home: Path, far: Account, count: int
) -> None:
    """As many as were lost: see below. Their uids were those of others; a listing that was known hid them for ever."""
    new = [f"new-{n}" for n in range(count)]
    far.deliver(*new)

    synced(home)

    equal(home, far, *THEN, *LOST, *new)


@pytest.mark.parametrize("count", [1, 3])
def test_what_was_deleted_on_purpose_before_is_deleted_still(home: Path, far: Account, count: int) -> None:
    """Here, before the run: it does not come back from the server that has it, and nothing else goes with it."""
    far.deliver(*(f"new-{n}" for n in range(count)))
    delete_here(home, "2")
    delete_here(home, "6")

    synced(home)
    synced(home)
    far.deliver("last")
    synced(home)

    equal(home, far, "1", "3", "4", "5", "7", *(f"new-{n}" for n in range(count)), "last")


def test_server_that_has_come_as_far_as_it_was_expunges_no_other_message(home: Path, far: Account) -> None:
    """UIDNEXT, the count and HIGHESTMODSEQ are what they were: nothing tells. So the deletion looks first."""
    far.deliver("new-1", "new-2", "new-3")
    delete_here(home, "7")
    expected = [*THEN, "5", "6", "new-1", "new-2", "new-3"]

    synced(home)

    assert sorted(expected) == far.names()
    equal(home, far, *expected)


def test_server_that_has_come_as_far_as_it_was_is_seen_through_with_the_next_message(home: Path, far: Account) -> None:
    far.deliver("new-1", "new-2", "new-3")
    synced(home)
    far.deliver("new-4")

    synced(home)

    equal(home, far, *THEN, *LOST, "new-1", "new-2", "new-3", "new-4")


def test_last_message_that_is_known_is_gone_and_the_one_before_it_tells(home: Path, far: Account) -> None:
    far.deliver("new-1", "new-2", "new-3")
    far.delete("new-3")
    far.deliver("new-4", "new-5")

    synced(home)

    equal(home, far, *THEN, *LOST, "new-1", "new-2", "new-4", "new-5")


def test_state_of_then_as_such(home: Path) -> None:
    """UIDNEXT has gone down: that cannot be by deletion."""
    with account("dovecot", home) as there:
        begin(home, there)

        synced(home)

        equal(home, there, *THEN, *LOST)
