"""Where the configuration lies, whether it may be read by others, and how it is shown."""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator, Mapping
from dataclasses import replace

from ..directories import directory
from ..errors import ConfigError
from ..unchanged import State, state_of
from ..wording import quoted
from . import grammar
from .keys import CHANNEL, STORE, Setting, default_ref
from .source import written
from .values import ChannelConfig, Config, StoreConfig

MOST_BYTES = 10_000_000

MINIMAL = """\
store here {
	pat Mail/%
	prefix Mail/
}
store backup {
	pat Backup/%
	prefix Backup/
}
channel mail here backup {
	msinfo .msinfo
}
"""


def find(option: str | None, home: str) -> str:
    """The file to read: the one of `-f`, else `~/.mailsync`, else `mailsync/config` among the user's configurations.

    A file of `-f` is not looked at here; of the others the first that is there. ConfigError if there is none.
    """
    if option is not None:
        return option
    places = [os.path.join(home, ".mailsync")] if home else []
    if places and os.path.lexists(places[0]):
        return places[0]
    places.append(os.path.join(directory("config"), "config"))
    if os.path.lexists(places[-1]):
        return places[-1]
    raise ConfigError(
        f"there is no configuration file; looked for {' and '.join(places)}",
        hint=f"Write one, or name one with -f FILE. Two stores and a channel between them:\n\n{MINIMAL}",
    )


def load(path: str) -> Config:
    """Read a regular file or a pipe. ConfigError if it cannot be read, has faults, or shows a password to others."""
    try:
        text, mode, found = _read(path)
    except OSError as err:
        raise ConfigError(
            f"{path}: the configuration cannot be read: {err.strerror or err}", hint="Another is named with -f FILE."
        ) from err
    config = grammar.parse(text, path)
    if mode is not None and mode & 0o066 and (owner := _with_password(config)):
        raise ConfigError(
            f"{path}: holds the password of {quoted(owner.name)}, and others can read or write it (mode {mode:04o})",
            hint=f"Run: chmod 600 {shlex.quote(path)}",
        )
    return replace(config, state=found)


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


def _read(path: str) -> tuple[str, int | None, State | None]:
    """The text; the permissions and the state of what is a file."""
    with open(path, "rb", opener=_opener) as file:
        found = os.fstat(file.fileno())
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path}: more than {MOST_BYTES:,} bytes, expected a configuration file")
    text, is_file = data.decode("utf-8-sig", "surrogateescape"), stat.S_ISREG(found.st_mode)
    return text, stat.S_IMODE(found.st_mode) if is_file else None, state_of(found) if is_file else None


def _opener(path: str, flags: int) -> int:
    # Looked at before it is opened: to open a device can do something, and a terminal would be read for ever.
    mode = os.stat(path).st_mode
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
        kind = "a directory" if stat.S_ISDIR(mode) else "neither a file nor a pipe"
        raise ConfigError(f"{path}: is {kind}, expected a configuration file", hint="Another is named with -f FILE.")
    return os.open(path, flags | os.O_CLOEXEC)


def _with_password(config: Config) -> StoreConfig | ChannelConfig | None:
    blocks: tuple[StoreConfig | ChannelConfig, ...] = (*config.stores.values(), *config.channels.values())
    return next((block for block in blocks if block.passwd is not None), None)


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
