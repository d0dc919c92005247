"""The mail that the fake server holds. Knows what IMAP means by names, flags and dates; nothing of connections."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from calendar import timegm
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from time import gmtime

SYSTEM = (rb"\Answered", rb"\Flagged", rb"\Deleted", rb"\Seen", rb"\Draft")
ANY_KEYWORD = rb"\*"
NOSELECT = rb"\Noselect"
NEW_YEAR = 1704067200  # 2024, as UTC
MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
DATE = re.compile(rb"([ \d]\d)-(\w{3})-(\d{4}) (\d\d):(\d\d):(\d\d) ([+-])(\d\d)(\d\d)")


class No(Exception):
    """The command is understood and refused: the text after NO."""


class Bad(Exception):
    """The command is not understood, or not by a server of these capabilities: the text after BAD."""


@dataclass(eq=False, slots=True)
class FakeMessage:
    uid: int
    raw: bytes  # as on the wire, CRLF
    flags: set[bytes]
    date: int  # internal date, seconds since 1970
    modseq: int
    gone: bool = False  # expunged; sessions that have not been told still count it

    @property
    def header(self) -> bytes:
        """Up to and with the blank line, if there is one."""
        if self.raw.startswith(b"\r\n"):
            return b"\r\n"
        end = self.raw.find(b"\r\n\r\n")
        return self.raw if end < 0 else self.raw[: end + 4]

    def fields(self, names: Iterable[bytes]) -> bytes:
        """The header fields of these names, and a blank line."""
        wanted = {name.lower() for name in names}
        found = re.findall(rb"^[^\s:]+[ \t]*:.*\r?\n?(?:[ \t].*\r?\n?)*", self.header, re.MULTILINE)
        return b"".join(each for each in found if each.partition(b":")[0].strip().lower() in wanted) + b"\r\n"


@dataclass(eq=False, slots=True)
class FakeBox:
    """A mailbox. Sessions notice what is done by its methods, not what is done to its lists behind its back."""

    uidvalidity: int = 1
    uidnext: int = 1
    messages: list[FakeMessage] = field(default_factory=list)  # by uid, ascending
    permanent_flags: set[bytes] = field(default_factory=lambda: {*SYSTEM, ANY_KEYWORD})
    attributes: set[bytes] = field(default_factory=set)  # \Noselect, \All, \Sent...
    subscribed: bool = False
    modseq: int = 1  # HIGHESTMODSEQ: the highest that was ever given
    spelling: dict[bytes, bytes] = field(default_factory=lambda: {flag.lower(): flag for flag in SYSTEM})

    def add(self, raw: bytes, flags: Iterable[bytes] = (), date: int = NEW_YEAR) -> FakeMessage:
        self.modseq += 1
        message = FakeMessage(self.uidnext, raw, self.holdable(flags), date, self.modseq)
        self.messages.append(message)
        self.uidnext += 1
        return message

    def get(self, uid: int) -> FakeMessage | None:
        at = bisect_left(self.messages, uid, key=lambda message: message.uid)
        return self.messages[at] if at < len(self.messages) and self.messages[at].uid == uid else None

    def remove(self, *uids: int) -> None:
        self.modseq += 1
        for message in self.messages:
            message.gone = message.gone or message.uid in uids
        self.messages = [message for message in self.messages if not message.gone]

    def set_flags(self, uid: int, flags: Iterable[bytes]) -> None:
        message = self.get(uid)
        assert message, f"no message has the uid {uid}"
        if (new := self.holdable(flags)) != message.flags:
            self.modseq += 1
            message.flags, message.modseq = new, self.modseq

    def renumber(self, uidvalidity: int) -> None:
        """As after a server's repair: new uids, which mean nothing to who knows the old ones."""
        old, self.messages, self.uidvalidity, self.uidnext = self.messages, [], uidvalidity, 1
        for message in old:
            message.gone = True
            self.add(message.raw, message.flags, message.date)

    def holdable(self, flags: Iterable[bytes]) -> set[bytes]:
        """Those that the box can keep, keywords as they were spelt first."""
        kept = {flag.lower() for flag in self.permanent_flags}
        keywords = ANY_KEYWORD in self.permanent_flags
        return {
            self.spelling.setdefault(flag.lower(), flag)
            for flag in flags
            if flag.lower() in kept or (keywords and not flag.startswith(b"\\"))
        }

    @property
    def flags(self) -> list[bytes]:
        """All that are used in it, or could be."""
        return sorted({*self.spelling.values(), *self.permanent_flags} - {ANY_KEYWORD})

    @property
    def size(self) -> int:
        return sum(len(message.raw) for message in self.messages)


