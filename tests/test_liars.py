"""Servers that lie, each in a whole run: nothing is lost by it, little memory and time is taken, and it is told.

What a server may always say is that a message is gone: no client can tell that from a deletion. But nothing that it
says wrongly, or against its own words, may ever become one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mailsync import copying, planner
from mailsync.drivers import places
from mailsync.drivers.imap.draft import Draft
from mailsync.record import Record

from .liars import NO_WAITS, Lie, scene, trapped
from .lies import ANSWERED, COMMANDS, FLOODED, FLOODS, SPECIAL
from .mail import run_within_bounds
from .servers.fake import Pour, Trap
from .tried import LIES, PLANTED

BY_NAME = {lie.name: lie for lie in [*SPECIAL, *ANSWERED, *FLOODED]}
# Half of the floods, each after another command; the rest is torture.
FEW = [FLOODED[n % len(COMMANDS) * len(FLOODS) + at] for n, at in enumerate(range(0, len(FLOODS), 2))]
SOME = ANSWERED[::8]
# Of the lies that are told to fill the memory, those that are measured always; the rest is torture.
MEASURED = [
    BY_NAME[name]
    for name in (
        "a line that is a bomb",
        "lines that are a bomb",
        "a hundred thousand keywords",
        r"COPYUID \1 1:4294967295 1:4294967295",
    )
]


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsync.drivers.imap.reach.WAITS", (0.0,) * 4)


def each(lies: Sequence[Lie]) -> pytest.MarkDecorator:
    assert len(lies) == len({lie.name for lie in lies})
    return pytest.mark.parametrize("lie", lies, ids=str)


def check(home: Path, lie: Lie, *, apart: bool, planted: str = "") -> None:
    with scene(home, lie) as stage:
        stage.check(lie, apart=apart, planted=planted)


@LIES
@each(SPECIAL)
def test_lie(home: Path, lie: Lie) -> None:
    check(home, lie, apart=lie in MEASURED)


@LIES
@each(SOME)
def test_answer(home: Path, lie: Lie) -> None:
    check(home, lie, apart=False)


@LIES
@each(FEW)
def test_flood(home: Path, lie: Lie) -> None:
    check(home, lie, apart=True)


@LIES
@pytest.mark.torture
@each([lie for lie in SPECIAL if lie.heavy and lie not in MEASURED])
def test_lie_is_measured(home: Path, lie: Lie) -> None:
    check(home, lie, apart=True)


@LIES
@pytest.mark.torture
@each([lie for lie in ANSWERED if lie not in SOME])
def test_any_answer_to_any_command(home: Path, lie: Lie) -> None:
    check(home, lie, apart=False)


@LIES
@pytest.mark.torture
@each([lie for lie in FLOODED if lie not in FEW])
def test_any_flood_after_any_command(home: Path, lie: Lie) -> None:
    check(home, lie, apart=True)


@LIES
@pytest.mark.parametrize("flood", ["OKs without end", "literals without end"])
def test_flood_of_what_a_server_says_of_itself(home: Path, flood: str) -> None:
    check_name(home, flood)


@pytest.mark.torture
@LIES
@pytest.mark.parametrize("flood", FLOODS)
def test_any_flood_of_what_a_server_says_of_itself(home: Path, flood: str) -> None:
    check_name(home, flood)


def check_name(home: Path, flood: str) -> None:
    """ID is asked for by imaplib, and by --test-auth alone."""
    lie = Lie(flood, trapped(Trap(r"^\S+ ID", Pour(FLOODS[flood]), nth=0)))
    with scene(home, lie) as stage:
        lie.tell(stage.server)
        ran = run_within_bounds(home, "--test-auth", "far", planted=NO_WAITS)

    assert (0, "") == (ran.code, ran.err)
    assert "logged in" in ran.out


# ---- the checker is checked ------------------------------------------------------------------------------------------

# What a process does first, and a lie that must then be seen to fill its memory.
GREEDY = {
    "the size of a literal is believed": (
        "a literal of 2 GB that is cut after body",
        "from mailsync.drivers.imap import tokens, wire\n"
        "wire.Connection._literal = lambda self, size: tokens.Literal(self._wire.whole(size))\n",
    ),
    "VANISHED is written out": (
        "* VANISHED 1:4294967295 (listing, 0)",
        "from mailsync.drivers.imap import sets\n"
        "sets.size = lambda text: len([n for low, high in sets._ranges(text) for n in range(low, high + 1)])\n",
    ),
    "an answer is held without end": (
        "literals without end after list",
        "from mailsync.drivers.imap import wire\nwire.MAX_TEXT = 10**12\n",
    ),
}


@PLANTED
@pytest.mark.parametrize("bug", GREEDY)
def test_greed_is_caught(home: Path, bug: str) -> None:
    name, planted = GREEDY[bug]

    with pytest.raises(AssertionError, match=r"MB|out of memory"):
        check(home, BY_NAME[name], apart=True, planted=planted)


def any_text_is_the_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What FETCH brings is taken for the message that was asked for."""
    monkeypatch.setattr(copying, "_is_the_one", lambda *_: True)


def any_name_is_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """`..` in a name is accepted: where a run is planned, and where a mailbox gets its place."""
    for module in (planner, places):
        monkeypatch.setattr(module, "check", lambda *_: None)


def two_messages_of_one_uid(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of them is believed."""
    become = Draft.become

    def planted(self: Any, fresh: Any) -> None:
        fresh.doubtful = fresh.twice = False
        become(self, fresh)

    monkeypatch.setattr(Draft, "become", planted)


def any_namespace_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mailbox that is looked for under another name than before counts as gone."""
    monkeypatch.setattr(Record, "is_called", lambda *_: True)


BUGS: Mapping[Callable[[pytest.MonkeyPatch], None], str] = {
    any_text_is_the_one: "a body of another message",
    any_name_is_a_name: "names that are no names",
    two_messages_of_one_uid: "UID 2",
    any_namespace_is_the_same: "a namespace outside of all names",
}


@PLANTED
@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.__name__)
def test_belief_is_caught(
    home: Path, bug: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    bug(monkeypatch)

    with pytest.raises(AssertionError):
        check(home, BY_NAME[BUGS[bug]], apart=False)
