"""Taking turns with mailsync 5.2.7, on one config, the same stores and the same msinfo.

Two things are left out, in which 5.2.7 does harm of itself: mail without Message-ID (one identity for all of it), and
mail that a user has marked as deleted (it expunges that).
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from .old import Ran, add, configure, drop, held, mail, numbers, old, ours, put

MH = """\
store a { pat \\#mh/a/% prefix \\#mh/a/ }
store b { pat b/% prefix b/ }
channel ab a b { msinfo .msinfo }
"""
Program = Callable[..., Ran]


@pytest.fixture
def programs(home: Path, original: str) -> dict[str, Program]:
    """Either program, in the same home."""
    configure(home)
    return {"5.2.7": lambda *args: old(original, home, *args), "ours": ours}


KINDS = ("msgid", "md5")
TURNS = (("5.2.7", "ours"), ("ours", "5.2.7"))


def two_boxes(home: Path) -> None:
    put(home / "a/inbox", mail(1), mail(2), mail(6, id="<odd id@x"))
    put(home / "b/inbox", mail(2), mail(4, "Body\n>From with a quote\n"))
    put(home / "a/old mail")
    put(home / "b/old mail", mail(5))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "second"), TURNS)
def test_other_program_finds_nothing_to_do(
    home: Path, programs: dict[str, Program], first: str, second: str, kind: str
) -> None:
    two_boxes(home)
    programs[first]("-t", kind, "ab")
    before = contents(home)
    ran = programs[second]("-t", kind, "ab")

    assert before == contents(home)
    assert ["1 remains.", "4 remain."] == re.findall(r".*remains?\.", ran.out)
    assert nothing_to_do(ran)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "second"), TURNS)
@pytest.mark.parametrize("store", "ab")
def test_other_program_reads_msinfo(
    home: Path, programs: dict[str, Program], first: str, second: str, kind: str, store: str
) -> None:
    two_boxes(home)
    programs[first]("-t", kind, "ab")
    put(home / "a/old mail", mail(8))
    put(home / "b/old mail", mail(8))
    ran = programs[second]("-t", kind, "ab", store)

    assert [
        f"old mail: 1 new, 1 deleted, 1 currently at store {store}.",
        f"inbox: 4 currently at store {store}.",
    ] == sorted(ran.out.splitlines()[1:], reverse=True)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "second"), TURNS)
def test_both_write_the_same_numbers(
    home: Path, programs: dict[str, Program], first: str, second: str, kind: str
) -> None:
    two_boxes(home)
    programs[first]("-t", kind, "ab")
    one = remembered(home)
    drop(home / "a/inbox", 4)
    put(home / "b/old mail")
    programs[second]("-t", kind, "ab")
    add(home / "a/inbox", mail(4, "Body\n>From with a quote\n"))
    add(home / "a/old mail", mail(5))
    programs[second]("-t", kind, "ab")

    assert one == remembered(home)
    assert 7 == len(one)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("first", "second"), TURNS)
@pytest.mark.parametrize("store", "ab")
def test_deletion_after_the_run_of_one_is_carried_out_by_the_other(
    home: Path, programs: dict[str, Program], first: str, second: str, kind: str, store: str
) -> None:
    two_boxes(home)
    programs[first]("-t", kind, "ab")
    drop(home / store / "inbox", 2)
    programs[second]("-t", kind, "ab")

    assert 2 not in [*numbers(home / "a/inbox"), *numbers(home / "b/inbox")]
    assert 3 == held(home / "a/inbox").total() == held(home / "b/inbox").total()
    assert nothing_to_do(programs[first]("-t", kind, "ab"))
    assert nothing_to_do(programs[second]("-t", kind, "ab"))


@pytest.mark.parametrize("store", "ab")
def test_deletion_that_ours_has_held_is_carried_out_by_5_2_7(
    home: Path, programs: dict[str, Program], store: str
) -> None:
    two_boxes(home)
    programs["ours"]("ab")
    drop(home / store / "inbox", 2)
    held_back = programs["ours"]("-n", "ab")
    still_there = numbers(home / "a/inbox") + numbers(home / "b/inbox")
    programs["5.2.7"]("ab")

    assert "Expunged" not in held_back.out
    assert 1 == still_there.count(2)
    assert 0 == (numbers(home / "a/inbox") + numbers(home / "b/inbox")).count(2)
    assert nothing_to_do(programs["ours"]("ab"))


@pytest.mark.parametrize(("first", "second"), TURNS)
def test_message_deleted_on_both_sides_is_forgotten(
    home: Path, programs: dict[str, Program], first: str, second: str
) -> None:
    two_boxes(home)
    programs[first]("ab")
    drop(home / "a/inbox", 2)
    drop(home / "b/inbox", 2)

    assert nothing_to_do(programs[second]("ab"))
    assert "<id2@example.org>" not in remembered(home)
    assert nothing_to_do(programs[first]("ab"))

    add(home / "a/inbox", mail(2))
    programs[first]("ab")

    assert 2 in numbers(home / "b/inbox")


@pytest.mark.parametrize(("first", "second"), TURNS)
def test_message_that_arrives_on_both_sides_is_not_doubled(
    home: Path, programs: dict[str, Program], first: str, second: str
) -> None:
    two_boxes(home)
    programs[first]("ab")
    add(home / "a/inbox", mail(7))
    add(home / "b/inbox", mail(7))

    assert nothing_to_do(programs[second]("ab"))
    assert nothing_to_do(programs[first]("ab"))
    assert 1 == numbers(home / "a/inbox").count(7) == numbers(home / "b/inbox").count(7)

    drop(home / "b/inbox", 7)
    programs[first]("ab")

    assert 7 not in numbers(home / "a/inbox")


@pytest.mark.parametrize(("first", "second"), TURNS)
def test_mh_store_takes_turns(home: Path, programs: dict[str, Program], first: str, second: str) -> None:
    configure(home, MH)
    (home / ".mh_profile").write_text("Path: Mail\n")
    for number in (1, 2):
        put(home / f"Mail/a/inbox/{number}", mail(number).partition(b"\n")[2])
    put(home / "b/inbox", mail(2), mail(3))
    programs[first]("ab")
    both = held(home / "Mail/a/inbox") == held(home / "b/inbox")

    assert both
    assert nothing_to_do(programs[second]("ab"))

    next(p for p in (home / "Mail/a/inbox").iterdir() if b"<id3@" in p.read_bytes()).unlink()
    programs[second]("ab")

    assert [1, 2] == sorted(numbers(home / "b/inbox")) == sorted(numbers(home / "Mail/a/inbox"))
    assert nothing_to_do(programs[first]("ab"))


@pytest.mark.parametrize("seed", range(15))
def test_six_rounds_of_changes_lose_double_and_resurrect_nothing(
    home: Path, programs: dict[str, Program], seed: int
) -> None:
    """After each run both stores are what the changes say, and the other program would do nothing."""
    chance = random.Random(seed)
    kind = chance.choice(KINDS)
    boxes = ("inbox", "old mail")
    for box in boxes:
        put(home / "a" / box)
        put(home / "b" / box)
    alive: dict[str, set[int]] = {box: set() for box in boxes}
    last = 0
    names = ["5.2.7", "ours"] if chance.random() < 0.5 else ["ours", "5.2.7"]
    for turn in range(6):
        for box in boxes:
            gone = {number for number in alive[box] if chance.random() < 0.3}
            for number in gone:
                for side in chance.choice(("a", "b", "ab")):
                    drop(home / side / box, number)
            alive[box] -= gone
            for _ in range(chance.randrange(4)):
                last += 1
                for side in chance.choice(("a", "b", "ab")):
                    add(home / side / box, mail(last, f"Body of {last}\n", status=chance.choice(("", "A", "F"))))
                alive[box].add(last)
        here, there = names[turn % 2], names[1 - turn % 2]
        programs[here]("-t", kind, "ab")

        for box in boxes:
            assert sorted(alive[box]) == sorted(numbers(home / "a" / box)), (turn, here)
            assert held(home / "a" / box) == held(home / "b" / box), (turn, here)
        before = contents(home)
        assert nothing_new_or_deleted(programs[there], "-t", kind), (turn, there)
        assert before == contents(home)


def contents(home: Path) -> list[tuple[str, bytes]]:
    """All mail, without the bookkeeping that either program writes into an mbox."""
    noise = re.compile(rb"^(?:Status|X-Status|X-Keywords|X-UID|X-IMAP(?:base)?):.*\n", re.M)
    files = sorted(path for store in "ab" for path in (home / store).rglob("*") if path.is_file())
    return [(str(path), noise.sub(b"", path.read_bytes())) for path in files]


def remembered(home: Path) -> list[str]:
    """Boxes and ids, without what only one of the programs reads."""
    body = (home / ".msinfo").read_text().split("Subject: ab", 1)[1].split("\n\n", 1)[1]
    return [re.sub(r"(>) [(].*", r"\1", line) for line in body.splitlines() if line]


def nothing_to_do(ran: Ran) -> bool:
    """No copy and no deletion was told, by either program. A change of flags is no change of mail."""
    return ran.code == 0 and not re.search(r"copied|Expunged|duplicate|deleting", ran.out)


def nothing_new_or_deleted(program: Program, *options: str) -> bool:
    """Simulated; 5.2.7 does not simulate deletions, but compares either store with msinfo."""
    if program is ours:
        events = [json.loads(line)["event"] for line in program(*options, "-s", "--json", "ab").out.splitlines()]
        return not {"copy", "delete", "create", "remove", "problem", "held"} & set(events)
    compared = [program(*options, "ab", store) for store in "ab"]
    return all(map(nothing_to_do, compared)) and not any(re.search(r"new|deleted", ran.out) for ran in compared)
