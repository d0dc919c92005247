"""What a server says of a mailbox when it is opened (RFC 3501, 6.3.1 and 7.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from ...model import SYSTEM, Flags, Holds, Listing, Mailbox, Token
from .tokens import ProtocolError, Response, Status, code_value, flag_set, is_flag, status
from .wire import MAX_MESSAGES, Connection

_FLAGS = re.compile(rb"\(([^()]*)\)")
_MAILBOX_ID = re.compile(rb"\bMAILBOXID \(([\w-]{1,255})\)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ServerHolds(Holds):
    """The flags that a mailbox of a server can keep; of keywords only what IMAP can say."""

    def __contains__(self, flag: object) -> bool:
        if not isinstance(flag, str) or not is_flag(flag):
            return False
        return Holds.__contains__(self, flag) or flag.lower() in {held.lower() for held in self.flags}


USUAL = ServerHolds(any_keyword=True)


class Selected(NamedTuple):
    """A mailbox at the moment it was opened."""

    mailbox: Mailbox
    exists: int = 0
    validity: str | None = None
    next: int | None = None  # UIDNEXT
    modseq: int | None = None  # HIGHESTMODSEQ, where there is CONDSTORE
    flags: Flags = SYSTEM  # FLAGS
    permanent: bytes | None = None  # of PERMANENTFLAGS
    writable: bool = True
    identity: str | None = None  # MAILBOXID (RFC 8474, 4): stays the same when it is renamed

    def is_another(self, now: Selected) -> bool:
        """True if uids of then are worth nothing now. An empty mailbox has none: imap4d counts anew in one."""
        if self.exists == 0:
            return False
        return self.validity != now.validity or (now.exists > 0 and self.is_newer(now))

    def is_newer(self, now: Selected) -> bool:
        """True if it was put back to an older state: UIDNEXT never goes down (RFC 3501, 2.3.1.1)."""
        return self.validity == now.validity and (self.next or 0) > (now.next or 0) > 0

    @classmethod
    def at(cls, mailbox: Mailbox, listing: Listing) -> Selected:
        """What it was when this was listed: not open, so it does not tell what it holds."""
        words = (listing.token or "").split()
        if len(words) != len(("validity", "next", "exists", "modseq")):
            return cls(mailbox, len(listing.entries), listing.validity, writable=False, identity=listing.identity)
        next, exists, modseq = map(int, words[1:])
        return cls(mailbox, exists, listing.validity, next, modseq, writable=False, identity=listing.identity)

    @property
    def token(self) -> Token | None:
        """What is another whenever anything in it has changed; only where the server counts changes (RFC 7162)."""
        return token(self.validity, self.next, self.exists, self.modseq)

    @property
    def holds(self) -> Holds | None:
        """None if the answer does not tell: a mailbox that is opened to read lists no permanent flags."""
        if self.permanent is None:  # then all of FLAGS are (RFC 3501, 6.3.1)
            return ServerHolds(self.flags) if self.writable else None
        flags, any_keyword = flag_set(self.permanent), b"\\*" in self.permanent.split()
        if not flags and not any_keyword and not self.writable:
            return None
        return ServerHolds(flags & SYSTEM if any_keyword else flags, any_keyword)


def opening(conn: Connection, name: bytes, *, write: bool, since: Selected | None = None) -> bytes:
    """The command that opens a mailbox. With CONDSTORE it also says that we understand MODSEQ (RFC 7162, 3.1.8).

    `since`: what has changed after that is to be told, too (QRESYNC: RFC 7162, 3.2.5).
    """
    verb = b"SELECT " if write else b"EXAMINE "
    if since and since.validity and since.modseq:
        return verb + name + b" (QRESYNC (%s %d))" % (since.validity.encode(), since.modseq)
    return verb + name + (b" (CONDSTORE)" if conn.has("CONDSTORE") else b"")


def token(validity: object, next: object, exists: object, modseq: object) -> Token | None:
    """None if one of them is not told, or the server counts no changes of this mailbox."""
    return (
        Token(f"{validity} {next} {exists} {modseq}") if validity and next and modseq and exists is not None else None
    )


def selected(mailbox: Mailbox, answers: list[Response], end: Status) -> Selected:
    """From all that came between SELECT or EXAMINE and its OK."""
    exists, permanent = 0, None
    flags: Flags = SYSTEM
    numbers: dict[bytes, int | None] = {}
    identity = None
    for answer in answers:
        if answer.kind == b"EXISTS" and answer.number is not None:
            exists = answer.number
            if exists > MAX_MESSAGES:
                raise ProtocolError(f"a mailbox of {exists} messages: more than {MAX_MESSAGES} are not believed")
        elif answer.kind == b"FLAGS" and isinstance(answer.parts[0], bytes):
            if found := _FLAGS.search(answer.parts[0]):
                flags = flag_set(found[1])
        elif answer.kind == b"OK":
            told = status(answer)
            if told.code == b"PERMANENTFLAGS":
                # Fastmail: a keyword may hold "]", where the code seems to end.
                line = answer.parts[0]
                found = _FLAGS.search(line) if isinstance(line, bytes) else None
                permanent = found[1] if found else b""
            elif told.code == b"MAILBOXID":
                identity = mailbox_id(told.code + b" " + told.argument)
            elif told.code in (b"UIDVALIDITY", b"UIDNEXT", b"HIGHESTMODSEQ"):
                numbers[told.code] = code_value(told.code + b" " + told.argument, told.code)
    validity = numbers.get(b"UIDVALIDITY")
    return Selected(
        mailbox,
        exists,
        None if validity is None else str(validity),
        numbers.get(b"UIDNEXT"),
        numbers.get(b"HIGHESTMODSEQ"),
        flags,
        permanent,
        end.code != b"READ-ONLY",
        identity,
    )


def mailbox_id(text: bytes) -> str | None:
    """From `MAILBOXID (F2212ea87)`, wherever it stands (RFC 8474, 4)."""
    found = _MAILBOX_ID.search(text)
    return found[1].decode() if found else None
