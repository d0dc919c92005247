"""Where the time of one run goes."""

from __future__ import annotations

import pstats
import sys
from dataclasses import replace

from .homes import Home, Place
from .measure import took

WHAT = ("first", "noop", "changed")
TOP = 25


def profile(place: Place, what: str, format: str) -> None:
    """Print the functions of this run that cost most, by the time spent in themselves."""
    file = place.new()
    command = _home(place, what, format).ours()
    program, *words = command.words
    took(replace(command, words=(program, "-m", "cProfile", "-o", str(file), *words)))
    stats = pstats.Stats(str(file), stream=sys.stdout)
    stats.sort_stats("tottime").print_stats(TOP)


def _home(place: Place, what: str, format: str) -> Home:
    if what == "first":
        return place.home(format, a=place.maildirs)
    home = place.settled_mboxes if format == "mbox" else place.settled_maildirs
    if what == "changed":
        home.change(place.messages // 100, "profile")
    return home
