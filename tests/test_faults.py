"""What 5.2.7 did wrong, one test or more a fault: ours does it right. Each docstring says what 5.2.7 did.

Where it can be seen at once, the real 5.2.7 does the wrong thing on a copy of the same home.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .old import CONFIG, add, configure, drop, held, mail, numbers, old, ours, put, split, twin


@pytest.fixture
def settled(home: Path) -> Path:
    """A home whose stores are equal, and whose msinfo ours has written."""
    configure(home)
    put(home / "a/inbox", mail(1), mail(2), mail(3))
    put(home / "b/inbox", mail(3), mail(4))
    put(home / "a/work", mail(5))
    assert ours("ab").code == 0
    return home


def tree(home: Path) -> dict[str, bytes]:
    """Every file there is, but the cache, which is nobody's memory."""
    files = [path for path in sorted(home.rglob("*")) if path.is_file() and ".cache" not in path.parts]
    return {str(path.relative_to(home)): path.read_bytes() for path in files}


def boxes(store: Path) -> list[str]:
    return sorted(str(path.relative_to(store)) for path in store.rglob("*") if path.is_file())


# ---- stores and boxes that are not what they were --------------------------------------------------------------------


@pytest.mark.parametrize("left", ["no directory", "empty directory"])
def test_vanished_store_stops_the_run(settled: Path, original: str, left: str) -> None:
    """It deleted all mail on the other side."""
    shutil.rmtree(settled / "a")
    if left == "empty directory":
        (settled / "a").mkdir()
    before = tree(settled)
    copy = twin(settled)
    old(original, copy, "ab")
    ran = ours("ab")

    assert [] == numbers(copy / "b/inbox")
    assert ran.code == 6
    assert "nothing was done" in ran.err
    assert before == tree(settled)


@pytest.mark.parametrize("length", [5, 9, 10, 11, 12, 13, 14, 15, 16, 20])
def test_new_boxes_are_synchronized_at_once_whatever_the_length_of_the_name_of_msinfo(home: Path, length: int) -> None:
    """With names of 10 to 15 characters it left new boxes empty, and with 12 to 15 it did not save msinfo."""
    name = "." + "m" * (length - 1)
    configure(home, CONFIG.replace(".msinfo", name))
    put(home / "a/here", mail(1))
    put(home / "b/there", mail(2))
    ran = ours("ab")

    assert ran.code == 0
    assert [1] == numbers(home / "b/here")
    assert [2] == numbers(home / "a/there")
    assert b"<id1@example.org>" in (home / name).read_bytes()


def test_box_that_cannot_be_read_for_one_run_keeps_its_memory_and_sets_the_exit_code(settled: Path) -> None:
    """It forgot the box, so that what had been deleted came back; and it ended with exit code 0."""
    box = settled / "b/inbox"
    aside = box.read_bytes()
    box.write_bytes(b"no mail at all\n")
    drop(settled / "a/inbox", 1)
    failed = ours("ab")
    box.write_bytes(aside)
    ran = ours("ab")

    assert failed.code == 1
    assert "inbox" in failed.err
    assert ran.code == 0
    assert [2, 3, 4] == sorted(numbers(settled / "a/inbox")) == sorted(numbers(settled / "b/inbox"))


def test_file_that_is_no_mail_is_left_alone(settled: Path, original: str) -> None:
    """It took any file for a message and copied it to the other store."""
    (settled / "a/notes").write_text("Buy milk.\n")
    copy = twin(settled)
    old(original, copy, "ab")
    ran = ours("ab")

    assert "notes" in boxes(copy / "b")
    assert ran.code == 0
    assert ["inbox", "work"] == boxes(settled / "b")


def test_mailbox_without_the_prefix_is_an_error_that_names_both(home: Path) -> None:
    """It went on with the wrong mailbox."""
    configure(home, CONFIG.replace("prefix b/", "prefix c/"))
    put(home / "a/inbox", mail(1))
    put(home / "b/inbox", mail(2))
    before = [tree(home / store) for store in "ab"]
    ran = ours("ab")

    assert ran.code == 6
    assert "b/" in ran.err
    assert "prefix c/" in ran.err
    assert before == [tree(home / store) for store in "ab"]
    assert not (home / ".msinfo").exists()


