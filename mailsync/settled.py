"""The stamp of a run that found nothing: as long as all that it looked at is as it was, so is what it told.

It may be deleted at any time. Most runs end with it, before anything else of this program is imported: so this imports
next to nothing.
"""

from __future__ import annotations

import json
import os
import time
from argparse import Namespace
from binascii import crc32
from collections.abc import Mapping, Sequence
from contextlib import suppress

from . import __version__
from .directories import directory, get, put
from .unchanged import State, state_like

FORMAT = 1
ENVIRON = ("HOME", "MAIL", "USER")  # what else says where mail is
# With one of these a run is another thing, or the user wants to see it work.
LOOKS_CLOSER = (
    "apply", "check", "debug", "debug_config", "debug_imap", "full", "plan", "retry", "simulate", "test_auth", "undo",
    "verbose_ids", "verbose_parse",
)  # fmt: skip
ELSEWHERE = ("all", "config", "names")  # told by the channel and its file


class Settled:
    """The stamp of one channel, for runs with these options; `config`: the file that defines it."""

    def __init__(self, config: str, channel: str, options: Namespace) -> None:
        chosen = {name: value for name, value in sorted(vars(options).items()) if name not in ELSEWHERE}
        self._closer = any(chosen[name] for name in LOOKS_CLOSER)
        self._key = {
            "format": FORMAT,
            "version": __version__,
            "config": os.path.abspath(config),
            "channel": channel,
            "options": chosen,
            "environ": {name: os.environ.get(name) for name in ENVIRON},
        }
        self._path = os.path.join(directory("cache"), f"settled-{crc32(json.dumps(self._key).encode()):08x}.json")

    def read(self) -> Stamp | None:
        """None: there is none, or what it rests on on this machine has changed."""
        if self._closer:
            return None
        try:
            found = json.loads(get(self._path))
            fits = found["key"] == self._key and time.time() < found["until"]
            if fits and all(_as_json(state_like(path, was)) == was for path, was in found["paths"].items()):
                return Stamp(found["servers"], found["told"], found["hooks"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            pass
        return None

    def write(self, stamp: Stamp, paths: Mapping[str, State | None], until: float) -> None:
        """`paths`: as they were before the run looked at them. `until`: when something is to be done, in any case."""
        if self._closer:
            return
        what = {"servers": stamp.servers, "told": stamp.told, "hooks": stamp.hooks}
        found = {"key": self._key, "until": until, "paths": paths, **what}
        with suppress(OSError):  # the next run finds nothing again
            put(self._path, json.dumps(found))


class Stamp:
    """What a run told on stdout, and what is yet to be asked to know that it holds."""

    __slots__ = ("hooks", "servers", "told")

    def __init__(self, servers: Sequence[str], told: str, hooks: bool) -> None:
        self.servers = list(servers)  # for each store on a server, and msinfo if it is there: what tells its state
        self.told = told
        self.hooks = hooks  # the channel has some, which run whatever is found


def told(options: Namespace) -> str | None:
    """What this run would tell, if it is sure to find nothing and needs nobody else to know that."""
    if len(options.names) != 1 or options.all:
        return None
    config = options.config or os.path.expanduser("~/.mailsync")
    if options.config is None and not os.path.lexists(config):
        config = os.path.join(directory("config"), "config")
    stamp = Settled(config, options.names[0], options).read()
    return stamp.told if stamp and not stamp.servers and not stamp.hooks else None


def _as_json(found: State | None) -> list[int] | None:
    return None if found is None else list(found)
