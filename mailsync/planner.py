"""List both stores and diff them, box by box: the plan of a channel. Changes nothing in either store."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import partial

from . import across, differ, guard, look, renames, spelling, stopping
from .config.values import MaxDelete
from .differ import Case
from .errors import BoxError, UsageError
from .found import Found, quiet_in
from .identity import key
from .model import (
    NONE,
    BoxInfo,
    Boxname,
    BoxPolicy,
    BoxSeen,
    Duplicates,
    Entry,
    Failure,
    Identify,
    Key,
    Side,
    SidePolicy,
    Uid,
)
from .msinfo.text import Memory
from .names import BadName, Patterns, check, order
from .plan import BoxPlan, Change, Held, Plan, Rename, Step
from .record import Record
from .stores import Contents, Store
from .wording import did_you_mean


@dataclass(frozen=True, slots=True)
class Options:
    """How one run differs from another: the command line and the channel's settings, resolved."""

    simulate: bool = False
    copy_deleted: bool = False
    delete: bool = True
    remove_empty: bool = False
    sizelimit: int | None = None
    duplicates: Duplicates = Duplicates.IDENTICAL
    expunge_all: bool = False
    max_delete: MaxDelete = field(default_factory=lambda: MaxDelete(50))
    allow_mass_delete: int | None = None
    only: tuple[str, ...] = ()  # patterns of boxnames; () = all
    exclude: tuple[str, ...] = ()  # likewise
    oldest: int | None = None  # as in BoxPolicy
    at_once: bool = False  # both sides are looked at at the same time; each must have an account of its own
    changed: frozenset[Side] = frozenset(Side)  # the sides that are changed: both, or the one that follows the other


