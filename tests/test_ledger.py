"""Messages that fail again and again: when they are tried, and that their list is never in the way."""

from __future__ import annotations

import json
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync import ledger
from mailsync.ledger import HOUR, LONGEST, Case, Entry, Kind, Ledger, case_of, pause
from mailsync.model import NONE, Boxname, MessageId, Side, Uid
from mailsync.model import Entry as Listed
from mailsync.plan import Copy, Delete, SetFlags, Step, Why
from mailsync.state import ledger_file, record_file

INBOX, WORK = Boxname("INBOX"), Boxname("work")
NOW = 1_700_000_000.5
LISTED = Listed(Uid("7"), MessageId("<7@x>"), NONE)


def of(uid: str, boxname: Boxname = INBOX, kind: Kind = "copy", on: Side = Side.B) -> Case:
    return Case(boxname, kind, on, Uid(uid), MessageId(f"<{uid}@x>"))


def filled(path: Path, *cases: Case) -> Ledger:
    """A ledger with these, as it was saved by a run."""
    one = Ledger(path)
    for case in cases:
        one.failed(case, NOW, "too big", "Make it smaller.")
    assert one.save() is None
    return one


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.json"


# ---- when it is tried again ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tries", "hours"), [(1, 1), (2, 2), (3, 4), (4, 8), (7, 64), (8, 128), (9, 168), (10, 168), (10**9, 168)]
)
def test_pause_doubles_from_an_hour_to_a_week(tries: int, hours: int) -> None:
    assert hours * HOUR == pause(tries)


def test_message_that_never_failed_is_tried() -> None:
    assert Ledger(None).waits(of("1"), NOW) is None


def test_message_that_failed_waits_until_its_time_has_come() -> None:
    one = Ledger(None)
    entry = one.failed(of("1"), NOW, "too big", "Make it smaller.")

    assert Entry("too big", "Make it smaller.", int(NOW), 1, int(NOW) + HOUR) == entry
    assert [entry, entry, None] == [one.waits(of("1"), at) for at in (NOW, entry.next - 0.1, entry.next)]


def test_message_that_fails_again_waits_longer_and_tells_the_last_reason() -> None:
    one = Ledger(None)
    one.failed(of("1"), NOW, "too big")

    again = one.failed(of("1"), NOW + HOUR, "no room", "Buy more.")

    assert Entry("no room", "Buy more.", int(NOW), 2, int(NOW) + 3 * HOUR) == again


def test_message_that_did_not_fail_this_time_begins_anew() -> None:
    one = Ledger(None)
    one.failed(of("1"), NOW, "too big")
    one.done(of("1"))

    assert one.waits(of("1"), NOW) is None
    assert 1 == one.failed(of("1"), NOW, "too big").tries


@pytest.mark.parametrize(
    "other",
    [
        of("1", boxname=WORK),
        of("1", kind="flags"),
        of("1", on=Side.A),
        of("2"),
        of("1")._replace(uid=Uid("2")),
        of("1")._replace(id=MessageId("<2@x>")),
    ],
)
def test_other_step_or_message_does_not_wait(other: Case) -> None:
    one = Ledger(None)
    one.failed(of("1"), NOW, "too big")

    assert one.waits(other, NOW) is None


def test_time_that_no_pause_can_reach_is_not_waited_for() -> None:
    """The clock was wrong when it was written."""
    one = Ledger(None)
    one.failed(of("1"), NOW + 10 * LONGEST, "too big")

    assert one.waits(of("1"), NOW) is None


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Copy(Side.B, LISTED, NONE), of("7")),
        (SetFlags(Side.A, LISTED, NONE, NONE), of("7", kind="flags", on=Side.A)),
        (Delete(Side.A, LISTED, Why.GONE_THERE), of("7", kind="delete", on=Side.A)),
    ],
)
def test_step_has_its_case(step: Step, expected: Case) -> None:
    assert expected == case_of(INBOX, step)


# ---- what is dropped -------------------------------------------------------------------------------------------------


