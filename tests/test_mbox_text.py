"""The bytes of an mbox: postmarks, quoting, Status lines, where messages begin. No file is touched."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.drivers import mboxscan
from mailsync.drivers.mboxscan import Contents, Edit
from mailsync.drivers.mboxtext import (
    bookkeeping,
    flags_of,
    is_postmark,
    numbering,
    plain,
    postmark,
    postmark_date,
    stored,
    with_flags,
    without_bookkeeping,
)
from mailsync.model import ANSWERED, DELETED, DRAFT, FLAGGED, NONE, SEEN

POSTMARK = b"From MAILER-DAEMON Mon Jan  1 10:00:00 2024 +0000\n"
NEW_YEAR = 1704103200

LINES = st.sampled_from(
    [
        b"From x@y Mon Jan  1 10:00:00 2024\n",
        b"From me\n",
        b">From me\n",
        b">>>From me\n",
        b"Status: RO\n",
        b" folded\n",
        b"Subject: x\n",
        b"\n",
        b"\r\n",
        b"x\r\r\n",
        b"x\r",
        b"\0",
        b"From ",
        b">",
        b"F",
    ]
)
MESSAGES = st.one_of(st.binary(max_size=60), st.lists(LINES | st.binary(max_size=5), max_size=12).map(b"".join))


def messages_of(data: bytes) -> list[bytes]:
    contents = Contents(data)
    return [b"".join(plain(data, span, contents.crlf)) for span in contents.spans]


def canonical(message: bytes) -> bytes:
    return without_bookkeeping_of(message).rstrip(b"\r\n").replace(b"\r\n", b"\n")


def without_bookkeeping_of(message: bytes) -> bytes:
    """The slow way: by lines."""
    kept: list[bytes] = []
    lines = iter(message.splitlines(keepends=True) if b"\r" not in message else split_at_lf(message))
    dropping = False
    for line in lines:
        if line in (b"\n", b"\r\n"):
            kept.append(line)
            break
        name = line.partition(b":")[0].rstrip(b" \t").lower() if b":" in line else b""
        known = name in (b"status", b"x-status", b"x-keywords", b"x-uid", b"x-imap", b"x-imapbase")
        dropping = known or (dropping and line[:1] in (b" ", b"\t"))
        if not dropping:
            kept.append(line)
    return b"".join([*kept, *lines])


def split_at_lf(message: bytes) -> list[bytes]:
    parts = message.split(b"\n")
    return [part + b"\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])


def in_pieces(message: bytes, size: int) -> Iterator[bytes]:
    return (message[at : at + size] for at in range(0, len(message), size))


@pytest.mark.parametrize(
    "line",
    [
        b"From user Wed Dec  2 05:53 1992",
        b"From user Wed Dec  2 05:53:22 1992",
        b"From user Wed Dec  2 05:53 PST 1992",
        b"From user Wed Dec  2 05:53:22 PST 1992",
        b"From user Wed Dec  2 05:53 -0700 1992",
        b"From user Wed Dec  2 05:53:22 -0700 1992",
        b"From user Wed Dec  2 05:53 1992 PST",
        b"From user Wed Dec  2 05:53:22 1992 PST",
        b"From user Wed Dec  2 05:53:22 1992 -0700",
        b"From user Wed Dec  2 05:53:22 1992 remote from host",
        b"From user Wed Dec 02 05:53:22 1992\r",
        b"From two words Wed Dec  2 05:53:22 1992",
        b"From - Wed Dec  2 05:53:22 1992",
        b"From  Wed Dec  2 05:53:22 1992",
    ],
)
def test_postmarks_of_all_kinds_are_recognised(line: bytes) -> None:
    assert is_postmark(line)


@pytest.mark.parametrize(
    "line",
    [
        b"From me to you",
        b"From user Wed Dec 1992",
        b"From user Wed Dec 42 05:53:22 1992",
        b"From: user Wed Dec  2 05:53:22 1992",
        b">From user Wed Dec  2 05:53:22 1992",
        b"From user Wed Dec  2 05:53:22 1992 and so on it went",
        b"From ",
    ],
)
def test_lines_that_only_look_like_postmarks_are_not(line: bytes) -> None:
    assert not is_postmark(line)


@pytest.mark.parametrize(
    ("line", "hours"),
    [
        (b"From a Mon Jan  1 10:00:00 2024 +0000", 0),
        (b"From a Mon Jan  1 10:00 2024 +0130", -1.5),
        (b"From a Mon Jan  1 10:00:00 -0800 2024", 8),
        (b"From a Mon Jan  1 10:00:00 PST 2024", 8),
        (b"From a Mon Jan  1 10:00:00 2024 CET", -1),
    ],
)
def test_date_with_a_zone(line: bytes, hours: float) -> None:
    assert NEW_YEAR + hours * 3600 == postmark_date(line)


def test_date_without_a_zone_is_local_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "XYZ-2")
    time.tzset()
    try:
        found = postmark_date(b"From a Mon Jan  1 10:00:00 2024"), postmark_date(b"From a Mon Jan  1 10:00:00 2024 QQT")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert (NEW_YEAR - 7200, NEW_YEAR - 7200) == found


@pytest.mark.parametrize("line", [b"From a Mon Jan 32 10:00:00 2024", b"From a Mon Jan  1 25:00:00 2024", b"From me"])
def test_impossible_date_is_none(line: bytes) -> None:
    assert postmark_date(line) is None


@given(st.integers(-30610224000, 253402300799))
def test_date_comes_back_from_the_postmark(date: int) -> None:
    line = postmark(date)

    assert is_postmark(line)
    assert date == postmark_date(line)


@given(st.integers(1000, 9999), st.integers(1, 12), st.integers(1, 28))
def test_dates_are_those_of_the_standard_library(year: int, month: int, day: int) -> None:
    name = calendar.month_abbr[month]

    assert calendar.timegm((year, month, day, 1, 2, 3)) == postmark_date(
        f"From a Mon {name} {day:2} 01:02:03 {year:04} +0000".encode()
    )


def test_postmark_of_a_date_beyond_all_years_still_is_one() -> None:
    assert is_postmark(postmark(10**15))
    assert is_postmark(postmark(-(10**15)))


def test_mboxrd_and_mboxo_are_read_alike() -> None:
    data = POSTMARK + b"A: b\n\n>From me\n>>From me\n> From me\nFrom me\n\n"

    assert [b"A: b\n\nFrom me\n>From me\n> From me\nFrom me\n"] == messages_of(data)


def test_each_line_that_could_be_a_postmark_is_quoted() -> None:
    written = b"".join(stored([b"From x\nA: b\n\nFrom me\n>From me\nfrom me\n"], NONE, NEW_YEAR, False))

    assert POSTMARK + b"Status: O\n>From x\nA: b\n\n>From me\n>>From me\nfrom me\n\n" == written


def test_flags_stand_before_the_own_header_and_foreign_ones_are_dropped() -> None:
    flags = frozenset({SEEN, ANSWERED, FLAGGED, DRAFT, DELETED, "$Forwarded", "two words", "50%"})
    own = b"Subject: x\nstatus: O\nX-Keywords: old\n\tones\nX-UID: 7\nTo: y\nX-IMAPbase: 1 2\n\nStatus: body\n"

    written = b"".join(stored([own], flags, NEW_YEAR, False))

    head = b"Status: RO\nX-Status: AFTD\nX-Keywords: $Forwarded 50%25 two%20words\n"
    assert POSTMARK + head + b"Subject: x\nTo: y\n\nStatus: body\n\n" == written
    assert flags == flags_of(head)


def test_header_that_begins_with_a_blank_is_not_taken_for_a_continued_status() -> None:
    data = b"".join(stored([b" odd\n\tone\n\nbody\n"], frozenset({SEEN}), NEW_YEAR, False))

    assert [b" odd\n\tone\n\nbody\n"] == messages_of(data)
    assert frozenset({SEEN}) == flags_of(data[len(POSTMARK) :].partition(b"\n\n")[0])


def test_change_of_flags_keeps_all_other_bytes() -> None:
    header = b"Subject: x\nStatus: RZO\nX-Status: AXF\nX-UID: 5\nX-Keywords: one  two\nTo: y\n"

    changed = with_flags(header, frozenset({DELETED, "three"}), frozenset({SEEN, ANSWERED}))

    expected = b"Subject: x\nStatus: ZO \nX-Status: DXF\nX-UID: 5\nX-Keywords: one two three\nTo: y\n"
    assert expected == changed


def test_change_that_fits_keeps_the_length_and_going_back_the_bytes() -> None:
    header = b"Status: RO\r\nX-Status: F\r\nSubject: x\r\n"

    without = with_flags(header, NONE, frozenset({SEEN, FLAGGED}), crlf=True)

    assert b"Status: O \r\nX-Status:  \r\nSubject: x\r\n" == without
    assert NONE == flags_of(without)
    assert header == with_flags(without, frozenset({SEEN, FLAGGED}), NONE, crlf=True)


def test_missing_lines_are_put_first() -> None:
    changed = with_flags(b"Subject: x\n", frozenset({SEEN, "k"}), NONE)

    assert b"Status: R\nX-Keywords: k\nSubject: x\n" == changed


def test_several_lines_of_a_name_count_together_and_become_one_when_changed() -> None:
    header = b"Status: R\nSubject: x\nStatus: RO\n"

    assert frozenset({SEEN}) == flags_of(header)
    assert b"Status: O\nSubject: x\n" == with_flags(header, NONE, frozenset({SEEN}))


def test_keywords_are_the_same_in_any_case() -> None:
    header = b"X-Keywords: $Forwarded Work\n"

    assert header == with_flags(header, frozenset({"$forwarded"}), NONE)
    assert b"X-Keywords: $Forwarded     \n" == with_flags(header, NONE, frozenset({"WORK"}))


@given(st.sets(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8), max_size=5))
def test_any_keyword_comes_back(keywords: set[str]) -> None:
    keywords = {keyword for keyword in keywords if not keyword.startswith("\\")}
    keywords = set({keyword.lower(): keyword for keyword in sorted(keywords)}.values())

    assert frozenset(keywords) == flags_of(bookkeeping(frozenset(keywords)))


SYSTEM_FLAGS = st.frozensets(st.sampled_from([SEEN, ANSWERED, FLAGGED, DRAFT, DELETED, "$a", "b"]))


@given(SYSTEM_FLAGS, SYSTEM_FLAGS, SYSTEM_FLAGS, st.booleans())
def test_flags_are_what_they_were_with_the_change(
    before: frozenset[str], add: frozenset[str], less: frozenset[str], crlf: bool
) -> None:
    end = b"\r\n" if crlf else b"\n"
    header = (bookkeeping(before) + b"Subject: x\n").replace(b"\n", end)

    after = with_flags(header, add - less, less, crlf=crlf)

    assert (before | add) - less == flags_of(after)
    assert b"Subject: x" + end == without_bookkeeping(after)
    assert crlf == (b"\r" in after)


def test_content_length_is_kept_and_not_believed() -> None:
    first = b"Content-Length: 100000\n\nbody\n"
    second = b"Content-Length: 1\n\nlonger\n"
    data = POSTMARK + first + b"\n" + POSTMARK + second + b"\n"

    assert [first, second] == messages_of(data)


def test_postmark_inside_a_paragraph_begins_no_message() -> None:
    body = b"A: b\n\ntext\nFrom x Mon Jan  1 10:00:00 2024\nmore\n\nFrom me to you\n"

    assert [body] == messages_of(POSTMARK + body + b"\n")


def test_no_final_newline() -> None:
    assert [b"A: b\n\nx\n", b"C: d\n\ny"] == messages_of(POSTMARK + b"A: b\n\nx\n\n" + POSTMARK + b"C: d\n\ny")


@pytest.mark.parametrize("rest", [b"", b"\n", b"Subject: x\n", b"Subject: x\n\n", b"\n\n\n"])
def test_empty_and_header_only_messages(rest: bytes) -> None:
    data = POSTMARK + rest + b"\n" + POSTMARK + b"A: b\n\nx\n\n"

    assert [rest, b"A: b\n\nx\n"] == messages_of(data)


def test_postmark_alone_is_an_empty_message() -> None:
    assert [b""] == messages_of(POSTMARK)
    assert [b""] == messages_of(POSTMARK[:-1])


def test_blank_lines_before_the_first_message_are_tolerated() -> None:
    assert [b"A: b\n"] == messages_of(b"\n\n" + POSTMARK + b"A: b\n\n")
    assert [] == messages_of(b"\n\n")


def test_damaged_beginning_is_no_mbox() -> None:
    with pytest.raises(ValueError, match="postmark"):
        Contents(b"x" + POSTMARK)


def test_crlf_file_is_given_with_lf() -> None:
    data = (POSTMARK + b"A: b\n\n>From me\n\n" + POSTMARK + b"C: d\n\ny\n\n").replace(b"\n", b"\r\n")

    assert [b"A: b\n\nFrom me\n", b"C: d\n\ny\n"] == messages_of(data)


def test_lf_delivery_into_a_crlf_file_is_found() -> None:
    data = (POSTMARK + b"A: b\n\nx\n\n").replace(b"\n", b"\r\n") + POSTMARK + b"C: d\n\ny\n\n"

    assert [b"A: b\n\nx\n", b"C: d\n\ny\n"] == messages_of(data)


def test_internal_data_is_hidden_only_as_first_message() -> None:
    internal = POSTMARK + b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1 2\n\nx\n\n"
    ordinary = POSTMARK + b"A: b\n\ny\n\n"

    assert [b"A: b\n\ny\n"] == messages_of(internal + ordinary)
    assert 2 == len(messages_of(ordinary + internal))
    assert [] == messages_of(internal)


def test_message_that_keeps_the_uidvalidity_is_ordinary() -> None:
    data = POSTMARK + b"X-IMAPbase: 1 2\nA: b\n\nx\n\n"

    assert [b"A: b\n\nx\n"] == messages_of(data)
    assert b"X-IMAPbase: 1 2\n" == numbering(b"A: b\nX-IMAPbase: 1 2\n")


@given(st.lists(MESSAGES, max_size=4), st.integers(1, 40), st.booleans())
def test_what_is_stored_is_read_back(messages: list[bytes], size: int, crlf: bool) -> None:
    data = b"".join(b"".join(stored(in_pieces(message, size), NONE, NEW_YEAR, crlf)) for message in messages)

    assert [canonical(message) for message in messages] == [canonical(message) for message in messages_of(data)]


@given(MESSAGES, st.integers(1, 7))
def test_pieces_of_any_size_are_stored_alike(message: bytes, size: int) -> None:
    whole = b"".join(stored([message], NONE, NEW_YEAR, False))

    assert whole == b"".join(stored(in_pieces(message, size), NONE, NEW_YEAR, False))


class Counting(bytes):
    """Bytes that know how many of them were looked at one by one, and how often they were searched."""

    given_out = 0
    searches = 0

    def __getitem__(self, part: Any) -> Any:
        found = super().__getitem__(part)
        self.given_out += len(found) if isinstance(found, bytes) else 1
        return found

    def find(self, *args: Any) -> int:
        self.searches += 1
        return super().find(*args)


def work(count: int) -> tuple[int, int]:
    one = b"".join(stored([b"Message-ID: <x>\n\n" + b"body\n" * 20], NONE, NEW_YEAR, False))
    data = Counting(b"".join(one.replace(b"<x>", b"<%d>" % n) for n in range(count)))
    contents = Contents(data)
    assert count == len(contents.names())
    return data.given_out, data.searches


def test_scan_of_5000_messages_takes_five_times_the_work_of_1000() -> None:
    few, many = work(1000), work(5000)

    assert all(m < 5.5 * f for f, m in zip(few, many, strict=True))


def uids(data: bytes) -> list[str]:
    return list(Contents(data).names())


def file_of(*messages: bytes) -> bytes:
    return b"".join(b"".join(stored([message], NONE, NEW_YEAR, False)) for message in messages)


SIMPLE = st.sampled_from(
    [
        b"Message-ID: <1>\n\nx\n",
        b"Message-ID: <1>\n\ny\n",
        b"Message-ID: <2>\n\nx",
        b"Subject: x\n\nx\n",
        b"Subject: y",
        b"\n",
        b"",
        b" odd\n\nFrom x\n\n\n",
        b"Message-ID: <3>\r\n\r\nx\n",
    ]
)
LEADS = st.sampled_from([b"", b"\n\n", POSTMARK + b"X-IMAP: 1 2\n\nx\n\n"])


@given(LEADS, st.lists(st.lists(SIMPLE | MESSAGES, max_size=3), max_size=4), st.booleans(), st.integers(0, 3))
def test_growing_file_is_what_it_would_be_read_at_once(
    lead: bytes, batches: list[list[bytes]], crlf: bool, less: int
) -> None:
    data = lead.replace(b"\n", b"\r\n") if crlf else lead
    data = data[: len(data) - less]
    contents = Contents(data)
    for batch in batches:
        data += contents.separator()
        data += b"".join(b"".join(stored([each], NONE, NEW_YEAR, contents.crlf)) for each in batch)
        contents.names()
        contents.grow(data)

        assert Contents(data).spans == contents.spans
        assert list(Contents(data).names().items()) == list(contents.names().items())


CHANGES = st.sampled_from(["", "", "removed", "flags"])


@given(LEADS, st.lists(st.tuples(SIMPLE | MESSAGES, CHANGES), min_size=1, max_size=6), st.booleans(), st.integers(0, 3))
def test_edited_file_is_what_it_would_be_read_at_once(
    lead: bytes, parts: list[tuple[bytes, str]], crlf: bool, less: int
) -> None:
    data = lead.replace(b"\n", b"\r\n") if crlf else lead
    data += b"".join(b"".join(stored([each], NONE, NEW_YEAR, crlf)) for each, _ in parts)
    data = data[: len(data) - less]
    contents = Contents(data)
    edits: list[Edit] = []
    for span, (_, change) in zip(contents.spans, parts, strict=False):
        if change == "removed":
            edits.append(Edit(span.start, span.after, b""))
        elif change == "flags":
            header = with_flags(contents.raw_header(span), frozenset({SEEN, "k"}), NONE, crlf=contents.crlf)
            edits.append(Edit(span.head, span.body, header))
    new, at = b"", 0
    for edit in edits:
        new, at = new + data[at : edit.start] + edit.new, edit.end
    new += data[at:]
    contents.names()

    if edits and contents.edit(new, edits):
        assert Contents(new).spans == contents.spans
        assert list(Contents(new).names().items()) == list(contents.names().items())


def test_edit_that_leaves_the_first_message_alone_needs_no_reading() -> None:
    data = file_of(b"Message-ID: <1>\n\nx\n", b"Message-ID: <2>\n\nx\n")
    contents = Contents(data)

    assert contents.edit(data[: contents.spans[1].start], [Edit(*contents.spans[1][::4], b"")])
    assert 1 == len(contents)


@given(LEADS, st.lists(SIMPLE | MESSAGES, max_size=4), st.booleans(), st.integers(1, 30))
def test_messages_are_found_in_blocks_of_any_size(lead: bytes, parts: list[bytes], crlf: bool, size: int) -> None:
    data = lead + b"".join(b"".join(stored([each], NONE, NEW_YEAR, crlf)) for each in parts)
    expected = Contents(data).spans

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mboxscan, "BLOCK", size)
        assert expected == Contents(data).spans


def test_naming_batches_of_equal_messages_takes_linear_work() -> None:
    def work_of(batches: int) -> int:
        data = Counting(b"")
        contents, given_out = Contents(data), 0
        for _ in range(batches):
            data = Counting(data + file_of(*[b"Message-ID: <1>\n\nx\n"] * 5, *[b"Message-ID: <2>\n\nx\n"] * 5))
            contents.grow(data)
            assert len(contents) == len(contents.names())
            given_out += data.given_out
        return given_out

    assert work_of(100) < 6 * work_of(20)


def test_uids_are_the_same_after_other_messages_went_and_flags_changed() -> None:
    one, two, three = (b"Message-ID: <%d>\n\nx\n" % n for n in range(3))
    before = uids(file_of(one, two, three))

    assert [before[0], before[2]] == uids(file_of(one, three))
    assert before == uids(file_of(one, two, three).replace(b"Status: O\n", b"Status: RO\nX-UID: 7\n"))
    assert before == uids(file_of(one, two, three).rstrip(b"\n"))


def test_equal_messages_are_numbered() -> None:
    first, second, third = uids(file_of(*[b"Message-ID: <1>\n\nx\n"] * 3))

    assert [f"{first}.1", f"{first}.2"] == [second, third]


def test_message_keeps_its_uid_when_one_with_its_header_and_length_comes() -> None:
    one, two = b"Message-ID: <1>\n\nx\n", b"Message-ID: <1>\n\ny\n"

    assert uids(file_of(one)) + uids(file_of(two)) == uids(file_of(one, two))


def test_messages_with_the_same_header_length_and_checksum_are_told_by_their_content() -> None:
    one, two = b"Message-ID: <1>\n\nplumless\n", b"Message-ID: <1>\n\nbuckeroo\n"
    both = uids(file_of(one, two))

    assert uids(file_of(one)) == uids(file_of(two))
    assert list(reversed(both)) == uids(file_of(two, one))
    assert not set(both) & set(uids(file_of(one)))


def test_messages_without_message_id_are_told_by_their_content() -> None:
    one, two = b"Subject: x\n\nx\n", b"Subject: x\n\ny\n"

    assert uids(file_of(one)) != uids(file_of(two))
    assert uids(file_of(one)) == uids(file_of(two, one))[1:]
