"""Other programs at work in local mail, as they are: readers and delivery agents, each with the manners of its format.

They speak of a message by the number that `raw` has written into it. Each change tells whether it was made: what is
gone, or locked by somebody else, is left alone.
"""

from __future__ import annotations

import fcntl
import imaplib
import os
import re
import socket
import struct
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from itertools import count
from pathlib import Path
from typing import ClassVar

from mailsync.drivers.imap.store import ImapStore

from .mail import maildir, message
from .servers import Login, Server
from .servers.stores import store_on

SEEN, ANSWERED, FLAGGED = "\\Seen", "\\Answered", "\\Flagged"
ADDED = (SEEN, ANSWERED)  # what is set without any message being kept for it

_ID = re.compile(rb"^Message-ID: <(\d+)@x>$", re.M)
_counter = count()


def raw(number: int) -> bytes:
    """A message; each is of another length."""
    return message(number, b"Body of %d\n" % number + b"and more\n" * (number % 7))


def number_of(text: bytes) -> int | None:
    found = _ID.search(text)
    return int(found[1]) if found else None


class Locked(Exception):
    """Somebody else holds it now."""


class User(ABC):
    """Who uses the mailboxes of one store."""

    flags: ClassVar[Sequence[str]] = ADDED  # that are set at random

    def __init__(self, root: Path) -> None:
        self.root = root

    @abstractmethod
    def make(self, box: str) -> None: ...
    @abstractmethod
    def deliver(self, box: str, number: int) -> bool: ...
    @abstractmethod
    def flag(self, box: str, number: int, flag: str) -> bool:
        """Set it."""

    @abstractmethod
    def drop(self, box: str, number: int) -> bool: ...
    @abstractmethod
    def move(self, box: str, number: int, to: str) -> bool: ...
    @abstractmethod
    def tidy(self, box: str) -> bool:
        """What else a program does there: nothing of it is a change of any message."""

    @abstractmethod
    def numbers(self, box: str) -> list[int]: ...


# ---- Maildir ---------------------------------------------------------------------------------------------------------


class MaildirUser(User):
    LETTERS: ClassVar[Mapping[str, str]] = {SEEN: "S", ANSWERED: "R", FLAGGED: "F"}

    def make(self, box: str) -> None:
        maildir(self.root / box)

    def deliver(self, box: str, number: int) -> bool:
        name = self._fresh()
        temporary = self.root / box / "tmp" / name
        temporary.write_bytes(raw(number))
        temporary.rename(self.root / box / "new" / name)
        return True

    def flag(self, box: str, number: int, flag: str) -> bool:
        def mark(path: Path) -> None:
            unique, _, letters = path.name.partition(":2,")
            path.rename(self.root / box / "cur" / f"{unique}:2,{''.join(sorted({*letters, self.LETTERS[flag]}))}")

        return self._do(box, number, mark)

    def drop(self, box: str, number: int) -> bool:
        return self._do(box, number, Path.unlink)

    def move(self, box: str, number: int, to: str) -> bool:
        def pass_on(path: Path) -> None:
            letters = path.name.partition(":2,")[2]
            path.rename(self.root / to / "cur" / f"{self._fresh()}:2,{letters}")

        return self._do(box, number, pass_on)

    def tidy(self, box: str) -> bool:
        """A reader has seen that they are there."""
        fresh = list((self.root / box / "new").iterdir())
        for path in fresh:
            with suppress(FileNotFoundError):
                path.rename(
                    self.root / box / "cur" / f"{path.name.partition(':')[0]}:2,{path.name.partition(':2,')[2]}"
                )
        return bool(fresh)

    def numbers(self, box: str) -> list[int]:
        return [number for number, _ in self._messages(box)]

    def _messages(self, box: str) -> Iterator[tuple[int, Path]]:
        for part in ("new", "cur"):
            for path in sorted((self.root / box / part).iterdir()):
                with suppress(FileNotFoundError):
                    if (number := number_of(path.read_bytes())) is not None:
                        yield number, path

    def _do(self, box: str, number: int, act: Callable[[Path], object]) -> bool:
        for _ in range(5):  # others rename it
            path = next((path for found, path in self._messages(box) if found == number), None)
            if path is None:
                return False
            with suppress(FileNotFoundError):
                act(path)
                return True
        return False

    def _fresh(self) -> str:
        return f"{time.time_ns() // 10**9}.U{os.getpid()}Q{next(_counter)}.{socket.gethostname()}"


