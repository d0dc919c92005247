"""Runs of channels, as the command line wants them: lock, hooks, and whether there is anything to do at all.

Mostly there is not, and this imports no more than what tells that. `running` does what is to be done.
"""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

from .config import ChannelConfig, Config, StoreConfig
from .drivers.contract import Driver, Sight
from .errors import MailsyncError, UsageError
from .model import Mailbox, Side
from .opening import Opener, StoreDriver
from .report import Report, Summary
from .runlock import run_lock
from .secrets import Vault, at_one_account
from .settled import Settled
from .settling import Settling

if TYPE_CHECKING:
    from .hooks import Changes as Changed
    from .hooks import Hooks
    from .planfile import Written


class Target(NamedTuple):
    """A channel, or some boxes of it."""

    channel: ChannelConfig
    only: tuple[str, ...] = ()  # patterns of boxnames; () = all

    def __str__(self) -> str:
        return ":".join((self.channel.name, *self.only))


class Servers(NamedTuple):
    """What of a channel is not on this machine. Each is reached with the first thing that is asked of it."""

    drivers: Mapping[Side, StoreDriver]
    msinfo: tuple[Driver, Mailbox] | None


@dataclass(frozen=True, slots=True)
class Runner:
    """Makes runs, as the command line wants them, of which `report` is told."""

    config: Config
    options: Namespace
    opener: Opener
    vault: Vault
    report: Report
    written: Written | None = None  # the plan that is to be carried out: --apply
    summary: Summary = field(default_factory=Summary)  # of one run, as far as it came
    turn: AbstractContextManager[object] = field(default_factory=nullcontext)  # others may have the same msinfo

    def sync(self, target: Target) -> int:
        """Synchronize a channel, with its hooks. Returns the exit code."""
        channel = target.channel
        self.changed(target)
        if self.options.simulate:
            return code_of(self._sync(target, None))
        with run_lock(channel.name, self.place(target)):
            if channel.pre_sync or channel.post_sync or channel.on_change:
                return self._with_hooks(target)
            return code_of(self._sync(target, None))

    def undo(self, target: Target) -> int:
        """Put back what the last run deleted that deleted anything. Returns the exit code."""
        from .running import Running

        with nullcontext() if self.options.simulate else run_lock(target.channel.name, self.place(target)):
            return Running(self, target).undo()

    def check(self, target: Target) -> int:
        """Look for what is wrong with the mail of a channel. Returns the exit code."""
        from .running import Running

        return Running(self, target).check()

    def applying(self, written: Written) -> Runner:
        """Makes runs as that plan was made."""
        asked = {name: getattr(written.asked, name) for name in written.asked.options()}
        return replace(self, options=Namespace(**{**vars(self.options), **asked}), written=written)

    # ---- what a run is made of ---------------------------------------------------------------------------------------

    def stores_of(self, target: Target) -> list[StoreConfig]:
        return [self.config.stores[name] for name in (target.channel.a, target.channel.b)]

    def ask(self, target: Target, *stores: StoreConfig) -> None:
        """Have the secrets that are needed for these stores, and for msinfo."""
        self.vault.ask_now(stores)
        self.vault.ask_now_for_msinfo(target.channel, self.stores_of(target))

    def place(self, target: Target) -> str:
        """Where msinfo is: with the channel's name, it tells a memory from all others."""
        return self.opener.place(target.channel.msinfo)

    def changed(self, target: Target) -> frozenset[Side]:
        """The sides that a run changes. UsageError for an option that the channel's direction does not allow."""
        channel, push, pull = target.channel, self.options.push, self.options.pull
        if not (push or pull):
            return channel.direction
        side = Side.B if push else Side.A
        if side not in channel.direction:
            option, store = ("--push", channel.b) if push else ("--pull", channel.a)
            raise UsageError(
                f"channel {channel.name} does not change store {store}, as {option} would",
                "Its direction says so in the configuration.",
            )
        return frozenset({side})

    @contextmanager
    def servers(self, target: Target) -> Iterator[Servers]:
        stores, channel = self.stores_of(target), target.channel
        with ExitStack() as stack:
            configs = zip(Side, stores, strict=True)
            drivers = {side: self.opener.driver(store) for side, store in configs if store.server}
            for driver in drivers.values():
                stack.enter_context(driver)
            away = channel.msinfo.startswith("{")
            yield Servers(drivers, stack.enter_context(self.opener.msinfo(channel, stores)) if away else None)

    # ---- one run -----------------------------------------------------------------------------------------------------

    def _sync(self, target: Target, noted: Report | None) -> Summary:
        settling = None if self.options.simulate or target.only else self._settling(target)
        if settling and settling.is_sure():
            return self.summary
        self.ask(target, *self.stores_of(target))
        with self.servers(target) as servers:
            if settling and settling.is_settled(servers.drivers, servers.msinfo):
                return self.summary
            from .running import Running

            return Running(self, target).sync(servers, settling, noted)

    def _settling(self, target: Target) -> Settling:
        channel, file, found = target.channel, os.path.abspath(self.config.filename), self.config.state
        return Settling(
            Settled(file, channel.name, self.options),
            channel,
            dict(zip(Side, self.stores_of(target), strict=True)),
            self.report,
            Sight({file: found}) if found else None,
            bool(channel.pre_sync or channel.post_sync),
            self.at_once(target),
        )

    def _with_hooks(self, target: Target) -> int:
        """post_sync runs after a run that failed, too; not after one that was stopped."""
        from .hooks import Hooks  # few channels have any
        from .report.changes import Changes

        channel = target.channel
        hooks = Hooks(channel.name, (channel.a, channel.b), channel.pre_sync, channel.post_sync, channel.on_change)
        hooks.before()
        if not (channel.post_sync or channel.on_change):
            return code_of(self._sync(target, None))
        changes = Changes()
        try:
            code = code_of(self._sync(target, changes))
        except MailsyncError as error:
            self._run_after(hooks, error.code, changes.events)
            raise
        failed = self._run_after(hooks, code, changes.events)
        return code or (1 if failed else 0)

    def _run_after(self, hooks: Hooks, code: int, events: Changed) -> bool:
        new = {"new_a": self.summary.copied[Side.A], "new_b": self.summary.copied[Side.B]}
        failures = hooks.after(code, events, self.summary.numbers() | new)
        for failure in failures:
            self.report.problem(str(failure), failure.hint)
        return bool(failures)

    def at_once(self, target: Target) -> bool:
        """Both stores are on servers, and can be asked at the same time; not where the user reads what each says.

        With one store on this machine nothing would be won: it works while servers are waited for.
        """
        options, (a, b) = self.options, self.stores_of(target)
        tells = options.debug or options.debug_imap or options.verbose_ids or options.verbose_parse
        return bool(a.server and b.server) and not at_one_account(a, b) and not tells


def code_of(summary: Summary) -> int:
    """The exit code of a run that came to its end."""
    return 4 if summary.held else 1 if summary.failed else 0
