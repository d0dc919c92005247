"""Begin TLS: whom it trusts, and what to say when it does not. Opens no connection."""

from __future__ import annotations

import os
import re
import ssl
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache

from ...errors import CertificateError, StoreError
from .account import Account
from .session import Untrusted
from .stream import Stream

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


_PLAIN_TEXT = (
    "WRONG_VERSION_NUMBER",
    "PACKET_LENGTH_TOO_LONG",
    "RECORD_LAYER_FAILURE",
    "HTTP_REQUEST",
    "UNKNOWN_PROTOCOL",
)


def begin(stream: Stream, account: Account) -> tuple[bytes, str]:
    """The server's certificate (DER) and the version of TLS. StoreError, CertificateError, Untrusted."""
    try:
        sock = stream.secure(context(account), server_name(account.host))
    except ssl.SSLCertVerificationError as err:
        raise Untrusted(err) from err
    except ssl.SSLError as err:
        if err.reason in _PLAIN_TEXT:
            raise StoreError(
                f"{account}: no TLS here: the server speaks plain text",
                "Without /ssl, mailsync begins TLS by STARTTLS, on port 143; with /ssl it is port 993.",
            ) from err
        raise StoreError(f"{account}: TLS does not begin: {err.reason or err.strerror or err}") from err
    certificate = sock.getpeercert(binary_form=True) or b""
    if account.pin:
        check_pin(account, certificate)
    return certificate, sock.version() or "TLS"


@lru_cache(maxsize=8)
def context(account: Account) -> ssl.SSLContext:
    """What a connection of this account is made with. CertificateError if a file of it cannot be read."""
    with _reading(account.ca):
        found = ssl.create_default_context(cafile=account.ca or None, capath=None if account.ca else _directory())
    if account.pin or not account.remote.validate:
        found.check_hostname = False
        found.verify_mode = ssl.CERT_NONE
    if account.cert:
        _check_own(account.key or account.cert)
        with _reading(account.cert if not account.key else f"{account.cert}, {account.key}"):
            found.load_cert_chain(account.cert, account.key or None)
    return found


def _check_own(key: str) -> None:
    """CertificateError if others can reach a private key of ours."""
    with suppress(OSError):  # told by who reads it
        found = os.stat(key)
        if found.st_uid == os.geteuid() and found.st_mode & 0o066:
            import shlex  # only needed for an error

            raise CertificateError(
                f"{key}: others can read or write this private key (mode {stat.S_IMODE(found.st_mode):04o})",
                f"Run: chmod 600 {shlex.quote(key)}",
            )


def _directory() -> str | None:
    """The system's authorities as a directory of files whose names are hashes: OpenSSL reads only those that it needs,
    where to load all of them from one file takes 20 to 40 ms. None where that file may hold others, or where the user
    names another file or directory (SSL_CERT_FILE, SSL_CERT_DIR).
    """
    system = ssl.get_default_verify_paths()
    pairs = (system.cafile, system.openssl_cafile), (system.capath, system.openssl_capath)
    if not system.capath or any(used and os.path.realpath(used) != os.path.realpath(own) for used, own in pairs):
        return None
    with suppress(OSError):
        hashed = sum(_HASHED.fullmatch(name) is not None for name in os.listdir(system.capath))
        with open(system.cafile or os.devnull, "rb") as file:
            return system.capath if hashed and hashed >= file.read().count(b"-----BEGIN ") else None
    return None


_HASHED = re.compile(r"[0-9a-f]{8}\.[0-9]+")


def server_name(host: str) -> str:
    """A host as it stands in a certificate: without the final dot of a full name, without an address's zone."""
    return host.partition("%")[0].removesuffix(".")


def check_pin(account: Account, certificate: bytes) -> None:
    """CertificateError if another certificate was pinned. Before any secret is sent."""
    seen = fingerprint(certificate)
    if re.sub(r"[\s:]", "", account.pin).lower() != seen:  # neither is a secret
        raise CertificateError(
            f"{account}: the server shows another certificate than the one that is pinned",
            f"If you know that it is the right one: pin {seen}",
        )


def fingerprint(certificate: bytes) -> str:
    """SHA-256 of a certificate (DER), as `pin` takes it."""
    from hashlib import sha256  # most certificates are verified

    return sha256(certificate).hexdigest()


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
    from ipaddress import ip_address  # only ever needed for an error

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
                names.append(str(ip_address(value)))
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
