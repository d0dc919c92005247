"""Real disks that are full or read-only, files that may not grow, directories in which nobody may write: whole runs."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .disk import why_not
from .disk.fuse import be_private, call
from .mail import Ran, configure, digests, forget_cache, maildir, message, obey_permissions, run, run_apart
from .tried import FAILING

pytestmark = FAILING

REMOUNT, READ_ONLY = 32, 1  # sys/mount.h
FULL, READONLY = f"disk full ({os.strerror(errno.ENOSPC)})", os.strerror(errno.EROFS)
MOUNTS = pytest.mark.skipif(bool(why_not()), reason=why_not())
BOXES = {"box": 30, "other": 3}
of_each_format = pytest.mark.parametrize("format", ["maildir", "mbox", "mh"])


@contextmanager
def disk(where: Path, options: str) -> Iterator[None]:
    """An empty one."""
    be_private()
    where.mkdir(exist_ok=True)
    call("mount", b"none", os.fsencode(where), b"tmpfs", 0, options.encode())
    try:
        yield
    finally:
        call("umount2", os.fsencode(where), 2)  # MNT_DETACH


def remount(where: Path, options: str, flags: int = 0) -> None:
    call("mount", b"none", os.fsencode(where), b"tmpfs", REMOUNT | flags, options.encode())


def setup(home: Path, format: str) -> None:
    """Store a has mail, b has nothing."""
    configure(
        home,
        f"store a {{ pat a/* prefix a/ }}\nstore b {{ pat b/* prefix b/ format {format} }}\n"
        "channel c a b { msinfo .msinfo }\n",
    )
    for box, count in BOXES.items():
        maildir(home / "a" / box, *(message(f"{box}{n}", b"x" * 4000 + b"\n") for n in range(count)))


def check_healed(home: Path, format: str) -> None:
    assert (0, "") == ((ran := run("--retry", "c")).code, ran.err)
    there = digests(home, "b/*", format)
    assert {f"b{name[1:]}": held for name, held in digests(home, "a/*").items()} == there
    assert list(BOXES.values()) == [len(there[f"b/{box}"]) for box in BOXES]
    forget_cache(home)
    assert [] == run("-s", "--json", "c").steps


def check_told(ran: Ran, code: int, *words: str) -> None:
    assert code == ran.code, ran
    assert [] == [word for word in words if word not in ran.err], ran
    assert "is a bug" not in ran.err


@MOUNTS
@of_each_format
@pytest.mark.parametrize("limit", ["size=64k", "size=10m,nr_inodes=16"])
def test_full_disk_takes_what_it_can_and_the_rest_comes_when_there_is_room(home: Path, format: str, limit: str) -> None:
    setup(home, format)
    with disk(home / "b", limit):
        ran = run("c")
        if ran.code:  # few mbox files need few inodes
            check_told(ran, 1, "box", FULL)
        else:
            assert ("mbox", True) == (format, "inodes" in limit)
        remount(home / "b", "size=10m,nr_inodes=1000")
        check_healed(home, format)


@MOUNTS
@of_each_format
def test_disk_that_is_full_with_all_that_mailsync_writes(home: Path, format: str) -> None:
    """Lock, cache, msinfo and both stores. What there is no room for is told, and nothing is damaged by that."""
    setup(home, format)
    mail = digests(home, "a/*")
    for room in range(0, 160, 32):
        home_on_it = home / f"disk{room}"
        with disk(home_on_it, "size=4m"), pytest.MonkeyPatch.context() as patch:
            patch.setenv("HOME", str(home_on_it))
            patch.chdir(home_on_it)
            setup(home_on_it, format)
            (home_on_it / "ballast").write_bytes(b"")
            with open(home_on_it / "ballast", "ab", buffering=0) as ballast:
                while True:
                    try:
                        ballast.write(b"x" * 4096)
                    except OSError:
                        break
                ballast.truncate(max(0, ballast.tell() - room * 1024))
            ran = run("c")
            assert ran.code in (1, 8), ran
            check_told(ran, ran.code, os.strerror(errno.ENOSPC))
            (home_on_it / "ballast").unlink()
            assert mail == digests(home_on_it, "a/*")
            check_healed(home_on_it, format)


@MOUNTS
@of_each_format
def test_disk_that_is_read_only_from_now_on(home: Path, format: str) -> None:
    setup(home, format)
    with disk(home / "b", "size=10m"):
        assert 0 == run("c").code
        maildir(home / "a" / "fresh", message("new"))
        next((home / "a" / "other" / "cur").iterdir()).unlink()
        remount(home / "b", "size=10m", READ_ONLY)
        check_told(run("c"), 1, "fresh", "other", READONLY)
        remount(home / "b", "size=10m")
        assert (0, "") == ((ran := run("--retry", "c")).code, ran.err)

        assert [1, 2] == [len(digests(home, "b/*", format)[f"b/{box}"]) for box in ("fresh", "other")]


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))


def test_file_that_may_not_grow_so_far(home: Path) -> None:
    """`ulimit -f`, a file system whose files are small."""
    setup(home, "mbox")

    check_told(run_apart(home, "c", before=limit_files), 1, "box", os.strerror(errno.EFBIG))
    assert 3 == len(digests(home, "b/*", "mbox")["b/other"])
    check_healed(home, "mbox")


def test_many_messages_with_which_the_same_fails_take_few_lines(home: Path) -> None:
    """There was a line for each, thousands of them on a full disk. In JSON there is."""
    setup(home, "maildir")
    maildir(home / "a" / "large", *(message(n, b"x" * 200_000) for n in range(300)))

    ran = run_apart(home, "c", before=limit_files)
    forget_cache(home)
    machine = run_apart(home, "--json", "--retry", "c", before=limit_files)

    lines = ran.err.splitlines()
    assert (1, 6) == (ran.code, len(lines)), ran
    assert all("> cannot be copied to b: " in line for line in lines[:5])
    assert f"mailsync: large: 295 more cannot be copied to b: {os.strerror(errno.EFBIG)}" == lines[5]
    assert 300 == len([event for event in machine.events if event.get("error")])


@of_each_format
def test_directory_in_which_nobody_may_write(home: Path, format: str) -> None:
    """The whole store; then nothing but the place of msinfo."""
    setup(home, format)
    (home / "b").mkdir()
    (home / "b").chmod(0o555)
    try:
        check_told(run_apart(home, "c", before=obey_permissions), 1, "box", "other", os.strerror(errno.EACCES))
    finally:
        (home / "b").chmod(0o755)
    check_healed(home, format)


def test_msinfo_that_nobody_may_write(home: Path) -> None:
    """What was remembered stays, and mail that came is copied: it is found on both sides by the next run."""
    setup(home, "maildir")
    assert 0 == run("c").code
    before = (home / ".msinfo").read_bytes()
    maildir(home / "a" / "fresh", message("new"))
    (home / ".msinfo").chmod(0o400)

    check_told(run_apart(home, "c", before=obey_permissions), 8, ".msinfo", os.strerror(errno.EACCES))
    assert before == (home / ".msinfo").read_bytes()
    (home / ".msinfo").chmod(0o600)
    assert (0, "") == ((ran := run("c")).code, ran.err)
    assert b"<new@x>" in (home / ".msinfo").read_bytes()
