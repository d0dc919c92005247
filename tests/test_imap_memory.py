"""How much memory a whole run takes at most: bounded by a batch, not by the mail."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .mail import configure, message
from .servers import Login, server

KB, MB = 1024, 1024 * 1024
LINE = b"The quick brown fox jumps over the lazy dog, and not one byte of it is ever parsed.\n"
LARGE = 100 * MB
# VmHWM is of the process itself; ru_maxrss would begin with the peak of whoever started it.
MEASURED = """
import atexit, re, runpy
def tell():
    print(re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1], file=open("peak", "w"))
atexit.register(tell)
runpy.run_module("mailsync", run_name="__main__", alter_sys=True)
"""


class Place:
    """A home, an account on Dovecot, and a channel between the two."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.server = server("dovecot")
        self.login: Login = self.server.new_login()
        configure(
            home,
            "store near { pat Mail/* prefix Mail/ format maildir fsync no }\n"
            f"store far {{ server {{localhost:{self.server.port}/user={self.login.user}/notls}} passwd secret }}\n"
            "channel c near far { msinfo .msinfo }\n",
        )

    def root(self, side: str) -> Path:
        found = self.home / "Mail" if side == "near" else self.server.maildir(self.login)
        assert found
        return found

    def fill(self, side: str, numbers: range, *, large: int = 0) -> None:
        """Messages of 30 kB, and one of `large` bytes."""
        box = self.root(side) / "box"
        for part in ("cur", "new", "tmp"):
            (box / part).mkdir(parents=True, exist_ok=True)
        for n in numbers:
            size = large if large and n == numbers[-1] else 30 * KB
            with (box / "cur" / f"{1_700_000_000 + n}.{n}.x:2,").open("wb") as file:
                file.write(message(n, b""))
                for _ in range(0, size, MB):
                    file.write(LINE * (min(size, MB) // len(LINE)))
        if side == "far":
            self.server.give(self.login, self.root(side))

    def messages(self, side: str) -> int:
        return sum(1 for part in ("cur", "new") for _ in (self.root(side) / "box" / part).glob("*"))

    def peak(self) -> float:
        """Of one run, in MB."""
        done = subprocess.run(
            [sys.executable, "-c", MEASURED, "c"],
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
            cwd=self.home,
            capture_output=True,
            timeout=100,
        )
        assert (0, b"") == (done.returncode, done.stderr)
        return int((self.home / "peak").read_text()) * KB / 1_000_000


@pytest.fixture
def place(home: Path) -> Place:
    return Place(home)


both_ways = pytest.mark.parametrize("source", ["far", "near"], ids=["from_a_server", "to_a_server"])


@both_ways
def test_two_thousand_messages_take_little_more_than_none(place: Place, source: str) -> None:
    idle = place.peak()
    place.fill(source, range(2000))
    peak = place.peak()

    assert (2000, 2000) == (place.messages("near"), place.messages("far"))
    assert peak < idle + 20


@both_ways
def test_large_message_adds_little_to_small_ones(place: Place, source: str) -> None:
    place.fill(source, range(100))
    small = place.peak()
    place.fill(source, range(100, 200), large=LARGE)
    large = place.peak()

    assert (200, 200) == (place.messages("near"), place.messages("far"))
    assert large < small + 20


@pytest.mark.torture
@both_ways
def test_ten_thousand_messages_of_300_mb_stay_below_100_mb(place: Place, source: str) -> None:
    place.fill(source, range(10_000))
    peak = place.peak()

    assert (10_000, 10_000) == (place.messages("near"), place.messages("far"))
    assert peak < 100
