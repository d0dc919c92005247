"""Do something in the middle of a run, at whatever moment: before its n-th look at the mail, or change of it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.imap.stream import Stream

BY_NAME = ("open", "stat", "lstat", "scandir", "rename", "replace", "link", "unlink", "mkdir", "rmdir")
BY_NUMBER = ("write", "pwrite", "pread", "ftruncate", "fsync")


@dataclass
class Meanwhile:
    """Calls `act` once, before the step of this number; what `act` does itself is no step. Or `every` so many steps.

    `act` tells whether it could do anything.
    """

    at: int
    act: Callable[[], bool]
    every: int = 0
    passed: int = 0
    what: str = ""  # the step before which it was done
    busy: bool = False
    made: bool = False  # something was done

    def step(self, what: str) -> None:
        if self.busy:
            return
        if self.passed == self.at or (self.every and self.passed % self.every == 0):
            self.what = what
            self.busy = True
            try:
                self.made = self.act() or self.made
            finally:
                self.busy = False
        self.passed += 1

    @contextmanager
    def in_files(self, *roots: Path) -> Iterator[None]:
        """A step is a system call on anything below these directories."""
        with pytest.MonkeyPatch.context() as patch:
            for name in (*BY_NAME, *BY_NUMBER):
                patch.setattr(os, name, self._counted(name, tuple(map(str, roots))))
            yield

    @contextmanager
    def in_commands(self) -> Iterator[None]:
        """A step is anything that is sent to a server."""
        with pytest.MonkeyPatch.context() as patch:
            send = Stream.send

            def counted(stream: Stream, data: bytes) -> None:
                self.step(data[:100].decode("latin-1"))
                send(stream, data)

            patch.setattr(Stream, "send", counted)
            yield

    def _counted(self, name: str, roots: tuple[str, ...]) -> Callable[..., Any]:
        call = getattr(os, name)

        def counted(*args: Any, **kwargs: Any) -> Any:
            if not self.busy:
                what = args[0]
                path = os.readlink(f"/proc/self/fd/{what}") if isinstance(what, int) else os.fspath(what)
                if str(path).startswith(roots):
                    self.step(f"{name} {path}")
            return call(*args, **kwargs)

        return counted
