"""The cache says only what it knows for the memory that was loaded."""

from __future__ import annotations

from pathlib import Path

from mailsync.model import Boxname, Mailbox, Side, Uid
from mailsync.record import Record

A, B = Boxname("a"), Boxname("b")
VALIDITY = dict.fromkeys(Side, "1")


def saved(path: Path, loaded: str, msinfo: str, *boxes: Boxname) -> None:
    """A run that loaded one memory, looked at these boxes, and saved another memory."""
    with Record(path, loaded) as cache:
        for box in boxes:
            for side in Side:
                cache.note(box, side, "1", [Uid("7")], None, Mailbox(box))
        cache.save(msinfo, [A, B])


def test_uid_is_known_only_with_the_memory_it_was_noted_for(tmp_path: Path) -> None:
    saved(tmp_path / "cache", "", "first", A)

    with Record(tmp_path / "cache", "first") as cache:
        assert [True, False] == [cache.recorder(A, VALIDITY)(Side.A, Uid(uid)) for uid in ("7", "8")]
    with Record(tmp_path / "cache", "another") as cache:
        assert cache.recorder(A, VALIDITY)(Side.A, Uid("7")) is None


def test_box_that_a_run_on_another_memory_left_out_is_not_known_for_what_it_saved(tmp_path: Path) -> None:
    saved(tmp_path / "cache", "", "first", A, B)
    saved(tmp_path / "cache", "written by somebody else", "second", A)

    with Record(tmp_path / "cache", "second") as cache:
        assert cache.recorder(A, VALIDITY)(Side.A, Uid("7")) is True
        assert cache.recorder(B, VALIDITY)(Side.A, Uid("8")) is None
        assert cache.is_same(B, Side.A, "1")


def test_box_that_a_run_on_the_same_memory_left_out_stays_known(tmp_path: Path) -> None:
    saved(tmp_path / "cache", "", "first", A, B)
    saved(tmp_path / "cache", "first", "second", A)

    with Record(tmp_path / "cache", "second") as cache:
        assert cache.recorder(B, VALIDITY)(Side.B, Uid("7")) is True


def test_box_that_is_remembered_no_more_is_known_no_more(tmp_path: Path) -> None:
    saved(tmp_path / "cache", "", "first", A, B)
    with Record(tmp_path / "cache", "first") as cache:
        cache.save("first", [A])

    with Record(tmp_path / "cache", "first") as cache:
        assert [True, False] == [cache.is_same(box, Side.A, "1") for box in (A, B)]
        assert [(b"a",)] == cache.rows("SELECT DISTINCT name FROM uid")
