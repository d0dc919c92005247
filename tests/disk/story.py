"""Two stores with mail, in which both users change all that can be changed; and what must be so after a run, whatever
happened to it.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations_with_replacement
from pathlib import Path

from mailsync import channel
from mailsync.drivers import dotlocks
from mailsync.model import FLAGGED, NONE, SEEN, Boxname, Digest, Flags, MessageId, Side
from mailsync.stores import Store

from ..mail import Mail, Ran, forget_cache, listing, message, read, run
from ..scenario import Place, Stores, boxnames, change, channels, fill, on_server
from ..servers import Login, server
from . import Acted, Disk, Fault, Machine, import_all
from .model import MODELS, Done

FORMATS = ("maildir", "maildir++", "mbox", "mh")
PAIRS = (*combinations_with_replacement(FORMATS, 2),)
REMOTE = tuple((format, "dovecot") for format in (*FORMATS, "dovecot"))
ALL = PAIRS + REMOTE
TRASH = Boxname("Trash")  # what is there is in no channel
CACHE = ".cache/"
AREAS = {
    "a": ("a/",),
    "b": ("b/",),
    "cache": (CACHE,),
    "state": (".local/",),
    "msinfo": (".msinfo", "..msinfo", ".mailsync-"),
}

Contents = Mapping[Boxname, Counter[tuple[Digest, Flags, int]]]


@dataclass(frozen=True, slots=True)
class Found:
    """What a run that nothing disturbed said, and what it left."""

    memory: bytes  # that this run found
    ran: Ran
    contents: Mapping[Side, Contents]
    again: Ran  # the plan of one more


@dataclass(frozen=True, slots=True)
class Account:
    """On the server, and what mail was there before the run."""

    login: Login
    mail: Path

    def anew(self) -> Login:
        """Another account with the same mail."""
        dovecot = server("dovecot")
        login = dovecot.new_login()
        shutil.copytree(self.mail, far := _maildir(login))
        dovecot.give(login, far)
        return login


@dataclass
class Story:
    """`before`: synced once, then changed by both users. `expected`: after an undisturbed run."""

    machine: Machine
    before: Disk
    expected: Mapping[Side, Contents] = field(default_factory=dict)
    accounts: Sequence[Account] = ()  # those of its stores that are on the server

    def sync(
        self, fault: Fault | None = None, bug: Callable[[], None] | None = None, disk: Disk | None = None
    ) -> Acted[Ran]:
        """A run, on a fresh disk or another; msinfo is saved after each mailbox."""

        def act() -> Ran:
            channel.SAVE_AFTER = 1
            if bug:
                bug()
            return run("c")

        return self.machine.act(disk or self.fresh(), act, fault)

    def steps(self) -> list[Done]:
        """What an undisturbed run does, but for what it writes through maps."""
        return [done for done in self.sync().disk.done if not getattr(done.step, "quiet", False)]

    def fresh(self) -> Disk:
        """As `before`, with new accounts on the server."""
        disk = self.before.snapshot()
        config = disk.nodes[disk.nodes[1].names[".mailsync"]]
        for account in self.accounts:
            config.changed = config.modified = time.time_ns()
            config.data[:] = config.data.replace(_user(account.login), _user(account.anew()))
        return disk

    def check(self, disk: Disk, heal: Callable[[], Found] | None = None) -> Disk:
        """The law: nothing is lost, and the next run ends as the undisturbed one. Returns what it left."""
        if not self.accounts:
            check_all_there(disk)
        acted = self.machine.act(disk, heal or healed)
        found = acted.done
        assert STAYS in found.memory, "msinfo is lost"
        assert (0, "") == (found.ran.code, found.ran.err), found.ran
        for side in Side:
            assert self.expected[side] == found.contents[side], (side, found)
        assert [] == found.again.steps, found.again
        return acted.disk


@dataclass
class Stories:
    """Each made once in a process."""

    home: Path
    _made: dict[tuple[str, str, bool, str], Story] = field(default_factory=dict)

    def __post_init__(self) -> None:
        import_all()

    def varied(self, a: str, b: str) -> tuple[Story, int]:
        """With a number that differs. In every other one there is a trash; msinfo is of one format after another."""
        number = ALL.index((a, b))
        return self(a, b, (a, b) in PAIRS and number % 2 == 1, ("mbox", "maildir", "mh")[number % 3]), number

    def __call__(self, a: str, b: str, trash: bool = False, msinfo: str = "mbox") -> Story:
        """Between stores of these formats, or a server; `trash`: b deletes into one; `msinfo`: the format of that."""
        key = a, b, trash, msinfo
        if key not in self._made:
            self._made[key] = story(self.home, *key)
        return self._made[key]


def story(home: Path, a: str, b: str, trash: bool, msinfo: str) -> Story:
    machine = Machine(home)
    places = {"a": _place(a, "a", False), "b": _place(b, "b", trash)}
    there = {"maildir": (".msinfo/cur", ".msinfo/new", ".msinfo/tmp"), "mh": (".msinfo",), "mbox": ()}[msinfo]

    def begin() -> Ran:
        stores = channels(Path.cwd(), places, [])
        with open(".mailsync", "a") as file:
            file.write("channel c a b { msinfo .msinfo duplicates keep }\n")
        for directory in there:
            Path(directory).mkdir(parents=True)
        if msinfo == "mh":
            Path(".msinfo/.mh_sequences").touch()
        plant(stores)
        return run("c")

    def go_on() -> Ran:
        alter(Stores(Path.cwd()))
        return run("-s", "--json", "c")

    first = machine.act(Disk(), begin)
    assert (0, "") == (first.done.code, first.done.err), first.done
    changed = machine.act(first.disk, go_on)
    assert STEPS == Counter(step["event"] for step in changed.done.steps), changed.done.out
    logins = [_login(place) for place in places.values() if place.name == "dovecot"]
    mail = [home.parent / f"mail-{login.user}" for login in logins]
    for login, copy in zip(logins, mail, strict=True):
        shutil.copytree(_maildir(login), copy)
    found = Story(machine, changed.disk.snapshot(), accounts=list(map(Account, logins, mail)))
    after = machine.act(found.fresh(), healed).done
    assert (0, "") == (after.ran.code, after.ran.err), after.ran
    assert after.contents[Side.A] == after.contents[Side.B]
    assert {"box", "other", "name", "deep/fresh"} == after.contents[Side.A].keys() - {"INBOX"}
    found.expected = after.contents
    return found


def _place(format: str, directory: str, trash: bool) -> Place:
    if format == "dovecot":
        return on_server(format)
    more = f"\n  delete trash:{directory}/{TRASH}" if trash else ""
    return Place(format, f"pat {directory}/*\n  prefix {directory}/\n  format {format}{more}")


def _login(place: Place) -> Login:
    return Login(place.config.partition("user=")[2].partition("}")[0], "")


def _user(login: Login) -> bytes:
    return f"/user={login.user}}}".encode()


def _maildir(login: Login) -> Path:
    far = server("dovecot").maildir(login)
    assert far
    return far


# ---- points ----------------------------------------------------------------------------------------------------------


def area(path: str) -> str:
    return next((name for name, beginnings in AREAS.items() if f"{path}/".startswith(beginnings)), "home")


def strata(steps: Sequence[Done], cache: bool = False) -> Sequence[Sequence[int]]:
    """The steps by where they are done and of which kind they are."""
    found: dict[tuple[str, str], list[int]] = {}
    for n, done in enumerate(steps):
        found.setdefault((area(done.path), type(done.step).__name__), []).append(n)
    return [found[key] for key in sorted(found) if cache or key[0] != "cache"]


def few(steps: Sequence[Done], number: int, of: int, cache: bool = False) -> list[int]:
    """A step of each so many-th of the strata: of other ones for the pair with the next number."""
    found = strata(steps, cache)
    return [stratum[number % len(stratum)] for stratum in found[number % min(of, len(found)) :: of]]


def every(steps: Sequence[Done], stride: int, first: int = 0, cache: bool = False) -> list[int]:
    """Each so many-th step, of those that do not concern the cache alone."""
    counted = [n for n, done in enumerate(steps) if cache or area(done.path) != "cache"]
    return counted[first % stride :: stride]


def cuts(disk: Disk, points: Iterable[int], cache: bool = False) -> Iterator[tuple[str, Disk]]:
    """What power cuts after these steps leave, as different models have it; each state once."""
    seen = set()
    for n in points:
        for name, model in MODELS.items():
            left = disk.cut(n + 1, model(n))
            if (state := left.digest("" if cache else CACHE)) not in seen:
                seen.add(state)
                yield f"{name} after {n}: {disk.done[n]}", left


# ---- runs, in a process of their own ---------------------------------------------------------------------------------


def healed(*options: str) -> Found:
    """A run, what it left, and what one more would do."""
    memory = msinfo()
    ran, contents = run(*options, "c"), looked()
    forget_cache(Path.cwd())
    return Found(memory, ran, contents, run("-s", "--json", "c"))


def msinfo() -> bytes:
    """All that is in it."""
    place = Path(".msinfo")
    return b"".join(file.read_bytes() for file in sorted(place.rglob("*")) if file.is_file()) or place.read_bytes()


def after_a_start() -> Found:
    """The same on a host that was started just now."""
    dotlocks.uptime = float
    return healed()


def retried() -> Found:
    """The same, and what failed once is tried at once."""
    return healed("--retry")


def looked() -> Mapping[Side, Contents]:
    stores, contents = Stores(Path.cwd()), {}
    for side in Side:
        with stores.opened(side.value) as store:
            contents[side] = {
                name: Counter((one.exact, one.flags, one.date) for one in read(store.driver, store.mailbox(name)))
                for name in boxnames(store)
                if name != TRASH
            }
    return contents


# ---- what happens ----------------------------------------------------------------------------------------------------

NAMES = ("m0", "m1", "m2", "m3", "m4", "o0", "o1", "r0", "r1", "na", "nb", "d0")
STAYS = b"<m4@x>"  # what msinfo has of a message to which nothing happens
STEPS = {"copy": 3, "flags": 2, "delete": 3, "create": 1}  # and a rename, and a move


def mail(name: str, flags: Flags = NONE) -> Mail:
    return Mail(message(name, _end(name)), flags, 1704067200 + len(name))


def _end(name: str) -> bytes:
    return f"the end of {name}\n".encode()


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
    held = b"".join(data for path, data in disk.files().items() if not path.startswith(CACHE))
    lost = [name for name in NAMES if _end(name) not in held]
    assert not lost, f"on the disk there is no {lost}"
