"""What may lie in a store, beside mail or among our own files, by accident or on purpose.

It hangs no run, is told where it hinders, and leads to nothing outside the store.
"""

from __future__ import annotations

import os
import socket
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from mailsync.drivers import files
from mailsync.drivers.mbox import Mbox
from mailsync.errors import BoxError
from mailsync.identity import identify
from mailsync.model import Failure, Head, Mailbox, Message

from .mail import (
    Mail,
    Ran,
    configure,
    digest,
    digests,
    forget_cache,
    listing,
    local,
    maildir,
    mbox,
    message,
    put,
    raws,
    run,
    run_within_bounds,
)
from .tried import HOSTILE, PLANTED, Points

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes devices")
SECRET = message("secret", b"what is outside is nobody's business\n")


def two(home: Path, here: str = "maildir", there: str = "mbox", more: str = "") -> None:
    """Stores `md` and `old` in these formats."""
    stores = f"store md {{ pat md/* prefix md/ format {here} }}\nstore old {{ pat old/* prefix old/ format {there} }}\n"
    configure(home, f"{stores}channel c md old {{ msinfo .msinfo {more} }}\n")


def bounded(home: Path, *args: str) -> Ran:
    return run_within_bounds(home, *(args or ("c",)))


def outside(home: Path) -> Path:
    """Files that no run may read or change."""
    place = home.parent / "outside"
    place.mkdir()
    (place / "secret").write_bytes(SECRET)
    return place


def mails_in(directory: Path) -> list[Path]:
    """The files of messages."""
    return sorted(path for path in directory.rglob("*") if path.is_file() and not path.name.startswith("."))


def unharmed(place: Path) -> bool:
    return [path.name for path in place.iterdir()] == ["secret"] and (place / "secret").read_bytes() == SECRET


# ---- among messages --------------------------------------------------------------------------------------------------


def odd_kinds(directory: Path, place: Path, names: Mapping[str, str]) -> None:
    """What is no message, under names of messages."""
    (directory / names["link out"]).symlink_to(place / "secret")
    (directory / names["link to passwd"]).symlink_to("/etc/passwd")
    (directory / names["link to a device"]).symlink_to("/dev/zero")
    (directory / names["link nowhere"]).symlink_to(place / "nothing")
    (directory / names["link to itself"]).symlink_to(names["link to itself"])
    (directory / names["link to a directory"]).symlink_to(place)
    (directory / names["directory"]).mkdir()
    os.mkfifo(directory / names["FIFO"])
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(directory)  # the path of a socket must be short
        server.bind(names["socket"])
        os.chdir(Path.home())
    if os.geteuid() == 0:
        os.mknod(directory / names["device"], 0o20600, os.makedev(1, 5))


KINDS: tuple[str, ...] = (
    "link out",
    "link to passwd",
    "link to a device",
    "link nowhere",
    "link to itself",
    "link to a directory",
)
KINDS += ("directory", "FIFO", "socket", "device")


@HOSTILE
@pytest.mark.parametrize("format", ["maildir", "mh"])
def test_what_is_no_message_is_never_read_and_hinders_no_other(
    home: Path, format: str, record_property: Points
) -> None:
    place = outside(home)
    if format == "maildir":
        directory = maildir(home / "md/box", message(1))[0].parent
        names = {kind: f"{n}.x:2,S" for n, kind in enumerate(KINDS)}
    else:
        put(local(home, "md/*", format="mh"), "md/box", [Mail(message(1))])
        directory = home / "md/box"
        names = {kind: str(n + 10) for n, kind in enumerate(KINDS)}
    odd_kinds(directory, place, names)
    two(home, format)

    ran = run("c")

    assert 1 == ran.code
    assert (4 if format == "maildir" else 3) == ran.err.count("a link that leads out of the store")
    assert digests(home, "old/*") == {"old/box": digests_of(message(1))}
    assert unharmed(place)
    record_property("points", len(KINDS))


def digests_of(*found: bytes) -> list[str]:
    return sorted(digest(raw) for raw in found)


