"""What mailsync writes is its owner's alone, whatever the umask; and no secret is in any of it, or told to any program.

One life of a channel with a server, by all modes, with secrets from everywhere; a bug planted in the middle of a run.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mailsync import database, directories
from mailsync.config.values import Secret, StoreConfig
from mailsync.drivers.imap.account import Account
from mailsync.drivers.imap.login import LoginCommand
from mailsync.drivers.imap.sasl import Login, OAuthBearer, Plain, XOAuth2
from mailsync.drivers.imap.scram import ScramSha256
from mailsync.spec import Remote

from .mail import Ran, configure, crlf, maildir, message, run, run_apart
from .servers.fake import EVERYTHING, FakeServer
from .test_imap_dial import forms
from .tried import PLANTED, SECRETS, Points

SECRET = "Gn4-quokka!Zx9"
UMASKS = (0o000, 0o022, 0o077)
LONG = pytest.mark.torture
# A child of ours that keeps all it can see of itself and of us.
SPY = """\
import os, sys
for who in ("self", os.getppid()):
    for what in ("cmdline", "environ"):
        with open(f"/proc/{who}/{what}", "rb") as file, open(sys.argv[1], "ab") as seen:
            seen.write(file.read() + b"\\n")
if "HOOK" in sys.argv and not sys.stdin.isatty():
    open(sys.argv[1], "ab").write(sys.stdin.buffer.read())
"""
KEYRING = """\
class errors:
    class KeyringError(Exception): ...

def get_password(service, user):
    with open("kept") as file:
        return file.readline().strip()
"""
# Where an exception comes in the middle of a run: one that nobody has thought of.
BUG = """\
import sys
from mailsync import apply
def broken(self, box, care=None):
    secret = self.stores
    raise ZeroDivisionError("planted")
