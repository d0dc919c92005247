"""One Maildir, beside the standard library's and other programs that work in it."""

from __future__ import annotations

import hashlib
import mailbox
import os
import re
import subprocess
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailsync.drivers.formats import Local
from mailsync.drivers.maildir import Maildir
from mailsync.drivers.maildiropen import OpenMaildir
from mailsync.errors import BoxError
from mailsync.model import (
    ANSWERED,
    DELETED,
    FLAGGED,
    HIDDEN,
    NONE,
    SEEN,
    SYSTEM,
    Appended,
    Entry,
    Failure,
    FlagChange,
    Flags,
    Head,
    Holds,
    Listing,
    Mailbox,
    Message,
    MessageId,
    Token,
    Uid,
)

from .mail import resting
from .test_files import fast_directory

NAME = Mailbox("box")


class Fetched(NamedTuple):
    uid: Uid
    flags: Flags
    date: int
    data: bytes


def gone(answer: object) -> bool:
    return isinstance(answer, Failure) and answer.gone


class ById:
    """A small identity: the Message-ID, or the digest of all."""

    fields = (b"message-id",)
    version = "test"
    quick: tuple[bytes, ...] = ()

    def __call__(self, header: bytes) -> MessageId | None:
        if b"From: mailsync\n" in header:
            return HIDDEN
        found = re.search(rb"(?im)^message-id: *(\S+)", header)
        return MessageId(found[1].decode("latin-1")) if found else None

    def sure(self, header: bytes, /) -> MessageId | None:
        return None

    def whole(self, chunks: Iterable[bytes]) -> MessageId:
        return MessageId(hashlib.md5(b"".join(chunks)).hexdigest())


class Text:
    def __init__(self, data: bytes) -> None:
        self.data = data

    def size(self, *, wire: bool) -> int:
        return len(b"".join(self.chunks(wire=wire)))

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        yield re.sub(rb"\r?\n", b"\r\n", self.data) if wire else self.data


def mail(n: int, flags: Iterable[str] = NONE, data: bytes | None = None, date: int = 1_000_000_000) -> Message:
    data = b"Message-ID: <%d>\n\ntext\n" % n if data is None else data
    return Message(Uid(f"from{n}"), frozenset(flags), date, Text(data))


def ids(listing: Listing) -> list[MessageId]:
    return [entry.id for entry in listing.entries]


def names(path: Path) -> list[str]:
    return sorted(f"{part}/{name}" for part in ("cur", "new", "tmp") for name in os.listdir(path / part))


def fetched(box: Local, uids: Sequence[Uid]) -> list[Fetched | Failure]:
    with box.open(write=False) as opened:
        return [
            Fetched(m.uid, m.flags, m.date, b"".join(m.body.chunks(wire=False))) if isinstance(m, Message) else m
            for m in opened.fetch(uids)
        ]


def append(box: Local, *messages: Message) -> list[Uid]:
    with box.open(write=True) as opened:
        return [answer.uid for answer in opened.append(messages) if isinstance(answer, Appended) and answer.uid]


def set_flags(box: Local, *changes: FlagChange) -> list[Uid | Failure]:
    with box.open(write=True) as opened:
        return list(opened.set_flags(changes))


def expunge(box: Local, *uids: str) -> list[Uid | Failure]:
    with box.open(write=True) as opened:
        return list(opened.expunge([Uid(uid) for uid in uids]))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "box"


@pytest.fixture
def box(path: Path) -> Maildir:
    made = Maildir(str(path), NAME)
    made.create()
    return made


# ---- listing ---------------------------------------------------------------------------------------------------------


def test_directory_with_cur_new_and_tmp_is_a_maildir(box: Maildir, path: Path) -> None:
    assert Maildir.recognise(str(path))

    (path / "tmp").rmdir()

    assert not Maildir.recognise(str(path))


def test_messages_are_listed_in_the_order_of_their_delivery(box: Maildir, path: Path) -> None:
    for name in ("new/9.b", "cur/10.a:2,S", "cur/9.a:2,", "cur/.hidden", "tmp/8.t"):
        (path / name).write_bytes(b"Message-ID: <%s>\n\n" % name.encode())
    (path / "cur/1.dir").mkdir()
    os.mkfifo(path / "cur/1.fifo")

    assert ["<cur/9.a:2,>", "<new/9.b>", "<cur/10.a:2,S>"] == ids(box.listing(ById()))


