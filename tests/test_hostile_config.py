"""Configurations, plans, environments and commands that mean harm: refused in bounded time, with their place."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from mailsync import planfile
from mailsync.errors import UsageError

from .mail import Ran, configure, digests, maildir, message, run, run_within_bounds
from .tried import HOSTILE

pytestmark = HOSTILE

GOOD = """\
store md { pat md/*  prefix md/ }
store old { pat old/*  prefix old/  format mbox }
channel c md old { msinfo .msinfo }
"""
RAW = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
MAPS = "".join(f"map a{n} b{n}\n" for n in range(2000))
STORES = "".join(f"store s{n} {{ pat m{n}/* }}\n" for n in range(1000))
PATTERNS = "".join(f"md/x{n}*\npat " for n in range(3000))
WILD = "".join(f"map a{n}/x* b{n}/y*\n" for n in range(2000))

# Bytes of a file, what is asked of it, the exit code, and what must be told.
CONFIGS: Mapping[str, tuple[bytes, str, int, str]] = {
    "10 MB": (b"#" + b"x" * 10_000_000 + b"\n" + GOOD.encode(), "c", 3, "more than 500,000 bytes"),
    "comments": (b"#x\n" * 50_000 + GOOD.encode(), "c", 0, ""),
    "deep": (b"{ " * 100_000, "c", 3, "expected 'store', 'channel' or 'group'"),
    "stores in stores": (b"store a { " * 40_000, "c", 3, "is not closed"),
    "many stores": (f"{STORES}{GOOD}".encode(), "c", 0, ""),
    "many patterns": (GOOD.replace("md/*", f"{PATTERNS}md/*").encode(), "c", 0, ""),
    "many names": (GOOD.replace(".msinfo", f".msinfo {MAPS}").encode(), "c", 0, ""),
    "many patterns of names": (GOOD.replace(".msinfo", f".msinfo {WILD}").encode(), "c", 0, ""),
    "pattern to run away with": (GOOD.replace("md/*", f"md/{'*a' * 2000}b").encode(), "c", 0, ""),
    "exclusion to run away with": (GOOD.replace(".msinfo", f".msinfo exclude {'*%a' * 1000}b").encode(), "c", 0, ""),
    "ring": (GOOD.encode() + b"group g { h }\ngroup h { g }\n", "g", 3, "form no ring"),
    "itself": (GOOD.encode() + b"group g { g }\n", "g", 3, "form no ring"),
    "open quote": (GOOD.encode() + b'store x { pat "a', "c", 3, "quote that is not closed"),
    "open brace": (GOOD.encode() + b"store x { pat a", "c", 3, "is not closed"),
    "NUL": (GOOD.encode() + b"store x\0y { pat a\0/* }\n", "c", 0, ""),
    "BOM and CRLF": (b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode(), "c", 0, ""),
    "UTF-16": (GOOD.encode("utf-16"), "c", 3, "expected 'store', 'channel' or 'group'"),
    "no UTF-8": (GOOD.encode() + b"store \xff { pat \xfe/* }\n", "-dc", 0, ""),
    "escapes in names": (
        GOOD.encode() + b"channel \x1b[2J \x1b]0;x\x07 md { msinfo x }\n",
        "c",
        3,
        "is not defined",
    ),
    "escapes, dumped": (GOOD.encode() + b"store \x1b[31mred { pat \x1b[2J/* }\n", "-dc", 0, ""),
    "long host": (b"store s { server {" + b"h" * 400_000 + b"/user=x} pat * }\n", "s", 3, "whose name is shorter"),
    "port": (b"store s { server {h:65536/ssl} pat * }\n", "s", 3, "expected a port from 1 to 65535"),
    "port without end": (b"store s { server {h:" + b"9" * 10_000 + b"} pat * }\n", "s", 3, "expected a port"),
    "braces": (b"store s { server " + b"{" * 1000 + b" pat * }\n", "s", 3, "expected the name or [address]"),
    "numbers": (GOOD.replace(".msinfo", ".msinfo max_delete " + "9" * 9999).encode(), "c", 3, "expected a number"),
    "msinfo is the root": (GOOD.replace(".msinfo", "/").encode(), "c", 8, "msinfo /"),
    "msinfo is a device": (GOOD.replace(".msinfo", "/dev/zero").encode(), "c", 8, "/dev/zero"),
    "msinfo goes up": (GOOD.replace(".msinfo", "../../x").encode(), "c", 6, '".." are no names'),
    "empty": (b"", "c", 2, "no channel, group or store"),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_hostile_configuration_is_read_or_refused(home: Path, name: str) -> None:
    data, word, code, told = CONFIGS[name]
    maildir(home / "md/box", message(1))
    (home / ".mailsync").write_bytes(data)
    (home / ".mailsync").chmod(0o600)

    ran = run_within_bounds(home, word)

    assert code == ran.code, ran.err
    assert told in ran.err
    assert not RAW.search(ran.out + ran.err)
    assert len(ran.err) < 20_000
    if word == "c" and not code and name != "pattern to run away with":
        assert {"old/box"} == digests(home, "old/*").keys()


# ---- plans -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def planned(home: Path) -> Path:
    """A message to be copied, another to be deleted, and a plan for both."""
    configure(home, GOOD)
    maildir(home / "md/box", message(1), message(2))
    run("c")
    maildir(home / "md/box", message(1), message(2), message(3))
    (home / "md/box/cur/1700000000.0.x:2,").unlink()
    assert 0 == run("--plan", "plan", "c").code
    return home / "plan"


def signed(values: dict[str, object]) -> str:
    """As if mailsync had written it."""
    return planfile.text({name: value for name, value in values.items() if name != "check"})


def changed(text: str, **news: object) -> str:
    return signed({**json.loads(text), **news})


def step(text: str, **news: object) -> str:
    steps = json.loads(text)["steps"]
    return changed(text, steps=[{**steps[0], **news}, *steps[1:]])


FORGED: Mapping[str, Callable[[str], str]] = {
    "nothing": lambda text: "",
    "deep list": lambda text: '{"mailsync-plan": ' + "[" * 10**6,
    "deep object": lambda text: '{"mailsync-plan": 1, "a": ' + '{"a":' * 10**5 + "1" + "}" * 10**6,
    "blanks": lambda text: " " * 10**6,
    "number without end": lambda text: '{"mailsync-plan": ' + "9" * 10**6 + "}",
    "another name": lambda text: text.replace('"c"', '"other"'),
    "other channel, signed": lambda text: changed(text, channel="other"),
    "escapes, signed": lambda text: step(text, box="\x1b[31m", id="\x1b]0;x\x07", uid="\x9b"),
    "other id, signed": lambda text: step(text, id="<2@x>"),
    "other uid, signed": lambda text: step(text, uid="no such uid"),
    "deletion, signed": lambda text: step(text, step="delete", store="old", why="gone there"),
    "box that goes up, signed": lambda text: step(text, box="../../evil"),
    "surrogates, signed": lambda text: step(text, id="<\ud800@x>"),
    "many steps, signed": lambda text: changed(text, steps=json.loads(text)["steps"] * 2000),
    "no steps, signed": lambda text: changed(text, steps=[]),
    "wrong types, signed": lambda text: text.replace('"boxes": [', '"boxes": [1, '),
    "time before all times": lambda text: text.replace('"oldest": null', '"oldest": -99999999999999999999'),
    "cut": lambda text: text[: len(text) // 2],
    "NUL": lambda text: text.replace(":", "\0"),
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_plan_is_refused_and_nothing_is_done(planned: Path, name: str) -> None:
    home = planned.parent
    before = digests(home, "*/*")
    planned.write_text(FORGED[name](planned.read_text()), "utf-8", "surrogatepass")

    ran = run_within_bounds(home, "--apply", "plan")

    assert ran.code in (1, 2)
    assert "Make a new one with --plan." in ran.err or "is of channel other" in ran.err
    assert not RAW.search(ran.out + ran.err)
    assert before == digests(home, "*/*")
    assert [home / name for name in (".cache", ".local", ".mailsync", ".msinfo", "md", "old", "plan")] == sorted(
        home.iterdir()
    )


def test_plan_as_it_was_written_is_carried_out(planned: Path) -> None:
    """Else the forged ones would be refused for nothing."""
    planned.write_text(changed(planned.read_text()))

    assert (0, "") == (lambda ran: (ran.code, ran.err))(run("--apply", "plan"))


@pytest.mark.parametrize("value", [None, 1, [], {}, "x", {"mailsync-plan": 1}, {"mailsync-plan": 1, "steps": {}}])
def test_value_that_is_no_plan_is_refused(value: object) -> None:
    with pytest.raises(UsageError):
        planfile.read(json.dumps(value).encode(), "plan")


# ---- environment -----------------------------------------------------------------------------------------------------


def with_environment(home: Path, monkeypatch: pytest.MonkeyPatch, **values: str) -> Ran:
    configure(home, GOOD)
    maildir(home / "md/box", message(1))
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return run("c")


@pytest.mark.parametrize("name", ["XDG_CACHE_HOME", "XDG_STATE_HOME", "XDG_CONFIG_HOME"])
def test_directory_that_is_not_absolute_is_passed_over(home: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """XDG Base Directory Specification: "If an implementation encounters a relative path [...] it should ignore it"."""
    ran = with_environment(home, monkeypatch, **{name: "here"})

    assert (0, "") == (ran.code, ran.err)
    assert not (home / "here").exists()
    assert (home / ".cache/mailsync").exists()
    assert (home / ".local/state/mailsync").exists()


ODD_ENVIRONMENT = (
    {"USER": "../../x"}, {"USER": "a\nb"}, {"MAIL": "/dev/zero"}, {"MAIL": "here"}, {"MAIL": "/nowhere/x"},
    {"XDG_CACHE_HOME": "/dev/null"}, {"TERM": "\x1b[31m"}, {"COLUMNS": "-5"}, {"LC_ALL": "xx"}, {"TZ": "x" * 9999},
    {"TMPDIR": "/nowhere"}, {"NO_COLOR": "\x1b"},
)  # fmt: skip


@pytest.mark.parametrize("values", ODD_ENVIRONMENT, ids=lambda values: repr(values)[:40])
def test_odd_environment_hinders_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch, values: Mapping[str, str]
) -> None:
    ran = with_environment(home, monkeypatch, **values)

    assert (0, "") == (ran.code, ran.err)
    assert digests(home, "md/*")["md/box"] == digests(home, "old/*")["old/box"]


def test_state_that_cannot_be_written_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = with_environment(home, monkeypatch, XDG_STATE_HOME="/dev/null")

    assert 1 == ran.code
    assert "Set XDG_STATE_HOME to a directory that can be written." in ran.err


# ---- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("head -c 30000000 /dev/zero", 0),
        ("head -c 1000000 /dev/urandom; exit 7", 1),
        ("head -c 1000000 /dev/urandom >&2; exit 7", 1),
        ("kill -9 $$", 1),
        ("sleep 1000 & exit 0", 0),
        ("printf '\\\\033[31m' >&2; exit 1", 1),
        ("/nowhere/x", 1),
        ("exec <&- >&- 2>&-", 0),
    ],
)
def test_hook_may_print_anything_and_end_as_it_likes(home: Path, command: str, code: int) -> None:
    configure(home, GOOD.replace(".msinfo", f'.msinfo pre_sync "{command}"'))
    maildir(home / "md/box", message(1))

    ran = run_within_bounds(home, "c")

    assert code == ran.code
    assert (not code) == (home / "old/box").exists()
    told = ran.err[ran.err.find("mailsync: pre_sync") :] if code else ""
    assert not RAW.search(told)
    assert len(told) < 1000
