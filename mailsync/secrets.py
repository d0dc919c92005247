"""User names, passwords and tokens: where they come from, and all that must be run, read or asked to have them."""

from __future__ import annotations

import importlib
import os
import stat
from _thread import RLock  # threading would cost each run a millisecond
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from . import spec, stopping
from .config.values import ChannelConfig, Secret, StoreConfig
from .drivers.imap.account import QUIET, Tell
from .errors import LoginError
from .wording import clean

PATIENCE = 120.0  # seconds for a command: it may ask for the passphrase of a key
WAYS = "A password comes from passwd_cmd, keyring, ~/.netrc (machine HOST login USER password ...) or passwd."
TERMINAL = "/dev/tty"


class Vault:
    """The secrets of one run: each is fetched once, however many stores, msinfos and threads want it.

    `patience`: seconds that a command gets.
    """

    def __init__(self, home: str, tell: Tell = QUIET, patience: float = PATIENCE) -> None:
        self._logins: dict[str, Login] = {}  # by store or channel: their names are told apart
        self._outside = _Outside(home, tell, patience)
        self._tell = tell

    def ask_now(self, stores: Iterable[StoreConfig]) -> None:
        """Have all that these stores surely need, so that nothing is asked in the middle of a run. LoginError if not.

        Those on this machine need nothing.
        """
        for store in stores:
            if store.server:
                self.of_store(store).ask_now()

    def ask_now_for_msinfo(self, channel: ChannelConfig, stores: Iterable[StoreConfig]) -> None:
        if isinstance(spec.parse(channel.msinfo), spec.Remote):
            self.of_msinfo(channel, stores).ask_now()

    def of_store(self, store: StoreConfig) -> Login:
        with self._outside.lock:
            if store.name not in self._logins:
                self._logins[store.name] = Login(f"store {store.name}", _remote(store.server), store, self._outside)
            return self._logins[store.name]

    def of_msinfo(self, channel: ChannelConfig, stores: Iterable[StoreConfig]) -> Login:
        """For an msinfo on a server: its own secrets, or those of the store that logs in to the same account."""
        with self._outside.lock:
            if channel.name not in self._logins:
                self._logins[channel.name] = self._new_of_msinfo(channel, list(stores))
            return self._logins[channel.name]

    def _new_of_msinfo(self, channel: ChannelConfig, stores: Sequence[StoreConfig]) -> Login:
        remote = _remote(channel.msinfo)
        same = same_account(remote, stores)
        own = bool(channel.passwd or channel.passwd_cmd or channel.token_cmd)
        if same and not own:
            self._tell.odd(
                f"msinfo of channel {channel.name} logs in as store {same.name} does; mailsync 5.2.7 asked for another"
                " password"
            )
            return self.of_store(same)
        ways = StoreConfig(
            channel.name,
            user_cmd=same.user_cmd if same else "",
            passwd=channel.passwd,
            passwd_cmd=channel.passwd_cmd,
            token_cmd=channel.token_cmd,
            keyring=any(store.keyring for store in stores),
        )
        return Login(f"msinfo of channel {channel.name}", remote, ways, self._outside)


def same_account(remote: spec.Remote, stores: Iterable[StoreConfig]) -> StoreConfig | None:
    """The first store with the same host, port and user; a mailbox that names no user goes with any."""
    for store in stores:
        if store.server:
            server = _remote(store.server)
            users = (remote.user, remote.authuser) in ((None, None), (server.user, server.authuser))
            if users and _place(server) == _place(remote):
                return store
    return None


def at_one_account(one: StoreConfig, other: StoreConfig) -> bool:
    """Whether these two, which are on servers, log in to the same account."""
    return same_account(_remote(one.server), [other]) is not None


