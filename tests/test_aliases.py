"""A server that rewrites mail: its message and ours are one, although their ids or their bytes differ."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.drivers.memory import Memory, MemoryBox
from mailsync.errors import BoxError
from mailsync.model import DRAFT, NONE, Appended, Failure, Flags, Head, Message, Side, Uid
from mailsync.plan import Copy, Delete

from .world import Mail, World

ODD = "\u00fcmlaut"
Rewrite = Callable[[bytes], bytes]


def without_8_bit(by: bytes) -> Rewrite:
    return lambda raw: b"".join(bytes((c,)) if c < 128 else by for c in raw)


def without_bare_cr(raw: bytes) -> bytes:
    return raw.replace(b"\r\n", b"\n").replace(b"\r", b"")


def without_both(raw: bytes) -> bytes:
    return without_bare_cr(without_8_bit(b"")(raw))


def rewriting(rewrite: Rewrite, box: Callable[..., MemoryBox] = MemoryBox) -> World:
    """Side B rewrites."""
    return World({Side.A: Memory(), Side.B: Memory(new_box=lambda: box(rewrite=rewrite))})


def counts(world: World) -> tuple[int, int]:
    a, b = (len(world.messages(side, "x")) for side in Side)
    return a, b


@pytest.fixture(params=[b"X", b"?", b""], ids=["folded", "replaced", "dropped"])
def world(request: pytest.FixtureRequest) -> World:
    return rewriting(without_8_bit(request.param))


def test_second_run_plans_nothing(world: World) -> None:
    world.deliver(Side.A, "x", Mail(ODD, "one"))

    assert 2 == len(world.sync().steps)  # the mailbox, and the message
    assert [] == world.plan()
    assert [] == world.sync().steps
    assert (1, 1) == counts(world)


@pytest.mark.parametrize("side", Side)
def test_deletion_is_carried_through(world: World, side: Side) -> None:
    world.deliver(Side.A, "x", Mail(ODD, "one"))
    world.deliver(Side.A, "x", Mail("plain", "two"))
    world.sync()
    uid = next(iter(world.messages(side, "x")))

    world.delete(side, "x", uid)
    world.sync()

    assert (1, 1) == counts(world)
    assert [] == world.plan()


@pytest.mark.parametrize("kind", ["msgid", "md5"])
@pytest.mark.parametrize("id", ["", "plain"])
def test_message_whose_identifying_fields_are_rewritten_is_still_one(kind: str, id: str) -> None:
    world = replace(rewriting(without_8_bit(b"")), kind=kind)
    world.deliver(Side.A, "x", Mail(id, ODD))
    world.sync()

    assert [] == world.plan()
    assert (1, 1) == counts(world)


@pytest.mark.parametrize("flags", [NONE, frozenset({DRAFT})], ids=["group", "drafts"])
def test_rewritten_members_of_a_group_are_not_taken_for_deleted(flags: Flags) -> None:
    """A server that removes bare CRs, as Courier does."""
    world = rewriting(without_bare_cr)
    for text in ("one\r.", "two\r.", "three"):
        world.deliver(Side.A, "x", Mail("m", text), flags)
    world.sync()

    assert [] == world.plan()
    assert [] == world.sync().steps
    assert (3, 3) == counts(world)


def test_rewritten_draft_that_is_saved_again_leaves_the_old_one_where_it_is_in_doubt() -> None:
    """It may be another one that is gone here: what a server rewrites is never surely the same."""
    world = rewriting(without_bare_cr)
    world.deliver(Side.A, "x", Mail("m", "one\r."), frozenset({DRAFT}))
    world.sync()
    world.delete(Side.A, "x", Uid("1"))
    world.deliver(Side.A, "x", Mail("m", "two\r."), frozenset({DRAFT}))
    world.sync()

    assert (2, 2) == counts(world)
    assert [] == world.plan()


MAILS = st.builds(Mail, st.sampled_from(["", "m1", "m2", ODD]), st.sampled_from(["one", "t\rwo", "thr\u00e9e", "\r"]))
LETTERS = st.lists(st.tuples(MAILS, st.sampled_from([NONE, frozenset({DRAFT})])), min_size=1, max_size=6)


@given(LETTERS, st.sampled_from([without_bare_cr, without_both]))
def test_nothing_is_ever_deleted_and_the_second_run_plans_nothing(
    letters: list[tuple[Mail, Flags]], rewrite: Rewrite
) -> None:
    world = rewriting(rewrite)
    for mail, flags in letters:
        world.deliver(Side.A, "x", mail, flags)
    before = {copy[:2] for copy in world.copies(Side.A)}
    world.sync()

    assert before <= {copy[:2] for copy in world.copies(Side.A)}
    assert [] == world.plan()


# ---- what cannot be looked at ----------------------------------------------------------------------------------------


@dataclass
class Silent(MemoryBox):
    """A server that does not tell what became of a message: no UIDPLUS."""

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        for answer in super().append(messages):
            yield replace(answer, uid=None) if isinstance(answer, Appended) else answer


@dataclass
class Blind(MemoryBox):
    """A server that lets messages be listed, but not looked at one by one."""

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        raise BoxError("internal error")


@pytest.mark.parametrize("box", [Silent, Blind])
def test_copy_that_cannot_be_looked_at_is_not_remembered_and_deletes_nothing(box: Callable[..., MemoryBox]) -> None:
    """Remembered under our id it would look deleted there; the next run has to see it as what it is."""
    world = rewriting(without_8_bit(b""), box)
    world.deliver(Side.A, "x", Mail(ODD, "one"))
    world.deliver(Side.A, "x", Mail("plain", "two"))
    first = world.sync().steps
    second = world.sync().steps

    assert 2 == sum(isinstance(step, Copy) for step in first)
    assert not [step for step in second if isinstance(step, Delete) and step.on is Side.A]
    assert len(world.messages(Side.A, "x")) >= 2


@pytest.mark.parametrize("texts", [("one", "one"), ("one", "two")])
def test_two_ids_that_a_server_makes_one_are_told_apart_and_none_is_deleted(texts: tuple[str, str]) -> None:
    world = replace(rewriting(without_8_bit(b"X")), kind="md5")
    for odd, text in zip("\xe4\xf6", texts, strict=True):
        world.deliver(Side.A, "x", Mail("m", f"{text} {odd}"))

    world.sync()
    for _ in range(3):
        assert [] == [step for step in world.sync().steps if isinstance(step, Delete) and step.on is Side.A]
    assert [] == world.plan()
    assert 2 == counts(world)[0]


def cut_at_nul(raw: bytes) -> bytes:
    return raw.partition(b"\0")[0]


@pytest.mark.parametrize(
    ("rewrite", "texts"),
    [
        (without_bare_cr, ("o\rne", "one")),
        (cut_at_nul, ("one\0a", "one\0b")),
        (without_8_bit(b"X"), ("\xe4", "\xf6")),
        (without_8_bit(b"X"), ("\xe4", "XX")),
    ],
    ids=["bare-cr", "nul", "8-bit", "what-it-makes-of-it"],
)
def test_messages_of_one_id_that_a_server_makes_equal_stay(rewrite: Rewrite, texts: tuple[str, str]) -> None:
    world = rewriting(rewrite)
    for text in texts:
        world.deliver(Side.A, "x", Mail("m", text))
    for _ in range(4):
        world.sync()
    assert [] == world.plan()
    assert (2, 2) == counts(world)

    world.delete(
        Side.B, "x", next(iter(world.messages(Side.B, "x")))
    )  # by another program that takes it for a duplicate
    for _ in range(3):
        assert not any(isinstance(step, Delete) for step in world.sync().steps)
    assert 2 == counts(world)[0]
