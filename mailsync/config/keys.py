"""The settings of stores and channels: one line each says how a value is read and written.

Knows nothing of the file around them. A new setting is a new line here and a new field in `values`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from .. import spec
from ..model import Duplicates, Side
from ..wording import did_you_mean, quoted
from .values import Deletion, MaxDelete, Secret


class BadValue(ValueError):
    """A value that its setting cannot take. The message says what was found and what was expected."""

    column = 0  # as in SpecError


@dataclass(frozen=True, slots=True)
class Setting:
    key: str  # as in the file
    field: str  # in StoreConfig or ChannelConfig
    read: Callable[[str], object]  # of one value; raises BadValue or SpecError
    write: Callable[[object], str] = str
    takes: int = 1  # values; several are read one by one, and make a tuple
    adds_up: bool = False  # given again, it adds to what it was


def default_ref(server: str) -> str:
    """What a store on a server lists under if it does not say so itself."""
    return spec.server_part(server) if server else ""


MOST_DAYS = 365_000  # so that it can be taken from any date of today
SIDES = {"a": frozenset({Side.A}), "b": frozenset({Side.B}), "both": frozenset(Side), "none": frozenset[Side]()}
DIRECTIONS = {"both": frozenset(Side), "a-to-b": frozenset({Side.B}), "b-to-a": frozenset({Side.A})}


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


def _deletion(text: str) -> Deletion:
    word, colon, mailbox = text.partition(":")
    if word == "trash" and colon:
        if not mailbox:
            raise BadValue(f"found {quoted(text)}, expected the name of a mailbox after it")
        return Deletion(trash=mailbox)
    if text not in ("expunge", "mark"):
        near = did_you_mean(text, ("expunge", "mark", "trash:"))
        raise BadValue(f"found {quoted(text)}, expected expunge, mark or trash:MAILBOX{near}")
    return Deletion(mark=text == "mark")


def _size(text: str) -> int | None:
    found = re.fullmatch(r"([0-9]{1,15})(?:([kKMG])(?:i?B)?)?", text)
    if not found:
        raise BadValue(f"found {quoted(text)}, expected a number of bytes, or one with k, M or G behind it")
    return int(found[1]) * {None: 1, "k": 2**10, "K": 2**10, "M": 2**20, "G": 2**30}[found[2]] or None


def _max_delete(text: str) -> MaxDelete:
    found = re.fullmatch(r"([0-9]{1,15})(%?)", text)
    if not found or (found[2] and int(found[1]) > 100):
        raise BadValue(f"found {quoted(text)}, expected a number of messages, or a percentage up to 100%")
    return MaxDelete(int(found[1]), percent=bool(found[2]))


def _days(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,6})([dwmy]?)", text)
    days = int(found[1]) * {"": 1, "d": 1, "w": 7, "m": 30, "y": 365}[found[2]] if found else MOST_DAYS + 1
    if days > MOST_DAYS:
        raise BadValue(f"found {quoted(text)}, expected a number of days, or one with w, m or y behind it, up to 1000y")
    return days


def _date(text: str) -> date:
    if re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):  # more than that is ISO 8601, too
        try:
            return date.fromisoformat(text)
        except ValueError:
            raise BadValue(f"found {quoted(text)}, expected a day that there is") from None
    raise BadValue(f"found {quoted(text)}, expected a date as year-month-day, such as 2024-01-31")


def _seconds(text: str) -> int:
    if not re.fullmatch(r"0*[1-9][0-9]{0,5}", text):
        raise BadValue(f"found {quoted(text)}, expected a number of seconds, at least 1")
    return int(text)


def _connections(text: str) -> int:
    if not re.fullmatch(r"[1-8]", text):
        raise BadValue(f"found {quoted(text)}, expected a number of connections, from 1 to 8")
    return int(text)


def _fingerprint(text: str) -> str:
    digits = text.replace(":", "").lower()
    if not re.fullmatch(r"[0-9a-f]{64}", digits):
        raise BadValue(
            f"found {quoted(text)}, expected the SHA-256 fingerprint of a certificate: 64 hexadecimal digits, with or"
            " without colons"
        )
    return digits


def _sides(words: Mapping[str, frozenset[Side]]) -> Callable[[str], frozenset[Side]]:
    return lambda text: words[_one_of(*words)(text)]


def _sides_word(words: Mapping[str, frozenset[Side]]) -> Callable[[object], str]:
    return lambda value: next(word for word, sides in words.items() if sides == value)


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
    Setting("delete", "delete", _deletion),
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
    Setting("connections", "connections", _connections),
    Setting("compress", "compress", _one_of("auto", "yes", "no")),
    Setting("timeout", "timeout", _seconds),
)
CHANNEL = _table(
    Setting("msinfo", "msinfo", _mailbox),
    Setting("passwd", "passwd", Secret),
    Setting("sizelimit", "sizelimit", _size),
    Setting("duplicates", "duplicates", _duplicates, _duplicates_word),
    Setting("expunge", "expunge_all", _expunge_all, lambda value: "all" if value else "seen"),
    Setting("max_delete", "max_delete", _max_delete),
    Setting("create", "create", _sides(SIDES), _sides_word(SIDES)),
    Setting("direction", "direction", _sides(DIRECTIONS), _sides_word(DIRECTIONS)),
    Setting("maxage", "maxage", lambda text: _days(text) or None),
    Setting("since", "since", _date),
    Setting("map", "map", str, takes=2, adds_up=True),  # sense looks at them together
    Setting("exclude", "exclude", str, adds_up=True),
    Setting("keep_deleted", "keep_deleted", _days),
    Setting("pre_sync", "pre_sync", str),
    Setting("post_sync", "post_sync", str),
    Setting("on_change", "on_change", str),
    Setting("passwd_cmd", "passwd_cmd", str),
    Setting("token_cmd", "token_cmd", str),
)
TABLES: Mapping[str, Mapping[str, Setting]] = {"store": STORE, "channel": CHANNEL}  # by kind of block
