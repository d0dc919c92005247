"""Mail that both stores hold already: what another program kept equal, copied or moved is taken over where it lies.

By id: no message is copied, and no body is fetched but of those that an id does not tell apart. mbsync is the real one;
OfflineIMAP too, where it is installed, and what it leaves behind is also made by hand.
"""

from __future__ import annotations

import hashlib
import imaplib
import os
import re
import shutil
import subprocess
import textwrap
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailsync.drivers.imap import sets
from mailsync.model import ANSWERED, DELETED, DRAFT, FLAGGED, NONE, SEEN, Boxname, Message

from .mail import Mail, configure, entries, maildir, message, run
from .old import Client
from .samples import ROOT
from .scenario import Contents, Stores, contents
from .servers import Login, Server, server
from .servers.proxy import Proxy

MBSYNC = "/usr/bin/mbsync"
README = (ROOT / "README.rst").read_text(encoding="utf-8")
BODIES = re.compile(rb"UID FETCH (\S+) .*BODY\.PEEK\[\]")
LETTERS = {"D": DRAFT, "F": FLAGGED, "R": ANSWERED, "S": SEEN, "T": DELETED}
MANY = [Mail(message(n), frozenset({SEEN})) for n in range(1, 40)]
RAW = [mail.raw for mail in MANY]
MAIL: Mapping[str, Sequence[Mail]] = {
    "INBOX": [
        *MANY,
        Mail(message("new")),
        Mail(message("flagged"), frozenset({FLAGGED})),
        Mail(message("keyword"), frozenset({SEEN, "Work"})),
        Mail(message("large", b"x" * 70 + b"\n" + b"y\n" * 50_000), frozenset({SEEN, ANSWERED})),
        Mail(message("8-bit").replace(b"mail 8", b"h\xe4\xdf 8"), frozenset({SEEN})),
        Mail(b"From: a@x\nSubject: no id\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\nhi\n", frozenset({SEEN})),
    ],
    "work": [Mail(message("w1")), Mail(message("w2"), frozenset({SEEN, DELETED}))],
    "work/lists": [Mail(message("l1")), Mail(message("l2"), frozenset({FLAGGED}))],
    "Archive": [],
}


# ---- a server whose wire is counted ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Account:
    """All mailboxes of a user; mailsync comes through `wire`, the others do not."""

    on: Server
    login: Login
    wire: Proxy

    @property
    def settings(self) -> str:
        return f"server {{localhost:{self.wire.port}/user={self.login.user}/notls}} passwd {self.login.password}"

    @contextmanager
    def client(self) -> Iterator[Client]:
        with Client(self.on, self.login) as client:
            yield client

    def fill(self, mails: Mapping[str, Iterable[Mail]]) -> None:
        with self.client() as client:
            client.create(*(name for name in mails if name != "INBOX"))
            for name, some in mails.items():
                for mail in some:
                    client.add(name, mail.raw, flags=mail.flags)

    def mark(self, mailbox: str, flags: Mapping[int, str], *, expunge: bool = False) -> None:
        """Give flags to messages, by uid, as another program does."""
        with imaplib.IMAP4(self.on.host, self.on.port) as imap:
            imap.login(self.login.user, self.login.password)
            imap.select(mailbox)
            for uid, flag in flags.items():
                imap.uid("STORE", str(uid), "+FLAGS", f"({flag})")
            imap.close() if expunge else imap.unselect()


@contextmanager
def account(name: str) -> Iterator[Account]:
    on = server(name)
    with Proxy(on.port) as wire:
        yield Account(on, on.new_login(), wire)


@pytest.fixture
def dovecot() -> Iterator[Account]:
    with account("dovecot") as made:
        yield made


# ---- a first run -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Adopted:
    """What a first run came to: nothing was copied, deleted or made, on the wire or elsewhere."""

    flagged: Mapping[str, int]  # messages that got other flags, by store
    bodies: Sequence[Counter[int]]  # how often each was fetched, by uid, for each account
    stores: Stores

    def contents(self, store: str) -> Contents:
        with self.stores.opened(store) as opened:
            return contents(opened)


