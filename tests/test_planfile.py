"""What -s tells, what --plan writes and what a run does are one; and --apply does that, or nothing at all."""

from __future__ import annotations

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsync import planfile, review
from mailsync.config import StoreConfig
from mailsync.config.values import ChannelConfig
from mailsync.errors import UsageError
from mailsync.ledger import Case, Ledger
from mailsync.model import FLAGGED, NONE, SEEN, Boxname, Entry, Failure, Holds, Key, MessageId, Side, SidePolicy, Uid
from mailsync.plan import BoxPlan, Change, Copy, Delete, Held, Near, Plan, Rename, SetFlags, Step, Why
from mailsync.planfile import Asked, Written
from mailsync.planner import Options
from mailsync.runlock import run_lock
from mailsync.state import ledger_file
from mailsync.stores import over

from . import old, scenario, test_golden, test_imap_scenario
from .mail import Mail, Ran, configure, forget_cache, message, run, run_apart
from .samples import ROOT
from .scenario import Place, on_machine, on_server
from .test_golden import Home
from .test_laws import SCENARIOS, Laws, Scenario, check_kill_points, told
from .world import Silent, Switch, World

CONFIG = """\
store a { pat a/*  prefix a/ }
store b { pat b/*  prefix b/ }
channel ab a b { msinfo .msinfo }
"""
KINDS = ("rename", "create", "copy", "move", "flags", "delete", "remove", "held")
Told = tuple[tuple[str, object], ...]

# ---- the same steps: what users may have done ------------------------------------------------------------------------


def events(ran: Ran) -> Counter[Told]:
    """The steps of a run with --json, in a form that a file has, too."""
    found: Counter[Told] = Counter()
    for event in ran.events:
        if event["event"] in KINDS:
            step = event.get("step", event["event"])
            if step != "remove":  # its store is in the name of the mailbox
                event |= {"of": event["store"]}
            kept = {name: event[name] for name in ("box", "of", "id", "flags", "add", "remove") if name in event}
            why = {"held" if event["event"] == "held" else "why": event["why"]} if "why" in event else {}
            old = {"from_box": event["from_box"]} if "from_box" in event else {}
            assert event.get("ok", True), json.dumps(event)
            found[_told({"step": step} | kept | why | old)] += 1
    return found


def written(path: Path) -> Counter[Told]:
    """The steps that a file has, in a form that --json has, too."""
    values = json.loads(path.read_bytes())
    found: Counter[Told] = Counter()
    for step in (*values["steps"], *values["held"]):
        names = ("step", "box", "id", "flags", "add", "remove", "from_box")
        kept = {name: step[name] for name in names if name in step}
        kept |= {"of": step["store"]} if step["step"] != "remove" else {}
        kept |= {"held": step["held"]} if "held" in step else {"why": step["why"]} if "why" in step else {}
        found[_told(kept)] += 1
    return found


def _told(step: Mapping[str, object]) -> Told:
    return tuple(sorted((name, tuple(v) if isinstance(v, list) else v) for name, v in step.items()))


def text_of(ran: Ran) -> str:
    """Without what only -s tells: that it simulates, and which mailboxes are made."""
    return re.sub(r"^(Only simulating|Creating .* in .*)\n", "", ran.out, flags=re.MULTILINE)


def check_events(*args: str) -> None:
    """-s, --plan and --apply with --json; then nothing is left to do."""
    simulated = run("--json", "-s", *args)
    planned = run("--json", "--plan", "plan", *args)
    compared = run("--json", "-s", "--apply", "plan")
    applied = run("--json", "--apply", "plan")

    assert simulated.out == planned.out == compared.out
    assert simulated.code == planned.code == compared.code == applied.code, applied
    assert written(Path("plan")) == events(simulated) == events(applied)
    assert [simulated.events[-1]] == [applied.events[-1]]
    assert run("--plan", "plan", *args).code in (0, 4)
    assert [] == json.loads(Path("plan").read_bytes())["steps"]


def check_text(*args: str) -> None:
    """-s, --plan and --apply as people read them."""
    simulated = run("-s", *args)
    planned = run("--plan", "plan", *args)
    shown = [option for option in args if option in ("-m", "-M")]
    compared = run("-s", *shown, "--apply", "plan")
    applied = run(*shown, "--apply", "plan")

    assert simulated == planned == compared
    assert simulated.out.startswith("Only simulating\n")
    assert (text_of(simulated), simulated.err, simulated.code) == (text_of(applied), applied.err, applied.code)


CHECKS: Mapping[str, Callable[..., None]] = {
    "events": check_events,
    "text": check_text,
    "messages": lambda *args: check_text("-m", *args),
}


@dataclass(frozen=True)
class Pair:
    """A home with the Maildirs of two stores."""

    home: Path

    def deliver(self, box: str, *names: object, flags: str = "", text: bytes = b"hi\n") -> None:
        for part in ("cur", "new", "tmp"):
            (self.home / box / part).mkdir(parents=True, exist_ok=True)
        for name in names:
            file = self.home / box / "cur" / f"1700000000.{name}.{box.replace('/', '-')}:2,{flags}"
            file.write_bytes(message(name, text))
            os.utime(file, (1_700_000_000, 1_700_000_000))

    def find(self, box: str, name: object) -> Path:
        files = [file for part in ("cur", "new") for file in (self.home / box / part).iterdir()]
        [found] = [file for file in files if f"<{name}@x>".encode() in file.read_bytes()]
        return found

    def delete(self, box: str, *names: object) -> None:
        for name in names:
            self.find(box, name).unlink()

    def flag(self, box: str, name: object, flags: str) -> None:
        found = self.find(box, name)
        found.rename(self.home / box / "cur" / (found.name.partition(":")[0] + f":2,{flags}"))

    def move(self, box: str, name: object, to: str) -> None:
        found = self.find(box, name)
        self.deliver(to)
        found.rename(self.home / to / "cur" / f"1800000000.{name}.moved:2,{found.name.partition(':2,')[2]}")

    def sync(self, *args: str) -> None:
        assert 0 == run("-q", *args, "ab").code


