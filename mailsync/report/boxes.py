"""The lines of the report for people that are about one box, in the words of 5.2.7."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ..findings import Finding, Kind
from ..model import MessageId, Side
from ..plan import BoxPlan, Change, Copy, Delete, SetFlags, Step, Why, mark
from . import Heads
from .columns import ID, fit, message
from .printable import printable
from .results import BoxResult, Compared, Listed

LEFT_OUT = ("ign. del", "too big")  # held copies that 5.2.7 told of, too


@dataclass(frozen=True, slots=True)
class Boxes:
    """How one run tells of its boxes. `details` is -m, `ids` is -M."""

    names: Mapping[Side, str]  # of the stores, fit to be shown
    details: bool
    ids: bool
    simulate: bool

    # ---- sync --------------------------------------------------------------------------------------------------------

    def synced(self, result: BoxResult) -> str:
        return "".join(self._box(result))

    def doing(self, step: Step, what: str) -> str:
        """A step that failed, in words; `what` is its message, or are several with which the same failed."""
        match step:
            case Copy(to=to):
                return f"{what} cannot be copied to {self.names[to]}"
            case SetFlags(on=on):
                return f"flags of {what} cannot be changed in {self.names[on]}"
            case Delete(on=on):
                return f"{what} cannot be deleted in {self.names[on]}"

    def _box(self, result: BoxResult) -> Iterator[str]:
        plan, boxname, done = result.plan, printable(result.plan.boxname), result.done()
        for made in result.boxes():
            if made.what == "create" and self.simulate:
                yield f"Creating {boxname} in {self.names[made.on]}\n"
            if made.what == "rename" and plan.rename and not made.failure:
                yield f"Renaming {printable(plan.rename.old)} to {boxname} in {self.names[made.on]}\n"
        yield f"\n *** {boxname} ***\n\n" if self.details else f"{boxname}: "
        for side in Side:
            duplicates = [step for step in plan.duplicates if step.on is side]
            if duplicates:
                yield from self._duplicates(result, duplicates, self.names[side])
        yield from self._arrivals(result)
        yield "\n"
        for to in (Side.B, Side.A):
            copies = [step for step in done if isinstance(step, Copy) and step.to is to]
            if copied := sum(not step.near for step in copies):
                yield f"{copied} copied {self.names[to.other]}->{self.names[to]}.\n"
            for goes, word in ((True, "moved"), (False, "copied")):
                if near := sum(step.near is not None and step.near.goes is goes for step in copies):
                    yield f"{near} {word} within {self.names[to]}.\n"
        for side in Side:
            flagged = sum(isinstance(step, SetFlags) and step.on is side for step in done)
            if flagged:
                yield f"{flagged} changed flags in {self.names[side]}.\n"
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
                yield f"Marked {marked} mail{'s' if marked > 1 else ''} as deleted in store {self.names[side]}\n"
            count = sum(step.on is side and not step.marks for step in done)
            if count:
                yield f"Expunged {count} mail{'s' if count > 1 else ''} in store {self.names[side]}\n"

    def _message(self, result: BoxResult, action: str, arrow: str, step: Step, *, with_id: bool = True) -> str:
        lies_on = step.to.other if isinstance(step, Copy) else step.on
        head = result.heads.get((lies_on, step.entry.uid))
        id = _shown_id(step.entry.id) if self.ids and with_id else ""
        return f"  {action:<10} {arrow}  {message(head)}{id}\n"

    # ---- diff, list and check ----------------------------------------------------------------------------------------

    def compared(self, compared: Compared) -> str:
        boxname, store, count = printable(compared.boxname), self.names[Side.A], len(compared.duplicates)
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
        return f"{text}{compared.current} currently at store {store}.\n"

    def listed(self, listed: Listed) -> str:
        boxname = printable(listed.boxname)
        if not self.details:
            return f"{boxname}\n"
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
        return text

    def found(self, finding: Finding, heads: Heads) -> str:
        text = f"{printable(str(finding))}\n"
        if finding.hint:
            text += f"  {printable(finding.hint)}\n"
        if self.details or finding.kind == Kind.DIFFERS:
            for member in finding.members:
                id = _shown_id(member.id) if self.ids else ""
                text += f"  {message(heads.get((member.side, member.uid)))}{id}\n"
        if self.details:
            text += "".join(f"  {printable(name)}\n" for name in finding.names)
        return text


def _by_id(plan: BoxPlan) -> list[Change]:
    """5.2.7's order of lines. Messages are copied in the order in which they lie in the mailbox."""
    return sorted(plan.changes, key=lambda change: change.key)


def _id(step: Step) -> str:
    return step.entry.id


def _shown_id(id: MessageId) -> str:
    """-M: of an md5 the bare sum."""
    return fit(printable(id.removeprefix("<>, md5: <").removesuffix(">") if id.startswith("<>,") else id), ID)
