"""Change messages that are there, and nothing else, in the mailbox that is open on a connection.

Each function looks first which of the messages are still there, and names only those: GNU mailutils takes a UID that is
gone for that of a neighbour.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

from ...model import DELETED, Failure, Flags, Mailbox, Uid
from . import sets
from .tokens import Response, Status, numbers, written
from .wire import Connection

Failures = dict[int, Failure]  # by uid; who is not in it has what was wanted


def flags_of(conn: Connection, uids: Sequence[int]) -> dict[int, Flags]:
    """The flags of those of the (ascending) uids that are there."""
    asked = set(uids)
    found: dict[int, Flags] = {}
    for text, part in sets.split(uids):
        [tag] = conn.send(b"UID FETCH %s (UID FLAGS)" % text)
        told = {one.uid: one.flags for one in conn.fetched(tag) if one.uid in asked and one.flags is not None}
        if not conn.result(tag).ok:  # GNU mailutils, where none is there
            left = sorted(_searched(conn, text) & asked)
            if not left or len(left) == len(part):
                continue
            found.update(flags_of(conn, left))
        found.update(told)
    return found


def store(conn: Connection, uids: Sequence[int], add: Flags, remove: Flags, since: int | None) -> Failures:
    """Add and take away the same flags, then look whether that came true.

    `since`: a MODSEQ; messages that were changed after it are left alone (RFC 7162, 3.1.3). None: no condition.
    """
    there = sorted(flags_of(conn, uids))
    modified: set[int] = set()
    words = ""
    for sign, flags in ((b"+", add), (b"-", remove)):
        left = [uid for uid in there if uid not in modified]
        for text, _ in sets.split(left) if flags else ():
            condition = b"" if since is None else b"(UNCHANGEDSINCE %d) " % since
            end, _ = conn.execute(b"UID STORE %s %s%sFLAGS.SILENT %s" % (text, condition, sign, written(flags)))
            if end.code == b"MODIFIED":
                modified.update(sets.within(end.argument, left))
            elif not end.ok:
                words = f": {end}"
        if flags:
            since = None  # now they are newer because of us; who was refused is left out
    now = flags_of(conn, there)
    failed: Failures = {}
    for uid in uids:
        if uid not in now:
            failed[uid] = gone(uid)
        elif uid in modified:
            failed[uid] = Failure(Uid(str(uid)), "another program has changed its flags just now", gone=True)
        elif not _has(now[uid], add, remove):
            failed[uid] = Failure(Uid(str(uid)), f"the server does not keep these flags{words}")
    return failed


def expunge(conn: Connection, mailbox: Mailbox, uids: Sequence[int], unmarked: set[int]) -> Failures:
    """Remove these and no others. `unmarked`: those of others that lack their mark if the connection breaks."""
    there = sorted(flags_of(conn, uids))
    failed: Failures = {uid: gone(uid) for uid in set(uids).difference(there)}
    if there:
        failed.update(
            _expunge_these(conn, there) if conn.has("UIDPLUS") else _expunge_all(conn, mailbox, there, unmarked)
        )
    return failed


def mark_again(conn: Connection, unmarked: set[int]) -> None:
    """Those that `expunge` has left without the mark that others gave them; forgets them once they have it."""
    _mark(conn, unmarked, b"+")
    unmarked.clear()


def gone(uid: int) -> Failure:
    return Failure(Uid(str(uid)), "no longer there", gone=True)


def answered(uids: Iterable[Uid], failed: Mapping[int, Failure]) -> list[Uid | Failure]:
    """An answer for each, in order."""
    return [failed.get(int(uid), uid) for uid in uids]


def _expunge_these(conn: Connection, uids: Sequence[int]) -> Failures:
    """UID EXPUNGE (RFC 4315, 2.1)."""
    words: list[Status] = []
    for text, _ in sets.split(uids):
        tags = conn.send(b"UID STORE %s +FLAGS.SILENT (\\Deleted)" % text, b"UID EXPUNGE " + text)
        words += [conn.result(tag) for tag in tags]
    return _kept(conn, uids, words)


def _expunge_all(conn: Connection, mailbox: Mailbox, uids: Sequence[int], unmarked: set[int]) -> Failures:
    """Without UIDPLUS, EXPUNGE takes all that is marked \\Deleted: what is not ours is unmarked before."""
    others = _marked(conn, uids)
    if others:
        conn.tell.odd(
            f"{mailbox}: the server has no UIDPLUS: {len(others)} messages that another program has marked {DELETED}"
            " are unmarked, and marked again after EXPUNGE"
        )
    try:
        unmarked.update(others)
        _mark(conn, others, b"-")
        _mark(conn, uids, b"+")
        unmarked.update(_marked(conn, uids))  # those that somebody has marked just now
        _mark(conn, unmarked, b"-")
        if _marked(conn, uids):
            why = f"not expunged, because others are marked {DELETED} and cannot be unmarked"
            return {uid: Failure(Uid(str(uid)), why) for uid in uids}
        end, _ = conn.execute(b"EXPUNGE")
        return _kept(conn, uids, [end])
    finally:
        if not conn.lost:
            mark_again(conn, unmarked)


def _marked(conn: Connection, ours: Sequence[int]) -> list[int]:
    """Who is marked \\Deleted but for ours."""
    _, found = conn.execute(b"UID SEARCH DELETED")
    return sorted(_numbers(found).difference(ours))


def _mark(conn: Connection, uids: Collection[int], sign: bytes) -> None:
    for text, _ in sets.split(sorted(set(uids))):
        conn.execute(b"UID STORE %s %sFLAGS.SILENT (\\Deleted)" % (text, sign))


def _kept(conn: Connection, uids: Sequence[int], words: Sequence[Status]) -> Failures:
    """Those that should be gone and are not."""
    why = "; ".join(str(end) for end in words if not end.ok) or "it does not say why"
    return {uid: Failure(Uid(str(uid)), f"the server keeps it: {why}") for uid in flags_of(conn, uids)}


def _searched(conn: Connection, text: bytes) -> set[int]:
    _, found = conn.execute(b"UID SEARCH UID " + text)
    return _numbers(found)


def _numbers(found: Iterable[Response]) -> set[int]:
    return {number for one in found if one.kind == b"SEARCH" for number in numbers(one)}


def _has(flags: Flags, add: Flags, remove: Flags) -> bool:
    """Keywords are compared without regard to case (RFC 3501, 2.3.2)."""
    now = {flag.lower() for flag in flags}
    return now.issuperset(flag.lower() for flag in add) and now.isdisjoint(flag.lower() for flag in remove)
