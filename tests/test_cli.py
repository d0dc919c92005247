"""mailsync as a user meets it: options, modes, exit codes, streams, signals. What only looks writes nothing."""

from __future__ import annotations

import os
import pty
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pytest

from mailsync import __version__, cli
from mailsync.model import DELETED, SEEN

from .mail import (
    NEW_YEAR,
    Mail,
    Ran,
    configure,
    local,
    maildir,
    mbox,
    message,
    obey_permissions,
    put,
    read_home,
    run,
    run_apart,
)

CONFIG = """\
store md { pat md/* prefix md/ format maildir }
store old { pat old/* prefix old/ format mbox }
store mh { pat mh/* prefix mh/ format mh }
store gone { pat gone/* prefix gone/ format maildir fsync no }
channel mail md old { msinfo .msinfo }
channel second md mh { msinfo .msinfo }
channel third md gone { msinfo .msinfo-third }
"""
UNFIT = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")
MAILSYNC = [sys.executable, "-m", "mailsync"]


@pytest.fixture
def mails(home: Path) -> Path:
    """Four messages in a Maildir store; the other stores are empty."""
    configure(home, CONFIG)
    maildir(home / "md/one", message(1), message(2), message(3))
    maildir(home / "md/two", message(4))
    return home


@pytest.fixture
def synced(mails: Path) -> Path:
    """The same after a first run."""
    assert run("mail").code == 0
    return mails


def ids(home: Path, pattern: str) -> dict[str, list[str]]:
    return {name: [one.id for one in box] for name, box in read_home(home, pattern).items()}


def many(home: Path, number: int) -> list[Path]:
    """So many messages in one mailbox of store md, and a first run."""
    files = maildir(home / "md/many", *(message(f"m{n}") for n in range(number)))
    assert run("mail").code == 0
    return files


def drop(files: Sequence[Path]) -> None:
    for file in files:
        file.unlink()


# ---- the command line ------------------------------------------------------------------------------------------------


def test_no_names_are_told_the_usage_and_what_there_is(mails: Path) -> None:
    ran = run()

    assert (2, "") == (ran.code, ran.out)
    assert "usage: mailsync [options] CHANNEL" in ran.err
    assert "the channels mail, second, third and the stores md, old, mh, gone" in ran.err


@pytest.mark.parametrize(
    "args",
    [
        ["-c", "mail"],
        ["-x", "mail"],
        ["--nonsense", "mail"],
        ["--simul", "mail"],
        ["-f"],
        ["mail", "-t"],
        ["-t", "MSGID", "mail"],
        ["-t", "sha", "mail"],
        ["--allow-mass-delete", "mail"],
        ["--allow-mass-delete=-1", "mail"],
        ["-vx", "mail"],
        ["-sc", "mail"],
        ["--quiet=yes", "mail"],
        ["mail:"],
        ["nonsense"],
        ["nonsense:one"],
        ["md:one"],
        ["md", "old"],
        ["mail", "md", "old"],
        ["mail", "second", "md"],
        ["mail", "mh"],
        ["mail", "md:one"],
        [""],
    ],
)
def test_command_line_without_a_sense_does_nothing(mails: Path, args: list[str]) -> None:
    before = snapshot(mails)

    ran = run(*args)

    assert (2, "") == (ran.code, ran.out)
    assert ran.err.startswith("mailsync: ")
    assert before == snapshot(mails)


def test_misspelt_name_is_told_the_near_one(mails: Path) -> None:
    ran = run("mial")

    assert "no channel, group or store is named mial; did you mean 'mail'?" in ran.err


def test_store_that_the_channel_lacks_is_told_those_it_has(mails: Path) -> None:
    ran = run("mail", "mh")

    assert "channel mail does not contain store mh" in ran.err
    assert "Its stores are md and old." in ran.err


@pytest.mark.parametrize("args", [["mail", "-s"], ["-s", "--", "mail"], ["--simulate", "mail"], ["-ms", "mail"]])
def test_options_stand_anywhere_and_may_be_bundled(mails: Path, args: list[str]) -> None:
    ran = run(*args)

    assert ran.code == 0
    assert ran.out.startswith("Only simulating\n")
    assert not (mails / "old").exists()


def test_option_between_two_names(mails: Path) -> None:
    ran = run("mail", "-m", "md")

    assert ran.code == 0
    assert "*** one ***" in ran.out


def test_after_two_dashes_all_are_names(mails: Path) -> None:
    ran = run("--", "-s")

    assert ran.code == 2
    assert "no channel, group or store is named -s" in ran.err


@pytest.mark.parametrize("args", [["mail", "md"], ["md", "mail"]])
def test_channel_and_store_compare_in_either_order(mails: Path, args: list[str]) -> None:
    ran = run(*args)

    assert ran.out.startswith('Comparing store "md" <-> "md"...\none: 3 new, ')


def test_version(home: Path) -> None:
    ran = run_apart(home, "--version")

    assert (0, f"mailsync {__version__}\n", "") == tuple_of(ran)


