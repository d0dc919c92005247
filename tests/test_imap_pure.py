"""What IMAP says and how it is said: names, sets, responses, line ends. No server takes part."""

from __future__ import annotations

import calendar
import io
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.drivers.imap import answers, sets, utf7
from mailsync.drivers.imap.body import IN_MEMORY, ServerBody, keep
from mailsync.drivers.imap.dates import internal_date, parse_date
from mailsync.drivers.imap.tokens import (
    Fetched,
    Literal,
    Part,
    ProtocolError,
    Status,
    fetched,
    flag_set,
    is_flag,
    listed,
    literal_size,
    namespaces,
    numbers,
    response,
    status,
    values,
)
from mailsync.model import FLAGGED, NONE, SEEN

ODD_LINES = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"bc"])).map(b"".join)


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "raw"),
    [
        ("INBOX", b"INBOX"),
        ("R&D", b"R&-D"),
        ("Entwürfe", b"Entw&APw-rfe"),
        ("~peter/mail/台北/日本語", b"~peter/mail/&U,BTFw-/&ZeVnLIqe-"),  # RFC 3501, 5.1.3
        ("a\nb", b"a&AAo-b"),
        ("😀", b"&2D3eAA-"),
        ("", b""),
    ],
)
def test_name_is_encoded_and_decoded(name: str, raw: bytes) -> None:
    assert (raw, name) == (utf7.encode(name), utf7.decode(raw))


@pytest.mark.parametrize(
    "raw", [b"Tom & Jerry", b"&", b"&AGE-", b"&U-", b"&U,BTFw-&ZeVnLIqe-", b"caf\xc3\xa9", b"a\0b"]
)
def test_name_that_would_not_come_back_as_the_same_bytes_is_not_decoded(raw: bytes) -> None:
    assert utf7.decode(raw) is None


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_every_name_comes_back(name: str) -> None:
    raw = utf7.encode(name)

    assert name == utf7.decode(raw)
    assert raw.isascii()
    assert all(0x20 <= byte < 0x7F for byte in raw)


def test_name_that_is_no_text_cannot_be_encoded() -> None:
    with pytest.raises(ValueError, match="surrogates"):
        utf7.encode("caf\udce9")


# ---- sets ------------------------------------------------------------------------------------------------------------


def test_set_is_written_with_ranges() -> None:
    assert [(b"1:3,5,7:8", [1, 2, 3, 5, 7, 8])] == list(sets.split([1, 2, 3, 5, 7, 8]))


@given(st.sets(st.integers(1, 2**32 - 1), max_size=200), st.integers(25, 100))
def test_sets_are_short_and_together_hold_each_number_once(uids: set[int], longest: int) -> None:
    wanted = sorted(uids)
    parts = list(sets.split(wanted, longest))

    assert all(len(text) <= longest for text, _ in parts)
    assert wanted == [uid for _, part in parts for uid in part]
    assert all(list(part) == sets.parse(text, most=200) for text, part in parts)


def test_a_thousand_numbers_far_apart_fit_into_one_set() -> None:
    assert 1 == len(list(sets.split(range(10_001, 20_000, 10))))


@pytest.mark.parametrize("text", [b"", b"1:", b"x", b"1:99999999999", b"1,,2"])
def test_what_is_no_set_or_stands_for_too_much_is_an_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        sets.parse(text, most=1000)


def test_reversed_range_is_read() -> None:
    assert [3, 4, 5, 1] == sets.parse(b"5:3,1", most=4)


def test_items_are_parted_where_they_descend() -> None:
    assert [[3, 9], [1, 2], [2]] == list(sets.ascending([3, 9, 1, 2, 2]))


# ---- responses -------------------------------------------------------------------------------------------------------


def fetch(*parts: bytes | Literal) -> Fetched:
    first = parts[0]
    assert isinstance(first, bytes)
    return fetched(response([b"* 7 FETCH " + first, *parts[1:]]))


HEADER = Literal(b"Message-ID: <1@x>\r\n\r\n")
FULL = Fetched(7, 4, frozenset({SEEN}), 312, 1704067200, 99, HEADER)


