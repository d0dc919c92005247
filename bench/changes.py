"""What other programs do to mail between two runs: it comes, is read, is deleted."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from random import Random

from .mail import BOXES, Mail, mails, write_maildirs, write_mboxes


def change_maildirs(roots: Iterable[Path], count: int, seed: str) -> None:
    """So many changes, spread over these stores: half are new mail, a quarter flags, a quarter deletions."""
    for side, new, rng in _shares(roots, count, seed):
        found = sorted(path for box in BOXES for path in (side / box / "cur").iterdir())
        some = rng.sample(found, min(len(new), len(found)))
        for path in some[::2]:
            path.unlink()
        for path in some[1::2]:
            letters = set(path.name.rpartition(",")[2]) ^ {"F"}
            path.rename(path.with_name(path.name.rpartition(",")[0] + "," + "".join(sorted(letters))))
        write_maildirs(side, new, arriving=True)


def change_mboxes(roots: Iterable[Path], count: int, seed: str) -> None:
    """The same for mbox files."""
    for side, new, rng in _shares(roots, count, seed):
        texts = {box: _split((side / box).read_bytes()) for box in BOXES if (side / box).exists()}
        where = [(box, number) for box, parts in texts.items() for number in range(len(parts))]
        some = rng.sample(where, min(len(new), len(where)))
        for box, number in some[::2]:
            texts[box][number] = b""
        for box, number in some[1::2]:
            texts[box][number] = _flagged(texts[box][number])
        for box in {box for box, _ in some}:
            (side / box).write_bytes(b"".join(texts[box]))
        write_mboxes(side, new)


def _shares(roots: Iterable[Path], count: int, seed: str) -> list[tuple[Path, list[Mail], Random]]:
    sides = list(roots)
    new = mails(count // 2, seed=f"{seed}.new")
    each = count // 2 // len(sides)
    return [(side, list(islice(new, each)), Random(f"{seed} {number}")) for number, side in enumerate(sides)]


def _split(text: bytes) -> list[bytes]:
    """The messages of an mbox. The first may be where c-client keeps its numbers: it stays as it is."""
    parts = text.split(b"\n\nFrom ")
    return [
        (b"From " if at else b"") + part + (b"\n\n" if at < len(parts) - 1 else b"") for at, part in enumerate(parts)
    ]


def _flagged(text: bytes) -> bytes:
    """Flagged, or no longer."""
    header, blank, body = text.partition(b"\n\n")
    if b"FOLDER INTERNAL DATA" in header:
        return text
    lines = header.split(b"\n")
    was = [line for line in lines if line.lower().startswith(b"x-status:")]
    letters = was[0].split(b":")[1].strip() if was else b""
    now = letters.replace(b"F", b"") if b"F" in letters else letters + b"F"
    lines = [line for line in lines if line not in was]
    return b"\n".join([lines[0], b"X-Status: " + now, *lines[1:]]) + blank + body
