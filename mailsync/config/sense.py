"""Settings that make no sense, alone or together. Knows values; neither how they are written nor where they stand."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from .. import mapping, spec
from ..model import Side
from ..names import is_inbox
from ..wording import quoted
from .rings import rings
from .values import ChannelConfig, Deletion, StoreConfig

OF_SERVERS = (
    "user_cmd", "passwd_cmd", "token_cmd", "keyring", "tunnel", "subscribed", "cert", "key", "ca", "pin", "timeout",
    "compress", "connections",
)  # fmt: skip
PASSWORDS = ("token_cmd", "passwd", "passwd_cmd", "keyring")  # the first that is given is used


@dataclass(frozen=True, slots=True)
class Odd:
    """A setting that is not used, or a fault: one that cannot be meant."""

    key: str  # '' = the block itself
    message: str
    is_fault: bool = False
    nth: int = -1  # which of several lines of this key
    word: int = 0  # of that line: the key, or its first value...


def of_store(store: StoreConfig) -> Iterator[Odd]:
    if (number := len(store.patterns)) > 1:
        yield Odd("pat", f"{number} patterns add up; mailsync 5.2.7 used only the last")
    if store.delete != Deletion() and _is_readonly(store):
        yield Odd("delete", "'delete' does nothing, because the store is read only")
    if not store.server:
        for key in OF_SERVERS:
            if _is_given(store, key):
                yield Odd(key, f"'{key}' does nothing without a 'server'")
        return
    server = spec.parse(store.server)
    assert isinstance(server, spec.Remote)  # the reader of 'server' saw to it
    for note in server.notes:
        yield Odd("server", note)
    yield from _ref(store, server)
    yield from _unused_secrets(store)
    if store.user_cmd and server.user is not None:
        yield Odd("user_cmd", "'user_cmd' is not used, because 'server' names the user")
    if store.key and not store.cert:
        yield Odd("key", "found 'key' without 'cert', expected both or none", is_fault=True)
    if store.tunnel and server.ssl:
        yield Odd("tunnel", "found 'tunnel' and '/ssl', expected only one: a tunnel speaks plain IMAP", is_fault=True)
    if store.ca and store.pin:
        yield Odd("ca", "'ca' is not used, because 'pin' trusts that one certificate alone")


def of_channel(channel: ChannelConfig) -> Iterator[Odd]:
    if not channel.msinfo.startswith("{"):
        for key in ("passwd_cmd", "token_cmd"):
            if getattr(channel, key):
                yield Odd(key, f"'{key}' does nothing, because 'msinfo' is not on a server")
    else:
        yield from _unused_secrets(channel)
    if channel.create and not channel.create & channel.direction:
        yield Odd("create", "'create' does nothing, because 'direction' does not change that store")
    if channel.maxage is not None and channel.since is not None:
        yield Odd("since", "'since' and 'maxage' are both there: what is copied must be as young as both say")
    if channel.exclude and all(pattern.startswith("!") for pattern in channel.exclude):
        yield Odd("exclude", "'exclude' does nothing: what '!' takes away must have been excluded before")
    for problem in mapping.check(channel.map):
        yield Odd("map", problem.message, is_fault=True, nth=problem.nth, word=_word(problem.side))


def of_config(stores: Mapping[str, StoreConfig], channels: Mapping[str, ChannelConfig]) -> Iterator[tuple[str, Odd]]:
    """What only the whole file tells: names of channels, and what is odd about each."""
    for channel in channels.values():
        for side, store in zip(Side, (stores[channel.a], stores[channel.b]), strict=True):
            if channel.expunge_all and store.delete.mark:
                yield channel.name, Odd("expunge", f"'expunge all' removes what store {quoted(store.name)} only marks")
            if store.server:
                for odd in _inbox_of_server(channel, side):
                    yield channel.name, odd
    for ring in rings(stores, channels):
        yield ring[-1].name, _of_ring(ring)


def _inbox_of_server(channel: ChannelConfig, side: Side) -> Iterator[Odd]:
    for nth, pair in enumerate(channel.map):
        name = pair[_word(side) - 1]
        if is_inbox(name) and name != "INBOX":
            yield Odd("map", f"found '{name}', expected 'INBOX' on a server", is_fault=True, nth=nth, word=_word(side))


def _word(side: Side) -> int:
    return 1 + list(Side).index(side)


def _of_ring(ring: Sequence[ChannelConfig]) -> Odd:
    """What is odd about the last channel of a ring."""
    *others, last = ring
    if not others:
        return Odd("", f"joins a store with itself: {quoted(last.a)} and {quoted(last.b)} have the same mailboxes")
    *names, name = (quoted(channel.name) for channel in others)
    together = f"{', '.join(names)} and {name}" if names else name
    return Odd("", f"forms a ring with {together}, in which changes can go round and come back; leave one out")


def _unused_secrets(block: StoreConfig | ChannelConfig) -> Iterator[Odd]:
    given = [key for key in PASSWORDS if getattr(block, key, None)]
    for key in given[1:]:
        yield Odd(key, f"'{key}' is not used, because '{given[0]}' is there")


def _ref(store: StoreConfig, server: spec.Remote) -> Iterator[Odd]:
    """A store lies on one server: 5.2.7 would have listed one and opened mailboxes on another."""
    if not store.ref.startswith("{"):
        return
    try:
        ref = spec.parse(store.ref)
    except spec.SpecError as err:
        yield Odd("ref", str(err), is_fault=True)
        return
    assert isinstance(ref, spec.Remote)
    port = server.port or (993 if server.ssl else 143)
    if ref.host.lower() != server.host.lower() or (ref.port or port) != port:
        yield Odd("ref", "found another server than that of 'server', expected the same", is_fault=True)


def _is_readonly(store: StoreConfig) -> bool:
    server = spec.parse(store.server) if store.server else None
    return store.readonly or (isinstance(server, spec.Remote) and server.readonly)


def _is_given(store: StoreConfig, key: str) -> bool:
    return bool(getattr(store, key) != getattr(StoreConfig(store.name), key))
