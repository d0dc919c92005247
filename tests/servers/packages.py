"""What the servers are made of: Debian packages, installed once per machine. Only root can, and only Debian has them.

Cyrus, Courier and imap4d conflict with one another and would start on the machine's own ports: they are unpacked into
a private place, and only the libraries that they need are installed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

# Not in a home: servers that are not root run from here.
CACHE = Path("/var/cache/mailsync-tests")

# The last ones serve the servers that are unpacked.
_INSTALLED = ("dovecot-imapd", "isync", "openssl", "sasl2-bin", "libsasl2-modules", "mailutils-common", "perl")
_UNPACKED: Mapping[str, Sequence[str]] = {
    "cyrus": ("cyrus-common", "cyrus-imapd"),
    "courier": ("courier-base", "courier-imap", "courier-authlib", "courier-authlib-userdb"),
    "imap4d": ("mailutils-imap4d",),
}


class Missing(Exception):
    """Servers cannot be had on this machine, and why."""


def tree(family: str) -> Path:
    """Where the packages of a family lie, as if it were `/`."""
    return CACHE / family


@cache
def install() -> None:
    """Make sure that all is there; quick where it is. Missing, with the reason, if it cannot be."""
    if os.geteuid():
        raise Missing("only root can start IMAP servers that many users log in to")
    if not shutil.which("apt-get"):
        raise Missing("it comes from Debian packages, and this is not Debian")
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the same test run may be at it
        installed = set(_INSTALLED) - _there(_INSTALLED)
        unpacked = {family: packages for family, packages in _UNPACKED.items() if not tree(family).exists()}
        if installed or unpacked:
            with _no_services():
                _apt("update")
                _apt("install", *sorted(installed))
                for family, packages in unpacked.items():
                    _unpack(packages, tree(family))


def _there(packages: Sequence[str]) -> set[str]:
    """Those of the packages that are installed."""
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n", *packages]
    lines = subprocess.run(query, capture_output=True, text=True).stdout.splitlines()
    return {line.split()[0] for line in lines if line.endswith(" installed")}


@contextmanager
def _no_services() -> Iterator[None]:
    """No package starts what it brings, as Debian's own tools for chroots do it (invoke-rc.d(8))."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _unpack(packages: Iterable[str], target: Path) -> None:
    """Lay the packages' files out below `target`, which is there only once they all are; install their libraries."""
    with tempfile.TemporaryDirectory(dir=CACHE) as work:
        _run(["apt-get", "-q", "download", *packages], cwd=work)
        root = Path(work) / "root"
        libraries = set()
        for archive in sorted(Path(work).glob("*.deb")):
            _run(["dpkg", "-x", str(archive), str(root)])
            depends = _run(["dpkg-deb", "-f", str(archive), "Depends"])
            libraries |= set(re.findall(r"(?:^|, )(lib[^\s,|]+)", depends))
        _apt("install", *sorted(libraries))
        root.chmod(0o755)
        root.rename(target)


def _apt(*arguments: str) -> None:
    _run(["apt-get", "-q", "-y", "--no-install-recommends", "--no-upgrade", "-o", "DPkg::Lock::Timeout=60", *arguments])


def _run(command: Sequence[str], cwd: str | None = None) -> str:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    if done.returncode:
        raise Missing(f"{' '.join(command)}: {done.stderr.strip()[-1000:]}")
    return done.stdout
