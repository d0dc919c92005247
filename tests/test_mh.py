"""One MH mailbox, beside the standard library's and other programs that work in it."""

from __future__ import annotations

import mailbox
import os
from collections.abc import Generator
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailsync.drivers import delivery, files
from mailsync.drivers.mh import Mh, profile_path
from mailsync.drivers.mhopen import file_of
from mailsync.errors import BoxError
from mailsync.model import (
    ANSWERED,
    DELETED,
    FLAGGED,
    NONE,
    SEEN,
    SYSTEM,
    Appended,
    Entry,
    Failure,
    FlagChange,
    Flags,
    Head,
    Mailbox,
    MessageId,
    Token,
    Uid,
)

from .mail import resting
from .test_files import fast_directory
from .test_maildir import ById, append, bodies, dates, expunge, fetched, gone, ids, mail, set_flags

NAME = Mailbox("box")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "box"


@pytest.fixture
def box(path: Path) -> Mh:
    made = Mh(str(path), NAME)
    made.create()
    return made


def numbers(path: Path) -> list[str]:
    return sorted((name for name in os.listdir(path) if name != ".mh_sequences"), key=lambda name: (len(name), name))


def number_of(path: Path, uid: Uid | None) -> str:
    [name] = [name for name in numbers(path) if file_of((path / name).stat()) == uid]
    return name


def sequences(path: Path) -> bytes:
    return (path / ".mh_sequences").read_bytes()


def flags(box: Mh) -> dict[MessageId, Flags]:
    return {entry.id: entry.flags for entry in box.listing(ById()).entries}


# ---- listing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "told"), [(".mh_sequences", True), ("7", True), ("07", False), (",7", False)])
def test_directory_with_a_number_or_sequences_is_mh(tmp_path: Path, name: str, told: bool) -> None:
    (tmp_path / "box").mkdir()
    (tmp_path / "box" / name).write_bytes(b"Subject: x\n\nhi\n")

    assert told == Mh.recognise(str(tmp_path / "box"))


@pytest.mark.parametrize("text", [b"", b"From a@x Mon Jan  1 00:00:00 2024\nSubject: x\n\nhi\n\n"])
def test_directory_of_mboxes_named_by_years_is_not_mh(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "2024").write_bytes(text)

    assert not Mh.recognise(str(tmp_path))


def test_what_has_no_files_or_is_no_directory_is_not_mh(tmp_path: Path) -> None:
    (tmp_path / "2023").mkdir()
    (tmp_path / "file").touch()

    assert (False, False, False) == tuple(Mh.recognise(str(tmp_path / p)) for p in ("", "file", "none"))


def test_only_files_with_whole_numbers_are_messages_in_their_order(box: Mh, path: Path) -> None:
    for name in ("10", "9", "0", "011", ",8", "8.bak", "#7", ".xmhcache"):
        (path / name).write_bytes(b"Message-ID: <%s>\n\n" % name.encode())
    (path / "12").mkdir()
    os.mkfifo(path / "13")

    assert ["<9>", "<10>"] == ids(box.listing(ById()))


def test_messages_without_sequences_are_seen(box: Mh, path: Path) -> None:
    (path / ".mh_sequences").unlink()
    (path / "1").touch()

    assert [{SEEN}] == list(flags(box).values())


def test_flags_are_sequences(box: Mh, path: Path) -> None:
    (path / ".mh_sequences").write_bytes(b"cur: 1\nunseen: 2\nreplied: 1\nflagged: 1-2\nTodo: 2\n")
    for n in (1, 2):
        (path / str(n)).write_bytes(b"Message-ID: <%d>\n\n" % n)

    assert {"<1>": {SEEN, ANSWERED, FLAGGED}, "<2>": {FLAGGED, "Todo"}} == flags(box)


