"""What a run tells, and to whom. The channel speaks to a `Report`; which one it is, is the command line's business."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..errors import MailsyncError
from ..findings import Finding
from ..model import DELETED, Boxname, Failure, Head, Listing, MessageId, Side, Uid
from ..plan import BoxDone, BoxPlan, Copy, Delete, Done, Failed, Outcome, SetFlags, Step

if TYPE_CHECKING:
    from .turns import Post, Turns

Heads = Mapping[tuple[Side, Uid], Head]
NO_HEADS: Heads = MappingProxyType({})


class BoxResult(NamedTuple):
    """A box, what was planned for it, and what came of it."""

    plan: BoxPlan
    outcomes: Sequence[Outcome] = ()
    heads: Heads = NO_HEADS

    def done(self) -> list[Step]:
        return [outcome.step for outcome in self.outcomes if isinstance(outcome, Done)]

    def failed(self) -> list[Failed]:
        """Steps that truly failed; what vanished meanwhile did not."""
        return [o for o in self.outcomes if isinstance(o, Failed) and not o.failure.gone]

    def boxes(self) -> list[BoxDone]:
        return [outcome for outcome in self.outcomes if isinstance(outcome, BoxDone)]


class Compared(NamedTuple):
    """One box of a store against what is remembered of it: diff mode."""

    boxname: Boxname
    duplicates: Sequence[tuple[Uid, MessageId]]
    new: int
    deleted: int
    flagged: int
    current: int
    heads: Heads = NO_HEADS


class Listed(NamedTuple):
    """One box of a store: list mode. `listing` is None where messages were not asked for."""

    boxname: Boxname
    selectable: bool = True
    listing: Listing | None = None
    heads: Heads = NO_HEADS


@dataclass(frozen=True, slots=True)
class Restored:
    """Messages that --undo has put back into one box."""

    boxname: Boxname
    store: str
    count: int


class MassDeletion(NamedTuple):
    """More deletions on a side than the guard lets pass."""

    limit: int
    counts: Mapping[Side, int]
    by_box: Mapping[Boxname, Mapping[Side, int]]
    seen: Mapping[Boxname, int]  # messages remembered of each box

    @property
    def sides(self) -> list[Side]:
        """Where there are too many."""
        return [side for side in Side if self.counts[side] > self.limit]


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


def needs_head(step: Step, why_held: str, details: bool) -> bool:
    """Which messages are told by sender and subject: with -m all; else those that were left out on purpose."""
    return details or (isinstance(step, Copy) and why_held in ("ign. del", "too big"))


def in_words(boxname: Boxname, outcome: Done | Failed, names: Mapping[Side, str]) -> str:
    """What came of one step, for -d."""
    step = outcome.step
    match step:
        case Copy(to=to, flags=flags, near=near):
            way = f"{'moved' if near.goes else 'copied'} from {near.boxname} in" if near else "copied to"
            what = f"{way} {names[to]} with [{' '.join(sorted(flags))}]"
        case SetFlags(on=on, add=add, remove=remove):
            what = f"flags +[{' '.join(sorted(add))}] -[{' '.join(sorted(remove))}] in {names[on]}"
        case Delete(on=on, why=why, marks=marks):
            what = f"{f'marked {DELETED}' if marks else 'deleted'} in {names[on]}, because {why.value}"
    failed = f": failed, {outcome.failure.why}" if isinstance(outcome, Failed) else ""
    return f"{boxname}: {step.entry.uid} {step.entry.id} {what}{failed}"


def traced(error: BaseException) -> str:
    """Where an error comes from, for -d."""
    import traceback  # only ever needed for an error

    return "".join(traceback.format_exception(error))
