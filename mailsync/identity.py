"""Make a message's identity from its raw bytes. Knows no driver: the same bytes give the same id wherever they lie.

Both kinds follow mailsync 5.2.7 byte for byte, on ordinary mail and on nearly all that is odd. Known differences:
5.2.7 begins a new field after a NUL and takes `>From` for From; in a domain with blanks around its dots it takes
backslashes away twice.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from .addresses import parse
from .header import BLANKS, MOST, TELLING, any_case, bounded, collapse, fields, first, parts, unfold
from .model import HIDDEN, Digest, Identify, Key, MessageId

# In this order they identify a message that has no Message-ID.
_IDENTIFYING = (b"date", b"from", b"to", b"cc", b"subject", b"in-reply-to", b"references", b"received")
_DELIVERED = (b"received", b"return-path", b"delivered-to", b"message-id")  # what passed through the mail has one
_MD5 = (b"date", b"subject", b"message-id", b"from", b"to")

# The first Message-ID of a head as it is, or the end of the head, and the id if it needs no work: ten times faster.
_QUICK = re.compile(
    rb"\n\r*+(?:\n|" + any_case(b"message-id") + rb"(?:[ \t\r]|\n[ \t])*+: *+(<[^\x00-\x20>\x7f]++>)?+)"
)
_DOTTED = bytes(0x2E if byte <= 0x20 or byte == 0x7F else byte for byte in range(256))
_FOLDED = bytes(byte if 0x20 <= byte <= 0x7E else 0x58 for byte in range(256))
_FOLDED_LINES = bytes(byte if byte in b"\r\n" else _FOLDED[byte] for byte in range(256))
_NOT_ASCII = re.compile(r"[^ -~]")
_MSINFO_FROM = re.compile(rb"mailsync(?:@[^\s<>]+)?")

# Of mboxes; and of mbsync and OfflineIMAP, which mark what they have copied: their marks tell the two copies apart.
_BOOKKEEPING = re.compile(
    rb"\n(?=[sx])(?:status|x-status|x-keywords|x-uid|x-imapbase|x-imap|x-tuid|x-offlineimap[^\s:]*+)[ \t]*+:"
    rb"[^\n]*+(?:\n[ \t][^\n]*+)*+",
    re.IGNORECASE,
)


class Facts(NamedTuple):
    """Digests of the canonical whole: without bookkeeping, lines ending in CRLF, no blank lines at the end."""

    pairing: Digest  # bytes outside printable ASCII count as "X": what Cyrus makes of them in a header
    exact: Digest


def key(id: MessageId) -> Key:
    """What ids are compared by: all outside printable ASCII is "X", which Cyrus makes of it."""
    return Key(id if id.isascii() and id.isprintable() else _NOT_ASCII.sub("X", id))


def identify(kind: str) -> Identify:
    """The rule of `-t KIND`: `msgid` or `md5`."""
    return {"msgid": MsgidIdentify, "md5": Md5Identify}[kind]()


def examine(chunks: Iterable[bytes]) -> Facts:
    """Digests of a message read once, in pieces of any size."""
    from hashlib import sha256  # with all of OpenSSL: most runs need not read a whole message

    pairing, exact = sha256(), sha256()
    for piece in canonical(chunks):
        pairing.update(piece.translate(_FOLDED_LINES))
        exact.update(piece)
    return Facts(Digest(pairing.hexdigest()[:32]), Digest(exact.hexdigest()[:32]))


def hidden(header: bytes) -> bool:
    """True for msinfo, of any channel: it looks like it, and never passed through the mail."""
    return _claims(header) == (True, False)


def forged(header: bytes) -> bool:
    """True for mail that looks like msinfo: somebody sent it."""
    return _claims(header) == (True, True)


class _Rule:
    """What both kinds share: the ids of messages that the kind's own rule cannot tell apart."""

    fields: tuple[bytes, ...] = TELLING
    quick: tuple[bytes, ...] = TELLING
    version = ""

    def __call__(self, header: bytes, /) -> MessageId | None:
        return HIDDEN if hidden(header) else self.sure(header) or _by_fields(header)

    def sure(self, header: bytes, /) -> MessageId | None:
        raise NotImplementedError

    def whole(self, chunks: Iterable[bytes], /) -> MessageId:
        from hashlib import md5

        digest = md5(usedforsecurity=False)
        for piece in canonical(chunks):
            digest.update(piece.translate(_FOLDED_LINES))
        return MessageId(f"<md5:{digest.hexdigest()}")