@pytest.fixture
def pair(home: Path) -> Pair:
    configure(home, CONFIG)
    return settled(Pair(home))


def settled(pair: Pair) -> Pair:
    pair.deliver("a/inbox", 1, 2, 3, 4, flags="S")
    pair.deliver("a/works", 5, 6)
    pair.deliver("b/works", 7)
    pair.sync()
    return pair


def with_setting(pair: Pair, setting: str, of: str = "channel") -> None:
    text = (pair.home / ".mailsync").read_text()
    configure(pair.home, re.sub(rf"^({of}.*)\}}$", rf"\1 {setting} }}", text, flags=re.MULTILINE))


def nothing_new(pair: Pair) -> None: ...


def news_of_all_kinds(pair: Pair) -> None:
    pair.deliver("a/inbox", "new-a", "late")
    pair.deliver("b/inbox", "new-b", flags="FR")
    pair.deliver("b/lists/deep", "box")
    pair.delete("a/inbox", 1)
    pair.delete("b/inbox", 2)
    pair.flag("a/inbox", 3, "FS")
    pair.flag("b/inbox", 4, "")
    pair.flag("b/works", 5, "RS")


def message_moved_on_each_side(pair: Pair) -> None:
    pair.move("a/inbox", 1, "a/works")
    pair.move("b/works", 5, "b/inbox")
    pair.flag("b/inbox", 1, "FS")
    pair.flag("a/works", 5, "T")


def message_copied_to_another_box(pair: Pair) -> None:
    (pair.home / "a/works/cur/1800000000.copy:2,S").write_bytes(message(1))


def box_renamed(pair: Pair) -> None:
    (pair.home / "a/works").rename(pair.home / "a/done")
    pair.deliver("a/done", "late")
    pair.delete("a/done", 6)
    pair.flag("b/works", 7, "S")


def boxes_renamed_one_below_the_other(pair: Pair) -> None:
    pair.deliver("a/lists/x", "x")
    pair.deliver("a/lists", "top")
    pair.sync()
    (pair.home / "a/lists").rename(pair.home / "a/other")


def box_gone(pair: Pair) -> None:
    rmtree(pair.home / "b/works")


def box_emptied(pair: Pair) -> None:
    pair.delete("a/works", 5, 6, 7)


def duplicates(pair: Pair) -> None:
    pair.deliver("a/inbox", "twice")
    (pair.home / "a/inbox/cur/1700000001.again:2,F").write_bytes(message("twice"))
    pair.deliver("b/works", 7, "one-id")
    (pair.home / "b/works/cur/1700000001.again:2,").write_bytes(message("one-id", b"another\n"))
    (pair.home / "b/works/cur/1700000002.again:2,").write_bytes(message("one-id", b"another\n"))


def draft_saved_again(pair: Pair) -> None:
    pair.deliver("a/inbox", "draft", flags="D")
    pair.sync()
    pair.delete("a/inbox", "draft")
    (pair.home / "a/inbox/cur/1800000000.draft:2,D").write_bytes(message("draft", b"more\n"))


def marked_and_deleted(pair: Pair) -> None:
    pair.deliver("a/inbox", "marked", flags="T")
    pair.flag("b/inbox", 1, "ST")
    pair.delete("a/inbox", 2)
    pair.flag("b/inbox", 2, "FS")  # kept since


def too_many_deletions(pair: Pair) -> None:
    with_setting(pair, "max_delete 2")
    pair.delete("a/inbox", 1, 2, 3)
    pair.move("b/works", 5, "b/inbox")
    pair.deliver("b/inbox", "new")


def too_big_and_too_old(pair: Pair) -> None:
    with_setting(pair, "sizelimit 500 maxage 30")
    pair.deliver("a/inbox", "old", "move me")
    pair.deliver("a/works", "big", text=b"x" * 600)
    pair.move("b/inbox", 2, "b/works")
    (pair.home / "a/works/cur/1900000000.young:2,").write_bytes(message("young"))


def only_marked(pair: Pair) -> None:
    with_setting(pair, "delete mark", "store b")
    news_of_all_kinds(pair)


def into_the_trash(pair: Pair) -> None:
    with_setting(pair, "delete trash:b/Trash", "store b")
    news_of_all_kinds(pair)


def readonly(pair: Pair) -> None:
    with_setting(pair, "readonly yes", "store b")
    news_of_all_kinds(pair)


def one_way(pair: Pair) -> None:
    with_setting(pair, "direction a-to-b")
    news_of_all_kinds(pair)


def mapped_and_excluded(pair: Pair) -> None:
    with_setting(pair, "map works Werke exclude in%")
    news_of_all_kinds(pair)
    (pair.home / "b/works").rename(pair.home / "b/Werke")


def odd_names(pair: Pair) -> None:
    pair.deliver("a/\udce4\udcff x", "1")
    pair.deliver("a/Entwürfe", "<\\\"'")
    (pair.home / "a/inbox/cur/1700000000.\udce4:2,").write_bytes(b"Subject: \xe4\xff\nMessage-ID: <\xe4\xff@x>\n\nhi\n")


def unreadable(pair: Pair) -> None:
    pair.deliver("a/inbox", "new")
    pair.delete("b/inbox", 1)
    pair.find("b/inbox", 2).chmod(0)


