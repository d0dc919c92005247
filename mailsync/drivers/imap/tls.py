"""Whom TLS trusts, and what to say when it does not. Opens no connection."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from ...errors import CertificateError
from .account import Account

# By code of OpenSSL's X509_V_ERR_*; what has no entry is told in OpenSSL's words.
_EXPIRED, _SELF_SIGNED, _NAME, _ADDRESS = 10, 18, 62, 64
_REASONS = {
    9: "it is not valid yet (or the clock of this machine is wrong)",
    _EXPIRED: "it has expired",
    _SELF_SIGNED: "it is self-signed",
    19: "it is signed by an authority that this machine does not know",
    20: "it is signed by an authority that this machine does not know",
    21: "it is signed by an authority that this machine does not know, or the server keeps a part of the chain back",
    23: "it was revoked",
}


@lru_cache(maxsize=8)
def context(account: Account) -> ssl.SSLContext:
    """What a connection of this account is made with. CertificateError if a file of it cannot be read."""
    if account.remote.tls == "never" and not account.remote.ssl:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # to load the system's authorities takes 30 ms
    with _reading(account.ca):
        found = ssl.create_default_context(cafile=account.ca or None)
    if account.pin or not account.remote.validate:
        found.check_hostname = False
        found.verify_mode = ssl.CERT_NONE
    if account.cert:
        with _reading(account.cert if not account.key else f"{account.cert}, {account.key}"):
            found.load_cert_chain(account.cert, account.key or None)
    return found


def server_name(host: str) -> str:
    """A host as it stands in a certificate: without the final dot of a full name, without an address's zone."""
    return host.partition("%")[0].removesuffix(".")


def check_pin(account: Account, certificate: bytes) -> None:
    """CertificateError if another certificate was pinned. Before any secret is sent."""
    seen = fingerprint(certificate)
    if not hmac.compare_digest(re.sub(r"[\s:]", "", account.pin).lower().encode(), seen.encode()):
        raise CertificateError(
            f"{account}: the server shows another certificate than the one that is pinned",
            f"If you know that it is the right one: pin {seen}",
        )


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER), as `pin` takes it."""
    return hashlib.sha256(certificate).hexdigest()


def refused(account: Account, err: ssl.SSLCertVerificationError, seen: bytes) -> CertificateError:
    """What to tell of a certificate (DER; empty: it could not be had) that is not trusted."""
    pin = f"pin {fingerprint(seen)}" if seen else "pin with its SHA-256"
    why = _reason(account, err, seen)
    return CertificateError(
        f"{account}: the certificate of the server is not trusted: {why}",
        f"If you know that it is the right one: {pin}. Or name its authority: ca FILE. /novalidate-cert trusts anyone.",
    )


def _reason(account: Account, err: ssl.SSLCertVerificationError, seen: bytes) -> str:
    code = err.verify_code
    if code in (_NAME, _ADDRESS):
        names = ", ".join(_names(seen)) or "no name at all"
        return f"it is for {names}, not for {server_name(account.host)}"
    if code in _REASONS:
        return _REASONS[code]
    if ssl.create_default_context().verify_flags & ssl.VERIFY_X509_STRICT:
        return f"{err.verify_message} (Python 3.13 and later check strictly, VERIFY_X509_STRICT)"
    return err.verify_message


@contextmanager
def _reading(path: str) -> Iterator[None]:
    try:
        yield
    except ssl.SSLError as err:
        raise CertificateError(f"{path}: not what was expected in PEM: {err.reason or err}") from err
    except OSError as err:
        raise CertificateError(f"{path}: cannot be read: {err.strerror}") from err


# ---- a little of X.509 -----------------------------------------------------------------------------------------------

_ALTERNATIVES = bytes.fromhex("0603551d11")  # the object identifier of subjectAltName (RFC 5280, 4.2.1.6)
_DNS, _IP = 0x82, 0x87
_SHOWN = 8  # names


def _names(certificate: bytes) -> list[str]:
    """Whom a certificate is for: for a message only, so what cannot be read is left out."""
    names: list[str] = []
    try:
        at = certificate.index(_ALTERNATIVES) + len(_ALTERNATIVES)
        tag, value, at = _element(certificate, at)
        if tag == 0x01:  # "critical"
            tag, value, at = _element(certificate, at)
        inner = _element(value, 0)[1]
        at = 0
        while at < len(inner) and len(names) < _SHOWN:
            tag, value, at = _element(inner, at)
            if tag == _DNS:
                names.append(value.decode("ascii", "replace"))
            elif tag == _IP:
                names.append(str(ipaddress.ip_address(value)))
    except (ValueError, IndexError):
        pass
    return names


def _element(data: bytes, at: int) -> tuple[int, bytes, int]:
    """(tag, value, where the next one begins) of a DER element."""
    tag, size = data[at], data[at + 1]
    start = at + 2
    if size & 0x80:
        start += size & 0x7F
        size = int.from_bytes(data[at + 2 : start], "big")
    return tag, data[start : start + size], start + size