def test_flags_are_letters_in_cur_and_in_new(box: Maildir, path: Path) -> None:
    (path / "dovecot-keywords").write_bytes(b"0 Work\n")
    for name in ("new/1.a:2,T", "cur/2.a:2,FPa", "cur/3.a", "cur/4.a;2,R"):
        (path / name).touch()

    listed = {entry.uid: entry.flags for entry in box.listing(ById()).entries}

    assert {"1.a": {DELETED}, "2.a": {FLAGGED, "$Forwarded", "Work"}, "3.a": NONE, "4.a": {ANSWERED}} == listed


def test_messages_without_id_are_known_by_all_they_hold_and_msinfo_is_not_listed(box: Maildir, path: Path) -> None:
    (path / "new/1.a").write_bytes(b"\nbody")
    (path / "new/2.a").write_bytes(b"From: mailsync\n\n<id>")

    assert [hashlib.md5(b"\nbody").hexdigest()] == ids(box.listing(ById()))


def test_message_that_cannot_be_read_makes_the_listing_incomplete(tmp_path: Path) -> None:
    script = (
        "import os, sys; sys.path.insert(0, sys.argv[2]); os.chdir(sys.argv[1]);"
        "from tests.test_maildir import *; os.geteuid() or os.setuid(65534);"  # root may read everything
        "listing = Maildir('box', NAME).listing(ById());"
        "print([(f.what, f.why) for f in listing.unreadable], ids(listing), listing.complete)"
    )
    made = Maildir(str(tmp_path / "box"), NAME)
    made.create()
    append(made, mail(1))
    (tmp_path / "box/cur/9.secret:2,S").touch(mode=0)
    for directory in ("", "box", "box/cur", "box/new", "box/tmp"):
        (tmp_path / directory).chmod(0o755)
    next((tmp_path / "box/new").iterdir()).chmod(0o644)

    run = [sys.executable, "-c", script, str(tmp_path), str(Path(__file__).parents[1])]
    told = subprocess.run(run, capture_output=True, text=True, check=True).stdout

    assert "[('9.secret', 'Permission denied')] ['<1>'] False\n" == told


def test_two_messages_with_one_unique_name_are_told(box: Maildir, path: Path) -> None:
    (path / "new/1.a").write_bytes(b"Message-ID: <1>\n\n")
    (path / "cur/1.a:2,S").write_bytes(b"Message-ID: <2>\n\n")

    listing = box.listing(ById())

    assert (["<2>"], ["1.a"]) == (ids(listing), [failure.what for failure in listing.unreadable])


def test_none_of_two_messages_with_one_unique_name_is_removed_or_renamed(box: Maildir, path: Path) -> None:
    (path / "new/1.a").write_bytes(b"one")
    (path / "cur/1.a:2,S").write_bytes(b"two")

    answers = expunge(box, Uid("1.a")) + set_flags(box, FlagChange(Uid("1.a"), add=frozenset({DELETED})))

    assert [True, True] == [isinstance(answer, Failure) and not gone(answer) for answer in answers]
    assert ["cur/1.a:2,S", "new/1.a"] == names(path)


def test_message_linked_under_two_names_is_one_message_and_goes_with_both(box: Maildir, path: Path) -> None:
    (path / "new/1.a").write_bytes(b"Message-ID: <1>\n\n")
    os.link(path / "new/1.a", path / "cur/1.a:2,S")

    listing = box.listing(ById())

    assert ([Entry(Uid("1.a"), MessageId("<1>"), frozenset({SEEN}))], True) == (listing.entries, listing.complete)
    assert ["1.a"] == expunge(box, Uid("1.a"))
    assert [] == names(path)


def test_known_messages_are_not_read_again(box: Maildir, path: Path) -> None:
    uids = append(box, mail(1, {SEEN}), mail(2))
    known = [Entry(uids[0], MessageId("<known>"), NONE)]

    listing = box.listing(ById(), replace(box.listing(ById()), entries=known))

    assert [("<known>", {SEEN}), ("<2>", NONE)] == [(entry.id, entry.flags) for entry in sorted(listing.entries)]