def adopted(home: Path, *accounts: Account, options: Sequence[str] = ()) -> Adopted:
    """Simulate the channel `c`, run it, and simulate it once more, when nothing must be left to do."""
    planned = run(*options, "-s", "--json", "c")
    begin = [len(each.wire.tally.log) for each in accounts]
    ran = run(*options, "--json", "c")
    said = [each.wire.tally.log[at:] for each, at in zip(accounts, begin, strict=True)]
    again = run(*options, "-s", "--json", "c")

    assert (0, "", 0, "") == (planned.code, planned.err, ran.code, ran.err)
    assert sorted(map(str, planned.steps)) == sorted(map(str, ran.steps))
    assert {"flags"} >= {step["event"] for step in ran.steps}, ran.out
    assert [] == again.steps
    assert [] == [line for lines in said for line in lines if re.search(b"APPEND|EXPUNGE|CREATE|COPY|MOVE", line)]
    return Adopted(ran.events[-1]["flagged"], [bodies(lines) for lines in said], Stores(home))


def bodies(lines: Iterable[bytes]) -> Counter[int]:
    found = (BODIES.search(line) for line in lines)
    return Counter(uid for one in found if one for uid in sets.parse(one[1], most=10**6))


def held(mails: Mapping[str, Iterable[Mail]]) -> Mapping[str, int]:
    return {name: len(list(some)) for name, some in mails.items()}


def counts(found: Contents) -> Mapping[str, int]:
    return {str(name): sum(box.values()) for name, box in found.items()}


def channel(home: Path, far: Account, near: str) -> None:
    text = f"store far {{ {far.settings} }}\nstore near {{ {near} }}\nchannel c far near {{ msinfo .msinfo }}\n"
    configure(home, text)


def channel_of_maildirs(home: Path) -> None:
    stores = "store a { pat a/* prefix a/ format maildir }\nstore b { pat b/* prefix b/ format maildir }\n"
    configure(home, f"{stores}channel c a b {{ msinfo .msinfo }}\n")


def files(directory: Path) -> list[Path]:
    """The messages of all Maildirs below."""
    return sorted(file for part in ("cur", "new") for file in directory.rglob(f"{part}/*"))


def recipe(word: str) -> str:
    """The commands of the README that hold this word."""
    blocks = re.findall(r"code-block:: sh\n\n((?:   .*\n)+)", README)
    [found] = [block for block in blocks if word in block]
    return textwrap.dedent(found)


def mark(directory: Path, name: str, letters: str) -> None:
    """Give the message of `message(name)` these letters, as a mail reader does."""
    [file] = [file for file in files(directory) if b"<%s@x>" % name.encode() in file.read_bytes()]
    file.rename(file.parent.parent / "cur" / f"{file.name.partition(':2,')[0]}:2,{letters}")


# ---- mbsync ----------------------------------------------------------------------------------------------------------


