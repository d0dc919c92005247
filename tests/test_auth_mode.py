"""--test-auth, and how a run on servers comes to its secrets: from the command line to the exit code."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailsync import auth, secrets
from mailsync.drivers.imap.account import Account
from mailsync.drivers.imap.providers import CASES, hint
from mailsync.spec import Remote

from .mail import configure, maildir, message, read_home, run
from .servers.fake import Do, FakeServer, Trap
from .servers.processes import certificate
from .test_imap_dial import answering, running


@pytest.fixture(autouse=True)
def nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No terminal, wherever the tests run."""
    monkeypatch.setattr(secrets, "TERMINAL", str(tmp_path / "no" / "tty"))


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer() as server:
        yield server


def far(server: FakeServer, settings: str = "passwd_cmd 'echo secret'", name: str = "far", switches: str = "") -> str:
    place = f"{{127.0.0.1:{server.port}/user=alice{switches}}}"
    return f"store {name} {{ server {place} {settings.replace(chr(39), chr(34))} }}\n"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


# ---- --test-auth -----------------------------------------------------------------------------------------------------


def test_login_that_works_is_told_and_touches_nothing(home: Path, server: FakeServer) -> None:
    configure(home, far(server))

    ran = run("--test-auth", "far")

    assert (0, "") == (ran.code, ran.err)
    first, *rest = ran.out.splitlines()
    assert (f"far: 127.0.0.1:{server.port}", ["  no TLS", "  logged in (PLAIN)"]) == (first, rest[:2])
    assert "  the server calls itself fake" == rest[2]
    assert {"IMAP4REV1", "CONDSTORE", "MOVE"} <= set(rest[3].split())
    assert (1, 0) == (server.count("LOGOUT"), server.count("SELECT|EXAMINE|LIST|STATUS"))
    assert [".mailsync"] == [path.name for path in home.iterdir()]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ('("Name" "Dovecot" "vendor" "x" "VERSION" "2.4")', "Dovecot 2.4"),
        ('("version" "a\tb\x1b[2J\u202e" "name" NIL)', r"a b\x1b[2J\u202e"),
        ('("name" ("x" "y") "version" 5)', ""),
        ('("name" "gr\N{LATIN SMALL LETTER U WITH DIAERESIS}n', ""),
        (f'("version" {"1" * 5000})', ""),
        ("(" * 5000, ""),
        ("NIL", ""),
    ],
)
def test_server_is_told_by_the_name_that_it_gives_itself(home: Path, answer: str, told: str) -> None:
    script = answering({"LOGIN": ["T OK"], "ID": [f"* ID {answer}", "T OK done"]}, caps="IMAP4rev1 ID")
    with running(script) as found:
        configure(home, f"store far {{ server {{127.0.0.1:{found.port}/user=alice}} passwd x }}")
        ran = run("--test-auth", "far")

    assert (0, "") == (ran.code, ran.err)
    assert ([f"  the server calls itself {told}"] if told else []) == ran.out.splitlines()[3:-1]
    assert ["ID NIL", "LOGOUT"] == found.heard[-2:]


@pytest.mark.parametrize("answer", [["T BAD what?"], ["T OK done"], ["* BYE enough"]])
def test_server_that_tells_no_name_is_logged_in_to_all_the_same(home: Path, answer: list[str]) -> None:
    script = answering({"LOGIN": ["T OK"], "ID": answer}, caps="IMAP4rev1 ID")
    with running(script) as found:
        configure(home, f"store far {{ server {{127.0.0.1:{found.port}/user=alice}} passwd x }}")
        ran = run("--test-auth", "far")

    assert (0, ["  no TLS", "  logged in (LOGIN)", "  ID IMAP4REV1"]) == (ran.code, ran.out.splitlines()[1:])


def test_server_without_the_capability_is_not_asked_for_its_name(home: Path) -> None:
    with running(answering({"LOGIN": ["T OK"]})) as found:
        configure(home, f"store far {{ server {{127.0.0.1:{found.port}/user=alice}} passwd x }}")
        run("--test-auth", "far")

    assert [] == [line for line in found.heard if line.startswith("ID")]


def test_token_logs_in(home: Path, server: FakeServer) -> None:
    configure(home, far(server, "token_cmd 'echo secret'"))

    assert "  logged in (XOAUTH2)\n" in run("--test-auth", "far").out


def test_local_store_says_that_it_is_local(home: Path) -> None:
    configure(home, "store here { pat Mail/* }")

    ran = run("--test-auth", "here")

    assert (0, "here: on this machine, nobody logs in\n") == (ran.code, ran.out)


