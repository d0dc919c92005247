"""Channels over the same stores, and what else only the whole file tells."""

from __future__ import annotations

from itertools import combinations

import pytest

from mailsync.config import parse

STORES = "".join(f"store {name} {{ pat {name}/% prefix {name}/ }}\n" for name in "abcde")


def warnings(text: str, stores: str = STORES) -> list[str]:
    return list(parse(stores + text, "F").warnings)


def channels(*names: str) -> str:
    """Channels, each between the stores that its first two letters name."""
    return "".join(f"channel {name} {name[0]} {name[1]} {{ msinfo m }}\n" for name in names)


def rings(*names: str) -> list[str]:
    """The channels of each ring that is told, the last first."""
    return [told.partition(": channel ")[2].partition(", in which")[0] for told in warnings(channels(*names))]


def test_ring_of_three_is_told_at_the_channel_that_closes_it() -> None:
    assert [
        "F:8:9: channel 'ca': forms a ring with 'ab' and 'bc', in which changes can go round and come back; "
        "leave one out"
    ] == warnings(channels("ab", "bc", "ca"))


def test_two_channels_over_the_same_stores_are_a_ring() -> None:
    assert ["'ba': forms a ring with 'ab'"] == rings("ab", "ba")


def test_channels_in_a_row_or_around_one_store_are_no_ring() -> None:
    assert [] == rings("ab", "bc", "cd", "be")


def test_smallest_rings_are_told_and_no_larger_ones() -> None:
    assert ["'ac': forms a ring with 'ab' and 'bc'", "'ac': forms a ring with 'cd' and 'da'"] == rings(
        "ab", "bc", "cd", "da", "ac"
    )


def test_ring_of_four_is_told_where_there_is_no_smaller() -> None:
    assert ["'da': forms a ring with 'ab', 'bc' and 'cd'"] == rings("ab", "bc", "cd", "da", "ea")


def test_each_ring_is_told_once() -> None:
    assert ["'ba': forms a ring with 'ab'", "'abx': forms a ring with 'ab'"] == rings("ab", "ba", "abx")


def test_one_way_channel_is_part_of_a_ring_as_others() -> None:
    text = channels("ab", "bc") + "channel ca c a { msinfo m direction a-to-b }\n"

    assert 1 == len(warnings(text))


@pytest.mark.parametrize(
    ("one", "other", "number"),
    [
        ("exclude Lists/*", "", 0),
        ("", "exclude Lists/*", 0),
        ("maxage 1y", "", 1),
    ],
)
def test_two_channels_one_of_which_excludes_mailboxes_may_have_none_in_common(
    one: str, other: str, number: int
) -> None:
    text = f"channel x a b {{ msinfo m {one} }}\nchannel y b a {{ msinfo m {other} }}\n"

    assert number == len(warnings(text))


def test_excluded_mailboxes_do_not_hide_a_larger_ring() -> None:
    text = channels("ab", "bc") + "channel ca c a { msinfo m exclude x }\n"

    assert 1 == len(warnings(text))


SAME = "server {h/user=u} ref {h}x pat y prefix z"


@pytest.mark.parametrize(
    ("again", "is_same"),
    [
        (SAME, True),
        (f"{SAME} readonly yes create no timeout 5 passwd_cmd p", True),
        ("server {h/user=v} ref {h}x pat y prefix z", False),
        ("server {h/user=u} ref {h} pat y prefix z", False),
        ("server {h/user=u} ref {h}x pat Y prefix z", False),
        ("server {h/user=u} ref {h}x pat y", False),
        (f"{SAME} tunnel t", False),
        (f"{SAME} cert c", False),
    ],
)
def test_blocks_of_the_same_mailboxes_count_as_one_store(again: str, is_same: bool) -> None:
    stores = f"store a {{ {SAME} }} store b {{ pat b }} store c {{ {again} }}\n"

    assert [is_same] == [bool(warnings(channels("ab", "bc"), stores))]


def test_users_whose_names_commands_tell_are_not_the_same() -> None:
    stores = "store a { server {h} user_cmd x } store b { pat b } store c { server {h} user_cmd y }\n"

    assert [] == warnings(channels("ab", "bc"), stores)


def test_store_that_says_nothing_is_like_no_other() -> None:
    assert [] == warnings(channels("ab", "bc"), "store a { } store b { } store c { }\n")


def test_channel_between_two_names_of_one_store_is_told() -> None:
    stores = "store a { pat x }\nstore b { pat x }\n"

    assert ["F:3:9: channel 'ab': joins a store with itself: 'a' and 'b' have the same mailboxes"] == warnings(
        channels("ab"), stores
    )


def test_many_stores_that_are_all_joined_are_looked_through() -> None:
    pairs = list(combinations([f"s{n}" for n in range(30)], 2))
    stores = "".join(f"store s{n} {{ pat {n} }}\n" for n in range(30))
    text = "".join(f"channel {a}-{b} {a} {b} {{ msinfo m }}\n" for a, b in pairs)

    told = warnings(text, stores)

    assert all("with 's0-" in one for one in told)
    assert len(pairs) - 29 == len(told)  # each that does not begin at s0 closes a triangle with it


# ---- other -----------------------------------------------------------------------------------------------------------


def test_expunge_all_and_a_store_that_only_marks_warn() -> None:
    stores = "store a { pat a }\nstore b { pat b delete mark }\n"

    assert ["F:3:27: channel 'ab': 'expunge all' removes what store 'b' only marks"] == warnings(
        "channel ab a b { msinfo m expunge all }", stores
    )
