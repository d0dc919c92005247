"""A short session that ends at each of its bytes: plain, in TLS, compressed; towards either side; by FIN and by RST.

The first run heals itself, unless the connection ended before the login; then, and wherever every connection is cut,
the next one does. Always there is one of each message, and an error says what happened.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from .mail import maildir, message, run
from .servers import server
from .servers.proxy import Proxy
from .stage import AWAY, Stage, World, add, build, change_little, hurry, plant_little
from .tried import NETWORK

pytestmark = NETWORK

Note = Callable[[str, object], None]
DIRECTIONS = ("to_client", "to_server")
TORTURE = pytest.mark.torture
in_both_directions = pytest.mark.parametrize("direction", DIRECTIONS)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("stage"), server("dovecot"), plant_little, change_little)


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    dovecot = server("dovecot")
    hurry(monkeypatch, dovecot)
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
PARTS = 4  # of the bytes, a test each
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
@pytest.mark.parametrize("part", range(PARTS))
def test_session_is_cut_at_every_byte(
    world: World, stage: Stage, direction: str, part: int, record_property: Note
) -> None:
    tried = every(count(part, PARTS), world, stage, direction, ONCE | FIN, ONCE | RST)
    assert (tried + 1) * PARTS > stage.bytes(direction) - 120  # LOGOUT, and the farewell, are nothing to come back for
    record_property("points", tried)


@TORTURE
@pytest.mark.timeout(600)
@in_both_directions
def test_every_session_is_cut_there(world: World, stage: Stage, direction: str, record_property: Note) -> None:
    """However often it is tried: it never comes further."""
    tried = every(range(0, 10**6, PRIMES[direction]), world, stage, direction, FIN, RST)
    record_property("points", tried)


# ---- not plain, not alone --------------------------------------------------------------------------------------------


@dataclass
class Servers(World):
    """Both stores are on a server; the faults are on the way to the second."""

    def __post_init__(self) -> None:
        self.here = self.server.new_login()

    @property
    def near(self) -> Path:
        found = self.server.maildir(self.here)
        assert found
        return found

    def take(self, home: Path, mail: Path) -> None:
        self.here = self.server.new_login()
        super().take(home, mail)
        (self.home / "Mail").rename(self.near)
        for part in (self.near / "INBOX").iterdir():
            part.rename(self.near / part.name)
        (self.near / "INBOX").rmdir()
        self.server.give(self.here, self.near)

    def stores(self, port: int) -> str:
        own = f"{{localhost:{self.server.port}/user={self.here.user}/notls}}"
        return f"store near {{ server {own} passwd secret }}\n{self.far_store(port)}"


KINDS: dict[str, dict[str, str]] = {
    "tls": {"remote": "/ssl", "store": "timeout 10 ca {0.certificate}"},
    "starttls": {"remote": "/tls", "store": "timeout 10 ca {0.certificate}"},
    "compressed": {"store": "timeout 10 compress yes"},
    "compressed in tls": {"remote": "/ssl", "store": "timeout 10 compress yes ca {0.certificate}"},
    "two servers": {},
}


def special(world: World, kind: str) -> World:
    settings: dict[str, Any] = {key: value.format(world.server) for key, value in KINDS[kind].items()}
    made = Servers if kind == "two servers" else World
    return made(world.home, world.server, world.login, **settings)


@in_both_directions
@pytest.mark.parametrize("kind", KINDS)
def test_special_session_is_cut(world: World, stage: Stage, kind: str, direction: str, record_property: Note) -> None:
    """In TLS no cut is announced (close_notify), and most are in the middle of a record: a truncation attack."""
    points = range(PRIMES[direction] * 2, 10**6, PRIMES[direction] * 7)
    tried = every(points, special(world, kind), stage, direction, ONCE | FIN, ONCE | RST)
    assert tried >= 2
    record_property("points", tried)


@TORTURE
@pytest.mark.timeout(600)
@in_both_directions
@pytest.mark.parametrize("kind", KINDS)
def test_special_session_is_cut_often(
    world: World, stage: Stage, kind: str, direction: str, record_property: Note
) -> None:
    points = range(1, 10**6, PRIMES[direction])
    tried = every(points, special(world, kind), stage, direction, ONCE | FIN, ONCE | RST, FIN)
    record_property("points", tried)


@pytest.mark.parametrize("kind", ["compressed", "tls", "starttls"])
def test_session_comes_byte_by_byte(world: World, stage: Stage, kind: str) -> None:
    """Nothing depends on where a segment ends."""
    world = special(world, kind)
    world.begin_anew(stage)
    ran = world.broken_run({"chunk": 1}, codes=(0,))

    assert "" == ran.err
    assert (stage.expected, stage.expected) == world.contents()


# ---- several connections ---------------------------------------------------------------------------------------------

MANY = 40  # mailboxes; up to 32 are looked at over one connection


def plant_many(near: Path, far: Path) -> None:
    for n in range(MANY):
        for root in (near, far):
            maildir(root / f"box{n}", message(f"old{n}"))
    maildir(far)


def change_many(near: Path, far: Path) -> None:
    for n in range(0, MANY, 13):
        add(near / f"box{n}", "n", [message(f"near{n}")])
        add(far / f"box{n + 1}", "f", [message(f"far{n}")])


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("many"), server("dovecot"), plant_many, change_many)


@in_both_directions
def test_several_connections_are_cut(world: World, many: Stage, direction: str, record_property: Note) -> None:
    world.store = "timeout 10 connections 2"
    size = many.bytes(direction)
    for place, way in ((0.2, FIN), (0.35, RST), (0.5, FIN)):
        assert heals(world, many, **{f"cut_{direction}": int(size * place)}, **way)
    record_property("points", 3)
