"""A run of a channel in which there is something to do: stores, msinfo, record, what is kept, and the options."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial

from .cache import Cache
from .channel import Channel, Review
from .config import ChannelConfig, StoreConfig
from .errors import MailsyncError
from .identity import identify
from .kept import DAY, Kept
from .ledger import Ledger
from .model import Identify, Side
from .msinfo.mailbox import Msinfo
from .opening import StoreDriver
from .planner import Options
from .removal import KEEP_DAYS, removals_of
from .report import Report, Summary
from .runner import Runner, Servers, Target, code_of
from .settling import Settling
from .state import cache_file, kept_directory, ledger_file, record_file
from .stores import Store


@dataclass(frozen=True, slots=True)
class Running:
    """One channel, for one run."""

    runner: Runner
    target: Target

    def sync(self, servers: Servers, settling: Settling | None, noted: Report | None) -> Summary:
        runner, channel, options = self.runner, self.target.channel, self._options()
        ledger = Ledger(ledger_file(channel.name, self._place))
        if runner.options.retry:
            ledger.clear()
        kept = self._kept()
        with self._drivers(servers) as drivers, self.msinfo(servers) as msinfo, ExitStack() as stack:
            stores = stack.enter_context(self._with_caches(self._over(drivers)))
            removals = removals_of(stores, kept.begin(time.time()), channel.keep_deleted)
            run = Channel(
                channel.name,
                stores,
                msinfo,
                rule(runner),
                runner.report,
                options,
                record_file(channel.name, self._place),
                removals=removals,
                ledger=ledger,
                noted=noted,
                review=self._review(options),
                summary=runner.summary,
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

    def undo(self) -> int:
        """Put back what the last run deleted that deleted anything. Returns the exit code."""
        from .undo import undo

        runner, channel = self.runner, self.target.channel
        last = self._kept().last()
        if last is None:
            raise MailsyncError(
                f"nothing that a run of channel {channel.name} has deleted is kept",
                "keep_deleted in the configuration says for how long; what lies in a trash can be moved back.",
            )
        runner.ask(self.target, *runner.stores_of(self.target))
        simulate = runner.options.simulate
        with self._opened() as stores:
            names = [channel.name, *(stores[side].name for side in Side), last.when]
            runner.report.begin("undo", names, simulate=simulate)
            undo(stores, last, rule(runner), runner.report, runner.summary, simulate=simulate)
            runner.report.end(runner.summary)
        return code_of(runner.summary)

    def check(self) -> int:
        """Look for what is wrong with the mail of a channel. Returns the exit code.

        Stores are opened as with -s: a mailbox of a server that is open to be read only does not tell its flags.
        """
        from .check import Check  # with all that looks closer, which few runs want

        runner, target, name = self.runner, self.target, self.target.channel.name
        options = replace(self._options(), delete=True, remove_empty=False)
        runner.ask(target, *runner.stores_of(target))
        with self._opened() as stores, self.msinfo() as msinfo:
            check = Check(stores, rule(runner), runner.report, runner.options.full, target.only)
            return 1 if check.channel(name, msinfo, options, record_file(name, self._place)) else 0

    # ---- what it is made of ------------------------------------------------------------------------------------------

    @contextmanager
    def store(self, config: StoreConfig) -> Iterator[Store]:
        """One store of the channel, by the names that the channel has for its mailboxes."""
        with self.runner.opener.driver(config) as driver:
            yield self._store_over(config, driver, Side.A if config.name == self.target.channel.a else Side.B)

    @contextmanager
    def msinfo(self, servers: Servers | None = None) -> Iterator[Msinfo]:
        """`servers`: those that are reached already."""
        runner, channel = self.runner, self.target.channel
        with ExitStack() as stack:
            driver, mailbox = (servers and servers.msinfo) or stack.enter_context(
                runner.opener.msinfo(channel, runner.stores_of(self.target))
            )
            yield Msinfo(driver, mailbox, channel.name, runner.options.id_type, turn=runner.turn)

    @contextmanager
    def _opened(self) -> Iterator[dict[Side, Store]]:
        with self.runner.servers(self.target) as servers, self._drivers(servers) as drivers:
            yield self._over(drivers)

    @contextmanager
    def _drivers(self, servers: Servers) -> Iterator[dict[Side, StoreDriver]]:
        """Of both stores."""
        configs = zip(Side, self.runner.stores_of(self.target), strict=True)
        here = {side: self.runner.opener.driver(store) for side, store in configs if not store.server}
        with ExitStack() as stack:
            for driver in here.values():
                stack.enter_context(driver)
            yield {side: here.get(side) or servers.drivers[side] for side in Side}

    def _over(self, drivers: Mapping[Side, StoreDriver]) -> dict[Side, Store]:
        over = {
            side: partial(self._store_over, config, drivers[side], side)
            for side, config in zip(Side, self.runner.stores_of(self.target), strict=True)
        }
        if not self.runner.at_once(self.target):
            return {side: act() for side, act in over.items()}
        from .beside import both  # with threading

        return dict(zip(Side, both(over[Side.A], over[Side.B]), strict=True))

    @contextmanager
    def _with_caches(self, stores: Mapping[Side, Store]) -> Iterator[Mapping[Side, Store]]:
        """What was listed before need not be read again, unless the user wants to see it read."""
        options, version = self.runner.options, rule(self.runner).version
        anew = options.full or options.verbose_ids or options.verbose_parse
        with ExitStack() as stack:

            def cache(store: Store) -> Cache:
                file = cache_file(self.runner.opener.root(store.config))
                return stack.enter_context(Cache(file, version, write=not options.simulate, anew=anew))

            yield {side: replace(store, cache=cache(store)) for side, store in stores.items()}

    def _store_over(self, config: StoreConfig, driver: StoreDriver, side: Side) -> Store:
        # A mailbox is made only where both the store and the channel allow it.
        channel = self.target.channel
        config = config if side in channel.create else replace(config, create=False)
        opened = self.runner.opener.over(config, driver)
        return opened.mapped(channel.map) if side is Side.B else opened

    def _review(self, options: Options) -> Review | None:
        given, written, channel = self.runner.options, self.runner.written, self.target.channel
        if not (given.plan or written):
            return None
        from . import review  # few runs need it

        if written:
            return review.Compare(given.apply, written, channel)
        return review.Keep(given.plan, channel, review.asked(given, self.target.only, options.oldest))

    def _kept(self) -> Kept:
        return Kept(kept_directory(self.target.channel.name, self._place))

    @property
    def _place(self) -> str:
        return self.runner.place(self.target)

    def _options(self) -> Options:
        channel, options, written = self.target.channel, self.runner.options, self.runner.written
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
            only=self.target.only,
            exclude=channel.exclude,
            oldest=written.asked.oldest if written else _oldest(channel, time.time()),
            changed=self.runner.changed(self.target),
            at_once=self.runner.at_once(self.target),
        )


def rule(runner: Runner) -> Identify:
    """What the ids of messages are made by."""
    options, made = runner.options, identify(runner.options.id_type)
    if options.verbose_ids or options.verbose_parse:
        from .report.headers import Telling

        return Telling(made, runner.report, ids=options.verbose_ids, junk=options.verbose_parse)
    return made


def _oldest(channel: ChannelConfig, now: float) -> int | None:
    """The limits of age as a time, in seconds since the epoch; None: there is none."""
    limits = []
    if channel.maxage:
        limits.append(int(now) - channel.maxage * DAY)
    if channel.since:
        from datetime import datetime
        from datetime import time as time_of_day

        limits.append(int(datetime.combine(channel.since, time_of_day.min).timestamp()))
    return max(limits, default=None)
