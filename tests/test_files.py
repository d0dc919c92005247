"""What all local formats do with files."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync import directories
from mailsync.drivers import delivery, files
from mailsync.drivers.delivery import Staged
from mailsync.drivers.files import CHUNK, FileError, LineEnds, LocalBody, read_head, to_wire
from mailsync.drivers.rewriting import rewrite
from mailsync.model import NONE, Appended, Failure, Message, Uid
from mailsync.unchanged import state

Opener = Callable[[bytes], int]
odd_bytes = st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b"\0", b"\xff"])).map(b"".join)


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opener]:
    fds: list[int] = []

    def open_(data: bytes) -> int:
        (tmp_path / "m").write_bytes(data)
        fds.append(os.open(tmp_path / "m", os.O_RDONLY))
        return fds[-1]

    yield open_
    for fd in fds:
        os.close(fd)


# ---- bodies ----------------------------------------------------------------------------------------------------------


@given(st.lists(odd_bytes))
def test_lone_lf_becomes_crlf_over_any_chunk_border(chunks: list[bytes]) -> None:
    whole = b"".join(chunks)

    assert whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n") == b"".join(to_wire(chunks))


@given(st.lists(odd_bytes))
def test_counted_sizes_are_those_of_what_is_yielded(chunks: list[bytes]) -> None:
    count = LineEnds()
    for chunk in chunks:
        count.add(chunk)

    assert (sum(map(len, chunks)), sum(map(len, to_wire(chunks)))) == (count.size, count.wire_size)


def test_body_tells_its_sizes_and_can_be_read_again(opened: Opener) -> None:
    data = b"a" * (CHUNK - 1) + b"\r\nb\nc\r"
    body = LocalBody(opened(data), len(data))

    assert len(data) + 1 == body.size(wire=True)
    assert data == b"".join(body.chunks(wire=False))
    assert data.replace(b"b\n", b"b\r\n") == b"".join(body.chunks(wire=True))


def test_body_may_be_a_part_of_a_file(opened: Opener) -> None:
    assert b"bcd" == b"".join(LocalBody(opened(b"abcde"), 3, start=1).chunks(wire=False))


def test_file_that_became_shorter_is_an_error_of_its_message(opened: Opener) -> None:
    body = LocalBody(opened(b"abc"), 5)

    with pytest.raises(FileError, match="shorter"):
        list(body.chunks(wire=False))


def test_large_message_is_never_held_in_memory(tmp_path: Path) -> None:
    with open(tmp_path / "m", "wb") as file:
        for _ in range(100):
            file.write(b"line of text\n" * 80660)
    script = (
        "import os, re, sys; from mailsync.drivers.files import LocalBody;"
        "rss = lambda: int(re.search(r'VmHWM:\\s*(\\d+) kB', open('/proc/self/status').read())[1]);"
        "fd = os.open(sys.argv[1], os.O_RDONLY); body = LocalBody(fd, os.fstat(fd).st_size); before = rss();"
        "assert body.size(wire=True) == sum(map(len, body.chunks(wire=True))); print(rss() - before)"
    )

    grown = subprocess.run([sys.executable, "-c", script, tmp_path / "m"], capture_output=True, check=True).stdout

    assert int(grown) < 20_000  # kB


# ---- heads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "head"),
    [
        (b"", b""),
        (b"\nbody\n\nmore", b""),
        (b"\r\nbody", b""),
        (b"A: b\n\nbody", b"A: b\n"),
        (b"A: b\r\n\r\nbody\n\n", b"A: b\r\n"),
        (b"A: b\nC: d\n\r\nbody", b"A: b\nC: d\n"),
        (b"A: b\nC: d", b"A: b\nC: d"),
        (b"X: " + b"y" * 10_000 + b"\n\nbody", b"X: " + b"y" * 10_000 + b"\n"),
        (b"X: " + b"y" * 4092 + b"\n\nbody", b"X: " + b"y" * 4092 + b"\n"),
    ],
)
def test_head_ends_at_the_first_blank_line(opened: Opener, data: bytes, head: bytes) -> None:
    assert head == read_head(opened(data))


def test_of_a_head_without_end_only_what_tells_the_message_is_kept(opened: Opener) -> None:
    junk = b"x" * (files.LONGEST_HEAD + 9)

    assert b"" == read_head(opened(junk))
    assert b"message-id: <a>\n" == read_head(opened(b"X: " + junk + b"\nMessage-ID: <a>\nX-Y: z\n\nTo: b\n"))


def test_fifo_is_refused_and_never_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m")

    with pytest.raises(FileError, match="regular"):
        files.open_message(str(tmp_path / "m"))


def test_reading_leaves_the_access_time(tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"text")
    os.utime(tmp_path / "m", (5, 10))

    fd, _ = files.open_message(str(tmp_path / "m"))
    os.read(fd, 10)
    os.close(fd)

    assert 5 == (tmp_path / "m").stat().st_atime


# ---- tokens ----------------------------------------------------------------------------------------------------------


def token(*paths: str) -> str:
    """Once it can be had: none is given while a change might not show."""
    while not (found := files.token(map(state, paths))):
        time.sleep(0.005)
    return found


def test_token_stays_while_nothing_happens_and_differs_after_each_change(tmp_path: Path) -> None:
    tokens = [token(str(tmp_path), str(tmp_path / "a"))]
    (tmp_path / "a").touch()
    tokens.append(token(str(tmp_path), str(tmp_path / "a")))
    (tmp_path / "a").write_bytes(b"x")
    tokens.append(token(str(tmp_path), str(tmp_path / "a")))

    assert 3 == len(set(tokens))
    assert tokens[-1] == token(str(tmp_path), str(tmp_path / "a"))


def test_change_right_after_the_token_is_told_though_the_clock_is_coarse(tmp_path: Path) -> None:
    for n in range(5):
        (tmp_path / f"a{n}").touch()
        before = token(str(tmp_path))
        (tmp_path / f"b{n}").touch()

        assert before != token(str(tmp_path))


def test_time_put_back_by_a_copying_program_does_not_hide_a_change(tmp_path: Path) -> None:
    before, times = token(str(tmp_path)), tmp_path.stat()
    (tmp_path / "a").touch()
    os.utime(tmp_path, ns=(times.st_atime_ns, times.st_mtime_ns))

    assert before != token(str(tmp_path))


def test_directory_that_changes_all_the_time_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0))
    names = iter(range(100))

    with pytest.raises(FileError, match="all the time"):
        files.steadily(str(tmp_path), lambda: os.mkdir(tmp_path / str(next(names))))


# ---- small files -----------------------------------------------------------------------------------------------------


def test_rewritten_file_keeps_its_mode_and_its_link(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")

    rewrite(str(tmp_path / "link"), lambda old: old + b" new", fsync=True)

    assert b"old new" == (tmp_path / "real").read_bytes()
    assert (True, 0o640) == ((tmp_path / "link").is_symlink(), (tmp_path / "real").stat().st_mode & 0o777)
    assert ["link", "real"] == sorted(os.listdir(tmp_path))


def test_edit_that_changes_nothing_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    before = (tmp_path / "f").stat().st_ino

    rewrite(str(tmp_path / "f"), lambda old: old, fsync=True)

    assert (before, ["f"]) == ((tmp_path / "f").stat().st_ino, os.listdir(tmp_path))


def test_failing_edit_leaves_the_file_and_no_lock(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")

    with pytest.raises(ZeroDivisionError):
        rewrite(str(tmp_path / "f"), lambda old: bytes(1 // 0), fsync=True)

    assert (["f"], b"old") == (os.listdir(tmp_path), (tmp_path / "f").read_bytes())


def test_file_that_another_program_has_locked_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    (tmp_path / "f.lock").touch()

    with pytest.raises(OSError, match="locked"):
        rewrite(str(tmp_path / "f"), lambda old: b"new", fsync=False, wait=0.1)

    assert (["f", "f.lock"], b"old") == (sorted(os.listdir(tmp_path)), (tmp_path / "f").read_bytes())


def test_lock_of_a_dead_program_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "f.lock").touch()
    os.utime(tmp_path / "f.lock", (0, time.time() - 1000))

    rewrite(str(tmp_path / "f"), lambda old: b"new", fsync=False, wait=0.1)

    assert b"new" == (tmp_path / "f").read_bytes()


def test_record_lock_of_another_program_is_respected(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"old")
    script = "import fcntl, sys; f = open(sys.argv[1], 'r+'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    run = [sys.executable, "-c", script, str(tmp_path / "f")]
    with subprocess.Popen(run, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout
        other.stdout.readline()

        with pytest.raises(OSError, match="locked"):
            rewrite(str(tmp_path / "f"), lambda old: b"new", fsync=False, wait=0.1)

        other.communicate(b"\n")
    assert ["f"] == os.listdir(tmp_path)


def test_edits_of_many_threads_are_all_kept(tmp_path: Path) -> None:
    def work(n: int) -> None:
        for _ in range(5):
            rewrite(str(tmp_path / "f"), lambda old: old + b"%d" % n, fsync=False)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert b"00000111112222233333" == bytes(sorted((tmp_path / "f").read_bytes()))


def test_directories_are_private(tmp_path: Path) -> None:
    directories.make(str(tmp_path / "a" / "b"), fsync=True)
    directories.make(str(tmp_path / "a" / "b"), fsync=True)

    assert [0o700, 0o700] == [(tmp_path / part).stat().st_mode & 0o777 for part in ("a", "a/b")]


def test_file_in_the_place_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").touch()

    with pytest.raises(FileExistsError):
        directories.make(str(tmp_path / "a"), fsync=False)


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="no directory here in which none can be made")
def test_directory_where_none_can_be_made_is_an_error() -> None:
    """It was tried again until the stack was full: XDG_STATE_HOME=/proc/x."""
    with pytest.raises(FileNotFoundError):
        directories.make("/proc/x/mailsync")


# ---- batches ---------------------------------------------------------------------------------------------------------


class Text:
    def __init__(self, *chunks: bytes | Exception) -> None:
        self._chunks = chunks

    def size(self, *, wire: bool) -> int:
        return sum(map(len, self.chunks(wire=wire)))

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        for chunk in self._chunks:
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk


def mail(n: int, *chunks: bytes | Exception) -> Message:
    return Message(Uid(str(n)), NONE, 1_000_000_000, Text(*(chunks or (b"text\n",))))


def fast_directory() -> TemporaryDirectory[str]:
    """For thousands of files: in memory where that can be. Gone at the end of its `with`."""
    return TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)


class Place:
    """Moves each message from DIRECTORY/tmpN to DIRECTORY/SOURCE."""

    def __init__(self, path: Path) -> None:
        self.path, self.made = path, 0
        self.batches: list[list[Uid]] = []

    def temporary(self) -> str:
        self.made += 1
        return str(self.path / f"tmp{self.made}")

    def place(self, batch: Sequence[Staged]) -> list[Uid | Failure]:
        self.batches.append([staged.source for staged in batch])
        for staged in batch:
            os.rename(staged.path, self.path / staged.source)
        return [Uid("new" + staged.source) for staged in batch]

    def deliver(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        return delivery.deliver(messages, temporary=self.temporary, place=self.place, fsync=True)


def test_messages_are_placed_in_batches_and_answered_in_order() -> None:
    with fast_directory() as directory:
        place = Place(Path(directory))

        answers = list(place.deliver(mail(n) for n in range(1100)))

    assert [Appended(Uid(str(n)), Uid(f"new{n}")) for n in range(1100)] == answers
    assert [500, 500, 100] == [len(batch) for batch in place.batches]


def test_batch_keeps_a_quarter_of_the_files_open_that_a_process_may(tmp_path: Path) -> None:
    script = (
        "import os, resource, sys; sys.path.insert(0, sys.argv[2]);"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64));"
        "from pathlib import Path; from test_files import Place, mail;"
        "place = Place(Path(sys.argv[1])); open = len(os.listdir('/dev/fd'));"
        "answers = list(place.deliver(mail(n) for n in range(100)));"
        "print([len(batch) for batch in place.batches], len(answers), len(os.listdir('/dev/fd')) - open)"
    )

    run = [sys.executable, "-c", script, str(tmp_path), os.path.dirname(__file__)]
    told = subprocess.run(run, capture_output=True, check=True, text=True).stdout

    assert "[16, 16, 16, 16, 16, 16, 4] 100 0\n" == told


def test_delivery_that_ends_early_leaves_no_file_open(tmp_path: Path) -> None:
    before = len(os.listdir("/dev/fd"))

    with pytest.raises(ConnectionResetError):
        list(Place(tmp_path).deliver([mail(1), mail(2), mail(3, b"begin", ConnectionResetError())]))

    assert before == len(os.listdir("/dev/fd"))


def test_large_messages_make_small_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "BATCH_BYTES", 10)
    place = Place(tmp_path)

    list(place.deliver(mail(n, b"123456") for n in range(4)))

    assert [["0", "1"], ["2", "3"]] == place.batches


def test_message_that_cannot_be_read_spoils_only_itself(tmp_path: Path) -> None:
    place = Place(tmp_path)

    answers = list(place.deliver([mail(1), mail(2, b"begin", FileError(5, "Input/output error")), mail(3)]))

    assert [
        Appended(Uid("1"), Uid("new1")),
        Failure("2", "Input/output error"),
        Appended(Uid("3"), Uid("new3")),
    ] == answers
    assert ["1", "3"] == sorted(os.listdir(tmp_path))


def test_full_disk_is_told_and_leaves_no_part_behind(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys; sys.path.insert(0, sys.argv[2]); signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        "from pathlib import Path; from test_files import Place, mail;"
        "print([str(a) for a in Place(Path(sys.argv[1])).deliver([mail(1, b'x' * 2000), mail(2, b'y')])])"
    )

    run = [sys.executable, "-c", script, str(tmp_path), os.path.dirname(__file__)]
    told = subprocess.run(run, capture_output=True, check=True, text=True).stdout

    assert "1: File too large" in told
    assert ["2"] == os.listdir(tmp_path)


def test_lost_connection_of_the_source_ends_the_batch_and_leaves_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path)

    with pytest.raises(ConnectionResetError):
        list(place.deliver([mail(1), mail(2, b"begin", ConnectionResetError())]))

    assert [] == os.listdir(tmp_path)


def test_delivery_that_is_given_up_leaves_nothing_of_the_unfinished_batch(tmp_path: Path) -> None:
    place = Place(tmp_path)
    delivery = place.deliver(mail(n) for n in range(10_000))

    next(delivery)
    assert isinstance(delivery, Generator)
    delivery.close()

    assert 500 == len(os.listdir(tmp_path))
    assert not [name for name in os.listdir(tmp_path) if name.startswith("tmp")]


def test_delivery_interrupted_while_it_reads_leaves_nothing(tmp_path: Path) -> None:
    def messages() -> Iterator[Message]:
        yield mail(1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(Place(tmp_path).deliver(messages()))

    assert [] == os.listdir(tmp_path)


def test_place_that_fails_is_an_answer_for_each_message(tmp_path: Path) -> None:
    class Broken(Place):
        def place(self, batch: Sequence[Staged]) -> list[Uid | Failure]:
            raise FileNotFoundError(2, "No such file or directory")

    place = Broken(tmp_path)

    assert ["1: No such file or directory", "2: No such file or directory"] == [
        str(answer) for answer in place.deliver([mail(1), mail(2)])
    ]
    assert [] == os.listdir(tmp_path)


def test_full_disk_is_named() -> None:
    assert "disk full (No space left on device)" == files.why(OSError(28, "No space left on device"))


def test_date_that_no_file_can_have_does_not_hinder_the_message(tmp_path: Path) -> None:
    message = Message(Uid("1"), NONE, 10**30, Text(b"x"))

    assert [Appended(Uid("1"), Uid("new1"))] == list(Place(tmp_path).deliver([message]))
