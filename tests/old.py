"""For the tests beside other programs: homes with mail in them, mailsync 5.2.7 and ours at work there, and a client."""

from __future__ import annotations

import imaplib
import io
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr, redirect_stdout
from email import message_from_bytes
from email.message import Message
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, Self

from mailsync import cli

from .servers import Login, Server

CONFIG = """\
store a { pat a/% prefix a/ }
store b { pat b/% prefix b/ }
channel ab a b { msinfo .msinfo }
"""
FLAGS: Mapping[str, str] = {"R": "\\Seen", "A": "\\Answered", "F": "\\Flagged"}  # by their letters in an mbox
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


class Ran(NamedTuple):
    """What came of a program."""

    out: str
    err: str
    code: int


def old(original: str, home: Path, *args: str) -> Ran:
    """5.2.7, in this home."""
    environment = {"HOME": str(home), "USER": "nobody-here", "TZ": "UTC", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [original, *args], cwd=home, env=environment, capture_output=True, timeout=60, check=False, errors="replace"
    )
    return Ran(done.stdout, done.stderr, done.returncode)


def ours(*args: str) -> Ran:
    """The mailsync under test, in the home of the fixture `home`; in this process, which is ten times as fast."""
    out, err = io.StringIO(), io.StringIO()
    time.tzset()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(args)
    return Ran(out.getvalue(), err.getvalue(), code)


def twin(home: Path) -> Path:
    """A second home that is the same."""
    path = home.with_name("twin")
    shutil.copytree(home, path)
    return path


def configure(home: Path, text: str = CONFIG) -> None:
    path = home / ".mailsync"
    path.write_text(text)
    path.chmod(0o600)


def mail(
    number: int,
    body: str = "Hello.\n",
    *,
    sender: str | None = None,
    subject: str | None = None,
    id: str | None = None,
    status: str = "",
    more: str = "",
) -> bytes:
    """A message as it lies in an mbox: of January `number` (32: the 1st again), from User `number`.

    `status` D: marked \\Deleted. An empty `id` leaves out the Message-ID.
    """
    date = (number - 1) % 31 + 1
    day = DAYS[(date - 1) % 7]
    id = f"<id{number}@example.org>" if id is None else id
    return (
        f"From user{number}@example.org {day} Jan {date:2} 10:00:00 2024\n"
        f"From: {f'User {number} <user{number}@example.org>' if sender is None else sender}\n"
        f"Subject: {f'Subject number {number}' if subject is None else subject}\n"
        f"Date: {day}, {date:02} Jan 2024 10:00:00 +0000\n"
        + (f"Message-ID: {id}\n" if id else "")
        + (f"X-Status: {status}\n" if status else "")
        + f"{more}\n{body}\n"
    ).encode()


def put(path: Path, *mails: bytes) -> None:
    """Make this mbox hold these messages."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(mails))


def add(path: Path, *mails: bytes) -> None:
    """Deliver these messages."""
    with path.open("ab") as file:
        file.writelines(mails)


def drop(path: Path, *numbers: int) -> None:
    """Delete the messages of these numbers, as another program would."""
    kept = [text for text in split(path) if not any(f"<id{number}@example.org>".encode() in text for number in numbers)]
    path.write_bytes(b"".join(kept))


def split(path: Path) -> list[bytes]:
    """The messages of an mbox, with all bookkeeping."""
    text = path.read_bytes()
    starts = [0]
    while (found := text.find(b"\n\nFrom ", starts[-1])) >= 0:
        starts.append(found + 2)
    return [text[start:end] for start, end in zip(starts, [*starts[1:], None], strict=True)] if text else []


def held(path: Path) -> Counter[tuple[str, str]]:
    """(Message-ID, body) of all messages of an mbox file or an MH or Maildir directory."""
    return _held(_messages(path))


def numbers(path: Path) -> list[int]:
    """The numbers of the messages that `mail` made, in their order."""
    return [number for message in _messages(path) if (number := _number(message)) is not None]


def mark(path: Path, number: int, letter: str, *, on: bool = True) -> None:
    """Set or take away a flag of a message of an mbox, as another program would."""
    field = b"Status" if letter == "R" else b"X-Status"
    texts = split(path)
    for at, text in enumerate(texts):
        if f"<id{number}@example.org>".encode() in text:
            found = re.search(rb"^%s:(.*)\n" % field, text, re.M)
            rest = text.replace(found[0], b"", 1) if found else text
            letters = (found[1] if found else b"").strip().replace(letter.encode(), b"") + letter.encode() * on
            postmark, _, rest = rest.partition(b"\n")
            texts[at] = b"%s\n%s: %s\n%s" % (postmark, field, letters, rest)
    path.write_bytes(b"".join(texts))


def marks(path: Path) -> dict[int, frozenset[str]]:
    """The flags of an mbox's messages by their numbers, as letters; only those of `FLAGS`."""
    return {
        number: frozenset((message["status"] or "") + (message["x-status"] or "")) & FLAGS.keys()
        for message in _messages(path)
        if (number := _number(message)) is not None
    }


