"""SASL mechanisms: what a client says, and answers, to a server (RFC 4422). Pure: bytes in, bytes out, no base64.

A mechanism serves one login: `initial` once, `answer` for each challenge, `finish` when the server says it is done.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import stringprep
import unicodedata
from dataclasses import dataclass, field
from typing import ClassVar

ITERATIONS = range(4096, 10_000_001)  # of SCRAM: fewer are a trap (RFC 7677, 4), more would keep us busy for minutes


class SaslError(ValueError):
    """The server breaks the rules of the mechanism, or cannot prove who it is. Nothing more is said to it."""


class Mechanism:
    """A way to log in."""

    name: ClassVar[str]

    def initial(self) -> bytes | None:
        """What the client says first; None: it is the server that speaks first."""
        return None

    def answer(self, challenge: bytes) -> bytes:
        """The answer to a challenge; SaslError if there is none."""
        raise SaslError(f"the server asks for more than {self.name} has to say")

    def finish(self) -> None:
        """The server accepts the login. SaslError if it has not proved what it must prove."""


@dataclass(frozen=True, slots=True)
class Plain(Mechanism):
    """RFC 4616. `act_as`: whose mail is wanted, if it is not that of `user`."""

    name: ClassVar[str] = "PLAIN"
    user: str
    password: str = field(repr=False)
    act_as: str = ""

    def initial(self) -> bytes:
        return b"\0".join(_utf8(part) for part in (self.act_as, self.user, self.password))


@dataclass(slots=True)
class Login(Mechanism):
    """draft-murchison-sasl-login. Two questions, whose words differ from server to server."""

    name: ClassVar[str] = "LOGIN"
    user: str
    password: str = field(repr=False)
    _asked: int = 0

    def answer(self, challenge: bytes) -> bytes:
        self._asked += 1
        match self._asked:
            case 1:
                return _utf8(self.user)
            case 2:
                return _utf8(self.password)
        return Mechanism.answer(self, challenge)


@dataclass(slots=True)
class XOAuth2(Mechanism):
    """Google's; also Microsoft's and Yahoo's. A failure comes as a challenge, and only its answer brings the NO."""

    name: ClassVar[str] = "XOAUTH2"
    user: str
    token: str = field(repr=False)
    error: str = ""  # JSON: why the token was refused

    def initial(self) -> bytes:
        return _utf8(f"user={self.user}\x01auth=Bearer {self.token}\x01\x01")

    def answer(self, challenge: bytes) -> bytes:
        self.error = challenge.decode("utf-8", "replace")
        return b""


@dataclass(slots=True)
class OAuthBearer(Mechanism):
    """RFC 7628."""

    name: ClassVar[str] = "OAUTHBEARER"
    user: str
    token: str = field(repr=False)
    host: str
    port: int
    error: str = ""  # JSON: why the token was refused

    def initial(self) -> bytes:
        who = f"n,a={_saslname(self.user)},"
        return _utf8(f"{who}\x01host={self.host}\x01port={self.port}\x01auth=Bearer {self.token}\x01\x01")

    def answer(self, challenge: bytes) -> bytes:
        self.error = challenge.decode("utf-8", "replace")
        return b"\x01"


@dataclass(frozen=True, slots=True)
class External(Mechanism):
    """RFC 4422, appendix A: who we are, TLS has told. `act_as`: empty for whom the certificate names."""

    name: ClassVar[str] = "EXTERNAL"
    act_as: str = ""

    def initial(self) -> bytes:
        return _utf8(self.act_as)


@dataclass(frozen=True, slots=True)
class Anonymous(Mechanism):
    """RFC 4505."""

    name: ClassVar[str] = "ANONYMOUS"
    trace: str

    def initial(self) -> bytes:
        return _utf8(self.trace)


class ScramSha256(Mechanism):
    """RFC 5802 and 7677, without channel binding. `nonce`: printable, without a comma, never used before."""

    name = "SCRAM-SHA-256"

    def __init__(self, user: str, password: str, nonce: str, act_as: str = "") -> None:
        self._password = _utf8(_saslprep(password))
        self._nonce = _utf8(nonce)
        self._header = _utf8(f"n,a={_saslname(act_as)}," if act_as else "n,,")
        self._first = _utf8(f"n={_saslname(_saslprep(user))},r=") + self._nonce
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
        end = b"c=" + base64.b64encode(self._header) + b",r=" + nonce
        everything = b",".join((self._first, challenge, end))
        signature = _hmac(hashlib.sha256(key).digest(), everything)
        self._proof_of_server = _hmac(_hmac(salted, b"Server Key"), everything)
        return end + b",p=" + base64.b64encode(bytes(a ^ b for a, b in zip(key, signature, strict=True)))

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


def _unbase64(text: bytes) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as err:
        raise SaslError("the server's base64 is none") from err


def _saslname(name: str) -> str:
    """RFC 5802, 5.1."""
    return name.replace("=", "=3D").replace(",", "=2C")


def _saslprep(text: str) -> str:
    """RFC 4013, mapping and normalisation; what it prohibits, the server may refuse."""
    kept = (c for c in text if not stringprep.in_table_b1(c))
    return unicodedata.normalize("NFKC", "".join(" " if stringprep.in_table_c12(c) else c for c in kept))


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
