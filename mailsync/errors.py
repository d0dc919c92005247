"""What can go wrong, as a tree: each error knows its exit code and what the user can do next.

    MailsyncError            1  something failed
    ├── UsageError           2  the command line
    ├── ConfigError          3  the configuration file
    ├── Locked               5  another run holds what this one needs
    ├── StoreError           6  a store cannot be reached, or is not the one that was seen
    │   └── Replaced         6  a store that held mail holds none of it now
    ├── LoginError           7
    ├── MsinfoError          8  the memory of the channel cannot be read
    ├── CertificateError     9
    └── BoxError             1  one mailbox, and only that one
        └── Lost             1  its connection broke: what was sent last may or may not have been done

A message that fails is not an exception but a value: `model.Failure`.
"""

from __future__ import annotations


class MailsyncError(Exception):
    """Something failed. `hint` says what to do next, in one sentence."""

    code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(MailsyncError):
    code = 2


class ConfigError(MailsyncError):
    """The configuration file. The message is complete, with file, line and column for each fault."""

    code = 3


class Locked(MailsyncError):
    code = 5


class StoreError(MailsyncError):
    """A whole store: it cannot be reached or listed. Nothing is known of what it holds."""

    code = 6


class Replaced(StoreError):
    """A store is there, but it is not the one that was seen last time."""


class LoginError(MailsyncError):
    code = 7


class MsinfoError(MailsyncError):
    """The channel's memory cannot be read. It never means that nothing was seen."""

    code = 8


class CertificateError(MailsyncError):
    code = 9


class BoxError(MailsyncError):
    """One mailbox cannot be opened, created, deleted or renamed. The rest of the store is not touched by it."""


class Lost(BoxError):
    """The connection to a mailbox broke in the middle, or another mailbox has come under its name.

    What was sent last may have been done or not: the mailbox must be listed and diffed again before anything is sent a
    second time.
    """


def unexpected(error: Exception) -> MailsyncError:
    """What to say of an error that nobody has thought of."""
    if isinstance(error, MemoryError):
        said = MailsyncError("out of memory; what was done until then is remembered")
    else:
        said = MailsyncError(
            f"this is a bug in mailsync: {type(error).__name__}: {error}",
            "Run it again with -d, and report all that it tells.",
        )
    said.__cause__ = error
    return said


# Several channels in one run: the worst exit code, in this order of weight.
WEIGHT = (8, 6, 9, 7, 5, 4, 1)


def worst(codes: list[int]) -> int:
    """The exit code of a run of several channels."""
    return next((code for code in WEIGHT if code in codes), 0)