apply.Apply.box = broken
from mailsync.__main__ import main
sys.exit(main())
"""


def at_home(home: Path, port: int, secret: str, more: str = "") -> None:
    """Two channels of one server: with a Maildir store, and with mbox and MH behind it."""
    spy = f"{sys.executable} {home.parent}/spy.py {home.parent}/seen"
    hooks = " ".join(f'{hook} "{spy} HOOK"' for hook in ("pre_sync", "on_change", "post_sync"))
    configure(
        home,
        f"store far {{ server {{127.0.0.1:{port}/user=alice}} {secret} {more} }}\n"
        "store md { pat md/* prefix md/ format maildir delete trash:bin }\n"
        "store mb { pat mb/* prefix mb/ format mbox }\nstore mh { pat mh/* prefix mh/ format mh }\n"
        f"channel c md far {{ msinfo .msinfo keep_deleted 7 {hooks} }}\n"
        "channel d mb md { msinfo own/msinfo }\nchannel e mh md { msinfo own/msinfo }\n",
    )


def ways(home: Path) -> dict[str, str]:
    """How a secret comes to mailsync: what the store says, by name."""
    place = home.parent
    (place / "kept").write_text(f"{SECRET}\n")
    (place / "kept").chmod(0o600)
    spy = f"{sys.executable} {place}/spy.py {place}/seen; cat {place}/kept"
    return {
        "passwd": f'passwd "{SECRET}"',
        "passwd_cmd": f"passwd_cmd '{spy}'".replace("'", '"'),
        "token_cmd": f'token_cmd "{spy}"',
        "netrc": "",
        "keyring": "keyring yes",
    }


@pytest.fixture
def far(home: Path) -> Iterator[FakeServer]:
    (home.parent / "spy.py").write_text(SPY)
    (home.parent / "seen").touch()
    with FakeServer(EVERYTHING | {"AUTH=XOAUTH2"}, passwords={"alice": SECRET}) as server:
        server.store[b"INBOX"].add(crlf(message("there")))
        yield server


class Life:
    """All that was said, and which runs have failed."""

    def __init__(self, home: Path, umask: int) -> None:
        self.home, self.umask = home, umask
        self.said: list[str] = []
        self.failed: list[str] = []

    def run(self, *args: str) -> Ran:
        def before() -> None:
            os.umask(self.umask)

        ran = run_apart(self.home, *args, before=before)
        self.said += [ran.out, ran.err]
        if ran.code:
            self.failed.append(f"{args} {ran}")
        return ran


def lived(home: Path, umask: int) -> Life:
    """From the first run to a deletion that is undone, with every mode in between."""
    life = Life(home, umask)
    maildir(home / "md/one", *(message(n) for n in range(3)))
    for args in (
        ["--test-auth", "far"], ["-di", "--test-auth", "far"], ["-s", "c"], ["--plan", "plan", "c"], ["c", "d", "e"],
        ["--json", "-d", "c"], ["-d", "-di", "c"], ["--check", "c"], ["--check", "far"], ["far"], ["c", "far"], ["-dc"],
    ):  # fmt: skip
        life.run(*args)
    next((home / "md/one/cur").iterdir()).unlink()
    maildir(home / "md/new", message("new"))
    for args in (["--json", "-di", "c", "d", "e"], ["--undo", "c"], ["--full", "-m", "-M", "-d", "c"], ["-q", "c"]):
        life.run(*args)
    return life


def secrets_in(texts: Sequence[str | bytes]) -> list[str]:
    known = [*forms(SECRET), base64.b64encode(SECRET.encode()).decode().rstrip("=")]
    found = []
    for text in texts:
        raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        found += [form for form in known if form.encode() in raw]
    return found


def written(home: Path) -> list[Path]:
    """All below the home but the configuration, and what the test has put there."""
    given = {home / ".mailsync", home / ".netrc", home / "keyring.py", home / "kept"}
    mail = {*home.glob("md/one/cur/17000000*"), *home.glob("md/new/cur/17000000*")}
    return [path for path in home.rglob("*") if path not in given | mail and "__pycache__" not in path.parts]


# ---- modes -----------------------------------------------------------------------------------------------------------


@SECRETS
@pytest.mark.parametrize("umask", [0o000, pytest.param(0o022, marks=LONG), pytest.param(0o077, marks=LONG)], ids=oct)
def test_all_that_is_written_is_its_owners_alone(
    home: Path, far: FakeServer, umask: int, record_property: Points
) -> None:
    """Also the directories above: who may write to ~/.local/state may put another directory in place of ours."""
    at_home(home, far.port, ways(home)["passwd"])
    made = {home / "md", home / "md/one", *(home / "md/one" / part for part in ("cur", "new", "tmp"))}
    life = lived(home, umask)
    made |= {home / "md/new", *(home / "md/new" / part for part in ("cur", "new", "tmp"))}
    ours = [path for path in written(home) if path not in made]
    loose = {str(path): oct(path.stat().st_mode) for path in ours if path.stat().st_mode & 0o077}

    assert {} == loose
    assert [] == life.failed
    assert {"msinfo", ".msinfo", "plan", "index.jsonl"} <= {path.name for path in ours}
    assert {".cache", ".local", ".local/state", "mb", "mh/one", "own"} <= {str(p.relative_to(home)) for p in ours}
    record_property("points", len(ours))


@SECRETS
@pytest.mark.parametrize("umask", UMASKS, ids=oct)
def test_nothing_is_open_to_others_even_for_a_moment(
    home: Path,
    far: FakeServer,
    umask: int,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Points,
) -> None:
    """Temporary files and locks: each is looked at as soon as it is made. A dotlock may be read by all, as usual."""
    at_home(home, far.port, ways(home)["passwd"])
    maildir(home / "md/one", *(message(n) for n in range(3)))
    seen: dict[str, int] = {}
    with watched(home, monkeypatch, seen), masked(umask):
        assert {0} == {run(*args).code for args in (["c"], ["d"], ["e"], ["--plan", "plan", "c"])}
    locks = {name for name in seen if re.search(r"/\.mailsync-[^/]+\.lock$", name)}

    assert {} == {name: oct(mode) for name, mode in seen.items() if mode & (0o033 if name in locks else 0o077)}
    assert len(seen) > 30
    record_property("points", len(seen))


@contextmanager
def masked(umask: int) -> Iterator[None]:
    before = os.umask(umask)
    try:
        yield
    finally:
        os.umask(before)


@contextmanager
def watched(home: Path, monkeypatch: pytest.MonkeyPatch, seen: dict[str, int]) -> Iterator[None]:
    """The mode of each file and directory that is made below the home."""
    open_, mkdir = os.open, os.mkdir

    def opened(path: Any, flags: int, mode: int = 0o777, **more: Any) -> int:
        fd = open_(path, flags, mode, **more)
        if flags & os.O_CREAT and os.path.abspath(path).startswith(f"{home}/"):
            seen[f"{os.path.abspath(path)}"] = stat.S_IMODE(os.fstat(fd).st_mode)
        return fd

    def made(path: Any, mode: int = 0o777, **more: Any) -> None:
        mkdir(path, mode, **more)
        if os.path.abspath(path).startswith(f"{home}/"):
            seen[os.path.abspath(path)] = stat.S_IMODE(os.stat(path).st_mode)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", opened)
        patch.setattr(os, "mkdir", made)
        yield


@SECRETS
@pytest.mark.parametrize("umask", UMASKS, ids=oct)
def test_cache_that_was_spoilt_is_made_anew_for_its_owner_alone(home: Path, umask: int) -> None:
    configure(home, "store a { pat a/* prefix a/ }\nstore b { pat b/* prefix b/ }\nchannel c a b { msinfo .msinfo }\n")
    maildir(home / "a/one", message(1))
    with masked(umask):
        assert 0 == run("c").code
        for file in (home / ".cache/mailsync").glob("*.sqlite"):
            file.write_bytes(b"no database at all")
        maildir(home / "a/two", message(2))
        assert 0 == run("c").code

    assert [] == [path for path in (home / ".cache").rglob("*") if path.stat().st_mode & 0o077]


@SECRETS
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664])
def test_mail_that_is_there_keeps_its_mode(home: Path, mode: int) -> None:
    """Who shares an mbox or MH sequences with others goes on to do so."""
    configure(home, "store a { pat a/* prefix a/ }\nstore b { pat b/* prefix b/ }\nchannel c a b { msinfo .msinfo }\n")
    maildir(home / "a/one", *(message(n) for n in range(3)))
    (home / "b").mkdir()
    (home / "b/one").touch()
    (home / ".msinfo").touch()
    for file in (home / "b/one", home / ".msinfo"):
        file.chmod(mode)
    with masked(0o022):
        assert 0 == run("c").code
        next((home / "a/one/cur").iterdir()).unlink()
        assert 0 == run("c").code

    assert [mode, mode] == [stat.S_IMODE((home / name).stat().st_mode) for name in ("b/one", ".msinfo")]


# ---- secrets ---------------------------------------------------------------------------------------------------------


@SECRETS
@pytest.mark.parametrize(
    "way", ["token_cmd", *(pytest.param(way, marks=LONG) for way in ("passwd", "passwd_cmd", "netrc", "keyring"))]
)
def test_no_secret_is_written_said_or_passed_on(
    home: Path,
    far: FakeServer,
    way: str,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Points,
) -> None:
    """Not even to the hooks, and the commands that bring it; nor when the login fails or a bug ends the run."""
    at_home(home, far.port, ways(home)[way])
    if way == "netrc":
        (home / ".netrc").write_text(f"machine 127.0.0.1 login alice password {SECRET}\n")
        (home / ".netrc").chmod(0o600)
    if way == "keyring":
        (home.parent / "keyring.py").write_text(KEYRING)
        shutil.copy(home.parent / "kept", home / "kept")
        monkeypatch.setenv("PYTHONPATH", f"{home.parent}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("PYTHONFAULTHANDLER", "1")
    monkeypatch.setenv("PYTHONDEVMODE", "1")
    life = lived(home, 0o022)
    assert [] == life.failed
    far.passwords = {"alice": "another"}
    failed = [
        life.run(*args).code
        for args in (["--test-auth", "far"], ["-d", "-di", "--full", "c"], ["--json", "-d", "--full", "c"])
    ]
    files = written(home)
    seen = (home.parent / "seen").read_bytes()

    assert [7, 7, 7] == failed
    assert [] == secrets_in(life.said)
    assert [] == secrets_in([path.read_bytes() for path in files if path.is_file()])
    assert b"MAILSYNC_HOOK" in seen
    assert [] == secrets_in([seen])
    record_property("points", len(life.said) // 2 + len(files))


@SECRETS
@pytest.mark.parametrize("args", [["c"], ["-d", "-di", "c"], ["--json", "-d", "c"], ["-d", "c", "d"]])
def test_bug_in_the_middle_of_a_run_shows_no_secret(home: Path, far: FakeServer, args: list[str]) -> None:
    at_home(home, far.port, ways(home)["passwd"])
    maildir(home / "md/one", message(1))
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-X", "faulthandler", "-c", BUG, *args],
        cwd=home,
        capture_output=True,
        timeout=100,
    )

    assert 1 == done.returncode, done.stderr
    assert b"this is a bug in mailsync: ZeroDivisionError: planted" in done.stdout + done.stderr
    assert [] == secrets_in([done.stdout, done.stderr])


@SECRETS
def test_no_object_that_holds_a_secret_shows_it() -> None:
    """As a traceback with local variables, or a debugger, prints them; and as pickled or formatted by accident."""
    way = StoreConfig("a", server="{h/user=u}", passwd=Secret(SECRET))
    objects: list[object] = [
        Secret(SECRET), way, Account(Remote("h")), LoginCommand("u", SECRET), Plain("u", SECRET), Login("u", SECRET),
        XOAuth2("u", SECRET), OAuthBearer("u", SECRET, "h", 143), ScramSha256("u", SECRET, "nonce"),
    ]  # fmt: skip

    assert [] == secrets_in([f"{each!r} {each!s} {each}" for each in objects])


# ---- planted ---------------------------------------------------------------------------------------------------------


@PLANTED
def test_directory_made_as_the_umask_has_it_is_found(
    home: Path, far: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (directories, database):
        monkeypatch.setattr(module, "make", lambda path, **_: os.makedirs(path, exist_ok=True))
    with pytest.raises(AssertionError):
        test_nothing_is_open_to_others_even_for_a_moment(home, far, 0o022, monkeypatch, lambda *_: None)


@PLANTED
def test_secret_that_shows_itself_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Secret, "__repr__", lambda self: self.reveal())
    with pytest.raises(AssertionError):
        test_no_object_that_holds_a_secret_shows_it()
