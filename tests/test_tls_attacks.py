"""A server that is not the right one, and who sits on the line: refused, told, and no secret is sent.

By the command line, against Dovecot and against servers that say what a test tells them to; TLS is in earnest, and
all bytes that they get are kept.
"""

from __future__ import annotations

import contextlib
import re
import ssl
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from mailsync.drivers.imap import session, stream

from .mail import Ran, configure, run
from .servers import Server, own
from .servers.proxy import Proxy
from .test_imap_dial import (
    PASSWORD,
    REV1,
    USER,
    Authority,
    Papers,
    Peer,
    abroad,
    answering,
    b64,
    forms,
    running,
    upgrading,
    within_tls,
)
from .tried import PLANTED, SECRETS

__all__ = ["abroad"]  # a fixture

LOGIN_OK = {"LOGIN": ["T OK logged in"]}
Script = Callable[[Peer], None]


class Papered(Authority):
    """More certificates, each with something wrong."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        names = "DNS:localhost,IP:127.0.0.1"
        self.early = self.signed("early", names, "20480101000000Z", "20490101000000Z")
        self.for_clients = self.signed("clients", f"{names}\nextendedKeyUsage=clientAuth")


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papered:
    return Papered(tmp_path_factory.mktemp("papers"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Another authority."""
    return Authority(tmp_path_factory.mktemp("stranger"))


def attacked(home: Path, script: Script, switches: str = "/ssl", settings: str = "") -> tuple[Ran, list[str]]:
    """What a run says, and what the server heard."""
    with running(script) as found:
        ran = trusting_run(home, f"127.0.0.1:{found.port}", switches, settings)
    return ran, found.heard


def trusting_run(home: Path, where: str, switches: str, settings: str) -> Ran:
    """As if all were well there."""
    configure(
        home,
        f"store far {{ server {{{where}/user={USER}{switches}}} passwd {PASSWORD} timeout 20 {settings} }}\n"
        "store md { pat md/* prefix md/ }\nchannel c md far { msinfo .msinfo }\n",
    )
    return run("-di", "-d", "c")


def is_refused(ran: Ran, heard: Sequence[str], code: int, words: str) -> None:
    assert code == ran.code, ran.err
    told = [line for line in ran.err.splitlines() if line.startswith("mailsync: 127.")]
    assert re.search(words, told[-1]), ran.err
    assert [] == [form for form in forms(PASSWORD) for text in (*heard, ran.err, ran.out) if form in text]


def old(papers: Papers, *, version: ssl.TLSVersion, ciphers: str) -> Script:
    """A server of which nobody has taken care since long ago."""

    def begin(peer: Peer) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.set_ciphers(ciphers)
        context.minimum_version, context.maximum_version = ssl.TLSVersion.MINIMUM_SUPPORTED, version
        context.load_cert_chain(papers.cert, papers.key)
        with contextlib.suppress(ssl.SSLError), context.wrap_socket(peer.sock, server_side=True) as peer.sock:
            answering(LOGIN_OK)(peer)

    return begin


# ---- who it is -------------------------------------------------------------------------------------------------------

WRONG = [
    ("other_name", r"it is for mail\.example\.org, .* not for 127\.0\.0\.1"),
    ("expired", "it has expired"),
    ("early", "it is not valid yet"),
    ("self_signed", "it is self-signed"),
    ("for_clients", "unsuitable certificate purpose|unsupported certificate purpose"),
]


@SECRETS
@pytest.mark.parametrize(("which", "words"), WRONG, ids=[which for which, _ in WRONG])
@pytest.mark.parametrize("begin", [within_tls, upgrading])
def test_certificate_that_is_not_right_ends_the_run(
    home: Path, papers: Papered, begin: Callable[[Papers], Script], which: str, words: str
) -> None:
    switches, ca = "/ssl" if begin is within_tls else "", f"ca {papers.papers.cert}"

    is_refused(*attacked(home, begin(getattr(papers, which)), switches, ca), 9, words)


@SECRETS
@pytest.mark.parametrize("begin", [within_tls, upgrading])
def test_certificate_of_another_authority_ends_the_run(
    home: Path, papers: Papered, stranger: Authority, begin: Callable[[Papers], Script]
) -> None:
    switches, ca = "/ssl" if begin is within_tls else "", f"ca {papers.papers.cert}"

    is_refused(*attacked(home, begin(stranger.good), switches, ca), 9, "an authority that this machine does not know")


