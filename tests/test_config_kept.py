"""What a configuration meant is kept whole, but for its passwords; and it holds only for the file as it was."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given

from mailsync import config, unchanged
from mailsync.config import Config, Secret, grammar, kept, shown
from mailsync.errors import ConfigError

from .mail import Ran, configure, maildir, message, run
from .samples import ROOT
from .test_config_files import configs
from .test_config_grammar import OLD, VALID

ALL = f"""\
store s {{
    server {{h/user=u}}INBOX. ref {{h}}x pat a pat !b prefix p passwd "w \\" w" format maildir++ create no fsync no
    readonly yes delete trash:Bin user_cmd "pass u" passwd_cmd p token_cmd t keyring yes tunnel "ssh h imapd"
    subscribed yes cert c.pem key k.pem ca ~/ca pin {"0123456789abcdef" * 4} timeout 5
}}
store t {{ delete mark }}
channel c s t {{
    msinfo m passwd \\#word sizelimit 2M duplicates same-id expunge all max_delete 7% create a passwd_cmd p token_cmd t
    direction b-to-a maxage 2w since 2024-02-29 map Sent "Sent Items" map Lists/* L/* exclude x/* exclude !x/y
    keep_deleted 0 pre_sync "a b" post_sync c on_change d
}}
channel d t s {{ msinfo \xe4\udcff create none passwd passwd }}
group g c d
"""


def understood(texts: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for name, text in texts.items():
        with suppress(ConfigError):
            grammar.parse(text, "F")
            found[name] = text
    return found


TEXTS = {
    **{path.name: path.read_text() for path in sorted((ROOT / "examples").glob("*.conf"))},
    **understood(OLD),
    "empty": "",
    "some settings": VALID.replace('"j d"', "jd"),
    "all settings": ALL,
}
LOCAL = "store md { pat md/* prefix md/ format maildir }\nstore o { pat o/* prefix o/ format mbox }\n"
LOCAL += "channel c md o { msinfo .msinfo }\n"
SERVER = "store a {\n\tserver {h/user=u}\n\tpasswd hunter2\n\tpasswd_cmd x\n}\n"


def through(found: Config, text: str) -> Config:
    """As the next run gets it."""
    what = kept.encoded(found, text)
    assert what is not None
    return kept.decoded(json.loads(json.dumps(what)), found.filename, text)


def wheres(found: Config) -> list[config.Where]:
    return [store.where for store in found.stores.values()] + [one.where for one in found.channels.values()]


def written(path: Path, text: str, mode: int = 0o600) -> str:
    """A file that was not changed just now."""
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    path.chmod(mode)
    while not unchanged.lasting(unchanged.state(str(path))):
        time.sleep(0.005)
    return str(path)


def notes(home: Path) -> list[Path]:
    return list((home / ".cache" / "mailsync").glob("config-*"))


# ---- what is kept ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_configuration_comes_back_as_it_was(text: str) -> None:
    expected = grammar.parse(text, "F")

    actual = through(expected, text)

    assert expected == actual
    assert wheres(expected) == wheres(actual)
    assert [list(expected.stores), list(expected.channels)] == [list(actual.stores), list(actual.channels)]


@given(configs())
def test_any_configuration_comes_back_as_it_was(drawn: Config) -> None:
    text = shown.dump(drawn)
    expected = grammar.parse(text, "F")

    actual = through(expected, text)

    assert (expected, wheres(expected)) == (actual, wheres(actual))


def test_password_is_not_kept_but_its_place(home: Path) -> None:
    path = written(home / "c", SERVER)
    config.keep(config.load(path))
    [note] = notes(home)

    found = config.load(path)

    assert "hunter2" not in note.read_text()
    assert (True, Secret("hunter2")) == (found.kept, found.stores["a"].passwd)


def test_password_that_does_not_stand_in_the_text_is_not_kept() -> None:
    found = grammar.parse(SERVER, "F")

    assert kept.encoded(found, SERVER.replace("hunter2", "hunter3")) is None


# ---- how long it holds -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_file_is_parsed_once(home: Path, text: str) -> None:
    path = written(home / "c", text)
    first = config.load(path)
    config.keep(first)

    second = config.load(path)

    assert (False, True) == (first.kept, second.kept)
    assert (first, first.state) == (second, second.state)


def test_file_that_was_changed_is_parsed_anew(home: Path) -> None:
    path = written(home / "c", SERVER)
    config.keep(config.load(path))
    before = os.stat(path)
    written(Path(path), SERVER.replace("hunter2", "hunter3"))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    found = config.load(path)

    assert (False, Secret("hunter3")) == (found.kept, found.stores["a"].passwd)


def test_file_that_was_changed_just_now_may_be_changed_once_more_unseen(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(home / "c", SERVER)
    with monkeypatch.context() as patch:
        patch.setattr(unchanged, "TICK", 3600)
        patch.setattr(unchanged, "COARSE_TICK", 3600)
        found = config.load(path)
        config.keep(found)

    assert (None, []) == (found.state, notes(home))


def test_other_name_for_the_file_has_its_own_messages(home: Path) -> None:
    written(home / "c", SERVER)
    config.keep(config.load("c"))

    found = config.load("./c")

    assert not found.kept
    assert [warning.partition(":")[0] for warning in found.warnings] == ["./c"]


def test_password_that_others_can_reach_now_is_refused(home: Path) -> None:
    path = written(home / "c", SERVER)
    config.keep(config.load(path))
    os.chmod(path, 0o644)

    with pytest.raises(ConfigError, match="others can read or write it"):
        config.load(path)


def test_what_others_can_reach_is_refused_although_it_was_kept(home: Path) -> None:
    """Such a note cannot come from `keep`: the permissions do not depend on it."""
    path = written(home / "c", SERVER, 0o644)
    state = unchanged.state(path)
    assert state
    kept.keep(grammar.parse(SERVER, path), state, SERVER)

    with pytest.raises(ConfigError, match="others can read or write it"):
        config.load(path)


def test_pipe_is_not_kept(home: Path) -> None:
    os.mkfifo(home / "pipe")
    writer = threading.Thread(target=(home / "pipe").write_text, args=[SERVER])
    writer.start()
    found = config.load("pipe")
    writer.join()

    config.keep(found)  # does not wait for another writer

    assert ["a"] == list(found.stores)
    assert [] == notes(home)


# ---- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "damage",
    [
        b"", b"\0", b"\xff", b"0\n{}", b"00000000\n", b"zz\n{}", b"a3f1ee9b\n[]", b"5dd49fc4\nnull", b"[" * 100_000,
    ],
)  # fmt: skip
def test_other_file_in_its_place_harms_nothing(home: Path, damage: bytes) -> None:
    path = written(home / "c", SERVER)
    first = config.load(path)
    config.keep(first)
    [note] = notes(home)
    note.write_bytes(damage)

    found = config.load(path)

    assert (False, first) == (found.kept, found)


def test_damage_at_any_place_harms_nothing(home: Path) -> None:
    path = written(home / "c", SERVER)
    first = config.load(path)
    config.keep(first)
    [note] = notes(home)
    whole = note.read_bytes()
    for at in range(len(whole)):
        for damaged in (whole[:at], whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]):
            note.write_bytes(damaged)
            assert first == config.load(path)


@pytest.mark.parametrize(
    "change",
    [
        {"stores": None}, {"stores": {"a": 1}}, {"stores": [{"nobody": 1}]}, {"channels": [[]]}, {"groups": []},
        {"stores": [{"name": "a", "passwd": {"other": 1}}]}, {"stores": [{"name": "a", "passwd": {"secret": ["", 1]}}]},
        {"stores": [{"name": []}, {"name": {}}]}, {"channels": [{"name": "c", "since": {"date": "x"}}]},
    ],
)  # fmt: skip
def test_note_of_another_program_is_not_used(
    home: Path, change: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(home / "c", SERVER)
    first = config.load(path)
    what = {"stores": [], "channels": [], "warnings": [], "groups": {}} | change
    with monkeypatch.context() as patch:
        patch.setattr(kept, "encoded", lambda config, text: what)
        config.keep(first)

    found = config.load(path)

    assert (False, first) == (found.kept, found)


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_note_that_others_can_write_is_not_used(home: Path, mode: int) -> None:
    path = written(home / "c", SERVER)
    config.keep(config.load(path))
    [note] = notes(home)
    note.chmod(mode)

    assert not config.load(path).kept


def test_note_that_is_another_users_is_not_used(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(home / "c", SERVER)
    config.keep(config.load(path))
    with monkeypatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        found = config.load(path)

    assert not found.kept


def test_directory_in_its_place_harms_nothing(home: Path) -> None:
    path = written(home / "c", SERVER)
    config.keep(config.load(path))
    [note] = notes(home)
    note.unlink()
    note.mkdir()

    config.keep(config.load(path))

    assert not config.load(path).kept


# ---- who keeps -------------------------------------------------------------------------------------------------------


@pytest.fixture
def mails(home: Path) -> Path:
    configure(home, LOCAL)
    written(home / ".mailsync", LOCAL)
    maildir(home / "md/one", message(1))
    (home / "o").mkdir()
    return home


@pytest.mark.parametrize("args", ["-s c", "md", "c md", "--check c", "-dc", "--plan plan c", "--test-auth md", "-s"])
def test_run_that_only_looks_keeps_nothing(mails: Path, args: str) -> None:
    run(*args.split())

    assert [] == notes(mails)


def test_run_keeps_what_it_understood(mails: Path) -> None:
    first = run("c")
    [note] = notes(mails)
    maildir(mails / "md/two", message(2))

    assert (0, 0) == (first.code, run("c").code)
    assert 0o600 == note.stat().st_mode & 0o777
    assert (mails / "o/two").exists()


def test_warnings_are_told_by_every_run(mails: Path) -> None:
    written(mails / ".mailsync", LOCAL.replace("msinfo .msinfo", "msinfo .msinfo maxage 1 maxage 2"))

    ran: list[Ran] = []
    for _ in range(2):
        ran.append(run("-vw", "c"))
        assert 1 == len(notes(mails))

    assert ["'maxage' is given again" in one.err for one in ran] == [True, True]
