"""Two mailsyncs at work on the same mail: from one machine, from two with one memory on a server, from two with a
server between them. One runs from its beginning to its end in the middle of the other, at each moment of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .meanwhile import Meanwhile
from .scene import Scene, Side, configure, run_in
from .servers import server
from .tried import TWO
from .users import ImapUser, MaildirUser

pytestmark = TWO


@contextmanager
def far(name: str = "dovecot") -> Iterator[Side]:
    """An account that is empty."""
    on = server(name)
    login = on.new_login()
    at = f"{{{on.host}:{on.port}/notls/user={login.user}}}"
    user = ImapUser(on, login)
    config = f'server {at} pat "{on.prefix}x" pat "{on.prefix}y" prefix "{on.prefix}" passwd {login.password}'
    try:
        yield Side(user, config, on.prefix)
    finally:
        user.close()


def near(path: Path) -> Side:
    return Side(MaildirUser(path), f"pat {path}/% prefix {path}/ format maildir fsync no", f"{path.name}/")


def machine(home: Path, a: Side, b: Side, msinfo: str = ".msinfo") -> Path:
    home.mkdir(parents=True)
    configure(home, f"store a {{ {a.config} }}\nstore b {{ {b.config} }}\nchannel c a b {{ msinfo {msinfo} }}\n")
    return home


@contextmanager
def one_channel(base: Path) -> Iterator[Scene]:
    """A mailbox on a server and a directory that two machines share; and so is the memory, which is on the server."""
    with far() as a:
        assert isinstance(a.user, ImapUser)
        b = near(base / "shared/b")
        msinfo = f"{{{a.user.on.host}:{a.user.on.port}/notls/user={a.user.login.user}}}state"
        yield Scene({"a": a, "b": b}, [machine(base / name, a, b, msinfo) for name in ("one", "two")])


@contextmanager
def two_accounts(base: Path) -> Iterator[Scene]:
    """Both stores are on a server, and listed at the same time."""
    with far() as a, far() as b:
        assert isinstance(a.user, ImapUser)
        msinfo = f"{{{a.user.on.host}:{a.user.on.port}/notls/user={a.user.login.user}}}state"
        yield Scene({"a": a, "b": b}, [machine(base / name, a, b, msinfo) for name in ("one", "two")])


@contextmanager
def star(base: Path) -> Iterator[Scene]:
    """A server between two machines, each of which has its own mail, channel and memory."""
    with far() as hub:
        ends = {"a": near(base / "one-mail/a"), "b": near(base / "two-mail/b")}
        homes = [
            machine(base / name, ends[side], hub) for name, side in (("one", "a"), ("two", "b"))
        ]
        yield Scene({**ends, "hub": hub}, homes)
