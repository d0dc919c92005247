"""Foreign text made fit to be shown: nothing from mail, server or file names reaches the terminal as a command."""

from __future__ import annotations

import re

LONGEST = 2000  # characters of a line
# C0 and C1 controls, DEL, and what turns the direction of text around or hides it (RFC 9839; Trojan Source).
_UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"  # tags: text that nobody sees
)


def printable(text: str) -> str:
    """The text with each unfit character as an escape; bytes that are no UTF-8 likewise."""
    return _UNFIT.sub(_escape, text)


def short(text: str) -> str:
    """The text, its lines no longer than anybody reads: names and ids of others may have megabytes.

    With their ends, where the reason stands.
    """
    return "\n".join(
        line
        if len(line) <= LONGEST
        else f"{line[: LONGEST // 2]}... ({len(line)} characters) ...{line[-LONGEST // 2 :]}"
        for line in text.split("\n")
    )


def printable_lines(text: str) -> str:
    """Likewise, for text of our own that has lines: newlines and tabs stay."""
    return re.sub(r"[^\n\t]+", lambda part: printable(part[0]), text)


def _escape(match: re.Match[str]) -> str:
    code = ord(match[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte by surrogateescape
        return f"\\x{code - 0xDC00:02x}"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
