"""A server that fails at each command of a session in turn: its answer is lost, it says BYE, its process is killed; and
one that is stopped and started again in the middle of a run.
"""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count, cycle
from pathlib import Path
from typing import Any

import pytest

from mailsync.apply import Apply
from mailsync.attempts import Attempts
from mailsync.channel import Run
from mailsync.drivers.imap import reach
from mailsync.drivers.imap.box import ServerBox
from mailsync.drivers.imap.wire import Connection
from mailsync.errors import Lost
from mailsync.model import Failure, Uid

from .mail import Ran, configure, maildir, message, run, signalled, within
from .servers import Login, Server, server
from .servers import own as own_server
from .servers.fake import EVERYTHING, Action, Bye, FakeServer, Swallow, Trap
from .servers.front import TlsFront
from .servers.proxy import Link, Proxy
from .stage import AWAY, Stage, World, add, build, find, hurry
from .tried import KILLED, PLANTED, SERVER, Points

pytestmark = SERVER

LEAST = 40  # things that are said in a run of the stage, behind the login
SETTINGS: dict[str, Any] = {"args": ("-D", "c")}


def plant(near: Path, far: Path) -> None:
    for root in (near, far):
        maildir(root / "box", *(message(name) for name in ("stays", "is read", "goes", "moves", "doubles")))
        maildir(root / "other", message("o"))
        maildir(root / "before", *(message(f"b{n}") for n in range(3)))
        maildir(root / "empty", message("e"))
    maildir(far)


def change(near: Path, far: Path) -> None:
    """All that takes a command of its own on the server."""
    add(far / "box", "f", [message("from there")])
    add(near / "box", "n", [message("from here")])
    add(near / "made", "m", [message("made")])
    for box, name in ((far, "stays"), (near, "is read")):
        file = find(box / "box", name)
        file.rename(f"{file}S")
    find(near / "box", "goes").unlink()
    find(near / "empty", "e").unlink()
    find(near / "box", "moves").rename(near / "other" / "cur" / "1800000000.moved.x:2,")
    (near / "other" / "cur" / "1800000000.copied.x:2,").write_bytes(find(near / "box", "doubles").read_bytes())
    (near / "before").rename(near / "after")


@pytest.fixture(scope="module")
def staged(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Stage]:
    """By the name of a server."""
    return cache(lambda name: build(tmp_path_factory.mktemp("stage"), server(name), plant, change, **SETTINGS))


@pytest.fixture
def stage(staged: Callable[[str], Stage]) -> Stage:
    return staged("dovecot")


