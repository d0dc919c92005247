"""What was listed is known again as it was, or not at all."""

from __future__ import annotations

import os
import sqlite3
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.cache import Cache
from mailsync.model import NONE, SEEN, Entry, Failure, Holds, Listing, Mailbox, MessageId, Token, Uid

BOX = Mailbox("box")
names = st.text(st.characters(codec="utf-8") | st.characters(min_codepoint=0xDC80, max_codepoint=0xDCFF), min_size=1)
flags = st.frozensets(st.sampled_from([SEEN, "\\Flagged", "work", "with blank", "\udcff"]))
ids = st.text(st.characters(max_codepoint=255)).map(MessageId)
sizes = st.none() | st.integers(0, 2**40)
entries = st.lists(st.builds(Entry, names.map(Uid), ids, flags, sizes, sizes), unique_by=lambda entry: entry.uid)
maybe = st.none() | st.text(st.characters(codec="ascii"))
listings = st.builds(
    Listing,
    names.map(Mailbox),
    entries,
    st.builds(Holds, flags, st.booleans()),
    maybe.map(lambda text: None if text is None else Token(text)),
    maybe,
    st.just(()),
    maybe,
)


def kept(directory: str | Path, *all_of: Listing, rule: str = "r") -> None:
    for one in all_of:
        with Cache(Path(directory) / "cache", rule) as cache:
            cache.known(one.mailbox)
            cache.keep(one)


def known(directory: str | Path, mailbox: Mailbox = BOX, rule: str = "r", **options: bool) -> Listing | None:
    with Cache(Path(directory) / "cache", rule, **options) as cache:
        return cache.known(mailbox)


def numbered(*numbers: int) -> Listing:
    made = [Entry(Uid(str(n)), MessageId(f"<{n}>"), NONE) for n in numbers]
    return Listing(BOX, made, Holds(), Token("t"), "v")


@given(listings)
def test_listing_is_known_as_it_was(listing: Listing) -> None:
    with TemporaryDirectory() as directory:
        kept(directory, listing)

        assert listing == known(directory, listing.mailbox)


@given(st.lists(listings.map(lambda listing: replace(listing, mailbox=BOX)), min_size=2, max_size=4))
def test_last_listing_of_a_mailbox_counts_whatever_was_known_before(several: list[Listing]) -> None:
    with TemporaryDirectory() as directory:
        kept(directory, *several)

        assert several[-1] == known(directory)


@given(
    st.lists(st.permutations(range(8)).flatmap(lambda order: st.integers(0, 8).map(lambda n: order[:n])), min_size=2)
)
def test_order_is_kept_through_all_changes(orders: list[list[int]]) -> None:
    with TemporaryDirectory() as directory:
        for order in orders:
            kept(directory, numbered(*order))

            assert numbered(*order) == known(directory)


def test_mailboxes_are_known_apart(tmp_path: Path) -> None:
    other = replace(numbered(3), mailbox=Mailbox("other"))
    kept(tmp_path, numbered(1, 2), other)

    assert (numbered(1, 2), other) == (known(tmp_path), known(tmp_path, other.mailbox))


def test_ids_of_another_rule_are_not_known(tmp_path: Path) -> None:
    kept(tmp_path, numbered(1))

    assert known(tmp_path, rule="another") is None


def test_listing_with_messages_that_cannot_be_read_is_not_all_there_is(tmp_path: Path) -> None:
    kept(tmp_path, replace(numbered(1), unreadable=(Failure("2", "bad"),)))

    found = known(tmp_path)
    assert found
    assert (None, ["1"]) == (found.token, [entry.uid for entry in found.entries])


def test_nothing_is_known_to_who_wants_to_see_it_read_but_it_is_kept(tmp_path: Path) -> None:
    kept(tmp_path, numbered(1))

    with Cache(tmp_path / "cache", "r", anew=True) as cache:
        assert cache.known(BOX) is None
        cache.keep(numbered(1, 2))
    assert numbered(1, 2) == known(tmp_path)


def test_who_only_looks_keeps_nothing(tmp_path: Path) -> None:
    kept(tmp_path, numbered(1))
    before = {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.iterdir()}

    with Cache(tmp_path / "cache", "r", write=False) as cache:
        assert numbered(1) == cache.known(BOX)
        cache.keep(numbered(1, 2))

    assert before == {file.name: (file.read_bytes(), file.stat().st_mtime_ns) for file in tmp_path.iterdir()}


