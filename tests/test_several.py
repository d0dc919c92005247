"""Several channels in one run: what runs side by side and what does not, what is said of it, and how it is stopped."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest

from mailsync import stopping
from mailsync.chains import Uses, chains
from mailsync.config import ChannelConfig, StoreConfig
from mailsync.config.values import Deletion
from mailsync.drivers import delivery
from mailsync.drivers.imap.account import Account
from mailsync.drivers.imap.dial import dial
from mailsync.opening import Opener
from mailsync.out import Out
from mailsync.report.classic import Classic
from mailsync.report.progress import NoProgress
from mailsync.runner import Runner, Target
from mailsync.secrets import Vault
from mailsync.several import Several
from mailsync.spec import Remote
from mailsync.stopping import Stop, Stopped

from .mail import Ran, configure, maildir, message, read_home, run
from .servers import server
from .servers.fake import EVERYTHING, Bye, Do, FakeServer, Trap

MAILSYNC = [sys.executable, "-m", "mailsync"]
BOUND = 30.0  # seconds, after which a meeting that does not happen has failed
LOCAL = """\
store md { pat md/* prefix md/ format maildir }
store old { pat old/* prefix old/ format mbox }
store mh { pat mh/* prefix mh/ format mh }
store gone { pat gone/* prefix gone/ format maildir }
channel mail md old { msinfo .msinfo }
channel second md mh { msinfo .msinfo }
channel third md gone { msinfo .msinfo-third }
group two second mail
group all-of-it third two
"""


@pytest.fixture
def mails(home: Path) -> Path:
    """Three messages in a Maildir store; the other stores are empty."""
    configure(home, LOCAL)
    maildir(home / "md/one", message(1), message(2))
    maildir(home / "md/two", message(3))
    return home


@pytest.fixture
def servers() -> Iterator[list[FakeServer]]:
    """Two, which take one message at a time."""
    with ExitStack() as stack:
        yield [stack.enter_context(FakeServer(EVERYTHING - {"MULTIAPPEND"})) for _ in range(2)]


def name_of(number: int) -> str:
    return f"c{number}"


def to_servers(home: Path, servers: Sequence[FakeServer], more: str = "") -> None:
    """Channel c0 keeps the Maildirs of d0 and the first server equal, c1 those of d1 and the second one, and so on."""
    text = ""
    for n, each in enumerate(servers):
        text += f"store d{n} {{ pat d{n}/* prefix d{n}/ format maildir fsync no }}\n"
        text += f"store s{n} {{ server {{127.0.0.1:{each.port}/user=alice}} passwd secret {more} }}\n"
        text += f"channel c{n} d{n} s{n} {{ msinfo .msinfo-c{n} max_delete 1 exclude INBOX }}\n"
    configure(home, text)


def filled(home: Path, number: int = 2) -> None:
    for n in range(number):
        maildir(home / f"d{n}/one", message(f"{n}-1"), message(f"{n}-2"))


def ids(home: Path, pattern: str) -> dict[str, list[str]]:
    return {name: [one.id for one in box] for name, box in read_home(home, pattern).items()}


def summary_of(ran: Ran) -> list[str]:
    """The lines after the last blank one."""
    return ran.out.rpartition("\n\n")[2].splitlines()


# ---- which channels may run side by side -----------------------------------------------------------------------------


def far(*logins: tuple[str, str | None], at: Sequence[str] = ()) -> Uses:
    return Uses(frozenset(logins), frozenset(at))


def here(*places: str) -> Uses:
    return Uses(frozenset(), frozenset(places))


@pytest.mark.parametrize(
    ("uses", "expected"),
    [
        ([far(("a:993", "x")), far(("b:993", "x"))], [[0], [1]]),
        ([far(("a:993", "x")), far(("a:993", "y"))], [[0], [1]]),
        ([far(("a:993", "x")), far(("a:993", "x"))], [[0, 1]]),
        ([far(("a:993", "x")), far(("a:993", None))], [[0, 1]]),
        ([far(("a:993", "x")), far(("a:143", "x"))], [[0], [1]]),
        ([far(("a:1", "x")), far(("b:1", "x")), far(("b:1", "x"), ("a:1", "x"))], [[0, 1, 2]]),
        ([far(("a:1", "x")), far(("b:1", "x")), far(("a:1", "x")), far(("b:1", "x"))], [[0, 2], [1, 3]]),
        ([far(("a:1", "x"), at=["/m/a"]), far(("b:1", "x"), at=["/m/a"])], [[0, 1]]),
        ([far(("a:1", "x"), at=["/m"]), far(("b:1", "x"), at=["/m/a"])], [[0, 1]]),
        ([far(("a:1", "x"), at=["/m/a"]), far(("b:1", "x"), at=["/m/ab"])], [[0], [1]]),
        ([far(("a:1", "x"), at=["/"]), far(("b:1", "x"), at=["/m/ab"])], [[0, 1]]),
        ([here("/a", "/b"), far(("a:1", "x"), at=["/e"]), here("/c", "/d")], [[0, 2], [1]]),
        ([here("/a", "/b"), far(("a:1", "x"), at=["/b"]), here("/c", "/d")], [[0, 1], [2]]),
    ],
)
def test_channels_that_come_to_the_same_mail_are_one_chain(uses: Sequence[Uses], expected: list[list[int]]) -> None:
    assert expected == chains(uses)


@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        (StoreConfig("s", patterns=("Mail/%",)), StoreConfig("t", patterns=("Mail/lists/*",)), True),
        (StoreConfig("s", patterns=("Mail/%",)), StoreConfig("t", patterns=("Maildir/%",)), False),
        (StoreConfig("s", patterns=("Mail/%",)), StoreConfig("t", patterns=("link/%",)), True),
        (StoreConfig("s", patterns=("INBOX",)), StoreConfig("t", patterns=("Maildir/*",)), True),
        (StoreConfig("s", patterns=("INBOX",)), StoreConfig("t", patterns=("INBOX", "x/*")), True),
        (StoreConfig("s", patterns=("a/*",)), StoreConfig("t", patterns=("b/*",), delete=Deletion(trash="a/x")), True),
        (StoreConfig("s", server="{h/user=x}"), StoreConfig("t", server="{H:143/user=x/tls}Mail"), True),
        (StoreConfig("s", server="{h/user=x}"), StoreConfig("t", server="{h/user=x/ssl}"), False),
        (StoreConfig("s", server="{h/user=x}"), StoreConfig("t", server="{h}", user_cmd="me"), True),
        (StoreConfig("s", server="{h/user=x}", tunnel="a"), StoreConfig("t", server="{i/user=x}", tunnel="a"), True),
        (StoreConfig("s", server="{h/user=x}", tunnel="a"), StoreConfig("t", server="{h/user=x}", tunnel="b"), False),
    ],
)
def test_stores_meet_by_what_is_behind_their_names(
    home: Path, one: StoreConfig, other: StoreConfig, meet: bool
) -> None:
    (home / "Mail").mkdir()
    (home / "link").symlink_to("Mail")
    (home / "Maildir").mkdir()
    opener = Opener(str(home), {"USER": "nobody-here"}, Vault(str(home)))

    uses = [opener.uses(ChannelConfig(s.name, s.name, "?", "m"), [s]) for s in (one, other)]

    assert meet == uses[0].meets(uses[1])


@pytest.mark.parametrize(("msinfo", "meet"), [("m", False), ("{h/user=x}m", True), ("{i/user=x}m", False)])
def test_msinfo_on_a_server_is_another_login_there(home: Path, msinfo: str, meet: bool) -> None:
    opener = Opener(str(home), {}, Vault(str(home)))
    at_h, local = StoreConfig("s", server="{h/user=x}"), StoreConfig("t", patterns=("a/*",))

    one = opener.uses(ChannelConfig("one", "s", "?", "m"), [at_h])
    other = opener.uses(ChannelConfig("other", "t", "?", msinfo), [local])

    assert meet == one.meets(other)


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "names"),
    [
        (["mail", "second"], ["mail", "second"]),
        (["two"], ["second", "mail"]),
        (["all-of-it"], ["third", "second", "mail"]),
        (["mail", "all-of-it"], ["mail", "third", "second"]),
        (["--all"], ["mail", "second", "third"]),
        (["third", "--all"], ["third", "mail", "second"]),
        (["mail", "third", "mail"], ["mail", "third"]),
        (["mail:one", "mail:two"], ["mail:one", "mail:two"]),
    ],
)
def test_what_is_named_runs_once_in_the_order_of_the_names(mails: Path, args: list[str], names: list[str]) -> None:
    ran = run("--json", *args)

    *events, summary = ran.events
    assert (0, "") == (ran.code, ran.err)
    assert names == [event["channel"] for event in events if event["event"] == "begin"]
    assert names == [channel["name"] for channel in summary["channels"]]


@pytest.mark.parametrize("args", [["two:one"], ["all-of-it:one"], ["two:"], ["mail", "two:one"]])
def test_group_has_no_boxes(mails: Path, args: list[str]) -> None:
    ran = run(*args)

    assert (2, "") == (ran.code, ran.out)
    assert not (mails / "old").exists()


def test_group_stands_for_the_stores_of_its_channels_where_logins_are_tested(mails: Path) -> None:
    ran = run("--test-auth", "all-of-it")

    assert (0, "") == (ran.code, ran.err)
    assert ["md", "gone", "mh", "old"] == [line.partition(":")[0] for line in ran.out.splitlines()]


def test_group_of_one_channel_is_that_channel(mails: Path) -> None:
    configure(mails, LOCAL + "group lone mail\n")

    alone, again = run("mail"), run("lone")

    assert alone.out.startswith('Synchronizing stores "md" <-> "old"...\n')
    assert again.out == 'Synchronizing stores "md" <-> "old"...\none: \n2 remain.\ntwo: \n1 remains.\n'


# ---- what is said ----------------------------------------------------------------------------------------------------


def test_channels_are_told_one_after_the_other_with_one_summary(mails: Path) -> None:
    ran = run("two")

    alone = (
        'Synchronizing stores "md" <-> "{0}"...\n'
        "one: \n2 copied md->{0}.\n2 remain.\ntwo: \n1 copied md->{0}.\n1 remains.\n"
    )
    assert (0, "") == (ran.code, ran.err)
    assert alone.format("mh") + alone.format("old") + "\nsecond: 3 copied\nmail: 3 copied\n" == ran.out


def test_summary_has_all_numbers(mails: Path) -> None:
    assert run("mail", "third").code == 0
    first, second = sorted((mails / "md/one/cur").iterdir())
    first.rename(f"{first}F")
    second.unlink()
    maildir(mails / "gone/three", message(4), message(5))

    assert ["mail: 1 changed flags, 1 deleted", "third: 2 copied, 1 changed flags, 1 deleted"] == summary_of(
        run("mail", "third")
    )
    assert ["mail: 2 copied", "third: nothing to do"] == summary_of(run("mail", "third"))


def test_quiet_says_nothing_of_channels_with_nothing_to_do(mails: Path) -> None:
    assert run("--all").code == 0
    assert (0, "", "") == tuple_of(run("-q", "--all"))

    maildir(mails / "gone/three", message(4))
    ran = run("-q", "third", "mail", "second")

    assert ran.out.endswith("third: 1 copied\nmail: 1 copied\nsecond: 1 copied\n")
    (mails / "old").rename(mails / "was-old")
    assert (6, "mail: failed (6)") == ((failing := run("-q", "--all")).code, failing.out[:16])


def tuple_of(ran: Ran) -> tuple[int, str, str]:
    return ran.code, ran.out, ran.err


def test_one_of_three_that_fails_does_not_stop_the_others(mails: Path) -> None:
    assert 0 == run("second").code
    (mails / ".msinfo").write_bytes((mails / ".msinfo").read_bytes()[:-30])

    ran = run("all-of-it")

    assert {"gone/one", "gone/two", "old/one", "old/two"} == {*ids(mails, "gone/*"), *ids(mails, "old/*")}
    assert 8 == ran.code
    third, second, mail = summary_of(ran)
    assert ("third: 3 copied", "mail: 3 copied") == (third, mail)
    assert re.match(r"second: failed \(8\): msinfo .msinfo, channel second: ", second)
    assert ran.err.startswith("mailsync: msinfo .msinfo, channel second: ")


def test_bug_in_one_channel_does_not_stop_the_others(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sync = Runner.sync

    def faulty(self: Runner, target: Target) -> int:
        return 1 // 0 if target.channel.name == "mail" else sync(self, target)

    monkeypatch.setattr(Runner, "sync", faulty)

    ran = run("mail", "second")

    assert 1 == ran.code
    assert "mailsync: this is a bug in mailsync: ZeroDivisionError" in ran.err
    assert 2 == len(ids(mails, "mh/*"))


def test_deletions_that_are_held_are_in_the_summary(mails: Path) -> None:
    configure(mails, LOCAL.replace("{ msinfo .msinfo-third", "{ max_delete 1 msinfo .msinfo-third"))
    assert run("--all").code == 0
    for file in (mails / "md/one/cur").iterdir():
        file.unlink()

    ran = run("--json", "third", "mail")

    assert 4 == ran.code
    assert [(4, 0, 2), (0, 2, 0)] == [(c["code"], c["deleted"], c["held"]) for c in ran.events[-1]["channels"]]
    assert ["third: 2 deletions held", "mail: nothing to do"] == summary_of(run("third", "mail"))


def test_undo_of_several_channels(mails: Path) -> None:
    assert run("mail", "third").code == 0
    next((mails / "md/two/cur").iterdir()).unlink()
    assert ["mail: 1 deleted", "third: 1 deleted"] == summary_of(run("mail", "third"))

    ran = run("--undo", "mail", "third")

    assert ["mail: 1 copied", "third: 1 copied"] == summary_of(ran)
    assert {"<3@x>"} == {*ids(mails, "old/two")["old/two"], *ids(mails, "gone/two")["gone/two"]}


def test_progress_is_drawn_for_several_channels_and_nothing_stays(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    with Terminal(mails, "--all", stdin=False) as terminal:
        text = terminal.rest()

    assert 0 == terminal.code
    assert b"Synchronizing" in text
    assert text.endswith((b"\x1b[2K", b"\x1b[?25h"))
    assert b"\x1b" not in terminal.out


# ---- side by side ----------------------------------------------------------------------------------------------------


def meet(servers: Sequence[FakeServer], command: str) -> None:
    """No server answers this command before it has come to all of them."""
    barrier = threading.Barrier(len(servers))
    for each in servers:
        each.script.append(Trap(command, Do(lambda _: barrier.wait(BOUND))))


@pytest.mark.parametrize("command", ["AUTHENTICATE|LOGIN", "APPEND", "LOGOUT"])
def test_channels_of_two_servers_are_at_the_same_point_at_the_same_time(
    home: Path, servers: list[FakeServer], command: str
) -> None:
    filled(home)
    to_servers(home, servers)
    meet(servers, command)

    ran = run("c0", "c1")

    assert (0, "", ["c0: 2 copied", "c1: 2 copied"]) == (ran.code, ran.err, summary_of(ran))
    assert [2, 2] == [len(each.store[b"one"].messages) for each in servers]


def test_what_is_said_comes_in_the_order_of_the_names_whoever_is_done_first(
    home: Path, servers: list[FakeServer]
) -> None:
    filled(home)
    to_servers(home, servers)
    done = threading.Event()
    servers[0].script.append(Trap("APPEND", Do(lambda _: done.wait(BOUND))))
    servers[1].script.append(Trap("LOGOUT", Do(lambda _: done.set())))

    ran = run("-vw", "c0", "c1")

    assert done.is_set()
    alone = 'Synchronizing stores "d{0}" <-> "s{0}"...\none: \n2 copied d{0}->s{0}.\n2 remain.\n'
    assert alone.format(0) + alone.format(1) + "\nc0: 2 copied\nc1: 2 copied\n" == ran.out


def test_lines_of_json_are_whole_and_name_their_channel(home: Path, servers: list[FakeServer]) -> None:
    for n in range(2):
        maildir(home / f"d{n}/one", *(message(f"{n}-{m}") for m in range(200)))
    to_servers(home, servers)
    meet(servers, "AUTHENTICATE|LOGIN")

    *events, summary = run("--json", "-m", "c0", "c1").events

    for channel in ("c0", "c1"):
        own = [event for event in events if event["channel"] == channel]
        assert ["begin", *["copy"] * 200, "box", "end"] == [e["event"] for e in own if e["event"] != "create"]
    numbers = {"copied": 200, "moved": 0, "flagged": 0, "deleted": 0, "failed": 0, "held": 0}
    expected = [{"name": name, "code": 0, "error": "", **numbers} for name in ("c0", "c1")]
    assert {"event": "summary", "channels": expected, "code": 0} == summary


def test_one_channel_says_nothing_of_channels(mails: Path) -> None:
    ran = run("--json", "mail")

    assert {"begin", "copy", "create", "box", "end"} == {event["event"] for event in ran.events}
    assert ["begin"] == [event["event"] for event in ran.events if "channel" in event]


def test_channels_of_one_login_come_one_after_the_other(home: Path, servers: list[FakeServer]) -> None:
    one = servers[0]
    filled(home)
    to_servers(home, [one, one])

    assert 0 == run("c0", "c1").code
    sessions = [line.split()[1] for line in one.log if re.search(rb" (AUTHENTICATE|LOGIN|LOGOUT)", line)]
    assert [b"AUTHENTICATE", b"LOGOUT"] * 2 == sessions


def test_channels_side_by_side_may_have_msinfo_in_one_mailbox(home: Path, servers: list[FakeServer]) -> None:
    filled(home)
    to_servers(home, servers)
    configure(home, re.sub(r"\.msinfo-c\d", ".msinfo", (home / ".mailsync").read_text()))
    meet(servers, "APPEND")
    assert 0 == run("c0", "c1").code

    for n in range(2):
        next((home / f"d{n}/one/cur").iterdir()).unlink()

    assert ["c0: 1 deleted", "c1: 1 deleted"] == summary_of(run("c0", "c1"))
    assert ["c0: nothing to do", "c1: nothing to do"] == summary_of(run("c0", "c1"))


def test_server_that_refuses_does_not_disturb_the_other_one(home: Path, servers: list[FakeServer]) -> None:
    filled(home)
    to_servers(home, servers)
    servers[0].passwords = {"alice": "other"}
    meet(servers, "AUTHENTICATE|LOGIN")

    ran = run("c0", "c1")

    assert 7 == ran.code
    assert ("c0: failed (7): ", "c1: 2 copied") == (summary_of(ran)[0][:16], summary_of(ran)[1])


RELAY = """\
import os, socket, sys, threading
gate, port, alive = sys.argv[1:]
with open(alive, "w"), socket.create_connection(("127.0.0.1", int(gate))) as waiting:
    if not waiting.recv(1):
        sys.exit(3)
    sock = socket.create_connection(("127.0.0.1", int(port)))
    def send():
        while data := os.read(0, 65536):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
    threading.Thread(target=send, daemon=True).start()
    while data := sock.recv(65536):
        os.write(1, data)
"""


@contextmanager
def gate(number: int) -> Iterator[int]:
    """A port where who comes is let through once so many are there."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def keep() -> None:
            with ExitStack() as stack, suppress(OSError):
                while True:
                    some = [stack.enter_context(listener.accept()[0]) for _ in range(number)]
                    for one in some:
                        one.sendall(b"!")

        keeper = threading.Thread(target=keep)
        keeper.start()
        try:
            yield int(listener.getsockname()[1])
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            keeper.join()


def through(home: Path, gate: int, port: int) -> str:
    """A setting: the tunnel to a server, through a gate. While it lives, it has the FIFO `alive` open for writing."""
    command = shlex.join([sys.executable, str(home / "relay.py"), str(gate), str(port), str(home / "alive")])
    return f'tunnel "{command}"'


def test_channels_of_two_real_servers_run_side_by_side(home: Path) -> None:
    """Each through a tunnel that opens only when the other one is there, too."""
    (home / "relay.py").write_text(RELAY)
    os.mkfifo(home / "alive")
    alive = os.open(home / "alive", os.O_RDONLY | os.O_NONBLOCK)
    filled(home)
    text = ""
    with gate(2) as way:
        for n, name in enumerate(("dovecot", "cyrus")):
            there = server(name)
            login = there.new_login()
            text += f"store d{n} {{\n  pat d{n}/*\n  prefix d{n}/\n  format maildir\n}}\n"
            text += f"store s{n} {{\n  server {{{there.host}:{there.port}/notls/user={login.user}}}\n"
            text += f"  passwd {login.password}\n  timeout 60\n  {through(home, way, there.port)}\n}}\n"
            text += f"channel c{n} d{n} s{n} {{\n  msinfo .msinfo-c{n}\n}}\n"
        configure(home, text)

        first, again = run("c0", "c1"), run("c0", "c1")

    assert (0, "", ["c0: 2 copied", "c1: 2 copied"]) == (first.code, first.err, summary_of(first))
    assert (0, "", ["c0: nothing to do", "c1: nothing to do"]) == (again.code, again.err, summary_of(again))
    assert b"" == os.read(alive, 1)  # no tunnel is left
    os.close(alive)


# ---- being stopped ---------------------------------------------------------------------------------------------------


@contextmanager
def stuck(home: Path, servers: Sequence[FakeServer], command: str) -> Iterator[threading.Barrier]:
    """No server ever answers this command, until the block ends; who waits at the barrier knows that all have it."""
    here, leave = threading.Barrier(len(servers) + 1), threading.Event()

    def stop(_: FakeServer) -> None:
        here.wait(BOUND)
        leave.wait()

    for each in servers:
        each.script += Trap(command, Do(stop)), Trap(command, Bye("enough"))
    try:
        yield here
    finally:
        leave.set()
        for each in servers:
            each.script.clear()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_stops_all_and_what_each_has_done_is_remembered(
    home: Path, servers: list[FakeServer], signum: signal.Signals, code: int
) -> None:
    """Both wait for an answer that does not come; each through a tunnel, which must not stay either."""
    (home / "relay.py").write_text(RELAY)
    os.mkfifo(home / "alive")
    alive = os.open(home / "alive", os.O_RDONLY | os.O_NONBLOCK)
    filled(home)
    for n in range(2):
        maildir(home / f"d{n}/a-longer-name", message(f"{n}-first"))
    with gate(1) as way:
        to_servers(home, servers)
        text = (home / ".mailsync").read_text()
        for each in servers:
            port = f"{{127.0.0.1:{each.port}/user=alice}}"
            text = text.replace(port, f"{port} {through(home, way, each.port)}")
        configure(home, text)
        with stuck(home, servers, r"APPEND \"?one") as both_are_there:
            process = subprocess.Popen(
                [*MAILSYNC, "c0", "c1"], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
            both_are_there.wait(BOUND)
            process.send_signal(signum)
            out, err = process.communicate(timeout=60)
            assert b"" == os.read(alive, 1)  # no tunnel is left

        assert code == process.returncode
        assert "mailsync: stopped; what was done until then is remembered\n" == err
        assert ["c0: 1 copied, stopped", "c1: 1 copied, stopped"] == out.rpartition("\n\n")[2].splitlines()
        for n in range(2):
            saved = (home / f".msinfo-c{n}").read_text()
            assert (1, 0) == (saved.count(f"<{n}-first@x>"), saved.count(f"<{n}-1@x>"))
        assert ["c0: 2 copied", "c1: 2 copied"] == summary_of(run("c0", "c1"))
    os.close(alive)


def test_channel_that_has_not_begun_is_told_so(home: Path, servers: list[FakeServer]) -> None:
    one = servers[0]
    filled(home, 3)
    to_servers(home, [one, servers[1], one])

    def ctrl_c(_: FakeServer) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        leave.wait(BOUND)

    before, leave = set(threading.enumerate()), threading.Event()
    one.script.append(Trap("APPEND", Do(ctrl_c)))
    one.script.append(Trap("LOGOUT", Do(lambda _: None)))
    try:
        ran = run("c0", "c1", "c2")
    finally:
        leave.set()

    assert 130 == ran.code
    assert ("c0: stopped", "c2: not begun") == (summary_of(ran)[0], summary_of(ran)[2])
    assert not (home / ".msinfo-c2").exists()
    own = {thread for thread in set(threading.enumerate()) - before if "_serve" not in thread.name}
    assert not own


def test_local_channels_are_stopped_between_two_messages(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing there waits for anybody. All that is copied is remembered, also what came with the tenth in one go."""
    maildir(mails / "md/many", *(message(f"m{n}") for n in range(50)))
    steps, passed_on, stop = count(1), threading.Event(), Several._stop

    def ctrl_c_at_the_tenth(*_: object) -> None:
        if next(steps) == 10:
            os.kill(os.getpid(), signal.SIGINT)
            passed_on.wait(BOUND)

    def passing_on(self: Several, signum: int) -> None:
        stop(self, signum)
        passed_on.set()

    with monkeypatch.context() as patch:
        patch.setattr(delivery, "BATCH", 4)
        patch.setattr(Classic, "step", ctrl_c_at_the_tenth)
        patch.setattr(Several, "_stop", passing_on)
        ran = run("third", "mail")

    assert (130, ["third: stopped", "mail: not begun"]) == (ran.code, summary_of(ran))
    copied = len(ids(mails, "gone/many")["gone/many"])
    assert 10 <= copied < 20
    assert (copied + 1, copied) == (next(steps), (mails / ".msinfo-third").read_bytes().count(b"\n<"))
    assert [f"third: {53 - copied} copied", "mail: 53 copied"] == summary_of(run("third", "mail"))
    assert 50 == len(ids(mails, "gone/many")["gone/many"]) == len(ids(mails, "old/many")["old/many"])


SLEEPY = """\
import sys, time
from mailsync import cli
from mailsync.several import Several
stop = Several._stop
def told(self, signum):
    stop(self, signum)
    print("told", flush=True)
Several._stop = told
Several._run = lambda self, link: (print("up", flush=True), time.sleep(1000))
sys.exit(cli.main(["third", "mail"]))
"""


def test_third_signal_kills_several_too(mails: Path) -> None:
    """Where nothing waits and nobody looks. It was obeyed for ever."""
    process = subprocess.Popen([sys.executable, "-c", SLEEPY], cwd=mails, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    with process:
        try:
            for line in ("up", "told", "told"):
                assert f"{line}\n" == process.stdout.readline()
                process.send_signal(signal.SIGTERM)
            assert -signal.SIGTERM == process.wait(BOUND)
        finally:
            process.kill()


def test_hook_of_one_channel_is_ended_when_all_are_stopped(mails: Path) -> None:
    """The channel before it is done; the one after it does not begin."""
    hook = "exec 3> alive; echo up >&3; sleep 1000"
    configure(mails, LOCAL.replace("channel second md mh {", f'channel second md mh {{ pre_sync "{hook}"'))
    os.mkfifo(mails / "alive")
    process = subprocess.Popen([*MAILSYNC, "third", "second", "mail"], cwd=mails, stdout=subprocess.PIPE, text=True)
    with open(mails / "alive") as alive:
        assert "up\n" == alive.readline()
        process.send_signal(signal.SIGTERM)
        assert "" == alive.read()
    out, _ = process.communicate(timeout=60)

    assert 143 == process.returncode
    assert ["third: 3 copied", "second: stopped", "mail: not begun"] == out.rpartition("\n\n")[2].splitlines()
    assert not (mails / "old").exists()


def test_nohup_is_obeyed_by_several(home: Path, servers: list[FakeServer]) -> None:
    filled(home)
    to_servers(home, servers)
    here, go_on = threading.Barrier(2), threading.Event()
    servers[0].script.append(Trap("APPEND", Do(lambda _: here.wait(BOUND) and go_on.wait(BOUND))))
    process = subprocess.Popen(
        ["nohup", *MAILSYNC, "c0", "c1"], cwd=home, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    here.wait(BOUND)
    process.send_signal(signal.SIGHUP)
    go_on.set()
    process.communicate(timeout=60)

    assert 0 == process.returncode


def test_thread_is_stopped_in_the_middle_of_a_handshake() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, stoppable() as stop:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                assert sock.recv(1)  # it begins
                stop.now(signal.SIGTERM)
                sock.recv(65536)
                while sock.recv(65536):
                    pass

        serving = threading.Thread(target=serve)
        serving.start()
        with pytest.raises(Stopped):
            dial(Account(Remote("127.0.0.1", listener.getsockname()[1], ssl=True)), NoSecrets())
        serving.join()


def test_thread_is_stopped_while_it_waits_for_a_connection() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as other, stoppable() as stop:
        other.connect(listener.getsockname())  # there is no room for another one
        stop.now(signal.SIGTERM)
        with pytest.raises(Stopped):
            dial(Account(Remote("127.0.0.1", listener.getsockname()[1])), NoSecrets())


@contextmanager
def stoppable() -> Iterator[Stop]:
    """This thread."""
    stop = Stop()
    with stopping.stopped_by(stop):
        yield stop
    stop.close()


class NoSecrets:
    def user(self) -> str:
        raise AssertionError

    def password(self) -> str | None:
        raise AssertionError

    def token(self, *, fresh: bool = False) -> str | None:
        raise AssertionError


def test_thread_is_told_once_where_it_waits() -> None:
    stop, told = Stop(), []

    def work() -> None:
        with stopping.stopped_by(stop):
            try:
                stopping.sleep(BOUND)
            except Stopped as stopped:
                told.append(stopped.code)
            stopping.check()
            stopping.sleep(0)
            told.append(0)

    thread = threading.Thread(target=work)
    thread.start()
    stop.now(signal.SIGTERM)
    stop.now(signal.SIGTERM)
    thread.join(BOUND)
    stop.close()

    assert told in ([143, 0], [143])  # the second one may come when the first was told


# ---- the question of the guard ---------------------------------------------------------------------------------------


class Terminal:
    """mailsync with a terminal as stdin and stderr, and its stdout apart."""

    def __init__(self, home: Path, *args: str, stdin: bool = True) -> None:
        self._terminal, end = pty.openpty()
        self.process = subprocess.Popen(
            [*MAILSYNC, *args],
            cwd=home,
            stdin=end if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=end,
            env={**os.environ, "TERM": "xterm"},
        )
        os.close(end)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._terminal)

    def until(self, text: bytes) -> bytes:
        found = b""
        while text not in found:
            try:
                found += os.read(self._terminal, 4096)
            except OSError:
                raise AssertionError(found) from None
        return found

    def say(self, text: str) -> None:
        os.write(self._terminal, text.encode())

    def rest(self) -> bytes:
        """All up to the end."""
        found = b""
        with suppress(OSError):
            while more := os.read(self._terminal, 4096):
                found += more
        self.out, _ = self.process.communicate(timeout=60)
        self.code = self.process.returncode
        return found


@pytest.fixture
def emptied(home: Path, servers: list[FakeServer]) -> Path:
    """Two channels whose guards have something against what was deleted in each."""
    filled(home)
    for n in range(2):
        maildir(home / f"d{n}/kept", message(f"{n}-kept"))
    to_servers(home, servers)
    assert 0 == run("c0", "c1").code
    for n in range(2):
        for file in (home / f"d{n}/one/cur").iterdir():
            file.unlink()
        maildir(home / f"d{n}/new", message(f"{n}-new"))
    return home


def test_guards_ask_one_after_the_other_and_name_their_channel(emptied: Path, servers: list[FakeServer]) -> None:
    asked = []
    meet(servers, "AUTHENTICATE|LOGIN")
    with Terminal(emptied, "c0", "c1") as terminal:
        for _ in range(2):
            question = terminal.until(b"Delete them? [y/N] ")
            asked += re.findall(rb"Channel (c\d):\r\n2 messages would be deleted from store (s\d)", question)
            terminal.say("y\n" if asked[-1][0] == b"c1" else "n\n")
        terminal.rest()

    assert [(b"c0", b"s0"), (b"c1", b"s1")] == sorted(asked)
    assert 4 == terminal.code
    assert b"\nc0: 1 copied, 2 deletions held\nc1: 1 copied, 2 deleted\n" in terminal.out
    assert [2, 0] == [len(each.store[b"one"].messages) for each in servers]


def test_ctrl_c_just_before_the_answer_is_awaited_deletes_nothing(
    emptied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between the question and the wait for its answer it was not seen."""
    monkeypatch.setattr("mailsync.out.Out.is_terminal", True)
    monkeypatch.setattr("mailsync.report.progress.RichProgress", NoProgress)
    ours, theirs = pty.openpty()
    write = Out.write

    def then_signal(self: Out, text: str) -> None:
        write(self, text)
        if "[y/N]" in text:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Out, "write", then_signal)
    with open(theirs) as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        ran = run("c0", "c1")
    os.close(ours)

    assert 130 == ran.code


def test_ctrl_c_at_the_question_deletes_nothing(emptied: Path, servers: list[FakeServer]) -> None:
    with Terminal(emptied, "c0", "c1") as terminal:
        terminal.until(b"Delete them? [y/N] ")
        terminal.process.send_signal(signal.SIGINT)
        terminal.rest()

    assert 130 == terminal.code
    assert [2, 2] == [len(each.store[b"one"].messages) for each in servers]


AT_A_TERMINAL = """\
import os, pty, sys
pid, terminal = pty.fork()
if not pid:
    os.execv(sys.executable, [sys.executable, "-m", "mailsync", "-q", "c0", "c1"])
text = b""
for asked, answer in (1, b"secret\\n"), (2, b"\\n"):
    while text.count(b"Password for") < asked:
        text += os.read(terminal, 4096)
    os.write(terminal, answer)
try:
    while more := os.read(terminal, 4096):
        text += more
except OSError:
    pass
print(text.count(b"Password for"), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
os.write(2, text)
"""


def test_password_is_asked_for_once_before_all_channels(home: Path, servers: list[FakeServer]) -> None:
    """Who gives none is not asked again in the middle of the run: nobody may be there any more."""
    filled(home)
    to_servers(home, servers)
    configure(home, (home / ".mailsync").read_text().replace("passwd secret", ""))
    done = subprocess.run([sys.executable, "-c", AT_A_TERMINAL], cwd=home, capture_output=True, timeout=60)

    assert (b"2 7\n", b"c0: 2 copied" in done.stderr) == (done.stdout, True)
    assert b"c1: failed (7): store s1: no password was given" in done.stderr