@HOSTILE
@pytest.mark.parametrize("format", ["maildir", "mh"])
def test_link_that_is_put_there_after_the_listing_is_not_followed(home: Path, format: str) -> None:
    place = outside(home)
    driver = local(home, "md/*", format=format)
    [uid] = put(driver, "md/box", [Mail(message(1))])
    [entry] = listing(driver, "md/box").entries
    [file] = mails_in(home / "md/box")
    file.unlink()
    file.symlink_to(place / "secret")

    with driver.open(Mailbox("md/box"), write=False) as box:
        [got], [head] = box.fetch([entry.uid]), box.heads([entry.uid])

    assert entry.uid == uid
    assert isinstance(got, Failure)
    assert isinstance(head, Failure)


@HOSTILE
@pytest.mark.parametrize("format", ["maildir", "mh"])
def test_link_to_another_mailbox_of_the_store_is_a_message(home: Path, format: str) -> None:
    """mairix makes such mailboxes of what it finds. Absolute or not, it may be removed, and the other one stays."""
    driver = local(home, "md/*", format=format)
    put(driver, "md/box", [Mail(message(1)), Mail(message(2))])
    put(driver, "md/found", [])
    found = home / "md/found" / ("cur" if format == "maildir" else "")
    for n, path in enumerate(mails_in(home / "md/box"), 1):
        name = f"{n}.x:2,S" if format == "maildir" else str(n)
        (found / name).symlink_to(path if n == 1 else os.path.relpath(path, found))

    uids = [entry.uid for entry in listing(driver, "md/found").entries]

    assert [message(1), message(2)] == raws(driver, "md/found")
    with driver.open(Mailbox("md/found"), write=True) as box:
        assert uids == list(box.expunge(uids))
    assert [message(1), message(2)] == raws(driver, "md/box")


@HOSTILE
@pytest.mark.parametrize("format", ["maildir", "mh"])
def test_link_to_a_message_of_the_same_mailbox_costs_no_mail(home: Path, format: str) -> None:
    """The two were identical copies, and of these the first was kept: the link; what it led to was removed."""
    put(local(home, "md/*", format=format), "md/box", [Mail(message(1))])
    [file] = mails_in(home / "md/box")
    if format == "mh":
        file = file.rename(file.with_name("7"))
    file.with_name("0.x:2," if format == "maildir" else "3").symlink_to(file.name)
    two(home, format)

    for _ in range(2):
        assert 0 == run("c").code
        forget_cache(home)

    assert message(1) == file.read_bytes()
    assert {"old/box": digests_of(message(1))} == digests(home, "old/*")


@PLANTED
def test_link_that_is_followed_out_of_the_store_is_found(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "open_inside", lambda path, inside: files.open_quietly(path, os.O_NONBLOCK))

    with pytest.raises(AssertionError):
        test_what_is_no_message_is_never_read_and_hinders_no_other(home, "maildir", lambda name, value: None)


@HOSTILE
@pytest.mark.parametrize("part", ["cur", "new", "tmp"])
def test_part_of_a_maildir_that_is_a_link_is_refused(home: Path, part: str) -> None:
    place = outside(home)
    maildir(home / "md/box")
    maildir(home / "md/other", message(1))
    (home / "md/box" / part).rmdir()
    (home / "md/box" / part).symlink_to(place)
    mbox(home / "old/box", message(2))
    two(home)

    ran = run("c")

    assert 1 == ran.code
    assert f"box/{part} is a link" in ran.err
    assert "none of its parts" in ran.err
    assert unharmed(place)
    assert digests(home, "old/*")["old/other"] == digests_of(message(1))


@HOSTILE
def test_file_larger_than_any_message_is_told_and_left_alone(home: Path) -> None:
    """10 GB of nothing: sparse, so it costs nobody anything but who reads it."""
    big = maildir(home / "md/box", message(1))[0].with_name("2.x:2,")
    for head in (b"", message("big")):
        big.write_bytes(head)
        os.truncate(big, 10 * 10**9)
        two(home)

        ran = bounded(home)

        assert 1 == ran.code
        assert "10000000000 bytes are no message" in ran.err
        assert digests_of(message(1)) == digests(home, "old/*")["old/box"]
        forget_cache(home)


