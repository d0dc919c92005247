"""What a check finds, as values. Knows not how it is found, nor how it is shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from .model import Boxname, MessageId, Side, Uid


class Kind(StrEnum):
    """What programs know a finding by. A name, once used, keeps its meaning. Drivers have more, see `Fault.kind`."""

    IDENTICAL = "duplicate-identical"
    SAME_ID = "same-id"
    NO_ID = "no-id"
    ODD_HEADER = "odd-header"
    LONG_HEADER = "long-header"
    EMPTY = "empty"
    UNREADABLE = "unreadable"
    UNLISTED = "unlisted"
    BAD_NAME = "bad-name"
    COLLISION = "collision"
    MISSING = "mailbox-missing"
    NEW = "to-copy"
    DELETED = "to-delete"
    FLAGS = "flags"
    HELD = "held"
    DIFFERS = "differs"
    FORGOTTEN = "forgotten"
    BOX_FORGOTTEN = "mailbox-forgotten"
    MSINFO = "msinfo"
    FORGED = "msinfo-forged"


class Member(NamedTuple):
    """One of the messages that a finding is about."""

    side: Side
    uid: Uid
    id: MessageId


@dataclass(frozen=True, slots=True)
class Finding:
    kind: str
    boxname: Boxname | None  # None: it is about no single mailbox
    text: str  # in words, without the boxname
    store: str = ""  # "": not about one of them
    count: int = 1
    members: Sequence[Member] = ()
    names: Sequence[str] = ()  # of what is no message: files, mailboxes
    hint: str = ""

    def __str__(self) -> str:
        return self.text if self.boxname is None else f"{self.boxname}: {self.text}"
