"""From an account to a connection that is logged in: against scripted servers, real TLS, and Dovecot."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import imaplib
import ipaddress
import os
import re
import shlex
import signal
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from mailsync import stopping
from mailsync.drivers.imap.account import Account, Tell
from mailsync.drivers.imap.dial import Busy, Client, dial, is_loopback
from mailsync.drivers.imap.handed import own_name
from mailsync.drivers.imap.tls import server_name
from mailsync.errors import CertificateError, LoginError, MailsyncError, StoreError
from mailsync.spec import Remote, parse
from mailsync.stopping import Stop, Stopped

from .servers import Login, server
from .servers.dovecot import token

USER, PASSWORD, TOKEN = "tim", "geheim!2", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdm"
REV1 = "IMAP4rev1"


# ---- what is dialled -------------------------------------------------------------------------------------------------


@dataclass
class Known:
    """Secrets that a test knows."""

    name: str = USER
    word: str | None = PASSWORD
    tokens: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def user(self) -> str:
        return self.name

    def password(self) -> str | None:
        self.asked.append("password")
        return self.word

    def token(self, *, fresh: bool = False) -> str | None:
        self.asked.append("fresh token" if fresh else "token")
        return self.tokens[min(fresh, len(self.tokens) - 1)] if self.tokens else None


class Told:
    """All that a connection tells."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.progress: list[str] = []
        self.wire: list[str] = []
        self.tell = Tell(self.notes.append, self.notes.append, self.progress.append, self.wire.append)


def account(port: int, switches: str = "", host: str = "127.0.0.1", **settings: Any) -> Account:
    remote = parse(f"{{{host}:{port}{switches}}}")
    assert isinstance(remote, Remote)
    return Account(remote, **{"timeout": 5.0, **settings})


# ---- a server that says what it is told to ---------------------------------------------------------------------------


class Peer:
    """One connection, seen from the server."""

    def __init__(self, sock: socket.socket, heard: list[str]) -> None:
        self.sock = sock
        self.heard = heard

    def say(self, *lines: str) -> None:
        self.sock.sendall("".join(f"{line}\r\n" for line in lines).encode())

    def line(self) -> str:
        """A line of the client with all its literals; "" at the end."""
        text = b""
        while not text.endswith(b"\n"):
            if not (piece := self.sock.recv(1)):
                return ""
            text += piece
            if found := re.search(rb"\{(\d+)(\+?)\}\r\n\Z", text):
                if not found[2]:
                    self.sock.sendall(b"+ go on\r\n")
                for _ in range(int(found[1])):
                    text += self.sock.recv(1)
        return text.decode(errors="replace").removesuffix("\r\n")

    def serve(self, answers: Mapping[str, Sequence[str]], greeting: str | None) -> None:
        """T stands for the tag; after a line that begins with `+` the client says one."""
        if greeting is not None:
            self.say(greeting)
        while line := self.line():
            tag, _, command = line.partition(" ")
            self.heard.append(command)
            word = next((word for word in answers if command.startswith(word)), "")
            for answer in answers.get(word, ("T BAD unknown",)):
                self.say(re.sub(r"\AT\b", tag.replace("\\", "\\\\"), answer))  # a ClientHello has any bytes
                if answer.startswith("+"):
                    self.heard.append(self.line())


@dataclass
class Running:
    port: int
    heard: list[str]  # without tags


