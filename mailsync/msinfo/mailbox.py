"""Find a channel's memory in a mailbox, and replace it. Any driver will do; only our own messages are ever touched."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b

from ..drivers.contract import Driver, Wanted
from ..drivers.memory import Bytes
from ..errors import BoxError, MsinfoError
from ..identity import forged
from ..model import SEEN, Appended, Failure, Head, Mailbox, Message, MessageId, Uid
from . import text
from .text import Memory

AWAY = "Restore it from a backup; or move it away: the next run then unites both stores and deletes nothing."


@dataclass(frozen=True, slots=True)
class _Shown:
    """An `Identify` that hides nothing: it is for looking at msinfo itself."""

    fields: tuple[bytes, ...] = (b"from", b"subject")
    version: str = "msinfo"

    def __call__(self, header: bytes, /) -> MessageId | None:
        return MessageId("any")

    def whole(self, chunks: Iterable[bytes], /) -> MessageId:
        return MessageId("any")


@dataclass
class Msinfo:
    """The memory of one channel, in one mailbox."""

    driver: Driver
    mailbox: Mailbox
    channel: str
    kind: str  # of ids: "msgid" or "md5"
    notes: list[str] = field(default_factory=list)  # what else is worth telling about the mailbox
    forged: list[str] = field(default_factory=list)  # and what must be told
    digest: str = ""  # tells this memory from any other
    _old: list[Uid] = field(default_factory=list)

    def load(self) -> Memory:
        """What was seen last time; empty in the first run. MsinfoError if there is something that cannot be read."""
        info = self.driver.find(self.mailbox)
        if info is None:
            return {}
        if info.failure or not info.selectable:
            why = info.failure.why if info.failure else "it is no mailbox"
            raise MsinfoError(f"msinfo {self.mailbox}: {why}", AWAY)
        try:
            found = self._candidates()
        except (BoxError, OSError) as err:
            raise MsinfoError(f"msinfo {self.mailbox} cannot be read: {err}", AWAY) from err
        self._old = [uid for uid, _ in found]
        read: list[tuple[Memory, bytes]] = []
        error: MsinfoError | None = None
        for _, raw in sorted(found, key=lambda candidate: text.date(candidate[1])):
            try:
                memory, notes = text.parse(raw, self.kind)
            except MsinfoError as err:
                error = err
            else:
                read.append((memory, raw))
                self.notes += [f"msinfo {self.mailbox}: {note}" for note in notes]
        if error and not read:
            raise MsinfoError(f"msinfo {self.mailbox}, channel {self.channel}: {error}", error.hint)
        if len(found) > 1:
            self.notes.append(f"msinfo {self.mailbox} holds {len(found)} messages of this channel: the newest counts")
        if not read:
            return {}
        memory, raw = read[-1]
        self.digest = _digest(raw)
        return memory

    def save(self, memory: Memory, now: float) -> None:
        """Append the new memory, then remove the old: a crash between the two leaves two memories, never none."""
        raw = text.format(memory, self.channel, self.kind, now)
        message = Message(Uid("msinfo"), frozenset({SEEN}), int(now), Bytes(raw))
        try:
            if self.driver.find(self.mailbox) is None:
                self.driver.create(self.mailbox)
            with self.driver.open(self.mailbox, write=True) as box:
                for answer in box.append([message]):
                    if isinstance(answer, Failure):
                        raise BoxError(answer.why, answer.hint)
                    new = answer
                list(box.expunge([uid for uid in self._old if uid != new.uid]))
        except (BoxError, OSError) as err:
            raise MsinfoError(
                f"msinfo {self.mailbox} cannot be saved: {err}",
                "No mail is lost; but what was deleted since the last save may come back.",
            ) from err
        self._old = self._written(new)
        self.digest = _digest(raw)

    def _written(self, new: Appended) -> list[Uid]:
        return [new.uid] if new.uid is not None else [uid for uid, _ in self._candidates()]

    def _candidates(self) -> list[tuple[Uid, bytes]]:
        """Our messages in the mailbox, in its order, with all their bytes."""
        [(_, listing)] = self.driver.listings([Wanted(self.mailbox)], _Shown())
        if isinstance(listing, Failure):
            raise BoxError(listing.why, listing.hint)
        if listing.unreadable:
            raise BoxError(str(listing.unreadable[0]))
        uids = [entry.uid for entry in listing.entries]
        with self.driver.open(self.mailbox, write=False) as box:
            ours = [head.uid for head in box.heads(uids) if isinstance(head, Head) and self._ours(head)]
            found = []
            for message in box.fetch(ours):
                if isinstance(message, Failure):
                    raise BoxError(str(message), message.hint)
                found.append((message.uid, b"".join(message.body.chunks(wire=False))))
            return found

    def _ours(self, head: Head) -> bool:
        if not text.candidate(head.header, self.channel):
            return False
        if forged(head.header):
            self.forged.append(
                f"msinfo {self.mailbox}: a message calls itself the memory of {self.channel} but came by mail: ignored"
            )
            return False
        return True


def _digest(raw: bytes) -> str:
    return blake2b(raw.rstrip(), digest_size=16).hexdigest()
