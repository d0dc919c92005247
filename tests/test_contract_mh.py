"""The driver contract, kept by MH directories."""

from __future__ import annotations

from .contract import NestingContract, TransferContract
from .local_contract import LocalContract


class TestMh(LocalContract, NestingContract, TransferContract):
    format = "mh"
