"""Mailbox specifications as c-client writes them: `{host:port/switches}mailbox`, `#mh/x`, `~/Mail/x`, `Mail/x`.

Knows nothing of networks, files or patterns: a name is taken apart, never looked up. Source of the syntax: c-client's
docs/naming.txt; what it leaves open (port after switches, case of switches, what excludes what) was tried with 5.2.7.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, TypeAlias

from .model import Mailbox
from .wording import did_you_mean, quoted

INBOX = Mailbox("INBOX")


class SpecError(ValueError):
    """A text that is no mailbox specification; `column` counts from 0 and says where in the text."""

    def __init__(self, message: str, column: int = 0) -> None:
        super().__init__(message)
        self.column = column


@dataclass(frozen=True, slots=True)
class Remote:
    """A mailbox on an IMAP server."""

    host: str  # an IPv6 address without its brackets
    port: int | None = None  # None: 993 with ssl, else 143
    user: str | None = None  # None: ask
    authuser: str | None = None  # logs in as this one, to act as `user`
    ssl: bool = False
    tls: Literal["require", "never"] | None = None  # None: STARTTLS where it is offered
    validate: bool = True
    readonly: bool = False
    secure: bool = False  # no password in plain text
    anonymous: bool = False
    debug: bool = False
    mailbox: Mailbox = INBOX  # as written: neither decoded nor split
    notes: tuple[str, ...] = field(default=(), compare=False)  # switches that were read and do nothing

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port is None else f":{self.port}"
        names = {name: _written(value) for name in ("user", "authuser") if (value := getattr(self, name)) is not None}
        switches = "".join(f"/{name}={value}" for name, value in names.items())
        switches += "".join(
            f"/{name}" for name in ("ssl", "readonly", "secure", "anonymous", "debug") if getattr(self, name)
        )
        switches += {None: "", "require": "/tls", "never": "/notls"}[self.tls]
        switches += "" if self.validate else "/novalidate-cert"
        return f"{{{host}{port}{switches}}}{self.mailbox}"


class Local(NamedTuple):
    """A mailbox on this machine: relative to the home directory, `~/x` or absolute."""

    mailbox: Mailbox  # without its mark; empty: the root that the mark names
    driver: Literal["mbox", "mh", "maildir"] | None = None  # None: look what is there
    mark: str = ""  # as written: '#mh/', '#mhinbox', '#md/', '#driver.NAME/'

    def __str__(self) -> str:
        return self.mark if self.mark.lower() == _MH_INBOX else f"{self.mark}{self.mailbox}"


Spec: TypeAlias = Remote | Local


def parse(text: str) -> Spec:
    """Take a specification apart, or raise SpecError. `str` of what comes out means the same."""
    if not text:
        raise SpecError("found nothing, expected a mailbox")
    if (at := text.find("\0")) >= 0:
        raise SpecError("found a NUL byte, expected the name of a mailbox", at)
    return _remote(text) if text.startswith("{") else _local(text)


def server_part(text: str) -> str:
    """The `{...}` of a remote specification, as it is written. SpecError as `parse`."""
    return text[: _braces(text).end]


# ---- remote ----------------------------------------------------------------------------------------------------------

_PLAIN = ("ssl", "tls", "notls", "validate-cert", "novalidate-cert", "readonly", "secure", "anonymous", "debug")
_SERVICES = ("imap", "imap4", "imap4rev1")
_VALUED = ("user", "authuser", "service")
_IDLE: Mapping[str, str] = {
    "norsh": "'/norsh' does nothing: a server is never reached through rsh or ssh unless a tunnel is set",
    "loser": "'/loser' does nothing: no workaround for old servers depends on it",
}
_GONE: Mapping[str, str] = {
    "pop3": "an IMAP server: POP3 is not spoken; write '/imap', if the server has it",
    "nntp": "an IMAP server: NNTP is not spoken",
    "smtp": "an IMAP server: nothing is sent by SMTP",
    "submit": "an IMAP server: nothing is sent by SMTP",
    "imap2": "'/imap': only IMAP4rev1 is spoken",
    "imap2bis": "'/imap': only IMAP4rev1 is spoken",
    "tls-sslv23": "'/tls': SSL 2 and 3 are not safe",
}
_EXCLUDE = (("ssl", "tls"), ("tls", "notls"), ("validate-cert", "novalidate-cert"))

LONGEST_HOST = 255  # RFC 1035, 2.3.4
_HOST = re.compile(r"[\w.-]+|\[(?:[0-9.]+|[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*(?:%[\w.-]+)?)\]")
_PORT = re.compile(r":([0-9]*)(?=[/:}]|\Z)")
_SWITCH = re.compile(r'/([^/:="}]*)(?:=("(?:[^"\\]|\\.)*"(?=[/:}]|\Z)|(?!")[^/:}]*))?', re.DOTALL)


class _Braces:
    """What stands between the braces."""

    def __init__(self, host: str) -> None:
        self.host = host
        self.port: int | None = None
        self.switches: dict[str, tuple[str, int]] = {}  # value and column, by lower case name
        self.end = 0  # behind the '}'

    def value(self, name: str) -> str | None:
        return self.switches[name][0] if name in self.switches else None


def _remote(text: str) -> Remote:
    if found := re.search(r"[\r\n]", text):  # in a command line of IMAP it would begin the next command
        raise SpecError("found a line break, expected the name of a mailbox on one line", found.start())
    braces = _braces(text)
    for one, other in _EXCLUDE:
        if one in braces.switches and other in braces.switches:
            column = max(braces.switches[one][1], braces.switches[other][1])
            raise SpecError(f"found '/{one}' and '/{other}', expected only one of them", column)
    return Remote(
        host=braces.host,
        port=braces.port,
        user=braces.value("user"),
        authuser=braces.value("authuser"),
        ssl="ssl" in braces.switches,
        tls="require" if "tls" in braces.switches else "never" if "notls" in braces.switches else None,
        validate="novalidate-cert" not in braces.switches,
        readonly="readonly" in braces.switches,
        secure="secure" in braces.switches,
        anonymous="anonymous" in braces.switches,
        debug="debug" in braces.switches,
        mailbox=Mailbox(text[braces.end :]) or INBOX,
        notes=tuple(_IDLE[name] for name in braces.switches if name in _IDLE),
    )


def _braces(text: str) -> _Braces:
    host = _HOST.match(text, 1)
    if not host:
        raise SpecError(f"found {_next(text, 1)}, expected the name or [address] of a server", 1)
    if len(host[0]) > LONGEST_HOST:
        raise SpecError(f"found {quoted(host[0])}, expected a server whose name is shorter", 1)
    braces = _Braces(host[0].strip("[]"))
    at = host.end()
    while not text.startswith("}", at):
        match text[at : at + 1]:
            case "":
                raise SpecError("found the end of the name, expected '}' after the server", at)
            case ":":
                at = _port(text, at, braces)
            case "/":
                at = _switch(text, at, braces)
            case "@":
                raise SpecError("found '@', expected '/', ':' or '}'; a user is written {host/user=NAME}", at)
            case _:
                raise SpecError(f"found {_next(text, at)}, expected '/', ':' or '}}' after the server", at)
    braces.end = at + 1
    return braces


def _port(text: str, at: int, braces: _Braces) -> int:
    found = _PORT.match(text, at)
    if not found or len(found[1]) > 5 or not 1 <= int(found[1] or 0) <= 65535:
        note = "; a value that holds ':' is written in quotes, as in /user=\"a:b\"" if braces.switches else ""
        raise SpecError(f"found {_next(text, at + 1)}, expected a port from 1 to 65535{note}", at + 1)
    if braces.port is not None:
        raise SpecError(f"found a second port, expected only {braces.port}", at + 1)
    braces.port = int(found[1])
    return found.end()


def _switch(text: str, at: int, braces: _Braces) -> int:
    found = _SWITCH.match(text, at)
    assert found  # the caller saw the '/'
    name, value = found[1].lower(), _read(found[2] or "")
    shown = quoted(f"/{found[1]}")
    if name in _GONE:
        raise SpecError(f"found {shown}, expected {_GONE[name]}", at)
    if name not in (*_PLAIN, *_SERVICES, *_VALUED, *_IDLE):
        near = did_you_mean(f"/{name}", [f"/{known}" for known in (*_PLAIN, *_SERVICES, *_VALUED, *_IDLE)])
        raise SpecError(f"found {shown}, expected a switch that is known{near}", at)
    if text.startswith('="', found.end()):
        raise SpecError("found a quote that is not closed, expected '\"' at the end of the value", found.end() + 1)
    if name in _VALUED:
        if not value:
            raise SpecError(f"found {shown} without a value, expected '/{name}={_example(name)}'", at)
        if name in braces.switches:
            raise SpecError(f"found {shown} a second time, expected it once", at)
    elif found[2] is not None:
        raise SpecError(f"found a value for {shown}, expected none", found.start(2) - 1)
    if name == "service" and value.lower() not in _SERVICES:
        gone = _GONE.get(value.lower(), "'imap'")
        raise SpecError(f"found service {quoted(value)}, expected {gone}", found.start(2))
    braces.switches.setdefault(name, (value, at))
    return found.end()


def _example(name: str) -> str:
    return "imap" if name == "service" else "NAME"


def _read(value: str) -> str:
    if not value.startswith('"'):
        return value
    return re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)


def _written(value: str) -> str:
    """A value as it must stand after '='."""
    if not re.search(r'[/:}"\\]', value):
        return value
    return '"' + re.sub(r'(["\\])', r"\\\1", value) + '"'


def _next(text: str, at: int) -> str:
    """What a message says it found."""
    rest = re.match(r"[^/:}]*", text[at : at + 60])
    return quoted(rest[0] or text[at]) if rest and at < len(text) else "the end of the name"


# ---- local -----------------------------------------------------------------------------------------------------------

_MH_INBOX = "#mhinbox"
_MARK = re.compile(r"#(?:mh/|md/|driver\.(?P<driver>[^/]*)/|mhinbox\Z)", re.IGNORECASE)
_DRIVERS: Mapping[str, Literal["mbox", "mh", "maildir"]] = {
    "mbox": "mbox",
    "unix": "mbox",
    "mh": "mh",
    "maildir": "maildir",
    "md": "maildir",
}
_FOREIGN = ("mbx", "mix", "mx", "mtx", "tenex", "mmdf", "phile", "news", "nntp", "dummy")


def _local(text: str) -> Local:
    if not text.startswith("#"):
        return Local(Mailbox(text))
    found = _MARK.match(text)
    if not found:
        known = ("#mh/", _MH_INBOX, "#md/", "#driver.mbox/")
        mark = (re.match(r"#[^/]*/?", text) or [text])[0]
        raise SpecError(
            f"found {quoted(mark)}, expected #mh/, #mhinbox, #md/ or #driver.NAME/{did_you_mean(mark, known)}"
        )
    mark, rest = found[0], Mailbox(text[found.end() :])
    match mark.lower():
        case "#mhinbox":
            return Local(Mailbox("inbox"), "mh", mark)
        case "#mh/":
            return Local(rest, "mh", mark)
        case "#md/":
            return Local(rest, "maildir", mark)
    return Local(rest, _driver(found["driver"], found.start("driver")), mark)


def _driver(name: str, column: int) -> Literal["mbox", "mh", "maildir"]:
    if driver := _DRIVERS.get(name.lower()):
        return driver
    near = did_you_mean(name, _DRIVERS)
    if name.lower() in _FOREIGN:
        near = "; this format is not supported: convert the mail first, for example with mailsync 5.2.7"
    raise SpecError(f"found format {quoted(name)}, expected mbox, unix, mh, maildir or md{near}", column)
