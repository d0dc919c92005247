"""A command that speaks IMAP on its standard streams, as a socket. Knows nothing of what is said through it."""

from __future__ import annotations

import re
import shlex
import socket
import subprocess
from contextlib import suppress

from ...errors import StoreError

_SHELL = re.compile(r"[|&;<>()$`*?~\n]|\A\s*\w+=")  # what only a shell understands


class Tunnel:
    """A running command; its messages go where ours go. StoreError if it cannot be started."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.socket, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(_argv(command), stdin=theirs.fileno(), stdout=theirs.fileno())
        except (OSError, ValueError) as err:
            self.socket.close()
            why = err.strerror or str(err) if isinstance(err, OSError) else str(err)
            raise StoreError(f"tunnel {command}: cannot be started: {why}", _BY_HAND.format(command)) from err

    def ended(self, patience: float) -> StoreError | None:
        """What to say if the command ends within so many seconds; None if it goes on."""
        try:
            code = self._process.wait(patience)
        except subprocess.TimeoutExpired:
            return None
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return StoreError(
            f"tunnel {self.command}: ended with {how} before it spoke IMAP", _BY_HAND.format(self.command)
        )

    def reap(self, patience: float) -> None:
        """Wait for its end, which a closed connection should bring; after so many seconds force it, step by step."""
        self.socket.close()
        for force in (None, self._process.terminate, self._process.kill):
            if force:
                with suppress(PermissionError):  # one of another user (sudo) stays
                    force()
            try:
                self._process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                pass


_BY_HAND = "Run it by hand: '{}' must greet with '* PREAUTH' or '* OK'."


def _argv(command: str) -> list[str]:
    """ValueError for a quote that is not closed, or for nothing."""
    argv = ["/bin/sh", "-c", command] if _SHELL.search(command) else shlex.split(command)
    if not argv:
        raise ValueError("the command is empty")
    return argv
