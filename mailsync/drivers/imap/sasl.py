"""SASL mechanisms: what a client says, and answers, to a server (RFC 4422). Pure: bytes in, bytes out, no base64.

A mechanism serves one login: `initial` once, `answer` for each challenge, `finish` when the server says it is done.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

SCRAM = "SCRAM-SHA-256"  # in a module of its own


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
        return b"\0".join(utf8(part) for part in (self.act_as, self.user, self.password))


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
                return utf8(self.user)
            case 2:
                return utf8(self.password)
        return Mechanism.answer(self, challenge)


@dataclass(slots=True)
class XOAuth2(Mechanism):
    """Google's; also Microsoft's and Yahoo's. A failure comes as a challenge, and only its answer brings the NO."""

    name: ClassVar[str] = "XOAUTH2"
    user: str
    token: str = field(repr=False)
    error: str = ""  # JSON: why the token was refused

    def initial(self) -> bytes:
        return utf8(f"user={self.user}\x01auth=Bearer {self.token}\x01\x01")

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
        who = f"n,a={saslname(self.user)},"
        return utf8(f"{who}\x01host={self.host}\x01port={self.port}\x01auth=Bearer {self.token}\x01\x01")

    def answer(self, challenge: bytes) -> bytes:
        self.error = challenge.decode("utf-8", "replace")
        return b"\x01"


@dataclass(frozen=True, slots=True)
class External(Mechanism):
    """RFC 4422, appendix A: who we are, TLS has told. `act_as`: empty for whom the certificate names."""

    name: ClassVar[str] = "EXTERNAL"
    act_as: str = ""

    def initial(self) -> bytes:
        return utf8(self.act_as)


@dataclass(frozen=True, slots=True)
class Anonymous(Mechanism):
    """RFC 4505."""

    name: ClassVar[str] = "ANONYMOUS"
    trace: str

    def initial(self) -> bytes:
        return utf8(self.trace)


def saslname(name: str) -> str:
    """RFC 5802, 5.1."""
    return name.replace("=", "=3D").replace(",", "=2C")


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