# ---- MH --------------------------------------------------------------------------------------------------------------


class MhUser(User):
    SEQUENCES: ClassVar[Mapping[str, str]] = {SEEN: "unseen", ANSWERED: "replied", FLAGGED: "flagged"}

    def make(self, box: str) -> None:
        (self.root / box).mkdir(parents=True, exist_ok=True)
        (self.root / box / ".mh_sequences").touch()

    def deliver(self, box: str, number: int) -> bool:
        """As nmh's inc: the message, then that it is unseen."""
        try:
            with self._sequences(box) as sequences:
                sequences.setdefault("unseen", set()).add(self._put(box, raw(number)))
        except Locked:
            return False
        return True

    def flag(self, box: str, number: int, flag: str) -> bool:
        def mark(place: int, sequences: dict[str, set[int]]) -> None:
            (set.discard if flag == SEEN else set.add)(sequences.setdefault(self.SEQUENCES[flag], set()), place)

        return self._do(box, number, mark)

    def drop(self, box: str, number: int) -> bool:
        """As rmm: a comma makes it no message any more."""

        def remove(place: int, sequences: dict[str, set[int]]) -> None:
            os.rename(self.root / box / str(place), self.root / box / f",{place}")
            for members in sequences.values():
                members.discard(place)

        return self._do(box, number, remove)

    def move(self, box: str, number: int, to: str) -> bool:
        def refile(place: int, sequences: dict[str, set[int]]) -> None:
            path = self.root / box / str(place)
            with self._sequences(to) as others:
                new = self._put(to, path.read_bytes())
                for name, members in sequences.items():
                    if place in members:
                        members.discard(place)
                        others.setdefault(name, set()).add(new)
                path.unlink()

        return self._do(box, number, refile)

    def tidy(self, box: str) -> bool:
        """As packing does: the numbers become 1 to n."""
        try:
            with self._sequences(box) as sequences:
                old = self._places(box)
                new = {place: n for n, place in enumerate(old, 1)}
                for place, n in new.items():
                    if place != n:
                        os.rename(self.root / box / str(place), self.root / box / str(n))
                for name, members in sequences.items():
                    sequences[name] = {new[place] for place in members if place in new}
        except Locked:
            return False
        return old != list(new.values())

    def numbers(self, box: str) -> list[int]:
        return [number for number, _ in self._messages(box)]

    def _places(self, box: str) -> list[int]:
        return sorted(int(name) for name in os.listdir(self.root / box) if name.isdigit())

    def _messages(self, box: str) -> Iterator[tuple[int, int]]:
        for place in self._places(box):
            with suppress(FileNotFoundError):
                if (number := number_of((self.root / box / str(place)).read_bytes())) is not None:
                    yield number, place

    def _do(self, box: str, number: int, act: Callable[[int, dict[str, set[int]]], object]) -> bool:
        try:
            with self._sequences(box) as sequences:
                place = next((place for found, place in self._messages(box) if found == number), None)
                if place is not None:
                    act(place, sequences)
        except (Locked, FileNotFoundError):
            return False
        return place is not None

    def _put(self, box: str, text: bytes) -> int:
        temporary = self.root / box / f",user.{os.getpid()}"
        temporary.write_bytes(text)
        place = max(self._places(box), default=0)
        while True:
            place += 1
            with suppress(FileExistsError):
                os.link(temporary, self.root / box / str(place))
                temporary.unlink()
                return place

    @contextmanager
    def _sequences(self, box: str) -> Iterator[dict[str, set[int]]]:
        """They are written back in the end. Locked by a dotlock, as Python does it, and by fcntl, as nmh."""
        path = self.root / box / ".mh_sequences"
        with ExitStack() as stack:
            stack.enter_context(dotlock(path))
            file = stack.enter_context(path.open("r+b"))
            stack.enter_context(record_lock(file.fileno()))
            text = file.read()
            found: dict[str, set[int]] = {}
            for line in text.decode().splitlines():
                name, _, words = line.partition(":")
                spans = [word.partition("-")[::2] for word in words.split()]
                found[name] = {n for first, last in spans for n in range(int(first), int(last or first) + 1)}
            try:
                yield found
            finally:
                lines = [
                    f"{name}: {' '.join(map(str, sorted(members)))}\n" for name, members in found.items() if members
                ]
                file.seek(0)
                file.truncate()
                file.write("".join(lines).encode())
                file.flush()