@pytest.mark.parametrize(
    "parts",
    [
        (
            b'(UID 4 FLAGS (\\Seen) RFC822.SIZE 312 INTERNALDATE "01-Jan-2024 00:00:00 +0000" MODSEQ (99)'
            b" BODY[HEADER.FIELDS (MESSAGE-ID)] ",
            HEADER,
            b")",
        ),
        (
            b"(BODY[HEADER.FIELDS (Message-Id)] ",
            HEADER,
            b' MODSEQ (99) INTERNALDATE " 1-Jan-2024 01:00:00 +0100" RFC822.SIZE 312 FLAGS (\\SEEN \\Recent) UID 4)',
        ),
        (
            b'(FLAGS (\\Seen) UID 4 BODY[HEADER.FIELDS ("MESSAGE-ID")] ',
            HEADER,
            b' X-GM-LABELS ("a\\"b" (c d) NIL) INTERNALDATE "1-Jan-2024 00:00:00 +0000" RFC822.SIZE 312 modseq (99))',
        ),
    ],
)
def test_fetch_is_read_in_whatever_order(parts: tuple[bytes | Literal, ...]) -> None:
    assert FULL == fetch(*parts)


def test_fetch_with_a_quoted_body() -> None:
    assert Literal(b'a"b') == fetch(b'(UID 1 BODY[HEADER] "a\\"b")').body


def test_fetch_whose_body_is_nil_is_empty() -> None:
    told = fetch(b"(UID 1 BODY[] NIL)")

    assert (None, True) == (told.body, told.empty)


def test_unasked_fetch_tells_flags_only() -> None:
    assert Fetched(7, None, frozenset({FLAGGED, "Work"})) == fetch(b"(FLAGS (\\Flagged Work))")


@pytest.mark.parametrize(
    ("raw", "flags"),
    [
        (b"123 NIL \\Seen", {"123", "NIL", SEEN}),  # imapclient: an int, None
        (b"[x ]y", {"[x", "]y"}),  # imapclient: an error for the whole answer
        (b"", NONE),
        (b"\\seen \\Recent", {SEEN}),
    ],
)
def test_odd_keywords_are_read_as_they_are(raw: bytes, flags: set[str]) -> None:
    expected = frozenset(flags)
    told = fetch(b"(FLAGS (%s) BODY[] " % raw, Literal(b"x"), b" UID 4)")

    assert (expected, expected, Literal(b"x")) == (flag_set(raw), told.flags, told.body)


def test_equal_flags_are_one_object() -> None:
    assert flag_set(b"\\Seen a") is flag_set(b"\\Seen a")


@pytest.mark.parametrize("line", [b"* ", b"", b"*", b"* 12", b"hello"])
def test_line_that_is_no_response_is_an_error(line: bytes) -> None:
    with pytest.raises(ProtocolError):
        response([line])


@pytest.mark.parametrize("text", [b"(a (b)", b"a)", b'"a', b"(a) ) "])
def test_values_that_do_not_end_are_an_error(text: bytes) -> None:
    with pytest.raises(ProtocolError):
        values([text])


@given(st.binary(max_size=60))
def test_whatever_a_server_says_is_read_or_refused(text: bytes) -> None:
    parts: list[Part] = [b"* 1 FETCH (" + text, Literal(b"x"), text]
    for read in (fetched, listed, namespaces, numbers, status):
        with suppress(ProtocolError):
            read(response(parts))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"* 1 FETCH (BODY[] {12}", (b"* 1 FETCH (BODY[] ", 12)),
        (b"BINARY[] ~{3}", (b"BINARY[] ", 3)),
        (b"a {0}", (b"a ", 0)),
        (b"a {x}", None),
        (b"a 1}", None),
        (b"a", None),
    ],
)
def test_literal_is_recognised(line: bytes, expected: tuple[bytes, int] | None) -> None:
    assert expected == literal_size(line)


def test_literal_larger_than_any_message_is_refused() -> None:
    with pytest.raises(ProtocolError):
        literal_size(b"a {99999999999}")


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"a1 OK done", Status(b"OK", b"", b"", "done")),
        (b"a1 ok [APPENDUID 3 4:6] x", Status(b"OK", b"APPENDUID", b"3 4:6", "x")),
        (b"* OK [PERMANENTFLAGS (a \\*)] y", Status(b"OK", b"PERMANENTFLAGS", b"(a \\*)", "y")),
        (b"a1 NO [OVERQUOTA] full", Status(b"NO", b"OVERQUOTA", b"", "full")),
        (b"a1 OK [READ-WRITE]", Status(b"OK", b"READ-WRITE", b"", "")),
        (b"a1 OK", Status(b"OK", b"", b"", "")),
    ],
)
def test_status_is_taken_apart(line: bytes, expected: Status) -> None:
    assert expected == status(response([line]))