@pytest.fixture
def world(home: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    dovecot = server("dovecot")
    return hurry(monkeypatch, World(home, dovecot, dovecot.new_login(), **SETTINGS))


# ---- at each command -------------------------------------------------------------------------------------------------

Fault = Callable[[World, int], dict[str, Any]]


@dataclass
class Kill:
    """Watches a proxy: kills the process that serves the connection, before it has all of the nth command."""

    server: Server
    nth: int
    seen: int = 0

    def __call__(self, text: bytes, link: Link) -> bool:
        self.seen += 1
        if self.seen == self.nth:
            os.kill(self.server.process_of(link.local), signal.SIGKILL)
            link.broken = True
        return False


def killed(world: World, nth: int) -> dict[str, Any]:
    return {"watch": Kill(world.server, nth)}


def swallowed(world: World, nth: int) -> dict[str, Any]:
    """It is executed; the client hears nothing of it but that the connection has ended."""
    return {"swallow": ".", "nth": nth}


def bye_instead(world: World, nth: int) -> dict[str, Any]:
    return {"swallow": ".", "nth": nth, "bye": "instead"}


def bye_before(world: World, nth: int) -> dict[str, Any]:
    return {"swallow": ".", "nth": nth, "bye": "before"}


def bye_after(world: World, nth: int) -> dict[str, Any]:
    return {"swallow": ".", "nth": nth, "bye": "after"}


FAULTS: list[Fault] = [swallowed, bye_instead, bye_before, bye_after, killed]


def kinds(commands: Sequence[bytes]) -> dict[bytes, int]:
    """Of a run's commands, and the first of each."""
    found: dict[bytes, int] = {}
    for nth, command in enumerate(commands, 1):
        found.setdefault(re.sub(rb"^\S+ ((?:UID )?\S+).*", rb"\1", command), nth)
    return found


CHANGING = (b"APPEND", b"COPY", b"CREATE", b"DELETE", b"EXPUNGE", b"MOVE", b"RENAME", b"STORE")


def test_server_fails_at_each_kind_of_command(world: World, stage: Stage, record_property: Points) -> None:
    """At the first of each kind; in two ways where something is to be changed."""
    first = kinds(stage.commands)
    points = [*zip(first.values(), cycle(FAULTS), strict=False)]
    points += [(nth, swallowed) for kind, nth in first.items() if kind.endswith(CHANGING)]
    for nth, fault in points:
        world.heals(stage, fault(world, nth))
    record_property("points", len(points))


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_server_fails_at_each_command(world: World, stage: Stage, fault: Fault, record_property: Points) -> None:
    for nth in range(1, len(stage.commands) + 1):
        world.heals(stage, fault(world, nth))
    record_property("points", len(stage.commands))


@pytest.mark.parametrize("fault", [swallowed, bye_instead, bye_before, bye_after], ids=lambda fault: fault.__name__)
def test_server_fails_when_it_is_to_compress(world: World, stage: Stage, fault: Fault) -> None:
    world.store = "compress yes"
    world.heals(stage, fault(world, 2))


@pytest.mark.parametrize("action", [Swallow(), Bye("enough", "before"), Bye("enough", "after"), Bye("enough")])
def test_server_fails_when_it_is_to_speak_utf_8(home: Path, action: Action, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only servers that speak nothing else are asked to (ENABLE); it is the first thing said after the login."""
    monkeypatch.setattr(reach, "WAITS", (0.0,) * len(reach.WAITS))
    maildir(home / "Mail" / "box", message())
    with FakeServer(EVERYTHING - {"UTF8=ACCEPT"} | {"UTF8=ONLY"}) as fake:
        configure(
            home,
            "store near { pat Mail/* prefix Mail/ format maildir }\n"
            f"store far {{ server {{localhost:{fake.port}/user=alice/notls}} passwd secret }}\n"
            "channel c near far { msinfo .msinfo }\n",
        )
        fake.script.append(Trap("ENABLE", action))
        broken, after = run("c"), run("c")

        assert 0 == after.code, after
        assert 1 == len(fake.store[b"box"].messages)
    assert broken.code in (0, AWAY), broken
    assert not broken.code or re.search(r"mailsync: localhost:\d+: ", broken.err), broken


# ---- the same within TLS ---------------------------------------------------------------------------------------------


class Inside(World):
    """The run speaks TLS, and the faults are within."""

    @contextmanager
    def network(self, **fault: Any) -> Iterator[Proxy]:
        papers = self.server.certificate, self.server.key
        with Proxy(self.server.port, **fault) as proxy, TlsFront(proxy.port, *papers) as front:
            self.point_to(front.port, self.timeout)
            yield proxy


@pytest.fixture
def inside(world: World) -> World:
    return Inside(world.home, world.server, world.login, "/ssl", f"ca {world.server.certificate}", **SETTINGS)


def test_server_fails_at_each_kind_of_change_in_tls(inside: World, stage: Stage, record_property: Points) -> None:
    changes = [nth for kind, nth in kinds(stage.commands).items() if kind.endswith(CHANGING)]
    for nth, fault in zip(changes, cycle(FAULTS), strict=False):
        inside.heals(stage, fault(inside, nth))
    record_property("points", len(changes))


@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
def test_server_fails_at_each_command_in_tls(
    inside: World, stage: Stage, fault: Fault, record_property: Points
) -> None:
    for nth in range(1, len(stage.commands) + 1):
        inside.heals(stage, fault(inside, nth))
    record_property("points", len(stage.commands))


# ---- where EXPUNGE takes all that is marked --------------------------------------------------------------------------


def plant_marked(near: Path, far: Path) -> None:
    for root in (near, far):
        maildir(root / "box", *(message(name) for name in ("stays", "goes", "is marked")))
        marked = find(root / "box", "is marked")
        marked.rename(f"{marked}T")
    maildir(far)


def change_marked(near: Path, far: Path) -> None:
    find(near / "box", "goes").unlink()


@pytest.fixture(scope="module")
def marked(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("marked"), server("dovecot-bare"), plant_marked, change_marked)


@pytest.mark.parametrize("fault", [swallowed, bye_instead], ids=lambda fault: fault.__name__)
def test_mark_of_others_survives(
    home: Path, marked: Stage, fault: Fault, monkeypatch: pytest.MonkeyPatch, record_property: Points
) -> None:
    """Without UIDPLUS it is taken away before EXPUNGE, and given back: also where the connection breaks in between."""
    world = hurry(monkeypatch, World(home, server("dovecot-bare"), Login("", "")))
    first = next(n for n, command in enumerate(marked.commands, 1) if b"UID SEARCH DELETED" in command)
    points = range(first, len(marked.commands) + 1)
    for nth in points:
        world.heals(marked, fault(world, nth))
    record_property("points", len(points))


# ---- stopped, and started again --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def own() -> Iterator[Server]:
    with own_server("dovecot") as found:
        yield found


def acting_run(
    world: World, monkeypatch: pytest.MonkeyPatch, nth: int, act: Callable[[Connection], None]
) -> tuple[Ran, bool]:
    """Something is done before the nth thing is said. True if it came to that."""
    push = Connection.push
    pushes = count(1)

    def pushed(self: Connection, data: bytes, *, literal: int = 0) -> None:
        if next(pushes) == nth:
            act(self)
        push(self, data, literal=literal)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, "push", pushed)
        world.point_to(world.port)
        ran = run(*world.args)
    assert "bug" not in ran.err, (nth, ran)
    return ran, next(pushes) > nth


def stopped_run(world: World, monkeypatch: pytest.MonkeyPatch, nth: int, waits: int | None) -> tuple[Ran, bool]:
    """The server stops there, and is back again after so many waits; None: not in this run."""
    wait = reach.Reach.wait
    pauses = count(1)

    def waited(self: reach.Reach, *args: Any) -> None:
        wait(self, *args)
        if next(pauses) == waits:
            world.server.resume()

    with monkeypatch.context() as patch:
        patch.setattr(reach.Reach, "wait", waited)
        ran, is_met = acting_run(world, monkeypatch, nth, lambda _: world.server.halt())
    if is_met and waits is None:
        world.server.resume()
    return ran, is_met


def comes_back(world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch, nth: int, waits: int | None) -> bool:
    """One point. False if the run was over before."""
    world.begin_anew(stage)
    ran, is_met = stopped_run(world, monkeypatch, nth, waits)
    if is_met:
        refused = r"mailsync: .*localhost:\d+: cannot be reached: Connection refused"
        assert (AWAY if waits is None else 0) == ran.code, (nth, ran)
        assert waits or re.search(refused, ran.err), (nth, ran)
    world.check(stage)
    return is_met


def ends(world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch, nth: int) -> bool:
    """The process that serves the connection is killed there. False if the run was over before."""
    world.begin_anew(stage)
    ran, is_met = acting_run(
        world,
        monkeypatch,
        nth,
        lambda conn: os.kill(world.server.process_of(conn._wire.socket.getsockname()[1]), signal.SIGKILL),
    )
    assert 0 == ran.code, (nth, ran)
    world.check(stage)
    return is_met


@pytest.fixture
def alone(request: pytest.FixtureRequest, home: Path, own: Server, monkeypatch: pytest.MonkeyPatch) -> World:
    """With the server for itself; in TLS, if a test says so."""
    remote = getattr(request, "param", "/notls")
    found = World(home, own, own.new_login(), remote, f"ca {own.certificate}", **SETTINGS)
    return hurry(monkeypatch, found)


soon_or_not = pytest.mark.parametrize("waits", [2, None], ids=["soon_back", "gone"])
in_tls = pytest.mark.parametrize("alone", ["/ssl"], indirect=True)
plain_or_in_tls = pytest.mark.parametrize("alone", ["/notls", "/ssl"], indirect=True)


@soon_or_not
def test_server_is_stopped_and_started_again(
    alone: World, stage: Stage, waits: int | None, monkeypatch: pytest.MonkeyPatch, record_property: Points
) -> None:
    points = (3, 33)
    for nth in points:
        assert comes_back(alone, stage, monkeypatch, nth, waits)
    record_property("points", len(points))


@in_tls
def test_server_ends_in_tls(
    alone: World, stage: Stage, monkeypatch: pytest.MonkeyPatch, record_property: Points
) -> None:
    assert comes_back(alone, stage, monkeypatch, 20, 2)
    assert ends(alone, stage, monkeypatch, 20)
    record_property("points", 2)


@pytest.mark.torture
@pytest.mark.timeout(300)
@in_tls
def test_process_of_a_connection_in_tls_is_killed_anywhere(
    alone: World, stage: Stage, monkeypatch: pytest.MonkeyPatch, record_property: Points
) -> None:
    tried = next(nth for nth in count(1) if not ends(alone, stage, monkeypatch, nth)) - 1
    assert tried >= LEAST
    record_property("points", tried)


@pytest.mark.torture
@pytest.mark.timeout(300)
@soon_or_not
@plain_or_in_tls
def test_server_is_stopped_anywhere(
    alone: World, stage: Stage, waits: int | None, monkeypatch: pytest.MonkeyPatch, record_property: Points
) -> None:
    tried = next(nth for nth in count(1) if not comes_back(alone, stage, monkeypatch, nth, waits)) - 1
    assert tried >= LEAST
    record_property("points", tried)


# ---- mailsync is killed ----------------------------------------------------------------------------------------------


@dataclass
class Hold:
    """Watches a proxy: holds the end of the nth command for a while; then the server gets it, or never does."""

    nth: int
    lost: bool
    come: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    seen: int = 0

    def __call__(self, text: bytes, link: Link) -> bool:
        self.seen += 1
        if self.seen == self.nth:
            self.come.set()
            self.over.wait(60)
            if self.lost:
                link.cut(reset=False)
        return False


def dies(world: World, stage: Stage, nth: int, *, lost: bool) -> None:
    world.begin_anew(stage)
    hold = Hold(nth, lost)
    with Proxy(world.port, watch=hold) as proxy:
        world.point_to(proxy.port)
        ran = signalled(world.home, signal.SIGKILL, lambda: hold.come.wait(60), hold.over.set, *world.args[:-1])
        assert within(20, proxy.is_over)
    assert -signal.SIGKILL == ran.code, (hold, ran)
    world.check(stage)


@KILLED
@pytest.mark.parametrize(
    ("name", "command", "lost"),
    [
        ("dovecot", b" RENAME ", False),
        ("dovecot", b" UID MOVE ", True),
        ("dovecot", b" APPEND ", False),
        ("dovecot-bare", b" APPEND ", False),
    ],
)
def test_mailsync_is_killed_at_a_command(
    world: World, staged: Callable[[str], Stage], name: str, command: bytes, lost: bool
) -> None:
    world.server = server(name)
    nth = next(n for n, said in enumerate(staged(name).commands, 1) if command in said)
    dies(world, staged(name), nth, lost=lost)


@KILLED
@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", ["dovecot", "dovecot-bare"])
def test_mailsync_is_killed_at_each_command(
    world: World, staged: Callable[[str], Stage], name: str, record_property: Points
) -> None:
    """`dovecot-bare` has no UIDPLUS and no MOVE."""
    world.server = server(name)
    points = range(1, len(staged(name).commands) + 1)
    for nth in points:
        dies(world, staged(name), nth, lost=bool(nth % 3 == 0))
    record_property("points", len(points))


# ---- planted ---------------------------------------------------------------------------------------------------------


def retry_without_a_look(patch: pytest.MonkeyPatch) -> None:
    """What has no answer is sent once more as if nothing had been done."""

    def again(self: Run, one: Attempts, lost: Lost, planner: object, apply: Apply) -> object:
        return apply.box(one.left(), one.care)

    patch.setattr(Run, "_again", again)


def lost_expunge_is_done(patch: pytest.MonkeyPatch) -> None:
    """Of messages that were to go when the connection broke, all are taken for gone."""
    expunge = ServerBox.expunge

    def planted(self: ServerBox, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        try:
            yield from list(expunge(self, uids))
        except Lost:
            yield from uids

    patch.setattr(ServerBox, "expunge", planted)


@PLANTED
@pytest.mark.parametrize(
    ("bug", "command", "fault"),
    [(retry_without_a_look, b" APPEND ", swallowed), (lost_expunge_is_done, b" UID STORE 3 ", bye_instead)],
)
def test_this_catches(
    world: World,
    stage: Stage,
    bug: Callable[[pytest.MonkeyPatch], None],
    command: bytes,
    fault: Fault,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nth = next(n for n, said in enumerate(stage.commands, 1) if command in said)
    world.heals(stage, fault(world, nth))
    bug(monkeypatch)

    with pytest.raises(AssertionError):
        world.heals(stage, fault(world, nth))
