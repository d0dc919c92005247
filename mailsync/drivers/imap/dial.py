"""From an account to a connection that is logged in. Knows nothing of mailboxes."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import socket
from _thread import start_new_thread  # threading would cost each run a millisecond
from collections.abc import Container, Iterator, Sequence
from dataclasses import replace

from ... import stopping
from ...errors import CertificateError, LoginError, Lost, MailsyncError, StoreError
from .account import QUIET, Account, Secrets, Tell
from .login import LoginCommand, Way, attempt
from .sasl import SCRAM, Anonymous, External, Login, Mechanism, OAuthBearer, Plain, SaslError, XOAuth2
from .session import BUSY_CODES, FINAL_CODES, HASTE, Busy, Client, Link, Session, Untrusted, busy
from .tokens import Status

__all__ = ["Busy", "Client", "dial"]

CONNECT = 30.0  # seconds for one address of a host
_Found = tuple[int, int, int, str, tuple[object, ...]]  # as getaddrinfo has it

KEEPALIVE = (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 20), ("TCP_KEEPCNT", 5))  # seconds, seconds, probes


def dial(account: Account, secrets: Secrets, tell: Tell = QUIET) -> Client:
    """Connect, begin TLS, log in.

    StoreError: the server cannot be reached, or is not one. Busy: later, perhaps. CertificateError: it is not trusted.
    LoginError: it does not take us, or must not be told the password.
    """
    with _faults(account):
        tell.progress(f"connecting to {account}")
        try:
            session = Session(account, _reach(account), tell)
        except Untrusted as err:
            raise _refused_certificate(account, err) from err.fault
        try:
            return _logged_in(session, secrets)
        except BaseException:
            session.close(HASTE)
            raise


# ---- logging in ------------------------------------------------------------------------------------------------------


def _logged_in(session: Session, secrets: Secrets) -> Client:
    if session.preauth:
        session.tell.progress("logged in (PREAUTH)")
        return Client(session, "PREAUTH", session.capabilities)
    user, mechanism = _authenticated(session, secrets)
    # What was told before the login is often less, or something else (Microsoft 365).
    caps = session.told or session.ask_capabilities()
    session.tell.progress(f"logged in as {user} ({mechanism})")
    return Client(session, mechanism, caps)


def _authenticated(session: Session, secrets: Secrets) -> tuple[str, str]:
    """As whom and how. LoginError, Busy."""
    account = session.account
    remote = account.remote
    if remote.anonymous:
        return "anonymous", _by_any(session, "anonymous", [Anonymous("mailsync")])
    _check_private(session)
    if (token := secrets.token()) is not None:
        user = secrets.user()
        session.hide(token)
        return user, _by_token(session, secrets, user, token)
    if (password := secrets.password()) is not None:
        user = secrets.user()
        session.hide(password)
        return user, _by_any(session, user, _password_ways(session, user, password))
    if account.cert:
        user = remote.user or ""
        return user or "the client certificate", _by_any(session, user, [External(user)])
    raise LoginError(f"{account}: no password, token or client certificate to log in with")


def _check_private(session: Session) -> None:
    """LoginError before any secret is even asked for, if it would be sent for all to read."""
    remote = session.account.remote
    proves = remote.secure and f"AUTH={SCRAM}" in session.capabilities
    if session.private or remote.tls == "never" or proves:
        return
    raise LoginError(
        f"{session.account}: the server offers no TLS here, and without it no password is sent",
        "Perhaps it has TLS on a port of its own, as 993: /ssl. If the network is to be trusted: /notls.",
    )


def _password_ways(session: Session, user: str, password: str) -> list[Way]:
    """What the server offers, the simplest first: what most clients use is what works best."""
    account, remote = session.account, session.account.remote
    name, act_as = (remote.authuser, user) if remote.authuser else (user, "")
    if "\0" in name + act_as + password:
        raise LoginError(f"{account}: a name or password with a NUL byte cannot be sent")
    plain: list[Way] = [Plain(name, password, act_as)]
    if not act_as:  # LOGIN cannot tell two names
        plain += LoginCommand(name, password), Login(name, password)
    ways = [way for way in ([] if remote.secure else plain) if _offered(way, session.capabilities)]
    if f"AUTH={SCRAM}" in session.capabilities:
        ways.append(_scram(name, password, act_as))
    return ways


def _scram(name: str, password: str, act_as: str) -> Mechanism:
    from secrets import token_urlsafe  # with hashlib, hmac and random, for a way that comes last

    from .scram import ScramSha256

    return ScramSha256(name, password, token_urlsafe(24), act_as)


def _offered(way: Way, caps: Container[str]) -> bool:
    if isinstance(way, LoginCommand):
        return "LOGINDISABLED" not in caps
    return f"AUTH={way.name}" in caps


def _by_token(session: Session, secrets: Secrets, user: str, token: str) -> str:
    """A token may be revoked, or its lifetime be known wrongly: one fresh one is tried."""
    account = session.account

    def ways(token: str) -> list[Way]:
        bearer = OAuthBearer(user, token, account.host, account.port)
        return [bearer if _offered(bearer, session.capabilities) else XOAuth2(user, token)]

    try:
        return _by_any(session, user, ways(token))
    except LoginError:
        if session.wire.closed or (fresh := secrets.token(fresh=True)) in (None, token):
            raise
    session.hide(fresh)
    return _by_any(session, user, ways(fresh))


def _by_any(session: Session, user: str, ways: Sequence[Way]) -> str:
    """The name of the first way that works. A wrong password is offered once: three times lock an account."""
    account = session.account
    if not ways:
        raise _no_way(session)
    for way in ways:
        try:
            said = attempt(session, way)
        except SaslError as err:
            raise LoginError(f"{account}: {way.name}: {err}") from err
        if said.ok:
            return way.name
        if not _unsupported(said):
            break
    why = str(said)
    if isinstance(way, XOAuth2 | OAuthBearer) and way.error:
        why += f" {session.without_secrets(way.error)}"
    raise _refusal(account, user, said, why[:500])


# ---- what a refusal means --------------------------------------------------------------------------------------------

_UNSUPPORTED = (
    r"(?:unsupported|unknown|unrecogni[sz]ed|invalid|no such|bad) (?:\w+ )?(?:mechanism|method|command)|"
    r"(?:not (?:\w+ )?(?:supported|implemented|available|enabled))"
)


def _unsupported(said: Status) -> bool:
    """True if the way to log in was refused, and not who tried."""
    if said.code in (*FINAL_CODES, *BUSY_CODES):
        return False
    return said.kind == b"BAD" or (said.kind == b"NO" and bool(re.search(_UNSUPPORTED, said.text, re.IGNORECASE)))


def _refusal(account: Account, user: str, said: Status, words: str) -> MailsyncError:
    if later := busy(account, said):
        return later
    if said.kind == b"BYE" and not re.search(r"auth|log.?in|password|credential", said.text, re.IGNORECASE):
        return StoreError(f"{account}: the server closes the connection: {words}")
    from .providers import hint as provider_hint  # only ever needed for an error

    who = f"the login of {user}" if user else "the login"
    hint = "The server wants TLS: /tls or /ssl." if said.code == b"PRIVACYREQUIRED" else ""
    return LoginError(f"{account}: the server refuses {who}: {words}", provider_hint(account.host, words) or hint)


def _no_way(session: Session) -> LoginError:
    account = session.account
    mechanisms = (cap.removeprefix("AUTH=") for cap in session.capabilities if cap.startswith("AUTH="))
    offered = ", ".join(sorted(mechanisms)) or "nothing"
    if account.remote.secure:
        return LoginError(
            f"{account}: no way to log in without sending the password (/secure): the server offers {offered}",
            f"{SCRAM} is known here. Within TLS the others are safe, too, without /secure.",
        )
    if account.remote.authuser:
        return LoginError(f"{account}: no way to log in as one user for another (/authuser): it offers {offered}")
    return LoginError(
        f"{account}: no way to log in that both sides know: the server offers {offered}",
        "Perhaps it offers more with TLS: /tls or /ssl." if not session.tls else "",
    )


# ---- reaching a host -------------------------------------------------------------------------------------------------


def _reach(account: Account) -> Link:
    """CertificateError before anything is sent, if a file that TLS needs cannot be read."""
    if (account.ca or account.cert) and (account.remote.ssl or account.remote.tls != "never"):
        from . import tls  # with ssl, which nobody needs whose server has no TLS

        tls.context(account)
    if account.tunnel:
        from .tunnel import Tunnel  # with subprocess

        tunnel = Tunnel(account.tunnel)
        return Link(tunnel.socket, private=True, tunnel=tunnel)
    sock = _connected(account)
    return Link(sock, private=_is_loopback(sock))


def _connected(account: Account) -> socket.socket:
    """A connection to the first of the host's addresses that answers; OSError as of the last one."""
    fault: OSError | None = None
    seconds = min(CONNECT, account.timeout)
    for family, kind, protocol, _, address in _addresses(account, seconds):
        try:
            sock = _connected_to(address, seconds, socket.socket(family, kind, protocol))
            break
        except OSError as err:
            fault = err
    else:
        raise fault or OSError("the host has no address")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE:
        if option := getattr(socket, name, None):
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
    return sock