def failing(pair: Pair) -> None:
    """One message failed in the last run, and waits."""
    pair.deliver("a/inbox", "fails", "new")
    ledger = Ledger(ledger_file("ab", str(pair.home / ".msinfo")))
    uid = pair.find("a/inbox", "fails").name.partition(":")[0]
    ledger.failed(Case(Boxname("inbox"), "copy", Side.B, Uid(uid), MessageId("<fails@x>")), time.time(), "no")
    assert ledger.save() is None


MINE: list[tuple[Callable[[Pair], None], str]] = [
    (nothing_new, "ab"),
    *((news_of_all_kinds, f"{options}ab") for options in ("", "-n ", "-D ", "-cd ", "--push ", "--pull ", "-t msgid ")),
    (news_of_all_kinds, "ab:inbox"),
    (news_of_all_kinds, "ab:l*"),
    (message_moved_on_each_side, "ab"),
    (message_moved_on_each_side, "-n ab"),
    (message_copied_to_another_box, "ab"),
    (box_renamed, "ab"),
    (box_renamed, "-n ab"),
    (boxes_renamed_one_below_the_other, "ab"),
    (box_gone, "ab"),
    (box_gone, "-D ab"),
    (box_emptied, "-D ab"),
    (duplicates, "ab"),
    (duplicates, "-n ab"),
    (draft_saved_again, "ab"),
    (marked_and_deleted, "ab"),
    (marked_and_deleted, "-cd ab"),
    (too_many_deletions, "ab"),
    (too_many_deletions, "--allow-mass-delete 3 ab"),
    (too_big_and_too_old, "ab"),
    (only_marked, "ab"),
    (into_the_trash, "ab"),
    (readonly, "ab"),
    (one_way, "ab"),
    (mapped_and_excluded, "ab"),
    (odd_names, "ab"),
    (failing, "ab"),
    (failing, "--retry ab"),
]


def name(value: object) -> str:
    return str(getattr(value, "__name__", value))


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("scenario", "line"), MINE, ids=name)
def test_plan_is_what_is_told_and_done(pair: Pair, scenario: Callable[[Pair], None], line: str, check: str) -> None:
    scenario(pair)

    CHECKS[check](*line.split())


@pytest.mark.parametrize("check", CHECKS)
def test_plan_is_what_is_told_and_done_where_something_cannot_be_read(pair: Pair, ordinary: None, check: str) -> None:
    unreadable(pair)

    if check == "events":
        simulated, planned = run("--json", "-s", "ab"), run("--json", "--plan", "plan", "ab")
        applied = run("--json", "--apply", "plan")
        assert [1, 1, 1] == [simulated.code, planned.code, applied.code]
        assert written(Path("plan")) == events(simulated) == events(applied)
    else:
        CHECKS[check]("ab")


def golden() -> list[tuple[test_golden.Scenario, str]]:
    """All that is synchronized there, each once."""
    found: dict[tuple[test_golden.Scenario, str], None] = {}
    every = [*test_golden.SAME, *((other.scenario, other.line) for other in test_golden.OTHER)]
    for prepare, line in every:
        words = [word for word in line.split() if word not in ("-s", "-m", "-M")]
        if words[-1] in ("ab", "both") and not {"a", "b"} & set(words):
            found[prepare, " ".join(words)] = None
    return list(found)


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(("scenario", "line"), golden(), ids=name)
def test_plan_is_what_is_told_and_done_beside_the_original(
    home: Path, original: str, scenario: test_golden.Scenario, line: str, check: str
) -> None:
    configure(home, old.CONFIG)
    scenario(Home(home, original))

    CHECKS[check](*line.split())


@pytest.mark.parametrize("places", [("mbox", "maildir"), ("mh", "maildir"), ("maildir", "dovecot")], ids=" ".join)
def test_plan_is_what_is_told_and_done_between(home: Path, places: tuple[str, str]) -> None:
    where: dict[str, Place] = {
        side: on_server(kind) if kind == "dovecot" else on_machine(kind, side)
        for side, kind in zip("ab", places, strict=True)
    }
    stores = scenario.channels(home, where, ["ab"])
    for side in Side:
        with stores.opened(side.value) as store:
            scenario.fill(store, dict(test_imap_scenario.mails_of(side, where)))
    check_events("ab")

    for side in Side:
        with stores.opened(side.value) as store:
            scenario.change(store, test_imap_scenario.WORK, test_imap_scenario.deeds_of(side))
            scenario.fill(store, {test_imap_scenario.FLAGS: [Mail(message(f"{side.value}-late"), frozenset({SEEN}))]})
    check_events("ab")


# ---- the same steps: the laws ----------------------------------------------------------------------------------------


@dataclass
class PlannedWorld(World):
    """Every run is planned first, written, read, and done only if it is still that."""

    def sync(self, options: Options | None = None, switch: Switch | None = None, cached: bool = True) -> Silent:
        options = options or Options()
        if options.simulate:
            return super().sync(options, switch, cached)
        cache = self.cache if cached else None
        simulated, done = Silent(), Silent()
        files: list[str] = []
        ab = ChannelConfig("ab", "a", "b", "msinfo")

        def keep(plan: Plan, stores: review.Stores, msinfo: str, heads: review.HeadsOf) -> None:
            files.append(planfile.text(planfile.described(plan, ab, stores, Asked(), msinfo, heads)))

        planning = self.channel(simulated, replace(options, simulate=True), Switch(), cache)
        planning.review = keep
        planning.sync()
        then = planfile.read(files[0].encode(), "plan")
        channel = self.channel(done, options, switch or Switch(), cache)
        channel.review = review.Compare("plan", then, ab)
        channel.sync()

        assert Counter(told(simulated.steps)) == Counter(told(done.steps))
        kinds = Counter(step["step"] for step in then.values["steps"])
        assert kinds == Counter(map(_kind, done.steps))
        return done