# ---- mbox ------------------------------------------------------------------------------------------------------------


class MboxUser(User):
    """Locks by dotlock and fcntl, in the order of procmail, or with a wait that others have."""

    wait: float = 0.0

    def make(self, box: str) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        (self.root / box).touch()

    def deliver(self, box: str, number: int) -> bool:
        def append(file: int, mails: list[bytes]) -> None:
            os.lseek(file, 0, os.SEEK_END)
            os.write(file, _in_mbox(raw(number)))

        return self._locked(box, append)

    def flag(self, box: str, number: int, flag: str) -> bool:
        field = b"Status" if flag == SEEN else b"X-Status"
        letter = {SEEN: b"R", ANSWERED: b"A", FLAGGED: b"F"}[flag]

        def marked(text: bytes) -> bytes:
            found = re.search(rb"^%s:(.*)\n" % field, text, re.M)
            rest = text.replace(found[0], b"", 1) if found else text
            letters = (found[1] if found else b"").strip().replace(letter, b"") + letter
            postmark, _, rest = rest.partition(b"\n")
            return b"%s\n%s: %s\n%s" % (postmark, field, letters, rest)

        return self._change(box, number, marked)

    def drop(self, box: str, number: int) -> bool:
        return self._change(box, number, lambda text: b"")

    def move(self, box: str, number: int, to: str) -> bool:
        """The copy first, as any reader does it."""
        gone: list[bytes] = []

        def take(text: bytes) -> bytes:
            def append(file: int, mails: list[bytes]) -> None:
                os.lseek(file, 0, os.SEEK_END)
                os.write(file, text if text.endswith(b"\n\n") else text + b"\n")

            if not self._locked(to, append):
                raise Locked
            gone.append(text)
            return b""

        return self._change(box, number, take) and bool(gone)

    def tidy(self, box: str) -> bool:
        """Written anew, in another file, as some readers do it."""

        def renew(file: int, mails: list[bytes]) -> None:
            new = self.root / f".{box}.new"
            new.write_bytes(b"".join(mails))
            new.rename(self.root / box)

        return self._locked(box, renew)

    def numbers(self, box: str) -> list[int]:
        found: list[int | None] = []
        self._locked(box, lambda file, mails: found.extend(map(number_of, mails)))
        return [number for number in found if number is not None]

    def _change(self, box: str, number: int, change: Callable[[bytes], bytes]) -> bool:
        done = []

        def rewrite(file: int, mails: list[bytes]) -> None:
            """In its place, as mutt does it."""
            for at, text in enumerate(mails):
                if number_of(text) == number:
                    mails[at] = change(text)
                    done.append(number)
                    os.pwrite(file, b"".join(mails), 0)
                    os.ftruncate(file, sum(map(len, mails)))
                    return

        return self._locked(box, rewrite) and bool(done)

    def _locked(self, box: str, act: Callable[[int, list[bytes]], object]) -> bool:
        until = time.monotonic() + self.wait
        path = self.root / box
        while True:
            try:
                with dotlock(path):
                    file = os.open(path, os.O_RDWR)
                    try:
                        with record_lock(file):
                            if not os.path.samestat(os.fstat(file), os.stat(path)):
                                raise Locked
                            act(file, _split(os.pread(file, os.fstat(file).st_size, 0)))
                            return True
                    finally:
                        os.close(file)
            except Locked:
                if time.monotonic() > until:
                    return False
            time.sleep(0.01)


