"""Daemons of this process alone: free ports, a certificate, a start that waits, an end by their own pid."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

PATIENCE = 20.0  # seconds until a server must have greeted


class NotStarted(Exception):
    """A server that ended, or said nothing, instead of greeting; its log is the text."""


class Daemon:
    """A process group of its own, which ends with this process however that ends."""

    def __init__(self, command: Sequence[str | Path], log: Path, environment: Mapping[str, str] | None = None) -> None:
        self._log = log
        with log.open("ab") as out:
            self._process = subprocess.Popen(
                # Not even SIGKILL of a test run may leave a server behind.
                ["setpriv", "--pdeathsig", "KILL", "--", *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=environment,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def await_greeting(self, *ports: int) -> None:
        """Return when each port greets as IMAP does, or takes TLS; NotStarted if that does not come."""
        end = time.monotonic() + PATIENCE
        for port in ports:
            while not _greets(port):
                if self._process.poll() is not None or time.monotonic() > end:
                    raise NotStarted(self._log.read_text(errors="replace")[-2000:] or f"no greeting on port {port}")
                time.sleep(0.02)

    def stop(self) -> None:
        """At once: nothing that a test's server holds is worth a graceful end. Then its ports and sockets are free."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._process.wait()
        end = time.monotonic() + PATIENCE
        while any(_lives(process) for process in members(self.pid)) and time.monotonic() < end:
            time.sleep(0.005)


ESTABLISHED, CLOSE_WAIT = "01", "08"  # proc(5), net/tcp; of the second only the other end is closed


def open_ends(port: int, *states: str) -> dict[int, str]:
    """The connections to a port of this machine, as its server has them: their other ports, and inodes."""
    found = {}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, state, *rest = line.split()
        if int(local.partition(":")[2], 16) == port and state in states:
            found[int(remote.partition(":")[2], 16)] = rest[5]
    return found


def members(session: int) -> Iterator[Path]:
    """The processes of a session, as they are in /proc."""
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdecimal() and os.getsid(int(process.name)) == session:
                yield process


def holders(inode: str, session: int) -> list[int]:
    """The processes of a session that have this socket open."""
    found = []
    for process in members(session):
        with suppress(OSError):
            links = {os.readlink(link) for link in (process / "fd").iterdir()}
            found += [int(process.name)] if f"socket:[{inode}]" in links else []
    return found


def in_namespace(script: Path) -> list[str | Path]:
    """Run a shell script with mounts of its own. All that it starts ends with it: it is their pid 1.

    It must not `exec`: a server that changes its user or group forgets that it is to end with this process.
    """
    return ["unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", script]


def free_ports(count: int = 2) -> list[int]:
    """Ports of 127.0.0.1 and 127.0.0.2 that nobody listens on, below those that the system gives to clients."""
    found: list[int] = []
    while len(found) < count:
        port = random.SystemRandom().randrange(20000, 32000)
        if port not in found and _free(port):
            found.append(port)
    return found


def certificate(directory: Path) -> tuple[Path, Path]:
    """A self-signed certificate for localhost, 127.0.0.1 and 127.0.0.2, and its key, both PEM."""
    certificate, key = directory / "server.crt", directory / "server.key"
    key_kind: tuple[str | Path, ...] = (
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
        "-keyout",
        key,
    )
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:127.0.0.2")
    command: list[str | Path] = ["openssl", "req", "-x509", *key_kind, *names, "-days", "3650", "-out", certificate]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def _lives(process: Path) -> bool:
    """Else it is a zombie, which has nothing open any more, or gone."""
    try:
        return (process / "stat").read_text().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False


def _free(port: int) -> bool:
    for address in ("127.0.0.1", "127.0.0.2"):
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                sock.bind((address, port))
            except OSError:
                return False
    return True


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            return sock.recv(4).startswith(b"* ")
    except OSError:
        return False
