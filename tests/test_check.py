"""--check: what is wrong with mail is found, in each format and between two stores; and nothing is changed."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.faults import of_maildir, of_mbox
from mailsync.drivers.mboxspool import Spool
from mailsync.findings import Finding, Kind
from mailsync.inspection import has_odd_bytes, of_header, of_names, of_names_together
from mailsync.model import FLAGGED, SEEN, Boxname, Mailbox, Side

from . import scenario
from .mail import ODD, Mail, Ran, configure, local, maildir, mbox, message, put, run
from .scenario import on_machine, on_server
from .test_cli import age, snapshot

FORMATS = ("maildir", "maildir++", "mbox", "mh")
PLACES = (*FORMATS, "dovecot")
CONFIG = """\
store md { pat md/* prefix md/ format maildir fsync no }
store old { pat old/* prefix old/ format mbox }
store mh { pat mh/* prefix mh/ format mh }
channel mail md old { msinfo .msinfo }
channel small md old { msinfo .msinfo-small sizelimit 1k }
"""
NO_ID = b"From: a@x\nSubject: nobody\n\nhi\n"
BOX = Boxname("box")


@pytest.fixture
def mails(home: Path) -> Path:
    """Three messages in a Maildir store, and nothing in the others."""
    configure(home, CONFIG)
    maildir(home / "md/box", message(1), message(2), message(3))
    return home


@pytest.fixture
def synced(mails: Path) -> Path:
    """The same after a first run."""
    assert run("mail").code == 0
    return mails


def check(*args: str) -> list[dict[str, Any]]:
    """The findings; all that the end tells of them must be so."""
    ran = run("--check", "--json", *args)
    found = [event for event in ran.events if event["event"] == "finding"]
    boxes = {event["box"] for event in found if event["box"] is not None}
    [checked] = [event for event in ran.events if event["event"] == "checked"]
    assert (len(found), len(boxes)) == (checked["findings"], checked["mailboxes"])
    assert (1 if found else 0) == ran.code
    return found


def counts(*args: str) -> dict[tuple[str, str], int]:
    """How many of a kind in a store."""
    return {(event["kind"], event["store"]): event["count"] for event in check(*args)}


def drop_first(directory: Path) -> None:
    min(directory.iterdir()).unlink()


# ---- one store -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", PLACES)
def test_mailbox_is_looked_through_wherever_it_lies(home: Path, place: str) -> None:
    there = on_machine(place, "mail") if place in FORMATS else on_server(place)
    stores = scenario.channels(home, {"a": there}, [])
    mails = [
        *(message(n) for n in range(1, 4)),
        message(1),
        message(1),
        message(2, b"another text\n"),
        NO_ID,
        ODD["no-colon"],
        b"X-Long: " + b"y" * 200_000 + b"\nMessage-ID: <long@x>\n\nhi\n",
    ]
    with stores.opened("a") as store:
        scenario.fill(store, {BOX: [Mail(raw) for raw in mails]})

    for args in ((), ("--full",)):
        assert {
            (Kind.IDENTICAL, "a"): 2,
            (Kind.SAME_ID, "a"): 2,
            (Kind.NO_ID, "a"): 2,
            (Kind.ODD_HEADER, "a"): 1,
            (Kind.LONG_HEADER, "a"): 1,
        } == counts(*args, "a")


@pytest.mark.parametrize("format", FORMATS)
def test_mail_that_is_all_right_gives_nothing_to_tell(home: Path, format: str) -> None:
    stores = scenario.channels(home, {"a": on_machine(format, "mail")}, [])
    with stores.opened("a") as store:
        scenario.fill(store, {BOX: [Mail(message(n), frozenset({SEEN, "Work"})) for n in range(9)]})

    assert Ran(0, 'Checking store "a"...\nnothing found\n', "") == run("--check", "--full", "a")
    assert Ran(0, "", "") == run("--check", "-q", "a")


@pytest.mark.parametrize("format", ["maildir", "mh"])
@pytest.mark.parametrize("blank", [b"", b"\n\n"])
def test_empty_message_is_told_once_and_as_that(home: Path, format: str, blank: bytes) -> None:
    stores = scenario.channels(home, {"a": on_machine(format, "mail")}, [])
    with stores.opened("a") as store:
        scenario.fill(store, {BOX: [Mail(message(1)), Mail(blank), Mail(ODD["no-header"])]})

    for args in ((), ("--full",)):
        assert {(Kind.EMPTY, "a"): 1, (Kind.NO_ID, "a"): 1} == counts(*args, "a")


def test_each_finding_is_a_line_and_with_m_each_message(mails: Path) -> None:
    maildir(mails / "md/box", message(1), message(1), NO_ID)

    assert run("--check", "md").out == (
        'Checking store "md"...\n'
        "box: 1 duplicate in md\n"
        "box: 1 message without Message-ID in md\n"
        "2 findings in 1 mailbox\n"
    )
    shown = run("--check", "-M", "md").out.splitlines()
    assert shown[1] == "box: 1 duplicate in md"
    assert "mail 1" in shown[2]
    assert shown[2].rstrip().endswith("<1@x>")
    assert ["<1@x>"] == check("-m", "md")[0]["messages"]


def test_bytes_that_servers_may_refuse_are_told_on_request_and_are_no_finding(mails: Path) -> None:
    maildir(mails / "md/box", ODD["8-bit-header"], ODD["nul-in-header"], message(3))

    ran = run("--check", "-vw", "md")

    assert 0 == ran.code
    assert "box: 2 messages with NUL or 8-bit bytes in the header in md" in ran.err
    assert Ran(0, 'Checking store "md"...\nnothing found\n', "") == run("--check", "md")


def test_message_and_mailbox_without_permission_are_findings(mails: Path, ordinary: None) -> None:
    maildir(mails / "md/closed", message(4))
    (mails / "md/closed/cur").chmod(0)
    next((mails / "md/box/cur").iterdir()).chmod(0)

    try:
        found = check("md")
    finally:
        (mails / "md/closed/cur").chmod(0o700)

    assert {("box", Kind.UNREADABLE), ("closed", Kind.UNLISTED)} == {(one["box"], one["kind"]) for one in found}
    assert all("Permission denied" in one["text"] for one in found)


def test_names_that_are_one_where_capitals_do_not_count_are_told(mails: Path) -> None:
    maildir(mails / "md/Sent")
    maildir(mails / "md/sent")

    assert [(Kind.COLLISION, 1)] == [(one["kind"], one["count"]) for one in check("md")]


def test_names_that_collide_only_between_the_stores_are_told_once() -> None:
    names = {Side.A: [Boxname("Sent"), Boxname("x")], Side.B: [Boxname("sent"), Boxname("x")]}

    assert [("Sent", "sent")] == [found.names for found in of_names_together(names)]
    assert [] == [found for side in Side for found in of_names(names[side], "a")]


@pytest.mark.parametrize("name", ["a/../b", "a//b", "nul\0", "x" * 300])
def test_name_that_must_not_become_a_path_is_a_finding(name: str) -> None:
    [found] = of_names([Boxname(name)], "a")

    assert Kind.BAD_NAME == found.kind


def test_file_that_is_no_mail_is_told_on_request_and_is_no_finding(mails: Path) -> None:
    (mails / "md/notes").write_text("From here on there is no mail.\n\nFrom me\n")

    ran = run("--check", "-vw", "md")

    assert 0 == ran.code
    assert "notes: not a mailbox" in ran.err


# ---- how a mailbox is kept -------------------------------------------------------------------------------------------


def _odd_names(home: Path) -> None:
    (home / "md/box/cur/plain-name").write_bytes(message(7))
    (home / "md/box/cur/.hidden").write_bytes(b"")


def _letters(home: Path) -> None:
    (home / "md/box/cur/1.x:2,Sab").write_bytes(message(7))
    (home / "md/box/cur/2.x:2,Sb").write_bytes(message(8))
    (home / "md/box/dovecot-keywords").write_text("0 Work\n")


def _two_parts_missing(home: Path) -> None:
    (home / "md/half/cur").mkdir(parents=True)
    (home / "md/half/cur/1.x:2,S").write_bytes(message(7))


def _one_part_missing(home: Path) -> None:
    maildir(home / "md/half", message(7))
    (home / "md/half/tmp").rmdir()


def _twins(home: Path) -> None:
    (home / "md/box/cur/same:2,S").write_bytes(message(7))
    (home / "md/box/new/same").write_bytes(message(8))


def _bytes_first(home: Path) -> None:
    mbox(home / "old/box", message(1))
    (home / "old/box").write_bytes(b"junk\nFrom me\n" + (home / "old/box").read_bytes())


def _unquoted(home: Path) -> None:
    mbox(home / "old/box", message(1, b"From me\n>From you\n\nFrom x@y nowhere\n"), message(2, b"Not From me\n"))


def _cut_off(home: Path) -> None:
    mbox(home / "old/box", message(1, b"the end"))
    (home / "old/box").write_bytes((home / "old/box").read_bytes().rstrip(b"\n"))


def _sequences(home: Path) -> None:
    put(local(home, "mh/*", format="mh"), "mh/box", [Mail(message(n), frozenset({SEEN})) for n in range(3)])
    (home / "mh/box/.mh_sequences").write_text("cur: 9\nflagged: 1 7-8\nunseen: 3\n")


def _leading_zero(home: Path) -> None:
    put(local(home, "mh/*", format="mh"), "mh/box", [Mail(message(1), frozenset({SEEN}))])
    (home / "mh/box/007").write_bytes(message(7))


@pytest.mark.parametrize(
    ("spoil", "store", "kind", "count"),
    [
        (_odd_names, "md", "odd-name", 1),
        (_letters, "md", "lost-keyword", 1),
        (_two_parts_missing, "md", "half-maildir", 1),
        (_one_part_missing, "md", Kind.UNLISTED, 1),
        (_twins, "md", Kind.UNREADABLE, 1),
        (_bytes_first, "old", "hidden-mbox", 13),
        (_unquoted, "old", "unquoted-from", 2),
        (_cut_off, "old", "no-last-newline", 1),
        (_sequences, "mh", "lost-sequence", 1),
        (_leading_zero, "mh", "odd-number", 1),
    ],
    ids=lambda value: value.__name__.strip("_") if callable(value) else "",
)
def test_what_is_wrong_with_a_format_is_told(
    mails: Path, spoil: Callable[[Path], None], store: str, kind: str, count: int
) -> None:
    spoil(mails)

    assert {(kind, store): count} == counts(store)


def test_level_of_names_that_is_called_as_a_part_of_a_maildir_is_nothing_odd(mails: Path) -> None:
    maildir(mails / "md/projects/new", message(7))

    assert {} == counts("md")


def test_file_that_was_never_delivered_is_told_after_36_hours(mails: Path) -> None:
    (mails / "md/box/tmp/1.M2P3.x").write_bytes(message(9))
    place = str(mails / "md/box"), Mailbox("md/box")

    assert [] == list(of_maildir(*place, time.time()))
    assert ["abandoned"] == [fault.kind for fault in of_maildir(*place, time.time() + 37 * 3600)]


def test_rest_of_a_run_that_was_killed_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    box = home / "box"
    mbox(box, message(1))
    old, coming = box.read_bytes(), b"From a@x Mon Jan  1 00:00:00 2024\n" + message(2) + b"\n"
    fd = os.open(box, os.O_RDWR)
    with Spool(str(box), fd, fsync=False) as spool:
        spool.write(coming)
        spool.commit()
        box.with_name("kept").write_bytes((home / ".box.mailsync-append").read_bytes())
    os.close(fd)
    os.rename(home / "kept", home / ".box.mailsync-append")
    os.truncate(box, len(old) + 20)

    assert [("unfinished", 20)] == [(fault.kind, fault.count) for fault in of_mbox(str(box))]


# ---- channels --------------------------------------------------------------------------------------------------------


def test_channel_that_is_in_step_gives_nothing_to_tell(synced: Path) -> None:
    assert Ran(0, 'Checking stores "md" <-> "old"...\nnothing found\n', "") == run("--check", "--full", "mail")


def test_all_counts_as_new_before_the_first_run(mails: Path) -> None:
    assert {(Kind.MISSING, "old"): 1, (Kind.NEW, "old"): 3} == counts("mail")
    assert "remembers nothing of this channel" in run("--check", "-vw", "mail").err


def test_what_only_one_store_has_is_told_with_the_reason(synced: Path) -> None:
    first, second, third = sorted((synced / "md/box/cur").iterdir())
    first.unlink()
    second.rename(f"{second}F")
    third.rename(f"{third}S")
    (synced / "md/box/new/4.x").write_bytes(message(4))
    (synced / "md/box/cur/5.x:2,T").write_bytes(message(5))

    found = check("-m", "mail")

    told = {(one["kind"], one["store"], one["text"]): one["messages"] for one in found}
    assert {
        (Kind.NEW, "old", "1 message to copy to old"): ["<4@x>"],
        (Kind.DELETED, "old", "1 message to delete in old: deleted on the other side"): ["<1@x>"],
        (Kind.FLAGS, "old", "2 messages with flags to change in old"): ["<2@x>", "<3@x>"],
        (Kind.HELD, "old", "1 message not copied to old, held: ign. del"): ["<5@x>"],
    } == told


def test_message_above_the_limit_is_told_as_held(mails: Path) -> None:
    assert run("small").code == 0
    (mails / "md/box/new/4.x").write_bytes(message(4, b"x" * 2000))

    assert {(Kind.HELD, "old"): 1} == counts("small")


def test_mass_deletion_is_told_as_held(home: Path) -> None:
    configure(home, CONFIG.replace("msinfo .msinfo }", "msinfo .msinfo max_delete 2 }"))
    files = maildir(home / "md/box", *map(message, range(5)))
    assert run("mail").code == 0
    for file in files[:3]:
        file.unlink()

    [found] = check("mail")

    assert (Kind.HELD, 3) == (found["kind"], found["count"])
    assert "max_delete" in found["text"]


def test_what_is_remembered_and_nowhere_is_told(synced: Path) -> None:
    maildir(synced / "md/gone", message(9))
    assert run("mail").code == 0
    shutil.rmtree(synced / "md/gone")
    (synced / "old/gone").unlink()
    drop_first(synced / "md/box/cur")
    mbox(synced / "old/box", message(2), message(3))

    found = {(one["box"], one["kind"]): one["count"] for one in check("mail")}

    assert {("box", Kind.FORGOTTEN): 1, ("gone", Kind.BOX_FORGOTTEN): 1} == found


def test_name_that_the_other_store_cannot_say_is_told(home: Path) -> None:
    from .servers import server

    there = server("dovecot")
    login = there.new_login()
    configure(
        home,
        "store a { pat a/* prefix a/ format maildir }\n"
        f"store b {{ server {{{there.host}:{there.port}/notls/user={login.user}}} passwd {login.password} }}\n"
        "channel ab a b { msinfo .msinfo }\n",
    )
    maildir(home / "a/b\udcff", message(1))
    maildir(home / "a/inbox", message(1))

    found = {(one["box"], one["kind"]) for one in check("ab")}

    assert {("b\udcff", Kind.UNLISTED), ("inbox", Kind.COLLISION)} <= found


def test_what_the_other_store_has_under_the_name_and_is_no_mail_is_told(home: Path) -> None:
    configure(home, CONFIG)
    maildir(home / "md/box", message(1))
    (home / "old").mkdir()
    (home / "old/box").write_text("this is no mail\n")

    [found] = check("mail")

    assert ("box", Kind.UNLISTED) == (found["box"], found["kind"])
    assert "not a mailbox" in found["text"]


def test_one_mailbox_of_a_channel_is_checked_alone(synced: Path) -> None:
    maildir(synced / "md/other", NO_ID)
    maildir(synced / "md/box", message(1), message(2), message(3, b"changed\n"))

    assert [] == check("mail:box")
    assert {"other"} == {one["box"] for one in check("mail:oth%")}
    assert 2 == run("--check", "mail:nothing").code


# ---- --full ----------------------------------------------------------------------------------------------------------


def test_message_that_is_not_the_same_on_both_sides_is_told_with_full(synced: Path) -> None:
    file = sorted((synced / "md/box/cur").iterdir())[0]
    file.write_bytes(file.read_bytes().replace(b"hi", b"ho"))

    assert [] == check("mail")
    ran = run("--check", "--full", "mail")
    assert 1 == ran.code
    assert re.search("box: 1 message with the same id differs between md and old\n  .* mail 1 +\n", ran.out)


def test_members_of_one_id_are_compared_by_what_they_contain(mails: Path) -> None:
    maildir(mails / "md/box", message(1, b"one\n"), message(1, b"two\n"), message(3))
    assert run("mail").code == 0

    assert {(Kind.SAME_ID, "md"): 2, (Kind.SAME_ID, "old"): 2} == counts("--full", "mail")

    raw = (mails / "old/box").read_bytes()
    (mails / "old/box").write_bytes(raw.replace(b"two", b"too"))
    found = counts("--full", "mail")
    assert Kind.DIFFERS not in {kind for kind, _ in found}  # it is told as what a run makes of it
    assert {(Kind.NEW, "md"): 1, (Kind.DELETED, "md"): 1}.items() <= found.items()


def test_message_that_a_server_holds_otherwise_is_told_with_full(home: Path) -> None:
    from .servers import server

    there = server("dovecot")
    login = there.new_login()
    configure(
        home,
        f"store a {{ pat a/* prefix a/ format maildir }}\n"
        f"store b {{ server {{{there.host}:{there.port}/notls/user={login.user}}} passwd {login.password} }}\n"
        "channel ab a b { msinfo .msinfo }\n",
    )
    maildir(home / "a/INBOX", message(1), message(2), ODD["nul"])
    assert run("ab").code == 0
    assert [] == check("--full", "ab")

    file = sorted((home / "a/INBOX/cur").iterdir())[1]
    file.write_bytes(file.read_bytes().replace(b"hi", b"ho"))

    [found] = check("--full", "-m", "ab")
    assert (Kind.DIFFERS, ["<2@x>"]) == (found["kind"], found["messages"])


@pytest.mark.parametrize("name", ["dovecot", "cyrus", "courier", "imap4d"])
def test_what_a_server_cannot_hold_is_nothing_to_tell(home: Path, name: str) -> None:
    stores = scenario.channels(home, {"a": on_machine("maildir", "mail"), "b": on_server(name)}, ["ab"])
    mails = [Mail(message(n), frozenset({SEEN, FLAGGED, "Work"})) for n in range(3)]
    mails += [Mail(ODD["8-bit-header"]), Mail(ODD["crlf"]), Mail(ODD["from-lines"])]
    with stores.opened("a") as store:
        scenario.fill(store, {BOX: mails})
    assert run("ab").code == 0

    assert [] == check("--full", "ab")


# ---- msinfo, and what ends a check -----------------------------------------------------------------------------------


def test_second_and_forged_memory_are_told(synced: Path) -> None:
    raw = (synced / ".msinfo").read_bytes()
    forged = b"From a@x Mon Jan  1 00:00:00 2024\nReceived: from evil\nFrom: mailsync\nSubject: mail\n\nbox\n<1@x>\n\n"
    (synced / ".msinfo").write_bytes(raw + raw + forged)

    assert {(Kind.MSINFO, ""): 1, (Kind.FORGED, ""): 1} == counts("mail")
    assert run("--check", "mail").out.endswith("2 findings\n")


def test_memory_that_is_cut_off_keeps_its_code_and_all_else_is_told(synced: Path) -> None:
    raw = (synced / ".msinfo").read_bytes()
    (synced / ".msinfo").write_bytes(raw.replace(b"<3@x>", b""))
    maildir(synced / "md/box", message(1), message(1), message(3))

    ran = run("--check", "mail")

    assert 8 == ran.code
    assert "box: 1 duplicate in md\n1 finding in 1 mailbox\n" in ran.out
    assert "msinfo" in ran.err


def test_store_that_is_another_one_keeps_its_code(synced: Path) -> None:
    os.rename(synced / "md", synced / "away")

    ran = run("--check", "mail")

    assert 6 == ran.code
    assert "store md has no mailbox at all" in ran.err


def test_several_names_are_each_checked_and_the_worst_code_counts(mails: Path) -> None:
    configure(mails, CONFIG + "store far { server {127.0.0.1:1/notls/user=x} passwd y timeout 2 }\n")
    maildir(mails / "md/box", message(1), message(1))

    ran = run("--check", "far", "md", "mh")

    assert 6 == ran.code
    assert "box: 1 duplicate in md" in ran.out
    assert 1 == run("--check", "mh", "md").code


@pytest.mark.parametrize("args", [["--full"], ["-m", "-vw"], ["-n"], ["-D"], ["-s"], ["--json", "-d"]], ids=" ".join)
@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
def test_check_changes_nothing_at_all(mails: Path, args: list[str], first: bool) -> None:
    put(local(mails, "mh/*", format="mh"), "mh/box", [Mail(message(n), frozenset({FLAGGED})) for n in range(3)])
    if not first:
        assert run("mail").code == 0
        _unquoted(mails)
    _odd_names(mails)
    _letters(mails)
    _sequences(mails)
    maildir(mails / "md/more", message(1), message(1))
    age(mails)
    before = snapshot(mails)

    for name in ("md", "old", "mh", "mail"):
        assert run("--check", *args, name).code in (0, 1)

    assert before == snapshot(mails)


def test_check_of_a_store_leaves_new_mail_on_a_server_new(home: Path) -> None:
    from .servers import server

    there = server("dovecot")
    login = there.new_login()
    configure(
        home, f"store a {{ server {{{there.host}:{there.port}/notls/user={login.user}}} passwd {login.password} }}\n"
    )
    box = there.maildir(login)
    assert box
    maildir(box)
    (box / "new/1.x").write_bytes(NO_ID)
    there.give(login, box)

    assert {(Kind.NO_ID, "a"): 1} == counts("--full", "a")
    assert ["1.x"] == [file.name for file in (box / "new").iterdir()]


# ---- headers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "kinds"),
    [
        (b"Subject: x\nMessage-ID: <1@x>\n", []),
        (b"Subject: x\r\nMESSAGE-ID : <1@x>\r\n", []),
        (b"From x@y Mon Jan  1 10:00:00 2024\nMessage-ID: <1@x>\n", []),
        (b"Message-ID: \n", [Kind.NO_ID]),
        (b"", [Kind.NO_ID]),
        (b"Message-ID: <1@x>\nnonsense\n", [Kind.ODD_HEADER]),
        (b"Message-ID: <1@x>\nX: " + b"y" * 102_400, [Kind.LONG_HEADER]),
    ],
)
def test_header_is_judged(header: bytes, kinds: list[Kind]) -> None:
    assert kinds == list(of_header(header))


def test_bytes_of_a_header_that_are_not_plain_text() -> None:
    assert [True, True, False] == [has_odd_bytes(header) for header in (b"S: \xe4", b"S: \0", b"S: =?utf-8?q?=e4?=")]


def test_finding_is_told_in_words() -> None:
    assert "box: 2 things" == str(Finding("kind", BOX, "2 things"))
    assert "all is lost" == str(Finding("kind", None, "all is lost"))
