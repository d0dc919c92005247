"""What a command line means: which names are channels and stores, which mode that is, and what the run is made of."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from . import config, stores
from .arguments import USAGE
from .channel import Channel
from .config import ChannelConfig, StoreConfig
from .errors import MailsyncError, UsageError, worst
from .identity import identify
from .model import Identify, Side
from .modes import compare, list_store
from .msinfo.mailbox import Msinfo
from .planner import Options
from .report import Report, Summary
from .report.headers import Telling
from .state import cache_file, run_lock
from .stores import Store
from .wording import did_you_mean


class Command:
    """One command line, with its configuration."""

    def __init__(self, options: Namespace, report: Report) -> None:
        self._options = options
        self._report = report
        self._home = os.path.expanduser("~")
        self._path = config.find(options.config, self._home)
        self._config = config.load(self._path)

    def run(self) -> int:
        if self._options.debug_config:
            self._report.config(config.dump(self._config))
            if not self._options.names:
                return 0
        for warning in self._config.warnings:
            self._report.note(warning)
        targets = [self._named(name) for name in self._options.names]
        channels = [target for target in targets if isinstance(target, Target)]
        places = [target for target in targets if isinstance(target, StoreConfig)]
        match channels, places:
            case [], []:
                raise UsageError("which channel or store?", f"usage: {USAGE}\n{self._path} defines {self._known()}.")
            case [], [store]:
                return self._list(store)
            case [channel], [store]:
                return self._diff(channel, store)
            case _, []:
                codes = [self._sync_one(channel) for channel in channels]
                return worst(codes) or max(codes)  # an unknown box has no weight, but is no success either
        raise UsageError(
            f"{_many(len(channels), 'channel')} and {_many(len(places), 'store')} make no mode",
            "Name channels to synchronize, one store to list, or one channel and one of its stores to compare.",
        )

    # ---- modes -------------------------------------------------------------------------------------------------------

    def _list(self, store: StoreConfig) -> int:
        with self._opened(store) as opened:
            return _code(list_store(opened, self._identify(), self._report))

    def _diff(self, target: Target, store: StoreConfig) -> int:
        channel = target.channel
        if store.name not in (channel.a, channel.b):
            raise UsageError(
                f"channel {channel.name} does not contain store {store.name}",
                f"Its stores are {channel.a} and {channel.b}.",
            )
        with self._opened(store) as opened:
            msinfo = self._msinfo(channel)
            return _code(compare(channel.name, opened, msinfo, self._identify(), self._report, target.only))

    def _sync_one(self, target: Target) -> int:
        """One failing channel does not keep the others from being synchronized."""
        try:
            return _code(self._sync(target))
        except MailsyncError as error:
            if len(self._options.names) == 1:
                raise
            self._report.error(error, error.code)
            return error.code

    def _sync(self, target: Target) -> Summary:
        channel, options = target.channel, self._options
        place = os.path.join(self._home, os.path.expanduser(channel.msinfo))
        sides = {Side.A: channel.a, Side.B: channel.b}
        with ExitStack() as stack:
            if not options.simulate:
                stack.enter_context(run_lock(channel.name, place))
            opened = {s: stack.enter_context(self._opened(self._config.stores[name])) for s, name in sides.items()}
            run = Channel(
                channel.name,
                opened,
                self._msinfo(channel),
                self._identify(),
                self._report,
                self._run_options(channel, target.only),
                cache_file(channel.name, place),
            )
            return run.sync()

    def _run_options(self, channel: ChannelConfig, only: Sequence[str]) -> Options:
        options = self._options
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
            only=tuple(only),
        )

    # ---- what the names stand for ------------------------------------------------------------------------------------

    def _named(self, name: str) -> StoreConfig | Target:
        if name in self._config.stores:
            return self._config.stores[name]
        if name in self._config.channels:
            return Target(self._config.channels[name])
        channel, colon, box = name.partition(":")
        if colon and not box and channel in self._config.channels:
            raise UsageError(f"{name} names no mailbox", f"All of them: {channel}; one: {channel}:NAME.")
        if colon and channel in self._config.channels:
            return Target(self._config.channels[channel], (box,))
        raise UsageError(
            f"no channel or store is named {name}{did_you_mean(name, self._all())}",
            f"{self._path} defines {self._known()}.",
        )

    def _all(self) -> list[str]:
        return [*self._config.channels, *self._config.stores]

    def _known(self) -> str:
        channels, places = ", ".join(self._config.channels), ", ".join(self._config.stores)
        return f"the channels {channels or '(none)'} and the stores {places or '(none)'}"

    @contextmanager
    def _opened(self, store: StoreConfig) -> Iterator[Store]:
        opened = stores.local(store, self._home, os.environ)
        with opened.driver:
            yield opened

    def _msinfo(self, channel: ChannelConfig) -> Msinfo:
        driver, mailbox = stores.mailbox_driver(channel.msinfo, self._home, os.environ)
        return Msinfo(driver, mailbox, channel.name, self._options.id_type)

    def _identify(self) -> Identify:
        rule = identify(self._options.id_type)
        if self._options.verbose_ids or self._options.verbose_parse:
            return Telling(rule, self._report, ids=self._options.verbose_ids, junk=self._options.verbose_parse)
        return rule


@dataclass(frozen=True, slots=True)
class Target:
    """A channel, or some boxes of it."""

    channel: ChannelConfig
    only: tuple[str, ...] = ()  # patterns of boxnames; () = all


def _code(summary: Summary) -> int:
    return 4 if summary.held else 1 if summary.failed else 0


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
