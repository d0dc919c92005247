"""From the command line to an exit code: who is told, what stops a run, and how it ends."""

from __future__ import annotations

import gc
import os
import signal
import sys
from argparse import Namespace
from collections.abc import Sequence
from functools import partial

from . import arguments
from .errors import MailsyncError, UsageError, unexpected
from .out import Out
from .stopping import Stop, Stopped, check, signals, stopped_by, waiting

TYPE_CHECKING = False  # typing itself takes a tenth of the time of a run that finds nothing
if TYPE_CHECKING:
    from .report import Host
    from .report.classic import Classic

STOPPED = MailsyncError("stopped; what was done until then is remembered")


def main(argv: Sequence[str] | None = None) -> int:
    """Run mailsync; returns its exit code."""
    gc.set_threshold(100_000)  # listings are a million small values without cycles: 700 would walk them all the time
    _fill_standard_streams()
    argv = sys.argv[1:] if argv is None else argv
    out, err = Out(sys.stdout), Out(sys.stderr)
    try:
        options = arguments.parse(argv)
    except UsageError as error:
        report: Host = _json(out) if "--json" in argv else _text(out, err)
        report.error(error, error.code)
        return error.code
    from . import settled  # with json, which --version and --help do without

    if (text := settled.told(options)) is not None:
        out.write(text)
        if not out.lost:
            return 0
        code, report = 0, _report(options, out, err)
    else:
        report = _report(options, Out(None) if options.plan == "-" else out, err)
        code = _run(options, report)
    if out.lost:
        report.problem(f"not all output could be written: {out.lost.strerror}")
        return code or 1
    return code


def _run(options: Namespace, report: Host) -> int:
    stop = Stop()
    try:
        with signals(stop.interrupt, signal.SIGINT, signal.SIGTERM, signal.SIGHUP), stopped_by(stop):
            return _carried_out(options, report)
    except Stopped as stopped:  # once more, while the first one was being obeyed
        return stopped.code
    finally:
        stop.close()


def _carried_out(options: Namespace, report: Host) -> int:
    try:
        from .command import Command  # with all that a run needs

        with waiting():  # the configuration may come through a pipe
            command = Command(options, report)
        code = command.run()
        check()
        return code
    except MailsyncError as error:
        report.error(error, error.code)
        return error.code
    except Stopped as stopped:
        report.error(STOPPED, stopped.code)
        return stopped.code
    except Exception as error:
        report.error(unexpected(error), 1)
        return 1


def _fill_standard_streams() -> None:
    """A file opened while 1 or 2 is closed would get that number, and what some library prints would end up in mail."""
    while (fd := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(fd)


def _report(options: Namespace, out: Out, err: Out) -> Host:
    if options.json:
        return _json(out, options.messages, options.warnings or options.debug, options.debug)
    from dataclasses import replace

    from .report.progress import NoProgress, RichProgress

    return replace(
        _text(out, err),
        details=options.messages,
        ids=options.message_ids,
        quiet=options.quiet,
        warnings=options.warnings or options.debug,
        debugging=options.debug,
        progress=RichProgress() if err.is_terminal and not options.quiet else NoProgress(),
        ask=partial(_ask, err) if err.is_terminal and sys.stdin is not None and sys.stdin.isatty() else None,
    )


def _ask(err: Out, question: str) -> str:
    err.write(question)  # stdout may go to a file
    with waiting():
        return sys.stdin.readline()


def _text(out: Out, err: Out) -> Classic:
    from .report.classic import Classic  # with all that a run is made of; --version and --help come at once

    return Classic(out, err, colour=_colour(err))


def _json(out: Out, details: bool = False, warnings: bool = False, debugging: bool = False) -> Host:
    from .report.jsonlines import JsonLines  # with the library's json, which few runs want

    return JsonLines(out, details, warnings, debugging)


def _colour(err: Out) -> bool:
    """Colour only on a terminal that has it, and not if the user said no (https://no-color.org)."""
    return err.is_terminal and not os.environ.get("NO_COLOR")
