"""Where the configuration is looked for, what is refused, and that what is shown can be read again."""

from __future__ import annotations

import os
import stat
import string
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.config import ChannelConfig, Config, Deletion, MaxDelete, Secret, StoreConfig, files, grammar, shown
from mailsync.errors import ConfigError
from mailsync.model import Duplicates, Side

from .tried import SECRETS

EXAMPLE = Path(__file__).parent.parent / "examples" / "mailsync.conf"
SECRET = "store a {\n\tserver {h/user=u}\n\tpasswd hunter2\n}\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return tmp_path


def write(path: Path, text: str | bytes, mode: int = 0o600) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    path.chmod(mode)
    return str(path)


# ---- find ------------------------------------------------------------------------------------------------------------


def test_option_wins_over_all_places(home: Path) -> None:
    write(home / ".mailsync", "")

    assert "elsewhere" == files.find("elsewhere", str(home))


def test_dot_file_wins_over_config_directory(home: Path) -> None:
    expected = write(home / ".mailsync", "")
    write(home / "xdg" / "mailsync" / "config", "")

    assert expected == files.find(None, str(home))


def test_config_directory_serves_where_no_dot_file_is(home: Path) -> None:
    expected = write(home / "xdg" / "mailsync" / "config", "")

    assert expected == files.find(None, str(home))


def test_no_file_names_all_places_and_shows_an_example(home: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        files.find(None, str(home))

    places = f"{home}/.mailsync and {home}/xdg/mailsync/config"
    assert f"there is no configuration file; looked for {places}" == str(caught.value)
    example = grammar.parse(caught.value.hint.partition("\n\n")[2], "hint")
    assert ["mail"] == list(example.channels)


def test_without_a_home_only_the_config_directory_is_looked_at(home: Path) -> None:
    expected = write(home / "xdg" / "mailsync" / "config", "")

    assert expected == files.find(None, "")


# ---- load ------------------------------------------------------------------------------------------------------------


def test_example_loads_without_a_warning() -> None:
    config = files.load(str(EXAMPLE))

    assert {"maildir", "maildir++", "mbox", "mh"} <= {store.format for store in config.stores.values()}
    assert {"work"} == {name for name, channel in config.channels.items() if channel.sizelimit}
    assert {"work-imap", "gmail"} == {name for name, store in config.stores.items() if store.server}
    assert not [warning for warning in config.warnings if "patterns add up" not in warning]


def test_password_behind_closed_doors_is_read(tmp_path: Path) -> None:
    config = files.load(write(tmp_path / "c", SECRET))

    assert Secret("hunter2") == config.stores["a"].passwd


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o666])
def test_password_that_others_can_reach_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "my config", SECRET, mode)

    with pytest.raises(ConfigError) as caught:
        files.load(path)

    expected = f"{path}: holds the password of 'a', and others can read or write it (mode {mode:04o})"
    assert (expected, f"Run: chmod 600 '{path}'") == (str(caught.value), caught.value.hint)


def test_the_command_of_the_refusal_helps(tmp_path: Path) -> None:
    path = write(tmp_path / "it's", SECRET, 0o644)
    with pytest.raises(ConfigError) as caught:
        files.load(path)

    subprocess.run(caught.value.hint.removeprefix("Run: "), shell=True, check=True)

    assert 0o600 == stat.S_IMODE(os.stat(path).st_mode)
    assert files.load(path).stores


def test_file_without_password_may_be_read_by_all(tmp_path: Path) -> None:
    assert ["a"] == list(files.load(write(tmp_path / "c", "store a { }", 0o664)).stores)


@SECRETS
@pytest.mark.parametrize("mode", [0o602, 0o646, 0o666])
def test_file_that_anybody_can_write_to_is_refused(tmp_path: Path, mode: int) -> None:
    """Its commands are run as the user, whether it holds a password or not."""
    path = write(tmp_path / "c", "store a { }", mode)
    with pytest.raises(ConfigError) as caught:
        files.load(path)

    assert f"{path}: anybody can write to it, and its commands are run as you (mode 0{mode:o})" == str(caught.value)
    assert f"Run: chmod o-w {path}" == caught.value.hint


