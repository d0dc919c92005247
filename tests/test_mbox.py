"""One mbox file, as the driver for local stores uses it."""

from __future__ import annotations

import errno
import hashlib
import mailbox
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailsync.drivers import mboxkept, mboxopen, mboxscan
from mailsync.drivers.files import FileError
from mailsync.drivers.mbox import Mbox
from mailsync.drivers.mboxfile import WINDOW, FileData
from mailsync.drivers.mboxspool import Spool
from mailsync.drivers.mboxtext import Source, Span
from mailsync.errors import BoxError
from mailsync.model import (
    ANSWERED,
    DELETED,
    DRAFT,
    FLAGGED,
    HIDDEN,
    NONE,
    SEEN,
    Appended,
    Entry,
    Failure,
    FlagChange,
    Flags,
    Head,
    Mailbox,
    Message,
    MessageId,
    Uid,
)

from .mail import resting

NEW_YEAR = 1704103200
POSTMARK = b"From MAILER-DAEMON Mon Jan  1 10:00:00 2024 +0000\n"
INTERNAL = (
    b"From MAILER-DAEMON Sat Nov 21 22:47:51 2026\nDate: 21 Nov 2026 22:47:51 +0000\n"
    b"Subject: DON'T DELETE THIS MESSAGE -- FOLDER INTERNAL DATA\nX-IMAP: 1795301271 0000000000\nStatus: RO\n\n"
    b"This text is part of the internal format of your mail folder.\n\n"
)
ORIGINAL = Path("/usr/bin/mailsync")


@dataclass
class Bytes:
    raw: bytes
    broken: bool = False

    def size(self, *, wire: bool) -> int:
        return sum(map(len, self.chunks(wire=wire)))

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        yield self.raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") if wire else self.raw
        if self.broken:
            raise FileError(5, "Input/output error")


class ById:
    """A plain Identify: the Message-ID, else a digest of the whole."""

    fields: tuple[bytes, ...] = (b"message-id",)
    version = "test"
    quick: tuple[bytes, ...] = ()

    def __init__(self) -> None:
        self.headers: list[bytes] = []

    def __call__(self, header: bytes, /) -> MessageId | None:
        if b"From: mailsync\n" in header:
            return HIDDEN
        self.headers.append(header)
        found = re.search(rb"(?im)^message-id:[ \t]*(\S+)", header)
        return MessageId(found[1].decode("latin-1")) if found else None

    def sure(self, header: bytes, /) -> MessageId | None:
        return None

    def whole(self, chunks: Iterable[bytes], /) -> MessageId:
        return MessageId(hashlib.md5(b"".join(chunks).rstrip(b"\r\n")).hexdigest())


def mail(n: int | str, body: str = "body\n", flags: Flags = NONE, date: int = NEW_YEAR) -> Message:
    return message(f"Message-ID: <{n}>\nSubject: {n}\n\n{body}".encode(), flags, date, uid=str(n))


def message(raw: bytes, flags: Flags = NONE, date: int = NEW_YEAR, uid: str = "m") -> Message:
    return Message(Uid(uid), flags, date, Bytes(raw))


def box_at(path: Path, *, fsync: bool = False) -> Mbox:
    return Mbox(str(path), Mailbox(path.name), fsync=fsync, wait=0.2)


@pytest.fixture
def box(tmp_path: Path) -> Mbox:
    made = box_at(tmp_path / "box")
    made.create()
    return made


def append(box: Mbox, *messages: Message) -> list[Appended | Failure]:
    with box.open(write=True) as opened:
        return list(opened.append(messages))


def uid_of(answer: Appended | Failure) -> Uid:
    assert isinstance(answer, Appended)
    assert answer.uid is not None
    return answer.uid


def entries(box: Mbox) -> list[Entry]:
    """Without a token, for which a listing waits."""
    with box.open(write=False) as opened:
        return entries_of(opened)


def entries_of(opened: object) -> list[Entry]:
    assert isinstance(opened, mboxopen.MboxBox)
    return list(opened.entries(ById(), {}))


def ids(box: Mbox) -> list[str]:
    return [entry.id for entry in entries(box)]


def bodies(box: Mbox) -> list[bytes]:
    return [raw for raw, _, _ in contents(box)]


def contents(box: Mbox) -> list[tuple[bytes, Flags, int]]:
    uids = [entry.uid for entry in entries(box)]
    found: list[tuple[bytes, Flags, int]] = []
    with box.open(write=False) as opened:
        for got in opened.fetch(uids):
            assert isinstance(got, Message)
            found.append((b"".join(got.body.chunks(wire=False)), got.flags, got.date))
    return found


def raw(box: Mbox) -> bytes:
    return Path(box.path).read_bytes()


def names(box: Mbox) -> list[str]:
    return sorted(os.listdir(os.path.dirname(box.path)))


# ---- recognise, create, delete ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("content", [b"", b"\n", POSTMARK, POSTMARK[:-1], POSTMARK + b"\n", INTERNAL])
def test_empty_file_or_postmark_is_recognised(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)

    assert Mbox.recognise(str(tmp_path / "x"))


