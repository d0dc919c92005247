"""The driver contract, kept by mbox files."""

from __future__ import annotations

from .contract import TransferContract
from .local_contract import LocalContract


class TestMbox(LocalContract, TransferContract):
    format = "mbox"
    exact = False  # blank lines at the end and an mbox's own header lines are not kept

    # Nobody can do that: both files are locked while messages go from one to the other.
    test_flags_that_somebody_sets_meanwhile_go_along = None  # type: ignore[assignment]
    test_message_put_in_the_place_of_another_is_not_moved = None  # type: ignore[assignment]
