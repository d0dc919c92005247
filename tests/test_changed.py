"""Mailboxes that are not what they were: put back, made anew, swapped, renumbered, moved; and clocks that go wrong.

Each change is made in two homes. In one of them mailsync knows what it has known, in the other it has forgotten all but
msinfo. Both come to the same end, which is that of the three-way diff; what both stores hold is not sent again; and one
more run finds nothing to do.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import chain, pairwise
from pathlib import Path

import pytest

from mailsync.config.values import FIFTY
from mailsync.drivers.mh import SEQUENCES
from mailsync.model import FLAGGED, Boxname, Flags, MessageId, Token
from mailsync.settled import Settled, Stamp
from mailsync.unchanged import State

from . import scenario
from .mail import Mail, Ran, digest, forget_cache, maildir, mbox, message, pause, run
from .scenario import FILES, Place, Stores, on_machine, place
from .tried import CHANGED, PLANTED, Points

pytestmark = CHANGED

ONE, TWO = Boxname("one"), Boxname("two")
Held = Mapping[str, set[str]]  # the names of messages by boxname
BEFORE: Held = {"one": {"1", "2", "3", "4"}, "two": {"5", "6"}}
MANY = [str(n) for n in range(10, 11 + FIFTY.number)]
NAMES = [*(str(n) for n in range(1, 10)), *MANY]
PAIRS = [*((format, "maildir") for format in FILES), ("dovecot", "maildir"), ("cyrus", "mbox"), ("maildir", "dovecot")]
LAST = "home put back"  # with a server that went on
QUICK = [(format, "maildir") for format in ("maildir", "mbox", "dovecot")]


@dataclass
class Home:
    """A channel between a, to which things happen, and b."""

    path: Path
    a: Place
    b: Place
    root: Path  # of a, where that is files
    stores: Stores = field(init=False)

    def configure(self) -> None:
        self.stores = scenario.channels(self.path, {"a": self.a, "b": self.b}, ["ab"])

    def run(self, *args: str) -> Ran:
        ran = run(*args, "--json", "ab")
        assert (0, "") == (ran.code, ran.err), ran
        return ran

    def rest(self) -> None:
        """A stamp tells the next run that nothing has changed."""
        pause()
        assert [] == self.run().steps
        assert list(self.path.glob(".cache/mailsync/settled-*"))

    def put(self, boxname: Boxname, *names: str, on: str = "a") -> None:
        with self.stores.opened(on) as store:
            scenario.fill(store, {boxname: [Mail(message(name)) for name in names]})

    def change(self, boxname: Boxname, flags: Mapping[str, Flags | None], on: str = "a") -> None:
        with self.stores.opened(on) as store:
            scenario.change(store, boxname, {MessageId(f"<{name}@x>"): goal for name, goal in flags.items()})

    def make_anew(self, boxname: Boxname, *names: str) -> None:
        self.change(boxname, dict.fromkeys(self.held("a")[boxname]))
        with self.stores.opened("a") as store:
            store.delete(boxname)
        self.put(boxname, *names)

    def rename(self, *names: str) -> None:
        """Each to the next."""
        with self.stores.opened("a") as store:
            for old, new in pairwise(names):
                store.rename(Boxname(old), Boxname(new))

    def held(self, on: str) -> dict[str, set[str]]:
        """Without INBOX, which all servers have. Nothing is there twice."""
        known = {digest(message(name)): name for name in NAMES}
        with self.stores.opened(on) as store:
            found = scenario.contents(store)
        assert all(count == 1 for box in found.values() for count in box.values()), found
        return {name: {known[exact] for exact, _ in box} for name, box in found.items() if name != "INBOX"}


@pytest.fixture
def make(home: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Home]:
    """Homes whose stores hold the same mail."""
    count = iter(range(100))

    def made(a: str, b: str) -> Home:
        path = home / str(next(count))
        path.mkdir()
        monkeypatch.setenv("HOME", str(path))
        monkeypatch.chdir(path)
        one = Home(path, place(a, "a"), place(b, "b"), path / "a")
        if a in FILES:
            (path / "a").mkdir()
        if a == "maildir++":
            maildir(path / "a")
        one.configure()
        for boxname, names in BEFORE.items():
            one.put(Boxname(boxname), *sorted(names))
        one.run()
        one.rest()
        return one

    return made


# ---- what happens ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """What is done to a; what both hold then; how many bodies are sent for that."""

    act: Callable[[Home], object]
    after: Held = field(default_factory=lambda: BEFORE)
    sent: int = 0
    only: tuple[str, ...] = ()  # kinds of stores that it can happen to


def same_in_another_order(home: Home) -> None:
    home.make_anew(ONE, "3", "1", "4", "2")


def made_anew(*names: str) -> Callable[[Home], None]:
    return lambda home: home.make_anew(ONE, *names)


def to_and_fro(home: Home) -> None:
    home.rename("one", "elsewhere", "one")


def to_and_fro_with_runs(home: Home) -> None:
    """With -D the other side follows; without a message sent."""
    for names in (("one", "elsewhere"), ("elsewhere", "one")):
        home.rename(*names)
        assert [] == sent(home.run("-D"))


def swap(home: Home) -> None:
    home.rename("one", "between")
    home.rename("two", "one")
    home.rename("between", "two")


def put_back(home: Home) -> None:
    """As a whole, after a message was deleted on both sides, one came, and one was flagged."""
    put_back_after(home, later)


def put_back_after(home: Home, happens: Callable[[Home], object]) -> None:
    before = home.path / "before"
    shutil.copytree(home.root, before, symlinks=True)
    happens(home)
    replace(home.root, before)


def replace(root: Path, backup: Path) -> None:
    """The directory that was there goes last: else the new one may get its inode, and be the same mailbox of MH."""
    old = root.rename(root.with_name("old"))
    shutil.copytree(backup, root, symlinks=True)
    shutil.rmtree(old)
    shutil.rmtree(backup)


def later(home: Home) -> None:
    home.change(ONE, {"1": None, "2": frozenset({FLAGGED})})
    home.put(TWO, "7")
    home.run()


def only(*names: str) -> Callable[[Home], None]:
    """These files are put back, and no others."""

    def act(home: Home) -> None:
        [lock] = home.path.glob(".local/state/mailsync/*.lock")
        files = [home.path.glob(name.format(channel=lock.stem)) for name in names]
        kept = {file: file.read_bytes() for file in chain(*files)}
        later(home)
        home.rest()
        assert kept
        for file, content in kept.items():
            file.write_bytes(content)

    return act


def home_put_back(home: Home) -> None:
    """All that is on this machine, while b went on."""
    before = home.path.parent / "before"
    shutil.copytree(home.path, before, symlinks=True, ignore=shutil.ignore_patterns("b"))
    later(home)
    for path in home.path.glob(".[mcl]*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for path in before.glob(".[mcl]*"):
        path.rename(home.path / path.name)
    replace(home.root, before / "a")
    shutil.rmtree(before)


def moved_elsewhere(home: Home) -> None:
    shutil.copytree(home.root, home.path / "elsewhere")
    shutil.rmtree(home.root)
    home.a = on_machine(home.a.name, "elsewhere")
    home.configure()


def new_inodes(home: Home) -> None:
    """As rsync and `cp -a` do."""
    replace(home.root, Path(shutil.copytree(home.root, home.path / "backup")))


def new_names(home: Home) -> None:
    """As another host gives them; the times are new as well."""
    for n, file in enumerate(sorted(home.root.rglob("*:2,*")) + sorted(home.root.rglob("new/*"))):
        letters = file.name.partition(":2,")[2]
        shutil.copy(file, file.parent.parent / f"cur/{n}.there:2,{letters}")
        file.unlink()


def to_cur(home: Home) -> None:
    for file in home.root.rglob("new/*"):
        file.rename(file.parent.parent / f"cur/{file.name}:2,")


def to_new(home: Home) -> None:
    for file in home.root.rglob("cur/*:2,"):
        file.rename(file.parent.parent / f"new/{file.name.partition(':')[0]}")


def packed(home: Home) -> None:
    """As packing and `sortm` do: other numbers, and the sequences with them."""
    for box in (home.root / "one", home.root / "two"):
        files = sorted(file for file in box.iterdir() if file.name.isdigit())
        for file in files:
            file.rename(box / f",{file.name}")
        for n, file in enumerate(reversed(files), 11):
            (box / f",{file.name}").rename(box / str(n))
        (box / SEQUENCES).write_text(f"unseen: 11-{10 + len(files)}\n")


def other_order(home: Home) -> None:
    """By another program, which writes what it has into the same file."""
    mbox(home.root / "one", *(message(name) for name in "4213"))


def times(when: float) -> Callable[[Home], None]:
    def act(home: Home) -> None:
        for file in home.root.rglob("*"):
            os.utime(file, (when, when))

    return act


DAY = 86400
EMPTY: Held = {**BEFORE, "one": set()}
LATER: Held = {"one": {"2", "3", "4"}, "two": {"5", "6", "7"}}
CASES: Mapping[str, Case] = {
    "made anew with the same mail": Case(same_in_another_order),
    "made anew with part of it": Case(made_anew("1", "2"), {**BEFORE, "one": {"1", "2"}}),
    "made anew with other mail": Case(made_anew("8", "9"), {**BEFORE, "one": {"8", "9"}}, 2),
    "made anew, empty": Case(made_anew(), EMPTY),
    "renamed to and fro": Case(to_and_fro),
    "renamed to and fro, with runs": Case(to_and_fro_with_runs),
    "swapped": Case(swap, {"one": BEFORE["two"], "two": BEFORE["one"]}),
    # What was deleted everywhere is back, and new to the other side; what is not there any more was deleted there.
    "put back": Case(put_back, BEFORE, 1, FILES),
    "msinfo put back": Case(only(".msinfo-ab"), LATER),
    "caches put back": Case(only(".cache/mailsync/*.sqlite"), LATER),
    "stamp put back": Case(only(".cache/mailsync/settled-*"), LATER),
    "all of the cache put back": Case(only(".cache/mailsync/*"), LATER),
    "record put back": Case(only(".cache/mailsync/{channel}.sqlite"), LATER),
    "msinfo and all that is known put back": Case(only(".msinfo-ab", ".cache/mailsync/*"), LATER),
    LAST: Case(home_put_back, LATER, 1, FILES),
    "moved to another directory": Case(moved_elsewhere, only=FILES),
    "copied, with its times": Case(new_inodes, only=FILES),
    "copied under new names": Case(new_names, only=("maildir", "maildir++")),
    "from new to cur": Case(to_cur, only=("maildir", "maildir++")),
    "from cur to new": Case(to_new, only=("maildir", "maildir++")),
    "packed": Case(packed, only=("mh",)),
    "written anew in another order": Case(other_order, only=("mbox",)),
    "times of the future": Case(times(time.time() + DAY), only=FILES),
    "times of long ago": Case(times(0.0), only=FILES),
}
TRIED = [
    pytest.param(pair, name, marks=() if pair in QUICK or len(case.only) == 1 or name == LAST else pytest.mark.torture)
    for name, case in CASES.items()
    for pair in PAIRS
    if not case.only or pair[0] in case.only
]


@pytest.mark.parametrize(("pair", "what"), TRIED, ids=lambda value: value if value in CASES else " ".join(value))
def test_mailbox_is_not_what_it_was(
    make: Callable[[str, str], Home],
    pair: tuple[str, str],
    what: str,
    record_property: Points,
) -> None:
    for forgets in (False, True):
        check(make(*pair), CASES[what], forgets=forgets)
    record_property("points", 2)


def check(home: Home, case: Case, *, forgets: bool) -> None:
    case.act(home)
    if forgets:
        forget(home)

    ran = home.run()

    assert (case.after, case.after) == (home.held("a"), home.held("b")), ran
    assert case.sent == len(sent(ran)), ran
    # It is remembered, too: what is deleted now was seen.
    [*others, name] = sorted(case.after["two"])
    home.change(TWO, {name: None})
    home.run()
    assert set(others) == home.held("a")["two"] == home.held("b")["two"]
    forget_cache(home.path)
    assert [] == home.run("-s").steps


def forget(home: Home) -> None:
    forget_cache(home.path)
    shutil.rmtree(home.path / ".local/state/mailsync")


def sent(ran: Ran) -> list[object]:
    return [event for event in ran.events if event["event"] == "copy" and "from_box" not in event]


@pytest.mark.parametrize("command", ["remove msinfo", ""])
def test_store_put_back_is_filled_again_if_msinfo_is_removed(make: Callable[[str, str], Home], command: str) -> None:
    """As the README says."""
    home = make("maildir", "maildir")
    put_back(home)
    if command:
        (home.path / ".msinfo-ab").unlink()

    home.run()

    found = {**BEFORE, "two": {"5", "6", "7"}} if command else BEFORE
    assert (found, found) == (home.held("a"), home.held("b"))


@pytest.mark.parametrize("format", FILES)
def test_what_came_after_the_backup_is_brought_back_by_undo(make: Callable[[str, str], Home], format: str) -> None:
    """Nothing tells files that were put back from files of which a user has deleted some; but nothing is lost."""
    home = make(format, "maildir")
    put_back(home)
    home.run()
    assert BEFORE == home.held("a") == home.held("b")

    undone = run("--undo", "ab")
    home.run()

    assert (0, "") == (undone.code, undone.err)
    assert {**BEFORE, "two": {"5", "6", "7"}} == home.held("a") == home.held("b")
    forget_cache(home.path)
    assert [] == home.run("-s").steps


@pytest.mark.parametrize("format", FILES)
def test_backup_in_which_much_is_missing_deletes_nothing(make: Callable[[str, str], Home], format: str) -> None:
    """The guard holds it; without msinfo all comes back, as the README says."""
    home = make(format, "maildir")

    def much_comes(home: Home) -> None:
        home.put(TWO, *MANY)
        home.run()

    put_back_after(home, much_comes)
    full = {**BEFORE, "two": {*BEFORE["two"], *MANY}}

    held = run("ab")

    assert 4 == held.code
    assert f"{len(MANY)} messages would be deleted from store b, more than max_delete {FIFTY}" in held.err
    assert (BEFORE, full) == (home.held("a"), home.held("b"))
    (home.path / ".msinfo-ab").unlink()
    home.run()
    assert full == home.held("a") == home.held("b")


# ---- the checker is checked ------------------------------------------------------------------------------------------


def stamp_without_msinfo(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that finds nothing does not note what msinfo was."""
    write = Settled.write

    def planted(self: Settled, stamp: Stamp, paths: Mapping[str, State | None], until: float) -> None:
        write(self, stamp, {path: found for path, found in paths.items() if ".msinfo" not in path}, until)

    monkeypatch.setattr(Settled, "write", planted)


def stamp_without_states(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor what anything was."""
    monkeypatch.setattr("mailsync.settled.state_like", lambda path, was: was)


def tokens_all_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mailbox that is known is never looked into."""
    monkeypatch.setattr("mailsync.drivers.local.token", lambda states: Token("t"))
    monkeypatch.setattr("mailsync.drivers.files.token", lambda states: Token("t"))


@PLANTED
@pytest.mark.parametrize(
    "bug", [stamp_without_msinfo, stamp_without_states, tokens_all_alike], ids=lambda bug: bug.__name__
)
def test_bug_is_caught(
    make: Callable[[str, str], Home], monkeypatch: pytest.MonkeyPatch, bug: Callable[[pytest.MonkeyPatch], None]
) -> None:
    bug(monkeypatch)

    caught = [what for what in ("msinfo put back", "copied under new names", "put back") if is_caught(make, what)]

    assert caught


def is_caught(make: Callable[[str, str], Home], what: str) -> bool:
    try:
        check(make("maildir", "maildir"), CASES[what], forgets=False)
    except AssertionError:
        return True
    return False


def test_without_a_bug_nothing_is_caught(make: Callable[[str, str], Home]) -> None:
    assert not is_caught(make, "msinfo put back")
