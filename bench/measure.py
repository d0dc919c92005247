"""Measure two commands beside each other. Knows neither mail nor tables."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

HERE = Path(__file__).resolve().parent
BOUND = 300  # seconds that a command may take


@dataclass(frozen=True, slots=True)
class Command:
    """A program, where it runs, and what it may know of this computer."""

    words: tuple[str, ...]
    directory: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Took:
    """What a command took."""

    seconds: float
    peak: float  # MB


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of a case: its ratio, and what our part of it took."""

    ratio: float
    ours: Took


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table. `measure` makes all ready, untimed, and measures once; `Unmeasured` if that cannot be."""

    name: str
    peer: str
    measure: Callable[[Random], Sample]


class Unmeasured(Exception):
    """Why a row has no ratio."""


def python(*words: str, directory: Path, environment: Mapping[str, str] | None = None) -> Command:
    return Command((sys.executable, *words), directory, environment or {})


def took(command: Command) -> Took:
    """Run it. Unmeasured if it takes too long; RuntimeError if it fails."""
    done = subprocess.run(
        [sys.executable, "-I", "-S", HERE / "launch.py", str(BOUND), *command.words],
        cwd=command.directory,
        env={"PATH": os.defpath, "PYTHONPATH": str(HERE.parent), "LC_ALL": "C", "TZ": "UTC", **command.environment},
        capture_output=True,
        check=True,
        text=True,
    )
    code, seconds, kib = done.stdout.split()
    if int(code) < 0 and float(seconds) >= BOUND:
        raise Unmeasured(f"not done in {BOUND} s")
    if int(code):
        raise RuntimeError(f"{' '.join(command.words)} ended with {code}:\n{done.stderr}")
    return Took(float(seconds), int(kib) * 1024 / 1e6)


def pair(ours: Command, theirs: Command, rng: Random, *, scale: float = 1) -> Sample:
    """Both in random order: what the first leaves in the caches helps the second."""
    commands = [ours, theirs]
    rng.shuffle(commands)
    taken = {id(command): took(command) for command in commands}
    mine = taken[id(ours)]
    return Sample(mine.seconds / taken[id(theirs)].seconds * scale, mine)
