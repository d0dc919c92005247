"""The driver contract, kept by mbox files."""

from __future__ import annotations

from .local_contract import LocalContract


class TestMbox(LocalContract):
    format = "mbox"
    exact = False  # blank lines at the end and an mbox's own header lines are not kept
