"""`python -m bench.memory FILE`: reads a file of msinfo; parses it; writes it. Prints what each took, in seconds."""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable
from pathlib import Path

from mailsync.msinfo import text

from .mail import BOXES


def write(path: Path, ids: int) -> None:
    """What a channel with so many messages remembers."""
    flags = ("", " (\\Seen)", " (\\Answered \\Seen)")
    lines: list[str] = []
    for number, box in enumerate(BOXES):
        lines.append(box)
        lines += [f"<{n:07}.0f1e2d3c4b5a@mail.example.com>{flags[n % 3]}" for n in range(number, ids, len(BOXES))]
    path.write_text("From: mailsync\nSubject: bench\n\n" + "\n".join(lines) + "\n")


def main(path: Path) -> None:
    gc.set_threshold(100_000)  # as in a run
    raw = path.read_bytes()
    memory, _ = text.parse(raw, "msgid")
    tasks: list[Callable[[], object]] = [
        path.read_bytes,
        lambda: text.parse(raw, "msgid"),
        lambda: text.format(memory, "bench", "msgid", 0),
    ]
    print(*(min(_seconds(task) for _ in range(3)) for task in tasks))


def _seconds(task: Callable[[], object]) -> float:
    begin = time.perf_counter()
    task()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main(Path(sys.argv[1]))
