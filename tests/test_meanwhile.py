"""Another program changes the mail in the middle of a run, at each moment: before each look at it, or change of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers import files, locks, maildirscan, mboxopen
from mailsync.drivers.maildiropen import OpenMaildir
from mailsync.drivers.mboxkept import State
from mailsync.drivers.mh import Mh
from mailsync.drivers.mhopen import OpenMh
from mailsync.model import Message

from .mail import configure
from .meanwhile import Meanwhile
from .scene import BOXES, LATE, MOVED_IN_A, MOVED_IN_B, NEW_IN_B, QUIET, Scene, Side
from .tried import OTHERS, PLANTED, Points
from .users import ANSWERED, USERS

PAIRS = [("maildir", "maildir"), ("maildir", "mbox"), ("mh", "maildir"), ("mbox", "mh")]

Act = Callable[[Scene], bool]

EVERY = 13  # so many steps apart are those that are tried in haste; no change is made at one of them alone


def acts() -> Iterator[tuple[str, Act]]:
    """What one user may do in the middle of the run, by its name."""
    for side in ("a", "b"):
        yield f"deliver in {side}", partial(Scene.deliver, side=side, box="x", number=LATE)
        for box in BOXES:
            yield f"tidy {box} in {side}", partial(Scene.tidy, side=side, box=box)
        for number in range(QUIET, NEW_IN_B + 1):
            for box in BOXES if number in (MOVED_IN_A, MOVED_IN_B) else ("x",):
                this: Any = {"side": side, "box": box, "number": number}
                for what in (Scene.drop, Scene.move, Scene.flag, partial(Scene.flag, flag=ANSWERED)):
                    yield f"{what} {this}", partial(what, **this)


ACTS = list(acts())


def local_scene(home: Path, a: str, b: str) -> Scene:
    """In a new home; nothing is left of the one before."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    sides = {
        name: Side(
            USERS[format](home / name), f"pat {name}/% prefix {name}/ format {format} fsync no", prefix=f"{name}/"
        )
        for name, format in (("a", a), ("b", b))
    }
    stores = "".join(f"store {name} {{ {side.config} }}\n" for name, side in sides.items())
    configure(home, f"{stores}channel c a b {{ msinfo .msinfo  max_delete 100000 }}\n")
    return Scene(sides, [home])


def attempt(home: Path, formats: tuple[str, str], at: int, act: Act) -> Meanwhile:
    """A run in the middle of which `act` is done; it must be made good by the next."""
    scene = local_scene(home, *formats)
    scene.begin()
    scene.running = True
    meanwhile = Meanwhile(at, lambda: act(scene))
    with meanwhile.in_files(home / "a", home / "b"):
        scene.run()
    scene.check()
    return meanwhile


def steps(home: Path, formats: tuple[str, str]) -> int:
    """How many there are in a run that nobody disturbs."""
    return attempt(home, formats, -1, lambda scene: False).passed


def attempts(home: Path, formats: tuple[str, str], points: Iterable[tuple[int, int]]) -> int:
    """Try these steps and changes; returns at how many something was done: many messages are gone, or locked."""
    done = 0
    for at, which in points:
        name, act = ACTS[which % len(ACTS)]
        try:
            done += attempt(home, formats, at, act).made
        except AssertionError as err:
            raise AssertionError(f"step {at}, {name}: {err}") from err
    return done


@OTHERS
@pytest.mark.parametrize("formats", PAIRS, ids="-".join)
def test_change_by_another_program_at_some_moments_of_a_run(
    place: Path, formats: tuple[str, str], record_property: Points
) -> None:
    count = steps(place / "home", formats)
    points = [(at, 7 * at) for at in range(5, count, EVERY)]

    done = attempts(place / "home", formats, points)

    assert done > len(points) // 4
    record_property("points", done)


@OTHERS
@pytest.mark.torture
@pytest.mark.timeout(300)
@pytest.mark.parametrize("formats", PAIRS, ids="-".join)
def test_change_by_another_program_at_each_moment_of_a_run(
    place: Path, formats: tuple[str, str], record_property: Points
) -> None:
    """Each time another change, in another order for each pair: all of them in some phase of a run."""
    count = steps(place / "home", formats)
    points = [(at, 5 * at + PAIRS.index(formats)) for at in range(count)]

    done = attempts(place / "home", formats, points)

    assert done > len(points) // 4
    record_property("points", done)


