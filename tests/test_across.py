"""Plans that reach over mailboxes."""

from __future__ import annotations

from dataclasses import replace

from mailsync.drivers.memory import Memory
from mailsync.model import FLAGGED, SEEN, Boxname, Mailbox, Side, Uid
from mailsync.plan import BoxDone, Copy
from mailsync.planner import Options

from .world import Mail, World

BIG = Mail("big", "x" * 200)


def moved(now: Mail = BIG) -> World:
    """On side A a message was moved from x to y, after both sides had it."""
    world = World()
    world.deliver(Side.A, "x", BIG)
    world.deliver(Side.A, "x", Mail("other", "o"))
    world.sync()
    [uid] = [uid for uid, (digest, _) in world.messages(Side.A, "x").items() if digest == BIG.digest]
    world.deliver(Side.A, "y", now)
    world.delete(Side.A, "x", uid)
    return world


def test_moved_message_is_moved_on_the_other_side() -> None:
    world = moved()

    world.sync()

    assert {"x": 1, "y": 1} == {box: len(world.messages(Side.B, box)) for box in ("x", "y")}
    assert [] == world.plan()


def test_moved_message_is_moved_though_it_is_too_big_to_be_copied() -> None:
    world = moved()

    world.sync(Options(sizelimit=100))

    assert {"x": 1, "y": 1} == {box: len(world.messages(Side.B, box)) for box in ("x", "y")}
    assert [] == world.plan()


def test_moved_message_that_is_too_big_to_be_copied_and_differs_stays_where_it_was() -> None:
    world = moved(Mail("big", "y" * 200))
    limited = Options(sizelimit=100)

    world.sync(limited)
    again = world.sync(limited)

    assert {"x": 2, "y": 0} == {box: len(world.messages(Side.B, box)) for box in ("x", "y")}
    assert [] == again.steps
    world.sync()
    assert {"x": 1, "y": 1} == {box: len(world.messages(Side.B, box)) for box in ("x", "y")}


# ---- renamed boxes ---------------------------------------------------------------------------------------------------


def renamed() -> World:
    """On side A box x was renamed to z, after both sides had it."""
    world = World()
    world.deliver(Side.A, "x", BIG, frozenset({FLAGGED}))
    world.deliver(Side.B, "x", Mail("other", "o"))
    world.deliver(Side.A, "y", Mail("third", "t"))
    world.sync()
    world.drivers[Side.A].rename(Mailbox("x"), Mailbox("z"))
    return world


def test_renamed_box_is_renamed_on_the_other_side_and_nothing_is_copied() -> None:
    world = renamed()
    before = world.messages(Side.B, "x")

    report = world.sync()

    assert [BoxDone(Boxname("z"), Side.B, "rename")] == report.steps
    assert ["y", "z"] == world.boxes(Side.B)
    assert before == world.messages(Side.B, "z")
    assert [] == world.plan()


def test_after_a_rename_the_messages_are_remembered_under_the_new_name() -> None:
    world = renamed()
    world.sync()
    [uid] = [uid for uid, (digest, _) in world.messages(Side.A, "z").items() if digest == BIG.digest]
    world.delete(Side.A, "z", uid)
    [uid] = [uid for uid, (digest, _) in world.messages(Side.B, "z").items() if digest != BIG.digest]
    world.flag(Side.B, "z", uid, frozenset({SEEN}), frozenset())
    world.sync()

    expected = {(Mail("other", "o").digest, frozenset({SEEN}))}
    assert expected == set(world.messages(Side.A, "z").values()) == set(world.messages(Side.B, "z").values())


def test_changes_on_the_other_side_of_a_renamed_box_are_merged() -> None:
    world = renamed()
    [uid] = [uid for uid, (digest, _) in world.messages(Side.B, "x").items() if digest == BIG.digest]
    world.flag(Side.B, "x", uid, frozenset({SEEN}), frozenset({FLAGGED}))
    world.deliver(Side.B, "x", Mail("new", "n"))
    world.sync()

    flags = dict(world.messages(Side.A, "z").values())
    assert frozenset({SEEN}) == flags[BIG.digest]
    assert 3 == len(flags) == len(world.messages(Side.B, "z"))
    assert [] == world.plan()


def test_box_is_not_renamed_if_one_of_its_messages_is_not_in_the_new_one() -> None:
    world = renamed()
    [uid] = [uid for uid, (digest, _) in world.messages(Side.A, "z").items() if digest == BIG.digest]
    world.delete(Side.A, "z", uid)
    with_other_identity(world)
    report = world.sync()

    assert not any(isinstance(step, BoxDone) and step.what == "rename" for step in report.steps)
    assert ["x", "y", "z"] == world.boxes(Side.B)
    assert 1 == len(world.messages(Side.B, "z"))
    assert [] == world.plan()


def test_box_is_not_renamed_where_nothing_is_deleted() -> None:
    world = renamed()
    world.sync(Options(delete=False))

    assert ["x", "y", "z"] == world.boxes(Side.B)
    assert 2 == len(world.messages(Side.B, "x")) == len(world.messages(Side.B, "z"))


