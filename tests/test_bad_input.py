"""What may be wrong with mail, disks and memory: said clearly, it spoils nothing else, and heals."""

from __future__ import annotations

import ctypes
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mailsync.model import NONE

from .mail import (
    ODD,
    Mail,
    configure,
    digest,
    digests,
    forget_cache,
    local,
    maildir,
    mbox,
    message,
    obey_permissions,
    put,
    read_home,
    run,
    run_apart,
    run_within_bounds,
)

ROOT = os.geteuid() == 0
CONFIG = """\
store md {
  pat md/*
  prefix md/
  format maildir
}
store old {
  pat old/*
  prefix old/
  format mbox
}
channel mail md old {
  msinfo .msinfo
}
"""
CLONE_NEWNS, MS_REC, MS_PRIVATE = 0x20000, 0x4000, 0x40000

needs_root = pytest.mark.skipif(not ROOT, reason="only root can mount")


@pytest.fixture
def mails(home: Path) -> Path:
    """A Maildir store with two mailboxes, and an empty mbox store."""
    configure(home, CONFIG)
    maildir(home / "md/one", message(1), message(2))
    maildir(home / "md/two", message(3))
    return home


def both(home: Path) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Digests by boxname, of each side."""
    sides = []
    for prefix in ("md/", "old/"):
        found = digests(home, f"{prefix}*")
        sides.append({name.removeprefix(prefix): [str(one) for one in box] for name, box in found.items()})
    return sides[0], sides[1]


def wanted(**boxes: list[bytes]) -> dict[str, list[str]]:
    return {name: sorted(digest(raw) for raw in raws) for name, raws in boxes.items()}


ALL = wanted(one=[message(1), message(2)], two=[message(3)])


def heals(home: Path, expected: dict[str, list[str]] = ALL) -> None:
    """After the repair one run brings all, and the next has nothing to do."""
    ran = run("mail")
    assert (0, "") == (ran.code, ran.err)
    assert (expected, expected) == both(home)
    assert [] == run("-s", "--json", "mail").steps


# ---- messages --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("odd", ODD)
def test_odd_message_is_copied_and_the_next_run_has_nothing_to_do(mails: Path, odd: str) -> None:
    maildir(mails / "md/odd", ODD[odd])

    ran = run("mail")

    assert (0, "") == (ran.code, ran.err)
    assert (ALL | wanted(odd=[ODD[odd]]),) * 2 == both(mails)
    assert [] == run("-s", "--json", "mail").steps


def test_odd_message_in_an_mbox_is_copied_back_as_it_was(mails: Path) -> None:
    put(local(mails, "old/*", format="mbox"), "old/odd", [Mail(raw) for raw in ODD.values()])
    before = both(mails)[1]["odd"]

    ran = run("mail")

    assert (0, "") == (ran.code, ran.err)
    assert before == both(mails)[0]["odd"]
    assert [] == run("-s", "--json", "mail").steps


def test_message_of_100_mb_goes_there_and_back_in_little_memory(home: Path) -> None:
    maildir(home / "md/box")
    line = b"0123456789abcdef" * 4 + b"\n"
    with (home / "md/box/cur/1.x:2,").open("wb") as file:
        file.write(message("big", b""))
        for _ in range(100):
            file.write(line * (1_000_000 // len(line)))
    configure(home, CONFIG + CONFIG.replace("md", "back").replace("mail ", "home ").partition("store old")[0])
    with (home / ".mailsync").open("a") as file:
        file.write("channel home old back {\n  msinfo .msinfo2\n}\n")

    for channel in ("mail", "home"):
        assert 0 == run_within_bounds(home, channel).code

    assert [*read_home(home, "md/*").values()] == [*read_home(home, "back/*").values()]


def test_empty_file_and_directory_among_messages_harm_nothing(mails: Path) -> None:
    (mails / "md/one/cur/9.x:2,").touch()
    (mails / "md/one/cur/directory").mkdir()
    os.mkfifo(mails / "md/one/new/fifo")

    ran = run("mail")

    assert (0, "") == (ran.code, ran.err)
    assert ALL | wanted(one=[message(1), message(2), b""]) == both(mails)[1]


# ---- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["two  words ", "100% of", "two\nlines", "caf\udce9", "x" * 200, "2024", "<id@x>"])
def test_mailbox_with_an_odd_name_is_kept_equal_in_both_directions(mails: Path, name: str) -> None:
    maildir(mails / "md" / name, message(7))
    other = f"back {name}"
    mbox(mails / "old" / other, message(8))
    expected = ALL | {name: [digest(message(7))], other: [digest(message(8))]}

    heals(mails, expected)
    maildir(mails / "md" / name)  # still there
    shutil.rmtree(mails / "md" / name / "cur")
    (mails / "md" / name / "cur").mkdir()
    ran = run("mail")

    assert (0, "") == (ran.code, ran.err)
    assert (expected | {name: []},) * 2 == both(mails)
    assert "\n" not in "".join(line for line in ran.out.splitlines() if "lines" in line)


# ---- permissions -----------------------------------------------------------------------------------------------------


def test_unreadable_message_is_named_and_the_rest_is_copied(mails: Path) -> None:
    file = mails / "md/one/cur/1700000000.0.x:2,"
    file.chmod(0)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert 1 == ran.code
    assert "one" in ran.err
    assert "1700000000.0.x" in ran.err
    assert "Permission denied" in ran.err
    assert (ALL, ALL | wanted(one=[message(2)])) == both(mails)
    file.chmod(0o600)
    heals(mails)


@pytest.mark.parametrize("cached", [True, False])
def test_message_that_became_unreadable_is_not_deleted_there(mails: Path, cached: bool) -> None:
    run("mail")
    (mails / "md/one/cur/1700000000.0.x:2,").chmod(0)
    (mails / "md/two/cur/1700000000.0.x:2,").unlink()
    if not cached:
        forget_cache(mails)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert (0 if cached else 1) == ran.code
    assert ALL | {"two": []} == both(mails)[1]


@pytest.mark.parametrize("what", ["md/one", "md/one/cur", "old/one"])
def test_unreadable_mailbox_is_named_and_the_others_are_synchronized(mails: Path, what: str) -> None:
    run("mail")
    maildir(mails / "md/one", message(1), message(2), message(4))
    maildir(mails / "md/two", message(3), message(5))
    (mails / what).chmod(0)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert 1 == ran.code
    assert "one" in ran.err
    assert "Permission denied" in ran.err
    assert wanted(two=[message(3), message(5)])["two"] == both(mails)[1]["two"]
    assert ALL["one"] == both(mails)[1]["one"]
    (mails / what).chmod(0o700)
    heals(mails, wanted(one=[message(1), message(2), message(4)], two=[message(3), message(5)]))


def test_unreadable_root_of_a_store_stops_the_run(mails: Path) -> None:
    run("mail")
    (mails / "md").chmod(0)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert 6 == ran.code
    assert "md" in ran.err
    assert "Permission denied" in ran.err
    assert ALL == both(mails)[1]
    (mails / "md").chmod(0o700)
    heals(mails)


def test_mailbox_that_cannot_be_written_is_named_and_the_others_are_synchronized(mails: Path) -> None:
    run("mail")
    maildir(mails / "md/one", message(1), message(2), message(4))
    mbox(mails / "old/two", message(3), message(5))
    (mails / "md/two/new").chmod(0o500)
    (mails / "md/two/cur").chmod(0o500)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert 1 == ran.code
    assert "two" in ran.err
    assert wanted(one=[message(1), message(2), message(4)])["one"] == both(mails)[1]["one"]
    assert (ALL["two"], wanted(two=[message(3), message(5)])["two"]) == (both(mails)[0]["two"], both(mails)[1]["two"])
    for part in ("new", "cur"):
        (mails / "md/two" / part).chmod(0o700)
    heals(mails, wanted(one=[message(1), message(2), message(4)], two=[message(3), message(5)]))


def test_mbox_store_without_write_permission_loses_nothing(mails: Path) -> None:
    run("mail")
    maildir(mails / "md/one", message(1), message(2), message(4))
    (mails / "md/two/cur/1700000000.0.x:2,").unlink()
    (mails / "old").chmod(0o500)
    for name in ("one", "two"):
        (mails / "old" / name).chmod(0o400)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert 1 == ran.code
    assert "one" in ran.err
    assert "two" in ran.err
    assert ALL == both(mails)[1]
    for name in ("", "one", "two"):
        (mails / "old" / name).chmod(0o700)
    heals(mails, wanted(one=[message(1), message(2), message(4)], two=[]))


def test_readonly_store_is_never_written(mails: Path) -> None:
    run("mail")
    configure(mails, CONFIG.replace("pat old/*\n", "pat old/*\n  readonly yes\n"))
    maildir(mails / "md/one", message(1), message(2), message(4))
    (mails / "md/two/cur/1700000000.0.x:2,").unlink()
    mbox(mails / "old/three", message(9))
    before = {path: path.read_bytes() for path in (mails / "old").iterdir()}

    ran = run("mail")

    assert 0 == ran.code
    assert before == {path: path.read_bytes() for path in (mails / "old").iterdir()}
    assert wanted(three=[message(9)])["three"] == both(mails)[0]["three"]
    configure(mails, CONFIG)
    heals(mails, wanted(one=[message(1), message(2), message(4)], two=[], three=[message(9)]))


# ---- no room ---------------------------------------------------------------------------------------------------------


def with_small_disk(at: Path) -> Callable[[], None]:
    """A file system of 300 kB, seen by this process alone."""
    libc = ctypes.CDLL(None, use_errno=True)

    def mount() -> None:
        if libc.unshare(CLONE_NEWNS) or libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None):
            os._exit(99)
        if libc.mount(b"tmpfs", os.fsencode(at), b"tmpfs", 0, b"size=300k"):
            os._exit(99)

    return mount


@needs_root
@pytest.mark.parametrize("format", ["mbox", "maildir", "mh"])
def test_full_disk_is_told_and_nothing_is_lost(mails: Path, format: str) -> None:
    config = CONFIG.replace("format mbox", f"format {format}")
    configure(mails, config)
    maildir(mails / "md/big", message("big", b"x" * 1_000_000 + b"\n"), message("small"))
    (mails / "old").mkdir()
    here = both(mails)[0]

    ran = run_apart(mails, "mail", before=with_small_disk(mails / "old"))

    if ran.code == 99:
        pytest.skip("no mounts in here")
    assert 1 == ran.code
    assert "<big@x>" in ran.err
    assert "disk full" in ran.err
    assert here == both(mails)[0]
    assert "3 copied" not in ran.out
    # With its file system the other store is gone as a whole: that is no deletion either.
    gone = run("mail")
    assert 6 == gone.code
    assert here == both(mails)[0]
    (mails / ".msinfo").unlink()
    heals(mails, here)


def no_file_above(size: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def test_file_that_may_not_grow_is_told_and_nothing_is_lost(mails: Path) -> None:
    maildir(mails / "md/big", message("big", b"x" * 1_000_000 + b"\n"), message("small"))
    here = both(mails)[0]

    ran = run_apart(mails, "mail", before=no_file_above(400_000))

    assert 1 == ran.code
    assert "<big@x>" in ran.err
    assert "File too large" in ran.err
    assert (here, ALL) == (both(mails)[0], {name: box for name, box in both(mails)[1].items() if name in ALL})
    heals(mails, here)


def test_cache_that_has_no_room_harms_nothing(mails: Path) -> None:
    """The cache is no memory: without it the run goes on."""
    configure(mails, CONFIG.replace("format mbox", "format maildir"))
    heals(mails)
    maildir(mails / "md/one", message(1), message(2), message(4))

    ran = run_apart(mails, "mail", before=no_file_above(2000))

    assert (0, "") == (ran.code, ran.err)
    heals(mails, wanted(one=[message(1), message(2), message(4)], two=[message(3)]))


def test_msinfo_that_cannot_be_saved_stays_and_nothing_is_lost(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(mails / ".mailsync"))  # a file: there is no cache
    configure(mails, CONFIG.replace("format mbox", "format maildir"))  # small files: only msinfo grows
    heals(mails)
    before = (mails / ".msinfo").read_bytes()
    maildir(mails / "md/one", message(1), message(2), *(message(f"more-{n}") for n in range(30)))

    ran = run_apart(mails, "mail", before=no_file_above(len(before) + 100))

    assert 8 == ran.code
    assert ".msinfo" in ran.err
    assert before == (mails / ".msinfo").read_bytes()
    expected = ALL | wanted(one=[message(1), message(2), *(message(f"more-{n}") for n in range(30))])
    assert expected == both(mails)[0]
    heals(mails, expected)


# ---- memory ----------------------------------------------------------------------------------------------------------


def refuses(home: Path, msinfo: bytes | None, *told: str, args: tuple[str, ...] = ()) -> None:
    """A deletion is waiting: without memory it would be undone, with a wrong one mail would go."""
    file = home / ".msinfo"
    (home / "md/one/cur/1700000000.0.x:2,").unlink()
    maildir(home / "md/three", message(9))
    before = both(home)
    if msinfo is not None:
        file.write_bytes(msinfo)

    ran = run(*args, "mail")

    assert 8 == ran.code
    for text in (".msinfo", *told):
        assert text in ran.err
    assert before == both(home)
    assert msinfo is None or msinfo == file.read_bytes()


HEALED = wanted(one=[message(2)], two=[message(3)], three=[message(9)])


@pytest.mark.parametrize("cut", [20, 60, 1])
def test_truncated_msinfo_stops_the_run(mails: Path, cut: int) -> None:
    run("mail")
    whole = (mails / ".msinfo").read_bytes()

    refuses(mails, whole.rstrip(b"\n")[:-cut] + b"\n", "mail", "cut off" if cut > 1 else "")

    (mails / ".msinfo").write_bytes(whole)
    heals(mails, HEALED)


def test_msinfo_of_the_other_kind_stops_the_run(mails: Path) -> None:
    run("mail")

    refuses(mails, None, "Message-IDs", "-t msgid", args=("-t", "md5"))

    heals(mails, HEALED)


def test_msinfo_of_another_channel_is_left_alone(mails: Path) -> None:
    run("mail")
    (mails / ".msinfo").write_bytes((mails / ".msinfo").read_bytes().replace(b"Subject: mail", b"Subject: other"))
    other = (mails / ".msinfo").read_bytes()

    heals(mails)

    text = (mails / ".msinfo").read_bytes()
    assert text.startswith(other.rstrip(b"\n"))
    assert b"Subject: mail\n" in text


def test_of_msinfo_that_is_there_twice_counts_what_both_remember(mails: Path) -> None:
    """A killed run leaves two, and a forged one is another: what only one remembers must not look deleted."""
    run("mail")
    old = (mails / ".msinfo").read_bytes()
    maildir(mails / "md/one", message(1), message(2), message(4))
    run("mail")
    new = (mails / ".msinfo").read_bytes()
    (mails / "md/one/cur/1700000002.2.x:2,").unlink()  # only the newer one remembers it
    (mails / "md/one/cur/1700000000.0.x:2,").unlink()

    for both_there in (old + new, new + old):
        (mails / ".msinfo").write_bytes(both_there)
        planned = [(step["event"], step["id"]) for step in run("-s", "--json", "mail").steps]
        assert [("copy", "<4@x>"), ("delete", "<1@x>")] == sorted(planned)
        assert "2 messages of this channel" in run("-s", "-vw", "mail").err
    heals(mails, wanted(one=[message(2), message(4)], two=[message(3)]))

    assert b"Subject: mail\n" in (mails / ".msinfo").read_bytes()
    assert 1 == (mails / ".msinfo").read_bytes().count(b"Subject: mail\n")


def test_msinfo_forged_by_a_mail_is_ignored_told_and_kept(mails: Path) -> None:
    run("mail")
    forged = b"Received: by evil\nFrom: mailsync\nSubject: mail\nX-Mailsync-Date: 2999\n\none\n<4@x>\n"
    mine = (mails / ".msinfo").read_bytes()
    mbox(mails / "forged", forged)
    (mails / ".msinfo").write_bytes(mine + (mails / "forged").read_bytes())
    maildir(mails / "md/one", message(1), message(2), message(4))

    ran = run("-vw", "mail")

    assert 0 == ran.code
    assert "came by mail" in ran.err
    assert ALL | wanted(one=[message(1), message(2), message(4)]) == both(mails)[1]
    assert b"Received: by evil" in (mails / ".msinfo").read_bytes()


def test_msinfo_that_is_no_mail_stops_the_run(mails: Path) -> None:
    run("mail")
    whole = (mails / ".msinfo").read_bytes()

    refuses(mails, b"\x89PNG\r\n\x1a\n garbage\n" * 100, "no")

    (mails / ".msinfo").write_bytes(whole)
    heals(mails, HEALED)


def test_msinfo_that_is_a_directory_stops_the_run(mails: Path) -> None:
    run("mail")
    (mails / ".msinfo").rename(mails / "kept")
    (mails / ".msinfo").mkdir()

    refuses(mails, None)

    (mails / ".msinfo").rmdir()
    (mails / "kept").rename(mails / ".msinfo")
    heals(mails, HEALED)


def test_msinfo_that_cannot_be_read_stops_the_run(mails: Path) -> None:
    run("mail")
    (mails / "md/one/cur/1700000000.0.x:2,").unlink()
    before = both(mails)
    (mails / ".msinfo").chmod(0)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert 8 == ran.code
    assert ".msinfo" in ran.err
    assert "Permission denied" in ran.err
    assert before == both(mails)


def test_flags_of_a_message_without_memory_are_united(mails: Path) -> None:
    """Without msinfo a run unites both stores and deletes nothing."""
    run("mail")
    (mails / ".msinfo").unlink()
    (mails / "md/one/cur/1700000000.0.x:2,").unlink()

    heals(mails)

    assert {NONE} == {one.flags for box in read_home(mails, "md/*").values() for one in box}
