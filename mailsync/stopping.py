"""Stop a thread when a signal has come: where it waits or looks next, it is told to end.

Nowhere else: an exception between any two lines would leave half of something behind, or be lost where Python drops
what is raised while it frees an object. Signals reach the main thread only, which passes them on. In a thread without
a `Stop` all this only polls and sleeps.
"""

from __future__ import annotations

import os
import select
import signal
import time
from _thread import RLock, get_ident  # threading would cost each run a millisecond
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

TYPE_CHECKING = False  # as in cli
if TYPE_CHECKING:
    import socket
    from typing import IO

OBEYED = 2  # signals; the next one kills

_stops: dict[int, Stop] = {}  # by thread


class Stopped(BaseException):
    """A signal: end as Ctrl-C does, with what was done remembered."""

    def __init__(self, signum: int, *, again: bool = False) -> None:
        super().__init__(signum)
        self.code = 128 + signum
        self.again = again  # not the first one: nothing more is to be waited for


class Stop:
    """What stops one thread. It is told of each signal once, so that it can still save what was done."""

    def __init__(self) -> None:
        self._signum = 0
        self._came = 0
        self._told = False
        self.waits = 0  # so many signals end what no bell wakes; 0: nothing waits
        self._lock = RLock()
        self._others: list[Callable[[int], None]] = []  # are told, too
        self.bell, self._rope = os.pipe()  # what is waiting wakes up
        os.set_blocking(self.bell, False)

    def now(self, signum: int) -> None:
        """From any thread."""
        with self._lock:
            if not self._signum:
                os.write(self._rope, b"!")
            self._signum = signum
            others = list(self._others)
        for other in others:
            other(signum)

    def interrupt(self, signum: int, frame: FrameType | None = None) -> None:
        """The handler of signals, in its own thread. The first or second one ends what no bell wakes.

        A third one finds us where nothing waits and nobody looks, and kills.
        """
        self._came += 1
        if self._came > OBEYED:
            signal.signal(signum, signal.SIG_DFL)
            os.kill(os.getpid(), signum)
        self.now(signum)
        if 0 < self.waits <= self._came:
            self.check()

    def follow(self, other: Callable[[int], None]) -> None:
        with self._lock:
            self._others.append(other)

    def leave(self, other: Callable[[int], None]) -> None:
        with self._lock:
            self._others.remove(other)

    def check(self) -> None:
        with self._lock:
            signum, self._signum = self._signum, 0
            if signum:
                with suppress(BlockingIOError):
                    os.read(self.bell, 64)
        if signum:
            again, self._told = self._told, True
            raise Stopped(signum, again=again)

    def close(self) -> None:
        os.close(self.bell)
        os.close(self._rope)


@contextmanager
def signals(handler: Callable[[int, FrameType | None], None], *signums: int) -> Iterator[None]:
    """Let the handler have these; not one that is ignored, as nohup leaves it."""
    before = {signum: signal.getsignal(signum) or signal.SIG_DFL for signum in signums}
    for signum, other in before.items():
        if other is not signal.SIG_IGN:
            signal.signal(signum, handler)
    try:
        yield
    finally:
        for signum, other in before.items():
            signal.signal(signum, other)


@contextmanager
def held_back(*signums: int) -> Iterator[None]:
    """What comes meanwhile, comes afterwards; in a thread other than the main one, none comes anyway."""
    came: list[int] = []
    try:
        with signals(lambda signum, _frame: came.append(signum), *signums):
            yield
    finally:
        for signum in came:
            os.kill(os.getpid(), signum)


@contextmanager
def undisturbed() -> Iterator[None]:
    """What is begun here is begun, or not: no signal comes in between."""
    from threading import current_thread, main_thread  # who begins something has it

    if current_thread() is not main_thread():  # none comes here
        yield
        return
    with held_back(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        yield


@contextmanager
def stopped_by(stop: Stop) -> Iterator[None]:
    """For this thread."""
    before = _stops.get(get_ident())
    _stops[get_ident()] = stop
    try:
        yield
    finally:
        if before is None:
            del _stops[get_ident()]
        else:
            _stops[get_ident()] = before


@contextmanager
def along(other: Callable[[int], None]) -> Iterator[None]:
    """What stops this thread is told to another, too."""
    stop = _stops.get(get_ident())
    if stop is None:
        yield
        return
    stop.follow(other)
    try:
        yield
    finally:
        stop.leave(other)


@contextmanager
def waiting() -> Iterator[None]:
    """For what no bell wakes, such as who types an answer: in the main thread a signal ends it at once."""
    with _ended_by(1):
        check()
        yield


@contextmanager
def writing() -> Iterator[None]:
    """For who reads what we tell: only a second signal ends it, so that what was done is told and remembered first."""
    with _ended_by(2):
        yield


@contextmanager
def _ended_by(signals: int) -> Iterator[None]:
    stop = _stops.get(get_ident())
    if stop is None:
        yield
        return
    before, stop.waits = stop.waits, signals
    try:
        yield
    finally:
        stop.waits = before


def check() -> None:
    """Stopped, if this thread is to end."""
    if stop := _stops.get(get_ident()):
        stop.check()


def poll(sock: socket.socket | IO[bytes], events: int, seconds: float) -> int:
    """Which of these events, or what fault, has come; 0 after so many seconds without any. Stopped as in `check`."""
    waiting = select.poll()
    waiting.register(sock, events)
    if stop := _stops.get(get_ident()):
        waiting.register(stop.bell, select.POLLIN)
    found = dict(waiting.poll(seconds * 1000))
    check()
    return found.get(sock.fileno(), 0)


def sleep(seconds: float) -> None:
    """Stopped as in `check`."""
    stop = _stops.get(get_ident())
    if stop is None:
        time.sleep(seconds)
        return
    waiting = select.poll()
    waiting.register(stop.bell, select.POLLIN)
    waiting.poll(seconds * 1000)
    stop.check()
