"""Users and delivery agents that never rest, on both sides, while one run follows the other; then they rest."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .churn import Told, work
from .mail import within
from .scene import Scene
from .test_meanwhile import local_scene
from .tried import OTHERS
from .users import ImapUser

pytestmark = OTHERS

Record = Callable[[str, object], None]
Found = dict[str, list[Told]]  # by side: what was done, once the block is left

AT_FIRST = 40  # messages
MOST = 20_000  # changes of one user, who is stopped long before
PAIRS = [("maildir", "maildir"), ("maildir", "mbox"), ("mh", "maildir"), ("mbox", "mh")]


@contextmanager
def in_files(format: str, root: Path, side: str, seed: int, done: Found, user: int | None = None) -> Iterator[None]:
    """Somebody at work in local mail, in a process of his own."""
    words = [sys.executable, "-m", "tests.churn", format, str(root), side, str(seed), str(MOST)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    log = root.parent / f"log-{side}"
    with (
        log.open("w") as out,
        subprocess.Popen(words, env=environ, stdin=subprocess.PIPE, stdout=out, user=user, group=user) as process,
    ):
        try:
            assert within(60, lambda: bool(log.stat().st_size))
            yield
        finally:
            process.communicate(timeout=100)  # closes its stdin
    assert 0 == process.returncode
    done[side] = [json.loads(line) for line in log.read_text().splitlines()]


@contextmanager
def on_server(user: ImapUser, side: str, seed: int, done: Found) -> Iterator[None]:
    """Somebody at work with a client of his own."""
    told: list[Told] = []
    faults: list[BaseException] = []
    over = threading.Event()

    def client() -> None:
        try:
            work(user, side, seed, MOST, told.append, over.is_set)
        except BaseException as err:
            faults.append(err)

    thread = threading.Thread(target=client)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    assert [] == faults
    done[side] = told


def begin(scene: Scene) -> None:
    for side in scene.sides.values():
        side.user.make("x")
        side.user.make("y")
    for number in range(1, AT_FIRST + 1):
        scene.deliver("ab"[number % 2], "xy"[number // 2 % 2], number)
    scene.settle()
    scene.running = True


def check(scene: Scene, done: Found, record: Record) -> None:
    for side, told in done.items():
        for one in told:
            scene.note(side, one)
    for number in scene.truth.moved:  # a flag and a move that come at the same time: the flag may stay with what goes
        scene.truth.flagged.pop(number, None)
    record("points", sum(map(len, done.values())))
    assert all(done.values())
    scene.check()


def churn_in_files(base: Path, formats: tuple[str, str], seed: int, runs: int, record: Record) -> None:
    scene = local_scene(base / "home", *formats)
    begin(scene)
    done: Found = {}
    with (
        in_files(formats[0], base / "home/a", "a", seed, done),
        in_files(formats[1], base / "home/b", "b", seed + 1, done),
    ):
        for _ in range(runs):
            scene.run()
    check(scene, done, record)


@pytest.mark.parametrize("formats", PAIRS, ids="-".join)
def test_nothing_is_lost_or_doubled_beside_users_of_both_sides(
    home: Path, formats: tuple[str, str], record_property: Record
) -> None:
    churn_in_files(home, formats, 1, 6, record_property)


@pytest.mark.torture
@pytest.mark.parametrize("seed", range(10, 13))
@pytest.mark.parametrize("formats", PAIRS, ids="-".join)
def test_nothing_is_lost_or_doubled_in_many_runs_beside_users(
    home: Path, formats: tuple[str, str], seed: int, record_property: Record
) -> None:
    churn_in_files(home, formats, seed, 60, record_property)