def test_listing_of_what_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="box"):
        Maildir(str(tmp_path / "none"), NAME).listing(ById())


def test_token_stays_while_nothing_happens_and_differs_after_each_change(box: Maildir, path: Path) -> None:
    tokens = [resting(box)]
    (uid,) = append(box, mail(1))
    tokens.append(resting(box))
    set_flags(box, FlagChange(uid, add=frozenset({SEEN})))
    resting(box)
    tokens.append(box.listing(ById()).token or Token(""))
    set_flags(box, FlagChange(uid, add=frozenset({"Work"})))
    tokens.append(resting(box))
    expunge(box, uid)
    tokens.append(resting(box))

    assert 5 == len(set(tokens))
    assert tokens[-1] == resting(box)
    assert tokens[-1] == box.listing(ById()).token


def test_mailbox_made_anew_under_its_name_has_another_validity(box: Maildir, path: Path) -> None:
    before = box.listing(ById()).validity
    os.rename(path, f"{path}.old")
    box.create()

    assert before != box.listing(ById()).validity


def test_reading_changes_nothing_not_even_access_times(box: Maildir, path: Path) -> None:
    uids = append(box, mail(1), mail(2, {SEEN}))
    for directory, _, found in os.walk(path):
        for name in (".", *found):
            os.utime(os.path.join(directory, name), (5, 10))

    def state() -> dict[str, os.stat_result]:
        return {f"{d}/{n}": os.lstat(f"{d}/{n}") for d, _, files in os.walk(path) for n in (".", *files)}

    before = [(name, s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns) for name, s in state().items()]
    fds = os.listdir(f"/proc/{os.getpid()}/fd") if os.path.isdir("/proc") else []
    box.listing(ById())
    fetched(box, uids)
    with box.open(write=False) as opened:
        list(opened.heads(uids))

    # os.walk itself may touch the directories' access times, but what it does comes after what it shows
    after = [(name, s.st_atime_ns, s.st_mtime_ns, s.st_ctime_ns) for name, s in state().items() if "/." not in name]
    assert [entry for entry in before if "/." not in entry[0]] == after
    assert len(fds) == (len(os.listdir(f"/proc/{os.getpid()}/fd")) if os.path.isdir("/proc") else 0)


# ---- append, fetch ---------------------------------------------------------------------------------------------------


