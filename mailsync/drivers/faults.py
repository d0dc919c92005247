"""What is wrong with how a local mailbox is kept, format by format. Reads only; knows nothing of stores or messages."""

from __future__ import annotations

import os
import stat
import time
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing

from ..errors import BoxError
from ..model import Fault, Mailbox
from ..names import MAILDIR_PARTS
from ..wording import many
from .delivery import ABANDONED
from .files import open_quietly, scan
from .flags import Ranges, split_name
from .locks import locked
from .maildir import Maildir
from .mboxfile import FileData
from .mboxscan import first_postmark, has_crlf, messages
from .mboxspool import unfinished
from .mboxtext import CHUNK, LONGEST_LINE, Source, is_postmark
from .mh import Mh

CURRENT = "cur"  # a sequence that goes on naming a message after that is gone: nmh looks for the nearest


def of_mailbox(format: str, path: str, mailbox: Mailbox) -> Sequence[Fault]:
    """Of what was recognised as this format. OSError or BoxError where it cannot be looked into."""
    match format:
        case "maildir":
            return list(of_maildir(path, mailbox, time.time()))
        case "mbox":
            return list(of_mbox(path))
        case "mh":
            return list(of_mh(path, mailbox))
    return ()


def of_no_mailbox(path: str) -> Sequence[Fault]:
    """Of what no format recognises: the rest of a Maildir, or an mbox behind something else. OSError as above."""
    try:
        mode = os.stat(path).st_mode
    except FileNotFoundError:
        return ()
    if stat.S_ISDIR(mode):
        return list(_of_half_maildir(path))
    return list(_of_hidden_mbox(path)) if stat.S_ISREG(mode) else ()


# ---- Maildir ---------------------------------------------------------------------------------------------------------


def of_maildir(path: str, mailbox: Mailbox, now: float) -> Iterator[Fault]:
    """`now`: seconds since the epoch."""
    with scan(os.path.join(path, "tmp")) as found:
        # By ctime: mtime is the date of the message.
        old = sorted(e.name for e in found if e.stat(follow_symlinks=False).st_ctime < now - ABANDONED)
    if old:
        hint = f"What was never delivered; look at it, then remove it from {os.path.join(path, 'tmp')}."
        yield Fault("abandoned", f"{many(len(old), 'file')} in tmp, older than 36 hours,", len(old), old, hint)
    known = {chr(ord("a") + number) for number in Maildir(path, mailbox).keywords()}
    odd: list[str] = []
    lost: Counter[str] = Counter()
    with scan(os.path.join(path, "cur")) as found:
        for entry in found:
            if entry.name.startswith("."):
                continue
            name = split_name(entry.name)
            if not name.separator:
                odd.append(entry.name)
            lost.update(c for c in set(name.letters) if "a" <= c <= "z" and c not in known)
    if odd:
        yield Fault("odd-name", f"{many(len(odd), 'name')} without flags (:2,) in cur", len(odd), sorted(odd))
    if lost:
        names = [f"{letter}: {many(lost[letter], 'message')}" for letter in sorted(lost)]
        what = f"{many(len(lost), 'letter')} that dovecot-keywords gives no meaning"
        yield Fault("lost-keyword", what, len(lost), names)


def _of_half_maildir(path: str) -> Iterator[Fault]:
    """With one part missing it is told when it is listed; with two it passes for a level of names."""
    there = [part for part in sorted(MAILDIR_PARTS) if os.path.isdir(os.path.join(path, part))]
    files = [f"{part}/{name}" for part in there for name in _files(os.path.join(path, part))]
    if len(there) == 1 and files:
        missing = [os.path.join(path, part) for part in sorted(MAILDIR_PARTS.difference(there))]
        what = f"{many(len(files), 'file')} in {there[0]}, without the other parts of a Maildir,"
        yield Fault("half-maildir", what, len(files), files, f"mkdir {' '.join(missing)}")


def _files(path: str) -> list[str]:
    with scan(path) as found:
        return sorted(e.name for e in found if e.is_file(follow_symlinks=False) and not e.name.startswith("."))


# ---- mbox ------------------------------------------------------------------------------------------------------------


def of_mbox(path: str) -> Iterator[Fault]:
    """Locked for reading, as it is to be listed. BoxError if that cannot be had."""
    with locked(path, write=False) as lock:
        size = os.fstat(lock.fd).st_size
        if not size:
            return
        with closing(FileData(lock.fd, size)) as data:
            killed = unfinished(lock.path, lock.fd)
            end = killed.start if killed else size
            if killed:
                what = (
                    f"{many(killed.end - killed.start, 'byte')} of a run that was killed, which the next one removes,"
                )
                yield Fault("unfinished", what, killed.end - killed.start)
            try:
                lines = list(_from_lines(data, end))
            except ValueError as err:  # it was one when it was recognised
                raise BoxError(f"{path}: {err}") from err
            if lines:
                what = f"{many(len(lines), 'line')} that begin with From inside messages, not quoted,"
                yield Fault("unquoted-from", what, len(lines), [f"at byte {at}" for at in lines])
            if data[end - 1 : end] != b"\n":
                yield Fault("no-last-newline", "1 message whose last line has no end")


def _from_lines(data: Source, end: int) -> Iterator[int]:
    """Where lines begin that other programs may take for the beginning of a message. ValueError if it is no mbox."""
    start = first_postmark(data)
    for span, _ in messages(data, start, has_crlf(data, start)):
        for base in range(span.body - 1, min(span.end, end), CHUNK):
            block = data[base : min(base + CHUNK + len(b"From "), span.end, end)]
            at = block.find(b"\nFrom ")
            while at >= 0:
                yield base + at + 1
                at = block.find(b"\nFrom ", at + 1)


def _of_hidden_mbox(path: str) -> Iterator[Fault]:
    """A file is an mbox only if it begins as one: whatever was written before the first message hides all of them."""
    fd = open_quietly(path, os.O_NONBLOCK)
    try:
        lead = os.pread(fd, CHUNK, 0)
    finally:
        os.close(fd)
    at = lead.find(b"\nFrom ") + 1
    while at:
        if is_postmark(lead[at : at + LONGEST_LINE].partition(b"\n")[0]):
            what = f"{many(at, 'byte')} before the first message of an mbox, which hide all of it,"
            yield Fault("hidden-mbox", what, at, (), f"Take them away from the beginning of {path}.")
            return
        at = lead.find(b"\nFrom ", at) + 1


# ---- MH --------------------------------------------------------------------------------------------------------------


def of_mh(path: str, mailbox: Mailbox) -> Iterator[Fault]:
    box = Mh(path, mailbox)
    numbers = box.numbers()
    missing = {name: _missing(ranges, numbers) for name, ranges in box.sequences().items() if name != CURRENT}
    names = [f"{name}: {missing[name]}" for name in sorted(missing) if missing[name]]
    if names:
        what = f"{many(len(names), 'sequence')} with numbers of messages that are not there"
        yield Fault("lost-sequence", what, len(names), names)
    with scan(path) as found:
        odd = sorted(
            e.name for e in found if e.name.isascii() and e.name.isdigit() and e.name[0] == "0" and e.is_file()
        )
    if odd:
        what = f"{many(len(odd), 'file')} whose number begins with 0, no message to any program,"
        yield Fault("odd-number", what, len(odd), odd, "Rename them to numbers that are free.")


def _missing(ranges: Ranges, numbers: Sequence[int]) -> int:
    return sum(last - first + 1 - (bisect_right(numbers, last) - bisect_left(numbers, first)) for first, last in ranges)
