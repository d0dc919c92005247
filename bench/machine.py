"""Where it was measured: a ratio, too, belongs to a machine and a commit."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from contextlib import suppress
from pathlib import Path

from .measure import HERE


def told(place: Path) -> str:
    """One line. `place`: the directory in which all is done."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return (
        f"{cores} cores {_cpu()}, {platform.system()}, Python {platform.python_version()}, {_file_system(place)},"
        f" load {os.getloadavg()[0]:.1f} at the beginning, {time.strftime('%Y-%m-%d')}{_commit()}"
    )


def _cpu() -> str:
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.machine()


def _file_system(place: Path) -> str:
    """The type of the longest mount point above it."""
    with suppress(OSError):
        mounts = [line.split()[1:3] for line in Path("/proc/mounts").read_text().splitlines()]
        return max((point, kind) for point, kind in mounts if place.resolve().is_relative_to(point))[1]
    return "unknown file system"


def _commit() -> str:
    words = ["git", "describe", "--always", "--dirty"]
    with suppress(OSError):
        done = subprocess.run(words, cwd=HERE, capture_output=True, check=False, text=True)
        if done.returncode == 0:
            return f", commit {done.stdout.strip()}"
    return ""