@contextlib.contextmanager
def running(*scripts: Callable[[Peer], None]) -> Iterator[Running]:
    """A server; each connection plays the next script, the last one for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    found = Running(listener.getsockname()[1], [])
    threads: list[threading.Thread] = []

    def play(sock: socket.socket, script: Callable[[Peer], None]) -> None:
        with sock, contextlib.suppress(OSError):
            script(Peer(sock, found.heard))

    def accept() -> None:
        number = 0
        with contextlib.suppress(OSError):
            while True:
                sock, _ = listener.accept()
                thread = threading.Thread(target=play, args=(sock, scripts[min(number, len(scripts) - 1)]), daemon=True)
                thread.start()
                threads.append(thread)
                number += 1

    main = threading.Thread(target=accept, daemon=True)
    main.start()
    try:
        yield found
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        main.join(5)
        for thread in threads:
            thread.join(5)


def answering(
    answers: Mapping[str, Sequence[str]] | None = None, caps: str = REV1, greeting: str | None = "* OK ready"
) -> Callable[[Peer], None]:
    told = {"CAPABILITY": [f"* CAPABILITY {caps}", "T OK done"], "LOGOUT": ["* BYE bye", "T OK done"]}
    return lambda peer: peer.serve(told | dict(answers or {}), greeting)


def dialled(
    script: Callable[[Peer], None], secrets: Known | None = None, switches: str = "", **settings: Any
) -> tuple[Client, list[str]]:
    """A connection to this server, ended again, and what the server heard until the login was done."""
    with running(script) as found:
        client = dial(account(found.port, switches, **settings), secrets or Known())
        heard = list(found.heard)
        client.end()
    return client, heard


def refused(
    script: Callable[[Peer], None], secrets: Known | None = None, switches: str = "", **settings: Any
) -> tuple[MailsyncError, list[str]]:
    """The error that this server brings, and what it heard."""
    with running(script) as found, pytest.raises(MailsyncError) as caught:
        dial(account(found.port, switches, **settings), secrets or Known())
    return caught.value, found.heard


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


LOGIN_OK = {"LOGIN": ["T OK logged in"]}
PLAIN = b64(f"\0{USER}\0{PASSWORD}")


# ---- few flights -----------------------------------------------------------------------------------------------------


def test_plain_server_costs_three_flights() -> None:
    client, heard = dialled(answering(LOGIN_OK))

    assert ["CAPABILITY", f'LOGIN "{USER}" "{PASSWORD}"', "CAPABILITY"] == heard
    assert ("LOGIN", frozenset({"IMAP4REV1"}), "") == (client.mechanism, client.caps, client.tls)


def test_capabilities_of_greeting_and_login_are_not_asked_for() -> None:
    login = {"AUTHENTICATE PLAIN": ["T OK [CAPABILITY IMAP4rev1 move] hello"]}
    client, heard = dialled(answering(login, greeting="* OK [CAPABILITY IMAP4rev1 SASL-IR AUTH=PLAIN] ready"))

    assert [f"AUTHENTICATE PLAIN {PLAIN}"] == heard
    assert ("PLAIN", frozenset({"IMAP4REV1", "MOVE"})) == (client.mechanism, client.caps)


def test_capabilities_told_unasked_before_the_login_is_done_count() -> None:
    client, heard = dialled(answering({"LOGIN": ["* CAPABILITY IMAP4rev1 IDLE", "T OK done"]}))

    assert 2 == len(heard)
    assert {"IMAP4REV1", "IDLE"} == client.caps


def test_imapclient_asks_no_capabilities_again() -> None:
    with running(answering(LOGIN_OK, caps="IMAP4rev1 NAMESPACE")) as found:
        client = dial(account(found.port), Known())
        before = len(found.heard)
        known = client.handed().has_capability("NAMESPACE")
        client.drop()

    assert (True, before) == (known, len(found.heard))


def test_imaplib_and_own_commands_take_turns() -> None:
    with running(answering({**LOGIN_OK, "NOOP": ["T OK done"]})) as found:
        client = dial(account(found.port), Known())
        library = client.handed()
        library.noop()
        tag = client.next_tag()
        client.wire.send(tag + b" NOOP\r\n")
        answer = client.wire.line()
        library.noop()
        client.end()

    assert tag + b" OK done" == answer
    assert client.wire.closed


def test_imaplib_takes_no_answer_to_another_command_for_its_own() -> None:
    with running(answering({**LOGIN_OK, "NOOP": ["T OK done"]})) as found:
        client = dial(account(found.port), Known())
        library = client.handed()
        client.wire.send(client.next_tag() + b" NOOP\r\n")
        with pytest.raises(imaplib.IMAP4.abort, match="unexpected"):
            library.noop()
        client.drop()


def test_packets_of_one_byte_are_lines_all_the_same() -> None:
    def drip(peer: Peer) -> None:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def say(*lines: str) -> None:
            for byte in "".join(f"{line}\r\n" for line in lines).encode():
                peer.sock.sendall(bytes([byte]))

        peer.say = say  # type: ignore[method-assign]
        answering(LOGIN_OK)(peer)

    assert "LOGIN" == dialled(drip)[0].mechanism


def test_odd_but_legal_answers_are_understood() -> None:
    odd = answering({"LOGIN": ["T ok"]}, greeting="* ok [ALERT] disk {5}")
    told = Told()
    with running(odd) as found:
        where = account(found.port)
        client = dial(where, Known(), told.tell)
        client.end()

    assert [f"{where}: disk {{5}}"] == told.notes


def test_nothing_touches_imaplibs_file(monkeypatch: pytest.MonkeyPatch) -> None:
    """Since Python 3.14 it cannot be set, and to read it warns."""
    monkeypatch.setattr(imaplib.IMAP4, "file", property(lambda self: pytest.fail("touched")), raising=False)

    with running(answering({**LOGIN_OK, "NOOP": ["T OK done"]})) as found:
        client = dial(account(found.port), Known())
        client.handed().noop()
        client.end()

    assert "NOOP" in found.heard


def test_keepalive_is_on() -> None:
    with running(answering(LOGIN_OK)) as found:
        client = dial(account(found.port), Known())
        options = [
            client.wire.socket.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            client.wire.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY),
        ]
        client.drop()

    assert all(options)


def test_progress_tells_the_steps() -> None:
    told = Told()
    with running(answering(LOGIN_OK)) as found:
        dial(account(found.port), Known(), told.tell).end()

    assert [f"connecting to 127.0.0.1:{found.port}", f"logged in as {USER} (LOGIN)"] == told.progress


# ---- ways to log in --------------------------------------------------------------------------------------------------


def test_without_sasl_ir_the_server_is_waited_for() -> None:
    _, heard = dialled(answering({"AUTHENTICATE PLAIN": ["+ ", "T OK done"]}, caps=f"{REV1} AUTH=PLAIN"))

    assert ["AUTHENTICATE PLAIN", PLAIN] == heard[1:3]


def test_authuser_logs_in_for_the_user() -> None:
    answers = {"AUTHENTICATE PLAIN": ["T OK done"]}
    _, heard = dialled(answering(answers, caps=f"{REV1} SASL-IR AUTH=PLAIN"), switches="/authuser=admin")

    assert f"AUTHENTICATE PLAIN {b64(f'{USER}{chr(0)}admin{chr(0)}{PASSWORD}')}" == heard[1]


def test_authuser_is_not_told_by_a_command_that_cannot() -> None:
    err, heard = refused(answering(LOGIN_OK), switches="/authuser=admin")

    assert (LoginError, ["CAPABILITY"]) == (type(err), heard)


def test_login_command_is_not_sent_where_it_is_disabled() -> None:
    err, heard = refused(answering(LOGIN_OK, caps=f"{REV1} LOGINDISABLED AUTH=GSSAPI"))

    assert ["CAPABILITY"] == heard
    assert "the server offers GSSAPI" in str(err)


def test_auth_login_is_what_remains() -> None:
    answers = {"AUTHENTICATE LOGIN": [f"+ {b64('Username:')}", f"+ {b64('Password:')}", "T OK done"]}
    client, heard = dialled(answering(answers, caps=f"{REV1} SASL-IR LOGINDISABLED AUTH=LOGIN"))

    assert ["AUTHENTICATE LOGIN", b64(USER), b64(PASSWORD)] == heard[1:4]
    assert "LOGIN" == client.mechanism


@pytest.mark.parametrize(
    ("password", "sent"),
    [
        ('a"b\\c', '"a\\"b\\\\c"'),
        ("", '""'),
        ("50% {3}", '"50% {3}"'),
        ("grüße", "{7}\r\ngrüße"),
        ("a\rb\nc", "{5}\r\na\rb\nc"),
        ("}\r\n{4}\r\nx", "{9}\r\n}\r\n{4}\r\nx"),
    ],
)
def test_login_command_takes_every_password(password: str, sent: str) -> None:
    _, heard = dialled(answering(LOGIN_OK), Known(word=password))

    assert f'LOGIN "{USER}" {sent}' == heard[1]


def test_login_command_with_two_literals() -> None:
    _, heard = dialled(answering(LOGIN_OK), Known("käthe", "grüße"))

    assert "LOGIN {6}\r\nkäthe {7}\r\ngrüße" == heard[1]


def test_literals_do_not_wait_where_they_need_not() -> None:
    _, heard = dialled(answering(LOGIN_OK, caps=f"{REV1} LITERAL+"), Known("käthe", "grüße"))

    assert "LOGIN {6+}\r\nkäthe {7+}\r\ngrüße" == heard[1]


def test_nul_in_a_password_is_told_before_anything_is_sent() -> None:
    err, heard = refused(answering(LOGIN_OK), Known(word="a\0b"))

    assert ("NUL" in str(err), ["CAPABILITY"]) == (True, heard)


def test_wrong_password_is_offered_once() -> None:
    answers = {
        "AUTHENTICATE PLAIN": ["T NO [AUTHENTICATIONFAILED] Invalid credentials"],
        "AUTHENTICATE LOGIN": ["+ ", "+ ", "T OK"],
        **LOGIN_OK,
    }
    err, heard = refused(answering(answers, caps=f"{REV1} SASL-IR AUTH=PLAIN AUTH=LOGIN"))

    assert ["CAPABILITY", f"AUTHENTICATE PLAIN {PLAIN}"] == heard
    assert (LoginError, 7) == (type(err), err.code)
    assert "Invalid credentials" in str(err)


@pytest.mark.parametrize("answer", ["T BAD what?", "T NO unsupported authentication mechanism", "T NO not supported"])
def test_mechanism_that_is_not_there_after_all_is_passed_over(answer: str) -> None:
    client, _ = dialled(answering({"AUTHENTICATE PLAIN": [answer], **LOGIN_OK}, caps=f"{REV1} SASL-IR AUTH=PLAIN"))

    assert "LOGIN" == client.mechanism


def test_refused_password_carries_the_providers_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsync.drivers.imap.providers.hint", lambda host, words: f"{host} said {words}")
    err, _ = refused(answering({"LOGIN": ["T NO [AUTHENTICATIONFAILED] no"]}))

    assert f"the server refuses the login of {USER}: [AUTHENTICATIONFAILED] no" in str(err)
    assert "127.0.0.1 said [AUTHENTICATIONFAILED] no" == err.hint


def test_anonymous_needs_no_secret() -> None:
    known = Known()
    client, heard = dialled(
        answering({"AUTHENTICATE ANONYMOUS": ["T OK"]}, caps=f"{REV1} SASL-IR AUTH=ANONYMOUS"), known, "/anonymous"
    )

    assert ("ANONYMOUS", [], f"AUTHENTICATE ANONYMOUS {b64('mailsync')}") == (client.mechanism, known.asked, heard[1])


def test_no_secret_at_all_is_told() -> None:
    err, _ = refused(answering(LOGIN_OK), Known(word=None))

    assert "no password, token or client certificate" in str(err)


def scram_server(password: str) -> Callable[[Peer], None]:
    """RFC 5802, the other side. LOGIN is offered, too, and must not be used."""

    def authenticate(peer: Peer) -> None:
        def mac(key: bytes, text: bytes) -> bytes:
            return hmac.digest(key, text, "sha256")

        peer.say(f"* OK [CAPABILITY {REV1} AUTH=PLAIN AUTH=SCRAM-SHA-256] hi")
        tag, _, command = peer.line().partition(" ")
        peer.heard.append(command)
        peer.say("+ ")
        bare = base64.b64decode(peer.line()).removeprefix(b"n,,")
        first = b"r=%sxyz,s=%s,i=4096" % (bare.partition(b",r=")[2], base64.b64encode(b"salt"))
        peer.say(f"+ {base64.b64encode(first).decode()}")
        end = base64.b64decode(peer.line()).rpartition(b",p=")[0]
        salted = hashlib.pbkdf2_hmac("sha256", password.encode(), b"salt", 4096)
        proof = mac(mac(salted, b"Server Key"), b",".join((bare, first, end)))
        peer.say(f"+ {base64.b64encode(b'v=' + base64.b64encode(proof)).decode()}")
        if peer.line() == "*":
            peer.say(f"{tag} BAD cancelled")
        else:
            peer.say(f"{tag} OK [CAPABILITY {REV1}] done")
        peer.line()

    return authenticate


def test_secure_sends_no_password() -> None:
    client, heard = dialled(scram_server(PASSWORD), switches="/secure")

    assert ("SCRAM-SHA-256", ["AUTHENTICATE SCRAM-SHA-256"]) == (client.mechanism, heard)


def test_server_that_cannot_prove_itself_is_not_logged_in_to() -> None:
    err, _ = refused(scram_server("another"), switches="/secure")

    assert (LoginError, True) == (type(err), "does not know the password" in str(err))


def test_secure_refuses_a_server_without_scram() -> None:
    err, heard = refused(answering(LOGIN_OK, caps=f"{REV1} AUTH=PLAIN"), switches="/secure")

    assert (LoginError, ["CAPABILITY"]) == (type(err), heard)


@pytest.mark.parametrize("challenge", ["+ %%%", f"+ {b64('more?')}"])
def test_challenge_that_makes_no_sense_is_cancelled(challenge: str) -> None:
    answers = {"AUTHENTICATE PLAIN": [challenge, "T BAD cancelled"], **LOGIN_OK}
    err, heard = refused(answering(answers, caps=f"{REV1} SASL-IR AUTH=PLAIN"))

    assert (LoginError, "*") == (type(err), heard[-1])


# ---- tokens ----------------------------------------------------------------------------------------------------------

XOAUTH2 = b64(f"user={USER}\1auth=Bearer {TOKEN}\1\1")


@pytest.mark.parametrize("caps", [f"{REV1} SASL-IR AUTH=XOAUTH2 AUTH=PLAIN", f"{REV1} SASL-IR AUTH=PLAIN"])
def test_token_goes_before_any_password(caps: str) -> None:
    known = Known(tokens=[TOKEN])
    client, heard = dialled(answering({"AUTHENTICATE XOAUTH2": ["T OK"]}, caps=caps), known)

    assert (f"AUTHENTICATE XOAUTH2 {XOAUTH2}", ["token"]) == (heard[1], known.asked)
    assert "XOAUTH2" == client.mechanism


def test_oauthbearer_is_taken_where_it_is_offered() -> None:
    answers = {"AUTHENTICATE OAUTHBEARER": ["+ ", "T OK"]}
    client, heard = dialled(answering(answers, caps=f"{REV1} AUTH=XOAUTH2 AUTH=OAUTHBEARER"), Known(tokens=[TOKEN]))

    assert "OAUTHBEARER" == client.mechanism
    assert base64.b64decode(heard[2]).startswith(b"n,a=tim,\1host=127.0.0.1\1port=")


def test_refused_token_is_replaced_by_a_fresh_one() -> None:
    fresh = b64(f"user={USER}\1auth=Bearer new\1\1")
    known = Known(tokens=[TOKEN, "new"])
    answers = {f"AUTHENTICATE XOAUTH2 {fresh}": ["T OK"], "AUTHENTICATE XOAUTH2": ["+ e30=", "T NO bad"]}
    client, heard = dialled(answering(answers, caps=f"{REV1} SASL-IR AUTH=XOAUTH2"), known)

    assert ("XOAUTH2", ["token", "fresh token"]) == (client.mechanism, known.asked)
    assert [f"AUTHENTICATE XOAUTH2 {XOAUTH2}", "", f"AUTHENTICATE XOAUTH2 {fresh}"] == heard[1:4]


def test_token_refused_twice_shows_the_servers_reason() -> None:
    reason = '{"status":"401","schemes":"bearer"}'
    answers = {"AUTHENTICATE XOAUTH2": [f"+ {b64(reason)}", "T NO [AUTHENTICATIONFAILED] Invalid"]}
    known = Known(tokens=[TOKEN, "new"])
    err, heard = refused(answering(answers, caps=f"{REV1} SASL-IR AUTH=XOAUTH2"), known)

    assert (LoginError, 2) == (type(err), sum(line.startswith("AUTH") for line in heard))
    assert reason in str(err)
    assert TOKEN not in str(err)


def test_token_that_does_not_change_is_not_sent_twice() -> None:
    known = Known(tokens=[TOKEN])
    _, heard = refused(answering({"AUTHENTICATE": ["T NO bad"]}, caps=f"{REV1} SASL-IR AUTH=XOAUTH2"), known)

    assert 1 == sum(line.startswith("AUTH") for line in heard)


# ---- greetings and other ends ----------------------------------------------------------------------------------------


def test_preauth_needs_no_login() -> None:
    known = Known()
    client, heard = dialled(answering(greeting="* PREAUTH [CAPABILITY IMAP4rev1 UIDPLUS] you are tim"), known)

    assert ("PREAUTH", frozenset({"IMAP4REV1", "UIDPLUS"})) == (client.mechanism, client.caps)
    assert ([], []) == (heard, known.asked)


def test_preauth_before_tls_is_refused_where_tls_is_required() -> None:
    """RFC 9051, 11.1: after PREAUTH there is no STARTTLS."""
    err, _ = refused(answering(greeting="* PREAUTH hi"), switches="/tls")

    assert (StoreError, True) == (type(err), "before TLS" in str(err))


@pytest.mark.parametrize(
    "greeting",
    [
        "* BYE Too many connections",
        "* BYE [UNAVAILABLE] down",
        "* BYE [ALERT] Maximum number of connections from user+IP exceeded",
    ],
)
def test_server_that_is_full_may_be_tried_again(greeting: str) -> None:
    err, _ = refused(answering(greeting=greeting))

    assert (Busy, 6) == (type(err), err.code)


def test_goodbye_instead_of_a_greeting_is_told() -> None:
    err, _ = refused(answering(greeting="* BYE your address is not welcome"))

    assert (StoreError, True) == (type(err), "your address is not welcome" in str(err))


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        ("T NO [INUSE] mailbox is locked by POP", None),
        ("T NO [LIMIT] Maximum number of connections exceeded", None),
        ("T NO [ALERT] Too many simultaneous connections. (Failure)", None),
        ("T NO [UNAVAILABLE] Temporary authentication failure", None),
        ("T BAD Request is throttled. Suggested Backoff Time: 291338 milliseconds", 291.338),
    ],
)
def test_login_that_is_only_put_off_may_be_tried_again(answer: str, wait: float | None) -> None:
    err, _ = refused(answering({"LOGIN": [answer]}))

    assert isinstance(err, Busy)
    assert wait == err.wait


@pytest.mark.parametrize(
    "answer",
    [
        "T NO Too many failed logins",
        "T NO too many login attempts, try again later",
        "T NO [AUTHENTICATIONFAILED] wrong, try again later",
        "T NO account temporarily locked",
    ],
)
def test_account_that_has_had_enough_is_not_tried_again(answer: str) -> None:
    assert LoginError is type(refused(answering({"LOGIN": [answer]}))[0])


def test_goodbye_instead_of_an_answer_is_told() -> None:
    err, _ = refused(answering({"LOGIN": ["* BYE Internal error"]}))

    assert (StoreError, True) == (type(err), "Internal error" in str(err))


def test_port_where_nobody_listens_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(StoreError, match=f"127.0.0.1:{port}: cannot be reached: Connection refused") as caught:
        dial(account(port), Known())

    assert "993" in caught.value.hint


@pytest.mark.parametrize("host", ["no-such-host.invalid", "a..b"])
def test_host_that_does_not_exist_is_told(host: str) -> None:
    with pytest.raises(StoreError, match=host):
        dial(account(143, host=host), Known())


def test_silent_nameserver_is_waited_for_no_longer_than_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(60))
    with pytest.raises(StoreError, match=r"the name of the host is not found: no answer for 0\.1 seconds"):
        dial(account(143, host="slow", timeout=0.1), Known())
    over.set()


def test_signal_ends_the_wait_for_a_nameserver(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has no handler run before the system's own function returns: after half a minute, perhaps."""
    over, stop = threading.Event(), Stop()

    def ask(*_: object, **__: object) -> None:
        stop.now(signal.SIGINT)
        over.wait(60)

    monkeypatch.setattr(socket, "getaddrinfo", ask)
    with stopping.stopped_by(stop), pytest.raises(Stopped):
        dial(account(143, host="slow"), Known())
    over.set()
    stop.close()