@pytest.mark.parametrize("name", ["v1.2", "lists/v1.2", "a=b", "a.=2Eb"])
def test_name_with_a_dot_stays_one_name_where_dots_part_levels(home: Path, name: str) -> None:
    """It split the name, or refused it."""
    configure(home, CONFIG.replace("%", "*").replace("store b { pat b/*", "store b { format maildir++ pat b/*"))
    put(home / "a" / name, mail(1))
    first = ours("ab")
    again = ours("ab")

    assert (0, 0) == (first.code, again.code)
    assert [name] == boxes(home / "a")
    assert f"{name}: \n1 copied a->b.\n" in first.out
    assert f"{name}: \n1 remains.\n" in again.out
    assert f"{name}\n" in ours("b").out


# ---- -s, -n, -D ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", ["-s", "-s -D", "-s -D -cd -m"])
@pytest.mark.parametrize("run", ["first", "later"])
def test_simulating_writes_nothing_at_all(settled: Path, options: str, run: str) -> None:
    """It made msinfo, and with -D it deleted mailboxes."""
    put(settled / "a/work")
    put(settled / "b/work")
    add(settled / "a/inbox", mail(7))
    drop(settled / "b/inbox", 1)
    if run == "first":
        (settled / ".msinfo").unlink()
    before = tree(settled)
    ran = ours(*options.split(), "ab")

    assert ran.code == 0
    assert " copied a->b.\n" in ran.out
    assert before == tree(settled)


def test_comparing_writes_nothing_at_all(settled: Path) -> None:
    """It made msinfo."""
    (settled / ".msinfo").unlink()
    before = tree(settled)
    ran = ours("ab", "a")

    assert "inbox: 4 new, 4 currently at store a." in ran.out
    assert before == tree(settled)


def test_deletion_that_was_held_is_not_forgotten(settled: Path, original: str) -> None:
    """-n forgot it: the message came back in the next run."""
    drop(settled / "a/inbox", 1)
    copy = twin(settled)
    for options in (["-n"], []):
        old(original, copy, *options, "ab")
    ours("-n", "ab")
    after_n = numbers(settled / "b/inbox")
    ours("ab")

    assert 1 in numbers(copy / "a/inbox")
    assert 1 in after_n
    assert 1 not in numbers(settled / "a/inbox") + numbers(settled / "b/inbox")


def test_no_mailbox_is_deleted_with_n(settled: Path, original: str) -> None:
    """-n -D deleted a mailbox with the messages in it, whose deletion -n was to hold."""
    put(settled / "a/work")
    copy = twin(settled)
    old(original, copy, "-n", "-D", "ab")
    ours("-n", "-D", "ab")

    assert not (copy / "b/work").exists()
    assert [5] == numbers(settled / "b/work")


# ---- duplicates ------------------------------------------------------------------------------------------------------


def test_first_of_identical_messages_stays_and_the_others_go_in_one_run(settled: Path) -> None:
    """It deleted the first, and only one a run."""
    add(settled / "a/inbox", mail(1), mail(1), mail(1), mail(7), mail(7))
    order = [*dict.fromkeys(numbers(settled / "a/inbox"))]
    ours("ab")

    assert order == numbers(settled / "a/inbox")
    assert [1, 2, 3, 4, 7] == sorted(numbers(settled / "b/inbox"))


def test_messages_that_only_share_an_id_both_stay(settled: Path, original: str) -> None:
    """It deleted one of them."""
    add(settled / "a/inbox", mail(1, "Another body.\n"))
    copy = twin(settled)
    old(original, copy, "ab")
    ours("ab")

    assert 1 == numbers(copy / "a/inbox").count(1)
    assert 2 == numbers(settled / "a/inbox").count(1)
    assert held(settled / "a/inbox") == held(settled / "b/inbox")