pieces = st.sampled_from([b"\r", b"\n", b"\r\n", b"Message-ID: <x>", b"From ", b"\0", b"\xff", b" ", b"\n\n", b"text"])
bodies = st.lists(pieces).map(b"".join) | st.binary()
holdable = st.frozensets(st.sampled_from([*sorted(SYSTEM), "$Forwarded", "Work", "$Label1"]))
dates = st.integers(0, 2**31 - 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(messages=st.lists(st.tuples(bodies, holdable, dates), min_size=1, max_size=3))
def test_what_is_appended_is_fetched_to_the_byte(tmp_path: Path, messages: list[tuple[bytes, Flags, int]]) -> None:
    box = Maildir(str(tmp_path / "box"), NAME, fsync=False)
    box.create()

    uids = append(box, *(mail(n, flags, data, date) for n, (data, flags, date) in enumerate(messages)))

    assert [(uid, f, d, data) for uid, (data, f, d) in zip(uids, messages, strict=True)] == fetched(box, uids)
    assert set(uids) <= {entry.uid for entry in box.listing(ById()).entries}


def test_appended_messages_keep_their_order(box: Maildir, path: Path) -> None:
    uids = append(box, *(mail(n, {SEEN} if n % 2 else NONE) for n in range(20)))

    listing = box.listing(ById())

    assert [f"<{n}>" for n in range(20)] == ids(listing)
    assert uids == [entry.uid for entry in listing.entries]


def test_message_without_flags_is_new_and_with_flags_is_not(box: Maildir, path: Path) -> None:
    append(box, mail(1), mail(2, {SEEN, FLAGGED}))

    assert [("new", True), ("cur", False)] == [
        (where[:3], not where.endswith(":2,FS")) for where in reversed(names(path))
    ]


def test_standard_library_reads_what_is_appended(box: Maildir, path: Path) -> None:
    append(box, mail(1, {SEEN, ANSWERED, "$Forwarded"}), mail(2))

    other = {m["Message-ID"]: (m.get_subdir(), m.get_flags(), m.get_date()) for m in mailbox.Maildir(path)}

    assert {"<1>": ("cur", "PRS", 1e9), "<2>": ("new", "", 1e9)} == other


def test_what_the_standard_library_wrote_is_read(box: Maildir, path: Path) -> None:
    message = mailbox.MaildirMessage("Message-ID: <1>\n\ntext\n")
    message.set_subdir("cur")
    message.set_flags("FT")
    mailbox.Maildir(path).add(message)

    assert [frozenset({FLAGGED, DELETED})] == [entry.flags for entry in box.listing(ById()).entries]


def test_message_that_went_between_listing_and_fetch_is_gone(box: Maildir, path: Path) -> None:
    uids = append(box, mail(1), mail(2))
    (path / "new" / uids[0]).unlink()

    first, second = fetched(box, uids)

    assert (True, b"Message-ID: <2>\n\ntext\n") == (gone(first), getattr(second, "data", None))


def test_message_that_went_after_the_box_was_opened_is_gone(box: Maildir, path: Path) -> None:
    uids = append(box, mail(1), mail(2))
    with box.open(write=False) as opened:
        fetching = opened.fetch(uids)
        next(fetching)
        (path / "new" / uids[1]).unlink()

        assert gone(next(fetching))


def test_message_renamed_by_another_program_meanwhile_is_found(box: Maildir, path: Path) -> None:
    uids = append(box, mail(1), mail(2), mail(3))
    with box.open(write=True) as opened:
        fetching = opened.fetch(uids)
        next(fetching)
        for uid in uids[1:]:
            os.rename(path / "new" / uid, path / "cur" / f"{uid}:2,F")

        assert [frozenset({FLAGGED})] * 2 == [m.flags for m in fetching if isinstance(m, Message)]
        os.rename(path / "cur" / f"{uids[1]}:2,F", path / "cur" / f"{uids[1]}:2,FR")
        assert [uids[1]] == list(opened.set_flags([FlagChange(uids[1], add=frozenset({SEEN}))]))
        os.rename(path / "cur" / f"{uids[2]}:2,F", path / "cur" / f"{uids[2]}:2,")
        assert [uids[2]] == list(opened.expunge([uids[2]]))

    assert [f"cur/{uids[1]}:2,FRS", f"new/{uids[0]}"] == names(path)


def test_heads_bring_header_and_date(box: Maildir) -> None:
    (uid,) = append(box, mail(1))
    with box.open(write=False) as opened:
        head, missing = opened.heads([uid, Uid("none")])

    assert (Head(uid, b"Message-ID: <1>\n", 1_000_000_000), True) == (head, gone(missing))


def test_append_that_is_given_up_leaves_no_part_of_a_message(box: Maildir, path: Path) -> None:
    with box.open(write=True) as opened:
        answers = opened.append(mail(n) for n in range(2000))
        assert isinstance(next(answers), Appended)
        assert isinstance(answers, Generator)
        answers.close()

    assert [500, 0] == [len(os.listdir(path / part)) for part in ("new", "tmp")]


def test_write_is_refused_where_there_is_no_maildir(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="no Maildir"), Maildir(str(tmp_path), NAME).open(write=True):
        pass


# ---- flags -----------------------------------------------------------------------------------------------------------


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40)
@given(start=holdable, changes=st.lists(st.tuples(holdable, holdable), max_size=4))
def test_flags_after_changes_are_what_a_model_says(
    tmp_path: Path, start: Flags, changes: list[tuple[Flags, Flags]]
) -> None:
    box = Maildir(str(tmp_path / "box"), NAME, fsync=False)
    box.create()
    (uid,) = append(box, mail(1, start))
    for add, remove in changes:
        start = start - remove | add

    set_flags(box, *(FlagChange(uid, add, remove) for add, remove in changes))

    assert [start] == [entry.flags for entry in box.listing(ById()).entries if entry.uid == uid]


