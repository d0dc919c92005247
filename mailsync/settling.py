"""Whether a channel still is as a run has left it that found nothing; and the stamp that tells the next run."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from .config import ChannelConfig, StoreConfig
from .drivers.contract import Driver, Settles, Sight
from .model import Mailbox, Side
from .report import Report
from .secrets import same_account
from .settled import Settled, Stamp
from .spec import Remote, parse

if TYPE_CHECKING:
    from .msinfo.mailbox import Msinfo

Drivers = Mapping[Side, Driver]


class Settling:
    """One channel, for one run. What its stores were before the run looked at them, their drivers know.

    `config`: the file that all this is from; None: it is no file, or has just been changed. `hooks`: there are some, to
    be run whatever is found. `at_once`: both stores are on servers, and may be asked at the same time.
    """

    def __init__(
        self,
        stamp: Settled,
        channel: ChannelConfig,
        stores: Mapping[Side, StoreConfig],
        report: Report,
        config: Sight | None,
        hooks: bool,
        at_once: bool = False,
    ) -> None:
        self._stamp = stamp
        self._channel = channel
        self._stores = stores
        self._report = report
        self._config = config
        self._hooks = hooks
        self._at_once = at_once
        self._last: Stamp | None = None

    def is_sure(self) -> bool:
        """True if nothing on this machine has changed, and nobody else need be asked. What that tells is told then."""
        self._last = self._stamp.read()
        return self._last is not None and not self._last.servers and self._again(self._last)

    def is_settled(self, drivers: Drivers, msinfo: tuple[Driver, Mailbox] | None) -> bool:
        """Likewise, after asking the servers: `drivers` of the stores that are on one, and `msinfo` if it is."""
        if self._last is None:
            return False
        asked = self._asked(drivers)
        if msinfo:
            own, mailbox = msinfo
            remote = parse(self._channel.msinfo)
            same = same_account(remote, self._stores.values()) if isinstance(remote, Remote) else None
            there = next((drivers[side] for side, store in self._stores.items() if store is same), own)
            asked.append(_mailbox(there, mailbox))
        return [sight.token for sight in asked if sight] == self._last.servers and self._again(self._last)

    def note(self, drivers: Drivers, msinfo: Msinfo, until: float) -> None:
        """The run has found nothing. `until`: when something will have to be done all the same."""
        away = isinstance(parse(self._channel.msinfo), Remote)
        memory = Sight(token=msinfo.token or "") if away else _sight(msinfo.driver)
        sights = [self._config, *(_sight(drivers[side]) for side in self._stores), memory]
        told = self._report.told()
        if told is None or not all(sight and (sight.paths or sight.token) for sight in sights):
            return
        known = [sight for sight in sights if sight]
        paths = dict(chain.from_iterable(sight.paths.items() for sight in known))
        if all(paths[path] == found for sight in known for path, found in sight.paths.items()):
            self._stamp.write(Stamp([sight.token for sight in known if sight.token], told, self._hooks), paths, until)

    def _asked(self, drivers: Drivers) -> list[Sight | None]:
        if not self._at_once:
            return [_sight(drivers[side]) for side, store in self._stores.items() if store.server]
        from .beside import both  # with threading

        return [*both(partial(_sight, drivers[Side.A]), partial(_sight, drivers[Side.B]))]

    def _again(self, stamp: Stamp) -> bool:
        self._report.say(stamp.told)
        return True


def _sight(driver: Driver) -> Sight | None:
    return driver.sight() if isinstance(driver, Settles) else None


def _mailbox(driver: Driver, mailbox: Mailbox) -> Sight | None:
    info = driver.find(mailbox)
    return Sight(token=info.token) if info and info.token else None
