"""Find fields in a raw header block. Knows bytes and RFC 5322/2047 syntax; not what the fields mean to mailsync.

Carriage returns count nowhere: the same header reads alike with LF and with CRLF, as c-client reads an mbox. A field
goes on where the next line begins with a blank or a tab. The header ends at its first empty line. What is no field (the
`From ` line of an mbox, junk) is passed over.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection, Iterable, Iterator
from functools import lru_cache
from itertools import groupby
from typing import Literal

from .addresses import parse

# The fields that tell a message from others, and what it is.
TELLING = (
    b"message-id", b"date", b"from", b"to", b"cc", b"subject", b"in-reply-to", b"references", b"received",
    b"return-path", b"delivered-to",
)  # fmt: skip
MOST = 64 * 1024  # bytes of the fields of one name that count; as many in a header that a server cuts out
BLANKS = b" \t\r\n"
HOLD = 256 * 1024  # bytes of a header that are held at once; more than MOST

# Possessive throughout: a header is input, and no input may make the scan quadratic.
_VALUE = rb"([^\n]*+(?:\n[ \t][^\n]*+)*+)"
_NAME_END = rb"[ \t]*+(?:\n[ \t]++)*+:"
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:|[ \t]|From ")
BLANK_LINE = re.compile(rb"\n\r{0,2}\n")
_NEXT_FIELD = re.compile(rb"\n(?=[^ \t])")
_OPEN_END = re.compile(rb"\n\r{0,2}\Z")
_ENCODED_WORD = re.compile(rb"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\n]*)\?=")


def fields(header: bytes, names: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Each field of these (lower-case) names in order: lower-case name, value as it stands, folding included."""
    for match in _pattern(frozenset(names)).finditer(_prepared(header)):
        name, value = match.groups()
        if name is None:
            return
        if match.start(2) - match.end(1) <= MOST:  # blanks before the colon; who holds a part only must find it there
            yield name.lower(), value


def first(header: bytes, name: bytes) -> bytes | None:
    """The value of the first field of this (lower-case) name; None where there is none."""
    return next((value for _, value in fields(header, (name,))), None)


def bounded(found: Iterable[tuple[bytes, bytes]]) -> Iterator[tuple[bytes, bytes]]:
    """Of the fields of each name the first bytes, MOST together: no header makes an id, or a sum, without end.

    The blanks that a value begins with do not count: imap4d adds one.
    """
    left: dict[bytes, int] = {}
    for name, value in found:
        room, bare = left.get(name, MOST), value.lstrip(BLANKS)
        if room > 0:
            yield name, value if len(bare) <= room else bare[:room]
            left[name] = room - len(bare)


def reduced(chunks: Iterable[bytes]) -> bytes:
    """Of the header of a message that is too long to be held: the fields that are TELLING, `bounded`."""
    found = bounded(_telling(chunks))
    return b"".join(name + b":" + value.rstrip(b"\n") + b"\n" for name, value in found)  # one may be cut at a fold


Part = Literal["fields", "begin", "more", "body"]


def parts(chunks: Iterable[bytes], blank_line: re.Pattern[bytes] = BLANK_LINE) -> Iterator[tuple[Part, bytes]]:
    """All bytes of a message: its header in pieces of a bounded size, then the rest from the blank line on.

    "fields" are whole ones. Of one that is too long for that there is a "begin", and "more" of it.
    """
    source = iter(chunks)
    head = bytearray(b"\n")  # what is held, behind the line end before it
    inside = False  # a long field; then all of `head` is still to come
    searched = 0
    for chunk in source:
        head += chunk
        if end := blank_line.search(head, searched):
            yield from _closed(head, end.start() + 1, inside)
            yield "body", bytes(head[end.start() + 1 :])
            for rest in source:
                yield "body", rest
            return
        tail = _OPEN_END.search(head, max(0, len(head) - 3))  # all of it for each chunk would be quadratic
        sure = len(head) - len(tail[0]) if tail else len(head)
        if inside:
            found = _NEXT_FIELD.search(head, 0, sure)
            yield "more", bytes(head[: found.start() + 1 if found else sure])
            del head[: found.start() if found else sure]
            inside = not found
            sure -= found.start() if found else sure
        if not inside and len(head) > HOLD:
            if cut := last_field(head, sure):
                yield "fields", bytes(head[1 : cut + 1])
                del head[:cut]
                sure -= cut
            if len(head) > HOLD:
                yield "begin", bytes(head[1:sure])
                del head[:sure]
                inside = True
        searched = max(len(head) - 3, 0)
    yield from _closed(head, len(head), inside)


