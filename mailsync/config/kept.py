"""What a configuration file meant, kept in the cache: to read that takes a tenth of the time that parsing takes.

It holds for the file as it was, and may be deleted at any time. No password is in it, only where in the file it stands.
"""

from __future__ import annotations

import json
import os
from binascii import crc32
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any

from .. import __version__
from ..directories import directory, get, put
from ..model import Duplicates, Side
from ..unchanged import State
from .tokens import text_of
from .values import ChannelConfig, Config, Deletion, MaxDelete, Secret, StoreConfig, Where

FORMAT = 1

Places = Mapping[str, tuple[int, int]]  # of passwords: where the token begins, and its length, in characters


def recall(filename: str, state: State, text: str) -> Config | None:
    """What was kept of a file of this name, state and text; None if nothing was, or if it is damaged.

    A configuration says what is run: one that somebody else may have written counts as none.
    """
    try:
        checksum, whole = get(_path(filename)).split("\n", 1)
        if int(checksum, 16) != crc32(whole.encode()):
            return None
        found = json.loads(whole)
        return decoded(found["config"], filename, text) if found["key"] == _key(filename, state) else None
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None


def keep(config: Config, state: State, text: str) -> None:
    """`state` and `text`: those of the file that it is from."""
    what = encoded(config, text)
    if what is None:
        return
    whole = json.dumps({"key": _key(config.filename, state), "config": what})
    with suppress(OSError):  # the next run parses again
        put(_path(config.filename), f"{crc32(whole.encode()):08x}\n{whole}")


def encoded(config: Config, text: str) -> dict[str, Any] | None:
    """As JSON has it. None if a password stands in the text otherwise than by itself."""
    places = _passwords(text) if _has_password(config) else {}
    try:
        return {
            "stores": [_block(store, places) for store in config.stores.values()],
            "channels": [_block(channel, places) for channel in config.channels.values()],
            "warnings": list(config.warnings),
            "groups": {name: list(channels) for name, channels in config.groups.items()},
        }
    except KeyError:
        return None


def decoded(found: Mapping[str, Any], filename: str, text: str) -> Config:
    """What was encoded. LookupError, TypeError or ValueError if it was not."""
    stores = [StoreConfig(**_values(block, text)) for block in found["stores"]]
    channels = [ChannelConfig(**_values(block, text)) for block in found["channels"]]
    return Config(
        filename,
        {store.name: store for store in stores},
        {channel.name: channel for channel in channels},
        tuple(found["warnings"]),
        {name: tuple(names) for name, names in found["groups"].items()},
    )


# ---- blocks ----------------------------------------------------------------------------------------------------------


def _block(block: StoreConfig | ChannelConfig, places: Places) -> dict[str, Any]:
    """What differs from the defaults."""
    values = {one.name: (getattr(block, one.name), one.default) for one in fields(block)}
    return {name: _json(value, places) for name, (value, default) in values.items() if value != default}


def _values(block: Mapping[str, Any], text: str) -> dict[str, Any]:
    return {name: _value(kept, text) for name, kept in block.items()}


def _json(value: object, places: Places) -> object:
    """KeyError for a password that is at none of these places."""
    match value:
        case Deletion(mark, trash):
            return {"deletion": [mark, trash]}
        case MaxDelete(number, percent):
            return {"max": [number, percent]}
        case Where(line, column):
            return {"where": [line, column]}
        case Duplicates():
            return {"duplicates": value.value}
        case frozenset():
            return {"sides": [side.value for side in Side if side in value]}
        case tuple():
            return [_json(one, places) for one in value]
        case Secret():
            return {"secret": places[value.reveal()]}
        case str() | int() | None:
            return value
    return {"date": str(value)}  # of type date, which only they import who have one


def _value(kept: Any, text: str) -> object:
    match kept:
        case list():
            return tuple(_value(one, text) for one in kept)
        case {"sides": sides}:
            return frozenset(map(Side, sides))
        case {"deletion": [mark, trash]}:
            return Deletion(mark, trash)
        case {"max": [number, percent]}:
            return MaxDelete(number, percent)
        case {"where": [line, column]}:
            return Where(line, column)
        case {"duplicates": word}:
            return Duplicates(word)
        case {"secret": [at, length]}:
            return Secret(text_of(text[at : at + length]))
        case {"date": day}:
            from datetime import date  # few channels have one

            return date.fromisoformat(day)
        case dict():
            raise ValueError("kept by another program")
    return kept


# ---- passwords -------------------------------------------------------------------------------------------------------


def _has_password(config: Config) -> bool:
    blocks: tuple[StoreConfig | ChannelConfig, ...] = (*config.stores.values(), *config.channels.values())
    return any(block.passwd is not None for block in blocks)


def _passwords(text: str) -> Places:
    """What stands behind the word 'passwd'. Where it does twice with the same, either place will do."""
    from itertools import pairwise

    from .source import Source

    words = pairwise(Source("", text, ()).words(0))
    return {word.text: (word.at, len(word.raw)) for before, word in words if before.raw == "passwd"}


# ---- the file --------------------------------------------------------------------------------------------------------


def _key(filename: str, state: State) -> dict[str, object]:
    return {"format": FORMAT, "version": __version__, "filename": filename, "state": list(state)}


def _path(filename: str) -> str:
    name = os.path.abspath(filename).encode("utf-8", "surrogateescape")
    return os.path.join(directory("cache"), f"config-{crc32(name):08x}.json")
