"""Random input for what reads a server's answers: mutated transcripts of Dovecot and Cyrus, and answers from a grammar.

The targets of `tests/fuzz` say what must hold for any bytes; here it is tried near what servers really say. What is
written by a grammar must be read as it was meant, whatever of the ways that IMAP has to write it was taken.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsync.drivers.imap import sets, utf7
from mailsync.drivers.imap.dates import internal_date
from mailsync.drivers.imap.draft import MAX_UID
from mailsync.drivers.imap.mailboxes import token_of
from mailsync.drivers.imap.tokens import (
    LARGEST_NUMBER,
    MAX_DEPTH,
    Fetched,
    Listed,
    Literal,
    Part,
    ProtocolError,
    Status,
    code_value,
    fetched,
    fetched_quickly,
    flag_set,
    listed,
    numbers,
    response,
    status,
    values,
)
from mailsync.model import Flags

from . import fuzz
from .tried import FUZZED

pytestmark = FUZZED

EXAMPLES = 2000 if os.environ.get("MAILSYNC_TORTURE") else 150
NAMES = [name for name, target in fuzz.targets().items() if target.__module__.endswith("server")]
BITS = [
    b"\r\n",
    b"* ",
    b"(",
    b")",
    b'"',
    b"\\",
    b"{3}\r\n",
    b"{0}\r\n",
    b"NIL",
    b" ",
    b"\0",
    b"\xff",
    b"a1 OK\r\n",
    b"* 1 FETCH (",
]
BITS += [
    b"UID 1 ",
    b"4294967296",
    b"99999999999999999999",
    b"[",
    b"]",
    b"* VANISHED 1:4294967295\r\n",
    b"* 1 EXPUNGE\r\n",
]


@st.composite
def mutated(draw: st.DrawFn, texts: Sequence[bytes]) -> bytes:
    """One of the texts, with a few pieces taken out, doubled, moved or put in."""
    text = draw(st.sampled_from(texts))
    for _ in range(draw(st.integers(0, 4))):
        at, end = sorted(draw(st.tuples(*[st.integers(0, len(text))] * 2)))
        piece = text[at:end]
        text = draw(
            st.sampled_from(
                [
                    text[:at] + text[end:],
                    text[:at] + piece * 2 + text[end:],
                    text[:at] + draw(st.sampled_from(BITS)) + text[at:],
                    piece + text[:at] + text[end:],
                    text[:at] + draw(st.binary(max_size=5)) + text[end:],
                ]
            )
        )
    return text


@pytest.mark.parametrize("name", NAMES)
def test_target_stands_whatever_becomes_of_what_servers_said(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    run = fuzz.targets()[name]
    points = 0

    @settings(max_examples=EXAMPLES, database=None)
    @given(mutated([path.read_bytes() for path in fuzz.corpus(name)]))
    def stands(data: bytes) -> None:
        nonlocal points
        points += 1
        run(data)

    stands()
    record_property("points", points)


# ---- from a grammar --------------------------------------------------------------------------------------------------

ATOM = st.text("abcXYZ019$.-_&+", min_size=1, max_size=8).map(str.encode).filter(lambda word: word.upper() != b"NIL")
STRING = st.binary(max_size=20)
KEYWORD = st.text("abc$.-_019[]", min_size=1, max_size=6).map(str.encode)
FLAG = st.one_of(
    KEYWORD, st.sampled_from([rb"\Seen", rb"\Answered", rb"\Flagged", rb"\Draft", rb"\Deleted", rb"\Recent"])
)
UID = st.integers(1, MAX_UID)


def written(text: bytes, way: str) -> list[Part]:
    """A string as IMAP may write it."""
    plain = not any(byte in b"\r\n\0" for byte in text)
    if way == "atom" and text.isalnum() and text.upper() != b"NIL":
        return [text]
    if way != "literal" and plain:
        return [b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"']
    return [b"", Literal(text), b""]


def joined(*pieces: list[Part] | bytes) -> list[Part]:
    """Texts side by side are one text."""
    parts: list[Part] = [b""]
    for piece in pieces:
        for part in [piece] if isinstance(piece, bytes) else piece:
            last = parts[-1]
            if isinstance(part, bytes) and isinstance(last, bytes):
                parts[-1] = last + part
            else:
                parts.append(part)
    return parts


WAY = st.sampled_from(["atom", "quoted", "literal"])


@dataclass(frozen=True)
class Said:
    """A FETCH, and what it says."""

    parts: list[Part]
    meant: Fetched
    usual: bool  # what listings and messages ask for, and no more


@st.composite
def fetch(draw: st.DrawFn) -> Said:
    number = draw(UID)
    meant = Fetched(number)
    items: list[list[Part]] = []

    def add(*pieces: list[Part] | bytes) -> None:
        items.append(joined(*pieces))

    if draw(st.booleans()):
        meant.uid = draw(UID)
        add(b"UID %d" % meant.uid)
    if draw(st.booleans()):
        words = draw(st.lists(FLAG, max_size=5))
        meant.flags = flag_set(b" ".join(words))
        add(b"FLAGS (", b" ".join(words), b")")
    if draw(st.booleans()):
        meant.size = draw(st.integers(0, 10**12))
        add(b"RFC822.SIZE %d" % meant.size)
    if draw(st.booleans()):
        meant.date = draw(st.integers(0, 253402300799))
        add(b"INTERNALDATE ", internal_date(meant.date))
    if draw(st.booleans()):
        meant.modseq = draw(st.integers(1, 10**18 - 1))
        add(b"MODSEQ (%d)" % meant.modseq)
    told = len(items)
    if draw(st.booleans()):
        body = draw(STRING)
        meant.body = Literal(body)
        add(draw(st.sampled_from([b"BODY[] ", b"BODY[HEADER.FIELDS (MESSAGE-ID)] "])), written(body, draw(WAY)))
    if draw(st.booleans()):
        add(b"X-GM-LABELS (", written(draw(STRING), draw(WAY)), b" NIL)")
    order = draw(st.permutations(items))
    more = items[told:]
    usual = told > 0 and (not more or (meant.body is not None and more == order[-1:] and len(more[0]) == 3))
    between: list[list[Part] | bytes] = []
    for item in order:
        between += [b" "] if between else []
        between.append(item)
    return Said(joined(b"* %d FETCH (" % number, *between, b")"), meant, usual)


@settings(max_examples=4 * EXAMPLES)
@given(fetch())
def test_fetch_is_read_as_it_was_meant_in_haste_and_at_leisure(said: Said) -> None:
    assert said.meant == fetched(response(said.parts))
    first, *rest = said.parts
    assert isinstance(first, bytes)
    literal = rest[0] if rest else None
    size = len(literal.read()) if isinstance(literal, Literal) else None
    quick = fetched_quickly(first if size is None else first + b"{%d}" % size)
    assert not said.usual or quick is not None
    if quick is not None and rest in ([], [literal, b")"]):
        told, announced = quick
        told.body = literal if isinstance(literal, Literal) else None
        assert (said.meant, size) == (told, announced)


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_name_comes_back_as_it_was_written(text: str) -> None:
    assert text == utf7.decode(utf7.encode(text))


@given(st.lists(ATOM, max_size=4), st.sampled_from(["/", ".", "\\", '"', None]), STRING, WAY)
def test_list_is_read_as_it_was_meant(attributes: list[bytes], delimiter: str | None, name: bytes, way: str) -> None:
    told = b"NIL" if delimiter is None else written(delimiter.encode(), "quoted")
    words = b" ".join(b"\\" + word for word in attributes)
    found = listed(response(joined(b"* LIST (", words, b") ", told, b" ", written(name, way))))

    assert Listed(frozenset(b"\\" + word.lower() for word in attributes), delimiter, name) == found


@given(STRING, WAY, st.permutations(["UIDVALIDITY", "UIDNEXT", "MESSAGES", "HIGHESTMODSEQ"]), st.integers(1, MAX_UID))
def test_status_is_read_as_it_was_meant(name: bytes, way: str, order: list[str], number: int) -> None:
    items = b" ".join(b"%s %d" % (word.encode(), number) for word in order)
    found = token_of(response(joined(b"* STATUS ", written(name, way), b" (" + items + b")")))

    assert (name, f"{number} {number} {number} {number}") == found


@given(st.sets(UID, max_size=50), st.integers(0, 3))
def test_numbers_of_a_search_are_read_as_they_were_meant(uids: set[int], kind: int) -> None:
    text = b" ".join(b"%d" % uid for uid in uids)

    assert uids == set(numbers(response([b"* SEARCH " + text + b" (MODSEQ 5)" * (kind > 1)])))


@given(st.sets(UID, max_size=60), st.sets(UID, max_size=60), st.integers(1, 4))
def test_set_holds_what_it_was_written_of(uids: set[int], others: set[int], repeat: int) -> None:
    text = b",".join([part for part, _ in sets.split(sorted(uids))] * repeat)
    if not uids:
        return

    assert sorted(uids) == sorted(set(sets.parse(text, most=len(uids) * repeat)))
    assert sorted(uids & others) == sets.within(text, sorted(others))
    assert len(uids) * repeat == sets.size(text)
    with pytest.raises(ProtocolError):
        sets.parse(text, most=len(uids) * repeat - 1)


@given(st.sampled_from(["OK", "no", "Bad", "BYE"]), ATOM, ATOM, st.text("abc ]{}5", max_size=10))
def test_response_code_is_read_as_it_was_meant(kind: str, code: bytes, argument: bytes, text: str) -> None:
    found = status(response([b"* %s [%s %s] %s" % (kind.encode(), code, argument, text.encode())]))

    assert Status(kind.upper().encode(), code.upper(), argument, text) == found


@given(st.integers(0, 10**25))
def test_number_is_whole_or_not_told(number: int) -> None:
    """2^64 was once read as its first nineteen digits."""
    found = code_value(b"HIGHESTMODSEQ %d" % number, b"HIGHESTMODSEQ")

    assert (number if number < LARGEST_NUMBER else None) == found


@given(st.recursive(ATOM, lambda inner: st.lists(inner, max_size=4), max_leaves=30))
def test_values_are_read_as_they_were_meant(value: object) -> None:
    def text(value: object) -> bytes:
        if isinstance(value, bytes):
            return value
        assert isinstance(value, list)
        return b"(" + b" ".join(map(text, value)) + b")"

    assert [value] == values([text(value)])


@given(st.integers(1, 2 * MAX_DEPTH))
def test_lists_within_lists_are_read_to_a_depth(depth: int) -> None:
    text = b"(" * depth + b")" * depth
    if depth > MAX_DEPTH:
        with pytest.raises(ProtocolError, match=f"more than {MAX_DEPTH} deep"):
            values([text])
    else:
        assert 1 == len(values([text]))


@given(st.lists(FLAG, max_size=8))
def test_flags_are_read_as_they_were_meant(words: list[bytes]) -> None:
    found: Flags = flag_set(b" ".join(words))

    assert {word.decode().lower() for word in words} - {"\\recent"} == {flag.lower() for flag in found}
