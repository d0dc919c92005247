"""What a configuration means, what is said of its faults, and that 5.2.7 reads old files the same way."""

from __future__ import annotations

import os
import shutil
import subprocess
from datetime import date
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailsync.config import ChannelConfig, Config, Deletion, MaxDelete, Secret, StoreConfig, Where, parse
from mailsync.errors import ConfigError
from mailsync.model import Duplicates, Side

MAILSYNC = "/usr/bin/mailsync"
PIN = "0123456789abcdef" * 4


def store(settings: str) -> StoreConfig:
    return parse(f"store s {{ {settings} }}", "F").stores["s"]


def channel(settings: str) -> ChannelConfig:
    return parse(f"store a {{ }} store b {{ }} channel c a b {{ msinfo m {settings} }}", "F").channels["c"]


def faults(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(text, "F")
    return str(caught.value)


# ---- what is read ----------------------------------------------------------------------------------------------------


def test_store_with_all_settings() -> None:
    actual = store(
        "server {h/user=u}INBOX. ref {h}x pat a pat !b prefix p passwd w "
        "format maildir++ create no fsync no readonly yes delete trash:Bin "
        'user_cmd "pass u" passwd_cmd p token_cmd t keyring yes tunnel "ssh h imapd" subscribed yes '
        f"cert c.pem key k.pem ca ~/ca pin {PIN.upper()} connections 8 compress yes timeout 5"
    )

    expected = StoreConfig(
        "s",
        server="{h/user=u}INBOX.",
        ref="{h}x",
        patterns=("a", "!b"),
        prefix="p",
        passwd=Secret("w"),
        format="maildir++",
        create=False,
        fsync=False,
        readonly=True,
        delete=Deletion(trash="Bin"),
        user_cmd="pass u",
        passwd_cmd="p",
        token_cmd="t",
        keyring=True,
        tunnel="ssh h imapd",
        subscribed=True,
        cert="c.pem",
        key="k.pem",
        ca="~/ca",
        pin=PIN,
        connections=8,
        compress="yes",
        timeout=5,
    )
    assert expected == actual


def test_channel_with_all_settings() -> None:
    actual = channel(
        "passwd w sizelimit 2M duplicates same-id expunge all max_delete 0 create a passwd_cmd p token_cmd t "
        'direction b-to-a maxage 2w since 2024-02-29 map Sent "Sent Items" map Lists/* L/* exclude x/* exclude !x/y '
        'keep_deleted 0 pre_sync "a b" post_sync c on_change d'
    )

    expected = ChannelConfig(
        "c",
        "a",
        "b",
        "m",
        passwd=Secret("w"),
        sizelimit=2 * 2**20,
        duplicates=Duplicates.SAME_ID,
        expunge_all=True,
        max_delete=MaxDelete(0),
        create=frozenset({Side.A}),
        passwd_cmd="p",
        token_cmd="t",
        direction=frozenset({Side.A}),
        maxage=14,
        since=date(2024, 2, 29),
        map=(("Sent", "Sent Items"), ("Lists/*", "L/*")),
        exclude=("x/*", "!x/y"),
        keep_deleted=0,
        pre_sync="a b",
        post_sync="c",
        on_change="d",
    )
    assert expected == actual


def test_nothing_given_means_the_defaults() -> None:
    assert (StoreConfig("s"), ChannelConfig("c", "a", "b", "m")) == (store(""), channel(""))


def test_empty_file_has_nothing() -> None:
    assert Config("F", {}, {}) == parse(" # only this", "F")


def test_ref_of_a_server_is_what_stands_in_its_braces() -> None:
    assert '{h/user="a}b"}' == store(r'server "{h/user=\"a}b\"}INBOX."').ref


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", None), ("0k", None), ("81920", 81920), ("3k", 3072), ("3K", 3072), ("2M", 2**21), ("1G", 2**30),
        ("0MB", None), ("3kB", 3072), ("3KB", 3072), ("3KiB", 3072), ("2MB", 2**21), ("2MiB", 2**21), ("1GB", 2**30),
        ("1GiB", 2**30),
    ],
)  # fmt: skip
def test_sizelimit_counts_in_powers_of_1024(text: str, expected: int | None) -> None:
    assert expected == channel(f"sizelimit {text}").sizelimit


@pytest.mark.parametrize(
    ("text", "expected"),
    [("0", None), ("0y", None), ("7", 7), ("7d", 7), ("2w", 14), ("3m", 90), ("1y", 365), ("1000y", 365_000)],
)
def test_age_counts_in_days_weeks_months_and_years(text: str, expected: int | None) -> None:
    assert (expected, expected or 0) == (
        channel(f"maxage {text}").maxage,
        channel(f"keep_deleted {text}").keep_deleted,
    )


@pytest.mark.parametrize(
    ("text", "seen", "expected"),
    [("50", 10, 50), ("0", 10, 0), ("10%", 1009, 100), ("10%", 9, 0), ("100%", 7, 7), ("0%", 7, 0)],
)
def test_max_delete_is_a_number_or_a_part_of_what_is_remembered(text: str, seen: int, expected: int) -> None:
    found = channel(f"max_delete {text}").max_delete

    assert (text, expected) == (str(found), found.of(seen))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("expunge", Deletion()),
        ("mark", Deletion(mark=True)),
        ("trash:[Gmail]/Trash", Deletion(trash="[Gmail]/Trash")),
        ('"trash:Deleted Items"', Deletion(trash="Deleted Items")),
        ("trash:a:b", Deletion(trash="a:b")),
    ],
)
def test_store_says_what_a_deletion_is(text: str, expected: Deletion) -> None:
    assert expected == store(f"delete {text}").delete


