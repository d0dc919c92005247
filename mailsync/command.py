"""What a command line means: which names are channels and stores, which mode that is, and what the run is made of."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import chain

from . import auth, config
from .arguments import USAGE
from .channel import Channel
from .config import ChannelConfig, StoreConfig
from .drivers.imap.account import QUIET, Tell
from .errors import LoginError, MailsyncError, UsageError, worst
from .identity import identify
from .model import Identify, Side
from .modes import compare, list_store
from .msinfo.mailbox import Msinfo
from .opening import Opener
from .planner import Options
from .report import Report, Summary
from .report.headers import Telling
from .secrets import Vault
from .state import cache_file, run_lock
from .wording import did_you_mean


class Command:
    """One command line, with its configuration."""

    def __init__(self, options: Namespace, report: Report) -> None:
        self._options = options
        self._report = report
        home = os.path.expanduser("~")
        self._path = config.find(options.config, home)
        self._config = config.load(self._path)
        self._vault = Vault(home, self._tell())
        self._opener = Opener(home, os.environ, self._vault, self._tell())
        self._channels: list[Target] = []

    def run(self) -> int:
        if self._options.debug_config:
            self._report.config(config.dump(self._config))
            if not self._options.names:
                return 0
        for warning in self._config.warnings:
            self._report.note(warning)
        targets = [self._named(name) for name in self._options.names]
        channels = self._channels = [target for target in targets if isinstance(target, Target)]
        places = [target for target in targets if isinstance(target, StoreConfig)]
        match channels, places:
            case [], []:
                raise UsageError("which channel or store?", f"usage: {USAGE}\n{self._path} defines {self._known()}.")
            case _ if self._options.test_auth:
                return self._test_auth(targets)
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
        self._vault.ask_now([store])
        with self._opener.store(store) as opened:
            return _code(list_store(opened, self._identify(), self._report))

    def _diff(self, target: Target, store: StoreConfig) -> int:
        channel = target.channel
        if store.name not in (channel.a, channel.b):
            raise UsageError(
                f"channel {channel.name} does not contain store {store.name}",
                f"Its stores are {channel.a} and {channel.b}.",
            )
        self._ask(target, store)
        with self._opener.store(store) as opened, self._msinfo(target) as msinfo:
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
        place = self._opener.place(channel.msinfo)
        sides = dict(zip(Side, self._stores_of(target), strict=True))
        with ExitStack() as stack:
            if not options.simulate:
                stack.enter_context(run_lock(channel.name, place))
            self._ask_all(target)
            opened = {
                side: stack.enter_context(self._opener.store(_without_create(store, channel, side)))
                for side, store in sides.items()
            }
            run = Channel(
                channel.name,
                opened,
                stack.enter_context(self._msinfo(target)),
                self._identify(),
                self._report,
                self._run_options(channel, target.only),
                cache_file(channel.name, place),
            )
            return run.sync()

    def _test_auth(self, targets: Sequence[StoreConfig | Target]) -> int:
        """One store that does not let us in does not keep the others from being tried. A channel stands for its own."""
        codes = []
        stores = ([target] if isinstance(target, StoreConfig) else self._stores_of(target) for target in targets)
        for store in dict.fromkeys(chain.from_iterable(stores)):
            try:
                self._show(self._answer(store))
            except MailsyncError as error:
                self._report.error(error, error.code)
                codes.append(error.code)
        return worst(codes)

    def _answer(self, store: StoreConfig) -> auth.Answer:
        if not store.server:
            return auth.Answer(store.name)
        self._vault.ask_now([store])
        return auth.answer(store.name, self._opener.account(store), self._vault.of_store(store), self._opener.tell)

    def _show(self, answer: auth.Answer) -> None:
        if self._options.json:
            self._report.note(str(answer), asked=True)
        else:
            self._report.config(str(answer))

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
            max_delete=channel.max_delete.number,
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

    def _stores_of(self, target: Target) -> list[StoreConfig]:
        return [self._config.stores[name] for name in (target.channel.a, target.channel.b)]

    # ---- what a run is made of ---------------------------------------------------------------------------------------

    def _ask_all(self, own: Target) -> None:
        """Have the secrets of all channels before the first of them is synchronized: then the user may go.

        What another channel lacks is told when its turn comes.
        """
        for target in dict.fromkeys((own, *self._channels)):
            try:
                self._ask(target, *self._stores_of(target))
            except LoginError:
                if target is own:
                    raise

    def _ask(self, target: Target, *stores: StoreConfig) -> None:
        self._vault.ask_now(stores)
        self._vault.ask_now_for_msinfo(target.channel, self._stores_of(target))

    @contextmanager
    def _msinfo(self, target: Target) -> Iterator[Msinfo]:
        with self._opener.msinfo(target.channel, self._stores_of(target)) as (driver, mailbox):
            yield Msinfo(driver, mailbox, target.channel.name, self._options.id_type)

    def _tell(self) -> Tell:
        report, options = self._report, self._options

        def told(text: str) -> None:
            report.note(text, asked=True)

        return Tell(
            note=told,
            odd=report.note,
            progress=told if options.verbose else QUIET.progress,
            wire=told if options.debug_imap else None,
        )

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


def _without_create(store: StoreConfig, channel: ChannelConfig, side: Side) -> StoreConfig:
    """The store as the channel uses it: a mailbox is made only where both allow it."""
    return store if side in channel.create else replace(store, create=False)


def _code(summary: Summary) -> int:
    return 4 if summary.held else 1 if summary.failed else 0


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