@pytest.mark.parametrize("option", ["-h", "--help"])
def test_help_teaches_and_fits_a_terminal(home: Path, option: str) -> None:
    ran = run_apart(home, option)

    assert (0, "") == (ran.code, ran.err)
    assert max(map(len, ran.out.splitlines())) <= 85
    for word in (
        *("CHANNEL:BOX", "CHANNEL STORE", "~/.mailsync", "msinfo", "--allow-mass-delete", "exit status"),
        *(
            "-cd,",
            "-n,",
            "-D,",
            "-m,",
            "-M,",
            "-s,",
            "-d,",
            "-di,",
            "-dc,",
            "-v,",
            "-vb,",
            "-vw,",
            "-vp,",
            "-f ",
            "-t ",
        ),
    ):
        assert word in ran.out, word


def test_help_needs_nobody_who_reads_it(home: Path) -> None:
    done = shell(home, f"{' '.join(MAILSYNC)} --help | true; echo ${{PIPESTATUS[0]}}")

    assert (b"0\n", b"") == (done.stdout, done.stderr)


# ---- options ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-n", "--no-delete"])
def test_no_delete_keeps_what_is_gone_from_the_other_store(synced: Path, option: str) -> None:
    drop(list((synced / "md/one/cur").iterdir())[:1])

    assert run(option, "mail").code == 0
    assert len(ids(synced, "old/*")["old/one"]) == 3
    assert run("mail").code == 0
    assert len(ids(synced, "old/*")["old/one"]) == 2


@pytest.mark.parametrize(("option", "copied"), [(None, False), ("-cd", True), ("--copy-deleted", True)])
def test_new_message_marked_deleted_is_copied_if_asked_for(mails: Path, option: str | None, copied: bool) -> None:
    put(local(mails, "md/*"), "md/one", [Mail(message("marked"), frozenset({DELETED}))])

    ran = run(*([option] if option else []), "mail")

    assert copied == ("<marked@x>" in ids(mails, "old/*")["old/one"])
    assert copied != ("ign. del" in ran.out)


@pytest.mark.parametrize("option", ["-t", "--id-type"])
def test_id_type_md5_tells_messages_without_their_ids(mails: Path, option: str) -> None:
    ran = run("-M", option, "md5", "mail")

    assert ran.code == 0
    assert "<1@x>" not in ran.out
    assert "md5" in (mails / ".msinfo").read_text()


@pytest.mark.parametrize("option", ["-f", "--config"])
def test_config_file_may_be_another(mails: Path, option: str) -> None:
    (mails / ".mailsync").rename(mails / "conf")

    assert run("md").code == 3
    assert run(option, "conf", "md").code == 0


@pytest.mark.parametrize(
    ("option", "line"),
    [
        ("-m", "  copied     ->  Mon Jan  1 a@x                    mail 4"),
        ("--messages", "  copied     ->  Mon Jan  1 a@x                    mail 4"),
        ("-M", "  copied     ->  Mon Jan  1 a@x                    mail 4                     <4@x>"),
        ("--message-ids", "  copied     ->  Mon Jan  1 a@x                    mail 4                     <4@x>"),
    ],
)
def test_a_line_for_each_message(mails: Path, option: str, line: str) -> None:
    for file in (mails / "md/two/cur").iterdir():
        os.utime(file, (NEW_YEAR, NEW_YEAR))

    assert line in [text.rstrip() for text in run(option, "mail").out.splitlines()]


@pytest.mark.parametrize("option", ["-q", "--quiet"])
def test_quiet_says_nothing_when_nothing_happened(synced: Path, option: str) -> None:
    assert (0, "", "") == tuple_of(run(option, "mail"))


def test_quiet_says_only_what_happened(synced: Path) -> None:
    maildir(synced / "md/two", message(4), message(5))

    ran = run("-q", "mail", "second:nothing*", "mail")

    assert ran.out == (
        'Synchronizing stores "md" <-> "old"...\ntwo: \n1 copied md->old.\n2 remain.\n'
        "mail: 1 copied\nsecond:nothing*: failed (2): neither store has a mailbox nothing*\n"
    )


def test_quiet_still_tells_errors(synced: Path) -> None:
    shutil.rmtree(synced / "old")

    ran = run("-q", "mail")

    assert (6, "") == (ran.code, ran.out)
    assert "store old" in ran.err


@pytest.mark.parametrize("option", ["-dc", "--debug-config"])
def test_debug_config_shows_it_without_passwords(mails: Path, option: str) -> None:
    configure(mails, CONFIG + "store far { server {host/user=me} pat * passwd s3cret }\n")

    ran = run(option)

    assert (0, "") == (ran.code, ran.err)
    assert "store far {\n" in ran.out
    assert "s3cret" not in ran.out
    configure(mails, ran.out)
    assert ran.out == run(option).out


def test_debug_config_goes_on_with_the_run(mails: Path) -> None:
    ran = run("-dc", "mail")

    assert ran.code == 0
    assert "1 copied md->old.\n" in ran.out


@pytest.mark.parametrize("option", ["-d", "--debug"])
def test_debug_tells_what_happens_inside_on_stderr(mails: Path, option: str) -> None:
    ran = run(option, "mail")

    assert "debug" not in ran.out
    for line in (
        r"debug: msinfo \.msinfo: 0 mailboxes, 0 messages remembered",
        r"debug: store md: LocalStore, delimiter '/', patterns md/\*: \d names, 0 that cannot be listed",
        r"debug: one: 3 in md, 0 in old, 0 remembered",
        r"debug: two: \S+ <4@x> copied to old with \[\]",
        r"debug: msinfo \.msinfo: saved",
    ):
        assert re.search(f"^{line}$", ran.err, re.MULTILINE), line


