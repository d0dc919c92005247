"""Read what an IMAP server says: from lines and literals to values (RFC 3501, 7 and 9). Pure.

A response is a list of parts, text and literals in turn; a text ends where a literal begins. Nothing here is trusted: a
number is bounded, an unknown word is kept, and what cannot be read is a ProtocolError.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, NamedTuple, TypeAlias

from ...errors import BoxError, Lost
from ...model import SYSTEM, Flags
from .dates import parse_date

LARGEST = 2 * 1024**3  # bytes of a literal: no server that is known takes a larger message
LARGEST_NUMBER = 2**63
MAX_DEPTH = 100  # of lists within lists: what is asked for has three
MAX_VALUES = 200_000  # of one response, flags not counted: what is asked for has some dozens
MAX_FLAGS = 200_000  # of one message, or of one mailbox: some have hundreds
SHOWN = 500  # characters of what a server says to people
CACHED = 200  # bytes of a list of flags: what is longer would fill the memory, and seldom comes twice


class ProtocolError(Lost, ValueError):
    """The server said what IMAP does not know: what it says next cannot be relied on."""

    def __init__(self, what: str) -> None:
        super().__init__(f"the server's answer is {what}")


@dataclass(slots=True)
class Literal:
    """Counted bytes: in memory, or, if they are many, wherever the reader has put them."""

    data: bytes | IO[bytes]

    @property
    def text(self) -> bytes:
        if not isinstance(self.data, bytes):
            raise ProtocolError("a megabyte where a word was expected")
        return self.data

    @property
    def held(self) -> int:
        """So many bytes of memory."""
        return len(self.data) if isinstance(self.data, bytes) else 0

    def read(self) -> bytes:
        """All of it, however much."""
        if isinstance(self.data, bytes):
            return self.data
        self.data.seek(0)
        return self.data.read()


Part: TypeAlias = "bytes | Literal"
Value: TypeAlias = "bytes | Literal | list[Value] | None"


class Response(NamedTuple):
    """One response: `* 3 FETCH (...)`, `a1 OK [CODE] text`, `+ go on`."""

    tag: bytes  # b"*", b"+", or that of a command
    number: int | None  # of EXISTS, EXPUNGE, FETCH
    kind: bytes  # upper case
    parts: Sequence[Part]  # what follows the kind


class Status(NamedTuple):
    """An OK, NO, BAD, BYE or PREAUTH."""

    kind: bytes
    code: bytes  # first word of [CODE ...], upper case
    argument: bytes  # the rest of it
    text: str  # for people

    @property
    def ok(self) -> bool:
        return self.kind == b"OK"

    def __str__(self) -> str:
        words = self.text.strip() or self.kind.decode()
        return (f"[{self.code.decode('latin-1')}] {words}" if self.code else words)[:SHOWN]


@dataclass(slots=True)
class Fetched:
    """What one FETCH response tells of a message; None where it does not."""

    number: int
    uid: int | None = None
    flags: Flags | None = None
    size: int | None = None
    date: int | None = None  # seconds since the epoch
    modseq: int | None = None
    body: Literal | None = None  # of the one BODY[...] that was asked for
    empty: bool = False  # that BODY[...] is NIL


class Listed(NamedTuple):
    """A LIST or LSUB response."""

    attributes: frozenset[bytes]  # lower case
    delimiter: str | None
    name: bytes  # as it is on the wire


_HEAD = re.compile(rb"(\S+) (?:(\d{1,10}) )?([A-Za-z][!-~]*+)(?: |\Z)")
_WORDS = re.compile(rb"\+|\S+ (?:OK|NO|BAD|BYE|PREAUTH)(?: |\Z)", re.IGNORECASE)
_STATUS = re.compile(rb"(?:\[([^\s\]]+)(?: ([^\]]*(?:\([^)]*\)[^\]]*)?))?\] ?)?(.*)", re.DOTALL)
_TOKEN = re.compile(
    rb'[ \t]*(?:(?P<open>\()|(?P<close>\))|"(?P<quoted>(?:[^"\\]|\\.)*+)"'
    rb'|(?P<atom>(?:[^\s()"\[]|\[(?:[^\]]*\])?+)++)|(?P<odd>"))',  # blanks are in BODY[HEADER.FIELDS (FROM)]
    re.DOTALL,
)
_ITEMS = (  # what a listing is made of, in whatever order; the last of several counts
    rb"\((?:UID (?P<uid>\d{1,10}) ?|FLAGS \((?P<flags>[^()]*)\) ?|RFC822\.SIZE (?P<size>\d{1,18}) ?"
    rb'|INTERNALDATE "(?P<date>[^"]{20,30})" ?|MODSEQ \((?P<modseq>\d{1,18})\) ?)++'
)
_FETCH = re.compile(_ITEMS + rb"(?:(?P<end>\))|BODY\[[^\]]*\] )")
_FETCH_LINE = re.compile(rb"\* (\d{1,10}) FETCH " + _ITEMS + rb"(?:\)|BODY\[[^\]]*\] \{(?P<literal>\d{1,9})\})")
_SEARCHED = re.compile(rb"\S++")
_FLAG_LIST = re.compile(rb'"(?:[^"\\]|\\.)*+"|\bFLAGS \((?P<flags>[^()]*)\)', re.IGNORECASE | re.DOTALL)
_NAMES = {flag.lower(): flag for flag in SYSTEM}


def literal_size(line: bytes) -> tuple[bytes, int] | None:
    """(the text before it, its size) if a literal follows this line."""
    if not line.endswith(b"}"):
        return None
    text, brace, number = line[:-1].rpartition(b"{")
    if not brace or not number.isdigit():
        return None
    if len(number) > 10 or int(number) > LARGEST:
        raise ProtocolError(f"a literal of more than {LARGEST} bytes")
    return text.removesuffix(b"~"), int(number)


def is_words(line: bytes) -> bool:
    """True if the line ends in words for people, where `{5}` announces nothing: servers quote commands in them."""
    return _WORDS.match(line) is not None


def response(parts: Sequence[Part]) -> Response:
    """A response from all its parts."""
    first = parts[0]
    assert isinstance(first, bytes)
    if first[:1] == b"+":
        return Response(b"+", None, b"", (first[2:], *parts[1:]))
    head = _HEAD.match(first)
    if not head:
        raise ProtocolError(f"not understood: {first[:60].decode('latin-1')}")
    tag, number, kind = head.groups()
    return Response(tag, int(number) if number else None, kind.upper(), (first[head.end() :], *parts[1:]))


def status(found: Response) -> Status:
    """The parts of an OK, NO, BAD, BYE or PREAUTH."""
    line = b"".join(part if isinstance(part, bytes) else part.text for part in found.parts)
    match = _STATUS.fullmatch(line)
    assert match  # it matches whatever comes
    code, argument, text = match.groups(b"")
    return Status(found.kind, code.upper(), argument, text.decode("utf-8", "replace"))


def ending(found: Response) -> Status:
    """How a command ended."""
    if found.kind not in (b"OK", b"NO", b"BAD"):
        raise ProtocolError("the end of a command, and neither OK nor NO nor BAD")
    return status(found)


def fetched(found: Response) -> Fetched:
    """What a FETCH response tells."""
    assert found.number is not None
    first = found.parts[0]
    assert isinstance(first, bytes)
    quick = _FETCH.match(first)
    if quick and (quick["end"] or (len(found.parts) == 3 and found.parts[2] == b")" and quick.end() == len(first))):
        uid, flags, size, date, modseq, end = quick.group("uid", "flags", "size", "date", "modseq", "end")
        body = None if end else found.parts[1]
        assert not isinstance(body, bytes)
        return Fetched(
            found.number,
            int(uid) if uid else None,
            None if flags is None else flag_set(flags),
            int(size) if size else None,
            parse_date(date) if date else None,
            int(modseq) if modseq else None,
            body,
        )
    return _fetched_slowly(found)


def fetched_quickly(line: bytes) -> tuple[Fetched, int | None] | None:
    """What a FETCH response begins with, and the size of the literal that then follows and is its body, if one does.

    None: it is not one of the usual ones.
    """
    quick = _FETCH_LINE.fullmatch(line)
    if not quick:
        return None
    number, uid, flags, size, date, modseq, literal = quick.groups()
    told = Fetched(
        int(number),
        int(uid) if uid else None,
        None if flags is None else flag_set(flags),
        int(size) if size else None,
        parse_date(date) if date else None,
        int(modseq) if modseq else None,
    )
    return told, int(literal) if literal else None


def values(parts: Sequence[Part]) -> list[Value]:
    """All values of a response, lists as lists."""
    stack: list[list[Value]] = [[]]
    count = 0
    for part in parts:
        if isinstance(part, Literal):
            stack[-1].append(part)
            continue
        at = 0
        while at < len(part) and (token := _TOKEN.match(part, at)):
            at = token.end()
            count += 1
            match token.lastgroup:
                case _ if count > MAX_VALUES:
                    raise ProtocolError(f"one of more than {MAX_VALUES} values")
                case "open" if len(stack) > MAX_DEPTH:
                    raise ProtocolError(f"one of lists within lists, more than {MAX_DEPTH} deep")
                case "open":
                    stack.append([])
                case "close" if len(stack) > 1:
                    inner = stack.pop()
                    stack[-1].append(inner)
                case "quoted":
                    stack[-1].append(re.sub(rb"\\(.)", rb"\1", token["quoted"], flags=re.DOTALL))
                case "atom":
                    stack[-1].append(None if token["atom"].upper() == b"NIL" else token["atom"])
                case _:
                    raise ProtocolError(f"not understood: {part[:60].decode('latin-1')}")
        if part[at:].strip():
            raise ProtocolError(f"not understood: {part[:60].decode('latin-1')}")
    if len(stack) > 1:
        raise ProtocolError("a list without end")
    return stack[0]


def text_of(value: Value) -> bytes:
    """A word, whatever way it was written."""
    match value:
        case bytes():
            return value
        case Literal():
            return value.text
    raise ProtocolError("expected a word")


def listed(found: Response) -> Listed:
    """A LIST or LSUB response; what LIST-EXTENDED adds behind it is passed over."""
    match values(found.parts):
        case [list() as attributes, delimiter, name, *more] if all(isinstance(each, list) for each in more):
            words = frozenset(text_of(word).lower() for word in attributes if word is not None)
            # An atom NIL is a legal name, too: only a quoted delimiter is ever missing.
            return Listed(words, _delimiter(delimiter), b"NIL" if name is None else text_of(name))
    raise ProtocolError("a LIST that is none")


def numbers(found: Response) -> Iterator[int]:
    """What SEARCH found; also of an ESEARCH, which some servers send unasked."""
    text = found.parts[0]
    assert isinstance(text, bytes)
    words = (_number(word[0]) for word in _SEARCHED.finditer(text.partition(b"(")[0]))
    return (number for number in words if number is not None)


def namespaces(found: Response) -> list[tuple[bytes, str | None]]:
    """(prefix, delimiter) of each personal namespace (RFC 2342, 5)."""
    personal = (values(found.parts) or [None])[0]
    spaces = []
    for space in personal if isinstance(personal, list) else []:
        match space:
            case [prefix, delimiter, *_]:
                spaces.append((text_of(prefix), _delimiter(delimiter)))
    return spaces


def flag_set(raw: bytes) -> Flags:
    """The flags of a list without its parentheses. Short ones of equal text are one object; `\\Recent` is nobody's."""
    return _cached_flags(raw) if len(raw) <= CACHED else _flags(raw)


