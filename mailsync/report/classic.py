"""5.2.7's text on stdout, byte for byte where it was right; problems and notes on stderr."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import MailsyncError
from ..findings import Finding, Kind
from ..model import Boxname, Failure, MessageId, Side
from ..out import Out
from ..plan import BoxPlan, Change, Copy, Delete, Done, Failed, SetFlags, Step, Why, mark
from ..wording import many
from . import BoxResult, Compared, Ended, Heads, Listed, MassDeletion, Restored, Summary, in_words, traced
from .columns import ID, fit, message
from .printable import printable, printable_lines
from .progress import NoProgress, Progress

if TYPE_CHECKING:
    from .turns import Post, Turns, Voice

LEFT_OUT = ("ign. del", "too big")  # held copies that 5.2.7 told of, too


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
            self._print("".join(self._box(result)))
        for failed in result.failed():
            self.problem(
                f"{result.plan.boxname}: {_doing(failed.step, self._names)}: {failed.failure.why}", failed.failure.hint
            )
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

    def _box(self, result: BoxResult) -> Iterator[str]:
        plan, boxname, done = result.plan, printable(result.plan.boxname), result.done()
        for made in result.boxes():
            if made.what == "create" and self._simulate:
                yield f"Creating {boxname} in {self._names[made.on]}\n"
            if made.what == "rename" and plan.rename and not made.failure:
                yield f"Renaming {printable(plan.rename.old)} to {boxname} in {self._names[made.on]}\n"
        yield f"\n *** {boxname} ***\n\n" if self.details else f"{boxname}: "
        for side in Side:
            duplicates = [step for step in plan.duplicates if step.on is side]
            if duplicates:
                yield from self._duplicates(result, duplicates, self._names[side])
        yield from self._arrivals(result)
        yield "\n"
        for to in (Side.B, Side.A):
            copies = [step for step in done if isinstance(step, Copy) and step.to is to]
            if copied := sum(not step.near for step in copies):
                yield f"{copied} copied {self._names[to.other]}->{self._names[to]}.\n"
            for goes, word in ((True, "moved"), (False, "copied")):
                if near := sum(step.near is not None and step.near.goes is goes for step in copies):
                    yield f"{near} {word} within {self._names[to]}.\n"
        for side in Side:
            flagged = sum(isinstance(step, SetFlags) and step.on is side for step in done)
            if flagged:
                yield f"{flagged} changed flags in {self._names[side]}.\n"
        if self.details:
            yield f"{plan.remains} messages remain in {boxname}\n"
        else:
            yield f"{plan.remains} remain{'s' if plan.remains == 1 else ''}.\n"
        yield from self._departures(result)

    def _duplicates(self, result: BoxResult, duplicates: Sequence[Step], store: str) -> Iterator[str]:
        count = f"{len(duplicates)} duplicate{'s' if len(duplicates) > 1 else ''}"
        if self.details:
            for step in duplicates:
                yield self._message(result, "duplicate", "", step)
            yield f"{count} for deletion in {store}\n"
        else:
            yield f"{count} in {store}, "

    def _arrivals(self, result: BoxResult) -> Iterator[str]:
        """Copies and changed flags, each with -m; messages left out on purpose always."""
        failed = {mark(outcome.step) for outcome in result.failed()}
        done = result.done()
        for to in (Side.B, Side.A):
            arrow = "->" if to is Side.B else "<-"
            for change in _by_id(result.plan):
                for held in change.held:
                    if isinstance(held.step, Copy) and held.step.to is to and held.why in LEFT_OUT:
                        away = arrow if held.why == "too big" else " >" if to is Side.B else "< "
                        yield self._message(result, held.why, away, held.step)
                if self.details:
                    for step in change.steps:
                        if isinstance(step, Copy) and step.to is to:
                            done_as = "moved" if step.near and step.near.goes else "copied"
                            yield self._message(result, "copyfail" if mark(step) in failed else done_as, arrow, step)
        if self.details:
            for on, arrow in ((Side.A, "<-"), (Side.B, "->")):
                for step in done:
                    if isinstance(step, SetFlags) and step.on is on:
                        yield self._message(result, "flags", arrow, step)

    def _departures(self, result: BoxResult) -> Iterator[str]:
        gone = [step for step in result.done() if isinstance(step, Delete) and step.why is not Why.MOVED]
        done = sorted(gone, key=_id)
        failed = sorted((o.step for o in result.failed() if isinstance(o.step, Delete)), key=_id)
        if self.details:
            for side, arrow in ((Side.A, "< "), (Side.B, "> ")):
                for step in done:
                    if step.on is side:
                        yield self._message(result, "marked" if step.marks else "deleted", arrow, step, with_id=False)
                for step in failed:
                    if step.on is side:
                        yield self._message(result, "deletefail", "", step, with_id=False)
        for side in Side:
            marked = sum(step.on is side and step.marks for step in done)
            if marked:
                yield f"Marked {marked} mail{'s' if marked > 1 else ''} as deleted in store {self._names[side]}\n"
            count = sum(step.on is side and not step.marks for step in done)
            if count:
                yield f"Expunged {count} mail{'s' if count > 1 else ''} in store {self._names[side]}\n"

    def _message(self, result: BoxResult, action: str, arrow: str, step: Step, *, with_id: bool = True) -> str:
        lies_on = step.to.other if isinstance(step, Copy) else step.on
        head = result.heads.get((lies_on, step.entry.uid))
        id = _shown_id(step.entry.id) if self.ids and with_id else ""
        return f"  {action:<10} {arrow}  {message(head)}{id}\n"

    # ---- diff and list -----------------------------------------------------------------------------------------------

    def compared(self, compared: Compared) -> None:
        boxname, store, count = printable(compared.boxname), self._names[Side.A], len(compared.duplicates)
        if self.quiet and not (compared.new or compared.deleted or compared.flagged):
            return
        text = f"\n *** {boxname} ***\n\n" if self.details else f"{boxname}: "
        if count:
            duplicates = f"{count} duplicate{'s' if count > 1 else ''}"
            if self.details:
                for uid, id in compared.duplicates:
                    shown = _shown_id(id) if self.ids else ""
                    text += f"  {'duplicate':<10}   {message(compared.heads.get((Side.A, uid)))}{shown}\n"
                text += f"{duplicates} for deletion in {store}\n"
            else:
                text += f"{duplicates}, "
        text += f"{compared.new} new, " if compared.new else ""
        text += f"{compared.deleted} deleted, " if compared.deleted else ""
        text += f"{compared.flagged} with other flags, " if compared.flagged else ""
        self._print(f"{text}{compared.current} currently at store {store}.\n")

    def listed(self, listed: Listed) -> None:
        boxname = printable(listed.boxname)
        if not self.details:
            self._print(f"{boxname}\n")
            return
        text = f"\nMailbox: {boxname}\n"
        if not listed.selectable:
            text += "  not selectable\n"
        elif listed.listing:
            known = set()
            for entry in listed.listing.entries:
                lead = f"  {'duplicate':<10}   " if entry.id in known else ""
                known.add(entry.id)
                id = _shown_id(entry.id) if self.ids else ""
                text += f"{lead}{id}{message(listed.heads.get((Side.A, entry.uid)))}\n"
        self._print(text)

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

    # ---- check -------------------------------------------------------------------------------------------------------

    def looking(self, boxname: Boxname) -> None:
        self.progress.look(f"Looking at {printable(boxname)} ...")

    def found(self, finding: Finding, heads: Heads) -> None:
        text = f"{printable(str(finding))}\n"
        if finding.hint:
            text += f"  {printable(finding.hint)}\n"
        if self.details or finding.kind == Kind.DIFFERS:
            for member in finding.members:
                id = _shown_id(member.id) if self.ids else ""
                text += f"  {message(heads.get((member.side, member.uid)))}{id}\n"
        if self.details:
            text += "".join(f"  {printable(name)}\n" for name in finding.names)
        self._print(text)

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
            self.debug(in_words(boxname, outcome, self._names))
        self.progress.advance()

    def note(self, text: str, *, asked: bool = False) -> None:
        if self.warnings or asked:
            self.progress.pause()
            self.err.line(f"mailsync: {printable(text)}")

    def debug(self, text: str) -> None:
        if self.debugging:
            self.progress.pause()
            self.err.line(f"debug: {_lines(text)}")

    def problem(self, text: str, hint: str = "") -> None:
        self.progress.pause()
        red, bold, plain = ("\x1b[31m", "\x1b[1m", "\x1b[0m") if self.colour else ("", "", "")
        self.err.line(f"{bold}mailsync:{plain} {red}{_lines(text)}{plain}")
        if hint:
            self.err.line(f"  {_lines(hint)}")

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


def _by_id(plan: BoxPlan) -> list[Change]:
    """5.2.7's order of lines. Messages are copied in the order in which they lie in the mailbox."""
    return sorted(plan.changes, key=lambda change: change.key)


def _id(step: Step) -> str:
    return step.entry.id


def _shown_id(id: MessageId) -> str:
    """-M: of an md5 the bare sum."""
    return fit(printable(id.removeprefix("<>, md5: <").removesuffix(">") if id.startswith("<>,") else id), ID)


def _doing(step: Step, names: Mapping[Side, str]) -> str:
    """A step that failed, in words."""
    match step:
        case Copy(to=to):
            return f"{step.entry.id} cannot be copied to {names[to]}"
        case SetFlags(on=on):
            return f"flags of {step.entry.id} cannot be changed in {names[on]}"
        case Delete(on=on):
            return f"{step.entry.id} cannot be deleted in {names[on]}"