def test_all_addresses_of_a_host_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    with running(answering(LOGIN_OK)) as found:
        both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, found.port)) for host in ("127.0.0.9", "127.0.0.1")]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **kwargs: both)
        client = dial(account(found.port, host="two-addresses"), Known())
        peer = client.wire.socket.getpeername()[0]
        client.end()

    assert "127.0.0.1" == peer


def test_end_before_the_greeting_is_told() -> None:
    err, _ = refused(lambda peer: None)

    assert (StoreError, True, True) == (type(err), "no greeting" in str(err), "/ssl" in err.hint)


def test_silence_instead_of_a_greeting_is_told() -> None:
    err, _ = refused(answering(greeting=None), timeout=0.2)

    assert (StoreError, True, True) == (type(err), "0.2 seconds" in str(err), "/ssl" in err.hint)


@pytest.mark.parametrize("greeting", ["+OK POP3 ready", "HTTP/1.1 400 Bad Request", "220 mail ESMTP", "* HELLO", ""])
def test_another_protocol_is_told(greeting: str) -> None:
    err, _ = refused(answering(greeting=greeting))

    assert StoreError is type(err)
    assert re.search("not an IMAP server|does not speak IMAP", str(err))


def test_server_without_imap4rev1_is_told() -> None:
    assert StoreError is type(refused(answering(caps="IMAP2"))[0])


