"""A short session that ends at each of its bytes: plain, in TLS, compressed; towards either side; by FIN and by RST.

The first run heals itself, unless the connection ended before the login; then, and wherever every connection is cut,
the next one does. Always there is one of each message, and an error says what happened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.imap import reach

from .mail import maildir, message, run, within
from .servers import server
from .servers.proxy import Proxy
from .stage import AWAY, Stage, World, add, build, find
from .tried import NETWORK

pytestmark = NETWORK

Note = Callable[[str, object], None]
DIRECTIONS = ("to_client", "to_server")
TORTURE = pytest.mark.torture
in_both_directions = pytest.mark.parametrize("direction", DIRECTIONS)


def plant(near: Path, far: Path) -> None:
    for root in (near, far):
        maildir(root / "box", message("stays"), message("goes"))
    maildir(far)


def change(near: Path, far: Path) -> None:
    """One message comes on each side, one gets a flag there, one goes here."""
    add(near / "box", "n", [message("from here")])
    add(far / "box", "f", [message("from there")])
    flagged = find(far / "box", "stays")
    flagged.rename(f"{flagged}S")
    find(near / "box", "goes").unlink()


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("stage"), server("dovecot"), plant, change)


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(reach, "WAITS", (0.0,) * len(reach.WAITS))
    dovecot = server("dovecot")
    return World(home, dovecot, dovecot.new_login())


def heals(world: World, stage: Stage, **fault: Any) -> bool:
    """One point: a run with this fault, a run without. True if the fault was met."""
    world.begin_anew(stage)
    with Proxy(world.port, **fault) as proxy:
        world.point_to(proxy.port)
        ran = run("c")
    assert ran.code in (0, 1, AWAY), (fault, ran)
    assert not ran.code or re.search(r"mailsync: .*(localhost:|on store far)", ran.err), (fault, ran)
    assert "bug" not in ran.err, (fault, ran)
    assert within(20, world.server.is_at_rest)
    if ran.code == AWAY and proxy.connections == 1:  # who was never there is not waited for
        assert stage.before == world.contents(), fault
        return True
    assert not ran.code or not fault.get("first_only"), (fault, ran)
    world.check(stage)
    return proxy.connections > 1


def every(points: Iterable[int], world: World, stage: Stage, direction: str, *ways: dict[str, Any]) -> int:
    """How many points were tried, in these ways in turn, up to the first that is behind all that is said."""
    tried = 0
    for at, way in zip(points, cycle(ways), strict=False):
        if not heals(world, stage, **{f"cut_{direction}": at}, **way):
            break
        tried += 1
    return tried


ONCE = {"first_only": True}
FIN, RST = {"reset": False}, {"reset": True}
PRIMES = {"to_client": 149, "to_server": 41}


@in_both_directions
def test_session_is_cut_at_some_bytes(world: World, stage: Stage, direction: str, record_property: Note) -> None:
    points = range(PRIMES[direction] // 2, 10**6, PRIMES[direction])
    tried = every(points, world, stage, direction, ONCE | FIN, ONCE | RST)
    assert tried > 20
    record_property("points", tried)


@TORTURE
@pytest.mark.timeout(1200)
@in_both_directions
def test_session_is_cut_at_every_byte(world: World, stage: Stage, direction: str, record_property: Note) -> None:
    tried = every(count(), world, stage, direction, ONCE | FIN, ONCE | RST)
    assert tried > stage.bytes(direction) - 60  # LOGOUT, and the farewell, are nothing to come back for
    record_property("points", tried)


@TORTURE
@pytest.mark.timeout(600)
@in_both_directions
def test_every_session_is_cut_there(world: World, stage: Stage, direction: str, record_property: Note) -> None:
    """However often it is tried: it never comes further."""
    tried = every(range(0, 10**6, PRIMES[direction]), world, stage, direction, FIN, RST)
    record_property("points", tried)
