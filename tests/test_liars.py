"""Servers that lie, each in a whole run: nothing is lost by it, little memory and time is taken, and it is told.

What a server may always say is that a message is gone: no client can tell that from a deletion. But nothing that it
says wrongly, or against its own words, may ever become one.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from .liars import Lie, scene
from .lies import ANSWERED, COMMANDS, FLOODED, FLOODS, SPECIAL
from .tried import LIES

pytestmark = LIES
# Half of the floods, each after another command; the rest is torture.
FEW = [FLOODED[n % len(COMMANDS) * len(FLOODS) + at] for n, at in enumerate(range(0, len(FLOODS), 2))]
SOME = ANSWERED[::8]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsync.drivers.imap.reach.WAITS", (0.0,) * 4)


def each(lies: Sequence[Lie]) -> pytest.MarkDecorator:
    assert len(lies) == len({lie.name for lie in lies})
    return pytest.mark.parametrize("lie", lies, ids=str)


def check(home: Path, lie: Lie, *, apart: bool) -> None:
    with scene(home, lie) as stage:
        stage.check(lie, apart=apart)


@each(SPECIAL)
def test_lie(home: Path, lie: Lie) -> None:
    check(home, lie, apart=False)


@each(SOME)
def test_answer(home: Path, lie: Lie) -> None:
    check(home, lie, apart=False)


@each(FEW)
def test_flood(home: Path, lie: Lie) -> None:
    check(home, lie, apart=True)


@pytest.mark.torture
@each([lie for lie in SPECIAL if lie.heavy])
def test_lie_is_measured(home: Path, lie: Lie) -> None:
    check(home, lie, apart=True)


@pytest.mark.torture
@each([lie for lie in ANSWERED if lie not in SOME])
def test_any_answer_to_any_command(home: Path, lie: Lie) -> None:
    check(home, lie, apart=False)


@pytest.mark.torture
@each([lie for lie in FLOODED if lie not in FEW])
def test_any_flood_after_any_command(home: Path, lie: Lie) -> None:
    check(home, lie, apart=True)
