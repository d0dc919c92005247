"""Read a list of mail addresses the way c-client does, faults included. Knows nothing of headers or identity.

An id of the md5 kind is made from addresses as mailsync 5.2.7 saw them, so what counts here is not what RFC 5322 says
but what c-client 2007 answers, also to groups, routes, `joe at host`, raw ISO-2022-JP, missing hosts and syntax errors:
for the latter it makes up addresses of its own.
"""

from __future__ import annotations

import re
from typing import NamedTuple

NO_HOST = b".MISSING-HOST-NAME."
ERROR_HOST = b".SYNTAX-ERROR."
_GROUPS = 50  # c-client gives up on groups nested deeper


class Address(NamedTuple):
    """One address; `host` None: the beginning of a group, `mailbox` is its name."""

    personal: bytes
    mailbox: bytes
    host: bytes | None

    def written(self) -> bytes:
        """`mailbox@host`, either of them quoted where it must be; nothing for a group."""
        if self.host is None:
            return b""
        # Only a quoted host can begin with "@"; c-client takes it for "no host at all".
        return _quoted(self.mailbox) + (b"" if self.host.startswith(b"@") else b"@" + _quoted(self.host))


def parse(value: bytes) -> list[Address]:
    """All addresses of one unfolded field value, group names among them. Never raises."""
    return _Parser(value).addresses()


_SPECIALS = rb" ()<>@,;:\\\"\[\]\x00-\x1f\x7f"
_ATOM = rb"[^" + _SPECIALS + rb"]"
_PLAIN = re.compile(  # what nearly all addresses look like; anything else takes the long way
    rb"[ \t]*+(?:((?:(?:" + _ATOM + rb"|[ \t])++|\"[^\"\\\0]*+\")*+)<(" + _ATOM + rb"++)@(" + _ATOM + rb"++)>"
    rb"|(" + _ATOM + rb"++)(?:@(" + _ATOM + rb"++))?)[ \t]*+([,\0])"
)
_COMMAS = re.compile(rb"[, \t\r\n]*+")
_BLANKS = re.compile(rb"[ \t\r\n]*+")
_IN_COMMENT = re.compile(rb"[()\\\0]")
_IN_WORD = re.compile(rb"[" + _SPECIALS + rb"]")
_IN_LITERAL = re.compile(rb"[\]\\\0]")
_QUOTED_REST = re.compile(rb"[^\"\\\0]*+(?:\\[^\0][^\"\\\0]*+)*+\"")
_MULTIBYTE = re.compile(rb"\$[@B]")
_MULTIBYTE_END = re.compile(rb"\x1b\([BJH]")
_ESCAPED = re.compile(rb"\"|\\(.?)", re.DOTALL)
_NEEDS_QUOTES = re.compile(rb"[" + _SPECIALS + rb"]|\A\.|\.\.|\.\Z")