def _kind(step: object) -> str:
    match step:
        case Copy(near=Near(goes=True)):
            return "move"
        case Copy():
            return "copy"
        case SetFlags():
            return "flags"
        case Delete():
            return "delete"
    return str(getattr(step, "what", "remove"))


class PlannedLaws(Laws):
    def make(self, holds: Holds) -> World:
        world = super().make(holds)
        return PlannedWorld(world.drivers, cache=world.cache)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=name)
def test_laws_hold_for_planned_runs_at_every_kill_point(scenario: Scenario) -> None:
    check_kill_points(scenario, False, PlannedLaws)


TestPlannedLaws = PlannedLaws.TestCase
TestPlannedLaws.settings = settings(max_examples=25, stateful_step_count=20, deadline=None)


# ---- what has changed meanwhile: nothing is done ---------------------------------------------------------------------


def state(home: Path) -> dict[str, str]:
    """All mail and msinfo, to the byte and with its name."""
    files = [path for top in ("a", "b", ".msinfo") for path in [home / top, *(home / top).rglob("*")]]
    readable = {path for path in files if path.is_file() and os.access(path, os.R_OK, effective_ids=True)}
    return {str(path): sha256(path.read_bytes()).hexdigest() if path in readable else "" for path in files}


def msinfo_saved_by_another_run(pair: Pair) -> None:
    for side in "ab":
        pair.deliver(f"{side}/quiet", "quiet")
    assert 0 == run("-q", "ab:quiet").code


def uid_changed(pair: Pair) -> None:
    found = pair.find("a/inbox", "new-a")
    found.rename(found.with_name("2000000000.other:2,"))


CHANGES: list[tuple[Callable[[Pair], object], str]] = [
    (lambda pair: pair.deliver("a/inbox", "more"), "inbox: copy <more@x> to b is new"),
    (lambda pair: pair.deliver("b/inbox", "more"), "inbox: copy <more@x> to a is new"),
    (lambda pair: pair.flag("b/inbox", 3, "FST"), "inbox: flags <3@x> in a is new"),
    (lambda pair: pair.flag("a/inbox", "new-a", "R"), 'inbox: copy <new-a@x> to b has flags ["\\\\Answered"], had []'),
    (lambda pair: pair.delete("b/inbox", 4), "inbox: delete <4@x> in a is new"),
    (lambda pair: pair.delete("a/inbox", 2), "inbox: delete <2@x> in a is no longer planned"),
    (lambda pair: pair.move("b/inbox", 3, "b/works"), "works: move <3@x> to a is new"),
    (lambda pair: pair.deliver("a/empty"), "empty: create in b is new"),
    (lambda pair: rmtree(pair.home / "b/lists"), "lists/deep: create in a is no longer planned"),
    (uid_changed, "inbox: copy <new-a@x> to b has uid 2000000000.other, had 1700000000.new-a.a-inbox"),
    (lambda pair: (pair.home / "b/works").rename(pair.home / "b/done"), "done: rename in a is new"),
    (msinfo_saved_by_another_run, "msinfo is not as it was: a run has saved it since"),
    (lambda pair: (pair.home / ".msinfo").unlink(), "inbox: delete <2@x> in a is no longer planned"),
    (Pair.sync, "inbox: copy <new-b@x> to a is no longer planned"),
    (lambda pair: with_setting(pair, "sizelimit 1"), "setting sizelimit was null, is 1"),
    (lambda pair: with_setting(pair, "max_delete 0"), "inbox: delete <1@x> in b is held now: max_delete"),
    (lambda pair: with_setting(pair, "maxage 900"), "setting maxage was null, is 900"),
    (lambda pair: with_setting(pair, "keep_deleted 0"), "setting keep_deleted was null, is 0"),
    (lambda pair: with_setting(pair, "direction b-to-a"), 'setting direction was ["a", "b"], is ["a"]'),
    (
        lambda pair: with_setting(pair, "delete trash:b/Trash", "store b"),
        "store b: delete was expunge, is trash:b/Trash",
    ),
    (lambda pair: with_setting(pair, "delete mark", "store b"), "inbox: delete <1@x> in b has marks true, had null"),
    (lambda pair: pair.find("b/inbox", 3).chmod(0), "inbox: copy <new-a@x> to b is held now"),
]


@pytest.mark.parametrize("args", [[], ["-s"], ["--json"]], ids=" ".join)
@pytest.mark.parametrize(("change", "told"), CHANGES, ids=[told for _, told in CHANGES])
def test_nothing_at_all_is_done_when_the_plan_is_another(
    pair: Pair, ordinary: None, change: Callable[[Pair], object], told: str, args: list[str]
) -> None:
    news_of_all_kinds(pair)
    assert 0 == run("-q", "--plan", "plan", "ab").code
    change(pair)
    before = state(pair.home)

    ran = run(*args, "--apply", "plan")

    assert (1, before) == (ran.code, state(pair.home))
    said = "".join(f"{e['text']}\n{e['hint']}" for e in ran.events if "text" in e) if "--json" in args else ran.err
    assert "the plan in plan is not what a run would do now; nothing was done:\n" in said
    assert told in said
    assert "Make a new one with --plan." in said


def test_five_of_many_differences_are_told(pair: Pair) -> None:
    run("--plan", "plan", "ab")
    pair.deliver("a/inbox", *"abcdefgh")

    assert [
        "mailsync: the plan in plan is not what a run would do now; nothing was done:",
        *(f"  inbox: copy <{name}@x> to b is new" for name in "abcde"),
        "  and 3 more",
        "  Make a new one with --plan.",
    ] == run("--apply", "plan").err.splitlines()


