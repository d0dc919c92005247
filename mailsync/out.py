"""A stream to write to, which may go away: `mailsync ab | head` must not stop a run half-way."""

from __future__ import annotations

import os

from .stopping import Stopped, writing

TYPE_CHECKING = False  # as in cli
if TYPE_CHECKING:
    from typing import TextIO


class Out:
    """stdout or stderr; None if it was closed from the start. Once it cannot be written any more, it is silent."""

    def __init__(self, stream: TextIO | None) -> None:
        self.stream = stream
        self.lost: OSError | None = None  # why something is missing: a full disk; not that nobody reads
        self.said: list[str] = []  # all of it

    def line(self, text: str = "") -> None:
        self.write(text + "\n")

    def write(self, text: str) -> None:
        self.said.append(text)
        if self.stream is None:
            return
        try:
            with writing():
                try:
                    self.stream.write(text)
                except UnicodeEncodeError:  # what the user's locale cannot show
                    self.stream.write(
                        text.encode(self.stream.encoding, "backslashreplace").decode(self.stream.encoding)
                    )
                self.stream.flush()
        except Stopped:  # nobody reads any more
            self._silence()
            raise
        except OSError as err:
            if not isinstance(err, BrokenPipeError):
                self.lost = err
            self._silence()

    def _silence(self) -> None:
        """For good: the interpreter flushes once more at exit."""
        assert self.stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), self.stream.fileno())

    @property
    def is_terminal(self) -> bool:
        """True where cursor and colour may be used."""
        return (
            self.stream is not None
            and self.stream.isatty()
            and os.environ.get("TERM", "") not in ("", "dumb", "unknown")
        )
