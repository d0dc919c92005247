"""The laws on real mailboxes: pairs of formats, msinfo as a file."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from mailsync.drivers.local import LocalStore
from mailsync.model import Holds, Side

from .test_laws import Laws
from .world import World

PAIRS = [("maildir", "mbox"), ("mbox", "mh"), ("mh", "maildir"), ("maildir", "maildir"), ("mbox", "mbox")]


@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_laws_on(a: str, b: str) -> None:
    check_laws(a, b, max_examples=25)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("a", "b"), PAIRS)
def test_laws_in_many_histories_on(a: str, b: str) -> None:
    check_laws(a, b, max_examples=1000)


def check_laws(a: str, b: str, max_examples: int) -> None:
    formats = {Side.A: a, Side.B: b}

    class RealLaws(Laws):
        def make(self, holds: Holds) -> World:
            home = Path(self.dir) / "home"
            home.mkdir()
            prefix = {side: f"{side.value}/" for side in Side}
            stores = {
                side: LocalStore(
                    str(home), patterns=(f"{side.value}/*",), format=formats[side], fsync=False, environ=os.environ
                )
                for side in Side
            }
            msinfo = LocalStore(str(home), patterns=("msinfo",), format="mbox", fsync=False, environ=os.environ)
            return World({**stores}, msinfo, self.dir / "cache.sqlite", prefix=prefix)

    histories = settings(max_examples=max_examples, stateful_step_count=20, deadline=None)
    run_state_machine_as_test(RealLaws, settings=histories)
