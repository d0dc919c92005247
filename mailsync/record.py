"""What each side held when the memory was saved. May be deleted at any time: it never is the memory.

It answers four questions. Was this uid there when the memory was saved? (If not, it is another message under a known
id.) Is this mailbox the one that was seen last time? What named it then, whatever it was called? What was it called?
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path

from .database import Database, raw
from .digest import blake2b
from .model import Boxname, Mailbox, Side, Uid

VERSION = 4
SCHEMA = """
CREATE TABLE IF NOT EXISTS saved (msinfo TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS box
  (name BLOB, side TEXT, validity TEXT, uids TEXT, identity TEXT, mailbox BLOB, PRIMARY KEY (name, side)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS uid (name BLOB, side TEXT, uid BLOB, PRIMARY KEY (name, side, uid)) WITHOUT ROWID;
"""


class Record(Database):
    """The record of one channel."""

    def __init__(self, path: Path | None, msinfo: str, *, write: bool = True) -> None:
        """`msinfo`: digest of the memory as it was loaded. `path` None: remember nothing."""
        super().__init__(path, VERSION, SCHEMA, write=write)
        row = self.row("SELECT msinfo FROM saved")
        self._is_of_it = row is not None and row[0] == msinfo
        self._msinfo = msinfo
        self._noted: set[tuple[bytes, str]] = set()

    @property
    def _fits(self) -> bool:
        """What it knows is known for the memory that was loaded."""
        return self._is_of_it and not self.lost

    def recorder(self, boxname: Boxname, validity: Mapping[Side, str | None]) -> Callable[[Side, Uid], bool | None]:
        """Answers for one box: was this uid there when the memory was saved? None: no record tells."""
        known = {side: self._fits and self._same(boxname, side, validity[side], listed=True) for side in Side}

        def recorded(side: Side, uid: Uid) -> bool | None:
            if not known[side] or not self._fits:
                return None
            where = (raw(boxname), side.value, raw(uid))
            found = self.row("SELECT 1 FROM uid WHERE name=? AND side=? AND uid=?", *where)
            return found is not None if self._fits else None

        return recorded

    def is_same(self, boxname: Boxname, side: Side, validity: str | None) -> bool:
        """True if the mailbox surely is the one that was seen last time, whatever it holds now."""
        return validity is not None and self._same(boxname, side, validity)

    def identity(self, boxname: Boxname, side: Side) -> str | None:
        """What named this mailbox last time, whatever it was called; None: no record tells."""
        row = self.row("SELECT identity FROM box WHERE name=? AND side=?", raw(boxname), side.value)
        return row[0] if row is not None and isinstance(row[0], str) else None

    def is_called(self, boxname: Boxname, side: Side, mailbox: Mailbox) -> bool:
        """False if its full name was another one last time: a prefix has changed, or what a server says of it."""
        row = self.row("SELECT mailbox FROM box WHERE name=? AND side=?", raw(boxname), side.value)
        return row is None or row[0] == raw(mailbox)

    def note(
        self,
        boxname: Boxname,
        side: Side,
        validity: str | None,
        uids: Iterable[Uid],
        identity: str | None,
        mailbox: Mailbox,
    ) -> None:
        """The uids of the messages that are remembered now. Kept only if `save` follows."""
        now_there = set(map(raw, uids))
        digest = blake2b(b"\0".join(sorted(now_there)), digest_size=16).hexdigest()
        where = (raw(boxname), side.value)
        self._noted.add(where)
        now = (validity, digest, identity, raw(mailbox))
        if self.row("SELECT validity, uids, identity, mailbox FROM box WHERE name=? AND side=?", *where) == now:
            return
        with self.doubted() as db:
            db.execute("INSERT OR REPLACE INTO box VALUES (?, ?, ?, ?, ?, ?)", (*where, *now))
            before = {uid for (uid,) in db.execute("SELECT uid FROM uid WHERE name=? AND side=?", where)}
            gone, new = ([(*where, uid) for uid in uids] for uids in (before - now_there, now_there - before))
            db.executemany("DELETE FROM uid WHERE name=? AND side=? AND uid=?", gone)
            db.executemany("INSERT INTO uid VALUES (?, ?, ?)", new)

    def save(self, msinfo: str, boxnames: Collection[Boxname]) -> None:
        """Keep what was noted, as the companion of this memory, in which these boxes are."""
        with self.doubted() as db:
            names = set(map(raw, boxnames))
            gone = [name for name in db.execute("SELECT DISTINCT name FROM box") if name[0] not in names]
            for table in ("box", "uid") if gone else ():
                db.executemany(f"DELETE FROM {table} WHERE name=?", gone)
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
        row = self.row("SELECT validity, uids FROM box WHERE name=? AND side=?", raw(boxname), side.value)
        return row is not None and row[0] == validity and bool(row[1] or not listed)