def test_what_differs_cannot_pass_for_another_line(pair: Pair) -> None:
    run("--plan", "plan", "ab")
    pair.deliver("a/x\n  \x1b[2J y", "1")

    assert "  x\\x0a  \\x1b[2J y: create in b is new\n" in run("--apply", "plan").err


def test_what_concerns_readers_only_is_no_difference(pair: Pair) -> None:
    """Messages that need nothing, strays, and what another program does to the file."""
    news_of_all_kinds(pair)
    run("-m", "--plan", "plan", "ab")
    pair.deliver("a/inbox", "both")
    pair.deliver("b/inbox", "both")
    (pair.home / "a/stray").write_text("no mail")
    values = json.loads(Path("plan").read_bytes())
    assert values["steps"][0]["subject"]
    for step in values["steps"]:
        step.pop("subject", None)
    Path("plan").write_text(json.dumps(values, indent=4, sort_keys=True, ensure_ascii=False), encoding="utf-8")

    assert 0 == run("--apply", "plan").code
    assert [] == run("--json", "ab").steps


# ---- options and settings --------------------------------------------------------------------------------------------


def test_plan_is_carried_out_with_its_own_options(pair: Pair) -> None:
    pair.delete("a/inbox", 1, 2)
    pair.deliver("a/works", "not wanted")
    run("--plan", "plan", "-n", "ab:inbox")

    ran = run("--json", "--apply", "plan")

    assert (0, []) == (ran.code, ran.steps)
    assert [("inbox", "-n")] * 2 == [(event["box"], event["why"]) for event in ran.events if event["event"] == "held"]


@pytest.mark.parametrize("args", [["-n"], ["ab"], ["-m", "-q", "ab"], ["-t", "msgid"]], ids=" ".join)
def test_options_that_the_plan_has_may_be_said_again(pair: Pair, args: list[str]) -> None:
    run("--plan", "plan", "-n", "ab")

    assert 0 == run("--apply", "plan", *args).code


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["-D"], "the plan in plan was not made with this --delete-empty"),
        (["--allow-mass-delete", "3"], "the plan in plan was not made with this --allow-mass-delete"),
        (["--push"], "the plan in plan was not made with this --push"),
        (["-t", "md5"], "the plan in plan was not made with this --id-type"),
        (["ac"], "the plan in plan is of ab, not of ac"),
        (["ab:inbox"], "the plan in plan is of ab, not of ab:inbox"),
        (["ab", "ac"], "the plan in plan is of ab, not of ab ac"),
        (["a"], "the plan in plan is of ab, not of a"),
        (["--all"], "the plan in plan is of ab, not of ab ac"),
        (["nosuch"], "no channel, group or store is named nosuch"),
        (["--plan", "x"], "argument --plan: not allowed with argument --apply"),
        (["--undo"], "argument --undo: not allowed with argument --apply"),
    ],
)
def test_2_when_the_command_line_wants_another_plan(pair: Pair, args: list[str], told: str) -> None:
    configure(pair.home, CONFIG + "channel ac a b { msinfo .msinfo-ac }\n")
    pair.deliver("a/inbox", "new")
    run("--plan", "plan", "-n", "ab")
    before = state(pair.home)

    ran = run("--apply", "plan", *args)

    assert (2, before) == (ran.code, state(pair.home))
    assert told in ran.err


@pytest.mark.parametrize("names", [["ab", "ac"], ["a"], ["ab", "a"], ["all"], []], ids=" ".join)
def test_2_when_a_plan_is_to_be_of_something_else_than_one_channel(pair: Pair, names: list[str]) -> None:
    configure(pair.home, CONFIG + "channel ac a b { msinfo .msinfo-ac }\ngroup all { ab ac }\n")

    ran = run("--plan", "plan", *names)

    assert (2, False) == (ran.code, Path("plan").exists())


def test_plan_of_a_channel_that_is_no_more_is_refused(pair: Pair) -> None:
    run("--plan", "plan", "ab")
    configure(pair.home, CONFIG.replace("channel ab", "channel ba"))

    ran = run("--apply", "plan")

    assert 2 == ran.code
    assert f"the plan in plan is of channel ab, which {pair.home}/.mailsync does not define" in ran.err


