"""A connection up to where a login may begin, and from there on: greeted, in TLS, its capabilities known.

Knows no secret, no mailbox. The dialogue up to the login is held here, so that no secret passes through anybody's log.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from ...errors import Lost, StoreError
from .account import QUIET, Account, Tell
from .stream import MAX_FIRST_LINE, MAX_LINE, Stream
from .tokens import ProtocolError, Response, Status, response, status

if TYPE_CHECKING:
    import ssl

    from imapclient import IMAPClient

    from .tunnel import Tunnel

FAREWELL = 5.0  # seconds that a server has for its BYE
PATIENCE = 2.0  # seconds that a tunnel has to end by itself
HASTE = 0.2  # the same, where a connection is given up
HIDDEN = b"***"
MAX_ANSWERS = 1000  # to one command, up to the login
MAX_CAPABILITIES = 1000  # servers have some dozens
SHORT, WORD = 4, 12  # characters; a shorter secret, or one of letters only, stands in many a sentence


class Busy(StoreError):
    """The server takes no more connections now, but may later. `wait`: seconds that it asks for."""

    def __init__(self, message: str, hint: str = "", wait: float | None = None) -> None:
        super().__init__(message, hint)
        self.wait = wait


class Untrusted(Exception):
    """The server's certificate is not trusted. OpenSSL, whose fault it is, does not show which one that is."""

    def __init__(self, fault: ssl.SSLCertVerificationError) -> None:
        super().__init__(str(fault))
        self.fault = fault


class Link(NamedTuple):
    """What leads to a server."""

    socket: socket.socket
    private: bool  # nobody else can listen, even without TLS
    tunnel: Tunnel | None = None


class Client:
    """A connection that is logged in. `mechanism`: how; `caps`: upper case, as of after the login."""

    def __init__(self, session: Session, mechanism: str, caps: frozenset[str]) -> None:
        self.session, self.mechanism, self.caps = session, mechanism, caps
        self.wire = session.wire
        self.wire.max_line = MAX_LINE
        self.tls = session.tls  # its version; empty without

    def next_tag(self) -> bytes:
        return self.session.next_tag()

    def handed(self) -> IMAPClient:
        """imapclient on this connection, for what is rare. No answer may be outstanding when it is used."""
        from .handed import Handed  # with imapclient, which costs as much as all else that a login needs

        return Handed(self.session, self.caps)

    def end(self, *, wait: bool = True) -> None:
        """Log out and close. Nothing that goes wrong now matters.

        `wait` for the farewell: some servers write only then what was changed.
        """
        self.wire.timeout = min(self.wire.timeout, FAREWELL)
        with contextlib.suppress(Lost, StoreError):
            if wait:
                self.session.ask(b"LOGOUT")
            else:
                self.session.write(line := b"%s LOGOUT\r\n" % self.next_tag(), line)
        self.session.close()

    def drop(self) -> None:
        """Close at once."""
        self.session.close(HASTE)


