"""The driver contract, kept by MH directories."""

from __future__ import annotations

from .local_contract import LocalContract


class TestMh(LocalContract):
    format = "mh"
