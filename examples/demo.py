"""The main job of mailsync on a small sample, each command with its real output: `make demo`.

Makes a home directory with a Maildir tree, a directory of mbox files and an MH tree, works in it as a user would, and
removes it. Ends with 1 if a command fails. Needs no terminal and no network, and touches nothing of yours.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from email import message_from_bytes
from email.utils import parsedate_to_datetime
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parent

# Which sample lies in which mailbox at first. Two are in both `inbox`es: they are one message each, told by its id.
MAILDIR = {
    "Mail/inbox": ["potatoes-1", "potatoes-2", "potatoes-3", "greetings", "photo", "no-id"],
    "Mail/lists/garden": ["from-lines", "frost", "slugs"],
}
MBOX = {
    "Backup/inbox": ["potatoes-1", "potatoes-2", "invoice"],
    "Backup/letters": ["recipe", "haiku"],
}
MH = {
    "MH/inbox": ["potatoes-1"],
}


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="mailsync-demo-") as place:
        home = Path(place)
        build(home)
        try:
            play(home)
        except subprocess.CalledProcessError as error:
            say(f"This should not have happened: exit code {error.returncode}.")
            return 1
    return 0


def play(home: Path) -> None:
    say("Here are three stores: a tree of Maildirs, a directory of mbox files, and one MH mailbox.")
    say("This is ~/.mailsync. A channel joins two stores, and remembers in msinfo what both had.")
    show((EXAMPLES / "demo.conf").read_text().split("\n\n", 1)[1] + "\n")
    say("The name of a store lists its mailboxes:")
    mailsync(home, "laptop")
    mailsync(home, "backup")
    say("A channel and a store: what happened there since the last run? There was none, so all is new.")
    mailsync(home, "mail", "laptop")
    say("-s tells what a run would do, and does nothing.")
    mailsync(home, "-s", "mail")
    say("The first run unites both stores. What both had already stays as it is; nothing is deleted.")
    mailsync(home, "mail")

    say("Now some days go by. Ada deletes the photo on her laptop,")
    find(home / "Mail/inbox", "photo").unlink()
    say("answers the greetings there (R is Maildir's letter for it),")
    greetings = find(home / "Mail/inbox", "greetings")
    greetings.rename(f"{greetings}R")
    say("and another program appends a new message to an mbox of the backup.")
    append_to_mbox(home / "Backup/inbox", ["saturday"])
    say("Each change is made on the other side, too. -m shows every message.")
    mailsync(home, "-m", "mail")
    say("Run again, there is nothing to do. With -q a run that does nothing says nothing.")
    mailsync(home, "mail")
    mailsync(home, "-q", "mail")

    say("From one format to another: this channel joins the mbox files with the MH tree.")
    mailsync(home, "to-mh")
    say("Three stores now hold the same mail: in Maildir, in mbox and in MH.")
    mailsync(home, "-m", "old")


def say(text: str) -> None:
    show(f"# {text}\n")


def show(text: str) -> None:
    """UTF-8 whatever the locale: the output is always the same."""
    sys.stdout.buffer.write(text.encode())
    sys.stdout.buffer.flush()


def mailsync(home: Path, *args: str) -> None:
    """Run a command in this home and show it with all it says. CalledProcessError if it fails."""
    show(f"$ mailsync {' '.join(args)}\n")
    command = [sys.executable, "-m", "mailsync", *args]
    done = subprocess.run(command, cwd=home, env=environment(home), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    show(f"{done.stdout.decode()}\n")
    done.check_returncode()


def environment(home: Path) -> dict[str, str]:
    """All that a run may know of this computer: another home, so that your mail is out of reach."""
    return {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home / ".config"),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "XDG_STATE_HOME": str(home / ".local/state"),
        "PATH": os.pathsep.join((os.path.dirname(sys.executable), os.defpath)),
        "TZ": "UTC",  # -m shows days in local time
        "PYTHONUTF8": "1",
    }


# ---- the sample ------------------------------------------------------------------------------------------------------


def build(home: Path) -> None:
    """Write the three stores and ~/.mailsync. This is all there is to the formats, for mail as tame as ours."""
    for mailbox, names in MAILDIR.items():
        make_maildir(home / mailbox, names)
    for mailbox, names in MBOX.items():
        append_to_mbox(home / mailbox, names)
    for mailbox, names in MH.items():
        make_mh(home / mailbox, names)
    (home / ".mailsync").write_bytes((EXAMPLES / "demo.conf").read_bytes())


def make_maildir(mailbox: Path, names: Iterable[str]) -> None:
    """A file for each message. Behind `:2,` stand its flags: S is seen."""
    for part in ("cur", "new", "tmp"):
        (mailbox / part).mkdir(parents=True)
    for name in names:
        write(mailbox / f"cur/{date(name)}.{name}.demo:2,S", name)


def append_to_mbox(mailbox: Path, names: Iterable[str]) -> None:
    """All messages in one file. Each begins with a line `From `, here also with flags, and ends with an empty one."""
    mailbox.parent.mkdir(parents=True, exist_ok=True)
    with mailbox.open("ab") as file:
        for name in names:
            postmark = f"From demo@example.org {time.asctime(time.gmtime(date(name)))}\nStatus: RO\n"
            file.write(postmark.encode() + sample(name) + b"\n")


def make_mh(mailbox: Path, names: Iterable[str]) -> None:
    """A numbered file for each message. What is in the sequence `unseen` has not been read."""
    mailbox.mkdir(parents=True)
    for number, name in enumerate(names, start=1):
        write(mailbox / str(number), name)


def write(path: Path, name: str) -> None:
    path.write_bytes(sample(name))
    os.utime(path, (date(name), date(name)))


def sample(name: str) -> bytes:
    return (EXAMPLES / f"messages/{name}.eml").read_bytes()


def date(name: str) -> int:
    """When the message came, in seconds since 1970; never later than now, so that the sample is always the same."""
    return int(parsedate_to_datetime(message_from_bytes(sample(name))["Date"]).timestamp())


def find(mailbox: Path, name: str) -> Path:
    """The file of a sample in a Maildir."""
    [path] = mailbox.glob(f"cur/*.{name}.*")
    return path


if __name__ == "__main__":
    sys.exit(main())
