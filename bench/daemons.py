"""Servers of this benchmark alone: started when they are wanted, and ended with it however it ends."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from .measure import HERE, Unmeasured

PATIENCE = 20.0  # seconds until a server must greet


class Daemon:
    """A process group of its own that listens on a port of 127.0.0.1."""

    def __init__(self, words: Sequence[str], port: int, log: Path) -> None:
        # Where there is setpriv, not even a SIGKILL leaves it behind.
        guard = ["setpriv", "--pdeathsig", "KILL", "--"] if shutil.which("setpriv") else []
        self.port, self._log = port, log
        with log.open("wb") as out:
            self._process = subprocess.Popen(
                [*guard, *words],
                cwd=HERE.parent,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def await_greeting(self) -> None:
        """Unmeasured if it ends, or says nothing, instead."""
        end = time.monotonic() + PATIENCE
        while not _greets(self.port):
            if self._process.poll() is not None or time.monotonic() > end:
                self.stop()
                said = self._log.read_text(errors="replace").strip().splitlines()[-1:]
                raise Unmeasured(f"{self._log.name} does not greet: {' '.join(said)}")
            time.sleep(0.02)

    def stop(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as sock:
            return sock.recv(4).startswith(b"* ")
    except OSError:
        return False
