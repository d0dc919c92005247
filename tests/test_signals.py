"""A signal at any moment: what was done is remembered, nothing is left behind, and the next run goes on.

At each call that changes a file and at any other step of the program, as a profiler sees them; at each command that a
server gets; on a terminal; with stdout and stderr gone.
"""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from mailsync import channel, cli
from mailsync.model import Boxname

from . import scenario
from .mail import Mail, Ran, configure, digests, forget_cache, local, maildir, message, put, read_home, run
from .scenario import on_server
from .servers import server
from .servers.proxy import Link, Proxy
from .tried import PLANTED, SIGNALS

FORMATS = ("maildir", "mbox", "mh")
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
STOPPED = "mailsync: stopped; what was done until then is remembered"
BUGS = ("Traceback", "Exception ignored", "bug in mailsync")
# Calls into the system, and the database, that change something or tell another program something.
CALLS = frozenset(
    "write pwrite rename replace link unlink remove mkdir rmdir fsync open ftruncate lockf flock execute executemany "
    "commit close utime fchmod send".split()
)
CONFIG = "store md {{ pat md/* prefix md/ }}\nstore o {{ pat o/* prefix o/ format {} }}\nchannel c md o {{ msinfo .m }}\n"


# ---- a run in a process of its own, which begins with all that is imported here ---------------------------------------


class Moment(NamedTuple):
    """The nth event that the profiler tells of, once the channel is locked."""

    number: int
    call: bool  # of those that begin or end one of CALLS


@dataclass
class Counter:
    """What a profiler calls. `signums`: what is sent at that moment, and after every hundred events more."""

    moment: Moment
    signums: list[int] = field(default_factory=list)
    count: int = 0
    sent: int = 0
    at: str = ""  # the stack when the last one was sent

    def __call__(self, frame: FrameType, event: str, what: object) -> None:
        name = getattr(what, "__name__", "") if event in ("c_call", "c_return") else ""
        if not self.count and name != "flock":
            return
        self.count += not self.moment.call or name in CALLS or bool(self.sent)
        if self.sent < len(self.signums) and self.count == self.moment.number + 100 * self.sent:
            self.at = "".join(traceback.format_stack(frame, limit=12))
            self.sent += 1
            os.kill(os.getpid(), self.signums[self.sent - 1])


class Stopped(NamedTuple):
    ran: Ran
    at: str  # the stack


def forked(home: Path, act: Callable[[], int]) -> Ran:
    """What `act` comes to in a child, which has that home."""
    pid = os.fork()
    if not pid:
        code = 99
        try:
            os.environ["HOME"] = str(home)
            os.chdir(home)
            for fd, name in ((1, "out"), (2, "err")):
                os.dup2(os.open(home.parent / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), fd)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            code = act()
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return Ran(code, *((home.parent / name).read_text(errors="replace") for name in ("out", "err")))


def profiled(home: Path, counter: Counter) -> Ran:
    """`mailsync c`; what the counter has seen is left in a file."""

    def act() -> int:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as __main__ does
        sys.setprofile(counter)
        try:
            return cli.main(["c"])
        finally:
            sys.setprofile(None)
            (home.parent / "seen").write_text(f"{counter.count}\n{counter.at}")

    return forked(home, act)


def counted(home: Path, call: bool) -> int:
    """How many moments a run has that is not disturbed."""
    assert 0 == profiled(home, Counter(Moment(0, call))).code
    return int((home.parent / "seen").read_text())


def signalled(home: Path, moment: Moment, *signums: int) -> Stopped:
    """Is sent the first signal at that moment, and the next one a hundred events later."""
    (home.parent / "seen").write_text("it was ended")
    ran = profiled(home, Counter(moment, list(signums)))
    return Stopped(ran, (home.parent / "seen").read_text())


# ---- the law ---------------------------------------------------------------------------------------------------------