def test_message_is_as_young_as_it_was_when_the_plan_was_made(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    with_setting(pair, "maxage 30")
    pair.deliver("a/inbox", "young")
    day = 1_700_000_000 + 29 * 86400
    monkeypatch.setattr(time, "time", lambda: float(day))
    run("--plan", "plan", "ab")
    monkeypatch.setattr(time, "time", lambda: float(day + 5 * 86400))

    ran = run("--json", "--apply", "plan")

    assert ["copy"] == [event["event"] for event in ran.steps]


def test_message_whose_time_to_be_tried_has_come_is_another_plan(pair: Pair) -> None:
    failing(pair)
    run("--plan", "plan", "ab")
    path = ledger_file("ab", str(pair.home / ".msinfo"))
    path.write_text(re.sub(r'"next": \d+', '"next": 1', path.read_text()))

    assert "inbox: copy <fails@x> to b is held no longer\n" in run("--apply", "plan").err


def test_guard_does_not_ask_when_a_plan_is_carried_out(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    from mailsync.report.jsonlines import JsonLines

    too_many_deletions(pair)
    run("--plan", "plan", "ab")
    monkeypatch.setattr(JsonLines, "may_delete", lambda self, deletion: True)

    ran = run("--json", "--apply", "plan")

    assert (4, 3) == (ran.code, ran.events[-1]["held"])
    assert ["moved to another mailbox"] == [event["why"] for event in ran.steps if event["event"] == "delete"]


def test_hooks_run_around_a_plan_as_around_any_run(pair: Pair) -> None:
    with_setting(pair, 'pre_sync "echo pre >> hooks" post_sync "echo post $MAILSYNC_EXIT >> hooks"')
    run("--plan", "plan", "ab")
    assert not Path("hooks").exists()

    run("-s", "--apply", "plan")
    assert not Path("hooks").exists()
    run("--apply", "plan")
    assert "pre\npost 0\n" == Path("hooks").read_text()
    pair.deliver("a/inbox", "new")
    run("--apply", "plan")
    assert "pre\npost 0\npre\npost 1\n" == Path("hooks").read_text()


def test_mail_that_pre_sync_brings_is_another_plan(pair: Pair) -> None:
    with_setting(pair, 'pre_sync "cp incoming a/inbox/new/1.new"')
    Path("incoming").write_bytes(message("new"))
    run("--plan", "plan", "ab")

    assert "inbox: copy <new@x> to b is new\n" in run("--apply", "plan").err


def test_5_when_the_channel_is_locked_and_only_then(pair: Pair) -> None:
    run("--plan", "plan", "ab")
    with run_lock("ab", str(pair.home / ".msinfo")):
        assert [0, 0, 5] == [
            ran.code for ran in (run("--plan", "plan", "ab"), run("-s", "--apply", "plan"), run("--apply", "plan"))
        ]


# ---- the file: written -----------------------------------------------------------------------------------------------


def everything(home: Path) -> dict[str, tuple[int, int, int]]:
    found = {}
    for path in home.rglob("*"):
        about = path.lstat()
        found[str(path)] = (about.st_ino, about.st_mtime_ns, about.st_mode)
    return found


def test_nothing_but_the_file_is_written(pair: Pair, tmp_path: Path) -> None:
    news_of_all_kinds(pair)
    forget_cache(pair.home)
    before = everything(pair.home)

    run("--plan", str(tmp_path / "plan"), "ab")
    run("-s", "--apply", str(tmp_path / "plan"))

    assert before == everything(pair.home)
    assert 0o600 == stat.S_IMODE((tmp_path / "plan").stat().st_mode)


def test_same_plan_gives_the_same_file(pair: Pair) -> None:
    news_of_all_kinds(pair)
    run("--plan", "one", "ab")
    run("--plan", "two", "ab")

    assert Path("one").read_bytes() == Path("two").read_bytes()


def test_senders_and_subjects_are_in_it_if_they_are_wanted(pair: Pair) -> None:
    pair.deliver("a/inbox", "new")
    run("-m", "--plan", "with", "ab")
    run("--plan", "without", "ab")

    [step] = json.loads(Path("with").read_bytes())["steps"]
    assert ("a@x", "mail new", 1_700_000_000) == (step.pop("from"), step.pop("subject"), step.pop("date"))
    assert [step] == json.loads(Path("without").read_bytes())["steps"]
    assert 0 == run("--apply", "with").code


def test_secrets_are_not_in_it(home: Path) -> None:
    where = {"a": on_machine("maildir", "a"), "b": on_server("dovecot")}
    scenario.channels(home, where, ["ab"])
    [password] = re.findall(r"passwd (\S+)", where["b"].config)
    assert 0 == run("--plan", "plan", "ab").code

    assert password not in Path("plan").read_text()


def test_plan_alone_goes_to_stdout(pair: Pair) -> None:
    news_of_all_kinds(pair)
    run("-m", "--plan", "plan", "ab")

    ran = run("-m", "--plan", "-", "ab")

    assert (0, Path("plan").read_text(), "") == (ran.code, ran.out, ran.err)
    assert not Path("-").exists()


def test_plan_goes_through_a_pipe(pair: Pair) -> None:
    pair.deliver("a/inbox", "new")
    program = f"{sys.executable} -m mailsync"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}

    command = f"{program} --plan - ab | {program} --json --apply -"
    done = subprocess.run(command, shell=True, env=environ, capture_output=True, text=True, timeout=60, check=True)
    assert ("", '"event": "copy"') == (done.stderr, done.stdout.splitlines()[1][1:16])

    os.mkfifo("pipe")
    reader = subprocess.Popen(["cat", "pipe"], stdout=subprocess.PIPE)
    assert 0 == run("--plan", "pipe", "ab").code
    assert json.loads(reader.communicate(timeout=60)[0])["channel"] == "ab"
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)


def test_2_when_plan_and_json_both_want_stdout(pair: Pair) -> None:
    ran = run("--json", "--plan", "-", "ab")

    assert (2, "--plan - and --json cannot both have stdout") == (ran.code, ran.events[0]["text"])