@pytest.mark.parametrize(
    ("option", "told"),
    [
        ("-vw", {"left"}),
        ("--warnings", {"left"}),
        ("-vb", {"mended"}),
        ("--verbose-ids", {"mended"}),
        ("-vp", {"junk"}),
        ("--verbose-parse", {"junk"}),
        ("-v", {"left", "mended", "junk"}),
        ("--verbose", {"left", "mended", "junk"}),
        ("-di", set()),
        ("-m", set()),
    ],
)
def test_verbose_tells_what_it_is_asked_for_on_stderr(mails: Path, option: str, told: set[str]) -> None:
    maildir(mails / "md/odd", b"Message-ID: naked@x\nthis is junk\nSubject: x\n\nhi\n")
    (mails / "md/notes.txt").write_text("no mail\n")

    ran = run(option, "mail")

    marks = {"left": "notes.txt: ", "mended": "Message-ID naked@x is read as", "junk": "no header field: this is junk"}
    assert ran.code == 0
    assert told == {name for name, mark in marks.items() if mark in ran.err}
    assert not any(mark in ran.out for mark in marks.values())


# ---- channels and boxes ----------------------------------------------------------------------------------------------


def test_one_box_of_a_channel(mails: Path) -> None:
    assert run("mail:two").code == 0
    assert {"old/two": ["<4@x>"]} == ids(mails, "old/*")


def test_boxes_of_a_channel_by_pattern(mails: Path) -> None:
    maildir(mails / "md/lists/a", message(5))
    maildir(mails / "md/lists/b", message(6))

    assert run("mail:lists/*").code == 0
    assert {"old/lists/a": ["<5@x>"], "old/lists/b": ["<6@x>"]} == ids(mails, "old/*")


def test_rest_of_the_memory_stays_when_one_box_is_synchronized(synced: Path) -> None:
    drop(list((synced / "md/one/cur").iterdir())[:1])
    drop(list((synced / "md/two/cur").iterdir()))

    run("mail:two")
    run("mail")

    assert {"old/one": 2, "old/two": 0} == {name: len(box) for name, box in ids(synced, "old/*").items()}


@pytest.mark.parametrize("args", [["mail:nonsense"], ["mail:nonsense", "md"], ["mail:nonsense", "second"]])
def test_unknown_box_is_told(synced: Path, args: list[str]) -> None:
    ran = run(*args)

    assert ran.code == 2
    assert "nonsense" in ran.err


def test_misspelt_box_is_told_the_near_one(synced: Path) -> None:
    assert "neither store has a mailbox tow; did you mean 'two'?" in run("mail:tow").err


def test_unknown_box_does_not_keep_other_channels_waiting(mails: Path) -> None:
    ran = run("mail:nonsense", "second")

    assert ran.code == 2
    assert len(ids(mails, "mh/*")) == 2


def test_compare_one_box(synced: Path) -> None:
    ran = run("mail:two", "md")

    assert ran.out == 'Comparing store "md" <-> "md"...\ntwo: 1 currently at store md.\n'


def test_channel_that_fails_spoils_no_other_and_the_worst_code_counts(synced: Path) -> None:
    assert run("third").code == 0
    shutil.rmtree(synced / "gone")
    (synced / ".msinfo-third").write_bytes((synced / ".msinfo-third").read_bytes()[:-30])
    drop(many(synced, 60)[1:])

    ran = run("mail", "third", "second")

    assert ran.code == 8
    assert "--allow-mass-delete=59" in ran.err
    assert ids(synced, "mh/*")["mh/one"] == ["<1@x>", "<2@x>", "<3@x>"]


# ---- exit codes ------------------------------------------------------------------------------------------------------


def test_0_when_all_is_done(mails: Path) -> None:
    assert run("mail").code == 0


def test_1_when_a_mailbox_cannot_be_read(mails: Path) -> None:
    mbox(mails / "old/one", message(7))
    (mails / "old/one").chmod(0)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert ran.code == 1
    assert "one: on store old" in ran.err
    assert ids(mails, "old/two")["old/two"] == ["<4@x>"]


def test_1_when_a_message_cannot_be_read(mails: Path) -> None:
    file = next((mails / "md/one/cur").iterdir())
    file.chmod(0)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert ran.code == 1
    assert len(ids(mails, "old/*")["old/one"]) == 2


def test_1_when_a_store_to_list_has_a_mailbox_that_cannot_be_read(mails: Path) -> None:
    (mails / "md/two/cur").chmod(0)

    ran = run_apart(mails, "-m", "md", before=obey_permissions)

    assert ran.code == 1
    assert "mail 1" in ran.out


