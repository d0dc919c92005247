"""msinfo in a mailbox on a server: alone or among other mail, of one machine or of several."""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailsync.model import Mailbox
from mailsync.msinfo import text
from mailsync.msinfo.mailbox import Msinfo
from mailsync.msinfo.text import Memory

from .mail import Mail, Ran, configure, message, run, run_apart
from .mail import put as put_mail
from .old import Client, add, drop, held, mail, numbers, put
from .servers import Login, Server, server
from .servers.fake import Answer, Do, Edit, FakeBox, FakeServer, Swallow, Trap
from .servers.proxy import Proxy
from .servers.stores import store_on

SERVERS = ("dovecot", "cyrus", "courier", "imap4d")
LOCAL = "store a { pat a/% prefix a/ format mbox }\nstore b { pat b/% prefix b/ format mbox }\n"


@dataclass
class Account:
    """One login, and a client that is logged in, too."""

    on: Server
    login: Login
    client: Client

    def at(self, mailbox: str = "", port: int | None = None) -> str:
        """Below the namespace of the account, as a configuration names it."""
        name = mailbox if mailbox in ("", "INBOX") else self.name(mailbox)
        return f"{{{self.on.host}:{port or self.on.port}/notls/user={self.login.user}}}{name}"

    def name(self, mailbox: str) -> str:
        return mailbox if mailbox == "INBOX" else self.on.prefix + mailbox

    def mail(self, mailbox: str) -> list[tuple[str, bytes]]:
        """Uids and messages, without what imap4d keeps in their headers."""
        found = self.client.raw(self.name(mailbox))
        return [(uid, re.sub(rb"(?m)^(?:X-IMAPbase|X-UID|Status):.*\r\n", b"", raw)) for uid, raw in found.items()]

    def memories(self, channel: str, mailbox: str = "state") -> list[bytes]:
        """What the mailbox holds of it."""
        begin = b"From: mailsync\r\nSubject: %s\r\n" % channel.encode()
        return [raw for _, raw in self.mail(mailbox) if raw.startswith(begin)]


@contextmanager
def account(name: str) -> Iterator[Account]:
    on = server(name)
    login = on.new_login()
    with Client(on, login) as client:
        yield Account(on, login, client)


@pytest.fixture(params=SERVERS)
def anywhere(request: pytest.FixtureRequest) -> Iterator[Account]:
    with account(request.param) as made:
        yield made


@pytest.fixture
def dovecot() -> Iterator[Account]:
    with account("dovecot") as made:
        yield made


def two_local_stores(home: Path, msinfo: str, password: str = "") -> None:
    """Each with an inbox; together they hold 1 to 4."""
    configure(home, LOCAL + f"channel ab a b {{ msinfo {msinfo} passwd {password or 'secret'} }}\n")
    put(home / "a/inbox", mail(1), mail(2), mail(3))
    put(home / "b/inbox", mail(3), mail(4))


def both(home: Path) -> list[int]:
    """The numbers that both inboxes hold."""
    assert sorted(numbers(home / "a/inbox")) == sorted(numbers(home / "b/inbox"))
    return sorted(numbers(home / "a/inbox"))


# ---- one machine -----------------------------------------------------------------------------------------------------


def test_memory_is_made_on_the_server_and_read_back(home: Path, anywhere: Account) -> None:
    two_local_stores(home, anywhere.at("state"))
    codes = [run("ab").code]
    first = anywhere.memories("ab")
    drop(home / "a/inbox", 2)
    drop(home / "b/inbox", 3)
    codes.append(run("ab").code)
    second = anywhere.memories("ab")
    codes.append(run("ab").code)

    assert [0, 0, 0] == codes
    assert [1, 4] == both(home)
    assert (1, 1) == (len(first), len(second))
    assert second == anywhere.memories("ab")
    assert [] == run("-s", "--json", "ab").steps


def test_simulated_first_run_makes_no_mailbox(home: Path, anywhere: Account) -> None:
    two_local_stores(home, anywhere.at("state"))

    assert 0 == run("-s", "ab").code
    with store_on(anywhere.on, anywhere.login) as store:
        assert None is store.find(Mailbox(anywhere.name("state")))


