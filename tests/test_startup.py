"""What a run imports: nothing that it does not need, as each import costs all runs that find nothing to do."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from .mail import configure, maildir, message, run
from .servers.fake import EVERYTHING, FakeServer

NOT_FOR_HELP = {
    "pyparsing", "rich", "imapclient", "imaplib", "sqlite3", "ssl", "email", "logging", "socket", "subprocess",
    "dataclasses", "importlib.metadata", "json", "platformdirs", "shutil",
}  # fmt: skip
NOT_FOR_A_LOGIN = {
    "imapclient", "imaplib", "ssl", "email", "logging", "sqlite3", "rich", "pyparsing", "asyncio", "subprocess",
    "random", "hmac", "importlib.metadata", "base64", "calendar", "datetime", "ipaddress", "secrets", "shlex",
    "stringprep", "tempfile",
}  # fmt: skip
NOT_FOR_NOTHING = {  # when nothing on this machine has changed, and nobody else need be asked
    "dataclasses", "pyparsing", "rich", "imapclient", "imaplib", "sqlite3", "ssl", "email", "logging", "socket",
    "subprocess", "importlib.metadata", "platformdirs", "pathlib", "shutil", "typing",
    "mailsync.command", "mailsync.config", "mailsync.drivers", "mailsync.model", "mailsync.report",
}  # fmt: skip
NOT_FOR_NOTHING_NEW = {  # nor on a server
    *NOT_FOR_A_LOGIN, "pathlib", "shutil", "hashlib", "difflib", "fnmatch", "platformdirs",
    "mailsync.running", "mailsync.channel", "mailsync.planner", "mailsync.plan", "mailsync.stores", "mailsync.state",
    "mailsync.removal", "mailsync.kept", "mailsync.ledger", "mailsync.record", "mailsync.cache", "mailsync.hooks",
    "mailsync.identity", "mailsync.msinfo", "mailsync.modes", "mailsync.auth", "mailsync.several", "mailsync.chains",
    "mailsync.report.results", "mailsync.report.boxes", "mailsync.report.columns", "mailsync.config.grammar",
    "mailsync.config.source", "mailsync.config.keys", "mailsync.drivers.local", "mailsync.drivers.maildir",
    "mailsync.drivers.imap.box", "mailsync.drivers.imap.draft", "mailsync.drivers.imap.append",
}  # fmt: skip

# What these import themselves is none of ours, and differs from one Python to the next.
ARGPARSE = """
import argparse, sys
argparse.ArgumentParser(formatter_class=lambda prog: argparse.HelpFormatter(prog, width=80)).add_argument("name")
"""
SOCKET = "import socket, sys"
SHOW = "\nprint('', *sys.modules, sep='\\n')"

HELP = """
import sys
from mailsync.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
"""
RUN = """
import sys
from mailsync.cli import main
assert main(sys.argv[1:]) == 0
"""
LOGIN = """
import sys
from mailsync.drivers.imap.account import Account
from mailsync.drivers.imap.store import ImapStore
from mailsync.spec import Remote

class Known:
    def user(self): return "alice"
    def password(self): return "secret"
    def token(self, *, fresh=False): return None

with ImapStore(Account(Remote("127.0.0.1", int(sys.argv[1]))), Known(), patterns=("*",)) as store:
    [inbox] = store.boxes(store.patterns)
    with store.open(inbox.mailbox, write=True) as box:
        [head] = box.heads(["1"])
"""


MAILDIR = "store md { pat md/* prefix md/ format maildir }\n"


def settle(home: Path, text: str) -> None:
    """Run the channel until it finds nothing: not before all that it depends on is older than the clock's grain."""
    configure(home, text)
    maildir(home / "md/INBOX", message(1))
    while not list((home / ".cache/mailsync").glob("settled-*")):
        ran = run("c")
        assert (0, "") == (ran.code, ran.err)
        time.sleep(0.005)


def imported(code: str, *args: str) -> set[str]:
    """The modules that a fresh interpreter has in the end."""
    done = subprocess.run([sys.executable, "-c", code + SHOW, *args], capture_output=True, text=True)
    assert (0, "") == (done.returncode, done.stderr)
    return set(done.stdout.splitlines())


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_comes_at_once(option: str) -> None:
    found = imported(HELP, option) - imported(ARGPARSE)

    assert "mailsync.arguments" in found
    assert set() == NOT_FOR_HELP & found


@pytest.mark.parametrize("capabilities", [EVERYTHING, frozenset[str]()], ids=["PLAIN", "LOGIN"])
def test_login_without_tls_stands_on_nothing_but_a_socket(capabilities: frozenset[str]) -> None:
    with FakeServer(capabilities) as server:
        server.store[b"INBOX"].add(message(1).replace(b"\n", b"\r\n"))
        found = imported(LOGIN, str(server.port)) - imported(SOCKET)

    assert "mailsync.drivers.imap.login" in found
    assert set() == NOT_FOR_A_LOGIN & found


def test_run_that_finds_nothing_on_this_machine_ends_before_anything_else_is_imported(home: Path) -> None:
    (home / "other").mkdir()
    settle(home, MAILDIR + "store o { pat other/* prefix other/ format maildir }\nchannel c md o { msinfo .msinfo }\n")

    found = imported(RUN, "c") - imported(ARGPARSE)

    assert "mailsync.settled" in found
    assert set() == NOT_FOR_NOTHING & found


def test_run_that_finds_nothing_on_a_server_imports_no_more_than_to_ask_it(home: Path) -> None:
    with FakeServer(EVERYTHING) as server:
        there = f"store s {{ server {{127.0.0.1:{server.port}/user=alice}} pat * passwd secret }}\n"
        settle(home, MAILDIR + there + "channel c md s { msinfo .msinfo }\n")

        found = imported(RUN, "c") - imported(SOCKET)

    assert "mailsync.drivers.imap.login" in found
    assert set() == NOT_FOR_NOTHING_NEW & found
