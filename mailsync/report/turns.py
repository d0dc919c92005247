"""Several channels that speak at the same time: nothing of one comes between what another says.

The first channel that still runs is heard at once. What the others say is kept until it is their turn, so that all
comes in the order in which they were named. Their reports are each for a thread of its own, and hand all to the main
thread: only that one writes, draws and asks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from .. import stopping
from ..out import Out
from .printable import printable
from .progress import NoProgress, Progress

if TYPE_CHECKING:
    from . import Report

Post = Callable[[Callable[[], None]], None]  # have the main thread call this
Ask = Callable[[str], str]
LOOK = 0.2  # seconds between looks whether who waits for an answer is to end


@dataclass(frozen=True, slots=True)
class Voice:
    """What the report of one channel speaks through."""

    channel: str
    out: Out
    err: Out
    progress: Progress
    ask: Ask | None


@dataclass
class Turns:
    """What all of them share. In the main thread but for the reports."""

    channels: Sequence[str]
    post: Post
    out: Out
    err: Out
    report: Callable[[Voice], Report]
    progress: Progress = field(default_factory=NoProgress)
    ask: Ask | None = None
    in_order: bool = True  # else each is heard at once
    _hushed: bool = False  # nothing is asked any more
    _steps: int = 0
    _now: int = 0  # whose turn it is
    _over: set[int] = field(default_factory=set)
    _kept: dict[int, list[tuple[Out, str]]] = field(default_factory=dict)

    def reports(self) -> list[Report]:
        """In the order of the channels."""
        self.progress.look("Looking ...")
        return [self.report(self._voice(number)) for number in range(len(self.channels))]

    def over(self, number: int) -> None:
        """This channel has said all."""
        self._over.add(number)
        while self._now in self._over:
            self._now += 1
            self._let_out(self._now)

    def hush(self) -> None:
        """What is asked now gets an empty answer."""
        self._hushed = True

    def close(self) -> None:
        """Let out what is left, and clear the line."""
        for number in sorted(self._kept):
            self._let_out(number)
        self.progress.pause()

    # ---- for the thread of a channel ---------------------------------------------------------------------------------

    def _voice(self, number: int) -> Voice:
        return Voice(
            self.channels[number],
            _Posted(lambda text: self.post(partial(self._said, number, self.out, text))),
            _Posted(lambda text: self.post(partial(self._said, number, self.err, text))),
            NoProgress() if isinstance(self.progress, NoProgress) else _PostedProgress(self),
            partial(self._question, number) if self.ask else None,
        )

    def _question(self, number: int, question: str) -> str:
        answer: SimpleQueue[str] = SimpleQueue()
        self.post(partial(self._asked, self.channels[number], question, answer))
        while True:
            try:
                return answer.get(timeout=LOOK)
            except Empty:
                stopping.check()

    # ---- for the main thread -----------------------------------------------------------------------------------------

    def _said(self, number: int, out: Out, text: str) -> None:
        if self.in_order and number != self._now:
            self._kept.setdefault(number, []).append((out, text))
        else:
            self.progress.pause()
            out.write(text)

    def _let_out(self, number: int) -> None:
        for out, text in self._kept.pop(number, ()):
            self.progress.pause()
            out.write(text)

    def _asked(self, channel: str, question: str, answer: SimpleQueue[str]) -> None:
        if self._hushed or self.ask is None:
            answer.put("")
            return
        self.progress.pause()
        answer.put(self.ask(f"Channel {printable(channel)}:\n{question}"))

    def expect(self, steps: int) -> None:
        """So many more."""
        self._steps += steps
        self.progress.expect(self._steps)


class _Posted(Out):
    """A stream of one channel."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(None)
        self._say = say

    def write(self, text: str) -> None:
        self.said.append(text)
        self._say(text)


@dataclass(frozen=True, slots=True)
class _PostedProgress:
    """One bar for all channels together."""

    turns: Turns

    def look(self, text: str) -> None: ...

    def expect(self, total: int) -> None:
        if total:
            self.turns.post(partial(self.turns.expect, total))

    def advance(self) -> None:
        self.turns.post(self.turns.progress.advance)

    def pause(self) -> None: ...