@SECRETS
def test_link_to_a_password_is_looked_through(tmp_path: Path) -> None:
    """A link has no mode of its own."""
    os.symlink(write(tmp_path / "c", SECRET, 0o644), tmp_path / "link")

    with pytest.raises(ConfigError, match="others can read or write it"):
        files.load(str(tmp_path / "link"))


def test_command_that_gives_a_password_is_no_secret(tmp_path: Path) -> None:
    path = write(tmp_path / "c", "store a { server {h} passwd_cmd p user_cmd u token_cmd t }", 0o644)

    assert "p" == files.load(path).stores["a"].passwd_cmd


def test_pipe_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path, 0o644)
    writer = threading.Thread(target=path.write_text, args=[SECRET])
    writer.start()

    config = files.load(str(path))

    writer.join()
    assert ["a"] == list(config.stores)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("missing", "the configuration cannot be read: No such file or directory"),
        (".", "is a directory, expected a configuration file"),
        ("/dev/null", "is neither a file nor a pipe, expected a configuration file"),
    ],
)
def test_what_is_no_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(ConfigError) as caught:
        files.load(path)

    assert f"{path}: {message}" == str(caught.value)


def test_huge_file_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "c", b"#" * (files.MOST_BYTES + 1))

    with pytest.raises(ConfigError) as caught:
        files.load(path)

    assert f"{path}: more than 500,000 bytes, expected a configuration file" == str(caught.value)


def test_bytes_that_are_no_utf8_come_through(tmp_path: Path) -> None:
    config = files.load(write(tmp_path / "c", b"\xef\xbb\xbfstore \xff { pat \xc3\xa4/\xe4\0 }\r\n"))

    (store,) = config.stores.values()
    assert (b"\xff", b"\xc3\xa4/\xe4\0") == (os.fsencode(store.name), os.fsencode(store.patterns[0]))


def test_importing_costs_no_parser() -> None:
    code = "import sys, mailsync.config.files; print({'pyparsing', 'platformdirs', 'difflib'} & set(sys.modules))"

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=EXAMPLE.parent.parent)

    assert ("set()\n", "") == (done.stdout, done.stderr)


# ---- dump ------------------------------------------------------------------------------------------------------------


def test_dump_shows_what_differs_from_the_defaults_and_no_password() -> None:
    config = grammar.parse(
        'store "my mail" { server {h/user=u} ref {h} passwd hunter2 pat \\#a pat !b\\\\ create no fsync yes }\n'
        "store b { ref x/ format mh delete mark }\n"
        "channel c my\\ mail b { msinfo .m passwd hunter2 sizelimit 1k duplicates same-id expunge all max_delete 0 }\n"
        "channel d my\\ mail b { msinfo .m max_delete 5% direction b-to-a maxage 1w since 2024-01-31 "
        'map Sent Sent\\ Items map a/* b/* exclude Tmp exclude !x keep_deleted 0 pre_sync "a b" '
        "post_sync c on_change d }\n"
        'group "a group" c d\n group all { "a group" }\n',
        "F",
    )

    expected = (
        'store "my mail" {\n\tserver {h/user=u}\n\tref {h}\n\tpat "#a"\n\tpat "!b\\\\"\n\tpasswd ***\n\tcreate no\n}\n'
        "\nstore b {\n\tref x/\n\tformat mh\n\tdelete mark\n}\n"
        '\nchannel c "my mail" b {\n\tmsinfo .m\n\tpasswd ***\n\tsizelimit 1024\n\tduplicates same-id\n'
        "\texpunge all\n\tmax_delete 0\n}\n"
        '\nchannel d "my mail" b {\n\tmsinfo .m\n\tmax_delete 5%\n\tdirection b-to-a\n\tmaxage 7\n\tsince 2024-01-31\n'
        '\tmap Sent "Sent Items"\n\tmap a/* b/*\n\texclude Tmp\n\texclude !x\n\tkeep_deleted 0\n'
        '\tpre_sync "a b"\n\tpost_sync c\n\ton_change d\n}\n'
        '\ngroup "a group" { c d }\n\ngroup all { c d }\n'
    )
    assert expected == shown.dump(config)