def mbsync(home: Path, far: Account, near: str, channel: str = "Patterns *\nSyncState *\n") -> None:
    """One run. `near`: the lines of the MaildirStore."""
    rc = home / ".mbsyncrc"
    rc.write_text(
        f"IMAPStore far\nHost {far.on.host}\nPort {far.on.port}\nUser {far.login.user}\nPass {far.login.password}\n"
        f"SSLType None\nAuthMechs LOGIN\n\nMaildirStore near\n{near}\n"
        f"Channel c\nFar :far:\nNear :near:\nCreate Near\n{channel}"
    )
    for directory in home.rglob("cur"):
        for part in ("cur", "new"):
            os.utime(directory.with_name(part), (1, 1))  # else it waits till the second is over
    done = subprocess.run([MBSYNC, "-c", str(rc), "-a"], capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stderr


@dataclass(frozen=True)
class Style:
    """Where mbsync lays mailboxes out, and the store that reads them."""

    near: str  # of mbsync; {} is the home
    store: str


VERBATIM = Style("Path {}/mail/\nInbox {}/mail/INBOX\nSubFolders Verbatim\n", "pat mail/* prefix mail/ format maildir")
PLUS = Style("Inbox {}/mail\nSubFolders Maildir++\n", "pat mail/* prefix mail/ format maildir++")


@pytest.mark.parametrize("style", [VERBATIM, PLUS], ids=["Verbatim", "Maildir++"])
def test_maildirs_of_mbsync_are_taken_over_without_a_body(home: Path, dovecot: Account, style: Style) -> None:
    dovecot.fill(MAIL)
    (home / "mail").mkdir()
    mbsync(home, dovecot, style.near.format(home, home))
    before = [file.name for file in files(home / "mail")]
    channel(home, dovecot, style.store)
    done = adopted(home, dovecot)

    assert any(re.search(r",U=\d+:2,F$", name) for name in before)
    assert {"far": 0, "near": 1} == done.flagged  # the keyword, which mbsync does not carry
    assert [Counter()] == done.bodies
    assert held(MAIL) == {name: n for name, n in counts(done.contents("near")).items() if name in MAIL}
    assert done.contents("far") == done.contents("near")


def test_mailboxes_of_the_legacy_style_are_reached_by_prefixes_that_end_in_a_dot(home: Path, dovecot: Account) -> None:
    """office/.lists/.garden: in its levels below the first the dot belongs to the name."""
    dovecot.fill({"office/lists/garden": [Mail(message(1), frozenset({SEEN}))], "office/old": [Mail(message(2))]})
    (home / "mail").mkdir()
    mbsync(home, dovecot, f"Path {home}/mail/\nInbox {home}/mail/Inbox\nSubFolders Legacy\n")
    stores = (
        f"store far {{ {dovecot.settings} pat office/% prefix office/ }}\n"
        f"store far-lists {{ {dovecot.settings} pat office/lists/% prefix office/lists/ }}\n"
        "store near { pat mail/office/.% prefix mail/office/. }\n"
        "store near-lists { pat mail/office/.lists/.% prefix mail/office/.lists/. }\n"
    )
    channels = "channel c far near { msinfo .msinfo }\nchannel d far-lists near-lists { msinfo .msinfo }\n"
    configure(home, stores + channels)
    done = adopted(home, dovecot)
    deeper = run("-s", "--json", "d")

    assert {"old": 1} == counts(done.contents("near"))
    assert {"garden": 1} == counts(done.contents("near-lists"))
    assert ([], {"copied": {"far-lists": 0, "near-lists": 0}}.items()) <= (deeper.steps, deeper.events[-1].items())


def test_flags_that_differ_are_united_but_for_deleted_which_needs_both(home: Path, dovecot: Account) -> None:
    names = ("same", "here", "there", "both", "deleted-here", "deleted-there", "deleted-on-both")
    dovecot.fill({"INBOX": [Mail(message(name), frozenset({SEEN})) for name in names]})
    (home / "mail").mkdir()
    mbsync(home, dovecot, VERBATIM.near.format(home, home))
    for name, letters in {"here": "FS", "both": "RS", "deleted-here": "ST", "deleted-on-both": "ST"}.items():
        mark(home / "mail", name, letters)
    dovecot.mark("INBOX", {3: "\\Flagged", 4: "\\Flagged", 6: "\\Deleted", 7: "\\Deleted"})
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot)
    with done.stores.opened("near") as near:
        flags = {entry.id: entry.flags - {SEEN} for entry in entries(near.driver, "mail/INBOX")}

    expected = {"here": {FLAGGED}, "there": {FLAGGED}, "both": {FLAGGED, ANSWERED}, "deleted-on-both": {DELETED}}
    assert {f"<{name}@x>": expected.get(name, NONE) for name in names} == flags
    assert done.contents("far") == done.contents("near")
    assert [Counter()] == done.bodies


def test_what_mbsync_marked_as_deleted_does_not_come_back(home: Path, dovecot: Account) -> None:
    """As it is configured by default it removes nothing: a message that is gone there has a T here."""
    dovecot.fill({"INBOX": [Mail(message("seen"), frozenset({SEEN})), Mail(message("unseen")), Mail(message("stays"))]})
    (home / "mail").mkdir()
    mbsync(home, dovecot, VERBATIM.near.format(home, home))
    dovecot.mark("INBOX", {1: "\\Deleted", 2: "\\Deleted"}, expunge=True)
    mbsync(home, dovecot, VERBATIM.near.format(home, home))
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot)

    assert ["", "ST", "T"] == sorted(file.name.partition(":2,")[2] for file in files(home / "mail"))
    assert ({"INBOX": 1}, {"INBOX": 3}) == (counts(done.contents("far")), counts(done.contents("near")))


def test_several_messages_with_one_id_and_drafts_are_told_apart_by_their_content(home: Path, dovecot: Account) -> None:
    """mbsync puts a mark into each copy that it makes, which does not count. Each body is fetched once, and no more."""
    group = [Mail(message("same", text), frozenset({SEEN})) for text in (b"one\n", b"two\n", b"three\n")]
    draft = Mail(message("draft", b"Dear\n"), frozenset({DRAFT, SEEN}))
    dovecot.fill({"INBOX": [*MANY, *group, draft]})
    (home / "mail").mkdir()
    mbsync(home, dovecot, VERBATIM.near.format(home, home))
    marked = [file for file in files(home / "mail") if b"\nX-TUID: " in file.read_bytes()]
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot)

    assert 43 == len(marked)
    assert [Counter({40: 1, 41: 1, 42: 1, 43: 1})] == done.bodies
    assert done.contents("far") == done.contents("near")


