"""Settings that make no sense together. Knows values; neither how they are written nor where they stand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .. import spec
from .values import ChannelConfig, StoreConfig

OF_SERVERS = (
    "user_cmd", "passwd_cmd", "token_cmd", "keyring", "tunnel", "subscribed", "cert", "key", "ca", "pin", "timeout",
)  # fmt: skip
PASSWORDS = ("token_cmd", "passwd", "passwd_cmd", "keyring")  # the first that is given is used


@dataclass(frozen=True, slots=True)
class Odd:
    """A setting that is not used, or a fault: one that cannot be meant."""

    key: str
    message: str
    is_fault: bool = False


def of_store(store: StoreConfig) -> Iterator[Odd]:
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


def _is_given(store: StoreConfig, key: str) -> bool:
    return bool(getattr(store, key) != getattr(StoreConfig(store.name), key))
