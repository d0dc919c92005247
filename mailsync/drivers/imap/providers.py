"""What large providers mean when they refuse, and what their users can do. A table: knows neither net nor protocol."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Case:
    host: str  # the three are regular expressions without regard to case; the host's must match to its end
    words: str  # somewhere in what the server said
    hint: str


_GMAIL = r"(?:.*\.)?(?:gmail|googlemail|google)\.com"
_MICROSOFT = r"(?:.*\.)?(?:office365|outlook|hotmail|live|office)\.(?:com|de|us|cn)"
_ICLOUD = r"(?:.*\.)?(?:me|mac|icloud)\.com"
_YAHOO = r"(?:.*\.)?(?:yahoo\.(?:com|co\.[a-z]+|[a-z]+)|yahoodns\.net|aol\.com)"
_FASTMAIL = r"(?:.*\.)?(?:fastmail\.com|messagingengine\.com)"
_ANY = r".*"

_APP_PASSWORD_GMAIL = (
    "Gmail takes no account password here: make an app password (https://myaccount.google.com/apppasswords; it needs"
    " 2-step verification), or set token_cmd to what prints an OAuth2 token with the scope https://mail.google.com/."
)

CASES = (
    _Case(
        _GMAIL,
        r"web browser|WEBALERT|web ?login",
        "Gmail suspects this login: sign in once with a browser, confirm that it was you"
        " (https://accounts.google.com/DisplayUnlockCaptcha), and try again.",
    ),
    _Case(
        _GMAIL, r"application-specific password|app(?:lication)? password|Invalid second factor", _APP_PASSWORD_GMAIL
    ),
    _Case(
        _GMAIL,
        r"not enabled for IMAP|IMAP (?:access )?is (?:disabled|not enabled)|domain policy",
        "IMAP is off for this account: turn it on in Gmail's settings (Forwarding and POP/IMAP); in a Workspace domain"
        " its administrator must.",
    ),
    _Case(
        _GMAIL,
        r"\bscope\b|invalid_token|\"status\" ?: ?\"40[01]\"",
        "Gmail refused the token: it is too old, or lacks the scope https://mail.google.com/, or belongs to another"
        " account than the user of this store.",
    ),
    _Case(
        _GMAIL,
        r"too many simultaneous connections|OVERQUOTA|bandwidth|exceeded",
        "Gmail limits each account to 15 connections and about 2.5 GB a day: close other programs, or wait up to 24"
        " hours.",
    ),
    _Case(_GMAIL, r"invalid credentials|AUTHENTICATIONFAILED|username and password", _APP_PASSWORD_GMAIL),
    _Case(
        _MICROSOFT,
        r"authenticated but not connected",
        "The login is right, but the mailbox is not: IMAP is off for it, the user is not its full address (a shared one"
        " is USER@DOMAIN of the mailbox with a token that may open it), or too many connections came at once.",
    ),
    _Case(
        _MICROSOFT,
        r"throttl|backoff|too many",
        "Microsoft slows this account down: wait for some minutes, and run fewer programs on it at a time.",
    ),
    _Case(
        _MICROSOFT,
        r"AUTHENTICATE failed|LOGIN failed|basic auth|logondenied|invalid|denied",
        "Microsoft takes no passwords any more, only OAuth2: set token_cmd to what prints an access token with the"
        " scope https://outlook.office.com/IMAP.AccessAsUser.All. With one set, it is too old or of another user.",
    ),
    _Case(
        _ICLOUD,
        r"auth|credential|login|password",
        "iCloud takes only an app-specific password, made at https://account.apple.com; the user is the part of the"
        " address before the @, or all of it.",
    ),
    _Case(
        _YAHOO,
        r"rate limit|\[LIMIT\]|UNAVAILABLE|too many",
        "The provider limits logins: wait for some minutes, and run fewer programs on it at a time.",
    ),
    _Case(
        _YAHOO,
        r"auth|credential|login|password",
        "Yahoo and AOL take only an app password: account security, 'Generate app password'.",
    ),
    _Case(
        _FASTMAIL,
        r"auth|credential|login|password|incorrect",
        "Fastmail takes only an app password (Settings, Privacy & Security, Connected apps & API tokens), and the full"
        " address as user; the basic plan has no IMAP.",
    ),
    _Case(
        _ANY,
        r"throttl|too many (?:simultaneous |concurrent )?(?:connections|logins|sessions)|maximum number of connections"
        r"|rate limit|try again later|\[(?:LIMIT|OVERQUOTA|INUSE)\]",
        "The server limits how often or how many may log in: wait for some minutes, and close other mail programs.",
    ),
    _Case(
        _ANY,
        r"PRIVACYREQUIRED|plaintext auth\w* (?:disallowed|disabled)|secure \(?SSL",
        "The server takes passwords only through TLS: write /ssl or /tls into the specification.",
    ),
    _Case(_ANY, r"\[EXPIRED\]|password (?:has )?expired", "The password is too old: set a new one with the provider."),
    _Case(
        _ANY,
        r"\[UNAVAILABLE\]|temporar",
        "The server cannot check logins at the moment: try again later.",
    ),
    _Case(
        _ANY,
        r"AUTHORIZATIONFAILED|not authori[sz]ed|may not act",
        "The login is right, but may not act as that user: look at /user and /authuser.",
    ),
)


def hint(host: str, words: str) -> str:
    """What to do after `host` refused a login with these words, in one or two sentences; empty where nobody knows."""
    for case in CASES:
        if re.fullmatch(case.host, host, re.IGNORECASE) and re.search(case.words, words, re.IGNORECASE):
            return case.hint
    return ""