def test_little_is_written_of_what_stays_as_it_was(tmp_path: Path) -> None:
    kept(tmp_path, numbered(*range(1000)))
    with Cache(tmp_path / "cache", "r") as cache, cache.doubted() as db:
        before = db.total_changes
        cache.known(BOX)
        cache.keep(numbered(*range(5), *range(10, 500), 2000, *range(500, 1002)))

        assert db.total_changes - before < 20


def test_nothing_is_written_of_a_listing_that_was_known(tmp_path: Path) -> None:
    kept(tmp_path, numbered(*range(100)))
    with Cache(tmp_path / "cache", "r") as cache, cache.doubted() as db:
        before = db.total_changes
        found = cache.known(BOX)
        assert found
        cache.keep(replace(found, holds=Holds(frozenset({SEEN}))))

        assert before == db.total_changes
        cache.known(BOX)
        cache.keep(replace(found, entries=list(found.entries), token=Token("another")))
        assert before < db.total_changes


def test_mailbox_that_is_gone_is_known_no_more(tmp_path: Path) -> None:
    """What is known of all mailboxes that ever were stayed for ever."""
    kept(tmp_path, numbered(1), replace(numbered(2), mailbox=Mailbox("other")))

    with Cache(tmp_path / "cache", "r") as cache:
        cache.forget(lambda mailbox: mailbox != BOX)

    with Cache(tmp_path / "cache", "r") as cache:
        assert [(1,)] == cache.rows("SELECT COUNT(*) FROM message")
        assert (numbered(1), None) == (cache.known(BOX), cache.known(Mailbox("other")))


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM message WHERE uid=CAST('2' AS BLOB)",
        "UPDATE message SET id='<9>' WHERE uid=CAST('2' AS BLOB)",
        "UPDATE message SET flags=CAST('\\Seen' AS BLOB) WHERE uid=CAST('2' AS BLOB)",
        "UPDATE message SET uid=5 WHERE id='<2>'",
        "UPDATE message SET id=NULL",
        "UPDATE box SET flags=7",
        "UPDATE box SET sum=0",
        "DELETE FROM box",
        "DROP TABLE message",
    ],
)
def test_box_of_which_anything_is_lost_or_other_is_not_known(tmp_path: Path, damage: str) -> None:
    """A message that seemed to be missing would be deleted elsewhere."""
    kept(tmp_path, numbered(1, 2, 3))
    with sqlite3.connect(tmp_path / "cache") as db:
        db.execute(damage)
    db.close()

    assert known(tmp_path) is None
    kept(tmp_path, numbered(1, 2, 3))
    assert numbered(1, 2, 3) == known(tmp_path)


@given(st.integers(0, 40_000), st.binary(min_size=1, max_size=50))
def test_damaged_file_gives_what_was_kept_or_nothing(at: int, junk: bytes) -> None:
    with TemporaryDirectory() as directory:
        listing = numbered(*range(300))
        kept(directory, listing)
        with (Path(directory) / "cache").open("r+b") as file:
            file.seek(at % os.fstat(file.fileno()).st_size)
            file.write(junk)

        found = known(directory)

        assert found is None or [entry[:3] for entry in found.entries] == [entry[:3] for entry in listing.entries]
        for _ in range(3):  # it may be found damaged when it is read again, or only when it is written
            kept(directory, listing)
        assert known(directory)


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"\0" * 84])
def test_file_of_another_kind_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "cache").write_bytes(content)

    kept(tmp_path, numbered(1))

    assert numbered(1) == known(tmp_path)


def test_file_of_another_version_is_replaced(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "cache") as db:
        db.execute("PRAGMA user_version=99")
    db.close()

    kept(tmp_path, numbered(1))

    assert numbered(1) == known(tmp_path)


def test_two_that_write_at_once_spoil_nothing(tmp_path: Path) -> None:
    with Cache(tmp_path / "cache", "r") as one, Cache(tmp_path / "cache", "r") as other:
        one.keep(numbered(1))
        other.keep(replace(numbered(2), mailbox=Mailbox("other")))
        one.keep(numbered(1, 3))

    assert numbered(1, 3) == known(tmp_path)
    assert known(tmp_path, Mailbox("other"))


def test_place_that_cannot_be_written_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    kept(tmp_path / "file", numbered(1))

    assert known(tmp_path / "file") is None
