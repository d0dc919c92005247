"""Flags as Maildir letters and MH sequences."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailsync.drivers.flags import (
    RESERVED,
    FlagsReader,
    SequenceChange,
    add_keywords,
    change_letters,
    edit_sequences,
    flags_by_number,
    in_delivery_order,
    letter_table,
    maildir_holds,
    parse_keywords,
    parse_sequences,
    sequence_keyword,
    sequence_name,
    split_name,
    without_letter,
)
from mailsync.model import ANSWERED, DELETED, DRAFT, FLAGGED, NONE, SEEN, SYSTEM, Flags

TABLE = letter_table({0: "Work", 1: "$Label1"})

keywords = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=8)
numbers = st.integers(1, 30)


def test_name_is_taken_apart_at_the_last_separator() -> None:
    assert ("1.a:2,b", ":2,", "FS", "") == split_name("1.a:2,b:2,FS")


def test_names_with_the_separators_of_other_file_systems_are_understood() -> None:
    assert [("1.a", ";2,", "S", ""), ("1.a", "!2,", "", "")] == [split_name("1.a;2,S"), split_name("1.a!2,")]


def test_info_that_is_no_list_of_flags_belongs_to_the_unique_part() -> None:
    assert ("1.a:1,x", "", "", "") == split_name("1.a:1,x")


def test_exclamation_mark_inside_a_name_without_info_separates_nothing() -> None:
    assert ("1.a!2,S=5", "", "", "") == split_name("1.a!2,S=5")


def test_what_stands_behind_the_letters_is_kept_apart() -> None:
    assert ("1.a", ":2,", "S", ",x=1") == split_name("1.a:2,S,x=1")


@given(st.text(max_size=20))
def test_name_taken_apart_and_joined_is_the_same(name: str) -> None:
    assert name == "".join(split_name(name))


def test_what_looks_like_letters_but_is_none_gives_no_flags_whatever_was_read_before() -> None:
    reader = FlagsReader(TABLE)

    assert {SEEN} == reader.of("cur/1.x:2,S")
    assert NONE == reader.of("cur/2.x:1,S")
    assert NONE == reader.of("cur/3.x,S")
    assert {FLAGGED} == reader.of("cur/4.x:2,F,S")


def test_letters_are_flags_in_cur_and_in_new() -> None:
    reader = FlagsReader(TABLE)

    assert [{SEEN, "Work", "$Forwarded"}] * 2 == [reader.of("cur/1:2,PSa"), reader.of("new/1:2,PSa")]


def test_equal_letters_give_the_same_object() -> None:
    reader = FlagsReader(TABLE)

    assert reader.of("cur/1:2,RS") is reader.of("cur/2:2,RS")


def test_letters_without_a_meaning_stay_and_all_are_sorted() -> None:
    assert "DSXz" == change_letters("zXF", {SEEN, DRAFT}, {FLAGGED}, TABLE)


def test_keywords_are_compared_without_case() -> None:
    assert "a" == change_letters("", {"WORK"}, NONE, TABLE)


def test_flag_with_two_letters_gets_and_loses_both() -> None:
    table = letter_table({3: "$forwarded"})

    assert ("Pd", "") == (
        change_letters("", {"$Forwarded"}, NONE, table),
        change_letters("Pd", NONE, {"$Forwarded"}, table),
    )


def test_keywords_file_is_read_line_by_line_and_others_are_passed_over() -> None:
    assert {0: "Work", 30: "Late"} == parse_keywords(b"0 Work\nnonsense\n\n30 Late\n7\n")


def test_new_keyword_takes_the_first_letter_that_has_no_meaning_and_no_user() -> None:
    assert b"0 Work\n3 New\n" == add_keywords(b"0 Work", ["New", "work"], {"b", "c"})


def test_keyword_that_cannot_be_written_or_has_no_room_is_left_out() -> None:
    full = b"".join(b"%d k%d\n" % (n, n) for n in range(26))

    assert (full, b"") == (add_keywords(full, ["New"], ()), add_keywords(b"", ["two words", "a\nb", ""], ()))


def test_maildir_holds_any_keyword_till_26_are_used() -> None:
    some, full = maildir_holds({0: "Work"}), maildir_holds({n: f"k{n}" for n in range(26)})

    assert [True, True, False, True] == ["New" in some, "$Forwarded" in some, "New" in full, "k3" in full]


def test_flags_without_letter_are_new_keywords_only() -> None:
    assert ["New"] == without_letter({SEEN, "\\Recent", "work", "$forwarded", "New"}, TABLE)


def test_names_sort_by_the_second_of_delivery_then_by_text() -> None:
    names = ["10.b", "9.z", "odd", "10.a"]

    assert ["odd", "9.z", "10.a", "10.b"] == in_delivery_order(names)


# ---- MH --------------------------------------------------------------------------------------------------------------


@given(keywords | st.text(max_size=5) | st.sampled_from(sorted(RESERVED)) | keywords.map(lambda k: "kw" + k))
def test_every_keyword_has_a_legal_name_that_leads_back(keyword: str) -> None:
    name = sequence_name(keyword)

    assert name.isascii() & name.isalnum() & name[0].isalpha() & (name.lower() not in RESERVED)
    assert keyword == sequence_keyword(name)


@given(st.from_regex(r"\A(kw)?[A-Za-z][a-z0-9]{0,6}\Z"))
def test_sequence_that_stands_for_a_keyword_is_the_name_of_that_keyword(name: str) -> None:
    keyword = sequence_keyword(name)

    assert keyword is None or name == sequence_name(keyword)


def test_plain_keywords_are_their_own_names() -> None:
    assert ["Junk", "kwx24Forwarded", "kwunseen"] == [sequence_name(k) for k in ("Junk", "$Forwarded", "unseen")]


def test_sequences_are_read_with_ranges_folds_and_repeated_names() -> None:
    text = b"unseen: 1 3-5\ncur: 2\ntodo: 7-\n 9\nunseen: 6\n"

    assert {"unseen": [(1, 1), (3, 6)], "cur": [(2, 2)], "todo": [(9, 9)]} == parse_sequences(text)


def test_endless_range_costs_nothing() -> None:
    assert {7: frozenset({DELETED, SEEN})} == flags_by_number(parse_sequences(b"deleted: 1-99999999999999999"), [7])


def test_message_outside_unseen_is_seen() -> None:
    sequences = parse_sequences(b"unseen: 2\nflagged: 1-2\nreplied: 1\ncur: 1\nkwx24Label1: 2\n")

    assert {1: {SEEN, FLAGGED, ANSWERED}, 2: {FLAGGED, "$Label1"}} == flags_by_number(sequences, [1, 2])


def test_lines_that_do_not_change_stay_as_they_are() -> None:
    text = b"odd line\ncur:  5\ntodo: 3 2 1\nunseen: 1\n"

    assert b"odd line\ncur:  5\ntodo: 3 2 1\nunseen: 1-2\n" == edit_sequences(
        text, [SequenceChange(2, NONE, frozenset({SEEN}))]
    )


def test_blank_line_stays_between_a_sequence_and_what_looks_like_the_rest_of_it() -> None:
    """It went, and other messages were in that sequence after any change of flags. Found by fuzzing."""
    text = b"a: 1\n\n 2-99\n"

    edited = edit_sequences(text, [SequenceChange(5, frozenset({"\\Flagged"}))])

    assert text + b"flagged: 5\n" == edited


def test_cleared_numbers_leave_all_sequences_but_cur() -> None:
    text = b"cur: 5\nunseen: 4-6\ndeleted: 5\n"

    assert b"cur: 5\nunseen: 4 6\n" == edit_sequences(text, [], {5})


def test_keyword_goes_into_the_sequence_that_differs_in_case_only() -> None:
    text = b"todo: 1\n"

    assert b"todo: 1-2\n" == edit_sequences(text, [SequenceChange(2, frozenset({"ToDo"}))])


def test_flags_that_mh_does_not_know_are_passed_over() -> None:
    assert b"" == edit_sequences(b"", [SequenceChange(1, frozenset({"\\Recent"}))])


some_flags = st.frozensets(st.sampled_from([*sorted(SYSTEM), "$Label1", "Junk", "x y"]))


@given(st.dictionaries(numbers, some_flags), st.lists(st.tuples(numbers, some_flags, some_flags)), st.sets(numbers))
def test_edited_sequences_are_what_a_model_says(
    before: dict[int, Flags], changes: list[tuple[int, Flags, Flags]], cleared: set[int]
) -> None:
    model = {n: before.get(n, frozenset({SEEN})) for n in range(1, 31)}
    text = edit_sequences(b"", [SequenceChange(n, f - {SEEN}, frozenset({SEEN}) - f) for n, f in model.items()])
    model |= dict.fromkeys(cleared, frozenset({SEEN}))
    for number, add, remove in changes:
        model[number] = model[number] - remove | add

    text = edit_sequences(text, [SequenceChange(*change) for change in changes], cleared)

    assert model == flags_by_number(parse_sequences(text), sorted(model))