class Session:
    """A connection that was greeted, in TLS where it is wanted or offered; closed again where that comes to nothing.

    StoreError, Busy, CertificateError, Untrusted; Lost and TimeoutError if it breaks.
    """

    def __init__(self, account: Account, link: Link, tell: Tell = QUIET) -> None:
        self.account, self.tell = account, tell
        self._link = link
        self.wire = Stream(link.socket, account.timeout)
        self.wire.max_line = MAX_FIRST_LINE
        self.tls = ""  # its version
        self.certificate = b""  # the server's, DER
        self.told: frozenset[str] = frozenset()  # capabilities that came with the last answer
        # Each connection has tags of its own, and other letters than imaplib: no answer is taken for that to another.
        self._tags = bytes(0x51 + byte % 10 for byte in os.urandom(4))
        self._commands = 0
        self._secrets: set[str] = set()
        try:
            self.preauth = self._begun()
        except BaseException:
            self.close()
            raise
        self.capabilities = self.told  # before the login

    @property
    def private(self) -> bool:
        """True if nobody else listens."""
        return bool(self.tls) or self._link.private

    def close(self, patience: float = PATIENCE) -> None:
        """`patience`: seconds that a tunnel has to end by itself."""
        self.wire.close()
        if self._link.tunnel:
            self._link.tunnel.reap(patience)

    # ---- commands ---------------------------------------------------------------------------------------------------

    def next_tag(self) -> bytes:
        self._commands += 1
        return b"%s%d" % (self._tags, self._commands)

    def ask_capabilities(self) -> frozenset[str]:
        answer = self.ask(b"CAPABILITY")
        if not answer.ok or not self.told:
            raise StoreError(f"{self.account}: the server does not tell what it can do: {answer}")
        return self.told

    def ask(self, command: bytes, go_on: Callable[[bytes], bytes] | None = None, shown: bytes = b"") -> Status:
        """How one command ended, or the server's BYE. `go_on`: what follows a `+`, of which nothing is shown."""
        self.told = frozenset()
        tag = self.next_tag()
        self.write(b"%s %s\r\n" % (tag, command), b"%s %s" % (tag, shown or command))
        for _ in range(MAX_ANSWERS):
            found = self._response()
            if found.tag == b"+":
                if not go_on:
                    raise Lost("the server wants more of a command that is complete")
                answer = go_on(bytes(self._first(found)))
                self.hide(answer.decode("utf-8", "replace"))
                self.write(answer + b"\r\n", HIDDEN)
            elif found.tag == tag or found.kind == b"BYE":
                return self._noted(found)
            elif found.tag == b"*":
                self._noted(found)
        raise StoreError(f"{self.account}: the server's answer is one of more than {MAX_ANSWERS} lines to one command")

    def hide(self, secret: str) -> None:
        """What the server says of it is not shown: some repeat what they do not understand."""
        if len(secret) >= (WORD if secret.isalpha() else SHORT):
            self._secrets.add(secret)

    def without_secrets(self, text: str) -> str:
        for secret in sorted(self._secrets, key=len, reverse=True):
            text = text.replace(secret, HIDDEN.decode())
        return text

    # ---- before the login -------------------------------------------------------------------------------------------

    def _begun(self) -> bool:
        """True if the server says that we are logged in already."""
        if self.account.remote.ssl:
            self._secure()
        preauth = self._greeted().kind == b"PREAUTH"
        if not self.told:  # many greetings tell, which saves a flight
            self.ask_capabilities()
        if self.account.remote.tls != "never" and not self.tls and not preauth:
            self._upgrade()
        if not self.told & {"IMAP4REV1", "IMAP4"}:
            raise StoreError(f"{self.account}: server not IMAP4 compliant")
        return preauth

    def _greeted(self) -> Status:
        """OK or PREAUTH."""
        try:
            greeting = self._noted(self._response())
        except Lost as err:
            if self._link.tunnel and (ended := self._link.tunnel.ended(PATIENCE)):
                raise ended from err
            hint = "" if self.account.remote.ssl else "Perhaps it wants TLS from the first byte, as on port 993: /ssl."
            raise StoreError(f"{self.account}: no greeting: {err}", hint) from err
        match greeting.kind:
            case b"OK":
                return greeting
            case b"PREAUTH":
                if self.account.remote.tls == "require" and not self.tls:  # TLS can no longer begin
                    raise StoreError(f"{self.account}: the server says that we are logged in, before TLS began")
                if not self.private and self.account.remote.tls != "never":
                    raise StoreError(
                        f"{self.account}: the server says that we are logged in, without TLS: it could be anybody",
                        "If the network is to be trusted: /notls.",
                    )
                return greeting
            case b"BYE":
                raise busy(self.account, greeting) or StoreError(f"{self.account}: the server refuses: {greeting}")
        raise StoreError(f"{self.account}: not an IMAP server: {greeting.kind.decode('latin-1')} {greeting}"[:300])

    def _upgrade(self) -> None:
        """STARTTLS, where it is wanted or offered. What was told before may come from anybody, and is asked again."""
        if "STARTTLS" not in self.told:
            if self.account.remote.tls == "require":
                raise StoreError(
                    f"{self.account}: the server offers no TLS here", "Perhaps on a port of its own, as 993: /ssl."
                )
            return
        if self._link.tunnel and self.account.remote.tls != "require":
            return  # the tunnel is what the user trusts, and its end seldom has the name of the certificate
        answer = self.ask(b"STARTTLS")
        if not answer.ok:
            raise StoreError(f"{self.account}: the server does not begin TLS, which it offers: {answer}")
        self._secure()
        self.ask_capabilities()

    def _secure(self) -> None:
        """TLS from here on."""
        from . import tls  # with ssl, which costs as much as a login without it

        self.certificate, self.tls = tls.begin(self.wire, self.account)
        if not self.account.remote.validate and not self.account.pin:
            self.tell.note(f"{self.account}: the certificate of the server is not verified (/novalidate-cert)")
        self.tell.progress(self.tls)

    # ---- lines ------------------------------------------------------------------------------------------------------

    def line(self) -> bytes:
        """The next line without its line end."""
        line = self.wire.line()
        if self.tell.wire:
            self.tell.wire(f"S: {self.without_secrets(_shown(line))}")
        return line

    def write(self, data: bytes, shown: bytes) -> None:
        if self.tell.wire:
            self.tell.wire(f"C: {_shown(shown)}")
        self.wire.send(data)

    def _response(self) -> Response:
        line = self.line()
        try:
            return response([line])
        except ProtocolError as err:
            if self._secrets:  # it may be one that is not understood
                raise StoreError(f"{self.account}: the server does not speak IMAP") from None
            raise StoreError(f"{self.account}: the server does not speak IMAP: {err}") from err

    def _noted(self, found: Response) -> Status:
        """The status that a response is; its capabilities are in `told`, its alert is passed on (RFC 3501, 7.1).

        Not while it may come from anybody (RFC 9051, 7.1).
        """
        said = status(found)
        said = said._replace(text=self.without_secrets(said.text))
        if found.kind == b"CAPABILITY":
            self.told |= self._capabilities(self._first(found))
        elif said.code == b"CAPABILITY":
            self.told = self._capabilities(said.argument)
        elif said.code == b"ALERT" and (self.private or self.account.remote.tls == "never"):
            self.tell.note(f"{self.account}: {said.text}")
        return said

    def _capabilities(self, words: bytes) -> frozenset[str]:
        told = words.decode("latin-1").upper().split(None, MAX_CAPABILITIES)
        if len(self.told) + len(told) > MAX_CAPABILITIES:
            raise StoreError(f"{self.account}: the server tells of more than {MAX_CAPABILITIES} capabilities")
        return frozenset(told)

    @staticmethod
    def _first(found: Response) -> bytes:
        part = found.parts[0]
        assert isinstance(part, bytes)  # a response of one line
        return part


