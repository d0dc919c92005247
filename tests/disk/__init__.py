"""A faulty disk: mailsync is killed, the power cut, or an error is the answer, at any step that changes something.

The disk holds a whole home. What runs on it does so in a child of the test's process, which has all imported already.
"""

from __future__ import annotations

import importlib
import os
import pickle
import pkgutil
import select
import signal
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import mailsync

from .fuse import Fault, Mounted, mounted, why_not
from .model import MODELS, Disk

__all__ = ["MODELS", "Acted", "Disk", "Fault", "Machine", "import_all", "why_not"]

PATIENCE = 90.0  # seconds; what takes longer hangs

T = TypeVar("T")


def import_all() -> None:
    """What a run imports when it needs it, its children have already."""
    for module in pkgutil.walk_packages(mailsync.__path__, "mailsync."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


@dataclass(frozen=True, slots=True)
class Acted(Generic[T]):
    """What came of something that ran on a disk."""

    answer: T | None  # None: it was killed
    state: Mounted

    @property
    def disk(self) -> Disk:
        return self.state.disk

    @property
    def done(self) -> T:
        assert self.answer is not None, "it was killed"
        return self.answer


@dataclass(frozen=True, slots=True)
class Machine:
    """Where disks are mounted, each as the home of who runs there."""

    home: Path

    def act(self, disk: Disk, what: Callable[[], T], fault: Fault | None = None) -> Acted[T]:
        """Run that in a process of its own. What it raises is raised here, as an AssertionError."""
        with mounted(disk, self.home, fault) as state:
            answer = self._child(what)
        return Acted(answer, state)

    def _child(self, what: Callable[[], T]) -> T | None:
        reading, writing = os.pipe2(os.O_CLOEXEC)
        pid = os.fork()
        if not pid:
            self._run(what, writing)
        os.close(writing)
        raw = b""
        try:
            while select.select([reading], [], [], PATIENCE)[0]:
                if not (more := os.read(reading, 1 << 20)):
                    break
                raw += more
            else:
                raise AssertionError("it hangs")
        finally:
            os.close(reading)
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
        if not raw:
            assert os.WTERMSIG(status) == signal.SIGKILL, status
            return None
        answer, problem = pickle.loads(raw)
        assert not problem, problem
        found: T = answer
        return found

    def _run(self, what: Callable[[], T], writing: int) -> None:
        try:
            os.environ["HOME"] = str(self.home)
            os.chdir(self.home)
            answer: tuple[T | None, str] = (what(), "")
        except BaseException:
            answer = (None, traceback.format_exc())
        try:
            with open(writing, "wb") as pipe:
                pickle.dump(answer, pipe)
        except BaseException:
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(0)