WORDS = st.text(max_size=12) | st.text('ab \\"{}#\n\t\r\x0b!', max_size=8)
NAMES = WORDS.filter(bool) | st.sampled_from(["store", "channel", "group"])
PASSWORDS = st.none() | st.just(Secret("***"))
SERVERS = st.sampled_from(["", "{h}", '{h/user="a}b"/ssl}', "{[::1]:143/user=u}INBOX."])


MAPS = st.sampled_from([("Sent", "Sent Items"), ("Lists/*", "Mail/lists/*"), ("#x", "{"), ('"', "\\"), ("store", "}")])


@st.composite
def configs(draw: st.DrawFn) -> Config:
    names = draw(st.lists(NAMES, unique=True, min_size=2, max_size=9))
    stores = {
        name: StoreConfig(
            name,
            server=(server := draw(SERVERS)),
            ref=draw(NAMES if not server else NAMES.map("x".__add__) | st.just(server.removesuffix("INBOX."))),
            patterns=tuple(draw(st.lists(WORDS, max_size=3))),
            prefix=draw(WORDS),
            passwd=draw(PASSWORDS),
            format=draw(st.sampled_from([None, "maildir", "maildir++", "mbox", "mh"])),
            create=draw(st.booleans()),
            fsync=draw(st.booleans()),
            readonly=draw(st.booleans()),
            delete=draw(st.sampled_from([Deletion(), Deletion(mark=True)]) | NAMES.map(partial(Deletion, False))),
            user_cmd=draw(WORDS),
            passwd_cmd=draw(WORDS),
            token_cmd=draw(WORDS),
            keyring=draw(st.booleans()),
            tunnel=draw(WORDS) if "/ssl" not in server else "",
            subscribed=draw(st.booleans()),
            cert=(cert := draw(WORDS)),
            key=draw(WORDS) if cert else "",
            ca=draw(WORDS),
            pin=draw(st.just("") | st.binary(min_size=32, max_size=32).map(bytes.hex)),
            timeout=draw(st.integers(1, 999_999)),
        )
        for name in names[: draw(st.integers(2, len(names)))]
    }
    names = names[len(stores) :]
    channels = {}
    for name in names[: draw(st.integers(0, len(names)))]:
        a, b = draw(st.lists(st.sampled_from(list(stores)), unique=True, min_size=2, max_size=2))
        channels[name] = ChannelConfig(
            name,
            a,
            b,
            msinfo=draw(st.text(string.ascii_letters + ' "\\.ä', min_size=1)),
            passwd=draw(PASSWORDS),
            sizelimit=draw(st.none() | st.integers(1, 10**14)),
            duplicates=draw(st.sampled_from(Duplicates)),
            expunge_all=draw(st.booleans()),
            max_delete=draw(
                st.integers(0, 10**14).map(MaxDelete) | st.integers(0, 100).map(partial(MaxDelete, percent=True))
            ),
            create=draw(st.frozensets(st.sampled_from(Side))),
            direction=draw(st.sampled_from([frozenset(Side), frozenset({Side.A}), frozenset({Side.B})])),
            maxage=draw(st.none() | st.integers(1, 365_000)),
            since=draw(st.none() | st.dates()),
            map=draw(st.lists(MAPS, unique=True, max_size=3).map(tuple)),
            exclude=tuple(draw(st.lists(WORDS, max_size=3))),
            keep_deleted=draw(st.none() | st.integers(0, 365_000)),
            pre_sync=draw(WORDS),
            post_sync=draw(WORDS),
            on_change=draw(WORDS),
            passwd_cmd=draw(WORDS),
            token_cmd=draw(WORDS),
        )
    groups = {}
    for name in names[len(channels) :] if channels else []:
        groups[name] = tuple(draw(st.lists(st.sampled_from(list(channels)), unique=True, min_size=1)))
    return Config("F", stores, channels, groups=groups)


@given(configs())
def test_what_is_dumped_is_read_as_the_same(config: Config) -> None:
    actual = grammar.parse(shown.dump(config), "F")

    assert (config.stores, config.channels, config.groups) == (actual.stores, actual.channels, actual.groups)
