"""What 5.2.7 wrote on stdout, byte for byte: both programs run on copies of one home.

A new scenario is a function that prepares the home and a line in `SAME`; where ours differs on purpose, a line in
`DIFFERENT`. Both stores hold all boxes beforehand: 5.2.7 could skip a box that it had just made.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pytest

from .old import CONFIG, add, configure, drop, mail, old, ours, put, split, twin

# ---- scenarios: what lies in a home ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Home:
    """A home, and the original, that may have made a first run there."""

    path: Path
    original: str

    def put(self, mailbox: str, *mails: bytes) -> None:
        put(self.path / mailbox, *mails)

    def add(self, mailbox: str, *mails: bytes) -> None:
        add(self.path / mailbox, *mails)

    def drop(self, mailbox: str, *numbers: int) -> None:
        drop(self.path / mailbox, *numbers)

    def configure(self, text: str) -> None:
        configure(self.path, text)

    def first_run(self, *args: str) -> None:
        assert old(self.original, self.path, *args, "ab").code == 0


def nothing(home: Home) -> None:
    home.put("a/inbox")
    home.put("b/inbox")


def three_boxes(home: Home) -> None:
    home.put("a/inbox", mail(1), mail(2), mail(3))
    home.put("b/inbox", mail(2), mail(4))
    home.put("a/work", mail(5))
    home.put("b/work")
    home.put("a/play")
    home.put("b/play", mail(6))


def settled(home: Home) -> None:
    three_boxes(home)
    home.first_run()


def settled_by_md5(home: Home) -> None:
    three_boxes(home)
    home.first_run("-t", "md5")


def new_and_deleted(home: Home) -> None:
    settled(home)
    _change(home)


def new_and_deleted_by_md5(home: Home) -> None:
    settled_by_md5(home)
    _change(home)


def _change(home: Home) -> None:
    home.add("a/inbox", mail(7), mail(8))
    home.add("b/inbox", mail(9))
    home.drop("a/inbox", 2)
    home.drop("b/inbox", 1, 3)


def new_ones(home: Home) -> None:
    settled(home)
    home.add("a/inbox", mail(8), mail(7))
    home.add("b/inbox", mail(9))


def duplicate_of_a_known_one(home: Home) -> None:
    settled(home)
    home.add("a/inbox", mail(3))


def new_duplicates(home: Home) -> None:
    settled(home)
    home.add("a/inbox", mail(7), mail(7))
    home.add("b/inbox", mail(8), mail(9), mail(8))


def two_duplicates(home: Home) -> None:
    settled(home)
    home.add("b/inbox", mail(1), mail(2))


def duplicates_in_another_order(home: Home) -> None:
    home.put("a/inbox", mail(3), mail(1), mail(2), mail(1), mail(3))
    home.put("b/inbox")


def everything_deleted_in_a_box(home: Home) -> None:
    settled(home)
    home.drop("b/work", 5)


def empty_on_both_sides(home: Home) -> None:
    settled(home)
    home.drop("a/work", 5)
    home.drop("b/work", 5)
    home.drop("a/play", 6)
    home.drop("b/play", 6)


def one_deleted(home: Home) -> None:
    settled(home)
    home.drop("a/inbox", 2)


def marked_deleted_here(home: Home) -> None:
    settled(home)
    home.add("a/inbox", mail(7, status="D"), mail(8))


def marked_deleted_on_both(home: Home) -> None:
    settled(home)
    home.add("a/inbox", mail(7, status="D"), mail(8, status="D"))
    home.add("b/work", mail(9, status="D"))


def big_ones(home: Home) -> None:
    home.configure(CONFIG.replace("{ msinfo", "{ sizelimit 1000 msinfo"))
    home.put("a/inbox", mail(1), mail(2, "x" * 60 + "\n" + "y" * 1000 + "\n"))
    home.put("b/inbox", mail(3, "y" * 1000 + "\n"), mail(4), mail(5, "z" * 2000 + "\n"))


def edge_of_the_limit(home: Home) -> None:
    home.configure(CONFIG.replace("{ msinfo", "{ sizelimit 300 msinfo"))
    home.put("a/inbox", *(mail(n, "x" * (n + 120) + "\n") for n in range(1, 29)))
    home.put("b/inbox")


def odd_headers(home: Home) -> None:
    home.put(
        "a/inbox",
        mail(1, subject="A subject that is far longer than its twenty-nine columns"),
        mail(2, subject=""),
        mail(3, sender="Someone With a Very Long Name Indeed <s@example.org>"),
        mail(4, sender="someone.without.a.name.indeed@long.example.org"),
        mail(5, sender='"Quoted, Name" <q@example.org>'),
        mail(6, sender="q@example.org (Name in Brackets)"),
        mail(7, sender="One <one@example.org>, Two <two@example.org>"),
        mail(8, subject="Just twenty-nine columns long", sender="Twenty-two of a sender <x@y>"),
        mail(9, subject="Twenty-eight columns wide it", sender="short@host"),
        mail(10, subject="Twenty-seven columns are it"),
        mail(11, subject="in two\n lines"),
        mail(12, subject="Twenty-eight columns, cut at a blank"),
    )
    home.put("b/inbox")


def names_with_blanks(home: Home) -> None:
    for box in ("old mail", "to do  list", " x"):
        home.put(f"a/{box}", mail(1), mail(2))
        home.put(f"b/{box}")


def many_lengths_of_names(home: Home) -> None:
    for box in ("b", "a", "ccc", "bbb", "B", "long-name", "_", "9"):
        home.put(f"a/{box}", mail(1))
        home.put(f"b/{box}", mail(2))


def boxes_named_by_year(home: Home) -> None:
    for box in ("inbox", "2023", "2024"):
        home.put(f"a/{box}", mail(1))
        home.put(f"b/{box}", mail(2))


def nested(home: Home) -> None:
    home.configure(CONFIG.replace("%", "*"))
    for box in ("inbox", "lists/debian/user", "lists/mailsync", "deep/er/still"):
        home.put(f"a/{box}", mail(1))
        home.put(f"b/{box}", mail(2))


def nested_under_percent(home: Home) -> None:
    nested(home)
    home.configure(CONFIG)


def other_names(home: Home) -> None:
    home.configure(
        "store left-hand { pat Mail/in% prefix Mail/ } store right { ref Old/ pat % prefix Old/ }\n"
        "channel both left-hand right { msinfo .mailsync-state-long-name }\n"
    )
    home.put("Mail/inbox", mail(1))
    home.put("Mail/invoices", mail(2))
    home.put("Mail/other", mail(3))
    home.put("Old/inbox", mail(4))
    home.put("Old/invoices", mail(2))


def odd_ids(home: Home) -> None:
    ids = ("noangle@x", "<no close@x", "<with space@x>", "<a@b> (comment)", "<a@b2><c@d>", "\n <folded@x>", "<Case@X>")
    home.put("a/inbox", *(mail(n, id=id) for n, id in enumerate(ids, 1)))
    home.put("b/inbox", mail(8, id="<case@x>"))


# ---- the same, for what ours does otherwise --------------------------------------------------------------------------


def one_box(home: Home) -> None:
    home.put("a/inbox", mail(1), mail(2))
    home.put("b/inbox", mail(2), mail(3))
    home.first_run()


def new_marked_deleted(home: Home) -> None:
    one_box(home)
    home.add("a/inbox", mail(7, status="D"))


def known_marked_deleted(home: Home) -> None:
    one_box(home)
    mails = split(home.path / "a/inbox")
    home.put("a/inbox", *mails[:-1], mails[-1].replace(b"\n\n", b"\nX-Status: D\n\n", 1))


def deleted_on_both(home: Home) -> None:
    one_box(home)
    home.drop("a/inbox", 2)
    home.drop("b/inbox", 1)


def box_on_one_side(home: Home) -> None:
    home.put("a/inbox")
    home.put("b/inbox")
    home.put("a/new", mail(1), mail(2))


def box_gone(home: Home) -> None:
    one_box(home)
    home.put("a/work", mail(4))
    home.put("b/work")
    home.first_run()
    (home.path / "a/inbox").unlink()


def flagged(home: Home) -> None:
    home.put("a/inbox", mail(1), mail(2, status="A"))
    home.put("b/inbox", mail(1, status="F"), mail(2))


def encoded_words(home: Home) -> None:
    home.put("a/inbox", mail(1, subject="=?utf-8?q?Gr=C3=BC=C3=9Fe?=", sender="=?utf-8?q?J=C3=B6rg?= <j@x>"))
    home.put("b/inbox")


def no_ids(home: Home) -> None:
    home.put("a/inbox", mail(1, id=""), mail(2, id=""))
    home.put("b/inbox", mail(3, id=""))


def two_more_of_a_known_one(home: Home) -> None:
    one_box(home)
    home.add("a/inbox", mail(2), mail(2))


def other_mail_under_a_known_id(home: Home) -> None:
    one_box(home)
    home.add("a/inbox", mail(2, "Another body.\n"))


def last_one_deleted(home: Home) -> None:
    home.put("a/inbox", mail(1))
    home.put("b/inbox")
    home.put("a/work", mail(2))
    home.put("b/work")
    home.first_run()
    home.drop("b/work", 2)


Scenario = Callable[[Home], None]

# ---- where both say the same -----------------------------------------------------------------------------------------

SAME: list[tuple[Scenario, str]] = [
    (nothing, "a"),
    (nothing, "ab"),
    (nothing, "-m ab"),
    (nothing, "ab a"),
    (three_boxes, "a"),
    (three_boxes, "-m a"),
    (three_boxes, "-M b"),
    (three_boxes, "-t md5 -M a"),
    (duplicate_of_a_known_one, "-m a"),
    (new_duplicates, "-M b"),
    (odd_headers, "-m a"),
    (odd_headers, "-m ab"),
    (odd_headers, "-M ab"),
    (odd_headers, "-t md5 -M ab"),
    (odd_ids, "-M a"),
    (odd_ids, "-M ab"),
    (names_with_blanks, "a"),
    (names_with_blanks, "-m a"),
    (names_with_blanks, "ab"),
    (names_with_blanks, "-m ab"),
    (many_lengths_of_names, "a"),
    (many_lengths_of_names, "ab"),
    (boxes_named_by_year, "a"),
    (boxes_named_by_year, "ab"),
    (duplicates_in_another_order, "ab"),
    (duplicates_in_another_order, "-m ab"),
    (duplicates_in_another_order, "-m a"),
    (nested, "a"),
    (nested, "-m a"),
    (nested, "ab"),
    (nested_under_percent, "a"),
    (nested_under_percent, "-m a"),
    (nested_under_percent, "ab"),
    (other_names, "left-hand"),
    (other_names, "right"),
    (other_names, "both left-hand"),
    (three_boxes, "ab"),
    (three_boxes, "-m ab"),
    (three_boxes, "-M ab"),
    (three_boxes, "-s ab"),
    (three_boxes, "-s -m ab"),
    (three_boxes, "-n ab"),
    (three_boxes, "-n -m ab"),
    (three_boxes, "-t md5 ab"),
    (three_boxes, "-t md5 -M ab"),
    (settled, "ab"),
    (settled, "-m ab"),
    (settled, "-s ab"),
    (settled, "-n ab"),
    (settled, "-D ab"),
    (settled, "ab a"),
    (settled, "b ab"),
    (settled_by_md5, "-t md5 ab"),
    (settled_by_md5, "-t md5 ab b"),
    (new_and_deleted, "ab"),
    (new_and_deleted, "-m ab"),
    (new_and_deleted, "-M ab"),
    (new_and_deleted, "ab a"),
    (new_and_deleted, "b ab"),
    (new_and_deleted, "-m ab b"),
    (new_and_deleted, "-M a ab"),
    (new_and_deleted_by_md5, "-t md5 ab"),
    (new_and_deleted_by_md5, "-t md5 -M ab"),
    (new_and_deleted_by_md5, "-t md5 ab a"),
    (new_ones, "ab"),
    (new_ones, "-s ab"),
    (new_ones, "-s -m ab"),
    (new_ones, "-s -M ab"),
    (new_ones, "-n ab"),
    (new_ones, "-n -M ab"),
    (one_deleted, "ab"),
    (duplicate_of_a_known_one, "ab"),
    (duplicate_of_a_known_one, "-m ab"),
    (duplicate_of_a_known_one, "-M ab"),
    (two_duplicates, "ab"),
    (two_duplicates, "-M ab"),
    (new_duplicates, "ab"),
    (new_duplicates, "-m ab"),
    (new_duplicates, "ab a"),
    (everything_deleted_in_a_box, "ab"),
    (everything_deleted_in_a_box, "ab b"),
    (empty_on_both_sides, "ab"),
    (empty_on_both_sides, "-D ab"),
    (empty_on_both_sides, "-D -m ab"),
    (marked_deleted_here, "-s ab"),
    (marked_deleted_here, "-n ab"),
    (marked_deleted_here, "-n -m ab"),
    (marked_deleted_here, "ab a"),
    (marked_deleted_on_both, "-s ab"),
    (marked_deleted_on_both, "-s -M ab"),
    (marked_deleted_here, "-cd -n ab"),
    (marked_deleted_on_both, "-cd -s -m ab"),
    (big_ones, "ab"),
    (big_ones, "-m ab"),
    (big_ones, "-s ab"),
    (big_ones, "-t md5 -M ab"),
    (edge_of_the_limit, "ab"),
    (duplicate_of_a_known_one, "ab a"),
    (duplicate_of_a_known_one, "-m ab a"),
    (two_duplicates, "-M ab b"),
]


def name(value: object) -> str:
    return str(getattr(value, "__name__", value))


@pytest.mark.parametrize(("scenario", "line"), SAME, ids=name)
def test_stdout_is_that_of_5_2_7(home: Path, original: str, scenario: Scenario, line: str) -> None:
    configure(home)
    scenario(Home(home, original))
    expected = old(original, twin(home), *line.split())
    actual = ours(*line.split())

    assert expected.out.splitlines(keepends=True) == actual.out.splitlines(keepends=True)
    assert expected.code == actual.code, actual.err


# ---- where ours says something else, and why -------------------------------------------------------------------------

SYNC = 'Synchronizing stores "a" <-> "b"...\n'
SIMULATED = "Only simulating\n" + SYNC
DIFF = 'Comparing store "a" <-> "a"...\n'


class Other(NamedTuple):
    """A transcript that is not 5.2.7's."""

    scenario: Scenario
    line: str
    why: str
    expected: list[str]