class Login:
    """Who logs in on one server, and with what: the `Secrets` of a connection. Never shows what it knows."""

    def __init__(self, owner: str, remote: spec.Remote, ways: StoreConfig, outside: _Outside) -> None:
        self._owner = owner  # for messages
        self._remote = remote
        self._ways = ways
        self._outside = outside
        self._user: str | None = remote.user
        self._password: Secret | None = ways.passwd

    def ask_now(self) -> None:
        """Have all that is surely needed. LoginError if it cannot be had."""
        if self._ways.tunnel or self._remote.anonymous:  # a tunnel may have logged in already
            return
        self.user()
        if self.token() is None:
            self.password()

    def user(self) -> str:
        """As the specification says, else `user_cmd`, ~/.netrc, or asked. Empty: the certificate says who it is."""
        with self._outside.lock:
            if self._user is None:
                self._user = self._found_user()
            return self._user

    def password(self) -> str | None:
        """By `passwd`, `passwd_cmd`, `keyring`, ~/.netrc, or asked. None: a token or a certificate logs in."""
        if self._remote.anonymous or self._ways.token_cmd:
            return None
        if self._password is None and self._by_certificate:
            return None
        with self._outside.lock:
            if self._password is None:
                self._password = self._found_password()
            return self._password.reveal()

    def token(self, *, fresh: bool = False) -> str | None:
        """What `token_cmd` prints; `fresh` runs it again."""
        if not self._ways.token_cmd:
            return None
        with self._outside.lock:
            found = self._outside.output(self._ways.token_cmd, f"token_cmd of {self._owner}", fresh=fresh)
            return found.reveal().strip()

    @property
    def _by_certificate(self) -> bool:
        return bool(self._ways.cert) and not (self._ways.passwd_cmd or self._ways.keyring)

    def _found_user(self) -> str:
        if self._remote.anonymous:
            return "anonymous"
        if self._ways.user_cmd:
            return self._outside.output(self._ways.user_cmd, f"user_cmd of {self._owner}").reveal().strip()
        if self._by_certificate and not (self._ways.passwd or self._ways.token_cmd):
            return ""
        user, _ = self._outside.netrc(self._remote.host)
        return user or self._outside.ask_user(self._owner, self._remote.host)

    def _found_password(self) -> Secret:
        user = self._remote.authuser or self.user()
        if self._ways.passwd_cmd:
            return self._outside.output(self._ways.passwd_cmd, f"passwd_cmd of {self._owner}")
        if self._ways.keyring and (found := _of_keyring(self._owner, self._remote.host, user)):
            return found
        named, password = self._outside.netrc(self._remote.host)
        if password and named in ("", user):
            return password
        return self._outside.ask_password(self._owner, self._remote, user)