class Scene:
    """Two stores that were equal, and were changed on both sides; and what a run makes of them."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
        self.directory, self.form, self._patch = directory, form, monkeypatch
        self.begin, self.now = directory / "begin", directory / "now"
        self.begin.mkdir(parents=True)
        self.enter(self.begin)
        configure(self.begin, CONFIG.format(form))
        for name in ("one", "two", "deep/three"):
            maildir(self.begin / "md" / name, *(message(f"{name}-{n}") for n in range(4)))
        assert 0 == run("c").code
        other = local(self.begin, "o/*", format=form)
        put(other, "o/two", [Mail(message(f"new-{n}")) for n in range(3)])
        put(other, "o/four", [Mail(message(f"four-{n}")) for n in range(3)])
        maildir(self.begin / "md/one", *(message(f"one-{n}") for n in range(7)))
        maildir(self.begin / "md/five", message("five"))
        for file in list((self.begin / "md/two/cur").iterdir())[:2]:
            file.unlink()
        self.again()
        self.files = self.names()
        assert 0 == run("c").code
        self.wanted, self.files = self.held(), self.files | self.names()

    def enter(self, home: Path) -> None:
        self._patch.setenv("HOME", str(home))
        self._patch.chdir(home)

    def again(self) -> Path:
        """Another run may begin where the first one did."""
        shutil.rmtree(self.now, ignore_errors=True)
        shutil.copytree(self.begin, self.now)
        self.enter(self.now)
        return self.now

    def held(self) -> object:
        return digests(self.now, "md/*"), digests(self.now, "o/*", format=self.form)

    def names(self) -> set[str]:
        """All that is in the home, but for names that are new each time."""
        found = set()
        for path in self.now.rglob("*"):
            name = str(path.relative_to(self.now))
            own = name.startswith((".cache", ".local")) and re.search(r"/deleted/|\.(lock|json|sqlite)$", name)
            found.add("" if own else re.sub(r"/(cur|new)/.*", r"/\1/", name))
        return found

    def remembers_what_was_done(self) -> None:
        """All that is in both stores now was in both before, or is in msinfo."""
        memory = (self.now / ".m").read_text()
        here, there = read_home(self.now, "md/*"), read_home(self.now, "o/*", format=self.form)
        for name, box in here.items():
            ids = {one.id for one in box} & {one.id for one in there.get("o" + name.removeprefix("md"), ())}
            assert not [id for id in ids if str(id) not in memory], name

    def heals(self) -> None:
        """The next run makes what an undisturbed one would have made, and one more has nothing to do."""
        ran = run("c")
        assert (0, self.wanted) == (ran.code, self.held()), ran
        assert not self.names() - self.files
        forget_cache(self.now)
        assert [] == run("-s", "--json", "c").steps


def check(scene: Scene, stopped: Stopped, *signums: int) -> None:
    """However far it came."""
    code, out, err = stopped.ran.code, stopped.ran.out, stopped.ran.err
    assert not [bug for bug in BUGS if bug in out + err], (out, err, stopped.at)
    assert code in {0, *(128 + signum for signum in signums), *(-signum for signum in signums)}, (code, err, stopped.at)
    if len(signums) == 1:
        assert ([STOPPED] if code > 0 else []) == [line for line in err.splitlines() if "stopped" in line], stopped.at
        assert not scene.names() - scene.files, stopped.at
        scene.remembers_what_was_done()
    if code == 0:  # it came when all was done
        assert scene.wanted == scene.held()
    scene.heals()


@pytest.fixture
def scene(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(home.parent / "scene", monkeypatch, request.param)


def moments(scene: Scene, count: int, call: bool, seed: int) -> list[Moment]:
    total = counted(scene.again(), call)
    numbers = random.Random(seed).sample(range(1, total), min(count, total - 1))
    return [Moment(number, call) for number in sorted(numbers)]


def each_moment(scene: Scene, count: int, call: bool, seed: int) -> int:
    found = moments(scene, count, call, seed)
    for number, moment in enumerate(found):
        signum = ENDS[number % len(ENDS)]
        check(scene, signalled(scene.again(), moment, signum), signum)
    return len(found)


@SIGNALS
@pytest.mark.parametrize("scene", FORMATS, indirect=True)
@pytest.mark.parametrize("call", [True, False], ids=["call", "any step"])
def test_signal_loses_nothing(scene: Scene, call: bool, record_property: Callable[[str, object], None]) -> None:
    record_property("points", each_moment(scene, 8, call, seed=1))


@SIGNALS
@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", FORMATS, indirect=True)
@pytest.mark.parametrize("call", [True, False], ids=["call", "any step"])
def test_signal_loses_nothing_anywhere(
    scene: Scene, call: bool, record_property: Callable[[str, object], None]
) -> None:
    record_property("points", each_moment(scene, 200, call, seed=2))


@SIGNALS
@pytest.mark.parametrize("scene", ["mbox"], indirect=True)
def test_second_signal_is_as_safe_as_the_first(scene: Scene, record_property: Callable[[str, object], None]) -> None:
    """It does not wait, but what is half done heals."""
    found = moments(scene, 10, call=False, seed=3)
    for moment in found:
        check(scene, signalled(scene.again(), moment, signal.SIGINT, signal.SIGTERM), signal.SIGINT, signal.SIGTERM)
    record_property("points", len(found))


@SIGNALS
@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", FORMATS, indirect=True)
def test_second_signal_is_as_safe_as_the_first_anywhere(
    scene: Scene, record_property: Callable[[str, object], None]
) -> None:
    found = moments(scene, 150, call=False, seed=4)
    for moment in found:
        check(scene, signalled(scene.again(), moment, signal.SIGINT, signal.SIGTERM), signal.SIGINT, signal.SIGTERM)
    record_property("points", len(found))
