"""Mail to measure with: always the same for the same seed, its sizes, flags and mailboxes spread as in life."""

from __future__ import annotations

import base64
import math
import os
import re
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from email.utils import formatdate
from pathlib import Path
from random import Random
from typing import BinaryIO

BOXES = tuple(f"box{number}" for number in range(10))
SIZES = {"normal": (7_000, 27_000), "small": (2_500, 6_000)}  # bytes: median, mean
BEGIN = 1_500_000_000  # the date of the first message, seconds since the epoch

_LARGEST = 4_000_000
_ATTACHES = 30_000  # from this size on most of a message is an attachment
_FLAGS = {"S": 55, "RS": 20, "FS": 5, "F": 2, "": 18}  # Maildir's letters, and how many of a hundred have them
_HOSTS = ("example.org", "lists.example.net", "mail.example.com", "uni.example.edu")
_PEOPLE = ("ada", "ben", "chloe", "dana", "emil", "fritz", "gina", "hugo", "ida", "jan")
_WORDS = re.findall(
    r"\w+",
    "the a of to in and that is for it on with as was be at by this have from or one had not but what all were we "
    "when your can said there each which their time will way about many then them would write like so these her "
    "meeting draft invoice ticket release weekend garden train photograph question answer tomorrow",
)
_POSTMARK = re.compile(rb"^From \S+ +(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) ", re.MULTILINE)
_FROM = re.compile(rb"^(>*From )", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Mail:
    """A message, the mailbox it lies in, when it came, and its flags as Maildir's letters."""

    box: str
    raw: bytes
    date: int
    flags: str


def mails(count: int, *, seed: str = "1", sizes: str = "small", boxes: tuple[str, ...] = BOXES) -> Iterator[Mail]:
    """Mail in skewed mailboxes: the first one holds a third. No two messages of any seeds have the same id."""
    rng = Random(f"{seed} {sizes}")
    median, mean = SIZES[sizes]
    sigma = math.sqrt(2 * math.log(mean / median))
    text, attachment = _text(rng), base64.encodebytes(rng.randbytes(_LARGEST * 3 // 4))
    where = rng.choices(boxes, [1 / (rank + 1) for rank in range(len(boxes))], k=count)
    flags = rng.choices(tuple(_FLAGS), list(_FLAGS.values()), k=count)
    date = BEGIN
    for number in range(count):
        date += rng.randint(60, 4_000)
        header = _header(rng, f"{seed}.{number}", date)
        size = min(_LARGEST, int(rng.lognormvariate(math.log(median), sigma))) - len(header)
        words = _cut(rng, text, size if size < _ATTACHES else 2_000)
        rest = _cut(rng, attachment, size - len(words)) if size >= _ATTACHES else b""
        yield Mail(where[number], header + b"\n" + words + rest, date, flags[number])


def write_maildirs(root: Path, mail: Iterable[Mail], *, arriving: bool = False, boxes: tuple[str, ...] = BOXES) -> None:
    """Put mail into the Maildirs below `root`. What is `arriving` comes as by delivery: in new/, without flags."""
    for box in boxes:
        for part in ("cur", "new", "tmp"):
            (root / box / part).mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(mail):
        name = f"{one.date}.M{number}P1.bench"
        path = f"{root}/{one.box}/new/{name}" if arriving else f"{root}/{one.box}/cur/{name}:2,{one.flags}"
        with open(path, "xb", buffering=0) as file:
            file.write(one.raw)
        if not arriving:
            os.utime(path, (one.date, one.date))


def write_mboxes(root: Path, mail: Iterable[Mail]) -> None:
    """Append mail to the mbox files below `root`."""
    root.mkdir(parents=True, exist_ok=True)
    files: dict[str, BinaryIO] = {}
    try:
        for one in mail:
            if one.box not in files:
                files[one.box] = (root / one.box).open("ab")
            files[one.box].write(_mbox_entry(one))
    finally:
        for file in files.values():
            file.close()


def count_maildirs(root: Path) -> int:
    boxes = (name for name in os.listdir(root) if name.startswith("box"))
    parts = (root / box / part for box in boxes for part in ("cur", "new"))
    return sum(len(os.listdir(part)) for part in parts)


def count_mboxes(root: Path) -> int:
    """Ours only: none of them has a postmark within its text."""
    texts = ((root / box).read_bytes() for box in os.listdir(root))
    return sum(len(_POSTMARK.findall(text)) - text.count(b"FOLDER INTERNAL DATA") for text in texts)


def _mbox_entry(mail: Mail) -> bytes:
    status = "Status: " + ("RO" if "S" in mail.flags else "O") + "\n"
    letters = "".join(letter for flag, letter in (("R", "A"), ("F", "F")) if flag in mail.flags)
    if letters:
        status += f"X-Status: {letters}\n"
    begin = f"From bench@example.org {time.asctime(time.gmtime(mail.date))}\n{status}"
    return begin.encode() + _FROM.sub(rb">\1", mail.raw) + b"\n"


def _header(rng: Random, id: str, date: int) -> bytes:
    person, host = rng.choice(_PEOPLE), rng.choice(_HOSTS)
    lines = [f"Return-Path: <{person}@{host}>"]
    for hop in range(rng.randint(1, 4)):
        lines += [
            f"Received: from mx{hop}.{host} (mx{hop}.{host} [192.0.2.{rng.randint(1, 254)}])",
            f"\tby in{hop}.example.org with ESMTPS id {rng.getrandbits(40):010x}",
            f"\tfor <you@example.org>; {formatdate(date - hop)}",
        ]
    if rng.random() < 0.5:
        lines += [
            f"DKIM-Signature: v=1; a=rsa-sha256; c=relaxed/relaxed; d={host}; s=one;",
            f"\th=from:to:subject:date:message-id; bh={rng.getrandbits(160):040x};",
            f"\tb={rng.getrandbits(240):060x}\n\t {rng.getrandbits(240):060x}",
        ]
    lines += [
        f"From: {person.title()} Example <{person}@{host}>",
        "To: You <you@example.org>",
        "Subject: " + " ".join(rng.choices(_WORDS, k=rng.randint(2, 9))),
        f"Date: {formatdate(date)}",
        f"{rng.choice(('Message-ID', 'Message-ID', 'Message-Id'))}: <{id}.{rng.getrandbits(48):012x}@{host}>",
        "MIME-Version: 1.0",
        "Content-Type: text/plain; charset=UTF-8",
    ]
    if rng.random() < 0.3:
        lines += [f"List-Id: <talk.{host}>", f"List-Unsubscribe: <mailto:talk-request@{host}?subject=unsubscribe>"]
    return "\n".join(lines).encode() + b"\n"


def _text(rng: Random) -> bytes:
    """Lines to cut bodies from; some are quoted, some begin as a postmark does, some are not ASCII."""
    lines = []
    for _ in range(6_000):
        words = " ".join(rng.choices(_WORDS, k=rng.randint(8, 13)))
        lines.append(rng.choices((words, f"> {words}", f"für {words}", f"From {words}", ""), (84, 10, 2, 1, 3))[0])
    return "\n".join(lines).encode() + b"\n"


def _cut(rng: Random, text: bytes, size: int) -> bytes:
    """About so many bytes, in whole lines; at least one line."""
    begin = text.find(b"\n", rng.randrange(max(1, len(text) - size - 200))) + 1
    return text[begin : text.find(b"\n", min(begin + max(size, 1), len(text) - 1)) + 1]
