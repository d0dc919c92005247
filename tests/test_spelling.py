"""Keywords that differ only in case are one keyword."""

from __future__ import annotations

from mailsync.differ import Case, diff
from mailsync.identity import key
from mailsync.model import SEEN, Boxname, Entry, Flags, Holds, Line, Listing, Mailbox, MessageId, Side, Uid
from mailsync.plan import SetFlags
from mailsync.spelling import alike

ID = MessageId("<1@x>")
BOX = Boxname("box")


def listing(*flags: str) -> Listing:
    return Listing(Mailbox("box"), [Entry(Uid("1"), ID, frozenset(flags))], Holds(any_keyword=True))


def steps(a: Listing, b: Listing, seen: Flags | None) -> list[object]:
    lines = {key(ID): (Line(ID, seen),)}
    return list(diff(Case(BOX, alike({Side.A: a, Side.B: b}, lines), lines), {}).steps())


def test_keyword_in_two_spellings_needs_nothing() -> None:
    assert [] == steps(listing("$MdnSent", SEEN), listing("$MDNSent", SEEN), frozenset({"$mdnsent", SEEN}))


def test_keyword_that_was_taken_away_is_taken_away_in_the_other_spelling() -> None:
    [step] = steps(listing(), listing("work"), frozenset({"Work"}))

    assert isinstance(step, SetFlags)
    assert (Side.B, frozenset(), frozenset({"Work"})) == (step.on, step.add, step.remove)


def test_listings_without_such_keywords_stay_the_same_objects() -> None:
    both = {Side.A: listing("a", SEEN), Side.B: listing("b")}

    assert both is alike(both, {})


def test_mailbox_that_holds_a_fixed_keyword_holds_its_other_spelling() -> None:
    fixed = Listing(Mailbox("box"), listing("work").entries, Holds(frozenset({"work"})))

    found = alike({Side.A: listing("Work"), Side.B: fixed}, {})

    assert "Work" in found[Side.B].holds
