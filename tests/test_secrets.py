"""Where user names, passwords and tokens come from, in which order; and that none of them is ever shown."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mailsync import secrets
from mailsync.config import ChannelConfig, Secret, StoreConfig
from mailsync.drivers.imap.account import Tell
from mailsync.errors import LoginError
from mailsync.secrets import Login, Vault

ROOT = Path(__file__).parents[1]
JANE = "{imap.example.org/user=jane/ssl}"


@dataclass
class Told:
    """What a vault tells."""

    notes: list[str] = field(default_factory=list)
    odd: list[str] = field(default_factory=list)

    def vault(self, home: Path, patience: float = 30) -> Vault:
        return Vault(str(home), Tell(note=self.notes.append, odd=self.odd.append), patience)


@pytest.fixture(autouse=True)
def nobody_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No terminal, wherever the tests run."""
    monkeypatch.setattr(secrets, "TERMINAL", str(tmp_path / "no" / "tty"))


def login(home: Path, server: str = JANE, patience: float = 30, **ways: object) -> Login:
    return Told().vault(home, patience).of_store(StoreConfig("work", server=server, **ways))  # type: ignore[arg-type]


def refusal(login: Login) -> str:
    with pytest.raises(LoginError) as caught:
        login.ask_now()
    return str(caught.value)


def netrc(home: Path, text: str, mode: int = 0o600) -> None:
    (home / ".netrc").write_text(text)
    (home / ".netrc").chmod(mode)


# ---- order -----------------------------------------------------------------------------------------------------------


def test_password_of_the_configuration_comes_first(home: Path) -> None:
    netrc(home, "machine imap.example.org login jane password three\n")

    assert "one" == login(home, passwd=Secret("one"), passwd_cmd="echo two").password()


def test_command_comes_before_netrc(home: Path) -> None:
    netrc(home, "machine imap.example.org login jane password three\n")

    assert "two" == login(home, passwd_cmd="echo two").password()


def test_netrc_comes_where_nothing_is_configured(home: Path) -> None:
    netrc(home, "machine IMAP.example.org login jane password three\n")

    assert "three" == login(home).password()


def test_nothing_at_all_is_a_refusal_that_lists_the_ways(home: Path) -> None:
    with pytest.raises(LoginError) as caught:
        login(home).password()

    assert (
        "store work: no password is known for jane on imap.example.org, and there is no terminal to ask on",
        "A password comes from passwd_cmd, keyring, ~/.netrc (machine HOST login USER password ...) or passwd.",
    ) == (str(caught.value), caught.value.hint)


def test_token_logs_in_without_a_password(home: Path) -> None:
    found = login(home, token_cmd="echo  ya29.x ", passwd=Secret("one"))

    assert ("ya29.x", None) == (found.token(), found.password())


def test_no_token_without_its_command(home: Path) -> None:
    assert None is login(home, passwd=Secret("one")).token(fresh=True)


def test_certificate_logs_in_without_a_password_or_a_question(home: Path) -> None:
    netrc(home, "machine imap.example.org login jane password three\n")
    found = login(home, "{imap.example.org/ssl}", cert="c.pem")

    found.ask_now()
    assert ("", None) == (found.user(), found.password())


def test_password_may_go_with_a_certificate(home: Path) -> None:
    assert "two" == login(home, cert="c.pem", passwd_cmd="echo two").password()


def test_nobody_is_asked_for_an_anonymous_login(home: Path) -> None:
    found = login(home, "{imap.example.org/anonymous}")

    found.ask_now()
    assert ("anonymous", None) == (found.user(), found.password())


def test_nothing_is_asked_in_advance_for_a_tunnel(home: Path) -> None:
    login(home, tunnel="ssh h imapd", passwd_cmd="exit 1").ask_now()


# ---- the user --------------------------------------------------------------------------------------------------------


def test_user_of_the_specification_comes_first(home: Path) -> None:
    assert "jane" == login(home, user_cmd="echo joe").user()


def test_user_comes_from_a_command(home: Path) -> None:
    assert "joe" == login(home, "{h}", user_cmd="echo ' joe '").user()


def test_user_and_password_come_from_netrc(home: Path) -> None:
    netrc(home, "machine h login joe password p\n")
    found = login(home, "{h}")

    assert ("joe", "p") == (found.user(), found.password())


def test_user_that_nobody_knows_is_a_refusal(home: Path) -> None:
    assert "store work: no user is known for h, and there is no terminal to ask on" == refusal(login(home, "{h}"))


