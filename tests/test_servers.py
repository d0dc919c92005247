"""The servers that tests run against are there, and are what their names say."""

from __future__ import annotations

import imaplib
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .servers import NAMES, Login, Server, dovecot, matrix, server

MESSAGE = b"From: a@x\r\nSubject: x\r\nDate: Mon, 1 Jan 2024 00:00:00 +0000\r\n\r\nhi\r\n"
OPEN = tuple(name for name in NAMES if name != "dovecot-tls-only")
EXTENSIONS = (
    "UIDPLUS", "MOVE", "CONDSTORE", "QRESYNC", "LITERAL+", "MULTIAPPEND", "LIST-STATUS", "SPECIAL-USE", "IDLE",
    "NOTIFY", "COMPRESS=DEFLATE", "UTF8=ACCEPT", "ESEARCH", "NAMESPACE", "UNSELECT", "ID", "QUOTA", "OBJECTID",
)  # fmt: skip


def logged_in(instance: Server, login: Login | None = None) -> imaplib.IMAP4:
    login = login or instance.new_login()
    client = imaplib.IMAP4_SSL("localhost", instance.tls_port, ssl_context=trusting(instance))
    client.login(login.user, login.password)
    return client


def trusting(instance: Server) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=instance.certificate)


@pytest.mark.parametrize("name", NAMES)
def test_new_account_is_empty_and_takes_mail(name: str) -> None:
    instance = server(name)

    with logged_in(instance) as client:
        assert ("OK", [b"0"]) == client.select()
        box = instance.prefix + "a" + instance.delimiter + "b"
        assert "OK" == client.create(box)[0]
        assert "OK" == client.append(box, "", "", MESSAGE)[0]
        assert ("OK", [b"1"]) == client.select(box)


@pytest.mark.parametrize("name", NAMES)
def test_logins_of_one_server_see_nothing_of_each_other(name: str) -> None:
    instance = server(name)
    with logged_in(instance) as client:
        client.create(instance.prefix + "mine")

    with logged_in(instance) as other:
        assert b"mine" not in b"".join(line for line in other.list()[1] if isinstance(line, bytes))


@pytest.mark.parametrize("name", NAMES)
def test_namespace_is_the_one_that_is_told(name: str) -> None:
    instance = server(name)

    with logged_in(instance) as client:
        assert client.namespace()[1][0].startswith(f'(("{instance.prefix}" "{instance.delimiter}"))'.encode())


@pytest.mark.parametrize("name", NAMES)
def test_certificate_is_good_after_starttls(name: str) -> None:
    instance = server(name)

    with imaplib.IMAP4(instance.host, instance.port) as client:
        assert "OK" == client.starttls(trusting(instance))[0]


@pytest.mark.parametrize("name", OPEN)
def test_password_is_taken_without_tls(name: str) -> None:
    instance = server(name)
    login = instance.new_login()

    with imaplib.IMAP4(instance.host, instance.port) as client:
        assert "OK" == client.login(login.user, login.password)[0]


@pytest.mark.parametrize("name", ["dovecot", "cyrus", "imap4d"])  # Courier lets a client wait for five seconds
def test_wrong_password_is_not_taken(name: str) -> None:
    instance = server(name)

    with imaplib.IMAP4(instance.host, instance.port) as client, pytest.raises(imaplib.IMAP4.error):
        client.login(instance.new_login().user, "wrong")


@pytest.mark.parametrize("name", NAMES)
def test_extensions_go_into_the_matrix(name: str) -> None:
    with logged_in(server(name)) as client:
        offered = client.capability()[1][-1].decode().split()

    for extension in EXTENSIONS:
        matrix.record(f"offers {extension}", name, "yes" if extension in offered else "")
    assert "IMAP4rev1" in offered


def test_bare_server_offers_no_extension() -> None:
    with logged_in(server("dovecot-bare")) as client:
        assert b"IMAP4rev1" == client.capability()[1][-1]


