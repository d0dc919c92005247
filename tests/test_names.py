"""Patterns, prefix and delimiter."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailsync.model import Boxname, Mailbox
from mailsync.names import BadName, Names, Patterns, check, collisions, order

NAMES = ["INBOX", "Mail/", "Mail/in", "Mail/sub", "Mail/sub/x", "Mail/sub/deep/y", "top"]


def matching(patterns: list[str], delimiter: str | None = "/", names: list[str] = NAMES) -> list[str]:
    return [name for name in names if Patterns(patterns, delimiter).matches(name)]


def test_percent_stays_inside_a_level() -> None:
    assert ["Mail/", "Mail/in", "Mail/sub"] == matching(["Mail/%"])


def test_star_goes_to_any_depth() -> None:
    assert NAMES[1:6] == matching(["Mail/*"])


def test_wildcards_may_stand_anywhere_in_a_pattern() -> None:
    assert ["Mail/sub", "Mail/sub/x"] == matching(["%/s%b", "*b/x"])


def test_several_patterns_add_up() -> None:
    assert ["Mail/in", "top"] == matching(["top", "Mail/in", "nope"])


@pytest.mark.parametrize("patterns", [["Mail/*", "!Mail/sub*"], ["!Mail/sub*", "Mail/*"]])
def test_exclusion_takes_away_wherever_it_is_written(patterns: list[str]) -> None:
    assert ["Mail/", "Mail/in"] == matching(patterns)


def test_nothing_matches_without_a_pattern_or_with_exclusions_alone() -> None:
    assert [[], []] == [matching([]), matching(["!Mail/in"])]


def test_dot_delimiter_lets_percent_cross_slashes() -> None:
    assert ["a/b"] == matching(["%"], ".", ["a/b", "a.b"])


def test_percent_is_star_where_there_are_no_levels() -> None:
    assert ["a/b.c"] == matching(["%c"], None, ["a/b.c"])


def test_inbox_is_compared_without_case_at_the_top_level_only() -> None:
    names = ["INBOX", "inbox", "Inbox", "inbox/x", "INBOX/x", "a/inbox", "ınbox"]

    assert ["INBOX", "inbox", "Inbox"] == matching(["inbox"], names=names)
    assert ["INBOX", "inbox", "Inbox"] == matching(["i%X"], names=names)
    assert ["inbox/x", "INBOX/x", "a/inbox", "ınbox"] == matching(["*", "!InBox"], names=names)


def test_roots_end_at_the_last_delimiter_before_the_first_wildcard() -> None:
    patterns = Patterns(["Mail/%", "Mail/*", "Mail/a%/b", "a/b/c", "%", "!x/y/%", "/abs/%"])

    assert ["Mail/", "a/b/", "", "/abs/"] == patterns.roots()


def test_there_is_one_root_where_there_are_no_levels() -> None:
    assert [""] == Patterns(["a/b%", "c"], None).roots()


@pytest.mark.parametrize(
    ("pattern", "above", "reaches"),
    [
        ("Mail/%", "Mail/", True),
        ("Mail/%", "Mail/sub/", False),
        ("Mail/%/%", "Mail/sub/", True),
        ("Mail/%/", "Mail/sub/", False),
        ("Mail/*", "Mail/sub/deep/", True),
        ("Mail/*", "Other/", False),
        ("Mail/sub/x", "Mail/", True),
        ("Mail/sub/x", "Mail/sub/x", False),
        ("%/x", "", True),
    ],
)
def test_walk_goes_only_where_a_pattern_reaches(pattern: str, above: str, reaches: bool) -> None:
    assert reaches == Patterns([pattern]).reaches(above)


pattern_texts = st.text("ab/.%*", max_size=8)
short_names = st.text("ab/.", max_size=8)


@given(pattern_texts, short_names, st.sampled_from(["/", "."]))
@example("%*%", "a/b", "/")
def test_matching_agrees_with_a_plain_regular_expression(pattern: str, name: str, delimiter: str) -> None:
    parts = {"%": f"[^{re.escape(delimiter)}]*", "*": ".*"}
    regex = "".join(parts.get(c, re.escape(c)) for c in pattern)

    assert bool(re.fullmatch(regex, name)) == Patterns([pattern], delimiter).matches(name)


@given(pattern_texts, short_names, st.text("ab/.", min_size=1, max_size=5))
def test_whatever_matches_can_be_reached_from_above(pattern: str, above: str, below: str) -> None:
    patterns = Patterns([pattern])

    assert patterns.reaches(above) or not patterns.matches(above + below)


@pytest.mark.parametrize("pattern", ["%a" * 2000 + "b", "%*" * 5000 + "b", "*a%" * 2000 + "b", "*" * 10000])
def test_hostile_pattern_costs_no_more_than_its_length(pattern: str) -> None:
    assert pattern.endswith("*") == Patterns([pattern]).matches("a" * 4000)  # a backtracking matcher never returns


# ---- prefix and delimiter --------------------------------------------------------------------------------------------


def test_prefix_is_taken_off_and_put_back() -> None:
    names = Names("Mail/", "/")

    assert ("sub/x", "Mail/sub/x") == (names.boxname(Mailbox("Mail/sub/x")), names.mailbox(Boxname("sub/x")))


def test_prefix_may_be_the_full_name() -> None:
    names = Names("INBOX", ".")

    assert ("", "INBOX") == (names.boxname(Mailbox("INBOX")), names.mailbox(Boxname("")))


def test_mailbox_that_does_not_begin_with_the_prefix_is_an_error_that_names_both() -> None:
    with pytest.raises(BadName, match=r"a/x .*zzz/"):
        Names("zzz/").boxname(Mailbox("a/x"))


def test_delimiter_of_the_prefix_is_not_translated() -> None:
    names = Names("a/b.", ".")

    assert ("c/d", "a/b.c.d") == (names.boxname(Mailbox("a/b.c.d")), names.mailbox(Boxname("c/d")))


@pytest.mark.parametrize(
    ("boxname", "mailbox"),
    [("dot.ted", "dot=2Eted"), ("a/b.c", "a.b=2Ec"), ("a=2Eb", "a=3D2Eb"), ("a=3D2Eb", "a=3D3D2Eb"), ("a=b", "a=b")],
)
def test_delimiter_inside_a_level_is_escaped_and_never_splits_it(boxname: str, mailbox: str) -> None:
    names = Names("", ".")

    assert (mailbox, boxname) == (names.mailbox(Boxname(boxname)), names.boxname(Mailbox(mailbox)))


@pytest.mark.parametrize(("mailbox", "boxname"), [("a/b.c", "a=2Fb/c"), ("a=2Fb", "a=3D2Fb"), ("a=2Eb/c", "a.b=2Fc")])
def test_slash_inside_a_level_of_a_server_is_escaped(mailbox: str, boxname: str) -> None:
    names = Names("", ".", slash_in_level=True)

    assert (boxname, mailbox) == (names.boxname(Mailbox(mailbox)), names.mailbox(Boxname(boxname)))


def test_escaped_slash_stays_text_where_no_level_can_hold_a_slash() -> None:
    names = Names("", ".")

    assert ("a=2Fb", "a=2Fb") == (names.boxname(Mailbox("a=2Fb")), names.mailbox(Boxname("a=2Fb")))
    with pytest.raises(BadName, match="a/b"):
        names.boxname(Mailbox("a/b"))


def test_levels_cannot_be_said_to_a_store_without_levels() -> None:
    with pytest.raises(BadName, match="a/b"):
        Names("", None).mailbox(Boxname("a/b"))


@pytest.mark.parametrize("delimiter", ["", "..", "=", "2", "F", "\xe9"])
def test_delimiter_that_would_break_the_escapes_is_refused(delimiter: str) -> None:
    with pytest.raises(ValueError, match="cannot separate"):
        Names("", delimiter)


texts = st.lists(st.sampled_from(["a", ".", "/", "=", "=2E", "=2F", "3D", "2", "E", "F", "|", "é"]), max_size=10).map(
    "".join
)
any_names = st.builds(
    Names,
    st.sampled_from(["", "a", "a.", "a/", "=", "=3D"]),
    st.sampled_from([None, "/", ".", "|", "\\"]),
    slash_in_level=st.booleans(),
)


@given(any_names, texts)
def test_every_boxname_that_is_accepted_comes_back(names: Names, text: str) -> None:
    try:
        mailbox = names.mailbox(Boxname(text))
    except BadName:
        return

    assert text == names.boxname(mailbox)


@given(any_names, texts)
def test_every_mailbox_that_is_accepted_comes_back(names: Names, text: str) -> None:
    mailbox = Mailbox(names.prefix + text)
    try:
        boxname = names.boxname(mailbox)
    except BadName:
        return

    assert mailbox == names.mailbox(boxname)


@given(any_names, texts, texts)
def test_no_two_names_become_one(names: Names, one: str, other: str) -> None:
    try:
        same = names.boxname(Mailbox(names.prefix + one)) == names.boxname(Mailbox(names.prefix + other))
    except BadName:
        return

    assert (one == other) == same


# ---- names that are refused, order, collisions -----------------------------------------------------------------------


@pytest.mark.parametrize("boxname", ["", "a", "a/b", "...", ".a", "a b", "ä/=2E", "\udcff", "x" * 255, "cur"])
def test_ordinary_boxname_is_accepted(boxname: str) -> None:
    check(boxname)


@pytest.mark.parametrize(
    "boxname",
    [
        "/",
        "/a",
        "a/",
        "a//b",
        ".",
        "..",
        "a/../b",
        "./a",
        "a\0b",
        "x" * 256,
        "é" * 128,
        "/".join(["x" * 200] * 20),
        "\ud800",
    ],
)
def test_boxname_that_must_not_become_a_path_is_refused(boxname: str) -> None:
    with pytest.raises(BadName):
        check(boxname)


@pytest.mark.parametrize("boxname", ["cur", "a/new", "tmp/b"])
def test_inside_of_a_maildir_is_refused_for_maildir_stores(boxname: str) -> None:
    with pytest.raises(BadName, match="inside of a Maildir"):
        check(boxname, maildir=True)


def test_longest_name_comes_first_then_bytewise() -> None:
    assert ["d/e/f", "d/e", "é", "d", "x", ""] == order(["", "x", "d", "é", "d/e/f", "d/e"])


def test_names_that_differ_only_in_case_collide() -> None:
    assert [("Work", "work"), ("Work", "WORK"), ("work", "WORK")] == collisions(["Work", "a", "work", "WORK"])
