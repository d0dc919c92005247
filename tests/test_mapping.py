"""What side b calls otherwise: the lines `map A-BOX B-BOX`."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailsync.mapping import MappedNames, Pair, Problem, Renaming, check
from mailsync.model import Boxname, Mailbox, Side
from mailsync.names import BadName, Names

SENT = Renaming([("Sent", "Sent Items")])
LISTS = Renaming([("Lists/*", "Mail/lists/*")])


def there(pairs: Sequence[Pair], *names: str) -> list[str]:
    return [Renaming(pairs).there(Boxname(name)) for name in names]


def here(pairs: Sequence[Pair], *names: str) -> list[str]:
    return [Renaming(pairs).here(Boxname(name)) for name in names]


# ---- names -----------------------------------------------------------------------------------------------------------


def test_name_of_a_line_has_its_partner_and_comes_back() -> None:
    assert ("Sent Items", "Sent") == (SENT.there(Boxname("Sent")), SENT.here(Boxname("Sent Items")))


def test_other_names_are_the_same_on_both_sides() -> None:
    assert ["a", "Sent/x", "sent", ""] == there([("Sent", "Sent Items")], "a", "Sent/x", "sent", "")


def test_namesake_of_what_a_line_gave_away_has_no_partner() -> None:
    with pytest.raises(BadName) as on_a:
        SENT.there(Boxname("Sent Items"))
    with pytest.raises(BadName) as on_b:
        SENT.here(Boxname("Sent"))

    assert [
        'Sent Items of side a has no partner: Sent Items of side b belongs to Sent (map "Sent" "Sent Items")',
        'Sent of side b has no partner: Sent of side a belongs to Sent Items (map "Sent" "Sent Items")',
    ] == [str(on_a.value), str(on_b.value)]


def test_two_names_may_be_exchanged() -> None:
    pairs = [("a", "b"), ("b", "a")]

    assert (["b", "a"], ["b", "a"]) == (there(pairs, "a", "b"), here(pairs, "a", "b"))


def test_chain_of_lines_leaves_its_ends_without_partner() -> None:
    renaming = Renaming([("a", "b"), ("b", "c")])

    assert ["b", "c"] == [renaming.there(Boxname("a")), renaming.there(Boxname("b"))]
    with pytest.raises(BadName, match="c of side a has no partner: c of side b belongs to b"):
        renaming.there(Boxname("c"))
    with pytest.raises(BadName, match="a of side b has no partner: a of side a belongs to b"):
        renaming.here(Boxname("a"))


def test_star_stands_for_any_text_at_any_depth() -> None:
    assert ["Mail/lists/x", "Mail/lists/x/y", "Lists"] == there(
        [("Lists/*", "Mail/lists/*")], "Lists/x", "Lists/x/y", "Lists"
    )


def test_star_may_stand_anywhere() -> None:
    assert ["old/mail of ada"] == there([("*/archive", "old/mail of *")], "ada/archive")
    assert ["x/a", "x/INBOX"] == there([("*", "x/*")], "a", "INBOX")


def test_begin_and_end_of_a_pattern_do_not_overlap_in_a_name() -> None:
    assert ["aba"] == there([("ab*ba", "x*y")], "aba")


def test_name_wins_over_pattern_and_first_pattern_over_second() -> None:
    pairs = [("Lists/old/*", "Old/*"), ("Lists/*", "L/*"), ("Lists/old/x", "X"), ("Lists/keep", "Lists/keep")]

    assert ["Old/y", "L/z", "X", "Lists/keep"] == there(pairs, "Lists/old/y", "Lists/z", "Lists/old/x", "Lists/keep")


def test_what_a_better_line_took_has_no_partner() -> None:
    renaming = Renaming([("Lists/old/*", "Old/*"), ("Lists/*", "L/*")])

    with pytest.raises(BadName, match=r'L/old/y of side b .* belongs to Old/y \(map "Lists/old/\*" "Old/\*"\)'):
        renaming.here(Boxname("L/old/y"))


@pytest.mark.parametrize("name", ["x", "x/.."])
def test_name_that_the_other_side_cannot_have_is_refused(name: str) -> None:
    with pytest.raises(BadName, match=r'empty|"\.\."'):
        Renaming([("x*", "y/*")]).there(Boxname(name))


# ---- INBOX -----------------------------------------------------------------------------------------------------------


def test_inbox_has_its_partner_as_the_line_writes_it() -> None:
    pairs = [("inbox", "INBOX")]

    assert (["INBOX"], ["inbox"]) == (there(pairs, "inbox"), here(pairs, "INBOX"))


@pytest.mark.parametrize("name", ["INBOX", "Inbox"])
def test_other_spelling_of_inbox_is_no_other_mailbox(name: str) -> None:
    renaming = Renaming([("inbox", "Eingang")])

    with pytest.raises(BadName, match=f"{name} of side a has no partner: Eingang of side b belongs to inbox"):
        renaming.there(Boxname(name))


def test_inbox_is_told_by_its_case_below_the_top_level() -> None:
    assert ["y", "x/Inbox"] == there([("x/inbox", "y")], "x/inbox", "x/Inbox")


def test_inbox_can_be_kept_out_of_a_pattern() -> None:
    pairs = [("INBOX", "INBOX"), ("*", "x/*")]

    assert (["INBOX", "x/a"], ["INBOX", "a"]) == (there(pairs, "INBOX", "a"), here(pairs, "INBOX", "x/a"))


# ---- laws ------------------------------------------------------------------------------------------------------------

texts = st.text("ab/.", max_size=5) | st.sampled_from(["INBOX", "inbox", "a/INBOX", "a", "b", "a/b"])
patterns = st.builds("{}*{}".format, texts, texts)
lines = st.lists(st.tuples(texts, texts) | st.tuples(patterns, patterns), max_size=5)


@given(lines, texts, texts)
@example([("a*", "a*"), ("a/*", "b*")], "a/b", "b/b")
@example([("inbox", "INBOX"), ("a*", "*")], "aInbox", "Inbox")
def test_whatever_the_lines_each_name_that_is_accepted_comes_back(pairs: list[Pair], one: str, other: str) -> None:
    renaming = Renaming(pairs)

    for name in map(Boxname, (one, other)):
        assert name == _accepted(renaming, name, Side.A, name)
        assert name == _accepted(renaming, name, Side.B, name)


def _accepted(renaming: Renaming, name: Boxname, side: Side, refused: Boxname) -> Boxname:
    """The name after the way to the other side and back."""
    go, come = (renaming.there, renaming.here) if side is Side.A else (renaming.here, renaming.there)
    try:
        across = go(name)
    except BadName:
        return refused
    return come(across)  # what is accepted one way is accepted the other


@given(lines, texts, texts)
def test_no_two_names_become_one(pairs: list[Pair], one: str, other: str) -> None:
    renaming = Renaming(pairs)

    for go in (renaming.there, renaming.here):
        try:
            same = go(Boxname(one)) == go(Boxname(other))
        except BadName:
            continue
        assert (one == other) == same


sound_lines = lines.map(lambda pairs: [pair for n, pair in enumerate(pairs) if n not in {p.nth for p in check(pairs)}])


@given(sound_lines)
def test_each_line_without_a_problem_is_of_use(pairs: list[Pair]) -> None:
    renaming = Renaming(pairs)

    assert [] == list(check(pairs))
    for a, b in pairs:
        name, expected = a.replace("*", "zz"), b.replace("*", "zz")  # which no other line speaks of
        assert (expected, name) == (renaming.there(Boxname(name)), renaming.here(Boxname(expected)))


# ---- what is wrong with the lines ------------------------------------------------------------------------------------


def test_sound_lines_have_no_problems() -> None:
    pairs = [
        ("Sent", "Sent Items"),
        ("Lists/old/*", "Old/*"),
        ("Lists/*", "Mail/lists/*"),
        ("Lists/x", "X"),
        ("a*", "*b"),
    ]

    assert [] == list(check(pairs))


A, B = Side.A, Side.B
WRONG: dict[str, tuple[list[Pair], list[Problem]]] = {
    "empty name": ([("", "x")], [Problem(0, A, "found an empty name, expected one of a mailbox")]),
    "two stars": ([("a/*/*", "b/*")], [Problem(0, A, "found 'a/*/*', expected one '*' at most")]),
    "star in one": ([("a*", "b")], [Problem(0, B, "found 'b' for 'a*', expected a '*' in both or in none")]),
    "percent": (
        [("a/%", "b/%")],
        [
            Problem(0, A, "found 'a/%', expected no '%': only '*' stands for any text here"),
            Problem(0, B, "found 'b/%', expected no '%': only '*' stands for any text here"),
        ],
    ),
    "way up": (
        [("a", "../b")],
        [Problem(0, B, 'found a name that no mailbox can have: ../b: "." and ".." are no names')],
    ),
    "control characters": (
        [("a", "..\x1b/.."), ("c", "\udcff%")],
        [
            Problem(0, B, 'found a name that no mailbox can have: ..?/..: "." and ".." are no names'),
            Problem(1, B, "found '?%', expected no '%': only '*' stands for any text here"),
        ],
    ),
    "empty level": (
        [("a", "/b")],
        [Problem(0, B, "found a name that no mailbox can have: /b: a level of the name is empty")],
    ),
    "name twice": (
        [("a", "b"), ("c", "b"), ("a", "d")],
        [
            Problem(1, B, "found 'b' again on this side, expected another name"),
            Problem(2, A, "found 'a' again on this side, expected another name"),
        ],
    ),
    "INBOX twice": (
        [("INBOX", "b"), ("inbox", "c")],
        [Problem(1, A, "found 'inbox' again on this side, expected another name")],
    ),
    "pattern twice": (
        [("a*", "b*"), ("c*", "b*")],
        [Problem(1, B, "found 'b*' again on this side, expected another name")],
    ),
    "pattern behind a wider one": (
        [("Lists/*", "L/*"), ("Lists/old/*", "Old/*")],
        [Problem(1, A, "found 'Lists/old/*' behind 'Lists/*', which matches all that it matches")],
    ),
    "pattern behind a wider one on the other side": (
        [("a/*", "*"), ("b/*", "c/*")],
        [Problem(1, B, "found 'c/*' behind '*', which matches all that it matches")],
    ),
}


@pytest.mark.parametrize(("pairs", "expected"), WRONG.values(), ids=WRONG.keys())
def test_line_that_cannot_be_meant_is_found(pairs: list[Pair], expected: list[Problem]) -> None:
    assert expected == list(check(pairs))


# ---- with prefix and delimiter ---------------------------------------------------------------------------------------


def test_mailbox_of_side_b_is_called_as_side_a_calls_it() -> None:
    names = MappedNames(Names("INBOX.", "."), LISTS)

    assert "INBOX.Mail.lists.x" == names.mailbox(Boxname("Lists/x"))
    assert "Lists/x" == names.boxname(Mailbox("INBOX.Mail.lists.x"))


def test_mailbox_that_either_refuses_is_refused() -> None:
    names = MappedNames(Names("Mail/"), SENT)

    with pytest.raises(BadName, match="prefix Mail/"):
        names.boxname(Mailbox("Sent Items"))
    with pytest.raises(BadName, match="has no partner"):
        names.boxname(Mailbox("Mail/Sent"))
    with pytest.raises(BadName, match="has no partner"):
        names.mailbox(Boxname("Sent Items"))
