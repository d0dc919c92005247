"""Mail that means harm: copied as it is, in little memory and time, and no run finds anything to do after that."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pytest

from mailsync.drivers import mboxtext
from mailsync.header import HOLD, MOST, TELLING, bounded, fields, parts, reduced
from mailsync.identity import identify
from mailsync.report import columns

from .mail import Mail, configure, digests, forget_cache, local, maildir, message, put, run, run_within_bounds
from .tried import HOSTILE, PLANTED, Points

FORMATS = ("maildir", "maildir++", "mbox", "mh")
MB = 1_000_000
EVIL = "\x1b[31m\x1b]0;evil\x07\x9b2J\u202egnp.\r\x08\x00"  # colour, title, C1, backwards, overwriting, NUL
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e]")  # what must never reach a terminal
LAW = "From: a@x\nSubject: hostile\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n"

# What is read whole by every program: all of them in one mailbox.
SMALL: Mapping[str, bytes] = {
    "id of blanks": b"Message-ID:      \t  \n\nhi\n",
    "id over many lines": b"Message-ID: <a\n\t b\n \t\n c@x>\n\nhi\n",
    "id with NUL": b"Message-ID: <a\0b@x>\n\nhi\n",
    "id with escapes": f"Message-ID: <{EVIL}@x>\n\nhi\n".encode(),
    "id in 8 bits": bytes(range(0x80, 0x100)).join([b"Message-ID: <", b"@x>\n\nhi\n"]),
    "id without brackets": b"Message-ID: just text with blanks\n\nhi\n",
    "id in brackets": b"Message-ID: <<<a@x>>>\n\nhi\n",
    "id of quotes": b'Message-ID: <"a\\"> <b"@x>\n\nhi\n',
    "id like a postmark": b"Message-ID: <x>\nFrom me\n >From you\n\nFrom Mon Jan  1 00:00:00 2024\n",
    "id like a line of msinfo": b"Message-ID: <md5:00000000000000000000000000000000\n\nhi\n",
    "id like an alias": b"Message-ID: <alias:a b ()>\n\nhi\n",
    "id of nothing": b"Message-ID: <>\nSubject: nothing\n\nhi\n",
    "ids, many": b"".join(b"Message-ID: <many-%d@x>\n" % n for n in range(1000)) + b"\nhi\n",
    "escapes everywhere": f"From: {EVIL} <{EVIL}@x>\nSubject: {EVIL}\nMessage-ID: <esc{EVIL}>\n\n{EVIL}\n".encode(),
    "escapes, encoded": b"From: =?utf-8?q?=1B[31m=9B=00?= <e@x>\nSubject: =?us-ascii?b?G1szMW0K?=\n\nhi\n",
    "odd charsets": b"Subject: =?zlib?b?eJw=?= =?punycode?q?a-b?= =?idna?q?xn--?= =?undefined?q?a?= =?\0?q?b?=\n\nhi\n",
    "broken MIME": b"MIME-Version: 1.0\nContent-Type: multipart/mixed; boundary=\n\n--\n----\n--x--\nContent-Type\n",
    "deep MIME": b"".join(b"Content-Type: multipart/mixed; boundary=%d\n\n--%d\n" % (n, n) for n in range(500)),
    "CR only": LAW.replace("\n", "\r").encode() + b"\rhi\r",
    "CR in the header": b"Message-ID: <cr@x>\n\rSubject: a\n \r \n\r\r\nhi\n",
    "NUL only": b"\0" * 1000,
    "line ends only": b"\n" * 1000,
    "no header": b"\n\n\nFrom x\n",
    "header like an mbox": b"From a@x Mon Jan  1 00:00:00 2024\nFrom b@x Mon Jan  1 00:00:00 2024\n\nhi\n",
    "mboxes in the body": message("mboxes") + b"\nFrom a@x Mon Jan  1 00:00:00 2024\n" * 50,
    "lengths that lie": message("lengths").replace(b"\n\n", b"\nContent-Length: -5\nContent-Length: 9999999999\n\n"),
    "flags of its own": b"Status: RO\nX-Status: DFTA\nX-Keywords: evil\nX-UID: -1\nX-IMAPbase: 9 9\n" + message("own"),
    "pseudo message": b"X-IMAP: 1 2\nSubject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\n" + message("pseudo"),
    "two with one id": message("one-id", b"the one\n"),
    "one id for two": message("one-id", b"the other\n"),
    "like msinfo, by mail": b"Received: x\nFrom: mailsync\nSubject: mail\n\nbox\n<like@x>\n",
}


# What no program should hold in memory: a beginning, what is repeated, how often, and an end. Short form: a twentieth.
LARGE: Mapping[str, tuple[bytes, bytes, int, bytes]] = {
    "header without end": (b"Message-ID: <endless@x>\nX: ", b"y" * MB, 50, b""),
    "header line before the id": (b"X: ", b"y" * MB, 50, b"\nMessage-ID: <late@x>\n\nhi\n"),
    "header lines": (b"Message-ID: <lines@x>\n", b"".join(b"X-%d: v\n" % n for n in range(10**4)), 10, b"\nhi\n"),
    "lines that are no header": (b"", b"abcdefg\n" * 10**5, 30, b""),
    "folded lines": (b"X: a\n", b" b\n" * 10**5, 10, b"Message-ID: <folded@x>\n\nhi\n"),
    "folded id": (b"Message-ID: <a\n", b" b\n" * 10**5, 10, b" c@x>\n\nhi\n"),
    "folded flags": (b"Status: RO\n", b" D\n" * 10**5, 10, b"Message-ID: <folded-flags@x>\n\nhi\n"),
    "flags without end": (b"Subject: x\n", b"Status: RO\nX-Keywords: evil\n" * 10**4, 10, b"\nhi\n"),
    "long id": (b"Message-ID: <", b"i" * 10**5, 10, b"@x>\n\nhi\n"),
    "many ids": (b"Subject: x\n", b"".join(b"Message-ID: <%d@x>\n" % n for n in range(10**4)), 10, b"\nhi\n"),
    "received again and again": (b"", b"Received: from x by y\n" * 10**4, 10, b"Subject: x\n\nhi\n"),
    "line without end": (b"Message-ID: <line@x>\n\n", b"z" * MB, 100, b""),
    "body": (b"Message-ID: <body@x>\n\n", (b"0123456789" * 7 + b"\n") * 40_000, 100, b"\n"),
    "NUL": (b"", b"\0" * MB, 50, b""),
    "From, quoted, in the header": (b"Message-ID: <quoted@x>\n", b">From x: y\n" * 10**5, 2, b"\nhi\n"),
    "From, at each line": (b"Message-ID: <from@x>\n\n", b"From \n>From \n\n" * 10**4, 10, b""),
    "blank lines": (b"Message-ID: <blank@x>\n\n", b"\n" * MB, 20, b""),
    "line ends, mixed": (b"Message-ID: <mixed@x>\n\n", b"\r\n\n\r\r\n" * 10**5, 20, b""),
    "addresses": (b"To: ", b",a@b" * 10**5, 4, b"\nFrom: " + b"(" * 10**5 + b"\n\nhi\n"),
}


def stores(home: Path, format: str) -> None:
    """A Maildir store `md`, another `to` in the format, and a third one `back`."""
    names = {"md": "maildir", "to": format, "back": "maildir"}
    blocks = [f"store {name} {{ pat {name}/* prefix {name}/ format {kind} }}\n" for name, kind in names.items()]
    configure(home, "".join(blocks) + "channel c md to { msinfo .c }\nchannel d to back { msinfo .d }\n")


def settled(home: Path, *, bounded: bool = False) -> None:
    """There and back it is what it was, and there is nothing to do any more, whatever is known."""
    go = partial(run_within_bounds, home) if bounded else run
    for channel in "cd":
        ran = go(channel)
        assert (0, "") == (ran.code, ran.err)
        forget_cache(home)
        assert [] == go("-s", "--json", channel).steps
    assert digests(home, "md/*") == {name.replace("back", "md"): box for name, box in digests(home, "back/*").items()}


@HOSTILE
@pytest.mark.parametrize("format", FORMATS)
def test_odd_mail_goes_there_and_back(home: Path, format: str, record_property: Points) -> None:
    stores(home, format)
    maildir(home / "md/box", *SMALL.values())

    settled(home)

    assert len(SMALL) == len(digests(home, "md/*")["md/box"])
    record_property("points", len(SMALL))


@HOSTILE
@pytest.mark.parametrize("format", FORMATS)
def test_odd_mail_that_lies_in_any_format_is_copied_to_a_maildir(
    home: Path, format: str, record_property: Points
) -> None:
    put(local(home, "md/*", format=format), "md/box", [Mail(raw) for raw in SMALL.values()])
    stores(home, "maildir")
    configure(home, (home / ".mailsync").read_text().replace("md/ format maildir", f"md/ format {format}", 1))

    ran = run("c")

    assert (0, "") == (ran.code, ran.err)
    assert digests(home, "md/*", format)["md/box"] == digests(home, "to/*")["to/box"]
    forget_cache(home)
    assert [] == run("-s", "--json", "c").steps
    record_property("points", len(SMALL))


@HOSTILE
@pytest.mark.parametrize("format", ["mbox", "mh"])
def test_large_mail_goes_there_and_back_in_little_memory_and_time(
    home: Path, format: str, record_property: Points
) -> None:
    large_goes(home, format, 20)
    record_property("points", len(LARGE))


@HOSTILE
@pytest.mark.torture
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", LARGE)
@pytest.mark.parametrize("format", ["maildir++", "mbox"])
def test_larger_mail_goes_there_and_back_in_little_memory_and_time(home: Path, format: str, name: str) -> None:
    large_goes(home, format, 1, [name])


def large_goes(home: Path, format: str, part: int, names: Sequence[str] = tuple(LARGE)) -> None:
    stores(home, format)
    for name in names:
        begin, again, times, end = LARGE[name]
        with maildir(home / "md" / name, message(1))[0].with_name("2.x:2,").open("wb") as file:
            file.write(begin)
            for _ in range(-(-times // part)):
                file.write(again)
            file.write(end)

    settled(home, bounded=True)


# ---- on the screen ---------------------------------------------------------------------------------------------------


@HOSTILE
def test_no_escape_reaches_the_screen(home: Path, record_property: Points) -> None:
    """Nor do line ends within a subject, an id or a name, which would forge lines of their own."""
    stores(home, "mbox")
    shown = [raw for name, raw in SMALL.items() if "escapes" in name or "id" in name]
    maildir(home / "md" / EVIL.replace("\0", "\n"), *shown)
    (home / "md" / f"{EVIL[:-1]}.file").write_text(EVIL)
    points = 0
    for words in (("-M", "c"), ("-m", "-vw", "-d", "c"), ("--check", "c"), ("-m", "md"), ("-m", "md", "to"), ("md",)):
        for args in (words, ("--json", *words)):
            ran = run("-s", *args) if "c" in args and "--check" not in args else run(*args)
            assert not RAW.search(ran.out + ran.err), args
            points += 1
    for args in ((EVIL,), (f"c:{EVIL}",), ("-f", EVIL, "c"), (f"--{EVIL}",), ("--apply", EVIL), ("-t", EVIL, "c")):
        ran = run(*args)
        assert ran.code
        assert not RAW.search(ran.out + ran.err), args
        points += 1

    assert "\\x1b[31m" in run("-M", "-s", "c").out
    record_property("points", points)


@PLANTED
def test_raw_text_on_the_screen_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "printable", lambda text: text)

    with pytest.raises(AssertionError):
        test_no_escape_reaches_the_screen(home, lambda name, value: None)


# ---- long headers ----------------------------------------------------------------------------------------------------

NAMED = (
    b"Message-ID: <1@x>",
    b"message-id :\n <2@x>",
    b"Received: a\n b",
    b"Subject: " + b"s" * MOST,
    b"X: " + b"x" * HOLD,
)


def in_pieces(raw: bytes, size: int) -> list[bytes]:
    return [raw[at : at + size] for at in range(0, len(raw), size)]


@HOSTILE
@pytest.mark.parametrize("size", [1, 7, 4096, 10**6])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_of_a_long_header_that_is_kept_which_tells_the_message(end: bytes, size: int) -> None:
    header = b"\n".join([*NAMED, *NAMED, b""])
    raw = header.replace(b"\n", end) + end + b"To: body"
    size = max(size, len(raw) // 2000)

    assert list(bounded(fields(header, TELLING))) == list(fields(reduced(in_pieces(raw, size)), TELLING))
    assert identify("msgid")(header) == identify("msgid")(reduced(in_pieces(raw, size)))
    assert identify("md5")(header) == identify("md5")(reduced(in_pieces(raw, size)))
    assert raw == b"".join(text for _, text in parts(in_pieces(raw, size)))
    assert max(len(text) for part, text in parts(in_pieces(raw, size)) if part != "body") < HOLD + size


@HOSTILE
def test_ids_of_any_length_are_bounded() -> None:
    """A Message-ID of a megabyte would stand in each msinfo, cache and plan."""
    for header in (b"Message-ID: <" + b"i" * MB + b">\n", b"Message-ID: " + b"i" * MB, b"Subject: " + b"s" * MB):
        for kind in ("msgid", "md5"):
            assert len(identify(kind)(header) or "") <= MOST + 10


@PLANTED
def test_header_that_is_held_whole_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsync.header.HOLD", 2**40)

    with pytest.raises(AssertionError):
        test_of_a_long_header_that_is_kept_which_tells_the_message(b"\n", 4096)


@HOSTILE
def test_flags_that_a_header_has_no_room_for_fail_and_nothing_is_mangled(home: Path) -> None:
    """A header that begins as the rest of a line, and goes on for a megabyte: a line before it would take it in."""
    raw = b" folded" + b"\n more" * 300_000 + b"\n\nhi\n"
    stores(home, "mbox")
    file = maildir(home / "md/box", raw)[0]
    assert 0 == run("c").code
    file.rename(file.with_name(f"{file.name}FS"))

    ran = run("c")

    assert 1 == ran.code
    assert "no line can stand before it" in ran.err
    assert digests(home, "md/*")["md/box"] == digests(home, "to/*")["to/box"]
    assert raw in (home / "to/box").read_bytes()


# ---- separators ------------------------------------------------------------------------------------------------------


@PLANTED
def test_separators_in_bodies_are_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If they were not quoted."""
    monkeypatch.setattr(mboxtext, "_quoted", lambda chunks: chunks)

    with pytest.raises(AssertionError):
        test_odd_mail_goes_there_and_back(home, "mbox", lambda name, value: None)