class _Parser:
    """`at` is where c-client's own pointer would stand: None once it has given up or come to the end."""

    def __init__(self, value: bytes) -> None:
        self.text = bytearray(value.partition(b"\0")[0] + b"\0\0\0")
        self.at: int | None = 0
        self.found: list[Address] = []

    def addresses(self) -> list[Address]:
        text = self.text
        self.at = self.skip(0)
        while self.at is not None:
            while text[self.at] == 44:  # ","
                self.at = self.skip(_end(_COMMAS, text, self.at))
            if not text[self.at]:
                break
            if plain := _PLAIN.match(text, self.at):
                personal, mailbox, host, bare, bare_host, _ = plain.groups()
                found = Address(_unquoted(personal.strip()), mailbox, host) if mailbox else None
                self.found.append(found or Address(b"", bytes(bare), bytes(bare_host or NO_HOST)))
                self.at = plain.end(6) - (plain[6] == b"\0")
                continue
            if not self.address(0):
                self.found.append(Address(b"", b"INVALID_ADDRESS", ERROR_HOST))
                break
            if self.at is None:
                break
            self.at = self.skip(self.at)
            if text[self.at] == 44:
                self.at += 1
            else:
                if text[self.at]:
                    self.found.append(Address(b"", b"UNEXPECTED_DATA_AFTER_ADDRESS", ERROR_HOST))
                break
        return self.found

    def address(self, depth: int) -> bool:
        if self.at is None:
            return False
        self.at = self.skip(self.at)
        return bool(self.text[self.at]) and (self.group(self.at, depth) or self.mailbox(self.at))

    def group(self, start: int, depth: int) -> bool:
        text = self.text
        end = start if text[start] == 58 else self.phrase(start)  # ":"
        if depth > _GROUPS or end is None or text[colon := self.skip(end)] != 58:
            return False
        self.found.append(Address(b"", _unquoted(text[start:end]), None))
        self.at = self.skip(colon + 1)
        while self.at is not None and text[self.at] not in b"\0;":
            if not self.address(depth + 1):
                self.give_up(b"INVALID_ADDRESS_IN_GROUP")
            elif self.at is not None:
                self.at = self.skip(self.at)
                if text[self.at] == 44:
                    self.at += 1
                elif text[self.at] not in b"\0;":
                    self.give_up(b"UNEXPECTED_DATA_AFTER_ADDRESS_IN_GROUP")
        if self.at is not None:
            self.at = self.skip(self.at + (text[self.at] == 59))
        return True

    def give_up(self, why: bytes) -> None:
        self.at = None
        self.found.append(Address(b"", why, ERROR_HOST))

    def mailbox(self, start: int) -> bool:
        if self.text[start] == 60:  # "<"
            return self.route_address(start, b"")
        end = self.phrase(start)
        if end is None:
            return False
        if self.route_address(end, self.text[start:end]):
            return True
        if (found := self.spec(start)) is None:
            return False
        self.found.append(found)
        return True

    def route_address(self, start: int, phrase: bytes | bytearray) -> bool:
        text = self.text
        start = self.skip(start)
        if text[start] != 60:
            return False
        start += 1
        at: int | None = self.skip(start)
        route = False
        while at is not None and text[at] == 64:  # "@"
            host, at = self.domain(at + 1)
            if host is None or at is None:
                break
            route = True
            at = self.skip(at)
            if text[at] != 44:
                break
            at = self.skip(at + 1)
        if route and at is not None and text[at] == 58:
            start = at + 1
        if (found := self.spec(start)) is None:
            return False
        self.found.append(found._replace(personal=_unquoted(phrase) or found.personal))
        if self.at is not None and text[self.at] == 62:  # ">"
            after = self.skip(self.at + 1)
            self.at = after if text[after] else None
        else:
            self.found.append(Address(b"", b"MISSING_MAILBOX_TERMINATOR", ERROR_HOST))
        return True

    def spec(self, start: int) -> Address | None:
        """`mailbox@host`; moves `at` only if there is one."""
        text = self.text
        start = self.skip(start)
        mailbox, end = self.dotted(start, literals=False)
        if mailbox is None or end is None:
            return None
        after: int | None = end
        ahead = self.skip(end)
        if text[ahead : ahead + 2].lower() == b"at" and text[ahead + 2] in b" \t\r\n(":
            ahead += 1
            text[ahead] = 64
        host: bytes | None = NO_HOST
        if text[ahead] == 64:
            host, after = self.domain(ahead + 1)
        personal = b""
        if after is not None:
            while text[after] == 32:
                after += 1
            if text[after] == 40 and (closed := self.comment(after)) is not None:
                personal = _unquoted(text[after + 1 : closed - 1].strip())
                after = closed
            after = self.skip(after)
        self.at = after if after is not None and text[after] else None
        return Address(personal, mailbox, ERROR_HOST if host is None else host)

    def domain(self, start: int) -> tuple[bytes | None, int | None]:
        """A host, and where it ends; None for its end where c-client loses its place."""
        return self.dotted(start, literals=True)

    def dotted(self, start: int, *, literals: bool) -> tuple[bytes | None, int | None]:
        """Words with dots between, blanks and comments around the dots dropped."""
        parts: list[bytes] = []
        end: int | None = start
        at = start
        while True:
            at = self.skip(at)
            if literals and self.text[at] == 91:  # "["
                stop = self.word(at + 1, _IN_LITERAL)
                if stop is None or self.text[stop] != 93:
                    end = end if parts else stop
                    break
                stop += 1
                parts.append(bytes(self.text[at:stop]))
                end = stop
                if len(parts) == 1:
                    break
            elif (stop := self.word(at, _IN_WORD)) is not None:
                parts.append(_unquoted(self.text[at:stop]))
                end = stop
            else:
                break
            at = self.skip(stop)
            if self.text[at] != 46:  # "."
                break
            at += 1
        return (b".".join(parts) if parts else None), end

    def phrase(self, start: int) -> int | None:
        end: int | None = None
        while (stop := self.word(start, _IN_WORD, phrase=True)) is not None:
            end = stop
            if not self.text[stop]:
                break
            start = self.skip(stop)
        return end

    def word(self, start: int, delimiters: re.Pattern[bytes], *, phrase: bool = False) -> int | None:
        """Where the word ends that begins here; None if there is none, or it opens a quote and never closes it."""
        text = self.text
        start = at = self.skip(start)
        if not text[start]:
            return None
        while True:
            stop = _start(delimiters, text, at)
            char = text[stop]
            if not char:
                return stop
            if phrase and char == 27:  # ISO-2022-JP, RFC 1468: any byte up to the shift back belongs to the word
                at = stop + 1
                if _MULTIBYTE.match(text, at):
                    back = _MULTIBYTE_END.search(text, at + 2)
                    at = back.end() if back else len(text) - 3
                elif _MULTIBYTE_END.match(text, stop):
                    at = stop + 3
            elif char == 34:  # '"'
                closed = _QUOTED_REST.match(text, stop + 1)
                if closed is None:
                    return None
                at = closed.end()
            elif char == 92 and text[stop + 1]:
                at = stop + 2
            else:
                return None if stop == start else stop

    def skip(self, at: int) -> int:
        """Past blanks and comments. A comment that never closes cuts the text off, as it does in c-client."""
        while True:
            at = _end(_BLANKS, self.text, at)
            if self.text[at] != 40:
                return at
            closed = self.comment(at)
            if closed is None:
                return at
            at = closed

    def comment(self, at: int) -> int | None:
        opened = [at]
        at += 1
        while True:
            at = _start(_IN_COMMENT, self.text, at)
            char = self.text[at]
            if char == 40:
                opened.append(at)
            elif char == 41:
                opened.pop()
                if not opened:
                    return at + 1
            elif char == 92 and self.text[at + 1]:
                at += 1
            else:
                self.text[opened[-1]] = 0
                return None
            at += 1


def _start(pattern: re.Pattern[bytes], text: bytearray, at: int) -> int:
    match = pattern.search(text, at)
    assert match is not None, "the text ends in NUL, which every pattern stops at"
    return match.start()


def _end(pattern: re.Pattern[bytes], text: bytearray, at: int) -> int:
    match = pattern.match(text, at)
    assert match is not None, "matches the empty string"
    return match.end()


def _unquoted(text: bytes | bytearray) -> bytes:
    raw = bytes(text)
    return _ESCAPED.sub(lambda m: m[1] or b"", raw) if b'"' in raw or b"\\" in raw else raw


def _quoted(text: bytes) -> bytes:
    if text and not _NEEDS_QUOTES.search(text):
        return text
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'
