"""For the tests beside mailsync 5.2.7: homes with mail in them, and either program at work there."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import time
from collections import Counter
from contextlib import redirect_stderr, redirect_stdout
from email import message_from_bytes
from email.message import Message
from pathlib import Path
from typing import NamedTuple

from mailsync import cli

CONFIG = """\
store a { pat a/% prefix a/ }
store b { pat b/% prefix b/ }
channel ab a b { msinfo .msinfo }
"""
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
    """A message as it lies in an mbox: of January `number`, from User `number`. `status` D: marked \\Deleted.

    An empty `id` leaves out the Message-ID.
    """
    day = DAYS[(number - 1) % 7]
    id = f"<id{number}@example.org>" if id is None else id
    return (
        f"From user{number}@example.org {day} Jan {number:2} 10:00:00 2024\n"
        f"From: {f'User {number} <user{number}@example.org>' if sender is None else sender}\n"
        f"Subject: {f'Subject number {number}' if subject is None else subject}\n"
        f"Date: {day}, {number:02} Jan 2024 10:00:00 +0000\n"
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
    return Counter(
        (message["message-id"] or "", str(message.get_payload()).rstrip("\n")) for message in _messages(path)
    )


def numbers(path: Path) -> list[int]:
    """The numbers of the messages that `mail` made, in their order."""
    found = (re.fullmatch(r"<id(\d+)@example.org>", message["message-id"] or "") for message in _messages(path))
    return [int(match[1]) for match in found if match]


def _messages(path: Path) -> list[Message]:
    if path.is_file():
        texts = [text.partition(b"\n")[2] for text in split(path)]
    else:
        files = [file for file in path.rglob("*") if file.is_file() and file.name[0] != "."]
        texts = [file.read_bytes() for file in sorted(files, key=lambda file: (len(file.name), file.name))]
    return [message for message in map(message_from_bytes, texts) if "INTERNAL DATA" not in (message["subject"] or "")]
