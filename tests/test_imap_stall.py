"""A network that falls silent while the connection stays open: no wait is longer than the store's `timeout`, the error
says so, and the next run heals.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailsync import stopping
from mailsync.drivers.imap.stream import Stream

from .mail import Ran, message, run, within
from .servers import server
from .servers.proxy import Proxy
from .stage import AWAY, Stage, World, add, build, change_little, contents, hurry, plant_little
from .tried import NETWORK, PLANTED

pytestmark = NETWORK

TIMEOUT = 1  # seconds
LARGE = (b"x" * 71 + b"\n") * 230_000  # more than all buffers on the way hold
Note = Callable[[str, object], None]
DIRECTIONS = ("to_client", "to_server")


class Unbounded(Exception):
    """A wait that is longer than it may be; raised instead of waiting."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("stage"), server("dovecot"), plant_little, change_little)


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    """No wait for anything may be longer than the timeout."""
    poll = stopping.poll

    def bounded(sock: socket.socket, events: int, seconds: float) -> int:
        if seconds > TIMEOUT:
            raise Unbounded(seconds)
        return poll(sock, events, seconds)

    monkeypatch.setattr(stopping, "poll", bounded)
    dovecot = server("dovecot")
    hurry(monkeypatch, dovecot)
    return World(home, dovecot, dovecot.new_login(), store=f"timeout {TIMEOUT}")


def stalled(world: World, **fault: Any) -> tuple[Ran, Proxy]:
    """A run over a network that falls silent."""
    with Proxy(world.port, **fault) as proxy:
        world.point_to(proxy.port)
        ran = run("c")
    assert ran.code in (0, 1, AWAY), (fault, ran)
    assert "bug" not in ran.err, (fault, ran)
    silent = f"nothing came for {TIMEOUT} second", f"no answer for {TIMEOUT} second"
    assert not ran.code or any(words in ran.err for words in silent), (fault, ran)
    assert within(20, world.server.is_at_rest)
    return ran, proxy


def heals(world: World, stage: Stage, **fault: Any) -> None:
    world.begin_anew(stage)
    ran, proxy = stalled(world, **fault)
    if ran.code == AWAY and proxy.connections == 1:
        assert stage.before == world.contents(), fault
    else:
        world.check(stage)


def places(stage: Stage, direction: str, many: int) -> list[int]:
    """In the greeting, in the login, some on the way, in the farewell."""
    size = stage.bytes(direction)
    return [0, 30, *(size * n // (many + 1) for n in range(1, many + 1)), size - 6]


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_network_falls_silent(world: World, stage: Stage, direction: str, record_property: Note) -> None:
    points = places(stage, direction, 1)
    for at in points:
        heals(world, stage, **{f"stall_{direction}": at}, first_only=True)
    record_property("points", len(points))


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_network_falls_silent_anywhere(world: World, stage: Stage, direction: str, record_property: Note) -> None:
    points = places(stage, direction, 20)
    for at in points:
        heals(world, stage, **{f"stall_{direction}": at}, first_only=True)
    record_property("points", len(points))


@pytest.mark.parametrize(("direction", "place"), [("to_client", 0.5), ("to_server", 0.7)])
def test_network_falls_silent_again_and_again(world: World, stage: Stage, direction: str, place: float) -> None:
    """The run ends all the same."""
    world.begin_anew(stage)
    stalled(world, **{f"stall_{direction}": int(stage.bytes(direction) * place)})
    world.check(stage)


def test_network_falls_silent_while_a_large_message_is_sent(world: World, stage: Stage) -> None:
    """The way out is full: then it is sending that waits."""
    world.begin_anew(stage)
    add(world.near / "large", "l", [message("large", LARGE)])
    stalled(world, stall_to_server=300_000, first_only=True, chunk=4096)
    world.point_to(world.port)

    assert 0 == run("c").code
    assert contents(world.near) == contents(world.far)
    assert 1 == len(contents(world.far)["large"])


@pytest.mark.parametrize("remote", ["/ssl", "/tls"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_network_falls_silent_in_tls(
    world: World, stage: Stage, remote: str, direction: str, record_property: Note
) -> None:
    """In the handshake, and behind it."""
    world.remote, world.store = remote, f"{world.store} ca {world.server.certificate}"
    points = {"to_client": [300, 4000], "to_server": [0, 900]}[direction]
    for at in points:
        heals(world, stage, **{f"stall_{direction}": at}, first_only=True)
    record_property("points", len(points))


@PLANTED
def test_timeout_that_is_not_set_is_caught(world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Stream.__init__
    monkeypatch.setattr(Stream, "__init__", lambda self, sock, timeout: begin(self, sock, 3600.0))

    with pytest.raises(AssertionError, match="Unbounded"):
        heals(world, stage, stall_to_client=0, first_only=True)
