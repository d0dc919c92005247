"""A configuration between text and values: its blocks, and what is found wrong with them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice

from ..wording import quoted
from .source import Source, Word

MOST_FAULTS = 100
NAMES = {"store": 1, "channel": 3, "group": 1}  # how many each kind of block has


@dataclass(frozen=True, slots=True)
class Block:
    """A store, a channel or a group as it stands in the file."""

    kind: str
    names: tuple[Word, ...]  # its own; of a channel also those of its stores
    settings: tuple[tuple[Word, ...], ...] = ()  # each is a key and its values
    members: tuple[Word, ...] = ()  # of a group

    @property
    def name(self) -> Word:
        return self.names[0]

    def __str__(self) -> str:
        return f"{self.kind} {quoted(self.name.text)}"


@dataclass(slots=True)
class Reading:
    """What is found wrong, while the file is read."""

    source: Source
    faults: dict[int, str] = field(default_factory=dict)  # by offset, the first of each place
    warnings: list[tuple[int, str]] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)  # names of blocks that could not be read: they are there all the same
    cut: bool = False  # too many syntax errors to go on

    def fault(self, at: int, message: str) -> None:
        self.faults.setdefault(at, message)

    def warn(self, at: int, message: str) -> None:
        self.warnings.append((at, f"{self.source.place(at)}: {message}"))

    def report(self) -> str:
        shown = [self.source.fault(at, message) for at, message in islice(sorted(self.faults.items()), MOST_FAULTS)]
        more = len(self.faults) - len(shown)
        return "\n".join([*shown, f"and {more} more faults"] if more else shown)
