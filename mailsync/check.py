"""Look for what is wrong with mail: in a store, and between both stores of a channel. Changes nothing anywhere."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from . import guard, inspection, look, stopping
from .differ import Case
from .drivers.contract import Box, Inspects, Wanted
from .drivers.memory import header_of
from .errors import BoxError, MsinfoError, Replaced, UsageError
from .findings import Finding, Kind
from .groups import Fact
from .identity import examine
from .inspection import Place
from .model import Boxname, Entry, Failure, Fault, Head, Identify, Listing, Message, Side, Uid
from .msinfo.mailbox import Msinfo
from .msinfo.text import Memory
from .names import BadName, Patterns, order
from .plan import BoxPlan, Plan
from .planner import Options, Planner
from .record import Record
from .report import Heads, Report, Summary
from .stores import Contents, Store

LEAD = 1024 * 1024  # bytes of a message that is read as a whole: in there its header is looked for
NO_PLAN = Plan((), {}, {})


class Looked(NamedTuple):
    """A mailbox of one store."""

    listing: Listing
    facts: Mapping[tuple[Side, Uid], Fact | Failure]  # of those messages that were read as a whole


@dataclass
class Check:
    """One check, of a channel or of a store, which is side a then. `full`: read each message as a whole, and compare.

    Mailboxes are looked at one by one, and what was read is gone when the next one comes.
    """

    stores: Mapping[Side, Store]
    identify: Identify
    report: Report
    full: bool = False
    only: Sequence[str] = ()  # patterns of boxnames; () = all
    _found: int = 0
    _boxes: set[Boxname] = field(default_factory=set)  # of which something was found
    _unseen: set[Boxname] = field(default_factory=set)  # and those of which it was that they cannot be looked into

    def store(self) -> int:
        """How much was found. StoreError if the store cannot be listed."""
        self.report.begin("check", [self.stores[Side.A].name])
        self._look(self._contents(), NO_PLAN, {})
        return self._end()

    def channel(self, name: str, msinfo: Msinfo, options: Options, record_file: Path | None = None) -> int:
        """Likewise. MsinfoError, and Replaced for a store that is not the one seen, come when all else was told."""
        self.report.begin("check", [name, *(store.name for store in self.stores.values())])
        contents = self._contents()
        try:
            memory = self._memory(msinfo)
        except MsinfoError:
            self._look(contents, NO_PLAN, {})
            self._sum_up()
            raise
        with Record(record_file, msinfo.digest, write=False) as record:
            planner = Planner(self.stores, self.identify, replace(options, simulate=True), record, self.report.debug)
            plan = planner.plan(memory)
        self._look(contents, guard.hold(plan, guard.limit(plan, options.max_delete, options.allow_mass_delete)), memory)
        try:
            guard.check(plan, planner.sights(), options.allow_mass_delete)
        except Replaced:
            self._sum_up()
            raise
        return self._end()

    # ---- what is told ------------------------------------------------------------------------------------------------

    def _tell(self, found: Iterable[Finding]) -> None:
        for finding in found:
            stopping.check()
            self._found += 1
            heads: Heads = {}
            if finding.boxname is not None:
                self._boxes.add(finding.boxname)
                if self.report.details or finding.kind == Kind.DIFFERS:
                    where = ((member.side, member.uid) for member in finding.members)
                    heads = look.heads(self.stores, dict.fromkeys(Side, finding.boxname), where)
                if finding.kind in (Kind.UNLISTED, Kind.BAD_NAME):
                    self._unseen.add(finding.boxname)
            self.report.found(finding, heads)

    def _sum_up(self) -> None:
        self.report.checked(self._found, len(self._boxes))

    def _end(self) -> int:
        self._sum_up()
        self.report.end(Summary())
        return self._found

    # ---- all mailboxes -----------------------------------------------------------------------------------------------

    def _contents(self) -> Mapping[Side, Contents]:
        contents = {side: store.contents() for side, store in self.stores.items()}
        for side, store in self.stores.items():
            self.report.debug(store.told(contents[side]))
        return contents

    def _memory(self, msinfo: Msinfo) -> Memory:
        memory = msinfo.load()
        if not msinfo.digest:
            self.report.note(f"msinfo {msinfo.mailbox} remembers nothing of this channel: all counts as new")
        self._tell(Finding(Kind.MSINFO, None, text) for text in msinfo.notes)
        self._tell(Finding(Kind.FORGED, None, text) for text in msinfo.forged)
        return memory

    def _look(self, contents: Mapping[Side, Contents], plan: Plan, memory: Memory) -> None:
        plans = {box.boxname: box for box in plan.boxes}
        names = [name for each in contents.values() for name in order(each.boxes)]
        boxnames = [name for name in dict.fromkeys([*names, *plans]) if self._is_chosen(name)]
        if self.only and not boxnames:
            raise UsageError(f"neither store has a mailbox {', '.join(self.only)}")
        self._of_names(contents)
        for boxname in boxnames:
            self.report.looking(boxname)
            looked = {}
            for side in self.stores:
                if one := self._one(Place(side, self.stores[side].name, boxname), contents[side]):
                    looked[side] = one
            self._together(boxname, looked, plans.get(boxname), memory)
        for boxname, failure in plan.failed.items():
            if boxname not in self._unseen:
                self._tell([Finding(self._kind_of(boxname), boxname, failure.why, hint=failure.hint)])
        passed_over = {name for each in contents.values() for name in (*each.strays, *each.unwanted)}
        for boxname, why in plan.left_out.items():
            if boxname not in passed_over:
                self.report.note(f"{boxname}: {why}")

    def _of_names(self, contents: Mapping[Side, Contents]) -> None:
        names = {side: [name for name in each.boxes if self._is_chosen(name)] for side, each in contents.items()}
        for side, store in self.stores.items():
            self._tell(inspection.of_names(names[side], store.name))
            for boxname, failure in contents[side].failed.items():
                place = Place(side, store.name, boxname)
                if not self._is_chosen(boxname):
                    continue
                if boxname not in contents[side].strays:
                    self._tell([inspection.of_box(place, failure)])
                elif self._faults(place):
                    self._unseen.add(boxname)
                else:
                    self.report.note(f"{boxname}: {failure.why}")
            for boxname, why in contents[side].unwanted.items():
                if self._is_chosen(boxname):
                    self.report.note(f"{boxname}: {why}")
        if len(names) > 1:
            self._tell(inspection.of_names_together(names))

    def _is_chosen(self, boxname: Boxname) -> bool:
        return not self.only or Patterns(self.only).matches(boxname)

    def _kind_of(self, boxname: Boxname) -> Kind:
        """Why one of the stores cannot have a mailbox of this name."""
        try:
            for store in self.stores.values():
                store.mailbox(boxname)
        except BadName:
            return Kind.BAD_NAME
        return Kind.UNLISTED

    # ---- one mailbox -------------------------------------------------------------------------------------------------

    def _one(self, place: Place, contents: Contents) -> Looked | None:
        """Tell what is found in one store. None if the mailbox is not there, or cannot be looked into."""
        info = contents.boxes.get(place.boxname)
        if info is None:
            return None
        looked = None
        if info.selectable:
            try:
                looked = self._messages(place)
            except (BoxError, OSError) as err:
                hint = err.hint if isinstance(err, BoxError) else ""
                self._tell([inspection.of_box(place, Failure(place.boxname, str(err), hint))])
        if looked or not info.selectable:
            self._faults(place)
        return looked

    def _faults(self, place: Place) -> Sequence[Fault]:
        """Tell what is wrong with how it is kept."""
        store = self.stores[place.side]
        if not isinstance(store.driver, Inspects):
            return ()
        try:
            faults = store.driver.faults(store.mailbox(place.boxname))
        except BoxError as err:
            self._tell([inspection.of_box(place, Failure(place.boxname, str(err), err.hint))])
            return ()
        self._tell(inspection.of_fault(place, fault) for fault in faults)
        return faults

    def _messages(self, place: Place) -> Looked | None:
        """Tell of its messages. None: it is not there any more. BoxError or OSError if it cannot be read."""
        side, store = place.side, self.stores[place.side]
        [(_, listing)] = store.driver.listings([Wanted(store.mailbox(place.boxname))], self.identify)
        if isinstance(listing, Failure):
            if not listing.gone:
                self._tell([inspection.of_box(place, listing)])
            return None
        entries = {entry.uid: entry for entry in listing.entries}
        kinds: dict[Kind, list[Entry]] = {}
        facts: dict[tuple[Side, Uid], Fact | Failure] = {}
        unreadable = list(listing.unreadable)
        blank: list[Uid] = []
        odd = 0
        with store.open(place.boxname, write=False) as box:
            for uid, header, fact in self._read(box, list(entries), unreadable):
                if fact:
                    facts[side, uid] = fact
                if not header.strip():
                    blank.append(uid)
                odd += inspection.has_odd_bytes(header)
                for kind in inspection.of_header(header):
                    kinds.setdefault(kind, []).append(entries[uid])
        several = inspection.alike(listing.entries)
        if not self.full:
            asked = dict.fromkeys([*blank, *(entry.uid for members in several for entry in members)])
            found = look.facts(self.stores, {side: place.boxname}, {side: list(asked)})
            unreadable += (got for got in found.values() if isinstance(got, Failure) and not got.gone)
            facts.update(found)
        empty = [uid for uid in blank if inspection.is_empty(facts.get((side, uid)))]
        kinds[Kind.EMPTY] = [entries[uid] for uid in empty]
        self._tell(inspection.of_alike(place, several, facts))
        self._tell(inspection.of_messages(place, kinds))
        self._tell(inspection.of_failures(place, unreadable))
        if odd:
            self.report.note(f"{place.boxname}: {inspection.odd_bytes(odd)} in {place.store}")
        return Looked(listing, facts)

    def _read(
        self, box: Box, uids: Sequence[Uid], unreadable: list[Failure]
    ) -> Iterator[tuple[Uid, bytes, Fact | None]]:
        """Header blocks; and what whole messages tell, if they are to be read. Those that are gone by now are not."""
        for got in box.fetch(uids) if self.full else box.heads(uids):
            match got:
                case Failure():
                    unreadable += [] if got.gone else [got]
                case Head(uid=uid, header=header):
                    yield uid, header, None
                case Message(uid=uid):
                    yield uid, *_whole(got)

    # ---- both sides --------------------------------------------------------------------------------------------------

    def _together(self, boxname: Boxname, looked: Mapping[Side, Looked], plan: BoxPlan | None, memory: Memory) -> None:
        names = {side: store.name for side, store in self.stores.items()}
        if plan is not None:  # a plan without a step may still have something to tell
            self._tell(inspection.of_plan(plan, names))
        if self.full and len(looked) > 1:
            case = Case(boxname, {side: looked[side].listing for side in Side}, memory.get(boxname, {}))
            facts = {**looked[Side.A].facts, **looked[Side.B].facts}
            self._tell(inspection.of_differing(boxname, list(inspection.differing(case, facts, plan)), names))


def _whole(message: Message) -> tuple[bytes, Fact]:
    """The header block and the digests, in one reading."""
    lead = bytearray()

    def chunks() -> Iterator[bytes]:
        for chunk in message.body.chunks(wire=False):
            lead.extend(chunk[: LEAD - len(lead)])
            yield chunk

    pairing, exact = examine(chunks())
    return header_of(bytes(lead)), Fact(pairing, exact, 0)