@pytest.mark.parametrize("where", ["*", "{}/mail/.state/", "{}/mail/state-", "{}/mail/state/"])
def test_state_of_mbsync_is_not_taken_for_mail(home: Path, dovecot: Account, where: str) -> None:
    """Wherever it is kept; with AltMap it is a database in each mailbox."""
    dovecot.fill({"INBOX": MANY, "work/lists": MANY})
    state = where.format(home)
    Path(state if state.endswith("/") else home / "mail").mkdir(parents=True, exist_ok=True)
    mbsync(home, dovecot, VERBATIM.near.format(home, home) + "AltMap yes\n", f"Patterns *\nSyncState {state}\n")
    kept = {file.name for file in (home / "mail").rglob("*") if file.is_file() and file not in files(home / "mail")}
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot)

    assert {".isyncuidmap.db"} <= kept
    assert {"work/lists": 39, "INBOX": 39} == counts(done.contents("near"))
    assert [Counter()] == done.bodies


def test_inbox_of_mbsync_in_another_place_is_reached_by_a_link(home: Path, dovecot: Account) -> None:
    """By default it is ~/Maildir, whatever Path is."""
    dovecot.fill({"INBOX": MANY, "work": MANY})
    (home / "mail").mkdir()
    mbsync(home, dovecot, f"Path {home}/mail/\nInbox {home}/Maildir\n")
    (home / "mail/INBOX").symlink_to("../Maildir")
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot)

    assert {"INBOX": 39, "work": 39} == counts(done.contents("near"))
    assert [Counter()] == done.bodies


def test_placeholders_of_mbsync_count_as_the_message_and_once_moved_away_it_is_copied(
    home: Path, dovecot: Account
) -> None:
    """What was too big has a stub here, with the header of the message. The commands are those of the README."""
    large = message("large", b"y\n" * 3000)
    dovecot.fill({"INBOX": [Mail(large, frozenset({SEEN})), *MANY]})
    (home / "mail").mkdir()
    mbsync(home, dovecot, VERBATIM.near.format(home, home) + "MaxSize 2k\n")
    channel(home, dovecot, VERBATIM.store)
    before = run("-s", "--json", "c").steps
    subprocess.run(["sh", "-c", recipe("placeholders").replace("Mail", "mail")], check=True, cwd=home)
    ran = run("--json", "c")

    assert [] == before
    assert 1 == len(list((home / "placeholders").iterdir()))
    assert [("copy", "near", "<large@x>")] == [(step["event"], step["store"], step["id"]) for step in ran.steps]
    assert large in [file.read_bytes() for file in files(home / "mail")]


# ---- OfflineIMAP -----------------------------------------------------------------------------------------------------


def by_hand(home: Path, far: Account, mailboxes: Iterable[str]) -> None:
    """What OfflineIMAP 8 leaves: uid and the md5 of the mailbox's name in the file name; unseen messages in new/."""
    with far.client() as client:
        for name in mailboxes:
            maildir(home / "mail" / name.replace("/", "."))
            digest = hashlib.md5(name.encode()).hexdigest()
            for uid, raw, flags in client.everything(name):
                letters = "".join(letter for letter, flag in LETTERS.items() if flag in flags)
                file = f"1700000000_{uid}.4711.host,U={uid},FMD5={digest}:2,{letters}"
                part = home / "mail" / name.replace("/", ".") / ("cur" if SEEN in flags else "new")
                (part / file).write_bytes(re.sub(rb"X-OfflineIMAP: .*\n", b"", raw.replace(b"\r\n", b"\n")))


def offlineimap(home: Path, far: Account, mailboxes: Iterable[str]) -> None:
    """The program itself. `mailboxes` are all that there are."""
    rc = home / ".offlineimaprc"
    rc.write_text(
        f"[general]\naccounts = A\nmetadata = {home}/.offlineimap\nui = quiet\n"
        "[Account A]\nlocalrepository = near\nremoterepository = far\n"
        f"[Repository near]\ntype = Maildir\nlocalfolders = {home}/mail\n"
        f"[Repository far]\ntype = IMAP\nremotehost = {far.on.host}\nremoteport = {far.on.port}\nssl = no\n"
        f"starttls = no\nauth_mechanisms = LOGIN\nremoteuser = {far.login.user}\nremotepass = {far.login.password}\n"
    )
    done = subprocess.run(["offlineimap", "-o", "-c", str(rc)], capture_output=True, text=True, timeout=60)
    assert 0 == done.returncode, done.stdout + done.stderr


