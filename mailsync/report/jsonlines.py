"""Events as JSON lines on stdout, for programs. The README lists them; a name, once used, keeps its meaning."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from ..errors import MailsyncError
from ..findings import Finding
from ..header import address, decoded, first
from ..model import Boxname, Failure, Head, Side
from ..out import Out
from ..plan import BoxDone, Copy, Delete, Done, Failed, SetFlags, Step
from . import Ended, Heads, Summary, traced
from .results import BoxResult, Compared, Listed, MassDeletion, Restored, in_words

if TYPE_CHECKING:
    from .turns import Post, Turns, Voice

Value = object


@dataclass
class JsonLines:
    """One JSON object a line. Bytes that are no UTF-8 stand as lone surrogates, `\\udcXX`."""

    out: Out
    details: bool = False
    warnings: bool = False
    debugging: bool = False
    channel: str = ""  # told with each event where several run
    _names: dict[Side, str] = field(default_factory=dict)

    def begin(self, verb: str, names: Sequence[str], *, simulate: bool = False) -> None:
        match verb:
            case "sync":
                self._names = {Side.A: names[1], Side.B: names[2]}
                self._tell("begin", mode=verb, channel=names[0], stores=list(names[1:]), simulate=simulate)
            case "undo":
                self._names = {Side.A: names[1], Side.B: names[2]}
                stores, when = list(names[1:3]), names[3]
                self._tell("begin", mode=verb, channel=names[0], stores=stores, of=when, simulate=simulate)
            case "diff":
                self._names = dict.fromkeys(Side, names[1])
                self._tell("begin", mode=verb, channel=names[0], stores=[names[1]])
            case "check" if len(names) > 1:
                self._names = {Side.A: names[1], Side.B: names[2]}
                self._tell("begin", mode=verb, channel=names[0], stores=list(names[1:]))
            case _:
                self._names = dict.fromkeys(Side, names[0])
                self._tell("begin", mode=verb, stores=[names[0]])

    def box(self, result: BoxResult) -> None:
        boxname = result.plan.boxname
        for outcome in result.outcomes:
            match outcome:
                case BoxDone(on=on, what=what, failure=failure):
                    old = {"from_box": result.plan.rename.old} if what == "rename" and result.plan.rename else {}
                    self._tell(what, box=boxname, store=self._names[on], **old, **_failure(failure))
                case Done(step=step):
                    self._step(result, step, None)
                case Failed(step=step, failure=failure):
                    self._step(result, step, failure)
        for held in result.plan.held():
            kind, store, details = self._of(held.step)
            self._tell("held", step=kind, box=boxname, store=store, **(details | {"why": held.why}))
        if result.plan.exists:
            self._tell("box", box=boxname, remains=result.plan.remains)

    def _step(self, result: BoxResult, step: Step, failure: Failure | None) -> None:
        kind, store, details = self._of(step)
        head = result.heads.get((step.to.other if isinstance(step, Copy) else step.on, step.entry.uid))
        self._tell(kind, box=result.plan.boxname, store=store, **details, **head_values(head), **_failure(failure))

    def _of(self, step: Step) -> tuple[str, str, dict[str, Value]]:
        details: dict[str, Value] = {"id": step.entry.id}
        match step:
            case Copy(flags=flags, near=near):
                details |= {"flags": sorted(flags)} | ({"from_box": near.boxname} if near else {})
                return "move" if near and near.goes else "copy", self._names[step.on], details
            case SetFlags(add=add, remove=remove):
                return "flags", self._names[step.on], details | {"add": sorted(add), "remove": sorted(remove)}
            case Delete(why=why, marks=marks):
                details |= {"why": why.value} | ({"marked": True} if marks else {})
                return "delete", self._names[step.on], details

    def removed(self, boxname: Boxname, mailboxes: Sequence[tuple[str, Failure | None]]) -> None:
        for mailbox, failure in mailboxes:
            self._tell("remove", box=boxname, mailbox=mailbox, **_failure(failure))

    def compared(self, compared: Compared) -> None:
        self._tell(
            "diff",
            box=compared.boxname,
            duplicates=len(compared.duplicates),
            new=compared.new,
            deleted=compared.deleted,
            flagged=compared.flagged,
            current=compared.current,
        )

    def listed(self, listed: Listed) -> None:
        self._tell("list", box=listed.boxname, selectable=listed.selectable)
        if listed.listing:
            for entry in listed.listing.entries:
                head = listed.heads.get((Side.A, entry.uid))
                self._tell("message", box=listed.boxname, id=entry.id, flags=sorted(entry.flags), **head_values(head))

    def may_delete(self, deletion: MassDeletion) -> bool:
        return False

    def restored(self, restored: Restored) -> None:
        self._tell("restore", box=restored.boxname, store=restored.store, count=restored.count)

    def looking(self, boxname: Boxname) -> None: ...

    def found(self, finding: Finding, heads: Heads) -> None:
        details: dict[str, Value] = {}
        if self.details:
            details = {"messages": [member.id for member in finding.members], "names": list(finding.names)}
        self._tell(
            "finding",
            kind=str(finding.kind),
            box=finding.boxname,
            store=finding.store,
            count=finding.count,
            text=finding.text,
            hint=finding.hint,
            **details,
        )

    def checked(self, findings: int, mailboxes: int) -> None:
        self._tell("checked", findings=findings, mailboxes=mailboxes)

    def expect(self, steps: int) -> None: ...

    def step(self, boxname: Boxname, outcome: Done | Failed) -> None:
        if self.debugging:
            self.debug(in_words(boxname, outcome, self._names))

    def note(self, text: str, *, asked: bool = False) -> None:
        if self.warnings or asked:
            self._tell("note", text=text)

    def debug(self, text: str) -> None:
        if self.debugging:
            self._tell("debug", text=text)

    def problem(self, text: str, hint: str = "") -> None:
        self._tell("problem", text=text, hint=hint)

    def error(self, error: MailsyncError, code: int) -> None:
        self._tell("error", code=code, text=str(error), hint=error.hint)
        if self.debugging:
            self.debug(traced(error))

    def config(self, text: str) -> None:
        self._tell("config", text=text)

    def end(self, summary: Summary) -> None:
        def by_store(counts: dict[Side, int]) -> dict[str, int]:
            return {self._names[side]: counts[side] for side in Side}

        self._tell(
            "end",
            copied=by_store(summary.copied),
            moved=by_store(summary.moved),
            flagged=by_store(summary.flagged),
            deleted=by_store(summary.deleted),
            failed=summary.failed,
            held=summary.held,
        )

    def told(self) -> str | None:
        return None if self.channel else "".join(self.out.said)

    def say(self, text: str) -> None:
        for line in text.splitlines():
            self._tell(**json.loads(line))

    def apart(self, channels: Sequence[str], post: Post) -> Turns:
        from .turns import Turns  # with queue, which most runs do without

        def one(voice: Voice) -> JsonLines:
            return replace(self, out=voice.out, channel=voice.channel)

        return Turns(channels, post, self.out, self.out, one, in_order=False)

    def ended(self, channels: Sequence[Ended], code: int) -> None:
        told = [{"name": one.channel, "code": one.code, "error": one.why, **one.summary.numbers()} for one in channels]
        self._tell("summary", channels=told, code=code)

    def emit(self, event: Mapping[str, Value]) -> None:
        self.out.line(json.dumps(event))

    def _tell(self, event: str, **values: Value) -> None:
        channel = {"channel": self.channel} if self.channel else {}
        self.emit({"event": event, **values, **channel})


def _failure(failure: Failure | None) -> dict[str, Value]:
    return {"ok": True} if failure is None else {"ok": False, "error": failure.why, "hint": failure.hint}


def head_values(head: Head | None) -> dict[str, Value]:
    if head is None:
        return {}
    return {
        "from": address(first(head.header, b"from") or b""),
        "subject": decoded(first(head.header, b"subject") or b""),
        "date": head.date,
    }
