"""The driver contract, kept by a Maildir++."""

from __future__ import annotations

from pathlib import Path

from mailsync.model import Mailbox

from .contract import NestingContract, TransferContract
from .local_contract import LocalContract


class TestMaildirPlusPlus(LocalContract, NestingContract, TransferContract):
    format = "maildir++"
    takes_along = False
    always = frozenset({"Mail/INBOX"})  # made with the first of the others

    def name(self, *levels: str) -> Mailbox:
        return Mailbox("Mail/" + ".".join(levels))

    def path(self, mailbox: Mailbox) -> Path:
        return self.home / "Mail" / f".{mailbox.removeprefix('Mail/')}"