@SECRETS
@pytest.mark.parametrize("begin", [within_tls, upgrading])
def test_certificate_that_is_not_the_pinned_one_ends_the_run(
    home: Path, papers: Papered, begin: Callable[[Papers], Script]
) -> None:
    switches, pin = "/ssl" if begin is within_tls else "", f"pin {papers.other_name.fingerprint}"

    is_refused(*attacked(home, begin(papers.good), switches, pin), 9, "another certificate than the one that is pinned")


@SECRETS
@pytest.mark.parametrize(
    ("version", "ciphers"),
    [
        (ssl.TLSVersion.TLSv1_1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1, "ALL:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-AES128-SHA:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "AECDH-AES128-SHA:@SECLEVEL=0"),
        (ssl.TLSVersion.TLSv1_2, "ECDHE-ECDSA-NULL-SHA:@SECLEVEL=0"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_tls_that_can_be_broken_is_not_begun(
    home: Path, papers: Papered, version: ssl.TLSVersion, ciphers: str
) -> None:
    script = old(papers.good, version=version, ciphers=ciphers)

    is_refused(*attacked(home, script, "/ssl", f"ca {papers.papers.cert}"), 6, "TLS does not begin: ")


@SECRETS
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o644])
def test_key_that_others_can_reach_is_not_used(home: Path, papers: Papered, mode: int) -> None:
    key = home / "my own.key"
    key.write_bytes(papers.user.key.read_bytes())
    key.chmod(mode)
    ran, heard = attacked(home, within_tls(papers.good), "/ssl", f'cert {papers.user.cert} key "{key}"')

    assert (9, []) == (ran.code, heard)
    assert f"mailsync: {key}: others can read or write this private key (mode {mode:04o})" in ran.err
    assert f"  Run: chmod 600 '{key}'" in ran.err


# ---- a real server ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Iterator[Server]:
    with own("dovecot") as found:
        yield found


def met(
    home: Path,
    real: Server,
    switches: str,
    settings: str = "",
    host: str = "127.0.0.1",
    edit: Callable[[bytes], bytes] | None = None,
) -> tuple[Ran, list[str]]:
    """What a run says, and all that went over the line to Dovecot. `edit`: who sits there changes what it says."""
    heard = bytearray()
    with Proxy(real.tls_port if "/ssl" in switches else real.port, heard=heard, edit=edit) as proxy:
        ran = trusting_run(home, f"{host}:{proxy.port}", switches, settings)
    assert heard or proxy.connections
    return ran, [heard.decode("latin-1")]


ways = pytest.mark.parametrize("switches", ["/ssl", "/tls", ""])


@SECRETS
@ways
@pytest.mark.parametrize(("which", "words"), WRONG, ids=[which for which, _ in WRONG])
def test_dovecot_with_a_certificate_that_is_not_right_ends_the_run(
    home: Path, papers: Papered, real: Server, which: str, words: str, switches: str
) -> None:
    wrong = getattr(papers, which)
    real.present(wrong.cert, wrong.key)

    is_refused(*met(home, real, switches, f"ca {papers.papers.cert}"), 9, words)


@SECRETS
@ways
@pytest.mark.parametrize(
    ("host", "known", "words"),
    [
        ("127.1", True, r"it is for .* not for 127\.1"),
        ("127.0.0.1", False, "an authority that this machine does not know"),
    ],
    ids=["other_name", "no_ca"],
)
def test_dovecot_with_a_certificate_that_is_right_elsewhere_ends_the_run(
    home: Path, papers: Papered, real: Server, host: str, known: bool, words: str, switches: str
) -> None:
    real.present(papers.good.cert, papers.good.key)
    ca = f"ca {papers.papers.cert}" if known else ""

    is_refused(*met(home, real, switches, ca, host), 9, words)


@SECRETS
@pytest.mark.parametrize(
    ("switches", "code", "words"),
    [("/tls", 6, "the server offers no TLS here"), ("", 7, "offers no TLS here, and without it no password is sent")],
)
@pytest.mark.usefixtures("abroad")
def test_starttls_taken_out_of_all_that_dovecot_says(
    home: Path, real: Server, switches: str, code: int, words: str
) -> None:
    is_refused(*met(home, real, switches, edit=lambda said: said.replace(b" STARTTLS", b"")), code, words)


def injecting(said: bytes) -> bytes:
    return said + (b"* CAPABILITY IMAP4rev1 AUTH=PLAIN\r\n" if b" OK Begin TLS" in said else b"")


@SECRETS
@pytest.mark.parametrize("switches", ["/tls", ""])
def test_line_behind_dovecots_answer_to_starttls_ends_the_run(
    home: Path, papers: Papered, real: Server, switches: str
) -> None:
    """CVE-2011-0411."""
    real.present(papers.good.cert, papers.good.key)
    ran, heard = met(home, real, switches, f"ca {papers.papers.cert}", edit=injecting)

    is_refused(ran, heard, 6, "the server sent data between STARTTLS and TLS")


@SECRETS
@ways
def test_dovecot_is_trusted_if_nothing_is_wrong(home: Path, papers: Papered, real: Server, switches: str) -> None:
    """It is the login that fails: the user has another password. Without TLS the line would have seen this one."""
    real.present(papers.good.cert, papers.good.key)

    is_refused(*met(home, real, switches, f"ca {papers.papers.cert}"), 7, "Authentication failed")
    _, heard = met(home, real, "/notls")
    assert [form for form in forms(PASSWORD) if form in heard[0]]


# ---- who sits on the line --------------------------------------------------------------------------------------------


@SECRETS
@pytest.mark.parametrize(
    ("switches", "code", "words"),
    [("/tls", 6, "the server offers no TLS here"), ("", 7, "offers no TLS here, and without it no password is sent")],
)
@pytest.mark.parametrize("caps", [REV1, f"{REV1} XSTARTTLS AUTH=PLAIN SASL-IR", f"{REV1} LOGINDISABLED"])
@pytest.mark.usefixtures("abroad")
def test_starttls_taken_out_of_the_capabilities(home: Path, caps: str, switches: str, code: int, words: str) -> None:
    script = answering(LOGIN_OK, caps=caps, greeting=f"* OK [CAPABILITY {caps}] hi")

    is_refused(*attacked(home, script, switches), code, words)


@SECRETS
@pytest.mark.parametrize("answer", ["T NO not today", "T BAD what?", "* BYE enough"])
@pytest.mark.parametrize("switches", ["", "/tls"])
def test_starttls_that_is_refused_is_not_done_without(home: Path, papers: Papered, answer: str, switches: str) -> None:
    script = upgrading(papers.good, answer=answer)

    is_refused(*attacked(home, script, switches), 6, "the server does not begin TLS, which it offers")


INJECTED = [
    "* CAPABILITY IMAP4rev1 AUTH=PLAIN",
    "* OK [ALERT] call this number",
    "* OK [CAPABILITY IMAP4rev1 AUTH=PLAIN SASL-IR] hi",
    "T2 OK done",
    "* PREAUTH welcome",
    "* BYE enough",
    "+ ",
    "x",
]


@SECRETS
@pytest.mark.parametrize("injected", INJECTED)
@pytest.mark.parametrize("switches", ["", "/tls"])
def test_what_is_said_in_one_go_with_the_answer_to_starttls_is_not_read_as_if_tls_had_begun(
    home: Path, papers: Papered, injected: str, switches: str
) -> None:
    """CVE-2011-0411."""
    script = upgrading(papers.good, injected=f"\r\n{injected}")
    ran, heard = attacked(home, script, switches, f"ca {papers.papers.cert}")

    is_refused(ran, heard, 6, "the server sent data between STARTTLS and TLS")
    assert "call this number" not in "".join(line for line in ran.err.splitlines() if "S: " not in line)


@SECRETS
@pytest.mark.parametrize("switches", ["", "/tls"])
@pytest.mark.usefixtures("abroad")
def test_greeting_that_says_we_are_logged_in_would_skip_tls(home: Path, switches: str) -> None:
    """NO STARTTLS (2021): then mail would be sent for all to read."""
    script = answering(greeting=f"* PREAUTH [CAPABILITY {REV1} STARTTLS] hi")

    is_refused(*attacked(home, script, switches), 6, "says that we are logged in, (without TLS|before TLS began)")


@SECRETS
@pytest.mark.usefixtures("abroad")
def test_what_is_said_before_tls_is_forgotten(home: Path, papers: Papered) -> None:
    """Capabilities, and what an ALERT would have the user believe (RFC 9051, 7.1)."""
    caps = f"{REV1} STARTTLS AUTH=PLAIN SASL-IR]\r\n* OK [ALERT] call this number\r\n* OK [UNSEEN 1"
    script = upgrading(papers.good, before=caps, answer="T OK [ALERT] call this number")
    ran, heard = attacked(home, script, "", f"ca {papers.papers.cert}")

    assert "STARTTLS" == heard[0]
    assert f'LOGIN "{USER}" "{PASSWORD}"' in heard  # within TLS AUTH=PLAIN was not offered
    assert "call this number" not in "".join(line for line in ran.err.splitlines() if "S: " not in line)


@SECRETS
def test_server_that_takes_no_password_any_more_within_tls_gets_none(home: Path, papers: Papered) -> None:
    script = within_tls(papers.good, answering(LOGIN_OK, caps=f"{REV1} LOGINDISABLED AUTH=GSSAPI"))

    is_refused(*attacked(home, script, "/ssl", f"ca {papers.papers.cert}"), 7, "the server offers GSSAPI")


@SECRETS
@pytest.mark.parametrize(
    "answer", ["T NO [REFERRAL imap://tim@{}/] elsewhere", "* BYE [REFERRAL imap://{}/] login there"]
)
def test_server_that_sends_us_elsewhere_is_not_obeyed(home: Path, papers: Papered, answer: str) -> None:
    """RFC 2221: nobody has said that the other one is to be trusted."""
    with running(answering(LOGIN_OK)) as other:
        there = f"127.0.0.1:{other.port}"
        script = within_tls(papers.good, answering({"LOGIN": [answer.format(there)]}))
        ran, heard = attacked(home, script, "/ssl", f"ca {papers.papers.cert}")

    assert ran.code in (6, 7)
    assert "REFERRAL" in ran.err
    assert [] == other.heard
    assert 1 == sum(line.startswith("LOGIN") for line in heard)


# ---- servers that repeat what they got -------------------------------------------------------------------------------

REPEATING = [
    f"T BAD unknown command: LOGIN {USER} {PASSWORD}",
    f"T NO no user {USER} with password {PASSWORD}",
    f"* BYE login failed: {PASSWORD}",
    f"* OK [ALERT] is {PASSWORD} your password?\r\nT NO no",
    f"{PASSWORD}\r\nT NO no",
    f"nonsense {PASSWORD} more\r\n",
]


@SECRETS
@pytest.mark.parametrize("answer", REPEATING)
@pytest.mark.parametrize("caps", [REV1, f"{REV1} SASL-IR AUTH=PLAIN"])
def test_server_that_repeats_the_password_does_not_have_it_shown(
    home: Path, papers: Papered, answer: str, caps: str
) -> None:
    """Neither in the error, nor in the log of the connection, nor in the traceback of -d."""
    command = "AUTHENTICATE" if "AUTH" in caps else "LOGIN"
    script = within_tls(papers.good, answering({command: answer.replace("LOGIN", command).split("\r\n")}, caps=caps))
    ran, _ = attacked(home, script, "/ssl", f"ca {papers.papers.cert}")

    assert ran.code in (6, 7), ran.err
    assert [] == [form for form in forms(PASSWORD) if form in ran.out + ran.err]


@SECRETS
def test_server_that_repeats_what_it_was_sent_does_not_have_it_shown(home: Path, papers: Papered) -> None:
    answer = f"T BAD {b64(f'{chr(0)}{USER}{chr(0)}{PASSWORD}')}"

    test_server_that_repeats_the_password_does_not_have_it_shown(
        home, papers, answer, f"{REV1} SASL-IR AUTH=PLAIN LOGINDISABLED"
    )


# ---- planted ---------------------------------------------------------------------------------------------------------


@PLANTED
def test_rest_of_the_answer_to_starttls_that_is_kept_is_found(
    home: Path, papers: Papered, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream.Stream, "pending", lambda self: False)
    with pytest.raises(AssertionError):
        test_what_is_said_in_one_go_with_the_answer_to_starttls_is_not_read_as_if_tls_had_begun(
            home, papers, "* CAPABILITY IMAP4rev1 AUTH=PLAIN", ""
        )


@PLANTED
def test_password_in_an_error_is_found(home: Path, papers: Papered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session.Session, "without_secrets", lambda self, text: text)
    with pytest.raises(AssertionError):
        test_server_that_repeats_the_password_does_not_have_it_shown(home, papers, REPEATING[0], REV1)


@PLANTED
def test_certificate_that_is_not_verified_is_found(
    home: Path, papers: Papered, real: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ssl, "create_default_context", lambda **_: ssl._create_unverified_context())
    with pytest.raises(AssertionError):
        test_certificate_that_is_not_right_ends_the_run(home, papers, within_tls, *WRONG[0])
    with pytest.raises(AssertionError):
        test_dovecot_with_a_certificate_that_is_not_right_ends_the_run(home, papers, real, *WRONG[0], "/ssl")
