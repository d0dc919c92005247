"""One way of logging in, carried out on a connection. Knows neither which one to choose nor what a refusal means."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64
from typing import TypeAlias

from ...errors import Lost
from .sasl import Mechanism, SaslError
from .session import HIDDEN, Session
from .tokens import Status, quoted


class LoginCommand:
    """RFC 3501, 6.2.3: older than SASL, and known to every server."""

    name = "LOGIN"

    def __init__(self, user: str, password: str) -> None:
        self.user, self.password = user, password


Way: TypeAlias = Mechanism | LoginCommand


def attempt(session: Session, way: Way) -> Status:
    """How the server took it. SaslError: it breaks the rules, or cannot prove who it is."""
    return _sasl(session, way) if isinstance(way, Mechanism) else _command(session, way)


def _command(session: Session, way: LoginCommand) -> Status:
    """LOGIN, cut where the server must say `+` before a literal: never with LITERAL+ (RFC 7888)."""
    lines = [b"LOGIN"]
    for text in (way.user, way.password):
        raw = text.encode("utf-8", "surrogateescape")
        if raw.isascii() and not re.search(rb"[\r\n]", raw):
            lines[-1] += b" " + quoted(raw)
            if text is way.password:
                session.hide(quoted(raw)[1:-1].decode())
        elif "LITERAL+" in session.capabilities:
            lines[-1] += b" {%d+}\r\n%s" % (len(raw), raw)
        else:
            lines[-1] += b" {%d}" % len(raw)
            lines.append(raw)
    command, *rest = lines

    def go_on(_: bytes) -> bytes:
        if not rest:
            raise Lost("the server wants more of a login that is complete")
        return rest.pop(0)

    return session.ask(command, go_on, b"LOGIN " + HIDDEN)


def _sasl(session: Session, mechanism: Mechanism) -> Status:
    """AUTHENTICATE, in one flight if the server knows SASL-IR (RFC 4959)."""
    command = f"AUTHENTICATE {mechanism.name}".encode()
    initial = mechanism.initial()
    fault: SaslError | None = None

    def answer(challenge: bytes) -> bytes:
        nonlocal initial, fault
        if initial is not None:
            said, initial = initial, None
            return _base64(said)
        try:
            return _base64(mechanism.answer(a2b_base64(challenge)))
        except (SaslError, Error) as err:
            fault = fault or (err if isinstance(err, SaslError) else SaslError("the server's base64 is none"))
            return b"*"

    if initial is not None and "SASL-IR" in session.capabilities:
        line, initial = b"%s %s" % (command, _base64(initial) or b"="), None
        session.hide(line.rpartition(b" ")[2].decode())
        shown = b"%s %s" % (command, HIDDEN)
    else:
        line = shown = command
    try:
        status = session.ask(line, answer, shown)
    finally:
        if fault:  # whatever the server says to it
            raise fault
    if status.ok:
        mechanism.finish()
    return status


def _base64(raw: bytes) -> bytes:
    return b2a_base64(raw, newline=False)