def test_1_when_stdout_is_full(pair: Pair) -> None:
    ran = run_apart(pair.home, "--plan", "/dev/full", "ab")
    full = f"{sys.executable} -m mailsync --plan - ab > /dev/full"
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(full, shell=True, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert (1, 1) == (ran.code, done.returncode)
    assert "the plan cannot be written to /dev/full: disk full" in ran.err
    assert "the plan cannot be written to stdout: disk full" in done.stderr


def test_link_leads_to_the_file_that_is_written(pair: Pair) -> None:
    Path("there").mkdir()
    Path("link").symlink_to("there/plan")

    run("--plan", "link", "ab")
    run("--plan", "link", "ab")

    assert Path("link").is_symlink()
    assert ["plan"] == os.listdir("there")


@pytest.mark.parametrize("file", ["mbox", ".msinfo", ".mailsync", "a/inbox/cur/mail"])
def test_what_is_no_plan_is_never_replaced(pair: Pair, file: str) -> None:
    """A slip of the pen must not cost a mailbox."""
    for path in (Path("mbox"), Path("a/inbox/cur/mail")):
        path.write_bytes(b"From a@x Mon Jan  1 00:00:00 2024\n" + message("only here"))
    before = Path(file).read_bytes()

    ran = run("--plan", file, "ab")

    assert (2, before) == (ran.code, Path(file).read_bytes())
    assert f"{file} is there already, and is no plan" in ran.err


def test_empty_file_and_older_plan_are_replaced(pair: Pair) -> None:
    Path("plan").touch()
    run("--plan", "plan", "ab")
    pair.deliver("a/inbox", "new")
    run("--plan", "plan", "ab")

    assert 1 == len(json.loads(Path("plan").read_bytes())["steps"])


@pytest.mark.parametrize(("file", "why"), [("a", "Is a directory"), ("no/such", "No such file"), ("kept/x", "denied")])
def test_1_when_it_cannot_be_written(pair: Pair, ordinary: None, file: str, why: str) -> None:
    Path("kept").mkdir(mode=0o500)
    pair.deliver("a/inbox", "new")

    ran = run("--plan", file, "ab")

    assert 1 == ran.code
    assert why in ran.err
    assert 1 == run("-q", "--json", "ab").out.count('"copy"')


def test_old_plan_stays_when_there_is_no_new_one(pair: Pair) -> None:
    run("--plan", "plan", "ab")
    before = Path("plan").read_bytes()
    Path("a").rename("away")

    assert (6, before) == (run("--plan", "plan", "ab").code, Path("plan").read_bytes())


@pytest.mark.parametrize("how", ["write", "rename"])
def test_kill_leaves_the_old_plan(pair: Pair, how: str) -> None:
    run("--plan", "plan", "ab")
    before = Path("plan").read_bytes()
    pair.deliver("a/inbox", *range(100, 200))
    program = f"""
import os, signal, sys
from mailsync import cli
from mailsync.drivers import files
def killed(fd, data):
    os.write(fd, bytes(data)[:1000])
    os.kill(os.getpid(), signal.SIGKILL)
if {how!r} == "write":
    files.write_all = killed
else:
    os.rename = lambda old, new: os.kill(os.getpid(), signal.SIGKILL)
cli.main(["--plan", "plan", "ab"])
"""
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environ, timeout=60, check=False)

    assert (-signal.SIGKILL, before) == (done.returncode, Path("plan").read_bytes())
    run("--plan", "plan", "ab")
    assert 100 == len(json.loads(Path("plan").read_bytes())["steps"])


def test_plan_too_large_to_be_read_is_not_written(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "LARGEST", 100)

    ran = run("--plan", "plan", "ab")

    assert (1, False) == (ran.code, Path("plan").exists())
    assert "the plan is too large to be kept" in ran.err


# ---- the file: read --------------------------------------------------------------------------------------------------


def edited(change: Callable[[dict[str, Any]], object]) -> Callable[[str], str]:
    def edit(text: str) -> str:
        values = json.loads(text)
        change(values)
        return json.dumps(values)

    return edit


WRONG: Mapping[str, tuple[Callable[[str], str], str]] = {
    "empty": (lambda text: "", "plan is no plan, for it is no JSON: Expecting value"),
    "cut off": (lambda text: text[:-20], "plan is no plan, for it is no JSON"),
    "deep": (lambda text: "[" * 10**5, "plan is no plan, for it is no JSON"),
    "large": (lambda text: "[" * 10**6, "plan is no plan, for it does not begin as one"),
    "huge number": (lambda text: "1" * 10**5, "plan is no plan, for it is no JSON"),
    "number": (lambda text: "1", "plan is no plan that --plan has written"),
    "list": (lambda text: "[]", "plan is no plan that --plan has written"),
    "other JSON": (lambda text: '{"event": "begin"}', "plan is no plan that --plan has written"),
    "newer": (edited(lambda v: v.update({"mailsync-plan": 2})), "plan was written by another version of mailsync"),
    "text for a version": (edited(lambda v: v.update({"mailsync-plan": "1"})), "written by another version"),
    "step left out": (edited(lambda v: v["steps"].pop()), "was changed after mailsync had written it"),
    "other option": (edited(lambda v: v["options"].update(no_delete=True)), "was changed after mailsync"),
    "by hand": (lambda text: '{"mailsync-plan": 1, "channel": "ab", "steps": []}', "something in it is missing or odd"),
    **{
        f"without {name}": (edited(lambda v, name=name: v.pop(name)), "something in it is missing or odd")  # type: ignore[misc]
        for name in ("channel", "stores", "options", "settings", "msinfo", "boxes", "steps", "held", "failed", "check")
    },
    **{
        f"odd {name}": (edited(lambda v, name=name: v.update({name: [7]})), "something in it is missing or odd")  # type: ignore[misc]
        for name in ("channel", "stores", "options", "boxes", "steps", "held", "failed")
    },
}


@pytest.mark.parametrize(("edit", "told"), WRONG.values(), ids=WRONG)
def test_2_when_the_file_is_no_plan_that_we_wrote(pair: Pair, edit: Callable[[str], str], told: str) -> None:
    pair.deliver("a/inbox", "new")
    run("--plan", "plan", "ab")
    Path("plan").write_text(edit(Path("plan").read_text()))
    before = state(pair.home)

    ran = run("--apply", "plan")

    assert (2, "", before) == (ran.code, ran.out, state(pair.home))
    assert told in ran.err
    assert "Make a new one with --plan." in ran.err


