"""A connection up to where a login may begin: greeted, in TLS, its capabilities known. Knows no secret, no mailbox.

imapclient and imaplib run over our own `Stream`, and may be mixed with what else speaks on it: commands take their tags
from one counter. The dialogue up to the login is held here, so that no secret passes through anybody's log.
"""

from __future__ import annotations

import contextlib
import imaplib
import re
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from imapclient import IMAPClient, SocketTimeout

from ...errors import Lost, StoreError
from . import tls
from .account import QUIET, Account, Tell
from .stream import Stream
from .tokens import ProtocolError, Response, Status, response, status
from .tunnel import Tunnel

FAREWELL = 5.0  # seconds that a server has for its BYE
PATIENCE = 2.0  # seconds that a tunnel has to end by itself
HIDDEN = b"***"


class Busy(StoreError):
    """The server takes no more connections now, but may later. `wait`: seconds that it asks for."""

    def __init__(self, message: str, hint: str = "", wait: float | None = None) -> None:
        super().__init__(message, hint)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Link:
    """What leads to a server."""

    socket: socket.socket
    context: ssl.SSLContext  # for TLS
    private: bool  # nobody else can listen, even without TLS
    tunnel: Tunnel | None = None


class Client(IMAPClient):  # type: ignore[misc]  # imapclient has no types
    """A connection; what it is as `dial` gives it."""

    session: Session  # what imapclient runs on
    wire: Stream
    tls: str  # its version; empty without
    caps: frozenset[str]  # upper case, as of after the login
    mechanism: str  # how it logged in

    def __init__(self, account: Account, link: Link, tell: Tell = QUIET) -> None:
        self.account, self.link, self.tell = account, link, tell
        # IMAPClient's own TLS is not used, nor are its timeouts: 0 leaves the socket as Stream wants it.
        super().__init__(account.host, account.port, ssl=False, timeout=SocketTimeout(0, 0))
        self.wire, self.tls = self.session.wire, self.session.tls
        self._imap.debug = 0  # IMAPClient sets 5: a quarter of all time, for a log that nobody reads

    def _create_IMAP4(self) -> Session:
        self.session = Session(self.account, self.link, self.tell)
        return self.session

    def next_tag(self) -> bytes:
        return self.session.next_tag()

    def logged_in(self, mechanism: str, caps: frozenset[str]) -> None:
        self.mechanism, self.caps = mechanism, caps
        self.session.state = "AUTH"
        self._cached_capabilities = tuple(cap.encode() for cap in caps)

    def end(self) -> None:
        """Log out and close. Nothing that goes wrong now matters."""
        self.wire.timeout = min(self.wire.timeout, FAREWELL)
        with contextlib.suppress(imaplib.IMAP4.error, Lost):
            self.session.logout()
        self.session.shutdown()

    def drop(self) -> None:
        """Close at once."""
        self.session.shutdown(patience=PATIENCE / 10)


