"""Where a server is, how it is reached, and who logs in, as values. Knows neither socket nor configuration file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from ...spec import Remote


@dataclass(frozen=True, slots=True)
class Account:
    """One login on one server. Two stores that are equal in this may share a connection."""

    remote: Remote  # host, port, switches; its mailbox does not count
    tunnel: str = ""  # a command that speaks IMAP on its standard streams, instead of a connection to the host
    cert: str = ""  # client certificate, PEM; EXTERNAL logs in with it where there is no password
    key: str = ""  # of that certificate, where it is in a file of its own
    ca: str = ""  # PEM file of authorities that count instead of the system's
    pin: str = ""  # SHA-256 of the server's certificate, hexadecimal: it alone is trusted
    timeout: float = 60.0  # seconds without a byte, after which a connection counts as lost
    compress: str = "auto"  # auto, yes, no: what is sent and received, where the server can

    @property
    def host(self) -> str:
        return self.remote.host

    @property
    def port(self) -> int:
        return self.remote.port or (993 if self.remote.ssl else 143)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if not self.tunnel else f"tunnel {self.tunnel}"


class Secrets(Protocol):
    """What a login needs. Each may ask the user, or run a command, once a run; LoginError if it cannot be had."""

    def user(self) -> str: ...
    def password(self) -> str | None:
        """None: there is none, and another way to log in is meant (EXTERNAL, OAuth2)."""

    def token(self, *, fresh: bool = False) -> str | None:
        """An OAuth2 access token. `fresh`: the last one was refused, or is too old. None: not configured."""


def _nobody(text: str) -> None:
    pass


class Tell(NamedTuple):
    """Who is told what a connection does."""

    note: Callable[[str], None] = _nobody  # always: a wait, a certificate that is not verified
    odd: Callable[[str], None] = _nobody  # -vw
    progress: Callable[[str], None] = _nobody  # -v
    wire: Callable[[str], None] | None = None  # -di: each line of the protocol, secrets masked already


QUIET = Tell()
