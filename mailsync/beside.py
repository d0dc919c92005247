"""Work on one side while the other is waited for: in a thread of its own, which is over when its caller is done.

Knows nothing of stores. Whoever uses this sees to it that nobody else works with what the thread works with.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from queue import Empty, SimpleQueue
from threading import Semaphore, Thread
from typing import Generic, Self, TypeVar

from . import stopping
from .stopping import Stop

AHEAD = 8  # items that nobody has taken yet
LOOK = 1.0  # seconds; where a signal comes to another thread, the main one learns of it when it wakes up

S = TypeVar("S")
T = TypeVar("T")


class Aside(Generic[T]):
    """What a generator gives, as an iterator; an error in it is raised here. To be begun in its `with` block.

    What stops the thread that uses it stops the other one, too.
    """

    def __init__(self, items: Generator[T, None, None]) -> None:
        self._items = items
        self._found: SimpleQueue[tuple[T] | BaseException | None] = SimpleQueue()  # None: no more
        self._room = Semaphore(AHEAD)
        self._begun = self._closed = False
        self._over = False
        self._stop = Stop()
        self._thread = Thread(target=self._work)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.enter_context(stopping.along(self._stop.now))
        return self

    def __exit__(self, *exc: object) -> None:
        with self._stack:
            self._closed = True
            self._stop.now(signal.SIGTERM)
            self._room.release()
            if self._begun:
                self._thread.join()
        self._stop.close()

    @property
    def ready(self) -> bool:
        """True if the next item, or the end, is there."""
        return not self._found.empty()

    def begin(self) -> None:
        with stopping.undisturbed():  # else a signal could leave a thread behind of which nobody knows
            self._thread.start()
            self._begun = True

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if self._over:
            raise StopIteration
        match self._taken():
            case (item,):
                self._room.release()
                return item
            case None:
                self._over = True
                raise StopIteration
            case err:
                self._over = True
                stopping.check()  # it was stopped because we are
                raise err

    def _taken(self) -> tuple[T] | BaseException | None:
        while True:
            try:
                return self._found.get(timeout=LOOK)
            except Empty:
                stopping.check()

    # ---- the other thread --------------------------------------------------------------------------------------------

    def _work(self) -> None:
        end: BaseException | None = None
        try:
            with stopping.stopped_by(self._stop):
                try:
                    for item in self._items:
                        self._room.acquire()
                        if self._closed:
                            break
                        self._found.put((item,))
                finally:
                    self._items.close()
        except BaseException as err:
            end = err
        self._found.put(end)


def both(one: Callable[[], S], other: Callable[[], T]) -> tuple[S, T]:
    """What these come to, done at the same time: `one` in a thread of its own. If `other` fails, `one` is stopped."""

    def items() -> Generator[S, None, None]:
        yield one()

    with Aside(items()) as aside:
        aside.begin()
        found = other()
        return next(aside), found
