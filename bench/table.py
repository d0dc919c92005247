"""The table: rows of text from samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from statistics import median

from .measure import Case, Sample

HEAD = ("case", "ratio", "min - max", "beside", "seconds", "peak MB")


@dataclass(slots=True)
class Row:
    """A case and its samples, or why there are none."""

    case: Case
    samples: list[Sample] = field(default_factory=list)
    why_not: str = ""

    def cells(self) -> tuple[str, ...]:
        """As in HEAD. A ratio of 0.5: ours took half the time."""
        if not self.samples:
            return self.case.name, "-", "-", f"{self.case.peer} ({self.why_not or 'not measured'})", "-", "-"
        ratios = [sample.ratio for sample in self.samples]
        spread = f"{_short(min(ratios))} - {_short(max(ratios))}"
        seconds = median(sample.ours.seconds for sample in self.samples)
        peak = max(sample.ours.peak for sample in self.samples)
        shown = f"{peak:.0f}" if peak else "-"
        return self.case.name, _short(median(ratios)), spread, self.case.peer, _short(seconds), shown


def text(rows: Sequence[Row], *, rst: bool) -> str:
    """Columns for a terminal; with `rst` between the rules of a simple table."""
    lines = [HEAD, *(row.cells() for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = "  ".join(("=" if rst else "-") * width for width in widths)
    shown = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in lines]
    inner = [shown[0], rule, *shown[1:]]
    return "\n".join([rule, *inner, rule] if rst else inner)


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 20 else f"{number:.1f}" if number >= 3 else f"{number:.3g}"
