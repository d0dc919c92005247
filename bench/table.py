"""The table: rows of text from samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from .measure import Case, Sample

HEAD = ("work", "beside", "ratio", "min - max", "goal", "met", "seconds", "CPU s", "peak MB")


@dataclass(slots=True)
class Row:
    """A case and its samples, or why there are none."""

    case: Case
    samples: list[Sample] = field(default_factory=list)
    why_not: str = ""
    failed: bool = False

    def cells(self) -> tuple[str, ...]:
        """As in HEAD; the last three are ours. A ratio of 0.5: ours took half the time."""
        case, goal = self.case, self.case.goal
        figures = [sample.figure for sample in self.samples if sample.figure is not None]
        why_not = self.why_not or next((sample.why_not for sample in self.samples if sample.why_not), "not measured")
        beside = case.peer if figures else f"{case.peer} ({why_not})"
        unit = f" {case.unit}" if case.unit else ""
        shown, spread, met = "-", "-", "-"
        if figures:
            shown = _short(median(figures)) + unit
            spread = f"{_short(min(figures))} - {_short(max(figures))}"
            met = "-" if goal is None else "yes" if median(figures) <= goal else "no"
        told = "-" if goal is None else f"<= {goal:g}{unit}"
        return case.name, beside or "-", shown, spread, told, met, *self._ours()

    def _ours(self) -> tuple[str, str, str]:
        if not self.samples:
            return "-", "-", "-"
        ours = [sample.ours for sample in self.samples]
        peak = max(took.peak for took in ours)
        return (
            _short(median(took.seconds for took in ours)),
            _short(median(took.cpu for took in ours)),
            f"{peak:.0f}" if peak else "-",
        )


def text(rows: Sequence[Row], *, rst: bool) -> str:
    """Columns for a terminal; with `rst` a list-table."""
    lines = [HEAD, *(row.cells() for row in rows)]
    if rst:
        listed = [f"   {' ' if at else '*'} - {_escaped(cell)}" for line in lines for at, cell in enumerate(line)]
        return "\n".join([".. list-table::", "   :header-rows: 1", "", *listed])
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "  ".join("-" * width for width in widths)
    shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    return "\n".join([shown[0], rule, *shown[1:]])


def _escaped(cell: str) -> str:
    return "\\-" if cell == "-" else cell


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 20 else f"{number:.1f}" if number >= 3 else f"{number:.3g}"
