"""What the mailboxes of one store held when they were listed last, so that only news must be read.

May be deleted at any time, and is believed only as far as a driver has made sure that it still holds: a message under a
uid never changes, and under an equal token nothing has.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any
from zlib import crc32

from .database import Database, raw, text
from .model import NONE, Entry, Flags, Holds, Listing, Mailbox, MessageId, Token, Uid

VERSION = 1
ROOM = 1000  # places between two messages, for those that will come to lie there
SCHEMA = """
CREATE TABLE IF NOT EXISTS box
  (number INTEGER PRIMARY KEY, mailbox BLOB UNIQUE, rule TEXT, sum INTEGER, token TEXT, validity TEXT, identity TEXT,
   flags BLOB, any_keyword INTEGER);
CREATE TABLE IF NOT EXISTS message
  (box INTEGER, place INTEGER, uid BLOB, id TEXT, flags BLOB, size INTEGER, date INTEGER, PRIMARY KEY (box, place))
  WITHOUT ROWID;
"""

BOX = "SELECT number, sum, token, validity, identity, flags, any_keyword FROM box WHERE mailbox=? AND rule=?"
MESSAGES = "SELECT place, uid, id, flags, size, date FROM message WHERE box=? ORDER BY place"

Row = tuple[int, bytes, str, bytes, int | None, int | None]  # place, uid, id, flags, size, date


class Cache(Database):
    """`rule`: the version of what makes ids; those of another are not known. `anew`: nothing is, until it is kept."""

    def __init__(self, path: Path | None, rule: str, *, write: bool = True, anew: bool = False) -> None:
        super().__init__(path, VERSION, SCHEMA, write=write)
        self._rule, self._write, self._blank = rule, write, anew
        self._rows: dict[Mailbox, dict[bytes, Row]] = {}  # of what was known, until it is kept anew; and that
        self._known: dict[Mailbox, Listing] = {}
        self._flags: dict[bytes, Flags] = {}
        self._words: dict[Flags, bytes] = {}

    def known(self, mailbox: Mailbox) -> Listing | None:
        """What was kept last of this mailbox; None where nothing was, or it is not whole."""
        box: tuple[Any, ...] | None = None
        rows: list[Row] = []
        with self.doubted() as db:
            db.execute("BEGIN")  # both as of one moment: another run may be writing
            box = db.execute(BOX, (raw(mailbox), self._rule)).fetchone()
            rows = db.execute(MESSAGES, (box[0],)).fetchall() if box else []
            db.rollback()
        if box is None or self._blank:
            return None
        _, sum, token, validity, identity, flags, any_keyword = box
        if sum != _sum(rows) or not isinstance(flags, bytes):
            self._give_up(spoilt=True)
            return None
        self._rows[mailbox] = {row[1]: row for row in rows}
        entries = [
            Entry(Uid(text(uid)), MessageId(id), self._set(words), size, date) for _, uid, id, words, size, date in rows
        ]
        holds = Holds(self._set(flags), bool(any_keyword))
        found = Listing(mailbox, entries, holds, _token(token), _text(validity), (), _text(identity))
        self._known[mailbox] = found
        return found

    def keep(self, listing: Listing) -> None:
        """Instead of what was known of that mailbox before. Only what is another is written."""
        if not self._write or self.lost:
            return
        before, known = self._rows.pop(listing.mailbox, None), self._known.pop(listing.mailbox, None)
        if known and listing.entries is known.entries and listing == replace(known, holds=listing.holds):
            return  # the driver has found that nothing has changed
        rows = {row[1]: row for row in self._placed(listing.entries, before or {})}
        with self.doubted() as db:
            number = self._box(listing, _sum(list(rows.values())))
            if before is None:
                db.execute("DELETE FROM message WHERE box=?", (number,))
                before = {}
            gone = {row[0] for row in before.values()} - {row[0] for row in rows.values()}
            db.executemany("DELETE FROM message WHERE box=? AND place=?", ((number, place) for place in gone))
            news = (row for uid, row in rows.items() if before.get(uid) != row)
            db.executemany("INSERT OR REPLACE INTO message VALUES (?, ?, ?, ?, ?, ?, ?)", ((number, *r) for r in news))
            db.commit()

    def forget(self, gone: Callable[[Mailbox], bool]) -> None:
        """Mailboxes that are not there any more: else all that ever were would stay."""
        if not self._write:
            return
        with self.doubted() as db:
            found = [(number, name) for number, name in db.execute("SELECT number, mailbox FROM box")]
            numbers = [(number,) for number, name in found if gone(Mailbox(text(name)))]
            if numbers:
                db.executemany("DELETE FROM message WHERE box=?", numbers)
                db.executemany("DELETE FROM box WHERE number=?", numbers)
                db.commit()

    def _box(self, listing: Listing, sum: int) -> object:
        """Its number, and all but its messages written."""
        name, holds = raw(listing.mailbox), listing.holds
        token = listing.token if listing.complete else None
        values = (self._rule, sum, token, listing.validity, listing.identity, self._raw(holds.flags), holds.any_keyword)
        with self.doubted() as db:
            db.execute("INSERT OR IGNORE INTO box (mailbox) VALUES (?)", (name,))
            db.execute(
                "UPDATE box SET rule=?, sum=?, token=?, validity=?, identity=?, flags=?, any_keyword=? WHERE mailbox=?",
                (*values, name),
            )
        found = self.row("SELECT number FROM box WHERE mailbox=?", name)
        return found[0] if found else None

    def _placed(self, entries: Iterable[Entry], before: dict[bytes, Row]) -> Iterator[Row]:
        """The rows of these. Whatever lies behind those before it keeps its place: most rows stay as they are."""
        last, step = -1, 1 if before else ROOM
        for entry in entries:
            uid = raw(entry.uid)
            was = before.get(uid)
            last = was[0] if was and was[0] > last else last + step
            yield last, uid, entry.id, self._raw(entry.flags), entry.size, entry.date

    def _set(self, words: bytes) -> Flags:
        """One object for all that are equal."""
        if words not in self._flags:
            self._flags[words] = frozenset(text(words).split("\n")) if words else NONE
        return self._flags[words]

    def _raw(self, flags: Flags) -> bytes:
        if flags not in self._words:
            self._words[flags] = raw("\n".join(sorted(flags)))
        return self._words[flags]


def _sum(rows: Collection[Row]) -> int:
    """A row that is another, or lost, shows: what seems to be missing in a listing would be deleted elsewhere."""
    try:
        places = array("q", [row[0] for row in rows])
        sizes = array("q", [-1 if row[4] is None else row[4] for row in rows])
        dates = array("q", [-1 if row[5] is None else row[5] for row in rows])
        ids = "\n".join([row[2] for row in rows]).encode("latin-1")
        uids, flags = b"\n".join([row[1] for row in rows]), b"\n".join([row[3] for row in rows])
        columns = (places.tobytes(), sizes.tobytes(), dates.tobytes(), ids, uids, flags)
        return reduce(lambda sum, column: crc32(column, sum), columns, 0)
    except (TypeError, ValueError, OverflowError):  # not what was written
        return -1


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _token(value: object) -> Token | None:
    return Token(value) if isinstance(value, str) else None