class MsgidIdentify(_Rule):
    """`-t msgid`: the first Message-ID, in angle brackets, without blanks and control characters.

    Where it is missing or empty: `<md5:HEX`, without a `>`, which 5.2.7 passes over.
    """

    version = "msgid-1"
    quick = (b"message-id",)

    def __call__(self, header: bytes, /) -> MessageId | None:
        # What has a Message-ID is never msinfo: 50,000 heads need no second look.
        return self.sure(header) or super().__call__(header)

    def sure(self, header: bytes, /) -> MessageId | None:
        """The id if `quick` fields are enough to tell it; such a message is never `hidden`.

        Asking a server for these alone saves most of the bytes of `fields`; None: ask for `fields`.
        """
        text = b"\n" + header if header[:1] in b"mM\r\n" else header
        if (plain := _QUICK.search(text)) and (id := plain[1]) and len(plain[0]) < MOST:
            return MessageId(id.decode("latin-1"))
        value = first(header, b"message-id")
        if value is None:
            return None
        text = unfold(value.lstrip(BLANKS)[:MOST])
        inner, _, _ = (text if text.startswith(b"<") else b"<" + text).partition(b">")
        return MessageId(inner.translate(_DOTTED).decode("latin-1") + ">") if len(inner) > 1 else None


class Md5Identify(_Rule):
    """`-t md5`: of Date, Subject, Message-ID and the addresses of all From and To, as `<>, md5: <HEX>`."""

    version = "md5-1"
    quick = ()  # a field that a server does not give would make another id, not none

    def sure(self, header: bytes, /) -> MessageId | None:
        """The id, if one of the fields is there. None also for what is `hidden`."""
        if hidden(header):
            return None
        text: dict[bytes, bytes] = {}
        addresses: dict[bytes, list[bytes]] = {b"from": [], b"to": []}
        for name, value in bounded(fields(header, _MD5)):
            if name in addresses:
                addresses[name] += (one.written() for one in parse(unfold(value)))
            else:
                text.setdefault(name, unfold(value))
        parts = [text.get(name, b"") for name in _MD5[:3]]
        string = b"".join((*parts, *addresses[b"from"], *addresses[b"to"]))
        return MessageId(f"<>, md5: <{_md5(string)}>") if string else None


def canonical(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """A message as its digests see it, in pieces; where one chunk ends and the next begins does not show."""
    held = bytearray()  # line ends that are the message's last ones unless more comes
    for chunk in _without_bookkeeping(chunks):
        text = chunk.rstrip(b"\r\n")
        if text:
            piece = bytes(held) + text
            held[:] = chunk[len(text) :]
            yield piece.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        else:
            held += chunk


def _without_bookkeeping(chunks: Iterable[bytes]) -> Iterator[bytes]:
    dropping = False  # what is more of a field that goes
    for part, text in parts(chunks):
        if part == "more":
            yield b"" if dropping else text
        elif part == "body":
            yield text
        else:
            own = _BOOKKEEPING.sub(b"", b"\n" + text)[1:]
            dropping = part == "begin" and not own
            yield own


def _by_fields(header: bytes) -> MessageId | None:
    found: dict[bytes, list[bytes]] = {name: [] for name in _IDENTIFYING}
    for name, value in bounded(fields(header, _IDENTIFYING)):
        if text := collapse(value):
            # No line break is left in the text, so nothing it holds can be taken for another field.
            found[name].append(name + b":" + text.translate(_FOLDED) + b"\n")
    string = b"".join(line for lines in found.values() for line in lines)
    return MessageId(f"<md5:{_md5(string)}") if string else None


def _md5(text: bytes) -> str:
    from hashlib import md5  # most mail has a Message-ID

    return md5(text, usedforsecurity=False).hexdigest()


def _claims(header: bytes) -> tuple[bool, bool]:
    """Does it look like msinfo, and did it pass through the mail?"""
    if b"mailsync" not in header:
        return False, False
    found: dict[bytes, bytes] = {}
    for name, value in bounded(fields(header, (b"from", b"subject", *_DELIVERED))):
        found.setdefault(name, value)
    looks = b"subject" in found and bool(_MSINFO_FROM.fullmatch(collapse(found.get(b"from", b""))))
    return looks, any(name in found for name in _DELIVERED)
