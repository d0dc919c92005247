"""Whether files and directories still are what they were. Knows nothing of mail, and imports next to nothing."""

from __future__ import annotations

import errno
import os
import time

TICK = 0.02  # seconds; the clock of a file system moves in steps of up to 10 ms
COARSE_TICK = 2.5  # or of 1 or 2 seconds, if it keeps no fractions

PLAIN = 5  # numbers of a state
State = tuple[int, ...]  # of what is there: device, inode, size, mtime and ctime in ns; and what `deep_state` adds


def state(path: str) -> State | None:
    """None: there is nothing. ctime, because tools that copy put mtime back. OSError if that cannot be said."""
    try:
        return state_of(os.stat(path))
    except (FileNotFoundError, NotADirectoryError):
        return None


def state_of(found: os.stat_result) -> State:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def deep_state(path: str) -> State | None:
    """Of a directory, the files in which are written anew in their places: also when that was done last."""
    found = state(path)
    if found is None:
        return None
    youngest = 0
    with os.scandir(path) as entries:
        for entry in entries:
            try:
                youngest = max(youngest, entry.stat().st_ctime_ns)
            except OSError as err:
                if err.errno not in (errno.ENOENT, errno.ELOOP):
                    raise
                continue  # renamed just now; or a link to nowhere or in circles, which is no mail
    return *found, youngest


def state_like(path: str, before: State | None) -> State | None:
    """As `before` was found."""
    return deep_state(path) if before is not None and len(before) > PLAIN else state(path)


def lasting(found: State | None) -> bool:
    """Whether any change from now on would make it another one: the clock has moved on since the last."""
    return found is None or all(map(is_past, found[4:]))


def is_past(when: int) -> bool:
    """Whether the clock has moved on since this time, in ns."""
    tick = TICK if when % 10**9 else COARSE_TICK
    return time.time_ns() - when >= tick * 10**9
