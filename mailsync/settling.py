"""Whether a channel still is as a run has left it that found nothing; and the stamp that tells the next run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain

from .config import ChannelConfig, StoreConfig
from .drivers.contract import Driver, Settles, Sight
from .model import Side
from .msinfo.mailbox import Msinfo
from .report import Report
from .secrets import same_account
from .settled import Settled, Stamp
from .spec import Remote, parse

Drivers = Mapping[Side, Driver]


@dataclass
class Settling:
    """One channel, for one run. What its stores were before the run looked at them, their drivers know."""

    stamp: Settled
    channel: ChannelConfig
    stores: Mapping[Side, StoreConfig]
    report: Report
    config: Sight | None  # the file they are from; None: it is no file, or has just been changed
    hooks: bool  # there are some, to be run whatever is found
    at_once: bool = False  # both stores are on servers, and may be asked at the same time
    _last: Stamp | None = field(default=None, init=False)

    def is_sure(self) -> bool:
        """True if nothing on this machine has changed, and nobody else need be asked. What that tells is told then."""
        self._last = self.stamp.read()
        return self._last is not None and not self._last.servers and self._again(self._last)

    def is_settled(self, drivers: Drivers, msinfo: Msinfo) -> bool:
        """Likewise, after asking the servers."""
        if self._last is None:
            return False
        asked = self._asked(drivers)
        remote = parse(self.channel.msinfo)
        if isinstance(remote, Remote):
            same = same_account(remote, self.stores.values())
            there = next((drivers[side] for side, store in self.stores.items() if store is same), msinfo.driver)
            asked.append(_mailbox(there, msinfo))
        return [sight.token for sight in asked if sight] == self._last.servers and self._again(self._last)

    def note(self, drivers: Drivers, msinfo: Msinfo, until: float) -> None:
        """The run has found nothing. `until`: when something will have to be done all the same."""
        away = isinstance(parse(self.channel.msinfo), Remote)
        memory = Sight(token=msinfo.token or "") if away else _sight(msinfo.driver)
        sights = [self.config, *(_sight(drivers[side]) for side in self.stores), memory]
        told = self.report.told()
        if told is None or not all(sight and (sight.paths or sight.token) for sight in sights):
            return
        known = [sight for sight in sights if sight]
        paths = dict(chain.from_iterable(sight.paths.items() for sight in known))
        if all(paths[path] == found for sight in known for path, found in sight.paths.items()):
            self.stamp.write(Stamp([sight.token for sight in known if sight.token], told, self.hooks), paths, until)

    def _asked(self, drivers: Drivers) -> list[Sight | None]:
        if not self.at_once:
            return [_sight(drivers[side]) for side, store in self.stores.items() if store.server]
        from .beside import both  # with threading

        return [*both(partial(_sight, drivers[Side.A]), partial(_sight, drivers[Side.B]))]

    def _again(self, stamp: Stamp) -> bool:
        self.report.say(stamp.told)
        return True


def _sight(driver: Driver) -> Sight | None:
    return driver.sight() if isinstance(driver, Settles) else None


def _mailbox(driver: Driver, msinfo: Msinfo) -> Sight | None:
    info = driver.find(msinfo.mailbox)
    return Sight(token=info.token) if info and info.token else None
