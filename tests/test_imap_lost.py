"""Whole runs between a Maildir and Dovecot while the connection breaks: at any byte, at any answer, once or always.

However often that happens, the next run leaves both stores equal: nothing is lost, and nothing is doubled.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.imap import reach
from mailsync.drivers.imap.account import Account
from mailsync.drivers.imap.dial import Client, dial

from .mail import maildir, message
from .servers import server
from .stage import AWAY, Stage, World, add, build, find, hurry
from .tried import NETWORK

pytestmark = NETWORK

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


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("stage"), server("dovecot"), plant, change)


@pytest.fixture
def world(home: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> World:
    """As the stage; what is waited for before a further try is short, the number of tries is not."""
    dovecot = server("dovecot")
    hurry(monkeypatch, dovecot)
    found = World(home, dovecot, dovecot.new_login())
    found.take(stage.home, stage.mail)
    return found


def check(world: World, stage: Stage, *faults: dict[str, Any], codes: tuple[int, ...] = (0,)) -> None:
    world.broken_run(*faults, codes=codes)
    world.check(stage)


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
