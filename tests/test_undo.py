"""What runs have deleted, put back: cut off anywhere, from the trash of a server, kept elsewhere, expired, not kept."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from mailsync.identity import identify
from mailsync.model import Holds, Mailbox, Side
from mailsync.report import Report, Summary
from mailsync.state import kept_directory
from mailsync.undo import undo

from .mail import configure, entries, local, maildir, run
from .servers import Login
from .servers.fake import EVERYTHING, Answer, FakeServer, Trap
from .test_imap_counts import NEAR, Far, far, messages, synced
from .test_laws_wide import EXPUNGE, WideLaws, deleted_into_trash, renamed_box_with_one_below
from .test_moves import client, on_server, there
from .test_ways import files, ids, setup
from .world import Killed, Silent, Switch

CHANNEL = "channel c near far { msinfo .msinfo }\n"


# ---- cut off anywhere ------------------------------------------------------------------------------------------------


def deleted_and_kept(laws: WideLaws) -> None:
    deleted_into_trash(laws)
    laws.world.deletion = dict.fromkeys(Side, EXPUNGE)


@pytest.mark.parametrize("interrupt", [False, True], ids=["killed", "interrupted"])
@pytest.mark.parametrize(
    "scenario", [deleted_and_kept, deleted_into_trash, renamed_box_with_one_below], ids=lambda one: one.__name__
)
def test_undo_that_is_cut_off_loses_nothing_and_the_next_one_completes_it(
    scenario: Callable[[WideLaws], None], interrupt: bool
) -> None:
    for n in count():
        laws = WideLaws()
        try:
            laws.begin(Holds(any_keyword=True))
            scenario(laws)
            laws.world.deletion = dict.fromkeys(Side, laws.world.deletion[Side.B])
            before = laws.on_each_side()
            laws.sync()
            switch = Switch(n, interrupt)
            with suppress(Killed, KeyboardInterrupt):
                undone(laws, switch)
            laws.check_nothing_lost(before)
            undone(laws, Switch())
            for side, had in before.items():
                missing = {digest for _, digest in had} - {digest for _, digest in laws.by_content(side)}
                assert not missing, f"not put back, {side}: {missing}"
            laws.sync()
        finally:
            laws.teardown()
        if switch.left:
            assert n > 0
            return


def undone(laws: WideLaws, switch: Switch) -> None:
    """Put back what the last run deleted; nothing of it has to go any more."""
    last = laws.world.kept.last() if laws.world.kept else None
    if last is None:
        return
    summary, report = Summary(), Silent()
    told: Report = report  # type: ignore[assignment]
    laws.settled.clear()
    laws.must_go.clear()
    undo(laws.world.stores(switch), last, identify(laws.world.kind), told, summary, simulate=False)
    assert 0 == summary.failed


# ---- on a server -----------------------------------------------------------------------------------------------------


def emptied(home: Path, peer: Far, channel: str = CHANNEL, count: int = 5) -> None:
    """All but one message of a mailbox were deleted on this machine."""
    configure(home, NEAR + with_trash(peer) + channel)
    maildir(home / "Mail/x", *messages(count))
    synced(peer)
    for file in sorted((home / "Mail/x/cur").iterdir())[1:]:
        file.unlink()


def with_trash(peer: Far) -> str:
    return peer.config.replace(" }", f" delete trash:{on_server(peer, 'Trash')} }}")


@pytest.mark.parametrize("server", ["dovecot", "dovecot-bare", "cyrus-alt", "courier", "imap4d"])
def test_messages_go_to_the_trash_of_a_server_and_come_back_without_being_sent(home: Path, server: str) -> None:
    with far(server) as peer:
        emptied(home, peer)
        said = synced(peer)
        in_trash = there(peer, "Trash")
        again = synced(peer, "--undo")

        assert (4, 1, 0) == (len(in_trash), len(here(home)), said.count(b"APPEND"))
        assert (5, []) == (len(there(peer, "x")), there(peer, "Trash"))
        assert 0 == again.count(rb"APPEND|BODY(\.PEEK)?\[\]")
        synced(peer)
        assert here(home) == [id for id, _ in there(peer, "x")]
        assert not (home / "Mail/Trash").exists()
        assert [] == run("-s", "--json", "c").steps


def here(home: Path) -> list[str]:
    return sorted(one.id for one in entries(local(home, "Mail/*"), "Mail/x"))


@pytest.mark.parametrize("server", ["dovecot", "fake-bare"])
def test_what_was_taken_out_of_the_trash_meanwhile_is_not_missed_and_a_trash_with_other_uids_is_searched(
    home: Path, server: str
) -> None:
    with far(server) as peer:
        emptied(home, peer)
        synced(peer)
        with client(peer) as driver:
            trash, kept = on_server(peer, "Trash"), Mailbox("kept")
            [first, *_] = entries(driver, trash)
            with driver.open(trash, write=True) as box:
                list(box.expunge([first.uid]))
            driver.rename(trash, kept)
            driver.rename(kept, trash)
        synced(peer, "--undo")

        assert (4, []) == (len(there(peer, "x")), there(peer, "Trash"))


@pytest.mark.parametrize("capabilities", [EVERYTHING, EVERYTHING - {"MOVE"}], ids=["move", "copy"])
def test_full_server_keeps_what_cannot_be_put_into_its_trash(home: Path, capabilities: frozenset[str]) -> None:
    with FakeServer(capabilities) as fake:
        peer = Far(fake, Login("alice", "secret"))
        emptied(home, peer)
        fake.script.append(Trap(rb"UID (MOVE|COPY)|APPEND", Answer("NO [OVERQUOTA] the mailbox is full"), nth=0))
        ran = run("c")

        assert 1 == ran.code
        assert "not deleted, because it cannot be put into trash Trash" in ran.err
        assert "the mailbox is full" in ran.err
        assert 5 == len(fake.store[b"x"].messages)
        fake.script.clear()
        assert 0 == run("c").code
        assert (1, 4) == (len(fake.store[b"x"].messages), len(fake.store[b"Trash"].messages))


def test_trash_of_a_server_that_may_only_be_read_keeps_what_should_go_there(home: Path) -> None:
    with FakeServer() as fake:
        peer = Far(fake, Login("alice", "secret"))
        emptied(home, peer)
        peer.put("Trash")
        fake.script.append(Trap(rb'SELECT "?Trash|UID (MOVE|COPY)', Answer("NO [NOPERM] read-only"), nth=0))
        ran = run("c")

        assert (1, 5) == (ran.code, len(fake.store[b"x"].messages))
        assert "not deleted, because it cannot be put into trash Trash" in ran.err


def test_what_is_deleted_on_a_server_is_kept_here_if_the_channel_says_how_long(home: Path) -> None:
    with far("dovecot") as peer:
        configure(home, NEAR + peer.config + CHANNEL.replace("}", "keep_deleted 30 }"))
        maildir(home / "Mail/x", *messages(3))
        synced(peer)
        for file in sorted((home / "Mail/x/cur").iterdir())[1:]:
            file.unlink()
        synced(peer)

        assert 1 == len(there(peer, "x"))
        synced(peer, "--undo")
        assert 3 == len(there(peer, "x"))
        synced(peer)
        assert 3 == len(here(home))


def test_mailbox_that_is_called_otherwise_on_the_server_gets_back_its_messages(home: Path) -> None:
    with far("dovecot") as peer:
        emptied(home, peer, CHANNEL.replace("msinfo", "map x INBOX  msinfo", 1))
        synced(peer)

        assert 1 == len(there(peer, "INBOX"))
        synced(peer, "--undo")
        assert 5 == len(there(peer, "INBOX"))
        synced(peer)
        assert 5 == len(here(home))


# ---- where it is kept ------------------------------------------------------------------------------------------------


def deleted(home: Path, number: int = 2, channel: str = "") -> None:
    setup(home, channel, inbox=3)
    for file in files(home, "A")[:number]:
        file.unlink()


def place(home: Path) -> Path:
    return kept_directory("ab", str(home / ".msinfo"))


def test_message_that_cannot_be_kept_is_not_deleted(home: Path) -> None:
    deleted(home)
    place(home).parent.mkdir(parents=True, exist_ok=True)
    place(home).write_text("in the way\n")
    ran = run("ab")

    assert (1, 3) == (ran.code, len(files(home, "B")))
    assert "not deleted, because it cannot be put into what is kept for --undo" in ran.err
    place(home).unlink()
    assert (0, 1) == (run("ab").code, len(files(home, "B")))


def test_what_is_kept_on_another_file_system_comes_back(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    shm = Path("/dev/shm")
    if not shm.is_dir() or shm.stat().st_dev == home.stat().st_dev:
        pytest.skip("there is no other file system")
    elsewhere = shm / f"mailsync-{home.stat().st_ino}"
    monkeypatch.setenv("XDG_STATE_HOME", str(elsewhere))
    try:
        deleted(home)
        before = ids(home, "B")
        assert (0, 1) == (run("ab").code, len(files(home, "B")))
        assert 0 == run("--undo", "ab").code
        assert before == ids(home, "B")
    finally:
        shutil.rmtree(elsewhere, ignore_errors=True)


def test_what_was_kept_long_enough_is_forgotten(home: Path) -> None:
    deleted(home, channel="keep_deleted 2")
    run("ab")
    [kept] = place(home).iterdir()
    old = kept.rename(kept.with_name("20200101" + kept.name[8:]))
    [file, *_] = files(home, "A")
    file.unlink()
    run("ab")

    assert (False, 1) == (old.exists(), len(list(place(home).iterdir())))
    assert "inbox: 1 message put back into store b.\n" in run("--undo", "ab").out


def test_runs_are_undone_one_after_the_other_the_last_one_first(home: Path) -> None:
    setup(home, inbox=3)
    for file in files(home, "A")[:2]:
        file.unlink()
        run("ab")
    left = [len(files(home, "B"))]
    for _ in range(2):
        assert 0 == run("--undo", "ab").code
        left.append(len(files(home, "B")))

    assert [1, 2, 3] == left
    assert 1 == run("--undo", "ab").code


def test_mailbox_that_is_gone_is_made_anew_for_what_comes_back(home: Path) -> None:
    setup(home, inbox=1, old=2)
    for file in files(home, "A", "old"):
        file.unlink()
    run("-D", "ab")

    assert not (home / "B/old").exists()
    assert 0 == run("--undo", "ab").code
    assert 2 == len(files(home, "B", "old"))
    assert 0 == run("ab").code
    assert 2 == len(files(home, "A", "old"))
