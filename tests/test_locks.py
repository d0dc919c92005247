"""Locks of mbox files, held against real processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailsync.drivers import dotlocks
from mailsync.drivers.locks import locked
from mailsync.errors import BoxError

from .tried import OTHERS

LOCKF = "import fcntl,sys; f=open(sys.argv[1],'r+b'); fcntl.lockf(f,fcntl.{}); print('ready',flush=True); input()"
OURS = (
    "import sys\nfrom mailsync.drivers.locks import locked\n"
    "with locked(sys.argv[1], write={}, wait=9): print('ready',flush=True); input()"
)
OUR_MARK = f"{os.getpid()}:{os.uname().nodename}\n"
ADD_ONE = (
    "import sys\nfrom mailsync.drivers.locks import locked\n"
    "for _ in range(40):\n"
    "    with locked(sys.argv[1], write=True, wait=20): \n"
    "        n = int(open(sys.argv[1]).read()); open(sys.argv[1] + '.n', 'w').write(str(n + 1))\n"
    "        import os; os.replace(sys.argv[1] + '.n', sys.argv[1])\n"
)


@pytest.fixture
def mbox(tmp_path: Path) -> Path:
    path = tmp_path / "box"
    path.write_bytes(b"")
    return path


def python(code: str, path: Path) -> subprocess.Popen[bytes]:
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    return subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environ
    )


@contextmanager
def held(code: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    with python(code, path) as process:
        assert process.stdout
        assert b"ready\n" == process.stdout.readline()
        try:
            yield process
        finally:
            process.kill()


def test_writer_waits_for_a_foreign_record_lock_and_names_the_file(mbox: Path) -> None:
    with (
        held(LOCKF.format("LOCK_EX"), mbox),
        pytest.raises(BoxError, match="box is locked"),
        locked(str(mbox), write=True, wait=0.1),
    ):
        pass


def test_reader_goes_beside_a_foreign_reader_but_not_beside_a_writer(mbox: Path) -> None:
    with held(LOCKF.format("LOCK_EX"), mbox), pytest.raises(BoxError), locked(str(mbox), write=False, wait=0.1):
        pass
    code = LOCKF.format("LOCK_SH")
    with held(code, mbox), locked(str(mbox), write=False, wait=0.1) as lock:
        assert not lock.dotlocked


def test_writer_goes_on_when_the_other_one_is_done(mbox: Path) -> None:
    with held(OURS.format(True), mbox) as process:
        assert process.stdin
        process.stdin.write(b"\n")
        process.stdin.flush()
        with locked(str(mbox), write=True, wait=10) as lock:
            assert lock.dotlocked


def test_readers_do_not_exclude_each_other_but_writers(mbox: Path) -> None:
    with held(OURS.format(False), mbox):
        with locked(str(mbox), write=False, wait=0.1):
            pass
        with pytest.raises(BoxError), locked(str(mbox), write=True, wait=0.1):
            pass


def test_lock_is_kept_while_other_descriptors_are_closed(mbox: Path) -> None:
    check = LOCKF.format("LOCK_EX|fcntl.LOCK_NB")
    with locked(str(mbox), write=True) as lock:
        if not lock.survives_close:
            pytest.skip("this system's locks belong to the process")
        mbox.read_bytes()
        with python(check, mbox) as process:
            assert b"" == process.communicate()[0]

    with held(check, mbox):
        pass


def test_two_opens_in_one_process_exclude_each_other(mbox: Path) -> None:
    with locked(str(mbox), write=True), pytest.raises(BoxError), locked(str(mbox), write=True, wait=0.05):
        pass


def test_thread_that_writes_may_read_beside_and_keeps_its_lock(mbox: Path) -> None:
    with locked(str(mbox), write=True) as lock:
        with locked(str(mbox), write=False, wait=0.05):
            pass
        if lock.survives_close:
            with python(LOCKF.format("LOCK_EX|fcntl.LOCK_NB"), mbox) as process:
                assert b"" == process.communicate()[0]
        with ThreadPoolExecutor(1) as other:
            assert isinstance(other.submit(read, mbox).exception(), BoxError)
        assert (mbox.parent / "box.lock").exists()

    read(mbox)


def read(path: Path) -> None:
    with locked(str(path), write=False, wait=0.05):
        pass


def test_dotlock_holds_our_number_and_goes_with_the_lock(mbox: Path) -> None:
    with locked(str(mbox), write=True):
        assert OUR_MARK == (mbox.parent / "box.lock").read_text()
        assert ["box", "box.lock"] == sorted(os.listdir(mbox.parent))

    assert ["box"] == os.listdir(mbox.parent)


def test_foreign_dotlock_is_respected_and_told(mbox: Path) -> None:
    lock = mbox.parent / "box.lock"
    lock.write_text(f"{os.getppid()}\n")

    with pytest.raises(BoxError) as caught, locked(str(mbox), write=True, wait=0.1):
        pass

    assert f"box.lock belongs to process {os.getppid()} and is 0 seconds old" in str(caught.value)
    assert "remove it" in caught.value.hint
    assert lock.exists()


def test_record_lock_is_free_while_a_dotlock_is_waited_for(mbox: Path) -> None:
    (mbox.parent / "box.lock").write_text("0")
    code = OURS.format(True).replace("wait=9", "wait=60")
    with python(code, mbox) as process:
        try:
            with held(LOCKF.format("LOCK_EX"), mbox):  # blocks until it has the lock
                pass
        finally:
            process.kill()


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def aged(path: Path, seconds: int) -> Path:
    found = path.stat()
    os.utime(path, (found.st_atime - seconds, found.st_mtime - seconds))
    return path


def test_old_dotlock_of_a_dead_process_is_removed(mbox: Path) -> None:
    lock = mbox.parent / "box.lock"
    lock.write_text(f"{dead_pid()}\n")
    aged(lock, 400)

    with locked(str(mbox), write=True, wait=0.1):
        assert OUR_MARK == lock.read_text()


def test_old_dotlock_with_our_number_that_is_not_ours_is_removed(mbox: Path) -> None:
    lock = mbox.parent / "box.lock"
    lock.write_text(str(os.getpid()))
    aged(lock, 400)

    with locked(str(mbox), write=True, wait=0.1) as held_lock:
        assert held_lock.dotlocked


def test_young_dotlock_of_a_dead_process_of_this_host_is_removed(mbox: Path) -> None:
    """What a killed run had locked was locked for five minutes more, and told as a fault by each run until then."""
    lock = mbox.parent / "box.lock"
    lock.write_text(f"{dead_pid()}:{os.uname().nodename}\n")

    with locked(str(mbox), write=True, wait=0.1):
        assert OUR_MARK == lock.read_text()


@pytest.mark.parametrize("content", ["", "\0" * 9, str(os.getppid()), f"{os.getppid()}:{os.uname().nodename}"])
def test_dotlock_from_before_the_last_start_of_this_host_is_removed(
    mbox: Path, content: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has its number now. A power cut may leave its name and take what it told: it was there for ever."""
    monkeypatch.setattr(dotlocks, "uptime", lambda: 100.0)
    lock = mbox.parent / "box.lock"
    lock.write_text(content)
    aged(lock, 400)

    with locked(str(mbox), write=True, wait=0.1):
        assert OUR_MARK == lock.read_text()