def test_message_deleted_there_that_has_a_duplicate_here_does_not_come_back(settled: Path, original: str) -> None:
    """It removed one copy, forgot the id, and copied the other back in the next run."""
    add(settled / "a/inbox", mail(1))
    drop(settled / "b/inbox", 1)
    copy = twin(settled)
    for _ in range(2):
        old(original, copy, "ab")
        ours("ab")

    assert 1 in numbers(copy / "b/inbox")
    assert 1 not in numbers(settled / "a/inbox") + numbers(settled / "b/inbox")


# ---- messages without Message-ID -------------------------------------------------------------------------------------


def test_messages_without_message_id_are_told_apart(home: Path, original: str) -> None:
    """All of them were one message to it: none of these was copied."""
    configure(home)
    put(home / "a/inbox", mail(1, "One.\n", id=""), mail(2, "Two.\n", id=""))
    put(home / "b/inbox", mail(3, "Three.\n", id=""))
    copy = twin(home)
    old(original, copy, "ab")
    ours("ab")

    assert held(copy / "a/inbox") != held(copy / "b/inbox")
    assert {("", "One."): 1, ("", "Two."): 1, ("", "Three."): 1} == held(home / "a/inbox") == held(home / "b/inbox")


def test_deleting_one_message_without_message_id_deletes_that_one(home: Path) -> None:
    """It deleted the first one in the mailbox."""
    configure(home)
    put(home / "a/inbox", mail(1, "One.\n", id=""), mail(2, "Two.\n", id=""), mail(3, "Three.\n", id=""))
    put(home / "b/inbox")
    ours("ab")
    put(home / "b/inbox", *(text for text in split(home / "b/inbox") if b"Two." not in text))
    ours("ab")

    assert {("", "One."): 1, ("", "Three."): 1} == held(home / "a/inbox") == held(home / "b/inbox")


# ---- msinfo ----------------------------------------------------------------------------------------------------------


def test_other_mail_in_msinfo_is_left_alone(settled: Path, original: str) -> None:
    """It destroyed mail whose subject is the name of the channel, and crashed on mail without a subject."""
    add(settled / ".msinfo", mail(8, "My own.\n", subject="ab"))
    copy = twin(settled)
    drop(copy / "a/inbox", 1)
    old(original, copy, "ab")
    add(settled / ".msinfo", mail(9, "No subject.\n").replace(b"Subject: Subject number 9\n", b""))
    drop(settled / "a/inbox", 1)
    ran = ours("ab")

    assert 8 not in numbers(copy / ".msinfo")
    assert ran.code == 0
    assert [8, 9] == numbers(settled / ".msinfo")
    assert 1 not in numbers(settled / "b/inbox")
    assert "0 remain" not in ours("ab").out


def test_memory_of_another_channel_in_msinfo_is_left_alone(settled: Path) -> None:
    configure(settled, CONFIG + "store c { pat c/% prefix c/ }\nchannel ac a c { msinfo .msinfo }\n")
    put(settled / "c/inbox")
    ours("ac")
    drop(settled / "b/inbox", 1)
    ours("ab")
    drop(settled / "c/inbox", 2)
    ours("ac")

    assert [3, 4] == sorted(numbers(settled / "a/inbox")) == sorted(numbers(settled / "c/inbox"))


# ---- what a user has marked ------------------------------------------------------------------------------------------


def test_mail_that_a_user_has_marked_deleted_is_not_expunged(settled: Path, original: str) -> None:
    """It expunged whatever was marked."""
    add(settled / "a/inbox", mail(7, status="D"))
    copy = twin(settled)
    old(original, copy, "ab")
    ours("ab")

    assert 7 not in numbers(copy / "a/inbox")
    assert 7 in numbers(settled / "a/inbox")


def test_mailbox_in_which_nothing_happens_is_not_written(settled: Path) -> None:
    """It opened every mailbox for writing in every run."""
    files = [*(settled / "a").iterdir(), *(settled / "b").iterdir(), settled / ".msinfo"]
    before = [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]
    ours("ab")

    assert before == [(path.stat().st_ino, path.stat().st_mtime_ns) for path in files]


# ---- configuration and command line ----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-f", "-t"])
def test_option_without_its_value_is_a_usage_error(home: Path, original: str, option: str) -> None:
    """It died of a segmentation fault."""
    configure(home)
    ran = ours(option)

    assert old(original, home, option).code == -11
    assert (2, "") == (ran.code, ran.out)
    assert option in ran.err


