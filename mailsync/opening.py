"""From a configuration to open stores: on this machine or on a server, each with what it needs to be reached."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from .config.values import ChannelConfig, StoreConfig
from .drivers.contract import Driver
from .drivers.imap.account import QUIET, Account, Tell
from .errors import BoxError, StoreError
from .model import Mailbox
from .secrets import Vault, same_account
from .spec import INBOX, Remote, parse, server_part

if TYPE_CHECKING:
    from .chains import Login, Uses
    from .drivers.imap.store import ImapStore
    from .drivers.local import LocalStore
    from .stores import Store

StoreDriver: TypeAlias = "LocalStore | ImapStore"


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens what one run needs. A kind of store is imported when one is opened, the rest when there is work for it."""

    home: str
    environ: Mapping[str, str]
    vault: Vault
    tell: Tell = QUIET

    @contextmanager
    def store(self, config: StoreConfig) -> Iterator[Store]:
        """StoreError, LoginError or CertificateError if it cannot be reached."""
        with self.driver(config) as driver:
            yield self.over(config, driver)

    def driver(self, config: StoreConfig) -> StoreDriver:
        """What a store is to be worked with. It is reached with the first thing that is asked of it."""
        if not config.server:
            from .drivers.local import LocalStore

            return LocalStore(
                self.home,
                patterns=patterns_of(config),
                format=config.format,
                fsync=config.fsync,
                environ=self.environ,
            )
        from .drivers.imap.store import ImapStore

        account = self.account(config)
        return ImapStore(
            account,
            self.vault.of_store(config),
            self.tell,
            patterns=patterns_of(config),
            prefix=config.prefix,
            subscribed=config.subscribed,
            readonly=config.readonly or account.remote.readonly,
            connections=config.connections,
        )

    def over(self, config: StoreConfig, driver: StoreDriver) -> Store:
        """The store that a driver is of, once that has been opened."""
        from .drivers.local import LocalStore
        from .names import Names, Patterns
        from .stores import Store, over

        if isinstance(driver, LocalStore):
            return over(config, driver, patterns_of(config))
        config = replace(config, readonly=config.readonly or self.account(config).remote.readonly)
        names = Names(driver.prefix, driver.delimiter, slash_in_level=True, inbox=driver.automatic)
        return Store(config, driver, names, Patterns(driver.patterns, driver.delimiter), driver.patterns)

    @contextmanager
    def msinfo(self, channel: ChannelConfig, stores: Sequence[StoreConfig]) -> Iterator[tuple[Driver, Mailbox]]:
        """The mailbox of a channel's memory; made as mbox if it is not there. `stores`: those of the channel.

        On a server it has a connection of its own, even where a store is on the same one.
        """
        spec = parse(channel.msinfo)
        if not isinstance(spec, Remote):
            from .drivers.local import LocalStore

            local = LocalStore(self.home, patterns=(channel.msinfo,), format="mbox", environ=self.environ)
            with local:
                yield local, Mailbox(channel.msinfo)
            return
        from .drivers.imap.store import ImapStore

        same = same_account(spec, stores)
        account = replace(self.account(same), remote=_bare(spec)) if same else Account(_bare(spec))
        secrets = self.vault.of_msinfo(channel, stores)
        driver = ImapStore(
            account, secrets, self.tell, patterns=(spec.mailbox,), prefix="", subscribed=False, readonly=False
        )
        with driver:
            yield driver, spec.mailbox

    def account(self, config: StoreConfig) -> Account:
        """Where a store on a server is."""
        remote = parse(config.server)
        assert isinstance(remote, Remote)  # the configuration was checked
        return Account(
            _bare(remote),
            tunnel=config.tunnel,
            cert=self._file(config.cert),
            key=self._file(config.key),
            ca=self._file(config.ca),
            pin=config.pin,
            compress=config.compress,
            timeout=config.timeout,
        )

    def place(self, msinfo: str) -> str:
        """A name for the mailbox that stays the same as long as it is the same one."""
        spec = parse(msinfo)
        if not isinstance(spec, Remote):
            return self._file(msinfo)
        return f"{{{spec.host.lower()}:{Account(spec).port}/user={spec.user or ''}}}{spec.mailbox}"

    def root(self, config: StoreConfig) -> str:
        """Where a store is: the same for all of one account, or below the same directories."""
        if config.server:
            account = self.account(config)
            return f"{account}/{account.remote.user or config.name}"
        return "\n".join(sorted(map(os.path.realpath, self._paths(config))))

    def uses(self, channel: ChannelConfig, stores: Sequence[StoreConfig]) -> Uses:
        """What a channel, of which these are the stores, will work with. Opens nothing."""
        from .chains import Uses  # only ever asked for several channels

        logins = {_login(store.server, store.tunnel) for store in stores if store.server}
        msinfo, place = parse(channel.msinfo), self.place(channel.msinfo)
        if not isinstance(msinfo, Remote):
            place = os.path.realpath(place)
        elif not same_account(msinfo, stores):
            logins.add(_login(channel.msinfo))
        paths = (path for store in stores if not store.server for path in self._paths(store))
        return Uses(frozenset(logins), frozenset(map(os.path.realpath, paths)), place)

    def _paths(self, config: StoreConfig) -> Iterable[str]:
        """Below these lies all mail of a local store."""
        from .drivers.places import INBOX as LOCAL_INBOX
        from .drivers.places import MH_INBOX, Places
        from .names import Patterns

        texts = patterns_of(config)
        places = Places(self.home, texts, config.format, self.environ)
        named = [LOCAL_INBOX] if Patterns(texts).matches(LOCAL_INBOX) else []
        named += [MH_INBOX] if MH_INBOX in (text.lower() for text in texts) else []
        named += [Mailbox(config.delete.trash)] if config.delete.trash else []
        try:
            return [*(root.path for root in places.roots(texts)), *(places.place(name).path for name in named)]
        except (StoreError, BoxError):
            return [self.home]  # it will not be opened; if it is, it may be anywhere

    def _file(self, name: str) -> str:
        return name and os.path.join(self.home, os.path.expanduser(name))


def patterns_of(config: StoreConfig) -> tuple[str, ...]:
    """The patterns with `ref` before each, as LIST has it (RFC 3501, 6.3.8); without the `{...}` of a server."""
    ref = config.ref
    if config.server and ref.startswith("{"):
        ref = ref.removeprefix(server_part(ref))
    return tuple("!" + ref + text[1:] if text.startswith("!") else ref + text for text in config.patterns)


def _login(server: str, tunnel: str = "") -> Login:
    """Only its command tells where a tunnel leads."""
    remote = parse(server)
    assert isinstance(remote, Remote)  # the configuration was checked
    return (f"tunnel {tunnel}" if tunnel else f"{remote.host.lower()}:{Account(remote).port}"), remote.user


def _bare(remote: Remote) -> Remote:
    """Two accounts are equal wherever on the server their mailboxes are."""
    return replace(remote, mailbox=INBOX)
