"""What each side listed when the memory was saved. May be deleted at any time: it never is the memory.

It answers three questions. Was this uid there when the memory was saved? (If not, it is another message under a known
id.) Is this mailbox the one that was seen last time? What named it then, whatever it was called?
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from typing import Self

from .model import Boxname, Side, Uid

VERSION = 3
SCHEMA = """
CREATE TABLE IF NOT EXISTS saved (msinfo TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS box
  (name BLOB, side TEXT, validity TEXT, uids TEXT, identity TEXT, PRIMARY KEY (name, side)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uid (name BLOB, side TEXT, uid BLOB, PRIMARY KEY (name, side, uid)) WITHOUT ROWID;
"""


class Cache:
    """The cache of one channel. Every fault of the file itself is healed by starting with an empty one."""

    def __init__(self, path: Path | None, msinfo: str, *, write: bool = True) -> None:
        """`msinfo`: digest of the memory as it was loaded. `path` None: remember nothing."""
        self._db = _opened(path) if write else _looked_at(path)
        self._fits = True
        row = self._asked("SELECT msinfo FROM saved", ())
        self._fits = row is not None and row[0] == msinfo
        self._msinfo = msinfo
        self._noted: set[tuple[bytes, str]] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._db.close()

    def recorder(self, boxname: Boxname, validity: Mapping[Side, str | None]) -> Callable[[Side, Uid], bool | None]:
        """Answers for one box: was this uid there when the memory was saved? None: no record tells."""
        known = {side: self._fits and self._same(boxname, side, validity[side], listed=True) for side in Side}

        def recorded(side: Side, uid: Uid) -> bool | None:
            if not known[side] or not self._fits:
                return None
            where = (_raw(boxname), side.value, _raw(uid))
            found = self._asked("SELECT 1 FROM uid WHERE name=? AND side=? AND uid=?", where)
            return found is not None if self._fits else None

        return recorded

    def is_same(self, boxname: Boxname, side: Side, validity: str | None) -> bool:
        """True if the mailbox surely is the one that was seen last time, whatever it holds now."""
        return validity is not None and self._same(boxname, side, validity)

    def identity(self, boxname: Boxname, side: Side) -> str | None:
        """What named this mailbox last time, whatever it was called; None: no record tells."""
        row = self._asked("SELECT identity FROM box WHERE name=? AND side=?", (_raw(boxname), side.value))
        return row[0] if row is not None and isinstance(row[0], str) else None

    def note(
        self, boxname: Boxname, side: Side, validity: str | None, uids: Iterable[Uid], identity: str | None = None
    ) -> None:
        """The uids of the messages that are remembered now. Kept only if `save` follows."""
        raw = sorted(map(_raw, uids))
        digest = blake2b(b"\0".join(raw), digest_size=16).hexdigest()
        where = (_raw(boxname), side.value)
        self._noted.add(where)
        now = (validity, digest, identity)
        if self._asked("SELECT validity, uids, identity FROM box WHERE name=? AND side=?", where) == now:
            return
        with self._doubted() as db:
            db.execute("INSERT OR REPLACE INTO box VALUES (?, ?, ?, ?, ?)", (*where, *now))
            db.execute("DELETE FROM uid WHERE name=? AND side=?", where)
            db.executemany("INSERT OR IGNORE INTO uid VALUES (?, ?, ?)", ((*where, uid) for uid in raw))

    def save(self, msinfo: str) -> None:
        """Keep what was noted, as the companion of this memory."""
        with self._doubted() as db:
            if not self._fits:  # mailboxes that this run did not look at are known for an older memory only
                others = set(db.execute("SELECT name, side FROM box")) - self._noted
                db.executemany("UPDATE box SET uids='' WHERE name=? AND side=?", others)
                db.executemany("DELETE FROM uid WHERE name=? AND side=?", others)
            if not self._fits or msinfo != self._msinfo:
                db.execute("DELETE FROM saved")
                db.execute("INSERT INTO saved VALUES (?)", (msinfo,))
            db.commit()

    def _same(self, boxname: Boxname, side: Side, validity: str | None, *, listed: bool = False) -> bool:
        """`listed`: its uids must be known, too."""
        row = self._asked("SELECT validity, uids FROM box WHERE name=? AND side=?", (_raw(boxname), side.value))
        return row is not None and row[0] == validity and bool(row[1] or not listed)

    def _asked(self, query: str, values: Sequence[object]) -> tuple[object, ...] | None:
        rows: list[tuple[object, ...]] = []
        with self._doubted() as db:
            rows = db.execute(query, values).fetchall()
        return rows[0] if rows else None

    @contextmanager
    def _doubted(self) -> Iterator[sqlite3.Connection]:
        """The file may be damaged, or the disk full: then the run goes on with a cache that knows nothing."""
        try:
            yield self._db
        except sqlite3.Error:
            with suppress(sqlite3.Error):
                self._db.close()
            self._db, self._fits = _ready(":memory:"), False


def _looked_at(path: Path | None) -> sqlite3.Connection:
    if path is not None and path.exists():
        with suppress(sqlite3.DatabaseError):
            return _checked(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True))
    return _ready(":memory:")


def _opened(path: Path | None) -> sqlite3.Connection:
    if path is None:
        return _ready(":memory:")
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        return _ready(str(path))
    except (sqlite3.DatabaseError, OSError):
        for file in (path, path.with_name(path.name + "-wal"), path.with_name(path.name + "-shm")):
            with suppress(OSError):
                file.unlink()
        try:
            return _ready(str(path))
        except (sqlite3.DatabaseError, OSError):
            return _ready(":memory:")


def _ready(place: str) -> sqlite3.Connection:
    db = sqlite3.connect(place)
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] == 0:
            db.executescript(f"PRAGMA user_version={VERSION}; {SCHEMA}")
    except sqlite3.DatabaseError:
        db.close()
        raise
    return _checked(db)


def _checked(db: sqlite3.Connection) -> sqlite3.Connection:
    try:
        if db.execute("PRAGMA user_version").fetchone()[0] != VERSION:
            raise sqlite3.DatabaseError("written by another version")
        db.execute("SELECT 1 FROM box, uid, saved LIMIT 1").fetchone()
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def _raw(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