def test_new_message_stays_new_till_it_gets_a_flag(box: Maildir, path: Path) -> None:
    (uid,) = append(box, mail(1))

    assert [uid] == set_flags(box, FlagChange(uid, remove=frozenset({SEEN})))
    assert [f"new/{uid}"] == names(path)
    assert [uid] == set_flags(box, FlagChange(uid, add=frozenset({SEEN})))
    assert [f"cur/{uid}:2,S"] == names(path)


def test_new_message_keeps_the_letters_that_it_came_with(box: Maildir, path: Path) -> None:
    (path / "new/1.a:2,F").touch()

    assert ["1.a"] == set_flags(box, FlagChange(Uid("1.a"), add=frozenset({FLAGGED})))
    assert ["new/1.a:2,F"] == names(path)
    assert ["1.a"] == set_flags(box, FlagChange(Uid("1.a"), add=frozenset({SEEN})))
    assert ["cur/1.a:2,FS"] == names(path)


def test_unknown_letters_and_what_follows_them_stay(box: Maildir, path: Path) -> None:
    (path / "cur/1.a:2,SXz,y=1").touch()

    set_flags(box, FlagChange(Uid("1.a"), frozenset({FLAGGED}), frozenset({SEEN})))

    assert ["cur/1.a:2,FXz,y=1"] == names(path)


def test_separator_of_the_box_is_used(box: Maildir, path: Path) -> None:
    (path / "cur/1.a!2,S").touch()
    (uid,) = append(box, mail(1, {SEEN}))

    set_flags(box, FlagChange(Uid("1.a"), frozenset({FLAGGED})))

    assert ["cur/1.a!2,FS", f"cur/{uid}!2,S"] == names(path)


def test_new_keyword_gets_a_letter_that_nobody_uses(box: Maildir, path: Path) -> None:
    (path / "dovecot-keywords").write_bytes(b"0 Work\n")
    (path / "cur/1.a:2,b").touch()
    (uid,) = append(box, mail(1, {"work", "$Label1"}))

    assert b"0 Work\n2 $Label1\n" == (path / "dovecot-keywords").read_bytes()
    assert {"1.a": NONE, uid: {"Work", "$Label1"}} == {e.uid: e.flags for e in box.listing(ById()).entries}


def test_keyword_without_room_fails_alone(box: Maildir, path: Path) -> None:
    (path / "dovecot-keywords").write_bytes(b"".join(b"%d k%d\n" % (n, n) for n in range(26)))
    first, second = append(box, mail(1), mail(2))

    changes = FlagChange(first, add=frozenset({"more"})), FlagChange(second, add=frozenset({"K3"}))
    failed, done = set_flags(box, *changes)

    assert (f"{first}: keyword more cannot be kept: a Maildir has room for 26 keywords without blanks", second) == (
        str(failed),
        done,
    )
    assert [{"k3"}, NONE] == sorted((e.flags for e in box.listing(ById()).entries), key=len, reverse=True)
    assert ("more" in box.holds(), "k3" in box.holds()) == (False, True)


def test_keywords_that_cannot_be_written_spoil_only_the_messages_that_need_them(box: Maildir, path: Path) -> None:
    (path / "dovecot-keywords.lock").mkdir()
    (path / "dovecot-keywords").symlink_to(path / "nowhere" / "else")
    first, second = append(box, mail(1), mail(2))

    changes = FlagChange(first, add=frozenset({"Work"})), FlagChange(second, add=frozenset({SEEN}))
    failed, done = set_flags(box, *changes)

    assert ("keyword Work cannot be kept: dovecot-keywords: No such file or directory", second) == (
        isinstance(failed, Failure) and failed.why,
        done,
    )


def test_flags_of_a_message_that_is_gone_are_not_set(box: Maildir) -> None:
    (answer,) = set_flags(box, FlagChange(Uid("none"), add=frozenset({SEEN})))

    assert gone(answer)


# ---- expunge, delete -------------------------------------------------------------------------------------------------