def test_each_store_is_tried_and_the_worst_code_is_that_of_the_run(home: Path, server: FakeServer) -> None:
    nowhere = f"store gone {{ server {{127.0.0.1:{free_port()}/user=alice}} passwd_cmd 'echo x' }}\n".replace("'", '"')
    configure(home, far(server) + far(server, "passwd_cmd 'echo wrong'", "wrong") + nowhere)

    alone = {name: run("--test-auth", name).code for name in ("far", "wrong", "gone")}
    ran = run("--test-auth", "wrong", "gone", "far")

    assert {"far": 0, "wrong": 7, "gone": 6} == alone
    assert 6 == ran.code
    assert ran.out.startswith("far: ")
    assert "wrong user or password" in ran.err


def test_channel_stands_for_its_stores(home: Path, server: FakeServer) -> None:
    configure(home, far(server) + "store here { pat Mail/* }\nchannel c here far { msinfo m }")

    ran = run("--test-auth", "c", "far")

    assert ["here", "far"] == [line.partition(":")[0] for line in ran.out.splitlines() if not line.startswith(" ")]


def test_json_stays_json(home: Path, server: FakeServer) -> None:
    configure(home, far(server))

    (event,) = run("--json", "--test-auth", "far").events

    assert event["text"].startswith(f"far: 127.0.0.1:{server.port}\n")


def test_without_a_name_the_usage_is_told(home: Path) -> None:
    configure(home, "store here { pat Mail/* }")

    assert 2 == run("--test-auth").code


@contextmanager
def tls_connection(directory: Path, *, verify: bool) -> Iterator[ssl.SSLSocket]:
    """A client's end of a TLS connection to a server with a certificate of its own."""
    cert, key = certificate(directory)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(cert, key)
    trusting = ssl.create_default_context(cafile=str(cert))
    trusting.check_hostname = False
    if not verify:
        trusting.verify_mode = ssl.CERT_NONE
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=lambda: serving.wrap_socket(theirs, server_side=True).close())
    server.start()
    with trusting.wrap_socket(ours) as client:
        server.join()
        yield client


def test_certificate_is_told_by_its_authority_and_end(tmp_path: Path) -> None:
    with tls_connection(tmp_path, verify=True) as client:
        told = auth._certificate(client)

    assert told.startswith("certificate by ")
    assert ", valid until " in told


def test_certificate_that_nobody_verified_is_not_told(tmp_path: Path) -> None:
    with tls_connection(tmp_path, verify=False) as client:
        assert "" == auth._certificate(client)


def test_answer_reads_as_lines() -> None:
    account = Account(Remote("imap.example.org", ssl=True))

    assert "far: imap.example.org:993\n  TLSv1.3, certificate by X\n  logged in (PLAIN)\n  A B\n" == str(
        auth.Answer("far", account, "TLSv1.3", "certificate by X", "PLAIN", capabilities=frozenset("BA"))
    )


# ---- secrets of a run ------------------------------------------------------------------------------------------------


def test_all_secrets_are_had_before_the_first_login(home: Path, server: FakeServer) -> None:
    had: list[str] = []
    server.script.append(Trap(rb"AUTHENTICATE", Do(lambda _: had.append((home / "asked").read_text()))))
    other = f"store other {{ server {{127.0.0.1:{free_port()}/user=bob}} passwd_cmd 'echo bob >> asked; echo x' }}\n"
    configure(
        home,
        far(server, "passwd_cmd 'echo alice >> asked; echo wrong'")
        + other.replace("'", '"')
        + "store here { pat Mail/* prefix Mail/ }\n"
        + "channel one here far { msinfo m }\nchannel two here other { msinfo n }",
    )

    ran = run("one", "two")

    assert (6, ["alice\nbob\n"]) == (ran.code, had)


def test_secret_that_another_channel_lacks_keeps_this_one_from_nothing(home: Path, server: FakeServer) -> None:
    maildir(home / "Mail/one", message(1))
    configure(
        home,
        far(server)
        + far(server, "passwd_cmd 'false'", "broken")
        + "store here { pat Mail/* prefix Mail/ }\n"
        + "channel one here far { msinfo m }\nchannel two here broken { msinfo n }",
    )

    ran = run("one", "two")

    assert 7 == ran.code
    assert "passwd_cmd of store broken failed with exit code 1" in ran.err
    assert [b"<1@x>"] == [m.fields([b"Message-ID"]).split()[-1] for m in server.store[b"one"].messages]


def test_msinfo_on_a_server_logs_in_as_the_store_there(home: Path, server: FakeServer) -> None:
    maildir(home / "Mail/one", message(1))
    place = f"{{127.0.0.1:{server.port}/user=alice}}"
    configure(
        home,
        far(server, "passwd_cmd 'echo x >> asked; echo secret' pat one")
        + f"store here {{ pat Mail/* prefix Mail/ }}\nchannel c here far {{ msinfo {place}memory }}",
    )

    codes = [run("c").code, run("-q", "c").code]

    assert [0, 0] == codes
    assert "x\nx\n" == (home / "asked").read_text()
    assert 1 == len(server.store[b"memory"].messages)
    assert [] == [path for path in home.iterdir() if path.name == "memory"]


