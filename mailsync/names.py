"""Which mailboxes belong to a store, and what both sides call them. Knows nothing of files or servers.

A mailbox has a full name inside its store; its boxname is what both sides of a channel share: the store's prefix is
taken off and "/" stands between the levels.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from itertools import combinations
from typing import TypeVar

from .model import Boxname, Mailbox

MAX_LEVEL, MAX_NAME = 255, 4000  # bytes: NAME_MAX, and PATH_MAX less some room for the directory above
MAILDIR_PARTS = frozenset({"cur", "new", "tmp"})
Name = TypeVar("Name", bound=str)


class BadName(ValueError):
    """A name that cannot be said in the other form, or that must not reach a store."""


class Patterns:
    """Patterns as IMAP LIST has them (RFC 3501, 6.3.8): `%` is any run inside a level, `*` any run at all.

    Several add up and `!x` takes away, in whatever order they are written; without any, nothing matches. INBOX is
    compared without regard to case at the top level and nowhere else. Time is linear in the length of the name.
    """

    def __init__(self, texts: Sequence[str], delimiter: str | None = "/") -> None:
        wanted = [text for text in texts if not text.startswith("!")]
        unwanted = [text[1:] for text in texts if text.startswith("!")]
        self._delimiter = delimiter
        self._wanted = [_Glob(text, delimiter) for text in wanted]
        self._unwanted = [_Glob(text, delimiter) for text in unwanted]
        self._inbox = any(_Glob(_upper(text), delimiter).matches("INBOX") for text in wanted) and not any(
            _Glob(_upper(text), delimiter).matches("INBOX") for text in unwanted
        )

    def matches(self, mailbox: str) -> bool:
        if is_inbox(mailbox):
            return self._inbox
        return any(g.matches(mailbox) for g in self._wanted) and not any(g.matches(mailbox) for g in self._unwanted)

    def reaches(self, above: str) -> bool:
        """Whether some name that begins with `above` and goes on could match: where a walk may stop."""
        return any(g.reaches(above) for g in self._wanted)

    def roots(self) -> list[str]:
        """Where a walk starts: what each pattern says up to the last delimiter before its first wildcard."""
        ends = (g.fixed.rfind(self._delimiter) + 1 if self._delimiter else 0 for g in self._wanted)
        return list(dict.fromkeys(g.fixed[:end] for g, end in zip(self._wanted, ends, strict=True)))


class Names:
    """Mailbox <-> boxname for one store: one to one on all names that it accepts.

    Where the delimiter is not "/", it may stand inside a level of a boxname: it is written `=2E` (its code) in the
    mailbox, and what looks like that already gets one more `3D` (`=2E` -> `=3D2E` -> `=3D3D2E`). With
    `slash_in_level` (IMAP) a "/" inside a level of a mailbox is written `=2F` in the boxname by the same rule. The
    prefix is taken as it is. For delimiter "/" nothing is escaped. With `inbox`, INBOX is INBOX on both sides though it
    does not begin with the prefix (servers that keep all else below `INBOX.`).
    """

    def __init__(
        self, prefix: str = "", delimiter: str | None = "/", *, slash_in_level: bool = False, inbox: bool = False
    ) -> None:
        if delimiter is not None and (
            not delimiter.isascii() or len(delimiter) != 1 or delimiter in "=0123456789ABCDEF"
        ):
            raise ValueError(f"{delimiter!r} cannot separate the levels of a mailbox")
        self.prefix, self.delimiter, self.slash_in_level, self.inbox = prefix, delimiter, slash_in_level, inbox

    def boxname(self, mailbox: Mailbox) -> Boxname:
        """BadName where the mailbox does not begin with the prefix: under another name it would be another mailbox."""
        if self.inbox and is_inbox(mailbox):
            return Boxname("INBOX")
        if not mailbox.startswith(self.prefix):
            raise BadName(f"mailbox {mailbox} matches the patterns but does not begin with the prefix {self.prefix}")
        rest = mailbox.removeprefix(self.prefix)
        if self.delimiter == "/":
            return Boxname(rest)
        if "/" in rest and not self.slash_in_level:
            raise BadName(f'mailbox {mailbox} with the prefix "{self.prefix}" has a "/" inside a level')
        levels = rest.split(self.delimiter) if self.delimiter else [rest]
        return Boxname("/".join(self._shared(level) for level in levels))

    def mailbox(self, boxname: Boxname) -> Mailbox:
        """BadName where the store has no levels and the boxname has."""
        if self.inbox and boxname == "INBOX":
            return Mailbox("INBOX")
        if self.delimiter == "/":
            return Mailbox(self.prefix + boxname)
        if self.delimiter is None and "/" in boxname:
            raise BadName(f'{boxname} has levels, and the store with the prefix "{self.prefix}" has none')
        return Mailbox(self.prefix + (self.delimiter or "").join(self._own(level) for level in boxname.split("/")))

    def _shared(self, level: str) -> str:
        text = _unescape(level, self.delimiter) if self.delimiter else level
        return _escape(text, "/") if self.slash_in_level else text

    def _own(self, level: str) -> str:
        text = _unescape(level, "/") if self.slash_in_level else level
        return _escape(text, self.delimiter) if self.delimiter else text


def check(boxname: str, *, maildir: bool = False) -> None:
    """BadName for what must never become a path or a mailbox. The empty boxname is legal: prefix = full name.

    `maildir`: the store keeps Maildirs, where a level cur, new or tmp would be the inside of the one above.
    """
    if not boxname:
        return
    try:
        sizes = [len(level) for level in _bytes(boxname).split(b"/")]
    except UnicodeEncodeError:
        raise BadName(f"{boxname!a}: no bytes stand for this name") from None
    levels = boxname.split("/")
    if "\0" in boxname:
        raise BadName(f"{boxname!a}: a name cannot hold NUL")
    if not all(levels):
        raise BadName(f"{boxname}: a level of the name is empty")
    if not {".", ".."}.isdisjoint(levels):
        raise BadName(f'{boxname}: "." and ".." are no names')
    if max(sizes) > MAX_LEVEL or sum(sizes) + len(sizes) - 1 > MAX_NAME:
        raise BadName(f"{boxname[:60]}...: the name is too long")
    if maildir and not MAILDIR_PARTS.isdisjoint(levels):
        raise BadName(f"{boxname}: cur, new and tmp are the inside of a Maildir")


def order(names: Iterable[Name]) -> list[Name]:
    """Longest name first, then bytewise: 5.2.7's order of work and output. Children come before their parents."""
    return sorted(names, key=lambda name: (-len(_bytes(name)), _bytes(name)))


