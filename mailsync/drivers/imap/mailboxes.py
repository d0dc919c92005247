"""What a server's mailboxes are called, and which there are. Knows LIST and namespaces; opens nothing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ...errors import BoxError
from ...model import BoxInfo, Failure, Mailbox, Token
from ...names import is_inbox
from . import utf7
from .select import token
from .tokens import Listed, Literal, Response, listed, quoted, text_of, values
from .wire import Connection

INBOX = Mailbox("INBOX")
ABSENT = frozenset({b"\\noselect", b"\\nonexistent"})
USES = {
    name.lower(): name.decode()
    for name in (b"\\All", b"\\Archive", b"\\Drafts", b"\\Flagged", b"\\Junk", b"\\Sent", b"\\Trash")
}
STATUS = b"(UIDVALIDITY UIDNEXT MESSAGES HIGHESTMODSEQ)"
GUESSES = frozenset({b"\\marked", b"\\unmarked"})  # of whether something has come (RFC 3501, 7.2.2)
EVERYTHING = frozenset({b"\\all", b"\\allmail"})  # one mailbox that holds the mail of all others (RFC 6154, 2)


class Codec:
    """Names as people write them, and as they are on the wire.

    Modified UTF-7, or plain UTF-8 where the server wants nothing else (`utf8`). What does not come back as the same
    bytes is kept raw, and is remembered: `Tom & Jerry` and `Tom &- Jerry` are two mailboxes.
    """

    def __init__(self) -> None:
        self.utf8 = False
        self._raw: dict[Mailbox, bytes] = {}

    def mailbox(self, raw: bytes) -> Mailbox:
        if raw.upper() == b"INBOX":
            return INBOX
        text = None if self.utf8 else utf7.decode(raw)
        if text is not None:
            return Mailbox(text)
        try:
            text = raw.decode("utf-8")  # no name of IMAP4rev1, but of RFC 6855, and of servers that do not care
        except UnicodeDecodeError:
            text = raw.decode("ascii", "surrogateescape")
        self._raw[Mailbox(text)] = raw
        return Mailbox(text)

    def raw(self, mailbox: Mailbox) -> bytes:
        """BoxError for a name that IMAP cannot say."""
        if mailbox in self._raw:
            return self._raw[mailbox]
        if is_inbox(mailbox) and mailbox != INBOX:
            raise BoxError(
                f"{mailbox}: on a server this is another way to write INBOX",
                "Name the mailbox of the other store INBOX, or leave it out with a pat that begins with '!'.",
            )
        try:
            return mailbox.encode() if self.utf8 else utf7.encode(mailbox)
        except ValueError as err:
            raise BoxError(f"{mailbox}: a name that is not UTF-8 cannot be said to a server") from err

    def quoted(self, mailbox: Mailbox) -> bytes:
        return quoted(self.raw(mailbox))


class Found(NamedTuple):
    """One name that LIST told."""

    mailbox: Mailbox
    raw: bytes
    attributes: frozenset[bytes]  # lower case
    delimiter: str | None
    subscribed: bool
    token: Token | None = None  # of all that is in it

    def __str__(self) -> str:
        """All that was told and is not just the server's guess, with the token if there is one."""
        words = b" ".join(sorted(self.attributes - GUESSES)).decode("latin-1")
        return f"{self.raw.decode('latin-1')} {self.delimiter} {words} {self.subscribed} {self.token}"

    @property
    def selectable(self) -> bool:
        return not ABSENT & self.attributes

    @property
    def use(self) -> str:
        """What it is for (RFC 6154, 2); empty for most."""
        return next((use for name, use in USES.items() if name in self.attributes), "")


def counts_changes(conn: Connection) -> bool:
    """True if a STATUS tells whether anything in a mailbox has changed (RFC 7162, 3.1.7)."""
    return conn.has("CONDSTORE")