NAMES: tuple[bytes, ...] = (
    b"a\nb:2,S",
    b"\x1b[31mred:2,",
    b"\xff\xfe\x80:2,F",
    b"x" * 255,
    b"y" * 252 + b":2,",
    b"z:2,S:2,F",
    b"w:1,exp",
)
NAMES += (b"v:2,SQX$$7", b"u:2", b"t:2,S,W=1", b"1.M1P2.host,U=7,S=5:2,S", b":2,S", b"-rf:2,", b" :2,", b"\\:2,")
NAMES += (b"%s:2,", b"{x}:2,", b"new", b"cur:2,", b"9" * 40 + b".x:2,", b"[red]x[bold]:2,", b"U=1:2,F")


@HOSTILE
@pytest.mark.parametrize("part", ["cur", "new"])
def test_messages_may_be_called_anything(home: Path, part: str, record_property: Points) -> None:
    maildir(home / "md/box")
    for n, name in enumerate(NAMES):
        with open(os.path.join(os.fsencode(home), b"md/box", os.fsencode(part), name), "wb") as file:
            file.write(message(f"name-{n}"))
    two(home, more="")

    ran = run("c")

    assert (0, "") == (ran.code, ran.err)
    assert digests(home, "md/*")["md/box"] == digests(home, "old/*")["old/box"]
    forget_cache(home)
    assert [] == run("-s", "--json", "c").steps
    record_property("points", len(NAMES))


# ---- beside them -----------------------------------------------------------------------------------------------------

BESIDE = {"maildir": "dovecot-keywords", "mh": ".mh_sequences"}


def as_fifo(path: Path) -> None:
    os.mkfifo(path)


def as_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


def as_link_out(path: Path) -> None:
    path.symlink_to(path.parents[3] / "outside/secret")


def as_directory(path: Path) -> None:
    path.mkdir()


def as_endless(path: Path) -> None:
    path.touch()
    os.truncate(path, 2 * 10**9)


@HOSTILE
@pytest.mark.parametrize("what", [as_fifo, as_device, as_link_out, as_directory, as_endless])
@pytest.mark.parametrize("format", BESIDE)
def test_flags_that_cannot_be_read_spoil_their_mailbox_only(
    home: Path, format: str, what: Callable[[Path], None]
) -> None:
    place = outside(home)
    put(local(home, "md/*", format=format), "md/box", [Mail(message(1))])
    put(local(home, "md/*", format=format), "md/other", [Mail(message(2))])
    (home / "md/box" / BESIDE[format]).unlink(missing_ok=True)
    what(home / "md/box" / BESIDE[format])
    two(home, format)

    ran = bounded(home) if what in (as_device, as_endless) else run("c")

    assert 1 == ran.code
    assert BESIDE[format] in ran.err
    assert digests(home, "old/*") == {"old/other": digests_of(message(2))}
    assert unharmed(place)


HOSTILE_SEQUENCES = (
    b"unseen: 1-4294967295 99999999999999999999999999999999999999999999-1 1-1-1 0 -1 1- x\n",
    b"replied: " + b"1 " * 10**6 + b"\n",
    b"flagged: 1\n" * 10**5,
    b"deleted: " + b" 1\n" * 10**5,
    b"".join(b"s%d: 1-99999999\n" % n for n in range(900)),
    b"\0\xff: 1\n:::\n\n\n \nno colon\n\x1b[31m: 1",
)


@HOSTILE
def test_hostile_sequences_cost_little(home: Path, record_property: Points) -> None:
    """Those that came again and again took time by their square; many for one message, memory without end."""
    for n, text in enumerate(HOSTILE_SEQUENCES):
        (home / "md" / f"box{n}").mkdir(parents=True)
        (home / "md" / f"box{n}/1").write_bytes(message(n))
        (home / "md" / f"box{n}/.mh_sequences").write_bytes(text)
    two(home, "mh")

    assert (0, "") == (lambda ran: (ran.code, ran.err))(bounded(home))
    forget_cache(home)
    assert [] == bounded(home, "-s", "--json", "c").steps
    (home / "md/box0/.mh_sequences").write_bytes(b"".join(b"s%d: 1\n" % n for n in range(20_000)))
    ran = bounded(home)
    assert (1, True) == (ran.code, "20000 sequences" in ran.err)
    record_property("points", len(HOSTILE_SEQUENCES) + 1)


