"""The driver contract, kept on real servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import ClassVar

import pytest

from mailsync.drivers.contract import Transfers
from mailsync.drivers.imap.store import ImapStore
from mailsync.model import NONE, SEEN, Appended, Failure, Mailbox

from .contract import DATES, DriverContract
from .mail import Mail, entries, message, put
from .servers import Login, Server, matrix, server
from .servers.stores import store_on

NO_TEXT = frozenset({"invalid-utf-8"})  # cannot be said in IMAP
NO_MESSAGE = frozenset({"empty"})  # servers refuse it, hang up, or store two bytes


class ImapContract(DriverContract):
    server_name: ClassVar[str]
    exact = False  # a server may change line ends, NUL and 8-bit bytes
    cannot_hold = NO_MESSAGE
    cannot_name = NO_TEXT
    always = frozenset({"INBOX"})
    many = 1000

    copies_flags: ClassVar[bool] = True  # with COPY

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

    def test_messages_are_copied_and_moved_to_another_mailbox_without_coming_here(self) -> None:
        with self.connect() as driver:
            a, b = self.name("a"), self.name("b")
            uids = put(driver, a, [Mail(message(n), frozenset({SEEN})) for n in range(4)])
            driver.create(b)

            with driver.open(a, write=True) as box:
                assert isinstance(box, Transfers)
                copied = list(box.copy(uids[:2], b))
                moved = list(box.move([uids[3], uids[2]], b))

            assert [uids[0], uids[1], uids[3], uids[2]] == [
                one.source for one in (*copied, *moved) if isinstance(one, Appended)
            ]
            assert ["<0@x>", "<1@x>"] == [one.id for one in entries(driver, a)]
            arrived = {one.id: one.flags for one in entries(driver, b)}
            assert {f"<{n}@x>": frozenset({SEEN}) if self.copies_flags else NONE for n in range(4)} == arrived

    def test_message_that_is_gone_is_not_moved_and_nor_is_its_neighbour(self) -> None:
        with self.connect() as driver:
            a, b = self.name("a"), self.name("b")
            uids = self._with_one_taken_away(a)
            driver.create(b)

            with driver.open(a, write=True) as box:
                assert isinstance(box, Transfers)
                [copied] = box.copy([uids[1]], b)
                [moved] = box.move([uids[1]], b)

            assert isinstance(copied, Failure)
            assert isinstance(moved, Failure)
            assert copied.gone
            assert moved.gone
            assert [[uids[0], uids[2]], []] == [[one.uid for one in entries(driver, name)] for name in (a, b)]


class DovecotContract(ImapContract):
    cannot_name = NO_TEXT | {"newline"}
    changes = frozenset({"nul", "nul-in-header"})  # NUL becomes 0x80
    dates = tuple(date for date in DATES if date < time.time())  # what is yet to come becomes now


class TestDovecot(DovecotContract):
    server_name = "dovecot"


class TestDovecotDot(DovecotContract):
    server_name = "dovecot-dot"


class TestDovecotMbox(DovecotContract):
    server_name = "dovecot-mbox"
    changes = DovecotContract.changes | {"from-in-header"}  # taken for the postmark


class TestDovecotSdbox(DovecotContract):
    server_name = "dovecot-sdbox"


class TestDovecotBare(DovecotContract):
    server_name = "dovecot-bare"


class CyrusContract(ImapContract):
    cannot_name = NO_TEXT | {"newline", "percent", "quotes"}
    cannot_hold = NO_MESSAGE | {"nul", "nul-in-header", "no-colon", "quoted-from-first", "header-without-newline"}
    changes = frozenset({"8-bit-header", "8-bit-id"})  # such a byte in a header becomes X
    dates = DATES[1:]
    many = 500


class TestCyrus(CyrusContract):
    server_name = "cyrus"


class TestCyrusAlt(CyrusContract):
    server_name = "cyrus-alt"


class TestCourier(ImapContract):
    server_name = "courier"
    changes = frozenset({"bare-cr"})  # taken away
    dates = DATES[1:]


class TestImap4d(ImapContract):
    server_name = "imap4d"
    cannot_hold = NO_MESSAGE | {"no-colon"}
    # A NUL ends the message; and what is no header field becomes one.
    changes = frozenset({"nul", "nul-in-header", "from-in-header", "quoted-from-first", "folded-first"})
    copies_flags = False
    stays_itself = False  # UIDVALIDITY is kept in the first message
    many = 100