@pytest.mark.parametrize(
    ("word", "expected"),
    [("both", set(Side)), ("a-to-b", {Side.B}), ("b-to-a", {Side.A})],
)
def test_direction_says_which_sides_are_changed(word: str, expected: set[Side]) -> None:
    assert expected == channel(f"direction {word}").direction


def test_fingerprint_may_have_colons() -> None:
    colons = ":".join(PIN[n : n + 2] for n in range(0, 64, 2))

    assert PIN == store(f"server {{h}} pin {colons}").pin


@pytest.mark.parametrize(
    ("word", "expected"),
    [("a", {Side.A}), ("b", {Side.B}), ("both", set(Side)), ("none", set())],
)
def test_channel_says_on_which_sides_mailboxes_are_made(word: str, expected: set[Side]) -> None:
    assert expected == channel(f"create {word}").create


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("passwd_cmd p", "'passwd_cmd' does nothing without a 'server'"),
        ("compress no", "'compress' does nothing without a 'server'"),
        ("timeout 9", "'timeout' does nothing without a 'server'"),
        ("readonly yes delete mark", "'delete' does nothing, because the store is read only"),
        ("server {h/readonly} delete mark", "'delete' does nothing, because the store is read only"),
        ("server {h} passwd p passwd_cmd p", "'passwd_cmd' is not used, because 'passwd' is there"),
        ("server {h} keyring yes passwd_cmd p", "'keyring' is not used, because 'passwd_cmd' is there"),
        ("server {h} token_cmd t passwd_cmd p", "'passwd_cmd' is not used, because 'token_cmd' is there"),
        ("server {h/user=u} user_cmd u", "'user_cmd' is not used, because 'server' names the user"),
        (f"server {{h}} ca c pin {PIN}", "'ca' is not used, because 'pin' trusts that one certificate alone"),
        (
            "server {h/norsh}",
            "'/norsh' does nothing: a server is never reached through rsh or ssh unless a tunnel is set",
        ),
    ],
)
def test_setting_that_is_not_used_warns(settings: str, expected: str) -> None:
    (warning,) = parse(f"store s {{ {settings} }}", "F").warnings

    assert f"store 's': {expected}" == warning.partition(": ")[2]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("msinfo m passwd_cmd p", "'passwd_cmd' does nothing, because 'msinfo' is not on a server"),
        ("msinfo {h}m token_cmd t passwd_cmd p", "'passwd_cmd' is not used, because 'token_cmd' is there"),
        ("msinfo m create a direction a-to-b", "'create' does nothing, because 'direction' does not change that store"),
        ("msinfo m exclude !x", "'exclude' does nothing: what '!' takes away must have been excluded before"),
        (
            "msinfo m maxage 1y since 2024-01-31",
            "'since' and 'maxage' are both there: what is copied must be as young as both say",
        ),
    ],
)
def test_setting_that_is_not_used_in_a_channel_warns(settings: str, expected: str) -> None:
    (warning,) = parse(f"store a {{ }} store b {{ }} channel c a b {{ {settings} }}", "F").warnings

    assert f"channel 'c': {expected}" == warning.partition(": ")[2]


@pytest.mark.parametrize("ref", ["{h}", "{H/user=x}INBOX.", "{h:143}", "INBOX."])
def test_ref_of_the_same_server_is_taken(ref: str) -> None:
    assert ref == store(f"server {{h/user=u}} ref {ref}").ref


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("a/%#x", "a/%#x"),
        (r"\#mh/x", "#mh/x"),
        (r"a\ b", "a b"),
        ("a\\\nb", "a\nb"),
        (r"a\\b", r"a\b"),
        (r"\}", "}"),
        ('"}"', "}"),
        ("{h/user=x}", "{h/user=x}"),
        ("{}", "{}"),
        ('"a b # } c"', "a b # } c"),
        (r'"a\"b\\c"', r'a"b\c'),
        ('""', ""),
        (r"\"a", '"a'),
        ('a"b', 'a"b'),
        ("x" * 5000, "x" * 5000),
        ("a\u00a0b", "a\u00a0b"),
        ("\udcff\0\x1b", "\udcff\0\x1b"),
        ("#comment } \n# another\n a", "a"),
    ],
)
def test_value_is_one_token(written: str, expected: str) -> None:
    assert expected == store(f"prefix {written}").prefix


@pytest.mark.parametrize("blank", ["\r\n", "\t", "\v", "\f", "\n\n", " #x\n"])
def test_any_white_space_divides(blank: str) -> None:
    actual = parse(blank.join(["store", "a", "{", "pat", "x", "}", "store", "b", "{", "}"]), "F").stores

    assert {"a": StoreConfig("a", patterns=("x",)), "b": StoreConfig("b")} == actual


def test_channel_may_come_before_its_stores() -> None:
    assert ["c"] == list(parse("channel c a b { msinfo m } store a { } store b { }", "F").channels)


def test_place_of_a_name_is_known() -> None:
    config = parse("\n\tstore a { }\nstore b { }\nchannel \\\nc a b { msinfo x }", "F")

    assert [Where(2, 8), Where(3, 7), Where(4, 9)] == [
        config.stores["a"].where,
        config.stores["b"].where,
        config.channels["\nc"].where,
    ]