@HOSTILE
def test_hostile_keywords_cost_little_and_stay_what_they_are(home: Path, record_property: Points) -> None:
    file = maildir(home / "md/box", message(1))[0]
    file.rename(f"{file}abchz")
    lines = [
        b"999999999 big",
        b"-1 neg",
        b"0 a\0b",
        b"1 \x1b[31m",
        b"2 \xff\xfe",
        b"00003 z z",
        b"9" * 20 + b" x",
        b"",
        b"4",
    ]
    (home / "md/box/dovecot-keywords").write_bytes(b"\n".join([*lines, b"7 " + b"k" * 10**6, b"1 twice"]))
    (home / "md/box/dovecot-uidlist").write_bytes(b"3 V1 N999999999999\n" + b"1 :" + b"\0" * 10**6)
    two(home)

    assert (0, "") == (lambda ran: (ran.code, ran.err))(bounded(home))
    forget_cache(home)
    assert [] == bounded(home, "-s", "--json", "c").steps
    record_property("points", len(lines) + 3)


# ---- mbox ------------------------------------------------------------------------------------------------------------

POSTMARK = b"From a@x Mon Jan  1 00:00:00 2024\n"
MBOXES: Mapping[str, tuple[bytes, int]] = {
    "separators, not quoted": (POSTMARK + message(1) + b"\nFrom x me\n\n" + POSTMARK + b"no header\n\n", 2),
    "lengths that lie": (
        b"".join(
            POSTMARK + b"Content-Length: " + length + b"\n" + message(length.decode()) + b"\n"
            for length in (b"9" * 30, b"-5", b"3", b"0", b"x")
        ),
        5,
    ),
    "no last line end": ((POSTMARK + message(1)).rstrip(b"\n"), 1),
    "CRLF": ((POSTMARK + message(1) + b"\n" + POSTMARK + message(2)).replace(b"\n", b"\r\n"), 2),
    "mixed line ends": (POSTMARK + message(1) + b"\r\n" + POSTMARK.replace(b"\n", b"\r\n") + message(2), 1),
    "pseudo message": (POSTMARK + b"X-IMAP: 1 2\nSubject: FOLDER INTERNAL DATA\n\n\n" + POSTMARK + message(1), 1),
    "empty ones": ((POSTMARK + b"\n") * 2000, 1),  # identical copies, of which one stays
    "different ones": (b"".join(POSTMARK + b"X: %d\n\n" % n for n in range(300)), 300),
    "postmarks in a row": (POSTMARK * 3 + b"\n", 1),
    "keywords without end": (POSTMARK + b"X-Keywords: " + b" ".join(b"k%d" % n for n in range(20)) + b"\n" * 2, 1),
}
NO_MBOXES = (message(1), b"\0" * 1000, b"From ", b"From " + b"x" * 10**6, b"\n\n\nx", b">" + POSTMARK)


@HOSTILE
@pytest.mark.parametrize("format", ["maildir", "mh", "mbox"])
def test_odd_mboxes_are_read_as_they_are(home: Path, format: str, record_property: Points) -> None:
    (home / "md").mkdir()
    for name, (text, _) in MBOXES.items():
        (home / "md" / name).write_bytes(text)
    for n, text in enumerate(NO_MBOXES):
        (home / "md" / f"none-{n}").write_bytes(text)
    two(home, "mbox", format)

    ran = bounded(home)

    assert 0 == ran.code
    there = digests(home, "old/*", format)
    assert {f"old/{name}": count for name, (_, count) in MBOXES.items()} == {
        box: len(some) for box, some in there.items()
    }
    assert there == {name.replace("md/", "old/"): box for name, box in digests(home, "md/*", "mbox").items()}
    assert list(NO_MBOXES) == [(home / "md" / f"none-{n}").read_bytes() for n in range(len(NO_MBOXES))]
    forget_cache(home)
    assert [] == run("-s", "--json", "c").steps
    record_property("points", len(MBOXES) + len(NO_MBOXES))


