"""Measure two commands beside each other. Knows neither mail nor tables."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
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
    """What a command took, together with the processes that it started and waited for."""

    seconds: float
    cpu: float  # seconds
    peak: float  # MB


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement of a case: the ratio, or what else it measures, and what our part of it took."""

    figure: float | None  # None: what we are measured beside is not here
    ours: Took
    why_not: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """A row of the table. `measure` makes all ready, untimed, and measures once; `Unmeasured` if that cannot be."""

    name: str
    peer: str
    measure: Callable[[Random], Sample]
    goal: float | None = None  # the figure is to be at most that
    unit: str = ""  # of the figure, where it is no ratio
    repeat: int = 1  # so many samples of each run: what is over soon is measured more often


class Unmeasured(Exception):
    """Why a row has no ratio."""


def python(*words: str, directory: Path, environment: Mapping[str, str] | None = None) -> Command:
    return Command((sys.executable, *words), directory, environment or {})


def took(command: Command) -> Took:
    """Run it. Unmeasured if it takes too long; RuntimeError if it fails."""
    os.sync()  # what others have written is not to be paid by this one
    out, errors, code = _run([sys.executable, "-I", "-S", str(HERE / "launch.py"), str(BOUND), *command.words], command)
    if code == -signal.SIGKILL:
        raise Unmeasured(f"not done in {BOUND} s")
    ended, seconds, cpu, kib = out.split() if code == 0 else (str(code), "0", "0", "0")
    if int(ended):
        raise RuntimeError(f"{' '.join(command.words)} ended with {ended}:\n{errors}")
    return Took(float(seconds), float(cpu), int(kib) * 1024 / 1e6)


def told(command: Command) -> list[float]:
    """The numbers that a command prints. RuntimeError if it fails."""
    out, errors, code = _run(list(command.words), command)
    if code:
        raise RuntimeError(f"{' '.join(command.words)} ended with {code}:\n{errors}")
    return [float(word) for word in out.split()]


def pair(
    ours: Command,
    theirs: Command,
    rng: Random,
    *,
    scale: float = 1,
    what: Callable[[Took], float] = lambda took: took.seconds,
) -> Sample:
    """Both in random order: what the first leaves in the caches helps the second."""
    commands = [ours, theirs]
    rng.shuffle(commands)
    taken = {id(command): took(command) for command in commands}
    mine = taken[id(ours)]
    return Sample(what(mine) / what(taken[id(theirs)]) * scale, mine)


def _run(words: list[str], command: Command) -> tuple[str, str, int]:
    """In a process group of its own, of which nothing is left if this is interrupted."""
    environment = {"PATH": os.defpath, "PYTHONPATH": str(HERE.parent), "LC_ALL": "C", "TZ": "UTC"}
    with subprocess.Popen(
        words,
        cwd=command.directory,
        env={**environment, **command.environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        try:
            out, errors = process.communicate()
        except BaseException:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
    return out, errors, process.returncode