def test_only_what_was_named_is_expunged(box: Maildir) -> None:
    uids = append(box, mail(1, {DELETED}), mail(2, {DELETED}), mail(3))

    assert [uids[0], True] == [gone(answer) or answer for answer in expunge(box, uids[0], "x")]
    assert ["<2>", "<3>"] == ids(box.listing(ById()))


def test_large_maildir_is_listed_flagged_and_emptied() -> None:
    with fast_directory() as directory:
        box = Maildir(f"{directory}/box", NAME, fsync=False)
        box.create()
        uids = append(box, *(mail(n) for n in range(5000)))

        assert [f"<{n}>" for n in range(5000)] == ids(box.listing(ById()))
        assert uids == set_flags(box, *(FlagChange(uid, add=frozenset({SEEN})) for uid in uids))
        assert {frozenset({SEEN})} == {entry.flags for entry in box.listing(ById()).entries}
        assert uids == expunge(box, *uids)
        assert [] == box.listing(ById()).entries


def test_known_message_removed_while_the_others_are_read_is_left_out(box: Maildir, path: Path) -> None:
    for n in range(3):
        (path / "new" / f"{n}.x").write_bytes(b"Message-ID: <%d>\n\n" % n)

    class Other(ById):
        """Another program removes two messages while the first one is read."""

        def __call__(self, header: bytes) -> MessageId | None:
            for n in (1, 2):
                (path / "new" / f"{n}.x").unlink(missing_ok=True)
            return super().__call__(header)

    known = [Entry(Uid("2.x"), MessageId("<2>"), NONE)]

    assert ["<0>"] == ids(box.listing(Other(), Listing(NAME, known, Holds(), validity=box.validity())))


def test_empty_maildir_is_deleted_with_what_dovecot_kept_there(box: Maildir, path: Path) -> None:
    for name in ("dovecot-keywords", "dovecot-uidlist", "dovecot.index.log", "dovecot.index.cache"):
        (path / name).touch()

    box.delete()

    assert not path.exists()


def test_maildir_below_a_deleted_one_stays(box: Maildir, path: Path) -> None:
    below = Maildir(str(path / "sub"), NAME)
    below.create()
    append(below, mail(1))

    box.delete()

    assert (["sub"], ["<1>"]) == (os.listdir(path), ids(below.listing(ById())))


@pytest.mark.parametrize("name", ["cur/1.a:2,S", "new/1.a", "new/.odd", "tmp/1.a"])
def test_maildir_that_holds_anything_is_not_deleted(box: Maildir, path: Path, name: str) -> None:
    (path / name).touch()
    (path / "dovecot-keywords").touch()

    with pytest.raises(BoxError, match="box"):
        box.delete()

    assert ([name], True) == (names(path), (path / "dovecot-keywords").exists())


def test_file_of_an_unknown_kind_keeps_the_directory(box: Maildir, path: Path) -> None:
    (path / "notes.txt").touch()

    box.delete()

    assert ["notes.txt"] == os.listdir(path)


def test_maildir_made_twice_is_private_and_keeps_its_mail(box: Maildir, path: Path) -> None:
    append(box, mail(1))
    box.create()

    assert ({0o700}, ["<1>"]) == (
        {(path / part).stat().st_mode & 0o777 for part in ("", "cur", "new", "tmp")},
        ids(box.listing(ById())),
    )


def test_maildir_in_the_way_of_a_file_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(BoxError, match="cannot be created"):
        Maildir(str(tmp_path / "file" / "box"), NAME).create()


def test_linked_maildir_is_used_and_its_link_stays(box: Maildir, path: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(path)
    linked = Maildir(str(tmp_path / "link"), NAME)

    (uid,) = append(linked, mail(1))
    set_flags(linked, FlagChange(uid, add=frozenset({"Work"})))

    assert Maildir.recognise(str(tmp_path / "link"))
    assert [{"Work"}] == [entry.flags for entry in box.listing(ById()).entries]
    assert (tmp_path / "link").is_symlink()


def test_open_maildir_tells_what_its_listing_told(box: Maildir) -> None:
    listing = box.listing(ById())
    with box.open(write=False) as opened:
        assert isinstance(opened, OpenMaildir)
        assert (listing.holds, listing.validity) == (opened.holds, opened.validity)
