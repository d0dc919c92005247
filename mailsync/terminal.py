"""The terminal, wherever the standard streams lead: who is there types an answer, and its modes are left as they were.

Knows nothing of what is asked.
"""

from __future__ import annotations

import os
import select
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from . import stopping

TICK = 0.5  # seconds; a shell that had the terminal meanwhile may have set it otherwise
_ECHO = 3, termios.ECHO  # where in the modes


def is_there(path: str) -> bool:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def typed(path: str, prompt: str, *, echo: bool) -> str:
    """A line without its end; empty if there is none. If we are stopped, nothing of it is left for who reads next."""
    with open(path, "r+b", buffering=0) as terminal, _modes(terminal.fileno(), hidden=not echo) as again:
        terminal.write(os.fsencode(prompt))
        line = b""
        while not line.endswith(b"\n"):
            while not stopping.poll(terminal, select.POLLIN, TICK):
                again()
            try:
                piece = os.read(terminal.fileno(), 4096)
            except OSError:  # it is gone
                break
            if not piece:
                break
            line += piece
        if not echo:
            with suppress(OSError):
                terminal.write(b"\n")
        return os.fsdecode(line.rstrip(b"\r\n"))


@contextmanager
def kept(path: str) -> Iterator[None]:
    """Whatever a program does with the modes that is ended in the middle."""
    with open(path, "r+b", buffering=0) as terminal, _modes(terminal.fileno(), hidden=False):
        yield


@contextmanager
def _modes(fd: int, *, hidden: bool) -> Iterator[Callable[[], None]]:
    """As they are, or without echo; what is given sets them again. In the end they are as before."""
    before: list[Any] | None = None
    with suppress(termios.error):
        before = termios.tcgetattr(fd)
    wanted = list(before or ())
    if before and hidden:
        at, bit = _ECHO
        wanted[at] &= ~bit

    def again() -> None:
        with suppress(termios.error):
            if before and termios.tcgetattr(fd) != wanted:
                termios.tcsetattr(fd, termios.TCSAFLUSH, wanted)

    try:
        again()
        yield again
    finally:
        with suppress(termios.error):
            if before and _is_ours(fd) and termios.tcgetattr(fd) != before:
                termios.tcsetattr(fd, termios.TCSAFLUSH, before)


def _is_ours(fd: int) -> bool:
    """False in the background: there we would be made to wait."""
    try:
        return os.tcgetpgrp(fd) == os.getpgrp()
    except OSError:
        return False
