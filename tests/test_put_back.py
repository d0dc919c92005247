"""Servers that are put back to an older state, give uids to other messages, or are another server all of a sudden.

UIDVALIDITY should tell that (RFC 3501, 2.3.1.1). Where it does not, uids that are known are those of other messages,
and what is missing was not deleted by anyone.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from imapclient import IMAPClient

from mailsync.drivers.imap import reach
from mailsync.drivers.imap.box import ServerBox
from mailsync.drivers.imap.draft import Draft
from mailsync.drivers.imap.select import Selected, selected

from .mail import Ran, configure, crlf, forget_cache, local, message, pause, raws, run
from .servers import Login, server
from .servers.fake import EVERYTHING, Do, FakeServer, Trap
from .servers.fakestore import FakeBox
from .servers.proxy import Proxy
from .tried import CHANGED, PLANTED

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
            self.fake.store[b"INBOX"].add(crlf(message(name)))

    def delete(self, *names: str) -> None:
        box = self.fake.store[b"INBOX"]
        box.remove(*(one.uid for one in box.messages if one.raw in [crlf(message(name)) for name in names]))

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
                client.append("INBOX", crlf(message(name)))

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


def name_of(raw: bytes) -> str:
    return raw.partition(b"Message-ID: <")[2].partition(b"@")[0].decode()


def here(home: Path) -> list[str]:
    return sorted(map(name_of, raws(local(home, "md/*"), "md/INBOX")))


def synced(home: Path, *args: str) -> Ran:
    ran = run(*args, "--json", "c")
    assert (0, "") == (ran.code, ran.err), ran
    return ran


def delete_here(home: Path, name: str) -> None:
    [file] = files_of(home, name)
    file.unlink()


def files_of(home: Path, name: str) -> list[Path]:
    return [file for file in (home / "md/INBOX").glob("[cn]*/*") if f"<{name}@x>".encode() in file.read_bytes()]


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is waited for before a further try is short, the number of tries is not."""
    monkeypatch.setattr(reach, "WAITS", (0.02,) * len(reach.WAITS))


@pytest.fixture(params=[*ABILITIES, "dovecot"])
def far(request: pytest.FixtureRequest, home: Path) -> Iterator[Account]:
    """It has lost the last three of seven messages, and both stores have had them."""
    with account(request.param, home) as there:
        begin(home, there)
        yield there


def channel(home: Path, there: Account, more: str = "") -> None:
    where = f"{{127.0.0.1:{there.port}/user={there.login.user}/notls}}"
    far = f"store far {{ server {where} passwd {there.login.password} }}\n"
    near = "store md { pat md/* prefix md/ format maildir }\n"
    configure(home, f"{near}{far}channel c md far {{ msinfo .msinfo {more} }}\n")


def begin(home: Path, there: Account) -> None:
    channel(home, there)
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


def test_server_that_has_come_as_far_as_it_was_gets_no_flags_on_another_message(home: Path, far: Account) -> None:
    far.deliver("new-1", "new-2", "new-3")
    [file] = files_of(home, "7")
    file.rename(home / f"md/INBOX/cur/{file.name.partition(':')[0]}:2,F")

    synced(home)

    equal(home, far, *THEN, *LOST, "new-1", "new-2", "new-3")
    flagged = [name for name in here(home) if files_of(home, name)[0].name.endswith("F")]
    assert ["7"] == flagged


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


# ---- another UIDVALIDITY ---------------------------------------------------------------------------------------------


def settled(home: Path, there: Account) -> int:
    """How many bodies have gone over the wire, once both stores hold the same and a stamp says so."""
    there.deliver(*THEN)
    for _ in range(2):
        pause()
        synced(home)
    return there.count(SENT)


def other_validity(there: Fake) -> None:
    there.fake.store[b"INBOX"].renumber(99)


def migrated(there: Fake) -> None:
    """To a server that gives all messages the date of that day, and other uids."""
    old, box = there.fake.store[b"INBOX"], FakeBox(uidvalidity=7, uidnext=1000)
    for one in reversed(old.messages):
        box.add(one.raw, one.flags, one.date + 86400)
    there.fake.store[b"INBOX"] = box


def index_lost(there: Real) -> None:
    """Dovecot makes uids anew when its own files are gone."""
    for file in there.root.rglob("dovecot*"):
        file.unlink()


CHANGES: dict[str, tuple[str, Callable[[Any], None]]] = {
    **{f"validity, {kind}": (kind, other_validity) for kind in ABILITIES},
    **{f"migrated, {kind}": (kind, migrated) for kind in ABILITIES},
    "index lost": ("dovecot", index_lost),
}


@pytest.mark.parametrize("maxage", ["", "maxage 3000"])
@pytest.mark.parametrize("change", CHANGES)
def test_same_mail_under_other_uids_is_not_sent_again(home: Path, change: str, maxage: str) -> None:
    where, act = CHANGES[change]
    with account(where, home) as there:
        channel(home, there, maxage)
        before = settled(home, there)
        act(there)

        ran = synced(home)

        assert ([], before) == (ran.steps, there.count(SENT))
        equal(home, there, *THEN)
        delete_here(home, "2")
        synced(home)
        equal(home, there, "1", "3", "4")


COMMANDS = {
    "listed": r"UID FETCH \S+ .*HEADER",
    "fetched": r"UID FETCH \S+ .*BODY\.PEEK\[\]",
    "changed": "UID STORE",
    "expunged": "EXPUNGE",
    "appended": "APPEND",
}


