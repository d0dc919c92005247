"""What is measured, and beside what."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cached_property
from itertools import count
from random import Random

from . import memory
from .changes import change_maildirs, change_mboxes
from .homes import ORIGINAL, Home, Place
from .measure import HERE, Case, Command, Sample, Took, Unmeasured, pair, python

HEADS = "script: opens every message of both sides, reads 4 KiB"
THROUGH = "script: reads all files of both sides once"
POUR = "script: writes each Maildir into one file, unchanged; fsync"
MSINFO_IDS = 200_000


def cases(place: Place) -> list[Case]:
    """The rows in their order; each can be measured any number of times."""
    small = Small(place)
    quick = place.messages < 10_000
    one, alone = place.messages // 5, 20 if quick else 200
    ids = place.messages if quick else MSINFO_IDS
    return [
        Case("Maildir to Maildir, first run, fsync no", "cp -a", lambda rng: _copied(place, rng, fsync=False)),
        Case("Maildir to Maildir, first run, fsync yes", "cp -a; sync -f", lambda rng: _copied(place, rng, fsync=True)),
        Case("Maildir and Maildir, nothing to do", HEADS, lambda rng: _again(place.settled_maildirs, "heads", rng)),
        Case("Maildir and Maildir, 1 % changed", HEADS, _changing(lambda: place.settled_maildirs, "heads")),
        Case("Maildir to mbox, first run", POUR, lambda rng: _poured(place, rng)),
        Case("mbox and mbox, nothing to do", THROUGH, lambda rng: _again(place.settled_mboxes, "through", rng)),
        Case("mbox and mbox, 1 % changed", THROUGH, _changing(lambda: place.settled_mboxes, "through")),
        *(
            Case(
                f"first run into one mbox, per message: {factor * one:,}",
                f"itself: {one:,}",
                _linear(place, one, factor, Home.ours),
            )
            for factor in (2, 4)
        ),
        Case(f"mbox to mbox, first run, {small.messages:,}", "5.2.7", small.first),
        Case(f"mbox and mbox, nothing to do, {small.messages:,}", "5.2.7", small.again),
        Case(f"mbox and mbox, 1 % changed, {small.messages:,}", "5.2.7", small.changed),
        *(
            Case(
                f"5.2.7 alone: first run into one mbox, per message: {factor * alone:,}",
                f"itself: {alone:,}",
                _linear(place, alone, factor, _original),
            )
            for factor in (2, 4)
        ),
        *(
            Case(f"msinfo of {ids:,} ids: {what}", "reading the file", _msinfo(place, ids, what))
            for what in ("parse", "format")
        ),
    ]


def _copied(place: Place, rng: Random, *, fsync: bool) -> Sample:
    home = place.home("maildir", a=place.maildirs, fsync=fsync)
    copy = 'cp -a "$1" "$2"' + (' && sync -f "$2"' if fsync else "")
    shell = Command(("/bin/sh", "-c", copy, "sh", str(place.maildirs), str(place.new())), place.path)
    return _checked(home, pair(home.ours(), shell, rng))


def _poured(place: Place, rng: Random) -> Sample:
    home = place.home("mbox", a=place.maildirs)
    script = _script(home, "pour", str(place.maildirs), str(place.new()))
    return _checked(home, pair(home.ours(), script, rng))


def _again(home: Home, script: str, rng: Random) -> Sample:
    return _checked(home, pair(home.ours(), _script(home, script, str(home.a), str(home.b)), rng))


def _changing(settled: Callable[[], Home], script: str) -> Callable[[Random], Sample]:
    rounds = count()

    def measure(rng: Random) -> Sample:
        home = settled()
        _change(home, f"change {next(rounds)}")
        return _again(home, script, rng)

    return measure


def _change(home: Home, seed: str) -> None:
    change = change_maildirs if (home.a / "box0").is_dir() else change_mboxes
    change((home.a, home.b), max(8, home.count() // 100), seed)


def _linear(place: Place, messages: int, factor: int, run: Callable[[Home], Command]) -> Callable[[Random], Sample]:
    def measure(rng: Random) -> Sample:
        few, many = place.one_mbox(messages), place.one_mbox(factor * messages)
        return _checked(many, pair(run(many), run(few), rng, scale=1 / factor))

    return measure


class Small:
    """mailsync beside 5.2.7, each in a home of its own, on mail that the latter can cope with."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self.messages = max(50, min(2_000, place.messages // 10))
        self._rounds = count()

    def first(self, rng: Random) -> Sample:
        return self._pair(self._homes(), rng)

    def again(self, rng: Random) -> Sample:
        return self._pair(self._settled, rng)

    def changed(self, rng: Random) -> Sample:
        seed = f"change {next(self._rounds)}"
        for home in self._settled:
            _change(home, seed)
        return self._pair(self._settled, rng)

    @cached_property
    def _settled(self) -> tuple[Home, Home]:
        ours, theirs = self._homes()
        ours.settle(ours.ours())
        theirs.settle(_original(theirs))
        return ours, theirs

    def _homes(self) -> tuple[Home, Home]:
        return self._place.unsettled_mboxes(self.messages), self._place.unsettled_mboxes(self.messages)

    def _pair(self, homes: tuple[Home, Home], rng: Random) -> Sample:
        ours, theirs = homes
        sample = pair(ours.ours(), _original(theirs), rng)
        theirs.check()
        return _checked(ours, sample)


def _msinfo(place: Place, ids: int, what: str) -> Callable[[Random], Sample]:
    def measure(rng: Random) -> Sample:
        file = place.new()
        memory.write(file, ids)
        words = [sys.executable, "-m", "bench.memory", str(file)]
        done = subprocess.run(words, cwd=HERE.parent, check=True, capture_output=True, text=True)
        read, *ours = map(float, done.stdout.split())
        seconds = ours[("parse", "format").index(what)]
        return Sample(seconds / read, Took(seconds, 0))

    return measure


def _original(home: Home) -> Command:
    if not ORIGINAL.exists():
        raise Unmeasured("5.2.7 is not installed")
    return home.original()


def _script(home: Home, name: str, *paths: str) -> Command:
    return python("-S", str(HERE / "peers.py"), name, *paths, directory=home.path)


def _checked(home: Home, sample: Sample) -> Sample:
    home.check()
    return sample