def test_setting_given_again_replaces_and_warns() -> None:
    config = parse("store a {\n prefix x\n prefix y }", "F")

    assert "y" == config.stores["a"].prefix
    assert ("F:3:2: 'prefix' is given again in store 'a'; the last one holds",) == config.warnings


def test_patterns_add_up_and_warn_once() -> None:
    config = parse("store a {\n pat x\n pat !y\n pat z }", "F")

    assert ("x", "!y", "z") == config.stores["a"].patterns
    assert ("F:4:2: store 'a': 3 patterns add up; mailsync 5.2.7 used only the last",) == config.warnings


def test_password_shows_itself_only_when_asked() -> None:
    config = parse("store a { passwd hunter2 }", "F")

    secret = config.stores["a"].passwd
    assert secret is not None
    assert "hunter2" == secret.reveal()
    assert "hunter2" not in f"{config!r} {secret} {secret!r}"


# ---- groups ----------------------------------------------------------------------------------------------------------

THREE = "".join(f"channel {name} a b {{ msinfo m }}\n" for name in ("mail", "work", "store"))


def groups(text: str) -> dict[str, tuple[str, ...]]:
    return dict(parse(f"{TWO}{THREE}{text}", "F").groups)


@pytest.mark.parametrize(
    "text",
    [
        "group g { mail work }",
        "group g {\n\tmail # first\n\twork\n}",
        "group g mail work",
        "group g mail\n\t work # no more\n",
        "group g\nmail\nwork\nstore x { }",
        "group g mail work\nchannel x a b { msinfo m }",
    ],
)
def test_group_is_written_with_braces_or_up_to_the_next_block(text: str) -> None:
    assert {"g": ("mail", "work")} == groups(text)


def test_group_without_braces_ends_where_the_next_begins() -> None:
    assert {"g": ("mail", "work"), "h": ("work",)} == groups("group g mail work\n  group h work")


def test_word_for_a_block_is_a_name_where_it_does_not_begin_a_line() -> None:
    expected = {"g": ("mail", "store")}

    assert [expected] * 3 == [
        groups("group g mail store\nstore x { }"),
        groups("group g { mail store }"),
        groups('group g {\nmail\n"store" }'),
    ]


def test_group_may_come_before_its_channels() -> None:
    assert {"g": ("mail",)} == parse(f"group g {{ mail }} {TWO} channel mail a b {{ msinfo m }}", "F").groups


def test_group_in_a_group_stands_for_its_channels_each_of_them_once() -> None:
    actual = groups("group all some work store\ngroup some work mail\ngroup few { some }")

    assert {"all": ("work", "mail", "store"), "some": ("work", "mail"), "few": ("work", "mail")} == actual
    assert ["all", "some", "few"] == list(actual)


def test_group_in_a_thousand_groups_is_found() -> None:
    text = "".join(f"group g{n} {{ g{n + 1} }}\n" for n in range(1000)) + "group g1000 { mail }"

    assert ("mail",) == groups(text)["g0"]


def test_group_may_hold_a_channel_that_cannot_be_read() -> None:
    assert "F:3:27: found 'x', expected a setting" in faults(f"{TWO}channel c a b {{ msinfo m  x }}\ngroup g {{ c }}")


# ---- faults ----------------------------------------------------------------------------------------------------------

