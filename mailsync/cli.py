"""From the command line to an exit code: who is told, what stops a run, and how it ends."""

from __future__ import annotations

import gc
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

from . import arguments
from .errors import MailsyncError, UsageError
from .report import Report
from .report.classic import Classic
from .report.out import Out
from .report.progress import NoProgress, RichProgress
from .stopping import Stopped

STOPPED = MailsyncError("stopped; what was done until then is remembered")


def main(argv: Sequence[str] | None = None) -> int:
    """Run mailsync; returns its exit code."""
    _fill_standard_streams()
    argv = sys.argv[1:] if argv is None else argv
    out, err = Out(sys.stdout), Out(sys.stderr)
    try:
        options = arguments.parse(argv)
    except UsageError as error:
        report = _json(out) if "--json" in argv else Classic(out, err, colour=_colour(err))
        report.error(error, error.code)
        return error.code
    report = _report(options, out, err)
    code = _run(options, report)
    if out.lost:
        report.problem(f"not all output could be written: {out.lost.strerror}")
        return code or 1
    return code


def _run(options: Namespace, report: Report) -> int:
    gc.set_threshold(100_000)  # listings are a million small values without cycles: 700 would walk them all the time
    try:
        from .command import Command  # with all that a run needs; --version and --help come at once

        with _stopped_by_signals():
            return Command(options, report).run()
    except MailsyncError as error:
        report.error(error, error.code)
        return error.code
    except KeyboardInterrupt:
        report.error(STOPPED, 130)
        return 130
    except Stopped as stopped:
        report.error(STOPPED, stopped.code)
        return stopped.code
    except Exception as error:
        report.error(_unexpected(error), 1)
        return 1


def _unexpected(error: Exception) -> MailsyncError:
    if isinstance(error, MemoryError):
        unexpected = MailsyncError("out of memory; what was done until then is remembered")
    else:
        unexpected = MailsyncError(
            f"this is a bug in mailsync: {type(error).__name__}: {error}",
            "Run it again with -d, and report all that it tells.",
        )
    unexpected.__cause__ = error
    return unexpected


@contextmanager
def _stopped_by_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Stopped; not one that is ignored, as nohup leaves it."""
    before = {signum: signal.getsignal(signum) or signal.SIG_DFL for signum in (signal.SIGTERM, signal.SIGHUP)}
    for signum, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(signum, _stop)
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _stop(signum: int, frame: FrameType | None) -> None:
    raise Stopped(signum)


def _fill_standard_streams() -> None:
    """A file opened while 1 or 2 is closed would get that number, and what some library prints would end up in mail."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def _report(options: Namespace, out: Out, err: Out) -> Report:
    if options.json:
        return _json(out, options.messages, options.warnings or options.debug, options.debug)
    return Classic(
        out,
        err,
        details=options.messages,
        ids=options.message_ids,
        quiet=options.quiet,
        warnings=options.warnings or options.debug,
        debugging=options.debug,
        progress=RichProgress() if err.is_terminal and not options.quiet else NoProgress(),
        colour=_colour(err),
        ask=partial(_ask, err) if err.is_terminal and sys.stdin is not None and sys.stdin.isatty() else None,
    )


def _ask(err: Out, question: str) -> str:
    err.write(question)  # stdout may go to a file
    return sys.stdin.readline()


def _json(out: Out, details: bool = False, warnings: bool = False, debugging: bool = False) -> Report:
    from .report.jsonlines import JsonLines  # with the library's json, which few runs want

    return JsonLines(out, details, warnings, debugging)


def _colour(err: Out) -> bool:
    """Colour only on a terminal that has it, and not if the user said no (https://no-color.org)."""
    return err.is_terminal and not os.environ.get("NO_COLOR")
