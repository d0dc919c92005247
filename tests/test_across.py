"""Plans that reach over mailboxes."""

from __future__ import annotations

from mailsync.model import Side, Uid
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
