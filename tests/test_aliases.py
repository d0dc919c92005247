"""A server that rewrites ids: its message and ours are one, although their ids differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import pytest

from mailsync.drivers.memory import Bytes, Memory, MemoryBox
from mailsync.model import Appended, Failure, Message, Side

from .world import Mail, World

ODD = "\u00fcmlaut"


@dataclass
class Rewriting(MemoryBox):
    """Replaces what is no ASCII, as some servers do."""

    by: bytes = b""

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        for message in messages:
            raw = b"".join(message.body.chunks(wire=False))
            plain = b"".join(bytes((c,)) if c < 128 else self.by for c in raw)
            yield from super().append([replace(message, body=Bytes(plain))])


@pytest.fixture(params=[b"X", b"?", b""], ids=["folded", "replaced", "dropped"])
def world(request: pytest.FixtureRequest) -> World:
    return World({Side.A: Memory(), Side.B: Memory(new_box=lambda: Rewriting(by=request.param))})


def test_second_run_plans_nothing(world: World) -> None:
    world.deliver(Side.A, "x", Mail(ODD, "one"))

    assert 2 == len(world.sync().steps)  # the mailbox, and the message
    assert [] == world.plan()
    assert [] == world.sync().steps
    assert (1, 1) == tuple(len(world.messages(side, "x")) for side in Side)


@pytest.mark.parametrize("side", Side)
def test_deletion_is_carried_through(world: World, side: Side) -> None:
    world.deliver(Side.A, "x", Mail(ODD, "one"))
    world.deliver(Side.A, "x", Mail("plain", "two"))
    world.sync()
    uid = next(iter(world.messages(side, "x")))

    world.delete(side, "x", uid)
    world.sync()

    assert (1, 1) == tuple(len(world.messages(side, "x")) for side in Side)
    assert [] == world.plan()
