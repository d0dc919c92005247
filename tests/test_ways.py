"""What a channel can be told to do, by command line: ways to delete, limits, directions, other names, hooks."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest

from .mail import configure, maildir, mbox, message, read_home, run
from .scenario import on_server

A = "store a { pat A/* prefix A/ format maildir }\n"
B = "store b { pat B/* prefix B/ format maildir %s }\n"


def setup(home: Path, channel: str = "", b: str = "", **boxes: int) -> None:
    """Two stores of Maildirs, the first with so many messages in its mailboxes, synchronized."""
    write(home, channel, b)
    for name, count in boxes.items():
        maildir(home / "A" / name, *(message(f"{name}{n}") for n in range(count)))
    (home / "B").mkdir()
    assert 0 == run("ab").code


def write(home: Path, channel: str = "", b: str = "") -> None:
    configure(home, A + B % b + f"channel ab a b {{ msinfo .msinfo {channel} }}\n")


def files(home: Path, store: str, box: str = "inbox") -> list[Path]:
    return sorted(f for part in ("cur", "new") for f in (home / store / box / part).iterdir())


def letters(home: Path, store: str, box: str = "inbox") -> Counter[str]:
    return Counter(file.name.partition(":2,")[2] for file in files(home, store, box))


def flag(file: Path, letters: str) -> None:
    file.rename(file.parent.parent / "cur" / f"{file.name.partition(':2,')[0]}:2,{letters}")


def ids(home: Path, store: str, box: str = "inbox") -> list[str]:
    return [one.id for one in read_home(home, f"{store}/*").get(f"{store}/{box}", [])]


def check_settled() -> None:
    ran = run("--json", "-s", "ab")
    assert [] == [event for event in ran.events if event["event"] in ("copy", "move", "flags", "delete", "rename")]


# ---- flags and failures ----------------------------------------------------------------------------------------------


def test_different_flags_given_to_1000_messages_on_both_sides_are_merged(home: Path) -> None:
    setup(home, inbox=1000)
    for file in files(home, "A"):
        flag(file, "F")
    for file in files(home, "B"):
        flag(file, "S")

    assert 0 == run("ab").code
    assert Counter({"FS": 1000}) == letters(home, "A") == letters(home, "B")
    check_settled()


def test_flag_that_changed_on_one_side_is_as_it_is_there_and_flags_never_agreed_on_are_united(home: Path) -> None:
    setup(home, inbox=1)
    for store, own in (("A", "FS"), ("B", "FS")):
        flag(files(home, store)[0], own)
    run("ab")
    flag(files(home, "A")[0], "S")  # F taken away here
    flag(files(home, "B")[0], "FRS")  # R given there
    maildir(home / "A/new", message("new"))
    maildir(home / "B/new", message("new"))
    flag(files(home, "A", "new")[0], "ST")
    flag(files(home, "B", "new")[0], "F")
    run("ab")

    assert {"RS": 1} == letters(home, "A") == letters(home, "B")
    assert {"FS": 1} == letters(home, "A", "new") == letters(home, "B", "new")  # \Deleted only if both had it
    check_settled()


def test_one_message_of_1000_that_fails_is_told_once_and_waits(home: Path) -> None:
    configure(home, A + f"store b {{ {on_server('dovecot').config} }}\nchannel ab a b {{ msinfo .msinfo }}\n")
    maildir(home / "A/inbox2", *(message(n) for n in range(999)), b"")
    first, second, retried = run("ab"), run("-vw", "ab"), run("--retry", "ab")

    assert (1, True) == (first.code, "999 copied a->b." in first.out)
    assert 1 == first.err.count("an empty message: servers do not take it")
    assert (0, True) == (second.code, "inbox2: 1 step failed before; --retry tries again now" in second.err)
    assert (1, 1) == (retried.code, retried.err.count("an empty message"))


# ---- the guard -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("setting", "deleted", "held"),
    [("", 50, False), ("", 51, True), ("max_delete 10%", 10, False), ("max_delete 10%", 11, True)],
)
def test_guard_at_its_limit(home: Path, setting: str, deleted: int, held: bool) -> None:
    setup(home, setting, inbox=100)
    for file in files(home, "A")[:deleted]:
        file.unlink()
    maildir(home / "A/other", message("new"))
    ran = run("ab")

    assert (4 if held else 0) == ran.code
    assert (100 if held else 100 - deleted) == len(files(home, "B"))
    assert 1 == len(files(home, "B", "other"))  # new mail comes all the same
    if held:
        assert 0 == run(f"--allow-mass-delete={deleted}", "ab").code
        assert 100 - deleted == len(files(home, "B"))
    check_settled()


def test_messages_that_are_moved_are_no_deletions_to_the_guard(home: Path) -> None:
    setup(home, inbox=60)
    maildir(home / "A/other")
    for file in files(home, "A"):
        file.rename(home / "A/other/cur" / file.name)

    assert 0 == run("ab").code
    assert (0, 60) == (len(files(home, "B")), len(files(home, "B", "other")))


# ---- how a store deletes ---------------------------------------------------------------------------------------------


def test_marked_message_stays_and_comes_back_if_the_mark_is_taken_off(home: Path) -> None:
    setup(home, b="delete mark", inbox=2)
    files(home, "A")[0].unlink()
    ran = run("ab")

    assert "Marked 1 mail as deleted in store b\n" in ran.out
    assert Counter({"T": 1, "": 1}) == letters(home, "B")
    check_settled()
    [marked] = [file for file in files(home, "B") if file.name.endswith("T")]
    flag(marked, "S")
    run("ab")
    assert 2 == len(files(home, "A")) == len(files(home, "B"))
    check_settled()


def test_deleted_message_goes_into_the_trash_which_is_in_no_channel(home: Path) -> None:
    setup(home, b="delete trash:B/Trash", inbox=2)
    [gone, _] = ids(home, "A")
    files(home, "A")[0].unlink()

    assert 0 == run("ab").code
    assert [gone] == ids(home, "B", "Trash")
    assert 1 == len(files(home, "B"))
    check_settled()
    assert not (home / "A/Trash").exists()
    assert 0 == run("--undo", "ab").code
    assert ([], 2) == (ids(home, "B", "Trash"), len(files(home, "B")))
    run("ab")
    assert 2 == len(files(home, "A"))


def test_message_that_cannot_be_put_into_the_trash_is_not_deleted(home: Path) -> None:
    setup(home, b="delete trash:B/Trash", inbox=2)
    (home / "B/Trash").write_text("no mailbox\n")
    files(home, "A")[0].unlink()
    ran = run("ab")

    assert (1, 2) == (ran.code, len(files(home, "B")))
    assert "not deleted, because it cannot be put into trash B/Trash" in ran.err
    (home / "B/Trash").unlink()
    assert (0, 1) == (run("ab").code, len(files(home, "B")))


# ---- undo ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("format", ["maildir", "mbox", "mh"])
def test_undo_puts_back_what_the_last_run_deleted_and_the_next_one_carries_it_over(home: Path, format: str) -> None:
    setup(home, b=f"format {format}", inbox=3)
    before = read_home(home, "B/*")
    for file in files(home, "A")[:2]:
        file.unlink()
    run("ab")
    simulated = run("-s", "--undo", "ab")

    assert 1 == len(ids(home, "B"))
    assert "inbox: 2 messages put back into store b.\n" in simulated.out
    assert 0 == run("--undo", "ab").code
    assert sorted(before["B/inbox"]) == sorted(read_home(home, "B/*")["B/inbox"])
    assert 0 == run("ab").code
    assert sorted(ids(home, "A")) == sorted(ids(home, "B"))
    assert 3 == len(files(home, "A"))
    nothing = run("--undo", "ab")
    assert (1, True) == (nothing.code, "nothing that a run of channel ab has deleted is kept" in nothing.err)


def test_store_cannot_be_undone(home: Path) -> None:
    write(home)
    ran = run("--undo", "a")

    assert (2, True) == (ran.code, "--undo is for channels, and a is a store" in ran.err)


def test_nothing_is_kept_where_the_channel_says_so(home: Path) -> None:
    setup(home, "keep_deleted 0", inbox=2)
    files(home, "A")[0].unlink()
    run("ab")

    assert 1 == run("--undo", "ab").code
    assert [] == list((home / ".local/state/mailsync").rglob("index.jsonl"))


# ---- limits, directions, names ---------------------------------------------------------------------------------------


def test_what_is_beyond_a_limit_is_left_out_and_comes_when_the_limit_goes(home: Path) -> None:
    maildir(home / "A/inbox", message("old"), message("big", b"x" * 5000), message("fits"))
    maildir(home / "A/notes", message("note"))
    old, _, fits = files(home, "A")
    os.utime(old, (0, datetime(2020, 1, 31, tzinfo=UTC).timestamp()))
    (home / "B").mkdir()
    write(home, "sizelimit 4k since 2020-02-02 exclude not*")
    assert 0 == run("ab").code

    assert ["<fits@x>"] == ids(home, "B")
    assert not (home / "B/notes").exists()
    assert 3 == len(files(home, "A"))
    check_settled()
    write(home, "sizelimit 4k maxage 30y")
    run("ab")
    assert ["<fits@x>", "<old@x>"] == ids(home, "B")
    assert ["<note@x>"] == ids(home, "B", "notes")
    write(home)
    run("ab")
    assert ["<big@x>", "<fits@x>", "<old@x>"] == ids(home, "B")
    write(home, "sizelimit 4k since 2020-02-02 exclude not*")
    fits.unlink()
    run("ab")
    assert ["<big@x>", "<old@x>"] == ids(home, "A") == ids(home, "B")  # in step, whatever the limits are now


def test_one_direction_changes_one_store_and_forgets_nothing(home: Path) -> None:
    setup(home, inbox=2)
    write(home, "direction a-to-b")
    files(home, "B")[0].unlink()
    maildir(home / "B/theirs", message("theirs"))
    maildir(home / "A/ours", message("ours"))
    assert 0 == run("ab").code

    assert (2, ["<ours@x>"]) == (len(files(home, "A")), ids(home, "B", "ours"))
    assert not (home / "A/theirs").exists()
    check_settled()
    wrong = run("--pull", "ab")
    assert (2, True) == (wrong.code, "does not change store a, as --pull would" in wrong.err)
    write(home)
    assert 0 == run("--pull", "ab").code
    assert (1, ["<theirs@x>"]) == (len(files(home, "A")), ids(home, "A", "theirs"))


def test_mapped_mailboxes_meet_and_a_namesake_is_told(home: Path) -> None:
    maildir(home / "A/sent", message("sent"))
    maildir(home / "A/lists/x", message("list"))
    maildir(home / "B/Sent Items", message("theirs"))
    maildir(home / "B/sent", message("stranger"))
    write(home, 'map sent "Sent Items" map lists/* Lists/*')
    ran = run("ab")

    assert 1 == ran.code
    assert re.search("store b: sent of side b has no partner", ran.err)
    assert ["<sent@x>", "<theirs@x>"] == ids(home, "A", "sent") == ids(home, "B", "Sent Items")
    assert ["<list@x>"] == ids(home, "B", "Lists/x")
    assert ["<stranger@x>"] == ids(home, "B", "sent")
    write(home, 'map sent "Sent Items" map lists/* Lists/*', b="pat !B/sent")
    assert 0 == run("ab").code
    check_settled()


# ---- hooks -----------------------------------------------------------------------------------------------------------


def test_hooks_run_around_a_channel_and_are_told_what_changed(home: Path) -> None:
    script = home / "hook"
    script.write_text('#!/bin/sh\ncd "$HOME"\ncat > "$MAILSYNC_HOOK"\nenv | grep ^MAILSYNC_ > "$MAILSYNC_HOOK.env"\n')
    script.chmod(0o700)
    setup(home, f"on_change {script} post_sync {script}", inbox=2)
    changes = json.loads((home / "on_change").read_text())

    assert ["create", "copy", "copy"] == [change["event"] for change in changes]
    environ = (home / "post_sync.env").read_text()
    assert all(f"MAILSYNC_{line}\n" in environ for line in ("CHANNEL=ab", "COPIED=2", "NEW_B=2", "NEW_A=0", "EXIT=0"))
    (home / "on_change").unlink()
    run("ab")
    assert not (home / "on_change").exists()
    assert [] == json.loads((home / "post_sync").read_text())


def test_pre_sync_that_fails_stops_the_channel_and_post_sync_that_fails_is_told(home: Path) -> None:
    setup(home, inbox=1)
    write(home, 'pre_sync "echo no net >&2; false"')
    maildir(home / "A/more", message("more"))
    stopped = run("ab")

    assert (1, True, True) == (stopped.code, "pre_sync" in stopped.err, "no net" in stopped.err)
    assert not (home / "B/more").exists()
    write(home, "post_sync false")
    told = run("ab")
    assert (1, True) == (told.code, "post_sync" in told.err)
    assert (home / "B/more").exists()


def test_first_run_of_a_mailbox_that_both_have_copies_nothing(home: Path) -> None:
    mails = [message(n) for n in range(20)]
    maildir(home / "A/inbox", *mails)
    mbox(home / "B/inbox", *mails)
    write(home)

    assert "copied" not in run("ab").out
    check_settled()
