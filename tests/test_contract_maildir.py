"""The driver contract, kept by Maildirs in Maildirs."""

from __future__ import annotations

from .contract import NestingContract, TransferContract
from .local_contract import LocalContract


class TestMaildir(LocalContract, NestingContract, TransferContract):
    format = "maildir"
