"""What a test sees of a server, whatever family it is of."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from .processes import CLOSE_WAIT, ESTABLISHED, Daemon, NotStarted, certificate, free_ports, holders, open_ends

PASSWORD = "secret"
ATTEMPTS = 3  # another process may take a port between our look and the server's


@dataclass(frozen=True, slots=True)
class Login:
    user: str
    password: str


class Server(ABC):
    """One running instance, all in one directory; started by making it."""

    family: ClassVar[str]
    host = "127.0.0.1"  # an address that `certificate` is for
    prefix = ""  # of the personal namespace
    delimiter = "/"

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self._users: Iterator[str] = (f"u{number}" for number in itertools.count(1))
        for attempt in range(1, ATTEMPTS + 1):
            self.directory = directory / f"{name}-{attempt}"
            self.directory.mkdir()
            self.port, self.tls_port = free_ports()  # plain with STARTTLS; TLS from the first byte
            self.certificate, self.key = certificate(self.directory)
            self._daemon = self._started()
            try:
                self._daemon.await_greeting(self.port)
                break
            except NotStarted:
                self._daemon.stop()
                if attempt == ATTEMPTS:
                    raise

    def stop(self) -> None:
        self._daemon.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def process_of(self, client_port: int) -> int:
        """The one that serves this connection, which is logged in; in TLS, one that is its end. LookupError: none."""
        for _ in range(200):  # the process of the login hands it over
            ends = open_ends(self.port, ESTABLISHED) | open_ends(self.tls_port, ESTABLISHED)
            inode = ends.get(client_port)
            found = holders(inode, self._daemon.pid) if inode else []
            if len(found) == 1:
                return found[0]
            time.sleep(0.01)
        raise LookupError(f"no process serves {client_port}")

    def halt(self) -> None:
        """End all its processes at once. `resume` starts it again, on the same ports, with the same mail."""
        self._daemon.stop()

    def resume(self) -> None:
        self._daemon = self._started()
        self._daemon.await_greeting(self.port)

    def present(self, certificate: Path, key: Path) -> None:
        """Its own are replaced by these."""
        self.certificate.write_bytes(certificate.read_bytes())
        self.key.write_bytes(key.read_bytes())
        self.halt()
        self.resume()

    def is_at_rest(self) -> bool:
        """True once it is done with all connections that clients have given up, or that were cut."""
        return not any(open_ends(port, CLOSE_WAIT) for port in (self.port, self.tls_port))

    def __str__(self) -> str:
        return f"{self.name} on port {self.port}"

    @abstractmethod
    def new_login(self) -> Login:
        """A user who never was there, whose account is empty."""

    def maildir(self, login: Login) -> Path | None:
        """The directory of its mail, where that is Maildir or mbox. What a test puts there it must `give`."""
        return None

    def give(self, login: Login, path: Path) -> None:
        """Make a file or tree belong to the user, as whom the server reads it."""
        owner = self.directory_of(login).stat()
        for each in (path, *path.rglob("*")):
            os.chown(each, owner.st_uid, owner.st_gid)

    def directory_of(self, login: Login) -> Path:
        """The user's home."""
        return self.directory / "home" / login.user

    @abstractmethod
    def _started(self) -> Daemon:
        """Write the configuration and start what reads it."""
