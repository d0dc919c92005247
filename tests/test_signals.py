"""A signal at any moment: what was done is remembered, nothing is left behind, and the next run goes on.

At each call that changes a file and at any other step of the program, as a profiler sees them; at each command that a
server gets; on a terminal; with stdout and stderr gone.
"""

from __future__ import annotations

import fcntl
import io
import itertools
import os
import random
import re
import shutil
import signal
import struct
import subprocess
import sys
import termios
import threading
import traceback
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, count
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

import pytest

from mailsync import channel, cli, stopping
from mailsync.drivers import delivery
from mailsync.model import Boxname, MessageId
from mailsync.out import Out
from mailsync.plan import Done, Failed
from mailsync.report.classic import Classic

from . import scenario
from .mail import (
    BUGS,
    STOPPED,
    Mail,
    Ran,
    configure,
    digest,
    digests,
    forget_cache,
    local,
    maildir,
    message,
    put,
    read_home,
    run,
    within,
)
from .scenario import on_server
from .servers import server
from .servers.fake import EVERYTHING, Do, FakeServer, Trap
from .servers.proxy import Link, Proxy
from .tried import PLANTED, SIGNALS, Points

FORMATS = ("maildir", "mbox", "mh")
ENDS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Calls into the system, and the database, that change something or tell another program something.
CALLS = {"write", "pwrite", "rename", "replace", "link", "unlink", "remove", "mkdir", "rmdir", "fsync", "open", "utime"}
CALLS |= {"ftruncate", "fchmod", "lockf", "flock", "close", "execute", "executemany", "commit", "send"}
CONFIG = """\
store md {{ pat md/* prefix md/ fsync no }}
store o {{ pat o/* prefix o/ format {} fsync no }}
channel c md o {{ msinfo .m }}
"""


# ---- a run in a process of its own, which begins with all that is imported here --------------------------------------


class Moment(NamedTuple):
    """The nth event that the profiler tells of, once the channel is locked."""

    number: int
    call: bool  # of those that begin or end one of CALLS


@dataclass
class Counter:
    """What a profiler calls. `signums`: what is sent at that moment, and after every hundred events more."""

    moment: Moment
    stack: Path  # where it was when the last one was sent
    signums: list[int] = field(default_factory=list)
    count: int = 0
    sent: int = 0

    def __call__(self, frame: FrameType, event: str, what: object) -> None:
        name = getattr(what, "__name__", "") if event in ("c_call", "c_return") else ""
        if not self.count and name != "flock":
            return
        self.count += not self.moment.call or name in CALLS or bool(self.sent)
        if self.sent < len(self.signums) and self.count == self.moment.number + 100 * self.sent:
            self.stack.write_text("".join(traceback.format_stack(frame)))
            self.sent += 1
            os.kill(os.getpid(), self.signums[self.sent - 1])


class Stopped(NamedTuple):
    ran: Ran
    at: str  # the stack when the signal came

    def codes(self, *signums: int) -> set[int]:
        """How it may end: from the moment that signals are handled, by no other way than that."""
        stopped = {128 + signum for signum in signums}
        if re.search(r'command\.py", line \d+, in run$', self.at, re.M):
            return stopped
        return {0} | stopped | ({-signum for signum in signums} if "in _carried_out\n" not in self.at else set())


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
    """`mailsync c`; how much the counter has seen is left in a file."""

    def act() -> int:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # as __main__ does
        sys.setprofile(counter)
        try:
            return cli.main(["c"])
        finally:
            sys.setprofile(None)
            (home.parent / "count").write_text(f"{counter.count}")

    return forked(home, act)


def counted(home: Path, call: bool) -> int:
    """How many moments a run has that is not disturbed."""
    assert 0 == profiled(home, Counter(Moment(0, call), home.parent / "stack")).code
    return int((home.parent / "count").read_text())


