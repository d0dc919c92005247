"""Look at both stores of a channel, without changing them: what they list, what only whole messages tell, heads."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from itertools import chain
from typing import NamedTuple

from .errors import BoxError
from .groups import Fact, Facts
from .identity import examine
from .model import Boxname, Entry, Failure, Head, Identify, Listing, Measured, Message, Side, Uid
from .report import Heads
from .stores import Contents, Store

Stores = Mapping[Side, Store]
Listings = Mapping[Side, Listing]


def contents(stores: Stores, *, at_once: bool = False) -> Mapping[Side, Contents]:
    """The names of both. `at_once`: asked for at the same time."""
    if not at_once:
        return {side: stores[side].contents() for side in Side}
    from .beside import both  # with threading

    return dict(zip(Side, both(stores[Side.A].contents, stores[Side.B].contents), strict=True))


def listings(
    stores: Stores,
    boxnames: Mapping[Boxname, frozenset[Side]],
    identify: Identify,
    *,
    at_once: bool = False,
) -> Generator[tuple[Boxname, Listings | Failure], None, None]:
    """Each box, in this order, as both sides hold it. The sides that do not have it count as empty.

    A driver lists in whatever order suits it; here the two streams are joined. `at_once`: side a is listed in a thread
    of its own, a few boxes ahead; then this must be closed, so that the thread ends.
    """
    with ExitStack() as stack:
        streams: dict[Side, Iterator[tuple[Boxname, Listing | Failure]]] = {}
        for side in Side:
            stream = stores[side].listings([name for name, on in boxnames.items() if side in on], identify)
            if at_once and side is Side.A:
                from .beside import Aside  # with threading

                listed = stack.enter_context(Aside(stream))
                listed.begin()
                streams[side] = listed
            else:
                streams[side] = stream
        ready: dict[Side, dict[Boxname, Listing | Failure]] = {side: {} for side in Side}
        for boxname, on in boxnames.items():
            for side in sorted(on, key=(Side.B, Side.A).index):  # while b is waited for, its thread lists a
                while boxname not in ready[side]:
                    name, found = next(streams[side])
                    ready[side][name] = found
            both: dict[Side, Listing] = {}
            failure = None
            for side in Side:
                result = ready[side].pop(boxname) if side in on else _missing(stores[side], boxname)
                if isinstance(result, Failure):
                    failure = failure or Failure(boxname, f"on store {stores[side].name}: {result.why}", result.hint)
                else:
                    both[side] = result
            yield boxname, failure or both


def facts(stores: Stores, names: Mapping[Side, Boxname], asked: Mapping[Side, Sequence[Uid]]) -> Facts:
    """What only reading these messages tells. One that cannot be read is a failure, for itself alone.

    `names`: what the box is called on each side.
    """
    found: dict[tuple[Side, Uid], Fact | Failure] = {}
    for side, uids in asked.items():
        if not uids:
            continue
        try:
            with stores[side].open(names[side], write=False) as box:
                for got in box.fetch(uids):
                    if isinstance(got, Message):
                        pairing, exact = examine(got.body.chunks(wire=False))
                        found[side, got.uid] = Fact(pairing, exact, got.body.size(wire=True))
                    else:
                        found[side, Uid(got.what)] = got
        except (BoxError, OSError) as err:
            found.update({(side, uid): Failure(uid, str(err)) for uid in uids if (side, uid) not in found})
    return found


def sized(
    stores: Stores, names: Mapping[Side, Boxname], listings: Listings, asked: Mapping[Side, Sequence[Uid]]
) -> Listings:
    """The same, with the size of these messages. What cannot be measured has none: it is within all limits."""

    def with_sizes(side: Side) -> Listing:
        found = _measures(stores[side], names[side], asked[side])
        entries = [e._replace(size=found[e.uid].size) if e.uid in found else e for e in listings[side].entries]
        return replace(listings[side], entries=entries)

    return {side: with_sizes(side) if asked[side] else listings[side] for side in Side}


def dated(
    stores: Stores, names: Mapping[Side, Boxname], listings: Listings, asked: Mapping[Side, Sequence[Uid]]
) -> Listings:
    """Likewise with their date."""
    wanted = ((side, uid) for side in Side for uid in asked[side])
    found = {where: head.date for where, head in heads(stores, names, wanted).items()}

    def with_dates(side: Side) -> Listing:
        entries = [e._replace(date=found.get((side, e.uid), e.date)) for e in listings[side].entries]
        return replace(listings[side], entries=entries)

    return {side: with_dates(side) if asked[side] else listings[side] for side in Side}


class Place(NamedTuple):
    """A message in one of the stores."""

    side: Side
    boxname: Boxname
    entry: Entry


def same(stores: Stores, pairs: Sequence[tuple[Place, Place]]) -> list[bool]:
    """Whether the two of each pair, which have one id, are surely the same message.

    On this machine their digests tell; where one is on a server, their exact sizes: to fetch it is what is to be saved.
    """
    local = not any(store.config.server for store in stores.values())
    found = _whole(stores, pairs) if local else _sized(stores, pairs)
    return [(one := found.get(a)) is not None and one == found.get(b) for a, b in pairs]


def _whole(stores: Stores, pairs: Iterable[tuple[Place, Place]]) -> Mapping[Place, object]:
    found: dict[Place, object] = {}
    for (side, boxname), places in _by_box(pairs).items():
        facts_there = facts(stores, {side: boxname}, {side: [place.entry.uid for place in places]})
        for place in places:
            fact = facts_there.get((side, place.entry.uid))
            found[place] = fact.exact if isinstance(fact, Fact) else None
    return found


def _sized(stores: Stores, pairs: Iterable[tuple[Place, Place]]) -> Mapping[Place, object]:
    found: dict[Place, object] = {}
    for (side, boxname), places in _by_box(pairs).items():
        found.update({place: place.entry.size for place in places if place.entry.size is not None})
        left = [place for place in places if place.entry.size is None]
        sizes = _measures(stores[side], boxname, [place.entry.uid for place in left])
        found.update({place: sizes[place.entry.uid].size for place in left if place.entry.uid in sizes})
    return found


def _by_box(pairs: Iterable[tuple[Place, Place]]) -> dict[tuple[Side, Boxname], list[Place]]:
    boxes: dict[tuple[Side, Boxname], list[Place]] = {}
    for place in dict.fromkeys(chain.from_iterable(pairs)):
        boxes.setdefault((place.side, place.boxname), []).append(place)
    return boxes


def _measures(store: Store, boxname: Boxname, uids: Sequence[Uid]) -> Mapping[Uid, Measured]:
    if not uids:
        return {}
    try:
        with store.open(boxname, write=False) as box:
            return {got.uid: got for got in box.measure(uids) if isinstance(got, Measured)}
    except (BoxError, OSError):
        return {}


def heads(stores: Stores, names: Mapping[Side, Boxname], wanted: Iterable[tuple[Side, Uid]]) -> Heads:
    """Headers to tell messages by. What cannot be read is left out: this is for showing only."""
    found: dict[tuple[Side, Uid], Head] = {}
    by_side: dict[Side, list[Uid]] = {side: [] for side in Side}
    for side, uid in dict.fromkeys(wanted):
        by_side[side].append(uid)
    for side, uids in by_side.items():
        if uids:
            try:
                with stores[side].open(names[side], write=False) as box:
                    found.update({(side, got.uid): got for got in box.heads(uids) if isinstance(got, Head)})
            except (BoxError, OSError):
                continue
    return found


def _missing(store: Store, boxname: Boxname) -> Listing | Failure:
    mailbox = store.mailbox(boxname)
    try:
        return Listing(mailbox, (), store.holds(boxname))
    except BoxError as err:
        return Failure(boxname, str(err), err.hint)
