"""SASL mechanisms: what a client says, and answers, to a server (RFC 4422). Pure: bytes in, bytes out, no base64.

A mechanism serves one login: `initial` once, `answer` for each challenge, `finish` when the server says it is done.
"""

from __future__ import annotations

from typing import ClassVar

SCRAM = "SCRAM-SHA-256"  # in a module of its own


class SaslError(ValueError):
    """The server breaks the rules of the mechanism, or cannot prove who it is. Nothing more is said to it."""


class Mechanism:
    """A way to log in."""

    name: ClassVar[str]
    _said: bytes | None = None

    def initial(self) -> bytes | None:
        """What the client says first; None: it is the server that speaks first."""
        return self._said

    def answer(self, challenge: bytes) -> bytes:
        """The answer to a challenge; SaslError if there is none."""
        raise SaslError(f"the server asks for more than {self.name} has to say")

    def finish(self) -> None:
        """The server accepts the login. SaslError if it has not proved what it must prove."""


class Plain(Mechanism):
    """RFC 4616. `act_as`: whose mail is wanted, if it is not that of `user`."""

    name = "PLAIN"

    def __init__(self, user: str, password: str, act_as: str = "") -> None:
        self._said = b"\0".join(utf8(part) for part in (act_as, user, password))


class Login(Mechanism):
    """draft-murchison-sasl-login. Two questions, whose words differ from server to server."""

    name = "LOGIN"

    def __init__(self, user: str, password: str) -> None:
        self._answers = [utf8(user), utf8(password)]

    def answer(self, challenge: bytes) -> bytes:
        return self._answers.pop(0) if self._answers else super().answer(challenge)


class XOAuth2(Mechanism):
    """Google's; also Microsoft's and Yahoo's. A failure comes as a challenge, and only its answer brings the NO."""

    name = "XOAUTH2"

    def __init__(self, user: str, token: str) -> None:
        self._said = utf8(f"user={user}\x01auth=Bearer {token}\x01\x01")
        self.error = ""  # JSON: why the token was refused

    def answer(self, challenge: bytes) -> bytes:
        self.error = challenge.decode("utf-8", "replace")
        return b""


class OAuthBearer(Mechanism):
    """RFC 7628."""

    name = "OAUTHBEARER"

    def __init__(self, user: str, token: str, host: str, port: int) -> None:
        who = f"n,a={saslname(user)},"
        self._said = utf8(f"{who}\x01host={host}\x01port={port}\x01auth=Bearer {token}\x01\x01")
        self.error = ""  # JSON: why the token was refused

    def answer(self, challenge: bytes) -> bytes:
        self.error = challenge.decode("utf-8", "replace")
        return b"\x01"


class External(Mechanism):
    """RFC 4422, appendix A: who we are, TLS has told. `act_as`: empty for whom the certificate names."""

    name = "EXTERNAL"

    def __init__(self, act_as: str = "") -> None:
        self._said = utf8(act_as)


class Anonymous(Mechanism):
    """RFC 4505."""

    name = "ANONYMOUS"

    def __init__(self, trace: str) -> None:
        self._said = utf8(trace)


def saslname(name: str) -> str:
    """RFC 5802, 5.1."""
    return name.replace("=", "=3D").replace(",", "=2C")


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
