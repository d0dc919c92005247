"""What a server's refusals mean: to be waited out, or final. Pure."""

from __future__ import annotations

import re

from .tokens import Status

LONGEST_WAIT = 600.0  # seconds; who asks for more is answered by the next run
_BACKOFF = re.compile(r"back-?off time:? (\d{1,9}) (milli)?seconds?", re.IGNORECASE)  # Exchange, Microsoft 365
_THROTTLED = re.compile(
    r"throttled|too many (?:simultaneous |concurrent )?(?:connections|commands|requests|logins)|rate limit"
    r"|exceeded (?:command or )?bandwidth limits|try again later",
    re.IGNORECASE,
)
_FOR_A_WHILE = (b"UNAVAILABLE", b"INUSE", b"LIMIT", b"THROTTLED")  # RFC 5530, 3; Gmail
A_WHILE = 30.0  # seconds, where the server does not say how many


def wait(answer: Status | str) -> float | None:
    """How many seconds to wait before the same is tried again; None where that makes no sense."""
    text = answer if isinstance(answer, str) else answer.text
    if told := _BACKOFF.search(text):
        return min(int(told[1]) / (1000 if told[2] else 1), LONGEST_WAIT)
    for_a_while = isinstance(answer, Status) and answer.code in _FOR_A_WHILE
    return A_WHILE if for_a_while or _THROTTLED.search(text) else None


def advice(answer: Status) -> str:
    """What a user can do about a message or mailbox that was refused."""
    match answer.code:
        case b"OVERQUOTA":
            return "Delete mail there, or ask for more room."
        case b"TOOBIG" | b"LIMIT":
            return "A sizelimit in the channel leaves such messages out without an error."
        case b"NOPERM" | b"NOINFERIORS":
            return "Does this account have the right to?"
        case b"TRYCREATE":
            return "That mailbox has just gone; the next run looks again."
    return ""
