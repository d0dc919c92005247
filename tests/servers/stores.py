"""Stores on the servers of the tests."""

from __future__ import annotations

from mailsync.drivers.imap.account import QUIET, Account, Tell
from mailsync.drivers.imap.store import ImapStore
from mailsync.spec import Remote

from . import Login, Server


class Known:
    """Secrets that need no asking."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def user(self) -> str:
        return self._login.user

    def password(self) -> str | None:
        return self._login.password

    def token(self, *, fresh: bool = False) -> str | None:
        return None


def no_sleep(seconds: float) -> None:
    """Nothing that is waited for in a test takes time to come."""


def store(
    port: int, login: Login, *patterns: str, prefix: str = "", tell: Tell = QUIET, subscribed: bool = False
) -> ImapStore:
    """A store over a plain connection."""
    account = Account(Remote("127.0.0.1", port, user=login.user, tls="never"), timeout=20)
    return ImapStore(
        account, Known(login), tell, patterns=patterns, prefix=prefix, subscribed=subscribed, sleep=no_sleep
    )


def store_on(server: Server, login: Login, *patterns: str) -> ImapStore:
    return store(server.port, login, *patterns)
