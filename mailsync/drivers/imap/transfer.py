"""Pass messages from the mailbox that is open on a connection to another one of the server: COPY and MOVE."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import NamedTuple

from ...errors import Lost
from ...model import Failure, Flags, Uid
from . import answers, sets
from .changes import Failures, flags_of, gone
from .tokens import ProtocolError, Status, status
from .wire import Connection

ONE_BY_ONE = 100  # messages of a set that was refused: so many are tried each by itself
_OF_THE_MAILBOX = (b"TRYCREATE", b"NONEXISTENT", b"NOPERM")  # refused whatever the message


class Transferred(NamedTuple):
    """What became of messages on their way to another mailbox: each has arrived or failed."""

    flags: Mapping[int, Flags]  # that they had
    arrived: dict[int, int | None]  # the uids of the copies, by those of the originals; None: the server does not tell
    failed: Failures


class Transfer(NamedTuple):
    """UID COPY or UID MOVE to a mailbox. Lost if another than that of this UIDVALIDITY has come in its place."""

    conn: Connection
    verb: bytes
    to: bytes  # quoted
    validity: str | None

    def of(self, uids: Sequence[int]) -> Transferred:
        there = flags_of(self.conn, uids)
        done = Transferred(there, {}, {uid: gone(uid) for uid in set(uids).difference(there)})
        for text, part in sets.split(sorted(there)):
            end, copies = self._pass_on(text, part)
            if not end.ok and (seconds := answers.wait(end)) is not None:
                self.conn.pause(seconds, str(end))
                end, more = self._pass_on(text, part)
                copies |= more
            left = self._left(end, part, copies, done)
            if left and len(part) > 1 and _may_be_of_one(end, left):
                for uid in left:
                    end, copies = self._pass_on(b"%d" % uid, [uid])
                    self._refuse(end, self._left(end, [uid], copies, done), done)
            else:
                self._refuse(end, left, done)
        return done

    def _pass_on(self, text: bytes, uids: Sequence[int]) -> tuple[Status, dict[int, int]]:
        """How it ended, and the uids of the copies that are told."""
        end, told = self.conn.execute(b"UID %s %s %s" % (self.verb, text, self.to))
        return end, self._copies([end, *(status(one) for one in told if one.kind == b"OK")], uids)

    def _left(self, end: Status, uids: Sequence[int], copies: Mapping[int, int], done: Transferred) -> list[int]:
        """Those that should have gone and are still there; what became of the others is noted."""
        done.arrived.update(copies)
        unsaid = [uid for uid in uids if uid not in copies]
        there = flags_of(self.conn, unsaid)
        left = []
        for uid in unsaid:
            if end.ok and not copies and (uid in there) == (self.verb == b"COPY"):
                done.arrived[uid] = None
            elif uid in there:
                left.append(uid)
            else:
                done.failed[uid] = gone(uid)
        return left

    def _copies(self, told: Iterable[Status], uids: Sequence[int]) -> dict[int, int]:
        """The uid of each copy by that of its original (COPYUID, RFC 4315, 3), as far as what is told makes sense."""
        copies: dict[int, int] = {}
        for one in told:
            words = one.argument.split()
            if one.code != b"COPYUID" or len(words) != 3:
                continue
            if self.validity is not None and words[0] != self.validity.encode():
                self.conn.drop()
                raise Lost("another mailbox has come in the place of the one that messages were to go to")
            with suppress(ProtocolError):
                old, new = (sets.parse(word, most=len(uids)) for word in words[1:])
                if len(old) == len(new):
                    copies.update(zip(old, new, strict=True))
        return {uid: copies[uid] for uid in uids if uid in copies}

    def _refuse(self, end: Status, uids: Sequence[int], done: Transferred) -> None:
        why = "the server leaves it out" if end.ok else f"cannot be moved or copied: {end}"
        done.failed.update({uid: Failure(Uid(str(uid)), why, answers.advice(end)) for uid in uids})


def _may_be_of_one(end: Status, uids: Sequence[int]) -> bool:
    """True if what was refused may be the fault of one message, and they are not too many to find out which."""
    if end.ok or len(uids) > ONE_BY_ONE or end.code in _OF_THE_MAILBOX:
        return False
    return end.code == b"LIMIT" or answers.wait(end) is None
