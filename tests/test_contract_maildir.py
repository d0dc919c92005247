"""The driver contract, kept by Maildirs in Maildirs."""

from __future__ import annotations

from .local_contract import LocalContract


class TestMaildir(LocalContract):
    format = "maildir"
