"""What specifications mean, and what is said of those that mean nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.model import Mailbox
from mailsync.spec import Local, Remote, Spec, SpecError, parse, server_part


def local(mailbox: str, driver: str | None = None, mark: str = "") -> Local:
    return Local(Mailbox(mailbox), driver, mark)  # type: ignore[arg-type]


GOOD: list[tuple[str, Spec]] = [
    ("{h}", Remote("h")),
    ("{h}INBOX.a", Remote("h", mailbox=Mailbox("INBOX.a"))),
    ("{mail.example.org:143/user=jane}x", Remote("mail.example.org", 143, "jane", mailbox=Mailbox("x"))),
    ("{h/ssl:993}", Remote("h", 993, ssl=True)),
    ("{h/SSL/User=Jane}", Remote("h", user="Jane", ssl=True)),
    ("{h/user=jane@example.org}", Remote("h", user="jane@example.org")),
    ("{h/user=a=b}", Remote("h", user="a=b")),
    (r'{h/user="a/b:c}d\"e"}f', Remote("h", user='a/b:c}d"e', mailbox=Mailbox("f"))),
    ("{h/user=DOMAIN\\jane}", Remote("h", user="DOMAIN\\jane")),
    ("{h/authuser=admin/user=jane}", Remote("h", user="jane", authuser="admin")),
    ("{h/tls}", Remote("h", tls="require")),
    ("{h/notls/ssl}", Remote("h", ssl=True, tls="never")),
    ("{h/validate-cert}", Remote("h")),
    ("{h/novalidate-cert}", Remote("h", validate=False)),
    ("{h/readonly/secure/anonymous/debug}", Remote("h", readonly=True, secure=True, anonymous=True, debug=True)),
    ("{h/imap/service=imap}", Remote("h")),
    ("{h/imap4/imap4rev1/service=IMAP4}", Remote("h")),
    ("{[::1]:143}x", Remote("::1", 143, mailbox=Mailbox("x"))),
    ("{[fe80::1%eth0]/ssl}", Remote("fe80::1%eth0", ssl=True)),
    ("{[127.0.0.1]}", Remote("127.0.0.1")),
    ("{bücher.example}", Remote("bücher.example")),
    ("{h}&AOQ-/{odd} name", Remote("h", mailbox=Mailbox("&AOQ-/{odd} name"))),
    ("INBOX", local("INBOX")),
    ("Mail/x", local("Mail/x")),
    ("~/x", local("~/x")),
    ("/var/mail/x", local("/var/mail/x")),
    ("./#odd", local("./#odd")),
    ("#mh/a/b", local("a/b", "mh", "#mh/")),
    ("#mh/", local("", "mh", "#mh/")),
    ("#mhinbox", local("inbox", "mh", "#mhinbox")),
    ("#MHINBOX", local("inbox", "mh", "#MHINBOX")),
    ("#md/x", local("x", "maildir", "#md/")),
    ("#driver.mbox/x", local("x", "mbox", "#driver.mbox/")),
    ("#driver.unix/~/x", local("~/x", "mbox", "#driver.unix/")),
    ("#driver.mh/x", local("x", "mh", "#driver.mh/")),
    ("#Driver.Maildir/x", local("x", "maildir", "#Driver.Maildir/")),
    ("#driver.md//x", local("/x", "maildir", "#driver.md/")),
]


@pytest.mark.parametrize(("text", "expected"), GOOD, ids=[text for text, _ in GOOD])
def test_specification_is_read(text: str, expected: Spec) -> None:
    actual = parse(text)

    assert expected == actual


@pytest.mark.parametrize("text", [text for text, _ in GOOD])
def test_what_is_shown_means_the_same(text: str) -> None:
    spec = parse(text)

    assert spec == parse(str(spec))


OLD = "this format is not supported: convert the mail first, for example with mailsync 5.2.7"
BAD = [
    ("", 0, "found nothing, expected a mailbox"),
    ("a\0b", 1, "found a NUL byte, expected the name of a mailbox"),
    ("{h}a\nb", 4, "found a line break, expected the name of a mailbox on one line"),
    ("{", 1, "found the end of the name, expected the name or [address] of a server"),
    ("{}", 1, "found '}', expected the name or [address] of a server"),
    ("{/ssl}", 1, "found '/', expected the name or [address] of a server"),
    ("{h", 2, "found the end of the name, expected '}' after the server"),
    ("{h o}", 2, "found ' o', expected '/', ':' or '}' after the server"),
    ("{jane@h}", 5, "found '@', expected '/', ':' or '}'; a user is written {host/user=NAME}"),
    ("{h:}", 3, "found '}', expected a port from 1 to 65535"),
    ("{h:0}", 3, "found '0', expected a port from 1 to 65535"),
    ("{h:65536}", 3, "found '65536', expected a port from 1 to 65535"),
    ("{h:imap}", 3, "found 'imap', expected a port from 1 to 65535"),
    ("{h:1/ssl:2}", 9, "found a second port, expected only 1"),
    (
        "{h/user=a:b}",
        10,
        "found 'b', expected a port from 1 to 65535; a value that holds ':' is written in quotes, as in /user=\"a:b\"",
    ),
    ("{h/sssl}", 2, "found '/sssl', expected a switch that is known; did you mean '/ssl'?"),
    ("{h/}", 2, "found '/', expected a switch that is known"),
    ("{h/ssl=yes}", 6, "found a value for '/ssl', expected none"),
    ("{h/user}", 2, "found '/user' without a value, expected '/user=NAME'"),
    ('{h/user=""}', 2, "found '/user' without a value, expected '/user=NAME'"),
    ("{h/service=}", 2, "found '/service' without a value, expected '/service=imap'"),
    ('{h/user="a}b', 8, "found a quote that is not closed, expected '\"' at the end of the value"),
    ('{h/user="a"b}', 8, "found a quote that is not closed, expected '\"' at the end of the value"),
    ("{h/user=a/user=b}", 9, "found '/user' a second time, expected it once"),
    ("{h/ssl/tls}", 6, "found '/ssl' and '/tls', expected only one of them"),
    ("{h/notls/tls}", 8, "found '/tls' and '/notls', expected only one of them"),
    (
        "{h/novalidate-cert/validate-cert}",
        18,
        "found '/validate-cert' and '/novalidate-cert', expected only one of them",
    ),
    (
        "{h/pop3}",
        2,
        "found '/pop3', expected an IMAP server: POP3 is not spoken; write '/imap', if the server has it",
    ),
    ("{h/service=nntp}", 11, "found service 'nntp', expected an IMAP server: NNTP is not spoken"),
    ("{h/service=x}", 11, "found service 'x', expected 'imap'"),
    ("{h/smtp}", 2, "found '/smtp', expected an IMAP server: nothing is sent by SMTP"),
    ("{h/imap2bis}", 2, "found '/imap2bis', expected '/imap': only IMAP4rev1 is spoken"),
    ("{h/tls-sslv23}", 2, "found '/tls-sslv23', expected '/tls': SSL 2 and 3 are not safe"),
    ("#mx/x", 0, "found '#mx/', expected #mh/, #mhinbox, #md/ or #driver.NAME/; did you mean '#mh/'?"),
    ("#news.comp", 0, "found '#news.comp', expected #mh/, #mhinbox, #md/ or #driver.NAME/"),
    ("#driver.mbx/x", 8, f"found format 'mbx', expected mbox, unix, mh, maildir or md; {OLD}"),
    ("#driver.mbxo/x", 8, "found format 'mbxo', expected mbox, unix, mh, maildir or md; did you mean 'mbox'?"),
]


@pytest.mark.parametrize(("text", "column", "message"), BAD, ids=[repr(text) for text, _, _ in BAD])
def test_fault_says_what_and_where(text: str, column: int, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse(text)

    assert (message, column) == (str(caught.value), caught.value.column)


def test_switch_without_effect_leaves_a_note() -> None:
    spec = parse("{h/norsh/loser}")

    assert isinstance(spec, Remote)
    assert ["'/norsh'", "'/loser'"] == [note.split()[0] for note in spec.notes]


def test_server_part_ends_behind_a_quoted_brace() -> None:
    assert '{h/user="a}b"/SSL}' == server_part('{h/user="a}b"/SSL}INBOX.')


TEXT = st.text(st.characters(exclude_characters="\0\r\n"), min_size=1)
HOSTS = st.from_regex(r"[a-z0-9][a-z0-9.-]{0,20}", fullmatch=True) | st.sampled_from(["::1", "fe80::2%lo", "10.0.0.1"])
REMOTES = st.builds(
    Remote,
    host=HOSTS,
    port=st.none() | st.integers(1, 65535),
    user=st.none() | TEXT,
    authuser=st.none() | TEXT,
    readonly=st.booleans(),
    secure=st.booleans(),
    validate=st.booleans(),
    anonymous=st.booleans(),
    debug=st.booleans(),
    tls=st.sampled_from([None, "never", "require"]),
    mailbox=TEXT,
) | st.builds(Remote, host=HOSTS, ssl=st.just(True), tls=st.sampled_from([None, "never"]), user=st.none() | TEXT)


@given(REMOTES)
def test_any_remote_mailbox_can_be_written_and_read(spec: Remote) -> None:
    assert spec == parse(str(spec))


SYNTAX = st.lists(
    st.sampled_from(
        ["{", "}", "h", "/", ":", "=", '"', "\\", "user", "ssl", "tls", "1", "[", "]", "#", "mh", "driver."]
    )
)


@given(st.text() | SYNTAX.map("".join))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        spec = parse(text)
    except SpecError as err:
        assert 0 <= err.column <= len(text)
    else:
        assert spec == parse(str(spec))
