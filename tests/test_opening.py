"""From a configuration to accounts, patterns and names of mailboxes that stay the same."""

from __future__ import annotations

import pytest

from mailsync.config import StoreConfig
from mailsync.drivers.imap.account import Account
from mailsync.opening import Opener, patterns_of
from mailsync.secrets import Vault
from mailsync.spec import Remote

OPENER = Opener("/home/jane", {}, Vault("/home/jane"))


def test_account_is_what_the_store_says_with_its_files_in_the_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/jane")
    store = StoreConfig(
        "s", server="{h/user=jane/ssl}INBOX.", tunnel="t", cert="c.pem", key="~/k.pem", ca="/etc/ca", pin="a", timeout=5
    )

    assert OPENER.account(store) == Account(
        Remote("h", user="jane", ssl=True), "t", "/home/jane/c.pem", "/home/jane/k.pem", "/etc/ca", "a", 5
    )


def test_files_that_are_not_named_are_none() -> None:
    account = OPENER.account(StoreConfig("s", server="{h}"))

    assert ("", "", "") == (account.cert, account.key, account.ca)


@pytest.mark.parametrize(
    ("server", "ref", "expected"),
    [
        ("{h/user=u}", "{h/user=u}", ("a/%", "!b")),
        ("{h/user=u}", "{h}INBOX.", ("INBOX.a/%", "!INBOX.b")),
        ("{h/user=u}", "INBOX.", ("INBOX.a/%", "!INBOX.b")),
        ("", "Mail/", ("Mail/a/%", "!Mail/b")),
    ],
)
def test_patterns_are_below_ref_without_its_server(server: str, ref: str, expected: tuple[str, ...]) -> None:
    assert expected == patterns_of(StoreConfig("s", server=server, ref=ref, patterns=("a/%", "!b")))


@pytest.mark.parametrize(
    ("msinfo", "expected"),
    [
        (".msinfo", "/home/jane/.msinfo"),
        ("/var/m", "/var/m"),
        ("{H/user=u/ssl/novalidate-cert}m", "{h:993/user=u}m"),
        ("{h:993/user=u/ssl}m", "{h:993/user=u}m"),
        ("{h}", "{h:143/user=}INBOX"),
    ],
)
def test_place_of_msinfo_is_the_same_however_it_is_reached(msinfo: str, expected: str) -> None:
    assert expected == OPENER.place(msinfo)
