"""Where the configuration lies, whether it may be read by others, and whether it need be parsed."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from dataclasses import replace

from ..directories import directory
from ..errors import ConfigError
from ..unchanged import State, lasting, state_of
from ..wording import quoted
from . import kept
from .values import ChannelConfig, Config, StoreConfig

MOST_BYTES = 500_000  # which take some seconds to read

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
    known = kept.recall(path, found, text) if found else None
    config = known or parse(text, path)
    if mode is not None:
        _check_mode(path, mode, config)
    return replace(config, state=found, kept=known is not None)


def _check_mode(path: str, mode: int, config: Config) -> None:
    if mode & 0o066 and (owner := _with_password(config)):
        why, change = f"holds the password of {quoted(owner.name)}, and others can read or write it", "600"
    elif mode & 0o002:
        why, change = "anybody can write to it, and its commands are run as you", "o-w"
    else:
        return
    import shlex

    raise ConfigError(f"{path}: {why} (mode {mode:04o})", hint=f"Run: chmod {change} {shlex.quote(path)}")


def parse(text: str, filename: str) -> Config:
    """A whole file, or ConfigError with every fault."""
    from . import grammar  # most runs find what an earlier one has understood

    return grammar.parse(text, filename)


def keep(config: Config) -> None:
    """Let later runs go by what was understood here, as long as the file is as it is."""
    if config.state is None or config.kept:
        return
    with suppress(OSError, ConfigError):
        text, _, found = _read(config.filename)
        if found == config.state:
            kept.keep(config, found, text)


def _read(path: str) -> tuple[str, int | None, State | None]:
    """The text; the permissions of what is a file; and its state, if any change after this reading will change that."""
    with open(path, "rb", opener=_opener) as file:
        found = os.fstat(file.fileno())
        is_file = stat.S_ISREG(found.st_mode)
        state = state_of(found) if is_file and lasting(state_of(found)) else None  # before it is read
        data = file.read(MOST_BYTES + 1)
    if len(data) > MOST_BYTES:
        raise ConfigError(f"{path}: more than {MOST_BYTES:,} bytes, expected a configuration file")
    text = data.decode("utf-8-sig", "surrogateescape")
    return text, stat.S_IMODE(found.st_mode) if is_file else None, state


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