def test_entries_of_messages_that_are_gone_are_dropped_where_they_lay(path: Path) -> None:
    copy, flags, unread = of("1"), of("2", kind="flags"), of("3", kind="read", on=Side.A)
    one = filled(path, copy, flags, unread, of("1", boxname=WORK))

    one.keep(INBOX, {Side.A: [Uid("1")], Side.B: [Uid("3")]})

    assert [copy, of("1", boxname=WORK)] == [case for case, _ in one]


def test_entries_of_a_side_that_was_not_listed_stay(path: Path) -> None:
    one = filled(path, of("1"), of("2", on=Side.A))

    one.keep(INBOX, {Side.A: []})

    assert [of("2", on=Side.A)] == [case for case, _ in one]


def test_box_is_cleared_alone(path: Path) -> None:
    one = filled(path, of("1"), of("1", boxname=WORK))

    one.clear([INBOX])

    assert [of("1", boxname=WORK)] == [case for case, _ in one]


def test_all_is_cleared_and_leaves_no_file(path: Path) -> None:
    one = filled(path, of("1"), of("1", boxname=WORK))

    one.clear()

    assert (None, 0, []) == (one.save(), len(one), list(path.parent.iterdir()))


def test_what_failed_longest_ago_is_dropped_from_a_full_ledger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "MOST", 2)
    one = Ledger(None)

    for uid in ("1", "2", "1", "3"):
        one.failed(of(uid), NOW, "too big")

    assert [of("1"), of("3")] == [case for case, _ in one]


# ---- the file --------------------------------------------------------------------------------------------------------

ODD = st.binary(max_size=20).map(lambda raw: raw.decode("utf-8", "surrogateescape"))
CASES = st.builds(
    Case,
    ODD.map(Boxname),
    st.sampled_from(list(ledger.KINDS.values())),
    st.sampled_from(list(Side)),
    ODD.map(Uid),
    st.binary(max_size=20).map(lambda raw: MessageId(raw.decode("latin-1"))),
)


@given(st.lists(st.tuples(CASES, st.integers(0, 2**33), ODD, ODD), max_size=5))
def test_ledger_comes_back_as_it_was_saved(
    tmp_path_factory: pytest.TempPathFactory, failures: list[tuple[Case, int, str, str]]
) -> None:
    path = tmp_path_factory.mktemp("ledger") / "file"
    one = Ledger(path)
    for case, now, reason, hint in failures:
        one.failed(case, now, reason, hint)

    assert one.save() is None
    assert list(one) == list(Ledger(path))


def test_reason_is_cut_where_it_is_too_long(path: Path) -> None:
    assert ledger.LONGEST_TEXT == len(Ledger(path).failed(of("1"), NOW, "x" * 10**6).reason)


def test_file_and_its_directory_are_the_users_alone(path: Path) -> None:
    filled(path, of("1"))

    assert [0o700, 0o600] == [stat.S_IMODE(one.stat().st_mode) for one in (path.parent, path)]
    assert [path] == list(path.parent.iterdir())


def test_file_that_a_killed_run_left_half_written_is_replaced(path: Path) -> None:
    filled(path, of("1"))
    half = path.with_name(path.name + ".tmp")
    half.write_text("{")
    half.chmod(0o644)

    filled(path, of("2"))

    assert ([path], 0o600, 2) == (list(path.parent.iterdir()), stat.S_IMODE(path.stat().st_mode), len(Ledger(path)))


def test_nothing_is_written_when_nothing_changed(path: Path) -> None:
    filled(path, of("1"))
    before = path.stat()
    one = Ledger(path)

    one.done(of("2"))
    one.keep(INBOX, {Side.A: [Uid("1")]})
    one.keep(WORK, {Side.A: [], Side.B: []})
    one.clear([WORK])
    assert one.save() is None

    assert (before.st_ino, before.st_mtime_ns) == (path.stat().st_ino, path.stat().st_mtime_ns)


def test_empty_ledger_makes_no_file(path: Path) -> None:
    assert Ledger(path).save() is None
    assert not path.parent.exists()


