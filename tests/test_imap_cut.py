"""A short session that ends at each of its bytes: plain, in TLS, compressed; towards either side; by FIN and by RST.

The first run heals itself, unless the connection ended before the login; then, and wherever every connection is cut,
the next one does. Always there is one of each message, and an error says what happened.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from .mail import maildir, message
from .servers import server
from .servers.proxy import Proxy
from .stage import AWAY, Stage, World, add, build, change_little, hurry, plant_little
from .tried import NETWORK, PLANTED, Points

pytestmark = NETWORK

DIRECTIONS = ("to_client", "to_server")
TORTURE = pytest.mark.torture
in_both_directions = pytest.mark.parametrize("direction", DIRECTIONS)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("stage"), server("dovecot"), plant_little, change_little)


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    dovecot = server("dovecot")
    return hurry(monkeypatch, World(home, dovecot, dovecot.new_login()))


def size_of(world: World, stage: Stage, direction: str) -> int:
    """The bytes of a session that is not cut."""
    world.begin_anew(stage)
    ran, proxy = world.through()
    assert (0, "") == (ran.code, ran.err)
    return proxy.sent if direction == "to_client" else proxy.received


def every(points: Iterable[int], world: World, stage: Stage, direction: str, *ways: dict[str, Any]) -> int:
    """How many points were tried, in these ways in turn: all, up to the end of the session."""
    size = size_of(world, stage, direction)
    tried = 0
    for at, way in zip(points, cycle(ways), strict=False):
        codes = (0,) if way.get("first_only") else (0, 1, AWAY)
        if not world.is_met(stage, {f"cut_{direction}": at, **way}, codes):
            assert at > size - SLACK[direction], (at, size)
            break
        tried += 1
    return tried


# Bytes by which a session may be shorter: a server tells how long it took, and its farewell is not waited for.
SLACK = {"to_client": 300, "to_server": 60}
ONCE = {"first_only": True}
FIN, RST = {"reset": False}, {"reset": True}
PARTS = 4  # of the bytes, a test each
PRIMES = {"to_client": 149, "to_server": 41}


@in_both_directions
def test_session_is_cut_at_some_bytes(world: World, stage: Stage, direction: str, record_property: Points) -> None:
    points = count(PRIMES[direction] // 2, PRIMES[direction])
    record_property("points", every(points, world, stage, direction, ONCE | FIN, ONCE | RST))


@TORTURE
@pytest.mark.timeout(1200)
@in_both_directions
@pytest.mark.parametrize("part", range(PARTS))
def test_session_is_cut_at_every_byte(
    world: World, stage: Stage, direction: str, part: int, record_property: Points
) -> None:
    record_property("points", every(count(part, PARTS), world, stage, direction, ONCE | FIN, ONCE | RST))


@TORTURE
@pytest.mark.timeout(600)
@in_both_directions
def test_every_session_is_cut_there(world: World, stage: Stage, direction: str, record_property: Points) -> None:
    """However often it is tried: it never comes further."""
    record_property("points", every(count(0, PRIMES[direction]), world, stage, direction, FIN, RST))


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

    def near_store(self) -> str:
        own = f"{{localhost:{self.server.port}/user={self.here.user}/notls}}"
        return f"store near {{ server {own} passwd secret }}\n"


KINDS: dict[str, dict[str, str]] = {
    "tls": {"remote": "/ssl", "store": "ca {0.certificate}"},
    "starttls": {"remote": "/tls", "store": "ca {0.certificate}"},
    "compressed": {"store": "compress yes"},
    "compressed in tls": {"remote": "/ssl", "store": "compress yes ca {0.certificate}"},
    "two servers": {},
}


def special(world: World, kind: str) -> World:
    settings: dict[str, Any] = {key: value.format(world.server) for key, value in KINDS.get(kind, {}).items()}
    made = Servers if kind == "two servers" else World
    return made(world.home, world.server, world.login, **settings)


@in_both_directions
@pytest.mark.parametrize("kind", KINDS)
def test_special_session_is_cut(world: World, stage: Stage, kind: str, direction: str, record_property: Points) -> None:
    """In TLS no cut is announced (close_notify), and most are in the middle of a record: a truncation attack."""
    points = count(PRIMES[direction] * 2, PRIMES[direction] * 7)
    record_property("points", every(points, special(world, kind), stage, direction, ONCE | FIN, ONCE | RST))


@TORTURE
@pytest.mark.timeout(600)
@in_both_directions
@pytest.mark.parametrize("kind", KINDS)
def test_special_session_is_cut_often(
    world: World, stage: Stage, kind: str, direction: str, record_property: Points
) -> None:
    points = count(1, PRIMES[direction])
    record_property("points", every(points, special(world, kind), stage, direction, ONCE | FIN, ONCE | RST, FIN))


@pytest.mark.parametrize("kind", ["plain", *KINDS])
def test_session_comes_byte_by_byte(world: World, stage: Stage, kind: str) -> None:
    """Nothing depends on where a segment ends."""
    world = special(world, kind)
    world.begin_anew(stage)
    ran, proxy = world.through(chunk=1)

    assert (0, "", 1) == (ran.code, ran.err, proxy.connections)
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
def test_several_connections_are_cut(world: World, many: Stage, direction: str, record_property: Points) -> None:
    world.store = "connections 2"
    size = many.bytes(direction)
    places = ((0.2, FIN), (0.35, RST), (0.5, FIN))
    for place, way in places:
        world.heals(many, {f"cut_{direction}": int(size * place), **way}, codes=(0, 1, AWAY))
    record_property("points", len(places))


@PLANTED
def test_network_that_is_too_good_is_caught(world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing was tried then."""
    begin = Proxy.__init__
    monkeypatch.setattr(Proxy, "__init__", lambda self, port, **_: begin(self, port))

    with pytest.raises(AssertionError, match="not met"):
        world.heals(stage, {"cut_to_client": 1000})
    with pytest.raises(AssertionError):
        every(count(1000), world, stage, "to_client", ONCE | FIN)