def test_tls_only_server_takes_no_password_before_tls() -> None:
    instance = server("dovecot-tls-only")
    login = instance.new_login()

    with imaplib.IMAP4(instance.host, instance.port) as client:
        assert "LOGINDISABLED" in client.capabilities
        with pytest.raises(imaplib.IMAP4.error, match="PRIVACYREQUIRED"):
            client.login(login.user, login.password)


def test_quota_is_soon_used_up() -> None:
    with logged_in(server("dovecot-quota")) as client:
        assert "OK" == client.append("INBOX", "", "", MESSAGE + b"x" * 60_000)[0]
        status, text = client.append("INBOX", "", "", MESSAGE + b"x" * 60_000)

    assert ("NO", True) == (status, text[0].startswith(b"[OVERQUOTA]"))


@pytest.mark.parametrize(
    ("token", "outcome"),
    [
        (dovecot.token, "OK"),
        (lambda login: dovecot.token(login, lifetime=-10), "NO"),
        (lambda login: dovecot.token(login, key=b"another"), "NO"),
    ],
    ids=["valid", "expired", "forged"],
)
@pytest.mark.parametrize("mechanism", ["XOAUTH2", "OAUTHBEARER"])
def test_oauth_takes_a_token_that_is_valid(mechanism: str, token: object, outcome: str) -> None:
    instance = server("dovecot-oauth")
    login = instance.new_login()
    assert callable(token)
    bearer = f"auth=Bearer {token(login)}\1\1"
    answer = f"user={login.user}\1{bearer}" if mechanism == "XOAUTH2" else f"n,a={login.user},\1{bearer}"

    with imaplib.IMAP4(instance.host, instance.port) as client:
        try:
            status = client.authenticate(mechanism, lambda challenge: answer.encode() if not challenge else b"\1")[0]
        except imaplib.IMAP4.error:
            status = "NO"

    assert outcome == status


@pytest.mark.parametrize("name", ["dovecot", "dovecot-dot", "courier"])
def test_server_finds_what_a_test_puts_into_its_maildir(name: str) -> None:
    instance = server(name)
    login = instance.new_login()
    maildir = instance.maildir(login)
    assert maildir
    for directory in (maildir / "cur", maildir / "new", maildir / "tmp"):
        directory.mkdir(parents=True, exist_ok=True)
    (maildir / "cur" / "1.2.host:2,S").write_bytes(MESSAGE.replace(b"\r\n", b"\n"))
    instance.give(login, maildir)

    with logged_in(instance, login) as client:
        client.select()
        assert ("OK", [b"1"]) == client.search(None, "SEEN")


@pytest.mark.parametrize("name", ["dovecot", "cyrus", "courier", "imap4d"])
def test_hundred_logins_take_little_time(name: str) -> None:
    instance = server(name)
    start = time.monotonic()

    logins = {instance.new_login() for _ in range(100)}

    assert 100 == len(logins)
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("ended", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_servers_end_with_the_test_run(ended: signal.Signals) -> None:
    for name in NAMES:
        server(name)  # or skip
    program = """
import signal, time
from tests import servers
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    print(servers.server(servers.NAMES[0]).directory.parent)
    for name in servers.NAMES:
        print(servers.server(name).port)
    print("ready", flush=True)
    time.sleep(60)
finally:
    servers.stop()
"""
    command = [sys.executable, "-c", program]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert run.stdout
    directory = Path(run.stdout.readline().strip())
    ports = [int(line) for line in iter(run.stdout.readline, "ready\n")]

    run.send_signal(ended)
    run.wait()

    assert len(NAMES) == len(ports)
    end = time.monotonic() + 10
    while (left := [port for port in ports if listening(port)]) and time.monotonic() < end:
        time.sleep(0.1)
    assert [] == left
    if ended == signal.SIGKILL:
        shutil.rmtree(directory)  # nobody was left to do it
    assert not directory.exists()


def listening(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0
