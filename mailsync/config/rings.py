"""Channels that form a ring: what one of them changes comes back by the others. Knows values."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Iterator, Mapping

from .values import ChannelConfig, StoreConfig

Ways = Mapping[str, Mapping[str, str]]  # from a store by a channel to a store


def rings(
    stores: Mapping[str, StoreConfig], channels: Mapping[str, ChannelConfig]
) -> Iterator[tuple[ChannelConfig, ...]]:
    """For each channel the smallest ring that it is part of, but each ring once, its channels in the order given.

    A ring of one is a channel between two names of the same store. Nothing is said of two channels over the same stores
    if one excludes mailboxes: they may well have none in common.
    """
    first: dict[Hashable, str] = {}
    same = {name: first.setdefault(_what_it_is(store), name) for name, store in stores.items()}
    ways: dict[str, dict[str, str]] = {name: {} for name in stores}
    for channel in channels.values():
        a, b = same[channel.a], same[channel.b]
        ways[a][channel.name] = b
        ways[b][channel.name] = a
    order = {name: number for number, name in enumerate(channels)}
    told = set()
    for channel in channels.values():
        names = sorted(_ring(channel.name, same[channel.a], same[channel.b], ways), key=order.__getitem__)
        ring = tuple(channels[name] for name in names)
        if ring and ring not in told and not (len(ring) == 2 and any(one.exclude for one in ring)):
            told.add(ring)
            yield ring


def _what_it_is(store: StoreConfig) -> Hashable:
    """Equal for two blocks that have the same mailboxes. The commands may lead to other users and hosts."""
    if not store.server and not store.patterns:
        return store.name
    account = (store.server, store.user_cmd, store.tunnel, store.cert)
    return (account, store.ref, store.patterns, store.prefix)


def _ring(channel: str, start: str, goal: str, ways: Ways) -> tuple[str, ...]:
    """The channel, and the shortest way from one of its ends to the other without it; () if there is none."""
    found: dict[str, tuple[str, ...]] = {start: (channel,)}
    todo = deque([start])
    while todo and goal not in found:
        store = todo.popleft()
        for name, other in ways[store].items():
            if name != channel and other not in found:
                found[other] = (*found[store], name)
                todo.append(other)
    return found.get(goal, ())
