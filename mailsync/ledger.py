"""The messages that fail again and again: why, and when each is tried next. Until then they hold up nothing.

May be deleted at any time: then they are tried at once. Knows no clock, no store, and not what a step does.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from . import directories
from .drivers import files
from .model import Boxname, Failure, MessageId, Side, Uid
from .plan import Copy, Delete, SetFlags, Step

VERSION = 1
HOUR = 3600
LONGEST = 7 * 24 * HOUR
MOST = 10_000  # entries; those that failed last stay
LONGEST_TEXT = 500  # characters of a reason: some servers quote the message

Kind = Literal["copy", "flags", "delete", "read"]
KINDS: Mapping[str, Kind] = {"copy": "copy", "flags": "flags", "delete": "delete", "read": "read"}


class Case(NamedTuple):
    """What fails: one step for one message; or "read", where the message has no identity for it cannot be read."""

    boxname: Boxname
    kind: Kind
    on: Side  # which the step changes
    uid: Uid  # on the side where the message lies: the other one for a copy
    id: MessageId

    @property
    def lies_on(self) -> Side:
        return self.on.other if self.kind == "copy" else self.on


@dataclass(frozen=True, slots=True)
class Entry:
    """How it failed. Times are whole seconds since the epoch."""

    reason: str
    hint: str
    first: int
    tries: int
    next: int


def case_of(boxname: Boxname, step: Step) -> Case:
    kind: Kind
    match step:
        case Copy():
            kind = "copy"
        case SetFlags():
            kind = "flags"
        case Delete():
            kind = "delete"
    return Case(boxname, kind, step.on, step.entry.uid, step.entry.id)


def pause(tries: int) -> int:
    """Seconds to wait after so many failures: an hour, two, four, ... a week."""
    return min(HOUR << min(tries - 1, 10), LONGEST)


class Ledger:
    """The ledger of one channel. A file that is damaged or not ours is an empty one; `path` None: none is kept."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._entries = {} if path is None else _read(path)  # the one that failed last is the last one
        self.changed = False

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[tuple[Case, Entry]]:
        return iter(list(self._entries.items()))

    def waits(self, case: Case, now: float) -> Entry | None:
        """Why this is not to be tried now; None if it is."""
        entry = self._entries.get(case)
        # One that lies further off was written while the clock went wrong.
        return entry if entry and now < entry.next <= now + LONGEST else None

    def failed(self, case: Case, now: float, reason: str, hint: str = "") -> Entry:
        before = self._entries.pop(case, None)
        tries = before.tries + 1 if before else 1
        entry = Entry(
            reason[:LONGEST_TEXT],
            hint[:LONGEST_TEXT],
            before.first if before else int(now),
            tries,
            int(now) + pause(tries),
        )
        self._entries[case] = entry
        while len(self._entries) > MOST:
            del self._entries[next(iter(self._entries))]
        self.changed = True
        return entry

    def done(self, case: Case) -> None:
        """It did not fail this time."""
        self._drop([case] if case in self._entries else [])

    def keep(self, boxname: Boxname, there: Mapping[Side, Collection[Uid]]) -> None:
        """Drop the entries of messages that are gone from this box.

        `there`: all uids on a side, those of messages that cannot be read among them; sides that were not listed
        completely are left out.
        """
        uids = {side: frozenset(found) for side, found in there.items()}
        self._drop(
            case
            for case in self._entries
            if case.boxname == boxname and case.lies_on in uids and case.uid not in uids[case.lies_on]
        )

    def clear(self, boxnames: Collection[Boxname] | None = None) -> None:
        """Let all messages, or those of some boxes, be tried at once and as if for the first time."""
        self._drop(case for case in self._entries if boxnames is None or case.boxname in boxnames)

    def save(self) -> Failure | None:
        """Write what has changed. Why it cannot be written is a value: that costs further tries, no mail."""
        if self._path is None or not self.changed:
            return None
        try:
            _write(self._path, self._entries)
        except OSError as error:
            return Failure(
                str(self._path),
                f"cannot be written: {files.why(error)}",
                "Until it can, messages that fail are tried again in every run.",
            )
        self.changed = False
        return None

    def _drop(self, cases: Iterable[Case]) -> None:
        for case in list(cases):
            del self._entries[case]
            self.changed = True


# ---- the file --------------------------------------------------------------------------------------------------------


def _read(path: Path) -> dict[Case, Entry]:
    """Nothing where it does not hold what `_write` has written, to the last entry."""
    try:
        with open(path, "rb", opener=directories.regular) as file:
            data = file.read()
    except OSError:
        return {}
    import json  # few runs have a ledger

    try:
        found = json.loads(data)
        return dict(map(_entry, found["entries"])) if found["version"] == VERSION else {}
    except (ValueError, TypeError, KeyError, RecursionError):
        return {}


def _entry(found: Any) -> tuple[Case, Entry]:
    """ValueError, TypeError or KeyError if it is none."""
    case = Case(
        Boxname(_text(found["box"])),
        KINDS[found["kind"]],
        Side(found["on"]),
        Uid(_text(found["uid"])),
        MessageId(_text(found["id"])),
    )
    tries = _number(found["tries"], 1)
    return case, Entry(
        _text(found["reason"]), _text(found["hint"]), _number(found["first"]), tries, _number(found["next"])
    )


def _text(found: object) -> str:
    if not isinstance(found, str):
        raise TypeError
    return found


def _number(found: object, least: int = 0) -> int:
    if type(found) is not int or found < least:
        raise ValueError
    return found


def _write(path: Path, entries: Mapping[Case, Entry]) -> None:
    """Replace the file in one step: a killed run leaves the old one."""
    if not entries:
        path.unlink(missing_ok=True)
        return
    import json

    found = [
        {
            "box": case.boxname,
            "kind": case.kind,
            "on": case.on.value,
            "uid": case.uid,
            "id": case.id,
            "reason": entry.reason,
            "hint": entry.hint,
            "first": entry.first,
            "tries": entry.tries,
            "next": entry.next,
        }
        for case, entry in entries.items()
    ]
    directories.make(str(path.parent), fsync=False)
    temporary = f"{path}.tmp"
    files.remove(temporary)
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb", buffering=0):
            files.write_all(fd, json.dumps({"version": VERSION, "entries": found}).encode())
            os.fsync(fd)
        os.rename(temporary, path)
    except BaseException:
        files.remove(temporary)
        raise
    directories.sync(str(path.parent))