# ---- commands --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo a b", "a b"),
        ("printf ' a b '", " a b "),
        ("printf 'a\\r\\nuser: b\\n'", "a"),
        ("printf 'a\\n\\n'", "a"),
        ("printf a; exit 0", "a"),
        ("echo x | tr x y", "y"),
        ("cat < ~/file", "in the file"),
        ("cat", None),  # its input is at its end
        ("printf '\\303\\244'", "ä"),
    ],
)
def test_password_is_the_first_line_of_a_command(home: Path, command: str, expected: str | None) -> None:
    (home / "file").write_text("in the file\n")
    found = login(home, passwd_cmd=command)

    if expected is None:
        assert "passwd_cmd of store work printed nothing" == refusal(found)
    else:
        assert expected == found.password()


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("echo hunter2; exit 3", "failed with exit code 3"),
        ("echo hunter2; kill -9 $$", "was ended by signal 9"),
        ("true", "printed nothing"),
        ("echo; echo hunter2", "printed nothing"),
        ("printf 'hunter2\\377'", "printed what is no UTF-8"),
        ("/no/such/command", "cannot be run: No such file or directory"),
        ("hunter2\0", "cannot be run: it is no command"),
        (" ", "cannot be run: it is no command"),
        ("echo hunter2; sleep 5", "did not end within 0.2 seconds"),
    ],
)
def test_command_that_fails_tells_how_and_not_what_it_printed(home: Path, command: str, expected: str) -> None:
    with pytest.raises(LoginError) as caught:
        login(home, passwd_cmd=command, patience=0.2).password()

    assert f"passwd_cmd of store work {expected}" == str(caught.value)
    assert "hunter2" not in f"{caught.value!r} {caught.value.hint}"


