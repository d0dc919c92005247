"""examples/: the demo does what it says, leaves nothing behind, and its samples are what they are meant to be."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from mailsync import config
from mailsync.config import shown
from mailsync.identity import examine, identify

from .samples import DEMO, ROOT, demo, new_home, shell

SAMPLES = sorted((ROOT / "examples/messages").glob("*.eml"))


def run_demo(place: Path, demo: Path = DEMO, **environment: str) -> subprocess.CompletedProcess[bytes]:
    """As `make demo` does: no terminal, and a place for temporary files that can be looked into."""
    return subprocess.run(
        [sys.executable, str(demo)],
        env={**os.environ, "TMPDIR": str(place), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=100,
    )


def test_demo_runs_to_its_end_and_leaves_nothing_wherever_it_runs(tmp_path: Path) -> None:
    here = run_demo(tmp_path, LC_ALL="C", TZ="Asia/Tokyo", HOME="/nonexistent", MAIL="/nonexistent/mail")
    there = run_demo(tmp_path, PYTHONIOENCODING="ascii", TERM="xterm", NO_COLOR="1", XDG_CACHE_HOME="/nonexistent")

    assert (0, b"") == (here.returncode, here.stderr)
    assert (0, b"") == (there.returncode, there.stderr)
    assert [] == list(tmp_path.iterdir())
    assert here.stdout == there.stdout
    lines = here.stdout.decode().splitlines()
    assert [
        "$ mailsync laptop",
        "$ mailsync backup",
        "$ mailsync mail laptop",
        "$ mailsync -s mail",
        "$ mailsync mail",
        "$ mailsync -m mail",
        "$ mailsync mail",
        "$ mailsync -q mail",
        "$ mailsync to-mh",
        "$ mailsync -m old",
    ] == [line for line in lines if line.startswith("$")]
    for expected in ("Only simulating", "4 copied laptop->backup.", "Expunged 1 mail in store backup"):
        assert expected in lines


def test_demo_fails_where_a_command_fails(tmp_path: Path) -> None:
    examples = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", examples)
    (examples / "demo.conf").write_text("# a fault\n\nstore laptop {")

    done = run_demo(tmp_path, demo=examples / "demo.py")

    assert 1 == done.returncode
    assert [examples] == list(tmp_path.iterdir())


def test_mail_that_went_from_maildir_over_mbox_to_mh_is_the_same_mail(tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")

    out = shell(home, "mailsync -q mail to-mh; echo $?")

    assert out.endswith("\n0\n")
    in_maildir = digests(home / "Mail", "*/cur/*", "*/*/cur/*", "*/new/*", "*/*/new/*")
    in_mh = digests(home / "MH", "**/[0-9]*")
    assert 12 == len(in_maildir)
    assert in_maildir == in_mh


def test_subject_that_the_terminal_cannot_show_does_not_stop_a_run(tmp_path: Path) -> None:
    home = new_home(tmp_path / "home")

    out = shell(home, 'PYTHONUTF8=0 PYTHONIOENCODING=ascii mailsync -m mail; echo "exit code $?"')

    assert r"Gr\xfc\xdfe aus K\xf6ln" in out
    assert out.endswith("exit code 0\n")


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_sample_is_a_message_by_rfc_5322(path: Path) -> None:
    head, _, body = path.read_bytes().partition(b"\n\n")

    assert b"\r" not in head + body
    assert body.endswith(b"\n")
    assert all(re.match(rb"[!-9;-~]+: ?\S|[ \t]+\S", line) for line in head.split(b"\n"))
    assert all(head.count(b"\n" + name + b": ") + head.startswith(name + b": ") == 1 for name in (b"From", b"Date"))
    assert max(map(len, (head + b"\n" + body).split(b"\n"))) <= 78
    assert {b"example.org", b"example.net"} >= set(re.findall(rb"@(?:lists\.)?([\w.]+)", head))


def test_samples_are_of_many_kinds() -> None:
    raw = {path.stem: path.read_bytes() for path in SAMPLES}
    used = {name for boxes in (demo.MAILDIR, demo.MBOX, demo.MH) for names in boxes.values() for name in names}

    assert set(raw) == used | {"saturday"}
    assert b"Subject: =?UTF-8?" in raw["greetings"]
    assert b"From: =?UTF-8?" in raw["greetings"]
    assert not raw["recipe"].isascii()
    assert b"\nReferences: <potatoes-1@example.org> <potatoes-2@example.net>\n" in raw["potatoes-3"]
    assert b"Content-Disposition: attachment" in raw["photo"]
    assert b"\nMessage-ID:" not in raw["no-id"]
    assert b"\nFrom the shop" in raw["from-lines"]


def test_samples_have_different_ids() -> None:
    rule = identify("msgid")

    assert len(SAMPLES) == len({rule(path.read_bytes().partition(b"\n\n")[0] + b"\n") for path in SAMPLES})


def test_example_configuration_is_understood() -> None:
    found = config.load(str(ROOT / "examples/mailsync.conf"))

    assert {"laptop", "work", "phone", "old", "stick"} == set(found.channels)
    assert all(channel.a in found.stores and channel.b in found.stores for channel in found.channels.values())


def test_demo_configuration_has_nothing_that_the_original_does_not_know() -> None:
    lines = shown.dump(config.load(str(ROOT / "examples/demo.conf"))).splitlines()

    assert {"pat", "prefix", "msinfo"} == {line.split()[0] for line in lines if line.startswith("\t")}


def digests(root: Path, *patterns: str) -> list[str]:
    files = {path for pattern in patterns for path in root.glob(pattern) if path.is_file()}
    return sorted(examine([path.read_bytes()]).exact for path in files)