TWO = "store a { }\nstore b { }\n"
CHANNEL = "channel mail a b { msinfo m } channel work b a { msinfo m }\n"
BAD = {
    "unknown setting": (
        "store a {\n  servr x\n}\n",
        "F:2:3: found 'servr', expected a setting or '}'; did you mean 'server'?\n  servr x\n  ^",
    ),
    "setting in capitals": (
        "store a { PAT x }",
        "F:1:11: found 'PAT', expected a setting or '}'; did you mean 'pat'?\nstore a { PAT x }\n          ^",
    ),
    "setting of the other kind": (
        "store a { msinfo x }",
        "F:1:11: found 'msinfo', expected a setting or '}'; 'msinfo' is a setting of a channel\n"
        "store a { msinfo x }\n          ^",
    ),
    "nothing like a setting": (
        "store a { foo }",
        "F:1:11: found 'foo', expected a setting or '}'\nstore a { foo }\n          ^",
    ),
    "value with a blank": (
        "store a {\n\tpat Old mail\n}",
        "F:2:10: found 'mail', expected a setting or '}'; a value that holds blanks is written in quotes\n"
        "\tpat Old mail\n\t        ^",
    ),
    "value forgotten": (
        "store a {\n\tpat }\n",
        "F:2:6: found '}', expected a value for 'pat'; a brace as a value is written '\\}'\n\tpat }\n\t    ^",
    ),
    "opening brace as a value": (
        "store a { pat { }",
        "F:1:15: found '{', expected a value for 'pat'; a brace as a value is written '\\{'\n"
        "store a { pat { }\n              ^",
    ),
    "value became a comment": (
        "store a {\r\n pat #mh/x\r\n}\r\n",
        "F:3:1: found '}', expected a value for 'pat'; a value that begins with '#' is written '\\#'\n}\n^",
    ),
    "store without a name": (
        "store {\n}",
        "F:1:7: found '{', expected a name for the store\nstore {\n      ^",
    ),
    "brace as a name": (
        "store } { }",
        "F:1:7: found '}', expected a name for the store\nstore } { }\n      ^",
    ),
    "empty name": (
        'store "" { }',
        'F:1:7: found an empty name, expected a name for the store\nstore "" { }\n      ^',
    ),
    "channel with one store": (
        "channel c a { msinfo m }",
        "F:1:13: found '{', expected the name of its second store\nchannel c a { msinfo m }\n            ^",
    ),
    "brace glued to a name": (
        "store a{ pat x }",
        "F:1:10: found 'pat', expected '{'; a blank must stand before '{'\nstore a{ pat x }\n         ^",
    ),
    "comment glued to a brace": (
        "store a { pat x }#y",
        "F:1:17: found '}#y', expected a setting or '}'; a blank must stand behind '}'\n"
        "store a { pat x }#y\n                ^",
    ),
    "not closed before the next block": (
        "store a {\n pat x\nstore b { }",
        "F:3:1: found 'store', expected a setting or '}'; store 'a' of line 1 is not closed\nstore b { }\n^",
    ),
    "not closed at the end": (
        "\nstore a {\n pat x\n# bye\n\n",
        "F:4:6: found the end of the file, expected a setting or '}'; store 'a' of line 2 is not closed\n# bye\n     ^",
    ),
    "end after a word": (
        "store",
        "F:1:6: found the end of the file, expected a name for the store\nstore\n     ^",
    ),
    "no block": (
        "stor a { }",
        "F:1:1: found 'stor', expected 'store', 'channel' or 'group'; did you mean 'store'?\nstor a { }\n^",
    ),
    "brace too many": (
        "store a { }\n}\n",
        "F:2:1: found '}', expected 'store', 'channel' or 'group'\n}\n^",
    ),
    "quote not closed": (
        'store a { pat "x }\n}',
        "F:1:15: found a quote that is not closed, or has text behind it, expected a value for 'pat'\n"
        'store a { pat "x }\n              ^',
    ),
    "text behind a quote": (
        'store a { pat "x"y }',
        "F:1:15: found a quote that is not closed, or has text behind it, expected a value for 'pat'\n"
        'store a { pat "x"y }\n              ^',
    ),
    "name used twice": (
        f"{TWO}channel a a b {{ msinfo m }}",
        "F:3:9: found the name 'a' again, expected another; store 'a' is at F:1:7\n"
        "channel a a b { msinfo m }\n        ^",
    ),
    "store that is not there": (
        f"{TWO}channel c a bb {{ msinfo m }}",
        "F:3:13: found 'bb', which is not defined, expected the name of a store; did you mean 'b'?\n"
        "channel c a bb { msinfo m }\n            ^",
    ),
    "channel as a store": (
        f"{TWO}channel c a b {{ msinfo m }}\nchannel x a c {{ msinfo m }}",
        "F:4:13: found 'c', a channel, expected the name of a store\nchannel x a c { msinfo m }\n            ^",
    ),
    "same store twice": (
        f"{TWO}channel c a a {{ msinfo m }}",
        "F:3:13: found store 'a' twice in channel 'c', expected two different stores\n"
        "channel c a a { msinfo m }\n            ^",
    ),
    "no msinfo": (
        f"{TWO}channel c a b {{ }}",
        "F:3:9: found no 'msinfo' in channel 'c', expected one, such as 'msinfo .msinfo'\nchannel c a b { }\n        ^",
    ),
    "empty msinfo": (
        f'{TWO}channel c a b {{ msinfo "" }}',
        'F:3:25: found nothing, expected a mailbox\nchannel c a b { msinfo "" }\n                        ^',
    ),
    "msinfo of a mark only": (
        f"{TWO}channel c a b {{ msinfo \\#mh/ }}",
        "F:3:24: found '#mh/', expected the name of a mailbox after it\n"
        "channel c a b { msinfo \\#mh/ }\n                       ^",
    ),
    "neither yes nor no": (
        "store a { create true }",
        "F:1:18: found 'true', expected yes or no\nstore a { create true }\n                 ^",
    ),
    "key without its certificate": (
        "store a { server {h} key k }",
        "F:1:22: found 'key' without 'cert', expected both or none\nstore a { server {h} key k }\n"
        "                     ^",
    ),
    "tunnel that should be encrypted": (
        "store a { server {h/ssl} tunnel t }",
        "F:1:26: found 'tunnel' and '/ssl', expected only one: a tunnel speaks plain IMAP\n"
        "store a { server {h/ssl} tunnel t }\n                         ^",
    ),
    "ref of another server": (
        "store a { server {h} ref {other} }",
        "F:1:22: found another server than that of 'server', expected the same\n"
        "store a { server {h} ref {other} }\n                     ^",
    ),
    "ref of another port": (
        "store a { server {h/ssl} ref {h:143} }",
        "F:1:26: found another server than that of 'server', expected the same\n"
        "store a { server {h/ssl} ref {h:143} }\n                         ^",
    ),
    "ref that is none": (
        "store a { server {h} ref {h/x} }",
        "F:1:22: found '/x', expected a switch that is known\nstore a { server {h} ref {h/x} }\n                     ^",
    ),
    "fingerprint that is too short": (
        "store a { server {h} pin ab:cd }",
        "F:1:26: found 'ab:cd', expected the SHA-256 fingerprint of a certificate: 64 hexadecimal digits, with or"
        " without colons\nstore a { server {h} pin ab:cd }\n                         ^",
    ),
    "compression that is none": (
        "store a { server {h} compress deflate }",
        "F:1:31: found 'deflate', expected auto, yes or no\n"
        "store a { server {h} compress deflate }\n                              ^",
    ),
    "too many connections": (
        "store a { server {h} connections 9 }",
        "F:1:34: found '9', expected a number of connections, from 1 to 8\n"
        "store a { server {h} connections 9 }\n                                 ^",
    ),
    "no time at all": (
        "store a { server {h} timeout 0 }",
        "F:1:30: found '0', expected a number of seconds, at least 1\n"
        "store a { server {h} timeout 0 }\n                             ^",
    ),
    "unknown side": (
        f"{TWO}channel c a b {{ msinfo m create here }}",
        "F:3:33: found 'here', expected a, b, both or none\n"
        "channel c a b { msinfo m create here }\n                                ^",
    ),
    "unknown direction": (
        f"{TWO}channel c a b {{ msinfo m direction a-b }}",
        "F:3:36: found 'a-b', expected both, a-to-b or b-to-a; did you mean 'a-to-b'?\n"
        "channel c a b { msinfo m direction a-b }\n                                   ^",
    ),
    "unknown kind of deletion": (
        "store a { delete expung }",
        "F:1:18: found 'expung', expected expunge, mark or trash:MAILBOX; did you mean 'expunge'?\n"
        "store a { delete expung }\n                 ^",
    ),
    "trash without a colon": (
        "store a { delete trash }",
        "F:1:18: found 'trash', expected expunge, mark or trash:MAILBOX; did you mean 'trash:'?\n"
        "store a { delete trash }\n                 ^",
    ),
    "trash without a name": (
        "store a { delete trash: }",
        "F:1:18: found 'trash:', expected the name of a mailbox after it\n"
        "store a { delete trash: }\n                 ^",
    ),
    "unit that is none": (
        f"{TWO}channel c a b {{ msinfo m maxage 2h }}",
        "F:3:33: found '2h', expected a number of days, or one with w, m or y behind it, up to 1000y\n"
        "channel c a b { msinfo m maxage 2h }\n                                ^",
    ),
    "age before all dates": (
        f"{TWO}channel c a b {{ msinfo m maxage 1001y }}",
        "F:3:33: found '1001y', expected a number of days, or one with w, m or y behind it, up to 1000y\n"
        "channel c a b { msinfo m maxage 1001y }\n                                ^",
    ),
    "date in another order": (
        f"{TWO}channel c a b {{ msinfo m since 31.1.2024 }}",
        "F:3:32: found '31.1.2024', expected a date as year-month-day, such as 2024-01-31\n"
        "channel c a b { msinfo m since 31.1.2024 }\n                               ^",
    ),
    "day that is none": (
        f"{TWO}channel c a b {{ msinfo m since 2023-02-29 }}",
        "F:3:32: found '2023-02-29', expected a day that there is\n"
        "channel c a b { msinfo m since 2023-02-29 }\n                               ^",
    ),
    "more than all": (
        f"{TWO}channel c a b {{ msinfo m max_delete 101% }}",
        "F:3:37: found '101%', expected a number of messages, or a percentage up to 100%\n"
        "channel c a b { msinfo m max_delete 101% }\n                                    ^",
    ),
    "second value forgotten": (
        f"{TWO}channel c a b {{ msinfo m map Sent }}",
        "F:3:35: found '}', expected a second value for 'map'; a brace as a value is written '\\}'\n"
        "channel c a b { msinfo m map Sent }\n                                  ^",
    ),
    "second value became a comment": (
        f"{TWO}channel c a b {{ msinfo m\n map Sent #x\n}}",
        "F:5:1: found '}', expected a second value for 'map'; a value that begins with '#' is written '\\#'\n}\n^",
    ),
    "second value forgotten before another setting": (
        f"{TWO}channel c a b {{ msinfo m\n map Sent\n sizelimit 3\n}}",
        "F:5:2: found 'sizelimit', expected a second value for 'map'\n sizelimit 3\n ^",
    ),
    "third value": (
        f"{TWO}channel c a b {{ msinfo m map Old mail Sent }}",
        "F:3:39: found 'Sent', expected a setting or '}'; a value that holds blanks is written in quotes\n"
        "channel c a b { msinfo m map Old mail Sent }\n                                      ^",
    ),
    "lines of map that cannot be meant": (
        f"{TWO}channel c a b {{ msinfo m\n map Sent ../x\n map a* b\n map x y map z y\n}}",
        'F:4:11: found a name that no mailbox can have: ../x: "." and ".." are no names\n map Sent ../x\n          ^\n'
        "F:5:9: found 'b' for 'a*', expected a '*' in both or in none\n map a* b\n        ^\n"
        "F:6:16: found 'y' again on this side, expected another name\n map x y map z y\n               ^",
    ),
    "map of a name that a server writes otherwise": (
        "store a { server {h} } store b { }\nchannel c a b { msinfo m map x y map inbox z map u Inbox }",
        "F:2:38: found 'inbox', expected 'INBOX' on a server\n"
        "channel c a b { msinfo m map x y map inbox z map u Inbox }\n                                     ^",
    ),
    "unknown format": (
        "store a { format Maildir }",
        "F:1:18: found 'Maildir', expected maildir, maildir++, mbox or mh; did you mean 'maildir'?\n"
        "store a { format Maildir }\n                 ^",
    ),
    "unknown rule for duplicates": (
        f"{TWO}channel c a b {{ msinfo m duplicates sameid }}",
        "F:3:37: found 'sameid', expected identical, same-id or keep; did you mean 'same-id'?\n"
        "channel c a b { msinfo m duplicates sameid }\n                                    ^",
    ),
    "unknown rule for expunge": (
        f"{TWO}channel c a b {{ msinfo m expunge yes }}",
        "F:3:34: found 'yes', expected seen or all\n"
        "channel c a b { msinfo m expunge yes }\n                                 ^",
    ),
    "unit in lower case": (
        f"{TWO}channel c a b {{ msinfo m sizelimit 10m }}",
        "F:3:36: found '10m', expected a number of bytes, or one with k, M or G behind it\n"
        "channel c a b { msinfo m sizelimit 10m }\n                                   ^",
    ),
    "number below zero": (
        f"{TWO}channel c a b {{ msinfo m max_delete -1 }}",
        "F:3:37: found '-1', expected a number of messages, or a percentage up to 100%\n"
        "channel c a b { msinfo m max_delete -1 }\n                                    ^",
    ),
    "unknown switch": (
        "store a { server {h/sssl} }",
        "F:1:20: found '/sssl', expected a switch that is known; did you mean '/ssl'?\n"
        "store a { server {h/sssl} }\n                   ^",
    ),
    "unknown switch behind escapes": (
        'store a {\n\tserver "{h/user=\\"a b\\"/sssl}" }',
        "F:2:25: found '/sssl', expected a switch that is known; did you mean '/ssl'?\n"
        '\tserver "{h/user=\\"a b\\"/sssl}" }\n\t                       ^',
    ),
    "server that is none": (
        "store a { server Mail/ }",
        "F:1:18: found 'Mail/', expected '{host}'; a store on this machine has no 'server', only 'pat'\n"
        "store a { server Mail/ }\n                 ^",
    ),
    "control characters": (
        "store a { \x1b[2J\udcff }",
        "F:1:11: found '?[2J?', expected a setting or '}'\nstore a { ?[2J? }\n          ^",
    ),
    "long line": (
        f"store {'a' * 200} {{ foo {'b' * 200} }}",
        f"F:1:210: found 'foo', expected a setting or '}}'\n...{'a' * 84} {{ foo {'b' * 83}...\n{' ' * 90}^",
    ),
    "group without a name": (
        "group { a }",
        "F:1:7: found '{', expected a name for the group\ngroup { a }\n      ^",
    ),
    "empty group": (
        "group g { }",
        "F:1:7: found nothing in group 'g', expected the name of a channel\ngroup g { }\n      ^",
    ),
    "empty group without braces": (
        "group g\nstore a { }",
        "F:2:1: found 'store', expected '{' or the name of a channel\nstore a { }\n^",
    ),
    "group of what is not there": (
        f"{TWO}{CHANNEL}group g {{ mail wrk }}",
        "F:4:16: found 'wrk', which is not defined, expected the name of a channel or a group; did you mean 'work'?\n"
        "group g { mail wrk }\n               ^",
    ),
    "group of stores": (
        f"{TWO}{CHANNEL}group g mail b",
        "F:4:14: found 'b', a store, expected the name of a channel or a group\ngroup g mail b\n             ^",
    ),
    "group as a store": (
        f"{TWO}{CHANNEL}group g mail\nchannel c a g {{ msinfo m }}",
        "F:5:13: found 'g', a group, expected the name of a store\nchannel c a g { msinfo m }\n            ^",
    ),
    "block in the line of a group": (
        f"{TWO}{CHANNEL}group g mail store {{ }}",
        "F:4:14: found 'store', which is not defined, expected the name of a channel or a group; behind a group without"
        " braces the next block must begin a line\ngroup g mail store { }\n             ^\n"
        "F:4:20: found '{', expected 'store', 'channel' or 'group'\ngroup g mail store { }\n                   ^",
    ),
    "channel twice in a group": (
        f"{TWO}{CHANNEL}group g {{ mail work mail }}",
        "F:4:21: found 'mail' again in group 'g', expected each name once\n"
        "group g { mail work mail }\n                    ^",
    ),
    "group of the name of a store": (
        f"{TWO}{CHANNEL}group a {{ mail }}",
        "F:4:7: found the name 'a' again, expected another; store 'a' is at F:1:7\ngroup a { mail }\n      ^",
    ),
    "group in itself": (
        f"{TWO}{CHANNEL}group g {{ g mail }}",
        "F:4:11: found group 'g', which holds 'g' itself, expected groups that form no ring\n"
        "group g { g mail }\n          ^",
    ),
    "groups that form a ring": (
        f"{TWO}{CHANNEL}group g {{ h mail }}\ngroup h {{ i work }}\ngroup i {{ g }}",
        "F:6:11: found group 'g', which holds 'i' itself, expected groups that form no ring\n"
        "group i { g }\n          ^",
    ),
    "group not closed before the next block": (
        f"{TWO}group g {{\n mail\nchannel mail a b {{ msinfo m }}",
        "F:5:1: found 'channel', expected the name of a channel or '}'; group 'g' of line 3 is not closed\n"
        "channel mail a b { msinfo m }\n^",
    ),
    "group not closed at the end": (
        "group g {",
        "F:1:10: found the end of the file, expected the name of a channel or '}'; group 'g' of line 1 is not closed\n"
        "group g {\n         ^",
    ),
    "brace in a group": (
        "group g { {",
        "F:1:11: found '{', expected the name of a channel or '}'\ngroup g { {\n          ^",
    ),
    "several blocks, several faults": (
        "store a { foo bar baz }\nstore b { create 1 fsync 2 } stroe c { }\n"
        "channel x a c { }\nchannel y z b { msinfo {h }",
        "F:1:11: found 'foo', expected a setting or '}'\nstore a { foo bar baz }\n          ^\n"
        "F:2:18: found '1', expected yes or no\nstore b { create 1 fsync 2 } stroe c { }\n                 ^\n"
        "F:2:26: found '2', expected yes or no\nstore b { create 1 fsync 2 } stroe c { }\n"
        "                         ^\n"
        "F:2:30: found 'stroe', expected 'store', 'channel' or 'group'; did you mean 'store'?\n"
        "store b { create 1 fsync 2 } stroe c { }\n                             ^\n"
        "F:3:9: found no 'msinfo' in channel 'x', expected one, such as 'msinfo .msinfo'\n"
        "channel x a c { }\n        ^\n"
        "F:4:11: found 'z', which is not defined, expected the name of a store\n"
        "channel y z b { msinfo {h }\n          ^\n"
        "F:4:26: found the end of the name, expected '}' after the server\n"
        "channel y z b { msinfo {h }\n                         ^",
    ),
}


