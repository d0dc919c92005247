"""The commands around a synchronization: what they are told, how they fail, and that none of them holds us up."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TextIO

import pytest

from mailsync import stopping
from mailsync.errors import MailsyncError
from mailsync.hooks import Hooks

ROOT = Path(__file__).parents[1]
COPY = {"event": "copy", "box": "INBOX", "store": "there", "id": "<1@x>", "ok": True}
BY_HAND = "Run it by hand: its exit code must be 0."


def hooks(**commands: str) -> Hooks:
    return Hooks("ab", ("here", "there"), **commands)  # type: ignore[arg-type]


def told(home: Path, name: str = "told") -> Mapping[str, str]:
    """What a hook has seen of our own variables with `env > FILE`."""
    lines = [line.partition("=") for line in (home / name).read_text().splitlines()]
    return {name: value for name, _, value in lines if name.startswith("MAILSYNC_")}


# ---- what they are told ----------------------------------------------------------------------------------------------


def test_pre_sync_is_told_the_channel_and_its_stores(home: Path) -> None:
    hooks(pre_sync="env > told; cat >> told").before()

    assert {
        "MAILSYNC_HOOK": "pre_sync",
        "MAILSYNC_CHANNEL": "ab",
        "MAILSYNC_STORE_A": "here",
        "MAILSYNC_STORE_B": "there",
    } == told(home)


def test_hooks_after_a_run_are_told_its_exit_code_and_numbers(home: Path) -> None:
    ran = hooks(on_change="env > change", post_sync="env > post").after(4, [COPY], {"copied": 1, "held": 60})

    expected = {
        "MAILSYNC_CHANNEL": "ab",
        "MAILSYNC_STORE_A": "here",
        "MAILSYNC_STORE_B": "there",
        "MAILSYNC_EXIT": "4",
        "MAILSYNC_COPIED": "1",
        "MAILSYNC_HELD": "60",
    }
    assert [] == ran
    assert {**expected, "MAILSYNC_HOOK": "on_change"} == told(home, "change")
    assert {**expected, "MAILSYNC_HOOK": "post_sync"} == told(home, "post")


def test_hook_inherits_the_environment(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_USER", "x")

    hooks(pre_sync='echo "$OF_THE_USER $HOME" > told').before()

    assert f"x {home}\n" == (home / "told").read_text()


def test_changes_come_as_one_json_array(home: Path) -> None:
    odd = {**COPY, "box": "b\udcff\nx", "subject": "ä\u2028"}

    hooks(on_change="cat > change", post_sync="cat > post").after(0, [COPY, odd], {})

    assert [[COPY, odd]] * 2 == [json.loads((home / name).read_text(encoding="utf-8")) for name in ("change", "post")]


def test_post_sync_runs_on_nothing_and_on_change_does_not(home: Path) -> None:
    hooks(on_change="touch change", post_sync="cat > post").after(0, [], {})

    assert ("[]\n", ["post"]) == ((home / "post").read_text(), os.listdir(home))


def test_on_change_comes_before_post_sync(home: Path) -> None:
    hooks(on_change="echo change >> order", post_sync="echo post >> order").after(0, [COPY], {})

    assert "change\npost\n" == (home / "order").read_text()


def test_channel_without_hooks_runs_nothing() -> None:
    hooks().before()
    assert [] == hooks().after(0, [COPY], {})


# ---- what they say ---------------------------------------------------------------------------------------------------


def test_all_that_a_hook_says_comes_out_on_stderr(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    hooks(pre_sync="echo out; echo err >&2; echo again >/dev/stderr").before()

    out, err = capfd.readouterr()
    assert ("", ["again", "err", "out"]) == (out, sorted(err.splitlines()))


def test_hook_that_says_more_than_a_pipe_holds_is_heard_to_the_end(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    hooks(pre_sync="seq 200000; seq 200000 >&2").before()

    assert 2 * sum(len(f"{i}\n") for i in range(1, 200001)) == len(capfd.readouterr().err)


def test_hook_runs_on_when_nobody_reads_our_stderr(home: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    kept = os.dup(2)
    os.dup2(writer, 2)
    try:
        hooks(pre_sync="seq 100000 >&2; touch done").before()
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(writer)

    assert (home / "done").exists()


# ---- how they fail ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("false", "failed with exit code 1"),
        ("echo no vpn >&2; echo; exit 3", "failed with exit code 3: no vpn"),
        ("printf 'one\\ntwo \\377\\n\\n' >&2; exit 3", "failed with exit code 3: two \udcff"),
        ("kill -9 $$", "was ended by signal 9"),
        ("/no/such/command", "cannot be run: No such file or directory"),
        (" ", "cannot be run: it is no command"),
        ("x\0", "cannot be run: it is no command"),
    ],
)
def test_pre_sync_that_fails_ends_the_run(home: Path, command: str, expected: str) -> None:
    with pytest.raises(MailsyncError) as caught:
        hooks(pre_sync=command).before()

    assert (f"pre_sync of channel ab: {expected}", f"Nothing was synchronized. {BY_HAND}", 1) == (
        str(caught.value),
        caught.value.hint,
        caught.value.code,
    )


def test_last_line_of_a_failure_is_cut_where_it_is_too_long(home: Path) -> None:
    with pytest.raises(MailsyncError) as caught:
        hooks(pre_sync="head -c 100000 /dev/zero | tr '\\0' x >&2; exit 1").before()

    assert f"pre_sync of channel ab: failed with exit code 1: {'x' * 300}" == str(caught.value)


def test_hook_that_fails_after_the_run_is_a_value(home: Path) -> None:
    failures = hooks(on_change="(exit 2)", post_sync="env > told; exit 3").after(0, [COPY], {})

    assert [
        ("on_change of channel ab: failed with exit code 2", BY_HAND),
        ("post_sync of channel ab: failed with exit code 3", BY_HAND),
    ] == [(str(failure), failure.hint) for failure in failures]
    assert "1" == told(home)["MAILSYNC_EXIT"]


def test_exit_code_of_the_run_outlives_an_on_change_that_fails(home: Path) -> None:
    hooks(on_change="false", post_sync="env > told").after(4, [COPY], {})

    assert "4" == told(home)["MAILSYNC_EXIT"]


def test_hook_that_finds_no_room_for_the_changes_is_told(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(home / "none"))

    (failure,) = hooks(post_sync="true").after(0, [COPY], {})

    assert "post_sync of channel ab: cannot be run: No such file or directory" == str(failure)


# ---- none holds us up ------------------------------------------------------------------------------------------------


def test_hook_that_does_not_read_a_hundred_thousand_changes_is_no_failure(home: Path) -> None:
    assert [] == hooks(on_change="true", post_sync="exec <&-; true").after(0, [COPY] * 100_000, {})


def test_hook_that_reads_a_hundred_thousand_changes_gets_them_all(home: Path) -> None:
    hooks(on_change="head -c 1; cat > rest").after(0, [COPY] * 100_000, {})

    assert [COPY] * 100_000 == json.loads("[" + (home / "rest").read_text())


def test_hook_that_stays_in_the_background_with_our_streams_is_not_waited_for_and_goes_on(home: Path) -> None:
    os.mkfifo(home / "to")
    os.mkfifo(home / "back")

    hooks(pre_sync="cat < to > back & true").before()

    (home / "to").write_text("hello")
    assert "hello" == (home / "back").read_text()


def test_hook_that_closes_its_streams_is_waited_for(home: Path) -> None:
    with pytest.raises(MailsyncError, match="exit code 3"):
        hooks(pre_sync="exec >&- 2>&-; seq 100000 > told; exit 3").before()


def test_hook_that_takes_too_long_is_ended_with_all_it_has_started(home: Path) -> None:
    os.mkfifo(home / "alive")
    alive = os.open(home / "alive", os.O_RDONLY | os.O_NONBLOCK)
    slow = replace(hooks(pre_sync="exec 3> alive; echo no answer >&2; sleep 1000 & sleep 1000"), patience=0.2)

    with pytest.raises(MailsyncError) as caught:
        slow.before()

    assert "pre_sync of channel ab: did not end within 0.2 seconds: no answer" == str(caught.value)
    assert b"" == os.read(alive, 1)  # nobody has it open any more
    os.close(alive)


# ---- when we are stopped ---------------------------------------------------------------------------------------------

STOPPABLE = """\
import signal, sys
from mailsync import external
from mailsync.hooks import Hooks
external.GRACE = float(sys.argv[1])
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
Hooks("ab", ("here", "there"), pre_sync=sys.argv[2]).before()
"""


@contextmanager
def during(home: Path, command: str, grace: float = 60) -> Iterator[tuple[subprocess.Popen[bytes], TextIO]]:
    """We, while a hook runs; and what it says on its descriptor 3, which ends when none of its processes is left."""
    os.mkfifo(home / "alive")
    argv = [sys.executable, "-c", STOPPABLE, str(grace), f"exec 3> alive; {command}"]
    with subprocess.Popen(argv, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE) as process:
        with open(home / "alive") as alive:
            assert "up\n" == alive.readline()
            yield process, alive
        process.communicate()


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, -signal.SIGINT), (signal.SIGTERM, 143)])
def test_hook_ends_with_us_and_leaves_nothing_behind(home: Path, signum: int, code: int) -> None:
    with during(home, "sleep 1000 & echo up >&3; sleep 1000") as (us, alive):
        us.send_signal(signum)
        assert "" == alive.read()

    assert code == us.returncode


def test_hook_may_clean_up_when_we_are_stopped(home: Path) -> None:
    with during(home, "trap 'seq 1000 > cleaned; echo bye >&3; exit' TERM; echo up >&3; sleep 1000 & wait") as (
        us,
        alive,
    ):
        us.send_signal(signal.SIGTERM)
        assert "bye\n" == alive.read()


def test_hook_that_does_not_want_to_end_is_killed(home: Path) -> None:
    with during(home, "trap '' TERM INT HUP; echo up >&3; sleep 1000 & sleep 1000", grace=0.1) as (us, alive):
        us.send_signal(signal.SIGTERM)
        assert "" == alive.read()


def test_second_ctrl_c_leaves_nothing_behind(home: Path) -> None:
    stubborn = "trap 'echo again >&3' TERM; echo up >&3; while :; do sleep 1000 & wait; done"
    with during(home, stubborn) as (us, alive):
        us.send_signal(signal.SIGINT)
        assert "again\n" == alive.readline()
        us.send_signal(signal.SIGINT)
        assert "" == alive.read()


def test_signal_that_comes_while_a_command_is_started_comes_afterwards() -> None:
    told: list[str] = []
    before = signal.signal(signal.SIGTERM, lambda _signum, _frame: told.append("came"))
    try:
        with stopping.held_back(signal.SIGTERM):
            os.kill(os.getpid(), signal.SIGTERM)
            told.append("held back")
    finally:
        signal.signal(signal.SIGTERM, before)

    assert ["held back", "came"] == told
