"""A mailbox of a server that is renamed: what is known of it goes along, and nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from mailsync.drivers.imap.select import mailbox_id
from mailsync.drivers.imap.store import ImapStore
from mailsync.errors import BoxError, Lost
from mailsync.model import FLAGGED, SEEN, Failure, FlagChange, Mailbox, Message, Uid

from .mail import entries
from .servers.fake import EVERYTHING, Answer, FakeServer, Swallow, Trap
from .servers.fakestore import No
from .test_imap_engine import fill, opened

OLD, NEW = Mailbox("old"), Mailbox("new")


@contextmanager
def serving() -> Iterator[tuple[FakeServer, ImapStore]]:
    """`old` with two messages, and one in `old/x`: all of them listed."""
    with FakeServer(EVERYTHING) as server:
        fill(server, b"old", "1", "2")
        fill(server, b"old/x", "x")
        with opened(server) as driver:
            for name in ("old", "old/x"):
                entries(driver, name)
            yield server, driver


def ids(driver: ImapStore, mailbox: str, *uids: str) -> list[str]:
    """What lies there under these uids now; "gone" if nothing does."""
    with driver.open(Mailbox(mailbox), write=False) as box:
        return [
            got.head.partition(b"Message-ID: <")[2].partition(b"@")[0].decode()
            if isinstance(got, Message) and got.head
            else "gone"
            for got in box.fetch([Uid(uid) for uid in uids])
        ]


def test_name_that_another_mailbox_had_before_means_the_renamed_one() -> None:
    with serving() as (server, driver):
        fill(server, b"new", "other")
        entries(driver, NEW)
        server.store.delete(b"new")

        driver.rename(OLD, NEW)

        assert ["1", "2"] == ids(driver, "new", "1", "2")
        assert ["x"] == ids(driver, "new/x", "1")
        for gone in ("old", "old/x"):
            with pytest.raises(BoxError):
                ids(driver, gone, "1")


@pytest.mark.parametrize("name", [b"new", b"new/x"])
def test_mailbox_that_gets_new_uids_when_it_is_renamed_is_listed_anew_first(name: bytes) -> None:
    with serving() as (server, driver):
        rename = server.store.rename

        def renumbering(old: bytes, new: bytes) -> None:
            rename(old, new)
            server.store[name].renumber(77)

        server.store.rename = renumbering  # type: ignore[method-assign]
        driver.rename(OLD, NEW)

        with pytest.raises(Lost):
            ids(driver, name.decode(), "1")
        assert entries(driver, name.decode())
        assert "gone" not in ids(driver, name.decode(), "1")


def test_mailbox_that_is_left_behind_is_still_known_under_its_name() -> None:
    with serving() as (server, driver):
        rename = server.store.rename

        def leaving(old: bytes, new: bytes) -> None:
            below = server.store.pop(b"old/x")
            rename(old, new)
            server.store[b"old/x"] = below

        server.store.rename = leaving  # type: ignore[method-assign]
        driver.rename(OLD, NEW)

        assert ["x"] == ids(driver, "old/x", "1")
        server.store[b"old/x"].renumber(77)
        with pytest.raises(Lost):
            ids(driver, "old/x", "1")


def test_what_comes_under_the_old_name_is_another_mailbox() -> None:
    with serving() as (server, driver):
        driver.rename(OLD, NEW)
        fill(server, b"old", "other")

        assert ["<other@x>"] == [entry.id for entry in entries(driver, OLD)]
        assert ["1", "2"] == ids(driver, "new", "1", "2")


def test_flags_of_what_we_changed_before_are_still_ours_to_change() -> None:
    with serving() as (server, driver):
        for mailbox, flag in ((OLD, SEEN), (NEW, FLAGGED)):
            if mailbox == NEW:
                driver.rename(OLD, NEW)
            with driver.open(mailbox, write=True) as box:
                assert ["1"] == list(box.set_flags([FlagChange(Uid("1"), frozenset({flag}))]))

        server.store[b"new"].set_flags(2, [rb"\Seen"])
        with driver.open(NEW, write=True) as box:
            [answer] = box.set_flags([FlagChange(Uid("2"), frozenset({FLAGGED}))])
        assert isinstance(answer, Failure)
        assert answer.gone


def test_rename_that_was_not_heard_is_followed() -> None:
    with serving() as (server, driver):
        server.script.append(Trap(rb"RENAME", Swallow()))

        driver.rename(OLD, NEW)

        assert (["1"], ["x"]) == (ids(driver, "new", "1"), ids(driver, "new/x", "1"))


def test_rename_that_is_refused_leaves_all_as_it_was() -> None:
    with serving() as (server, driver):
        server.script.append(Trap(rb"RENAME", Answer("NO [NOPERM] never"), nth=0))

        with pytest.raises(BoxError, match="never") as raised:
            driver.rename(OLD, NEW)

        assert raised.value.hint
        assert (["1"], ["x"]) == (ids(driver, "old", "1"), ids(driver, "old/x", "1"))


def test_levels_above_are_made_where_a_server_does_not_make_them() -> None:
    with serving() as (server, driver):
        rename = server.store.rename

        def strict(old: bytes, new: bytes) -> None:
            if new.rpartition(b"/")[0] not in server.store:
                raise No(b"[NONEXISTENT] no level above")
            rename(old, new)

        server.store.rename = strict  # type: ignore[method-assign]
        driver.rename(OLD, Mailbox("a/b/new"))

        assert ["1"] == ids(driver, "a/b/new", "1")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        (b"MAILBOXID (F2212ea87-6097_x)", "F2212ea87-6097_x"),
        (b'"x y" (MESSAGES 3 MAILBOXID (a) UIDNEXT 4)', "a"),
        (b"MAILBOXID ()", None),
        (b"MAILBOXID (" + b"x" * 256 + b")", None),
        (b"MAILBOXID NIL", None),
        (b"", None),
    ],
)
def test_identity_of_a_mailbox_is_read(text: bytes, wanted: str | None) -> None:
    assert wanted == mailbox_id(text)


def test_renaming_that_is_said_and_not_done_is_an_error() -> None:
    """The next run took it for a mailbox that was renamed there, and undid what a user had done here."""
    with serving() as (server, driver):
        server.script.append(Trap("RENAME", Answer("OK done")))

        with pytest.raises(BoxError, match="says that it is, and it is not there"):
            driver.rename(OLD, NEW)

        assert ["1", "2"] == ids(driver, "old", "1", "2")