@pytest.mark.parametrize(("text", "expected"), BAD.values(), ids=BAD.keys())
def test_fault_is_told(text: str, expected: str) -> None:
    assert expected == faults(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("store a { server {h/sssl} passwd hunter2 }", "store a { server {h/sssl} passwd *** }"),
        ("store a { passwd hunter2 foo }", "store a { passwd *** *** }"),
        ("store a { passwd hunter2\n foo }", " foo }"),
        ("store a { passwd hunter2 server x }", "store a { passwd *** server x }"),
        ("store a { passwd my hunter2 }", "store a { passwd *** *** }"),
        ('store a { passwd "my hunter2 }', "store a { passwd *** *** }"),
        ('store a { passwd "my hunter2"x pat }', "store a { passwd *** *** pat }"),
        ("store a { passwd\nhunter2 foo\n}", "*** ***"),
        ("store a { passwd my\\\nhunter2 foo\n}", "*** ***"),
        ("store a { password hunter2 }", "store a { password *** }"),
        ("store a { Passwd hunter2 }", "store a { Passwd *** }"),
        ("store a { pasword hunter2 }", "store a { pasword *** }"),
        ("store a { psswd hunter2 }", "store a { psswd *** }"),
        ("store a { foo } # passwd hunter2", "store a { foo } #***"),
        ("passwd hunter2", "passwd ***"),
        ("channel c a b { passwd hunter2 }", "channel c a b { passwd *** }"),
    ],
)
def test_no_fault_shows_a_password(text: str, line: str) -> None:
    told = faults(text)

    assert line in told.splitlines()
    assert "hunter" not in told