@HOSTILE
@pytest.mark.parametrize("write", [True, False])
def test_mbox_that_is_cut_while_it_is_read_is_told_and_nothing_else_happens(tmp_path: Path, write: bool) -> None:
    """Who reads a map beyond the end of its file is killed, without a word."""
    mbox(tmp_path / "box", *(message(n, b"x" * 100_000 + b"\n") for n in range(50)))
    box = Mbox(str(tmp_path / "box"), Mailbox("box"))
    uids = [entry.uid for entry in box.listing(identify("msgid")).entries]

    with box.open(write=write) as opened:
        got, heads = opened.fetch(uids), opened.heads(uids)
        assert isinstance(next(got), Message)
        assert isinstance(next(heads), Head)
        os.truncate(tmp_path / "box", 2_000_000)
        answers = [*got, *heads]
        assert {type(one) for one in answers} == {Message, Head, Failure}
        assert all("became shorter" in one.why for one in answers if isinstance(one, Failure))
        assert 98 == len(answers)
        again = list(opened.fetch(uids))
        assert {"no longer there"} == {one.why for one in again if isinstance(one, Failure)}


# ---- names -----------------------------------------------------------------------------------------------------------

ESCAPING: tuple[str, ...] = (
    "../x",
    "x/../../y",
    "/etc/x",
    "./x",
    "x/.",
    "x//y",
    "..",
    "cur",
    "x/new",
    "tmp/x",
    "a/",
    "x.lock",
)
ESCAPING += ("a\0b", "b" * 300, "c/" * 3000 + "d", ".x.mailsync-new", "~", "~root/x", "#mh/x")


@HOSTILE
@pytest.mark.parametrize("format", ["maildir", "maildir++", "mbox", "mh"])
def test_no_name_leads_out_of_the_root(home: Path, format: str, record_property: Points) -> None:
    """Whatever the other side calls a mailbox: refused, or made inside, under a name that comes back."""
    driver = local(home, "md/*", format=format)
    (home / "md").mkdir()
    before = sorted(home.parent.rglob("*"))
    points = 0
    for name in ESCAPING:
        for act in (driver.create, driver.find, driver.delete, lambda box: driver.rename(Mailbox("md/own"), box)):
            driver.create(Mailbox("md/own"))
            with suppress(BoxError):
                act(Mailbox(f"md/{name}"))
            points += 1
    made = [path for path in sorted(home.parent.rglob("*")) if path not in before]

    assert all(path.is_relative_to(home / "md") for path in made)
    assert not Path("/etc/x").exists()
    record_property("points", points)


@HOSTILE
@pytest.mark.parametrize("format", ["maildir", "maildir++", "mbox", "mh"])
def test_names_that_differ_in_case_or_normal_form_are_different_mailboxes(home: Path, format: str) -> None:
    names = (
        "box",
        "Box",
        "BOX",
        "caf\u00e9",
        "cafe\u0301",
        "\u212b",
        "\u00c5",
        "\ufb01",
        "fi",
        "stra\u00dfe",
        "STRASSE",
    )
    for n, name in enumerate(names):
        maildir(home / "md" / name, message(n))
    two(home, "maildir", format)

    ran = run("c")

    assert (0, "") == (ran.code, ran.err)
    for n, name in enumerate(names):
        assert digests_of(message(n)) == digests(home, "old/*", format)[f"old/{name}"]


@HOSTILE
def test_level_of_a_maildirpp_that_goes_up_is_none(home: Path) -> None:
    maildir(home / "md", message(1))
    for name in (".a", ".a..b", "...", "..x", ".a.", ".", "..", ".a./b"):
        if name not in (".", ".."):
            maildir(home / "md" / name, message(name.encode().hex()))
    two(home, "maildir++")

    bounded(home)

    assert all(path.is_relative_to(home / "old") for path in (home / "old").rglob("*"))
    assert {"old/INBOX", "old/a"} <= digests(home, "old/*").keys()
    assert sorted(home.iterdir()) == sorted(
        home / name for name in (".cache", ".local", ".mailsync", ".msinfo", "md", "old")
    )