@OTHERS
@pytest.mark.parametrize("side", ["a", "b"])
def test_flag_that_is_set_while_a_message_is_moved_between_mboxes_goes_along(
    place: Path, side: str, record_property: Points
) -> None:
    """It was copied, and deleted in the old mbox later, with whatever had been set there meanwhile."""
    number = MOVED_IN_B if side == "a" else MOVED_IN_A
    formats = ("mbox", "maildir") if side == "a" else ("maildir", "mbox")
    count = steps(place / "home", formats)
    points = range(count // 4, count, EVERY)
    flag = partial(Scene.flag, side=side, box="x", number=number, flag=ANSWERED)

    done = sum(attempt(place / "home", formats, at, flag).made for at in points)

    assert done > len(points) // 4
    record_property("points", done)


@OTHERS
@pytest.mark.parametrize("at", range(3, 430, 70))
def test_messages_that_get_other_numbers_in_the_middle_of_a_run_are_the_same(place: Path, at: int) -> None:
    """As packing gives them. They were missed, and what had been deleted or moved came back."""
    attempt(place / "home", ("mh", "maildir"), at, partial(Scene.tidy, side="a", box="x"))


# ---- the checker is checked ------------------------------------------------------------------------------------------


def files_are_taken_by_number(monkeypatch: pytest.MonkeyPatch) -> None:
    """MH: what has the number that a message had is deleted, moved, flagged."""
    known: dict[str, int] = {}
    places = Mh.places

    def planted(self: Mh) -> dict[int, str]:
        found = places(self)
        known.update((self.path + file, number) for number, file in found.items())
        return found

    monkeypatch.setattr(Mh, "places", planted)
    monkeypatch.setattr(OpenMh, "_number", lambda self, uid: known[self._box.path + uid])


def locks_are_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """mbox: neither taken nor honoured, and the file is replaced whatever it has become meanwhile."""
    monkeypatch.setattr(locks, "_try", lambda fd, path, write: ("", None))
    monkeypatch.setattr(mboxopen, "kept", lambda path, state, data: None)
    monkeypatch.setattr(State, "__ne__", lambda one, other: False)


def names_are_not_looked_up_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Maildir: a message that was renamed while it was listed counts as gone."""
    monkeypatch.setattr(maildirscan, "TRIES", 1)
    monkeypatch.setattr(files, "steadily", lambda path, look: look())


def copies_get_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that nobody has set."""
    append = OpenMaildir.append

    def planted(self: OpenMaildir, messages: Iterable[Message]) -> Any:
        return append(self, (replace(one, flags=one.flags | {ANSWERED}) for one in messages))

    monkeypatch.setattr(OpenMaildir, "append", planted)


BUGS = [
    (files_are_taken_by_number, ("mh", "maildir"), "tidy x in a", 0.5),
    (locks_are_ignored, ("maildir", "mbox"), "deliver in b", 0.1),
    (names_are_not_looked_up_again, ("maildir", "maildir"), "tidy x in b", 0.15),
    (copies_get_a_flag, ("maildir", "maildir"), "tidy x in b", 0.15),
]


@PLANTED
@pytest.mark.parametrize(("bug", "formats", "which", "begin"), BUGS, ids=[bug.__name__ for bug, *_ in BUGS])
def test_these_attempts_catch(
    place: Path,
    monkeypatch: pytest.MonkeyPatch,
    bug: Callable[[pytest.MonkeyPatch], None],
    formats: tuple[str, str],
    which: str,
    begin: float,
) -> None:
    """`begin`: the part of a run that this bug does not touch."""
    count = steps(place / "home", formats)
    bug(monkeypatch)
    [number] = [number for number, (name, _) in enumerate(ACTS) if name == which]

    with pytest.raises(AssertionError):
        attempts(place / "home", formats, ((at, number) for at in range(int(count * begin), count, 4)))
