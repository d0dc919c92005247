"""What a run will do, as values: steps, the change of one message, the plan of a box, the plan of a channel.

The plan's steps go in, `Done` and `Failed` of those steps come out: the report and the memory read that same stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

from .model import (
    DELETED,
    Boxname,
    BoxSeen,
    Digest,
    Entry,
    Failure,
    Flags,
    Holds,
    Key,
    Line,
    MessageId,
    Side,
    SidePolicy,
    Uid,
)


class Why(Enum):
    """Why a message is deleted."""

    GONE_THERE = "deleted on the other side"
    REPLACED = "saved again on the other side"  # a draft; the new one is copied first
    DUPLICATE = "a further identical copy"
    SAME_ID = "a further message with this id"
    MARKED = "marked \\Deleted"  # only with `expunge all`
    MOVED = "moved to another mailbox"


@dataclass(frozen=True, slots=True)
class Near:
    """A message of the target store that is the same: it need not be sent, but copied or moved there."""

    boxname: Boxname
    entry: Entry
    goes: bool = False  # this plan deletes it there, so that both steps together are one move


@dataclass(frozen=True, slots=True)
class Copy:
    """Bring one message to `to`, with these flags."""

    to: Side
    entry: Entry  # as it lies on to.other
    flags: Flags
    near: Near | None = None
    rescues: bool = False  # it was deleted on the other side, and a user wants it since

    @property
    def on(self) -> Side:
        return self.to


@dataclass(frozen=True, slots=True)
class SetFlags:
    """Add and take away; the other flags of the message are not touched."""

    on: Side
    entry: Entry
    add: Flags
    remove: Flags


@dataclass(frozen=True, slots=True)
class Delete:
    on: Side
    entry: Entry
    why: Why
    stays: Uid | None = None  # of a duplicate: the copy that must be there when this one goes
    marks: bool = False  # it gets \Deleted, and stays


Step = Copy | SetFlags | Delete
Mark = tuple[type[Step], Side, Uid]


def mark(step: Step) -> Mark:
    """What tells a step from all others of its box, also in a later plan of that box."""
    return type(step), step.on, step.entry.uid


def safe_order(step: Step) -> int:
    """Copies, flags, deletions: nothing goes before what is to stay is there."""
    return 0 if isinstance(step, Copy) else 1 if isinstance(step, SetFlags) else 2


@dataclass(frozen=True, slots=True)
class Held:
    """A step that policy, guard or doubt keeps back."""

    step: Step
    why: str


class Item(NamedTuple):
    """What is true of one message: what is remembered of it, and where it lies now."""

    line: Line | None
    a: Entry | None
    b: Entry | None
    digest_a: Digest | None = None  # pairing digests; only of members of a group, and of drafts
    digest_b: Digest | None = None
    twin: bool = False  # where it is missing, an equal one stands for it: a server has made two messages equal

    def on(self, side: Side) -> Entry | None:
        return self.a if side is Side.A else self.b

    def digest(self, side: Side) -> Digest | None:
        return self.digest_a if side is Side.A else self.digest_b

    def put(self, side: Side, entry: Entry | None, digest: Digest | None = None) -> Item:
        line, a, b, digest_a, digest_b, twin = self
        if side is Side.A:
            return Item(line, entry, b, digest, digest_b, twin)
        return Item(line, a, entry, digest_a, digest, twin)


@dataclass(frozen=True, slots=True)
class Change:
    """All that one id of a box needs. No steps: only memory changes.

    Steps are in their safe order: copies, flags, deletions. A deletion waits for all other steps of its change.
    """

    key: Key
    items: tuple[Item, ...]
    steps: tuple[Step, ...] = ()
    held: tuple[Held, ...] = ()

    def after(
        self,
        step: Step,
        holds: Mapping[Side, Holds],
        uid: Uid | None,
        id: MessageId | None,
        digest: Digest | None = None,
    ) -> Change:
        """The same change with the items as they are once `step` is done.

        `uid`, `id`, `digest`: of the new message, after a Copy; None where they are not known to differ.
        """
        match step:
            case Copy(to=to, entry=entry, flags=flags):
                here = to.other
                arrived = Entry(uid or Uid(""), id or entry.id, holds[to].of(flags), entry.size, entry.date)

                def done(item: Item) -> Item:
                    return item.put(to, arrived, digest or item.digest(here))

            case SetFlags(on=here, entry=entry, add=add, remove=remove):

                def done(item: Item) -> Item:
                    now = item.on(here)
                    assert now
                    return item.put(here, now._replace(flags=(now.flags | add) - remove), item.digest(here))

            case Delete(on=here, entry=entry, marks=marks):

                def done(item: Item) -> Item:
                    marked = entry._replace(flags=entry.flags | {DELETED}) if marks else None
                    return item.put(here, marked, item.digest(here) if marks else None)

        def concerned(item: Item) -> bool:
            now = item.on(here)
            return now is not None and now.uid == entry.uid

        return Change(self.key, tuple(done(i) if concerned(i) else i for i in self.items), self.steps, self.held)

    def copies(self) -> list[Copy]:
        """Those that are planned or held."""
        return [step for step in (*self.steps, *(held.step for held in self.held)) if isinstance(step, Copy)]

    def remaining(self) -> int:
        """How many of its messages are on either side once all steps are done."""
        if not any(isinstance(step, Delete) for step in self.steps):
            return sum(item.a is not None or item.b is not None for item in self.items)
        gone = {(step.on, step.entry.uid) for step in self.steps if isinstance(step, Delete) and not step.marks}
        copied = {step.entry.uid for step in self.steps if isinstance(step, Copy)}

        def stays(item: Item) -> bool:
            return any(
                (entry := item.on(side)) is not None and ((side, entry.uid) not in gone or entry.uid in copied)
                for side in Side
            )

        return sum(map(stays, self.items))


@dataclass(frozen=True, slots=True)
class Rename:
    """A box that has another name on the other side now."""

    on: Side
    old: Boxname
    new: Boxname


@dataclass(frozen=True, slots=True)
class BoxPlan:
    """What one box needs. Ids that need nothing at all are not in it."""

    boxname: Boxname
    changes: tuple[Change, ...]
    quiet: int  # messages that need nothing
    holds: Mapping[Side, Holds]
    sides: Mapping[Side, SidePolicy]
    seen: BoxSeen
    found: Mapping[Side, int]  # how many of the remembered ids each side holds
    duplicates: tuple[Delete, ...] = ()  # those among the steps, held ones too, in the order of the mailbox
    exists: bool = True  # on at least one side
    complete: bool = True  # both sides were listed without a message that could not be read
    create: tuple[Side, ...] = ()
    remove: tuple[Side, ...] = ()  # -D: the box itself, once it is empty
    rename: Rename | None = None  # first of all; the steps name messages of the box that gets its name

    def name_on(self, side: Side) -> Boxname:
        """What it is called there before the plan is carried out."""
        return self.rename.old if self.rename and self.rename.on is side else self.boxname

    def steps(self) -> Iterator[Step]:
        for change in self.changes:
            yield from change.steps

    @property
    def remains(self) -> int:
        """Distinct messages on either side once the plan is carried out."""
        return self.quiet + sum(change.remaining() for change in self.changes)

    def held(self) -> Iterator[Held]:
        for change in self.changes:
            yield from change.held

    def __bool__(self) -> bool:
        """True if a run would do anything to either store."""
        return bool(self.create or self.remove or self.rename) or any(change.steps for change in self.changes)


@dataclass(frozen=True, slots=True)
class Plan:
    """What a channel needs: made for all boxes before the first step is done."""

    boxes: tuple[BoxPlan, ...]  # in 5.2.7's order
    failed: Mapping[Boxname, Failure]  # not listed: what is remembered of them stays
    left_out: Mapping[Boxname, str]  # a store's patterns do not want them: likewise
    renames: tuple[Rename, ...] = ()  # parents first; their boxes have the new name already

    def steps(self) -> Iterator[Step]:
        for box in self.boxes:
            yield from box.steps()

    def __bool__(self) -> bool:
        return any(self.boxes)


# ---- what apply tells ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Done:
    change: Change
    step: Step
    uid: Uid | None = None  # of the new message, after a Copy, where the store tells it
    id: MessageId | None = None  # what the store made of the id, where it may have changed it
    digest: Digest | None = None  # and of the pairing digest, where the item carries one
    certain: bool = True  # False: what the store made of the copy could not be looked at, so it is not remembered yet


@dataclass(frozen=True, slots=True)
class Failed:
    change: Change
    step: Step
    failure: Failure


@dataclass(frozen=True, slots=True)
class BoxDone:
    """A box was created, renamed or removed on a side; or could not be."""

    boxname: Boxname
    on: Side
    what: str  # "create", "rename", "remove"
    failure: Failure | None = None


Outcome = Done | Failed | BoxDone
