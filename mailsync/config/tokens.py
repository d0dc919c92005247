"""What a token of a configuration file says, without its quotes and backslashes."""

from __future__ import annotations

import re


def text_of(raw: str) -> str:
    return re.sub(r"\\(.)", r"\1", inside(raw), flags=re.DOTALL)


def inside(raw: str) -> str:
    """What is between quotes, if there are any."""
    return raw[1:-1] if is_quoted(raw) else raw


def is_quoted(raw: str) -> bool:
    return raw.startswith('"')
