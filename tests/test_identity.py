"""Ids and digests of messages, from raw bytes."""

from hashlib import md5
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.identity import canonical, examine, forged, hidden, identify, key
from mailsync.model import HIDDEN, Identify, Key, MessageId

MSGID, MD5 = identify("msgid"), identify("md5")


def hexed(text: bytes) -> str:
    return md5(text).hexdigest()


@pytest.mark.parametrize(
    ("raw", "id"),
    [
        (b"noangle@x", "<noangle@x>"),
        (b"<no close@x", "<no.close@x>"),
        (b"<with space@x.y>", "<with.space@x.y>"),
        (b"<tab\there@x>", "<tab.here@x>"),
        (b"\n <fold@x>", "<fold@x>"),
        (b"\n\t<foldtab@x>", "<foldtab@x>"),
        (b"<fold-in\n side@x>", "<fold-in.side@x>"),
        (b"<one@x>\nMessage-ID: <two@x>", "<one@x>"),
        (b"[bracket@x]", "<[bracket@x]>"),
        (b"<a@b> (comment)", "<a@b>"),
        (b"(comment) <a2@b>", "<(comment).<a2@b>"),
        (b'"quoted" <q@b>', '<"quoted".<q@b>'),
        (b"<a@b><c@d>", "<a@b>"),
        (b"<  >", "<..>"),
        (b"< a@b >", "<.a@b.>"),
        (b"<a>b@c>", "<a>"),
        (b"<<dbl@x>>", "<<dbl@x>"),
        (b"\x0b<vt@x>", "<.<vt@x>"),
        (b"<a@b", "<a@b>"),
        (b"a@b>", "<a@b>"),
        (b"<a\0b@c>", "<a>"),
        (b"<a\x7fb\x01c>", "<a.b.c>"),
        (b"<\x80\xff@c>", "<\x80\xff@c>"),
        (b"<a\rb@c>", "<ab@c>"),
    ],
)
def test_message_id_is_the_one_of_mailsync_5_2_7(raw: bytes, id: str) -> None:
    head = b"From: joe@x\nMessage-ID: " + raw

    assert id == MSGID(head)
    assert id == MSGID(head.replace(b"\n", b"\r\n") + b"\r\n")
    assert id == MSGID(head[12:]), "Message-ID is the first line"


@pytest.mark.parametrize("head", [b"MESSAGE-id:<a@b>", b"Message-ID \t: <a@b>", b"Message-ID\n : <a@b>"])
def test_field_name_is_found_in_any_spelling(head: bytes) -> None:
    assert MSGID(b"X: y\n" + head) == "<a@b>"


@pytest.mark.parametrize("raw", [b"", b"  ", b"<>", b"<", b">", b"<> (none)"])
def test_empty_message_id_is_none(raw: bytes) -> None:
    head = b"Message-ID: " + raw + b"\nDate:  Mon,\n\t1 Jan\nSubject: \xfc\nFrom:\nReceived: b\nReceived: a\n"

    assert "<md5:" + hexed(b"date:Mon, 1 Jan\nsubject:X\nreceived:b\nreceived:a\n") == MSGID(head)


def test_message_id_in_the_body_does_not_count() -> None:
    assert MSGID(b"X: y\n\nMessage-ID: <a@b>") is None
    assert MSGID(b"\nMessage-ID: <a@b>") is None


@pytest.mark.parametrize("rule", [MSGID, MD5])
def test_message_with_nothing_to_tell_it_by_takes_its_whole(rule: Identify) -> None:
    whole = b"X: \xfc\nStatus: RO\n\nbody\n\n\n"

    assert rule(whole) is None
    assert rule.whole([whole]) == "<md5:" + hexed(b"X: X\r\n\r\nbody")


def test_order_of_different_fields_does_not_matter() -> None:
    assert MSGID(b"From: a\nSubject: b") == MSGID(b"Subject:  b \nFrom: a")


def test_md5_example_of_mailsync_5_2_7() -> None:
    head = b"""Date: Mon, 01 Jan 2024 10:00:00 +0000
From: Joe <joe@ex.org>
To: ann@ex.org
Subject: Hi
Message-ID: <m1@x>
"""
    assert MD5(head) == "<>, md5: <1c83734d4a9f8ce6ea86cc383517d066>"


@pytest.mark.parametrize(
    ("to", "string"),
    [
        (b"a@b, Joe <c@d>", b"a@bc@d"),
        (b"a@b\nTo: c@d", b"a@bc@d"),
        (b"undisclosed-recipients:;", b""),
        (b"g: a@b, c@d;, e@f", b"a@bc@de@f"),
        (b'"a.b"@c, "a b"@c, "a@b"@c', b'a.b@c"a b"@c"a@b"@c'),
        (b"joe", b'joe@".MISSING-HOST-NAME."'),
        (b"@@@", b'INVALID_ADDRESS@".SYNTAX-ERROR."'),
        (b"joe@", b'joe@".SYNTAX-ERROR."'),
        (b"a@b c", b'a@bUNEXPECTED_DATA_AFTER_ADDRESS@".SYNTAX-ERROR."'),
        (b"a@[1.2.3.4]", b'a@"[1.2.3.4]"'),
        (b",, a@b,,c@d,", b"a@bc@d"),
        (b"joe at example.org", b"joe@example.org"),
        (b"<@r,@s:a@b>", b"a@b"),
        (b"<a@b", b'a@bMISSING_MAILBOX_TERMINATOR@".SYNTAX-ERROR."'),
        (b"(x) a (y) . b (z) @ c . d", b"a.b@c.d"),
        (b"\x1b$B<(\x1b(B <a@b>", b"a@b"),
    ],
)
def test_addresses_are_read_as_c_client_reads_them(to: bytes, string: bytes) -> None:
    assert f"<>, md5: <{hexed(b'x' + string)}>" == MD5(b"Subject: x\nTo: " + to)


