"""What was done to mailsync on purpose: marks that say so, and the table of the README that counts it.

A test with one of these marks tells how many points it has tried by `record_property("points", n)`; else it is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

Points = Callable[[str, object], None]  # pytest's record_property

# In the order of the table.
KILLED = pytest.mark.tried("kill -9 before and after each change of a file")
POWER = pytest.mark.tried("power cut there: what was not synced is gone")
FAILING = pytest.mark.tried("a change of a file that fails, or a disk that is full")
NETWORK = pytest.mark.tried("connection cut, reset, stalled or chopped")
SERVER = pytest.mark.tried("server that ends, restarts, says BYE or swallows an answer")
OTHERS = pytest.mark.tried("other programs changing the same mail")
TWO = pytest.mark.tried("two mailsyncs on one channel")
CHANGED = pytest.mark.tried("mailboxes made anew, restored, renamed; clocks set back")
LIES = pytest.mark.tried("server that lies")
HOSTILE = pytest.mark.tried("hostile mail, files and configuration")
FUZZED = pytest.mark.tried("random input to a parser")
SECRETS = pytest.mark.tried("secrets, file modes, attacks on TLS")
SOAK = pytest.mark.tried("syncs one after another in one store")
SIGNALS = pytest.mark.tried("Ctrl-C, TERM, HUP, a closed pipe")
# A bug put in on purpose, which the tests above must find: the parameter `bug`, a function or a name; else the test.
PLANTED = pytest.mark.tried("planted")

BEGIN, END = ".. what was tried: by make torture\n", ".. end of what was tried\n"
ORDER = [mark.args[0] for mark in (KILLED, POWER, FAILING, NETWORK, SERVER, OTHERS, TWO, CHANGED)]
ORDER += [mark.args[0] for mark in (LIES, HOSTILE, FUZZED, SECRETS, SOAK, SIGNALS)]


def properties(item: pytest.Item) -> Iterable[tuple[str, str]]:
    """What the report of a test says of it; it may be another thing than the rest of its module."""
    if mark := item.get_closest_marker("tried"):
        yield "tried", mark.args[0]
        if mark.args == PLANTED.args:
            yield "bug", bug_of(item)


def bug_of(item: pytest.Item) -> str:
    """The same for all tests that find it, in whatever format or on whatever server."""
    match item.callspec.params.get("bug") if isinstance(item, pytest.Function) and hasattr(item, "callspec") else None:
        case FunctionType(__name__=name) if name.isidentifier():
            return name
        case str(name):
            return name
        case _:
            return item.nodeid


@dataclass(eq=False)
class Tally:
    """A plugin of pytest: counts points and failed tests by what was tried, in all processes of a test run."""

    file: Path | None  # that has the table
    points: Counter[str] = field(default_factory=Counter)
    failed: Counter[str] = field(default_factory=Counter)
    bugs: dict[str, bool] = field(default_factory=dict)  # True: found, by whatever looked for it

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        properties: Mapping[str, Any] = dict(report.user_properties)
        what, bug = properties.get("tried"), properties.get("bug")
        if what and report.when == "call" and not report.skipped:
            self.points[what] += properties.get("points", 1)
        if what and report.failed:
            self.failed[what] += 1
        if bug and (report.failed or (report.when == "call" and report.passed)):
            self.bugs[bug] = self.bugs.get(bug, True) and report.passed

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter, exitstatus: int) -> None:
        if self.file:
            terminalreporter.write_line(self.written(self.file, exitstatus))

    def written(self, file: Path, exitstatus: int) -> str:
        """What became of the table: a part of it would pass for all."""
        if exitstatus not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            return f"{file} stays as it is: this run was cut off"
        if missing := [what for what in ORDER if not self.points[what]]:
            return f"{file} stays as it is: nothing was tried of {'; '.join(missing)}"
        self.write(file)
        return f"{file} has the table of what was tried"

    def table(self) -> Iterable[str]:
        rows = [(what, f"{self.points[what]:,}", f"{self.failed[what]:,}") for what in ORDER]
        widths = [max(map(len, column)) for column in zip(("what was tried", "points", "losses"), *rows, strict=True)]
        rule = "  ".join("=" * width for width in widths)
        yield rule
        yield f"{'what was tried':{widths[0]}}  {'points':>{widths[1]}}  {'losses':>{widths[2]}}"
        yield rule
        for what, points, failed in rows:
            yield f"{what:{widths[0]}}  {points:>{widths[1]}}  {failed:>{widths[2]}}"
        yield rule
        yield ""
        bugs, found = len(self.bugs), sum(self.bugs.values())
        yield f"Of {bugs} bugs that were put in to see whether these tests find them, {found} were found."

    def write(self, file: Path) -> None:
        """Put the table in place of the one that is there; ValueError if there is no place for it."""
        before, begin, rest = file.read_text().partition(BEGIN)
        _, end, after = rest.partition(END)
        if not (begin and end):
            raise ValueError(f"{file} has no lines {BEGIN!r} and {END!r}")
        table = "".join(f"{line}\n" for line in self.table())
        file.write_text(f"{before}{begin}\n{table}\n{end}{after}")
