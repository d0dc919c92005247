"""bench: it runs, and its table is whole. What it measures is not for tests to judge."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

from bench import table
from bench.cases import cases
from bench.homes import Place
from bench.mail import count_maildirs, count_mboxes, mails, write_maildirs, write_mboxes
from bench.measure import Case, Sample, Took

ROOT = Path(__file__).resolve().parent.parent


def bench(*args: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *args], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_a_quick_run_tells_machine_and_all_cases_and_leaves_nothing(tmp_path: Path) -> None:
    machine, told, blank, head, _, *rows = bench("--quick", "--messages", "200", "--place", str(tmp_path))

    expected = [case.name for case in cases(Place(tmp_path, 200, "small"))]
    assert expected == [row.split("  ")[0] for row in rows]
    assert list(table.HEAD) == [cell.strip() for cell in head.split("  ") if cell.strip()]
    assert " cores " in machine
    assert told.startswith("200 small messages")
    assert blank == ""
    assert not list(tmp_path.iterdir())


def test_a_profile_tells_what_cost_most(tmp_path: Path) -> None:
    told = bench("--messages", "200", "--profile", "noop", "--format", "mbox", "--place", str(tmp_path))

    assert "   Ordered by: internal time" in told
    assert any("function calls" in line for line in told)


def test_the_same_seed_makes_the_same_mail_and_no_id_twice() -> None:
    some = list(mails(300, seed="x"))
    more = [*some, *mails(300, seed="y")]

    ids = Counter(line for mail in more for line in mail.raw.split(b"\n") if line.lower().startswith(b"message-id:"))
    assert some == list(mails(300, seed="x"))
    assert (600, 1) == (len(ids), max(ids.values()))


def test_both_formats_hold_all_mail(tmp_path: Path) -> None:
    write_maildirs(tmp_path / "maildirs", mails(200))
    write_mboxes(tmp_path / "mboxes", mails(200))

    assert (200, 200) == (count_maildirs(tmp_path / "maildirs"), count_mboxes(tmp_path / "mboxes"))


def test_a_row_shows_the_median_and_the_extremes_of_its_ratios() -> None:
    case = Case("one", "other", lambda rng: Sample(1, Took(1, 1)))
    row = table.Row(case, [Sample(ratio, Took(ratio, 10 * ratio)) for ratio in (4, 1, 2)])

    assert ("one", "2", "1 - 4.0", "other", "2", "40") == row.cells()


def test_a_row_without_samples_says_why() -> None:
    row = table.Row(Case("one", "5.2.7", lambda rng: Sample(1, Took(1, 1))), why_not="5.2.7 is not installed")

    assert ("one", "-", "-", "5.2.7 (5.2.7 is not installed)", "-", "-") == row.cells()


def test_rst_is_a_simple_table() -> None:
    rows = [table.Row(Case("one", "other", lambda rng: Sample(1, Took(1, 1))), [Sample(1, Took(1, 0))])]
    rule, head, again, row, end = table.text(rows, rst=True).splitlines()

    assert {rule} == {again, end}
    assert set(rule) == {"=", " "}
    assert head.startswith("case")
    assert row.startswith("one")