def test_memory_in_inbox_leaves_the_mail_there_alone(home: Path, anywhere: Account) -> None:
    """And none of it is fetched: heads are all that is asked for."""
    many = 500 if anywhere.on.family != "imap4d" else 50  # which takes 40 ms for each
    with store_on(anywhere.on, anywhere.login) as store:
        put_mail(store, "INBOX", [Mail(message(n, b"x" * 2000 + b"\n")) for n in range(many)])
    others = anywhere.mail("INBOX")
    with Proxy(anywhere.on.port) as line:
        two_local_stores(home, anywhere.at("INBOX", line.port))
        codes = [run("ab").code]
        drop(home / "a/inbox", 2)
        codes += [run("ab").code, run("ab").code]
        sent = line.sent

    assert [0, 0, 0] == codes
    assert [1, 3, 4] == both(home)
    assert 1 == len(anywhere.memories("ab", "INBOX"))
    assert others == anywhere.mail("INBOX")[:many]
    assert many + 1 == len(anywhere.mail("INBOX"))
    assert sent < many * 2000


def test_memory_inside_a_store_is_neither_copied_nor_counted(home: Path, anywhere: Account) -> None:
    configure(
        home,
        f"store far {{ server {anywhere.at()} passwd {anywhere.login.password} }}\n"
        "store near { pat near/* prefix near/ format maildir }\n"
        f"channel ab far near {{ msinfo {anywhere.at('INBOX')} }}\n"
        f"channel other far near {{ msinfo {anywhere.at('state')} }}\n",
    )
    anywhere.client.add("INBOX", mail(1), mail(2), mail(3))
    ran = [run(channel) for channel in ("ab", "ab", "other", "ab", "other")]
    anywhere.client.drop("INBOX", 2)
    ran += [run("ab"), run("other")]

    assert [0] * 7 == [each.code for each in ran]
    assert ["3"] * 5 + ["2"] * 2 == [re.findall(r"INBOX: \n.*?(\d+) remain", each.out, re.S)[0] for each in ran]
    assert [1, 3] == sorted(numbers(home / "near/INBOX")) == sorted(anywhere.client.numbers("INBOX"))
    assert 2 == sum(held(home / "near").values())
    if anywhere.on.family != "imap4d":  # which writes back what the connection of the store has seen
        assert (1, 1) == (len(anywhere.memories("ab", "INBOX")), len(anywhere.memories("other")))
    assert "2 currently at store far" in run("ab", "far").out


def test_foreign_mail_that_looks_like_memory_is_never_touched(home: Path, anywhere: Account) -> None:
    """5.2.7 destroyed all that has the channel's name as its subject."""
    true = text.format({}, "ab", "msgid", 1)
    foreign = [
        b"From: joe@x\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: ab\nMessage-ID: <joe@x>\n\nhi\n",
        b"From: joe@x\nDate: Mon, 1 Jan 2024 00:00:00 +0000\nSubject: ab\n\nhi\n",
        b"From: joe@x\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\nno subject\n",
        b"Received: from evil\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n" + true,
        b"Message-ID: <evil@x>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n" + true,
        b"Date: Mon, 1 Jan 2024 00:00:00 +0000\n" + text.format({}, "ab2", "msgid", 1),
    ]
    anywhere.client.create(anywhere.name("state"))
    anywhere.client.add(anywhere.name("state"), *foreign)
    before = anywhere.mail("state")
    two_local_stores(home, anywhere.at("state"))
    ran = run("ab")
    drop(home / "a/inbox", 2)
    run("ab")
    after = anywhere.mail("state")

    assert [1, 3, 4] == both(home)
    assert 2 == ran.err.count("calls itself the memory of ab but came by mail: ignored")
    assert before == after[: len(before)]
    assert (6, 7) == (len(before), len(after))


# ---- passwords -------------------------------------------------------------------------------------------------------


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with FakeServer(passwords={"alice": "secret", "bob": "other"}) as server:
        yield server


def fake_place(fake: FakeServer, user: str, mailbox: str = "") -> str:
    return f"{{127.0.0.1:{fake.port}/notls/user={user}}}{mailbox}"


