"""What a run tells, and to whom. The channel speaks to a `Report`; which one it is, is the command line's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from ..errors import MailsyncError
from ..model import Boxname, Failure, Head, Side, Uid

if TYPE_CHECKING:  # a run that finds nothing does without all that others find
    from ..findings import Finding
    from ..plan import Done, Failed
    from .results import BoxResult, Compared, Listed, MassDeletion, Restored
    from .turns import Post, Turns

Heads = Mapping[tuple[Side, Uid], Head]


@dataclass(slots=True)
class Summary:
    """A run in numbers."""

    copied: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))  # to this side
    moved: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))  # inside this side
    flagged: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    deleted: dict[Side, int] = field(default_factory=lambda: dict.fromkeys(Side, 0))
    failed: int = 0  # steps and boxes
    held: int = 0  # deletions held by the guard

    def numbers(self) -> dict[str, int]:
        """Both sides together."""
        return {
            "copied": sum(self.copied.values()),
            "moved": sum(self.moved.values()),
            "flagged": sum(self.flagged.values()),
            "deleted": sum(self.deleted.values()),
            "failed": self.failed,
            "held": self.held,
        }


@dataclass(slots=True)
class Ended:
    """How the run of one of several channels ended."""

    channel: str
    code: int | None = None  # None: it did not begin
    why: str = ""  # empty if it came to its end
    summary: Summary = field(default_factory=Summary)  # as far as it came


class Report(Protocol):
    """Whoever is told."""

    @property
    def details(self) -> bool:
        """True if each message is told: its header must then be read."""

    def begin(self, verb: str, names: Sequence[str], *, simulate: bool = False) -> None:
        """`verb` is "sync", "diff", "list" or "check"; `names`: the channel and its stores, or the store."""

    def box(self, result: BoxResult) -> None: ...
    def compared(self, compared: Compared) -> None: ...
    def listed(self, listed: Listed) -> None: ...
    def looking(self, boxname: Boxname) -> None:
        """A check has come to this box."""

    def found(self, finding: Finding, heads: Heads) -> None: ...
    def checked(self, findings: int, mailboxes: int) -> None:
        """A check is over: so much was found, in so many boxes."""

    def removed(self, boxname: Boxname, mailboxes: Sequence[tuple[str, Failure | None]]) -> None:
        """-D: the box, and each mailbox that was removed with it, or why it was not."""

    def may_delete(self, deletion: MassDeletion) -> bool:
        """Ask the user, where one is there to be asked."""

    def restored(self, restored: Restored) -> None: ...

    def expect(self, steps: int) -> None:
        """So many steps are to come."""

    def step(self, boxname: Boxname, outcome: Done | Failed) -> None:
        """One more is over."""

    def note(self, text: str, *, asked: bool = False) -> None:
        """Worth knowing, with -vw. `asked`: the user wants to know just this."""

    def debug(self, text: str) -> None:
        """What happens inside, with -d."""

    def problem(self, text: str, hint: str = "") -> None:
        """What went wrong, and what to do next; the run goes on."""

    def error(self, error: MailsyncError, code: int) -> None:
        """What ended the run, or that of one channel. `code`: the exit code it stands for."""

    def config(self, text: str) -> None:
        """-dc: the configuration as it was understood."""

    def end(self, summary: Summary) -> None: ...

    def told(self) -> str | None:
        """All that was said until now, to be said again; None if some of it was a complaint."""

    def say(self, text: str) -> None:
        """What a run with these options has told before, as it is."""


class Host(Report, Protocol):
    """The report of the whole program, whatever it does."""

    def apart(self, channels: Sequence[str], post: Post) -> Turns:
        """A report like this one for each of several channels that run at the same time."""

    def ended(self, channels: Sequence[Ended], code: int) -> None:
        """All of them have ended. `code`: the exit code."""


def traced(error: BaseException) -> str:
    """Where an error comes from, for -d."""
    import traceback  # only ever needed for an error

    return "".join(traceback.format_exception(error))