Leave = Callable[[Path, Account, Iterable[str]], None]
ways_of_offlineimap = pytest.mark.parametrize(
    "leave", [by_hand, *([offlineimap] if shutil.which("offlineimap") else [])]
)


@ways_of_offlineimap
def test_maildirs_of_offlineimap_are_taken_over_without_a_body(home: Path, dovecot: Account, leave: Leave) -> None:
    mails = {"INBOX": MAIL["INBOX"], "work": [*MAIL["work"], Mail(message("gone"), frozenset({DELETED}))]}
    dovecot.fill(mails)
    leave(home, dovecot, mails)
    channel(home, dovecot, "pat mail/* prefix mail/ format maildir")
    done = adopted(home, dovecot)

    assert {"far": 0, "near": 1} == done.flagged  # the keyword
    assert [Counter()] == done.bodies
    assert held(mails) == counts(done.contents("near"))
    assert done.contents("far") == done.contents("near")


@ways_of_offlineimap
def test_what_offlineimap_marked_as_deleted_does_not_come_back(home: Path, dovecot: Account, leave: Leave) -> None:
    """What was not seen lies in new/, with a T."""
    dovecot.fill({"INBOX": [Mail(message("deleted"), frozenset({DELETED})), Mail(message("stays"))]})
    leave(home, dovecot, ["INBOX"])
    dovecot.mark("INBOX", {1: "\\Deleted"}, expunge=True)
    channel(home, dovecot, "pat mail/* prefix mail/ format maildir")
    done = adopted(home, dovecot)

    assert ["", "T"] == sorted(file.name.partition(":2,")[2] for file in (home / "mail/INBOX/new").iterdir())
    assert ({"INBOX": 1}, {"INBOX": 2}) == (counts(done.contents("far")), counts(done.contents("near")))


def test_several_messages_with_one_id_that_offlineimap_uploaded_are_told_apart(home: Path, dovecot: Account) -> None:
    """Where the server has no UIDPLUS it puts a mark into what it uploads, which does not count."""
    group = [message("same", text) for text in (b"one\n", b"two\n")] + [message("draft", b"Dear\n")]
    flags = [frozenset({SEEN}), frozenset({SEEN}), frozenset({DRAFT, SEEN})]
    marked = [raw.replace(b"\n\n", b"\nX-OfflineIMAP: %d-4711\n\n" % n, 1) for n, raw in enumerate(group)]
    dovecot.fill({"INBOX": [Mail(raw, which) for raw, which in zip(marked, flags, strict=True)]})
    by_hand(home, dovecot, ["INBOX"])
    channel(home, dovecot, "pat mail/* prefix mail/ format maildir")
    done = adopted(home, dovecot)

    assert group == [file.read_bytes() for file in files(home / "mail")]
    assert [Counter({1: 1, 2: 1, 3: 1})] == done.bodies
    assert done.contents("far") == done.contents("near")


@ways_of_offlineimap
def test_mailboxes_of_offlineimap_with_dots_are_reached_by_prefixes(home: Path, dovecot: Account, leave: Leave) -> None:
    """Its default is to write work/lists as work.lists, without a dot in front of it."""
    mails = {"work/lists": [Mail(message(1), frozenset({SEEN}))], "work/old": [Mail(message(2))], "INBOX": []}
    dovecot.fill(mails)
    leave(home, dovecot, mails)
    far = f"store far {{ {dovecot.settings} pat work/% prefix work/ }}\n"
    near = "store near { pat mail/work.% prefix mail/work. }\n"
    configure(home, f"{far}{near}channel c far near {{ msinfo .msinfo }}\n")
    done = adopted(home, dovecot)

    assert {"lists": 1, "old": 1} == counts(done.contents("near"))


# ---- two directories of Maildirs: rsync, Sync Mail Dir ---------------------------------------------------------------


def same_names(source: Path, target: Path) -> None:
    """As rsync, unison and Sync Mail Dir do it."""
    shutil.copytree(source, target)


def other_names(source: Path, target: Path) -> None:
    """As a mail reader that copies a mailbox, or two clients of one server."""
    for n, file in enumerate(files(source)):
        maildir(target / file.parent.parent.relative_to(source))
        letters = file.name.partition(":2,")[2]
        copy = target / file.relative_to(source).with_name(f"{1_800_000_000 + n}.V{n}.other:2,{letters}")
        shutil.copy2(file, copy)