@pytest.mark.parametrize("kind", ABILITIES)
@pytest.mark.parametrize(
    ("how", "command"),
    # Not put back just when we append: with what we bring its numbers are those of before again.
    [("validity", command) for command in COMMANDS] + [("put back", command) for command in [*COMMANDS][:-1]],
)
def test_mailbox_that_becomes_another_in_the_middle_of_a_run(home: Path, kind: str, how: str, command: str) -> None:
    """Between the listing and what is done: nothing is done to a message that was not meant, and nothing is lost."""
    with account(kind, home) as there:
        assert isinstance(there, Fake)
        channel(home, there)
        settled(home, there)
        there.save()
        there.deliver("5")
        synced(home)
        there.deliver("new")
        delete_here(home, "5")
        delete_here(home, "2")
        (home / "md/INBOX/cur/9.x:2,S").write_bytes(message("mine"))
        [flagged] = files_of(home, "3")
        flagged.rename(home / f"md/INBOX/cur/{flagged.name.partition(':')[0]}:2,F")

        def become_another(fake: FakeServer) -> None:
            if how == "put back":
                there.put_back()
                there.deliver("other")
            else:
                other_validity(there)

        there.fake.script.append(Trap(COMMANDS[command], Do(become_another)))
        run("c")
        met = there.fake.script.pop().met
        run("c")
        synced(home)

        assert met
        here_now, there_now = set(here(home)), set(there.names())
        assert here_now == there_now
        assert {"1", "3", "4", "mine"} <= here_now
        assert ("other" in here_now) == (how == "put back")
        equal(home, there, *here_now)


# ---- clocks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("back", [86400, -86400])
def test_clock_that_is_set_hides_nothing(home: Path, monkeypatch: pytest.MonkeyPatch, back: int) -> None:
    """What has changed is told by whether times are equal, never by which is later."""
    with account("qresync", home) as there:
        channel(home, there, "maxage 3000")
        settled(home, there)
        monkeypatch.setattr(time, "time", lambda now=time.time: now() - back)
        monkeypatch.setattr(time, "time_ns", lambda now=time.time_ns: now() - back * 10**9)
        for n, name in enumerate("5678"):
            there.deliver(name)
            (home / f"md/INBOX/cur/{n}.x:2,S").write_bytes(message(f"mine-{n}"))
            if back > 0:
                os.utime(home / "md/INBOX/cur", (0, 0))

            synced(home)

        equal(home, there, *THEN, *"5678", *(f"mine-{n}" for n in range(4)))


# ---- the checker is checked ------------------------------------------------------------------------------------------


def as_if_then(monkeypatch: pytest.MonkeyPatch, change: Callable[[Selected, Selected], Selected]) -> None:
    """A mailbox that is opened is held against another state than that in which it was listed."""
    opened = Draft.opened

    def planted(self: Draft, conn: Any, told: Any, end: Any) -> Draft:
        self.then = self.then and change(self.then, selected(self.mailbox, told, end))
        return opened(self, conn, told, end)

    monkeypatch.setattr(Draft, "opened", planted)
    monkeypatch.setattr(Draft, "_is_another", lambda self, uid, id: False)


def validity_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is known is believed whatever UIDVALIDITY says."""
    as_if_then(monkeypatch, lambda then, now: then._replace(validity=now.validity))


def numbers_that_go_back_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """UIDNEXT and HIGHESTMODSEQ."""
    monkeypatch.setattr(Selected, "is_newer", lambda self, now: False)
    as_if_then(monkeypatch, lambda then, now: then._replace(modseq=1, next=1))


def nothing_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Numbers alone are believed."""
    as_if_then(monkeypatch, lambda then, now: then)


def nothing_proven(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is looked at before a deletion."""
    monkeypatch.setattr(ServerBox, "_prove", lambda self: None)


def absence_proves(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server has lost counts as deleted."""
    listing = Draft.listing
    monkeypatch.setattr(Draft, "listing", lambda self, holds: replace(listing(self, holds), put_back=False))


def renumbered_in_another_order(home: Path, far: Account) -> None:
    assert isinstance(far, Fake)
    synced(home)
    box = far.fake.store[b"INBOX"]
    box.messages.reverse()
    box.renumber(99)
    delete_here(home, "1")

    synced(home)

    assert sorted([*THEN[1:], *LOST]) == far.names()


PARTS: Sequence[Callable[[Path, Account], None]] = (
    lambda home, far: test_messages_that_have_come_since_are_seen_and_what_was_lost_comes_back(home, far, 1),
    lambda home, far: test_messages_that_have_come_since_are_seen_and_what_was_lost_comes_back(home, far, 6),
    lambda home, far: test_server_that_has_come_as_far_as_it_was_expunges_no_other_message(home, far),
    renumbered_in_another_order,
)


def try_all(home: Path) -> None:
    """What tests above do, each in a home of its own."""
    for n, part in enumerate(PARTS):
        one = home / str(n)
        one.mkdir()
        with pytest.MonkeyPatch.context() as patch, account("qresync", one) as far:
            patch.setenv("HOME", str(one))
            patch.chdir(one)
            begin(one, far)
            part(one, far)


@PLANTED
@pytest.mark.parametrize(
    "bug",
    [validity_ignored, numbers_that_go_back_ignored, nothing_read_again, nothing_proven, absence_proves],
    ids=lambda bug: bug.__name__,
)
def test_bug_is_caught(home: Path, monkeypatch: pytest.MonkeyPatch, bug: Callable[[pytest.MonkeyPatch], None]) -> None:
    bug(monkeypatch)

    with pytest.raises(AssertionError):
        try_all(home)


def test_without_a_bug_nothing_is_caught(home: Path) -> None:
    try_all(home)
