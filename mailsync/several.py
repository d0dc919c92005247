"""Several channels: those that have nothing in common run side by side, each chain of them in a thread.

The main thread says what they say and passes signals on. Knows not what the run of a channel is.
"""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from functools import partial
from queue import Empty, SimpleQueue
from threading import Lock, Thread, current_thread

from . import stopping
from .chains import Uses, chains
from .errors import MailsyncError, unexpected, worst
from .report import Ended, Host, Report, Summary
from .stopping import Stop, Stopped

AT_ONCE = 8  # chains
LOOK = 1.0  # seconds; where a signal comes to another thread, the main one learns of it when it wakes up

Act = Callable[[Report, Summary, AbstractContextManager[object]], int]


@dataclass(frozen=True, slots=True)
class Job:
    """One channel, as named.

    `act` runs it and returns its exit code, or raises a MailsyncError. It counts in the summary what is done, and holds
    what it is given last while it uses its msinfo.
    """

    name: str
    uses: Uses
    act: Act


class Several:
    """A run of all these."""

    def __init__(self, report: Host, jobs: Sequence[Job]) -> None:
        self._report, self._jobs = report, jobs
        self._msinfo = {job.uses.msinfo: Lock() for job in jobs}
        self._ended = [Ended(job.name) for job in jobs]
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()  # for the main thread
        self._turns = report.apart([job.name for job in jobs], self._calls.put)
        self._chains = deque(chains([job.uses for job in jobs]))
        self._stops = [Stop() for _ in range(min(AT_ONCE, len(self._chains)))]
        self._threads: set[Thread] = set()
        self._signum = 0

    def run(self) -> int:
        """One that fails does not stop the others. The worst exit code, once all threads have ended.

        After a signal each saves what it has done; then this ends as if the signal had come now.
        """
        for links in self._chains:
            self._report.debug(f"one after the other: {', '.join(self._jobs[link].name for link in links)}")
        self._reports = self._turns.reports()
        with stopping.along(self._stop):
            stopping.check()
            fault = self._hear()
        self._turns.close()
        for stop in self._stops:
            stop.close()
        if fault:
            raise fault
        codes = [ended.code for ended in self._ended if ended.code is not None]
        # An unknown box has no weight, but is no success either.
        code = 128 + self._signum if self._signum else worst(codes) or max(codes)
        self._report.ended(self._ended, code)
        if self._signum:
            raise Stopped(self._signum)
        return code

    # ---- the main thread ---------------------------------------------------------------------------------------------

    def _hear(self) -> BaseException | None:
        """Begin the threads and do what they ask for, until the last has ended. What went wrong here, if anything."""
        fault: BaseException | None = None
        for stop in self._stops:
            self._calls.put(partial(self._begin, stop))
        while self._threads or not self._calls.empty():
            try:
                call = self._calls.get(timeout=LOOK)
            except Empty:
                continue
            try:
                call()
            except Stopped:
                pass
            except BaseException as err:
                fault = fault or err
                self._stop(signal.SIGTERM)
        return fault

    def _begin(self, stop: Stop) -> None:
        if not self._signum:
            thread = Thread(target=self._work, args=(stop,))
            thread.start()
            self._threads.add(thread)

    def _join(self, thread: Thread) -> None:
        thread.join()
        self._threads.remove(thread)

    def _stop(self, signum: int) -> None:
        """At once: what the channels say may come faster than it can be told."""
        self._signum = self._signum or signum
        self._turns.hush()
        for stop in self._stops:
            stop.now(signum)

    # ---- the others --------------------------------------------------------------------------------------------------

    def _work(self, stop: Stop) -> None:
        try:
            with stopping.stopped_by(stop), suppress(Stopped):
                while links := self._next():
                    for link in links:
                        self._run(link)
        finally:
            self._calls.put(partial(self._join, current_thread()))

    def _next(self) -> Sequence[int]:
        with suppress(IndexError):
            return self._chains.popleft()
        return ()

    def _run(self, link: int) -> None:
        job, report, ended = self._jobs[link], self._reports[link], self._ended[link]
        stopping.check()
        try:
            ended.code = job.act(report, ended.summary, self._msinfo[job.uses.msinfo])
        except Stopped as stopped:
            ended.code, ended.why = stopped.code, "stopped"
            raise
        except Exception as err:
            error = err if isinstance(err, MailsyncError) else unexpected(err)
            ended.code, ended.why = error.code, str(error)
            report.error(error, error.code)
        finally:
            self._calls.put(partial(self._turns.over, link))
