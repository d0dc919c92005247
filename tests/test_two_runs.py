"""Two mailsyncs at work on the same mail: from one machine, from two with one memory on a server, from two with a
server between them. One runs from its beginning to its end in the middle of the other, at each moment of it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from mailsync.msinfo import mailbox

from .mail import configure, within
from .meanwhile import Meanwhile
from .scene import BOXES, LATE, NEW_IN_A, NEW_IN_B, Scene, Side, run_in
from .servers import server
from .tried import PLANTED, TWO, Points
from .users import ImapUser, MaildirUser


@contextmanager
def far(name: str = "dovecot") -> Iterator[Side]:
    """An account that is empty."""
    on = server(name)
    login = on.new_login()
    at = f"{{{on.host}:{on.port}/notls/user={login.user}}}"
    user = ImapUser(on, login)
    config = f'server {at} pat "{on.prefix}x" pat "{on.prefix}y" prefix "{on.prefix}" passwd {login.password}'
    try:
        yield Side(user, config, on.prefix)
    finally:
        user.close()


def near(path: Path) -> Side:
    return Side(MaildirUser(path), f"pat {path}/% prefix {path}/ format maildir fsync no", f"{path.name}/")


def machine(home: Path, a: Side, b: Side, msinfo: str = ".msinfo") -> Path:
    home.mkdir(parents=True)
    configure(home, f"store a {{ {a.config} }}\nstore b {{ {b.config} }}\nchannel c a b {{ msinfo {msinfo} }}\n")
    return home


Scenes = Callable[[Path], AbstractContextManager[Scene]]


def msinfo_on(side: Side) -> str:
    assert isinstance(side.user, ImapUser)
    on = side.user.on
    return f"{{{on.host}:{on.port}/notls/user={side.user.login.user}}}{on.prefix}state"


@contextmanager
def one_channel(base: Path) -> Iterator[Scene]:
    """A server and a directory that two machines share; and so is the memory, which is on the server."""
    with far() as a:
        b = near(base / "common/b")
        yield Scene({"a": a, "b": b}, [machine(base / name, a, b, msinfo_on(a)) for name in ("one", "two")])


@contextmanager
def two_accounts(base: Path) -> Iterator[Scene]:
    """Both stores are on servers, and are listed at the same time."""
    with far() as a, far() as b:
        yield Scene({"a": a, "b": b}, [machine(base / name, a, b, msinfo_on(a)) for name in ("one", "two")])


@contextmanager
def star(base: Path) -> Iterator[Scene]:
    """A server between two machines, each of which has mail, a channel and a memory of its own."""
    with far() as hub:
        ends = {"a": near(base / "one-mail/a"), "b": near(base / "two-mail/b")}
        homes = [machine(base / name, ends[side], hub) for name, side in (("one", "a"), ("two", "b"))]
        yield Scene({**ends, "hub": hub}, homes)


SCENES: list[Scenes] = [one_channel, star, two_accounts]
# So many steps apart are those that are tried in haste.
EVERY: Mapping[Scenes, int] = {one_channel: 4, star: 2, two_accounts: 9}


def meanwhile_elsewhere(scene: Scene, *, apart: bool) -> bool:
    """Mail comes, and is brought over; more mail comes. The run that waits may see either of them, or none.

    `apart`: in a process of its own, since the run that waits may hold what is there once for each process.
    """
    scene.deliver("b", "x", LATE)
    ran = scene.run(1, apart=apart)
    for number, (side, box) in enumerate((side, box) for side in ("a", "b") for box in BOXES):
        scene.deliver(side, box, LATE + 1 + number)
    return bool(re.search("^[1-9][0-9]* copied", ran.out, re.M))


def drop_what_is_everywhere(scene: Scene) -> None:
    """A user deletes what has just come: it must be remembered, or it comes back. Not what two runs have copied."""
    for box in BOXES:
        there = [side.user.numbers(box) for side in scene.sides.values()]
        for number in (NEW_IN_A, NEW_IN_B, *range(LATE, LATE + 5)):
            if all(numbers.count(number) == 1 for numbers in there):
                scene.drop("ab"[number % 2], box, number)


def attempt(base: Path, scenes: Scenes, at: int, *, files: bool = False) -> Meanwhile:
    """The second machine runs in the middle of a run of the first; then all is as it must be."""
    with scenes(base) as scene:
        scene.begin()
        scene.running = True
        meanwhile = Meanwhile(at, lambda: meanwhile_elsewhere(scene, apart=files))
        with meanwhile.in_files(base) if files else meanwhile.in_commands():
            scene.run(0)
        drop_what_is_everywhere(scene)
        scene.check()
    shutil.rmtree(base)
    return meanwhile


def attempts(base: Path, scenes: Scenes, every: int = 1, *, files: bool = False, begin: int = 0) -> int:
    """At how many steps the other run did something."""
    count = attempt(base, scenes, -1, files=files).passed
    done = 0
    for at in range(begin, count, every):
        try:
            tried = attempt(base, scenes, at, files=files)
        except AssertionError as err:
            raise AssertionError(f"step {at} of {count}: {err}") from err
        if tried.what and not tried.made:
            pytest.fail(f"step {at} of {count}: the other run did nothing")
        done += tried.made
    return done


@TWO
@pytest.mark.parametrize("scenes", SCENES)
def test_run_of_another_machine_before_some_commands_of_a_run(
    place: Path, scenes: Scenes, record_property: Points
) -> None:
    record_property("points", attempts(place / "base", scenes, EVERY[scenes]))


@TWO
@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenes", SCENES)
def test_run_of_another_machine_before_each_command_of_a_run(
    place: Path, scenes: Scenes, record_property: Points
) -> None:
    record_property("points", attempts(place / "base", scenes))


@TWO
@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("scenes", [one_channel, star])
def test_run_of_another_machine_before_each_step_of_a_run_in_files(
    place: Path, scenes: Scenes, record_property: Points
) -> None:
    record_property("points", attempts(place / "base", scenes, 3, files=True))


@TWO
@pytest.mark.parametrize("at", [5, 6, 7, 8])
def test_memory_that_another_run_replaces_while_it_is_fetched_is_looked_for_again(place: Path, at: int) -> None:
    """Dovecot gives an empty text in its place; that ended the run, with the advice to restore it from a backup."""
    attempt(place / "base", one_channel, at)


# ---- one machine -----------------------------------------------------------------------------------------------------


@contextmanager
def alone(base: Path) -> Iterator[Scene]:
    a, b = near(base / "mail/a"), near(base / "mail/b")
    yield Scene({"a": a, "b": b}, [machine(base / "one", a, b)])


@TWO
def test_second_run_on_one_machine_is_refused_at_each_step_of_the_first(place: Path, record_property: Points) -> None:
    refused = []
    with alone(place / "base") as scene:
        scene.begin()
        scene.running = True

        def again() -> bool:
            refused.append(run_in(scene.homes[0], "c"))
            return True

        meanwhile = Meanwhile(-1, again, every=9)
        with meanwhile.in_files(place / "base/mail"):
            scene.run()
        scene.check()

    assert {5} == {ran.code for ran in refused}
    told = f"mailsync: channel c is being synchronized by another mailsync (process {os.getpid()})"
    assert {told} == {ran.err.splitlines()[0] for ran in refused}
    record_property("points", len(refused))


@contextmanager
def held(scene: Scene) -> Iterator[subprocess.Popen[str]]:
    """A run that has the lock, and waits for a hook to end."""
    home = scene.homes[0]
    os.mkfifo(home / "fifo")
    wait = "sh -c 'echo > ready; read line < fifo'"
    text = (home / ".mailsync").read_text()
    configure(home, text.replace("{ msinfo", f'{{ pre_sync "{wait}" msinfo', 1))
    environ = {**os.environ, "HOME": str(home), "PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-m", "mailsync", "c"], cwd=home, env=environ, stderr=subprocess.PIPE, text=True
    )
    try:
        assert within(60, (home / "ready").exists)
        configure(home, text)
        yield process
    finally:
        process.kill()
        process.communicate()
        with suppress(OSError):
            os.close(os.open(home / "fifo", os.O_WRONLY | os.O_NONBLOCK))  # the hook has outlived it


@TWO
def test_lock_of_a_process_that_was_killed_is_no_obstacle(place: Path) -> None:
    with alone(place / "base") as scene:
        scene.begin()
        with held(scene) as process:
            refused = run_in(scene.homes[0], "c")
            process.kill()
            process.wait()
            ran = run_in(scene.homes[0], "c")
        scene.running = True
        scene.check()

    assert (5, 0) == (refused.code, ran.code)
    assert f"another mailsync (process {process.pid})" in refused.err


@TWO
def test_lock_that_tells_the_number_of_a_process_that_lives_is_no_obstacle(place: Path) -> None:
    """Numbers are used again: not they are the lock."""
    with alone(place / "base") as scene:
        scene.begin()
        [lock] = (scene.homes[0] / ".local/state/mailsync").glob("*.lock")
        lock.write_text(f"{os.getppid()}\n")
        scene.running = True
        scene.check()


@TWO
@pytest.mark.usefixtures("ordinary")
@pytest.mark.parametrize("what", ["directory", "file"])
def test_lock_that_cannot_be_made_ends_the_run_before_anything_is_done(place: Path, what: str) -> None:
    """The directory is read-only; or the lock belongs to another user, who once ran with the same home."""
    with alone(place / "base") as scene:
        scene.begin()
        directory = scene.homes[0] / ".local/state/mailsync"
        [lock] = directory.glob("*.lock")
        if what == "directory":
            lock.unlink()
            directory.chmod(0o500)
        else:
            lock.chmod(0)
        before = {side: each.found() for side, each in scene.sides.items()}
        ran = run_in(scene.homes[0], "c")
        after = {side: each.found() for side, each in scene.sides.items()}
        directory.chmod(0o700)
        lock.unlink(missing_ok=True)

    assert 1 == ran.code
    assert f"mailsync: cannot make the lock {lock}: Permission denied" in ran.err
    assert "XDG_STATE_HOME" in ran.err
    assert before == after


# ---- the checker is checked ------------------------------------------------------------------------------------------


def fold_keeps_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "fold", lambda ours, touched, theirs: ours)


def fold_keeps_theirs_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "fold", lambda ours, touched, theirs: theirs)


def nobody_looks_before_saving(monkeypatch: pytest.MonkeyPatch) -> None:
    """All memories that lie there are taken for the own old one."""
    replaced = mailbox.Msinfo._replaced

    def planted(self: Any, memory: Any, now: float, touched: Any) -> Any:
        self._old |= {place for place, _ in self._news(frozenset())[1]}
        return replaced(self, memory, now, touched)

    monkeypatch.setattr(mailbox.Msinfo, "_replaced", planted)


def lock_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsync.runlock.fcntl.flock", lambda fd, how: None)


@PLANTED
@pytest.mark.parametrize("bug", [fold_keeps_ours_alone, fold_keeps_theirs_alone, nobody_looks_before_saving])
def test_these_attempts_catch(
    place: Path, monkeypatch: pytest.MonkeyPatch, bug: Callable[[pytest.MonkeyPatch], None]
) -> None:
    bug(monkeypatch)

    with pytest.raises(AssertionError):
        attempts(place / "base", one_channel, begin=7)


@PLANTED
def test_run_that_does_not_look_at_the_lock_is_caught(
    place: Path, monkeypatch: pytest.MonkeyPatch, record_property: Points
) -> None:
    lock_is_not_looked_at(monkeypatch)

    with pytest.raises(AssertionError):
        test_second_run_on_one_machine_is_refused_at_each_step_of_the_first(place, record_property)
