"""The laws between a server and Maildirs: each run logs in anew, as programs do; INBOX and mapped names among them."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, rule, run_state_machine_as_test

from mailsync.config.values import Deletion
from mailsync.drivers.imap.store import ImapStore
from mailsync.drivers.local import LocalStore
from mailsync.kept import Kept
from mailsync.model import Holds, Side
from mailsync.planner import Options

from .servers import Login, Server, server
from .servers.stores import store_on
from .test_laws import HOLDS, SIDES
from .test_laws_wide import DELETIONS, EXPUNGE, NAMES, Pairs, WideLaws
from .world import Silent, Switch, World

PLACES = [("dovecot", Side.A), ("dovecot", Side.B), ("cyrus-alt", Side.B)]
PAIRS = st.sampled_from([(), (("x", "INBOX"),), (("x", "ex"), ("y", "INBOX")), (("INBOX", "x"), ("x", "INBOX"))])


@dataclass
class FarWorld(World):
    """One of the stores is on a server. Users have a connection of their own; so has each run."""

    account: tuple[Server, Login] | None = None

    def sync(self, options: Options | None = None, switch: Switch | None = None, cached: bool = True) -> Silent:
        with ExitStack() as stack:
            fresh = {side: stack.enter_context(self.connected()) for side in self.servers}
            run = replace(self, drivers={**self.drivers, **fresh})
            return World.sync(run, options, switch, cached)

    def connected(self) -> ImapStore:
        assert self.account
        return store_on(*self.account, "*")


class FarLaws(WideLaws):
    """As in `WideLaws`; INBOX keeps its name."""

    place: tuple[str, Side]

    def __init__(self) -> None:
        super().__init__()
        self.connections = ExitStack()

    def teardown(self) -> None:
        self.connections.close()
        super().teardown()

    @initialize(holds=HOLDS, a=DELETIONS, b=DELETIONS, pairs=PAIRS)
    def begin(self, holds: Holds, a: Deletion = EXPUNGE, b: Deletion = EXPUNGE, pairs: Pairs = ()) -> None:
        super().begin(holds, a, b, pairs)

    def make(self, holds: Holds) -> World:
        name, far = self.place
        home = self.dir / "home"
        home.mkdir()
        account = server(name), server(name).new_login()
        users = self.connections.enter_context(store_on(*account, "*"))
        near = LocalStore(str(home), patterns=("near/*",), format="maildir", fsync=False, environ=os.environ)
        msinfo = LocalStore(str(home), patterns=("msinfo",), format="mbox", fsync=False, environ=os.environ)
        return FarWorld(
            {far: users, far.other: near},
            msinfo,
            self.dir / "cache.sqlite",
            prefix={far: "", far.other: "near/"},
            kept=Kept(self.dir / "kept"),
            servers=frozenset({far}),
            account=account,
        )

    @rule(side=SIDES, old=NAMES, new=NAMES)
    def rename(self, side: Side, old: str, new: str) -> None:
        if side not in self.world.servers or self.world.mailbox(side, old) != "INBOX":
            super().rename(side, old, new)


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_laws_beside(place: tuple[str, Side]) -> None:
    check_laws(place, 5)


@pytest.mark.torture
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("place", PLACES, ids=str)
def test_laws_in_many_histories_beside(place: tuple[str, Side]) -> None:
    check_laws(place, 300)


def check_laws(place: tuple[str, Side], max_examples: int) -> None:
    class Histories(FarLaws):
        pass

    Histories.place = place
    few = max_examples < 100
    histories = settings(max_examples=max_examples, stateful_step_count=15, deadline=None, derandomize=few)
    run_state_machine_as_test(Histories, settings=histories)
