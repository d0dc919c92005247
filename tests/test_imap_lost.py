"""Whole runs between a Maildir and Dovecot while the connection breaks: at any byte, at any answer, once or always.

However often that happens, the next run leaves both stores equal: nothing is lost, and nothing is doubled.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
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
from .tried import NETWORK, Points

pytestmark = NETWORK

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
def staged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stage]:
    """By the name of a server."""
    return cache(lambda name: build(tmp_path_factory.mktemp("stage"), server(name), plant, change))


@pytest.fixture
def stage(staged: Callable[[str], Stage]) -> Stage:
    return staged("dovecot")


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """What is waited for before a further try is short, the number of tries is not."""
    dovecot = server("dovecot")
    return hurry(monkeypatch, World(home, dovecot, dovecot.new_login()))


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
    world.heals(stage, {f"cut_{direction}": at, "reset": reset, "first_only": True})


@places(3, 50)
@either_way
@in_both_directions
def test_every_connection_is_cut(world: World, stage: Stage, direction: str, reset: bool, place: float) -> None:
    at = int(stage.bytes(direction) * place)
    world.heals(stage, {f"cut_{direction}": at, "reset": reset}, codes=(0, 1, AWAY))


@pytest.mark.parametrize("at", [1, 200, 1000, *(pytest.param(n, marks=TORTURE) for n in range(10, 1000, 10))])
@in_both_directions
def test_connection_is_cut_early(world: World, stage: Stage, direction: str, at: int) -> None:
    """In the greeting, in the login, while the mailboxes are listed."""
    world.heals(stage, {f"cut_{direction}": at, "first_only": True})


@pytest.mark.parametrize("nth", [1, 6])
@either_way
@in_both_directions
def test_connection_is_cut_in_a_literal(world: World, stage: Stage, direction: str, reset: bool, nth: int) -> None:
    world.heals(stage, {f"cut_literal_{direction}": nth, "reset": reset, "first_only": True})


@TORTURE
@pytest.mark.timeout(300)
@either_way
@in_both_directions
def test_connection_is_cut_in_each_literal(
    world: World, stage: Stage, direction: str, reset: bool, record_property: Points
) -> None:
    points = range(1, stage.literals[direction] + 1)
    for nth in points:
        world.heals(stage, {f"cut_literal_{direction}": nth, "reset": reset, "first_only": True})
    record_property("points", len(points))


# ---- done, and not answered ------------------------------------------------------------------------------------------

COMMANDS = ["LIST", "SELECT", "CREATE", "SUBSCRIBE", "APPEND", "UID STORE", "EXPUNGE", r"FETCH.*BODY\.PEEK\[\]"]


on_each_server = pytest.mark.parametrize("name", ["dovecot", "dovecot-bare"])


@pytest.mark.parametrize("command", COMMANDS)
@on_each_server
def test_answer_is_swallowed(world: World, staged: Callable[[str], Stage], name: str, command: str) -> None:
    """`dovecot-bare` knows no extension: every message goes by itself, and EXPUNGE takes all that is marked."""
    world.server = server(name)
    world.heals(staged(name), {"swallow": f" {command}"})


@TORTURE
@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", COMMANDS)
@on_each_server
def test_each_answer_is_swallowed(
    world: World, staged: Callable[[str], Stage], name: str, command: str, record_property: Points
) -> None:
    world.server = server(name)
    points = range(1, staged(name).count(f" {command}") + 1)
    for nth in points:
        world.heals(staged(name), {"swallow": f" {command}", "nth": nth})
    record_property("points", len(points))


@pytest.mark.parametrize(
    ("command", "times"),
    [("CREATE", 3), ("APPEND", 2), ("UID STORE", 3), ("(CREATE|SUBSCRIBE|APPEND|UID STORE|(UID )?EXPUNGE)", 4)],
)
@on_each_server
def test_answers_are_swallowed_again_and_again(
    world: World, staged: Callable[[str], Stage], name: str, command: str, times: int
) -> None:
    """As often as a run surely says it: what it has sent at once, to one mailbox, may all be carried out."""
    world.server = server(name)
    world.heals(staged(name), {"swallow": f" {command}", "times": times}, codes=(0, 1, AWAY))


# ---- gone for good ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", [0.4, 0.8])
@in_both_directions
def test_server_goes_away_for_good(
    world: World, stage: Stage, direction: str, place: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.begin_anew(stage)
    dialled = count()

    def dial_once(account: Account, *rest: Any) -> Client:
        if next(dialled):
            account = replace(account, remote=replace(account.remote, port=NOBODY))
        return dial(account, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(reach, "dial", dial_once)
        ran, proxy = world.through(**{f"cut_{direction}": int(stage.bytes(direction) * place)})
    assert (AWAY, 1) == (ran.code, proxy.met)
    world.check(stage)