def commands(
    conn: Connection, codec: Codec, patterns: Sequence[str], *, subscribed: bool, status: bool = False
) -> list[bytes]:
    """What asks for all mailboxes that may match, to be sent at once; `found` reads the answers.

    `status`: with a token of each, if the server can tell that at the same time (RFC 5819).
    """
    wanted = [quoted(_pattern(codec, text)) for text in patterns if not text.startswith("!")]
    options = [b"SUBSCRIBED"] if subscribed else []
    options += [b"SPECIAL-USE"] if conn.has("SPECIAL-USE") else []
    options += [b"STATUS " + STATUS] if status and conn.has("LIST-STATUS") and counts_changes(conn) else []
    if conn.has("LIST-EXTENDED") and options:
        return [b'LIST "" %s RETURN (%s)' % (text, b" ".join(options)) for text in wanted]
    lists = [b'LIST "" ' + text for text in wanted]
    return lists + ([b'LSUB "" ' + text for text in wanted] if subscribed else [])


def found(responses: Sequence[Response], codec: Codec) -> list[Found]:
    """The names that LIST and LSUB told, each once."""
    names: dict[bytes, Listed] = {}
    subscribed: set[bytes] = set()
    for response in responses:
        if response.kind not in (b"LIST", b"LSUB"):
            continue
        one = listed(response)
        if response.kind == b"LSUB" or b"\\subscribed" in one.attributes:
            subscribed.add(one.name)
        if response.kind == b"LIST":
            before = names.get(one.name)
            names[one.name] = one if before is None else one._replace(attributes=one.attributes | before.attributes)
    tokens = dict(map(token_of, (response for response in responses if response.kind == b"STATUS")))
    return [
        Found(codec.mailbox(raw), raw, one.attributes, one.delimiter, raw in subscribed, tokens.get(raw))
        for raw, one in names.items()
    ]


def token_of(response: Response) -> tuple[bytes, Token | None]:
    """The name of a mailbox, and what its STATUS says."""
    match values(response.parts):
        case [(bytes() | Literal()) as name, list() as told]:
            words = [text_of(word).decode("latin-1").upper() for word in told]
            of = dict(zip(words[::2], words[1::2], strict=False))
            modseq = of.get("HIGHESTMODSEQ", "0").lstrip("0")
            return text_of(name), token(of.get("UIDVALIDITY"), of.get("UIDNEXT"), of.get("MESSAGES"), modseq)
    return b"", None


def has(names: Sequence[Found], mailbox: Mailbox) -> bool:
    return any(one.mailbox == mailbox and one.selectable for one in names)


def info(found: Found, prefix: str | None, delimiter: str | None) -> BoxInfo:
    """One name of a store with this delimiter. `prefix`: what is left out of all names but INBOX."""
    mailbox = found.mailbox
    if prefix is not None and mailbox != INBOX and is_inbox(mailbox.removeprefix(prefix)):
        why = f"cannot be told from INBOX: without a prefix, {prefix} is left out of all names"
        return _failed(mailbox, why, "Give the store a pat and a prefix.")
    if found.delimiter != delimiter and found.delimiter and delimiter and found.delimiter in mailbox:
        why = f"its levels are divided by {found.delimiter!r}, those of the others by {delimiter!r}"
        return _failed(mailbox, why, "Give this namespace a store of its own.")
    return BoxInfo(mailbox, found.selectable, found.token, use=found.use)


def twice(found: Found) -> BoxInfo:
    """A second mailbox of one name."""
    why = f"two mailboxes of the server are called so; one of them {found.raw.decode('latin-1')} on the wire"
    return _failed(found.mailbox, why, "Rename one of the two.")


def _failed(mailbox: Mailbox, why: str, hint: str) -> BoxInfo:
    return BoxInfo(mailbox, False, None, Failure(mailbox, why, hint))


def _pattern(codec: Codec, text: str) -> bytes:
    """A pattern on the wire: names in it are encoded, its wildcards are plain ASCII and stay."""
    return codec.raw(Mailbox(text)) if not is_inbox(text) else b"INBOX"
