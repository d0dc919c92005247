"""Runs of channels, made from configuration and command line: stores, msinfo, lock, record, what is kept, hooks."""

from __future__ import annotations

import math
import os
import time
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime
from datetime import time as time_of_day
from functools import partial
from typing import TYPE_CHECKING

from .cache import Cache
from .channel import Channel, Review
from .config import ChannelConfig, Config, StoreConfig
from .drivers.contract import Sight
from .errors import MailsyncError, UsageError
from .hooks import Changes as Changed
from .hooks import Hooks
from .identity import identify
from .kept import DAY, Kept
from .ledger import Ledger
from .model import Identify, Side
from .msinfo.mailbox import Msinfo
from .opening import Opener, StoreDriver
from .planner import Options
from .removal import KEEP_DAYS, removals_of
from .report import Report, Summary
from .report.headers import Telling
from .secrets import Vault, at_one_account
from .settled import Settled
from .settling import Settling
from .state import cache_file, kept_directory, ledger_file, record_file, run_lock
from .stores import Store
from .unchanged import lasting
from .undo import undo

if TYPE_CHECKING:
    from .planfile import Written


@dataclass(frozen=True, slots=True)
class Target:
    """A channel, or some boxes of it."""

    channel: ChannelConfig
    only: tuple[str, ...] = ()  # patterns of boxnames; () = all

    def __str__(self) -> str:
        return ":".join((self.channel.name, *self.only))


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
        options = self._run_options(target)
        if options.simulate:
            return code_of(self._sync(target, options, None, None))
        with run_lock(channel.name, self._place(target)):
            hooks = Hooks(channel.name, (channel.a, channel.b), channel.pre_sync, channel.post_sync, channel.on_change)
            hooks.before()
            if not (channel.post_sync or channel.on_change):
                return code_of(self._sync(target, options, None, hooks))
            return self._between_hooks(target, options, hooks)

    def undo(self, target: Target) -> int:
        """Put back what the last run deleted that deleted anything. Returns the exit code."""
        channel = target.channel
        with nullcontext() if self.options.simulate else run_lock(channel.name, self._place(target)):
            last = self._kept(target).last()
            if last is None:
                raise MailsyncError(
                    f"nothing that a run of channel {channel.name} has deleted is kept",
                    "keep_deleted in the configuration says for how long; what lies in a trash can be moved back.",
                )
            self.ask(target, *self.stores_of(target))
            with self._opened(target) as stores:
                names = [channel.name, *(stores[side].name for side in Side), last.when]
                self.report.begin("undo", names, simulate=self.options.simulate)
                undo(stores, last, self.identify(), self.report, self.summary, simulate=self.options.simulate)
                self.report.end(self.summary)
        return code_of(self.summary)

    def check(self, target: Target) -> int:
        """Look for what is wrong with the mail of a channel. Returns the exit code.

        Stores are opened as with -s: a mailbox of a server that is open to be read only does not tell its flags.
        """
        from .check import Check  # with all that looks closer, which few runs want

        name, options = target.channel.name, replace(self._run_options(target), delete=True, remove_empty=False)
        self.ask(target, *self.stores_of(target))
        with self._opened(target) as stores, self.msinfo(target) as msinfo:
            check = Check(stores, self.identify(), self.report, self.options.full, target.only)
            return 1 if check.channel(name, msinfo, options, record_file(name, self._place(target))) else 0

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

    def store(self, target: Target, store: StoreConfig) -> AbstractContextManager[Store]:
        """One store of a channel, by the names that the channel has for its mailboxes."""
        return self._store(target, store, Side.A if store.name == target.channel.a else Side.B)

    @contextmanager
    def msinfo(self, target: Target) -> Iterator[Msinfo]:
        with self.opener.msinfo(target.channel, self.stores_of(target)) as (driver, mailbox):
            yield Msinfo(driver, mailbox, target.channel.name, self.options.id_type, turn=self.turn)

    def identify(self) -> Identify:
        rule = identify(self.options.id_type)
        if self.options.verbose_ids or self.options.verbose_parse:
            return Telling(rule, self.report, ids=self.options.verbose_ids, junk=self.options.verbose_parse)
        return rule

    def _sync(self, target: Target, options: Options, noted: Report | None, hooks: Hooks | None) -> Summary:
        """`hooks`: those of a run that is not simulated."""
        channel, place = target.channel, self._place(target)
        settling = self._settling(target, hooks) if hooks and not target.only else None
        if settling and settling.is_sure():
            return self.summary
        self.ask(target, *self.stores_of(target))
        ledger = Ledger(ledger_file(channel.name, place))
        if self.options.retry:
            ledger.clear()
        kept = self._kept(target)
        with self._drivers(target) as drivers, self.msinfo(target) as msinfo, ExitStack() as stack:
            if settling and settling.is_settled(drivers, msinfo):
                return self.summary
            stores = stack.enter_context(self._with_caches(self._over(target, drivers)))
            removals = removals_of(stores, kept.begin(time.time()), channel.keep_deleted)
            run = Channel(
                channel.name,
                stores,
                msinfo,
                self.identify(),
                self.report,
                options,
                record_file(channel.name, place),
                removals=removals,
                ledger=ledger,
                noted=noted,
                review=self._review(target, options),
                summary=self.summary,
            )
            summary = run.sync()
            if options.simulate:
                return summary
            seconds = (KEEP_DAYS if channel.keep_deleted is None else channel.keep_deleted) * DAY
            kept.expire(time.time() - seconds)
            if settling and run.idle:
                oldest = kept.oldest()
                settling.note(drivers, msinfo, math.inf if oldest is None else oldest + seconds)
        return summary

    def _settling(self, target: Target, hooks: Hooks) -> Settling:
        channel, file = target.channel, os.path.abspath(self.config.filename)
        found = self.config.state if lasting(self.config.state) else None
        return Settling(
            Settled(file, channel.name, self.options),
            channel,
            dict(zip(Side, self.stores_of(target), strict=True)),
            self.report,
            Sight({file: found}) if found else None,
            bool(channel.pre_sync or channel.post_sync),
            self._at_once(target),
        )

    def _between_hooks(self, target: Target, options: Options, hooks: Hooks) -> int:
        """post_sync runs after a run that failed, too; not after one that was stopped."""
        from .report.changes import Changes  # few channels need it

        changes = Changes()
        try:
            code = code_of(self._sync(target, options, changes, hooks))
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

    @contextmanager
    def _opened(self, target: Target) -> Iterator[dict[Side, Store]]:
        with self._drivers(target) as drivers:
            yield self._over(target, drivers)

    @contextmanager
    def _drivers(self, target: Target) -> Iterator[dict[Side, StoreDriver]]:
        a, b = self.stores_of(target)
        with self.opener.driver(a) as one, self.opener.driver(b) as other:
            yield {Side.A: one, Side.B: other}

    def _over(self, target: Target, drivers: Mapping[Side, StoreDriver]) -> dict[Side, Store]:
        over = {
            side: partial(self._store_over, target, config, drivers[side], side)
            for side, config in zip(Side, self.stores_of(target), strict=True)
        }
        if not self._at_once(target):
            return {side: act() for side, act in over.items()}
        from .beside import both  # with threading

        return dict(zip(Side, both(over[Side.A], over[Side.B]), strict=True))

    @contextmanager
    def _with_caches(self, stores: Mapping[Side, Store]) -> Iterator[Mapping[Side, Store]]:
        """What was listed before need not be read again, unless the user wants to see it read."""
        options = self.options
        if options.full or options.verbose_ids or options.verbose_parse:
            yield stores
            return
        rule, write = self.identify().version, not options.simulate
        with ExitStack() as stack:
            caches = {
                side: stack.enter_context(Cache(cache_file(self.opener.root(store.config)), rule, write=write))
                for side, store in stores.items()
            }
            yield {side: replace(store, cache=caches[side]) for side, store in stores.items()}

    @contextmanager
    def _store(self, target: Target, config: StoreConfig, side: Side) -> Iterator[Store]:
        with self.opener.driver(config) as driver:
            yield self._store_over(target, config, driver, side)

    def _store_over(self, target: Target, config: StoreConfig, driver: StoreDriver, side: Side) -> Store:
        # A mailbox is made only where both the store and the channel allow it.
        config = config if side in target.channel.create else replace(config, create=False)
        opened = self.opener.over(config, driver)
        return opened.mapped(target.channel.map) if side is Side.B else opened

    def _at_once(self, target: Target) -> bool:
        """Both stores are on servers, and can be asked at the same time; not where the user reads what each says.

        With one store on this machine nothing would be won: it works while servers are waited for.
        """
        options, (a, b) = self.options, self.stores_of(target)
        tells = options.debug or options.debug_imap or options.verbose_ids or options.verbose_parse
        return bool(a.server and b.server) and not at_one_account(a, b) and not tells

    def _review(self, target: Target, options: Options) -> Review | None:
        if not (self.options.plan or self.written):
            return None
        from . import review  # few runs need it

        if self.written:
            return review.Compare(self.options.apply, self.written, target.channel)
        return review.Keep(self.options.plan, target.channel, review.asked(self.options, target.only, options.oldest))

    def _kept(self, target: Target) -> Kept:
        return Kept(kept_directory(target.channel.name, self._place(target)))

    def _place(self, target: Target) -> str:
        return self.opener.place(target.channel.msinfo)

    def _run_options(self, target: Target) -> Options:
        channel, options = target.channel, self.options
        return Options(
            simulate=options.simulate,
            copy_deleted=options.copy_deleted,
            delete=not options.no_delete,
            remove_empty=options.delete_empty,
            sizelimit=channel.sizelimit,
            duplicates=channel.duplicates,
            expunge_all=channel.expunge_all,
            max_delete=channel.max_delete,
            allow_mass_delete=options.allow_mass_delete,
            only=target.only,
            exclude=channel.exclude,
            oldest=self.written.asked.oldest if self.written else _oldest(channel, time.time()),
            at_once=self._at_once(target),
            changed=_changed(channel, push=options.push, pull=options.pull),
        )


def code_of(summary: Summary) -> int:
    """The exit code of a run that came to its end."""
    return 4 if summary.held else 1 if summary.failed else 0


def _changed(channel: ChannelConfig, *, push: bool, pull: bool) -> frozenset[Side]:
    """The sides that a run changes."""
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


def _oldest(channel: ChannelConfig, now: float) -> int | None:
    """The limits of age as a time, in seconds since the epoch; None: there is none."""
    limits = []
    if channel.maxage:
        limits.append(int(now) - channel.maxage * DAY)
    if channel.since:
        limits.append(int(datetime.combine(channel.since, time_of_day.min).timestamp()))
    return max(limits, default=None)
