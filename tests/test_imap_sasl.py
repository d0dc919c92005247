"""SASL mechanisms, by the examples of their RFCs, and against servers that break the rules."""

from __future__ import annotations

import base64

import pytest

from mailsync.drivers.imap.sasl import (
    Anonymous,
    External,
    Login,
    Mechanism,
    OAuthBearer,
    Plain,
    SaslError,
    XOAuth2,
)
from mailsync.drivers.imap.scram import ScramSha256

# RFC 7677, 3
NONCE = "rOprNGfwEbeRWgbNEkqO"
FIRST = b"r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
PROOF = b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
FINAL = b"v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def scram() -> ScramSha256:
    mechanism = ScramSha256("user", "pencil", NONCE)
    mechanism.initial()
    return mechanism


def test_plain_says_all_at_once() -> None:
    """RFC 4616, 4."""
    assert b"\0tim\0tanstaaftanstaaf" == Plain("tim", "tanstaaftanstaaf").initial()


def test_plain_acts_as_another() -> None:
    assert b"Ursel\0Kurt\0xipj3plmq" == Plain("Kurt", "xipj3plmq", "Ursel").initial()


def test_plain_sends_other_letters_as_utf8() -> None:
    assert b"\0k\xc3\xa4the\0gr\xc3\xbc\xc3\x9fe" == Plain("käthe", "grüße").initial()


def test_login_answers_two_questions_whatever_their_words() -> None:
    login = Login("tim", "tanstaaf")

    assert (None, b"tim", b"tanstaaf") == (login.initial(), login.answer(b"User Name\0"), login.answer(b"Kennwort:"))


def test_login_has_no_answer_to_a_third_question() -> None:
    login = Login("tim", "tanstaaf")
    login.answer(b"Username:")
    login.answer(b"Password:")

    with pytest.raises(SaslError, match="more than LOGIN has to say"):
        login.answer(b"Username:")


def test_xoauth2_names_user_and_token() -> None:
    """The example of Google's documentation."""
    expected = base64.b64decode(
        "dXNlcj1zb21ldXNlckBleGFtcGxlLmNvbQFhdXRoPUJlYXJlciB5YTI5LnZGOWRmdDRxbVRjMk52YjNSbGNrQmhkSFJoZG1semRHRXVZMjl"
        "0Q2cBAQ=="
    )

    assert expected == XOAuth2("someuser@example.com", "ya29.vF9dft4qmTc2Nvb3RlckBhdHRhdmlzdGEuY29tCg").initial()


def test_oauthbearer_names_user_host_and_token() -> None:
    """RFC 7628, 4.1."""
    expected = (
        b"n,a=user@example.com,\x01host=server.example.com\x01port=143\x01"
        b"auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\x01\x01"
    )
    bearer = OAuthBearer("user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==", "server.example.com", 143)

    assert expected == bearer.initial()


def test_oauthbearer_escapes_what_ends_a_name() -> None:
    assert b"n,a=a=2Cb=3Dc," in (OAuthBearer("a,b=c", "t", "h", 1).initial() or b"")


@pytest.mark.parametrize(("mechanism", "answer"), [(XOAuth2("u", "t"), b""), (OAuthBearer("u", "t", "h", 1), b"\x01")])
def test_refused_token_leaves_the_reason(mechanism: XOAuth2 | OAuthBearer, answer: bytes) -> None:
    mechanism.initial()

    assert (answer, '{"status":"401"}') == (mechanism.answer(b'{"status":"401"}'), mechanism.error)


def test_external_may_name_whose_mail_is_wanted() -> None:
    assert (b"", b"tim") == (External().initial(), External("tim").initial())


def test_anonymous_leaves_a_trace() -> None:
    assert b"mailsync" == Anonymous("mailsync").initial()


@pytest.mark.parametrize("mechanism", [Plain("u", "p"), External(), Anonymous("x")])
def test_mechanism_of_one_step_has_no_answer(mechanism: Mechanism) -> None:
    with pytest.raises(SaslError):
        mechanism.answer(b"?")


def test_scram_follows_the_example_of_the_rfc() -> None:
    mechanism = ScramSha256("user", "pencil", NONCE)

    said = [mechanism.initial(), mechanism.answer(FIRST), mechanism.answer(FINAL)]
    mechanism.finish()

    assert [b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO", PROOF, b""] == said


def test_scram_acts_as_another() -> None:
    assert b"n,a=o=2Cther,n=us=3Der,r=x" == ScramSha256("us=er", "p", "x", "o,ther").initial()


def test_scram_normalises_names_and_passwords() -> None:
    """RFC 4013, 3: a soft hyphen vanishes, compatibility forms are replaced."""
    assert b"n,,n=IX,r=x" == ScramSha256("I\xadX", "p", "x").initial() == ScramSha256("\u2168", "p", "x").initial()


def test_scram_server_that_does_not_know_the_password_is_found_out() -> None:
    mechanism = scram()
    mechanism.answer(FIRST)

    with pytest.raises(SaslError, match="does not know the password"):
        mechanism.answer(b"v=" + base64.b64encode(bytes(32)))


def test_scram_server_that_proves_nothing_is_not_believed() -> None:
    mechanism = scram()
    mechanism.answer(FIRST)

    with pytest.raises(SaslError, match="did not prove"):
        mechanism.finish()


def test_scram_error_of_the_server_is_told() -> None:
    mechanism = scram()
    mechanism.answer(FIRST)

    with pytest.raises(SaslError, match="unknown-user"):
        mechanism.answer(b"e=unknown-user")


@pytest.mark.parametrize(
    ("challenge", "why"),
    [
        (FIRST.replace(b"rOpr", b"xxxx"), "nonce"),
        (b"r=%b,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096" % NONCE.encode(), "nonce"),
        (FIRST.replace(b"i=4096", b"i=1"), "iterations"),
        (FIRST.replace(b"i=4096", b"i=4000000000"), "iterations"),
        (FIRST.replace(b"i=4096", b"i=-5"), "iterations"),
        (FIRST.replace(b"s=W22", b"s=\xff"), "base64"),
        (b"m=ext," + FIRST, "extension"),
        (b"", "nonce"),
    ],
)
def test_scram_challenge_against_the_rules_is_refused(challenge: bytes, why: str) -> None:
    with pytest.raises(SaslError, match=why):
        scram().answer(challenge)


@pytest.mark.parametrize("mechanism", [Plain("u", "geheim"), Login("u", "geheim"), XOAuth2("u", "geheim")])
def test_secret_is_not_in_what_a_traceback_would_show(mechanism: Mechanism) -> None:
    assert "geheim" not in repr(mechanism)