@pytest.mark.parametrize("content", [b"From me to you\n", b"Subject: x\n", b"\0", b"#!/bin/sh\n", b"From "])
def test_other_files_are_not(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x").write_bytes(content)

    assert not Mbox.recognise(str(tmp_path / "x"))


def test_locks_and_temporary_files_are_not_recognised(box: Mbox) -> None:
    for name in ("box.lock", ".box.mailsync-append", ".box.mailsync-rewrite"):
        path = Path(box.path).with_name(name)
        path.write_bytes(b"")
        assert not Mbox.recognise(str(path))


def test_link_is_followed_and_fifo_and_directory_are_not_opened(box: Mbox, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("box")
    os.mkfifo(tmp_path / "fifo")

    assert [True, False, False] == [Mbox.recognise(str(tmp_path / name)) for name in ("link", "fifo", ".")]


def test_created_with_parents_for_the_owner_alone(tmp_path: Path) -> None:
    made = box_at(tmp_path / "a" / "b")

    made.create()
    append(made, mail(1))
    made.create()

    assert ["<1>"] == ids(made)
    assert 0o600 == (tmp_path / "a" / "b").stat().st_mode & 0o777


def test_creating_where_a_directory_is_fails(tmp_path: Path) -> None:
    (tmp_path / "box").mkdir()

    with pytest.raises(BoxError, match="something else"):
        box_at(tmp_path / "box").create()


def test_only_an_empty_box_is_deleted(box: Mbox) -> None:
    append(box, mail(1))
    with pytest.raises(BoxError, match="holds 1 message"):
        box.delete()
    with box.open(write=True) as opened:
        list(opened.expunge([entry.uid for entry in entries_of(opened)]))

    box.delete()

    assert [] == names(box)


def test_internal_data_does_not_keep_a_box_from_being_deleted(box: Mbox) -> None:
    Path(box.path).write_bytes(INTERNAL)

    box.delete()

    assert [] == names(box)


def test_token_differs_after_a_change_and_without_a_file(box: Mbox) -> None:
    before = resting(box)
    assert before == resting(box)

    append(box, mail(1))

    after = resting(box)
    os.unlink(box.path)
    assert 3 == len({before, after, resting(box)})


# ---- reading ---------------------------------------------------------------------------------------------------------


def test_listing_gives_headers_without_bookkeeping_and_flags(box: Mbox) -> None:
    Path(box.path).write_bytes(
        INTERNAL
        + b"From joe@x Mon Jan  1 10:00:00 2024\nStatus: RO\nX-Status: AF\nX-Keywords: foo bar\nMessage-ID: <1>\n"
        + b">From here\nX-UID: 3\nContent-Length: 9999\n\nhello\n>From you\n\n"
        + POSTMARK
        + b"From: mailsync\nSubject: ab\n\nbox\n\n"
        + POSTMARK
        + b"Subject: no id\n\nx"
    )
    identify = ById()

    listing = box.listing(identify)

    flags = frozenset({SEEN, ANSWERED, FLAGGED, "foo", "bar"})
    whole = hashlib.md5(b"Subject: no id\n\nx").hexdigest()
    assert [("<1>", flags), (whole, NONE)] == [(entry.id, entry.flags) for entry in listing.entries]
    assert [b"Message-ID: <1>\nFrom here\nContent-Length: 9999\n", b"Subject: no id\n"] == identify.headers
    assert listing.complete
    assert str(os.stat(box.path).st_ino) == listing.validity


def test_known_messages_are_not_identified_again(box: Mbox) -> None:
    append(box, mail(1), mail(2, flags=frozenset({SEEN})))
    known = box.listing(ById())
    append(box, mail(3))
    identify = ById()

    listing = box.listing(identify, replace(known, entries=[entry._replace(flags=NONE) for entry in known.entries]))

    assert [("<1>", NONE), ("<2>", frozenset({SEEN})), ("<3>", NONE)] == [(e.id, e.flags) for e in listing.entries]
    assert 1 == len(identify.headers)


def test_damaged_file_is_an_error_and_not_an_empty_box(box: Mbox) -> None:
    Path(box.path).write_bytes(b"garbage\n" + POSTMARK + b"A: b\n\n")

    with pytest.raises(BoxError, match="postmark"):
        box.listing(ById())
    with pytest.raises(BoxError), box.open(write=True):
        pass


@pytest.mark.parametrize("write", [False, True])
def test_box_that_cannot_be_opened_keeps_no_descriptor(box: Mbox, write: bool) -> None:
    """Each attempt kept one, until the process had none left."""
    Path(box.path).write_bytes(b"not a postmark\n")
    before = len(os.listdir("/dev/fd"))

    for _ in range(3):
        with pytest.raises(BoxError, match="postmark"), box.open(write=write):
            pass

    assert before == len(os.listdir("/dev/fd"))


def test_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BoxError):
        box_at(tmp_path / "none").listing(ById())


def test_reading_leaves_no_trace(box: Mbox) -> None:
    append(box, mail(1))
    os.utime(box.path, (NEW_YEAR, NEW_YEAR + 5))
    before = os.stat(box.path)

    contents(box)
    Mbox.recognise(box.path)

    after = os.stat(box.path)
    assert (before.st_atime_ns, before.st_mtime_ns, before.st_ctime_ns) == (
        after.st_atime_ns,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )
    assert ["box"] == names(box)


def test_body_on_the_wire_has_crlf_and_its_size_is_exact(box: Mbox) -> None:
    append(box, message(b"Message-ID: <1>\n\none\r\ntwo\nFrom x\n\n"))

    with box.open(write=False) as opened:
        (got,) = opened.fetch([entries(box)[0].uid])
        assert isinstance(got, Message)
        wire, local = b"".join(got.body.chunks(wire=True)), b"".join(got.body.chunks(wire=False))
        assert (len(wire), len(local)) == (got.body.size(wire=True), got.body.size(wire=False))

    assert b"Message-ID: <1>\r\n\r\none\r\ntwo\r\nFrom x\r\n\r\n" == wire
    assert b"Message-ID: <1>\n\none\r\ntwo\nFrom x\n\n" == local


def test_big_message_comes_in_pieces(box: Mbox) -> None:
    big = b"Message-ID: <1>\n\n" + (b"x" * 99 + b"\n") * 30_000
    append(box, message(big))

    with box.open(write=False) as opened:
        (got,) = opened.fetch([entries(box)[0].uid])
        assert isinstance(got, Message)
        pieces = list(got.body.chunks(wire=False))

    assert max(map(len, pieces)) <= 1024 * 1024
    assert big == b"".join(pieces)


def test_body_cannot_be_read_when_the_box_is_closed(box: Mbox, tmp_path: Path) -> None:
    """It gave the bytes of whatever file had its descriptor's number next."""
    uids = [uid_of(answer) for answer in append(box, mail(1), mail(2, "x" * 1_000_000))]
    with box.open(write=False) as opened:
        bodies = [got.body for got in opened.fetch(uids) if isinstance(got, Message)]

    (tmp_path / "other").write_bytes(b"secret\n" * 200_000)
    with ExitStack() as stack:
        for _ in range(10):
            stack.enter_context(open(tmp_path / "other", "rb"))
        for body in bodies:
            with pytest.raises(FileError):
                list(body.chunks(wire=False))
    assert 2 == len(bodies)


def test_heads_are_those_of_the_listing(box: Mbox) -> None:
    append(box, mail(1, flags=frozenset({SEEN})), mail(2, date=5))
    uid_of_second = entries(box)[1].uid

    with box.open(write=False) as opened:
        got = list(opened.heads([uid_of_second, Uid("none")]))

    head, failure = got
    assert Head(uid_of_second, b"Message-ID: <2>\nSubject: 2\n", 5) == head
    assert isinstance(failure, Failure)
    assert failure.gone


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many bytes of an mbox are read, each time."""
    found: list[int] = []
    read = FileData._read

    def noted(data: FileData, start: int, size: int) -> None:
        found.append(size)
        read(data, start, size)

    monkeypatch.setattr(FileData, "_read", noted)
    return found


@pytest.mark.parametrize("verb", ["fetch", "heads"])
def test_of_each_message_one_part_of_the_file_is_read(box: Mbox, verb: str, reads: list[int]) -> None:
    """The date was read after the header, which lies behind it: what was kept of the file began there."""
    uids = [uid_of(answer) for answer in append(box, *(mail(n, "x" * 2 * WINDOW + "\n") for n in range(3)))]

    with box.open(write=False) as opened:
        reads.clear()
        assert 3 == len(list(opened.fetch(uids) if verb == "fetch" else opened.heads(uids)))

    assert 3 == len(reads)


def test_blank_lines_at_the_end_of_a_message_are_read_a_few_times(box: Mbox, reads: list[int]) -> None:
    """For each 64 of them a window of the file was read: 4,096 times as much as there is."""
    append(box, mail(1, "\n" * 8 * WINDOW))
    reads.clear()

    assert 1 == len(entries(box))
    assert sum(reads) < 10 * 8 * WINDOW


def test_date_is_the_files_where_the_postmark_has_none(box: Mbox) -> None:
    Path(box.path).write_bytes(b"From x Mon Jan 32 10:00:00 2024\nMessage-ID: <1>\n\n")
    os.utime(box.path, (5, 1234))

    assert [1234] == [date for _, _, date in contents(box)]


def test_crlf_file_stays_one(box: Mbox) -> None:
    Path(box.path).write_bytes((POSTMARK + b"Message-ID: <1>\n\none\n").replace(b"\n", b"\r\n"))

    append(box, mail(2, "two\r\nFrom x\n"))
    with box.open(write=True) as opened:
        list(opened.set_flags([FlagChange(entry.uid, frozenset({SEEN})) for entry in entries_of(opened)]))

    assert raw(box).count(b"\n") == raw(box).count(b"\r\n")
    assert b"Message-ID: <1>\n\none\n" == bodies(box)[0]
    assert b"Message-ID: <2>\nSubject: 2\n\ntwo\nFrom x\n" == bodies(box)[1]
    assert [frozenset({SEEN})] * 2 == [entry.flags for entry in entries(box)]


# ---- appending -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [b"", b"\n", POSTMARK + b"A: b\n\nx", POSTMARK + b"A: b\n\nx\n", POSTMARK, INTERNAL])
def test_appended_message_stands_alone_whatever_came_before(box: Mbox, before: bytes) -> None:
    Path(box.path).write_bytes(before)
    count = len(entries(box))
    first = [entry.uid for entry in entries(box)]

    answers = append(box, mail(1))

    assert count + 1 == len(entries(box))
    assert [*first, uid_of(answers[0])] == [entry.uid for entry in entries(box)]
    assert raw(box).startswith(before)
    assert mail(1).body.size(wire=False) == len(bodies(box)[-1])
    assert ["box"] == names(box)


def test_answers_come_in_order_with_uids_that_name_the_messages(box: Mbox) -> None:
    answers = append(box, mail("a"), mail("b"), mail("a"))

    assert ["a", "b", "a"] == [answer.source for answer in answers if isinstance(answer, Appended)]
    assert [entry.uid for entry in entries(box)] == [uid_of(answer) for answer in answers]


def test_message_that_cannot_be_read_spoils_no_other(box: Mbox) -> None:
    broken = Message(Uid("2"), NONE, NEW_YEAR, Bytes(b"Message-ID: <2>\n\nhalf", broken=True))

    answers = append(box, mail(1), broken, mail(3))

    assert ["<1>", "<3>"] == ids(box)
    assert isinstance(answers[1], Failure)
    assert ("2", "Input/output error") == (answers[1].what, answers[1].why)


def test_error_of_the_source_leaves_the_file_as_it_was(box: Mbox) -> None:
    append(box, mail(1))
    before = raw(box)

    def lost() -> Iterator[Message]:
        yield mail(2)
        raise ConnectionError

    with box.open(write=True) as opened, pytest.raises(ConnectionError):
        list(opened.append(lost()))

    assert before == raw(box)
    assert ["box"] == names(box)


def test_batches_are_pulled_no_further_than_they_are_written(box: Mbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mboxopen, "BATCH", 2)
    pulled: list[int] = []

    def source() -> Iterator[Message]:
        for n in range(5):
            pulled.append(n)
            yield mail(n)

    with box.open(write=True) as opened:
        seen = [len(pulled) for _ in opened.append(source())]

    assert [2, 2, 4, 4, 5] == seen
    assert 5 == len(entries(box))


def test_many_batches_in_one_open_box(box: Mbox) -> None:
    with box.open(write=True) as opened:
        for n in range(300):
            list(opened.append([mail(n)]))
        fds = len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0

    assert fds < 100
    assert 300 == len(entries(box))


def test_disk_full_while_spooling_fails_all_and_changes_nothing(box: Mbox) -> None:
    append(box, mail(1))
    before = raw(box)

    out = limited(box, 4000, "mail(2), mail(3, 'x' * 9000), mail(4)")

    assert ["2 File too large", "3 File too large", "4 File too large"] == out
    assert before == raw(box)
    assert ["box"] == names(box)


def test_disk_full_while_the_mbox_is_written_puts_it_back(box: Mbox) -> None:
    append(box, mail(1, "x" * 3500))
    before = raw(box)

    out = limited(box, 4000, "mail(2), mail(3, 'x' * 900), mail(4)")

    assert ["2 File too large", "3 File too large", "4 File too large"] == out
    assert before == raw(box)
    assert ["box"] == names(box)


def test_disk_full_while_rewriting_changes_nothing(box: Mbox) -> None:
    append(box, mail(1), mail(2, "x" * 3500))
    before = raw(box)
    code = "for a in b.set_flags([FlagChange(uid, frozenset({SEEN})) for uid in l]): print(a.why)"

    assert ["File too large"] * 2 == limited(box, 3000, "", code)
    assert before == raw(box)
    assert ["box"] == names(box)


def limited(box: Mbox, size: int, messages: str, code: str = "for a in b.append(m): print(a.what, a.why)") -> list[str]:
    """Run in a process whose files cannot be larger than that."""
    script = (
        "import resource, signal\n"
        "from mailsync.drivers.mbox import Mbox\n"
        "from mailsync.model import NONE, SEEN, FlagChange, Message\n"
        "class Bytes:\n"
        "    def __init__(self, raw): self.raw = raw\n"
        "    def chunks(self, wire): yield self.raw\n"
        "def mail(n, body='body'):\n"
        "    return Message(str(n), NONE, 1, Bytes(f'Message-ID: <{n}>\\n\\n{body}\\n'.encode()))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        f"l = {[entry.uid for entry in entries(box)]!r}; m = [{messages}]\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        f"with Mbox({box.path!r}, 'box', fsync=False).open(write=True) as b:\n    {code}\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environ, check=True)
    return done.stdout.splitlines()


# ---- flags and removal -----------------------------------------------------------------------------------------------


def test_flag_change_touches_its_own_header_lines_only(box: Mbox) -> None:
    strange = b"From joe@x Mon Jan  1 10:00 2024\r\nSubject: y\nX-UID: 9\nstatus: RZ\n\n\0\xff>From x\r\nFrom me\n\n\n"
    Path(box.path).write_bytes(
        INTERNAL + POSTMARK + b"X-IMAPbase: 1 2\nMessage-ID: <1>\n\nx\n\n" + strange + POSTMARK + b"A: b"
    )
    Path(box.path).write_bytes(raw(box).replace(b"2024\r\n", b"2024\n"))
    before = raw(box)
    listed = entries(box)

    with box.open(write=True) as opened:
        answers = list(
            opened.set_flags(
                [FlagChange(listed[0].uid, add=frozenset({SEEN})), FlagChange(listed[1].uid, frozenset({FLAGGED, "k"}))]
            )
        )

    assert [listed[0].uid, listed[1].uid] == answers
    expected = before.replace(b"X-IMAPbase", b"Status: R\nX-IMAPbase").replace(
        b"Subject: y\n", b"X-Status: F\nX-Keywords: k\nSubject: y\n"
    )
    assert expected == raw(box)
    assert [entry.uid for entry in listed] == [entry.uid for entry in entries(box)]


def test_change_that_fits_is_patched_into_the_same_file(box: Mbox) -> None:
    append(box, mail(1, flags=frozenset({SEEN, FLAGGED})), mail(2))
    uid, inode, size = entries(box)[0].uid, os.stat(box.path).st_ino, len(raw(box))

    with box.open(write=True) as opened:
        assert [uid] == list(opened.set_flags([FlagChange(uid, remove=frozenset({SEEN, FLAGGED}))]))
        (got,) = opened.fetch([uid])
        assert isinstance(got, Message)
        assert NONE == got.flags

    assert (inode, size) == (os.stat(box.path).st_ino, len(raw(box)))
    assert [NONE, NONE] == [entry.flags for entry in entries(box)]


def test_body_can_be_read_after_any_number_of_patches(box: Mbox) -> None:
    """Each opened the file again, and closed it under the feet of what had been fetched before."""
    [uid] = [uid_of(answer) for answer in append(box, mail(1, "x" * 1_000_000 + "\n", frozenset({SEEN, FLAGGED})))]

    with box.open(write=True) as opened:
        (got,) = opened.fetch([uid])
        assert isinstance(got, Message)
        before = len(os.listdir("/dev/fd"))
        for _ in range(3):
            assert [uid] == list(opened.set_flags([FlagChange(uid, remove=frozenset({FLAGGED}))]))
            assert [NONE | {SEEN}] == [entry.flags for entry in entries_of(opened)]
            assert [uid] == list(opened.set_flags([FlagChange(uid, add=frozenset({FLAGGED}))]))
            assert [NONE | {SEEN, FLAGGED}] == [entry.flags for entry in entries_of(opened)]
        descriptors = len(os.listdir("/dev/fd")) - before
        text = b"".join(got.body.chunks(wire=False))

    assert (0, b"x" * 1_000_000) == (descriptors, text.partition(b"\n\n")[2][:-1])


def test_two_changes_of_one_message_add_up(box: Mbox) -> None:
    uid = uid_of(append(box, mail(1))[0])

    with box.open(write=True) as opened:
        changes = [FlagChange(uid, frozenset({SEEN})), FlagChange(uid, frozenset({"x"}), frozenset({SEEN}))]
        assert [uid, uid] == list(opened.set_flags(changes))

    assert [frozenset({"x"})] == [entry.flags for entry in entries(box)]


def test_change_of_nothing_leaves_the_file_alone(box: Mbox) -> None:
    uid = uid_of(append(box, mail(1, flags=frozenset({SEEN})))[0])
    before = os.stat(box.path)

    with box.open(write=True) as opened:
        assert [uid] == list(opened.set_flags([FlagChange(uid, frozenset({SEEN}), frozenset({DRAFT}))]))

    assert (before.st_mtime_ns, before.st_ino) == (os.stat(box.path).st_mtime_ns, os.stat(box.path).st_ino)


def test_expunge_removes_exactly_those(box: Mbox) -> None:
    Path(box.path).write_bytes(INTERNAL)
    answers = append(box, *(mail(n, flags=frozenset({DELETED})) for n in range(6)))
    blocks = raw(box)[len(INTERNAL) :].split(POSTMARK)[1:]

    with box.open(write=True) as opened:
        got = list(opened.expunge([uid_of(answers[4]), Uid("none"), uid_of(answers[1])]))

    assert [uid_of(answers[4]), True, uid_of(answers[1])] == [g.gone if isinstance(g, Failure) else g for g in got]
    assert INTERNAL + b"".join(POSTMARK + blocks[n] for n in (0, 2, 3, 5)) == raw(box)


def test_internal_data_is_kept_when_all_goes(box: Mbox) -> None:
    Path(box.path).write_bytes(INTERNAL)
    uid = uid_of(append(box, mail(1))[0])

    with box.open(write=True) as opened:
        list(opened.expunge([uid]))

    assert INTERNAL == raw(box)
    assert [] == entries(box)


def test_uidvalidity_of_imap_servers_goes_to_the_next_message(box: Mbox) -> None:
    Path(box.path).write_bytes(POSTMARK + b"X-IMAPbase: 17 2\nMessage-ID: <1>\n\nx\n\n")
    append(box, mail(2))

    with box.open(write=True) as opened:
        list(opened.expunge([entries_of(opened)[0].uid]))

    assert raw(box).startswith(POSTMARK + b"X-IMAPbase: 17 2\nStatus: O\nMessage-ID: <2>\n")
    assert ["<2>"] == ids(box)


def test_rewritten_file_keeps_mode_link_and_its_place_behind_a_link(box: Mbox, tmp_path: Path) -> None:
    append(box, mail(1), mail(2))
    os.chmod(box.path, 0o640)
    (tmp_path / "link").symlink_to("box")
    linked = box_at(tmp_path / "link")

    with linked.open(write=True) as opened:
        list(opened.expunge([entries_of(opened)[0].uid]))
        assert str(os.stat(box.path).st_ino) == opened.validity
        list(opened.expunge([entries_of(opened)[0].uid]))

    assert (tmp_path / "link").is_symlink()
    assert b"" == raw(box)
    assert 0o640 == os.stat(box.path).st_mode & 0o777


@pytest.mark.parametrize(("atime", "new"), [(NEW_YEAR - 9, True), (NEW_YEAR + 9, False)])
def test_rewriting_does_not_change_whether_there_is_new_mail(box: Mbox, atime: int, new: bool) -> None:
    append(box, mail(1), mail(2))
    os.utime(box.path, (atime, NEW_YEAR))

    with box.open(write=True) as opened:
        list(opened.expunge([entries_of(opened)[0].uid]))

    found = os.stat(box.path)
    assert new == (found.st_atime_ns < found.st_mtime_ns)


def test_appending_makes_new_mail(box: Mbox) -> None:
    os.utime(box.path, (NEW_YEAR + 9, NEW_YEAR))

    append(box, mail(1))

    assert os.stat(box.path).st_atime_ns < os.stat(box.path).st_mtime_ns


def test_file_stays_locked_through_rewrites_and_appends(box: Mbox) -> None:
    append(box, mail(1), mail(2))
    check = "import fcntl,sys; f=open(sys.argv[1],'r+b'); fcntl.lockf(f,fcntl.LOCK_EX|fcntl.LOCK_NB)"

    with box.open(write=True) as opened:
        list(opened.expunge([entries_of(opened)[0].uid]))
        list(opened.append([mail(3)]))
        list(opened.append([mail(4)]))
        done = subprocess.run([sys.executable, "-c", check, box.path], capture_output=True, check=False)
        assert 0 != done.returncode
        assert ["box", "box.lock"] == names(box)

    assert 0 == subprocess.run([sys.executable, "-c", check, box.path], check=False).returncode


def test_delivery_between_listing_and_acting_is_kept(box: Mbox) -> None:
    first = uid_of(append(box, mail(1))[0])
    with open(box.path, "ab") as file:
        file.write(b"From joe@x Mon Jan  1 10:00:00 2024\nMessage-ID: <new>\n\nx\n\n")

    with box.open(write=True) as opened:
        assert [first] == list(opened.expunge([first]))

    assert ["<new>"] == ids(box)


def test_delivery_that_ignores_our_lock_is_kept(box: Mbox) -> None:
    first = uid_of(append(box, mail(1))[0])

    with box.open(write=True) as opened:
        with open(box.path, "ab") as file:
            file.write(b"From joe@x Mon Jan  1 10:00:00 2024\nMessage-ID: <new>\n\nx\n\n")
        assert [first] == list(opened.expunge([first]))
        list(opened.append([mail(2)]))

    assert ["<new>", "<2>"] == ids(box)


def test_message_removed_between_listing_and_acting_is_gone_and_no_other_is_touched(box: Mbox) -> None:
    one, two = (uid_of(answer) for answer in append(box, mail(1), mail(2)))
    Path(box.path).write_bytes(raw(box)[raw(box).index(POSTMARK, 1) :])

    with box.open(write=True) as opened:
        answers = [*opened.set_flags([FlagChange(one, frozenset({SEEN}))]), *opened.expunge([one])]

    assert [True, True] == [answer.gone for answer in answers if isinstance(answer, Failure)]
    assert [Entry(two, MessageId("<2>"), NONE)] == entries(box)


def test_file_replaced_under_the_lock_is_an_error_of_the_box(box: Mbox, tmp_path: Path) -> None:
    uid = uid_of(append(box, mail(1))[0])
    shutil.copy(box.path, tmp_path / "other")

    with box.open(write=True) as opened:
        os.replace(tmp_path / "other", box.path)
        with pytest.raises(BoxError, match="replaced"):
            list(opened.expunge([uid]))

    assert ["<1>"] == ids(box)


def test_remains_of_a_killed_rewrite_are_removed(box: Mbox) -> None:
    append(box, mail(1))
    Path(box.path).with_name(".box.mailsync-rewrite").write_bytes(POSTMARK + b"half")

    with box.open(write=True) as opened:
        list(opened.set_flags([FlagChange(entries_of(opened)[0].uid, frozenset({SEEN}))]))

    assert ["box"] == names(box)
    assert [frozenset({SEEN})] == [entry.flags for entry in entries(box)]


@pytest.mark.usefixtures("ordinary")
def test_directory_without_permission_fails_each_message_and_says_what_to_do(box: Mbox) -> None:
    uid = uid_of(append(box, mail(1))[0])
    os.chmod(os.path.dirname(box.path), 0o555)
    try:
        with box.open(write=True) as opened:
            answers = [*opened.append([mail(2)]), *opened.expunge([uid])]
    finally:
        os.chmod(os.path.dirname(box.path), 0o755)

    assert all(isinstance(answer, Failure) and "let mailsync write" in answer.hint for answer in answers)
    assert ["<1>"] == ids(box)


# ---- read once -------------------------------------------------------------------------------------------------------


@pytest.fixture
def scans(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Where each reading of a file began."""
    begun: list[int] = []

    def counted(data: Source, start: int, crlf: bool) -> Iterator[tuple[Span, bytes]]:
        begun.append(start)
        return messages(data, start, crlf)

    messages = mboxscan.messages
    monkeypatch.setattr(mboxscan, "messages", counted)
    return begun


def settle(box: Mbox) -> None:
    """Wait until any change makes another state of it."""
    assert resting(box)


def test_box_is_read_once_to_be_listed_and_changed(box: Mbox, scans: list[int]) -> None:
    uids = [uid_of(answer) for answer in append(box, *map(mail, range(6)))]
    settle(box)
    scans.clear()

    box.listing(ById())
    with box.open(write=False) as opened:
        list(opened.heads(uids))
    with box.open(write=True) as opened:
        list(opened.set_flags([FlagChange(uids[1], frozenset({SEEN})), FlagChange(uids[5], frozenset({"k"}))]))
        list(opened.expunge([uids[5], uids[2], uids[3]]))
        list(opened.set_flags([FlagChange(uids[4], frozenset({FLAGGED}))]))
        list(opened.expunge([uids[0]]))

    assert [0] == scans
    assert [(uids[1], frozenset({SEEN})), (uids[4], frozenset({FLAGGED}))] == [(e.uid, e.flags) for e in entries(box)]


def test_only_the_end_is_read_again_after_an_append(box: Mbox, scans: list[int]) -> None:
    append(box, mail(1), mail(2))
    last = raw(box).rindex(b"From ")
    settle(box)
    scans.clear()

    box.listing(ById())
    append(box, mail(3))

    assert [0, last] == scans


def test_box_that_was_just_changed_is_read_again(box: Mbox, scans: list[int]) -> None:
    append(box, mail(1))
    scans.clear()

    for _ in range(2):
        os.utime(box.path)
        entries(box)

    assert [0, 0] == scans


def test_change_between_listing_and_acting_is_seen_whatever_it_leaves_the_same(box: Mbox) -> None:
    one, two = (uid_of(answer) for answer in append(box, mail(1), mail(2)))
    settle(box)
    before = os.stat(box.path)
    box.listing(ById())
    Path(box.path).write_bytes(raw(box).replace(b"<1>", b"<7>"))
    os.utime(box.path, ns=(before.st_atime_ns, before.st_mtime_ns))

    with box.open(write=True) as opened:
        answers = list(opened.expunge([one, two]))

    assert [True, two] == [answer.gone if isinstance(answer, Failure) else answer for answer in answers]
    assert ["<7>"] == ids(box)


def test_no_more_is_kept_than_there_is_room_for(
    box: Mbox, tmp_path: Path, scans: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = box_at(tmp_path / "other")
    other.create()
    for each in (box, other):
        append(each, mail(1), mail(2))
        settle(each)
    monkeypatch.setattr(mboxkept, "_kept", {})
    monkeypatch.setattr(mboxkept, "MOST", 3)
    scans.clear()

    for _ in range(2):
        entries(box)
        entries(other)

    assert [0, 0, 0] == scans


def test_box_that_is_open_may_be_read_beside(box: Mbox) -> None:
    uids = [uid_of(answer) for answer in append(box, mail(1), mail(2))]
    settle(box)
    entries(box)

    with box.open(write=True) as opened:
        assert ["<1>", "<2>"] == ids(box)
        list(opened.expunge(uids[:1]))
        assert ["<2>"] == ids(box)
        list(opened.expunge(uids[1:]))

    assert [] == ids(box)


def test_all_changes_are_made_durable(tmp_path: Path) -> None:
    box = box_at(tmp_path / "a" / "box", fsync=True)
    box.create()

    uids = [uid_of(answer) for answer in append(box, mail(1), mail(2))]
    with box.open(write=True) as opened:
        list(opened.set_flags([FlagChange(uids[0], frozenset({SEEN}))]))
        list(opened.set_flags([FlagChange(uids[0], NONE, frozenset({SEEN}))]))
        list(opened.expunge(uids[1:]))

    assert [("<1>", NONE)] == [(entry.id, entry.flags) for entry in entries(box)]


# ---- killed while appending ------------------------------------------------------------------------------------------

DELIVERY = b"From joe@x Mon Jan  1 10:00:00 2024\nMessage-ID: <new>\n\nx\n\n"


@dataclass
class Killed:
    """An append that can be cut at any byte: the file before, and what was to come."""

    box: Mbox
    old: bytes
    coming: bytes

    @property
    def spool(self) -> Path:
        return Path(self.box.path).with_name(".box.mailsync-append")

    def at(self, cut: int, after: bytes = b"") -> Mbox:
        with open(self.box.path, "r+b") as file:
            file.write(self.old)
            file.truncate()
            file.flush()
            with Spool(self.box.path, file.fileno(), fsync=False) as spool:
                spool.write(self.coming)
                spool.commit()
                kept = self.spool.read_bytes()
            file.seek(len(self.old) + cut)
            file.write(after)
            file.truncate()
        self.spool.write_bytes(kept)
        return self.box


@pytest.fixture(params=[b"", POSTMARK + b"Message-ID: <0>\n\nx\n\n", POSTMARK + b"Message-ID: <0>\n\nx"])
def killed(tmp_path: Path, request: pytest.FixtureRequest) -> Killed:
    copy = box_at(tmp_path / "copy")
    Path(copy.path).write_bytes(request.param)
    append(copy, message(b"Message-ID: <1>\n\nx\n"), message(b"Message-ID: <2>\n\nFrom x\n"))
    box = box_at(tmp_path / "box")
    box.create()
    coming = raw(copy)[len(request.param) :]
    os.unlink(copy.path)
    return Killed(box, request.param, coming)


def test_batch_cut_anywhere_is_not_there_or_wholly_there(killed: Killed) -> None:
    before = ["<0>"] if killed.old else []
    for cut in range(len(killed.coming) + 1):
        complete = cut == len(killed.coming)
        expected = [*before, "<1>", "<2>"] if complete else before

        assert expected == ids(killed.at(cut))
        assert Mbox.recognise(killed.box.path)
        assert killed.old + killed.coming[:cut] == raw(killed.box)  # reading repaired nothing

        with killed.box.open(write=True):
            pass
        assert killed.old + (killed.coming if complete else b"") == raw(killed.box)
        assert ["box"] == names(killed.box)


@pytest.mark.parametrize("between", [b"", b"\n", b"\n\n"])
def test_delivery_after_a_cut_batch_is_kept(killed: Killed, between: bytes) -> None:
    before = ["<0>"] if killed.old else []
    for cut in range(1, len(killed.coming)):
        complete = (killed.coming[:cut] + between).startswith(killed.coming)  # the other one's blank line is ours, too
        expected = [*before, *(["<1>", "<2>"] if complete else []), "<new>"]
        assert expected == ids(killed.at(cut, between + DELIVERY)), cut

        append(killed.box, mail(5))

        assert [*expected, "<5>"] == ids(killed.box)
        assert ["box"] == names(killed.box)


def test_delivery_after_a_complete_batch_is_kept(killed: Killed) -> None:
    killed.at(len(killed.coming), DELIVERY)

    assert ["<1>", "<2>", "<new>"] == ids(killed.box)[-3:]
    with killed.box.open(write=True):
        pass
    assert killed.old + killed.coming + DELIVERY == raw(killed.box)


@pytest.mark.parametrize("cut", [0, 30])
def test_zeros_that_a_crash_left_are_cut(killed: Killed, cut: int) -> None:
    """A new mbox of nothing but zeros was no mailbox any more, and was never mended."""
    killed.at(cut, b"\0" * 50)

    assert Mbox.recognise(killed.box.path)
    with killed.box.open(write=True):
        pass

    assert killed.old == raw(killed.box)


def test_spool_that_cannot_be_removed_cuts_nothing_that_was_changed_since(
    box: Mbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that had been appended went with the next opening; and the batch was told as failed, and sent again."""
    [one] = append(box, message(b"Message-ID: <1>\nStatus: O \n\nx\n"))
    unlink = os.unlink

    def refuse(path: str) -> None:
        if path.endswith("-append") and os.path.exists(path):
            raise OSError(errno.EIO, "Input/output error")
        unlink(path)

    monkeypatch.setattr(os, "unlink", refuse)
    with box.open(write=True) as opened:
        [two] = list(opened.append([message(b"Message-ID: <2>\nStatus: O \n\nx\n")]))
        assert not isinstance(two, Failure)
        text = raw(box).replace(b"Status: O ", b"Status: RO")
        Path(box.path).write_bytes(text)
    monkeypatch.undo()

    with box.open(write=True):
        pass
    assert text == raw(box)
    assert not isinstance(one, Failure)


def test_spool_of_a_file_that_was_rewritten_since_is_ignored(killed: Killed) -> None:
    killed.at(0)
    changed = POSTMARK + b"Message-ID: <other>\n\n" + b"y\n" * 300 + b"\n"
    Path(killed.box.path).write_bytes(changed)

    with killed.box.open(write=True):
        pass

    assert changed == raw(killed.box)
    assert ["box"] == names(killed.box)


def test_spool_that_was_not_finished_is_ignored(killed: Killed) -> None:
    killed.at(0)
    killed.spool.write_bytes(b"\0" * 60 + killed.spool.read_bytes()[60:])

    assert (["<0>"] if killed.old else []) == ids(killed.box)


# ---- laws and oracles ------------------------------------------------------------------------------------------------

FLAGS = st.frozensets(st.sampled_from([SEEN, ANSWERED, FLAGGED, DRAFT, DELETED, "$Forwarded", "a b", "%"]))
PARTS = st.sampled_from(
    [
        b"From x Mon Jan  1 10:00:00 2024\n",
        b">From x\n",
        b"Message-ID: <1>\n",
        b"\n",
        b"\r\n",
        b"\r",
        b"\0\xff",
        b" x\n",
    ]
)
RAW = (
    st.lists(PARTS | st.binary(max_size=9), max_size=10)
    .map(b"".join)
    .filter(lambda raw: not re.search(rb"(?im)^(x-)?(status|keywords|uid|imap)", raw))
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(RAW, FLAGS, st.integers(0, 2**33)), max_size=4))
def test_what_is_appended_is_read_back(messages: list[tuple[bytes, Flags, int]]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        box = box_at(Path(directory) / "box")
        box.create()
        append(box, *(message(*each) for each in messages))
        found = contents(box)

    expected = [(raw.rstrip(b"\r\n"), flags, date) for raw, flags, date in messages]
    assert expected == [(raw.rstrip(b"\r\n"), flags, date) for raw, flags, date in found]


def test_header_that_begins_with_a_blank_and_ends_with_a_cr_is_read_back(box: Mbox) -> None:
    append(box, message(b" x\n\r", frozenset({SEEN}), 0))

    [(raw, flags, _)] = contents(box)
    assert (b" x", frozenset({SEEN})) == (raw.rstrip(b"\r\n"), flags)


def test_standard_library_reads_what_we_write(box: Mbox) -> None:
    flags = frozenset({SEEN, ANSWERED, FLAGGED, DELETED})
    append(box, mail(1, "one\n\nFrom x\n", flags), mail(2, "two"), mail(3, "three\n\n\n"))

    read = mailbox.mbox(box.path, create=False)

    assert ["<1>", "<2>", "<3>"] == [m["Message-ID"] for m in read]
    assert ["ROAFD", "O", "O"] == [m.get_flags() for m in read]
    assert ["one\n\n>From x\n", "two\n", "three\n\n\n"] == [str(m.get_payload()) for m in read]
    read.close()


def test_we_read_what_the_standard_library_writes(box: Mbox) -> None:
    written = mailbox.mbox(box.path)
    one = mailbox.mboxMessage("Message-ID: <1>\n\nFrom x\n")
    one.set_flags("RFA")
    written.add(one)
    written.add("Message-ID: <2>\n\ntwo\n")
    written.close()

    assert [frozenset({SEEN, FLAGGED, ANSWERED}), NONE] == [entry.flags for entry in entries(box)]
    assert [b"Message-ID: <1>\n\nFrom x\n", b"Message-ID: <2>\n\ntwo\n"] == bodies(box)


def original(home: Path, *args: str) -> str:
    environ = {"HOME": str(home), "USER": "u", "PATH": os.environ["PATH"], "TZ": "UTC"}
    done = subprocess.run([str(ORIGINAL), *args], capture_output=True, env=environ, check=True, cwd=home)
    return done.stdout.decode("latin-1")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    if not ORIGINAL.exists() or not ORIGINAL.read_bytes().startswith(b"\x7fELF"):
        pytest.skip("mailsync 5.2.7 is not installed")
    config = "store a { pat a/% prefix a/ }\nstore b { pat b/% prefix b/ }\nchannel ab a b { msinfo msinfo }\n"
    (tmp_path / ".mailsync").write_text(config)
    for name in "ab":
        (tmp_path / name).mkdir()
        box_at(tmp_path / name / "box").create()
    return tmp_path


def test_original_lists_what_we_write(home: Path) -> None:
    append(box_at(home / "a" / "box"), mail(1, "From x Mon Jan  1 10:00:00 2024\n"), mail(2, "\n\n"), mail(3))

    lines = [line.split() for line in original(home, "-m", "a").splitlines() if line.startswith("Mon")]

    assert [["Mon", "Jan", "1", n] for n in "123"] == lines


def test_what_the_original_copies_from_us_has_flags_date_and_bytes(home: Path) -> None:
    flags = frozenset({SEEN, ANSWERED, FLAGGED, DRAFT})
    here, there = box_at(home / "a" / "box"), box_at(home / "b" / "box")
    append(here, mail(1, "one\nFrom x\n", flags), mail(2, date=NEW_YEAR - 86400), message(b"Subject: x\n\n"))

    original(home, "ab")
    original(home, "ab")

    assert 3 == len(entries(there))
    assert [each[1:] for each in contents(here)] == [each[1:] for each in contents(there)]
    assert [body.rstrip() for body in bodies(there)[1:]] == [body.rstrip() for body in bodies(here)[1:]]


def test_original_reads_on_after_we_have_changed_its_file(home: Path) -> None:
    append(box_at(home / "a" / "box"), mail(1), mail(2), mail(3))
    there = box_at(home / "b" / "box")
    os.unlink(there.path)
    original(home, "ab")  # creates it, with its internal data
    original(home, "ab")
    assert b"FOLDER INTERNAL DATA" in raw(there)

    with there.open(write=True) as opened:
        uids = [entry.uid for entry in entries_of(opened)]
        list(opened.set_flags([FlagChange(uids[0], frozenset({SEEN, "k"}))]))
        list(opened.expunge([uids[1]]))
        list(opened.append([mail(4)]))

    lines = [line.split()[3] for line in original(home, "-m", "b").splitlines() if line.startswith("Mon")]
    assert ["1", "3", "4"] == lines
    assert "FOLDER" not in original(home, "-m", "b")


# ---- cut short by who ignores locks ----------------------------------------------------------------------------------


def test_mbox_that_is_cut_short_while_it_is_read_spoils_no_more_than_what_is_gone(tmp_path: Path) -> None:
    """It was a map of memory: the whole process ended with a bus error."""
    box = box_at(tmp_path / "box")
    box.create()
    uids = [uid_of(answer) for answer in append(box, *(mail(n, "x" * 1_000_000 + "\n") for n in range(3)))]
    with box.open(write=False) as opened:
        answers = iter(opened.fetch(uids))
        whole = next(answers)
        assert isinstance(whole, Message)
        length = len(b"".join(whole.body.chunks(wire=False)))
        half = next(answers)
        assert isinstance(half, Message)
        os.truncate(tmp_path / "box", 1_500_000)
        with pytest.raises(FileError, match="shorter"):
            list(half.body.chunks(wire=False))

    with box.open(write=True) as opened:
        os.truncate(tmp_path / "box", 100)
        left = list(opened.fetch(uids))

    assert length > 1_000_000
    assert [True] * 3 == [isinstance(one, Failure) and one.gone for one in left]


def test_each_change_is_of_another_second(tmp_path: Path) -> None:
    """Dovecot compares no more than that, and the size: it went on with what it knew of where messages lie."""
    box = box_at(tmp_path / "box")
    box.create()
    uids = [uid_of(answer) for answer in append(box, *map(mail, range(4)))]
    seconds = [int((tmp_path / "box").stat().st_mtime)]
    for uid in uids[:3]:
        with box.open(write=True) as opened:
            assert [uid] == list(opened.expunge([uid]))
        seconds.append(int((tmp_path / "box").stat().st_mtime))

    assert sorted(set(seconds)) == seconds
