"""A run that finds nothing tells the next; whatever changes then is seen, at once or in the run after that."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from imapclient import IMAPClient

from mailsync import channel, settled
from mailsync.drivers.files import write_all

from .mail import Mail, Ran, configure, entries, forget_cache, local, maildir, mbox, message, pause, put, run
from .servers import Login, server
from .servers.fake import EVERYTHING, FakeServer

STORES = """\
store md { pat md/* prefix md/ format maildir }
store old { pat old/* prefix old/ format mbox }
store mh { pat mh/* prefix mh/ format mh }
"""
CHANNELS = "channel c md old { msinfo .msinfo }\nchannel d md mh { msinfo .msinfo }\n"


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The channels that were looked at, each time they were."""
    seen: list[str] = []
    sync = channel.Channel.sync

    def counted(self: channel.Channel) -> object:
        seen.append(self.name)
        return sync(self)

    monkeypatch.setattr(channel.Channel, "sync", counted)
    return seen


@pytest.fixture
def stores(home: Path, looks: list[str]) -> Path:
    """Both channels at rest."""
    configure(home, STORES + CHANNELS)
    maildir(home / "md/one", message(1), message(2))
    maildir(home / "md/two", message(3))
    assert 0 == run("c").code
    assert 0 == run("d").code
    rest("c")
    rest("d")
    looks.clear()
    return home


def rest(*args: str) -> Ran:
    """A run that finds nothing and can say so: all it looks at is older than the clock's grain."""
    pause()
    ran = run(*args)
    assert 0 == ran.code
    return ran


# ---- nothing has changed ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("args", [["c"], ["-q", "c"], ["--json", "c"], ["-m", "c"], ["c", "d"], ["--all"], ["-n", "c"]])
def test_run_after_one_that_found_nothing_tells_the_same_and_looks_at_nothing(
    stores: Path, looks: list[str], args: list[str]
) -> None:
    before = rest(*args)
    looks.clear()

    assert (before, []) == (run(*args), looks)


def test_what_is_told_of_one_channel_is_told_of_it_among_several(stores: Path, looks: list[str]) -> None:
    rest("--json", "c")
    looks.clear()

    told = run("--json", "c", "d").events

    assert ["d"] == looks
    assert ["one", "two"] == [event["box"] for event in told if event.get("channel") == "c" and "box" in event]


def test_message_that_is_left_out_on_purpose_is_told_again_and_again(stores: Path, looks: list[str]) -> None:
    configure(stores, STORES + CHANNELS.replace("c md old {", "c md old { sizelimit 1k"))
    (stores / "md/one/cur/9.x:2,").write_bytes(message("big", b"x" * 2000))
    rest("c")
    before = rest("c")
    looks.clear()

    assert "too big" in before.out
    assert (before, []) == (run("c"), looks)


@pytest.mark.parametrize("args", [["-s"], ["--full"], ["-v"], ["-d"], ["--retry"]])
def test_who_wants_to_see_it_looks(stores: Path, looks: list[str], args: list[str]) -> None:
    for _ in range(2):
        rest(*args, "c")

    assert ["c", "c"] == looks


def test_output_that_cannot_be_written_is_told(stores: Path) -> None:
    words = [sys.executable, "-m", "mailsync", "c"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, cwd=stores, stdout=full, stderr=subprocess.PIPE, text=True, timeout=60)

    assert 1 == done.returncode
    assert "not all output could be written: No space left on device" in done.stderr


def test_simulation_leaves_no_stamp(stores: Path) -> None:
    forget_cache(stores)

    rest("-s", "c")

    assert [] == list((stores / ".cache").rglob("settled*"))


# ---- something has ---------------------------------------------------------------------------------------------------


def grow(stores: Path) -> None:
    with (stores / "old/one").open("ab") as file:
        write_all(file.fileno(), b"From x Mon Jan  1 00:00:00 2024\n" + message("grown") + b"\n")


def put_back(path: Path, act: Callable[[], object]) -> None:
    """As `rsync -t` and `tar` do."""
    found = path.stat()
    act()
    os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def other_of_same_size(stores: Path) -> None:
    box = stores / "old/one"
    put_back(box, lambda: box.write_bytes(box.read_bytes().replace(b"<1@x>", b"<9@x>")))


def edit_in_place(stores: Path) -> None:
    """As an editor does with a draft."""
    [file] = (stores / "mh/two").glob("[0-9]*")
    file.write_bytes(file.read_bytes().replace(b"<3@x>", b"<8@x>"))


def flag(stores: Path) -> None:
    file = next((stores / "md/one/cur").iterdir())
    file.rename(f"{file}F")


def keyword(stores: Path) -> None:
    (stores / "md/one/dovecot-keywords").write_text("0 work\n")


def inbox_of_maildir(stores: Path) -> None:
    (stores / "md/three/cur").mkdir(parents=True)
    (stores / "md/three/new").mkdir()
    (stores / "md/three/tmp").mkdir()


CHANGES: dict[str, Callable[[Path], object]] = {
    "new message": lambda home: (home / "md/one/cur/9.x:2,").write_bytes(message("new")),
    "new message whose directory has its old time": lambda home: put_back(
        home / "md/one/cur", lambda: (home / "md/one/cur/9.x:2,").write_bytes(message("new"))
    ),
    "message in new": lambda home: (home / "md/two/new/1.x").write_bytes(message("n")),
    "flag": flag,
    "keyword": keyword,
    "deletion": lambda home: next((home / "md/one/cur").iterdir()).unlink(),
    "mailbox": inbox_of_maildir,
    "mailbox below": lambda home: maildir(home / "md/one/below", message("below")),
    "mailbox gone": lambda home: (home / "old/two").rename(home / "elsewhere"),
    "mbox grown": grow,
    "mbox of the same size and time": other_of_same_size,
    "mbox made": lambda home: mbox(home / "old/three", message("three")),
    "msinfo gone": lambda home: (home / ".msinfo").unlink(),
    "msinfo touched": lambda home: (home / ".msinfo").touch(),
    "configuration": lambda home: (home / ".mailsync").write_text(STORES + CHANNELS + "# more\n"),
    "rights": lambda home: (home / "md/one/cur").chmod(0o500),
    "file that becomes an mbox": lambda home: (home / "old/notes").write_bytes(b"From x\n"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_run_looks_after_any_change(stores: Path, looks: list[str], change: str) -> None:
    CHANGES[change](stores)

    run("c")

    assert ["c"] == looks


def test_message_edited_in_its_place_in_an_mh_mailbox_is_seen(stores: Path, looks: list[str]) -> None:
    edit_in_place(stores)

    run("d")

    assert ["d"] == looks
    assert ["<8@x>"] == [entry.id for entry in entries(local(stores, "md/*"), "md/two")]


@pytest.mark.parametrize("args", [["-n"], ["-D"], ["-cd"], ["--push"], ["-t", "md5"]])
def test_stamp_is_for_its_options_only(stores: Path, looks: list[str], args: list[str]) -> None:
    run(*args, "c")

    assert ["c"] == looks


@pytest.mark.parametrize("name", settled.ENVIRON)
def test_stamp_is_for_its_environment_only(
    stores: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """These say where mail is."""
    monkeypatch.setenv(name, str(stores) + "/" if name == "HOME" else "another")

    run("c")

    assert ["c"] == looks


def test_change_in_the_same_tick_of_the_clock_is_not_missed(stores: Path, looks: list[str]) -> None:
    for n in range(30):
        run("c")
        run("c")
        (stores / f"md/one/cur/{n}.x:2,S").write_bytes(message(f"tick {n}"))

        run("c")

    assert 32 == len(entries(local(stores, "old/*"), "old/one"))


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"key": 1}', "null", '{"key": {}, "until": "x"}', "\0"])
def test_stamp_that_is_damaged_is_none(stores: Path, looks: list[str], text: str) -> None:
    for stamp in (stores / ".cache/mailsync").glob("settled*"):
        stamp.write_text(text)

    assert 0 == run("c").code
    assert ["c"] == looks


def test_stamp_of_another_version_is_none(stores: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settled, "__version__", "0")

    run("c")

    assert ["c"] == looks


def test_stamp_is_for_its_user_only(stores: Path) -> None:
    modes = {file.stat().st_mode & 0o777 for file in (stores / ".cache/mailsync").glob("settled*")}

    assert {0o600} == modes
    assert 0o700 == (stores / ".cache/mailsync").stat().st_mode & 0o777


@pytest.mark.parametrize("mode", [0o620, 0o602])
def test_stamp_that_others_may_have_written_is_none(stores: Path, looks: list[str], mode: int) -> None:
    """It says what is told of mail that nobody has looked at."""
    for stamp in (stores / ".cache/mailsync").glob("settled*"):
        stamp.chmod(mode)

    assert 0 == run("c").code
    assert ["c"] == looks


def test_stamp_that_cannot_be_put_in_its_place_leaves_nothing(stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted((stores / ".cache/mailsync").iterdir())
    (stores / "md/one/cur/9.x:2,").write_bytes(message("new"))
    rest("c")
    monkeypatch.setattr(os, "replace", fails)
    rest("c")

    assert before == sorted((stores / ".cache/mailsync").iterdir())


# ---- what is to be done all the same ---------------------------------------------------------------------------------


def test_hooks_run_though_nothing_has_changed(stores: Path, looks: list[str]) -> None:
    hooks = 'pre_sync "echo pre >> hooked" post_sync "echo post >> hooked"'
    configure(stores, STORES + CHANNELS.replace("c md old {", f"c md old {{ {hooks}"))
    rest("c")
    (stores / "hooked").unlink()
    looks.clear()

    run("c")

    assert ([], "pre\npost\n") == (looks, (stores / "hooked").read_text())


def test_what_the_hook_before_a_run_brings_is_seen(stores: Path, looks: list[str]) -> None:
    hook = 'pre_sync "cp new.eml md/two/cur/9.x:2,S"'
    configure(stores, STORES + CHANNELS.replace("c md old {", f"c md old {{ {hook}"))
    (stores / "new.eml").write_bytes(message("fetched"))
    rest("c")
    rest("c")
    (stores / "md/two/cur/9.x:2,S").unlink()
    looks.clear()

    run("c")

    assert ["c"] == looks


def test_deleted_mail_is_forgotten_in_its_time_though_nothing_has_changed(
    stores: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (next((stores / "md/one/cur").iterdir())).unlink()
    run("c")
    rest("c")
    looks.clear()
    run("c")
    assert [] == looks
    kept = [file for file in (stores / ".local/state/mailsync/deleted").rglob("*") if file.is_file()]
    assert kept

    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 31 * 86400)
    run("c")

    assert ["c"] == looks
    assert [] == [file for file in kept if file.exists()]


def test_run_in_which_a_step_waits_for_its_next_try_is_not_the_last_that_looks(stores: Path, looks: list[str]) -> None:
    """A keyword that no Maildir has room for fails, and is tried again later."""
    words = "\n".join(f"{n} k{n}" for n in range(26))
    (stores / "md/one/dovecot-keywords").write_text(words + "\n")
    put(local(stores, "old/*"), "old/one", [Mail(message("k"), frozenset({"one-too-many"}))])
    run("c")
    rest("c")
    looks.clear()

    rest("c")

    assert ["c"] == looks


# ---- servers ---------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["dovecot", "cyrus", "fake"])
def account(request: pytest.FixtureRequest, home: Path, looks: list[str]) -> Iterator[IMAPClient]:
    """Another client of an account whose channel is at rest."""
    if request.param == "fake":
        with FakeServer(EVERYTHING) as fake:
            yield from resting(home, fake.port, Login("alice", "secret"), looks)
    else:
        behind = server(request.param)
        yield from resting(home, behind.port, behind.new_login(), looks)


def resting(home: Path, port: int, login: Login, looks: list[str], msinfo: str = ".msinfo") -> Iterator[IMAPClient]:
    where = f"{{127.0.0.1:{port}/user={login.user}/notls}}"
    far = f"store far {{ server {where} passwd {login.password} }}\n"
    msinfo = msinfo.replace("{}", where)
    configure(home, STORES + far + f"channel c md far {{ msinfo {msinfo} passwd {login.password} }}\n")
    maildir(home / "md/INBOX", message(1), message(2))
    assert 0 == run("c").code
    for _ in range(3):
        rest("c")
    looks.clear()
    with IMAPClient("127.0.0.1", port, ssl=False) as client:
        client.login(login.user, login.password)
        yield client


def inbox(client: IMAPClient) -> IMAPClient:
    client.select_folder("INBOX")
    return client


FAR_CHANGES: dict[str, Callable[[IMAPClient], object]] = {
    "new message": lambda client: client.append("INBOX", message("new").replace(b"\n", b"\r\n")),
    "flag": lambda client: inbox(client).add_flags([1], [rb"\Flagged"]),
    "keyword": lambda client: inbox(client).add_flags([1], [b"work"]),
    "deletion": lambda client: (inbox(client).delete_messages([1]), client.expunge()),
}


def test_server_is_asked_whether_it_has_changed_and_no_more(account: IMAPClient, looks: list[str]) -> None:
    before = rest("c")

    assert (0, "") == (before.code, before.err)
    assert [] == looks


@pytest.mark.parametrize("change", FAR_CHANGES)
def test_run_looks_after_any_change_on_the_server(
    account: IMAPClient, home: Path, looks: list[str], change: str
) -> None:
    FAR_CHANGES[change](account)

    assert 0 == run("c").code

    assert ["c"] == looks
    forget_cache(home)
    assert [] == run("-s", "--json", "c").steps


def test_run_looks_after_a_mailbox_was_made_or_removed_on_the_server(
    account: IMAPClient, home: Path, looks: list[str]
) -> None:
    prefix = account.namespace().personal[0][0]
    account.create_folder(f"{prefix}made")
    run("c")
    assert ["c"] == looks
    for _ in range(2):
        rest("c")
    looks.clear()

    account.delete_folder(f"{prefix}made")
    run("c")

    assert ["c"] == looks


def test_server_that_does_not_count_changes_is_always_looked_at(home: Path, looks: list[str]) -> None:
    with FakeServer(frozenset()) as fake:
        for _ in resting(home, fake.port, Login("alice", "secret"), looks):
            rest("c")

            assert ["c"] == looks


@pytest.mark.parametrize("kind", ["dovecot", "fake"])
def test_msinfo_on_the_server_that_another_run_has_saved_is_seen(home: Path, looks: list[str], kind: str) -> None:
    behind = FakeServer(EVERYTHING) if kind == "fake" else None
    port, login = (behind.port, Login("alice", "secret")) if behind else (server(kind).port, server(kind).new_login())
    with behind or memoryview(b""):
        for client in resting(home, port, login, looks, "{}.msinfo"):
            rest("c")
            assert [] == looks
            client.select_folder(".msinfo")
            [uid] = client.search()
            raw = client.fetch([uid], ["BODY.PEEK[]"])[uid][b"BODY[]"]
            client.append(".msinfo", raw)
            client.delete_messages([uid])
            client.expunge()

            run("c")

            assert ["c"] == looks


# ---- law: where the stamp holds, a run would plan nothing ------------------------------------------------------------


class Resting(RuleBasedStateMachine):
    """Whatever programs do to both stores, and whenever a run comes in between."""

    home: Path
    counter = 0

    @initialize()
    def begin(self) -> None:
        Resting.counter += 1
        self.root = self.home / str(Resting.counter)
        self.root.mkdir()
        os.environ["HOME"] = str(self.root)
        os.chdir(self.root)
        configure(self.root, STORES + CHANNELS)
        self.numbers = iter(range(10_000))
        for box in ("one", "two"):
            maildir(self.root / "md" / box, message(f"{box} first"))
        assert 0 == run("c").code

    @rule(box=st.sampled_from(["one", "two", "three"]))
    def deliver(self, box: str) -> None:
        put(local(self.root, "md/*"), f"md/{box}", [Mail(message(next(self.numbers)))])

    @rule(box=st.sampled_from(["one", "two", "three"]))
    def deliver_there(self, box: str) -> None:
        put(local(self.root, "old/*", format="mbox"), f"old/{box}", [Mail(message(next(self.numbers)))])

    @rule(data=st.data())
    def touch(self, data: st.DataObject) -> None:
        files = sorted((self.root / "md").rglob("*:2,*"))
        if files:
            file = data.draw(st.sampled_from(files))
            match data.draw(st.sampled_from(["flag", "unlink", "move"])):
                case "flag" if not file.name.endswith("S"):
                    file.rename(f"{file}S")
                case "unlink":
                    file.unlink()
                case "move":
                    file.rename(self.root / f"md/one/cur/{next(self.numbers)}.moved:2,")

    @rule()
    def age(self) -> None:
        pause()

    @rule()
    def sync(self) -> None:
        """Twice: the second leaves a stamp, if the clock lets it."""
        assert run("--allow-mass-delete=1000", "-q", "c").code == 0
        assert run("-q", "c").code == 0

    @precondition(lambda self: (self.root / ".cache").exists())
    @rule()
    def check(self) -> None:
        from mailsync import arguments

        if settled.told(arguments.parse(["-q", "c"])) is not None:
            assert [] == run("-s", "--json", "--full", "c").steps


def test_where_the_stamp_holds_nothing_is_to_be_done(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(home))
    Resting.home = home

    run_state_machine_as_test(Resting, settings=settings(max_examples=12, stateful_step_count=25))
    os.chdir("/")


def test_stamp_is_json_that_a_person_can_read(stores: Path) -> None:
    stamp = json.loads(next((stores / ".cache/mailsync").glob("settled*")).read_text("ascii"))

    assert {"key", "until", "paths", "servers", "told", "hooks"} == set(stamp)
    assert str(stores / "md/one/cur") in stamp["paths"]