def test_end_in_the_middle_of_the_login_is_told() -> None:
    def hang_up(peer: Peer) -> None:
        peer.say("* OK hi")
        peer.line()

    err, _ = refused(hang_up)

    assert (StoreError, True) == (type(err), "the server closed it" in str(err))


def test_silence_in_the_middle_of_the_login_is_told() -> None:
    err, _ = refused(answering({"LOGIN": []}), timeout=0.2)

    assert (StoreError, True) == (type(err), "0.2 seconds" in str(err))


def test_logout_that_is_not_answered_does_no_harm() -> None:
    with running(answering({**LOGIN_OK, "LOGOUT": []})) as found:
        client = dial(account(found.port, timeout=0.3), Known())
        client.end()
        client.end()
        client.drop()

    assert "LOGOUT" == found.heard[-1]


def test_connection_that_is_dropped_says_nothing() -> None:
    with running(answering(LOGIN_OK)) as found:
        dial(account(found.port), Known()).drop()

    assert "LOGOUT" not in found.heard


# ---- what -di shows --------------------------------------------------------------------------------------------------

SASL_SCRIPTS: Sequence[tuple[Callable[[Peer], None], Known, str]] = [
    (answering({"AUTHENTICATE": ["+ ", "T OK"]}, caps=f"{REV1} AUTH=PLAIN"), Known(), ""),
    (answering({"AUTHENTICATE": ["T OK"]}, caps=f"{REV1} SASL-IR AUTH=PLAIN"), Known(), ""),
    (answering({"AUTHENTICATE": ["T OK"]}, caps=f"{REV1} SASL-IR AUTH=PLAIN"), Known(), "/authuser=a"),
    (answering({"AUTHENTICATE": ["+ ", "+ ", "T OK"]}, caps=f"{REV1} LOGINDISABLED AUTH=LOGIN"), Known(), ""),
    (answering(LOGIN_OK), Known(), ""),
    (answering(LOGIN_OK), Known(word=f"ü{PASSWORD}"), ""),
    (answering(LOGIN_OK, caps=f"{REV1} LITERAL+"), Known(word=f"ü{PASSWORD}"), ""),
    (answering({"AUTHENTICATE": ["+ ", "T OK"]}), Known(tokens=[TOKEN]), ""),
    (answering({"AUTHENTICATE": ["+ e30=", "T NO"]}, caps=f"{REV1} SASL-IR"), Known(tokens=[TOKEN, f"{TOKEN}2"]), ""),
    (answering({"AUTHENTICATE": ["T OK"]}, caps=f"{REV1} SASL-IR AUTH=OAUTHBEARER"), Known(tokens=[TOKEN]), ""),
    (answering({"AUTHENTICATE": ["+ ", "T OK"]}, caps=f"{REV1} AUTH=OAUTHBEARER"), Known(tokens=[TOKEN]), ""),
    (scram_server(PASSWORD), Known(), "/secure"),
]


