"""The local store: what is found where, under which name, and what is made."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterable
from pathlib import Path

import pytest

from mailsync import stopping
from mailsync.drivers.contract import Wanted
from mailsync.drivers.local import LocalStore
from mailsync.drivers.maildir import Maildir
from mailsync.drivers.memory import Bytes
from mailsync.drivers.mh import Mh
from mailsync.errors import BoxError, StoreError
from mailsync.model import NONE, Appended, BoxInfo, Failure, Listing, Mailbox, Message, MessageId, Uid
from mailsync.names import order

MAIL = b"From a@b Mon Jan  1 00:00:00 2024\nFrom: a@b\nMessage-ID: <1@b>\n\nhi\n\n"
MESSAGE = MAIL.partition(b"\n")[2]
ORIGINAL = shutil.which("mailsync", path="/usr/bin")


class ByMessageId:
    fields = (b"message-id",)
    version = "test"
    quick: tuple[bytes, ...] = ()

    def __call__(self, header: bytes, /) -> MessageId | None:
        return MessageId(header.decode("latin-1"))

    def sure(self, header: bytes, /) -> MessageId | None:
        return None

    def whole(self, chunks: Iterable[bytes], /) -> MessageId:
        return MessageId(b"".join(chunks).decode("latin-1"))


def found(store: LocalStore, mailbox: Mailbox) -> BoxInfo:
    info = store.find(mailbox)
    assert info is not None
    return info


def mbox(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(MAIL)


def maildir(*paths: Path) -> None:
    for path in paths:
        for part in ("cur", "new", "tmp"):
            (path / part).mkdir(parents=True)


def mh(*paths: Path) -> None:
    for path in paths:
        path.mkdir(parents=True, exist_ok=True)
        (path / "1").write_bytes(MESSAGE)


def local(home: Path, *patterns: str, format: str | None = None, **environ: str) -> LocalStore:
    return LocalStore(str(home), patterns=patterns, format=format, environ={"USER": "no-such-user", **environ})


def infos(home: Path, *patterns: str, format: str | None = None, **environ: str) -> dict[str, BoxInfo]:
    return {info.mailbox: info for info in local(home, *patterns, format=format, **environ).boxes(patterns)}


def mail(home: Path, *patterns: str, format: str | None = None, **environ: str) -> set[str]:
    return {name for name, info in infos(home, *patterns, format=format, **environ).items() if info.selectable}


def failures(home: Path, *patterns: str) -> dict[str, str]:
    return {name: info.failure.why for name, info in infos(home, *patterns).items() if info.failure}


# ---- formats ---------------------------------------------------------------------------------------------------------


def test_formats_are_recognised_side_by_side(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/box")
    maildir(tmp_path / "Mail/dir")
    mh(tmp_path / "Mail/mh")
    (tmp_path / "Mail/empty").touch()

    assert {"Mail/box", "Mail/dir", "Mail/mh", "Mail/empty"} == mail(tmp_path, "Mail/%")


def test_mailboxes_inside_mailboxes_are_found_and_their_own_files_are_not(tmp_path: Path) -> None:
    maildir(tmp_path / "Mail/a", tmp_path / "Mail/a/b")
    mh(tmp_path / "Mail/h", tmp_path / "Mail/h/i")
    mbox(tmp_path / "Mail/a/cur/1:2,S", tmp_path / "Mail/a/stray", tmp_path / "Mail/h/2")

    assert {"Mail/", "Mail/a", "Mail/a/b", "Mail/h", "Mail/h/i"} == set(infos(tmp_path, "Mail/*"))


def test_directory_without_mail_is_a_name_that_cannot_be_selected(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/sub/x")

    assert BoxInfo(Mailbox("Mail/sub"), selectable=False) == infos(tmp_path, "Mail/%")["Mail/sub"]


def test_text_file_is_no_mailbox_and_told(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/in")
    (tmp_path / "Mail/stray").write_text("shopping list\n")

    assert ["Mail/stray"] == list(failures(tmp_path, "Mail/%"))


def test_maildir_that_lost_an_empty_directory_is_a_failure_not_a_tree(tmp_path: Path) -> None:
    maildir(tmp_path / "Mail/a")
    (tmp_path / "Mail/a/cur/1:2,S").write_bytes(b"hi\n")
    (tmp_path / "Mail/a/tmp").rmdir()

    assert {"Mail/a": "a Maildir without tmp"} == failures(tmp_path, "Mail/*")


@pytest.mark.parametrize("lost", ["cur", "new"])
def test_maildir_that_lost_a_directory_for_mail_is_a_failure_whatever_is_in_the_other_one(
    tmp_path: Path, lost: str
) -> None:
    maildir(tmp_path / "Mail/a")
    (tmp_path / "Mail/a" / lost).rmdir()

    assert {"Mail/a": f"a Maildir without {lost}"} == failures(tmp_path, "Mail/*")


def test_maildir_that_a_killed_run_was_making_is_made_by_the_next_one(tmp_path: Path) -> None:
    """Cut off before its last directory, it was a failure in each run until a user put it right."""
    maildir(tmp_path / "Mail/a")
    (tmp_path / "Mail/a/tmp").rmdir()
    store = local(tmp_path, "Mail/*", format="maildir")

    assert {} == failures(tmp_path, "Mail/*")
    store.create(Mailbox("Mail/a"))
    assert infos(tmp_path, "Mail/*")["Mail/a"].selectable


def test_locks_temporary_files_and_dot_files_without_mail_are_passed_over(tmp_path: Path) -> None:
    mbox(
        tmp_path / "Mail/in",
        tmp_path / "Mail/in.lock",
        tmp_path / "Mail/.in.mailsync-append",
        tmp_path / "Mail/in.7.tmp",
    )
    mbox(tmp_path / "Mail/.git/HEAD", tmp_path / "Mail/.sent")
    (tmp_path / "Mail/.keep").touch()
    (tmp_path / "Mail/.bashrc").write_text("alias m=mutt\n")

    assert {"Mail/", "Mail/in", "Mail/.sent"} == set(infos(tmp_path, "Mail/*"))


def test_what_is_no_file_is_never_opened(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/in")
    os.mkfifo(tmp_path / "Mail/fifo")
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(tmp_path / "Mail")
        server.bind("socket")

        assert {"Mail/", "Mail/in"} == set(infos(tmp_path, "Mail/%"))
        assert not found(local(tmp_path, "Mail/%"), Mailbox("Mail/fifo")).selectable


# ---- the walk --------------------------------------------------------------------------------------------------------


def test_walk_goes_as_deep_as_the_patterns_and_no_deeper(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/a", tmp_path / "Mail/s/b", tmp_path / "Mail/s/t/c", tmp_path / "top")

    assert {"Mail/a"} == mail(tmp_path, "Mail/%")
    assert {"Mail/s/b"} == mail(tmp_path, "Mail/%/%")
    assert {"Mail/a", "Mail/s/b", "Mail/s/t/c"} == mail(tmp_path, "Mail/*")
    assert {"Mail/a", "Mail/s/t/c"} == mail(tmp_path, "Mail/*", "!Mail/s/%")
    assert {"top", "Mail/s/b"} == mail(tmp_path, "top", "Mail/s/b")


def test_names_come_out_as_the_pattern_says_them(tmp_path: Path) -> None:
    mbox(tmp_path / "home/m/x")

    assert {"~/m/x"} == mail(tmp_path / "home", "~/m/%")
    assert {f"{tmp_path}/home/m/x"} == mail(tmp_path / "home", f"{tmp_path}/home/m/%")
    assert {"#driver.mbox/m/x"} == mail(tmp_path / "home", "#driver.mbox/m/%")
    assert {"#driver.unix/~/m/x"} == mail(tmp_path / "home", "#driver.unix/~/m/%")


def test_mark_forces_the_format(tmp_path: Path) -> None:
    mbox(tmp_path / "m/box")
    maildir(tmp_path / "m/dir")

    assert [{"#md/m/dir"}, {"#driver.mbox/m/box"}] == [mail(tmp_path, "#md/m/%"), mail(tmp_path, "#driver.mbox/m/%")]


def test_mh_mark_starts_at_the_path_of_the_profile(tmp_path: Path) -> None:
    mh(tmp_path / "Post/inbox", tmp_path / "Post/a/b")
    (tmp_path / ".mh_profile").write_text("Path: Post\n")

    assert {"#mh/inbox", "#mh/a/b"} == mail(tmp_path, "#mh/*")
    assert {"#mhinbox"} == mail(tmp_path, "#mhinbox")


def test_mh_mark_without_a_profile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="mh_profile"):
        local(tmp_path, "#mh/%").boxes(["#mh/%"])


def test_links_to_mailboxes_are_followed_and_loops_are_not(tmp_path: Path) -> None:
    mbox(tmp_path / "far/x")
    (tmp_path / "Mail/a").mkdir(parents=True)
    (tmp_path / "Mail/link").symlink_to(tmp_path / "far")
    (tmp_path / "Mail/a/up").symlink_to("..")

    assert {"Mail/", "Mail/a", "Mail/a/up", "Mail/link", "Mail/link/x"} == set(infos(tmp_path, "Mail/*"))


def test_link_to_what_is_not_mounted_is_not_absence(tmp_path: Path) -> None:
    (tmp_path / "Mail").mkdir()
    (tmp_path / "Mail/far").symlink_to(tmp_path / "unmounted")
    store = local(tmp_path, "Mail/*")

    assert ["Mail/far"] == list(failures(tmp_path, "Mail/*"))
    assert found(store, Mailbox("Mail/far")).failure
    assert found(store, Mailbox("Mail/far/below")).failure


def test_root_that_is_a_link_to_nowhere_is_an_error_and_one_that_is_missing_is_empty(tmp_path: Path) -> None:
    (tmp_path / "Mail").symlink_to(tmp_path / "unmounted")

    assert {} == infos(tmp_path, "Nope/*")
    with pytest.raises(StoreError, match="Mail"):
        local(tmp_path, "Mail/%").boxes(["Mail/%"])


@pytest.mark.usefixtures("ordinary")
def test_directory_that_may_not_be_read_is_a_failure_for_all_below_it(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/in", tmp_path / "Mail/secret/x")
    (tmp_path / "Mail/secret").chmod(0)
    try:
        found = failures(tmp_path, "Mail/*")
        below = local(tmp_path, "Mail/*").find(Mailbox("Mail/secret/x"))
        with pytest.raises(StoreError, match="secret"):
            local(tmp_path, "Mail/secret/%").boxes(["Mail/secret/%"])
    finally:
        (tmp_path / "Mail/secret").chmod(0o700)

    assert {"Mail/secret": "Permission denied"} == found
    assert below
    assert below.failure


def test_names_that_are_no_utf8_are_kept(tmp_path: Path) -> None:
    mbox(Path(os.fsdecode(os.fsencode(tmp_path) + b"/Mail/b\xff")))

    assert {"Mail/b\udcff"} == mail(tmp_path, "Mail/%")


def test_directory_named_as_the_home_is_not_taken_for_it(tmp_path: Path) -> None:
    mbox(tmp_path / "~/x", tmp_path / "x")

    assert ["~"] == list(failures(tmp_path, "*"))
    assert {"x"} == mail(tmp_path, "*")


@pytest.mark.skipif(ORIGINAL is None, reason="mailsync 5.2.7 is not installed")
@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "Mail/%",
            "Mail/*",
            "Mail/sub/%",
            "Mail/%/%",
            "Mail/s%",
            "Mail",
            "Mail/",
            "Mail%",
            "Mail/in",
            "nope/%",
            "M%/s%",
        ),
        *(
            "Mail/sub",
            "Mail*",
            "Mail/sub/*",
            "~/Mail/%",
            "~/%",
            "Mail/%x",
            "Mail/in/%",
            "%/",
            "%/%",
            "Mail/*/",
            "I%x",
            "%t%",
        ),
        *("empty/%", "empty/*", "Mail/*p", "Mail/%*%", "m%", "%a%i%/%/%", "INBOX", "inbox", "%", "*"),
    ],
)
def test_listing_equals_the_original(tmp_path: Path, pattern: str) -> None:
    home, spool, config = tmp_path / "home", tmp_path / "spool", tmp_path / "config"
    mbox(home / "Mail/in", home / "Mail/sub/x", home / "Mail/sub/deep/y", home / "Mail/sub.x", home / "Mail/INBOX")
    mbox(home / "top", home / "inbox", spool)
    (home / "Mail/hollow").mkdir()
    (home / "Mail/none").touch()
    (home / "empty").mkdir()
    config.write_text(f"store a {{\n pat {pattern}\n}}\n")
    environ = {"HOME": str(home), "USER": "root"}
    original = subprocess.run([str(ORIGINAL), "-f", str(config), "a"], env=environ, capture_output=True, text=True)

    assert original.stdout.splitlines()[1:] == order(infos(home, pattern, MAIL=str(spool)))


# ---- INBOX -----------------------------------------------------------------------------------------------------------


def test_inbox_is_the_first_of_mbox_mail_variable_and_maildir(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    maildir(tmp_path / "home/Maildir")
    where = [_inbox(tmp_path / "home", MAIL=str(spool))]
    mbox(spool)
    where.append(_inbox(tmp_path / "home", MAIL=str(spool)))
    mbox(tmp_path / "home/mbox")
    where.append(_inbox(tmp_path / "home", MAIL=str(spool)))

    assert [0, 1, 1] == [len(entries) for entries in where]


def _inbox(home: Path, **environ: str) -> list[object]:
    store = local(home, "INBOX", **environ)
    (_, listing), *_ = store.listings([Wanted(Mailbox("INBOX"))], ByMessageId())
    assert isinstance(listing, Listing)
    return list(listing.entries)


def test_file_that_is_inbox_has_no_second_name(tmp_path: Path) -> None:
    mbox(tmp_path / "mbox", tmp_path / "other")

    assert {"INBOX", "other"} == mail(tmp_path, "%")
    assert {"mbox", "other"} == mail(tmp_path, "%", "!INBOX")


def test_inbox_that_is_made_stays_inbox_when_mail_comes_to_the_spool(tmp_path: Path) -> None:
    spool = tmp_path / "spool"
    for format, path in ((None, "mbox"), ("maildir", "Maildir")):
        home = tmp_path / str(format)
        home.mkdir()
        assert local(home, "INBOX", MAIL=str(spool)).find(Mailbox("INBOX")) is None
        local(home, "INBOX", format=format, MAIL=str(spool)).create(Mailbox("INBOX"))
        mbox(spool)

        assert (home / path).exists()
        assert [] == _entries(local(home, "INBOX", format=format, MAIL=str(spool)), "INBOX")
        spool.unlink()


def _entries(store: LocalStore, name: str) -> list[object]:
    (_, listing), *_ = store.listings([Wanted(Mailbox(name))], ByMessageId())
    assert isinstance(listing, Listing)
    return list(listing.entries)


def test_inbox_that_cannot_be_looked_at_is_a_failure_and_no_other_takes_its_name(tmp_path: Path) -> None:
    (tmp_path / "mbox").symlink_to(tmp_path / "unmounted")
    maildir(tmp_path / "Maildir")

    assert {"INBOX", "mbox"} == set(failures(tmp_path, "%"))
    assert {"Maildir"} == mail(tmp_path, "%")


def test_inbox_is_never_deleted_or_renamed(tmp_path: Path) -> None:
    (tmp_path / "mbox").touch()
    store = local(tmp_path, "%")

    with pytest.raises(BoxError, match="never deleted"):
        store.delete(Mailbox("inbox"))
    with pytest.raises(BoxError, match="keeps its name"):
        store.rename(Mailbox("INBOX"), Mailbox("x"))
    assert (tmp_path / "mbox").exists()


# ---- Maildir++ -------------------------------------------------------------------------------------------------------


def test_maildir_with_dotted_ones_below_is_a_maildir_plus_plus(tmp_path: Path) -> None:
    maildir(tmp_path / "M", tmp_path / "M/.Sent", tmp_path / "M/.Sent.2024", tmp_path / "M/.a b")
    (tmp_path / "M/.git").mkdir()
    store = local(tmp_path, "M/*")

    assert "." == store.delimiter
    assert {"M/INBOX", "M/Sent", "M/Sent.2024", "M/a b"} == mail(tmp_path, "M/*")
    assert {"M/INBOX", "M/Sent", "M/a b"} == mail(tmp_path, "M/%")
    assert found(store, Mailbox("M/Sent.2024")).selectable
    assert store.find(Mailbox("M/Sent.2025")) is None


def test_inbox_of_a_lone_maildir_keeps_its_name_whatever_comes_below_it(tmp_path: Path) -> None:
    maildir(tmp_path / "M")
    alone = mail(tmp_path, "M/*")
    maildir(tmp_path / "M/Sent")
    as_tree = mail(tmp_path, "M/*")
    (tmp_path / "M/Sent").rename(tmp_path / "M/.Sent")

    assert [{"M/INBOX"}, {"M/INBOX", "M/Sent"}] == [alone, as_tree]
    assert {"M/INBOX", "M/Sent"} == mail(tmp_path, "M/*")


def test_maildir_with_both_kinds_below_is_refused_until_the_user_says_which(tmp_path: Path) -> None:
    maildir(tmp_path / "M", tmp_path / "M/.Sent", tmp_path / "M/Work")

    with pytest.raises(StoreError, match="neither Maildir"):
        local(tmp_path, "M/*").boxes(["M/*"])
    assert {"M/INBOX", "M/Sent"} == mail(tmp_path, "M/*", format="maildir++")
    assert {"M/INBOX", "M/.Sent", "M/Work"} == mail(tmp_path, "M/*", format="maildir")


def test_tree_and_maildir_plus_plus_in_one_store_are_refused(tmp_path: Path) -> None:
    maildir(tmp_path / "M", tmp_path / "M/.Sent", tmp_path / "T/a")

    with pytest.raises(StoreError, match=r"M/ is a Maildir\+\+ and T/ is none"):
        _ = local(tmp_path, "M/*", "T/*").delimiter


def test_maildir_that_has_a_name_of_its_own_is_not_listed_again_as_inbox(tmp_path: Path) -> None:
    maildir(tmp_path / "M/a", tmp_path / "M/a/b")

    assert {"M/a", "M/a/b"} == mail(tmp_path, "M/%", "M/a/%")


def test_dotted_inbox_in_a_maildir_plus_plus_is_a_failure(tmp_path: Path) -> None:
    maildir(tmp_path / "M", tmp_path / "M/.INBOX", tmp_path / "M/.Sent")

    assert ["M/.INBOX"] == list(failures(tmp_path, "M/*"))


def test_maildir_plus_plus_is_made_without_an_inbox(tmp_path: Path) -> None:
    store = local(tmp_path, "M/*", format="maildir++")
    store.create(Mailbox("M/Sent.2024"))

    assert (tmp_path / "M/.Sent.2024/cur").is_dir()
    assert {"M/Sent.2024"} == mail(tmp_path, "M/*", format="maildir++")


@pytest.mark.parametrize("name", ["M/a/b", "M/a..b", "M/.a", "M/a.", "M/", "M/\0", f"M/{'x' * 255}"])
def test_name_that_no_maildir_plus_plus_can_hold_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(BoxError):
        local(tmp_path, "M/*", format="maildir++").create(Mailbox(name))
    assert not (tmp_path / "M").exists()


# ---- find, create, delete, rename, listings, open --------------------------------------------------------------------


def test_mailbox_is_absent_only_if_it_is_surely_not_there(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/in")
    (tmp_path / "Mail/loop").symlink_to("loop")
    store = local(tmp_path, "Mail/%")

    assert found(store, Mailbox("Mail/in")).selectable
    assert [None] * 3 == [store.find(Mailbox(name)) for name in ("Mail/out", "Nope/x", "Mail/in/x")]
    assert found(store, Mailbox("Mail/loop")).failure
    assert BoxInfo(Mailbox("Mail/"), selectable=False) == store.find(Mailbox("Mail/"))


@pytest.mark.parametrize(
    ("format", "made"), [(None, "a/cur"), ("maildir", "a/new"), ("mbox", "a"), ("mh", "a"), ("maildir++", ".a/cur")]
)
def test_new_mailbox_has_the_format_of_the_store(tmp_path: Path, format: str | None, made: str) -> None:
    store = local(tmp_path, "Mail/%", format=format)
    store.create(Mailbox("Mail/a"))
    store.create(Mailbox("Mail/a"))

    assert (tmp_path / "Mail" / made).exists()
    assert (format == "mbox") == (tmp_path / "Mail" / made).is_file()
    assert found(store, Mailbox("Mail/a")).selectable


def test_new_mailbox_has_the_format_of_most_others(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/a", tmp_path / "Mail/b")
    maildir(tmp_path / "Mail/c")
    store = local(tmp_path, "Mail/*")
    store.boxes(["Mail/*"])
    store.create(Mailbox("Mail/new/d"))

    assert (tmp_path / "Mail/new/d").is_file()


def test_mark_says_the_format_of_what_is_created(tmp_path: Path) -> None:
    store = local(tmp_path, "#driver.mh/m/%")
    store.create(Mailbox("#driver.mh/m/x"))
    store.create(Mailbox("#md/n"))

    assert (tmp_path / "n/cur").is_dir()
    assert not (tmp_path / "m/x/cur").exists()
    assert (tmp_path / "m/x").is_dir()


@pytest.mark.parametrize(
    "name", ["../x", "Mail/../../x", "Mail/./x", "Mail//x", "Mail/x/", "", "~/", "Mail/\0", "Mail/\ud800"]
)
def test_name_that_leads_elsewhere_is_never_created(tmp_path: Path, name: str) -> None:
    (tmp_path / "home").mkdir()

    with pytest.raises(BoxError):
        local(tmp_path / "home", "Mail/%").create(Mailbox(name))
    assert [tmp_path / "home"] == list(tmp_path.rglob("*"))


@pytest.mark.parametrize(
    "name", ["Mail/cur", "Mail/a/new", "Mail/tmp/b", "Mail/a.lock", "Mail/.a.mailsync-append", "#driver.mbx/x"]
)
def test_name_that_would_be_taken_for_something_else_is_never_created(tmp_path: Path, name: str) -> None:
    with pytest.raises(BoxError):
        local(tmp_path, "Mail/*").create(Mailbox(name))
    assert [] == list(tmp_path.iterdir())


def test_mbox_may_be_named_as_the_inside_of_a_maildir_but_not_lie_there(tmp_path: Path) -> None:
    maildir(tmp_path / "Mail/a")
    store = local(tmp_path, "Mail/*", format="mbox")
    store.create(Mailbox("Mail/new"))

    with pytest.raises(BoxError, match="inside of a Maildir"):
        store.create(Mailbox("Mail/a/new/x"))
    assert (tmp_path / "Mail/new").is_file()


def test_nothing_is_made_below_a_file(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/in")

    with pytest.raises(BoxError, match=r"Mail/in is a file"):
        local(tmp_path, "Mail/*").create(Mailbox("Mail/in/x/y"))


def test_file_that_is_no_mail_is_never_made_a_mailbox(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("note\n")

    for format in ("mbox", "maildir"):
        with pytest.raises(BoxError, match="is there already"):
            local(tmp_path, "%", format=format).create(Mailbox("note"))
    assert "note\n" == (tmp_path / "note").read_text()


def test_directory_that_only_held_others_becomes_a_mailbox(tmp_path: Path) -> None:
    maildir(tmp_path / "Mail/a/b")
    store = local(tmp_path, "Mail/*")
    store.create(Mailbox("Mail/a"))

    assert {"Mail/a", "Mail/a/b"} == mail(tmp_path, "Mail/*")


def test_empty_mailbox_is_deleted_and_one_with_mail_is_not(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/full")
    maildir(tmp_path / "Mail/empty")
    store = local(tmp_path, "Mail/*")
    store.delete(Mailbox("Mail/empty"))

    with pytest.raises(BoxError):
        store.delete(Mailbox("Mail/full"))
    with pytest.raises(BoxError, match="no such mailbox"):
        store.delete(Mailbox("Mail/empty"))
    assert {"Mail/full"} == mail(tmp_path, "Mail/*")


def test_mailbox_is_renamed_with_the_levels_above_it(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/a")
    maildir(tmp_path / "Mail/b")
    store = local(tmp_path, "Mail/*")
    store.rename(Mailbox("Mail/a"), Mailbox("Mail/x/y/a"))
    store.rename(Mailbox("Mail/b"), Mailbox("Mail/c"))

    assert {"Mail/x/y/a", "Mail/c"} == mail(tmp_path, "Mail/*")


def test_rename_never_takes_the_place_of_something(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/a", tmp_path / "Mail/b")
    store = local(tmp_path, "Mail/*")

    with pytest.raises(BoxError, match="there already"):
        store.rename(Mailbox("Mail/a"), Mailbox("Mail/b"))
    with pytest.raises(BoxError, match="no such mailbox"):
        store.rename(Mailbox("Mail/z"), Mailbox("Mail/y"))
    assert {"Mail/a", "Mail/b"} == mail(tmp_path, "Mail/*")


def test_listing_that_fails_is_a_value_and_the_others_go_on(tmp_path: Path) -> None:
    mbox(tmp_path / "Mail/a")
    wanted = [Wanted(Mailbox(name)) for name in ("Mail/none", "Mail/../x", "Mail/a")]
    results = dict(local(tmp_path, "Mail/*").listings(wanted, ByMessageId()))

    assert [Failure, Failure, Listing] == [type(results[w.mailbox]) for w in wanted]
    assert [True, False] == [failure.gone for w in wanted[:2] if isinstance(failure := results[w.mailbox], Failure)]


def test_box_that_is_not_there_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="no such mailbox"), local(tmp_path, "%").open(Mailbox("x"), write=False):
        pass


def test_error_of_the_caller_passes_through_an_open_box(tmp_path: Path) -> None:
    mbox(tmp_path / "x")

    with pytest.raises(ConnectionError), local(tmp_path, "%").open(Mailbox("x"), write=False):
        raise ConnectionError


def test_new_mailbox_holds_what_its_format_to_be_can_keep(tmp_path: Path) -> None:
    mbox(tmp_path / "old")
    store = local(tmp_path, "%", format="maildir")
    before = store.holds(Mailbox("young"))
    store.create(Mailbox("young"))

    assert before == store.holds(Mailbox("young"))
    assert store.holds(Mailbox("old")) == local(tmp_path, "%", format="mbox").holds(Mailbox("other"))


@pytest.mark.parametrize("kind", [Maildir, Mh])
def test_signal_ends_a_listing_where_it_waits_and_no_delivery_in_its_middle(
    tmp_path: Path, kind: type[Maildir | Mh]
) -> None:
    """A directory that kept changing was waited for whatever signal came; what is half delivered would be forgotten."""
    box = kind(str(tmp_path / "box"), Mailbox("box"), fsync=False)
    box.create()
    stop = stopping.Stop()
    stop.now(signal.SIGTERM)

    with stopping.stopped_by(stop):
        with box.open(write=True) as opened:
            answers = list(opened.append(Message(Uid(str(n)), NONE, 0, Bytes(MESSAGE)) for n in range(3)))
            gone = list(opened.expunge([one.uid for one in answers if isinstance(one, Appended) and one.uid]))
        with pytest.raises(stopping.Stopped):
            box.listing(ByMessageId())
    stop.close()

    assert (3, 3) == (len(gone), sum(isinstance(one, str) for one in gone))
