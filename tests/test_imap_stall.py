"""A network that falls silent while the connection stays open: no wait is longer than the store's `timeout`, the error
says so, and the next run heals.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from mailsync import stopping
from mailsync.drivers.imap.stream import Stream

from .mail import Ran, message, run
from .servers import server
from .servers.proxy import Proxy
from .stage import AWAY, Stage, World, add, build, change_little, hurry, plant_little
from .tried import NETWORK, PLANTED, Points

pytestmark = NETWORK

TIMEOUT = 1  # seconds
SILENT = f"(nothing came|no answer) for {TIMEOUT} second"
LARGE = (b"x" * 71 + b"\n") * 230_000  # more than all buffers on the way hold
DIRECTIONS = ("to_client", "to_server")


class Unbounded(Exception):
    """A wait that is longer than it may be; raised instead of waiting."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("stage"), server("dovecot"), plant_little, change_little)


class Impatient(World):
    """While the network may fall silent, no wait for anything may be longer than the timeout."""

    def through(self, **fault: Any) -> tuple[Ran, Proxy]:
        poll = stopping.poll

        def bounded(sock: socket.socket, events: int, seconds: float) -> int:
            if seconds > TIMEOUT:
                raise Unbounded(seconds)
            return poll(sock, events, seconds)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(stopping, "poll", bounded)
            return super().through(**fault)


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    dovecot = server("dovecot")
    return hurry(monkeypatch, Impatient(home, dovecot, dovecot.new_login(), timeout=TIMEOUT))


def heals(world: World, stage: Stage, fault: Mapping[str, Any]) -> None:
    """On a busy machine a connection without faults may be too slow for that timeout, too."""
    world.heals(stage, fault, codes=(0, 1, AWAY), words=SILENT)


def places(stage: Stage, direction: str, many: int) -> list[int]:
    """In the greeting, in the login, some on the way, in what is said last."""
    size = stage.bytes(direction)
    end = {"to_client": 120, "to_server": 6}[direction]  # a server tells how long it took: sessions differ by that
    return [0, 30, *(size * n // (many + 1) for n in range(1, many + 1)), size - end]


@pytest.mark.parametrize("many", [1, pytest.param(20, marks=(pytest.mark.torture, pytest.mark.timeout(300)))])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_network_falls_silent(world: World, stage: Stage, direction: str, many: int, record_property: Points) -> None:
    points = places(stage, direction, many)
    for at in points:
        heals(world, stage, {f"stall_{direction}": at, "first_only": True})
    record_property("points", len(points))


@pytest.mark.parametrize(("direction", "place"), [("to_client", 0.5), ("to_server", 0.7)])
def test_network_falls_silent_again_and_again(world: World, stage: Stage, direction: str, place: float) -> None:
    """The run ends all the same."""
    heals(world, stage, {f"stall_{direction}": int(stage.bytes(direction) * place)})


def test_network_falls_silent_while_a_large_message_is_sent(world: World, stage: Stage) -> None:
    """The way out is full: then it is sending that waits."""
    world.begin_anew(stage)
    add(world.near / "large", "l", [message("large", LARGE)])
    ran, proxy = world.through(stall_to_server=300_000, first_only=True, chunk=4096)
    assert proxy.met
    assert not ran.code or re.search(SILENT, ran.err), ran
    world.point_to(world.port)

    assert 0 == run("c").code
    here, there = world.contents()
    assert here == there
    assert 1 == len(there["large"])


@pytest.mark.parametrize("remote", ["/ssl", "/tls"])
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_network_falls_silent_in_tls(
    world: World, stage: Stage, remote: str, direction: str, record_property: Points
) -> None:
    """In the handshake, and behind it."""
    world.remote, world.store = remote, f"ca {world.server.certificate}"
    points = {"to_client": [300, 4000], "to_server": [0, 900]}[direction]
    for at in points:
        heals(world, stage, {f"stall_{direction}": at, "first_only": True})
    record_property("points", len(points))


@PLANTED
def test_timeout_that_is_not_set_is_caught(world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    begin = Stream.__init__
    monkeypatch.setattr(Stream, "__init__", lambda self, sock, timeout: begin(self, sock, 3600.0))

    with pytest.raises(AssertionError, match="Unbounded"):
        heals(world, stage, {"stall_to_client": 0, "first_only": True})
