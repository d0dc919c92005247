"""Whole runs between a Maildir and Dovecot while the connection breaks: at any byte, at any answer, once or always.

However often that happens, the next run leaves both stores equal: nothing is lost, and nothing is doubled.
"""

from __future__ import annotations

import shutil
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.imap import reach
from mailsync.drivers.imap.account import Account
from mailsync.drivers.imap.dial import Client, dial

from .mail import Ran, configure, forget_cache, maildir, message, run, run_apart
from .servers import Login, Server, server
from .servers.proxy import Proxy
from .tried import NETWORK

pytestmark = NETWORK

Mail = tuple[bytes, str]  # content, and the letters of its flags
AWAY = 6  # the exit code of a run whose server is not there any more
ROUNDS = 4  # connections that break one after another
NOBODY = 1  # a port on which nobody listens
TORTURE = pytest.mark.torture


# ---- the mail --------------------------------------------------------------------------------------------------------


def plant(near: Path, far: Path) -> None:
    """What both sides have."""
    for root, inbox in ((near, near / "INBOX"), (far, far)):
        maildir(inbox, *(message(f"in{n}") for n in range(3)))
        maildir(root / "box", *(message(n) for n in range(12)))
        maildir(root / "other", *(message(f"o{n}") for n in range(4)))


def change(near: Path, far: Path) -> None:
    """On either side: new messages and a new box, flags, deletions; and one is moved from a box to another."""
    add(near / "box", "n", [message(f"n{n}") for n in range(4)] + ODD)
    add(far / "box", "f", [message(f"f{n}") for n in range(4)] + [message("large there", b"y\n" * 30_000)])
    for box, name, letters in ((near, "0", "S"), (near, "1", "RS"), (far, "5", "S"), (far, "6", "F"), (far, "0", "F")):
        file = find(box / "box", name)
        file.rename(f"{file}{letters}")
    for box, name in ((near, "3"), (near, "4"), (far, "7"), (far, "8")):
        find(box / "box", name).unlink()
    find(far / "other", "o1").unlink()
    moved = find(near / "other", "o2")
    moved.rename(near / "box" / "cur" / "1800000000.moved.x:2,S")
    add(near / "near", "a", [message(f"a{n}") for n in range(3)])
    add(far / "far", "b", [message(f"b{n}") for n in range(3)])


ODD = [
    message("large here", b"x\n" * 30_000),
    b"Subject: no id\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\nhi\n",
    "Subject: \u00fcber\nMessage-ID: <\u00fc@x>\n\nhi\n".encode(),
]


def add(box: Path, prefix: str, raws: list[bytes]) -> None:
    """Every second one was seen."""
    for part in ("cur", "new", "tmp"):
        (box / part).mkdir(parents=True, exist_ok=True)
    for n, raw in enumerate(raws):
        (box / "cur" / f"{1_750_000_000 + n}.{prefix}{n}.x:2,{'S' * (n % 2)}").write_bytes(raw)


def find(box: Path, name: str) -> Path:
    return next(file for file in (box / "cur").iterdir() if f"Message-ID: <{name}@x>".encode() in file.read_bytes())


def contents(root: Path) -> dict[str, list[Mail]]:
    """All mail of a tree of Maildirs, without any driver."""
    found = {}
    for cur in root.rglob("cur"):
        files = [file for part in ("cur", "new") for file in (cur.parent / part).iterdir()]
        name = str(cur.parent.relative_to(root)).replace(".", "INBOX")
        found[name] = sorted((file.read_bytes(), file.name.partition(":2,")[2]) for file in files)
    return found


# ---- a world that can be made again ----------------------------------------------------------------------------------


@dataclass
class Stage:
    """Two stores, synced once and then changed; to be copied for each test, and what a run makes of them."""

    home: Path
    mail: Path  # of the server
    expected: dict[str, list[Mail]]
    sent: int = 0  # bytes that such a run brings to the client
    received: int = 0

    def bytes(self, direction: str) -> int:
        return self.sent if direction == "to_client" else self.received


