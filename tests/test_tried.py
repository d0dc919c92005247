"""The table of what was tried, and the one that stands in the README."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

from .tried import BEGIN, END, NETWORK, ORDER, PLANTED, SOAK, Tally, bug_of

README = Path(__file__).parents[1] / "README.rst"


def report(
    mark: pytest.MarkDecorator, outcome: Literal["passed", "failed", "skipped"], **properties: object
) -> pytest.TestReport:
    told = {"tried": mark.args[0], **properties}
    return pytest.TestReport("x", ("x", 1, "x"), {}, outcome, None, "call", user_properties=told.items())


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "page"
    path.write_text(f"before\n{BEGIN}old\n{END}after\n")
    return path


def tallied(page: Path, *reports: pytest.TestReport) -> Tally:
    """A point of each thing, and these."""
    tally = Tally(page)
    for one in (*(report(pytest.mark.tried(what), "passed") for what in ORDER), *reports):
        tally.pytest_runtest_logreport(one)
    return tally


def test_points_and_failures_are_counted_by_what_was_tried(page: Path) -> None:
    tally = tallied(
        page,
        report(SOAK, "passed", points=2000),
        report(NETWORK, "passed", points=5),
        report(NETWORK, "failed", points=2),
        report(NETWORK, "skipped"),
    )

    assert f"{page} has the table of what was tried" == tally.written(page, pytest.ExitCode.TESTS_FAILED)
    lines = page.read_text().splitlines()
    assert "before" == lines[0]
    assert "after" == lines[-1]
    assert [["8", "1"], ["2,001", "0"]] == [
        line.split()[-2:] for line in lines if line.startswith((ORDER[3], ORDER[12]))
    ]


def test_bug_that_several_tests_look_for_is_one_bug(page: Path) -> None:
    tally = tallied(
        page,
        report(PLANTED, "passed", bug="one"),
        report(PLANTED, "passed", bug="one"),
        report(PLANTED, "passed", bug="missed here"),
        report(PLANTED, "failed", bug="missed here"),
        report(PLANTED, "skipped", bug="nobody looked"),
    )

    tally.written(page, pytest.ExitCode.TESTS_FAILED)

    assert "Of 2 bugs that were put in to see whether these tests find them, 1 were found.\n" in page.read_text()


def put_in() -> None:
    pass


@pytest.mark.parametrize(
    ("bug", "name"),
    [(put_in, "put_in"), ("some name", "some name"), (lambda: None, ""), (object(), "")],
    ids=["function", "name", "lambda", "object"],
)
def test_bug_is_named_by_its_parameter_or_else_by_the_test(
    bug: object, name: str, request: pytest.FixtureRequest
) -> None:
    assert (name or request.node.nodeid) == bug_of(request.node)


def test_bug_without_parameter_is_named_by_the_test(request: pytest.FixtureRequest) -> None:
    assert request.node.nodeid == bug_of(request.node)


def test_part_of_what_is_to_be_tried_writes_no_table(page: Path) -> None:
    tally = Tally(page)
    tally.pytest_runtest_logreport(report(NETWORK, "passed", points=5))

    told = tally.written(page, pytest.ExitCode.OK)

    assert told.startswith(f"{page} stays as it is: nothing was tried of {ORDER[0]}; {ORDER[1]}")
    assert ORDER[3] not in told
    assert f"{page} stays as it is: this run was cut off" == tallied(page).written(page, pytest.ExitCode.INTERRUPTED)
    assert f"before\n{BEGIN}old\n{END}after\n" == page.read_text()


def test_page_without_a_place_for_the_table_is_refused(page: Path) -> None:
    page.write_text("text\n")

    with pytest.raises(ValueError):
        tallied(page).written(page, pytest.ExitCode.OK)
    assert "text\n" == page.read_text()


def test_page_tells_of_no_loss_and_of_each_thing_that_was_tried() -> None:
    _, _, rest = README.read_text().partition(BEGIN)
    rows = [line.rsplit(maxsplit=2) for line in rest.partition(END)[0].splitlines() if line.endswith(" 0")]

    assert ORDER == [what for what, _, _ in rows]
