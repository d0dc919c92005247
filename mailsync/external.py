"""Run what the user configured as a command, and say how it ended. Knows nothing of what commands are for."""

from __future__ import annotations

import os
import re
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import IO, Protocol

from . import stopping

GRACE = 5.0  # seconds that a command has to clean up
TICK = 0.2  # seconds between looks whether it has ended
WHOLE_PIPE = 2**20  # bytes; so much can be in a pipe, as systems come
LONGEST_LINE = 300  # characters that are shown
_STDERR = 2
_SHELL = re.compile(r"""[|&;<>()$`\\"'*?\[\]#~={}!\n]""")


def argv(command: str) -> list[str]:
    """Its words; those of a shell if anything in it needs one. ValueError if there are none."""
    words = ["/bin/sh", "-c", command] if _SHELL.search(command) else command.split()
    if not words:
        raise ValueError("the command is empty")
    return words


def how_it_ended(code: int) -> str:
    """`code`: the return code as subprocess has it, not 0."""
    return f"failed with exit code {code}" if code > 0 else f"was ended by signal {-code}"


def why_not_run(error: OSError | ValueError) -> str:
    return f"cannot be run: {getattr(error, 'strerror', None) or 'it is no command'}"


def too_long(patience: float) -> str:
    return f"did not end within {patience:g} seconds"


@dataclass(frozen=True, slots=True)
class Ended:
    failed: str = ""  # how; empty if it ended well
    last: str = ""  # the last line on its stderr


def run_apart(command: str, stdin: IO[bytes], environ: Mapping[str, str], patience: float) -> Ended:
    """Run a command without a terminal; all it says comes out on our stderr. If we are stopped, so is it.

    What it leaves in the background goes on, is not waited for, and can no longer say anything.
    """
    with ExitStack() as stack:
        try:
            with stopping.undisturbed():
                process = subprocess.Popen(
                    argv(command),
                    stdin=stdin,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    env=environ,
                    start_new_session=True,
                )
                assert process.stdout
                assert process.stderr
                out, err = stack.enter_context(process.stdout), stack.enter_context(process.stderr)
                stack.callback(_end, process)
        except (OSError, ValueError) as error:
            return Ended(why_not_run(error))
        said = _Said(err)
        return Ended(_finished(process, (_Said(out), said), patience), said.last())


def output(command: str, terminal: str, patience: float) -> tuple[str, bytes]:
    """How a command failed (empty: it did not), and what it printed. If we are stopped, so is it.

    It may ask the user on the terminal (empty: there is none) in which it stays; all its words to the user go there.
    """
    with ExitStack() as stack:
        try:
            if terminal:
                from .terminal import kept

                stack.enter_context(kept(terminal))
            stdin = stack.enter_context(open(terminal or os.devnull, "rb"))
            with stopping.undisturbed():
                process = subprocess.Popen(
                    argv(command), stdin=stdin, stdout=subprocess.PIPE, bufsize=0, start_new_session=not terminal
                )
                assert process.stdout
                printed = _Printed(stack.enter_context(process.stdout))
                stack.callback(_end, process, alone=bool(terminal))
        except (OSError, ValueError) as error:
            return why_not_run(error), b""
        failed = _finished(process, (printed,), patience)
        stopping.check()  # Ctrl-C has ended it, too
        return failed, bytes(printed.data)


class _Stream(Protocol):
    """One of those on which a command says something."""

    stream: IO[bytes]

    def hear(self) -> bool:
        """Take all that can be read now. False at the end of the stream."""


class _Printed:
    """What a command prints: kept, and not shown."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self.data = bytearray()
        os.set_blocking(stream.fileno(), False)

    def hear(self) -> bool:
        data = self.stream.read(WHOLE_PIPE)
        self.data += data or b""
        return data != b"" and len(self.data) < WHOLE_PIPE


class _Said:
    """What a command says on one of its streams. It is shown on ours, and the end of it is kept."""

    def __init__(self, stream: IO[bytes]) -> None:
        self.stream = stream
        self._end = b""
        os.set_blocking(stream.fileno(), False)

    def hear(self) -> bool:
        data = self.stream.read(WHOLE_PIPE)
        if data:
            self._end = (self._end + data)[-4 * LONGEST_LINE :]
            with suppress(OSError), open(_STDERR, "wb", closefd=False) as stderr:  # it runs on if nobody reads
                stderr.write(data)
        return data != b""

    def last(self) -> str:
        """The last line that has anything in it."""
        lines = self._end.strip().splitlines() or [b""]
        return lines[-1].decode("utf-8", "surrogateescape")[:LONGEST_LINE]


def _finished(process: subprocess.Popen[bytes], said: Sequence[_Stream], patience: float) -> str:
    """How it failed; empty if it ended well."""
    _hear(process, said, time.monotonic() + patience)
    code = process.returncode
    return too_long(patience) if code is None else how_it_ended(code) if code else ""


def _hear(process: subprocess.Popen[bytes], said: Sequence[_Stream], until: float) -> None:
    """Returns when the process has ended, whoever else may have its streams, or when time is up."""
    with selectors.DefaultSelector() as streams:
        for one in said:
            streams.register(one.stream, selectors.EVENT_READ, one)
        while process.poll() is None and time.monotonic() < until:
            stopping.check()
            if not streams.get_map():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(TICK)
            for key, _ in streams.select(TICK) if streams.get_map() else ():
                if not key.data.hear():
                    streams.unregister(key.fileobj)
    for one in said:
        one.hear()


def _end(process: subprocess.Popen[bytes], *, alone: bool = False) -> None:
    """Unless it has ended, end it, with all it has started if it is not `alone` in a session that is not its own.

    What has gone into a session of its own, or belongs to another user, stays.
    """
    if process.returncode is not None:
        return
    try:
        until = time.monotonic() + GRACE
        _signal(process, signal.SIGTERM, alone)
        while _signal(process, 0, alone) and time.monotonic() < until:
            process.poll()
            time.sleep(0.02)
    finally:  # Ctrl-C may come again
        _signal(process, signal.SIGKILL, alone)
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)


def _signal(process: subprocess.Popen[bytes], signum: int, alone: bool) -> bool:
    """False if nobody is there to get it from us: a command such as sudo is another user's."""
    try:
        if alone:
            process.send_signal(signum)
            return process.returncode is None
        os.killpg(process.pid, signum)
    except (ProcessLookupError, PermissionError):
        return False
    return True