@dataclass
class World:
    """A home and an account on Dovecot."""

    home: Path
    server: Server
    login: Login

    @property
    def far(self) -> Path:
        found = self.server.maildir(self.login)
        assert found
        return found

    @property
    def near(self) -> Path:
        return self.home / "Mail"

    def take(self, home: Path, mail: Path) -> None:
        shutil.copytree(home, self.home, dirs_exist_ok=True)
        shutil.copytree(mail, self.far)
        self.server.give(self.login, self.far)

    def point_to(self, port: int) -> None:
        """The next run connects there."""
        configure(
            self.home,
            "store near { pat Mail/* prefix Mail/ format maildir fsync no }\n"
            f"store far {{ server {{localhost:{port}/user={self.login.user}/notls}} passwd secret timeout 10 }}\n"
            "channel c near far { msinfo .msinfo duplicates keep }\n",  # what is doubled stays so
        )

    def move_to(self, server: Server, stage: Stage) -> None:
        self.server, self.login = server, server.new_login()
        self.take(stage.home, stage.mail)

    def broken_run(self, *faults: dict[str, Any], codes: tuple[int, ...]) -> None:
        """One through proxies, each behind the one before it and with a fault of its own."""
        with ExitStack() as stack:
            port = self.server.port
            for fault in faults:
                port = stack.enter_context(Proxy(port, **fault)).port
            self.point_to(port)
            broken = run("c")
        assert broken.code in codes, broken

    def check(self, stage: Stage) -> None:
        """After a run without faults both stores are as if nothing had happened, and nothing is left to do."""
        self.point_to(self.server.port)
        after = run("c")
        here, there = self.contents()

        assert 0 == after.code, after
        assert stage.expected == here, difference(stage.expected, here)
        assert stage.expected == there, difference(stage.expected, there)
        forget_cache(self.home)
        assert [] == run("-s", "--json", "c").steps

    def contents(self) -> tuple[dict[str, list[Mail]], dict[str, list[Mail]]]:
        return contents(self.near), contents(self.far)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    directory = tmp_path_factory.mktemp("stage")
    dovecot = server("dovecot")
    first = World(directory / "first", dovecot, dovecot.new_login())
    plant(first.near, first.far)
    dovecot.give(first.login, first.far)
    first.point_to(dovecot.port)
    assert (0, "") == _outcome(run_apart(first.home, "c"))
    change(first.near, first.far)
    found = Stage(first.home, directory / "mail", {})
    shutil.copytree(first.far, found.mail)
    second = World(directory / "second", dovecot, dovecot.new_login())
    second.take(found.home, found.mail)
    with Proxy(dovecot.port) as proxy:
        second.point_to(proxy.port)
        assert (0, "") == _outcome(run_apart(second.home, "c"))
        found.sent, found.received = proxy.sent, proxy.received
    here, found.expected = second.contents()
    assert here == found.expected
    return found


def _outcome(ran: Ran) -> tuple[int, str]:
    return ran.code, ran.err