def signalled(home: Path, moment: Moment, *signums: int) -> Stopped:
    """Is sent the first signal at that moment, and the next one a hundred events later."""
    stack = home.parent / "stack"
    stack.write_text("it had ended\n")
    return Stopped(profiled(home, Counter(moment, stack, list(signums))), stack.read_text())


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
    assert code in stopped.codes(*signums), (code, err, stopped.at)
    assert not scene.names() - scene.files, stopped.at
    if len(signums) == 1:
        assert ([f"mailsync: {STOPPED}"] if code > 0 else []) == [
            line for line in err.splitlines() if "stopped" in line
        ], stopped.at
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
def test_signal_loses_nothing(scene: Scene, call: bool, record_property: Points) -> None:
    record_property("points", each_moment(scene, 8, call, seed=1))


@SIGNALS
@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", FORMATS, indirect=True)
@pytest.mark.parametrize("call", [True, False], ids=["call", "any step"])
def test_signal_loses_nothing_anywhere(scene: Scene, call: bool, record_property: Points) -> None:
    record_property("points", each_moment(scene, 150, call, seed=2))


@SIGNALS
@pytest.mark.parametrize("scene", ["mbox"], indirect=True)
def test_second_signal_is_as_safe_as_the_first(scene: Scene, record_property: Points) -> None:
    """It ends what the first one waits for, and leaves nothing half done: raised between any two lines, it did."""
    found = moments(scene, 10, call=False, seed=3)
    for moment in found:
        check(scene, signalled(scene.again(), moment, signal.SIGINT, signal.SIGTERM), signal.SIGINT, signal.SIGTERM)
    record_property("points", len(found))


@SIGNALS
@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scene", FORMATS, indirect=True)
def test_second_signal_is_as_safe_as_the_first_anywhere(scene: Scene, record_property: Points) -> None:
    found = moments(scene, 100, call=False, seed=4)
    for moment in found:
        check(scene, signalled(scene.again(), moment, signal.SIGINT, signal.SIGTERM), signal.SIGINT, signal.SIGTERM)
    record_property("points", len(found))


# ---- before and after a run ------------------------------------------------------------------------------------------

STARTING = """\
import atexit, os, runpy, signal, sys, traceback
number, signum, stack, count = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], 0
def each(frame, event, what):
    global count
    count += 1
    if count == number:
        sys.setprofile(None)
        with open(stack, "w") as file:
            traceback.print_stack(frame, file=file)
        os.kill(os.getpid(), signum)
def main_begins(event, args):
    if event == "import" and args[0] == "mailsync.cli" and sys.getprofile() is None and not count:
        sys.setprofile(each)
sys.addaudithook(main_begins)
if not number:
    atexit.register(lambda: open(stack, "w").write(str(count)))
sys.argv = ["mailsync", "c"]
runpy.run_module("mailsync", run_name="__main__", alter_sys=True)
"""


def starting(home: Path, number: int, signum: int) -> Stopped:
    """As a user starts it, from the first of its imports to the end of Python itself; 0: `at` tells their number."""
    stack = home.parent / "stack"
    stack.write_text("it had ended\n")
    words = [sys.executable, "-c", STARTING, str(number), str(signum), str(stack)]
    done = subprocess.run(words, cwd=home, capture_output=True, text=True, timeout=60)
    return Stopped(Ran(done.returncode, done.stdout, done.stderr), stack.read_text())