class Client:
    """Another program that changes the mail on a server: plain commands, one at a time."""

    def __init__(self, server: Server, login: Login) -> None:
        self._imap = imaplib.IMAP4(server.host, server.port)
        self._imap.login(login.user, login.password)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._imap.logout()

    def create(self, *boxes: str) -> None:
        for box in boxes:
            _ok(self._imap.create(f'"{box}"'))

    def add(self, box: str, *mails: bytes, flags: Iterable[str] = ()) -> None:
        """Deliver messages that `mail` made, or any others."""
        for text in mails:
            raw = text.partition(b"\n")[2] if text.startswith(b"From ") else text
            _ok(self._imap.append(f'"{box}"', " ".join(flags), "", raw.replace(b"\n", b"\r\n")))

    def drop(self, box: str, *numbers: int) -> None:
        """Delete the messages of these numbers."""
        self._store(box, numbers, "+FLAGS", "\\Deleted")

    def mark(self, box: str, number: int, letter: str, *, on: bool = True) -> None:
        """Set or take away a flag."""
        self._store(box, [number], "+FLAGS" if on else "-FLAGS", FLAGS[letter])

    def marks(self, box: str) -> dict[int, frozenset[str]]:
        return {
            number: frozenset(letter for letter, flag in FLAGS.items() if flag in flags)
            for _, message, flags in self._fetched(box)
            if (number := _number(message)) is not None
        }

    def held(self, box: str) -> Counter[tuple[str, str]]:
        return _held(message for _, message, _ in self._fetched(box))

    def numbers(self, box: str) -> list[int]:
        found = (_number(message) for _, message, _ in self._fetched(box))
        return [number for number in found if number is not None]

    def raw(self, box: str) -> dict[str, bytes]:
        """All messages by their uids, in their order."""
        return {uid: raw for uid, raw, _ in self.everything(box)}

    def _store(self, box: str, numbers: Iterable[int | None], how: str, flag: str) -> None:
        """Then what is marked as deleted goes."""
        wanted = set(numbers)
        uids = [uid for uid, message, _ in self._fetched(box) if _number(message) in wanted]
        if uids:
            _ok(self._imap.select(f'"{box}"'))
            _ok(self._imap.uid("STORE", ",".join(uids), how, f"({flag})"))
            _ok(self._imap.close())

    def _fetched(self, box: str) -> list[tuple[str, Message, list[str]]]:
        return [
            (uid, message_from_bytes(raw.replace(b"\r\n", b"\n")), flags) for uid, raw, flags in self.everything(box)
        ]

    def everything(self, box: str) -> list[tuple[str, bytes, list[str]]]:
        """Uid, bytes and flags of all messages. The mailbox does not stay open: imap4d would write back what it was."""
        count = int(_ok(self._imap.select(f'"{box}"', readonly=True))[0] or b"0")
        answer = _ok(self._imap.fetch("1:*", "(UID FLAGS BODY.PEEK[])")) if count else []
        _ok(self._imap.close())
        found = []
        for each, rest in pairwise([*answer, b""]):
            if isinstance(each, tuple):
                told = each[0] + (rest if isinstance(rest, bytes) else b"")  # what a server puts behind the message
                uid, flags = re.search(rb"UID (\d+)", told), re.search(rb"FLAGS \(([^)]*)\)", told)
                assert uid, told
                assert flags, told
                found.append((uid[1].decode(), each[1], flags[1].decode().split()))
        return found


def _ok(answer: tuple[str, list[Any]]) -> list[Any]:
    assert answer[0] == "OK", answer
    return answer[1]


def _held(messages: Iterable[Message]) -> Counter[tuple[str, str]]:
    return Counter((message["message-id"] or "", _body(message)) for message in messages)


def _body(message: Message) -> str:
    body = message.get_payload(decode=True)
    assert isinstance(body, bytes)
    return body.decode().rstrip("\n")


def _number(message: Message) -> int | None:
    found = re.fullmatch(r"<id(\d+)@example.org>", message["message-id"] or "")
    return int(found[1]) if found else None


def _messages(path: Path) -> list[Message]:
    if path.is_file():
        texts = [text.partition(b"\n")[2] for text in split(path)]
    else:
        files = [file for file in path.rglob("*") if file.is_file() and file.name[0] != "."]
        texts = [file.read_bytes() for file in sorted(files, key=lambda file: (len(file.name), file.name))]
    return [message for message in map(message_from_bytes, texts) if "INTERNAL DATA" not in (message["subject"] or "")]