OPTIONS: list[dict[str, object]] = [
    {"no_delete": 1},
    {"retry": None},
    {"allow_mass_delete": "7"},
    {"allow_mass_delete": True},
    {"oldest": 1.5},
    {"only": "inbox"},
    {"only": [7]},
    {"id_type": "sha1"},
    {"push": "yes"},
]


@pytest.mark.parametrize("odd", OPTIONS, ids=str)
def test_options_must_be_what_they_are_though_the_sum_is_right(odd: Mapping[str, object]) -> None:
    values = describe(Plan((), {}, {}))
    values["options"] |= odd

    if odd == {"only": "inbox"}:  # patterns of one letter each
        assert tuple("inbox") == planfile.read(planfile.text(values).encode(), "plan").asked.only
        return
    with pytest.raises(UsageError, match="missing or odd"):
        planfile.read(planfile.text(values).encode(), "plan")


@pytest.mark.parametrize(("file", "why"), [("nosuch", "No such file or directory"), ("a", "Is a directory")])
def test_2_when_there_is_no_file(pair: Pair, file: str, why: str) -> None:
    ran = run("--apply", file)

    assert (2, f"mailsync: {file} cannot be read: {why}\n  Make a new one with --plan.\n") == (ran.code, ran.err)


def test_2_when_the_file_has_no_end(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review, "LARGEST", 10**6)
    (pair.home / "large").write_text('{"mailsync-plan":' + " " * 10**6)

    assert "/dev/zero is no plan, for it does not begin as one" in run("--apply", "/dev/zero").err
    ran = run("--apply", "large")

    assert (2, True) == (ran.code, "large is no plan: it has more than 1000000 bytes" in ran.err)


# ---- any plan --------------------------------------------------------------------------------------------------------

ODD = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "Cc")), max_size=8) | st.binary(max_size=8).map(
    lambda raw: raw.decode("utf-8", "surrogateescape")
)
ENTRIES = st.builds(
    Entry, ODD.map(Uid), st.binary(max_size=8).map(lambda raw: MessageId(raw.decode("latin-1"))), st.just(NONE)
)
FLAGS = st.frozensets(ODD | st.sampled_from([SEEN, FLAGGED]), max_size=3)
SIDES = st.sampled_from(Side)
STEPS: st.SearchStrategy[Step] = st.one_of(
    st.builds(
        Copy,
        SIDES,
        ENTRIES,
        FLAGS,
        st.none() | st.builds(Near, ODD.map(Boxname), ENTRIES, st.booleans()),
        st.booleans(),
    ),
    st.builds(SetFlags, SIDES, ENTRIES, FLAGS, FLAGS),
    st.builds(Delete, SIDES, ENTRIES, st.sampled_from(Why), st.none() | ODD.map(Uid), st.booleans()),
)
BOXES = st.builds(
    lambda name, steps, held, create, remove: BoxPlan(
        Boxname(f"x{name}".replace("/", "")),
        (Change(Key("k"), (), tuple(steps), tuple(Held(step, why) for step, why in held)),),
        0,
        dict.fromkeys(Side, Holds()),
        dict.fromkeys(Side, SidePolicy()),
        {},
        dict.fromkeys(Side, 0),
        create=tuple(create),
        remove=tuple(remove),
    ),
    ODD,
    st.lists(STEPS, max_size=4),
    st.lists(st.tuples(STEPS, ODD), max_size=2),
    st.lists(SIDES, max_size=2, unique=True),
    st.lists(SIDES, max_size=2, unique=True),
)
NAMES = ODD.map(Boxname)
PLANS = st.builds(
    Plan,
    st.lists(BOXES, max_size=3).map(tuple),
    st.dictionaries(NAMES, st.builds(Failure, ODD, ODD), max_size=2),
    st.dictionaries(NAMES, ODD, max_size=2),
    st.lists(st.builds(Rename, SIDES, NAMES, NAMES), max_size=2).map(tuple),
)
ASKED = st.builds(
    Asked, st.lists(ODD, max_size=2).map(tuple), *[st.booleans()] * 6, st.none() | st.integers(0), st.just("md5"),
    st.none() | st.integers(),
)  # fmt: skip
AB = ChannelConfig("ab", "a", "b", "msinfo")
NOTHING_ASKED = Asked()


def describe(plan: Plan, asked: Asked = NOTHING_ASKED) -> dict[str, Any]:
    stores = {side: over(StoreConfig(side.value), World().drivers[side], ["*"]) for side in Side}
    return planfile.described(plan, AB, stores, asked, "digest")


@given(PLANS, ASKED)
def test_any_plan_comes_back_from_its_file_as_it_was(plan: Plan, asked: Asked) -> None:
    described = describe(plan, asked)
    text = planfile.text(described)

    back = planfile.read(text.encode("ascii"), "plan")

    assert Written("ab", asked, {**described, "check": back.values["check"]}) == back
    assert [] == planfile.differences(back.values, described)
    assert planfile.begins(text.encode()[:20])


@given(PLANS, PLANS)
def test_two_plans_differ_exactly_if_what_they_do_does(one: Plan, other: Plan) -> None:
    then, now = describe(one), describe(other)
    both = [{name: Counter(map(str, values[name])) for name in ("steps", "held")} for values in (then, now)]
    same = both[0] == both[1] and set(one.failed) == set(other.failed)

    assert same == (not planfile.differences(then, now))
    assert same == (not planfile.differences(now, then))


@pytest.mark.parametrize("data", [b"\xff\xfe{\x00", b"\x80", b'{"mailsync-plan": \xff}'])
def test_bytes_that_are_no_text_are_no_plan(data: bytes) -> None:
    with pytest.raises(UsageError, match="it is no JSON"):
        planfile.read(data, "plan")
