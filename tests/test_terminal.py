"""On a terminal: what is asked, what Ctrl-C and other signals leave of it, and that no program of ours goes on."""

from __future__ import annotations

import fcntl
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from .mail import BUGS, STOPPED, configure, forget_cache, maildir, message, run, within
from .servers.fake import EVERYTHING, Do, FakeServer, Trap
from .tried import PLANTED, SIGNALS

COUNT = 6  # messages
BOUND = 60.0  # seconds, after which what does not come has failed
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
LONG = pytest.mark.torture
ENDS = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
ONE_END = [(signal.SIGINT, 130), *(pytest.param(*end, marks=LONG) for end in ENDS[1:])]
MAIN = "from mailsync.__main__ import main; sys.exit(main())"


# The kernel stops no group of processes that has nobody to continue it.
SHELL = ["bash", "-mc", '"$@"; test $? -gt 128 || exit; echo paused; read -r; fg', "bash"]


class Terminal:
    """mailsync in a session of its own, with a terminal for all it reads and says. `before`: lines of Python.

    In a `shell` Ctrl-Z pauses it, and the next line that is typed brings it back.
    """

    def __init__(self, home: Path, *args: str, before: str = "", shell: bool = False) -> None:
        self._ours, self._theirs = pty.openpty()
        self.modes = termios.tcgetattr(self._theirs)
        self.seen = b""
        self.process = subprocess.Popen(
            [
                *(SHELL if shell else ()),
                *(sys.executable, "-c", f"import sys; sys.argv[0] = 'mailsync'; {before or 'pass'}; {MAIN}", *args),
            ],
            cwd=home,
            stdin=self._theirs,
            stdout=self._theirs,
            stderr=self._theirs,
            env={**os.environ, "TERM": "xterm", "PYTHONPATH": str(Path(__file__).parents[1])},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self.process.kill()
        self.process.wait()
        os.close(self._theirs)  # the reader is at its end then
        self._reader.join()
        os.close(self._ours)

    def _read(self) -> None:
        with suppress(OSError):
            while more := os.read(self._ours, 4096):
                self.seen += more

    def until(self, text: bytes) -> None:
        assert within(BOUND, lambda: text in self.seen), self.seen

    def type(self, text: str) -> None:
        os.write(self._ours, text.encode())

    def resize(self) -> None:
        """All that run in the foreground get SIGWINCH."""
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("4H", 10, 30, 0, 0))

    def echo(self) -> None:
        """As a shell sets it."""
        modes = termios.tcgetattr(self._theirs)
        modes[3] |= termios.ECHO
        termios.tcsetattr(self._theirs, termios.TCSANOW, modes)

    @property
    def echoes(self) -> bool:
        return bool(termios.tcgetattr(self._theirs)[3] & termios.ECHO)

    def ended(self) -> int:
        """Its exit code; and the terminal is as it was."""
        code = self.process.wait(BOUND)
        assert self.modes == termios.tcgetattr(self._theirs)
        os.write(self._theirs, b"|end|")
        self.until(b"|end|")
        assert not [bug for bug in BUGS if bug.encode() in self.seen], self.seen
        assert self.seen.rfind(HIDE) <= self.seen.rfind(SHOW)
        return code


@contextmanager
def stuck(server: FakeServer, command: str, nth: int = 1) -> Iterator[threading.Event]:
    """The server does not answer the nth of these commands until the block ends; it is set once it has that."""
    here, leave = threading.Event(), threading.Event()

    def wait(_: FakeServer) -> None:
        here.set()
        leave.wait()

    server.script.append(Trap(command, Do(wait), nth))
    try:
        yield here
    finally:
        leave.set()
        server.script.clear()


@pytest.fixture
def far() -> Iterator[FakeServer]:
    with FakeServer(EVERYTHING - {"MULTIAPPEND"}) as server:
        yield server


def to_server(home: Path, server: FakeServer, secret: str = "passwd secret", more: str = "") -> None:
    maildir(home / "md/one", *(message(n) for n in range(COUNT)))
    configure(
        home,
        f"store md {{ pat md/* prefix md/ format maildir }}\nstore far {{ server {{127.0.0.1:{server.port}/user=alice}}"
        f" {secret} {more} }}\nchannel c md far {{ msinfo .msinfo }}\n",
    )


