"""Other programs on the same server: mailsync 5.2.7 and ours taking turns, mbsync beside ours, a client at any moment.

What 5.2.7 does wrong of itself is left out: see `test_turns`.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import pytest

from .mail import configure, run
from .old import FLAGS, Client, Ran, add, drop, held, mail, mark, marks, numbers, old, put
from .servers import Login, Server, server
from .servers.fake import Edit, FakeBox, FakeServer, Trap
from .servers.proxy import Proxy

BOXES = ("inbox", "old mail")
KINDS = ("msgid", "md5")
MBSYNC = "/usr/bin/mbsync"


@pytest.fixture
def dovecot() -> Server:
    return server("dovecot")


@pytest.fixture
def login(dovecot: Server) -> Login:
    return dovecot.new_login()


@pytest.fixture
def client(dovecot: Server, login: Login) -> Iterator[Client]:
    with Client(dovecot, login) as client:
        yield client


def place(on: Server, login: Login) -> str:
    """Of a mailbox, as both programs write it."""
    return f"{{{on.host}:{on.port}/notls/user={login.user}}}"


# ---- 5.2.7 -----------------------------------------------------------------------------------------------------------


class Users(Protocol):
    """Who changes the mail of one side."""

    def add(self, box: str, number: int) -> None: ...
    def drop(self, box: str, number: int) -> None: ...
    def mark(self, box: str, number: int, letter: str, on: bool) -> None: ...
    def marks(self, box: str) -> dict[int, frozenset[str]]: ...
    def held(self, box: str) -> Counter[tuple[str, str]]: ...


@dataclass
class Far:
    client: Client
    prefix: str = "mail/"

    def add(self, box: str, number: int) -> None:
        self.client.add(self.prefix + box, text(number))

    def drop(self, box: str, number: int) -> None:
        self.client.drop(self.prefix + box, number)

    def mark(self, box: str, number: int, letter: str, on: bool) -> None:
        self.client.mark(self.prefix + box, number, letter, on=on)

    def marks(self, box: str) -> dict[int, frozenset[str]]:
        return self.client.marks(self.prefix + box)

    def held(self, box: str) -> Counter[tuple[str, str]]:
        return self.client.held(self.prefix + box)


@dataclass
class Near:
    """Mboxes: 5.2.7 knows no Maildir."""

    directory: Path

    def add(self, box: str, number: int) -> None:
        add(self.directory / box, text(number))

    def drop(self, box: str, number: int) -> None:
        drop(self.directory / box, number)

    def mark(self, box: str, number: int, letter: str, on: bool) -> None:
        mark(self.directory / box, number, letter, on=on)

    def marks(self, box: str) -> dict[int, frozenset[str]]:
        return marks(self.directory / box)

    def held(self, box: str) -> Counter[tuple[str, str]]:
        return held(self.directory / box)


def text(number: int) -> bytes:
    return mail(number, f"Body of {number}, häßlich\n\n.\n")


@dataclass
class History:
    """What users and runs did: what each side should hold now. Message by number, with the letters of its flags."""

    forgetful: bool  # 5.2.7 reads nothing of an msinfo on a server: each line of it ends in CR
    sides: Mapping[str, dict[str, dict[int, frozenset[str]]]] = field(
        default_factory=lambda: {side: {box: {} for box in BOXES} for side in ("far", "near")}
    )
    seen: dict[str, dict[int, frozenset[str] | None]] = field(default_factory=lambda: {box: {} for box in BOXES})

    def ran(self, program: str) -> None:
        for box in BOXES:
            far, near, seen = self.sides["far"][box], self.sides["near"][box], self.seen[box]
            for number in far.keys() | near.keys():
                if number in far and number in near:
                    if program == "ours":
                        far[number] = near[number] = merged(far[number], near[number], seen.get(number))
                else:
                    flags = far.pop(number, frozenset()) | near.pop(number, frozenset())
                    if self._is_new(program, number, flags, seen):
                        far[number] = near[number] = flags
            self.seen[box] = {number: far[number] if program == "ours" else None for number in far}

    def _is_new(
        self, program: str, number: int, flags: frozenset[str], seen: Mapping[int, frozenset[str] | None]
    ) -> bool:
        """It is on one side only. Ours keeps what was flagged since both had it."""
        if program == "5.2.7":
            return self.forgetful or number not in seen
        was = seen.get(number)
        return number not in seen or (was is not None and "F" in flags - was)

    @property
    def differing(self) -> set[tuple[str, int]]:
        """Boxes and numbers of the messages whose flags differ, as 5.2.7 leaves them."""
        far, near = self.sides["far"], self.sides["near"]
        return {(box, n) for box in BOXES for n in far[box] if far[box][n] != near[box][n]}


def merged(a: frozenset[str], b: frozenset[str], was: frozenset[str] | None) -> frozenset[str]:
    return a | b if was is None else (a & b) | ((a ^ b) - was)


def changes(history: History, users: Mapping[str, Users], chance: random.Random, last: int) -> int:
    """What users do between two runs; returns the highest number that is taken."""
    for box in BOXES:
        for side, mails in history.sides.items():
            for number in list(mails[box]):
                if chance.random() < 0.15:
                    users[side].drop(box, number)
                    del mails[box][number]
                elif chance.random() < 0.2:
                    letter = chance.choice(list(FLAGS))
                    on = letter not in mails[box][number]
                    users[side].mark(box, number, letter, on)
                    mails[box][number] ^= {letter}
        for _ in range(chance.randrange(4)):
            last += 1
            for side in chance.choice((["far"], ["near"], ["far", "near"])):
                users[side].add(box, last)
                history.sides[side][box][last] = frozenset()
    return last


@dataclass
class Turns:
    """Either program, on one configuration, in one home."""

    original: str
    home: Path

    def __call__(self, program: str, *args: str) -> Ran:
        if program == "5.2.7":
            return old(self.original, self.home, *args)
        ran = run(*args)
        return Ran(ran.out, ran.err, ran.code)


@pytest.fixture
def turns(home: Path, original: str, client: Client, dovecot: Server, login: Login) -> Turns:
    at = place(dovecot, login)
    configure(
        home,
        f"store far {{ server {at} ref {at} pat mail/% prefix mail/ passwd {login.password} }}\n"
        "store near { pat near/% prefix near/ }\n"
        "channel here far near { msinfo .msinfo }\n"
        f"channel there far near {{ msinfo {at}msinfo passwd {login.password} }}\n",
    )
    client.create(*(f"mail/{box}" for box in BOXES))
    for box in BOXES:
        put(home / "near" / box)
    return Turns(original, home)


@pytest.mark.parametrize("channel", ["here", "there"])
@pytest.mark.parametrize("seed", range(6))
def test_rounds_of_changes_lose_double_and_resurrect_nothing(
    turns: Turns, client: Client, channel: str, seed: int
) -> None:
    """After each run both sides are what the history says, and the next one would do no more than it says."""
    chance = random.Random(seed)
    kind = chance.choice(KINDS)
    users: Mapping[str, Users] = {"far": Far(client), "near": Near(turns.home / "near")}
    history = History(forgetful=channel == "there")
    last = 0
    for turn in range(6):
        last = changes(history, users, chance, last)
        program = chance.choice(("5.2.7", "ours"))
        ran = turns(program, "-t", kind, channel)
        history.ran(program)

        assert (0, "") == (ran.code, ran.err), (turn, program, ran)
        for side, mails in history.sides.items():
            for box in BOXES:
                assert mails[box] == users[side].marks(box), (turn, program, side, box)
                assert sorted(map(body, mails[box])) == sorted(users[side].held(box).elements()), (turn, program)
        planned = run("-t", kind, "-s", "--json", channel).steps
        assert {"flags"} >= {step["event"] for step in planned}, (turn, program)
        planned_for = {(step["box"], step["id"]) for step in planned}
        assert Counter(box for box, _ in history.differing) == Counter(box for box, _ in planned_for), (turn, program)
        if channel == "here":
            compared = [turns("5.2.7", "-t", kind, channel, store).out for store in ("far", "near")]
            assert not [out for out in compared if "new" in out or "deleted" in out], (turn, program)


def body(number: int) -> tuple[str, str]:
    return f"<id{number}@example.org>", f"Body of {number}, häßlich\n\n."


# ---- mbsync ----------------------------------------------------------------------------------------------------------


@dataclass
class Phone:
    """Another machine of the same user, on which mbsync keeps a Maildir equal with the mailbox `mail/inbox`."""

    directory: Path
    server: Server
    login: Login

    @property
    def maildir(self) -> Path:
        return self.directory / "inbox"

    def begin(self) -> list[str]:
        """The command line of a run. Without mtimes in the past, mbsync waits a second for each Maildir."""
        self.directory.mkdir(exist_ok=True)
        rc = self.directory / "rc"
        rc.write_text(
            f"IMAPAccount far\nHost {self.server.host}\nPort {self.server.port}\nUser {self.login.user}\n"
            f"Pass {self.login.password}\nSSLType None\nAuthMechs LOGIN\n\n"
            "IMAPStore far\nAccount far\n\n"
            f"MaildirStore near\nPath {self.directory}/\nSubFolders Verbatim\n\n"
            "Channel mail\nFar :far:mail/inbox\nNear :near:inbox\nCreate Near\nExpunge Both\nSyncState *\n"
        )
        for part in ("cur", "new"):
            if (self.maildir / part).exists():
                os.utime(self.maildir / part, (1, 1))
        return [MBSYNC, "-c", str(rc), "-a"]

    def sync(self) -> None:
        done = subprocess.run(self.begin(), capture_output=True, text=True, timeout=60)
        assert 0 == done.returncode, done.stderr


@pytest.fixture
def phone(tmp_path: Path, dovecot: Server, login: Login) -> Phone:
    return Phone(tmp_path / "phone", dovecot, login)


@dataclass
class Files:
    """Who changes a Maildir."""

    directory: Path

    def add(self, box: str, number: int) -> None:
        for part in ("cur", "new", "tmp"):
            (self.directory / part).mkdir(parents=True, exist_ok=True)
        (self.directory / "new" / f"{number}.new.{self.directory.parent.name}").write_bytes(raw(number))

    def drop(self, box: str, number: int) -> None:
        for file in self._files(number):
            file.unlink()

    def mark(self, box: str, number: int, letter: str, on: bool) -> None:
        for file in self._files(number):
            base, _, info = file.name.partition(":2,")
            letters = "".join(sorted({*info} | {LETTERS[letter]} if on else {*info} - {LETTERS[letter]}))
            file.rename(self.directory / "cur" / f"{base}:2,{letters}")

    def marks(self, box: str) -> dict[int, frozenset[str]]:
        names = {number: file.name for number in set(numbers(self.directory)) for file in self._files(number)}
        return {
            number: frozenset(letter for letter, flag in LETTERS.items() if flag in name.partition(":2,")[2])
            for number, name in names.items()
        }

    def held(self, box: str) -> Counter[tuple[str, str]]:
        return held(self.directory)

    def _files(self, number: int) -> list[Path]:
        files = [file for part in ("cur", "new") for file in (self.directory / part).glob("[!.]*")]
        return [file for file in files if b"<id%d@example.org>" % number in file.read_bytes()]


LETTERS = {"R": "S", "A": "R", "F": "F"}  # those of an mbox, in the names of a Maildir


def raw(number: int) -> bytes:
    return text(number).partition(b"\n")[2]


def keep_equal(home: Path, port: int, login: Login, prefix: str = "mail/") -> Files:
    """Have ours do so with `inbox` below the prefix on the server, and the Maildir that is returned."""
    at = f"{{127.0.0.1:{port}/notls/user={login.user}}}"
    configure(
        home,
        f'store far {{ server {at} pat "{prefix}%" prefix "{prefix}" passwd {login.password} }}\n'
        "store near { pat near/% prefix near/ format maildir }\n"
        "channel ab far near { msinfo .msinfo max_delete 1000 }\n",
    )
    return Files(home / "near/inbox")


@pytest.fixture
def near(home: Path, client: Client, dovecot: Server, login: Login) -> Files:
    client.create("mail/inbox")
    return keep_equal(home, dovecot.port, login)


@pytest.mark.parametrize("seed", range(6))
def test_mbsync_and_ours_on_one_mailbox_lose_double_and_resurrect_nothing(
    client: Client, near: Files, phone: Phone, seed: int
) -> None:
    """Now and then at the same time. In the end both Maildirs and the server hold what the users left."""
    chance = random.Random(seed)
    users: Mapping[str, Users] = {"far": Far(client), "near": near, "phone": Files(phone.maildir)}
    alive: dict[int, frozenset[str]] = {}
    last = 0
    for _ in range(5):
        for each in users.values():
            for number in each.marks("inbox"):
                if chance.random() < 0.1:
                    each.drop("inbox", number)
                    alive.pop(number, None)
                elif chance.random() < 0.2 and number in alive:
                    letter = chance.choice("RA")  # \Flagged would keep a message that another side deletes
                    each.mark("inbox", number, letter, True)
                    alive[number] |= {letter}
            for _ in range(chance.randrange(5)):
                last += 1
                each.add("inbox", last)
                alive[last] = frozenset()
        match chance.choice(("ours", "mbsync", "both")):
            case "ours":
                assert 0 == run("ab").code
            case "mbsync":
                phone.sync()
            case "both":
                with subprocess.Popen(phone.begin(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL):
                    run("ab")
    phone.sync()
    assert 0 == run("ab").code
    phone.sync()

    for each in users.values():
        assert alive == each.marks("inbox")
        assert Counter(map(body, alive)) == each.held("inbox")
    assert [] == run("-s", "--json", "ab").steps


def test_maildir_that_mbsync_kept_equal_is_taken_over_without_a_step(
    home: Path, client: Client, near: Files, dovecot: Server, login: Login
) -> None:
    client.add("mail/inbox", *map(text, range(1, 20)), flags=["\\Seen"])
    near.add("inbox", 20)
    Phone(home / "near", dovecot, login).sync()
    both = near.marks("inbox")
    plan = run("-s", "--json", "ab").steps
    run("ab")
    client.drop("mail/inbox", 7)
    near.drop("inbox", 8)
    near.mark("inbox", 9, "A", True)
    run("ab")

    assert set(range(1, 21)) == both.keys()
    assert [] == plan
    assert set(range(1, 21)) - {7, 8} == near.marks("inbox").keys()
    assert frozenset("RA") == client.marks("mail/inbox")[9]
    assert near.marks("inbox") == client.marks("mail/inbox")


# ---- a client during a run -------------------------------------------------------------------------------------------


@dataclass
class Churn:
    """A client that changes a mailbox all the time, until the `with` block ends; what it did stays here."""

    client: Client
    mailbox: str
    chance: random.Random
    first: int  # number of the messages that it delivers
    added: set[int] = field(default_factory=set)
    dropped: set[int] = field(default_factory=set)
    marked: dict[int, frozenset[str]] = field(default_factory=dict)
    _over: threading.Event = field(default_factory=threading.Event)
    _faults: list[BaseException] = field(default_factory=list)

    @contextmanager
    def going_on(self) -> Iterator[None]:
        thread = threading.Thread(target=self._work)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()
        for fault in self._faults:
            raise fault

    def _work(self) -> None:
        try:
            while not self._over.is_set():
                self._change()
        except BaseException as err:
            self._faults.append(err)

    def _change(self) -> None:
        there = self.client.numbers(self.mailbox)
        match self.chance.choice(("add", "add", "drop", "mark")):
            case "add":
                number = self.first + len(self.added)
                self.added.add(number)
                self.client.add(self.mailbox, text(number))
            case "drop" if there:
                number = self.chance.choice(there)
                self.dropped.add(number)
                self.client.drop(self.mailbox, number)
            case "mark" if there:
                number, letter = self.chance.choice(there), self.chance.choice("RAF")
                self.marked[number] = self.marked.get(number, frozenset()) | {letter}
                self.client.mark(self.mailbox, number, letter)


# Not imap4d: it loses what one client appends while another expunges.
@pytest.mark.parametrize(
    ("name", "seed"),
    [("dovecot", 0), ("dovecot", 1), ("dovecot", 2), ("dovecot-bare", 1), ("cyrus", 1), ("courier", 4)],
)
def test_client_that_never_rests_loses_nothing_but_what_it_deletes(home: Path, name: str, seed: int) -> None:
    """It delivers, flags and expunges while runs bring mail in both directions; then comes a quiet run."""
    on = server(name)
    login = on.new_login()
    prefix = f"{on.prefix}mail-"
    mailbox = f"{prefix}inbox"
    alive = set(range(1, 61))
    with (
        Client(on, login) as client,
        Client(on, login) as another,
        Proxy(on.port, delay_to_client=0.004 * (seed % 3)) as line,
    ):
        near = keep_equal(home, line.port, login, prefix)
        client.create(mailbox)
        client.add(mailbox, *map(text, range(1, 41)))
        for number in range(41, 61):
            near.add("inbox", number)
        churn = Churn(another, mailbox, random.Random(seed), first=1000)
        with churn.going_on():
            for number in range(61, 85, 8):
                assert run("ab").code in (0, 1)
                for new in range(number, number + 8):
                    near.add("inbox", new)
                    alive.add(new)
        quiet = run("ab")
        far = Far(client, prefix)

        alive = (alive | churn.added) - churn.dropped
        assert 0 == quiet.code, quiet
        assert Counter(map(body, alive)) == far.held("inbox") == near.held("inbox")
        assert {number: churn.marked.get(number, frozenset()) for number in alive} == near.marks("inbox")
        assert near.marks("inbox") == far.marks("inbox")
        assert [] == run("-s", "--json", "ab").steps


def test_message_that_is_gone_when_it_is_fetched_is_not_copied(home: Path) -> None:
    """Courier and Exchange give another text in its place."""
    with FakeServer() as fake:
        fake.store[b"mail/inbox"] = FakeBox()
        for number in (1, 2, 3):
            fake.store[b"mail/inbox"].add(raw(number).replace(b"\n", b"\r\n"))
        gone = raw(2).replace(b"\n", b"\r\n")
        stub = b"From: System Administrator <root@localhost>\r\nSubject: message unavailable\r\n\r\nIt is gone.\r\n"
        here, instead = (b"BODY[] {%d}\r\n%s" % (len(text), text) for text in (gone, stub))
        edit = Edit(lambda answer: answer.replace(here, instead))
        fake.script.append(Trap(rb"UID FETCH .*BODY.PEEK\[\]", edit, nth=0))
        near = keep_equal(home, fake.port, Login("alice", "secret"))
        ran = run("ab")

        assert 1 == ran.code
        assert Counter(map(body, (1, 3))) == near.held("inbox")