def test_reused_number_is_another_message(box: Mh, path: Path) -> None:
    (uid,) = append(box, mail(1))
    os.rename(path / "1", path / "kept")
    (path / "1").write_bytes(b"Message-ID: <2>\n\n")

    changed = set_flags(box, FlagChange(uid, add=frozenset({SEEN})))

    assert [True, True, True] == [gone(answer) for answer in (*expunge(box, uid), *changed, *fetched(box, [uid]))]
    assert {"<2>": NONE} == flags(box)
    assert uid != box.listing(ById()).entries[0].uid


def test_message_that_gets_another_number_is_the_same_and_keeps_its_flags(box: Mh, path: Path) -> None:
    """As packing and `sortm` give them: it was taken for another one, and what was deleted came back."""
    uids = append(box, mail(1), mail(2, {SEEN}), mail(3))
    with box.open(write=True) as opened:
        assert 3 == len(list(opened.heads(uids)))
        (path / "1").rename(path / "9")
        (path / "3").rename(path / "1")
        (path / ".mh_sequences").write_bytes(b"unseen: 1 9\n")

        changed = list(opened.set_flags([FlagChange(uids[2], frozenset({FLAGGED}))]))
        removed = list(opened.expunge(uids[:1]))

    assert [uids[2], uids[0]] == [*changed, *removed]
    assert ["1", "2"] == numbers(path)
    assert [uids[2], uids[1]] == [entry.uid for entry in box.listing(ById()).entries]
    assert {"<3>": {FLAGGED}, "<2>": {SEEN}} == flags(box)


def test_second_link_to_a_message_is_another_one(box: Mh, path: Path) -> None:
    [uid] = append(box, mail(1))
    os.link(path / "1", path / "2")
    both = [entry.uid for entry in box.listing(ById()).entries]

    assert both[0] == uid != both[1]
    assert [both[1]] == expunge(box, both[1])
    assert ["1"] == numbers(path)


def test_messages_of_one_date_and_length_are_known_apart_in_one_inode(box: Mh, path: Path) -> None:
    """Inodes are used again at once: the time of a file tells it from the one before."""
    uids = []
    for n in range(20):
        uids += append(box, mail(n % 10))
        (path / numbers(path)[0]).unlink()

    assert 20 == len(set(uids))


def test_known_messages_are_not_read_again(box: Mh) -> None:
    uids = append(box, mail(1), mail(2, {SEEN}))
    known = replace(box.listing(ById()), entries=[Entry(uids[1], MessageId("<known>"), NONE)])

    assert [("<1>", NONE), ("<known>", {SEEN})] == [(e.id, e.flags) for e in box.listing(ById(), known).entries]


def test_listing_of_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="box"):
        Mh(str(tmp_path / "none"), NAME).listing(ById())


def test_token_stays_while_nothing_happens_and_differs_after_each_change(box: Mh) -> None:
    tokens = [resting(box)]
    (uid,) = append(box, mail(1))
    tokens.append(resting(box))
    set_flags(box, FlagChange(uid, add=frozenset({SEEN})))
    resting(box)
    tokens.append(box.listing(ById()).token or Token(""))
    expunge(box, uid)
    tokens.append(resting(box))

    assert 4 == len(set(tokens))
    assert tokens[-1] == resting(box)


def test_reading_changes_nothing_not_even_access_times(box: Mh, path: Path) -> None:
    uids = append(box, mail(1), mail(2, {SEEN}))
    for name in ("1", "2"):
        os.utime(path / name, (5, 10))
    uids = [entry.uid for entry in box.listing(ById()).entries]
    before = [os.stat(path / name) for name in ("1", "2")]

    box.listing(ById())
    fetched(box, uids)
    with box.open(write=False) as opened:
        list(opened.heads(uids))

    assert [s.st_atime_ns for s in before] == [os.stat(path / name).st_atime_ns for name in ("1", "2")]
    assert before == [os.stat(path / name) for name in ("1", "2")]


# ---- append, fetch ---------------------------------------------------------------------------------------------------