@pytest.mark.parametrize(("script", "secrets", "switches"), SASL_SCRIPTS)
def test_log_of_a_login_holds_no_secret(
    script: Callable[[Peer], None], secrets: Known, switches: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    told = Told()
    with running(script) as found, contextlib.suppress(LoginError):
        dial(account(found.port, switches), secrets, told.tell).end()
    log = "\n".join((*told.wire, *told.notes, *told.progress, caplog.text))

    assert any(line.startswith("S: * OK") for line in told.wire)
    assert any("***" in line for line in told.wire)
    assert [] == [form for secret in (PASSWORD, TOKEN) for form in forms(secret) if form in log]


def forms(secret: str) -> list[str]:
    """As it is, and what base64 makes of it behind no, one, or two other bytes."""
    found = [secret]
    for before in range(3):
        coded = base64.b64encode(b"\0" * before + secret.encode()).decode()
        found.append(coded[4 if before else 0 :][: len(secret)])
    return found


def test_log_shows_each_line_of_both_sides() -> None:
    told = Told()
    with running(answering(LOGIN_OK)) as found:
        dial(account(found.port), Known(), told.tell).end()
    shown = [re.sub(r"\A(..) [Q-Z]{4}\d+ ", r"\1 T ", line) for line in told.wire]

    assert [
        "S: * OK ready",
        "C: T CAPABILITY",
        "S: * CAPABILITY IMAP4rev1",
        "S: T OK done",
        "C: T LOGIN ***",
        "S: T OK logged in",
        "C: T CAPABILITY",
        "S: * CAPABILITY IMAP4rev1",
        "S: T OK done",
        "C: T LOGOUT",
        "S: * BYE bye",
    ] == shown[:11]


# ---- TLS -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Papers:
    """A certificate and its key, PEM."""

    cert: Path
    key: Path

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(ssl.PEM_cert_to_DER_cert(self.cert.read_text())).hexdigest()

    def accept(self, sock: socket.socket, ca: Path | None = None) -> ssl.SSLSocket:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        if ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(ca)
        return context.wrap_socket(sock, server_side=True)


class Authority:
    """Signs with what Python asks for since 3.13 (VERIFY_X509_STRICT)."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.self_signed = self._made("self", "localhost", "DNS:localhost,IP:127.0.0.1")
        usage = "keyUsage=critical,keyCertSign,cRLSign"
        self.papers = self._made("ca", "Test Authority", extensions=["basicConstraints=critical,CA:TRUE", usage])
        self.good = self.signed("good", "DNS:localhost,IP:127.0.0.1")
        self.other_name = self.signed("other", "DNS:mail.example.org,DNS:*.example.net,IP:192.0.2.1")
        self.expired = self.signed("expired", "DNS:localhost,IP:127.0.0.1", "20200101000000Z", "20210101000000Z")
        self.user = self.signed("user", "email:tim@localhost")

    def signed(self, name: str, names: str, start: str = "20240101000000Z", end: str = "20490101000000Z") -> Papers:
        """`openssl ca` is what lets one choose the dates."""
        request, extensions = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        cert, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        configuration, place = self.directory / "ca.conf", self.directory
        extensions.write_text(f"subjectAltName={names}\nauthorityKeyIdentifier=keyid\n")
        configuration.write_text(
            f"[ca]\ndefault_ca=it\n[it]\ndatabase={place}/index\nserial={place}/serial\nnew_certs_dir={place}\n"
            "default_md=sha256\npolicy=any\nunique_subject=no\n[any]\ncommonName=supplied\n"
        )
        (place / "index").write_text("")
        (place / "serial").write_text("01\n")
        openssl("req", "-new", *NEW_KEY, key, "-subj", f"/CN={name}", "-out", request)
        dates = ("-startdate", start, "-enddate", end)
        issuer = ("-cert", self.papers.cert, "-keyfile", self.papers.key)
        openssl(
            *("ca", "-batch", "-config", configuration, *issuer, "-in", request, "-out", cert),
            *("-notext", "-extfile", extensions, *dates),
        )
        return Papers(cert, key)

    def _made(self, name: str, who: str, names: str = "", extensions: Sequence[str] = ()) -> Papers:
        papers = Papers(self.directory / f"{name}.pem", self.directory / f"{name}.key")
        added = [*extensions, *([f"subjectAltName={names}"] if names else [])]
        options = [option for text in added for option in ("-addext", text)]
        openssl("req", "-x509", *NEW_KEY, papers.key, "-subj", f"/CN={who}", *options, "-out", papers.cert)
        return papers


NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout")


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *arguments], check=True, capture_output=True)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def within_tls(papers: Papers, script: Callable[[Peer], None] | None = None, ca: Path | None = None) -> Any:
    """A server on a port that is all TLS."""

    def begin(peer: Peer) -> None:
        with contextlib.suppress(ssl.SSLError), papers.accept(peer.sock, ca) as peer.sock:
            (script or answering(LOGIN_OK))(peer)

    return begin


def upgrading(
    papers: Papers,
    before: str = f"{REV1} STARTTLS LOGINDISABLED AUTH=EVIL",
    injected: str = "",
    answer: str = "T OK begin",
) -> Callable[[Peer], None]:
    """A server that is greeted in plain text."""

    def begin(peer: Peer) -> None:
        peer.say(f"* OK [CAPABILITY {before}] hi")
        tag, _, command = peer.line().partition(" ")
        peer.heard.append(command)
        peer.say(answer.replace("T", tag, 1) + injected)
        if command == "STARTTLS" and " OK " in answer:
            with contextlib.suppress(ssl.SSLError), papers.accept(peer.sock) as peer.sock:
                answering(LOGIN_OK, greeting=None)(peer)

    return begin


def test_tls_from_the_first_byte_is_verified(authority: Authority) -> None:
    told = Told()
    with running(within_tls(authority.good)) as found:
        client = dial(account(found.port, "/ssl", ca=str(authority.papers.cert)), Known(), told.tell)
        client.end()

    assert (client.tls, []) == (told.progress[1], told.notes)
    assert client.tls in ("TLSv1.2", "TLSv1.3")


def test_starttls_is_used_where_it_is_offered_and_what_was_told_before_is_forgotten(authority: Authority) -> None:
    client, heard = dialled(upgrading(authority.good), ca=str(authority.papers.cert))

    assert ["STARTTLS", "CAPABILITY", f'LOGIN "{USER}" "{PASSWORD}"', "CAPABILITY"] == heard
    assert (True, frozenset({"IMAP4REV1"})) == (client.tls.startswith("TLS"), client.caps)


def test_starttls_is_never_used_with_notls() -> None:
    client, heard = dialled(answering(LOGIN_OK, caps=f"{REV1} STARTTLS"), switches="/notls")

    assert ("", False) == (client.tls, "STARTTLS" in heard)


def test_starttls_that_is_required_and_not_offered_ends_it() -> None:
    err, heard = refused(answering(LOGIN_OK), switches="/tls")

    assert (StoreError, ["CAPABILITY"], True) == (type(err), heard, "/ssl" in err.hint)


def test_starttls_that_is_offered_and_refused_ends_it(authority: Authority) -> None:
    err, heard = refused(upgrading(authority.good, answer="T NO not today"))

    assert (StoreError, ["STARTTLS"], True) == (type(err), heard, "not today" in str(err))


def test_commands_injected_before_tls_are_refused(authority: Authority) -> None:
    """CVE-2011-0411."""
    err, heard = refused(upgrading(authority.good, injected="\r\n* CAPABILITY IMAP4rev1 AUTH=PLAIN"))

    assert (StoreError, ["STARTTLS"]) == (type(err), heard)
    assert "between STARTTLS and TLS" in str(err)


@pytest.mark.parametrize("begin", [within_tls, upgrading])
@pytest.mark.parametrize(
    ("which", "why"),
    [
        ("self_signed", "it is self-signed"),
        ("good", "an authority that this machine does not know"),
        ("expired", "it has expired"),
        ("other_name", r"it is for mail.example.org, \*.example.net, 192.0.2.1, not for 127.0.0.1"),
    ],
)
def test_certificate_that_is_not_trusted_is_explained(authority: Authority, begin: Any, which: str, why: str) -> None:
    papers: Papers = getattr(authority, which)
    ca = "" if why.startswith("an authority") else str(authority.papers.cert)
    err, heard = refused(begin(papers), switches="/ssl" if begin is within_tls else "/tls", ca=ca)

    assert (CertificateError, 9) == (type(err), err.code)
    assert re.search(f"127.0.0.1:.*{why}", str(err))
    assert f"pin {papers.fingerprint}" in err.hint
    assert not [line for line in heard if "LOGIN" in line or "AUTH" in line]


def test_name_of_a_host_is_compared(authority: Authority) -> None:
    with running(within_tls(authority.other_name)) as found:
        where = account(found.port, "/ssl", "localhost", ca=str(authority.papers.cert))
        with pytest.raises(CertificateError, match=r"it is for mail\.example\.org, .*, not for localhost"):
            dial(where, Known())


@pytest.mark.parametrize(
    ("host", "name"),
    [("mail.example.org.", "mail.example.org"), ("fe80::1%eth0", "fe80::1"), ("localhost", "localhost")],
)
def test_host_is_compared_as_it_stands_in_a_certificate(host: str, name: str) -> None:
    assert name == server_name(host)


@pytest.mark.parametrize("begin", [within_tls, upgrading])
def test_pinned_certificate_needs_no_authority(authority: Authority, begin: Any) -> None:
    papers = authority.self_signed
    pin = ":".join(papers.fingerprint.upper()[at : at + 2] for at in range(0, 64, 2))
    told = Told()
    with running(begin(papers)) as found:
        client = dial(account(found.port, "/ssl" if begin is within_tls else "/tls", pin=pin), Known(), told.tell)
        client.end()

    assert ("LOGIN", []) == (client.mechanism, told.notes)


@pytest.mark.parametrize("pin", ["00" * 32, "", "kä"])
def test_certificate_that_is_not_the_pinned_one_is_refused_before_a_secret_is_sent(
    authority: Authority, pin: str
) -> None:
    known = Known()
    err, heard = refused(within_tls(authority.good), known, "/ssl", pin=pin or "0")

    assert (CertificateError, [], []) == (type(err), heard, known.asked)
    assert f"pin {authority.good.fingerprint}" in err.hint


def test_pin_holds_with_novalidate_cert_too(authority: Authority) -> None:
    assert CertificateError is type(refused(within_tls(authority.good), None, "/ssl/novalidate-cert", pin="0")[0])


def test_certificate_that_is_not_verified_is_told_each_time(authority: Authority) -> None:
    told = Told()
    with running(within_tls(authority.self_signed)) as found:
        where = account(found.port, "/ssl/novalidate-cert")
        for _ in range(2):
            dial(where, Known(), told.tell).end()

    assert [f"{where}: the certificate of the server is not verified (/novalidate-cert)"] * 2 == told.notes


def test_client_certificate_logs_in_where_there_is_no_password(authority: Authority) -> None:
    script = answering({"AUTHENTICATE EXTERNAL": ["T OK"]}, caps=f"{REV1} SASL-IR AUTH=EXTERNAL")
    with running(within_tls(authority.good, script, authority.papers.cert)) as found:
        papers, ca = authority.user, str(authority.papers.cert)
        where = account(found.port, "/ssl", ca=ca, cert=str(papers.cert), key=str(papers.key))
        client = dial(where, Known(word=None))
        client.end()

    assert ("EXTERNAL", "AUTHENTICATE EXTERNAL =") == (client.mechanism, found.heard[1])


def test_client_certificate_that_is_missing_ends_it(authority: Authority) -> None:
    err, _ = refused(within_tls(authority.good, ca=authority.papers.cert), None, "/ssl", ca=str(authority.papers.cert))

    assert StoreError is type(err)


@pytest.mark.parametrize("setting", ["ca", "cert"])
def test_file_that_is_no_pem_is_named(tmp_path: Path, setting: str) -> None:
    (tmp_path / "bad.pem").write_text("no certificate\n")
    (tmp_path / "bad.pem").chmod(0o600)
    for name, why in (("bad.pem", "PEM"), ("missing.pem", "No such file")):
        err, _ = refused(answering(LOGIN_OK), None, "/ssl", **{setting: str(tmp_path / name)})

        assert (CertificateError, True, True) == (type(err), name in str(err), why in str(err))


def test_tls_on_a_port_of_plain_text_is_told() -> None:
    err, _ = refused(answering(LOGIN_OK), None, "/ssl")

    assert (StoreError, True, True) == (type(err), "plain text" in str(err), "143" in err.hint)


def test_plain_text_on_a_port_of_tls_is_told(authority: Authority) -> None:
    err, _ = refused(within_tls(authority.good), timeout=0.3)

    assert (StoreError, True) == (type(err), "/ssl" in err.hint)


# ---- who may listen --------------------------------------------------------------------------------------------------


@pytest.fixture
def abroad(monkeypatch: pytest.MonkeyPatch) -> None:
    """127.0.0.1 counts as anywhere."""
    monkeypatch.setattr("mailsync.drivers.imap.dial._is_loopback", lambda sock: False)


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.255.255.255", "128.0.0.1", "12.7.0.1", "1.127.0.0", "192.0.2.127", "::1", "::", "::2",
        "::1:1", "::ffff:127.0.0.1", "::ffff:127.9.9.9", "::ffff:128.0.0.1", "::127.0.0.1", "fe80::1", "127::1",
    ],
)  # fmt: skip
def test_who_is_on_this_machine_is_known_by_the_address(address: str) -> None:
    known = ipaddress.ip_address(address)
    expected = (getattr(known, "ipv4_mapped", None) or known).is_loopback

    assert [expected, expected] == [is_loopback(address), is_loopback(f"{address}%eth0")]


@pytest.mark.usefixtures("abroad")
def test_password_is_not_sent_for_all_to_read() -> None:
    known = Known()
    err, heard = refused(answering(LOGIN_OK), known)

    assert (LoginError, ["CAPABILITY"], []) == (type(err), heard, known.asked)
    assert "/notls" in err.hint


@pytest.mark.usefixtures("abroad")
def test_password_is_sent_for_all_to_read_if_the_user_says_so() -> None:
    assert "LOGIN" == dialled(answering(LOGIN_OK), switches="/notls")[0].mechanism


@pytest.mark.usefixtures("abroad")
def test_password_that_is_only_proved_needs_no_tls() -> None:
    assert "SCRAM-SHA-256" == dialled(scram_server(PASSWORD), switches="/secure")[0].mechanism


@pytest.mark.usefixtures("abroad")
def test_preauth_from_anybody_is_refused() -> None:
    assert StoreError is type(refused(answering(greeting="* PREAUTH hi"))[0])


# ---- tunnels ---------------------------------------------------------------------------------------------------------

IMAP_OF_ONE_LINE = (
    "import sys, time\n"
    "print('* PREAUTH [CAPABILITY IMAP4rev1] hi', end='\\r\\n', flush=True)\n"
    "for line in sys.stdin:\n"
    "    tag = line.split()[0]\n"
    "    print('* BYE bye\\r\\n' * ('LOGOUT' in line) + tag + ' OK done', end='\\r\\n', flush=True)\n"
    "    if 'LOGOUT' in line: break\n"
)


def through(command: str, switches: str = "", secrets: Known | None = None, tell: Tell | None = None) -> Client:
    return dial(account(1, switches, tunnel=command, timeout=5.0), secrets or Known(), *([tell] if tell else []))


@pytest.fixture
def imap(tmp_path: Path) -> str:
    """A command that is a server, and writes its pid to `pid`."""
    script = tmp_path / "server.py"
    pid = f"import os; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
    script.write_text(pid + IMAP_OF_ONE_LINE)
    return f"{shlex.quote(sys.executable)} {shlex.quote(str(script))}"


def is_running(directory: Path) -> bool:
    return Path(f"/proc/{(directory / 'pid').read_text()}").exists()


@pytest.mark.parametrize("end", [Client.end, Client.drop])
def test_tunnel_is_gone_when_its_connection_is(tmp_path: Path, imap: str, end: Callable[[Client], None]) -> None:
    client = through(imap)
    before = is_running(tmp_path)
    end(client)

    assert ("PREAUTH", True, False) == (client.mechanism, before, is_running(tmp_path))


def test_tunnel_may_be_written_for_a_shell(tmp_path: Path, imap: str) -> None:
    client = through(f"cd / && exec {imap}")
    client.end()

    assert not is_running(tmp_path)


def test_tunnel_that_does_not_want_to_end_is_killed(tmp_path: Path, imap: str) -> None:
    script = tmp_path / "server.py"
    stubborn = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    script.write_text(stubborn + script.read_text() + "time.sleep(60)\n")
    client = through(imap)
    client.drop()

    assert not is_running(tmp_path)


@pytest.mark.parametrize(
    ("command", "why"),
    [
        ("sh -c 'exit 3'", "exit code 3"),
        ("kill -9 $$", "signal 9"),
        ("/no/such/command", "No such file"),
        ("imap 'without end", "No closing quotation"),
        ("no-such-command | cat >&2; exit 127", "exit code 127"),
    ],
)
def test_tunnel_that_comes_to_nothing_is_told(command: str, why: str) -> None:
    with pytest.raises(StoreError, match=why) as caught:
        through(command)

    assert command in caught.value.hint


def test_tunnel_without_preauth_logs_in(tmp_path: Path, imap: str) -> None:
    """It is private: no TLS is needed, nor begun unasked."""
    script = tmp_path / "server.py"
    script.write_text(
        script.read_text().replace("PREAUTH [CAPABILITY IMAP4rev1]", "OK [CAPABILITY IMAP4rev1 STARTTLS]")
    )
    script.write_text(script.read_text().replace("' OK done'", "' OK [CAPABILITY IMAP4rev1 X] done'"))
    client = through(imap)
    client.end()

    assert ("LOGIN", "", frozenset({"IMAP4REV1", "X"})) == (client.mechanism, client.tls, client.caps)


def test_tunnel_may_carry_tls(authority: Authority) -> None:
    """As `nc host 993` does."""
    with running(within_tls(authority.good)) as found:
        pipe = (
            "import socket, sys, os, threading; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
            "threading.Thread(target=lambda: [s.sendall(x) for x in iter(lambda: os.read(0, 9999), b'')], daemon=True)"
            ".start(); [os.write(1, x) for x in iter(lambda: s.recv(9999), b'')]"
        )
        command = shlex.join([sys.executable, "-c", pipe, str(found.port)])
        where = account(found.port, "/ssl", "localhost", tunnel=command, ca=str(authority.papers.cert))
        client = dial(where, Known())
        client.end()

    assert ("LOGIN", True) == (client.mechanism, client.tls.startswith("TLS"))


# ---- Dovecot ---------------------------------------------------------------------------------------------------------


def at_dovecot(switches: str = "", name: str = "dovecot", **settings: Any) -> tuple[Account, Known]:
    found = server(name)
    login = found.new_login()
    port = found.tls_port if "/ssl" in switches else found.port
    where = account(port, switches, found.host, ca=str(found.certificate), **settings)
    return where, Known(login.user, login.password)


@pytest.mark.parametrize(
    ("switches", "encrypted"), [("", True), ("/tls", True), ("/ssl", True), ("/notls", False)], ids=str
)
def test_dovecot_is_logged_in_to(switches: str, encrypted: bool) -> None:
    where, known = at_dovecot(switches)
    client = dial(where, known)
    client.wire.send(client.next_tag() + b" NAMESPACE\r\n")
    answer = client.wire.line()
    client.wire.line()
    listed = client.handed().has_capability("UIDPLUS")
    client.end()

    assert ("PLAIN", encrypted, True) == (client.mechanism, client.tls.startswith("TLS"), listed)
    assert answer.startswith(b"* NAMESPACE ")
    assert "MULTIAPPEND" in client.caps


@pytest.mark.parametrize("switches", ["/ssl", "/notls"])
def test_dovecot_tells_its_name_and_goes_on(switches: str) -> None:
    where, known = at_dovecot(switches)
    client = dial(where, known)
    name = own_name(client)
    client.wire.send(client.next_tag() + b" NOOP\r\n")
    answer = client.wire.line()
    client.end()

    assert ("Dovecot", True) == (name.partition(" ")[0], b" OK " in answer)


def test_dovecot_refuses_a_wrong_password() -> None:
    where, known = at_dovecot()
    with pytest.raises(LoginError, match="AUTHENTICATIONFAILED"):
        dial(where, replace(known, word="wrong"))


def test_dovecot_that_wants_tls_gets_no_password_without() -> None:
    where, known = at_dovecot("/notls", "dovecot-tls-only")
    with pytest.raises(LoginError) as caught:
        dial(where, known)

    assert "/tls" in caught.value.hint


@pytest.mark.parametrize(("offered", "mechanism"), [(True, "OAUTHBEARER"), (False, "XOAUTH2")])
def test_dovecot_takes_a_token(monkeypatch: pytest.MonkeyPatch, offered: bool, mechanism: str) -> None:
    monkeypatch.setattr("mailsync.drivers.imap.dial._offered", lambda way, caps: offered)
    where, known = at_dovecot("", "dovecot-oauth")
    known.tokens = ["nonsense", token(Login(known.name, ""))]
    client = dial(where, known)
    client.end()

    assert (mechanism, ["token", "fresh token"]) == (client.mechanism, known.asked)


def test_dovecot_refuses_an_expired_token() -> None:
    where, known = at_dovecot("", "dovecot-oauth")
    known.tokens = [token(Login(known.name, ""), -10)]
    with pytest.raises(LoginError, match="invalid_token"):
        dial(where, known)


def test_dovecot_speaks_through_a_tunnel(tmp_path: Path) -> None:
    """Its `imap` takes no socket as root, and no user without a home."""
    found = server("dovecot")
    login = found.new_login()
    home, configuration = found.directory_of(login), found.directory / "tunnel.conf"
    configuration.write_text(
        "mail_location = maildir:~/Maildir\nlog_path = /dev/stderr\nssl = no\nstats_writer_socket_path =\n"
        "namespace inbox {\n  inbox = yes\n}\n"
    )
    configuration.chmod(0o644)
    owner = os.stat(home)
    as_user = f"setpriv --reuid {owner.st_uid} --regid {owner.st_gid} --clear-groups" if not os.geteuid() else ""
    command = f"{as_user} env -i HOME={home} USER={login.user} /usr/lib/dovecot/imap -c {configuration}"
    client = through(command)
    box = client.handed().select_folder("INBOX")
    client.end()

    assert ("PREAUTH", 0) == (client.mechanism, box[b"EXISTS"])
