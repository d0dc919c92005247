"""A server that fails at each command of a session in turn: its answer is lost, it says BYE, its process is killed; and
one that is stopped and started again in the middle of a run.
"""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.imap import reach

from .mail import maildir, message, run, within
from .servers import server
from .servers.proxy import Link, Proxy
from .stage import AWAY, Stage, World, add, build, find
from .tried import SERVER

pytestmark = SERVER

Note = Callable[[str, object], None]
SETTINGS: dict[str, Any] = {"args": ("-D", "c"), "store": "timeout 10"}


def plant(near: Path, far: Path) -> None:
    for root in (near, far):
        maildir(root / "box", *(message(name) for name in ("stays", "is read", "goes", "moves", "doubles")))
        maildir(root / "other", message("o"))
        maildir(root / "before", *(message(f"b{n}") for n in range(3)))
        maildir(root / "empty", message("e"))
    maildir(far)


def change(near: Path, far: Path) -> None:
    """All that takes a command of its own on the server."""
    add(far / "box", "f", [message("from there")])
    add(near / "box", "n", [message("from here")])
    add(near / "made", "m", [message("made")])
    for box, name in ((far, "stays"), (near, "is read")):
        file = find(box / "box", name)
        file.rename(f"{file}S")
    find(near / "box", "goes").unlink()
    find(near / "empty", "e").unlink()
    find(near / "box", "moves").rename(near / "other" / "cur" / "1800000000.moved.x:2,")
    (near / "other" / "cur" / "1800000000.copied.x:2,").write_bytes(find(near / "box", "doubles").read_bytes())
    (near / "before").rename(near / "after")


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("stage"), server("dovecot"), plant, change, **SETTINGS)


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(reach, "WAITS", (0.0,) * len(reach.WAITS))
    dovecot = server("dovecot")
    return World(home, dovecot, dovecot.new_login(), **SETTINGS)


# ---- at each command -------------------------------------------------------------------------------------------------

Fault = Callable[[World, int], dict[str, Any]]


def killed(world: World, nth: int) -> dict[str, Any]:
    """The process that serves the connection, before it has all of the command; if somebody is logged in."""
    seen = count(1)

    def watch(text: bytes, link: Link) -> bool:
        if next(seen) == nth:
            pid = world.server.process_of(link.local)
            os.kill(pid, signal.SIGKILL)
        return False

    return {"watch": watch}


def swallowed(world: World, nth: int) -> dict[str, Any]:
    """It is executed; the client hears nothing of it but that the connection has ended."""
    return {"swallow": ".", "nth": nth}


def bye_instead(world: World, nth: int) -> dict[str, Any]:
    return {"swallow": ".", "nth": nth, "bye": "instead"}


def bye_before(world: World, nth: int) -> dict[str, Any]:
    return {"swallow": ".", "nth": nth, "bye": "before"}


def bye_after(world: World, nth: int) -> dict[str, Any]:
    return {"swallow": ".", "nth": nth, "bye": "after"}


FAULTS: list[Fault] = [swallowed, bye_instead, bye_before, bye_after, killed]


def heals(world: World, stage: Stage, nth: int, fault: Fault) -> None:
    world.begin_anew(stage)
    with Proxy(world.port, **fault(world, nth)) as proxy:
        world.point_to(proxy.port)
        ran = run(*world.args)
    about = fault.__name__, stage.commands[nth - 1], ran
    assert "bug" not in ran.err, about
    assert within(20, world.server.is_at_rest)
    if ran.code == AWAY and proxy.connections == 1:
        assert re.search(r"mailsync: localhost:\d+: ", ran.err), about
        assert stage.before == world.contents(), about
        return
    assert 0 == ran.code, about
    world.check(stage)


CHANGING = (b"APPEND", b"COPY", b"CREATE", b"DELETE", b"EXPUNGE", b"MOVE", b"RENAME", b"STORE")


def test_server_fails_at_each_kind_of_command(world: World, stage: Stage, record_property: Note) -> None:
    """At the first of each kind; in two ways where something is to be changed."""
    kinds = [re.sub(rb"^\S+ ((?:UID )?\S+).*", rb"\1", command) for command in stage.commands]
    ways = cycle(FAULTS)
    points = [(kinds.index(kind) + 1, next(ways)) for kind in dict.fromkeys(kinds)]
    points += [(kinds.index(kind) + 1, swallowed) for kind in dict.fromkeys(kinds) if kind.endswith(CHANGING)]
    for nth, fault in points:
        heals(world, stage, nth, fault)
    record_property("points", len(points))


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_server_fails_at_each_command(world: World, stage: Stage, fault: Fault, record_property: Note) -> None:
    for nth in range(1, len(stage.commands) + 1):
        heals(world, stage, nth, fault)
    record_property("points", len(stage.commands))
