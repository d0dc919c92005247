"""A bar on stderr while a run takes its time. Only on a terminal; nothing of it stays on the screen."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from rich.progress import Progress as Bar


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
    """Drawn by rich, which is imported when there is something to draw."""

    def __init__(self) -> None:
        self._live = False

    def look(self, text: str) -> None:
        self._draw(description=text)

    def expect(self, total: int) -> None:
        if total:
            self._draw(description="Synchronizing", total=total)
        else:
            self.pause()

    def advance(self) -> None:
        self._draw(advance=1)

    def pause(self) -> None:
        if self._live:
            self._bar.stop()
            self._live = False

    @cached_property
    def _bar(self) -> Bar:
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            SpinnerColumn,
            TextColumn,
            TimeRemainingColumn,
        )

        bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        bar.add_task("", total=None)
        return bar

    def _draw(self, **changes: Any) -> None:
        self._bar.update(self._bar.task_ids[0], **changes)
        if not self._live:
            self._bar.start()
            self._live = True