def _split(text: bytes) -> list[bytes]:
    """The messages of an mbox. A file that is opened and closed a second time would lose its record lock."""
    return [mail for mail in re.split(rb"(?<=\n\n)(?=From )", text) if mail]


def _in_mbox(text: bytes) -> bytes:
    return b"From a@x Mon Jan  1 00:00:00 2024\n" + text + b"\n"


# ---- IMAP ------------------------------------------------------------------------------------------------------------


class ImapUser(User):
    """A plain client, with a connection of its own; it looks for a message anew each time, and removes no other."""

    flags: ClassVar[Sequence[str]] = (*ADDED, "Work", "$Label1")

    def __init__(self, on: Server, login: Login) -> None:
        super().__init__(Path())
        self.on, self.login = on, login
        self._imap = imaplib.IMAP4(on.host, on.port, timeout=60)
        self._imap.login(login.user, login.password)

    def close(self) -> None:
        self._imap.logout()

    def store(self) -> ImapStore:
        return store_on(self.on, self.login)

    def name(self, box: str) -> str:
        return f'"{self.on.prefix}{box}"'

    def make(self, box: str) -> None:
        self._imap.create(self.name(box))

    def deliver(self, box: str, number: int) -> bool:
        return self._ok(self._imap.append(self.name(box), "", "", raw(number).replace(b"\n", b"\r\n")))

    def flag(self, box: str, number: int, flag: str) -> bool:
        uid = self._uid(box, number)
        return bool(uid) and bool(self._imap.uid("STORE", uid, "+FLAGS", f"({flag})")[1][0])

    def drop(self, box: str, number: int) -> bool:
        return bool(self._uid(box, number)) and self._expunge(box, number)

    def move(self, box: str, number: int, to: str) -> bool:
        """Also told where others have deleted it at the same time: the copy is there."""
        uid = self._uid(box, number)
        if not uid or not self._ok(self._imap.uid("COPY", uid, self.name(to))) or number not in self.numbers(to):
            return False
        self._expunge(box, number)
        return True

    def tidy(self, box: str) -> bool:
        return self._ok(self._imap.select(self.name(box))) and self._ok(self._imap.close())

    def numbers(self, box: str) -> list[int]:
        self._imap.select(self.name(box), readonly=True)
        answer = self._imap.uid("FETCH", "1:*", "(BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)])")[1]
        found = [number_of(each[1].replace(b"\r\n", b"\n")) for each in answer if isinstance(each, tuple)]
        return [number for number in found if number is not None]

    def _uid(self, box: str, number: int) -> str:
        """ "" if it is not there."""
        self._imap.select(self.name(box))
        found = self._imap.uid("SEARCH", "HEADER", "MESSAGE-ID", f"<{number}@x>")[1][0].decode().split()
        return found[0] if found else ""

    def _expunge(self, box: str, number: int) -> bool:
        """By its uid. A second copy of it, made at the same time by others, stays."""
        uid = self._uid(box, number)
        if uid:
            self._imap.uid("STORE", uid, "+FLAGS.SILENT", "(\\Deleted)")
            self._imap.uid("EXPUNGE", uid)
        return bool(uid)

    @staticmethod
    def _ok(answer: tuple[str, object]) -> bool:
        return answer[0] == "OK"


# ---- locks -----------------------------------------------------------------------------------------------------------


@contextmanager
def dotlock(path: Path) -> Iterator[None]:
    """As lockfile(1) and procmail have it: a file that tells nobody's number."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        os.close(os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o444))
    except FileExistsError:
        raise Locked from None
    try:
        yield
    finally:
        lock.unlink()


@contextmanager
def record_lock(file: int) -> Iterator[None]:
    """As fcntl has it for programs apart, also within this process: of the open file, not of the process."""
    lock = partial(struct.pack, "hhqqi")  # fcntl(2): type, whence, start, length, pid
    try:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as err:
        raise Locked from err
    try:
        yield
    finally:
        fcntl.fcntl(file, fcntl.F_OFD_SETLK, lock(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))


USERS: Mapping[str, type[User]] = {"maildir": MaildirUser, "mh": MhUser, "mbox": MboxUser}
