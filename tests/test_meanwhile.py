"""Another program changes the mail in the middle of a run, at each moment: before each look at it, or change of it."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .meanwhile import Meanwhile
from .scene import LATE, MOVED_IN_A, MOVED_IN_B, NEW_IN_B, QUIET, Scene, Side, configure
from .tried import OTHERS
from .users import ANSWERED, SEEN, USERS

pytestmark = OTHERS

PAIRS = [("maildir", "maildir"), ("maildir", "mbox"), ("mh", "maildir"), ("mbox", "mh")]

Act = Callable[[Scene], object]


def acts() -> Iterator[tuple[str, Act]]:
    """What one user may do in the middle of the run, by its name."""
    for side in ("a", "b"):
        yield f"deliver in {side}", lambda s, side=side: s.deliver(side, "x", LATE)
        yield f"tidy x in {side}", lambda s, side=side: s.sides[side].user.tidy("x")
        yield f"tidy y in {side}", lambda s, side=side: s.sides[side].user.tidy("y")
        for number in range(QUIET, NEW_IN_B + 1):
            for box in ("x", "y") if number in (MOVED_IN_A, MOVED_IN_B) else ("x",):
                which = f"{number} of {box} in {side}"
                for flag in (SEEN, ANSWERED):
                    yield f"{flag} {which}", lambda s, side=side, n=number, b=box, f=flag: s.flag(side, b, n, f)
                yield f"drop {which}", lambda s, side=side, n=number, b=box: s.drop(side, b, n)
                yield f"move {which}", lambda s, side=side, n=number, b=box: s.move(side, b, n)


ACTS = dict(acts())


def local_scene(home: Path, a: str, b: str) -> Scene:
    """In a new home; nothing is left of the one before."""
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    sides = {
        name: Side(
            USERS[format](home / name), f"pat {name}/% prefix {name}/ format {format} fsync no", prefix=f"{name}/"
        )
        for name, format in (("a", a), ("b", b))
    }
    stores = "".join(f"store {name} {{ {side.config} }}\n" for name, side in sides.items())
    configure(home, f"{stores}channel c a b {{ msinfo .msinfo }}\n")
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