@pytest.mark.parametrize("missing", ["a", "b"])
def test_store_that_a_channel_lacks_is_named(home: Path, missing: str) -> None:
    """It named the other one."""
    lines = CONFIG.splitlines(keepends=True)
    configure(home, "".join(line for line in lines if not line.startswith(f"store {missing}")))
    ran = ours("ab")

    assert (3, "") == (ran.code, ran.out)
    assert f"'{missing}'" in ran.err


def test_names_that_begin_with_a_bracket_are_names(home: Path, original: str) -> None:
    """It took the name of the box in msinfo for an id: deleted messages came back."""
    configure(home, CONFIG.replace("store a", "store <a>").replace("ab a b", "ab <a> b"))
    put(home / "a/<odd>", mail(1), mail(2))
    put(home / "b/<odd>")
    copy = twin(home)
    old(original, copy, "ab")
    drop(copy / "a/<odd>", 1)
    old(original, copy, "ab")
    ours("ab")
    drop(home / "a/<odd>", 1)
    ran = ours("ab")

    assert [2, 1] == numbers(copy / "a/<odd>")
    assert 'Synchronizing stores "<a>" <-> "b"...' in ran.out
    assert [2] == numbers(home / "a/<odd>") == numbers(home / "b/<odd>")


def test_absolute_paths_are_good(home: Path, tmp_path: Path) -> None:
    """It refused them: the store was empty to it."""
    far = tmp_path / "far"
    configure(
        home,
        f"store a {{ pat {far}/mail/% prefix {far}/mail/ }} store b {{ pat ~/b/% prefix ~/b/ }}"
        f" channel ab a b {{ msinfo {far}/msinfo }}",
    )
    put(far / "mail/inbox", mail(1))
    put(home / "b/inbox", mail(2))
    ran = ours("ab")

    assert ran.code == 0
    assert [1, 2] == numbers(far / "mail/inbox") == sorted(numbers(home / "b/inbox"))
    assert (far / "msinfo").exists()


def test_user_need_not_be_set(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without USER it found no mailbox at all, and said nothing of it."""
    configure(home)
    put(home / "a/inbox", mail(1))
    put(home / "b/inbox")
    for name in ("USER", "LOGNAME"):
        monkeypatch.delenv(name, raising=False)
    ran = ours("ab")

    assert ran.code == 0
    assert [1] == numbers(home / "b/inbox")


@pytest.mark.parametrize("form", ["maildir", "maildir++"])
def test_maildir_is_a_store(home: Path, form: str) -> None:
    """It saw the directories cur, new and tmp."""
    configure(home, CONFIG.replace("store b { pat b/%", f"store b {{ format {form} pat b/*"))
    put(home / "a/inbox", mail(1, status="F"), mail(2))
    first = ours("ab")
    [kept] = [path for path in (home / "b").rglob("*") if path.is_file() and b"<id1@" in path.read_bytes()]
    [gone] = [path for path in (home / "b").rglob("*") if path.is_file() and b"<id2@" in path.read_bytes()]
    flags = kept.name.rpartition(",")[2]
    gone.unlink()
    again = ours("ab")

    assert (0, 0) == (first.code, again.code)
    assert "F" in flags
    assert [1] == numbers(home / "a/inbox")


def test_several_patterns_add_up(home: Path, original: str) -> None:
    """Only the last one counted."""
    configure(home, CONFIG.replace("pat a/%", "pat a/in% pat a/wo%"))
    put(home / "a/inbox", mail(1))
    put(home / "a/work", mail(2))
    put(home / "a/other", mail(3))
    put(home / "b/inbox")
    put(home / "b/work")

    assert ["work"] == old(original, home, "a").out.split("\n")[1:-1]
    assert ["inbox", "work"] == ours("a").out.split("\n")[1:-1]
    assert ours("ab").code == 0
    assert [[1], [2]] == [numbers(home / "b" / box) for box in ("inbox", "work")]
    assert not (home / "b/other").exists()
    assert "pat" in ours("-vw", "a").err
