"""The driver contract, for formats that lie in files: what a mailbox that is only read must keep."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ClassVar

from mailsync.drivers.local import LocalStore
from mailsync.model import Mailbox

from .contract import DriverContract
from .mail import local


class LocalContract(DriverContract):
    format: ClassVar[str]
    pattern = "Mail/*"

    def connect(self) -> LocalStore:
        return local(self.home, self.pattern, format=self.format)

    def name(self, *levels: str) -> Mailbox:
        return Mailbox("Mail/" + "/".join(levels))

    def path(self, mailbox: Mailbox) -> Path:
        return self.home / mailbox

    def trace(self, mailbox: Mailbox) -> object:
        """Bytes and times of its files; the access times, too."""
        top = self.path(mailbox)
        return {str(path): _state(path) for path in [top, *sorted(top.rglob("*"))]}


def _state(path: Path) -> tuple[int, int, int, bytes]:
    found = path.stat()
    if path.is_dir():
        return found.st_ino, found.st_mtime_ns, found.st_atime_ns, b""
    fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOATIME", 0))
    with open(fd, "rb") as file:
        return found.st_ino, found.st_mtime_ns, found.st_atime_ns, file.read()