@pytest.mark.parametrize("copy", [same_names, other_names])
def test_copies_of_maildirs_are_taken_over_where_they_lie(home: Path, copy: Callable[[Path, Path], None]) -> None:
    for name, mails in MAIL.items():
        for file, mail in zip(maildir(home / "a" / name, *(mail.raw for mail in mails)), mails, strict=True):
            file.rename(f"{file}{''.join(letter for letter, flag in LETTERS.items() if flag in mail.flags)}")
    maildir(home / "a/twins", message("same", b"one\n"), message("same", b"two\n"), b"no header\n")
    copy(home / "a", home / "b")
    maildir(home / "b/Archive")
    before = {side: files(home / side) for side in "ab"}
    channel_of_maildirs(home)
    done = adopted(home)

    assert {"a": 0, "b": 0} == done.flagged
    assert before == {side: files(home / side) for side in "ab"}


def test_flags_that_sync_mail_dir_would_make_two_messages_of_are_united(home: Path) -> None:
    """One message was answered on one machine and flagged on the other."""
    for side in "ab":
        maildir(home / side / "box", *(message(n) for n in range(3)))
    mark(home / "a", "1", "RS")
    mark(home / "b", "1", "FS")
    channel_of_maildirs(home)
    done = adopted(home)

    assert {"a": 1, "b": 1} == done.flagged
    assert done.contents("a") == done.contents("b")
    assert {"", "FRS"} == {file.name.partition(":2,")[2] for file in files(home)}


def test_maildirs_on_another_machine_are_taken_over_through_a_tunnel(home: Path, dovecot: Account) -> None:
    """There a program that speaks IMAP is started, with no server: as sshd would, under the user's own id."""
    there = dovecot.on.directory_of(dovecot.login)
    mark_seen(file for name in ("INBOX", "lists/garden") for file in maildir(home / "a" / name, *RAW))
    shutil.copytree(home / "a", there / "Mail")
    dovecot.on.give(dovecot.login, there / "Mail")
    setup, owner = there / "tunnel.conf", there.stat()
    setup.write_text(
        "log_path = /dev/stderr\nssl = no\nstats_writer_socket_path =\nnamespace inbox {\n  inbox = yes\n}\n"
    )
    imap = (
        f"setpriv --reuid {owner.st_uid} --regid {owner.st_gid} --clear-groups -- env -i HOME={there} USER=u"
        f" /usr/lib/dovecot/imap -c {setup} -o mail_location=maildir:~/Mail:LAYOUT=fs:INBOX=~/Mail/INBOX"
    )
    stores = f'store a {{ pat a/* prefix a/ }}\nstore b {{ server {{there/user=u}} tunnel "{imap}" }}\n'
    configure(home, f"{stores}channel c a b {{ msinfo .msinfo }}\n")
    done = adopted(home)

    assert {"a": 0, "b": 0} == done.flagged
    assert {"INBOX": 39, "lists/garden": 39} == counts(done.contents("b"))


# ---- from one server to another --------------------------------------------------------------------------------------


def test_mail_that_was_moved_to_another_server_is_taken_over_without_a_body(home: Path, dovecot: Account) -> None:
    """As imapsync does it: each message fetched and appended, flags and all. Cyrus folds 8-bit headers as it does."""
    group = [Mail(message("same", text), frozenset({SEEN})) for text in (b"one\n", b"two\n")]
    with account("cyrus") as cyrus:
        dovecot.fill({**MAIL, "group": group})
        configure(
            home,
            f"store a {{ {dovecot.settings} }}\nstore b {{ {cyrus.settings} }}\nchannel c a b {{ msinfo .msinfo }}\n",
        )
        migrate(Stores(home))
        done = adopted(home, dovecot, cyrus)

        assert {"a": 0, "b": 0} == done.flagged
        assert [Counter({1: 1, 2: 1})] * 2 == done.bodies
        assert counts(done.contents("a")) == counts(done.contents("b"))


def migrate(stores: Stores) -> None:
    with stores.opened("a") as source, stores.opened("b") as target:
        for boxname, info in source.contents().boxes.items():
            if info.selectable and boxname in {*MAIL, "group"}:
                target.driver.create(target.mailbox(boxname))
                uids = [entry.uid for entry in entries(source.driver, source.mailbox(boxname))]
                with source.open(boxname, write=False) as old, target.open(Boxname(boxname), write=True) as new:
                    got = [answer for answer in old.fetch(uids) if isinstance(answer, Message)]
                    assert len(uids) == len(list(new.append(got)))