def heals(home: Path, server: FakeServer) -> None:
    """The next run, to which nothing happens, makes both sides equal; one more has nothing to do."""
    to_server(home, server)
    assert 0 == run("c").code
    there = [each.raw.replace(b"\r\n", b"\n") for each in server.store[b"one"].messages]
    assert sorted(message(n) for n in range(COUNT)) == sorted(there)
    forget_cache(home)
    assert [] == run("-s", "--json", "c").steps


# ---- progress --------------------------------------------------------------------------------------------------------


@SIGNALS
@pytest.mark.parametrize(("signum", "code"), [(None, 130), *ENDS])
def test_bar_is_cleared_and_the_cursor_shown(
    home: Path, far: FakeServer, signum: signal.Signals | None, code: int
) -> None:
    """Sent to the process, or typed as Ctrl-C."""
    to_server(home, far)
    with Terminal(home, "c") as terminal:
        with stuck(far, "APPEND", 3) as here:
            assert here.wait(BOUND), terminal.seen
            terminal.until(HIDE)
            terminal.type("\x03") if signum is None else terminal.process.send_signal(signum)
        terminal.until(STOPPED.encode())
        assert code == terminal.ended()
    assert b"Synchronizing" in terminal.seen
    heals(home, far)


@SIGNALS
def test_bar_outlives_a_window_that_is_resized_and_a_pause(home: Path, far: FakeServer) -> None:
    """SIGWINCH; Ctrl-Z and fg."""
    to_server(home, far)
    with Terminal(home, "c", shell=True) as terminal:
        with stuck(far, "APPEND", 3) as here:
            assert here.wait(BOUND), terminal.seen
            terminal.resize()
            terminal.type("\x1a")
            terminal.until(b"paused")
            terminal.type("\n")
        assert 0 == terminal.ended()
    heals(home, far)


@SIGNALS
def test_second_ctrl_c_does_not_wait_for_what_the_first_one_waits_for(home: Path, far: FakeServer) -> None:
    """msinfo is on the server, which does not answer any more: the old one stays, and nothing is lost."""
    to_server(home, far)
    text = (home / ".mailsync").read_text()
    configure(home, text.replace("msinfo .msinfo", f"msinfo {{127.0.0.1:{far.port}/user=alice}}state"))
    with Terminal(home, "c") as terminal, stuck(far, 'APPEND "?state') as saving:
        assert saving.wait(BOUND), terminal.seen
        terminal.type("\x03")
        assert not within(0.5, lambda: terminal.process.poll() is not None)  # it tries again to save
        terminal.type("\x03")
        assert 130 == terminal.ended()
    heals(home, far)


# ---- questions -------------------------------------------------------------------------------------------------------


@SIGNALS
@pytest.mark.parametrize(
    "args",
    [["c"], *(pytest.param(args.split(), marks=LONG) for args in ("--test-auth far", "far", "--check c", "-s c"))],
)
@pytest.mark.parametrize(("signum", "code"), ENDS)
def test_signal_at_a_password_prompt_brings_the_echo_back(
    home: Path, far: FakeServer, args: list[str], signum: signal.Signals, code: int
) -> None:
    to_server(home, far, "")
    with Terminal(home, *args) as terminal:
        terminal.until(b"Password for alice")
        assert within(BOUND, lambda: not terminal.echoes)
        terminal.type("half of the pass")
        terminal.type("\x03") if signum == signal.SIGINT else terminal.process.send_signal(signum)
        assert code == terminal.ended()
    assert STOPPED.encode() in terminal.seen
    assert b"half" not in terminal.seen
    heals(home, far)


@SIGNALS
def test_signal_at_a_prompt_in_the_middle_of_several_channels_ends_them(home: Path, far: FakeServer) -> None:
    """A server behind a tunnel says only then that it wants a password, in a thread that no signal reaches."""
    to_server(home, far, "", more=f'tunnel "{sys.executable} {relay(home)} {far.port}"')
    text = (home / ".mailsync").read_text()
    configure(home, text + "store o { pat o/* prefix o/ }\nchannel d md o { msinfo .msinfo-d }\n")
    with Terminal(home, "d", "c") as terminal:
        terminal.until(b"Password for alice")
        terminal.type("\x03")
        assert 130 == terminal.ended()
    assert STOPPED.encode() in terminal.seen