class FakeStore(dict[bytes, FakeBox]):
    """The mailboxes by name, as on the wire (modified UTF-7)."""

    def __init__(self, delimiter: bytes | None, prefix: bytes, *, fold: bool) -> None:
        """`prefix`: of the personal namespace. `fold`: names that differ in case only are one."""
        super().__init__({b"INBOX": FakeBox(subscribed=True)})
        self.delimiter = delimiter
        self.prefix = prefix
        self._fold = fold
        self._validity = 1

    def find(self, name: bytes) -> bytes | None:
        """The name as the store spells it; None if there is no such mailbox."""
        if name.upper() == b"INBOX":
            return b"INBOX"
        if name in self:
            return name
        return next((known for known in self if known.lower() == name.lower()), None) if self._fold else None

    def existing(self, name: bytes, code: bytes = b"NONEXISTENT") -> FakeBox:
        """A mailbox that can be selected."""
        found = self.find(name)
        if found is None or NOSELECT in self[found].attributes:
            raise No(b"[%s] no such mailbox" % code)
        return self[found]

    def create(self, name: bytes) -> FakeBox:
        """With the levels above it, which cannot be selected."""
        if self.delimiter:
            name = name.removesuffix(self.delimiter)
        if name.upper() != b"INBOX" and not name.startswith(self.prefix):
            raise No(b"[CANNOT] the name is in no namespace: it must begin with " + self.prefix)
        if (found := self.find(name)) is not None:
            if NOSELECT not in self[found].attributes:
                raise No(b"[ALREADYEXISTS] there is one")
            self[found].attributes.discard(NOSELECT)
            return self[found]
        for above in self._above(name):
            if self.find(above) is None:
                self[above] = FakeBox(attributes={NOSELECT})
        self._validity += 1
        self[name] = FakeBox(self._validity)
        return self[name]

    def delete(self, name: bytes) -> None:
        found = self.find(name)
        if found is None:
            raise No(b"[NONEXISTENT] no such mailbox")
        if found == b"INBOX":
            raise No(b"[CANNOT] not the INBOX")
        if not any(self._below(found)):
            del self[found]
        elif NOSELECT in self[found].attributes:
            raise No(b"[HASCHILDREN] there are mailboxes below it")
        else:
            self[found] = FakeBox(attributes={NOSELECT})

    def rename(self, old: bytes, new: bytes) -> None:
        found = self.find(old)
        if found is None:
            raise No(b"[NONEXISTENT] no such mailbox")
        if self.find(new) is not None:
            raise No(b"[ALREADYEXISTS] there is one")
        self.create(new)
        if found == b"INBOX":  # its mail goes, it stays (RFC 3501, section 6.3.5)
            for message in self[found].messages:
                self[new].add(message.raw, message.flags, message.date)
            self[found].remove(*(message.uid for message in self[found].messages))
            return
        for below in list(self._below(found)):
            self[new + below[len(found) :]] = self.pop(below)
        self[new] = self.pop(found)

    def matching(self, reference: bytes, patterns: Sequence[bytes]) -> Iterator[tuple[bytes, FakeBox]]:
        level = b"[^%s]*" % re.escape(self.delimiter) if self.delimiter else b".*"
        wild: dict[bytes, bytes] = {b"*": b".*", b"%": level}
        for name, box in sorted(self.items()):
            for pattern in patterns:
                parts = re.split(rb"([*%])", reference + pattern)
                text = b"".join(wild.get(part, re.escape(part)) for part in parts)
                if re.fullmatch(text, name, re.DOTALL | (re.IGNORECASE if self._fold or name == b"INBOX" else 0)):
                    yield name, box
                    break

    def has_children(self, name: bytes) -> bool:
        return any(self._below(name))

    def _above(self, name: bytes) -> Iterator[bytes]:
        if self.delimiter:
            levels = name.split(self.delimiter)
            yield from (self.delimiter.join(levels[:n]) for n in range(1, len(levels)))

    def _below(self, name: bytes) -> Iterator[bytes]:
        if self.delimiter:
            yield from (each for each in self if each.startswith(name + (self.delimiter or b"")))


def format_date(seconds: int) -> bytes:
    at = gmtime(seconds)
    date = b"%2d-%s-%04d" % (at.tm_mday, MONTHS[at.tm_mon - 1], at.tm_year)
    return b"%s %02d:%02d:%02d +0000" % (date, at.tm_hour, at.tm_min, at.tm_sec)


def parse_date(text: bytes) -> int:
    found = DATE.fullmatch(text)
    if not found or found[2].title() not in MONTHS:
        raise Bad(b"not a date")
    day, month, year, hour, minute, second = (
        int(found[1]),
        MONTHS.index(found[2].title()) + 1,
        *map(int, found.group(3, 4, 5, 6)),
    )
    zone = (int(found[8]) * 60 + int(found[9])) * 60
    return timegm((year, month, day, hour, minute, second)) - (zone if found[7] == b"+" else -zone)


def in_set(text: bytes, last: int) -> Callable[[int], bool]:
    """A sequence set as a test. `*` is the last number there is, so that `n:*` holds it even where it is below n."""
    if not re.fullmatch(rb"(?:[1-9]\d*|\*)(?::(?:[1-9]\d*|\*))?(?:,(?:[1-9]\d*|\*)(?::(?:[1-9]\d*|\*))?)*", text):
        raise Bad(b"not a sequence set")
    ranges = []
    for part in text.split(b","):
        ends = sorted(last if end == b"*" else int(end) for end in part.split(b":"))
        ranges.append((ends[0], ends[-1]))
    ranges.sort()
    starts = [low for low, _ in ranges]
    reach = list(accumulate((high for _, high in ranges), max))

    def contains(number: int) -> bool:
        at = bisect_right(starts, number) - 1
        return at >= 0 and number <= reach[at]

    return contains


def as_set(numbers: Sequence[int]) -> bytes:
    """Numbers in their order, runs that rise by one as ranges."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1] = [runs[-1][0], number]
        else:
            runs.append([number])
    return b",".join(b":".join(b"%d" % end for end in run) for run in runs)


def to_utf8(name: bytes) -> bytes:
    """Modified UTF-7 (RFC 3501, section 5.1.3) as UTF-8."""

    def shifted(found: re.Match[bytes]) -> bytes:
        return (b"+" + found[1].replace(b",", b"/") + b"-").decode("utf-7").encode() if found[1] else b"&"

    return re.sub(rb"&([^-]*)-", shifted, name)


def from_utf8(name: bytes) -> bytes:
    def shifted(found: re.Match[str]) -> str:
        if found[0] == "&":
            return "&-"
        return "&" + found[0].encode("utf-7").decode()[1:-1].replace("/", ",") + "-"

    return re.sub(r"&|[^ -~]+", shifted, name.decode(errors="replace")).encode()
