"""Real IMAP servers on loopback, each started when a test first asks for it, and ended with the test run.

One instance per configuration and process. A test takes a login of its own: `server("dovecot").new_login()`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from . import cyrus, dovecot, imap4d, packages
from .courier import Courier
from .cyrus import Cyrus
from .dovecot import Dovecot
from .imap4d import Imap4d
from .processes import NotStarted
from .running import Login, Server

__all__ = ["NAMES", "Login", "Server", "install", "own", "server", "stop"]

_CLASSES: Mapping[str, type[Server]] = {
    **dict.fromkeys(dovecot.FACES, Dovecot),
    **dict.fromkeys(cyrus.NAMES, Cyrus),
    "courier": Courier,
    **dict.fromkeys(imap4d.NAMES, Imap4d),
}
NAMES = tuple(_CLASSES)

_running: dict[str, Server] = {}
_failed: dict[str, str] = {}
_directory: list[Path] = []


def server(name: str) -> Server:
    """The instance of this configuration, started if this process has none. Skips the test if there can be none."""
    if name not in _running and name not in _failed:
        kind = _CLASSES[name]
        try:
            packages.install()
            _running[name] = kind(name, _own_directory())
        except (NotStarted, packages.Missing) as err:
            _failed[name] = f"no {name}: {err}"
    if name in _failed:
        pytest.skip(_failed[name])
    return _running[name]


@contextmanager
def own(name: str) -> Iterator[Server]:
    """An instance that nobody else uses: it may be stopped."""
    server(name)  # or there can be none
    directory = Path(tempfile.mkdtemp(prefix="mailsync-own-", dir="/tmp"))
    directory.chmod(0o755)  # its users are not root
    found = _CLASSES[name](name, directory)
    try:
        yield found
    finally:
        found.stop()
        shutil.rmtree(directory, ignore_errors=True)


def install() -> None:
    """Do what the first server would do, while no test's time runs. What cannot be had, `server` tells."""
    with suppress(packages.Missing):
        packages.install()


def stop() -> None:
    """End all servers of this process and remove what they wrote."""
    while _running:
        _running.popitem()[1].stop()
    while _directory:
        shutil.rmtree(_directory.pop(), ignore_errors=True)


def _own_directory() -> Path:
    """Not pytest's tmp_path: servers that are not root must come through."""
    if not _directory:
        _directory.append(Path(tempfile.mkdtemp(prefix="mailsync-servers-", dir="/tmp")))
        _directory[0].chmod(0o755)
    return _directory[0]