def test_md5_kind_without_its_five_fields_falls_back() -> None:
    assert MD5(b"Cc: a@b\nDate:\n") == "<md5:" + hexed(b"cc:a@b\n")


def test_key_folds_all_but_printable_ascii() -> None:
    plain = MessageId("<a ~@b>")

    assert key(plain) is Key(plain)
    assert key(MessageId("<\x80\xa0\t@b>")) == "<XXX@b>"


@given(st.text(st.characters(max_codepoint=255)))
def test_key_is_printable_ascii_of_the_same_length(text: str) -> None:
    folded = key(MessageId(text))

    assert len(text) == len(folded)
    assert all(" " <= char <= "~" for char in folded)
    assert folded == key(MessageId(folded))


MSINFO = b"Status: \nFrom: mailsync\nSubject: ab\nX-Mailsync-Format: 1 msgid\n"


def test_msinfo_is_hidden() -> None:
    assert hidden(MSINFO)
    assert hidden(MSINFO.replace(b"From: mailsync", b"From: mailsync@host").replace(b"\n", b"\r\n"))
    assert HIDDEN == MSGID(MSINFO) == MD5(MSINFO)
    assert not forged(MSINFO)


@pytest.mark.parametrize("field", [b"Received: x", b"return-path: <>", b"Delivered-To: x", b"Message-ID: <a@b>"])
def test_mail_that_looks_like_msinfo_is_forged_and_shown(field: bytes) -> None:
    assert not hidden(field + b"\n" + MSINFO)
    assert forged(field + b"\n" + MSINFO)


@pytest.mark.parametrize(
    "head",
    [b"From: mailsync\n", b"From: mailsync-users@lists.example\nSubject: x", b"From: mailsync <a@b>\nSubject: x"],
)
def test_other_mail_is_neither_hidden_nor_forged(head: bytes) -> None:
    assert not hidden(head)
    assert not forged(head)


def test_bookkeeping_line_ends_and_blank_lines_at_the_end_do_not_count() -> None:
    plain = b"From: a\nX-UIDs: no\nSubject: b\n\nStatus: body\n\n\nmore"
    kept = b"X-IMAPbase: 1 2\n\t3\nFrom: a\nstatus: RO\nX-UIDs: no\nX-Keywords:\n x\nSubject: b\nX-UID:\n"

    noted = kept + plain[plain.index(b"\n\n") + 1 :] + b"\n\n"

    assert examine([plain]) == examine([noted.replace(b"\n", b"\r\n")])


@pytest.mark.parametrize("mark", [b"X-TUID: qtS+eaB7R/98\n", b"X-OfflineIMAP: 1-2\n", b"X-OfflineIMAP-3-6c: 1-2\n"])
def test_marks_of_other_synchronizers_do_not_count(mark: bytes) -> None:
    """They stand in one of the two copies that such a program has kept equal."""
    plain, marked = b"Subject: a\n\n" + mark, b"Subject: a\n" + mark + b"\n" + mark

    assert examine([plain]) == examine([marked])
    assert examine([plain]) != examine([b"Subject: a\n\n"])


def test_pairing_digest_alone_folds_what_servers_change() -> None:
    a, b = examine([b"Subject: \xfc\t\n\nbody"]), examine([b"Subject: XX\n\nbody"])

    assert a.pairing == b.pairing
    assert a.exact != b.exact
    assert len(a.exact) == 32


RAW = st.lists(
    st.sampled_from(
        [b"Status: x", b"X-UID", b"\n", b"\r\n", b"\r", b"\n\n", b" ", b"\t", b":", b"abc", b"\xfc", b"\0"]
    ),
    max_size=30,
).map(b"".join)


@given(RAW, st.lists(st.integers(0, 60), max_size=8))
def test_chunks_make_no_difference(raw: bytes, cuts: list[int]) -> None:
    at = sorted({0, *(cut for cut in cuts if cut < len(raw)), len(raw)})
    chunks = [raw[begin:end] for begin, end in pairwise(at)]

    assert examine([raw]) == examine(chunks)
    assert MSGID.whole([raw]) == MSGID.whole(chunks)


@given(RAW)
def test_canonical_whole_is_its_own_canonical_whole(raw: bytes) -> None:
    once = b"".join(canonical([raw]))

    assert once == b"".join(canonical([once + b"\r\n"]))
    assert once == b"".join(canonical([once[:1], once[1:]]))


@given(RAW)
def test_line_ends_make_no_difference(raw: bytes) -> None:
    lf = raw.replace(b"\r", b"")

    assert examine([lf]) == examine([lf.replace(b"\n", b"\r\n")])


@given(RAW)
def test_any_bytes_have_an_identity(raw: bytes) -> None:
    for rule in (MSGID, MD5):
        id = rule(raw) or rule.whole([raw])
        assert id.startswith("<")
        assert "\n" not in id
        hidden(raw)


@pytest.mark.parametrize("unit", [b"\r\n", b"\n", b"\r", b"Status:\n", b"x"])
def test_huge_messages_are_digested_in_linear_time(unit: bytes) -> None:
    assert examine([unit * 10**4] * 200)