def collisions(names: Iterable[Name], fold: Callable[[str], str] = str.casefold) -> list[tuple[Name, Name]]:
    """Pairs of names that are one name to a store that folds them."""
    same: dict[str, list[Name]] = {}
    for name in names:
        same.setdefault(fold(name), []).append(name)
    return [pair for group in same.values() for pair in combinations(group, 2)]


def is_inbox(mailbox: str) -> bool:
    return mailbox.isascii() and mailbox.upper() == "INBOX"


class _Glob:
    """One pattern, run as a set of positions held in the bits of an int: a regex would backtrack on `%a%a%a%a`."""

    def __init__(self, text: str, delimiter: str | None) -> None:
        text = re.sub("[%*]{2,}", lambda run: "*" if "*" in run[0] else "%", text)  # no two wildcards side by side
        wild = re.search("[%*]", text)
        self.fixed = text[: wild.start()] if wild else text
        rest = text[len(self.fixed) :]
        self._delimiter = delimiter
        self._any = sum(1 << i for i, c in enumerate(rest) if c == "*")
        self._level = sum(1 << i for i, c in enumerate(rest) if c == "%")
        self._next: dict[str, int] = {}
        for i, c in enumerate(rest):
            if c not in "%*":
                self._next[c] = self._next.get(c, 0) | 1 << i
        self._done = 1 << len(rest)
        self._sure = self._done >> 1 & self._any  # a `*` at the end takes whatever comes

    def matches(self, name: str) -> bool:
        return name.startswith(self.fixed) and bool(self._positions(name[len(self.fixed) :]) & self._done)

    def reaches(self, above: str) -> bool:
        if len(above) <= len(self.fixed):
            return self.fixed.startswith(above) and (self._done > 1 or above != self.fixed)
        return above.startswith(self.fixed) and bool(self._positions(above[len(self.fixed) :]) & ~self._done)

    def _positions(self, text: str) -> int:
        here = self._skip(1)
        for c in text:
            stay = self._any if c == self._delimiter else self._any | self._level
            here = self._skip((here & self._next.get(c, 0)) << 1 | here & stay)
            if not here or here & self._sure:
                break
        return here

    def _skip(self, here: int) -> int:
        return here | (here & (self._any | self._level)) << 1  # a wildcard may stand for nothing


def _upper(text: str) -> str:
    return "".join(c.upper() if c.isascii() else c for c in text)


def _escape(text: str, char: str) -> str:
    code = f"{ord(char):02X}"
    return re.sub(f"=(?=(?:3D)*{code})", "=3D", text).replace(char, f"={code}")


def _unescape(text: str, char: str) -> str:
    code = f"{ord(char):02X}"
    return re.sub(f"=((?:3D)*){code}", lambda m: f"={m[1][2:]}{code}" if m[1] else char, text)


def _bytes(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")
