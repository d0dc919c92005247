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

HELP = """
import sys
from mailsync.cli import main
try:
    main(sys.argv[1:])
except SystemExit as end:
    assert not end.code
print("", *sys.modules, sep="\\n")
"""
LOGIN = """
import sys
from mailsync.drivers.imap.account import Account
from mailsync.drivers.imap.store import ImapStore
from mailsync.model import Mailbox
from mailsync.spec import Remote

class Known:
    def user(self): return "alice"
    def password(self): return "secret"
    def token(self, *, fresh=False): return None

with ImapStore(Account(Remote("127.0.0.1", int(sys.argv[1]))), Known(), patterns=("*",)) as store:
    [inbox] = store.boxes(store.patterns)
    with store.open(inbox.mailbox, write=True) as box:
        [head] = box.heads(["1"])
print("", *sys.modules, sep="\\n")
"""


def imported(code: str, *args: str) -> set[str]:
    """The modules that a fresh interpreter has in the end."""
    before = subprocess.run([sys.executable, "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True)
    done = subprocess.run([sys.executable, "-c", code, *args], capture_output=True, text=True)
    assert (0, "") == (done.returncode, done.stderr)
    return set(done.stdout.splitlines()) - set(before.stdout.split())


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_help_comes_at_once(option: str) -> None:
    found = imported(HELP, option)

    assert "mailsync.arguments" in found
    assert set() == NOT_FOR_HELP & found


@pytest.mark.parametrize("capabilities", [EVERYTHING, frozenset[str]()], ids=["PLAIN", "LOGIN"])
def test_login_without_tls_stands_on_nothing_but_a_socket(capabilities: frozenset[str]) -> None:
    with FakeServer(capabilities) as server:
        server.store[b"INBOX"].add(message(1).replace(b"\n", b"\r\n"))
        found = imported(LOGIN, str(server.port))

    assert "mailsync.drivers.imap.login" in found
    assert set() == NOT_FOR_A_LOGIN & found