def no_fields(header: bytes) -> Iterator[bytes]:
    """Lines that are neither a field, nor the rest of one, nor the `From ` line of an mbox."""
    for line in header.replace(b"\r\n", b"\n").split(b"\n"):
        if line and not _FIELD.match(line):
            yield line


def any_case(name: bytes) -> bytes:
    """A pattern for a field name in upper or lower case, made for speed."""
    letters = (bytes((byte,)) for byte in name)
    return b"".join(b"[" + c.upper() + c.lower() + b"]" if c.isalpha() else re.escape(c) for c in letters)


def unfold(value: bytes) -> bytes:
    """As c-client does: line breaks go, a tab is a blank, blanks before the text go. NUL ends it."""
    if b"\n" in value or b"\r" in value:
        value = value.replace(b"\r", b"").replace(b"\n", b"")
    return value.partition(b"\0")[0].replace(b"\t", b" ").lstrip(b" ")


def collapse(value: bytes) -> bytes:
    """On one line, each run of white space one blank, none at the ends: equal whatever a server did to the folding."""
    return b" ".join(value.split())


def decoded(value: bytes) -> str:
    """A value as people read it: encoded words (RFC 2047) decoded, 8-bit text as UTF-8 or else Latin-1.

    For showing only, and still to be made printable. Neighbours of one charset are joined before they are decoded:
    many mailers cut a character in two.
    """
    text = value.replace(b"\r", b"").replace(b"\n", b"").strip()
    out: list[str] = []
    run: list[tuple[str, bytes]] = []
    end = 0
    for word in _ENCODED_WORD.finditer(text):
        between = text[end : word.start()]
        if between.strip() or not run:
            out += _run(run), _plain(between)
            run = []
        run.append((word[1].decode("latin-1").lower(), _word(word[2], word[3])))
        end = word.end()
    out += _run(run), _plain(text[end:])
    return "".join(out)


def address(value: bytes) -> str:
    """Who a From field names first: the personal name, or else `mailbox@host`. "" for nobody."""
    found = parse(unfold(value))
    chosen = next((one for one in found if one.host is not None), found[0] if found else None)
    if chosen is None:
        return ""
    return decoded(chosen.personal) or decoded(chosen.mailbox + (b"@" + chosen.host if chosen.host else b""))


def _closed(head: bytearray, end: int, inside: bool) -> Iterator[tuple[Part, bytes]]:
    """What is held when the header ends there."""
    begin = 1
    if inside:
        found = _NEXT_FIELD.search(head, 0, end)
        begin = found.start() + 1 if found else end
        yield "more", bytes(head[:begin])
    yield "fields", bytes(head[begin:end])


def last_field(head: bytes | bytearray, end: int) -> int:
    """The line end before the last field that begins before `end`; 0 if that is the first one."""
    at = head.rfind(b"\n", 1, end)
    while at > 0 and head[at + 1] in b" \t":
        at = head.rfind(b"\n", 1, at)
    return max(at, 0)


def _telling(chunks: Iterable[bytes]) -> Iterator[tuple[bytes, bytes]]:
    for part, text in parts(chunk.replace(b"\r", b"") for chunk in chunks):
        if part == "body":
            return
        if part != "more":
            yield from fields(text, TELLING)


@lru_cache(maxsize=64)
def _pattern(names: frozenset[bytes]) -> re.Pattern[bytes]:
    # A leading "\n" that is a plain literal lets the search hop from line to line by memchr; with both cases spelled
    # out, a name is ruled out by its first letter. IGNORECASE would cost both.
    wanted = b"|".join(any_case(name) for name in sorted(names))
    return re.compile(rb"\n(?:\n|(" + wanted + rb")" + _NAME_END + _VALUE + rb")")


def _prepared(header: bytes) -> bytes:
    return b"\n" + (header.replace(b"\r", b"") if b"\r" in header else header)


def _word(encoding: bytes, text: bytes) -> bytes:
    if encoding in b"qQ":
        return binascii.a2b_qp(text, header=True)
    try:
        return binascii.a2b_base64(text + b"==")
    except binascii.Error:
        return text


def _run(words: list[tuple[str, bytes]]) -> str:
    """Encoded words that stand side by side."""
    out = ""
    for charset, group in groupby(words, key=lambda word: word[0]):
        raw = b"".join(part for _, part in group)
        try:
            out += raw.decode(charset, "replace")
        except (LookupError, ValueError):
            out += _plain(raw)
    return out


def _plain(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError:
        return text.decode("latin-1")
