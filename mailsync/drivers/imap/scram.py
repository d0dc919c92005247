"""SCRAM-SHA-256: a login that proves the password and does not send it. Pure: bytes in, bytes out."""

from __future__ import annotations

import hashlib
import hmac
import stringprep
import unicodedata
from binascii import Error, a2b_base64, b2a_base64

from .sasl import SCRAM, Mechanism, SaslError, saslname, utf8

ITERATIONS = range(4096, 10_000_001)  # of SCRAM: fewer are a trap (RFC 7677, 4), more would keep us busy for minutes


class ScramSha256(Mechanism):
    """RFC 5802 and 7677, without channel binding. `nonce`: printable, without a comma, never used before."""

    name = SCRAM

    def __init__(self, user: str, password: str, nonce: str, act_as: str = "") -> None:
        self._password = utf8(_saslprep(password))
        self._nonce = utf8(nonce)
        self._header = utf8(f"n,a={saslname(act_as)}," if act_as else "n,,")
        self._first = utf8(f"n={saslname(_saslprep(user))},r=") + self._nonce
        self._proof_of_server = b""
        self._verified = False

    def initial(self) -> bytes:
        return self._header + self._first

    def answer(self, challenge: bytes) -> bytes:
        if not self._proof_of_server:
            return self._proof(challenge)
        if self._verified:
            return super().answer(challenge)
        self._verify(_attributes(challenge))
        return b""

    def finish(self) -> None:
        if not self._verified:
            raise SaslError("the server accepts the login, but did not prove that it knows the password")

    def _proof(self, challenge: bytes) -> bytes:
        told = _attributes(challenge)
        if b"m" in told:
            raise SaslError("the server asks for an extension of SCRAM that is not known")
        nonce = told.get(b"r", b"")
        if not nonce.startswith(self._nonce) or nonce == self._nonce:
            raise SaslError("the server's nonce does not continue ours")
        iterations = int(told[b"i"]) if told.get(b"i", b"").isdigit() and len(told[b"i"]) < 10 else 0
        if iterations not in ITERATIONS:
            raise SaslError(f"the server asks for {iterations} iterations of SCRAM, which is not reasonable")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, _unbase64(told.get(b"s", b"")), iterations)
        key = _hmac(salted, b"Client Key")
        end = b"c=" + _base64(self._header) + b",r=" + nonce
        everything = b",".join((self._first, challenge, end))
        signature = _hmac(hashlib.sha256(key).digest(), everything)
        self._proof_of_server = _hmac(_hmac(salted, b"Server Key"), everything)
        return end + b",p=" + _base64(bytes(a ^ b for a, b in zip(key, signature, strict=True)))

    def _verify(self, told: dict[bytes, bytes]) -> None:
        if b"e" in told:
            raise SaslError(f"the server says {told[b'e'].decode('utf-8', 'replace')}")
        if not hmac.compare_digest(self._proof_of_server, _unbase64(told.get(b"v", b""))):
            raise SaslError("the server does not know the password: it is not the one it claims to be")
        self._verified = True


def _attributes(message: bytes) -> dict[bytes, bytes]:
    """`r=...,s=...` by letter."""
    return {part[:1]: part[2:] for part in message.split(b",") if part[1:2] == b"="}


def _hmac(key: bytes, text: bytes) -> bytes:
    return hmac.digest(key, text, "sha256")


def _base64(raw: bytes) -> bytes:
    return b2a_base64(raw, newline=False)


def _unbase64(text: bytes) -> bytes:
    try:
        return a2b_base64(text, strict_mode=True)
    except Error as err:
        raise SaslError("the server's base64 is none") from err


def _saslprep(text: str) -> str:
    """RFC 4013, mapping and normalisation; what it prohibits, the server may refuse."""
    kept = (c for c in text if not stringprep.in_table_b1(c))
    return unicodedata.normalize("NFKC", "".join(" " if stringprep.in_table_c12(c) else c for c in kept))
