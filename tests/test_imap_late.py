"""A server that carries out an APPEND after the connection broke: when it was looked for, and sent again.

No client can prevent that. The process that serves the first connection is stopped and goes on at a chosen moment, so
that nothing here depends on how fast anything is.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailsync.drivers.imap import reach

from .mail import Ran, maildir, message, run, within
from .servers import Server, server
from .servers.proxy import Link, Proxy
from .stage import Stage, World, add, build
from .tried import PLANTED, SERVER

pytestmark = SERVER


def plant(near: Path, far: Path) -> None:
    for root in (near, far):
        maildir(root / "box", message("old"))


def change(near: Path, far: Path) -> None:
    add(near / "box", "n", [message("new")])


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return build(tmp_path_factory.mktemp("stage"), server("dovecot"), plant, change)


@pytest.fixture
def world(home: Path, stage: Stage, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(reach, "WAITS", (0.02,) * len(reach.WAITS))
    dovecot = server("dovecot")
    found = World(home, dovecot, dovecot.new_login())
    found.take(stage.home, stage.mail)
    return found


@dataclass
class Late:
    """Watches a proxy: whoever serves the first APPEND is stopped, and goes on before the n-th command from the next
    one on.
    """

    server: Server
    before: int  # 1: when it is sent again; 2: the command behind that; 0: not before the run is over
    pid: int = 0
    seen: int = 0
    over: bool = False

    def __call__(self, text: bytes, link: Link) -> bool:
        if b" APPEND " in text and not self.pid:
            self.pid = self.server.process_of(link.local)
            os.kill(self.pid, signal.SIGSTOP)
            return True
        if self.pid and (b" APPEND " in text or self.seen):
            self.seen += 1
            if self.seen == self.before:
                self.go_on()
        return False

    def go_on(self) -> None:
        """Returns when all is done that the process was to do."""
        if not self.over:
            self.over = True
            os.kill(self.pid, signal.SIGCONT)
            assert within(20, self.server.is_at_rest)


def late_run(world: World, late: Late) -> Ran:
    with Proxy(world.port, watch=late) as proxy:
        world.point_to(proxy.port)
        return run("c")


@pytest.mark.parametrize("rule", ["identical", "keep"])
@pytest.mark.parametrize("before", [1, 2], ids=["before_it_is_sent_again", "after_it_was_sent_again"])
def test_append_is_carried_out_after_it_was_looked_for(world: World, stage: Stage, before: int, rule: str) -> None:
    world.channel = f"duplicates {rule}"
    late = Late(world.server, before)
    ran = late_run(world, late)

    assert late.over
    assert 0 == ran.code, ran
    assert "the connection broke before an answer came; trying again in " in ran.err  # the server has that much time
    assert "1 message had come twice to store far because a connection broke; one of each stays" in ran.err
    assert [stage.expected] * 2 == list(world.contents())
    world.check(stage)


def test_append_is_carried_out_after_the_run(world: World, stage: Stage) -> None:
    """What remains: the message is there twice, until the next run."""
    world.channel = "duplicates identical"
    late = Late(world.server, before=0)
    ran = late_run(world, late)
    assert 0 == ran.code, ran
    late.go_on()

    assert [stage.expected] * 2 != list(world.contents())
    world.check(stage)


@PLANTED
def test_no_look_after_what_was_sent_again_is_caught(
    world: World, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailsync.late.surplus", lambda *_: [])
    with pytest.raises(AssertionError):
        test_append_is_carried_out_after_it_was_looked_for(world, stage, 1, "keep")