@pytest.mark.parametrize("content", ["0", "", "host:123", str(os.getppid()), "9" * 30, "999999:elsewhere"])
def test_old_dotlock_of_who_may_be_alive_stays(mbox: Path, content: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dotlocks, "uptime", lambda: 500.0)
    lock = mbox.parent / "box.lock"
    lock.write_text(content)
    aged(lock, 400)

    with pytest.raises(BoxError), locked(str(mbox), write=True, wait=0.05):
        pass

    assert content == lock.read_text()


def test_dotlock_of_another_host_stays_however_old_it_is(mbox: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This host's last start tells nothing of it, and an mbox has no limit for the age of its lock."""
    monkeypatch.setattr(dotlocks, "uptime", lambda: 100.0)
    lock = mbox.parent / "box.lock"
    lock.write_text("999999:elsewhere")
    aged(lock, 10_000_000)

    with pytest.raises(BoxError, match="process 999999 on elsewhere"), locked(str(mbox), write=True, wait=0.05):
        pass

    assert "999999:elsewhere" == lock.read_text()


def test_young_dotlock_of_a_dead_process_stays(mbox: Path) -> None:
    lock = mbox.parent / "box.lock"
    lock.write_text(f"{dead_pid()}\n")
    aged(lock, 200)

    with pytest.raises(BoxError), locked(str(mbox), write=True, wait=0.05):
        pass

    assert lock.exists()


def test_link_is_locked_where_it_points_to(mbox: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("box")

    with locked(str(link), write=True):
        assert (tmp_path / "box.lock").exists()


def test_fifo_is_refused_without_opening_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")

    with pytest.raises(BoxError, match="not a regular file"), locked(str(tmp_path / "fifo"), write=False):
        pass


def test_missing_file_is_an_error_of_the_box(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match="cannot be opened"), locked(str(tmp_path / "none"), write=False):
        pass


def test_name_too_long_for_a_dotlock_is_locked_without(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 253)
    path.write_bytes(b"")

    with locked(str(path), write=True) as lock:
        assert not lock.dotlocked


@pytest.mark.usefixtures("ordinary")
def test_directory_without_permission_is_locked_without_dotlock(mbox: Path) -> None:
    mbox.parent.chmod(0o555)
    try:
        with locked(str(mbox), write=True) as lock:
            assert not lock.dotlocked
    finally:
        mbox.parent.chmod(0o755)


def test_processes_that_replace_the_file_lose_no_change(mbox: Path) -> None:
    mbox.write_text("0")

    processes = [python(ADD_ONE, mbox) for _ in range(3)]
    for process in processes:
        process.communicate()

    assert [0, 0, 0] == [process.returncode for process in processes]
    assert "120" == mbox.read_text()


# ---- as other programs lock ------------------------------------------------------------------------------------------


def by(convention: str, then: str, *, blocks: bool = True) -> str:
    """A program that takes the locks of a convention, in its order, and tells whether it has them."""
    how = "0" if blocks else "fcntl.LOCK_NB"
    takes = {
        "dotlock": "os.close(os.open(path + '.lock', os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o444))",
        "fcntl": f"fcntl.lockf(file, fcntl.LOCK_EX | {how})",
        "flock": f"fcntl.flock(file, fcntl.LOCK_EX | {how})",
    }
    steps = "\n    ".join(takes[step] for step in convention.split())
    return (
        "import fcntl, os, sys\npath = sys.argv[1]\nfile = open(path, 'r+b')\n"
        f"try:\n    {steps}\nexcept OSError:\n    print('busy', flush=True); sys.exit()\n{then}\n"
    )


WAIT = "print('ready', flush=True); input()"
# procmail and Postfix; mutt and Dovecot, as Debian has them; lockfile(1) in a script; programs of BSD
CONVENTIONS = ["dotlock fcntl", "fcntl dotlock", "dotlock", "fcntl", "flock", "flock dotlock"]


@OTHERS
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_what_others_lock_is_neither_read_nor_written(
    mbox: Path, convention: str, record_property: Callable[[str, object], None]
) -> None:
    with held(by(convention, WAIT), mbox):
        for write in (False, True):
            with pytest.raises(BoxError, match="box is locked"), locked(str(mbox), write=write, wait=0.05):
                pass
    record_property("points", 2)


@OTHERS
@pytest.mark.parametrize("convention", CONVENTIONS)
def test_what_is_written_is_locked_for_others(mbox: Path, convention: str) -> None:
    with locked(str(mbox), write=True), python(by(convention, "print('ready')", blocks=False), mbox) as process:
        assert b"busy\n" == process.communicate()[0]

    with python(by(convention, "print('ready')", blocks=False), mbox) as process:
        assert b"ready\n" == process.communicate()[0]


@OTHERS
@pytest.mark.parametrize("convention", [each for each in CONVENTIONS if each != "dotlock"])
def test_what_is_read_is_locked_for_others_that_write(mbox: Path, convention: str) -> None:
    """But for those who know nothing but dotlocks: whoever only reads writes nothing."""
    with locked(str(mbox), write=False), python(by(convention, "print('ready')", blocks=False), mbox) as process:
        assert b"busy\n" == process.communicate()[0]


@OTHERS
def test_mbox_that_was_replaced_is_locked_under_its_new_file(mbox: Path) -> None:
    with locked(str(mbox), write=True) as lock:
        new = mbox.with_name("new")
        lock.replace(os.open(new, os.O_RDWR | os.O_CREAT), str(new))
        for convention in CONVENTIONS:
            with python(by(convention, "print('ready')", blocks=False), mbox) as process:
                assert b"busy\n" == process.communicate()[0], convention


def test_reader_does_not_wait_for_the_lock_of_who_is_dead(mbox: Path) -> None:
    lock = mbox.parent / "box.lock"
    lock.write_text(f"{dead_pid()}:{os.uname().nodename}\n")
    read(mbox)
    lock.write_text("0")
    aged(lock, 400)
    read(mbox)

    assert "0" == lock.read_text()


@OTHERS
def test_flock_of_our_own_that_comes_back_over_a_network_is_no_obstacle(
    mbox: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NFS makes a record lock of it, which is in the way of ours."""
    with held(by("flock", WAIT), mbox):
        monkeypatch.setattr("mailsync.drivers.locks._REMOTE", ("",))
        with locked(str(mbox), write=True, wait=0.05):
            pass