class _Outside:
    """Commands, files and the terminal, each asked once, by whoever holds the lock."""

    def __init__(self, home: str, tell: Tell, patience: float) -> None:
        self.home = home
        self.tell = tell
        self.patience = patience
        self.lock = RLock()
        self._outputs: dict[str, Secret | str] = {}  # by command; a text: why not
        self._asked: dict[tuple[str, ...], Secret | LoginError] = {}
        self._netrc: Mapping[str, tuple[str, Secret | None]] | None = None

    # ---- commands ------------------------------------------------------------------------------------------------

    def output(self, command: str, who: str, *, fresh: bool = False) -> Secret:
        """The first line that the command prints. LoginError tells how it failed, never what it printed."""
        if fresh or command not in self._outputs:
            self._outputs[command] = self._run(command)
        found = self._outputs[command]
        if isinstance(found, str):
            raise LoginError(
                f"{who} {found}", "Run it by hand: its first line must be what is wanted, its exit code 0."
            )
        return found

    def _run(self, command: str) -> Secret | str:
        from . import external  # few runs need it

        failed, printed = external.output(command, TERMINAL if _has_terminal() else "", self.patience)
        if failed:
            return failed
        line = printed.partition(b"\n")[0].removesuffix(b"\r")
        if not line.strip():
            return "printed nothing"
        try:
            return Secret(line.decode())
        except UnicodeDecodeError:
            return "printed what is no UTF-8"

    # ---- ~/.netrc ------------------------------------------------------------------------------------------------

    def netrc(self, host: str) -> tuple[str, Secret | None]:
        """User and password of this host, as far as the file has them. Its `default` is for FTP, and not used."""
        if self._netrc is None:
            self._netrc = self._read_netrc()
        return self._netrc.get(host.lower(), ("", None))

    def _read_netrc(self) -> Mapping[str, tuple[str, Secret | None]]:
        import netrc

        path = os.path.join(self.home, ".netrc")
        try:
            mode = os.stat(path).st_mode
            hosts = netrc.netrc(path).hosts
        except FileNotFoundError:
            return {}
        except netrc.NetrcParseError as err:  # its own message shows the word that it stumbled over: part of a password
            self.tell.note(
                f"{path}: not used: not understood before line {err.lineno}; a word with blanks is written in quotes"
            )
            return {}
        except (OSError, ValueError) as err:
            self.tell.note(f"{path}: not used: {getattr(err, 'strerror', None) or 'it is no text'}")
            return {}
        if mode & (stat.S_IRWXG | stat.S_IRWXO) and hosts:
            import shlex  # only needed for this

            self.tell.note(f"{path}: not used, because others can reach it; run: chmod 600 {shlex.quote(path)}")
            return {}
        hosts.pop("default", None)
        return {
            host.lower(): (user or "", Secret(password) if password else None)
            for host, (user, _, password) in hosts.items()
        }

    # ---- the terminal --------------------------------------------------------------------------------------------

    def ask_user(self, owner: str, host: str) -> str:
        def ask() -> str:
            if not _has_terminal():
                raise LoginError(
                    f"{owner}: no user is known for {host}, and there is no terminal to ask on",
                    f"Write it into the specification, as {{{host}/user=NAME}}, or set user_cmd.",
                )
            return _typed(f"User for {owner} on {clean(host)}: ", "user", owner, echo=True).strip()

        return self._once(("user", owner), ask).reveal()

    def ask_password(self, owner: str, remote: spec.Remote, user: str) -> Secret:
        def ask() -> str:
            if not _has_terminal():
                raise LoginError(
                    f"{owner}: no password is known for {user} on {remote.host}, and there is no terminal to ask on",
                    WAYS,
                )
            prompt = f"Password for {clean(user)} on {clean(remote.host)} ({owner}): "
            return _typed(prompt, "password", owner, echo=False)

        return self._once(("password", *_place(remote), user), ask)

    def _once(self, key: tuple[str, ...], ask: Callable[[], str]) -> Secret:
        """Who has given nothing is not asked again: in the middle of a run nobody may be there to answer."""
        if key not in self._asked:
            try:
                self._asked[key] = Secret(ask())
            except LoginError as err:
                self._asked[key] = err
        found = self._asked[key]
        if isinstance(found, LoginError):
            raise found
        return found


def _typed(prompt: str, what: str, owner: str, *, echo: bool) -> str:
    """What the user types on the terminal, wherever the standard streams lead. LoginError for nothing."""
    from . import terminal

    text = terminal.typed(TERMINAL, prompt, echo=echo)
    if not text:
        raise LoginError(f"{owner}: no {what} was given", WAYS if what == "password" else "")
    return text


def _has_terminal() -> bool:
    from . import terminal

    return terminal.is_there(TERMINAL)


def _of_keyring(owner: str, host: str, user: str) -> Secret | None:
    """What the system's keyring has for this user; LoginError if there is no keyring to ask."""
    try:
        keyring: Any = importlib.import_module("keyring")  # an extra: most do without
    except ImportError as err:
        raise LoginError(
            f"{owner}: 'keyring yes' needs the library keyring", "Run: pip install mailsync[keyring]"
        ) from err
    try:
        with stopping.waiting():  # it may ask for a password of its own
            found: str | None = keyring.get_password(f"mailsync:{host}", user)
    except keyring.errors.KeyringError as err:
        raise LoginError(f"{owner}: the keyring cannot be read: {type(err).__name__}", WAYS) from err
    return Secret(found) if found else None


def _remote(text: str) -> spec.Remote:
    remote = spec.parse(text)
    assert isinstance(remote, spec.Remote)  # the caller saw the '{'
    return remote


def _place(remote: spec.Remote) -> tuple[str, str]:
    return remote.host.lower(), str(remote.port or (993 if remote.ssl else 143))
