"""The settings of stores and channels: one line each says how a value is read and written.

Knows nothing of the file around them. A new setting is a new line here and a new field in `values`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .. import spec
from ..model import Duplicates, Side
from ..wording import did_you_mean, quoted
from .values import Secret


class BadValue(ValueError):
    """A value that its setting cannot take. The message says what was found and what was expected."""

    column = 0  # as in SpecError


@dataclass(frozen=True, slots=True)
class Setting:
    key: str  # as in the file
    field: str  # in StoreConfig or ChannelConfig
    read: Callable[[str], object]  # raises BadValue or SpecError
    write: Callable[[object], str] = str
    adds_up: bool = False  # given again, it adds to what it was


def default_ref(server: str) -> str:
    """What a store on a server lists under if it does not say so itself."""
    return spec.server_part(server) if server else ""


# ---- readers ---------------------------------------------------------------------------------------------------------


def _server(text: str) -> str:
    if not text:
        return text
    if not text.startswith("{"):
        raise BadValue(
            f"found {quoted(text)}, expected '{{host}}'; a store on this machine has no 'server', only 'pat'"
        )
    spec.parse(text)
    return text


def _mailbox(text: str) -> str:
    if spec.parse(text).mailbox == "":
        raise BadValue(f"found {quoted(text)}, expected the name of a mailbox after it")
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    expected = f"{', '.join(words[:-1])} or {words[-1]}"

    def read(text: str) -> str:
        if text not in words:
            raise BadValue(f"found {quoted(text)}, expected {expected}{did_you_mean(text, words)}")
        return text

    return read


def _yes(text: str) -> bool:
    return _one_of("yes", "no")(text) == "yes"


def _yes_no(value: object) -> str:
    return "yes" if value else "no"


def _duplicates(text: str) -> Duplicates:
    return Duplicates(_one_of(*(rule.value for rule in Duplicates))(text))


def _duplicates_word(value: object) -> str:
    return str(Duplicates(value).value)


def _expunge_all(text: str) -> bool:
    return _one_of("seen", "all")(text) == "all"


def _size(text: str) -> int | None:
    found = re.fullmatch(r"([0-9]{1,15})([kKMG]?)", text)
    if not found:
        raise BadValue(f"found {quoted(text)}, expected a number of bytes, or one with k, M or G behind it")
    return int(found[1]) * {"": 1, "k": 2**10, "K": 2**10, "M": 2**20, "G": 2**30}[found[2]] or None


def _count(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text):
        raise BadValue(f"found {quoted(text)}, expected a number of messages")
    return int(text)


def _seconds(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", text):
        raise BadValue(f"found {quoted(text)}, expected a number of seconds, at least 1")
    return int(text)


def _fingerprint(text: str) -> str:
    digits = text.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise BadValue(
            f"found {quoted(text)}, expected the SHA-256 fingerprint of a certificate: 64 hexadecimal digits, with or"
            " without colons"
        )
    return digits


SIDES = {"a": frozenset({Side.A}), "b": frozenset({Side.B}), "both": frozenset(Side), "none": frozenset[Side]()}


def _sides(text: str) -> frozenset[Side]:
    return SIDES[_one_of(*SIDES)(text)]


def _sides_word(value: object) -> str:
    return next(word for word, sides in SIDES.items() if sides == value)


# ---- tables ----------------------------------------------------------------------------------------------------------


def _table(*settings: Setting) -> Mapping[str, Setting]:
    return {setting.key: setting for setting in settings}


STORE = _table(
    Setting("server", "server", _server),
    Setting("ref", "ref", str),
    Setting("pat", "patterns", str, adds_up=True),
    Setting("prefix", "prefix", str),
    Setting("passwd", "passwd", Secret),
    Setting("format", "format", _one_of("maildir", "maildir++", "mbox", "mh")),
    Setting("create", "create", _yes, _yes_no),
    Setting("fsync", "fsync", _yes, _yes_no),
    Setting("readonly", "readonly", _yes, _yes_no),
    Setting("user_cmd", "user_cmd", str),
    Setting("passwd_cmd", "passwd_cmd", str),
    Setting("token_cmd", "token_cmd", str),
    Setting("keyring", "keyring", _yes, _yes_no),
    Setting("tunnel", "tunnel", str),
    Setting("subscribed", "subscribed", _yes, _yes_no),
    Setting("cert", "cert", str),
    Setting("key", "key", str),
    Setting("ca", "ca", str),
    Setting("pin", "pin", _fingerprint),
    Setting("timeout", "timeout", _seconds),
)
CHANNEL = _table(
    Setting("msinfo", "msinfo", _mailbox),
    Setting("passwd", "passwd", Secret),
    Setting("sizelimit", "sizelimit", _size),
    Setting("duplicates", "duplicates", _duplicates, _duplicates_word),
    Setting("expunge", "expunge_all", _expunge_all, lambda value: "all" if value else "seen"),
    Setting("max_delete", "max_delete", _count),
    Setting("create", "create", _sides, _sides_word),
    Setting("passwd_cmd", "passwd_cmd", str),
    Setting("token_cmd", "token_cmd", str),
)
