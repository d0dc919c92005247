"""A stream to write lines to, which may go away: `mailsync ab | head` must not stop a run half-way."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TextIO


@dataclass
class Out:
    """stdout or stderr. Once nobody reads any more, it is silent."""

    stream: TextIO

    def line(self, text: str = "") -> None:
        self.write(text + "\n")

    def write(self, text: str) -> None:
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            # The interpreter flushes once more at exit: let that go nowhere, too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    @property
    def is_terminal(self) -> bool:
        """True where cursor and colour may be used."""
        return self.stream.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
