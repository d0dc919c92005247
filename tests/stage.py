"""A Maildir and an account on Dovecot, synced once and then changed: what whole runs over a bad network start from."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.imap import reach

from .mail import Ran, configure, forget_cache, maildir, message, run, run_apart, within
from .servers import Login, Server
from .servers.proxy import Proxy

Mail = tuple[bytes, str]  # content, and the letters of its flags
Plant = Callable[[Path, Path], None]  # does something to both trees of mail
AWAY = 6  # the exit code of a run whose server is not there any more
PATIENCE = 30  # seconds; the timeout of a run that nothing disturbs
TOLD = r"mailsync: .*(localhost:\d|on store far)"  # what an error says of where it happened


@dataclass
class Stage:
    """Two stores, synced once and then changed; to be copied for each test, and what a run makes of them."""

    home: Path
    mail: Path  # of the server
    expected: dict[str, list[Mail]]
    sent: int = 0  # bytes that such a run brings to the client
    received: int = 0
    commands: list[bytes] = field(default_factory=list)  # of such a run
    literals: dict[str, int] = field(default_factory=dict)  # by direction

    @property
    def before(self) -> tuple[dict[str, list[Mail]], dict[str, list[Mail]]]:
        """What both sides hold as long as nothing is done."""
        return contents(self.home / "Mail"), contents(self.mail)

    def bytes(self, direction: str) -> int:
        return self.sent if direction == "to_client" else self.received

    def count(self, command: str) -> int:
        return sum(bool(re.search(command.encode(), said, re.IGNORECASE)) for said in self.commands)


@dataclass
class World:
    """A home and an account on Dovecot."""

    home: Path
    server: Server
    login: Login
    remote: str = "/notls"
    store: str = ""  # further settings of the store
    timeout: int = 10  # seconds, over a network with faults
    channel: str = "duplicates keep"  # of the channel: what is doubled stays so
    args: tuple[str, ...] = ("c",)

    @property
    def far(self) -> Path:
        found = self.server.maildir(self.login)
        assert found
        return found

    @property
    def near(self) -> Path:
        return self.home / "Mail"

    @property
    def port(self) -> int:
        return self.server.tls_port if "/ssl" in self.remote else self.server.port

    def take(self, home: Path, mail: Path) -> None:
        shutil.copytree(home, self.home, dirs_exist_ok=True)
        shutil.copytree(mail, self.far)
        self.server.give(self.login, self.far)

    def begin_anew(self, stage: Stage) -> None:
        """With nothing left of what was tried before; as another user."""
        for path in self.home.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.move_to(self.server, stage)

    def point_to(self, port: int, timeout: int = PATIENCE) -> None:
        """The next run connects there."""
        at = f"{{localhost:{port}/user={self.login.user}{self.remote}}}"
        far = f"store far {{ server {at} passwd secret timeout {timeout} {self.store} }}\n"
        configure(self.home, f"{self.near_store()}{far}channel c near far {{ msinfo .msinfo {self.channel} }}\n")

    @contextmanager
    def network(self, **fault: Any) -> Iterator[Proxy]:
        """What the next run connects through."""
        with Proxy(self.port, **fault) as proxy:
            self.point_to(proxy.port, self.timeout)
            yield proxy

    def near_store(self) -> str:
        return "store near { pat Mail/* prefix Mail/ format maildir fsync no }\n"

    def move_to(self, server: Server, stage: Stage) -> None:
        self.server, self.login = server, server.new_login()
        self.take(stage.home, stage.mail)

    def through(self, **fault: Any) -> tuple[Ran, Proxy]:
        """A run over such a network."""
        with self.network(**fault) as proxy:
            ran = run(*self.args)
        assert "bug" not in ran.err, (fault, ran)
        assert not ran.code or re.search(TOLD, ran.err), (fault, ran)
        return ran, proxy

    def is_met(self, stage: Stage, fault: Mapping[str, Any], codes: tuple[int, ...] = (0,), words: str = "") -> bool:
        """One point: a run with this fault, then one without. False if the first was over before it came to that.

        An error says `words`. Who was never there is not waited for, whatever the codes.
        """
        self.begin_anew(stage)
        ran, proxy = self.through(**fault)
        assert not ran.code or re.search(words, ran.err), (fault, ran)
        if ran.code == AWAY and proxy.connections == 1:
            assert stage.before == self.contents(), fault
        else:
            assert ran.code in (codes if proxy.met else (0,)), (fault, ran)
        self.check(stage)
        return bool(proxy.met >= fault.get("times", 1))

    def heals(self, stage: Stage, fault: Mapping[str, Any], codes: tuple[int, ...] = (0,), words: str = "") -> None:
        """The same at a point that there is."""
        assert self.is_met(stage, fault, codes, words), f"not met: {fault}"

    def check(self, stage: Stage) -> None:
        """After a run without faults both stores are as if nothing had happened, and nothing is left to do."""
        assert within(20, self.server.is_at_rest)
        self.point_to(self.port)
        after = run(*self.args)
        here, there = self.contents()

        assert 0 == after.code, after
        assert stage.expected == here, difference(stage.expected, here)
        assert stage.expected == there, difference(stage.expected, there)
        forget_cache(self.home)
        assert [] == run("-s", "--json", *self.args).steps

    def contents(self) -> tuple[dict[str, list[Mail]], dict[str, list[Mail]]]:
        return contents(self.near), contents(self.far)


def hurry(monkeypatch: pytest.MonkeyPatch, world: World) -> World:
    """Before a further try a run waits for the server to be done with what was cut, however long that takes."""
    wait = reach.Reach.wait

    def waited(self: reach.Reach, tries: int, why: Exception, seconds: float | None = None) -> None:
        assert within(20, world.server.is_at_rest)
        wait(self, tries, why, 0.0)

    monkeypatch.setattr(reach.Reach, "wait", waited)
    return world


def build(directory: Path, server: Server, plant: Plant, change: Plant, **settings: Any) -> Stage:
    """Plant, sync, change; and sync a copy of that to see what comes of it. `settings`: of `World`."""
    first = World(directory / "first", server, server.new_login(), **settings)
    plant(first.near, first.far)
    server.give(first.login, first.far)
    first.point_to(server.port)
    assert (0, "") == _outcome(run_apart(first.home, *first.args))
    change(first.near, first.far)
    found = Stage(first.home, directory / "mail", {})
    shutil.copytree(first.far, found.mail)
    second = World(directory / "second", server, server.new_login(), **settings)
    second.take(found.home, found.mail)
    with Proxy(server.port) as proxy:
        second.point_to(proxy.port)
        assert (0, "") == _outcome(run_apart(second.home, *second.args))
        found.sent, found.received, found.literals = proxy.sent, proxy.received, proxy.literals
        found.commands = [said for said in proxy.tally.log if b" " in said]  # else it is part of a login
    here, found.expected = second.contents()
    assert here == found.expected
    return found


def _outcome(ran: Ran) -> tuple[int, str]:
    return ran.code, ran.err


def plant_little(near: Path, far: Path) -> None:
    for root in (near, far):
        maildir(root / "box", message("stays"), message("goes"))
    maildir(far)


def change_little(near: Path, far: Path) -> None:
    """One message comes on each side, one gets a flag there, one goes here."""
    add(near / "box", "n", [message("from here")])
    add(far / "box", "f", [message("from there")])
    flagged = find(far / "box", "stays")
    flagged.rename(f"{flagged}S")
    find(near / "box", "goes").unlink()


def add(box: Path, prefix: str, raws: list[bytes]) -> None:
    """Every second one was seen."""
    maildir(box)
    for n, raw in enumerate(raws):
        (box / "cur" / f"{1_750_000_000 + n}.{prefix}{n}.x:2,{'S' * (n % 2)}").write_bytes(raw)


def find(box: Path, name: str) -> Path:
    return next(file for file in (box / "cur").iterdir() if f"Message-ID: <{name}@x>".encode() in file.read_bytes())


def contents(root: Path) -> dict[str, list[Mail]]:
    """All mail of a tree of Maildirs, without any driver."""
    found = {}
    for cur in root.rglob("cur"):
        files = [file for part in ("cur", "new") for file in (cur.parent / part).iterdir()]
        name = str(cur.parent.relative_to(root)).replace(".", "INBOX")
        found[name] = sorted((file.read_bytes(), file.name.partition(":2,")[2]) for file in files)
    return found


def difference(expected: dict[str, list[Mail]], found: dict[str, list[Mail]]) -> list[object]:
    """For whoever reads a failure: how many there are too many, or too few."""
    wanted, got = (Counter((box, *mail) for box in mails for mail in mails[box]) for mails in (expected, found))
    return [(got[one] - wanted[one], one[0], one[1][:200], one[2]) for one in wanted | got if got[one] != wanted[one]]