def test_ledger_without_a_path_forgets() -> None:
    one = Ledger(None)
    one.failed(of("1"), NOW, "too big")

    assert (None, 0) == (one.save(), len(Ledger(None)))


ENTRY = {
    "box": "INBOX", "kind": "copy", "on": "b", "uid": "1", "id": "<1@x>",
    "reason": "too big", "hint": "", "first": 1, "tries": 1, "next": 2,
}  # fmt: skip
WRONG: list[dict[str, object]] = [
    {"box": 7},
    {"kind": "eat"},
    {"kind": []},
    {"on": "c"},
    {"uid": None},
    {"id": ["<1@x>"]},
    {"reason": 1},
    {"first": 1.5},
    {"first": float("nan")},
    {"tries": 0},
    {"tries": True},
    {"next": "2"},
    {"next": -1},
]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "7",
        '"entries"',
        "{}",
        "[" * 100_000,
        '{"version": 1}',
        '{"version": 1, "entries": 7}',
        '{"version": 1, "entries": [7]}',
        '{"version": 1, "entries": [[]]}',
        json.dumps({"version": 2, "entries": [ENTRY]}),
        *(json.dumps({"version": 1, "entries": [ENTRY, {**ENTRY, "uid": "2", **wrong}]}) for wrong in WRONG),
        '{"version": 1, "entries": [{"next": ' + "9" * 10_000 + "}]}",
    ],
)
def test_file_that_is_damaged_or_not_ours_is_an_empty_ledger(tmp_path: Path, text: str) -> None:
    (tmp_path / "ledger").write_text(text)

    one = Ledger(tmp_path / "ledger")

    assert 0 == len(one)
    one.failed(of("1"), NOW, "too big")
    assert (None, 1) == (one.save(), len(Ledger(tmp_path / "ledger")))


def test_file_of_this_form_is_read(tmp_path: Path) -> None:
    (tmp_path / "ledger").write_text(json.dumps({"version": 1, "entries": [ENTRY]}))

    assert [(of("1"), Entry("too big", "", 1, 1, 2))] == list(Ledger(tmp_path / "ledger"))


@pytest.mark.parametrize("data", [b"\xff\xfe{", b"\0" * 100, b'{"version": 1, "entries": [] \xff}'])
def test_file_of_odd_bytes_is_an_empty_ledger(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "ledger").write_bytes(data)

    assert 0 == len(Ledger(tmp_path / "ledger"))


# ---- when it cannot be written ---------------------------------------------------------------------------------------


@contextmanager
def files_end_at(size: int) -> Iterator[None]:
    """No file can become longer, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_is_told_and_the_old_ledger_stays(path: Path) -> None:
    one = filled(path, of("1"))
    one.failed(of("2"), NOW, "too big")

    with files_end_at(100):
        failure = one.save()

    assert failure
    assert (f"{path}: cannot be written: File too large", True) == (str(failure), one.changed)
    assert ([path], [of("1")]) == (list(path.parent.iterdir()), [case for case, _ in Ledger(path)])
    assert (None, 2) == (one.save(), len(Ledger(path)))


def test_state_directory_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("no directory")
    one = Ledger(tmp_path / "state" / "ledger")
    one.failed(of("1"), NOW, "too big")

    failure = one.save()

    assert failure
    assert "Until it can, messages that fail are tried again in every run." == failure.hint


@pytest.mark.usefixtures("ordinary")
def test_ledger_that_cannot_be_read_is_an_empty_one(path: Path) -> None:
    filled(path, of("1"))
    path.chmod(0)

    assert 0 == len(Ledger(path))


# ---- where it lies ---------------------------------------------------------------------------------------------------


def test_each_channel_has_a_ledger_of_its_own(home: Path) -> None:
    found = ledger_file("ab", "/home/jane/msinfo")

    assert home / ".local/state/mailsync" == found.parent
    assert 4 == len(
        {found, ledger_file("ac", "/home/jane/msinfo"), ledger_file("ab", "/m"), record_file("ab", "/home/jane/msinfo")}
    )
