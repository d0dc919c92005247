"""What tests found out about servers, told in one table at the end of the run, from whichever process."""

from __future__ import annotations

from collections.abc import Iterable

Cell = tuple[str, str, str]  # row, column, value

_cells: dict[tuple[str, str], str] = {}


def record(row: str, column: str, value: str) -> None:
    """Row: what was tried; column: the server it was tried on."""
    _cells[row, column] = value


def cells() -> list[Cell]:
    """All that was recorded, for another process to `merge`."""
    return [(row, column, value) for (row, column), value in _cells.items()]


def merge(cells: Iterable[Cell]) -> None:
    for cell in cells:
        record(*cell)


def lines() -> list[str]:
    """The table, in the order of names; nothing if nothing was recorded."""
    rows, columns = (sorted({place[at] for place in _cells}) for at in (0, 1))
    if not rows:
        return []
    table = [["", *columns], *([row, *(_cells.get((row, column), "") for column in columns)] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip() for line in table]