def test_list_is_read_whatever_way_its_words_are_written() -> None:
    plain = listed(response([b'* LIST (\\HasNoChildren \\Trash) "/" "a\\"b"']))
    literal = listed(response([b'* LIST (\\HasNoChildren \\Trash) "/" ', Literal(b'a"b'), b""]))
    atom = listed(response([b"* LIST () NIL INBOX (CHILDINFO (SUBSCRIBED))"]))

    assert plain == literal
    assert (frozenset({b"\\hasnochildren", b"\\trash"}), "/", b'a"b') == plain
    assert (frozenset(), None, b"INBOX") == atom


def test_mailbox_named_nil_is_no_nothing() -> None:
    assert b"NIL" == listed(response([b'* LIST () "/" NIL'])).name


def test_namespaces_are_those_of_the_user() -> None:
    line = b'* NAMESPACE (("INBOX." ".")("" NIL "X-PARAM" ("a"))) NIL (("#shared." "."))'

    assert [(b"INBOX.", "."), (b"", None)] == namespaces(response([line]))
    assert [] == namespaces(response([b"* NAMESPACE NIL NIL NIL"]))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b" 2-Feb-2003 10:00:00 +0000", 1044180000),
        (b"2-feb-2003 12:30:00 +0230", 1044180000),
        (b"02-Feb-2003 02:00:00 -0800", 1044180000),
        (b"31-Feb-2003 10:00:00 +0000", 1046685600),
        (b"yesterday", None),
        (b"00-Jan-0000 00:00:00 +0000", None),
    ],
)
def test_date_is_read(raw: bytes, expected: int | None) -> None:
    assert expected == parse_date(raw)


@given(st.integers(0, 253402300799))
def test_every_date_comes_back(date: int) -> None:
    assert date == parse_date(internal_date(date).strip(b'"'))


@given(st.integers(1, 9999), st.integers(1, 12), st.integers(1, 31))
def test_date_is_counted_as_in_the_calendar(year: int, month: int, day: int) -> None:
    raw = f"{day}-{calendar.month_abbr[month]}-{year:04} 12:34:56 +0000".encode()

    assert calendar.timegm((year, month, day, 12, 34, 56)) == parse_date(raw)


@pytest.mark.parametrize(
    ("flag", "legal"), [("a", True), ("\\Seen", True), ("größe", False), ("a b", False), ("", False)]
)
def test_flag_that_imap_can_say(flag: str, legal: bool) -> None:
    assert legal == is_flag(flag)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("Request is throttled. Suggested Backoff Time: 299000 milliseconds", 299),
        ("Suggested Backoff Time: 99999999 milliseconds", answers.LONGEST_WAIT),
        ("Too many simultaneous connections. (Failure)", answers.A_WHILE),
        ("Account exceeded command or bandwidth limits. (Failure)", answers.A_WHILE),
        ("Mailbox does not exist", None),
    ],
)
def test_refusal_that_asks_to_wait(text: str, seconds: float | None) -> None:
    assert seconds == answers.wait(text)


def test_refusal_code_that_asks_to_wait() -> None:
    assert answers.A_WHILE == answers.wait(Status(b"NO", b"UNAVAILABLE", b"", "x"))
    assert answers.wait(Status(b"NO", b"OVERQUOTA", b"", "x")) is None


# ---- bodies ----------------------------------------------------------------------------------------------------------


@given(ODD_LINES)
def test_line_ends_become_local_and_come_back(raw: bytes) -> None:
    body = ServerBody(Literal(raw))
    local, wire = (b"".join(body.chunks(wire=wire)) for wire in (False, True))

    assert raw.replace(b"\r\n", b"\n") == local
    assert raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") == wire
    assert (len(local), len(wire)) == (body.size(wire=False), body.size(wire=True))


@given(ODD_LINES, st.integers(1, 4))
def test_body_in_a_file_reads_as_one_in_memory(raw: bytes, size: int) -> None:
    from mailsync.drivers.imap import body

    chunk, body.CHUNK = body.CHUNK, size
    try:
        for wire in (False, True):
            expected = b"".join(ServerBody(Literal(raw)).chunks(wire=wire))
            assert expected == b"".join(ServerBody(Literal(io.BytesIO(raw))).chunks(wire=wire))
    finally:
        body.CHUNK = chunk


def test_large_body_is_kept_in_a_file() -> None:
    assert isinstance(keep([b"x"], 1).data, bytes)
    assert not isinstance(keep([b"x" * IN_MEMORY, b"y"], IN_MEMORY + 1).data, bytes)