def test_local_msinfo_is_needed_for_no_login(home: Path, server: FakeServer) -> None:
    configure(home, far(server, "passwd_cmd 'false'") + "store here { pat * }\nchannel c here far { msinfo m }")

    assert 0 == run("c", "here").code


@pytest.mark.parametrize(
    ("create", "expected"),
    [("both", (True, True)), ("a", (True, False)), ("b", (False, True)), ("none", (False, False))],
)
def test_channel_makes_mailboxes_only_where_it_may(home: Path, create: str, expected: tuple[bool, bool]) -> None:
    maildir(home / "A/a", message(1))
    maildir(home / "B/b", message(2))
    configure(
        home,
        "store one { pat A/* prefix A/ }\nstore two { pat B/* prefix B/ }\n"
        f"channel c one two {{ msinfo m create {create} }}",
    )

    run("c")

    assert expected == ((home / "A/b").exists(), (home / "B/a").exists())


def test_mailbox_is_made_only_where_store_and_channel_allow_it(home: Path) -> None:
    maildir(home / "A/a", message(1))
    configure(
        home,
        "store one { pat A/* prefix A/ }\nstore two { pat B/* prefix B/ create no }\n"
        "channel c one two { msinfo m create both }",
    )

    run("c")

    assert ["A/a"] == list(read_home(home, "A/*") | read_home(home, "B/*"))


def test_store_of_all_mailboxes_of_a_server_takes_its_names_from_it(home: Path) -> None:
    with FakeServer(delimiter=b".", prefix=b"INBOX.") as server:
        server.store.create(b"INBOX.lists.mutt")
        configure(home, far(server))

        assert 'Listing store "far"\nlists/mutt\nINBOX\nlists\n' == run("far").out


def test_readonly_in_the_specification_is_obeyed(home: Path, server: FakeServer) -> None:
    maildir(home / "Mail/one", message(1))
    server.store[b"INBOX"].add(b"Subject: x\r\nMessage-ID: <x@x>\r\n\r\nhi\r\n")
    configure(
        home,
        far(server, switches="/readonly") + "store here { pat Mail/* prefix Mail/ }\nchannel c here far { msinfo m }",
    )

    run("c")

    assert [b"INBOX"] == list(server.store)
    assert 0 == server.count("SELECT|CREATE|APPEND")


# ---- hints -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "words", "expected"),
    [
        ("imap.gmail.com", "[ALERT] Application-specific password required: https://support", "app password"),
        ("IMAP.GMAIL.COM", "[AUTHENTICATIONFAILED] Invalid credentials (Failure)", "app password"),
        ("imap.gmail.com", "[ALERT] Please log in via your web browser: https://support", "sign in once"),
        ("imap.gmail.com", "[WEBALERT https://accounts.google.com] Web login required.", "sign in once"),
        ("imap.gmail.com", "[ALERT] Your account is not enabled for IMAP use.", "turn it on"),
        ("imap.gmail.com", '{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}', "the scope"),
        ("imap.gmail.com", "[ALERT] Too many simultaneous connections. (Failure)", "15 connections"),
        ("outlook.office365.com", "AUTHENTICATE failed.", "token_cmd"),
        ("outlook.office365.com", "LOGIN failed.", "token_cmd"),
        ("outlook.office365.com", "User is authenticated but not connected.", "full address"),
        ("imap-mail.outlook.com", "Request is throttled. Suggested Backoff Time: 299961 milliseconds", "wait"),
        ("imap.mail.me.com", "[AUTHENTICATIONFAILED] Authentication failed", "app-specific"),
        ("imap.mail.yahoo.com", "[AUTHENTICATIONFAILED] LOGIN Invalid credentials", "app password"),
        ("imap.aol.com", "[LIMIT] LOGIN Rate limit hit.", "limits logins"),
        ("imap.fastmail.com", "[AUTHENTICATIONFAILED] Incorrect username or password.", "app password"),
        ("mail.example.org", "[UNAVAILABLE] Maximum number of connections from user+IP exceeded", "limits how often"),
        ("mail.example.org", "[PRIVACYREQUIRED] Plaintext authentication disallowed", "/ssl or /tls"),
        ("mail.example.org", "[UNAVAILABLE] Temporary authentication failure.", "try again later"),
    ],
)
def test_refusal_that_is_well_known_has_a_hint(host: str, words: str, expected: str) -> None:
    assert expected in hint(host, words)


@pytest.mark.parametrize("host", ["mail.example.org", "notgmail.com", "imap.gmail.com.example.org"])
def test_refusal_that_nobody_knows_has_none(host: str) -> None:
    assert "" == hint(host, "[AUTHENTICATIONFAILED] Invalid credentials")


def test_hints_are_sentences() -> None:
    assert [] == [case.hint for case in CASES if not case.hint.endswith(".") or "  " in case.hint]
