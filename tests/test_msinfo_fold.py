"""msinfo in a mailbox that others use, too: other runs, other mail, a line that breaks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from mailsync.drivers.memory import Memory, MemoryBox
from mailsync.errors import Lost, MsinfoError
from mailsync.identity import key
from mailsync.model import NONE, SEEN, Appended, Boxname, Failure, Key, Line, Mailbox, Message, MessageId, Side, Uid
from mailsync.msinfo import text
from mailsync.msinfo.mailbox import TRIES, Msinfo, fold
from mailsync.planner import Options

from .world import Mail, Silent, Switch, World

INBOX, WORK = Boxname("inbox"), Boxname("work")
HERE = Mailbox("INBOX")


@dataclass
class Busy(MemoryBox):
    """A mailbox that counts what is done to it, and in which something may happen whenever a message comes."""

    fetched: list[Uid] = field(default_factory=list)
    appended: int = 0
    tells_uids: bool = True
    before: list[Callable[[], object]] = field(default_factory=list)  # one for each append
    after: list[Callable[[], object]] = field(default_factory=list)

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        self.fetched += uids
        return super().fetch(uids)

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        for message in messages:
            self.appended += 1
            if self.before:
                self.before.pop(0)()
            answers = list(super().append([message]))
            if self.after:
                self.after.pop(0)()
            yield from (replace(a, uid=None) if isinstance(a, Appended) and not self.tells_uids else a for a in answers)


@pytest.fixture
def box() -> Busy:
    return Busy()


def msinfo(box: Busy) -> Msinfo:
    return Msinfo(Memory({HERE: box}), HERE, "ab", "msgid")


def memory(*ids: str, **more: tuple[str, ...]) -> text.Memory:
    """Of box inbox, and of others."""
    return {Boxname(name): dict(map(line, found)) for name, found in {"inbox": ids, **more}.items()}


def line(id: str) -> tuple[Key, tuple[Line, ...]]:
    made = MessageId(f"<{id}>")
    return key(made), (Line(made, NONE),)


def keys(*ids: str) -> set[Key]:
    return {line(id)[0] for id in ids}


def saved(box: Busy) -> text.Memory:
    """What a run that begins now would load."""
    return msinfo(box).load()


def another_run(box: Busy, then: float, remembered: text.Memory) -> None:
    """It saves, whatever was there."""
    other = msinfo(box)
    other.load()
    other.save(remembered, then, {})


# ---- fold ------------------------------------------------------------------------------------------------------------


def test_what_we_changed_is_put_into_what_they_remember() -> None:
    ours = memory("1", "new", work=("w",))
    theirs = memory("1", "2", "gone", work=("w", "x"), other=("o",))

    folded = fold(ours, {INBOX: keys("new", "gone")}, theirs)

    assert memory("1", "2", "new", work=("w", "x"), other=("o",)) == folded


def test_line_that_both_changed_is_ours() -> None:
    id = MessageId("<1>")
    ours: text.Memory = {INBOX: {key(id): (Line(id, frozenset({SEEN})),)}}

    assert ours == fold(ours, {INBOX: keys("1")}, memory("1"))


def test_box_that_we_made_or_forgot_is_made_or_forgotten() -> None:
    folded = fold({INBOX: {}, WORK: {}}, {WORK: set(), Boxname("old"): keys("o")}, memory("1", old=("o", "p")))

    assert memory("1", work=()) == folded


# ---- save ------------------------------------------------------------------------------------------------------------


def test_memory_that_nobody_else_saved_is_not_read_again(box: Busy) -> None:
    ours = msinfo(box)
    ours.save(memory("1"), 1, {INBOX: keys("1")})
    ours.save(memory("1", "2"), 2, {INBOX: keys("1", "2")})

    assert [] == box.fetched
    assert not ours.folded
    assert memory("1", "2") == saved(box)
    assert 1 == len(box.kept)


def test_memory_saved_by_another_run_meanwhile_is_kept(box: Busy) -> None:
    another_run(box, 1, memory("1", "2"))
    ours = msinfo(box)
    loaded = ours.load()
    another_run(box, 2, memory("1", "2", "theirs"))
    loaded[INBOX] = memory("1", "ours")[INBOX]

    result = ours.save(loaded, 3, {INBOX: keys("2", "ours")})

    assert memory("1", "ours", "theirs") == result == saved(box)
    assert ours.folded
    assert 1 == len(box.kept)


def test_what_was_folded_stays_at_the_next_save(box: Busy) -> None:
    ours = msinfo(box)
    another_run(box, 1, memory("theirs"))
    result = ours.save(memory("ours"), 2, {INBOX: keys("ours")})
    result[INBOX].update([line("more")])

    ours.save(result, 3, {INBOX: keys("ours", "more")})

    assert memory("ours", "theirs", "more") == saved(box)


def test_memory_that_comes_while_ours_is_appended_is_folded_too(box: Busy) -> None:
    ours = msinfo(box)
    box.after = [lambda: another_run(box, 2, memory("theirs"))]

    ours.save(memory("ours"), 1, {INBOX: keys("ours")})

    assert memory("ours", "theirs") == saved(box)
    assert 1 == len(box.kept)


def test_others_that_save_all_the_time_are_borne_a_few_times_and_no_memory_is_lost(box: Busy) -> None:
    def intruder(n: int) -> Callable[[], object]:
        return lambda: box.deliver(text.format(memory(f"theirs{n}"), "ab", "msgid", n))

    ours = msinfo(box)
    box.after = [intruder(n) for n in range(10)]

    ours.save(memory("ours"), 100, {INBOX: keys("ours")})

    assert TRIES == box.appended
    assert 2 == len(box.kept)
    assert any(keys("ours") <= text.parse(one.raw, "msgid")[0][INBOX].keys() for one in box.kept.values())


def test_only_what_was_read_is_removed(box: Busy) -> None:
    letter = box.deliver(Mail("letter", "text").raw())
    other = box.deliver(text.format(memory("1"), "other channel", "msgid", 1))
    another_run(box, 1, memory("1"))
    ours = msinfo(box)
    ours.load()

    ours.save(memory("1", "2"), 2, {INBOX: keys("2")})

    assert {letter, other} < box.kept.keys()
    assert 3 == len(box.kept)


def test_server_that_does_not_tell_uids_makes_no_difference(box: Busy) -> None:
    box.tells_uids = False
    ours = msinfo(box)
    ours.save(memory("1"), 1, {INBOX: keys("1")})
    another_run(box, 2, memory("1", "theirs"))
    ours.save(memory("1", "2"), 3, {INBOX: keys("1", "2")})

    assert memory("1", "2", "theirs") == saved(box)
    assert 1 == len(box.kept)


def breaks() -> None:
    raise Lost("connection reset by peer")


@pytest.mark.parametrize("when", ["before", "after"])
def test_line_that_breaks_while_saving_leaves_one_memory(box: Busy, when: str) -> None:
    another_run(box, 1, memory("1"))
    ours = msinfo(box)
    ours.load()
    setattr(box, when, [breaks])

    ours.save(memory("1", "2"), 2, {INBOX: keys("2")})

    assert memory("1", "2") == saved(box)
    assert 1 == len(box.kept)
    assert not ours.folded


def test_line_that_always_breaks_is_an_error_and_the_old_memory_stays(box: Busy) -> None:
    another_run(box, 1, memory("1"))
    ours = msinfo(box)
    ours.load()
    box.before = [breaks] * 10

    with pytest.raises(MsinfoError, match="connection reset"):
        ours.save(memory("1", "2"), 2, {INBOX: keys("2")})
    assert memory("1") == saved(box)


def test_memory_of_another_run_that_cannot_be_read_is_an_error_and_stays(box: Busy) -> None:
    another_run(box, 1, memory("1"))
    ours = msinfo(box)
    ours.load()
    theirs = box.deliver(text.format(memory("1", "2"), "ab", "msgid", 2)[:-4])

    with pytest.raises(MsinfoError, match="it was changed"):
        ours.save(memory("1", "3"), 3, {INBOX: keys("3")})
    assert theirs in box.kept


def test_digest_is_that_of_what_was_saved(box: Busy) -> None:
    another_run(box, 1, memory("theirs"))
    ours = msinfo(box)
    ours.save(memory("ours"), 2, {INBOX: keys("ours")})
    later = msinfo(box)
    later.load()

    assert later.digest == ours.digest != ""


def test_other_mailbox_under_the_same_name_is_listed_anew(box: Busy) -> None:
    """Its uids say nothing of what was seen before."""
    box.deliver(Mail("letter", "text").raw())
    ours = msinfo(box)
    ours.load()
    box.kept = {Uid("1"): replace(box.kept[Uid("1")], raw=text.format(memory("theirs"), "ab", "msgid", 1))}
    box.validity = "2"

    ours.save(memory("ours"), 2, {INBOX: keys("ours")})

    assert memory("ours", "theirs") == saved(box)


def test_letter_under_the_uid_of_an_old_memory_is_not_touched(box: Busy) -> None:
    """The mailbox was made anew while we ran."""
    another_run(box, 1, memory("1"))
    ours = msinfo(box)
    ours.load()
    [uid] = box.kept
    box.kept[uid] = replace(box.kept[uid], raw=Mail("letter", "text").raw())
    box.validity = "2"

    ours.save(memory("1", "2"), 2, {INBOX: keys("2")})

    assert uid in box.kept
    assert 2 == len(box.kept)


def test_memory_of_another_run_is_not_lost_if_saving_fails_and_is_tried_again(box: Busy) -> None:
    ours = msinfo(box)
    another_run(box, 1, memory("theirs"))
    box.before = [breaks] * TRIES
    with pytest.raises(MsinfoError):
        ours.save(memory("ours"), 2, {INBOX: keys("ours")})

    ours.save(memory("ours"), 3, {INBOX: keys("ours")})

    assert memory("ours", "theirs") == saved(box)


# ---- finding it among other mail -------------------------------------------------------------------------------------


def test_only_our_own_messages_are_fetched(box: Busy) -> None:
    for n in range(100):
        box.deliver(Mail(f"m{n}", str(n)).raw())
    uid = box.deliver(text.format(memory("1"), "ab", "msgid", 1))
    box.deliver(b"Received: from evil\n" + text.format(memory("2"), "ab", "msgid", 2))
    ours = msinfo(box)

    assert memory("1") == ours.load()
    assert [uid] == box.fetched
    assert 1 == len(ours.forged)


# ---- whole runs ------------------------------------------------------------------------------------------------------


@dataclass
class Meanwhile(Silent):
    """Does something when the plan is made, and before it is carried out."""

    act: Callable[[], object] = lambda: None

    def expect(self, steps: int) -> None:
        self.act()


def test_two_runs_at_the_same_time_end_with_the_memory_of_both(tmp_path: Path) -> None:
    world = World(cache=tmp_path / "cache")
    world.deliver(Side.A, "x", Mail("first", "text"))
    world.sync()
    world.deliver(Side.A, "x", Mail("ours", "text"))
    world.deliver(Side.A, "y", Mail("theirs", "text"))

    def other_machine() -> None:
        world.sync(Options(only=("y",)), cached=False)

    run = world.channel(Meanwhile(act=other_machine), Options(only=("x",)), Switch(), world.cache)
    run.sync()

    assert run.msinfo.folded
    assert [] == world.plan()
    [uid] = world.messages(Side.A, "y")
    world.delete(Side.A, "y", uid)
    world.sync()
    assert {} == world.messages(Side.B, "y")


def test_cache_does_not_claim_to_know_what_another_run_has_listed(tmp_path: Path) -> None:
    """It would call their messages new ones, and bring back what is deleted."""
    world = World(cache=tmp_path / "cache")
    world.deliver(Side.A, "x", Mail("first", "text"))
    world.sync()

    def other_machine() -> None:
        world.deliver(Side.A, "x", Mail("theirs", "text"))
        world.sync(cached=False)

    world.deliver(Side.A, "x", Mail("ours", "text"))
    world.channel(Meanwhile(act=other_machine), Options(), Switch(), world.cache).sync()
    theirs = Mail("theirs", "text").digest
    [uid] = [uid for uid, (digest, _) in world.messages(Side.A, "x").items() if digest == theirs]
    world.delete(Side.A, "x", uid)
    world.sync()

    assert not [side for side in Side for digest, _ in world.messages(side, "x").values() if digest == theirs]