def test_command_of_another_user_that_does_not_end_is_told_as_any_other(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`sudo` on a terminal: that it could not be signalled was told as a bug of mailsync."""

    def refuse(pid: int, signum: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    os.mkfifo(home / "end")
    ours, theirs = pty.openpty()
    monkeypatch.setattr(secrets, "TERMINAL", os.ttyname(theirs))
    monkeypatch.setattr(os, "kill", refuse)
    monkeypatch.setattr("mailsync.external.GRACE", 0.1)
    found = refusal(login(home, passwd_cmd="cat end", patience=0.2))
    (home / "end").write_text("")
    os.close(theirs)
    os.close(ours)

    assert "passwd_cmd of store work did not end within 0.2 seconds" == found


def test_what_a_command_says_on_stderr_is_shown(home: Path, capfd: pytest.CaptureFixture[str]) -> None:
    login(home, passwd_cmd="echo touch your key >&2; echo p").password()

    assert "touch your key\n" == capfd.readouterr().err


def test_command_runs_once_however_many_stores_name_it(home: Path) -> None:
    vault = Told().vault(home)
    command = "echo x >> runs; echo p"

    for name in ("a", "b", "a"):
        assert "p" == vault.of_store(StoreConfig(name, server=JANE, passwd_cmd=command)).password()

    assert "x\n" == (home / "runs").read_text()


def test_command_that_failed_is_not_tried_again(home: Path) -> None:
    vault = Told().vault(home)
    command = "echo x >> runs; exit 1"

    told = [refusal(vault.of_store(StoreConfig(name, server=JANE, passwd_cmd=command))) for name in ("a", "b")]

    assert [f"passwd_cmd of store {name} failed with exit code 1" for name in ("a", "b")] == told
    assert "x\n" == (home / "runs").read_text()


def test_token_is_made_anew_only_when_a_fresh_one_is_wanted(home: Path) -> None:
    found = login(home, token_cmd="echo x >> runs; wc -l < runs")

    assert ["1", "1", "2", "2"] == [found.token(), found.token(), found.token(fresh=True), found.token()]


# ---- ~/.netrc --------------------------------------------------------------------------------------------------------


def test_netrc_of_another_user_is_not_used(home: Path) -> None:
    netrc(home, "machine imap.example.org login joe password p\n")

    assert "no password is known for jane" in refusal(login(home))


def test_netrc_without_a_user_is_good_for_any(home: Path) -> None:
    netrc(home, "machine imap.example.org password p\n")

    assert "p" == login(home).password()


def test_password_of_netrc_is_that_of_who_logs_in(home: Path) -> None:
    netrc(home, "machine h login admin password p\n")

    assert "p" == login(home, "{h/user=jane/authuser=admin}").password()


def test_default_of_netrc_is_not_used(home: Path) -> None:
    netrc(home, "default login anonymous password me@x\n")

    assert "no password is known for jane" in refusal(login(home))


@pytest.mark.parametrize(
    ("text", "mode", "expected"),
    [
        (
            "machine h login joe password my hunter2\n",
            0o600,
            "not understood before line 2; a word with blanks is written in quotes",
        ),
        ("hunter2\n", 0o600, "not understood before line 2; a word with blanks is written in quotes"),
        ("machine h login joe password hunter2\n", 0o640, "because others can reach it; run: chmod 600"),
    ],
)
def test_netrc_that_cannot_be_used_is_told_without_its_words(home: Path, text: str, mode: int, expected: str) -> None:
    netrc(home, text, mode)
    told = Told()

    refusal(told.vault(home).of_store(StoreConfig("work", server=JANE)))

    (note,) = told.notes
    assert expected in note
    assert "hunter2" not in note


def test_command_that_closes_a_netrc_can_be_pasted(home: Path) -> None:
    (home / "my home").mkdir()
    netrc(home / "my home", "machine imap.example.org login jane password hunter2\n", 0o644)
    told = Told()

    refusal(told.vault(home / "my home").of_store(StoreConfig("work", server=JANE)))

    assert [f"run: chmod 600 '{home}/my home/.netrc'"] == [note.partition("; ")[2] for note in told.notes]


# ---- keyring ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def keyring(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A library of that name, which has one password, and is locked for one user."""
    text = """\
        class errors:
            class KeyringError(Exception): ...

        def get_password(service, user):
            if user == "locked":
                raise errors.KeyringError("hunter2")
            return {("mailsync:imap.example.org", "jane"): "of keyring"}.get((service, user))
        """
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/keyring.py").write_text(textwrap.dedent(text))
    monkeypatch.syspath_prepend(tmp_path / "lib")
    monkeypatch.delitem(sys.modules, "keyring", raising=False)
    yield tmp_path
    sys.modules.pop("keyring", None)


def test_keyring_is_asked_where_it_is_configured(home: Path, keyring: Path) -> None:
    assert "of keyring" == login(home, keyring=True).password()


def test_keyring_is_not_even_imported_where_it_is_not(home: Path, keyring: Path) -> None:
    refusal(login(home))

    assert "keyring" not in sys.modules


def test_netrc_comes_after_a_keyring_that_knows_nothing(home: Path, keyring: Path) -> None:
    netrc(home, "machine h login joe password p\n")

    assert "p" == login(home, "{h/user=joe}", keyring=True).password()


def test_keyring_that_is_locked_is_a_refusal(home: Path, keyring: Path) -> None:
    told = refusal(login(home, "{h/user=locked}", keyring=True))

    assert "store work: the keyring cannot be read: KeyringError" == told


def test_keyring_without_its_library_is_a_refusal_that_says_how_to_get_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)

    with pytest.raises(LoginError) as caught:
        login(home, keyring=True).password()

    assert ("store work: 'keyring yes' needs the library keyring", "Run: pip install mailsync[keyring]") == (
        str(caught.value),
        caught.value.hint,
    )


# ---- msinfo ----------------------------------------------------------------------------------------------------------

STORES = [
    StoreConfig("local"),
    StoreConfig("plain", server="{imap.example.org/user=jane}", passwd=Secret("143")),
    StoreConfig("work", server=JANE, passwd=Secret("993")),
]


def of_msinfo(told: Told, home: Path, msinfo: str, **ways: object) -> Login:
    channel = ChannelConfig("c", "local", "work", msinfo, **ways)  # type: ignore[arg-type]
    return told.vault(home).of_msinfo(channel, STORES)


def test_msinfo_has_its_own_password(home: Path) -> None:
    assert "own" == of_msinfo(Told(), home, JANE + "msinfo", passwd=Secret("own")).password()


def test_msinfo_has_its_own_command(home: Path) -> None:
    assert "own" == of_msinfo(Told(), home, JANE + "msinfo", passwd_cmd="echo own").password()


@pytest.mark.parametrize("msinfo", ["{IMAP.example.org:993/user=jane/novalidate-cert}m", "{imap.example.org/ssl}m"])
def test_msinfo_logs_in_as_the_store_of_the_same_account(home: Path, msinfo: str) -> None:
    told = Told()
    found = of_msinfo(told, home, msinfo)

    assert ("jane", "993") == (found.user(), found.password())
    assert ["msinfo of channel c logs in as store work does; mailsync 5.2.7 asked for another password"] == told.odd


