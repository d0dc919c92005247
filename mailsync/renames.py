"""Mailboxes that have another name on one side: found by what they hold and what they are. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from .model import Boxname, Key, Side
from .plan import Rename


@dataclass(frozen=True, slots=True)
class Lone:
    """A mailbox that only one side has, in which every message could be told."""

    on: Side
    holds: Collection[Key]  # of which it can be told quickly what is in it
    remembered: Collection[Key] = ()  # () for a mailbox that is new
    identity: str | None = None  # what stays the same when it is renamed
    was: str | None = None  # of a mailbox that is gone on the other side: the identity it had there


def lone(todo: Mapping[Boxname, frozenset[Side]], memory: Mapping[Boxname, Collection[Key]]) -> frozenset[Boxname]:
    """The mailboxes that may have been renamed: empty unless on one side one is gone and another is new."""
    single = {boxname: next(iter(on)) for boxname, on in todo.items() if len(on) == 1}
    gone_from = {side.other for boxname, side in single.items() if memory.get(boxname)}
    new_on = {side for boxname, side in single.items() if not memory.get(boxname)}
    sides = gone_from & new_on
    return frozenset(name for name, side in single.items() if (side.other if memory.get(name) else side) in sides)


def found(boxes: Mapping[Boxname, Lone], names: Mapping[Side, Iterable[Boxname]]) -> list[Rename]:
    """The renames to be carried out, parents first. `names`: all names of each store.

    One whose mailboxes below were not renamed, too, is left out: they would go along.
    """
    matches = [
        Rename(gone.on, old, new)
        for old, gone in boxes.items()
        for new, fresh in boxes.items()
        if gone.remembered and not fresh.remembered and fresh.on is gone.on.other and _is_same(gone, fresh)
    ]
    olds, news = [one.old for one in matches], [one.new for one in matches]
    sure = {(one.on, one.old): one for one in matches if olds.count(one.old) == 1 and news.count(one.new) == 1}
    while unfit := [one for one in sure.values() if not _fits(one, sure, names[one.on])]:
        for one in unfit:
            del sure[one.on, one.old]
    return sorted(sure.values(), key=lambda one: (one.new.count("/"), one.new))


def _is_same(gone: Lone, fresh: Lone) -> bool:
    """An identity alone proves nothing: inodes are used again."""
    there = [id in fresh.holds for id in gone.remembered]
    return all(there) or (any(there) and gone.was is not None and gone.was == fresh.identity)


def _fits(one: Rename, sure: Mapping[tuple[Side, Boxname], Rename], names: Iterable[Boxname]) -> bool:
    if one.new in names:
        return False
    return all(
        (other := sure.get((one.on, below))) is not None and other.new == one.new + below[len(one.old) :]
        for below in _below(one.old, names)
    )


def _below(boxname: Boxname, names: Iterable[Boxname]) -> Iterator[Boxname]:
    return (name for name in names if name.startswith(f"{boxname}/"))
