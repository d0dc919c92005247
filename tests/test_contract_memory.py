"""The driver contract, kept by the store in memory."""

from __future__ import annotations

from mailsync.drivers.memory import Memory

from .contract import NestingContract, TransferContract


class TestMemory(NestingContract, TransferContract):
    def connect(self) -> Memory:
        if not hasattr(self, "memory"):
            self.memory = Memory()
        return self.memory