def far_and_near(home: Path, fake: FakeServer, channel: str) -> None:
    configure(
        home,
        f"store far {{ server {fake_place(fake, 'alice')} pat INBOX passwd secret }}\n"
        f"store near {{ pat near/% prefix near/ format maildir }}\nchannel ab far near {{ {channel} }}\n",
    )


def test_own_password_of_the_memory_is_for_the_memory_alone(home: Path, fake: FakeServer) -> None:
    far_and_near(home, fake, f"msinfo {fake_place(fake, 'bob', 'state')} passwd other")

    assert (0, "") == (run("ab").code, run("ab").err)
    assert 1 == len(fake.store[b"state"].messages)


def test_memory_on_the_account_of_a_store_logs_in_as_the_store_does(home: Path, fake: FakeServer) -> None:
    far_and_near(home, fake, f"msinfo {fake_place(fake, 'alice', 'state')}")

    assert (0, "") == (run("ab").code, run("ab").err)
    assert 1 == len(fake.store[b"state"].messages)


def test_wrong_password_of_the_memory_ends_the_run_before_anything_is_done(home: Path, fake: FakeServer) -> None:
    fake.store[b"INBOX"].add(message("1").replace(b"\n", b"\r\n"))
    far_and_near(home, fake, f"msinfo {fake_place(fake, 'bob', 'state')} passwd secret")

    assert 7 == run("ab").code
    assert not (home / "near").exists()


# ---- several machines ------------------------------------------------------------------------------------------------


@dataclass
class Machine:
    """With a home and a cache of its own."""

    home: Path

    def run(self, *args: str) -> Ran:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(self.home))
            patch.chdir(self.home)
            return run(*args)

    def run_apart(self, *args: str) -> Ran:
        return run_apart(self.home, *args)


@pytest.fixture
def machines(home: Path) -> list[Machine]:
    found = []
    for name in ("laptop", "desktop"):
        (home.parent / name).mkdir()
        found.append(Machine(home.parent / name))
    return found


@dataclass
class Shared:
    """One channel over two accounts, with its memory on the first of them, synchronized from two machines."""

    a: Account
    b: Account
    machines: Sequence[Machine]
    boxes = ("x", "y")

    def configure(self) -> None:
        for machine in self.machines:
            configure(
                machine.home,
                "".join(
                    f'store {name} {{ server {each.at()} pat "{each.name("m-")}%" prefix "{each.name("m-")}"'
                    f" passwd secret }}\n"
                    for name, each in (("a", self.a), ("b", self.b))
                )
                + f"channel ab a b {{ msinfo {self.a.at('state')} }}\n",
            )
        for each in (self.a, self.b):
            each.client.create(*(each.name(f"m-{box}") for box in self.boxes))

    def change(self, alive: dict[str, set[int]], last: int, chance: random.Random) -> int:
        """Users deliver and delete on either side; returns the highest number that is taken."""
        for box in self.boxes:
            for number in sorted(alive[box]):
                if chance.random() < 0.2:
                    each = chance.choice((self.a, self.b))
                    each.client.drop(each.name(f"m-{box}"), number)
                    alive[box].remove(number)
            for _ in range(chance.randrange(1, 4)):
                last += 1
                each = chance.choice((self.a, self.b))
                each.client.add(each.name(f"m-{box}"), mail(last, f"Body of {last}\n"))
                alive[box].add(last)
        return last

    def found(self) -> list[dict[str, list[int]]]:
        """What is on either side."""
        return [
            {box: sorted(each.client.numbers(each.name(f"m-{box}"))) for box in self.boxes} for each in (self.a, self.b)
        ]

    def remembered(self) -> dict[str, set[int]]:
        """By the newest memory on the server."""
        newest = max(self.a.memories("ab"), key=text.date)
        memory, _ = text.parse(newest, "msgid")
        return {name: {int(re.findall(r"\d+", key)[0]) for key in seen} for name, seen in memory.items()}


@pytest.fixture
def shared(machines: list[Machine], request: pytest.FixtureRequest) -> Iterator[Shared]:
    with account(getattr(request, "param", "dovecot")) as a, account("dovecot") as b:
        made = Shared(a, b, machines)
        made.configure()
        yield made


