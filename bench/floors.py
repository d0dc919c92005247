"""mailsync beside the least that must be done: short scripts, `cp`, a bare socket, a plain read."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from random import Random

from . import memory
from .homes import Home, Place, settle
from .measure import HERE, Case, Command, Sample, Took, pair, python, told
from .server import PASSWORD

HEADS = "script: opens every message of both sides, reads 4 KiB"
THROUGH = "script: reads all files of both sides once"
POUR = "script: writes each Maildir into one file, unchanged; fsync"
DRAIN = "a bare socket that reads and drops, CPU"
MSINFO_IDS = 200_000


def cases(place: Place, middle: int) -> list[Case]:
    one, alone = place.messages // 5, 20 if place.messages < 10_000 else 200
    ids = place.messages if place.messages < 10_000 else MSINFO_IDS
    return [
        Case("floor: no-op, Maildir and Maildir", HEADS, lambda rng: _again(place.settled_maildirs, "heads", rng)),
        Case("floor: no-op, mbox and mbox", THROUGH, lambda rng: _again(place.settled_mboxes, "through", rng)),
        Case("floor: 1 % changed, Maildir and Maildir", HEADS, _changing(lambda: place.settled_maildirs, "heads")),
        Case("floor: 1 % changed, mbox and mbox", THROUGH, _changing(lambda: place.settled_mboxes, "through")),
        Case("floor: first, Maildir to Maildir, fsync no", "cp -a", lambda rng: _copied(place, rng, fsync=False)),
        Case("floor: first, Maildir to Maildir", "cp -a; sync -f", lambda rng: _copied(place, rng, fsync=True)),
        Case("floor: first, Maildir to mbox", POUR, lambda rng: _poured(place, rng)),
        *(
            Case(
                f"floor: first, one mbox, per message: {factor * one:,}",
                f"itself: {one:,}",
                _linear(place, one, factor, Home.ours),
            )
            for factor in (2, 4)
        ),
        *(
            Case(
                f"floor: 5.2.7 alone, first, one mbox, per message: {factor * alone:,}",
                f"itself: {alone:,}",
                _linear(place, alone, factor, Home.original),
            )
            for factor in (2, 4)
        ),
        Case(f"floor: fetch of {middle:,} bodies, CPU", DRAIN, _drained(place, middle), goal=4),
        *(
            Case(f"floor: msinfo of {ids:,} ids: {what}", "reading the file", _msinfo(place, ids, what))
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
        home.change(max(8, home.count() // 100), f"change {next(rounds)}")
        sample = _again(home, script, rng)
        settle((home, home.ours()))  # for the case that finds nothing
        return sample

    return measure


def _linear(place: Place, messages: int, factor: int, run: Callable[[Home], Command]) -> Callable[[Random], Sample]:
    def measure(rng: Random) -> Sample:
        few, many = place.one_mbox(messages), place.one_mbox(factor * messages)
        return _checked(many, pair(run(many), run(few), rng, scale=1 / factor))

    return measure


def _drained(place: Place, messages: int) -> Callable[[Random], Sample]:
    def measure(rng: Random) -> Sample:
        account = place.account(messages)
        words = (str(account.port), account.user, PASSWORD)
        taken = {}
        for who in rng.sample(("ours", "bare"), 2):
            seconds, cpu = told(python("-m", "bench.drain", who, *words, directory=place.path))
            taken[who] = Took(seconds, cpu, 0)
        return Sample(taken["ours"].cpu / taken["bare"].cpu, taken["ours"])

    return measure


def _msinfo(place: Place, ids: int, what: str) -> Callable[[Random], Sample]:
    def measure(rng: Random) -> Sample:
        file = place.new()
        memory.write(file, ids)
        read, *ours = told(python("-m", "bench.memory", str(file), directory=place.path))
        seconds = ours[("parse", "format").index(what)]
        return Sample(seconds / read, Took(seconds, seconds, 0))

    return measure


def _script(home: Home, name: str, *paths: str) -> Command:
    return python("-S", str(HERE / "peers.py"), name, *paths, directory=home.path)


def _checked(home: Home, sample: Sample) -> Sample:
    home.check()
    return sample
