"""imapclient over a connection of ours that is logged in: for what is rare, and costs no run anything.

imaplib, which it stands on, reads and sends through our `Session`. Its tags have other letters than ours, so that no
answer is taken for one to the other; but whoever reads, reads all that comes, so that both may only speak in turn.
"""

from __future__ import annotations

import imaplib

from imapclient import IMAPClient, SocketTimeout
from imapclient.exceptions import IMAPClientError

from ...errors import Lost
from .session import Client, Session

LONGEST = 200  # characters of what a server says of itself
MAX_READ = 1024 * 1024  # bytes in all: what is rare is small, and imaplib holds whatever comes


class Handed(IMAPClient):  # type: ignore[misc]  # imapclient has no types
    """What imapclient offers, on a connection with these capabilities."""

    def __init__(self, session: Session, caps: frozenset[str]) -> None:
        self._session, self._caps = session, caps
        # Its own TLS is not used, nor are its timeouts: 0 leaves the socket as Stream wants it.
        super().__init__(session.account.host, session.account.port, ssl=False, timeout=SocketTimeout(0, 0))
        self._imap.debug = 0  # it sets 5, for a log that nobody reads
        self._cached_capabilities = tuple(cap.encode() for cap in caps)

    def _create_IMAP4(self) -> imaplib.IMAP4:
        return _Through(self._session, self._caps)


class _Through(imaplib.IMAP4):
    """imaplib on a session, from after the login on."""

    def __init__(self, session: Session, caps: frozenset[str]) -> None:
        self._session, self._caps = session, caps
        self._greeting = b"* PREAUTH\r\n"  # it must have one
        self._left = MAX_READ
        super().__init__(session.account.host, session.account.port)

    def open(self, host: str = "", port: int = 0, timeout: float | None = None) -> None:
        self.host, self.port = host, port
        self.sock = self._session.wire.socket

    def read(self, size: int) -> bytes:
        self._take(size)
        return b"".join(self._session.wire.counted(size))

    def readline(self) -> bytes:
        if line := self._greeting:
            self._greeting = b""
            return line
        line = self._session.line() + b"\r\n"
        self._take(len(line))
        return line

    def send(self, data: bytes) -> None:  # type: ignore[override]  # imaplib sends nothing else
        self._session.write(data, data)

    def _take(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            self._session.close()
            raise Lost(f"the server's answer is one of more than {MAX_READ} bytes")

    def shutdown(self) -> None:
        self._session.close()

    def _get_capabilities(self) -> None:
        self.capabilities = tuple(self._caps)


def own_name(client: Client) -> str:
    """Name and version that a server gives itself (RFC 2971), on one line; empty if it tells none, or errs."""
    if "ID" not in client.caps:
        return ""
    try:
        told = client.handed().id_()
    except (IMAPClientError, Lost, ValueError, RecursionError):  # the last two for what imapclient cannot parse
        return ""
    fields = told[0] if told and isinstance(told[0], tuple) else ()
    values = dict(zip((_word(key).lower() for key in fields[::2]), map(_word, fields[1::2]), strict=False))
    words = (values.get(key, "") for key in ("name", "version"))
    return " ".join(filter(None, words))[:LONGEST]


def _word(value: object) -> str:
    """Empty for NIL, a number and a list."""
    return " ".join(value.decode("utf-8", "replace").split()) if isinstance(value, bytes) else ""