def test_command_of_several_words_without_quotes_is_shown() -> None:
    assert (
        "F:1:26: found '-d', expected a setting or '}'; a value that holds blanks is written in quotes\n"
        "store a { passwd_cmd gpg -d x }\n"
        "                         ^"
    ) == faults("store a { passwd_cmd gpg -d x }")


def test_caret_stands_below_the_word_although_a_password_is_hidden_before_it() -> None:
    told = faults("store a { passwd hunter2 server x }")

    _, line, caret = told.splitlines()
    assert line.index("x }") == caret.index("^")


def test_many_faults_are_cut() -> None:
    told = faults("store a { x }\n" * 5000)

    assert 100 == told.count("^")


def test_many_wrong_values_are_cut() -> None:
    told = faults("store a { " + "create x " * 500 + "}")

    assert (100, "and 400 more faults") == (told.count("^"), told.splitlines()[-1])


def test_two_thousand_lines_are_read() -> None:
    text = "".join(f"# {n}\nstore s{n} {{\n\tserver {{h/user=x}}\n\tpat a/%\n}}\n" for n in range(400))

    assert 400 == len(parse(text, "F").stores)


# ---- any text --------------------------------------------------------------------------------------------------------

VALID = """\
# example
store a {
\tserver {imap.example.org/user="j d"/ssl}
\tref {imap.example.org}  pat "INBOX sync" passwd \\#x\\ y
}
store b { format maildir prefix Mail/ }
channel c a b {
\tmsinfo \\#mh/x sizelimit 10k # why
\tmap a/* b/*
}
group g c
group h { g }
"""
SNIPPETS = st.sampled_from(
    [
        "store",
        "channel",
        "group",
        "a",
        "b",
        "{",
        "}",
        " ",
        "\n",
        "\t",
        "#",
        '"',
        "\\",
        "pat",
        "server",
        "passwd",
        "msinfo",
        "map",
        "{h/",
    ]
)