# ---- too many of us --------------------------------------------------------------------------------------------------

FINAL_CODES = (b"AUTHENTICATIONFAILED", b"AUTHORIZATIONFAILED", b"EXPIRED", b"PRIVACYREQUIRED", b"CONTACTADMIN")
BUSY_CODES = (b"UNAVAILABLE", b"INUSE", b"LIMIT")  # RFC 5530
_BUSY = r"too many|maximum number of|connection limit|throttl|backoff|temporary|temporarily|try again later|busy"
# The account, and not the server, has had enough: to try again would only make it worse.
_LOCKED = r"too many (?:\w+ )?(?:failed|invalid|login|attempts|tries)|locked|disabled|suspended"
_BACKOFF = r"backoff time: (\d{1,9}) milliseconds"


def busy(account: Account, said: Status) -> Busy | None:
    """What a refusal of another connection, or of a login, is if it may be taken back later."""
    final = said.code in FINAL_CODES or re.search(_LOCKED, said.text, re.IGNORECASE)
    if said.code not in BUSY_CODES and (final or not re.search(_BUSY, said.text, re.IGNORECASE)):
        return None
    found = re.search(_BACKOFF, said.text, re.IGNORECASE)
    wait = int(found[1]) / 1000 if found else None
    return Busy(f"{account}: the server takes no more connections now: {said}", "Try again later.", wait)


def _shown(line: bytes) -> str:
    return line.removesuffix(b"\r\n").decode("utf-8", "backslashreplace")
