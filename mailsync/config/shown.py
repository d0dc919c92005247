"""How a configuration is shown: as a file that would be understood in the same way, but for its passwords."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from .keys import CHANNEL, STORE, Setting, default_ref
from .source import written
from .values import ChannelConfig, Config, StoreConfig


def dump(config: Config) -> str:
    """What was understood, as a configuration: only what differs from the defaults, passwords as '***'."""
    stores = (_block(f"store {written(s.name)}", _lines(STORE, s, _bare_store(s))) for s in config.stores.values())
    channels = (
        _block(f"channel {' '.join(map(written, (c.name, c.a, c.b)))}", _lines(CHANNEL, c, _bare_channel(c)))
        for c in config.channels.values()
    )
    groups = (
        f"group {written(name)} {{ {' '.join(map(written, all_of))} }}\n" for name, all_of in config.groups.items()
    )
    return "\n".join((*stores, *channels, *groups))


def _bare_store(store: StoreConfig) -> StoreConfig:
    return StoreConfig(store.name, ref=default_ref(store.server))


def _bare_channel(channel: ChannelConfig) -> ChannelConfig:
    return ChannelConfig(channel.name, channel.a, channel.b, msinfo="")


def _block(head: str, lines: Iterator[str]) -> str:
    return "".join((f"{head} {{\n", *lines, "}\n"))


def _lines(
    table: Mapping[str, Setting], block: StoreConfig | ChannelConfig, bare: StoreConfig | ChannelConfig
) -> Iterator[str]:
    for setting in table.values():
        value = getattr(block, setting.field)
        if value != getattr(bare, setting.field):
            for one in value if setting.adds_up else (value,):
                words = one if setting.takes > 1 else (one,)
                yield f"\t{' '.join((setting.key, *(written(setting.write(word)) for word in words)))}\n"