@pytest.mark.parametrize(
    ("msinfo", "user"), [("{imap.example.org/ssl/user=joe}m", "joe"), ("{other.example.org/user=jane/ssl}m", "jane")]
)
def test_msinfo_of_another_account_is_asked_for(home: Path, msinfo: str, user: str) -> None:
    assert refusal(of_msinfo(Told(), home, msinfo)).startswith(
        f"msinfo of channel c: no password is known for {user} on "
    )


def test_local_msinfo_and_stores_need_nothing(home: Path) -> None:
    vault = Told().vault(home)

    vault.ask_now([StoreConfig("local", passwd_cmd="exit 1")])
    vault.ask_now_for_msinfo(ChannelConfig("c", "a", "b", ".msinfo", passwd_cmd="exit 1"), [])


# ---- nothing is shown ------------------------------------------------------------------------------------------------


def test_no_secret_is_in_what_is_printed_of_the_objects(home: Path) -> None:
    netrc(home, "machine imap.example.org login jane password hunter2\n")
    vault = Told().vault(home)
    logins = [
        vault.of_store(StoreConfig("a", server=JANE, passwd=Secret("hunter2"))),
        vault.of_store(StoreConfig("b", server=JANE, passwd_cmd="cat .netrc")),
        vault.of_store(StoreConfig("c", server=JANE)),
    ]
    for one in logins:
        one.ask_now()

    assert "hunter2" not in "".join(f"{one!r} {vars(one)!r}" for one in (*logins, vault))


# ---- the terminal ----------------------------------------------------------------------------------------------------

ASK = """\
import sys
from mailsync.config import StoreConfig
from mailsync.errors import LoginError
from mailsync.secrets import Vault
vault = Vault("/nonexistent")
try:
    for name, server in (("a", sys.argv[1]), ("b", sys.argv[2])):
        login = vault.of_store(StoreConfig(name, server=server))
        login.ask_now()
        print(login.user(), login.password())
except LoginError as err:
    print(err)
"""


def on_terminal(typed: str, first: str, second: str) -> tuple[str, str]:
    """What a program prints, and what is seen on its terminal, while `typed` is typed there."""
    read, write = os.pipe()
    pid, terminal = pty.fork()
    if pid == 0:  # the child: only the terminal is its own
        os.dup2(write, 1)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(ROOT)
        os.execv(sys.executable, [sys.executable, "-c", ASK, first, second])
    os.close(write)
    seen = b""
    for line in typed.splitlines(keepends=True):
        while not seen.endswith(b": "):
            seen += os.read(terminal, 1)
        os.write(terminal, line.encode())
        seen += b"|"
    with os.fdopen(read) as out:
        printed = out.read()
    try:
        while piece := os.read(terminal, 1024):
            seen += piece
    except OSError:  # Linux: the terminal is closed on the other side
        pass
    os.close(terminal)
    os.waitpid(pid, 0)
    return printed, seen.decode()


def test_user_and_password_are_asked_on_the_terminal_and_the_password_is_not_seen() -> None:
    printed, seen = on_terminal("jane\nhunter2\n", "{h}", "{h/user=jane}")

    assert "jane hunter2\njane hunter2\n" == printed
    assert ["User for store a on h: |jane", "Password for jane on h (store a): |"] == seen.splitlines()


def test_each_account_is_asked_for_once() -> None:
    printed, _ = on_terminal("one\ntwo\n", "{h/user=jane}", "{h/user=joe}")

    assert "jane one\njoe two\n" == printed


@pytest.mark.parametrize("typed", ["\n", "\x04\n"], ids=["empty line", "end of input"])
def test_no_answer_is_a_refusal(typed: str) -> None:
    printed, _ = on_terminal(typed, "{h/user=jane}", "{h/user=joe}")

    assert "store a: no password was given\n" == printed


def test_no_terminal_is_not_the_standard_input() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ASK, "{h/user=jane}", "{h/user=joe}"],
        input="hunter2\n",
        capture_output=True,
        text=True,
        cwd=ROOT,
        start_new_session=True,
    )

    expected = "store a: no password is known for jane on h, and there is no terminal to ask on\n"
    assert (expected, "") == (done.stdout, done.stderr)
