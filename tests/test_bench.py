"""bench: it runs, and its table is whole. What it measures is not for tests to judge."""

from __future__ import annotations

import signal
import socket
import socketserver
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from bench import table
from bench.cases import cases
from bench.daemons import Daemon, free_port
from bench.homes import Place
from bench.mail import count_maildirs, count_mboxes, mails, write_maildirs, write_mboxes
from bench.measure import Case, Sample, Took

TWICE = Sample(2, Took(1, 1, 1))
ROOT = Path(__file__).resolve().parent.parent


def bench(*args: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-m", "bench", *args], cwd=ROOT, capture_output=True, text=True, timeout=110, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.fixture
def place() -> Iterator[Path]:
    """Not below what pytest gives: the server reads mail as another user, whom that is closed to."""
    with tempfile.TemporaryDirectory() as path:
        Path(path).chmod(0o711)
        yield Path(path)


def test_a_quick_run_tells_machine_and_the_rows_that_were_asked_for_and_leaves_nothing(place: Path) -> None:
    asked = ("first, IMAP to Maildir", "msinfo")
    only = [word for text in asked for word in ("--only", text)]
    machine, told, blank, head, _, *rows = bench("--quick", "--messages", "100", "--place", str(place), *only)

    expected = [case.name for case in cases(Place(place, 100, "small")) if any(text in case.name for text in asked)]
    assert expected == [row.split("  ")[0] for row in rows]
    assert list(table.HEAD) == [cell.strip() for cell in head.split("  ") if cell.strip()]
    assert " cores " in machine
    assert told.startswith("100 small messages")
    assert blank == ""
    assert not list(place.iterdir())


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_run_that_is_ended_leaves_neither_files_nor_processes_and_prints_what_it_has(
    place: Path, by: signal.Signals
) -> None:
    words = ["--quick", "--messages", "100", "--runs", "1000", "--place", str(place), "--only", "50 ms round trip"]
    with subprocess.Popen(
        [sys.executable, "-m", "bench", *words], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr
        process.stderr.readline()  # the first row is done, the second one begins
        process.send_signal(by)
        out, _ = process.communicate(timeout=60)

    assert "no-op, 10 mailboxes, 50 ms round trip" in out
    assert not list(place.iterdir())
    assert [] == [line for line in command_lines() if str(place) in line]


def command_lines() -> Iterator[str]:
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            yield (process / "cmdline").read_bytes().decode(errors="replace")


def test_what_no_row_has_is_refused(place: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "bench", "--only", "no such work", "--place", str(place)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (1, True) == (done.returncode, "no row has 'no such work'" in done.stderr)


def test_a_profile_tells_what_cost_most(tmp_path: Path) -> None:
    told = bench("--messages", "200", "--profile", "noop", "--format", "mbox", "--place", str(tmp_path))

    assert "   Ordered by: internal time" in told
    assert any("function calls" in line for line in told)


class Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(b"* OK")
        while data := self.request.recv(65536):
            self.request.sendall(data)


def test_what_goes_over_the_slow_line_comes_back_whole_and_in_order(tmp_path: Path) -> None:
    sent = b"".join(b"%07d\n" % number for number in range(100_000))
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Echo) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        words = [sys.executable, "-m", "bench.delay", str(port := free_port()), str(server.server_address[1]), "5"]
        line = Daemon(words, port, tmp_path / "line")
        try:
            line.await_greeting()
            with socket.create_connection(("127.0.0.1", port), timeout=30) as end:
                threading.Thread(target=end.sendall, args=(sent,)).start()
                got = b""
                while len(got) < 4 + len(sent):
                    got += (data := end.recv(65536))
                    assert data
        finally:
            line.stop()
            server.shutdown()

    assert b"* OK" + sent == got


def test_the_same_seed_makes_the_same_mail_and_no_id_twice() -> None:
    some = list(mails(300, seed="x"))
    more = [*some, *mails(300, seed="y")]

    ids = Counter(line for mail in more for line in mail.raw.split(b"\n") if line.lower().startswith(b"message-id:"))
    assert some == list(mails(300, seed="x"))
    assert (600, 1) == (len(ids), max(ids.values()))


def test_both_formats_hold_all_mail(tmp_path: Path) -> None:
    write_maildirs(tmp_path / "maildirs", mails(200))
    write_mboxes(tmp_path / "mboxes", mails(200))

    assert (200, 200) == (count_maildirs(tmp_path / "maildirs"), count_mboxes(tmp_path / "mboxes"))


def test_a_row_shows_the_median_and_the_extremes_of_its_ratios_and_what_ours_took() -> None:
    case = Case("one", "other", lambda rng: TWICE, goal=2)
    row = table.Row(case, [Sample(ratio, Took(ratio, ratio / 10, 10 * ratio)) for ratio in (4, 1, 2)])

    assert ("one", "other", "2", "1 - 4.0", "<= 2", "yes", "2", "0.2", "40") == row.cells()


def test_a_row_above_its_goal_says_so_in_its_unit() -> None:
    case = Case("peak", "", lambda rng: TWICE, goal=30, unit="MB")

    assert ("peak", "-", "31 MB", "31 - 31", "<= 30 MB", "no", "1", "1", "31") == table.Row(
        case, [Sample(31, Took(1, 1, 31))]
    ).cells()


def test_a_row_without_samples_says_why() -> None:
    row = table.Row(Case("one", "5.2.7", lambda rng: TWICE), why_not="5.2.7 is not installed")

    assert ("one", "5.2.7 (5.2.7 is not installed)", *["-"] * 7) == row.cells()


def test_a_row_without_its_peer_shows_ours_and_says_why() -> None:
    row = table.Row(Case("one", "other", lambda rng: TWICE, goal=1), [Sample(None, Took(1, 1, 1), "not installed")])

    assert ("one", "other (not installed)", "-", "-", "<= 1", "-", "1", "1", "1") == row.cells()


def test_rst_is_a_list_table() -> None:
    rows = [table.Row(Case("one", "other", lambda rng: TWICE), [TWICE])]
    lines = table.text(rows, rst=True).splitlines()

    assert [".. list-table::", "   :header-rows: 1", ""] == lines[:3]
    assert [*table.HEAD, *rows[0].cells()] == [line[7:].replace("\\-", "-") for line in lines[3:]]
    assert [3, 3 + len(table.HEAD)] == [at for at, line in enumerate(lines) if line.startswith("   * - ")]
