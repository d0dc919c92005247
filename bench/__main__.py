"""`python -m bench`: measure all cases, interleaved and in random order, and print one table."""

from __future__ import annotations

import argparse
import signal
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from random import Random

from . import machine, profiling, table
from .cases import cases
from .homes import Place
from .mail import SIZES
from .measure import Case, Unmeasured
from .table import Row


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # gigabytes would stay behind
    messages = options.messages or (1_000 if options.quick else 50_000)
    runs = options.runs or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory(prefix="mailsync-bench-", dir=options.place) as path:
        place = Place(Path(path), messages, options.sizes)
        if options.profile:
            profiling.profile(place, options.profile, options.format)
            return 0
        line = machine.told(place.path)
        rows = _measured(cases(place), runs, Random(options.seed))
    print(line)
    print(f"{messages:,} {options.sizes} messages in ten mailboxes, if not told otherwise; medians of {runs}.\n")
    print(table.text(rows, rst=options.rst))
    return 0


def _measured(todo: list[Case], runs: int, rng: Random) -> list[Row]:
    """Every case once, then every case again: what disturbs the machine for a while disturbs all alike."""
    rows = [Row(case) for case in todo]
    with suppress(KeyboardInterrupt):  # then the table tells what there is
        for run in range(1, runs + 1):
            for row in rng.sample(rows, len(rows)):
                if not row.why_not:
                    print(f"run {run} of {runs}: {row.case.name}", file=sys.stderr, flush=True)
                    _measure(row, rng)
    return rows


def _measure(row: Row, rng: Random) -> None:
    try:
        row.samples.append(row.case.measure(rng))
    except Unmeasured as error:
        row.why_not = str(error)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    add = parser.add_argument
    add("--messages", type=int, help="in each store (default 50000)")
    add("--runs", type=int, help="of every case (default 3)")
    add("--quick", action="store_true", help="1,000 messages, one run: only to see that all works")
    add("--sizes", choices=tuple(SIZES), default="small", help="of the messages: median 2.5 KB (default) or 7 KB")
    add("--rst", action="store_true", help="print the table as reStructuredText")
    add("--place", metavar="DIR", help="where to work (default: the directory for temporary files); needs some GB")
    add("--seed", default="1", help="of the order of the runs")
    add("--profile", choices=profiling.WHAT, help="instead, profile one run, and print what cost most")
    add("--format", choices=("maildir", "mbox"), default="maildir", help="of the mailboxes that are profiled")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
