"""Raw header blocks: what is found in them, and that nothing in them is an error."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailsync.addresses import parse
from mailsync.header import address, collapse, decoded, fields, first, unfold

HEAD = b"""From joe@example.org Sat Nov 21 20:36:44 2026
Received: from a
\tby b
junk without a colon
  more junk
subject : one
Subject:two
 Subject: folded, no field

Subject: body
"""


@pytest.mark.parametrize("head", [HEAD, HEAD.replace(b"\n", b"\r\n")], ids=["LF", "CRLF"])
def test_fields_come_in_order_with_their_folding_and_end_with_the_header(head: bytes) -> None:
    expected = [
        (b"received", b" from a\n\tby b"),
        (b"subject", b" one"),
        (b"subject", b"two\n Subject: folded, no field"),
    ]

    assert expected == list(fields(head, (b"subject", b"received")))


def test_header_that_begins_with_an_empty_line_has_no_fields() -> None:
    assert first(b"\nSubject: body", b"subject") is None
    assert first(b"\r\nSubject: body", b"subject") is None


def test_first_of_several_fields_counts_even_if_it_is_empty() -> None:
    assert first(b"Subject:\nSubject: x", b"subject") == b""


def test_unfolding_is_that_of_c_client() -> None:
    assert unfold(b"  a \r\n\tb \n  c \0d") == b"a  b   c "


def test_collapsed_value_has_single_blanks() -> None:
    assert collapse(b"  a \r\n\tb  ") == b"a b"


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b" Gr\xc3\xbc\xc3\x9fe", "Grüße"),
        (b" Gr\xfc\xdfe", "Grüße"),
        (b" =?utf-8?q?Gr=C3=BC=C3=9Fe?= =?UTF-8?B?IQ==?= x", "Grüße! x"),
        (b"=?utf-8?q?=C3?=\r\n =?utf-8?q?=BC?=", "ü"),  # one character in two words
        (b"=?iso-8859-1*de?Q?=FC_=FC?=", "ü ü"),
        (b"a =?utf-8?q?b?= c", "a b c"),
        (b"=?no-such-charset?q?=FC?=", "ü"),
        (b"=?hex?q?61?=", "61"),
        (b"=?utf-8?b?a?=", "a"),
        (b"=?utf-8?x?a?=", "=?utf-8?x?a?="),
    ],
)
def test_value_is_decoded_for_reading(raw: bytes, shown: str) -> None:
    assert shown == decoded(raw)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        (b" Joe Doe <joe@example.org>", "Joe Doe"),
        (b' "Doe, Joe" <joe@example.org>', "Doe, Joe"),
        (b" joe@example.org (Joe (the) Doe)", "Joe (the) Doe"),
        (b" joe@example.org", "joe@example.org"),
        (b" =?utf-8?q?J=C3=B6?= <joe@example.org>, ann@example.org", "Jö"),
        (b" list: ann@example.org;", "ann@example.org"),
        (b" undisclosed-recipients:;", "undisclosed-recipients"),
        (b"", ""),
    ],
)
def test_sender_is_shown_by_name_or_else_by_address(raw: bytes, shown: str) -> None:
    assert shown == address(raw)


ODD = st.lists(
    st.sampled_from([b"From", b"Subject", b":", b"\n", b"\r", b"\0", b" ", b"\t", b"(", b")", b"<", b">", b'"', b"\\"])
    | st.sampled_from([b"@", b",", b";", b"[", b"]", b".", b"at ", b"=?utf-8?q?", b"?=", b"\x1b$B", b"\x1b(B", b"\xfc"])
    | st.binary(max_size=3),
    max_size=40,
).map(b"".join)


@given(ODD)
def test_any_bytes_can_be_scanned_decoded_and_parsed(raw: bytes) -> None:
    for _, value in fields(raw, (b"from", b"subject")):
        decoded(value)
    decoded(raw)
    address(raw)
    b"".join(one.written() for one in parse(unfold(raw)))


@given(ODD)
@example(b"Subject: a\n\n\nSubject: b")
def test_line_ends_make_no_difference(raw: bytes) -> None:
    lf = raw.replace(b"\r", b"")
    crlf = lf.replace(b"\n", b"\r\n")

    assert list(fields(lf, (b"from", b"subject"))) == list(fields(crlf, (b"from", b"subject")))


@pytest.mark.parametrize(
    "raw",
    [b"x" * 10**6, b"\n " * 10**5, b"\n\r" * 10**5, b"Received: x\n" * 10**5, b"To: " + b"," * 10**6],
    ids=["one line", "blank lines", "bare CR", "many fields", "commas"],
)
def test_large_junk_is_read_in_linear_time(raw: bytes) -> None:
    """Would take minutes if it were not."""
    assert list(fields(raw, (b"from",))) == []
    assert parse(unfold(raw[4:].replace(b"Received", b""))) is not None


@pytest.mark.parametrize(
    "unit", [b"(", b"a (", b'"', b'"a" ', b"a:", b"a . ", b"a@b . ", b"<", b"<@a,", b"a,", b"\x1b$B"]
)
def test_large_address_lists_are_read_in_linear_time(unit: bytes) -> None:
    assert parse(unit * 20000)
