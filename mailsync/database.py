"""A file that may be lost at any time, in SQLite: whatever is wrong with it, there is an empty one instead.

Another version's, a damaged one, one on a full disk, one that cannot be made: nobody need know which.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

from .directories import make

WAIT = 1.0  # seconds for another run that is writing to the same file
FAULTS = (sqlite3.Error, UnicodeDecodeError)  # the other, where a damaged name goes into an error's text
PASSING = {
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN,
    sqlite3.SQLITE_READONLY, sqlite3.SQLITE_NOMEM,
}  # fmt: skip


class Database:
    """`schema` makes the tables of this `version`; `path` None: nothing is kept."""

    def __init__(self, path: Path | None, version: int, schema: str, *, write: bool) -> None:
        self._version, self._schema = version, schema
        self._path = path if write else None
        self._db = self._opened(path) if write else self._looked_at(path)
        self.lost = False  # what was in it is there no more

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        with suppress(*FAULTS):
            self._db.close()

    def rows(self, query: str, *values: object) -> list[tuple[object, ...]]:
        """All that it gives; nothing once the database is lost."""
        with self.doubted() as db:
            return db.execute(query, values).fetchall()
        return []

    def row(self, query: str, *values: object) -> tuple[object, ...] | None:
        """The first."""
        return next(iter(self.rows(query, *values)), None)

    @contextmanager
    def doubted(self) -> Iterator[sqlite3.Connection]:
        """The file may be damaged, or the disk full: then all goes on with a database that knows nothing."""
        try:
            yield self._db
        except FAULTS as err:
            self._give_up(spoilt=not _passes(err))

    def _give_up(self, *, spoilt: bool) -> None:
        """Go on with one that knows nothing. `spoilt`: the next run, too."""
        self.close()
        if self._path and spoilt:
            _remove(self._path)
        self._db, self.lost = self._ready(":memory:"), True

    def _looked_at(self, path: Path | None) -> sqlite3.Connection:
        """Without a trace. While somebody writes to it, what is in the file itself is not all of it."""
        if path is not None and path.is_file() and not _beside(path, "-wal").exists():
            with suppress(*FAULTS):
                uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
                return self._checked(sqlite3.connect(uri, uri=True, check_same_thread=False))
        return self._ready(":memory:")

    def _opened(self, path: Path | None) -> sqlite3.Connection:
        if path is None:
            return self._ready(":memory:")
        try:
            return self._made(path)
        except FAULTS as err:
            return self._ready(":memory:") if _passes(err) else self._anew(path)
        except OSError:
            return self._anew(path)

    def _made(self, path: Path) -> sqlite3.Connection:
        """For its owner alone: SQLite gives what it puts beside it the mode that it has."""
        make(str(path.parent))
        # Not what a link leads to: it may be the database of another program, and have no version either.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600))
        return self._ready(str(path))

    def _anew(self, path: Path) -> sqlite3.Connection:
        _remove(path)
        try:
            return self._made(path)
        except (*FAULTS, OSError):
            return self._ready(":memory:")

    def _ready(self, place: str) -> sqlite3.Connection:
        # One thread at a time uses it, but not always the same one.
        db = sqlite3.connect(place, timeout=WAIT, check_same_thread=False)
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] == 0:
                # With a log beside it (WAL) nothing waits for the disk, and a power cut still leaves it whole.
                db.executescript(f"PRAGMA journal_mode=WAL; PRAGMA user_version={self._version}")
            self._checked(db).executescript(f"PRAGMA synchronous=NORMAL; {self._schema}")
        except FAULTS:
            db.close()
            raise
        return db

    def _checked(self, db: sqlite3.Connection) -> sqlite3.Connection:
        try:
            if db.execute("PRAGMA user_version").fetchone()[0] != self._version:
                raise sqlite3.DatabaseError("written by another version")
            db.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchone()
        except FAULTS:
            db.close()
            raise
        return db


def _passes(err: Exception) -> bool:
    """A full disk, another run that writes: not a fault of what is in the file."""
    return getattr(err, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF in PASSING


def _remove(path: Path) -> None:
    for file in (path, _beside(path, "-wal"), _beside(path, "-shm")):
        with suppress(OSError):
            file.unlink()


def _beside(path: Path, what: str) -> Path:
    return path.with_name(path.name + what)


def raw(text: str) -> bytes:
    """What SQLite keeps of a name that may hold bytes of no encoding."""
    return text.encode("utf-8", "surrogateescape")


def text(raw: bytes) -> str:
    """The name again."""
    return raw.decode("utf-8", "surrogateescape")
