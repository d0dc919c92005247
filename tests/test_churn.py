"""Users and delivery agents that never rest, on both sides, while one run follows the other; then they rest."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from .churn import Told, work
from .mail import within
from .scene import Scene, Side
from .servers import server
from .test_meanwhile import local_scene
from .test_two_runs import far, machine, near
from .tried import OTHERS, Points
from .users import ImapUser, User

pytestmark = OTHERS

Found = dict[str, list[Told]]  # by side: what was done, once the block is left

AT_FIRST = 40  # messages
MOST = 30  # changes of one user for each run: else slow runs have more and more to do
PAIRS = [("maildir", "maildir"), ("maildir", "mbox"), ("mh", "maildir"), ("mbox", "mh")]


@contextmanager
def in_files(format: str, root: Path, side: str, seed: int, most: int, done: Found) -> Iterator[None]:
    """Somebody at work in local mail, in a process of his own."""
    words = [sys.executable, "-m", "tests.churn", format, str(root), side, str(seed), str(most)]
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    log = root.parent / f"log-{side}"
    with (
        log.open("w") as out,
        subprocess.Popen(words, env=environ, stdin=subprocess.PIPE, stdout=out) as process,
    ):
        try:
            assert within(60, lambda: bool(log.stat().st_size))
            yield
        finally:
            try:
                process.communicate(timeout=60)  # closes its stdin
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGABRT)  # it tells where it is stuck
                raise
    assert 0 == process.returncode
    done[side] = [json.loads(line) for line in log.read_text().splitlines()]


@contextmanager
def in_thread(user: User, side: str, seed: int, most: int, done: Found) -> Iterator[None]:
    """Somebody at work in this process; in mbox and MH he would share its locks."""
    told: list[Told] = []
    faults: list[BaseException] = []
    over = threading.Event()

    def client() -> None:
        try:
            work(user, side, seed, most, told.append, over.is_set)
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


def check(scene: Scene, done: Found, record: Points) -> None:
    for side, told in done.items():
        for one in told:
            scene.note(side, one)
    for number in scene.truth.moved:  # a flag and a move that come at the same time: the flag may stay with what goes
        scene.truth.flagged.pop(number, None)
    record("points", sum(map(len, done.values())))
    assert all(done.values())
    scene.check()


def churn_in_files(base: Path, formats: tuple[str, str], seed: int, runs: int, record: Points) -> None:
    scene = local_scene(base / "home", *formats)
    begin(scene)
    done: Found = {}
    with (
        in_files(formats[0], base / "home/a", "a", seed, MOST * runs, done),
        in_files(formats[1], base / "home/b", "b", seed + 1, MOST * runs, done),
    ):
        for _ in range(runs):
            scene.run()
    check(scene, done, record)


def churn_with_servers(base: Path, names: tuple[str, str], seed: int, runs: int, record: Points) -> None:
    """A side that is no server is a Maildir."""
    done: Found = {}
    with ExitStack() as stack:
        sides = {}
        for side, name in zip("ab", names, strict=True):
            sides[side] = near(base / side) if name == "maildir" else stack.enter_context(far(name))
        scene = Scene(sides, [machine(base / "home", sides["a"], sides["b"])])
        begin(scene)
        with ExitStack() as users:
            for number, (side, there) in enumerate(sides.items()):
                if isinstance(there.user, ImapUser):
                    users.enter_context(in_thread(there.user, side, seed + number, MOST * runs, done))
                else:
                    users.enter_context(in_files("maildir", base / side, side, seed + number, MOST * runs, done))
            for _ in range(runs):
                scene.run()
        check(scene, done, record)


@contextmanager
def as_user(uid: int, home: Path) -> Iterator[None]:
    """Only the owner of mail may work in it, as on a server."""
    before = os.getcwd()
    os.chdir(home)
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)
        os.chdir(before)


def churn_in_files_of_dovecot(place: Path, seed: int, runs: int, record: Points) -> None:
    """Users come over a server to Maildirs that the run takes for local: both change the same files at once."""
    known = local_scene(place / "known", "maildir", "maildir")
    known.begin()
    known.check()  # as root: another user may not be able to read the programs that are needed
    on = server("dovecot")
    login = on.new_login()
    user = ImapUser(on, login)
    root, home = on.maildir(login), on.directory_of(login)
    assert root
    done: Found = {}
    with as_user(home.stat().st_uid, home):
        a = Side(user, f"pat {root}/% prefix {root}/ format maildir fsync no", f"{root.name}/", home)
        b = near(home / "other/b")
        scene = Scene({"a": a, "b": b}, [machine(home / "run", a, b)])
        begin(scene)
        with in_thread(user, "a", seed, MOST * runs, done), in_thread(b.user, "b", seed + 1, MOST * runs, done):
            for _ in range(runs):
                scene.run()
        check(scene, done, record)
    user.close()


SERVERS = [("maildir", "dovecot"), ("dovecot", "cyrus")]
few_or_many = pytest.mark.parametrize(
    ("seed", "runs"),
    [
        pytest.param(1, 6, id="few"),
        pytest.param(10, 2_000, id="many", marks=[pytest.mark.torture, pytest.mark.timeout(1800)]),
    ],
)


@few_or_many
@pytest.mark.parametrize("formats", PAIRS, ids="-".join)
def test_nothing_is_lost_or_doubled_beside_users_of_both_sides(
    place: Path, formats: tuple[str, str], seed: int, runs: int, record_property: Points
) -> None:
    churn_in_files(place, formats, seed, runs, record_property)


@few_or_many
@pytest.mark.parametrize("names", SERVERS, ids="-".join)
def test_nothing_is_lost_or_doubled_beside_clients_of_servers(
    place: Path, names: tuple[str, str], seed: int, runs: int, record_property: Points
) -> None:
    churn_with_servers(place, names, seed, runs, record_property)


@few_or_many
def test_nothing_is_lost_or_doubled_in_files_that_a_server_has_at_the_same_time(
    place: Path, seed: int, runs: int, record_property: Points
) -> None:
    churn_in_files_of_dovecot(place, seed, runs, record_property)