def test_boxes_below_a_renamed_one_are_renamed_with_it() -> None:
    world = World()
    for boxname in ("x", "x/in", "y"):
        world.deliver(Side.A, boxname, Mail(boxname, boxname))
    world.sync()
    world.drivers[Side.A].rename(Mailbox("x"), Mailbox("z"))
    report = world.sync()

    assert ["y", "z", "z/in"] == world.boxes(Side.B)
    assert {"rename"} == {step.what for step in report.steps if isinstance(step, BoxDone)}
    assert [] == world.plan()


def test_box_with_another_one_below_that_was_not_renamed_stays_and_its_messages_are_moved() -> None:
    world = World()
    for boxname in ("x", "x/in", "y"):
        world.deliver(Side.A, boxname, Mail(boxname, boxname))
    world.sync()
    world.drivers[Side.A].rename(Mailbox("x"), Mailbox("z"))
    world.drivers[Side.A].rename(Mailbox("z/in"), Mailbox("x/in"))
    world.sync()

    assert 1 == len(world.messages(Side.B, "z")) == len(world.messages(Side.B, "x/in"))
    assert [] == world.plan()


def with_other_identity(world: World) -> None:
    """The box is not the same one: it was made anew."""
    driver = world.drivers[Side.A]
    assert isinstance(driver, Memory)
    driver.held[Mailbox("z")] = replace(driver.held[Mailbox("z")], identity="another")


# ---- flags and rescues -----------------------------------------------------------------------------------------------


def test_moved_message_has_the_flags_that_either_side_has_given_it() -> None:
    world = World()
    world.deliver(Side.A, "x", BIG, frozenset({FLAGGED}))
    world.sync()
    [uid] = world.messages(Side.B, "x")
    world.flag(Side.B, "x", uid, frozenset({SEEN}), frozenset({FLAGGED}))
    [uid] = world.messages(Side.A, "x")
    world.deliver(Side.A, "y", BIG, frozenset({FLAGGED, "kw"}))
    world.delete(Side.A, "x", uid)
    world.sync()

    expected = [(BIG.digest, frozenset({SEEN, "kw"}))]
    assert expected == [*world.messages(Side.A, "y").values()] == [*world.messages(Side.B, "y").values()]
    assert [] == world.plan()


def test_message_flagged_here_and_moved_there_is_moved_and_not_brought_back() -> None:
    world = World()
    world.deliver(Side.A, "x", BIG)
    world.sync()
    [uid] = world.messages(Side.B, "x")
    world.flag(Side.B, "x", uid, frozenset({FLAGGED}), frozenset())
    [uid] = world.messages(Side.A, "x")
    world.deliver(Side.A, "y", BIG)
    world.delete(Side.A, "x", uid)
    world.sync()

    expected = [(BIG.digest, frozenset({FLAGGED}))]
    for side in Side:
        assert {} == world.messages(side, "x")
        assert expected == [*world.messages(side, "y").values()]
    assert [] == world.plan()


def test_message_moved_here_and_deleted_there_is_in_its_new_box_on_both_sides() -> None:
    world = moved()
    [uid] = [uid for uid, (digest, _) in world.messages(Side.B, "x").items() if digest == BIG.digest]
    world.delete(Side.B, "x", uid)
    world.sync()

    assert [1, 1] == [len(world.messages(side, "y")) for side in Side]
    assert [] == world.plan()


def test_copy_of_a_message_that_lies_in_another_box_there_is_made_there() -> None:
    world = World()
    world.deliver(Side.A, "x", BIG)
    world.sync()
    world.deliver(Side.A, "y", BIG)

    [step] = world.sync().steps[:1]

    assert isinstance(step, Copy)
    assert step.near
    assert ("x", False) == (step.near.boxname, step.near.goes)
    assert [1, 1] == [len(world.messages(Side.B, box)) for box in ("x", "y")]
    assert [] == world.plan()


def test_message_is_moved_once_where_two_boxes_have_it() -> None:
    world = World()
    world.deliver(Side.A, "x", BIG)
    world.sync()
    [uid] = world.messages(Side.A, "x")
    for box in ("y", "z"):
        world.deliver(Side.A, box, BIG)
    world.delete(Side.A, "x", uid)
    world.sync()

    assert [0, 1, 1] == [len(world.messages(Side.B, box)) for box in ("x", "y", "z")]
    assert [] == world.plan()


def test_store_in_which_all_messages_were_moved_is_the_one_that_was_seen() -> None:
    """No record says so, but no other store has these messages."""
    world = World()
    mails = [Mail("m1", "one"), Mail("m2", "two")]
    for mail in mails:
        world.deliver(Side.A, "x", mail)
    world.sync()
    for mail, uid in zip(mails, world.messages(Side.A, "x"), strict=True):
        world.deliver(Side.A, "y", mail)
        world.delete(Side.A, "x", uid)

    world.sync()

    assert {"x": 0, "y": 2} == {box: len(world.messages(Side.B, box)) for box in ("x", "y")}


def test_duplicate_of_a_message_that_is_moved_goes_too() -> None:
    """Left behind, it would be new there, and come back on the side where the message was moved."""
    world = World()
    world.deliver(Side.A, "x", BIG)
    world.deliver(Side.A, "y", Mail("other", "o"))
    world.sync()
    world.deliver(Side.A, "x", BIG)
    world.deliver(Side.B, "y", BIG)
    world.delete(Side.B, "x", Uid("1"))

    world.sync()

    for side in Side:
        assert {"x": 0, "y": 2} == {box: len(world.messages(side, box)) for box in ("x", "y")}
    assert [] == world.plan()
