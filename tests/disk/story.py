"""Two stores with mail, in which both users change all that can be changed; and what must be so after a run, whatever
happened to it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path

from mailsync.drivers import dotlocks
from mailsync.model import FLAGGED, NONE, SEEN, Boxname, Digest, Flags, MessageId, Side
from mailsync.stores import Store

from ..mail import Mail, Ran, forget_cache, listing, message, read, run
from ..scenario import Place, Stores, boxnames, change, channels, fill
from . import Acted, Disk, Fault, Machine

FORMATS = ("maildir", "maildir++", "mbox", "mh")
PAIRS = tuple(combinations_with_replacement(FORMATS, 2))
TRASH = Boxname("Trash")  # what is there is in no channel

Contents = Mapping[Boxname, Counter[tuple[Digest, Flags, int]]]


@dataclass(frozen=True, slots=True)
class Found:
    """What a run that nothing disturbed said, and what it left."""

    ran: Ran
    contents: Mapping[Side, Contents]
    again: Ran  # the plan of one more


@dataclass(frozen=True, slots=True)
class Story:
    """`before`: synced once, then changed by both users. `expected`: after an undisturbed run."""

    machine: Machine
    before: Disk
    expected: Mapping[Side, Contents]

    def sync(self, disk: Disk, fault: Fault | None = None) -> Acted[Ran]:
        return self.machine.act(disk, lambda: run("c"), fault)

    def check(self, disk: Disk, *, rebooted: bool = False) -> Disk:
        """The law: nothing is lost, and the next run ends as the undisturbed one. Returns what it left."""
        check_all_there(disk)
        acted = self.machine.act(disk, after_a_start if rebooted else healed)
        found = acted.done
        assert (0, "") == (found.ran.code, found.ran.err), found.ran
        assert self.expected == found.contents
        assert [] == found.again.steps, found.again
        return acted.disk


def story(home: Path, a: str, b: str, trash: bool = False) -> Story:
    """Between stores of these formats."""
    machine = Machine(home)

    def begin() -> Ran:
        places = {"a": _place(a, "a", False), "b": _place(b, "b", trash)}
        plant(channels(Path.cwd(), places, []))
        with open(".mailsync", "a") as file:
            file.write("channel c a b { msinfo .msinfo duplicates keep }\n")
        return run("c")

    def go_on() -> Ran:
        alter(Stores(Path.cwd()))
        return run("-s", "--json", "c")

    first = machine.act(Disk(), begin)
    assert (0, "") == (first.done.code, first.done.err), first.done
    changed = machine.act(first.disk, go_on)
    assert STEPS == Counter(step["event"] for step in changed.done.steps), changed.done.out
    before = changed.disk.snapshot()
    after = machine.act(before, healed)
    assert (0, "") == (after.done.ran.code, after.done.ran.err), after.done.ran
    assert after.done.contents[Side.A] == after.done.contents[Side.B]
    assert {"box", "other", "name", "deep/fresh"} == after.done.contents[Side.A].keys() - {"INBOX"}
    return Story(machine, before, after.done.contents)


def _place(format: str, directory: str, trash: bool) -> Place:
    more = f"\n  delete trash:{directory}/Trash" if trash else ""
    return Place(format, f"pat {directory}/*\n  prefix {directory}/\n  format {format}{more}")


def healed() -> Found:
    """A run, what it left, and what one more would do."""
    stores, ran = Stores(Path.cwd()), run("c")
    contents = {}
    for side in Side:
        with stores.opened(side.value) as store:
            contents[side] = held(store)
    forget_cache(Path.cwd())
    return Found(ran, contents, run("-s", "--json", "c"))


def after_a_start() -> Found:
    """The same on a host that was started just now."""
    dotlocks.uptime = float
    return healed()


def held(store: Store) -> Contents:
    return {
        name: Counter((one.exact, one.flags, one.date) for one in read(store.driver, store.mailbox(name)))
        for name in boxnames(store)
        if name != TRASH
    }


# ---- what happens ----------------------------------------------------------------------------------------------------


def mail(name: str, flags: Flags = NONE) -> Mail:
    return Mail(message(name, _end(name)), flags, 1704067200 + len(name))


def _end(name: str) -> bytes:
    return f"the end of {name}\n".encode()


NAMES = ("m0", "m1", "m2", "m3", "m4", "o0", "o1", "r0", "r1", "na", "nb", "d0")
STEPS = {"copy": 3, "flags": 2, "delete": 3, "create": 1}  # and a rename, and a move


def plant(stores: Stores) -> None:
    """What both sides have."""
    with stores.opened("a") as store:
        fill(
            store,
            {
                Boxname("box"): [mail(name, frozenset({SEEN})) for name in ("m0", "m1", "m2", "m3", "m4")],
                Boxname("other"): [mail("o0"), mail("o1")],
                Boxname("old"): [mail("r0"), mail("r1")],
            },
        )


def alter(stores: Stores) -> None:
    """On either side a message comes, one is flagged, one deleted; one is moved, a mailbox is renamed, one is made."""
    box, other = Boxname("box"), Boxname("other")
    with stores.opened("a") as store:
        by_name = _ids(store, box)
        change(store, box, {by_name["m0"]: frozenset({SEEN, FLAGGED, "work"}), by_name["m2"]: None})
        change(store, other, {_ids(store, other)["o0"]: None})
        fill(store, {box: [mail("na", frozenset({SEEN})), mail("o0")]})
        store.driver.rename(store.mailbox(Boxname("old")), store.mailbox(Boxname("name")))
    with stores.opened("b") as store:
        by_name = _ids(store, box)
        change(store, box, {by_name["m1"]: NONE, by_name["m3"]: None})
        fill(store, {box: [mail("nb", frozenset({FLAGGED}))], Boxname("deep/fresh"): [mail("d0")]})


def _ids(store: Store, boxname: Boxname) -> dict[str, MessageId]:
    """By what the messages are called here."""
    return {entry.id[1:-3]: entry.id for entry in listing(store.driver, store.mailbox(boxname)).entries}


def check_all_there(disk: Disk) -> None:
    """Each message lies somewhere, with all of its text: what was deleted is kept."""
    held = b"".join(data for path, data in disk.files().items() if not path.startswith(".cache"))
    lost = [name for name in NAMES if _end(name) not in held]
    assert not lost, f"on the disk there is no {lost}"
