"""--test-auth: log in to a store and out again, and tell how that went. Touches no mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .drivers.imap.account import Account, Secrets, Tell
from .errors import BoxError, StoreError

if TYPE_CHECKING:
    import socket


@dataclass(frozen=True, slots=True)
class Answer:
    """How a store lets us in."""

    store: str
    account: Account | None = None  # None: it is on this machine
    tls: str = ""  # "TLSv1.3"; empty: none
    certificate: str = ""  # who vouches for it, and until when; empty where nobody is asked
    mechanism: str = ""
    server: str = ""  # what it says that it is; empty: nothing
    capabilities: frozenset[str] = frozenset()

    def __str__(self) -> str:
        if not self.account:
            return f"{self.store}: on this machine, nobody logs in\n"
        safety = ", ".join(filter(None, (self.tls, self.certificate))) or "no TLS"
        lines = (
            f"{self.store}: {self.account}",
            safety,
            f"logged in ({self.mechanism})",
            *([f"the server calls itself {self.server}"] if self.server else []),
            " ".join(sorted(self.capabilities)),
        )
        return "\n  ".join(lines) + "\n"


def answer(store: str, account: Account, secrets: Secrets, tell: Tell) -> Answer:
    """StoreError, CertificateError or LoginError if the store does not let us in."""
    from .drivers.imap.dial import dial
    from .drivers.imap.handed import own_name

    try:
        client = dial(account, secrets, tell)
    except BoxError as err:  # a connection that breaks spoils more than a mailbox here
        raise StoreError(f"store {store}: {err}", err.hint) from err
    certificate = _certificate(client.wire.socket) if client.tls else ""
    server = own_name(client)
    client.end()
    return Answer(store, account, client.tls, certificate, client.mechanism, server, client.caps)


def _certificate(sock: socket.socket) -> str:
    """Empty where it was not verified: then it says nothing."""
    import ssl

    found = sock.getpeercert() if isinstance(sock, ssl.SSLSocket) else None
    if not found:
        return ""
    issuer: Any = found["issuer"]  # pairs in tuples in a tuple (RFC 5280, 4.1.2.4)
    names = {key: value for part in issuer for key, value in part}
    by = names.get("organizationName") or names.get("commonName") or "an authority without a name"
    return f"certificate by {by}, valid until {found['notAfter']}"