OTHER = [
    Other(
        new_marked_deleted,
        "ab",
        "what a user has marked is not expunged",
        [
            SYNC,
            "inbox:   ign. del    >  Sun Jan  7 User 7                 Subject number 7           \n",
            "\n",
            "4 remain.\n",
        ],
    ),
    Other(
        new_marked_deleted,
        "-cd -m ab",
        "copied with its mark, and not expunged at once",
        [
            SYNC,
            "\n",
            " *** inbox ***\n",
            "\n",
            "  copied     ->  Sun Jan  7 User 7                 Subject number 7           \n",
            "\n",
            "1 copied a->b.\n",
            "4 messages remain in inbox\n",
        ],
    ),
    Other(
        known_marked_deleted,
        "ab",
        "a mark never agreed on is not expunged, but taken off",
        [
            SYNC,
            "inbox: \n",
            "1 changed flags in a.\n",
            "3 remain.\n",
        ],
    ),
    Other(
        box_on_one_side,
        "-s ab",
        "what would be copied into a box that does not exist yet is told, too",
        [
            SIMULATED,
            "inbox: \n",
            "0 remain.\n",
            "Creating new in b\n",
            "new: \n",
            "2 copied a->b.\n",
            "2 remain.\n",
        ],
    ),
    Other(
        box_gone,
        "-s ab",
        "deletions are told",
        [
            SIMULATED,
            "work: \n",
            "1 remains.\n",
            "Creating inbox in a\n",
            "inbox: \n",
            "0 remain.\n",
            "Expunged 3 mails in store b\n",
        ],
    ),
    Other(
        box_gone,
        "ab a",
        "a box that is gone is told",
        [
            DIFF,
            "work: 1 currently at store a.\n",
            "inbox: 3 deleted, 0 currently at store a.\n",
        ],
    ),
    Other(
        deleted_on_both,
        "-s ab",
        "deletions are told",
        [
            SIMULATED,
            "inbox: \n",
            "1 remains.\n",
            "Expunged 1 mail in store a\n",
            "Expunged 1 mail in store b\n",
        ],
    ),
    Other(
        deleted_on_both,
        "-s -m ab",
        "deletions are told",
        [
            SIMULATED,
            "\n",
            " *** inbox ***\n",
            "\n",
            "\n",
            "1 messages remain in inbox\n",
            "  deleted    <   Mon Jan  1 User 1                 Subject number 1           \n",
            "  deleted    >   Tue Jan  2 User 2                 Subject number 2           \n",
            "Expunged 1 mail in store a\n",
            "Expunged 1 mail in store b\n",
        ],
    ),
    Other(
        deleted_on_both,
        "-n ab",
        "what -n keeps remains",
        [
            SYNC,
            "inbox: \n",
            "3 remain.\n",
        ],
    ),
    Other(
        deleted_on_both,
        "-n -m ab",
        "what -n keeps remains",
        [
            SYNC,
            "\n",
            " *** inbox ***\n",
            "\n",
            "\n",
            "3 messages remain in inbox\n",
        ],
    ),
    Other(
        last_one_deleted,
        "-n -D ab",
        "-n deletes no mailbox",
        [
            SYNC,
            "inbox: \n",
            "1 remains.\n",
            "work: \n",
            "1 remains.\n",
        ],
    ),
    Other(
        last_one_deleted,
        "-D ab",
        "the box visited last can be deleted, too",
        [
            SYNC,
            "inbox: \n",
            "1 remains.\n",
            "work: \n",
            "0 remain.\n",
            "Expunged 1 mail in store a\n",
            "work: deleting\n",
            "  a/work\n",
            "  b/work\n",
        ],
    ),
    Other(
        flagged,
        "ab",
        "flags are synchronized",
        [
            SYNC,
            "inbox: \n",
            "1 changed flags in a.\n",
            "1 changed flags in b.\n",
            "2 remain.\n",
        ],
    ),
    Other(
        flagged,
        "-m ab",
        "flags are synchronized",
        [
            SYNC,
            "\n",
            " *** inbox ***\n",
            "\n",
            "  flags      <-  Mon Jan  1 User 1                 Subject number 1           \n",
            "  flags      ->  Tue Jan  2 User 2                 Subject number 2           \n",
            "\n",
            "1 changed flags in a.\n",
            "1 changed flags in b.\n",
            "2 messages remain in inbox\n",
        ],
    ),
    Other(
        encoded_words,
        "-m ab",
        "encoded words are decoded (RFC 2047)",
        [
            SYNC,
            "\n",
            " *** inbox ***\n",
            "\n",
            "  copied     ->  Mon Jan  1 Jörg                   Grüße                      \n",
            "\n",
            "1 copied a->b.\n",
            "1 messages remain in inbox\n",
        ],
    ),
    Other(
        no_ids,
        "ab",
        "messages without Message-ID are told apart",
        [
            SYNC,
            "inbox: \n",
            "2 copied a->b.\n",
            "1 copied b->a.\n",
            "3 remain.\n",
        ],
    ),
    Other(
        two_more_of_a_known_one,
        "ab",
        "all duplicates go in one run",
        [
            SYNC,
            "inbox: 2 duplicates in a, \n",
            "3 remain.\n",
            "Expunged 2 mails in store a\n",
        ],
    ),
    Other(
        other_mail_under_a_known_id,
        "ab",
        "what is not the same message is no duplicate",
        [
            SYNC,
            "inbox: \n",
            "1 copied a->b.\n",
            "4 remain.\n",
        ],
    ),
]