def _addresses(account: Account, seconds: float) -> Sequence[_Found]:
    """In a thread that is left to itself if a signal comes, or nothing for so long: nothing else ends that wait."""
    found: list[Sequence[_Found] | Exception] = []
    bell, rope = os.pipe()
    host = account.host.encode() if account.host.isascii() else account.host  # Python takes 2 ms to look for umlauts

    def find() -> None:
        try:
            found.append(socket.getaddrinfo(host, account.port, type=socket.SOCK_STREAM))
        except Exception as err:
            found.append(err)
        finally:
            os.close(rope)

    with open(bell, "rb", buffering=0) as end:
        start_new_thread(find, ())
        if not stopping.poll(end, select.POLLIN, seconds):
            raise StoreError(f"{account}: the name of the host is not found: no answer for {seconds:g} seconds")
    if isinstance(found[0], Exception):
        raise found[0]
    return found[0]


def _connected_to(address: tuple[object, ...], seconds: float, sock: socket.socket) -> socket.socket:
    try:
        sock.setblocking(False)
        code = sock.connect_ex(address)
        if code == errno.EINPROGRESS:
            if not stopping.poll(sock, select.POLLOUT, seconds):
                raise TimeoutError
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


def _is_loopback(sock: socket.socket) -> bool:
    return is_loopback(sock.getpeername()[0])


