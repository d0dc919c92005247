"""mailsync beside a peer, each in a home of its own that began with the same mail."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cached_property
from itertools import count
from random import Random

from .homes import AGE, Home, settle
from .measure import Command, Sample, Unmeasured, pair, took


class Beside:
    """`make` gives a home that nothing was done in yet, `peer` what the other runs in it (Unmeasured: it cannot)."""

    def __init__(self, make: Callable[[], Home], peer: Callable[[Home], Command]) -> None:
        self._make, self._peer = make, peer
        self._rounds = count()

    def first(self, rng: Random) -> Sample:
        return self._pair(self._make(), self._able(self._make()), rng)

    def again(self, rng: Random) -> Sample:
        return self._pair(*self._settled, rng)

    def changing(self, messages: int) -> Callable[[Random], Sample]:
        """On each side 1 % of so many messages: half are new, a quarter deleted, a quarter has other flags."""

        def measure(rng: Random) -> Sample:
            seed = f"change {next(self._rounds)}"
            for home in self._settled:
                if isinstance(home, Home):
                    home.change(2 * max(4, messages // 100), seed)
            time.sleep(AGE)
            return self.again(rng)

        return measure

    def growing(self, small: Beside) -> Callable[[Random], Sample]:
        """What a run that finds nothing takes here, beside what it takes there."""
        return lambda rng: pair(self._settled[0].ours(), small._settled[0].ours(), rng)

    def peak_of_first(self, rng: Random) -> Sample:
        return _peak(self._make())

    def peak_of_again(self, rng: Random) -> Sample:
        return _peak(self._settled[0])

    @cached_property
    def _settled(self) -> tuple[Home, Home | Unmeasured]:
        ours, theirs = self._make(), self._able(self._make())
        todo = [(ours, ours.ours())]
        if isinstance(theirs, Home):
            todo.append((theirs, self._peer(theirs.directly())))  # on the slow line it would take minutes
        settle(*todo)
        return ours, theirs

    def _able(self, home: Home) -> Home | Unmeasured:
        try:
            self._peer(home)
        except Unmeasured as error:
            return error
        return home

    def _pair(self, ours: Home, theirs: Home | Unmeasured, rng: Random) -> Sample:
        """Without the other, what ours took."""
        if isinstance(theirs, Unmeasured):
            return _checked(ours, lambda: Sample(None, took(ours.ours()), str(theirs)))
        sample = _checked(ours, lambda: pair(ours.ours(), self._peer(theirs), rng))
        theirs.check()
        return sample


def _peak(home: Home) -> Sample:
    def measure() -> Sample:
        ours = took(home.ours())
        return Sample(ours.peak, ours)

    return _checked(home, measure)


def _checked(home: Home, measure: Callable[[], Sample]) -> Sample:
    sample = measure()
    home.check()
    return sample
