"""What becomes of a plan before anything is done: --plan writes it to a file, --apply holds it against one.

Knows files and what stands in them; not how a plan is made.
"""

from __future__ import annotations

import os
import stat
import sys
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from tempfile import mkstemp

from . import directories, planfile
from .config.values import ChannelConfig
from .drivers import files
from .errors import MailsyncError, UsageError
from .model import Side
from .out import Out
from .plan import BoxPlan, Plan
from .planfile import ANEW, LARGEST, Asked, Written
from .report import Heads
from .stores import Store

MOST_LINES = 5  # of what is another
STDIN = "/dev/stdin"

HeadsOf = Callable[[BoxPlan], Heads]
Stores = Mapping[Side, Store]


@dataclass(frozen=True, slots=True)
class Keep:
    """--plan."""

    path: str  # "-" is stdout
    channel: ChannelConfig
    asked: Asked

    def __post_init__(self) -> None:
        """UsageError if this file must not be replaced."""
        if self.path != "-":
            _check_replaceable(self.path)

    def __call__(self, plan: Plan, stores: Stores, msinfo: str, heads: HeadsOf) -> None:
        """MailsyncError if it cannot be written; then the file is as it was."""
        text = planfile.text(planfile.described(plan, self.channel, stores, self.asked, msinfo, heads))
        if len(text) > LARGEST:
            raise MailsyncError(
                f"the plan is too large to be kept: {len(text)} bytes, and {LARGEST} are the most",
                "Plan fewer mailboxes at once: CHANNEL:BOX.",
            )
        if self.path == "-":
            _print(text)
        else:
            _write(self.path, text.encode())


@dataclass(frozen=True, slots=True)
class Compare:
    """--apply."""

    path: str
    written: Written
    channel: ChannelConfig

    def __call__(self, plan: Plan, stores: Stores, msinfo: str, heads: HeadsOf) -> None:
        """MailsyncError if the plan is another than that of the file."""
        now = planfile.described(plan, self.channel, stores, self.written.asked, msinfo)
        lines = planfile.differences(self.written.values, now)
        if lines:
            more = len(lines) - MOST_LINES
            shown = lines[:MOST_LINES] + ([f"and {more} more"] if more > 0 else [])
            raise MailsyncError(
                "\n".join([f"the plan in {self.path} is not what a run would do now; nothing was done:", *shown]), ANEW
            )


def asked(options: Namespace, only: tuple[str, ...], oldest: int | None) -> Asked:
    """What a command line asks for."""
    return Asked(only, **{name: getattr(options, name) for name in Asked.options()}, oldest=oldest)


def read(path: str) -> Written:
    """The plan in a file; "-" is stdin. UsageError if there is none."""
    name = STDIN if path == "-" else path
    data = bytearray()
    try:
        with open(name, "rb", buffering=0) as file:
            while len(data) <= LARGEST and (chunk := file.read(files.CHUNK)):
                data += chunk
                if len(data) > files.CHUNK and not planfile.begins(bytes(data[: files.HEAD])):
                    raise UsageError(f"{name} is no plan, for it does not begin as one", ANEW)
    except OSError as err:
        raise UsageError(f"{name} cannot be read: {files.why(err)}", ANEW) from err
    if len(data) > LARGEST:
        raise UsageError(f"{name} is no plan: it has more than {LARGEST} bytes", ANEW)
    return planfile.read(bytes(data), name)


def check_given(options: Namespace, written: Written) -> None:
    """UsageError if an option is given that the plan was not made with."""
    for name in Asked.options():
        value = getattr(options, name)
        if value not in (None, False, "msgid") and value != getattr(written.asked, name):
            raise UsageError(
                f"the plan in {options.apply} was not made with this --{name.replace('_', '-')}",
                "Leave it out: a plan is carried out with the options that it was made with.",
            )


def _print(text: str) -> None:
    out = Out(sys.stdout)
    out.write(text)
    if out.stream is None or out.lost:
        why = files.why(out.lost) if out.lost else "it is closed"
        raise MailsyncError(f"the plan cannot be written to stdout: {why}", "Name a file.")


def _check_replaceable(path: str) -> None:
    """A slip of the pen must not cost a mailbox: only a plan is replaced by a plan, or what is empty."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            return
        with open(path, "rb") as file:
            head = file.read(files.HEAD)
    except FileNotFoundError:
        return
    except OSError as err:
        raise UsageError(f"{path} cannot be read: {files.why(err)}", "Name another file.") from err
    if head and not planfile.begins(head):
        raise UsageError(f"{path} is there already, and is no plan", "Name another file, or remove this one.")


def _write(path: str, data: bytes) -> None:
    """In one step, so that a killed run leaves the old file; what is no regular file (a pipe) is written to."""
    _check_replaceable(path)
    try:
        if os.path.exists(path) and not os.path.isfile(path):
            with open(path, "wb", buffering=0) as file:
                files.write_all(file.fileno(), data)
            return
        path = os.path.realpath(path)  # of a link, what it leads to
        directory, name = os.path.split(path)
        fd, temporary = mkstemp(prefix=f".{name}.", suffix=".tmp", dir=directory)  # 0600
        try:
            with open(fd, "wb", buffering=0):
                files.write_all(fd, data)
                os.fsync(fd)
            os.rename(temporary, path)
        except BaseException:
            files.remove(temporary)
            raise
        directories.sync(directory)
    except OSError as err:
        raise MailsyncError(
            f"the plan cannot be written to {path}: {files.why(err)}", "Name a file in a directory of yours."
        ) from err
