"""More connections to an account, to list many mailboxes: each beside the first one has a thread of its own.

They only look, and only for as long as mailboxes are listed. What one of them cannot do is done on the first one.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from queue import SimpleQueue
from typing import Self

from ...beside import Aside
from ...errors import MailsyncError
from .account import Tell
from .draft import Draft
from .reach import Reach
from .wire import Connection

Flight = Sequence[Draft]
Look = Callable[[Connection, Flight], None]


class Pool:
    """To be used in a `with` block, whose thread it works for."""

    def __init__(self, reaches: Sequence[Reach], look: Look, tell: Tell) -> None:
        self._stack = ExitStack()
        self._look, self._tell = look, tell
        self._idle = [self._worker(reach) for reach in reaches]
        self._busy: list[_Worker] = []

    def __enter__(self) -> Self:
        for worker in self._idle:
            self._stack.enter_context(worker.aside)
            self._stack.callback(worker.todo.put, None)
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def passed(self, flight: Flight) -> Iterator[Flight]:
        """This one, unless somebody else can take it; and those that others are done with, all or in part."""
        if flight and self._idle:
            worker = self._idle.pop()
            worker.begin()
            worker.todo.put(flight)
            self._busy.append(worker)
        else:
            yield flight
        for worker in [worker for worker in self._busy if worker.aside.ready]:
            yield self._done(worker)

    def rest(self) -> Iterator[Flight]:
        """Wait for those that others have."""
        while self._busy:
            yield self._done(self._busy[0])

    def _worker(self, reach: Reach) -> _Worker:
        todo: SimpleQueue[Flight | None] = SimpleQueue()
        return _Worker(self._flights(todo, reach), todo)

    def _done(self, worker: _Worker) -> Flight:
        self._busy.remove(worker)
        flight, goes_on = next(worker.aside)
        if goes_on:
            self._idle.append(worker)
        return flight

    # ---- the other threads -------------------------------------------------------------------------------------------

    def _flights(self, todo: SimpleQueue[Flight | None], reach: Reach) -> Generator[tuple[Flight, bool], None, None]:
        """Each flight as it comes back, and whether another one can be taken."""
        try:
            while flight := todo.get():
                goes_on = True
                try:
                    self._look(reach.connection(), flight)
                except (MailsyncError, OSError) as err:
                    self._tell.odd(f"{reach.account}: one connection less: {err}")
                    goes_on = False
                for draft in flight:
                    if draft.selected is None:
                        draft.failure = None  # perhaps the server only wants to be left alone: it is asked again
                yield flight, goes_on
                if not goes_on:
                    return
        finally:
            reach.end()


class _Worker:
    def __init__(self, flights: Generator[tuple[Flight, bool], None, None], todo: SimpleQueue[Flight | None]) -> None:
        self.todo = todo
        self.aside = Aside(flights)
        self._begun = False

    def begin(self) -> None:
        """A thread and a connection are only made for who has something to do."""
        if not self._begun:
            self._begun = True
            self.aside.begin()
