"""The driver contract, kept on real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import pytest
from imapclient import IMAPClient

from mailsync.drivers.imap.store import ImapStore
from mailsync.model import Mailbox

from .contract import DATES, NestingContract, TransferContract
from .mail import Mail, message, put
from .servers import Login, Server, matrix, server
from .servers.stores import store_on

NO_TEXT = frozenset({"invalid-utf-8"})  # cannot be said in IMAP
NO_MESSAGE = frozenset({"empty"})  # servers refuse it, hang up, or store two bytes


class ImapContract(TransferContract):
    server_name: ClassVar[str]
    exact = False  # a server may change line ends, NUL and 8-bit bytes
    cannot_hold = NO_MESSAGE
    cannot_name = NO_TEXT
    always = frozenset({"INBOX"})
    identifies = False
    many = 1000

    server: Server
    login: Login

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _matrix(cls, request: pytest.FixtureRequest) -> Iterator[None]:
        before = request.session.testsfailed
        yield
        failed = request.session.testsfailed - before
        matrix.record("driver contract", cls.server_name, f"{failed} failed" if failed else "ok")

    @pytest.fixture(autouse=True)
    def _login(self) -> Iterator[None]:
        self.server = server(self.server_name)
        self.login = self.server.new_login()
        self.opened: list[ImapStore] = []
        yield
        for store in self.opened:
            store.__exit__()

    @property
    def pattern(self) -> str:  # type: ignore[override]
        return f"{self.server.prefix}*"

    def connect(self) -> ImapStore:
        store = store_on(self.server, self.login, self.pattern)
        self.opened.append(store)
        return store

    def name(self, *levels: str) -> Mailbox:
        return Mailbox(self.server.prefix + self.server.delimiter.join(levels))

    # ---- what only servers can ---------------------------------------------------------------------------------------

    def test_renamed_mailbox_is_subscribed_if_it_was(self) -> None:
        with self.connect() as driver:
            for name in ("mine", "others"):
                put(driver, self.name(name), [Mail(message(name))])
        with self._raw() as client:
            client.unsubscribe_folder(self.name("others"))

        with self.connect() as driver:
            for name in ("mine", "others"):
                driver.rename(self.name(name), self.name(f"{name}-too"))

        with self._raw() as client:
            subscribed = {name for _, _, name in client.list_sub_folders()}
        assert {self.name("mine-too")} == subscribed - {"INBOX"}

    @contextmanager
    def _raw(self) -> Iterator[Any]:
        with IMAPClient("127.0.0.1", self.server.port, ssl=False) as client:
            client.login(self.login.user, self.login.password)
            yield client


class DovecotContract(ImapContract):
    cannot_name = NO_TEXT | {"newline"}
    changes = frozenset({"nul", "nul-in-header"})  # NUL becomes 0x80
    dates = tuple(date for date in DATES if date < time.time())  # what is yet to come becomes now


class TestDovecot(DovecotContract, NestingContract):
    server_name = "dovecot"


class TestDovecotDot(DovecotContract, NestingContract):
    server_name = "dovecot-dot"


class TestDovecotMbox(DovecotContract):
    server_name = "dovecot-mbox"
    changes = DovecotContract.changes | {"from-in-header"}  # taken for the postmark


class TestDovecotSdbox(DovecotContract, NestingContract):
    server_name = "dovecot-sdbox"


class TestDovecotBare(DovecotContract, NestingContract):
    server_name = "dovecot-bare"


class CyrusContract(ImapContract):
    identifies = True
    cannot_name = NO_TEXT | {"newline", "percent", "quotes"}
    cannot_hold = NO_MESSAGE | {"nul", "nul-in-header", "no-colon", "quoted-from-first", "header-without-newline"}
    changes = frozenset({"8-bit-header", "8-bit-id"})  # such a byte in a header becomes X
    dates = DATES[1:]
    many = 500


class TestCyrus(CyrusContract, NestingContract):
    server_name = "cyrus"


class TestCyrusAlt(CyrusContract, NestingContract):
    server_name = "cyrus-alt"


class TestCourier(ImapContract, NestingContract):
    server_name = "courier"
    keeps_uids = False
    changes = frozenset({"bare-cr"})  # taken away
    dates = DATES[1:]


class TestImap4d(ImapContract):
    server_name = "imap4d"
    cannot_hold = NO_MESSAGE | {"no-colon"}
    # A NUL ends the message; and what is no header field becomes one.
    changes = frozenset({"nul", "nul-in-header", "from-in-header", "quoted-from-first", "folded-first"})
    stays_itself = False  # UIDVALIDITY is kept in the first message
    many = 100