def _flags(raw: bytes) -> Flags:
    found = raw.split(None, MAX_FLAGS)
    if len(found) > MAX_FLAGS:
        raise ProtocolError(f"one of more than {MAX_FLAGS} flags")
    words = (word.decode("utf-8", "surrogateescape") for word in found)
    return frozenset(_NAMES.get(word.lower(), word) for word in words if word.lower() not in ("\\recent", "\\*"))


_cached_flags = lru_cache(maxsize=4096)(_flags)


def written(flags: Flags) -> bytes:
    """Flags as a list in parentheses."""
    return b"(" + b" ".join(sorted(flag.encode("utf-8", "surrogateescape") for flag in flags)) + b")"


def is_flag(flag: str) -> bool:
    """True for what IMAP can say: an atom, perhaps with a backslash before it."""
    return bool(re.fullmatch(r"\\?[!#$&'+,\-./0-9:;<=>?@A-Z\[^_`a-z|}~]+", flag))


def quoted(raw: bytes) -> bytes:
    """A string in quotes (RFC 3501, 9). BoxError for what no quotes can hold: it would end the command."""
    if re.search(rb"[\r\n\0]", raw):
        raise BoxError(f"{raw.decode('latin-1')!r}: a name with a line break in it cannot be said to a server")
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def _fetched_slowly(found: Response) -> Fetched:
    assert found.number is not None
    result = Fetched(found.number)
    # Flags first: Fastmail and others put brackets into keywords, which no other value may hold unquoted.
    parts: list[Part] = []
    for part in found.parts:
        if isinstance(part, bytes):
            flags = next((one for one in _FLAG_LIST.finditer(part) if one["flags"] is not None), None)
            if flags:
                result.flags = flag_set(flags["flags"])
                part = part[: flags.start()] + part[flags.end() :]
        parts.append(part)
    match values(parts):
        case [list() as attributes, *_]:
            pass
        case _:
            raise ProtocolError("a FETCH that is none")
    for name, value in _pairs(attributes):
        match name, value:
            case b"UID", bytes():
                result.uid = _number(value)
            case b"RFC822.SIZE", bytes():
                result.size = _number(value)
            case b"INTERNALDATE", bytes():
                result.date = parse_date(value)
            case b"MODSEQ", [bytes() as number]:
                result.modseq = _number(number)
            case _ if name.startswith(b"BODY["):
                match value:
                    case bytes():
                        result.body = Literal(value)
                    case Literal():
                        result.body = value
                    case _:
                        result.empty = True
    return result


def _delimiter(value: Value) -> str | None:
    """None also for an empty one. It is one character (RFC 3501, 9, mailbox-list)."""
    char = b"" if value is None else text_of(value)
    if len(char) > 1 or not char.isascii():
        raise ProtocolError("a name with an odd delimiter")
    return char.decode("ascii") or None


def _number(word: bytes) -> int | None:
    """None for what is none, or is larger than any that IMAP knows (63 bits: RFC 7162, 3.1.1; RFC 9051, 9)."""
    number = int(word) if word.isdigit() and len(word) < 20 else LARGEST_NUMBER
    return number if number < LARGEST_NUMBER else None


def _pairs(attributes: Sequence[Value]) -> Iterator[tuple[bytes, Value]]:
    for name, value in zip(attributes[::2], attributes[1::2], strict=False):
        if not isinstance(name, bytes):
            raise ProtocolError("a FETCH with a value in the place of a name")
        yield name.upper(), value


def code_value(text: bytes, name: bytes) -> int | None:
    """A number after a word, as in `MESSAGES 3 UIDNEXT 4`."""
    found = re.search(rb"\b" + name + rb" (\d++)", text, re.IGNORECASE)
    return _number(found[1]) if found else None
