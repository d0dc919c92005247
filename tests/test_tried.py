"""The table of what was tried, and the one that stands in the README."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from .tried import BEGIN, END, NETWORK, ORDER, PLANTED, SOAK, Tally

README = Path(__file__).parents[1] / "README.rst"


def report(mark: pytest.MarkDecorator, outcome: Literal["passed", "failed"], points: int | None = None) -> object:
    properties: list[tuple[str, object]] = [("tried", mark.args[0])]
    if points is not None:
        properties.append(("points", points))
    return pytest.TestReport("x", ("x", 1, "x"), {}, outcome, None, "call", user_properties=properties)


def test_points_and_failures_are_counted_by_what_was_tried(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text(f"before\n{BEGIN}old\n{END}after\n")
    tally = Tally(page)
    for one in (
        report(SOAK, "passed", 2000),
        report(NETWORK, "passed", 5),
        report(NETWORK, "failed", 2),
        report(PLANTED, "passed"),
        report(PLANTED, "failed"),
    ):
        assert isinstance(one, pytest.TestReport)
        tally.pytest_runtest_logreport(one)
    tally.pytest_sessionfinish()
    lines = page.read_text().splitlines()

    assert "before" == lines[0]
    assert "after" == lines[-1]
    assert [["7", "1"], ["2,000", "0"]] == [
        line.split()[-2:] for line in lines if line.startswith((ORDER[3], ORDER[12]))
    ]
    assert "Of 2 bugs that were put in to see whether these tests find them, 1 were found." in lines


def test_page_without_a_place_for_the_table_is_refused(tmp_path: Path) -> None:
    page = tmp_path / "page"
    page.write_text("text\n")

    with pytest.raises(ValueError):
        Tally(page).pytest_sessionfinish()
    assert "text\n" == page.read_text()


def test_page_tells_of_no_loss_and_of_each_thing_that_was_tried() -> None:
    _, _, rest = README.read_text().partition(BEGIN)
    rows = [line.rsplit(maxsplit=2) for line in rest.partition(END)[0].splitlines() if line.endswith(" 0")]

    assert ORDER == [what for what, _, _ in rows]
