"""5.2.7's text on stdout, byte for byte where it was right; problems and notes on stderr."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import MailsyncError
from ..model import Boxname, Failure, Side
from ..out import Out
from ..wording import many
from . import Ended, Heads, Summary, traced
from .printable import printable, printable_lines, short
from .progress import NoProgress, Progress

if TYPE_CHECKING:
    from ..findings import Finding
    from ..plan import Done, Failed
    from .boxes import Boxes
    from .results import BoxResult, Compared, Listed, MassDeletion, Restored
    from .turns import Post, Turns, Voice

EACH = 5  # messages with which the same fails in one box are named; of more only the number is told


@dataclass
class Classic:
    """The report for people. `details` is -m, `ids` is -M."""

    out: Out
    err: Out
    details: bool = False
    ids: bool = False
    quiet: bool = False
    warnings: bool = False
    debugging: bool = False
    progress: Progress = field(default_factory=NoProgress)
    colour: bool = False
    ask: Callable[[str], str] | None = None  # a user at a terminal; gives the answer
    _names: dict[Side, str] = field(default_factory=dict)
    _heading: str = ""  # printed before the first line; with -q, only if there is one
    _simulate: bool = False

    def begin(self, verb: str, names: Sequence[str], *, simulate: bool = False) -> None:
        shown = [printable(name) for name in names]
        match verb:
            case "sync":
                self._names = {Side.A: shown[1], Side.B: shown[2]}
                self._heading = f'Synchronizing stores "{shown[1]}" <-> "{shown[2]}"...\n'
            case "undo":
                self._names = {Side.A: shown[1], Side.B: shown[2]}
                self._heading = f"Putting back what the run of {shown[3]} has deleted...\n"
            case "diff":
                self._heading = f'Comparing store "{shown[1]}" <-> "{shown[1]}"...\n'
                self._names = dict.fromkeys(Side, shown[1])
            case "check":
                stores = " <-> ".join(f'"{name}"' for name in shown[-2:])
                self._heading = f"Checking store{'s' if len(shown) > 1 else ''} {stores}...\n"
            case _:
                self._heading = f'Listing store "{shown[0]}"\n'
        self._simulate = simulate
        if simulate:
            self._heading = "Only simulating\n" + self._heading
        if not self.quiet:
            self._print("")
        self.progress.look("Looking ...")

    # ---- sync --------------------------------------------------------------------------------------------------------

    def box(self, result: BoxResult) -> None:
        if result.plan.exists and not (self.quiet and not result.outcomes):
            self._print(self._boxes.synced(result))
        for alike in result.failed_alike():
            self._failed(result.plan.boxname, alike)
        for done in result.boxes():
            if done.failure:
                what = f"{result.plan.boxname}: cannot be {done.what}d in {self._names[done.on]}: {done.failure.why}"
                self.problem(what, done.failure.hint)

    def removed(self, boxname: Boxname, mailboxes: Sequence[tuple[str, Failure | None]]) -> None:
        lines = [f"  {printable(mailbox)}{' failed' if failure else ''}\n" for mailbox, failure in mailboxes]
        self._print(f"{printable(boxname)}: deleting\n" + "".join(lines))
        for mailbox, failure in mailboxes:
            if failure:
                self.problem(f"{mailbox} cannot be deleted: {failure.why}", failure.hint)

    def may_delete(self, deletion: MassDeletion) -> bool:
        if self.ask is None:
            return False
        self.progress.pause()
        question = ""
        for side in deletion.sides:
            question += (
                f"{deletion.counts[side]} messages would be deleted from store {self._names[side]}, more than"
                f" max_delete {deletion.limit}:\n"
            )
            for boxname, counts in deletion.by_box.items():
                if counts[side]:
                    of = f"{counts[side]:>7} of {deletion.seen[boxname]}"
                    question += f"{of:<20}  {printable(boxname)}\n"
        return self.ask(f"{question}Delete them? [y/N] ").strip().lower() in ("y", "yes")

    def restored(self, restored: Restored) -> None:
        messages = f"{restored.count} message{'' if restored.count == 1 else 's'}"
        self._print(f"{printable(restored.boxname)}: {messages} put back into store {printable(restored.store)}.\n")

    # ---- diff and list -----------------------------------------------------------------------------------------------

    def compared(self, compared: Compared) -> None:
        if not self.quiet or compared.new or compared.deleted or compared.flagged:
            self._print(self._boxes.compared(compared))

    def listed(self, listed: Listed) -> None:
        self._print(self._boxes.listed(listed))

    # ---- check -------------------------------------------------------------------------------------------------------

    def looking(self, boxname: Boxname) -> None:
        self.progress.look(f"Looking at {printable(boxname)} ...")

    def found(self, finding: Finding, heads: Heads) -> None:
        self._print(self._boxes.found(finding, heads))

    def checked(self, findings: int, mailboxes: int) -> None:
        if findings:
            where = f" in {mailboxes} mailbox{'' if mailboxes == 1 else 'es'}" if mailboxes else ""
            self._print(f"{many(findings, 'finding')}{where}\n")
        elif not self.quiet:
            self._print("nothing found\n")

    # ---- all modes ---------------------------------------------------------------------------------------------------

    def expect(self, steps: int) -> None:
        self.progress.expect(steps)

    def step(self, boxname: Boxname, outcome: Done | Failed) -> None:
        if self.debugging:
            from .results import in_words  # it is there: of that an outcome is made

            self.debug(in_words(boxname, outcome, self._names))
        self.progress.advance()

    def note(self, text: str, *, asked: bool = False) -> None:
        if self.warnings or asked:
            self.progress.pause()
            self.err.line(f"mailsync: {printable(short(text))}")

    def debug(self, text: str) -> None:
        if self.debugging:
            self.progress.pause()
            self.err.line(f"debug: {_lines(text)}")

    def problem(self, text: str, hint: str = "") -> None:
        self.progress.pause()
        red, bold, plain = ("\x1b[31m", "\x1b[1m", "\x1b[0m") if self.colour else ("", "", "")
        self.err.line(f"{bold}mailsync:{plain} {red}{_lines(short(text))}{plain}")
        if hint:
            self.err.line(f"  {_lines(short(hint))}")

    def error(self, error: MailsyncError, code: int) -> None:
        self.problem(str(error), error.hint)
        if self.debugging:
            self.debug(traced(error))

    def config(self, text: str) -> None:
        self.out.write(printable_lines(text))

    def end(self, summary: Summary) -> None:
        self.progress.pause()

    def told(self) -> str | None:
        return None if self.err.said else "".join(self.out.said)

    def say(self, text: str) -> None:
        self.out.write(text)

    # ---- several channels --------------------------------------------------------------------------------------------

    def apart(self, channels: Sequence[str], post: Post) -> Turns:
        from .turns import Turns  # with queue, which most runs do without

        def one(voice: Voice) -> Classic:
            return replace(self, out=voice.out, err=voice.err, progress=voice.progress, ask=voice.ask)

        return Turns(channels, post, self.out, self.err, one, self.progress, self.ask)

    def ended(self, channels: Sequence[Ended], code: int) -> None:
        happened = [one for one in channels if one.code != 0 or any(one.summary.numbers().values())]
        lines = [f"{printable(one.channel)}: {_ended(one)}\n" for one in (happened if self.quiet else channels)]
        self._print("".join(lines) if self.quiet else "\n" + "".join(lines))

    def _failed(self, boxname: Boxname, alike: Sequence[Failed]) -> None:
        """The first few by name; of the rest, how many."""
        step, failure = alike[0].step, alike[0].failure
        names = [str(failed.step.entry.id) for failed in alike]
        if len(names) > EACH + 1:
            names[EACH:] = [f"{len(names) - EACH} more"]
        for name in names:
            hint = failure.hint if name is names[-1] else ""
            self.problem(f"{boxname}: {self._boxes.doing(step, name)}: {failure.why}", hint)

    @property
    def _boxes(self) -> Boxes:
        from .boxes import Boxes  # a run that finds nothing has none to tell of

        return Boxes(self._names, self.details, self.ids, self._simulate)

    def _print(self, text: str) -> None:
        self.progress.pause()
        self.out.write(self._heading + text)
        self._heading = ""


def _lines(text: str) -> str:
    """Faults of a configuration and tracebacks are of many lines; a foreign one cannot pass for one of ours."""
    return printable_lines(text.rstrip("\n")).replace("\n", "\n  ")


def _ended(one: Ended) -> str:
    """How the run of a channel ended, on one line."""
    if one.code is None:
        return "not begun"
    words = {"flagged": "changed flags", "held": "deletions held"}
    done = [f"{number} {words.get(word, word)}" for word, number in one.summary.numbers().items() if number]
    if one.why:
        done.append(f"failed ({one.code}): {printable(one.why)}" if one.code < 128 else printable(one.why))
    elif one.code and not (one.summary.failed or one.summary.held):
        done.append(f"failed ({one.code})")
    return ", ".join(done) or "nothing to do"
