"""From a configuration to open stores: on this machine or on a server, each with what it needs to be reached."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from .config.values import ChannelConfig, StoreConfig
from .drivers.contract import Driver
from .drivers.imap.account import QUIET, Account, Tell
from .drivers.local import LocalStore
from .model import Mailbox
from .names import Names, Patterns
from .secrets import Vault, same_account
from .spec import INBOX, Remote, parse
from .stores import Store, over, patterns_of


@dataclass(frozen=True, slots=True)
class Opener:
    """Opens what one run needs. Nothing of IMAP is imported before a store on a server is opened."""

    home: str
    environ: Mapping[str, str]
    vault: Vault
    tell: Tell = QUIET

    @contextmanager
    def store(self, config: StoreConfig) -> Iterator[Store]:
        """StoreError, LoginError or CertificateError if it cannot be reached."""
        if not config.server:
            local = LocalStore(
                self.home,
                patterns=patterns_of(config),
                format=config.format,
                fsync=config.fsync,
                environ=self.environ,
            )
            with local:
                yield over(config, local)
            return
        from .drivers.imap.store import ImapStore

        account = self.account(config)
        config = replace(config, readonly=config.readonly or account.remote.readonly)
        driver = ImapStore(
            account,
            self.vault.of_store(config),
            self.tell,
            patterns=patterns_of(config),
            prefix=config.prefix,
            subscribed=config.subscribed,
            readonly=config.readonly,
        )
        with driver:
            names = Names(driver.prefix, driver.delimiter, slash_in_level=True, inbox=driver.automatic)
            yield Store(config, driver, names, Patterns(driver.patterns, driver.delimiter), driver.patterns)

    @contextmanager
    def msinfo(self, channel: ChannelConfig, stores: Sequence[StoreConfig]) -> Iterator[tuple[Driver, Mailbox]]:
        """The mailbox of a channel's memory; made as mbox if it is not there. `stores`: those of the channel.

        On a server it has a connection of its own, even where a store is on the same one.
        """
        spec = parse(channel.msinfo)
        if not isinstance(spec, Remote):
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
            timeout=config.timeout,
        )

    def place(self, msinfo: str) -> str:
        """A name for the mailbox that stays the same as long as it is the same one."""
        spec = parse(msinfo)
        if not isinstance(spec, Remote):
            return self._file(msinfo)
        return f"{{{spec.host.lower()}:{Account(spec).port}/user={spec.user or ''}}}{spec.mailbox}"

    def _file(self, name: str) -> str:
        return name and os.path.join(self.home, os.path.expanduser(name))


def _bare(remote: Remote) -> Remote:
    """Two accounts are equal wherever on the server their mailboxes are."""
    return replace(remote, mailbox=INBOX)