@SIGNALS
@pytest.mark.parametrize("scene", ["mbox"], indirect=True)
def test_signal_while_it_starts_or_ends_shows_no_traceback(scene: Scene, record_property: Points) -> None:
    """A second of Ctrl-C is soon pressed. Most events are imports, and the parser of the configuration."""
    total = int(starting(scene.again(), 0, 0).at)
    codes = []
    for n, number in enumerate([1, 10, 1000, 10_000, total // 4, total // 2, total - 2000, total - 10]):
        signum = ENDS[n % len(ENDS)]
        stopped = starting(scene.again(), number, signum)
        check(scene, stopped, signum)
        codes.append(stopped.ran.code)
    assert [-2, -15, -1, -2] == codes[:4]
    assert [128 + 15, 128 + 1] == codes[4:6]
    record_property("points", len(codes))


# ---- streams that are gone -------------------------------------------------------------------------------------------


@SIGNALS
@pytest.mark.parametrize("scene", ["mbox"], indirect=True)
@pytest.mark.parametrize(
    ("shell", "code"),
    [
        ("{} c | head -1; exit ${{PIPESTATUS[0]}}", 0),
        ("{} -m c | true; exit ${{PIPESTATUS[0]}}", 0),
        ("{} --json c | head -c 10; exit ${{PIPESTATUS[0]}}", 0),
        ("{} c >&-", 0),
        ("{} c 2>&-", 0),
        ("{} c >&- 2>&- <&-", 0),
        ("{} -d c 2>&1 >/dev/null | head -1; exit ${{PIPESTATUS[0]}}", 0),
        ("{} c > /dev/full", 1),
        ("{} -d c 2> /dev/full", 0),
        ("{} c > /dev/full 2>&1", 1),
    ],
)
def test_run_goes_on_when_nobody_listens(scene: Scene, shell: str, code: int) -> None:
    scene.again()
    done = subprocess.run(
        ["bash", "-c", shell.format(f"{sys.executable} -m mailsync")], capture_output=True, text=True, timeout=60
    )

    assert code == done.returncode, done.stderr
    assert not [bug for bug in (*BUGS, "Broken pipe") if bug in done.stderr], done.stderr
    assert scene.wanted == scene.held()
    scene.heals()


@SIGNALS
def test_what_is_told_after_a_signal_is_told() -> None:
    """With -d the run ended where it told of one of several messages that were stored together."""
    stop, stream = stopping.Stop(), io.StringIO()
    with stopping.stopped_by(stop):
        stop.now(signal.SIGTERM)
        Out(stream).line("copied")
        with pytest.raises(stopping.Stopped):
            stopping.check()
    stop.close()

    assert "copied\n" == stream.getvalue()


@SIGNALS
def test_run_that_tells_each_step_remembers_what_was_stored_together(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal comes with the second of four; what writes to the terminal then is no place to stop."""
    configure(home, CONFIG.format("maildir"))
    maildir(home / "md/one", *(message(f"m{n}") for n in range(12)))
    steps, step = itertools.count(1), Classic.step

    def signalled_at_the_second(self: Classic, boxname: Boxname, outcome: Done | Failed) -> None:
        if next(steps) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        step(self, boxname, outcome)

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "BATCH", 4)
        patch.setattr(Classic, "step", signalled_at_the_second)
        ran = run("-d", "c")
    copied = len(digests(home, "o/one", format="maildir")["o/one"])

    assert 143 == ran.code
    assert 4 == copied == (home / ".m").read_bytes().count(b"\n<")


@SIGNALS
def test_second_signal_ends_what_nobody_reads() -> None:
    """The first one does not: what was done must be told and remembered. After that nothing waits for it again."""
    came = threading.Event()
    pipe, end = os.pipe()
    room = fcntl.fcntl(end, fcntl.F_GETPIPE_SZ)
    stop = stopping.Stop()

    def handler(signum: int, frame: FrameType | None) -> None:
        came.set()
        stop.interrupt(signum, frame)

    def signal_twice() -> None:
        assert within(60, lambda: struct.pack("i", room) == fcntl.ioctl(pipe, termios.FIONREAD, b"\0" * 4))
        os.kill(os.getpid(), signal.SIGUSR1)
        assert came.wait(60)
        os.kill(os.getpid(), signal.SIGUSR2)

    signalling = threading.Thread(target=signal_twice)
    with open(end, "w") as stream, stopping.stopped_by(stop):
        out = Out(stream)
        with stopping.signals(handler, signal.SIGUSR1, signal.SIGUSR2):
            signalling.start()
            with pytest.raises(stopping.Stopped) as caught:
                out.write("x" * 2 * room)
            signalling.join()
        assert 128 + signal.SIGUSR2 == caught.value.code
        out.write("x" * 2 * room)
    os.close(pipe)
    stop.close()


# ---- commands of a server --------------------------------------------------------------------------------------------


class Signalling(Proxy):
    """Ends the process of `victim` with a signal when the nth command has come, before it is passed on."""

    def __init__(self, port: int, nth: int, signum: int) -> None:
        super().__init__(port)
        self.nth, self.signum, self.victim = nth, signum, 0
        self.reached = threading.Event()

    def _command(self, link: Link, text: bytes) -> bool:
        cut = super()._command(link, text)
        if len(self.tally.log) == self.nth:
            self.reached.set()
            os.kill(self.victim, self.signum)
        return cut


NAMES = {"one": {f"a{n}" for n in range(3)}, "two": {f"b{n}" for n in range(3)}}


def there(stores: scenario.Stores, name: str) -> dict[str, set[str]]:
    """The names of the messages of each mailbox, each of which is there once."""
    known = {digest(message(one)): one for one in chain(*NAMES.values())}
    with stores.opened(name) as store:
        found = scenario.contents(store)
    assert all(count == 1 for box in found.values() for count in box.values()), found
    return {name: {known[exact] for exact, _ in found.get(Boxname(name), ())} for name in NAMES}


def at_server(home: Path, nth: int, signum: int) -> int | None:
    """One point: the exit code; None if the run ended before its nth command."""
    place = on_server("dovecot")
    stores = scenario.channels(home, {"a": scenario.on_machine("maildir", "a"), "b": place}, ["ab"])
    text = (home / ".mailsync").read_text()
    for side, boxname in (("a", "one"), ("b", "two")):
        with stores.opened(side) as store:
            scenario.fill(store, {Boxname(boxname): [Mail(message(name)) for name in sorted(NAMES[boxname])]})
    with Signalling(server("dovecot").port, nth, signum) as proxy:
        configure(home, text.replace(f":{server('dovecot').port}/", f":{proxy.port}/"))
        process = subprocess.Popen(
            [sys.executable, "-m", "mailsync", "ab"],
            cwd=home,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        proxy.victim = process.pid
        out, err = process.communicate(timeout=100)
        came, code = proxy.reached.is_set(), process.returncode
        last = proxy.tally.log[nth - 1 :][:1]
    assert not [bug for bug in BUGS if bug in out + err]
    if not came:
        assert code == 0, err
    elif b"LOGOUT" in last[0]:  # the run may have been over
        assert code in {0, 128 + signum, -signum}, err
    else:
        assert code == 128 + signum, (last, err)
    assert ([f"mailsync: {STOPPED}"] if code > 0 else []) == [line for line in err.splitlines() if "stopped" in line]
    configure(home, text)
    memory = (home / ".msinfo-ab").read_text() if (home / ".msinfo-ab").exists() else ""
    a, b = there(stores, "a"), there(stores, "b")
    assert not [name for box in NAMES for name in a[box] & b[box] if f"<{name}@x>" not in memory], last
    assert 0 == run("ab").code
    assert NAMES == there(stores, "a") == there(stores, "b")
    forget_cache(home)
    assert [] == run("-s", "--json", "ab").steps
    return code if came else None


def each_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, numbers: Iterable[int]) -> int:
    """How many there are of these. All but the last ones end the run."""
    codes = []
    for nth in numbers:
        home = tmp_path / f"n{nth}"
        home.mkdir()
        monkeypatch.setenv("HOME", str(home))
        monkeypatch.chdir(home)
        code = at_server(home, nth, ENDS[nth % len(ENDS)])
        if code is None:
            break
        codes.append(code)
    return len(codes)


@SIGNALS
@pytest.mark.usefixtures("home")
def test_signal_at_a_command_of_a_server_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Points
) -> None:
    numbers = (4, 9, 16)
    tried = each_command(tmp_path, monkeypatch, numbers)
    assert len(numbers) == tried
    record_property("points", tried)


@SIGNALS
@pytest.mark.torture
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("home")
def test_signal_at_each_command_of_a_server_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Points
) -> None:
    tried = each_command(tmp_path, monkeypatch, range(1, 100))
    assert 14 < tried < 99
    record_property("points", tried)


@SIGNALS
@pytest.mark.parametrize("without", [set(), {"MULTIAPPEND"}, {"MULTIAPPEND", "UIDPLUS"}, {"LITERAL+", "LITERAL-"}])
def test_copies_that_a_server_tells_of_after_the_signal_are_remembered(home: Path, without: set[str]) -> None:
    """They were forgotten, though the server had them: what was deleted on one side before the next run came back."""
    maildir(home / "md/one", *(message(n) for n in range(4)))
    with FakeServer(EVERYTHING - without) as fake:
        place = f"{{127.0.0.1:{fake.port}/user=alice}}"
        stores = f"store md {{ pat md/* prefix md/ }}\nstore far {{ server {place} passwd secret }}\n"
        configure(home, f"{stores}channel c md far {{ msinfo .m }}\n")
        fake.script.append(Trap("APPEND", Do(lambda _: os.kill(os.getpid(), signal.SIGTERM))))
        ran = run("c")
        there = [one.raw for one in fake.store[b"one"].messages]

    assert 143 == ran.code
    memory = (home / ".m").read_bytes() if (home / ".m").exists() else b""
    assert there
    assert len(there) == memory.count(b"@x>")


@SIGNALS
def test_signal_while_local_files_are_changed_ends_with_a_farewell(home: Path, record_property: Points) -> None:
    """The connection is idle: it is not only closed."""
    there, one = server("dovecot"), Boxname("one")
    stores = scenario.channels(home, {"a": scenario.on_machine("maildir", "a"), "b": on_server("dovecot")}, ["ab"])
    with stores.opened("a") as a:
        scenario.fill(a, {one: [Mail(message(n)) for n in range(9)]})
    assert 0 == run("ab").code
    text = (home / ".mailsync").read_text()
    codes = []
    for at in range(3):
        with stores.opened("a") as a, stores.opened("b") as b:
            scenario.fill(a, {one: [Mail(message(f"new{at}"))]})
            scenario.change(b, one, {MessageId(f"<{3 * at + n}@x>"): None for n in range(3)})
        with Proxy(there.port) as proxy:
            configure(home, text.replace(f":{there.port}/", f":{proxy.port}/"))
            ran = forked(home, partial(ended_at_removal, home, at))
            assert (128 + signal.SIGTERM, f"mailsync: {STOPPED}\n") == (ran.code, ran.err)
            assert 1 == proxy.connections == proxy.count(" LOGOUT$")
        assert f"<new{at}@x>" in (home / ".msinfo-ab").read_text()
        configure(home, text)
        codes.append(ran.code)
    assert 0 == run("ab").code
    with stores.opened("a") as a, stores.opened("b") as b:
        assert scenario.contents(a)[one] == scenario.contents(b)[one]
        assert 3 == scenario.contents(a)[one].total()
    record_property("points", len(codes))


def ended_at_removal(home: Path, nth: int) -> int:
    """`mailsync ab`, which gets a signal before its nth message goes from a to where it is kept for a while."""
    rename, gone = os.rename, count()

    def counted(path: str, to: str) -> None:
        if path.startswith(str(home / "a")) and next(gone) == nth:
            os.kill(os.getpid(), signal.SIGTERM)
        rename(path, to)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "rename", counted)
        return cli.main(["ab"])


# ---- planted ---------------------------------------------------------------------------------------------------------


def not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run that is stopped has done is forgotten."""

    def planted(self: Any, planner: Any) -> None:
        self._report.expect(0)
        self._apply(planner)
        self._save()

    monkeypatch.setattr(channel.Run, "carry_out", planted)


def raised_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal is an exception between any two lines, as Python has it by itself."""

    def planted(self: Any, signum: int, frame: FrameType | None = None) -> None:
        raise stopping.Stopped(signum)

    monkeypatch.setattr(stopping.Stop, "interrupt", planted)


def not_handled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "signals", lambda *_: nullcontext())


@PLANTED
@pytest.mark.parametrize("scene", ["mbox"], indirect=True)
@pytest.mark.parametrize(("bug", "late"), [(not_remembered, True), (raised_anywhere, False), (not_handled, False)])
def test_planted_bug_is_found(scene: Scene, bug: Callable[[pytest.MonkeyPatch], None], late: bool) -> None:
    """It shows late, when copies are made, or early."""
    with pytest.MonkeyPatch.context() as patch:
        bug(patch)
        found = enumerate(sorted(moments(scene, 60, call=True, seed=5), reverse=late))
        with pytest.raises(AssertionError):
            for number, moment in found:
                signum = ENDS[number % len(ENDS)]
                check(scene, signalled(scene.again(), moment, signum), signum)