def is_loopback(address: str) -> bool:
    """As ipaddress tells it, in numbers: RFC 1122, 3.2.1.3; RFC 4291, 2.5.3; and IPv4 mapped to IPv6."""
    address = address.partition("%")[0]
    return address == "::1" or address.removeprefix("::ffff:").startswith("127.")


def _refused_certificate(account: Account, err: Untrusted) -> CertificateError:
    from . import tls  # it is imported already

    return tls.refused(account, err.fault, _certificate_seen(account))


def _certificate_seen(account: Account) -> bytes:
    """What the server shows to those who ask for no proof; empty if it cannot be had.

    A connection of its own, as OpenSSL does not keep a certificate that it refuses.
    """
    believing = replace(account, remote=replace(account.remote, validate=False), ca="", pin="")
    with contextlib.suppress(MailsyncError, OSError):
        session = Session(believing, _reach(believing))
        session.close(HASTE)
        return session.certificate
    return b""


@contextlib.contextmanager
def _faults(account: Account) -> Iterator[None]:
    """Trouble on the way becomes StoreError, in words."""
    try:
        yield
    except Lost as err:
        raise StoreError(f"{account}: {err}") from err
    except TimeoutError as err:
        raise StoreError(f"{account}: no answer for {min(CONNECT, account.timeout):g} seconds", _PORT) from err
    except socket.gaierror as err:
        raise StoreError(f"{account}: the name of the host is not found: {err.strerror}") from err
    except (OSError, UnicodeError) as err:
        why = (err.strerror if isinstance(err, OSError) else None) or str(err)
        raise StoreError(f"{account}: cannot be reached: {why}", _PORT) from err


_PORT = "Is it the right host and port? IMAP is on port 143, with /ssl on 993."
