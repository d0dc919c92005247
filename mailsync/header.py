"""Find fields in a raw header block. Knows bytes and RFC 5322/2047 syntax; not what the fields mean to mailsync.

Carriage returns count nowhere: the same header reads alike with LF and with CRLF, as c-client reads an mbox. A field
goes on where the next line begins with a blank or a tab. The header ends at its first empty line. What is no field (the
`From ` line of an mbox, junk) is passed over.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Collection, Iterator
from functools import lru_cache
from itertools import groupby

from .addresses import parse

# Possessive throughout: a header is input, and no input may make the scan quadratic.
_VALUE = rb"([^\n]*+(?:\n[ \t][^\n]*+)*+)"
_NAME_END = rb"[ \t]*+(?:\n[ \t]++)*+:"
_FIELD = re.compile(rb"[!-9;-~]+[ \t]*:|[ \t]|From ")
_ENCODED_WORD = re.compile(rb"=\?([^?\s*]+)(?:\*[^?\s]*)?\?([bBqQ])\?([^?\n]*)\?=")


def fields(header: bytes, names: Collection[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """Each field of these (lower-case) names in order: lower-case name, value as it stands, folding included."""
    for match in _pattern(frozenset(names)).finditer(_prepared(header)):
        name, value = match.groups()
        if name is None:
            return
        yield name.lower(), value


def first(header: bytes, name: bytes) -> bytes | None:
    """The value of the first field of this (lower-case) name; None where there is none."""
    match = _pattern(frozenset((name,))).search(_prepared(header))
    return match[2] if match else None


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
