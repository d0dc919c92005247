"""`python -m bench`: measure all cases, interleaved and in random order, and print one table."""

from __future__ import annotations

import argparse
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from random import Random
from types import FrameType

from . import machine, profiling, table
from .cases import cases
from .homes import Place
from .mail import SIZES
from .measure import Case, Unmeasured
from .table import Row

NEEDS = """Without options: about half an hour on two cores, and 15 GB of disk, which are free again at the end. What a
row is measured beside is used if it is installed: mbsync, OfflineIMAP, mailsync 5.2.7 (/usr/bin/mailsync). Rows with
IMAP need Dovecot; as root it reads mail as uid 5000, to whom DIR must be open. Rows up to 10,000 messages, but for
those of mbox, have messages with a median of 7 KB and a mean of 27 KB. All write durably if not told otherwise. 1 %
changed: of the messages of each side; half are new ones, a quarter is deleted, a quarter has other flags."""


def main() -> int:
    options = _options()
    _ended_by(signal.default_int_handler)  # else gigabytes would stay behind, and a server
    messages = options.messages or (1_000 if options.quick else 50_000)
    runs = options.runs or (1 if options.quick else 3)
    with (
        tempfile.TemporaryDirectory(prefix="mailsync-bench-", dir=options.place) as path,
        closing(Place(Path(path), messages, options.sizes)) as place,
    ):
        if options.profile:
            profiling.profile(place, options.profile, options.format)
            return 0
        line = machine.told(place.path)
        wanted = _wanted(cases(place), options.only)
        rows = _measured(wanted, runs, Random(options.seed))
        _ended_by(signal.SIG_IGN)  # what there is must be removed, and printed
    print(line)
    print(f"{messages:,} {options.sizes} messages in ten mailboxes, if not told otherwise; medians of {runs}.\n")
    print(table.text(rows, rst=options.rst))
    return 1 if any(row.failed for row in rows) else 0


def _ended_by(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup
            signal.signal(number, handler)


def _wanted(todo: list[Case], texts: list[str]) -> list[Case]:
    for text in texts:
        if not any(text in _name(case) for case in todo):
            raise SystemExit(f"no row has {text!r} in its work or peer")
    return [case for case in todo if not texts or any(text in _name(case) for text in texts)]


def _name(case: Case) -> str:
    return f"{case.name} beside {case.peer}" if case.peer else case.name


def _measured(todo: list[Case], runs: int, rng: Random) -> list[Row]:
    """Every case once, then every case again: what disturbs the machine for a while disturbs all alike."""
    rows = [Row(case) for case in todo]
    with suppress(KeyboardInterrupt):  # then the table tells what there is
        for run in range(1, runs + 1):
            for row in rng.sample(rows, len(rows)):
                for _ in range(row.case.repeat):
                    if not row.why_not:
                        _measure(row, rng, f"run {run} of {runs}: ")
    return rows


def _measure(row: Row, rng: Random, when: str) -> None:
    begin = time.monotonic()
    try:
        row.samples.append(row.case.measure(rng))
    except Unmeasured as error:
        row.why_not = str(error)
    except (RuntimeError, OSError, subprocess.CalledProcessError) as error:
        row.why_not, row.failed = "failed", True
        print(error, file=sys.stderr)
    print(f"{when}{_name(row.case)}: {time.monotonic() - begin:.1f} s in all", file=sys.stderr, flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__, epilog=NEEDS)
    add = parser.add_argument
    add("--only", metavar="TEXT", action="append", default=[], help="rows with it in their work or peer; repeatable")
    add("--messages", type=int, help="in each store of the largest rows (default 50000)")
    add("--runs", type=int, help="of every row (default 3)")
    add("--quick", action="store_true", help="1,000 messages, one run, in two minutes: only to see that all works")
    add("--sizes", choices=tuple(SIZES), default="small", help="of the messages: median 2.5 KB (default) or 7 KB")
    add("--rst", action="store_true", help="print the table as reStructuredText")
    add("--place", metavar="DIR", help="where to work (default: the directory for temporary files)")
    add("--seed", default="1", help="of the order of the runs")
    add("--profile", choices=profiling.WHAT, help="instead, profile one run, and print what cost most")
    add("--format", choices=("maildir", "mbox"), default="maildir", help="of the mailboxes that are profiled")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
