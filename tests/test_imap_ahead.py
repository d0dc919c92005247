"""Messages sent for before they are asked for: whatever happens meanwhile, each comes once, from its mailbox."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailsync.drivers.contract import Coming
from mailsync.drivers.imap import ahead, reach, reading
from mailsync.drivers.imap.store import ImapStore
from mailsync.errors import BoxError
from mailsync.model import Failure, Mailbox, Message, Uid

from .mail import configure, maildir, message, run
from .servers import Login
from .servers.fake import EVERYTHING, FakeServer
from .servers.proxy import Proxy
from .servers.stores import store

BOXES = tuple(Mailbox(f"box{n}") for n in range(5))
EACH = 7
ALL = [Uid(str(n)) for n in range(1, EACH + 1)]


def name(box: Mailbox, uid: Uid) -> str:
    return f"{box}.{uid}"


@pytest.fixture
def server() -> Iterator[FakeServer]:
    with FakeServer(EVERYTHING) as fake:
        for box in BOXES:
            made = fake.store.create(box.encode())
            for uid in ALL:
                made.add(message(name(box, uid), b"x\n" * 500).replace(b"\n", b"\r\n"))
        yield fake


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "WAITS", (0.01,) * len(reach.WAITS))


@contextmanager
def told(server: FakeServer, *boxes: Mailbox) -> Iterator[ImapStore]:
    """A store that knows what comes."""
    with store(server.port, Login("alice", "secret"), "*") as driver:
        driver.foresee([Coming(box, ALL, 10_000) for box in boxes])
        yield driver


def read(driver: ImapStore, box: Mailbox, uids: list[Uid] = ALL) -> list[str]:
    """The messages that come, by what is in them; of those that do not, their uid."""
    with driver.open(box, write=False) as opened:
        return [_shown(got) for got in opened.fetch(uids)]


def _shown(got: Message | Failure) -> str:
    if isinstance(got, Failure):
        return f"{got.what} is gone" if got.gone else str(got)
    assert got.head
    return got.head.partition(b"Message-ID: <")[2].partition(b"@")[0].decode()


def expected(box: Mailbox, uids: list[Uid] = ALL) -> list[str]:
    return [name(box, uid) for uid in uids]


def test_each_box_gives_its_own_messages_and_all_were_sent_for_at_once(server: FakeServer) -> None:
    with told(server, *BOXES) as driver:
        begin = server.flights
        assert [expected(box) for box in BOXES] == [read(driver, box) for box in BOXES]

    assert server.flights - begin <= 4


@pytest.mark.parametrize("bound", [0, 15_000, 25_000])
def test_however_little_may_be_in_flight_all_comes(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch, bound: int
) -> None:
    monkeypatch.setattr(ahead, "BYTES", bound)
    with told(server, *BOXES) as driver:
        assert [expected(box) for box in BOXES] == [read(driver, box) for box in BOXES]


def test_box_of_several_fetches_is_followed_by_the_next_one(
    server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ahead, "AT_ONCE", 3)
    monkeypatch.setattr(reading, "AT_ONCE", 3)
    with told(server, *BOXES) as driver:
        assert [expected(box) for box in BOXES] == [read(driver, box) for box in BOXES]


@pytest.mark.parametrize("uids", [ALL[::-1], ALL[2:5], ALL[:3], [*ALL[4:], *ALL[:4]], []])
def test_what_is_fetched_otherwise_than_foreseen_comes_all_the_same(server: FakeServer, uids: list[Uid]) -> None:
    with told(server, *BOXES) as driver:
        assert expected(BOXES[0]) == read(driver, BOXES[0])
        assert expected(BOXES[1], uids) == read(driver, BOXES[1], uids)
        assert expected(BOXES[2]) == read(driver, BOXES[2])


def test_boxes_in_another_order_or_left_out_give_their_own_messages(server: FakeServer) -> None:
    order = [BOXES[1], BOXES[0], BOXES[4], BOXES[2], BOXES[4]]
    with told(server, *BOXES) as driver:
        assert [expected(box) for box in order] == [read(driver, box) for box in order]


def test_box_that_is_opened_and_not_read_does_not_give_its_messages_to_the_next(server: FakeServer) -> None:
    with told(server, *BOXES) as driver:
        with driver.open(BOXES[0], write=False):
            pass
        assert expected(BOXES[1]) == read(driver, BOXES[1])


def test_reader_that_goes_away_in_the_middle_does_not_spoil_the_next_box(server: FakeServer) -> None:
    with told(server, *BOXES) as driver:
        with driver.open(BOXES[0], write=False) as opened:
            some = opened.fetch(ALL)
            assert name(BOXES[0], ALL[0]) == _shown(next(some))
            some.close()  # type: ignore[attr-defined]
        assert expected(BOXES[1]) == read(driver, BOXES[1])


def test_other_work_in_between_is_done_in_the_box_that_is_meant(server: FakeServer) -> None:
    with told(server, *BOXES) as driver:
        with driver.open(BOXES[0], write=False) as opened:
            assert expected(BOXES[0]) == [_shown(got) for got in opened.fetch(ALL)]
            heads = [got.header for got in opened.heads(ALL[:1]) if not isinstance(got, Failure)]
        with driver.open(BOXES[3], write=True) as opened:
            removed = list(opened.expunge(ALL[:2]))
        rest = [read(driver, box) for box in BOXES[1:3]]

    assert name(BOXES[0], ALL[0]).encode() in heads[0]
    assert ALL[:2] == removed
    assert [expected(box) for box in BOXES[1:3]] == rest
    left = {box: len(server.store.get(box.encode()).messages) for box in BOXES}  # type: ignore[union-attr]
    assert {**dict.fromkeys(BOXES, EACH), BOXES[3]: EACH - 2} == left


def test_message_that_is_gone_by_then_is_told_as_gone_in_its_box(server: FakeServer) -> None:
    box = server.store.get(BOXES[1].encode())
    assert box
    box.remove(3)
    with told(server, *BOXES) as driver:
        found = [read(driver, each) for each in BOXES[:3]]

    expected_there = [*expected(BOXES[1], ALL[:2]), "3 is gone", *expected(BOXES[1], ALL[3:])]
    assert [expected(BOXES[0]), expected_there, expected(BOXES[2])] == found


def test_box_that_is_gone_by_then_fails_alone(server: FakeServer) -> None:
    with told(server, *BOXES) as driver:
        assert expected(BOXES[0]) == read(driver, BOXES[0])
        with pytest.raises(BoxError):
            read(driver, Mailbox("gone"))
        assert expected(BOXES[1]) == read(driver, BOXES[1])
    server.store.delete(BOXES[1].encode())
    with told(server, *BOXES) as driver:
        assert expected(BOXES[0]) == read(driver, BOXES[0])
        with pytest.raises(BoxError):
            read(driver, BOXES[1])
        assert expected(BOXES[2]) == read(driver, BOXES[2])


# ---- whole runs ------------------------------------------------------------------------------------------------------


def channel(home: Path, port: int) -> None:
    configure(
        home,
        "store near { pat Mail/* prefix Mail/ format maildir }\n"
        f"store far {{ server {{localhost:{port}/user=alice/notls}} pat box* passwd secret timeout 10 }}\n"
        "channel c near far { msinfo .msinfo duplicates keep }\n",
    )


def here(home: Path) -> Counter[str]:
    files = [file for part in ("cur", "new") for file in home.glob(f"Mail/*/{part}/*")]
    ids = (file.read_bytes().partition(b"Message-ID: <")[2].partition(b"@")[0].decode() for file in files)
    return Counter(f"{file.parent.parent.name} {id}" for file, id in zip(files, ids, strict=True))


WHOLE = Counter(f"{box} {name(box, uid)}" for box in BOXES for uid in ALL)


@pytest.mark.parametrize("part", [n / 12 for n in range(2, 12)])
@pytest.mark.parametrize("reset", [False, True], ids=["end", "reset"])
def test_connection_that_breaks_in_flight_loses_and_doubles_nothing(
    home: Path, server: FakeServer, part: float, reset: bool
) -> None:
    channel(home, server.port)
    sizes = (len(message(name(box, uid), b"x\n" * 500).replace(b"\n", b"\r\n")) for box in BOXES for uid in ALL)
    fault: dict[str, Any] = {"cut_to_client": int(sum(sizes) * part), "reset": reset, "first_only": True}
    with Proxy(server.port, **fault) as proxy:
        channel(home, proxy.port)
        ran = run("c")

    assert (0, WHOLE) == (ran.code, here(home))


def test_box_that_cannot_be_made_here_does_not_hinder_the_next_ones(home: Path, server: FakeServer) -> None:
    (home / "Mail").mkdir()
    (home / "Mail" / BOXES[1]).write_bytes(b"this is no mailbox\n")
    channel(home, server.port)
    run("c")

    assert Counter({one: 1 for one in WHOLE if not one.startswith(BOXES[1])}) == here(home)


def test_upload_opens_each_box_and_puts_its_mail_into_it(home: Path) -> None:
    for box in BOXES:
        for file in maildir(home / "Mail" / box, *(message(name(box, uid)) for uid in ALL))[::2]:
            file.rename(f"{file}S")
    with FakeServer(EVERYTHING) as empty:
        channel(home, empty.port)
        ran = run("c")
        found = {box: empty.store.get(box.encode()) for box in BOXES}

        assert 0 == ran.code, ran.err
        for box, there in found.items():
            assert there
            assert there.subscribed
            texts = [one.raw.partition(b"Message-ID: <")[2].partition(b"@")[0].decode() for one in there.messages]
            assert expected(box) == texts
            assert [{rb"\Seen"} if n % 2 == 0 else set() for n in range(EACH)] == [m.flags for m in there.messages]
