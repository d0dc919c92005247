"""What runs of a channel have deleted, kept for a while so that `--undo` can put it back.

Each run that deletes something has a directory of its own, with a Maildir for each mailbox, and an index of them; for
what went into the trash of a store, the index says where it lies there. Nothing here is memory: it may be deleted.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from . import directories
from .drivers import files
from .drivers.contract import Box
from .drivers.maildir import Maildir
from .errors import BoxError
from .model import Appended, Boxname, Entry, Mailbox, Side

INDEX = "index.jsonl"
DAY = 24 * 3600
_RUN = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z")


@dataclass(frozen=True, slots=True)
class Record:
    """Where the messages of one mailbox lie."""

    side: Side
    store: str
    boxname: Boxname
    maildir: str = ""  # in the directory of the run
    trash: str = ""  # or the mailbox of the store, with its validity, and what they are there
    validity: str | None = None
    uids: Sequence[str] = ()
    ids: Sequence[str] = ()


@dataclass
class KeptRun:
    """What one run has deleted. Nothing is made before there is something to keep."""

    path: Path
    _maildirs: dict[tuple[Side, Boxname], str] = field(default_factory=dict)

    @property
    def when(self) -> str:
        """Its time, for people."""
        stamp = time.strptime(self.path.name[:15], "%Y%m%dT%H%M%S")
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", stamp)

    @contextmanager
    def place(self, side: Side, store: str, boxname: Boxname) -> Iterator[Box]:
        """The Maildir for what is deleted from this mailbox, open. BoxError if there can be none."""
        name = self._maildirs.get((side, boxname))
        if name is None:
            name = self._maildirs[side, boxname] = str(len(self._maildirs) + 1)
            self._write(Record(side, store, boxname, maildir=name))
        maildir = self.maildir(name)
        maildir.create()
        with maildir.open(write=True) as box:
            yield box

    def note_trash(
        self, side: Side, store: str, trash: str, boxname: Boxname, box: Box, arrived: Sequence[tuple[Entry, Appended]]
    ) -> None:
        uids, ids = [one.uid or "" for _, one in arrived], [entry.id for entry, _ in arrived]
        self._write(Record(side, store, boxname, trash=trash, validity=box.validity, uids=uids, ids=ids))

    def maildir(self, name: str) -> Maildir:
        return Maildir(str(self.path / name), Mailbox(f"{self.path.name}/{name}"))

    def records(self) -> list[Record]:
        """BoxError if they cannot be read."""
        try:
            with open(self.path / INDEX, encoding="utf-8", opener=directories.regular) as file:
                lines = file.read().splitlines()
            return [_record(json.loads(line)) for line in lines if line.endswith("}")]  # the last may be cut off
        except (OSError, ValueError, KeyError, TypeError) as err:
            raise BoxError(f"{self.path / INDEX} cannot be read: {err}") from err

    def holds(self, record: Record) -> bool:
        """False for a Maildir that is in the index and was never made."""
        return not record.maildir or Maildir.recognise(self.maildir(record.maildir).path)

    def remove(self) -> None:
        """All of it: it has been put back, or its time is over."""
        import shutil  # with all compressors, which a run that deletes nothing does without

        shutil.rmtree(self.path, ignore_errors=True)

    def _write(self, record: Record) -> None:
        """Before the first message is put there: what the index does not name cannot be found."""
        line = json.dumps(
            {
                "side": record.side.value,
                "store": record.store,
                "box": record.boxname,
                "maildir": record.maildir,
                "trash": record.trash,
                "validity": record.validity,
                "uids": list(record.uids),
                "ids": list(record.ids),
            }
        )
        try:
            directories.make(str(self.path), fsync=True)
            fd = os.open(self.path / INDEX, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with open(fd, "w", encoding="utf-8") as file:
                file.write(f"{line}\n")
                file.flush()
                os.fsync(fd)
            directories.sync(str(self.path))
        except OSError as err:
            raise BoxError(f"{self.path}: {files.why(err)}") from err


@dataclass(frozen=True, slots=True)
class Kept:
    """All runs of one channel."""

    root: Path

    def begin(self, now: float) -> KeptRun:
        return KeptRun(self.root / _name(now))

    def last(self) -> KeptRun | None:
        """The newest run of which something is kept."""
        names = self._names()
        return KeptRun(self.root / names[-1]) if names else None

    def oldest(self) -> float | None:
        """When the oldest run of which something is kept began, in seconds since the epoch."""
        from calendar import timegm  # with datetime

        names = self._names()
        return timegm(time.strptime(names[0][: len("20261125T120000")], "%Y%m%dT%H%M%S")) if names else None

    def expire(self, before: float) -> None:
        """Forget the runs from before this time."""
        for name in self._names():
            if name < _name(max(before, 0)):
                KeptRun(self.root / name).remove()

    def _names(self) -> list[str]:
        with suppress(OSError):
            return sorted(name for name in os.listdir(self.root) if _RUN.fullmatch(name))
        return []


def _name(when: float) -> str:
    """Of a run: two of one channel never overlap."""
    return f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime(when))}.{int(when % 1 * 10**6):06}Z"


def _record(values: dict[str, object]) -> Record:
    text: Callable[[object], str] = str
    uids, ids, validity = values["uids"], values["ids"], values["validity"]
    if not isinstance(uids, list) or not isinstance(ids, list):
        raise TypeError("uids")
    return Record(
        Side(values["side"]),
        text(values["store"]),
        Boxname(text(values["box"])),
        text(values["maildir"]),
        text(values["trash"]),
        None if validity is None else text(validity),
        uids,
        ids,
    )