@dataclass
class Planner:
    """Makes the plan, and keeps what was found on the way."""

    stores: Mapping[Side, Store]
    identify: Identify
    options: Options
    record: Record
    debug: Callable[[str], None] = lambda text: None
    waits: Callable[[Boxname, Step], str] = lambda boxname, step: ""  # why a step is not tried now
    unreadable: list[tuple[Boxname, Side, Failure]] = field(default_factory=list)
    nameless: list[tuple[Side, Failure]] = field(default_factory=list)
    found: dict[Boxname, Found] = field(default_factory=dict)
    _same: dict[Side, bool] = field(default_factory=lambda: dict.fromkeys(Side, True))
    _lists: dict[Side, bool] = field(default_factory=dict)
    _levels: dict[Side, set[Boxname]] = field(default_factory=dict)  # names that are no mailboxes there

    def plan(self, memory: Memory) -> Plan:
        """Look at all boxes of both stores. StoreError if a store cannot be listed as a whole."""
        contents = look.contents(self.stores, at_once=self.options.at_once)
        self._levels = {s: {name for name, info in contents[s].boxes.items() if not info.selectable} for s in Side}
        self._lists = {s: any(info.selectable for info in contents[s].boxes.values()) for s in Side}
        for side in Side:
            self.debug(self.stores[side].told(contents[side]))
            self.nameless += [(side, failure) for failure in contents[side].nameless.values()]
        unseen = [(name, why, c) for c in contents.values() for name, why in c.failed.items() if self._is_chosen(name)]
        failed = {name: why for name, why, c in unseen if name not in c.strays}
        left_out = {name: why.why for name, why, c in unseen if name in c.strays}
        left_out |= {n: why for c in contents.values() for n, why in c.unwanted.items() if self._is_chosen(n)}
        todo: dict[Boxname, frozenset[Side]] = {}
        chosen = {name: _sides(name, contents) for name in self._chosen(_in_order(contents, memory))}
        chosen = {name: on for name, on in chosen.items() if on or name in memory}
        asked = {s: self.stores[s].asked(name for name in chosen if name not in contents[s].boxes) for s in Side}
        for boxname, on in chosen.items():
            try:
                unwanted = self._unwanted(boxname, contents)
                if unwanted:
                    left_out[boxname] = unwanted
                else:
                    on = self._surely_on(boxname, on, contents, asked)
                    self._check_name(boxname, on, memory)
                    todo[boxname] = on
            except BadName as err:
                failed[boxname] = Failure(boxname, str(err))
            except BoxError as err:
                failed[boxname] = Failure(boxname, str(err), err.hint)
        boxes: dict[Boxname, BoxPlan] = {}
        lone = dict.fromkeys(renames.lone(todo, memory) if self.options.delete else ())
        listed: dict[Boxname, look.Listings] = {}
        with closing(look.listings(self.stores, todo, self.identify, at_once=self.options.at_once)) as stream:
            for boxname, found in stream:
                stopping.check()
                if isinstance(found, Failure):
                    failed[boxname] = found
                else:
                    boxes[boxname] = self._box(boxname, found, todo[boxname], memory.get(boxname, {}))
                    if boxname in lone:
                        listed[boxname] = found
        renamed = self._renames(listed, todo, memory, contents)
        for rename in renamed:
            boxes[rename.new] = self._renamed(rename, listed, memory)
            del boxes[rename.old]
        plan = across.settle_rescues(Plan(tuple(boxes.values()), failed, left_out, renamed))
        return across.join(plan, self._judged(list(across.candidates(plan, self._quiet_in(memory, plan))), renamed))

    def again(self, boxname: Boxname, memory: Memory) -> BoxPlan | Failure:
        """One box, looked at once more because the connection to it broke."""
        before = self.found[boxname]
        try:
            on = self._surely_on(boxname, frozenset(), dict.fromkeys(Side, Contents({}, {}, frozenset(), {})), {})
            [(_, found)] = look.listings(self.stores, {boxname: on}, self.identify)
            if isinstance(found, Failure):
                return found
            plan = self._box(boxname, found, on, memory.get(boxname, {}))
        except (BoxError, OSError) as err:
            return Failure(boxname, str(err), err.hint if isinstance(err, BoxError) else "")
        now = self.found[boxname]
        other = {side for side in Side if now.validity[side] != before.validity[side]}
        self.found[boxname] = replace(now, doubted=before.doubted | other)
        return plan

    # ---- what moved ------------------------------------------------------------------------------------------------

    def _renames(
        self,
        listed: Mapping[Boxname, look.Listings],
        todo: Mapping[Boxname, frozenset[Side]],
        memory: Memory,
        contents: Mapping[Side, Contents],
    ) -> tuple[Rename, ...]:
        boxes: dict[Boxname, renames.Lone] = {}
        for boxname, found in listed.items():
            if self._is_inbox(boxname):
                continue
            [side] = todo[boxname]
            policy = self._side_policy(side.other, missing=True)
            seen = memory.get(boxname, {})
            if not found[side].complete or (not seen and (policy.refuses or policy.spares or policy.marks)):
                continue
            ids = frozenset(key(entry.id) for entry in found[side].entries)
            was = self.record.identity(boxname, side.other) if seen else None
            boxes[boxname] = renames.Lone(side, ids, seen, found[side].identity, was)
        return tuple(renames.found(boxes, {side: contents[side].boxes for side in Side}))

    def _renamed(self, rename: Rename, listed: Mapping[Boxname, look.Listings], memory: Memory) -> BoxPlan:
        """The box under its new name, with what is remembered under the old one."""
        on, there = rename.on, rename.on.other
        old = replace(listed[rename.old][on], mailbox=self.stores[on].mailbox(rename.new))
        both = {on: old, there: listed[rename.new][there]}
        self.found.pop(rename.old)
        return self._box(rename.new, both, frozenset(Side), memory[rename.old], rename)

    def _quiet_in(self, memory: Memory, plan: Plan) -> across.Quiet:
        """Finds a message that needs nothing, by what is remembered of it, for the copies of this plan."""
        copied = {change.key for box in plan.boxes for change in box.changes if change.copies()}
        boxes: dict[Key, list[Boxname]] = {}
        for boxname, seen in memory.items():
            if boxname in self.found:
                for id in seen.keys() & copied:
                    boxes.setdefault(id, []).append(boxname)
        uids: dict[tuple[Boxname, Side], dict[Key, Uid]] = {}

        def quiet(side: Side, id: Key, but: Boxname) -> tuple[Boxname, Entry] | None:
            for boxname in boxes.get(id, ()):
                lines = memory[boxname][id]
                if boxname == but or len(lines) != 1 or lines[0].digests:
                    continue
                if (boxname, side) not in uids:
                    uids[boxname, side] = self.found[boxname].quiet[side].by_key()
                uid = uids[boxname, side].get(id)
                if uid is not None:
                    line = lines[0]
                    own = line.alias if side is Side.B and line.alias else line.id
                    return boxname, Entry(uid, own, line.flags or NONE)
            return None

        return quiet

    def _judged(self, found: Sequence[across.Candidate], renamed: Sequence[Rename]) -> list[across.Candidate]:
        """The same, where only their content tells it: by digest on this machine, by exact size where one is away."""

        def place(side: Side, boxname: Boxname, entry: Entry) -> look.Place:
            return look.Place(side, old.get((side, boxname), boxname), entry)

        old = {(one.on, one.new): one.old for one in renamed}
        unsure = [
            (place(one.copy.to.other, one.boxname, one.copy.entry), place(one.copy.to, one.source, one.entry))
            for one in found
            if not one.sure
        ]
        answers = iter(look.same(self.stores, unsure))
        return [one if one.sure else replace(one, sure=next(answers)) for one in found]

    # ---- one box ---------------------------------------------------------------------------------------------------

    def sights(self) -> Mapping[Side, guard.Sight]:
        """What the guard must know of each store."""
        return {s: guard.Sight(self.stores[s].name, self._lists[s], self._same[s]) for s in Side}

    def _chosen(self, boxnames: list[Boxname]) -> list[Boxname]:
        chosen = [boxname for boxname in boxnames if self._is_chosen(boxname)]
        if self.options.only and not chosen:
            wanted = ", ".join(self.options.only)
            raise UsageError(f"neither store has a mailbox {wanted}{did_you_mean(wanted, boxnames)}")
        return chosen

    def _is_chosen(self, boxname: Boxname) -> bool:
        return not self.options.only or Patterns(self.options.only).matches(boxname)

    def _unwanted(self, boxname: Boxname, contents: Mapping[Side, Contents]) -> str:
        """A box counts as gone only where it would be listed if it were there."""
        check(boxname)
        if self.options.exclude and Patterns(self.options.exclude).matches(boxname):
            return "excluded"
        for side, store in self.stores.items():
            if boxname in contents[side].unwanted:
                return contents[side].unwanted[boxname]
            if store.is_trash(boxname):
                return f"the trash of store {store.name}"
            if not store.wants(boxname):
                return f"not among the patterns of store {store.name}"
        return ""

    def _surely_on(
        self,
        boxname: Boxname,
        on: frozenset[Side],
        contents: Mapping[Side, Contents],
        asked: Mapping[Side, Mapping[Boxname, BoxInfo | None]],
    ) -> frozenset[Side]:
        """The sides that have the box; BoxError if that cannot be said. What is not listed is asked for by name."""
        for side in Side:
            failure = contents[side].failure(boxname)
            if side not in on and not failure:
                known = asked.get(side, {})
                info = known[boxname] if boxname in known else self.stores[side].find(boxname)
                failure = info.failure if info else None
                if info and info.selectable:
                    on |= {side}
            if failure:
                raise BoxError(f"on store {self.stores[side].name}: {failure.why}", failure.hint)
        return on

    def _check_name(self, boxname: Boxname, on: frozenset[Side], memory: Memory) -> None:
        """BoxError if it is not there because it is looked for under another name than in the last run."""
        for side in Side if memory.get(boxname) else ():
            store = self.stores[side]
            if side not in on and not self.record.is_called(boxname, side, store.mailbox(boxname)):
                raise BoxError(
                    f"on store {store.name}: in the last run it was another mailbox than {store.mailbox(boxname)},"
                    " which is not there",
                    "Has its prefix changed, or what the server says of it (NAMESPACE)? A pat and a prefix say it.",
                )

    def _box(
        self,
        boxname: Boxname,
        found: look.Listings,
        on: frozenset[Side],
        seen: BoxSeen,
        rename: Rename | None = None,
    ) -> BoxPlan:
        for side in on:
            self._same[side] &= self.record.is_same(boxname, side, found[side].validity)
            self.unreadable += [(boxname, side, failure) for failure in found[side].unreadable]
        found = spelling.alike(found, seen)
        here, there = (f"{len(found[s].entries)} in {self.stores[s].name}" for s in Side)
        self.debug(f"{boxname}: {here}, {there}, {sum(map(len, seen.values()))} remembered")
        missing = frozenset(Side) - on if on else frozenset()
        validity = {side: found[side].validity for side in Side}
        names = {side: rename.old if rename and side is rename.on else boxname for side in Side}
        recorded = self.record.recorder(rename.old if rename else boxname, validity)
        case = Case(boxname, found, seen, self._policy(missing), recorded)
        if any((undated := differ.undated(case)).values()):
            case = replace(case, listings=look.dated(self.stores, names, case.listings, undated))
        if any((unsized := differ.unsized(case)).values()):
            case = replace(case, listings=look.sized(self.stores, names, case.listings, unsized))
        plan = differ.diff(case, look.facts(self.stores, names, differ.questions(case)))
        plan = replace(plan, rename=rename, changes=tuple(map(partial(self._without_waiting, boxname), plan.changes)))
        quiet = {side: quiet_in(plan, side, case) for side in Side}
        unreadable = {side: [Uid(failure.what) for failure in found[side].unreadable] for side in Side}
        identity = {side: found[side].identity for side in Side}
        self.found[boxname] = Found(recorded, validity, identity, quiet, unreadable)
        if self._may_go(plan):
            return replace(plan, exists=bool(on), remove=tuple(side for side in Side if side in on))
        create = tuple(
            side
            for side in Side
            if side in missing
            and not case.policy.sides[side].refuses
            # Cyrus makes mailboxes of all levels; of an empty one the other side need not make more than a level.
            and (plan.remains or boxname not in self._levels[side])
        )
        return replace(plan, exists=bool(on), create=create)

    def _without_waiting(self, boxname: Boxname, change: Change) -> Change:
        held = tuple(Held(step, why) for step in change.steps if (why := self.waits(boxname, step)))
        if not held:
            return change
        waiting = [one.step for one in held]
        steps = tuple(step for step in change.steps if step not in waiting)
        return replace(change, steps=steps, held=change.held + held)

    def _may_go(self, plan: BoxPlan) -> bool:
        """-D: the box is empty on both sides, or will be."""
        if not (self.options.remove_empty and self.options.delete) or self._is_inbox(plan.boxname):
            return False
        if any(side.refuses or side.spares for side in plan.sides.values()):
            return False
        return plan.complete and not plan.remains and not any(plan.held())

    def _is_inbox(self, boxname: Boxname) -> bool:
        """True if one of the stores calls it INBOX: that is never renamed or removed."""
        return any(store.is_inbox(boxname) for store in self.stores.values())

    def _policy(self, missing: frozenset[Side]) -> BoxPolicy:
        options = self.options
        return BoxPolicy(
            {side: self._side_policy(side, side in missing) for side in Side},
            options.sizelimit,
            options.oldest,
            options.copy_deleted,
            options.expunge_all,
            options.duplicates,
        )

    def _side_policy(self, side: Side, missing: bool) -> SidePolicy:
        config = self.stores[side].config
        if config.readonly:
            return SidePolicy(refuses="readonly")
        if side not in self.options.changed:
            return SidePolicy(refuses="direction")
        if missing and not config.create:
            return SidePolicy(refuses="no such mailbox, and create is off")
        return SidePolicy(spares="" if self.options.delete else "-n", marks=config.delete.mark)


def _sides(boxname: Boxname, contents: Mapping[Side, Contents]) -> frozenset[Side]:
    """Where it is a mailbox."""
    return frozenset(side for side in Side if (info := contents[side].boxes.get(boxname)) and info.selectable)


def _in_order(contents: Mapping[Side, Contents], memory: Memory) -> list[Boxname]:
    """5.2.7's: the boxes of A, then those that only B has; then what is gone from both."""
    groups = (contents[Side.A].boxes, contents[Side.B].boxes, memory)
    return list(dict.fromkeys(boxname for group in groups for boxname in order(group)))
