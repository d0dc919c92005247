"""Look at both stores of a channel, without changing them: what they list, what only whole messages tell, heads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from .drivers.contract import Wanted
from .errors import BoxError
from .groups import Fact, Facts
from .identity import examine
from .model import Boxname, Failure, Head, Identify, Listing, Mailbox, Message, Side, Uid
from .report import Heads
from .stores import Store

Stores = Mapping[Side, Store]
Listings = Mapping[Side, Listing]


def listings(
    stores: Stores, boxnames: Mapping[Boxname, frozenset[Side]], identify: Identify
) -> Iterator[tuple[Boxname, Listings | Failure]]:
    """Each box, in this order, as both sides hold it. The sides that do not have it count as empty.

    A driver lists in whatever order suits it; here the two streams are joined.
    """
    streams = {side: _stream(stores[side], [n for n, on in boxnames.items() if side in on], identify) for side in Side}
    ready: dict[Side, dict[Boxname, Listing | Failure]] = {side: {} for side in Side}
    for boxname, on in boxnames.items():
        both: dict[Side, Listing] = {}
        failure = None
        for side in Side:
            if side in on:
                while boxname not in ready[side]:
                    name, found = next(streams[side])
                    ready[side][name] = found
                result = ready[side].pop(boxname)
            else:
                result = _missing(stores[side], boxname)
            if isinstance(result, Failure):
                failure = failure or Failure(boxname, f"on store {stores[side].name}: {result.why}", result.hint)
            else:
                both[side] = result
        yield boxname, failure or both


def facts(stores: Stores, boxname: Boxname, asked: Mapping[Side, Sequence[Uid]]) -> Facts:
    """What only reading these messages tells. One that cannot be read is a failure, for itself alone."""
    found: dict[tuple[Side, Uid], Fact | Failure] = {}
    for side, uids in asked.items():
        if not uids:
            continue
        try:
            with stores[side].open(boxname, write=False) as box:
                for got in box.fetch(uids):
                    if isinstance(got, Message):
                        pairing, exact = examine(got.body.chunks(wire=False))
                        found[side, got.uid] = Fact(pairing, exact, got.body.size(wire=True))
                    else:
                        found[side, Uid(got.what)] = got
        except (BoxError, OSError) as err:
            found.update({(side, uid): Failure(uid, str(err)) for uid in uids if (side, uid) not in found})
    return found


def heads(stores: Stores, boxname: Boxname, wanted: Iterable[tuple[Side, Uid]]) -> Heads:
    """Headers to tell messages by. What cannot be read is left out: this is for showing only."""
    found: dict[tuple[Side, Uid], Head] = {}
    by_side: dict[Side, list[Uid]] = {side: [] for side in Side}
    for side, uid in dict.fromkeys(wanted):
        by_side[side].append(uid)
    for side, uids in by_side.items():
        if uids:
            try:
                with stores[side].open(boxname, write=False) as box:
                    found.update({(side, got.uid): got for got in box.heads(uids) if isinstance(got, Head)})
            except (BoxError, OSError):
                continue
    return found


def _stream(
    store: Store, boxnames: Sequence[Boxname], identify: Identify
) -> Iterator[tuple[Boxname, Listing | Failure]]:
    names: dict[Mailbox, Boxname] = {store.mailbox(boxname): boxname for boxname in boxnames}
    try:
        for mailbox, found in store.driver.listings([Wanted(mailbox) for mailbox in names], identify):
            yield names.pop(mailbox), found
    except BoxError as err:
        for boxname in names.values():
            yield boxname, Failure(boxname, str(err), err.hint)


def _missing(store: Store, boxname: Boxname) -> Listing | Failure:
    mailbox = store.mailbox(boxname)
    try:
        return Listing(mailbox, (), store.driver.holds(mailbox))
    except BoxError as err:
        return Failure(boxname, str(err), err.hint)
