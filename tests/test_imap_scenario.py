"""The full scenario: both sides are populated, both are changed, and after each run they are equal and nothing is left.

Everything goes by the command line, between real servers and all that mail may lie in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import combinations, product
from pathlib import Path

import pytest

from mailsync.model import ANSWERED, DRAFT, FLAGGED, NONE, SEEN, Boxname, Digest, Flags, MessageId, Side

from . import scenario
from .mail import Mail, digest, forget_cache, message, run
from .scenario import Place, Stores, on_machine, on_server
from .servers import matrix

FAMILIES = ("dovecot", "cyrus", "courier", "imap4d")
FACES = ("dovecot-dot", "dovecot-mbox", "dovecot-sdbox", "dovecot-bare")
PAIRS = [
    *product(("maildir", "mbox"), FAMILIES),
    *product(("maildir",), FACES),
    *combinations(FAMILIES, 2),
]
WORK = Boxname("work")
FLAGS = Boxname("flags")
MANY, FEW = 300, 40  # messages
BIG, SMALL = 40_000, 4_000  # lines
# What is done to a message: the flags that it has, and those that it gets; None: it is deleted.
DEEDS: Mapping[str, tuple[Flags, Flags | None]] = {
    "delete": (NONE, None),
    "flag": (NONE, frozenset({FLAGGED})),
    "unflag": (frozenset({SEEN, FLAGGED}), frozenset({SEEN})),
    "keyword": (NONE, frozenset({"Work"})),
    "no-keyword": (frozenset({"Work", ANSWERED}), frozenset({ANSWERED})),
}

Expected = dict[Boxname, dict[Digest, Flags]]


@pytest.fixture(params=PAIRS, ids=" ".join)
def places(request: pytest.FixtureRequest) -> Mapping[str, Place]:
    a, b = request.param
    return {"a": on_machine(a, "a") if a in ("maildir", "mbox") else on_server(a), "b": on_server(b)}


def test_both_sides_are_changed_and_become_equal(home: Path, places: Mapping[str, Place]) -> None:
    stores = scenario.channels(home, places, ["ab"])
    mails = {side: dict(mails_of(side, places)) for side in Side}
    for side in Side:
        with stores.opened(side.value) as store:
            scenario.fill(store, mails[side])
    expected: Expected = {Boxname("INBOX"): {}}
    for side in Side:
        for boxname, some in mails[side].items():
            box = expected.setdefault(boxname, {})
            for mail in some:
                box[digest(mail.raw)] = box.get(digest(mail.raw), NONE) | mail.flags
    synchronized(home, stores, expected)

    for side in Side:
        with stores.opened(side.value) as store:
            scenario.change(store, WORK, deeds_of(side))
            scenario.fill(store, {FLAGS: [Mail(message(f"{side.value}-late"), frozenset({SEEN}))]})
        for origin, (deed, (_, flags)) in product(Side, DEEDS.items()):
            done = digest(message(worked_on(origin, side, deed)))
            if flags is None:
                del expected[WORK][done]
            else:
                expected[WORK][done] = flags
        expected[FLAGS][digest(message(f"{side.value}-late"))] = frozenset({SEEN})
    synchronized(home, stores, expected)

    for one, other in (places["a"].name, places["b"].name), (places["b"].name, places["a"].name):
        if other not in ("maildir", "mbox"):
            matrix.record(f"sync scenario with {one}", other, "ok")


def synchronized(home: Path, stores: Stores, expected: Expected) -> None:
    """Run, and see that both sides are as expected, and that without cache and stamp nothing is left to do."""
    ran = run("-q", "ab")
    assert ("", 0) == (ran.err, ran.code)

    forget_cache(home)
    again = run("--json", "ab")
    assert (0, "", []) == (again.code, again.err, again.steps)

    holds = {}
    for side in Side:
        with stores.opened(side.value) as store:
            holds[side] = scenario.held(store)
    both = {
        boxname: Counter((one, scenario.shared(holds, boxname, flags)) for one, flags in box.items())
        for boxname, box in expected.items()
    }
    for side in Side:
        with stores.opened(side.value) as store:
            found = scenario.contents(store, holds)
        # Cyrus makes mailboxes, too, of the levels above a mailbox.
        assert both == {boxname: box for boxname, box in found.items() if box or boxname in both}


def mails_of(side: Side, places: Mapping[str, Place]) -> Iterator[tuple[Boxname, list[Mail]]]:
    """What is there before the first run. Messages with one name in the same mailbox are the same one."""
    s = side.value
    system = [frozenset({flag}) for flag in (SEEN, ANSWERED, FLAGGED, DRAFT)]
    flags = [*system, frozenset().union(*system), frozenset({"$Forwarded"}), frozenset({"Work", "NonJunk", SEEN})]
    yield Boxname("INBOX"), [Mail(message(f"{s}-inbox"))]
    yield FLAGS, [Mail(message(f"{s}-{n}"), some) for n, some in enumerate(flags)]
    yield Boxname("a/b/c"), [Mail(message(f"{s}-low"))]
    yield (
        Boxname("Entwürfe 2.0"),
        [
            Mail(b"From: a@x\nSubject: no id, from %s\n\nhi\n" % s.encode(), frozenset({SEEN})),
            Mail(b"From: a@x\nSubject: no id, on both sides\n\nhi\n"),
            Mail(message("one-id", b"from %s\n" % s.encode())),
            Mail(message("one-id", b"again from %s\n" % s.encode()), frozenset({FLAGGED})),
            Mail(message(f"{s}-twice"), frozenset({SEEN})),
            Mail(message(f"{s}-twice"), frozenset({ANSWERED})),
            Mail(message("on-both-sides"), frozenset({SEEN if side is Side.A else FLAGGED})),
        ],
    )
    yield (
        WORK,
        [
            Mail(message(worked_on(side, actor, deed)), before)
            for actor, (deed, (before, _)) in product(Side, DEEDS.items())
        ],
    )
    yield Boxname(f"empty {s}"), []
    many, big = (FEW, SMALL) if any(place.slow for place in places.values()) else (MANY, BIG)
    yield Boxname("big"), [Mail(message(f"{s}-big", (b"x" * 74 + b"\n") * big))]
    yield Boxname(f"many {s}"), [Mail(message(f"{s}-many-{n}")) for n in range(many)]
    if all(place.nests for place in places.values()):
        yield Boxname("a"), [Mail(message(f"{s}-top"))]
        yield Boxname("a/b"), [Mail(message(f"{s}-middle"))]


def worked_on(origin: Side, actor: Side, deed: str) -> str:
    """The name of a message that lies on one side at first, and that somebody does something to on either side."""
    return f"{origin.value}-{actor.value}-{deed}"


def deeds_of(actor: Side) -> dict[MessageId, Flags | None]:
    return {
        MessageId(f"<{worked_on(origin, actor, deed)}@x>"): flags
        for origin, (deed, (_, flags)) in product(Side, DEEDS.items())
    }


def test_levels_above_that_are_empty_mailboxes_on_one_side_only_are_no_failure(home: Path) -> None:
    stores = scenario.channels(home, {"a": on_machine("mbox", "a"), "b": on_server("cyrus")}, ["ab"])
    with stores.opened("a") as store:
        scenario.fill(store, {Boxname("a/b/c"): [Mail(message())]})

    assert [("", 0), ("", 0)] == [(ran.err, ran.code) for ran in (run("-q", "ab"), run("-q", "ab"))]