# ---- what an id does not tell ----------------------------------------------------------------------------------------


def test_messages_without_message_id_are_known_by_their_header(home: Path, dovecot: Account) -> None:
    """The md5 of its fields is the id: the server is asked for the header of these alone, and for no body."""
    nameless = [f"From: a@x\nSubject: {n}\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\nhi\n".encode() for n in range(20)]
    dovecot.fill({"INBOX": [*MANY, *(Mail(raw, frozenset({SEEN})) for raw in nameless)]})
    mark_seen(maildir(home / "mail/INBOX", *RAW, *nameless))
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot)

    headers = [line for line in dovecot.wire.tally.log if b"BODY.PEEK[HEADER])" in line]
    assert {b"40:59"} == {line.split()[3] for line in headers}
    assert ({"far": 0, "near": 0}, [Counter()]) == (done.flagged, done.bodies)


def test_body_is_fetched_only_where_there_is_no_header_to_tell_a_message(home: Path, dovecot: Account) -> None:
    """Once in each run: that is its id."""
    dovecot.fill({"INBOX": [*MANY, Mail(b"\nNo header.\n", frozenset({SEEN}))]})
    mark_seen(maildir(home / "mail/INBOX", *RAW, b"\nNo header.\n"))
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot)

    assert ({"far": 0, "near": 0}, [Counter({40: 1})]) == (done.flagged, done.bodies)


def test_with_md5_ids_no_body_is_fetched_either(home: Path, dovecot: Account) -> None:
    dovecot.fill({"INBOX": MANY})
    mark_seen(maildir(home / "mail/INBOX", *RAW))
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot, options=["-t", "md5"])

    assert ({"far": 0, "near": 0}, [Counter()]) == (done.flagged, done.bodies)


def test_each_draft_and_each_member_of_a_group_costs_one_body_in_the_first_run_and_none_later(
    home: Path, dovecot: Account
) -> None:
    """What else has an id of its own costs nothing. Of drafts it goes on: they may be saved again any time."""
    group = [message("same", text) for text in (b"one\n", b"two\n", b"three\n")]
    drafts = [message("draft1"), message("draft2")]
    flags = [frozenset({SEEN})] * 3 + [frozenset({DRAFT, SEEN})] * 2
    dovecot.fill({"INBOX": [*MANY, *map(Mail, [*group, *drafts], flags)]})
    for file in maildir(home / "mail/INBOX", *RAW, *group, *drafts):
        file.rename(f"{file}{'DS' if b'draft' in file.read_bytes() else 'S'}")
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot)
    begin = len(dovecot.wire.tally.log)
    assert 0 == run("c").code

    assert ({"far": 0, "near": 0}, [Counter(range(40, 45))]) == (done.flagged, done.bodies)
    assert Counter([43, 44]) == bodies(dovecot.wire.tally.log[begin:])


def test_another_version_of_a_draft_is_told_and_kept_on_both_sides(home: Path, dovecot: Account) -> None:
    """Nothing says which is newer: nobody's words are thrown away."""
    dovecot.fill({"INBOX": [Mail(message("draft", b"old\n"), frozenset({DRAFT, SEEN}))]})
    [file] = maildir(home / "mail/INBOX", message("draft", b"new\n"))
    file.rename(f"{file}DS")
    channel(home, dovecot, VERBATIM.store)
    ran = run("--json", "c")

    assert {("copy", "far"), ("copy", "near")} == {(step["event"], step["store"]) for step in ran.steps}
    assert [] == run("-s", "--json", "c").steps


# ---- pushpull --------------------------------------------------------------------------------------------------------


def test_what_pushpull_only_marked_as_deleted_stays_where_it_is(home: Path, dovecot: Account) -> None:
    """It removes nothing: what is gone on one side has the mark on the other, and is not copied back."""
    dovecot.fill({"INBOX": [*MANY, Mail(message("gone here"), frozenset({SEEN, DELETED}))]})
    here = maildir(home / "mail/INBOX", *RAW, message("gone there"))
    mark_seen(here[:-1])
    here[-1].rename(f"{here[-1]}ST")
    channel(home, dovecot, VERBATIM.store)
    done = adopted(home, dovecot)

    assert ({"far": 0, "near": 0}, [Counter()]) == (done.flagged, done.bodies)
    assert ({"INBOX": 40}, {"INBOX": 40}) == (counts(done.contents("far")), counts(done.contents("near")))


