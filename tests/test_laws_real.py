"""The laws on real mailboxes: pairs of formats, msinfo as a file, what is deleted kept in Maildirs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from mailsync.drivers.local import LocalStore
from mailsync.kept import Kept
from mailsync.model import Holds, Side

from .test_laws import Laws
from .test_laws_wide import WideLaws
from .world import Mail, World

PAIRS = [("maildir", "mbox"), ("mbox", "mh"), ("mh", "maildir"), ("maildir", "maildir"), ("mbox", "mbox")]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_laws_on(a: str, b: str) -> None:
    check_laws(a, b, max_examples=25)


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_wide_laws_on(a: str, b: str) -> None:
    check_wide_laws(a, b, max_examples=12)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_laws_in_many_histories_on(a: str, b: str) -> None:
    check_laws(a, b, max_examples=1000)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_wide_laws_in_many_histories_on(a: str, b: str) -> None:
    check_wide_laws(a, b, max_examples=1000)


@pytest.mark.parametrize("b", ["maildir", "mh", "mbox"])
def test_message_stays_deleted_though_a_twin_by_header_and_length_has_come(b: str, tmp_path: Path) -> None:
    """Did its uid change with that, the cache would take it for another message, and new."""
    world = real_world(tmp_path, {Side.A: "mbox", Side.B: b})
    world.deliver(Side.A, "x", Mail("m1", "one"))
    world.sync()
    world.deliver(Side.B, "x", Mail("m1", "two"))
    world.sync()
    [deleted, _] = world.messages(Side.B, "x")
    world.delete(Side.B, "x", deleted)

    world.sync()

    for side in Side:
        assert [Mail("m1", "two").digest] == [digest for digest, _ in world.messages(side, "x").values()]


def check_laws(a: str, b: str, max_examples: int) -> None:
    class RealLaws(Laws):
        steady = "mbox" not in (a, b)

        def make(self, holds: Holds) -> World:
            return real_world(self.dir, {Side.A: a, Side.B: b})

    run_state_machine_as_test(RealLaws, settings=histories(max_examples))


def check_wide_laws(a: str, b: str, max_examples: int) -> None:
    class RealWideLaws(WideLaws):
        steady = "mbox" not in (a, b)

        def make(self, holds: Holds) -> World:
            world = real_world(self.dir, {Side.A: a, Side.B: b})
            world.kept = Kept(self.dir / "kept")
            return world

    run_state_machine_as_test(RealWideLaws, settings=histories(max_examples))


def histories(max_examples: int) -> settings:
    return settings(max_examples=max_examples, stateful_step_count=20, deadline=None, derandomize=max_examples < 100)


def real_world(directory: Path, formats: Mapping[Side, str]) -> World:
    home = directory / "home"
    home.mkdir()
    stores = {side: store(home, f"{side.value}/*", formats[side]) for side in Side}
    prefix = {side: f"{side.value}/" for side in Side}
    return World({**stores}, store(home, "msinfo", "mbox"), directory / "cache.sqlite", prefix=prefix)


def store(home: Path, pattern: str, format: str) -> LocalStore:
    return LocalStore(str(home), patterns=(pattern,), format=format, fsync=False, environ=os.environ)
