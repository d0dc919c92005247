"""The text of a configuration file: its tokens, its places, and how a message shows a line of it.

Knows the tokens, not what they mean; but a password never comes out of here.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property

from ..wording import clean, quoted
from .tokens import inside, is_quoted, text_of
from .values import Where

BLANKS = " \t\n\r\v\f"  # what isspace() knows in C: a no-break space is part of a word
END = rf"(?=[{BLANKS}]|\Z)"
COMMENT = r"#[^\n]*"
QUOTED = rf'"(?:[^"\\\n]|\\.)*"{END}'
BARE = rf"(?:[^{BLANKS}\\]|\\.)+"
TEXT = rf'{QUOTED}|(?![{{}}]{END}|")(?:{BARE})'  # a name or a value

_TOKEN = re.compile(rf"{COMMENT}|{QUOTED}|{BARE}\\?|\\", re.DOTALL)
_PASSWD = re.compile(r"pas|(?:[pa]+s*|s+)w", re.IGNORECASE)  # also as people mistype it


@dataclass(frozen=True, slots=True)
class Word:
    """A token, and where it stands."""

    at: int
    raw: str  # with quotes and backslashes

    @property
    def text(self) -> str:
        return text_of(self.raw)

    def offset(self, column: int) -> int:
        """Where in the file the character `column` of `text` stands."""
        body = inside(self.raw)
        starts = [found.start() for found in re.finditer(r"\\?.", body, re.DOTALL)]
        start = starts[column] if column < len(starts) else len(body)
        return self.at + (1 if is_quoted(self.raw) else 0) + start


def written(text: str) -> str:
    """A name or value as it must be written to be read as this one."""
    if re.fullmatch(TEXT, text, re.DOTALL) and not re.search(r'^["#]|\\', text):
        return text
    return '"' + re.sub(r'(["\\\n])', r"\\\1", text) + '"'


class Source:
    """A file's text. Places in it are offsets."""

    def __init__(self, filename: str, text: str, keys: Collection[str]) -> None:
        self.filename = filename
        self.text = text
        self.end = len(text.rstrip(BLANKS))
        self._keys = keys

    def words(self, at: int) -> Iterator[Word]:
        """All tokens from here on but comments."""
        for found in _TOKEN.finditer(self.text, at):
            if not found[0].startswith("#"):
                yield Word(found.start(), found[0])

    def where(self, at: int) -> Where:
        line = bisect_right(self._lines, at)
        return Where(line, at - self._lines[line - 1] + 1)

    def place(self, at: int) -> str:
        where = self.where(at)
        return f"{self.filename}:{where.line}:{where.column}"

    def quoted(self, word: Word) -> str:
        """The word as a message shows it."""
        return "'***'" if self._secret_around(word.at) else quoted(word.raw)

    def begins_line(self, at: int) -> bool:
        return not self.text[self._lines[self.where(at).line - 1] : at].strip(BLANKS)

    def fault(self, at: int, message: str) -> str:
        """The message with its place, its line, and a caret below."""
        begin = self._lines[self.where(at).line - 1]
        end = self.text.find("\n", at)
        if secret := self._secret_around(at):
            at = max(secret[0], begin)
        head = self._masked(begin, at)
        tail = self._masked(at, len(self.text) if end < 0 else end).rstrip()
        head = head if len(head) <= 90 else "..." + head[-87:]
        tail = tail if len(tail) <= 90 else tail[:87] + "..."
        caret = "".join(c if c == "\t" else " " for c in head) + "^"
        return f"{self.place(at)}: {message}\n{head}{tail}\n{caret}"

    @cached_property
    def _lines(self) -> list[int]:
        """Where each line begins."""
        return [0, *(found.end() for found in re.finditer("\n", self.text))]

    @cached_property
    def _secrets(self) -> list[tuple[int, int]]:
        """Where passwords stand, and what may be a part of one: a file with a fault is not read as it was meant.

        Hidden are the token after 'passwd', or a word like it, and what follows on its line up to the next setting. A
        command, such as that of 'passwd_cmd', is no secret.
        """
        spans: list[tuple[int, int]] = []
        hide = sure = False
        last = 0
        for found in _TOKEN.finditer(self.text):
            token = found[0]
            if token.startswith("#"):
                if "pass" in token.lower():
                    spans.append((found.start() + 1, found.end()))
                continue
            if not sure and hide and "\n" in self.text[last : found.start()]:
                hide = False
            if hide and token not in ("{", "}") and (sure or token not in self._keys):
                spans.append(found.span())
                sure = False
            else:
                sure = token == "passwd"
                hide = sure or (token not in self._keys and bool(_PASSWD.match(token)))
            last = found.end()
        return spans

    def _secret_around(self, at: int) -> tuple[int, int] | None:
        return next((span for span in self._secrets if span[0] <= at < span[1]), None)

    def _masked(self, begin: int, end: int) -> str:
        shown = ""
        for first, last in self._secrets:
            if first < end and last > begin:
                shown += clean(self.text[begin : max(first, begin)]) + "***"
                begin = min(last, end)
        return shown + clean(self.text[begin:end].rstrip("\r"))
