"""Write keywords alike that differ only in case: they are the same (RFC 3501, 2.3.2). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from .model import BoxSeen, Flags, Listing, Side


def alike(listings: Mapping[Side, Listing], seen: BoxSeen) -> Mapping[Side, Listing]:
    """The same listings, with each keyword as it is remembered, else as side a writes it.

    Else a server that makes `$MDNSent` of `$MdnSent` would be told so again in each run.
    """
    sets: dict[Flags, None] = dict.fromkeys(line.flags for lines in seen.values() for line in lines if line.flags)
    for side in Side:
        sets.update(dict.fromkeys(entry.flags for entry in listings[side].entries))
    spelling, odd = _spellings(sets)
    if not odd:
        return listings
    changed = {flags: frozenset(spelling[flag.lower()] for flag in flags) for flags in sets}
    return {side: _respelled(listing, changed, spelling) for side, listing in listings.items()}


def _spellings(sets: Iterable[Flags]) -> tuple[dict[str, str], bool]:
    """The first spelling of each flag, and whether one has a second."""
    spelling: dict[str, str] = {}
    odd = False
    for flags in sets:
        for flag in sorted(flags):
            odd |= spelling.setdefault(flag.lower(), flag) != flag
    return spelling, odd


def _respelled(listing: Listing, changed: Mapping[Flags, Flags], spelling: Mapping[str, str]) -> Listing:
    entries = [entry._replace(flags=changed[entry.flags]) for entry in listing.entries]
    held = frozenset(spelling.get(flag.lower(), flag) for flag in listing.holds.flags)
    return replace(listing, entries=entries, holds=replace(listing.holds, flags=held))
