"""Ids beside those that mailsync 5.2.7 itself makes, for many odd headers: its msinfo tells what it made of them."""

import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from mailsync.identity import MsgidIdentify, identify

ADDRESSES = rb"""joe|a.b|"a.b"|"a b"|"a@b"|"q\"x"|@|@|@|@|ex.org|[1.2.3.4]|[]|[a|<|>|<|>|,|,|, |:|;|(c)|(c(d))|(|)| | |.
 . | at |at|\|"|''|..|a..b|.x|x.|Joe Doe|@r1,@r2:|undisclosed-recipients:;|grp: a@b, c@d;|Joe <joe@ex.org>|ann@ex.org
"Doe, Joe" <joe@ex.org>|joe@ex.org (Joe Doe)|=?utf-8?q?x=2C?=|=?utf-8?q?M=C3=BC?= <m@x>|root"""
ODD_ADDRESSES = ADDRESSES.replace(b"\n", b"|").split(b"|")
ODD_ADDRESSES += [
    b"\t",
    b"\n ",
    b"\xe4",
    b'\x1b$B%"<(B',
    b"\x1b$B!<\x1b(B",
    b"\x1b(B",
    b"\x07",
    b"\x7f",
    b"M\xfc <m@x>",
]
TEXTS = [b"a", b"Hi there", b" ", b"  ", b"\t", b"\n ", b"\n\t", b"\n  ", b"<", b">", b"@", b"x@y", b"\xff", b"\x0b"]
TEXTS += [b"\x01", b"\x7f", b"<a@b>", b"(c)", b'"', b"\r", b"[x]", b"\x80"]


def ask(original: str, home: Path, kind: str, heads: list[bytes]) -> list[bytes | None]:
    """The id that 5.2.7 makes of each head, one to a box; None: it says that there is none."""
    (home / ".mailsync").write_text(
        "store a { pat a/% prefix a/ } store b { pat b/% prefix b/ } channel ab a b { msinfo .msinfo }\n"
    )
    for side in "ab":
        (home / side).mkdir()
    for number, head in enumerate(heads):
        (home / "a" / f"m{number}").write_bytes(b"From x@y Sat Nov 21 20:36:44 2026\n" + head + b"\n\nbody\n\n")
        (home / "b" / f"m{number}").touch()  # it does not synchronise a box in the run in which it makes it
    subprocess.run([original, "-t", kind, "ab"], cwd=home, check=True, capture_output=True, timeout=60)
    found: dict[bytes, bytes] = {}
    box = b""
    for line in (home / ".msinfo").read_bytes().partition(b"\nSubject: ab\n\n")[2].split(b"\n"):
        if not line.startswith(b"<"):
            box = line
        elif line != b"<>":
            found[box] = line
    return [found.get(b"m%d" % number) for number in range(len(heads))]


def ours(kind: str, heads: list[bytes]) -> list[bytes | None]:
    """None for an id that 5.2.7 does not know."""
    found = [identify(kind)(head) for head in heads]
    return [id.encode("latin-1") if id and not id.startswith("<md5:") else None for id in found]


def odd_heads(seed: int, count: int) -> list[bytes]:
    chance = random.Random(seed)

    def joined(parts: list[bytes], most: int) -> Callable[[], bytes]:
        return lambda: b"".join(chance.choices(parts, k=chance.randrange(most)))

    values = {b"From": joined(ODD_ADDRESSES, 8), b"To": joined(ODD_ADDRESSES, 9), b"Cc": joined(ODD_ADDRESSES, 3)}
    values |= dict.fromkeys((b"Subject", b"Date", b"Message-ID", b"X-Junk"), joined(TEXTS, 7))
    heads: list[bytes] = []
    while len(heads) < count:
        lines = [b"X-First: 1"]
        for name, value in values.items():
            for _ in range(chance.choice([0, 1, 1, 1, 1, 2])):
                spelt = chance.choice([name, name, name.upper(), name.lower(), name + b" ", name + b"\t"])
                lines.append(spelt + chance.choice([b":", b": ", b": ", b":  ", b":\t", b":\n "]) + value())
        chance.shuffle(lines)
        head = b"\n".join(lines)
        if b"\n\n" not in head.replace(b"\r", b""):
            heads.append(head)
    return heads


ORDINARY = [
    b"From: Joe <joe@ex.org>\nTo: ann@ex.org\nSubject: Hi\nDate: Mon, 1 Jan 2024 10:00:00 +0000\nMessage-ID: <m1@x>",
    b'From: "Doe, Joe" <joe@ex.org>\nTo: Ann <ann@ex.org>,\n\tb@ex.org\nSubject: =?utf-8?q?x?=\n y\nMessage-Id: <2@x>',
    b"From: joe@ex.org (Joe)\nTo: undisclosed-recipients:;\nSubject:\nDate: x",
    b"From: cron\nSubject: Cron <root@vm>",
    b"Message-ID: <a\0b@c>\nSubject: NUL\0here",
    b"X-Nothing: at all",
]


@pytest.mark.parametrize("kind", ["msgid", "md5"])
def test_ids_are_those_of_mailsync_5_2_7(original: str, home: Path, kind: str) -> None:
    heads = ORDINARY + odd_heads(7, 250)

    theirs = ask(original, home, kind, heads)

    assert dict(zip(heads, theirs, strict=True)) == dict(zip(heads, ours(kind, heads), strict=True))


def test_quick_way_and_long_way_to_a_message_id_agree() -> None:
    for head in odd_heads(8, 2000):
        # A field name that is split defeats the quick way only.
        assert MsgidIdentify().sure(head) == MsgidIdentify().sure(re.sub(rb"(?i)(message)(-id)", rb"\1\r\2", head))