class Session(imaplib.IMAP4):
    """imaplib over a Stream."""

    def __init__(self, account: Account, link: Link, tell: Tell) -> None:
        self.account, self.tell = account, tell
        self._link = link
        self.tls = ""
        self.certificate = b""  # the server's, DER
        self.told: frozenset[str] = frozenset()  # capabilities that came with the last answer
        self._greeting = b""  # for imaplib to read
        super().__init__(account.host, account.port)

    @property
    def private(self) -> bool:
        """True if nobody else listens."""
        return bool(self.tls) or self._link.private

    # ---- what imaplib lets one override -----------------------------------------------------------------------------

    def open(self, host: str = "", port: int = 0, timeout: float | None = None) -> None:
        self.host, self.port = host, port
        self.sock = self._link.socket
        self.wire = Stream(self.sock, self.account.timeout)
        if self.account.remote.ssl:
            self._secure()

    def read(self, size: int) -> bytes:
        return b"".join(self.wire.counted(size))

    def readline(self) -> bytes:
        if line := self._greeting:
            self._greeting = b""
            return line
        return self._line() + b"\r\n"

    def send(self, data: bytes) -> None:  # type: ignore[override]  # imaplib sends nothing else
        self._write(data, data)

    def shutdown(self, patience: float = PATIENCE) -> None:
        self.wire.close()
        if self._link.tunnel:
            self._link.tunnel.reap(patience)

    def _connect(self) -> None:
        """imaplib comes here once it is connected. It is shown the greeting without its words: some look to it like the
        beginning of a literal.
        """
        try:
            greeting = self._greeted()
            self._greeting = b"* %s\r\n" % greeting.kind
            super()._connect()  # type: ignore[misc]  # not in typeshed
        except BaseException:  # imaplib closes after errors only, not where we are stopped
            self.shutdown()
            raise
        self.welcome = str(greeting).encode()

    def _get_capabilities(self) -> None:
        """imaplib asks each time. Many greetings tell, which saves a flight."""
        if not self.told:
            self.ask_capabilities()
        if self.account.remote.tls != "never" and not self.tls and self.state == "NONAUTH":
            self._upgrade()
        self.capabilities = tuple(self.told)

    # ---- commands ---------------------------------------------------------------------------------------------------

    def next_tag(self) -> bytes:
        """A tag that imaplib will not use, nor wait for."""
        tag: bytes = self._new_tag()
        del self.tagged_commands[tag]
        return tag

    def ask_capabilities(self) -> frozenset[str]:
        answer = self.ask(b"CAPABILITY")
        if not answer.ok or not self.told:
            raise StoreError(f"{self.account}: the server does not tell what it can do: {answer}")
        return self.told

    def ask(self, command: bytes, go_on: Callable[[bytes], bytes] | None = None, shown: bytes = b"") -> Status:
        """How one command ended, or the server's BYE. `go_on`: what follows a `+`, of which nothing is shown."""
        self.told = frozenset()
        tag = self.next_tag()
        self._write(b"%s %s\r\n" % (tag, command), b"%s %s" % (tag, shown or command))
        while True:
            found = self._response()
            if found.tag == b"+":
                if not go_on:
                    raise Lost("the server wants more of a command that is complete")
                self._write(go_on(bytes(self._first(found))) + b"\r\n", HIDDEN)
            elif found.tag == tag or found.kind == b"BYE":
                return self._noted(found)
            elif found.tag == b"*":
                self._noted(found)

    # ---- before the login -------------------------------------------------------------------------------------------

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
        """TLS from here on. What is wrong with the certificate is told by the caller."""
        remote = self.account.remote
        try:
            self.wire.secure(self._link.context, tls.server_name(self.account.host))
            assert isinstance(self.wire.socket, ssl.SSLSocket)
            self.sock = self.wire.socket
            self.certificate = self.wire.socket.getpeercert(binary_form=True) or b""
            if self.account.pin:
                tls.check_pin(self.account, self.certificate)
        except BaseException:
            self.shutdown()
            raise
        if not remote.validate and not self.account.pin:
            self.tell.note(f"{self.account}: the certificate of the server is not verified (/novalidate-cert)")
        self.tls = self.wire.socket.version() or "TLS"
        self.tell.progress(self.tls)

    # ---- lines ------------------------------------------------------------------------------------------------------

    def _response(self) -> Response:
        line = self._line()
        try:
            return response([line])
        except ProtocolError as err:
            raise StoreError(f"{self.account}: the server does not speak IMAP: {err}") from err

    def _noted(self, found: Response) -> Status:
        """The status that a response is; its capabilities are in `told`, its alert is passed on (RFC 3501, 7.1)."""
        said = status(found)
        if found.kind == b"CAPABILITY":
            self.told |= _capabilities(self._first(found))
        elif said.code == b"CAPABILITY":
            self.told = _capabilities(said.argument)
        elif said.code == b"ALERT":
            self.tell.note(f"{self.account}: {said.text}")
        return said

    @staticmethod
    def _first(found: Response) -> bytes:
        part = found.parts[0]
        assert isinstance(part, bytes)  # a response of one line
        return part

    def _line(self) -> bytes:
        line = self.wire.line()
        if self.tell.wire:
            self.tell.wire(f"S: {_shown(line)}")
        return line

    def _write(self, data: bytes, shown: bytes) -> None:
        if self.tell.wire:
            self.tell.wire(f"C: {_shown(shown)}")
        self.wire.send(data)


# ---- too many of us --------------------------------------------------------------------------------------------------

FINAL_CODES = (b"AUTHENTICATIONFAILED", b"AUTHORIZATIONFAILED", b"EXPIRED", b"PRIVACYREQUIRED", b"CONTACTADMIN")
BUSY_CODES = (b"UNAVAILABLE", b"INUSE", b"LIMIT")  # RFC 5530
_BUSY = re.compile(
    r"too many|maximum number of|connection limit|throttl|backoff|temporary|temporarily|try again later|busy",
    re.IGNORECASE,
)
# The account, and not the server, has had enough: to try again would only make it worse.
_LOCKED = re.compile(
    r"too many (?:\w+ )?(?:failed|invalid|login|attempts|tries)|locked|disabled|suspended", re.IGNORECASE
)
_BACKOFF = re.compile(r"backoff time: (\d{1,9}) milliseconds", re.IGNORECASE)


def busy(account: Account, said: Status) -> Busy | None:
    """What a refusal of another connection, or of a login, is if it may be taken back later."""
    final = said.code in FINAL_CODES or _LOCKED.search(said.text)
    if said.code not in BUSY_CODES and (final or not _BUSY.search(said.text)):
        return None
    found = _BACKOFF.search(said.text)
    wait = int(found[1]) / 1000 if found else None
    return Busy(f"{account}: the server takes no more connections now: {said}", "Try again later.", wait)


def _capabilities(words: bytes) -> frozenset[str]:
    return frozenset(words.decode("latin-1").upper().split())


def _shown(line: bytes) -> str:
    return line.removesuffix(b"\r\n").decode("utf-8", "backslashreplace")
