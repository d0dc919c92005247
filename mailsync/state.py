"""Where mailsync keeps its own files."""

from __future__ import annotations

from pathlib import Path

from .directories import directory
from .runlock import name_of


def cache_file(store: str) -> Path:
    """The cache of a store, of which this tells where it is."""
    return Path(directory("cache")) / f"{name_of('store', store)}.sqlite"


def record_file(channel: str, msinfo: str) -> Path:
    """The record of a channel. `msinfo`: its mailbox, as an absolute name."""
    return Path(directory("cache")) / f"{name_of(channel, msinfo)}.sqlite"


def ledger_file(channel: str, msinfo: str) -> Path:
    """Where the messages of a channel that fail again and again are listed. `msinfo`: as above."""
    return Path(directory("state")) / f"{name_of(channel, msinfo)}.ledger.json"


def kept_directory(channel: str, msinfo: str) -> Path:
    """Where what its runs have deleted is kept for a while."""
    return Path(directory("state")) / "deleted" / name_of(channel, msinfo)
