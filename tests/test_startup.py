"""What a run imports: nothing that it does not need, as each import costs all runs that find nothing to do."""

from __future__ import annotations

import subprocess
import sys

import pytest

from .mail import message
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
