"""A bar on stderr while a run takes its time. Only on a terminal; nothing of it stays on the screen."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    def look(self, text: str) -> None:
        """What is being looked at, before anyone knows how much is to be done."""

    def expect(self, total: int) -> None: ...
    def advance(self) -> None: ...
    def pause(self) -> None:
        """Clear the line: something is about to be printed."""


class NoProgress:
    """Not on a terminal."""

    def look(self, text: str) -> None: ...
    def expect(self, total: int) -> None: ...
    def advance(self) -> None: ...
    def pause(self) -> None: ...


class RichProgress:
    """Drawn by rich, which is imported when the first bar is."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task("", total=None)
        self._live = False

    def look(self, text: str) -> None:
        self._resume()
        self._bar.update(self._task, description=text)

    def expect(self, total: int) -> None:
        if total:
            self._resume()
            self._bar.update(self._task, description="Synchronizing", total=total)
        else:
            self.pause()

    def advance(self) -> None:
        self._resume()
        self._bar.advance(self._task)

    def pause(self) -> None:
        if self._live:
            self._bar.stop()
            self._live = False

    def _resume(self) -> None:
        if not self._live:
            self._bar.start()
            self._live = True
