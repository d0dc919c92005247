"""What every driver must do: one class of tests, to be subclassed once for each format and each kind of server.

It uses nothing but the contract. A subclass says how to connect to the store of one test, how its mailboxes are named,
and what it cannot do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain, combinations
from pathlib import Path
from typing import ClassVar, Protocol, TypeVar, cast

import pytest

from mailsync.drivers.contract import Box, Driver, Follows, Transfers, Wanted
from mailsync.drivers.memory import Bytes
from mailsync.errors import BoxError, Lost
from mailsync.identity import examine
from mailsync.model import (
    ANSWERED,
    DELETED,
    DRAFT,
    FLAGGED,
    NONE,
    SEEN,
    SYSTEM,
    Appended,
    Failure,
    FlagChange,
    Flags,
    Head,
    Listing,
    Mailbox,
    Measured,
    Message,
    MessageId,
    Uid,
)

from .mail import MSGID, NEW_YEAR, ODD, Kept, Mail, digest, entries, listing, message, put, raws, read

T = TypeVar("T")

MSINFO = b"From: mailsync\nSubject: channel\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\nbox\n<1@x>\n"
KEYWORDS = ("$Label1", "NonJunk", "Work")
NAMES = {
    "blanks": "two  words and a blank ",
    "percent": "100% of *",
    "newline": "two\nlines",
    "quotes": "a\"b'c\\d",
    "ampersand": "R&D &- +x",
    "non-ascii": "Entwürfe 下書き",
    "invalid-utf-8": "caf\udce9",
    "long": "x" * 200,
    "number": "1234",
    "equals": "a=2Eb",
}
DATES = (0, 1, 86399, 951782400, NEW_YEAR, 2**31 - 1, 2**31, 4102444800)


class Interrupted(Exception):
    pass


class Passes(Box, Transfers, Protocol):
    """A mailbox from which messages go to others."""


class DriverContract:
    """Subclass it as `TestX`, with `connect` and what differs."""

    exact: ClassVar[bool] = True  # a message comes back with each byte as it was given
    cannot_hold: ClassVar[frozenset[str]] = frozenset()  # keys of ODD: refused, and the rest of the batch goes on
    changes: ClassVar[frozenset[str]] = frozenset()  # keys of ODD: kept, but with other bytes
    dates: ClassVar[tuple[int, ...]] = DATES  # that it can keep; none: it makes its own
    stays_itself: ClassVar[bool] = True  # a mailbox that becomes empty keeps its validity
    cannot_name: ClassVar[frozenset[str]] = frozenset()  # keys of NAMES: refused
    pattern: ClassVar[str] = "*"  # all mailboxes of the store
    always: ClassVar[frozenset[str]] = frozenset()  # mailboxes that come by themselves
    keeps_uids: ClassVar[bool] = True  # when a mailbox is renamed
    takes_along: ClassVar[bool] = True  # when a mailbox is renamed: those below it
    identifies: ClassVar[bool] = True  # mailboxes, whatever their names
    transfers: ClassVar[bool] = False  # messages go from one mailbox to another by themselves
    many: ClassVar[int] = 2000

    home: Path

    @pytest.fixture(autouse=True)
    def _home(self, home: Path) -> None:
        self.home = home

    def connect(self) -> Driver:
        """Another connection to the store of this test, which is empty at first."""
        raise NotImplementedError

    def name(self, *levels: str) -> Mailbox:
        return Mailbox("/".join(levels))

    def trace(self, mailbox: Mailbox) -> object:
        """What must stay as it is when a mailbox is only read."""
        return listing(self.connect(), mailbox)

    # ---- mailboxes ---------------------------------------------------------------------------------------------------

    def test_store_without_mail_lists_no_mailbox(self) -> None:
        with self.connect() as driver:
            assert set() == self._names(driver)

    def test_what_is_not_there_is_not_found_and_not_opened(self) -> None:
        with self.connect() as driver:
            assert driver.find(self.name("none")) is None
            for write in (False, True):
                with pytest.raises(BoxError), driver.open(self.name("none"), write=write):
                    pass
            assert set() == self._names(driver)

    def test_created_mailbox_is_listed_and_found_and_empty(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("a"))

            assert {"a"} == self._names(driver)
            assert {"a"} == self._names(self.connect())
            found = driver.find(self.name("a"))
            assert found is not None
            assert (self.name("a"), True, None) == (found.mailbox, found.selectable, found.failure)
            assert [] == entries(driver, self.name("a"))

    def test_create_again_changes_nothing(self) -> None:
        with self.connect() as driver:
            put(driver, self.name("a"), [Mail(message())])
            before, validity = read(driver, self.name("a")), listing(driver, self.name("a")).validity

            driver.create(self.name("a"))

            assert (before, validity) == (read(driver, self.name("a")), listing(driver, self.name("a")).validity)

    def test_create_makes_the_levels_above(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("a", "b", "c"))

            assert self.name("a", "b", "c") in self._selectable(driver)
            put(driver, self.name("a", "b", "c"), [Mail(message())])
            assert [digest(message())] == self._digests(driver, self.name("a", "b", "c"))

    def test_pattern_chooses_mailboxes(self) -> None:
        with self.connect() as driver:
            for name in ("ab", "ac", "b"):
                driver.create(self.name(name))

            found = {info.mailbox for info in driver.boxes([self.name("a") + "*"]) if info.selectable}

            assert {self.name("ab"), self.name("ac")} == found

    def test_empty_mailbox_is_deleted(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("a"))
            driver.create(self.name("b"))

            driver.delete(self.name("a"))

            assert {"b"} == self._names(driver)
            assert driver.find(self.name("a")) is None or not driver.find(self.name("a")).selectable  # type: ignore[union-attr]

    def test_mailbox_with_mail_is_not_deleted(self) -> None:
        with self.connect() as driver:
            put(driver, self.name("a"), [Mail(message(), frozenset({SEEN, DELETED}))])

            with pytest.raises(BoxError):
                driver.delete(self.name("a"))

            assert [digest(message())] == self._digests(driver, self.name("a"))

    def test_mailbox_that_holds_msinfo_is_not_deleted(self) -> None:
        with self.connect() as driver:
            put(driver, self.name("a"), [Mail(MSINFO)])

            with pytest.raises(BoxError):
                driver.delete(self.name("a"))

            assert {"a"} == self._names(driver)

    def test_mailbox_whose_mail_was_expunged_is_deleted(self) -> None:
        with self.connect() as driver:
            uids = put(driver, self.name("a"), [Mail(message(n)) for n in range(3)])
            with driver.open(self.name("a"), write=True) as box:
                list(box.expunge(uids))

            driver.delete(self.name("a"))

            assert set() == self._names(driver)

    def test_missing_mailbox_is_neither_deleted_nor_renamed(self) -> None:
        with self.connect() as driver:
            with pytest.raises(BoxError):
                driver.delete(self.name("none"))
            with pytest.raises(BoxError):
                driver.rename(self.name("none"), self.name("other"))

    def test_renamed_mailbox_keeps_its_mail(self) -> None:
        with self.connect() as driver:
            put(driver, self.name("first"), [Mail(message(), frozenset({FLAGGED}), 86400)])
            before = read(driver, self.name("first"))

            driver.rename(self.name("first"), self.name("second"))

            assert {"second"} == self._names(driver)
            assert before == read(driver, self.name("second"))

    def test_renamed_mailbox_keeps_flags_and_dates_and_goes_on_to_be_changed(self) -> None:
        with self.connect() as driver:
            uids = self._with_all_flags(driver)
            before = read(driver, self.name("a"))

            driver.rename(self.name("a"), self.name("renamed"))

            assert {"renamed", "b"} == self._names(driver)
            assert before == read(driver, self.name("renamed")) == read(self.connect(), self.name("renamed"))
            now = [entry.uid for entry in entries(driver, self.name("renamed"))]
            assert not self.keeps_uids or uids == now
            with driver.open(self.name("renamed"), write=True) as box:
                assert now[:1] == list(box.set_flags([FlagChange(now[0], frozenset({FLAGGED}), frozenset({SEEN}))]))
                assert now[1:2] == list(box.expunge(now[1:2]))
                assert all(isinstance(answer, Appended) for answer in box.append(_messages([message("more")])))
            assert ["<0@x>", "<2@x>", "<3@x>", "<4@x>", "<more@x>"] == sorted(self._kept(driver, "renamed"))

    def test_uids_of_before_are_good_after_a_rename_or_refused(self) -> None:
        """A plan was made; then the mailbox is renamed, and the plan carried out."""
        with self.connect() as driver:
            self._with_all_flags(driver)
            uids = [entry.uid for entry in entries(driver, self.name("a"))]
            held = driver.holds(self.name("a"))

            driver.rename(self.name("a"), self.name("renamed"))

            if not self.keeps_uids:
                for write in (False, True):
                    with pytest.raises((BoxError, Lost)), driver.open(self.name("renamed"), write=write):
                        pass
                return
            assert held == driver.holds(self.name("renamed"))
            with driver.open(self.name("renamed"), write=True) as box:
                assert [(uid, digest(message(n))) for n, uid in enumerate(uids)] == [
                    _told(one) for one in box.fetch(uids)
                ]
                assert uids[1:2] == list(box.expunge(uids[1:2]))
                assert uids[3:] == list(box.set_flags([FlagChange(uid, frozenset({DELETED})) for uid in uids[3:]]))
            left = {entry.uid: DELETED in entry.flags for entry in entries(driver, self.name("renamed"))}
            assert {uids[0]: False, uids[2]: False, uids[3]: True, uids[4]: True} == left

    def test_mailbox_made_in_the_place_of_one_that_was_renamed_is_another(self) -> None:
        with self.connect() as driver:
            uids = self._with_all_flags(driver)
            entries(driver, self.name("a"))

            driver.rename(self.name("a"), self.name("renamed"))
            put(driver, self.name("a"), [Mail(message("other"))])

            with driver.open(self.name("a"), write=True) as box:
                old = [one for one in box.fetch(uids) if isinstance(one, Message)]
                assert [digest(message("other"))] * len(old) == [_told(one)[1] for one in old]
            assert ["<other@x>"] == [entry.id for entry in entries(driver, self.name("a"))]
            assert 5 == len(entries(driver, self.name("renamed")))

    def test_mailbox_is_renamed_into_levels_that_are_not_there_yet(self) -> None:
        with self.connect() as driver:
            self._with_all_flags(driver)
            before = read(driver, self.name("a"))

            driver.rename(self.name("a"), self.name("x", "y", "z"))

            assert before == read(driver, self.name("x", "y", "z"))
            assert self.name("a") not in self._selectable(driver)

    def test_mailbox_is_known_again_after_it_was_renamed(self) -> None:
        with self.connect() as driver:
            for name in "ab":
                put(driver, self.name(name), [Mail(message(name))])
            a, b = (listing(driver, self.name(name)).identity for name in "ab")

            driver.rename(self.name("a"), self.name("renamed"))

            now = listing(self.connect(), self.name("renamed")).identity
            asked = driver.identity(self.name("renamed")) if isinstance(driver, Follows) else None
            if self.identifies:
                assert a == now == asked != b
                assert None not in (a, b)
            else:
                assert [None] * 4 == [a, b, now, asked]

    def test_rename_never_takes_the_place_of_a_mailbox(self) -> None:
        with self.connect() as driver:
            put(driver, self.name("first"), [Mail(message("first"))])
            put(driver, self.name("second"), [Mail(message("second"))])

            with pytest.raises(BoxError):
                driver.rename(self.name("first"), self.name("second"))

            assert [digest(message("first"))] == self._digests(driver, self.name("first"))
            assert [digest(message("second"))] == self._digests(driver, self.name("second"))

    @pytest.mark.parametrize("odd", NAMES)
    def test_odd_name_is_kept_or_refused(self, odd: str) -> None:
        name = self.name(NAMES[odd])
        with self.connect() as driver:
            if odd in self.cannot_name:
                with pytest.raises(BoxError):
                    driver.create(name)
                assert set() == self._names(driver)
                return
            put(driver, name, [Mail(message())])

            assert [name] == self._selectable(driver)
            assert [digest(message())] == self._digests(self.connect(), name)
            driver.rename(name, self.name("plain"))
            driver.rename(self.name("plain"), name)
            assert [name] == self._selectable(driver)

    # ---- listings ----------------------------------------------------------------------------------------------------

    def test_each_wanted_mailbox_is_listed_once(self) -> None:
        with self.connect() as driver:
            for name in "abc":
                put(driver, self.name(name), [Mail(message(name))])
            wanted = [self.name(name) for name in "cab"]

            found = list(driver.listings([Wanted(mailbox) for mailbox in wanted], MSGID))

            ids = {name: [e.id for e in box.entries] for name, box in found if isinstance(box, Listing)}
            assert {self.name(name): [f"<{name}@x>"] for name in "abc"} == ids
            assert sorted(wanted) == sorted(name for name, _ in found)

    def test_missing_mailbox_is_a_failure_and_the_others_are_listed(self) -> None:
        with self.connect() as driver:
            for name in "ac":
                put(driver, self.name(name), [Mail(message(name))])

            found = dict(driver.listings([Wanted(self.name(name)) for name in "abc"], MSGID))

            assert isinstance(found[self.name("a")], Listing)
            assert isinstance(found[self.name("b")], Failure)
            assert isinstance(found[self.name("c")], Listing)

    def test_listing_keeps_the_order_of_arrival(self) -> None:
        with self.connect() as driver:
            names = [5, 3, 9, 1, 7, 2]
            put(driver, self.name("a"), [Mail(message(n), date=NEW_YEAR - 1000 * n) for n in names])

            assert [f"<{n}@x>" for n in names] == [entry.id for entry in entries(driver, self.name("a"))]

    def test_msinfo_is_never_listed(self) -> None:
        with self.connect() as driver:
            put(driver, self.name("a"), [Mail(message(1)), Mail(MSINFO), Mail(message(2))])

            assert ["<1@x>", "<2@x>"] == [entry.id for entry in entries(driver, self.name("a"))]

    def test_what_is_known_already_gives_the_same_listing(self) -> None:
        with self.connect() as driver:
            put(driver, self.name("a"), [Mail(message(n), frozenset({SEEN})) for n in range(5)])
            before = listing(driver, self.name("a"))
            known = replace(before, entries=before.entries[:3], token=None)

            [(_, after)] = driver.listings([Wanted(self.name("a"), lambda: known)], MSGID)

            assert isinstance(after, Listing)
            assert replace(before, token=None) == replace(after, token=None)

    def test_flags_that_changed_are_listed_though_the_message_is_known(self) -> None:
        with self.connect() as driver:
            uids = put(driver, self.name("a"), [Mail(message(n)) for n in range(2)])
            known = listing(driver, self.name("a"))
            self._change(driver, FlagChange(uids[1], frozenset({SEEN})))

            [(_, after)] = driver.listings([Wanted(self.name("a"), lambda: known)], MSGID)

            assert isinstance(after, Listing)
            assert [NONE, frozenset({SEEN})] == [entry.flags for entry in after.entries]

    def test_token_differs_after_each_change(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            tokens = []
            uids = put(driver, box, [Mail(message(1))])
            tokens.append(listing(driver, box).token)
            uids += put(driver, box, [Mail(message(2))])
            tokens.append(listing(driver, box).token)
            self._change(driver, FlagChange(uids[0], frozenset({SEEN})))
            tokens.append(listing(driver, box).token)
            with driver.open(box, write=True) as opened:
                list(opened.expunge([uids[0]]))
            tokens.append(listing(driver, box).token)

            told = [token for token in tokens if token is not None]
            assert len(told) == len(set(told))

    def test_uids_stay_whatever_happens_to_others(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            uids = put(driver, box, [Mail(message(n)) for n in range(6)])
            assert uids == [entry.uid for entry in entries(driver, box)]
            self._change(driver, *(FlagChange(uid, frozenset({SEEN, FLAGGED})) for uid in uids[1:3]))
            assert uids == [entry.uid for entry in entries(self.connect(), box)]
            with driver.open(box, write=True) as opened:
                list(opened.expunge(uids[:2]))
            assert uids[2:] == [entry.uid for entry in entries(self.connect(), box)]
            more = put(driver, box, [Mail(message(9))])
            assert uids[2:] + more == [entry.uid for entry in entries(self.connect(), box)]

    def test_validity_stays_while_the_mailbox_does(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            uids = put(driver, box, [Mail(message(n)) for n in range(3)])
            self._change(driver, FlagChange(uids[0], frozenset({SEEN})))
            with driver.open(box, write=True) as opened:
                list(opened.expunge(uids[:1]))
            validity = opened.validity

            assert validity == listing(driver, box).validity == listing(self.connect(), box).validity

    # ---- reading -----------------------------------------------------------------------------------------------------

    def test_fetch_answers_each_uid_in_order(self) -> None:
        with self.connect() as driver:
            uids = put(driver, self.name("a"), [Mail(message(n)) for n in range(5)])
            asked = [uids[3], uids[0], uids[4], uids[1]]

            with driver.open(self.name("a"), write=False) as box:
                got = [_told(answer) for answer in box.fetch(asked)]

            assert [(uid, digest(message(uids.index(uid)))) for uid in asked] == got

    def test_body_is_readable_again_and_its_size_is_exact(self) -> None:
        with self.connect() as driver:
            mails = [Mail(ODD[name]) for name in ODD if name not in self.cannot_hold]
            uids = put(driver, self.name("a"), mails)

            with driver.open(self.name("a"), write=False) as box:
                for got in box.fetch(uids):
                    assert isinstance(got, Message)
                    for wire in (False, True):
                        raw = b"".join(got.body.chunks(wire=wire))
                        assert len(raw) == got.body.size(wire=wire)
                        assert raw == b"".join(got.body.chunks(wire=wire))
                    assert b"\n" not in raw.replace(b"\r\n", b"")

    def test_heads_answer_each_uid_in_order(self) -> None:
        with self.connect() as driver:
            uids = put(driver, self.name("a"), [Mail(message(n), date=NEW_YEAR + n) for n in range(4)])
            asked = [uids[3], uids[0]]

            with driver.open(self.name("a"), write=False) as box:
                got = list(box.heads(asked))

            assert asked == [head.uid for head in got if isinstance(head, Head)]
            if self.dates:
                assert [NEW_YEAR + 3, NEW_YEAR] == [head.date for head in got if isinstance(head, Head)]
            assert ["<3@x>", "<0@x>"] == [MSGID(head.header) for head in got if isinstance(head, Head)]

    def test_message_is_measured_without_being_read(self) -> None:
        with self.connect() as driver:
            mails = [Mail(ODD[name], date=NEW_YEAR - n) for n, name in enumerate(ODD) if name not in self.cannot_hold]
            uids = put(driver, self.name("a"), mails)

            with driver.open(self.name("a"), write=False) as box:
                measured = list(box.measure([uids[1], *uids]))
                fetched = [
                    Measured(got.uid, got.body.size(wire=True), got.date)
                    for got in box.fetch(uids)
                    if isinstance(got, Message)
                ]

            assert [fetched[1], *fetched] == measured

    def test_mailbox_opened_to_read_is_not_changed(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            put(driver, box, [Mail(message(n), flags, 2**31) for n, flags in enumerate((NONE, frozenset({SEEN})))])
            uids = [entry.uid for entry in entries(driver, box)]
            before = self.trace(box)

            listing(self.connect(), box)
            with driver.open(box, write=False) as opened:
                for got in opened.fetch(uids):
                    assert isinstance(got, Message)
                    b"".join(got.body.chunks(wire=True))
                list(opened.heads(uids))
                list(opened.measure(uids))

            assert before == self.trace(box)

    # ---- appending ---------------------------------------------------------------------------------------------------

    def test_append_answers_each_message_in_order(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("a"))

            with driver.open(self.name("a"), write=True) as box:
                answers = list(box.append(_messages(message(n) for n in range(5))))

            assert [f"new {n}" for n in range(5)] == [one.source for one in answers if isinstance(one, Appended)]
            uids = [one.uid for one in answers if isinstance(one, Appended)]
            assert [entry.uid for entry in entries(driver, self.name("a"))] == uids

    def test_append_of_nothing_answers_nothing(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("a"))

            with driver.open(self.name("a"), write=True) as box:
                assert [] == list(box.append(iter(())))
                assert [] == list(box.set_flags([]))
                assert [] == list(box.expunge([]))
                assert [] == list(box.fetch([]))
                assert [] == list(box.heads([]))
                assert [] == list(box.measure([]))

    def test_append_pulls_each_message_once_as_it_goes(self) -> None:
        pulled: list[int] = []

        def arriving() -> Iterator[Message]:
            for n, one in enumerate(_messages(message(n) for n in range(20))):
                pulled.append(n)
                yield one

        with self.connect() as driver:
            driver.create(self.name("a"))
            with driver.open(self.name("a"), write=True) as box:
                answers = box.append(arriving())
                before = list(pulled)
                told = [len(pulled) for _ in answers]

        assert [] == before
        assert list(range(20)) == pulled
        assert all(n < seen for n, seen in enumerate(told))  # no answer before its message was asked for

    @pytest.mark.parametrize("error", [Interrupted, ConnectionResetError, KeyboardInterrupt])
    def test_input_that_ends_in_an_error_leaves_only_whole_messages(self, error: type[BaseException]) -> None:
        def arriving() -> Iterator[Message]:
            yield from _messages(message(n) for n in range(3))
            raise error

        self._append_and_fail(arriving(), error)

    @pytest.mark.parametrize("error", [Interrupted, ConnectionResetError, KeyboardInterrupt])
    def test_body_that_ends_in_an_error_leaves_only_whole_messages(self, error: type[BaseException]) -> None:
        def arriving() -> Iterator[Message]:
            yield from _messages(message(n) for n in range(3))
            yield Message(Uid("broken"), NONE, NEW_YEAR, _Broken(error))

        self._append_and_fail(arriving(), error)

    def test_batch_that_is_left_in_the_middle_leaves_only_whole_messages(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("a"))
            with driver.open(self.name("a"), write=True) as box:
                answers = box.append(_messages(message(n) for n in range(5)))
                assert isinstance(next(answers), Appended)
                del answers

            found = self._digests(self.connect(), self.name("a"))
            assert 0 < len(found)
            assert [digest(message(n)) for n in range(5)][: len(found)] == found

    def test_messages_stream_from_one_mailbox_to_another(self) -> None:
        with self.connect() as driver, self.connect() as other:
            date = NEW_YEAR if self.dates else 0
            mails = [Mail(message(n, b"x" * 10000 * n), frozenset({SEEN}), date + n) for n in range(20)]
            uids = put(driver, self.name("a"), mails)
            other.create(self.name("b"))

            with driver.open(self.name("a"), write=False) as source, other.open(self.name("b"), write=True) as target:
                answers = list(target.append(_only_messages(source.fetch(uids))))

            assert uids == [one.source for one in answers if isinstance(one, Appended)]
            a, b = (read(driver, self.name(name)) for name in "ab")
            assert [one._replace(date=0) for one in a] == [one._replace(date=0) for one in b]
            if self.dates:
                assert a == b

    @pytest.mark.parametrize("odd", ODD)
    def test_odd_message_comes_back_as_it_was(self, odd: str) -> None:
        raw, box = ODD[odd], self.name("a")
        with self.connect() as driver:
            driver.create(box)
            with driver.open(box, write=True) as opened:
                answers = list(opened.append(_messages([message("before"), raw, message("after")])))

            held = odd not in self.cannot_hold
            wanted = [message("before"), *([raw] if held else []), message("after")]
            assert [True, held, True] == [isinstance(answer, Appended) for answer in answers]
            if odd in self.changes:
                assert [digest(wanted[0]), digest(wanted[2])] == self._digests(self.connect(), box)[::2]
                return
            assert [digest(one) for one in wanted] == self._digests(self.connect(), box)
            if self.exact:
                assert wanted == raws(driver, box)

    def test_odd_messages_have_the_same_ids_and_heads_wherever_they_lie(self) -> None:
        with self.connect() as driver:
            names = [name for name in ODD if name not in self.cannot_hold | self.changes]
            put(driver, self.name("a"), [Mail(ODD[name]) for name in names])

            expected = [_id(ODD[name]) for name in names]
            assert expected == [entry.id for entry in entries(driver, self.name("a"))]

    @pytest.mark.parametrize("date", DATES)
    def test_date_comes_back_to_the_second(self, date: int) -> None:
        if date not in self.dates:
            date = NEW_YEAR
        with self.connect() as driver:
            [uid] = put(driver, self.name("a"), [Mail(message(), date=date)])

            with driver.open(self.name("a"), write=False) as box:
                [got] = box.fetch([uid])
                [head] = box.heads([uid])

            assert isinstance(got, Message)
            assert isinstance(head, Head)
            assert ((date, date) if self.dates else (head.date, head.date)) == (got.date, head.date)

    # ---- flags -------------------------------------------------------------------------------------------------------

    def test_flags_that_the_mailbox_holds_come_back(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            driver.create(box)
            with driver.open(box, write=False) as opened:
                held = sorted(opened.holds.of(SYSTEM))
                keywords = sorted(opened.holds.of({*KEYWORDS, *(opened.holds.flags - SYSTEM)}))
            sets = [frozenset(some) for some in _subsets(held)]
            sets += [frozenset({keyword}) for keyword in keywords] + [
                frozenset(keywords),
                frozenset({*held, *keywords}),
            ]

            uids = put(driver, box, [Mail(message(n), flags) for n, flags in enumerate(sets)])

            assert sets == [entry.flags for entry in entries(self.connect(), box)]
            with driver.open(box, write=False) as opened:
                assert sets == [got.flags for got in opened.fetch(uids) if isinstance(got, Message)]

    def test_new_mailbox_holds_what_was_said_before_it_was_made(self) -> None:
        with self.connect() as driver:
            before = driver.holds(self.name("a"))
            driver.create(self.name("a"))

            with driver.open(self.name("a"), write=True) as box:
                held = box.holds
            assert before == held == driver.holds(self.name("a")) == listing(driver, self.name("a")).holds

    def test_change_of_flags_keeps_the_other_flags(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            driver.create(box)
            keywords = driver.holds(box).of(KEYWORDS)
            uids = put(driver, box, [Mail(message(n), frozenset({SEEN, DRAFT}) | keywords) for n in range(3)])

            self._change(
                driver,
                FlagChange(uids[0], add=frozenset({FLAGGED})),
                FlagChange(uids[1], frozenset({ANSWERED}), frozenset({SEEN})),
                FlagChange(uids[2], remove=frozenset({DRAFT, FLAGGED}) | keywords),
            )

            assert [
                frozenset({SEEN, DRAFT, FLAGGED}) | keywords,
                frozenset({DRAFT, ANSWERED}) | keywords,
                frozenset({SEEN}),
            ] == [entry.flags for entry in entries(self.connect(), box)]
            assert [digest(message(n)) for n in range(3)] == self._digests(driver, box)

    def test_each_flag_goes_on_and_off(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            driver.create(box)
            flags = sorted(driver.holds(box).of({*SYSTEM, *KEYWORDS}))
            uids = put(driver, box, [Mail(message(flag)) for flag in range(len(flags))])

            self._change(driver, *(FlagChange(uid, frozenset({f})) for uid, f in zip(uids, flags, strict=True)))
            assert [frozenset({flag}) for flag in flags] == [entry.flags for entry in entries(driver, box)]
            self._change(driver, *(FlagChange(uid, NONE, frozenset({f})) for uid, f in zip(uids, flags, strict=True)))
            assert [NONE] * len(flags) == [entry.flags for entry in entries(driver, box)]

    def test_unknown_uid_is_gone_and_the_others_get_their_flags(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            uids = self._with_one_taken_away(box)

            with driver.open(box, write=True) as opened:
                answers = list(opened.set_flags([FlagChange(uid, frozenset({SEEN})) for uid in uids]))

            assert [uids[0], None, uids[2]] == [_done(answer) for answer in answers]
            assert [frozenset({SEEN})] * 2 == [entry.flags for entry in entries(driver, box)]

    # ---- what went away meanwhile ------------------------------------------------------------------------------------

    def test_unknown_uid_is_gone_and_the_others_are_fetched(self) -> None:
        with self.connect() as driver:
            uids = self._with_one_taken_away(self.name("a"))

            with driver.open(self.name("a"), write=False) as box:
                got = [isinstance(one, Message) or _done(one) for one in box.fetch(uids)]
                heads = [isinstance(one, Head) or _done(one) for one in box.heads(uids)]
                measured = [isinstance(one, Measured) or _done(one) for one in box.measure(uids)]

            assert [True, None, True] == got == heads == measured

    def test_unknown_uid_is_gone_and_the_others_are_expunged(self) -> None:
        with self.connect() as driver:
            uids = self._with_one_taken_away(self.name("a"))

            with driver.open(self.name("a"), write=True) as box:
                answers = list(box.expunge(uids))

            assert [uids[0], None, uids[2]] == [_done(answer) for answer in answers]
            assert [] == entries(driver, self.name("a"))

    def test_message_put_in_the_place_of_another_is_never_touched(self) -> None:
        with self.connect() as driver, self.connect() as other:
            box = self.name("a")
            uids = put(driver, box, [Mail(message(n)) for n in range(2)])
            entries(driver, box)
            with other.open(box, write=True) as opened:
                list(opened.expunge(uids[1:]))
            put(other, box, [Mail(message("new"))])

            with driver.open(box, write=True) as opened:
                flagged = list(opened.set_flags([FlagChange(uids[1], frozenset({SEEN}))]))
                fetched = list(opened.fetch(uids[1:]))
                removed = list(opened.expunge(uids[1:]))

            assert [None] * 3 == [_done(answer) for answer in chain(flagged, removed, fetched)]
            assert [("<0@x>", NONE), ("<new@x>", NONE)] == [(one.id, one.flags) for one in entries(driver, box)]

    def test_expunge_removes_these_and_no_others(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            uids = put(driver, box, [Mail(message(n), frozenset({SEEN, DELETED})) for n in range(6)])
            before = read(driver, box)

            with driver.open(box, write=True) as opened:
                answers = list(opened.expunge([uids[4], uids[1]]))

            assert [uids[4], uids[1]] == answers
            assert [one for one in before if one.id not in ("<1@x>", "<4@x>")] == read(driver, box)

    def test_mailbox_without_mail_left_is_still_there(self) -> None:
        with self.connect() as driver:
            uids = put(driver, self.name("a"), [Mail(message(n)) for n in range(3)])

            with driver.open(self.name("a"), write=True) as box:
                list(box.expunge(uids))

            assert {"a"} == self._names(self.connect())
            left = listing(driver, self.name("a"))
            assert [] == list(left.entries)
            if self.stays_itself:
                assert box.validity == left.validity

    def test_all_batches_work_in_one_open_mailbox(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            uids = put(driver, box, [Mail(message(n)) for n in range(4)])

            with driver.open(box, write=True) as opened:
                list(opened.expunge([uids[0]]))
                list(opened.set_flags([FlagChange(uids[1], frozenset({SEEN, "Work"}))]))
                [new] = opened.append(_messages([message("new")]))
                assert isinstance(new, Appended)
                assert new.uid is not None
                list(opened.set_flags([FlagChange(new.uid, frozenset({FLAGGED}))]))
                list(opened.expunge([uids[2]]))
                got = [_told(one) for one in opened.fetch([new.uid, uids[3], uids[1]])]

            assert [digest(message(n)) for n in ("new", 3, 1)] == [exact for _, exact in got]
            work = driver.holds(box).of({SEEN, "Work"})
            assert {"<1@x>": work, "<3@x>": NONE, "<new@x>": frozenset({FLAGGED})} == {
                entry.id: entry.flags for entry in entries(driver, box)
            }

    def test_thousands_of_messages(self) -> None:
        with self.connect() as driver:
            box = self.name("a")
            uids = put(driver, box, [Mail(message(n)) for n in range(self.many)])
            assert uids == [entry.uid for entry in entries(driver, box)]

            self._change(driver, *(FlagChange(uid, frozenset({SEEN})) for uid in uids[::2]))
            with driver.open(box, write=True) as opened:
                assert uids[::4] == list(opened.expunge(uids[::4]))

            found = entries(driver, box)
            assert [uid for n, uid in enumerate(uids) if n % 4] == [entry.uid for entry in found]
            assert uids[2::4] == [entry.uid for entry in found if SEEN in entry.flags]

    # ---- from one mailbox to another ---------------------------------------------------------------------------------

    def test_another_mailbox_is_within_reach_where_it_is_said_so(self) -> None:
        with self.connect() as driver:
            for name in "ab":
                driver.create(self.name(name))

            with driver.open(self.name("a"), write=True) as a, driver.open(self.name("b"), write=True) as b:
                assert self.transfers == (isinstance(a, Transfers) and a.reaches(b))
                assert not (isinstance(a, Transfers) and a.reaches(a))

    def _with_all_flags(self, driver: Driver) -> list[Uid]:
        """Five messages in `a`, with flags and dates; and another in `b`, which has keywords of its own."""
        driver.create(self.name("a"))
        holds = driver.holds(self.name("a"))
        put(driver, self.name("b"), [Mail(message("old"), holds.of({"Old", "Work"}))])
        some = [{SEEN, "Work", "NonJunk"}, {DRAFT}, {FLAGGED, ANSWERED, "$Label1"}, {SEEN}, NONE]
        return put(
            driver,
            self.name("a"),
            [Mail(message(n), holds.of(flags), NEW_YEAR - 86400 * n) for n, flags in enumerate(some)],
        )

    def _kept(self, driver: Driver, name: str) -> dict[str, Kept]:
        return {one.id: one for one in read(driver, self.name(name))}

    def _hold_uids(self, driver: Driver, answers: Sequence[Appended | Failure]) -> None:
        """What is said of the uids in the other mailbox is true."""
        ids = {entry.uid: entry.id for entry in entries(driver, self.name("b"))}
        assert ["<2@x>", "<0@x>"] == [ids[one.uid] for one in answers if isinstance(one, Appended) and one.uid]

    # ---- helpers -----------------------------------------------------------------------------------------------------

    def _selectable(self, driver: Driver) -> list[Mailbox]:
        infos = [info for info in driver.boxes([self.pattern]) if info.mailbox not in self.always]
        assert [] == [info for info in infos if info.failure]
        return [info.mailbox for info in infos if info.selectable]

    def _names(self, driver: Driver) -> set[str]:
        """Mailboxes of one level, by its text."""
        found = self._selectable(driver)
        assert len(set(found)) == len(found)
        return {name.removeprefix(self.name("")) for name in found}

    def _digests(self, driver: Driver, mailbox: Mailbox) -> list[str]:
        return [digest(raw) for raw in raws(driver, mailbox)]

    def _change(self, driver: Driver, *changes: FlagChange) -> None:
        with driver.open(self.name("a"), write=True) as box:
            assert [change.uid for change in changes] == list(box.set_flags(changes))

    def _with_one_taken_away(self, mailbox: Mailbox) -> list[Uid]:
        """Three messages, the middle one removed by somebody else."""
        with self.connect() as other:
            uids = put(other, mailbox, [Mail(message(n)) for n in range(3)])
            with other.open(mailbox, write=True) as box:
                list(box.expunge([uids[1]]))
        return uids

    def _append_and_fail(self, arriving: Iterator[Message], error: type[BaseException]) -> None:
        answers: list[Appended | Failure] = []
        with self.connect() as driver:
            put(driver, self.name("a"), [Mail(message("old"))])
            with pytest.raises(error), driver.open(self.name("a"), write=True) as box:
                for answer in box.append(arriving):
                    answers.append(answer)

        with self.connect() as driver:
            found = self._digests(driver, self.name("a"))
            assert [digest(message(n)) for n in ("old", 0, 1, 2)][: len(found)] == found
            assert len(answers) < len(found)
            put(driver, self.name("a"), [Mail(message("next"))])
            assert [*found, digest(message("next"))] == self._digests(driver, self.name("a"))


class NestingContract(DriverContract):
    """A store in which a mailbox may lie below another."""

    def test_mailbox_below_a_renamed_one_goes_along_or_stays(self) -> None:
        with self.connect() as driver:
            uids = {
                levels: put(driver, self.name(*levels), [Mail(message(levels[-1]), frozenset({SEEN}))])
                for levels in (("a",), ("a", "x"), ("a", "x", "y"), ("ab",))
            }
            for levels in uids:
                entries(driver, self.name(*levels))

            driver.rename(self.name("a"), self.name("renamed"))

            above = "renamed" if self.takes_along else "a"
            for levels in (("renamed",), (above, "x"), (above, "x", "y"), ("ab",)):
                [entry] = entries(driver, self.name(*levels))
                name = "a" if levels == ("renamed",) else levels[-1]
                assert (f"<{name}@x>", frozenset({SEEN})) == (entry.id, entry.flags)
                with driver.open(self.name(*levels), write=True) as box:
                    assert [entry.uid] == list(box.expunge([entry.uid]))
            assert {self.name(*levels) for levels in (("renamed",), (above, "x"), (above, "x", "y"), ("ab",))} == set(
                self._selectable(driver)
            )


class TransferContract(DriverContract):
    """A store in which messages go from one mailbox to another by themselves."""

    transfers = True

    def test_copied_message_is_in_both_mailboxes_with_its_flags_and_date(self) -> None:
        with self.connect() as driver:
            uids = self._with_all_flags(driver)
            before = self._kept(driver, "a")

            with self._between(driver) as (a, b):
                answers = list(a.copy([uids[2], uids[0]], b))

            assert [uids[2], uids[0]] == [one.source for one in answers if isinstance(one, Appended)]
            assert before == self._kept(driver, "a")
            assert {"<old@x>", "<0@x>", "<2@x>"} == set(self._kept(driver, "b"))
            assert [before[id] for id in ("<0@x>", "<2@x>")] == [
                self._kept(driver, "b")[id] for id in ("<0@x>", "<2@x>")
            ]
            assert uids == [entry.uid for entry in entries(driver, self.name("a"))]
            self._hold_uids(driver, answers)

    def test_moved_message_is_in_the_other_mailbox_with_its_flags_and_date(self) -> None:
        with self.connect() as driver:
            uids = self._with_all_flags(driver)
            before = self._kept(driver, "a")

            with self._between(driver) as (a, b):
                answers = list(a.move([uids[2], uids[0]], b))

            assert [uids[2], uids[0]] == [one.source for one in answers if isinstance(one, Appended)]
            after = self._kept(driver, "b")
            assert {id: before[id] for id in ("<0@x>", "<2@x>")} == {id: after[id] for id in after if id != "<old@x>"}
            assert {id: before[id] for id in before if id not in after} == self._kept(driver, "a")
            assert [uids[1], *uids[3:]] == [entry.uid for entry in entries(driver, self.name("a"))]
            self._hold_uids(driver, answers)

    def test_moved_messages_come_last_in_the_other_mailbox(self) -> None:
        with self.connect() as driver:
            put(driver, self.name("b"), [Mail(message("old"))])
            uids = put(driver, self.name("a"), [Mail(message(n), date=NEW_YEAR - n) for n in range(3)])

            with self._between(driver) as (a, b):
                list(a.move(uids, b))
                assert all(isinstance(answer, Appended) for answer in b.append(_messages([message("new")])))

            assert ["<old@x>", "<0@x>", "<1@x>", "<2@x>", "<new@x>"] == [
                entry.id for entry in entries(driver, self.name("b"))
            ]

    def test_mailbox_from_which_all_was_moved_is_still_there(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("b"))
            uids = put(driver, self.name("a"), [Mail(message(n)) for n in range(3)])

            with self._between(driver) as (a, b):
                assert [] == list(a.move([], b)) == list(a.copy([], b))
                list(a.move(uids, b))

            assert {"a", "b"} == self._names(self.connect())
            assert ([], 3) == (entries(driver, self.name("a")), len(entries(driver, self.name("b"))))

    def test_copies_and_what_was_moved_are_changed_in_the_open_mailbox(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("b"))
            uids = put(driver, self.name("a"), [Mail(message(n)) for n in range(4)])

            with self._between(driver) as (a, b):
                arrived = [*a.copy(uids[:2], b), *a.move(uids[2:], b)]
                new = [one.uid for one in arrived if isinstance(one, Appended) and one.uid is not None]
                list(b.set_flags([FlagChange(uid, frozenset({FLAGGED})) for uid in new[::2]]))
                assert new[3:] == list(b.expunge(new[3:]))
                assert [_told(one) for one in b.fetch(new[:1])] == [(new[0], digest(message(0)))]
                assert uids[:1] == list(a.expunge(uids[:1]))

            assert {"<1@x>": NONE} == {one.id: one.flags for one in entries(driver, self.name("a"))}
            assert {"<0@x>": frozenset({FLAGGED}), "<1@x>": NONE, "<2@x>": frozenset({FLAGGED})} == {
                one.id: one.flags for one in entries(driver, self.name("b"))
            }
            assert [digest(message(n)) for n in range(3)] == self._digests(driver, self.name("b"))

    def test_flags_that_somebody_sets_meanwhile_go_along(self) -> None:
        with self.connect() as driver, self.connect() as other:
            driver.create(self.name("b"))
            uids = put(driver, self.name("a"), [Mail(message(n)) for n in range(2)])

            with self._between(driver) as (a, b):
                assert [NONE, NONE] == [one.flags for one in a.fetch(uids) if isinstance(one, Message)]
                new = driver.holds(self.name("a")).of({SEEN, "New"})
                with other.open(self.name("a"), write=True) as theirs:
                    list(theirs.set_flags([FlagChange(uid, new) for uid in uids]))
                list(a.copy(uids[:1], b))
                list(a.move(uids[1:], b))

            assert [new, new] == [one.flags for one in entries(self.connect(), self.name("b"))]

    def test_unknown_uid_is_gone_and_the_others_are_moved(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("b"))
            uids = self._with_one_taken_away(self.name("a"))

            with self._between(driver) as (a, b):
                copied = [isinstance(one, Appended) or _done(one) for one in a.copy(uids, b)]
                moved = [isinstance(one, Appended) or _done(one) for one in a.move(uids, b)]

            assert [True, None, True] == copied == moved
            assert [[], 2 * [digest(message(0)), digest(message(2))]] == [
                self._digests(driver, self.name(name)) for name in "ab"
            ]

    def test_message_put_in_the_place_of_another_is_not_moved(self) -> None:
        with self.connect() as driver, self.connect() as other:
            driver.create(self.name("b"))
            uids = put(driver, self.name("a"), [Mail(message(n)) for n in range(2)])

            with self._between(driver) as (a, b):
                with other.open(self.name("a"), write=True) as theirs:
                    list(theirs.expunge(uids[1:]))
                put(other, self.name("a"), [Mail(message("new"))])
                answers = [*a.copy(uids[1:], b), *a.move(uids[1:], b)]

            assert [None, None] == [_done(answer) for answer in answers]
            assert [["<0@x>", "<new@x>"], []] == [[one.id for one in entries(driver, self.name(name))] for name in "ab"]

    def test_thousands_of_messages_are_moved(self) -> None:
        with self.connect() as driver:
            driver.create(self.name("b"))
            uids = put(driver, self.name("a"), [Mail(message(n)) for n in range(self.many)])

            with self._between(driver) as (a, b):
                answers = list(a.move(uids[::2], b))

            assert uids[::2] == [one.source for one in answers if isinstance(one, Appended)]
            assert uids[1::2] == [one.uid for one in entries(driver, self.name("a"))]
            assert [f"<{n}@x>" for n in range(0, self.many, 2)] == [one.id for one in entries(driver, self.name("b"))]

    @contextmanager
    def _between(self, driver: Driver) -> Iterator[tuple[Passes, Box]]:
        with driver.open(self.name("a"), write=True) as a, driver.open(self.name("b"), write=True) as b:
            assert isinstance(a, Transfers)
            yield cast(Passes, a), b


class _Broken:
    """A body that cannot be read to its end."""

    def __init__(self, error: type[BaseException]) -> None:
        self._error = error

    def size(self, *, wire: bool) -> int:
        return len(message("broken")) + 100

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        yield message("broken").replace(b"\n", b"\r\n" if wire else b"\n")
        raise self._error


def _messages(raws: Iterable[bytes], flags: Flags = NONE) -> Iterator[Message]:
    for n, raw in enumerate(raws):
        yield Message(Uid(f"new {n}"), flags, NEW_YEAR, Bytes(raw))


def _only_messages(answers: Iterable[Message | Failure]) -> Iterator[Message]:
    for answer in answers:
        assert isinstance(answer, Message), answer
        yield answer


def _told(answer: Message | Failure) -> tuple[Uid, str]:
    """Read at once: a body is gone when the next message is asked for."""
    assert isinstance(answer, Message), answer
    return answer.uid, examine(answer.body.chunks(wire=False)).exact


def _done(answer: object) -> object:
    """None for what is gone; whatever else it is otherwise."""
    return None if isinstance(answer, Failure) and answer.gone else answer


def _id(raw: bytes) -> MessageId:
    if raw.startswith((b"\n", b"\r\n")):
        return MSGID.whole([raw])
    ends = [end for end in (raw.find(b"\n\n"), raw.find(b"\n\r\n")) if end >= 0]
    return MSGID(raw[: min(ends) + 1] if ends else raw) or MSGID.whole([raw])


def _subsets(flags: Sequence[T]) -> Iterator[tuple[T, ...]]:
    return chain.from_iterable(combinations(flags, n) for n in range(len(flags) + 1))