def test_1_and_one_line_for_a_bug(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsync.running.Channel", None)

    ran = run("mail")

    assert (1, "") == (ran.code, ran.out)
    assert re.fullmatch(r"mailsync: this is a bug in mailsync: TypeError: .*\n  Run it again with -d.*\n", ran.err)


def test_traceback_of_a_bug_with_debug(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mailsync.running.Channel", None)

    ran = run("-d", "mail")

    assert ran.code == 1
    assert "Traceback" in ran.err
    assert "TypeError" in ran.err.splitlines()[-1]


@pytest.mark.parametrize("text", ["store md {", "channel mail md old { msinfo x }", "nonsense"])
def test_3_for_a_faulty_configuration(home: Path, text: str) -> None:
    configure(home, text)

    ran = run("mail")

    assert (3, "") == (ran.code, ran.out)
    assert f"{home}/.mailsync:1:" in ran.err


def test_3_and_a_sample_without_a_configuration(home: Path) -> None:
    ran = run("mail")

    assert (3, "") == (ran.code, ran.out)
    assert "\n  channel mail here backup {\n  \tmsinfo .msinfo\n  }\n" in ran.err


def test_3_for_a_password_that_others_can_read(mails: Path) -> None:
    configure(mails, CONFIG + "store far { server {host/user=me} pat * passwd s3cret }\n")
    (mails / ".mailsync").chmod(0o644)

    ran = run("-d", "-dc", "mail")

    assert (3, "") == (ran.code, ran.out)
    assert f"Run: chmod 600 {mails}/.mailsync" in ran.err
    assert "s3cret" not in ran.err


def test_5_while_another_process_holds_the_channel(synced: Path) -> None:
    [lock] = (synced / ".local/state/mailsync").glob("*.lock")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout
        holder.stdout.readline()
        maildir(synced / "md/two", message(4), message(5))
        ran, other = run("mail"), run("second")
    finally:
        holder.communicate()

    assert (5, "") == (ran.code, ran.out)
    assert "channel mail is being synchronized by another mailsync" in ran.err
    assert other.code == 0
    assert run("mail").code == 0


HOLD = "import fcntl, sys; f = open(sys.argv[1], 'w'); fcntl.flock(f, fcntl.LOCK_EX); print(flush=True); input()"


@pytest.mark.parametrize("simulate", [[], ["-s"]])
def test_6_when_a_store_is_gone(synced: Path, simulate: list[str]) -> None:
    shutil.rmtree(synced / "old")
    before = snapshot(synced)

    ran = run(*simulate, "mail")

    assert ran.code == 6
    assert "store old" in ran.err
    assert before.mail() == snapshot(synced).mail()


def test_6_when_a_store_is_another_one(synced: Path) -> None:
    (synced / "old").rename(synced / "old-was")
    for name in ("one", "two"):
        mbox(synced / "old" / name)
    before = snapshot(synced)

    ran = run("mail")

    assert ran.code == 6
    assert "--allow-mass-delete=4" in ran.err
    assert before.mail() == snapshot(synced).mail()


def test_store_that_never_was_there_is_made(mails: Path) -> None:
    assert run("third").code == 0
    assert ids(mails, "gone/*") == {"gone/one": ["<1@x>", "<2@x>", "<3@x>"], "gone/two": ["<4@x>"]}


def test_6_for_a_store_on_a_server(mails: Path) -> None:
    configure(mails, CONFIG + "store far { server {host/user=me} pat * passwd s3cret }\nchannel f md far { msinfo m }")

    ran = run("-d", "f")

    assert ran.code == 6
    assert "s3cret" not in ran.out + ran.err


@pytest.mark.parametrize("args", [["mail"], ["-s", "mail"], ["mail", "md"]])
def test_8_when_the_memory_is_cut_off(synced: Path, args: list[str]) -> None:
    text = (synced / ".msinfo").read_bytes()
    (synced / ".msinfo").write_bytes(text[: -len(text) // 4])
    drop(list((synced / "md/one/cur").iterdir())[:1])
    before = snapshot(synced)

    ran = run(*args)

    assert ran.code == 8
    assert ".msinfo" in ran.err
    assert before.mail() == snapshot(synced).mail()


def test_8_when_the_memory_cannot_be_saved(mails: Path) -> None:
    (mails / "dir").mkdir(mode=0o500)
    configure(mails, CONFIG.replace("msinfo .msinfo }", "msinfo dir/msinfo }"))

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert ran.code == 8
    assert len(ids(mails, "old/*")) == 2


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_signal_ends_the_run_and_the_next_one_goes_on(mails: Path, signum: signal.Signals, code: int) -> None:
    everything = [message(f"m{n}") for n in range(1000)]
    maildir(mails / "md/many", *everything)
    process = subprocess.Popen([*MAILSYNC, "-d", "third"], cwd=mails, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stderr
    while b"copied to gone" not in (line := process.stderr.readline()):
        assert line, "ended before anything was copied"
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)

    assert code == process.returncode
    assert b"mailsync: stopped; what was done until then is remembered" in err
    copied = len(ids(mails, "gone/many")["gone/many"])
    assert 0 < copied < len(everything)
    assert 0 < (mails / ".msinfo-third").read_bytes().count(b"\n<") <= copied
    assert run("third").code == 0
    here, there = ids(mails, "md/*")["md/many"], ids(mails, "gone/*")["gone/many"]
    assert (here, len(everything)) == (there, len(here))


def test_nohup_is_obeyed(mails: Path) -> None:
    maildir(mails / "md/many", *(message(f"m{n}") for n in range(300)))
    process = subprocess.Popen(
        ["nohup", *MAILSYNC, "-d", "third"], cwd=mails, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stderr
    while b"copied to gone" not in (line := process.stderr.readline()):
        assert line, "ended before anything was copied"
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=60)

    assert process.returncode == 0
    assert len(ids(mails, "gone/many")["gone/many"]) == 300


# ---- what only looks writes nothing ----------------------------------------------------------------------------------


class Snapshot(dict[str, tuple[int, bytes, int, int]]):
    """Mode, bytes, mtime and atime of all that lies in a home."""

    def mail(self) -> dict[str, bytes]:
        return {name: what[1] for name, what in self.items() if not name.startswith((".local", ".cache"))}


def snapshot(home: Path) -> Snapshot:
    """Access times are set back a year, so that reading would show; of directories and our configuration they may."""
    found = Snapshot()
    for path in sorted(home.rglob("*")):
        info = path.lstat()
        raw = path.read_bytes() if path.is_file() else b""
        os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns))
        looked_at = path.is_dir() or path.name == ".mailsync" or ".cache" in path.parts
        found[str(path.relative_to(home))] = info.st_mode, raw, info.st_mtime_ns, 0 if looked_at else info.st_atime_ns
    return found


def age(home: Path) -> None:
    for path in home.rglob("*"):
        os.utime(path, (1_000_000_000, 1_000_000_001))


@pytest.mark.parametrize("first", [True, False], ids=["first run", "later run"])
@pytest.mark.parametrize(
    "args", [["-s"], ["-s", "-m"], ["-s", "-D"], ["-s", "--json", "-M"], ["-s", "-d"], ["compare"]]
)
@pytest.mark.parametrize(("channel", "store"), [("mail", "md"), ("mail", "old"), ("second", "mh")])
def test_looking_changes_nothing_at_all(mails: Path, channel: str, store: str, args: list[str], first: bool) -> None:
    if not first:
        assert run(channel).code == 0
    maildir(mails / "md/one", message(1), message(1), message(5))
    maildir(mails / "md/two")
    put(local(mails, f"{store}/*"), f"{store}/three", [Mail(message(6), frozenset({SEEN})), Mail(message(6))])
    (mails / store / "empty").mkdir(parents=True)
    age(mails)
    before = snapshot(mails)

    ran = run(channel, store) if args == ["compare"] else run(*args, channel)

    assert ran.code == 0
    assert before == snapshot(mails)


@pytest.mark.parametrize("args", [["md"], ["-m", "md"], ["-M", "old"], ["--json", "-m", "mh"]])
def test_listing_changes_nothing_at_all(mails: Path, args: list[str]) -> None:
    run("mail", "second")
    maildir(mails / "md/one", message(1), message(1))
    age(mails)
    before = snapshot(mails)

    assert run(*args).code == 0
    assert before == snapshot(mails)


def test_simulation_tells_what_the_run_then_does(synced: Path) -> None:
    maildir(synced / "md/one", message(1), message(5), message(6))
    maildir(synced / "md/three", message(7))
    mbox(synced / "old/two", message(4), message(8))

    told, done = run("-s", "--json", "mail"), run("--json", "mail")

    assert told.steps
    assert told.steps == done.steps


# ---- streams ---------------------------------------------------------------------------------------------------------


def shell(home: Path, command: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["bash", "-c", command], cwd=home, capture_output=True, timeout=60)


@pytest.mark.parametrize(
    "redirection",
    [">&-", "2>&-", "<&-", ">&- 2>&-", "<&- >&- 2>&-", "| head -n 1", "2>&1 | true", "-m | head -n 1", "--json | true"],
)
def test_run_is_completed_whoever_listens(mails: Path, redirection: str) -> None:
    done = shell(mails, f"{' '.join(MAILSYNC)} -M mail {redirection}; exit ${{PIPESTATUS[0]}}")

    assert (0, b"") == (done.returncode, done.stderr)
    assert {"old/one": 3, "old/two": 1} == {name: len(box) for name, box in ids(mails, "old/*").items()}
    assert (0, "") == tuple_of(run("-q", "mail"))[:2]


@pytest.mark.parametrize("redirection", [">&-", "2>&-", "| true", ">&- 2>&-"])
def test_error_has_its_code_whoever_listens(mails: Path, redirection: str) -> None:
    done = shell(mails, f"{' '.join(MAILSYNC)} nonsense {redirection}; exit ${{PIPESTATUS[0]}}")

    assert done.returncode == 2


def test_output_that_has_no_room_is_a_failure_but_the_run_is_completed(mails: Path) -> None:
    done = shell(mails, f"{' '.join(MAILSYNC)} mail > /dev/full")

    assert (1, b"mailsync: not all output could be written: No space left on device\n") == (
        done.returncode,
        done.stderr,
    )
    assert len(ids(mails, "old/*")) == 2


def test_locale_that_cannot_show_a_subject_gets_an_escape(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maildir(mails / "md/two", b"Subject: =?utf-8?q?gr=C3=BCn_=E4=B8=AD?=\nMessage-ID: <4@x>\n\nhi\n")
    monkeypatch.setenv("PYTHONIOENCODING", "iso-8859-1")

    done = subprocess.run([*MAILSYNC, "-m", "mail"], cwd=mails, capture_output=True)

    assert (0, b"") == (done.returncode, done.stderr)
    assert b"gr\xfcn \\u4e2d" in done.stdout


def on_terminals(home: Path, *args: str) -> tuple[int, bytes, bytes]:
    """A run whose stdout and stderr are a terminal each: exit code and what either got."""
    (out, out_end), (err, err_end) = pty.openpty(), pty.openpty()
    process = subprocess.Popen([*MAILSYNC, *args], cwd=home, stdout=out_end, stderr=err_end, stdin=subprocess.DEVNULL)
    os.close(out_end)
    os.close(err_end)
    code = process.wait(60)
    return code, drained(out), drained(err)


def drained(terminal: int) -> bytes:
    """What is waiting at a terminal whose other end is closed."""
    found = b""
    try:
        while more := os.read(terminal, 65536):
            found += more
    except OSError:
        pass
    os.close(terminal)
    return found


def test_without_a_terminal_there_is_no_escape(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    assert "\x1b" not in "".join(tuple_of(run_apart(mails, "mail"))[1:] + tuple_of(run_apart(mails, "nonsense"))[1:])


def test_progress_is_drawn_on_stderr_only_and_nothing_stays(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    code, out, err = on_terminals(mails, "mail")

    assert code == 0
    assert b"\x1b" not in out
    assert b"Synchronizing" in err
    assert err.endswith((b"\x1b[2K", b"\x1b[?25h"))


def test_dumb_terminal_and_quiet_get_no_progress(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert on_terminals(mails, "mail")[2] == b""

    monkeypatch.setenv("TERM", "xterm")
    maildir(mails / "md/two", message(4), message(5))
    assert on_terminals(mails, "-q", "mail")[2] == b""


def test_errors_are_coloured_on_a_terminal_but_not_with_no_color(mails: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    assert b"\x1b[31m" in on_terminals(mails, "nonsense")[2]

    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b" not in on_terminals(mails, "nonsense")[2]


HOSTILE = (
    b"From: =?utf-8?q?=1B]0;evil=07_Eve?= <eve@x>\n"
    b"Subject: =?utf-8?q?a=0Amailsync=3A_fake=E2=80=AErev=C2=9B31m?= \x1b[2J\n"
    b"Message-ID: <\x1b[31m\x9b2Jid@x>\nnot a\x1b[2Jfield\n\nhi\n"
)


@pytest.mark.parametrize(
    "args",
    [
        *(
            ["-M", "mail"],
            ["-s", "-m", "mail"],
            ["-M", "md"],
            ["-v", "mail"],
            ["-d", "-M", "mail"],
            ["-m", "mail", "md"],
        ),
        *(
            ["--json", "-M", "mail"],
            ["--json", "-M", "md"],
            ["--json", "-d", "-v", "mail"],
            ["mail:\x1b[2J"],
            ["\x9b2J"],
        ),
    ],
)
def test_what_mail_holds_never_reaches_the_terminal_as_a_command(mails: Path, args: list[str]) -> None:
    box = mails / "md/\x1b[2Jbox\u202e\x9b"
    maildir(box, HOSTILE, HOSTILE)
    (mails / "md/\x1b[2Jno mail").write_bytes(b"\x1b[2J")

    ran = run(*args)

    assert not UNFIT.search(ran.out), ran.out
    assert not UNFIT.search(ran.err), ran.err


def test_error_of_a_box_with_a_hostile_name_is_shown_unfit_for_harm(mails: Path) -> None:
    maildir(mails / "md/\x1b[2Jbox", HOSTILE)
    (mails / "md/\x1b[2Jbox/cur").chmod(0)

    ran = run_apart(mails, "mail", before=obey_permissions)

    assert ran.code == 1
    assert "\\x1b[2Jbox" in ran.err
    assert not UNFIT.search(ran.err)


# ---- JSON ------------------------------------------------------------------------------------------------------------

EVENTS = {
    *("begin", "copy", "flags", "delete", "create", "remove", "held", "box", "diff", "list", "message"),
    *("note", "debug", "problem", "error", "config", "end", "summary"),
}


@pytest.mark.parametrize(
    "args",
    [
        *(
            ["mail"],
            ["-m", "mail"],
            ["-s", "mail"],
            ["-d", "-v", "mail"],
            ["mail", "md"],
            ["md"],
            ["-m", "md"],
            ["-dc"],
        ),
        *([], ["nonsense"], ["-x"], ["-t", "x"], ["mail", "third", "second"], ["mail:nonsense"]),
    ],
)
def test_json_is_all_that_is_printed(synced: Path, args: list[str]) -> None:
    maildir(synced / "md/two", HOSTILE)
    (synced / ".msinfo-third").write_text("From x Mon Jan  1 00:00:00 2024\nFrom: mailsync\nSubject: third\n\n")

    ran = run("--json", *args)

    assert ran.err == ""
    assert ran.out.isascii()
    assert {event["event"] for event in ran.events} <= EVENTS
    errors = [event["code"] for event in ran.events if event["event"] == "error"]
    assert max(errors, default=0) == ran.code


def test_json_events_sum_up_to_what_the_stores_show(synced: Path) -> None:
    maildir(synced / "md/one", message(1), message(5), message(5), message(6))
    for file in list((synced / "md/one/cur").iterdir())[:1]:
        file.rename(f"{file}S")
    maildir(synced / "md/three", message(7))
    mbox(synced / "old/two", message(4), message(8), message(8))
    before = sizes(synced)

    ran = run("--json", "-m", "mail")

    after = sizes(synced)
    [end] = [event for event in ran.events if event["event"] == "end"]
    steps = Counter((step["event"], step["store"]) for step in ran.steps if step["ok"])
    assert ran.code == 0
    for store in ("md", "old"):
        assert after[store] == before[store] + Counter(
            event["box"] for event in ran.steps if event["event"] == "copy" and event["store"] == store
        ) - Counter(event["box"] for event in ran.steps if event["event"] == "delete" and event["store"] == store)
        assert end["copied"][store] == steps["copy", store]
        assert end["deleted"][store] == steps["delete", store]
        assert end["flagged"][store] == steps["flags", store]
    assert {event["box"]: event["remains"] for event in ran.events if event["event"] == "box"} == dict(after["md"])


def sizes(home: Path) -> dict[str, Counter[str]]:
    return {
        store: Counter(
            {name.removeprefix(f"{store}/"): len(box) for name, box in read_home(home, f"{store}/*").items()}
        )
        for store in ("md", "old")
    }


def test_json_tells_what_failed_with_its_code(synced: Path) -> None:
    shutil.rmtree(synced / "old")

    ran = run("--json", "mail")

    [error] = [event for event in ran.events if event["event"] == "error"]
    assert (6, 6) == (ran.code, error["code"])
    assert "store old" in error["text"]
    assert "--allow-mass-delete=4" in error["hint"]


def test_json_tells_of_names_that_are_no_utf8(mails: Path) -> None:
    maildir(mails / os.fsdecode(b"md/\xff"), message(5))

    assert "\udcff" in [event["box"] for event in run("--json", "mail").events if event["event"] == "box"]


# ---- guard -----------------------------------------------------------------------------------------------------------


def test_50_deletions_pass(mails: Path) -> None:
    drop(many(mails, 60)[:50])

    assert run("mail").code == 0
    assert len(ids(mails, "old/*")["old/many"]) == 10


def test_51_deletions_are_held_and_the_rest_is_done(mails: Path) -> None:
    drop(many(mails, 60)[:51])
    maildir(mails / "md/two", message(4), message("new"))

    ran = run("mail")

    assert ran.code == 4
    assert "51 messages would be deleted from store old, more than max_delete 50" in ran.err
    assert "If you mean it: --allow-mass-delete=51\n" in ran.err
    assert len(ids(mails, "old/*")["old/many"]) == 60
    assert "<new@x>" in ids(mails, "old/*")["old/two"]
    assert run("mail").code == 4


def test_messages_whose_deletion_is_held_remain(mails: Path) -> None:
    drop(many(mails, 60)[:51])

    assert "many: \n60 remain.\n" in run("mail").out


def test_held_deletions_are_told_in_json(mails: Path) -> None:
    drop(many(mails, 60)[:51])

    ran = run("--json", "mail")

    held = [event for event in ran.events if event["event"] == "held"]
    assert (4, 51) == (ran.code, ran.events[-1]["held"])
    assert [("delete", "old", "max_delete")] * 51 == [(h["step"], h["store"], h["why"]) for h in held]


@pytest.mark.parametrize(("allowed", "code"), [("50", 4), ("51", 0), ("60", 0)])
def test_mass_deletion_passes_if_allowed(mails: Path, allowed: str, code: int) -> None:
    drop(many(mails, 60)[:51])

    assert run("-s", f"--allow-mass-delete={allowed}", "mail").code == code
    assert len(ids(mails, "old/*")["old/many"]) == 60
    assert run("--allow-mass-delete", allowed, "mail").code == code
    assert len(ids(mails, "old/*")["old/many"]) == (60 if code else 9)


def test_mass_deletion_is_allowed_only_once(mails: Path) -> None:
    files = many(mails, 120)
    drop(files[:51])
    assert run("mail", "--allow-mass-delete=51").code == 0
    drop(files[51:102])

    assert run("mail").code == 4


def test_emptied_store_passes_if_allowed(synced: Path) -> None:
    shutil.rmtree(synced / "old")

    assert run("mail", "--allow-mass-delete=4").code == 0
    assert {"md/one": [], "md/two": []} == ids(synced, "md/*")


# ---- -D, boxes that are gone -----------------------------------------------------------------------------------------


@pytest.fixture
def emptied(synced: Path) -> Path:
    """Box two is empty in both stores; INBOX, too."""
    maildir(synced / "md/INBOX")
    drop(list((synced / "md/two/cur").iterdir()))
    assert run("mail").code == 0
    return synced


def boxes(home: Path, store: str) -> set[str]:
    return {name.removeprefix(f"{store}/") for name in read_home(home, f"{store}/*")}


@pytest.mark.parametrize("option", ["-D", "--delete-empty"])
def test_empty_box_is_deleted_in_both_stores(emptied: Path, option: str) -> None:
    ran = run(option, "mail")

    assert (0, "") == (ran.code, ran.err)
    assert ran.out.endswith("two: deleting\n  md/two\n  old/two\n")
    assert ({"one", "INBOX"}, {"one", "INBOX"}) == (boxes(emptied, "md"), boxes(emptied, "old"))
    assert (0, "", "") == tuple_of(run("-q", "-D", "mail"))


@pytest.mark.parametrize("args", [[], ["-D", "-s"], ["-D", "-n"]])
def test_empty_box_stays_unless_it_may_go(emptied: Path, args: list[str]) -> None:
    assert run(*args, "mail").code == 0
    assert "two" in boxes(emptied, "md") & boxes(emptied, "old")


def test_simulated_deletion_of_a_box_is_told(emptied: Path) -> None:
    assert run("-s", "-D", "mail").out.endswith("two: deleting\n  md/two\n  old/two\n")


def test_box_that_is_emptied_by_this_run_is_deleted(synced: Path) -> None:
    drop(list((synced / "md/two/cur").iterdir()))

    assert run("-D", "mail").code == 0
    assert ({"one"}, {"one"}) == (boxes(synced, "md"), boxes(synced, "old"))


def test_box_gone_from_one_store_takes_its_messages_with_it_and_is_made_anew(synced: Path) -> None:
    shutil.rmtree(synced / "md/two")

    assert run("mail").code == 0
    assert ids(synced, "old/*")["old/two"] == []
    assert "two" in boxes(synced, "md")


def test_box_gone_from_one_store_is_gone_from_both_with_delete_empty(synced: Path) -> None:
    shutil.rmtree(synced / "md/two")

    assert run("-D", "mail").code == 0
    assert ({"one"}, {"one"}) == (boxes(synced, "md"), boxes(synced, "old"))


def test_box_gone_from_one_store_stays_where_it_got_new_mail(synced: Path) -> None:
    shutil.rmtree(synced / "md/two")
    mbox(synced / "old/two", message(4), message("new"))

    assert run("-D", "mail").code == 0
    assert (["<new@x>"], ["<new@x>"]) == (ids(synced, "old/*")["old/two"], ids(synced, "md/*")["md/two"])


# ---- what a store does not let be done -------------------------------------------------------------------------------


def test_readonly_store_is_never_written(synced: Path) -> None:
    configure(synced, CONFIG.replace("format mbox", "format mbox readonly yes"))
    drop(list((synced / "md/one/cur").iterdir())[:1])
    maildir(synced / "md/three", message(5))
    mbox(synced / "old/two", message(4), message(6))
    age(synced)
    before = snapshot(synced)

    assert run("-D", "mail").code == 0
    after = snapshot(synced)
    assert {k: v for k, v in before.items() if k.startswith("old")} == {
        k: v for k, v in after.items() if k.startswith("old")
    }
    assert "<6@x>" in ids(synced, "md/*")["md/two"]


def test_store_with_create_no_gets_mail_but_no_mailbox(synced: Path) -> None:
    configure(synced, CONFIG.replace("format mbox", "format mbox create no"))
    maildir(synced / "md/two", message(4), message(5))
    maildir(synced / "md/three", message(6))

    assert run("mail").code == 0
    assert {"one", "two"} == boxes(synced, "old")
    assert "<5@x>" in ids(synced, "old/*")["old/two"]


# ---- what is imported ------------------------------------------------------------------------------------------------


def imported(home: Path, *args: str) -> set[str]:
    """Top-level modules that a run imports."""
    done = subprocess.run([sys.executable, "-X", "importtime", "-m", "mailsync", *args], cwd=home, capture_output=True)
    assert done.returncode == 0, done.stderr
    return {line.rpartition(b"|")[2].strip().partition(b".")[0].decode() for line in done.stderr.splitlines()}


def test_version_imports_nothing_heavy(home: Path) -> None:
    heavy = {"imapclient", "rich", "pyparsing", "sqlite3", "email", "logging", "ssl", "socket", "asyncio"}

    assert imported(home, "--version") & heavy == set()


@pytest.mark.parametrize("args", [["mail"], ["-s", "mail"], ["md"], ["mail", "md"]])
def test_local_run_imports_no_network_and_no_drawing(mails: Path, args: list[str]) -> None:
    heavy = {"imapclient", "rich", "email", "logging", "ssl", "asyncio"}

    assert imported(mails, *args) & heavy == set()


# ---- our own files ---------------------------------------------------------------------------------------------------


def test_own_files_are_private(synced: Path) -> None:
    for path in (*(synced / ".local").rglob("*"), *(synced / ".cache").rglob("*")):
        if "mailsync" in path.parts:
            assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def tuple_of(ran: Ran) -> tuple[int, str, str]:
    return ran.code, ran.out, ran.err


def test_main_needs_no_arguments(
    mails: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["mailsync", "md"])

    assert cli.main() == 0
    assert capsys.readouterr().out.startswith('Listing store "md"\none\ntwo\n')
