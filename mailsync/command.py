"""What a command line means: which names are channels and stores, which mode that is, and what the run is made of."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING

from . import config
from .arguments import USAGE
from .config import StoreConfig
from .drivers.imap.account import QUIET, Tell
from .errors import LoginError, MailsyncError, UsageError, worst
from .model import Side
from .opening import Opener
from .report import Host, Report, Summary
from .runner import Runner, Target, code_of
from .secrets import Vault
from .wording import did_you_mean

if TYPE_CHECKING:
    from . import auth


class Command:
    """One command line, with its configuration."""

    def __init__(self, options: Namespace, report: Host) -> None:
        self._options = options
        self._report = report
        home = os.path.expanduser("~")
        self._path = config.find(options.config, home)
        self._config = config.load(self._path)
        self._vault = Vault(home, self._tell(report))
        self._opener = Opener(home, os.environ, self._vault, self._tell(report))
        self._runner = Runner(self._config, options, self._opener, self._vault, report)

    def run(self) -> int:
        if self._options.debug_config:
            from .config import shown  # few runs need it

            self._report.config(shown.dump(self._config))
            if not self._names() and not self._options.apply:
                return 0
        for warning in self._config.warnings:
            self._report.note(warning)
        if self._options.apply:
            return self._apply()
        targets = list(dict.fromkeys(chain.from_iterable(map(self._named, self._names()))))
        channels = [target for target in targets if isinstance(target, Target)]
        places = [target for target in targets if isinstance(target, StoreConfig)]
        match channels, places:
            case [], []:
                raise UsageError("which channel or store?", f"usage: {USAGE}\n{self._path} defines {self._known()}.")
            case _ if self._options.test_auth:
                return self._test_auth(targets)
            case _ if self._options.check:
                return self._check_all(targets)
            case _ if self._options.plan and (len(channels) != 1 or places):
                raise UsageError("--plan writes the plan of one channel", "Name one, and a file for each.")
            case _ if self._options.undo and places:
                raise UsageError(
                    f"--undo is for channels, and {places[0].name} is a store", "Name the channel whose run deleted it."
                )
            case [], [store]:
                return self._list(store)
            case [channel], [store]:
                return self._diff(channel, store)
            case _, [] if self._options.undo:
                return self._run_all(channels, Runner.undo)
            case _, []:
                return self._sync_all(channels)
        raise UsageError(
            f"{_many(len(channels), 'channel')} and {_many(len(places), 'store')} make no mode",
            "Name channels to synchronize, one store to list, or one channel and one of its stores to compare.",
        )

    # ---- modes -------------------------------------------------------------------------------------------------------

    def _list(self, store: StoreConfig) -> int:
        from .modes import list_store  # this and what else the other modes need, few runs do
        from .running import rule

        self._vault.ask_now([store])
        with self._opener.store(store) as opened:
            return code_of(list_store(opened, rule(self._runner), self._report))

    def _diff(self, target: Target, store: StoreConfig) -> int:
        channel = target.channel
        if store.name not in (channel.a, channel.b):
            raise UsageError(
                f"channel {channel.name} does not contain store {store.name}",
                f"Its stores are {channel.a} and {channel.b}.",
            )
        from .modes import compare
        from .running import Running, rule

        self._runner.ask(target, store)
        running = Running(self._runner, target)
        with running.store(store) as opened, running.msinfo() as msinfo:
            return code_of(compare(channel.name, opened, msinfo, rule(self._runner), self._report, target.only))

    def _sync_all(self, targets: Sequence[Target]) -> int:
        code = self._run_all(targets, Runner.sync)
        if not self._options.simulate:
            config.keep(self._config)
        return code

    def _run_all(self, targets: Sequence[Target], act: Callable[[Runner, Target], int]) -> int:
        """One in the main thread, several side by side: each then with a runner and a report of its own."""
        self._ask_all(targets)
        if len(targets) == 1:
            return act(self._runner, targets[0])
        from .several import Job, Several  # with threads, which most runs do without

        def job(target: Target) -> Job:
            def run(report: Report, summary: Summary, turn: AbstractContextManager[object]) -> int:
                opener = replace(self._opener, tell=self._tell(report))
                return act(replace(self._runner, opener=opener, report=report, summary=summary, turn=turn), target)

            return Job(str(target), self._opener.uses(target.channel, self._runner.stores_of(target)), run)

        return Several(self._report, [job(target) for target in targets]).run()

    def _ask_all(self, targets: Sequence[Target]) -> None:
        """Have the secrets of all channels before the first of them is synchronized: then the user may go.

        What a channel lacks is told when its turn comes.
        """
        for target in targets:
            with suppress(LoginError):
                self._runner.ask(target, *self._runner.stores_of(target))

    def _check_all(self, targets: Sequence[StoreConfig | Target]) -> int:
        """What hinders one check does not keep the others from being made."""
        codes = []
        for target in targets:
            try:
                codes.append(self._check(target))
            except MailsyncError as error:
                if len(targets) == 1:
                    raise
                self._report.error(error, error.code)
                codes.append(error.code)
        return worst(codes) or max(codes)

    def _check(self, target: StoreConfig | Target) -> int:
        if isinstance(target, Target):
            return self._runner.check(target)
        from .check import Check
        from .running import rule

        self._vault.ask_now([target])
        with self._opener.store(replace(target, readonly=True)) as opened:
            check = Check({Side.A: opened}, rule(self._runner), self._report, self._options.full)
            return 1 if check.store() else 0

    def _apply(self) -> int:
        """Carry out the plan of a file, with the options that it was made with."""
        from . import review  # few runs need it

        file = self._options.apply
        written = review.read(file)
        if written.channel not in self._config.channels:
            raise UsageError(
                f"the plan in {file} is of channel {written.channel}, which {self._path} does not define",
                "Is it another configuration? -f names the one it was made with.",
            )
        target = Target(self._config.channels[written.channel], written.asked.only)
        names = self._names()
        if names and [target] != [one for name in names for one in self._named(name)]:
            of = ":".join((written.channel, *written.asked.only))
            raise UsageError(
                f"the plan in {file} is of {of}, not of {' '.join(names)}", "Leave the name out: it is in the file."
            )
        review.check_given(self._options, written)
        return self._run_all([target], lambda runner, one: runner.applying(written).sync(one))

    def _test_auth(self, targets: Sequence[StoreConfig | Target]) -> int:
        """One store that does not let us in does not keep the others from being tried. A channel stands for its own."""
        codes = []
        stores = ([target] if isinstance(target, StoreConfig) else self._runner.stores_of(target) for target in targets)
        for store in dict.fromkeys(chain.from_iterable(stores)):
            try:
                self._show(self._answer(store))
            except MailsyncError as error:
                self._report.error(error, error.code)
                codes.append(error.code)
        return worst(codes)

    def _answer(self, store: StoreConfig) -> auth.Answer:
        from . import auth

        if not store.server:
            return auth.Answer(store.name)
        self._vault.ask_now([store])
        return auth.answer(store.name, self._opener.account(store), self._vault.of_store(store), self._opener.tell)

    def _show(self, answer: auth.Answer) -> None:
        if self._options.json:
            self._report.note(str(answer), asked=True)
        else:
            self._report.config(str(answer))

    # ---- what the names stand for ------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        return [*self._options.names, *(self._config.channels if self._options.all else ())]

    def _named(self, name: str) -> Sequence[StoreConfig | Target]:
        config = self._config
        if name in config.stores:
            return [config.stores[name]]
        if name in config.channels:
            return [Target(config.channels[name])]
        if name in config.groups:
            return [Target(config.channels[channel]) for channel in config.groups[name]]
        channel, colon, box = name.partition(":")
        if colon and not box and channel in config.channels:
            raise UsageError(f"{name} names no mailbox", f"All of them: {channel}; one: {channel}:NAME.")
        if colon and channel in config.channels:
            return [Target(config.channels[channel], (box,))]
        raise UsageError(
            f"no channel, group or store is named {name}{did_you_mean(name, self._all())}",
            f"{self._path} defines {self._known()}.",
        )

    def _all(self) -> list[str]:
        return [*self._config.channels, *self._config.groups, *self._config.stores]

    def _known(self) -> str:
        channels, places = ", ".join(self._config.channels), ", ".join(self._config.stores)
        return f"the channels {channels or '(none)'} and the stores {places or '(none)'}"

    def _tell(self, report: Report) -> Tell:
        options = self._options

        def told(text: str) -> None:
            report.note(text, asked=True)

        return Tell(
            note=told,
            odd=report.note,
            progress=told if options.verbose else QUIET.progress,
            wire=told if options.debug_imap else None,
        )


def _many(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"
