"""A memory that is not ours, or too much of one: no mail is lost by what somebody else has us remember."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from mailsync.msinfo import mailbox

from .mail import configure, digests, forget_cache, maildir, mbox, message, run, run_within_bounds
from .tried import HOSTILE, PLANTED

CONFIG = """\
store md { pat md/*  prefix md/ }
store old { pat old/*  prefix old/  format FORMAT }
channel c md old { msinfo WHERE }
"""
POSTMARK = b"From a@x Mon Jan  1 00:00:00 2024\n"
HEAD = b"From: mailsync\nSubject: c\n"
LATER = b"X-Mailsync-Date: 2999-01-01T00:00:00.000000+00:00\n"
# What a sender who knows his own Message-IDs, and some others, would have us believe that both sides have seen.
BODY = b"box\n<1@x> ()\n<2@x> ()\n<new@x> ()\n<also-new@x>\n"
FORGED: Mapping[str, bytes] = {
    "by mail": b"Received: from evil\n" + HEAD + LATER + b"\n" + BODY,
    "with an id": HEAD + LATER + b"Message-ID: <evil@x>\n\n" + BODY,
    "delivered": b"Return-Path: <evil@x>\n" + HEAD + LATER + b"\n" + BODY,
    "put there": HEAD + LATER + b"\n" + BODY,
    "put there, complete": HEAD
    + b"X-Mailsync-Format: 1 msgid\nX-Mailsync-Lines: 5 %d\n" % len(BODY)
    + LATER
    + b"\n"
    + BODY,
    "in a body, not quoted": b"Received: x\nFrom: a@b\n\nhello\n\n" + POSTMARK + HEAD + LATER + b"\n" + BODY,
    "older": HEAD + b"X-Mailsync-Date: 1999\n\n" + BODY,
    "of another kind": HEAD + b"X-Mailsync-Format: 1 md5\n" + LATER + b"\n" + BODY,
    "empty": HEAD + LATER + b"\n",
    "cut off": HEAD + b"X-Mailsync-Lines: 99\n" + LATER + b"\n" + BODY,
}


def synced(home: Path, format: str = "maildir", where: str = ".msinfo") -> None:
    """Two messages that both sides have, and two on each that only it has: nobody deleted any."""
    configure(home, CONFIG.replace("FORMAT", format).replace("WHERE", where))
    maildir(home / "md/box", message(1), message(2))
    assert 0 == run("c").code
    maildir(home / "md/box", message(1), message(2), message("new"), message("also-new"))


def lost_nothing(home: Path) -> None:
    wanted = {"md/box": 4, "old/box": 4}
    for _ in range(2):
        assert wanted == {
            name: len(box) for side in ("md/*", "old/*") for name, box in digests(home, side).items() if "box" in name
        }
        forget_cache(home)
        assert [] == run("-s", "--json", "c").steps


@HOSTILE
@pytest.mark.parametrize("cached", [True, False])
@pytest.mark.parametrize("name", FORGED)
def test_forged_memory_beside_ours_deletes_nothing(home: Path, name: str, cached: bool) -> None:
    """The newest counted: what the forged one remembers, and only one side has, was deleted there."""
    synced(home)
    with (home / ".msinfo").open("ab") as file:
        file.write(b"\n" + POSTMARK + FORGED[name] + b"\n")
    if not cached:
        forget_cache(home)

    ran = run("c")

    assert (0, False) == (ran.code, "deleted" in ran.out or "Expunged" in ran.out)
    lost_nothing(home)


@HOSTILE
@pytest.mark.parametrize("name", FORGED)
def test_forged_memory_in_the_mail_is_no_memory(home: Path, name: str) -> None:
    """Where msinfo is in a mailbox of its own, what comes into another one never counts."""
    synced(home)
    if name == "in a body, not quoted":
        mbox(home / "old/spool", FORGED[name])
    else:
        maildir(home / "md/spool", FORGED[name], message(7))

    assert 0 == run("c").code

    forget_cache(home)
    assert [] == run("-s", "--json", "c").steps
    assert {"md/box": 4} == {name: len(box) for name, box in digests(home, "md/*").items() if name == "md/box"}
    assert {"old/box": 4} == {name: len(box) for name, box in digests(home, "old/*").items() if name == "old/box"}


@HOSTILE
def test_forged_memory_of_an_inbox_that_has_ours_deletes_nothing(home: Path) -> None:
    """msinfo in a mailbox to which mail is delivered, by a program that does not quote."""
    synced(home, "mbox", "old/box")
    carrier = b"Received: x\nMessage-ID: <carrier@x>\n\nhello\n\n"
    with (home / "old/box").open("ab") as file:
        file.write(b"\n" + POSTMARK + carrier + POSTMARK + FORGED["put there"] + b"\n")

    assert 0 == run("c").code

    for store in ("md/*", "old/*"):
        [box] = digests(home, store).values()
        assert 5 == len(box)


@PLANTED
def test_belief_in_the_newest_memory_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mailbox, "agreed", lambda one, other: one)

    with pytest.raises(AssertionError):
        test_forged_memory_beside_ours_deletes_nothing(home, "put there", True)


# Instead of ours: what must be told, if it is an error; else what is wrong in it is passed over.
ODD: Mapping[str, tuple[bytes, str]] = {
    "many lines": (HEAD + b"\nbox\n" + b"".join(b"<%d@x>\n" % n for n in range(10_000)), ""),
    "lines of a megabyte": (HEAD + b"\nbox\n<1@x>\n" + (b"n" * 10**6 + b"\n") * 5, "the name is too long"),
    "one box again and again": (HEAD + b"\n" + b"box\n<1@x>\n" * 20_000, ""),
    "one id again and again": (HEAD + b"\nbox\n" + b"<1@x>\n" * 20_000, ""),
    "one alias again and again": (HEAD + b"\nbox\n" + b"<alias:a b ()\n" * 20_000, ""),
    "many boxes": (HEAD + b"\n" + b"".join(b"b%d\n" % n for n in range(300)), ""),
    "flags without end": (HEAD + b"\nbox\n<1@x> (" + b" k" * 10**6 + b")\n", ""),
    "folds without end": (HEAD.rstrip() + b"\n" + b" \n" * 10**6 + b"\nbox\n", ""),
    "names that go up": (HEAD + b"\n../../evil\n<1@x>\n/etc/evil\n<2@x>\n=mailsync=%2e%2e\n<3@x>\n", "are no names"),
    "NUL": (HEAD + b"\nbo\0x\n<1\0@x>\n\0\n", "cannot hold NUL"),
    "UTF-16": (HEAD + b"\n" + "box\n<1@x>\n".encode("utf-16"), "cannot hold NUL"),
    "escapes": (HEAD + b"\n\x1b[31mred\n<\x1b[2J@x> (\x1b)\n", ""),
}
REFUSED: Mapping[str, bytes] = {
    "cut off": HEAD + b"X-Mailsync-Lines: 9 99\n\nbox\n",
    "lies of its size": HEAD + b"X-Mailsync-Lines: 1 99999999999\n\nbox\n",
    "is no number": HEAD + b"X-Mailsync-Lines: " + b"9" * 9999 + b"\n\nbox\n",
    "is of a later format": HEAD + b"X-Mailsync-Format: 99 msgid\n\nbox\n",
    "is of another kind": HEAD + b"X-Mailsync-Format: 1 md5\n\nbox\n",
}


@HOSTILE
@pytest.mark.parametrize("name", ODD)
def test_odd_memory_costs_little_and_no_mail(home: Path, name: str) -> None:
    text, told = ODD[name]
    synced(home)
    (home / ".msinfo").write_bytes(POSTMARK + text + b"\n")

    ran = run_within_bounds(home, "c")

    assert ran.code == (1 if told else 0), ran.err
    assert told in ran.err
    assert len(ran.err) < 20_000
    assert not (home.parent / "evil").exists()
    assert "\x1b" not in ran.out + ran.err
    assert {"md/box": 4, "old/box": 4} == {
        name: len(box) for side in ("md/*", "old/*") for name, box in digests(home, side).items() if "box" in name
    }


@HOSTILE
@pytest.mark.parametrize("name", REFUSED)
def test_memory_that_cannot_be_right_stops_the_run(home: Path, name: str) -> None:
    synced(home)
    (home / ".msinfo").write_bytes(POSTMARK + REFUSED[name] + b"\n")

    ran = run_within_bounds(home, "c")

    assert 8 == ran.code
    assert ".msinfo" in ran.err
    assert (4, 2) == (len(digests(home, "md/*")["md/box"]), len(digests(home, "old/*")["old/box"]))


@HOSTILE
def test_memory_that_is_larger_than_any_stops_the_run(home: Path) -> None:
    synced(home)
    with (home / ".msinfo").open("wb") as file:
        file.write(POSTMARK + HEAD + b"\nbox\n")
        for _ in range(280):
            file.write(b"<1@x>\n" * 170_000)

    ran = run_within_bounds(home, "c")

    assert 8 == ran.code
    assert "are no memory" in ran.err