holdable = st.frozensets(st.sampled_from([*sorted(SYSTEM), "$Forwarded", "Work", "unseen", "x y"]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(messages=st.lists(st.tuples(bodies, holdable, dates), min_size=1, max_size=3))
def test_what_is_appended_is_fetched_to_the_byte(tmp_path: Path, messages: list[tuple[bytes, Flags, int]]) -> None:
    box = Mh(str(tmp_path / "box"), NAME, fsync=False)
    box.create()

    uids = append(box, *(mail(n, flags, data, date) for n, (data, flags, date) in enumerate(messages)))

    assert [(uid, f, d, data) for uid, (data, f, d) in zip(uids, messages, strict=True)] == fetched(box, uids)
    assert set(uids) <= {entry.uid for entry in box.listing(ById()).entries}


def test_appended_messages_follow_the_highest_number_and_leave_gaps(box: Mh, path: Path) -> None:
    (path / "3").touch()
    (path / "9").touch()

    uids = append(box, mail(1), mail(2))

    assert ["3", "9", "10", "11"] == numbers(path)
    assert ["10", "11"] == [number_of(path, uid) for uid in uids]
    assert uids == [entry.uid for entry in box.listing(ById()).entries][2:]


def test_number_that_another_program_takes_first_is_left_to_it(box: Mh, path: Path) -> None:
    with box.open(write=True) as opened:
        list(opened.append([mail(1, {SEEN})]))
        (path / "2").write_bytes(b"Message-ID: <other>\n\n")
        (path / "3").write_bytes(b"Message-ID: <third>\n\n")

        answers = list(opened.append([mail(2, {SEEN, DELETED}), mail(3, {FLAGGED})]))

    assert [("from2", "4"), ("from3", "5")] == [
        (answer.source, number_of(path, answer.uid)) for answer in answers if isinstance(answer, Appended)
    ]
    assert {"<1>": {SEEN}, "<other>": {SEEN}, "<third>": NONE, "<2>": {SEEN, DELETED}, "<3>": {FLAGGED}} == flags(box)


def test_flags_left_over_for_a_number_are_not_those_of_the_new_message(box: Mh, path: Path) -> None:
    (path / ".mh_sequences").write_bytes(b"deleted: 1\nTodo: 1-2\ncur: 1\n")

    append(box, mail(1))

    assert b"Todo: 2\ncur: 1\nunseen: 1\n" == sequences(path)


def test_standard_library_reads_what_is_appended(box: Mh, path: Path) -> None:
    append(box, mail(1, {SEEN, ANSWERED, "Todo"}), mail(2))
    other = mailbox.MH(path)

    assert {"unseen": [2], "replied": [1], "Todo": [1]} == other.get_sequences()
    assert ["<1>", "<2>"] == [other[key]["Message-ID"] for key in sorted(other.keys())]


def test_what_the_standard_library_wrote_is_read(box: Mh, path: Path) -> None:
    message = mailbox.MHMessage("Message-ID: <1>\n\ntext\n")
    message.set_sequences(["unseen", "flagged"])
    mailbox.MH(path).add(message)

    assert {"<1>": {FLAGGED}} == flags(box)


def test_message_that_went_between_listing_and_fetch_is_gone(box: Mh, path: Path) -> None:
    uids = append(box, mail(1), mail(2))
    (path / "1").unlink()

    first, second = fetched(box, uids)

    assert (True, b"Message-ID: <2>\n\ntext\n") == (gone(first), getattr(second, "data", None))


def test_heads_bring_header_and_date(box: Mh) -> None:
    (uid,) = append(box, mail(1))
    with box.open(write=False) as opened:
        head, missing = opened.heads([uid, Uid("none")])

    assert (Head(uid, b"Message-ID: <1>\n", 1_000_000_000), True) == (head, gone(missing))


def test_append_that_is_given_up_leaves_no_part_of_a_message(box: Mh, path: Path) -> None:
    with box.open(write=True) as opened:
        answers = opened.append(mail(n) for n in range(2000))
        assert isinstance(next(answers), Appended)
        assert isinstance(answers, Generator)
        answers.close()

    assert [str(n) for n in range(1, 501)] == numbers(path)


def test_sequences_that_cannot_be_written_spoil_the_batch_and_leave_nothing(box: Mh, path: Path) -> None:
    (path / ".mh_sequences").unlink()
    (path / ".mh_sequences").symlink_to(path / "nowhere" / "else")
    with box.open(write=True) as opened:
        (answer,) = opened.append([mail(1)])

    assert (True, []) == (isinstance(answer, Failure), numbers(path))


def test_what_killed_runs_left_is_taken_away_when_it_is_old(
    box: Mh, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stayed for ever, and each killed run added to it."""
    (path / ",mailsync.1.2.3").touch()
    (path / ",1").touch()
    append(box, mail(1))
    young = numbers(path)
    monkeypatch.setattr(delivery, "ABANDONED", -1)
    append(box, mail(2))

    assert (["1", ",1", ",mailsync.1.2.3"], ["1", "2", ",1"]) == (young, numbers(path))


def test_write_is_refused_where_there_is_no_directory(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="no directory"), Mh(str(tmp_path / "none"), NAME).open(write=True):
        pass


# ---- flags -----------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(start=holdable, changes=st.lists(st.tuples(holdable, holdable), max_size=4))
def test_flags_after_changes_are_what_a_model_says(
    tmp_path: Path, start: Flags, changes: list[tuple[Flags, Flags]]
) -> None:
    box = Mh(str(tmp_path / "box"), NAME, fsync=False)
    box.create()
    (uid,) = append(box, mail(1, start))
    for add, remove in changes:
        start = start - remove | add

    assert [uid] * len(changes) == set_flags(box, *(FlagChange(uid, add, remove) for add, remove in changes))
    assert [start] == [entry.flags for entry in box.listing(ById()).entries if entry.uid == uid]


def test_sequences_of_others_stay(box: Mh, path: Path) -> None:
    (uid,) = append(box, mail(1))
    (path / ".mh_sequences").write_bytes(b"cur: 1\nmine: 1 7-9\n")

    set_flags(box, FlagChange(uid, add=frozenset({FLAGGED})))

    assert b"cur: 1\nmine: 1 7-9\nflagged: 1\n" == sequences(path)


# ---- expunge, delete -------------------------------------------------------------------------------------------------


def test_directory_known_by_its_numbers_is_a_mailbox_without_them(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"Message-ID: <1>\n\n")
    box = Mh(str(tmp_path), NAME)
    [entry] = box.listing(ById()).entries

    with box.open(write=True) as opened:
        assert [entry.uid] == list(opened.expunge([entry.uid]))

    assert [] == list(box.listing(ById()).entries)
    assert Mh.recognise(str(tmp_path))


def test_only_what_was_named_is_expunged_and_leaves_its_sequences(box: Mh, path: Path) -> None:
    uids = append(box, mail(1, {DELETED}), mail(2, {DELETED}), mail(3))

    assert [uids[0], True] == [gone(answer) or answer for answer in expunge(box, uids[0], "x")]
    assert (["2", "3"], b"unseen: 2-3\ndeleted: 2\n") == (
        numbers(path),
        b"".join(sorted(sequences(path).splitlines(True), reverse=True)),
    )


def test_directory_is_read_once_for_all_messages_that_are_gone(
    box: Mh, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was for each of them, while programs of MH waited for the sequences."""
    uids = append(box, *(mail(n) for n in range(10)))
    for number in range(1, 11, 2):
        (path / str(number)).unlink()
    scans: list[Mh] = []
    inodes = Mh.inodes

    def noted(box: Mh) -> dict[int, list[int]]:
        scans.append(box)
        return inodes(box)

    monkeypatch.setattr(Mh, "inodes", noted)

    answers = expunge(box, *uids)

    assert [one if n % 2 else True for n, one in enumerate(uids)] == [
        one.gone if isinstance(one, Failure) else one for one in answers
    ]
    assert ([], 1) == (numbers(path), len(scans))


def test_directory_that_changes_all_the_time_spoils_only_who_is_looked_for(
    box: Mh, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where inodes differ from what a directory says: messages that were removed already were told as failed."""
    _, *going = append(box, *(mail(n) for n in range(4)))
    monkeypatch.setattr(
        Mh, "inodes", lambda box: {2**60: [4], **{int(going[n].split(".")[0]): [n + 2] for n in (0, 1)}}
    )
    moments = count()
    monkeypatch.setattr(files, "PAUSES", (0.0,))
    monkeypatch.setattr(files, "state", lambda path: (next(moments),))

    answers = expunge(box, *going, "0.0.0")

    assert going[:2] == answers[:2]
    assert ["all the time"] * 2 == [one.why[-12:] for one in answers[2:] if isinstance(one, Failure)]
    assert ["1", "4"] == numbers(path)


def test_large_mailbox_is_listed_flagged_and_emptied() -> None:
    with fast_directory() as directory:
        box = Mh(f"{directory}/box", NAME, fsync=False)
        box.create()
        uids = append(box, *(mail(n) for n in range(5000)))

        assert [f"<{n}>" for n in range(5000)] == ids(box.listing(ById()))
        assert uids == set_flags(box, *(FlagChange(uid, add=frozenset({SEEN})) for uid in uids))
        assert {frozenset({SEEN})} == {entry.flags for entry in box.listing(ById()).entries}
        assert uids == expunge(box, *uids)
        assert [] == box.listing(ById()).entries


def test_empty_mailbox_is_deleted(box: Mh, path: Path) -> None:
    (path / ".xmhcache").touch()

    box.delete()

    assert not path.exists()


def test_mailbox_below_a_deleted_one_stays(box: Mh, path: Path) -> None:
    below = Mh(str(path / "sub"), NAME)
    below.create()
    append(below, mail(1))

    box.delete()

    assert (["sub"], ["<1>"]) == (os.listdir(path), ids(below.listing(ById())))


@pytest.mark.parametrize("name", ["1", ",1", "notes.txt"])
def test_mailbox_that_holds_a_message_or_an_unknown_file_is_not_deleted(box: Mh, path: Path, name: str) -> None:
    (path / name).touch()

    with pytest.raises(BoxError, match="not empty"):
        box.delete()

    assert {name, ".mh_sequences"} == set(os.listdir(path))


def test_mailbox_made_twice_is_private_and_keeps_its_mail(box: Mh, path: Path) -> None:
    append(box, mail(1, {SEEN}))
    box.create()

    assert path.stat().st_mode & 0o777 == 0o700
    assert {"<1>": {SEEN}} == flags(box)


def test_linked_mailbox_is_used(box: Mh, path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)

    append(Mh(str(tmp_path / "link"), NAME), mail(1, {SEEN}))

    assert {"<1>": {SEEN}} == flags(box)


# ---- the user's profile ----------------------------------------------------------------------------------------------


def test_profile_tells_where_mail_lies(home: Path) -> None:
    assert profile_path(str(home)) is None

    (home / ".mh_profile").write_bytes(b"Editor: vi\npath:  Mail/MH \n")

    assert str(home / "Mail/MH") == profile_path(str(home))


def test_profile_may_name_another_file_for_sequences(home: Path, path: Path) -> None:
    (home / ".mh_profile").write_bytes(b"MH-Sequences: .other\n")
    box = Mh(str(path), NAME)
    box.create()
    append(box, mail(1, {FLAGGED}))

    assert Mh.recognise(str(path))
    assert b"flagged: 1" in (path / ".other").read_bytes()


def test_profile_without_public_sequences_means_no_flags(home: Path, path: Path) -> None:
    (home / ".mh_profile").write_bytes(b"mh-sequences:\n")
    box = Mh(str(path), NAME)
    box.create()
    append(box, mail(1, {FLAGGED}))

    assert b"" == sequences(path)
    assert [False, False, True] == [f in box.holds() for f in (SEEN, "Work")] + [Mh.recognise(str(path))]