def read_or_refused(text: str) -> None:
    try:
        config = parse(text, "F")
    except ConfigError as err:
        assert str(err).startswith("F:")
    else:
        names = [*config.stores, *config.channels, *config.groups]
        assert len(set(names)) == len(names)
        assert all(set(channels) <= config.channels.keys() for channels in config.groups.values())


@given(st.text(st.characters(codec=None)) | st.lists(SNIPPETS).map("".join) | st.lists(SNIPPETS).map(" ".join))
@example("store a { pat x\\")
@example("store a { prefix \\")
@example("\\")
@example('"')
@example("store store store { }")
def test_any_text_is_read_or_refused(text: str) -> None:
    read_or_refused(text)


@given(st.integers(0, len(VALID)), st.integers(0, 12), SNIPPETS | st.text(max_size=3))
def test_any_damage_is_read_or_refused(at: int, length: int, put: str) -> None:
    read_or_refused(VALID[:at] + put + VALID[at + length :])


@pytest.mark.parametrize("piece", ["\\", '"', "#", "{", "}", "a", " ", "\n", "store ", "} store ", '" ', "#\n", "{h/"])
def test_long_monotonous_text_is_refused_in_bounded_time(piece: str) -> None:
    read_or_refused(piece * (100_000 // len(piece)))
    read_or_refused("store a { server " + piece * (100_000 // len(piece)))


# ---- files of 5.2.7 --------------------------------------------------------------------------------------------------

OLD = {
    "cyrus, uw and a directory": """\
store kolab {
	server	{imap.example.edu/user=jane}
	ref	{imap.example.edu}
	pat	INBOX.sync.%
	prefix	INBOX.sync.
	passwd  geheim
}
store uw {
	server	{imap.cs.example.edu/user=jane}
	ref	{imap.cs.example.edu}
	pat	sync/%
	prefix	sync/
}
store here {
	pat	Mail/%
	prefix	Mail/
}
channel here-kolab here kolab {
	msinfo	.msinfo
}
channel uw-kolab uw kolab {
	msinfo	{imap.cs.example.edu/user=jane}msinfo
	passwd geheim
	sizelimit 81920
}
""",
    "mark inside a word": "store a { pat a/%#x }\n",
    "mark at the begin, escaped": "store a { pat \\#mh/x prefix \\#mh/ }\n",
    "comments": "# store x {\nstore a { # pat y }\n pat z #}\n}\n#end",
    "escaped blanks": "store a\\ b { pat Old\\ mail\\\tx }\n",
    "escaped line end": "store a { pat x\\\ny }\n",
    "escaped backslash and quote": 'store a { pat x\\\\y prefix x"y" }\n',
    "escaped brace": "store \\{ { pat \\} }\n",
    "braces inside words": "store a { pat {}x prefix }{ }\n",
    "line ends of other systems": "store a {\r\n\tpat x\r\n}\r\n",
    "vertical tab and form feed": "store a {\vpat\fx }\n",
    "all on one line": "store a { } store b { } channel c a b { msinfo x }",
    "no line end at the end": "store a { pat x\n}",
    "empty store": "store a { }\n",
    "nothing": "",
    "again": "store a { prefix x prefix y }\n",
    "names that look like words": "store pat { pat store } store msinfo { }\n",
    "unknown setting": "store a { path x }\n",
    "wrong case": "Store a { }\n",
    "setting of the other kind": "channel c a b { msinfo x pat y }\n",
    "no msinfo": "store a { } store b { } channel c a b { sizelimit 5 }\n",
    "name twice": "store a { } store a { }\n",
    "brace glued to the name": "store a{ pat x }\n",
    "comment glued to the brace": "store a { pat x }#y\n",
    "not closed": "store a { pat x\n",
    "comment eats the value": "store a {\n pat #mh/x\n}\n",
    "no name": "store { }\n",
    "escaped carriage return": "store a { pat x\\\r\ny }\n",
}


@pytest.mark.skipif(not shutil.which(MAILSYNC), reason="mailsync 5.2.7 is not installed")
@pytest.mark.parametrize("text", OLD.values(), ids=OLD.keys())
def test_old_program_reads_the_same(text: str, tmp_path: Path) -> None:
    """The tokens that `-dc` shows, put together by the rules of 5.2.7, are what we read; what it refuses, so do we."""
    path = tmp_path / "config"
    path.write_bytes(text.encode())
    done = subprocess.run(
        [MAILSYNC, "-dc", "-f", str(path), "no such name"],
        capture_output=True,
        text=True,
        env={**os.environ, "HOME": str(tmp_path), "USER": "x"},
    )
    head, ok, _ = done.stdout.partition("\n End parsing config. Config is OK")
    tokens = head.partition("\n\n\t")[2].removesuffix("\n\t").split("\n\t")

    try:
        config = parse(text, "F")
    except ConfigError:
        assert not ok
    else:
        assert ok
        assert understood(tokens) == shown(config)


def understood(tokens: list[str]) -> list[tuple[str, ...]]:
    """Blocks and settings of a list of tokens that 5.2.7 took."""
    found: list[tuple[str, ...]] = []
    todo = iter(token for token in tokens if token)
    for kind in todo:
        names = [next(todo) for _ in range(1 if kind == "store" else 3)]
        next(todo)
        settings: dict[str, str] = {}
        while (key := next(todo)) != "}":
            settings[key] = next(todo)
        found.append((kind, *names, *(word for setting in sorted(settings.items()) for word in setting)))
    return sorted(found)


def shown(config: Config) -> list[tuple[str, ...]]:
    """The same of what we read."""
    found: list[tuple[str, ...]] = []
    for s in config.stores.values():
        values = {"pat": "".join(s.patterns[-1:]), "prefix": s.prefix, "server": s.server, "ref": s.ref}
        values["passwd"] = s.passwd.reveal() if s.passwd else ""
        found.append(
            ("store", s.name, *(word for key, value in sorted(values.items()) if value for word in (key, value)))
        )
    for c in config.channels.values():
        values = {"msinfo": c.msinfo, "sizelimit": str(c.sizelimit or "")}
        values["passwd"] = c.passwd.reveal() if c.passwd else ""
        found.append(
            ("channel", c.name, c.a, c.b, *(w for key, value in sorted(values.items()) if value for w in (key, value)))
        )
    return sorted(found)