@HOSTILE
def test_root_of_a_store_may_be_a_link(home: Path) -> None:
    (home / "elsewhere").mkdir()
    (home / "md").symlink_to("elsewhere")
    maildir(home / "md/box", message(1))
    two(home)

    assert 0 == run("c").code
    assert {"old/box": digests_of(message(1))} == digests(home, "old/*")


# ---- our own files ---------------------------------------------------------------------------------------------------


def put_fifo(path: Path) -> None:
    os.mkfifo(path)


def put_directory(path: Path) -> None:
    (path / "x").mkdir(parents=True)


def put_garbage(path: Path) -> None:
    path.write_bytes(os.urandom(5000))


def put_link(path: Path) -> None:
    path.symlink_to(path.parents[4] / "outside/secret")


def put_link_to_a_database(path: Path) -> None:
    """Of another program, that has no version, as ours has none while it is new."""
    with sqlite3.connect(path.parents[4] / "database") as other:
        other.execute("CREATE TABLE IF NOT EXISTS theirs (x)")
    path.symlink_to(path.parents[4] / "database")


def put_device(path: Path) -> None:
    path.symlink_to("/dev/zero")


PUT = [put_fifo, put_directory, put_garbage, put_link, put_link_to_a_database, put_device]


@HOSTILE
@pytest.mark.parametrize("what", PUT)
def test_nothing_in_the_place_of_our_files_hinders_a_run_or_is_changed(
    home: Path, what: Callable[[Path], None], record_property: Points
) -> None:
    """A FIFO was waited for; in a link's target that is a database a table was made."""
    place = outside(home)
    maildir(home / "md/box", message(0))
    two(home)
    for _ in range(3):
        run("c")
    ours = sorted(path for part in (".cache", ".local") for path in (home / part).rglob("*.*") if path.is_file())
    kinds = {path.suffix for path in ours}
    points = 0
    for n, path in enumerate(ours, 1):
        path.unlink(missing_ok=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        what(path)
        for args in (("-s", "c"), ("c",)):
            maildir(home / "md/box", *(message(m) for m in range(n + 1)))
            ran = bounded(home, *args) if what is put_device else run(*args)
            locked = path.suffix == ".lock" and "cannot make the lock" in ran.err
            assert ran.code == (1 if locked else 0), (path, ran)
            points += 1
        if path.is_dir() and not path.is_symlink():
            (path / "x").rmdir()
            path.rmdir()
        else:
            path.unlink(missing_ok=True)

    assert {".json", ".sqlite", ".lock"} <= kinds
    assert unharmed(place)
    if (other := home.parent / "database").exists():
        with sqlite3.connect(other) as db:
            assert [("theirs",)] == db.execute("SELECT name FROM sqlite_master").fetchall()
    assert digests(home, "md/*")["md/box"] == (run("c"), digests(home, "old/*"))[1]["old/box"]
    record_property("points", points)


@HOSTILE
@pytest.mark.parametrize("what", PUT)
def test_ledger_and_index_of_what_was_deleted_may_be_anything(home: Path, what: Callable[[Path], None]) -> None:
    outside(home)
    two(home)
    file = maildir(home / "md/box", message(1), message(2))[1]
    bad = file.with_name("3.x:2,")
    bad.symlink_to("/etc/passwd")
    run("c")
    file.unlink()
    bad.unlink()
    run("c")
    bad.symlink_to("/etc/passwd")
    run("c")
    found = [*(home / ".local").rglob("*.ledger.json"), *(home / ".local").rglob("index.jsonl")]
    assert [".json", ".jsonl"] == [path.suffix for path in found]
    for path in found:
        path.unlink()
        what(path)

    go = bounded if what is put_device else lambda home, *args: run(*(args or ("c",)))
    assert 1 == go(home).code
    undone = go(home, "--undo", "c")

    assert undone.code
    assert "index.jsonl" in undone.err