def relay(home: Path) -> Path:
    file = home / "relay.py"
    file.write_text(
        "import os, signal, socket, sys, threading\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "sock = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\n"
        "def back():\n"
        "    while data := sock.recv(65536): os.write(1, data)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=back, daemon=True).start()\n"
        "while data := os.read(0, 65536): sock.sendall(data)\n"
    )
    return file


@SIGNALS
def test_password_is_not_seen_after_a_pause_either(home: Path, far: FakeServer) -> None:
    """A shell that has the terminal after Ctrl-Z turns the echo on, and does not turn it off again."""
    to_server(home, far, "")
    with Terminal(home, "c", shell=True) as terminal:
        terminal.until(b"Password for alice")
        assert within(BOUND, lambda: not terminal.echoes)
        terminal.type("\x1a")
        terminal.until(b"paused")
        terminal.echo()
        terminal.type("\n")
        assert within(BOUND, lambda: not terminal.echoes)
        terminal.type("secret\n")
        assert 0 == terminal.ended()
    assert b"secret" not in terminal.seen
    heals(home, far)


# ---- programs of ours ------------------------------------------------------------------------------------------------


@SIGNALS
@pytest.mark.parametrize("setting", ["passwd_cmd", "token_cmd"])
@pytest.mark.parametrize("several", [False, True], ids=["one", "several"])
@pytest.mark.parametrize(("signum", "code"), ONE_END)
def test_command_for_a_secret_is_ended_and_the_terminal_as_it_was(
    home: Path, far: FakeServer, setting: str, several: bool, signum: signal.Signals, code: int
) -> None:
    """It asks without echo, and does not end by itself; in several channels it runs again when a token is refused."""
    os.mkfifo(home / "alive")
    alive = os.open(home / "alive", os.O_RDONLY | os.O_NONBLOCK)
    (home / "ask.py").write_text(
        "import os, signal, sys, termios, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_DFL)\n"
        "alive = open('alive', 'w')\n"
        "modes = termios.tcgetattr(0); modes[3] &= ~termios.ECHO; termios.tcsetattr(0, termios.TCSANOW, modes)\n"
        "alive.write('up'); alive.flush()\n"
        "time.sleep(1000)\n"
    )
    command = f"{sys.executable} ask.py"
    if several and setting == "token_cmd":  # the first one comes at once, and is refused
        command = f"test -e first && exec {command}; touch first; echo none"
    to_server(home, far, f'{setting} "{command}"')
    configure(home, (home / ".mailsync").read_text() + "store o { pat o/* prefix o/ }\nchannel d md o { msinfo .d }\n")
    with Terminal(home, "c", *(["d"] if several else [])) as terminal:
        assert within(BOUND, lambda: read_some(alive) == b"up"), terminal.seen
        terminal.type("\x03") if signum == signal.SIGINT else terminal.process.send_signal(signum)
        assert code == terminal.ended()
    assert b"" == os.read(alive, 1)  # nobody has it open
    os.close(alive)
    assert STOPPED.encode() in terminal.seen
    heals(home, far)


def read_some(fd: int) -> bytes:
    try:
        return os.read(fd, 100)
    except BlockingIOError:
        return b""


@SIGNALS
def test_ctrl_c_ends_the_tunnel_too_and_what_was_done_is_remembered(home: Path, far: FakeServer) -> None:
    """The terminal sends it to both."""
    to_server(home, far, more=f'tunnel "{sys.executable} {relay(home)} {far.port}"')
    with Terminal(home, "c") as terminal:
        with stuck(far, "APPEND", 3) as here:
            assert here.wait(BOUND), terminal.seen
            terminal.type("\x03")
            terminal.until(STOPPED.encode())
        assert 130 == terminal.ended()
    heals(home, far)


# ---- planted ---------------------------------------------------------------------------------------------------------


@PLANTED
def test_cursor_that_stays_hidden_is_found(home: Path, far: FakeServer) -> None:
    to_server(home, far)
    planted = "from mailsync.report import progress; progress.RichProgress.pause = lambda self: None"
    with Terminal(home, "c", before=planted) as terminal, stuck(far, "APPEND", 3) as here:
        assert here.wait(BOUND), terminal.seen
        terminal.until(HIDE)
        terminal.process.send_signal(signal.SIGTERM)
        with pytest.raises(AssertionError):
            terminal.ended()