@pytest.mark.parametrize("other", OTHER, ids=[f"{other.scenario.__name__}-{other.line}" for other in OTHER])
def test_stdout_is_another_than_that_of_5_2_7(home: Path, original: str, other: Other) -> None:
    configure(home)
    other.scenario(Home(home, original))
    theirs = old(original, twin(home), *other.line.split())
    actual = ours(*other.line.split())

    assert "".join(other.expected) != theirs.out, "no longer another"
    assert "".join(other.expected) == actual.out, other.why
    assert actual.code == 0


# ---- what is refused -------------------------------------------------------------------------------------------------

REFUSED = {
    "no config": ("", "ab", 3),
    "config is a directory": (CONFIG, "-f a ab", 3),
    "store without name": ("store", "ab", 3),
    "store not closed": ("store a { pat a/%\n", "a", 3),
    "unknown field": ("store a { pot a/% }\n", "a", 3),
    "channel without msinfo": ("store a { } store b { } channel ab a b { }\n", "ab", 3),
    "name used twice": ("store a { } store a { }\n", "a", 3),
    "channel with a store that is not there": ("store a { } channel ab a b { msinfo .msinfo }\n", "ab", 3),
    "unknown name": (CONFIG, "abc", 2),
    "option after the name": (CONFIG, "ab -x", 2),
    "unknown option": (CONFIG, "-x ab", 2),
    "-c alone": (CONFIG, "-c ab", 2),
    "no name": (CONFIG, "", 2),
    "two stores": (CONFIG, "a b", 2),
    "unknown kind of ids": (CONFIG, "-t sha1 ab", 2),
    "-f without a file": (CONFIG, "-f", 2),
    "-t without a kind": (CONFIG, "-t", 2),
    "diff with a store of another channel": (CONFIG + "store c { pat c/% }\n", "ab c", 2),
}


@pytest.mark.parametrize(("config", "line", "code"), REFUSED.values(), ids=REFUSED)
def test_both_refuse(home: Path, original: str, config: str, line: str, code: int) -> None:
    """5.2.7 wrote some of these to stdout, and died of a signal of others."""
    put(home / "a/inbox", mail(1))
    if config:
        configure(home, config)
    theirs = old(original, twin(home), *line.split())
    actual = ours(*line.split())

    assert theirs.code != 0
    assert (code, "") == (actual.code, actual.out)
    assert actual.err.startswith("mailsync: ")