def test_buckets_of_pushpull_are_put_together_by_the_commands_of_the_readme(home: Path, dovecot: Account) -> None:
    dovecot.fill({"INBOX": MANY, "All Mail": MANY})
    mark_seen(maildir(home / "Mail/All Mail", *RAW[:10]))
    for n, raw in enumerate(RAW[10:]):
        part = home / f"Mail/All Mail/{n % 20:02x}"
        maildir(part)
        (part / "cur" / f"1700001000.{n}.y:2,S").write_bytes(raw)
    subprocess.run(["sh", "-c", recipe("bucket")], check=True, cwd=home)
    near = 'pat "Mail/All Mail" prefix Mail/'
    channel(home, dovecot, near)
    done = adopted(home, dovecot)

    assert ({"far": 0, "near": 0}, [Counter()]) == (done.flagged, done.bodies)
    assert {"All Mail": 39} == counts(done.contents("near"))
    assert ["cur", "new", "tmp"] == sorted(os.listdir(home / "Mail/All Mail"))


def mark_seen(found: Iterable[Path]) -> None:
    for file in found:
        file.rename(f"{file}S")


# ---- names and kinds of deletion that only the whole program knows ---------------------------------------------------


def test_mailboxes_of_the_legacy_style_are_reached_by_map(home: Path, dovecot: Account) -> None:
    """As the README says it: Inbox is INBOX, and the dots of the levels below the first are mapped away."""
    dovecot.fill({"INBOX": MANY, "office": MANY, "office/lists/garden": MANY, "office/old": MANY})
    (home / "mail").mkdir()
    mbsync(home, dovecot, f"Path {home}/mail/\nInbox {home}/mail/Inbox\nSubFolders Legacy\n")
    near = "store near { pat mail/* pat mail/office/.lists/.% prefix mail/ format maildir }\n"
    maps = "map Inbox INBOX map office/.lists/.* office/lists/* map office/.* office/*"
    far = f"store far {{ {dovecot.settings} }}\n"
    configure(home, f"{near}{far}channel c near far {{ msinfo .msinfo {maps} }}\n")
    done = adopted(home, dovecot)

    expected = {"Inbox": 39, "office": 39, "office/.lists/.garden": 39, "office/.old": 39}
    assert expected == {name: n for name, n in counts(done.contents("near")).items() if n}
    assert [Counter()] == done.bodies


@ways_of_offlineimap
def test_mailboxes_of_offlineimap_with_dots_are_reached_by_map(home: Path, dovecot: Account, leave: Leave) -> None:
    mails = {"INBOX": MANY, "work": MANY, "work/lists": MANY, "work/lists/garden": MANY}
    dovecot.fill(mails)
    leave(home, dovecot, mails)
    stores = f"store near {{ pat mail/* prefix mail/ format maildir }}\nstore far {{ {dovecot.settings} }}\n"
    maps = "map work.lists.* work/lists/* map work.* work/*"
    configure(home, f"{stores}channel c near far {{ msinfo .msinfo {maps} }}\n")
    done = adopted(home, dovecot)

    expected = {"INBOX": 39, "work": 39, "work.lists": 39, "work.lists.garden": 39}
    assert expected == {name: n for name, n in counts(done.contents("near")).items() if n}
    assert [Counter()] == done.bodies


def test_after_pushpull_deletions_go_on_being_marks(home: Path, dovecot: Account) -> None:
    dovecot.fill({"INBOX": MANY})
    here = maildir(home / "mail/INBOX", *RAW)
    mark_seen(here)
    stores = f"store near {{ pat mail/* prefix mail/ delete mark }}\nstore far {{ {dovecot.settings} delete mark }}\n"
    configure(home, f"{stores}channel c near far {{ msinfo .msinfo }}\n")
    adopted(home, dovecot)
    Path(f"{here[0]}S").unlink()
    dovecot.mark("INBOX", {2: "\\Deleted"}, expunge=True)
    ran, again = run("--json", "c"), run("-s", "--json", "c")
    with dovecot.client() as client:
        marked = [uid for uid, _, flags in client.everything("INBOX") if "\\Deleted" in flags]

    assert (0, ["1"], ["ST"]) == (
        ran.code,
        marked,
        [file.name[-2:] for file in files(home / "mail") if "T" in file.name],
    )
    assert [] == again.steps