@pytest.fixture
def world(home: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> World:
    """As the stage; what is waited for before a further try is short, the number of tries is not."""
    monkeypatch.setattr(reach, "WAITS", (0.02,) * len(reach.WAITS))
    dovecot = server("dovecot")
    found = World(home, dovecot, dovecot.new_login())
    found.take(stage.home, stage.mail)
    return found


def check(world: World, stage: Stage, *faults: dict[str, Any], codes: tuple[int, ...] = (0,)) -> None:
    world.broken_run(*faults, codes=codes)
    world.check(stage)


def difference(expected: dict[str, list[Mail]], found: dict[str, list[Mail]]) -> list[object]:
    """For whoever reads a failure: how many there are too many, or too few."""
    wanted, got = (Counter((box, *mail) for box in mails for mail in mails[box]) for mails in (expected, found))
    return [(got[one] - wanted[one], one[0], one[1][:200], one[2]) for one in wanted | got if got[one] != wanted[one]]


# ---- what is there without faults ------------------------------------------------------------------------------------


def test_run_without_faults_brings_all_to_both_sides(stage: Stage) -> None:
    assert {"INBOX": 3, "box": 12 - 4 + 5 + 4 + len(ODD) + 1, "other": 2, "near": 3, "far": 3} == {
        box: len(mails) for box, mails in stage.expected.items()
    }


# ---- cut at any byte -------------------------------------------------------------------------------------------------

either_way = pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
in_both_directions = pytest.mark.parametrize("direction", ["to_client", "to_server"])


def places(few: int, many: int) -> pytest.MarkDecorator:
    """Parts of all that goes over the wire, behind the login: a few of them always, many by `make torture`."""
    rare = [pytest.param(n / (many + 1), marks=TORTURE) for n in range(1, many + 1)]
    return pytest.mark.parametrize("place", [*(n / (few + 1) for n in range(1, few + 1)), *rare])


@places(5, 100)
@either_way
@in_both_directions
def test_connection_is_cut_once(world: World, stage: Stage, direction: str, reset: bool, place: float) -> None:
    at = int(stage.bytes(direction) * place)
    check(world, stage, {f"cut_{direction}": at, "reset": reset, "first_only": True})


@places(3, 50)
@either_way
@in_both_directions
def test_every_connection_is_cut(world: World, stage: Stage, direction: str, reset: bool, place: float) -> None:
    at = int(stage.bytes(direction) * place)
    check(world, stage, {f"cut_{direction}": at, "reset": reset}, codes=(0, 1, AWAY))


@pytest.mark.parametrize("at", [1, 200, 1000, *(pytest.param(n, marks=TORTURE) for n in range(10, 1000, 10))])
@in_both_directions
def test_connection_is_cut_early(world: World, stage: Stage, direction: str, at: int) -> None:
    """In the greeting, in the login, while the mailboxes are listed."""
    check(world, stage, {f"cut_{direction}": at, "first_only": True}, codes=(0, AWAY))


@pytest.mark.parametrize("nth", [1, 6, *(pytest.param(n, marks=TORTURE) for n in range(1, 40))])
@either_way
@in_both_directions
def test_connection_is_cut_in_a_literal(world: World, stage: Stage, direction: str, reset: bool, nth: int) -> None:
    check(world, stage, {f"cut_literal_{direction}": nth, "reset": reset, "first_only": True})


# ---- done, and not answered ------------------------------------------------------------------------------------------

COMMANDS = ["LIST", "SELECT", "CREATE", "SUBSCRIBE", "APPEND", "UID STORE", "EXPUNGE", r"FETCH.*BODY\.PEEK\[\]"]


@pytest.mark.parametrize("nth", [1, pytest.param(2, marks=TORTURE), pytest.param(3, marks=TORTURE)])
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("name", ["dovecot", "dovecot-bare"])
def test_answer_is_swallowed(world: World, stage: Stage, name: str, command: str, nth: int) -> None:
    """`dovecot-bare` knows no extension: every message goes by itself, and EXPUNGE takes all that is marked."""
    world.move_to(server(name), stage)
    check(world, stage, {"swallow": f" {command}", "nth": nth})


@pytest.mark.parametrize("command", ["CREATE", "APPEND", "UID STORE", "EXPUNGE"])
@pytest.mark.parametrize("name", ["dovecot", "dovecot-bare"])
def test_answers_are_swallowed_again_and_again(world: World, stage: Stage, name: str, command: str) -> None:
    world.move_to(server(name), stage)
    check(world, stage, *({"swallow": f" {command}", "nth": nth} for nth in range(1, ROUNDS + 1)), codes=(0, 1, AWAY))


# ---- gone for good ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0.4, 0.8])
@in_both_directions
def test_server_goes_away_for_good(
    world: World, stage: Stage, direction: str, place: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    dialled = count()

    def dial_once(account: Account, *rest: Any) -> Client:
        if next(dialled):
            account = replace(account, remote=replace(account.remote, port=NOBODY))
        return dial(account, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(reach, "dial", dial_once)
        world.broken_run({f"cut_{direction}": int(stage.bytes(direction) * place)}, codes=(AWAY,))
    world.check(stage)