@pytest.mark.parametrize("seed", range(3))
def test_two_machines_in_turns_lose_double_and_resurrect_nothing(shared: Shared, seed: int) -> None:
    chance = random.Random(seed)
    alive: dict[str, set[int]] = {box: set() for box in shared.boxes}
    last = 0
    for turn in range(6):
        last = shared.change(alive, last, chance)
        here, there = chance.sample(shared.machines, 2)
        ran = here.run("ab")

        assert (0, "") == (ran.code, ran.err), turn
        assert [{box: sorted(alive[box]) for box in shared.boxes}] * 2 == shared.found(), turn
        assert [] == there.run("-s", "--json", "ab").steps, turn
        assert alive == shared.remembered(), turn
        assert 1 == len(shared.a.memories("ab")), turn


def test_what_another_machine_did_before_the_memory_was_loaded_is_seen_in_the_mailboxes(
    shared: Shared, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the servers were asked before, to know whether anything had changed, is older than that memory."""
    here, there = shared.machines
    shared.a.client.add(shared.a.name("m-x"), mail(1, "Body of 1\n"))
    for machine in (here, there) * 4:  # both know all, and leave stamps
        assert 0 == machine.run("ab").code
    shared.b.client.add(shared.b.name("m-x"), mail(2, "Body of 2\n"))
    load, before = Msinfo.load, [there]

    def after_the_other(msinfo: Msinfo) -> Memory:
        if before:
            monkeypatch.setattr(Msinfo, "load", load)
            assert 0 == before.pop().run("ab").code
        return load(msinfo)

    monkeypatch.setattr(Msinfo, "load", after_the_other)
    ran = here.run("ab")

    assert (0, "") == (ran.code, ran.err)
    assert [{"x": [1, 2], "y": []}] * 2 == shared.found()


@pytest.mark.parametrize(
    ("shared", "seed"), [("dovecot", 0), ("dovecot", 1), ("cyrus", 0), ("courier", 1)], indirect=["shared"]
)
def test_two_machines_at_the_same_time_lose_nothing_and_remember_all(shared: Shared, seed: int) -> None:
    """What both copy at once is there twice until the next run; no more than that is out of order."""
    chance = random.Random(seed)
    alive: dict[str, set[int]] = {box: set() for box in shared.boxes}
    last = 0
    with ThreadPoolExecutor(2) as pool:
        for turn in range(3):
            last = shared.change(alive, last, chance)
            names = chance.choice((("ab", "ab"), ("ab:x", "ab:y")))
            ran = list(pool.map(lambda machine, name: machine.run_apart(name), shared.machines, names))

            assert {0, 1} >= {each.code for each in ran}, (turn, ran)
            for side in shared.found():
                assert alive == {box: set(found) for box, found in side.items()}, (turn, ran)
                if names[0] != names[1]:
                    assert {box: sorted(alive[box]) for box in shared.boxes} == side, (turn, ran)
            assert alive == shared.remembered(), (turn, ran)
            assert 2 >= len(shared.a.memories("ab")), (turn, ran)

            quiet = chance.choice(shared.machines)
            assert 0 == quiet.run("ab").code
            assert [{box: sorted(alive[box]) for box in shared.boxes}] * 2 == shared.found(), turn
            for machine in shared.machines:
                assert [] == machine.run("-s", "--json", "ab").steps, turn


@dataclass
class Hub:
    """A mailbox on a server, equal with a Maildir on each machine; the channels' memories lie side by side there."""

    account: Account
    machines: Sequence[Machine]

    def configure(self, *channels: str) -> None:
        for machine, channel in zip(self.machines, channels, strict=True):
            configure(
                machine.home,
                f"store hub {{ server {self.account.at()} pat INBOX passwd secret }}\n"
                "store near { pat near/% prefix near/ format maildir }\n"
                f"channel {channel} hub near {{ msinfo {self.account.at('state')} }}\n",
            )

    def maildir(self, machine: Machine) -> Path:
        return machine.home / "near/INBOX"

    def deliver(self, machine: Machine, number: int) -> None:
        for part in ("cur", "new", "tmp"):
            (self.maildir(machine) / part).mkdir(parents=True, exist_ok=True)
        file = self.maildir(machine) / "new" / f"{number}.{machine.home.name}"
        file.write_bytes(mail(number).partition(b"\n")[2])

    def drop(self, machine: Machine, number: int) -> None:
        for file in self.maildir(machine).rglob("*"):
            if file.is_file() and b"<id%d@example.org>" % number in file.read_bytes():
                file.unlink()

    def found(self) -> list[list[int]]:
        near = [numbers(self.maildir(machine)) for machine in self.machines]
        return [sorted(each) for each in (self.account.client.numbers("INBOX"), *near)]


@pytest.fixture
def hub(dovecot: Account, machines: list[Machine]) -> Hub:
    return Hub(dovecot, machines)


def test_memories_of_two_machines_in_one_mailbox_at_the_same_time(hub: Hub) -> None:
    """Each with a channel of its own, as 5.2.7 advised: neither touches the memory of the other."""
    hub.configure("laptop", "desktop")
    chance = random.Random(3)
    alive: set[int] = set()
    last = 0
    with ThreadPoolExecutor(2) as pool:
        for turn in range(4):
            for number in sorted(alive):
                if chance.random() < 0.2:
                    alive.remove(number)
                    hub.drop(chance.choice(hub.machines), number)
            for _ in range(4):
                last += 1
                alive.add(last)
                hub.deliver(chance.choice(hub.machines), last)
            ran = list(pool.map(Machine.run_apart, hub.machines, ("laptop", "desktop")))
            later = [hub.machines[at].run(("laptop", "desktop")[at]) for at in (0, 1, 0)]

            assert {0, 1} >= {each.code for each in ran}, (turn, ran)
            assert [0, 0, 0] == [each.code for each in later], (turn, later)
            assert [sorted(alive)] * 3 == hub.found(), (turn, ran)
            assert [1, 1] == [len(hub.account.memories(channel)) for channel in ("laptop", "desktop")], turn


def test_other_machine_without_the_mail_that_the_channel_remembers_deletes_nothing(hub: Hub) -> None:
    """One channel is not enough for two machines with mail of their own: its memory tells what the first one had."""
    hub.configure("ab", "ab")
    hub.account.client.add("INBOX", mail(1), mail(2), mail(3))
    first = hub.machines[0].run("ab")
    second = hub.machines[1].run("ab")

    assert (0, 6) == (first.code, second.code)
    assert [1, 2, 3] == sorted(hub.account.client.numbers("INBOX"))
    assert [] == hub.machines[0].run("-s", "--json", "ab").steps


# ---- another run at the worst moment ---------------------------------------------------------------------------------


FETCHED = rb"UID FETCH \S+ \(.*BODY.PEEK\[\]"  # of whole messages; here only memories are


def on_fake(home: Path, fake: FakeServer) -> FakeBox:
    """A memory there that knows 1 to 4, and changes since: 2 is deleted, 5 is new."""
    two_local_stores(home, fake_place(fake, "alice", "state"))
    assert 0 == run("ab").code
    drop(home / "a/inbox", 2)
    add(home / "b/inbox", mail(5))
    return fake.store[b"state"]


def saved_by_another_run(server: FakeServer) -> None:
    """The same memory again, by a newer message."""
    box = server.store[b"state"]
    [memory] = box.messages
    box.add(memory.raw)
    box.remove(memory.uid)


@pytest.mark.parametrize(
    "stub", [b"", b"From: root@x\r\nSubject: message unavailable\r\n\r\nIt is gone.\r\n"], ids=["nothing", "stub"]
)
def test_memory_that_another_run_replaces_before_it_is_fetched_is_found_anew(
    home: Path, fake: FakeServer, stub: bytes
) -> None:
    """Most servers give nothing for what is gone, Courier another text; which would be a memory of nothing."""
    box = on_fake(home, fake)
    size = len(box.messages[0].raw)

    def instead(answer: bytes) -> bytes:
        begin = answer.find(b"{%d}\r\n" % size)
        after = begin + len(b"{%d}\r\n" % size) + size
        return answer[:begin] + b"{%d}\r\n" % len(stub) + stub + answer[after:]

    if stub:
        fake.script.append(Trap(FETCHED, Edit(instead)))
    else:
        fake.script.append(Trap(FETCHED, Do(saved_by_another_run)))
    ran = run("ab")

    assert (0, "") == (ran.code, ran.err)
    assert [1, 3, 4, 5] == both(home)
    assert 1 == len(box.messages)


def test_memory_that_is_never_there_when_it_is_fetched_ends_the_run(home: Path, fake: FakeServer) -> None:
    on_fake(home, fake)
    fake.script.append(Trap(FETCHED, Do(saved_by_another_run), nth=0))

    assert 8 == run("ab").code
    assert [1, 3, 4] == sorted(numbers(home / "a/inbox"))
    assert [1, 2, 3, 4, 5] == sorted(numbers(home / "b/inbox"))


@pytest.mark.parametrize(
    ("command", "executed", "left"),
    [
        (rb"APPEND", False, 1),
        (rb"APPEND", True, 2),
        (rb"UID STORE", False, 2),
        (rb"UID STORE", True, 2),
        (rb"UID EXPUNGE", False, 2),
        (rb"UID EXPUNGE", True, 1),
    ],
)
def test_run_killed_while_it_saves_is_made_up_for_by_the_next(
    home: Path, fake: FakeServer, command: bytes, executed: bool, left: int
) -> None:
    box = on_fake(home, fake)
    killed = killed_at(home, fake, command, executed=executed)
    between = len(box.messages)
    ran = [run("ab"), run("ab")]
    add(home / "a/inbox", mail(6))
    drop(home / "b/inbox", 5)
    ran.append(run("ab"))

    assert -signal.SIGKILL == killed
    assert left == between
    assert [(0, "")] * 3 == [(each.code, each.err) for each in ran]
    assert [1, 3, 4, 6] == both(home)
    assert 1 == len(box.messages)


def killed_at(home: Path, fake: FakeServer, command: bytes, *, executed: bool) -> int:
    """Run in a process that is killed when it has sent this command; returns how it ended."""
    process: list[subprocess.Popen[bytes]] = []
    fake.script.append(Trap(command, Do(lambda _: process[0].kill())))
    if not executed:
        fake.script += [Trap(each, Answer("NO killed"), nth=0) for each in (command, rb"UID EXPUNGE")]
    elif command == rb"UID STORE":
        fake.script.append(Trap(rb"UID EXPUNGE", Answer("NO killed"), nth=0))
    with subprocess.Popen(
        [sys.executable, "-m", "mailsync", "ab"],
        env={**os.environ, "HOME": str(home)},
        cwd=home,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as started:
        process.append(started)
    fake.script.clear()
    return started.returncode


def test_line_that_breaks_while_the_memory_is_sent_leaves_one_memory(home: Path, fake: FakeServer) -> None:
    box = on_fake(home, fake)
    fake.script.append(Trap(rb"APPEND", Swallow()))

    assert 0 == run("ab").code
    assert [1, 3, 4, 5] == both(home)
    assert 1 == len(box.messages)


# ---- what it costs ---------------------------------------------------------------------------------------------------


def test_run_fetches_the_memory_once_and_sends_it_once_if_it_changed(home: Path, dovecot: Account) -> None:
    many = 2000
    allowance = 8000  # bytes for all else
    with Proxy(dovecot.on.port) as line:
        two_local_stores(home, dovecot.at("state", line.port))
        put(home / "a/inbox", *(mail(number) for number in range(many)))
        traffic = []
        for run_number in range(3):
            if run_number == 2:
                add(home / "a/inbox", mail(many))
            sent, received = line.sent, line.received
            assert 0 == run("ab").code
            traffic.append((line.sent - sent, line.received - received))
        size = len(dovecot.memories("ab")[0])

    first, nothing, changed = traffic
    assert first[0] < allowance
    assert size < first[1] < size + allowance
    assert size - 100 < nothing[0] < size + allowance
    assert nothing[1] < allowance
    assert size - 100 < changed[0] < size + allowance
    assert size < changed[1] < size + allowance
