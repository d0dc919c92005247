"""Mail for tests: odd messages, stores filled with them and read back, a home with a configuration, a run in it."""

from __future__ import annotations

import ctypes
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from mailsync import cli
from mailsync.drivers import files
from mailsync.drivers.contract import Driver, Wanted
from mailsync.drivers.formats import Local
from mailsync.drivers.local import LocalStore
from mailsync.drivers.memory import Bytes
from mailsync.identity import examine, identify
from mailsync.model import NONE, Digest, Entry, Failure, Flags, Listing, Mailbox, Message, MessageId, Token, Uid
from mailsync.unchanged import TICK, is_past

MSGID = identify("msgid")
NEW_YEAR = 1704067200  # 2024, as UTC
STOPPED = "stopped; what was done until then is remembered"
BUGS = ("Traceback", "Exception ignored", "bug in mailsync")  # what is never said
PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER = 24, 1, 2, 3  # linux/prctl.h, capability.h


def message(name: object = "1", text: bytes = b"hi\n") -> bytes:
    """An ordinary message, with `<NAME@x>` as its id."""
    head = f"From: a@x\nTo: b@x\nSubject: mail {name}\nMessage-ID: <{name}@x>\nDate: Mon, 1 Jan 2024 00:00:00 +0000\n\n"
    return head.encode() + text


def crlf(raw: bytes) -> bytes:
    """As it goes over the wire."""
    return raw.replace(b"\n", b"\r\n")


ODD: Mapping[str, bytes] = {
    "no-header": b"\nonly a body\n",
    "only-header": b"From: a@x\nMessage-ID: <only-header@x>\n",
    "header-and-blank-line": b"From: a@x\nMessage-ID: <blank-line@x>\n\n",
    "no-final-newline": message("no-final-newline", b"the end"),
    "header-without-newline": b"Message-ID: <header-without-newline@x>",
    "empty": b"",
    "nul": message("nul", b"a\0b\0\0\n\0"),
    "nul-in-header": b"Subject: a\0b\nMessage-ID: <nul-in-header@x>\n\nhi\n",
    "8-bit-header": b"From: J\xfcrgen <j@x>\nSubject: \xe4\xf6\xfc \xff\nMessage-ID: <8-bit@x>\n\nhi\n",
    "8-bit-id": b"Subject: x\nMessage-ID: <\xe4\xff@x>\n\nhi\n",
    "bare-cr": message("bare-cr", b"a\rb\r\rc\n\rd\r"),
    "crlf": crlf(message("crlf", b"a\nb\n\n")),
    "crlf-body": message("crlf-body", b"a\r\nb\nc\r\n"),
    "from-lines": message("from-lines", b"From me\n>From you\n>>From x Mon Jan  1 10:00:00 2024\n"),
    "postmark-in-body": message("postmark-in-body", b"\nFrom x@y Mon Jan  1 10:00:00 2024\n\nFrom x\n"),
    "from-in-header": b"From x@y Mon Jan  1 10:00:00 2024\nMessage-ID: <from-in-header@x>\n\nhi\n",
    "quoted-from-first": b">From x@y Mon Jan  1 10:00:00 2024\nMessage-ID: <quoted-from@x>\n\nhi\n",
    "long-line": message("long-line", b"x" * 1_000_000 + b"\n"),
    "long-header-line": b"X-Long: " + b"y" * 100_000 + b"\nMessage-ID: <long-header@x>\n\nhi\n",
    "blank-line-first": b"\n\nFrom: a@x\nMessage-ID: <blank-first@x>\n\nhi\n",
    "blank-lines-last": message("blank-lines-last", b"hi\n\n\n\n"),
    "no-colon": b"this is no header\nnor is this\n\nhi\n",
    "folded-first": b" folded: before\n any name\nMessage-ID: <folded-first@x>\n\nhi\n",
    "own-status": b"Status: RO\nX-Status: AF\nSubject: x\nX-Keywords: a b\nMessage-ID: <own-status@x>\n\nhi\n",
}


@dataclass(frozen=True, slots=True)
class Mail:
    """A message that is to be put into a mailbox."""

    raw: bytes
    flags: Flags = NONE
    date: int = NEW_YEAR


class Kept(NamedTuple):
    """A message as a mailbox has it."""

    id: MessageId
    exact: Digest
    flags: Flags
    date: int


def kept(mail: Mail) -> Kept:
    """What a mailbox should have of it."""
    head = mail.raw if mail.raw.startswith(b"\n") else mail.raw.partition(b"\n\n")[0].partition(b"\n\r\n")[0]
    head = b"" if mail.raw.startswith((b"\n", b"\r\n")) else head + b"\n"
    return Kept(MSGID(head) or MSGID.whole([mail.raw]), digest(mail.raw), mail.flags, mail.date)


def digest(raw: bytes) -> Digest:
    return examine([raw]).exact


# ---- stores ----------------------------------------------------------------------------------------------------------


def local(home: Path, *patterns: str, format: str | None = None) -> LocalStore:
    return LocalStore(str(home), patterns=patterns, format=format, fsync=False, environ={"USER": "nobody-here"})


def put(driver: Driver, mailbox: str, mails: Iterable[Mail]) -> list[Uid]:
    """Append to a mailbox, which is made if it is not there."""
    driver.create(Mailbox(mailbox))
    messages = (Message(Uid(f"new {n}"), m.flags, m.date, Bytes(m.raw)) for n, m in enumerate(mails))
    uids = []
    with driver.open(Mailbox(mailbox), write=True) as box:
        for answer in box.append(messages):
            assert not isinstance(answer, Failure), answer
            assert answer.uid is not None
            uids.append(answer.uid)
    return uids


def listing(driver: Driver, mailbox: str) -> Listing:
    [(_, found)] = driver.listings([Wanted(Mailbox(mailbox))], MSGID)
    assert isinstance(found, Listing), found
    return found


def entries(driver: Driver, mailbox: str) -> list[Entry]:
    return list(listing(driver, mailbox).entries)


def raws(driver: Driver, mailbox: str) -> list[bytes]:
    """The bytes of all messages that are listed, in their order."""
    uids = [entry.uid for entry in entries(driver, mailbox)]
    found = []
    with driver.open(Mailbox(mailbox), write=False) as box:
        for got in box.fetch(uids):
            assert isinstance(got, Message), got
            found.append(b"".join(got.body.chunks(wire=False)))
    return found


def read(driver: Driver, mailbox: str) -> list[Kept]:
    """All messages of a mailbox, sorted, as they are compared between formats."""
    ids = {entry.uid: entry.id for entry in entries(driver, mailbox)}
    found = []
    with driver.open(Mailbox(mailbox), write=False) as box:
        for got in box.fetch(list(ids)):
            assert isinstance(got, Message), got
            exact = examine(got.body.chunks(wire=False)).exact
            found.append(Kept(ids[got.uid], exact, got.flags, got.date))
    return sorted(found, key=lambda one: (one.id, one.exact))


def read_home(home: Path, pattern: str, format: str | None = None) -> dict[str, list[Kept]]:
    """All mailboxes that match."""
    driver = local(home, pattern, format=format)
    return {info.mailbox: read(driver, info.mailbox) for info in driver.boxes([pattern]) if info.selectable}


def digests(home: Path, pattern: str, format: str | None = None) -> dict[str, list[Digest]]:
    """What tells whether mail was lost or doubled: the digests of each mailbox."""
    return {name: sorted(one.exact for one in box) for name, box in read_home(home, pattern, format).items()}


def maildir(path: Path | str, *messages: bytes) -> list[Path]:
    """A Maildir with these messages as unseen ones, made without any driver."""
    for part in ("cur", "new", "tmp"):
        os.makedirs(os.path.join(path, part), exist_ok=True)
    files = [Path(path, "cur", f"{1_700_000_000 + n}.{n}.x:2,") for n in range(len(messages))]
    for file, raw in zip(files, messages, strict=True):
        file.write_bytes(raw)
    return files


def mbox(path: Path | str, *messages: bytes) -> None:
    """An mbox with these messages, which need no quoting, made without any driver."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    postmark = b"From a@x Mon Jan  1 00:00:00 2024\n"
    Path(path).write_bytes(b"".join(postmark + raw + b"\n" for raw in messages))


# ---- a run -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Ran:
    """What a command line came to."""

    code: int
    out: str
    err: str

    @property
    def events(self) -> list[dict[str, Any]]:
        """With --json."""
        return [json.loads(line) for line in self.out.splitlines()]

    @property
    def steps(self) -> list[dict[str, Any]]:
        return [event for event in self.events if event["event"] in ("copy", "flags", "delete", "create", "remove")]


def configure(home: Path, text: str) -> None:
    file = home / ".mailsync"
    file.write_text(text)
    file.chmod(0o600)


def run(*args: str) -> Ran:
    """mailsync in this process, with the home of the `home` fixture."""
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = cli.main(args)
    return Ran(code, out.getvalue(), err.getvalue())


def run_apart(home: Path, *args: str, before: Callable[[], None] | None = None) -> Ran:
    """mailsync in a process of its own. `before` runs in it first: limits, mounts, fewer rights."""
    done = subprocess.run(
        [sys.executable, "-m", "mailsync", *args],
        env={**os.environ, "HOME": str(home)},
        cwd=home,
        capture_output=True,
        timeout=100,
        preexec_fn=before,
    )
    return Ran(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


MOST_MEMORY, MOST_SECONDS = 200_000, 10  # kB; of the processor: the clock would count what else the machine does
ADDRESS_SPACE = 1_500_000_000  # bytes; what is allocated without being touched is seen here
# Not ru_maxrss: that begins with the size of the process that starts this one.
_MEASURED = """
import re, runpy, sys
sys.argv[0] = "mailsync"
try:
    runpy.run_module("mailsync", run_name="__main__")
finally:
    print("\\n" + re.search(r"VmHWM:\\s*(\\d+) kB", open("/proc/self/status").read())[1], file=sys.stderr)
"""


def run_within_bounds(home: Path, *args: str, stdin: bytes = b"", planted: str = "") -> Ran:
    """mailsync in a process that may take little memory and time; it fails without a traceback, if at all.

    `planted`: what the process does first.
    """

    def bounded() -> None:
        resource.setrlimit(resource.RLIMIT_CPU, (MOST_SECONDS, MOST_SECONDS + 1))
        resource.setrlimit(resource.RLIMIT_AS, (ADDRESS_SPACE, ADDRESS_SPACE))

    done = subprocess.run(
        [sys.executable, "-c", planted + _MEASURED, *args],
        env={**os.environ, "HOME": str(home)},
        cwd=home,
        input=stdin,
        capture_output=True,
        timeout=100,
        preexec_fn=bounded,
    )
    assert done.returncode >= 0, f"ended by signal {-done.returncode}"  # SIGXCPU: too long
    err, _, memory = done.stderr.decode(errors="replace").removesuffix("\n").rpartition("\n")
    assert "Traceback" not in err, err
    assert "a bug in mailsync" not in err, err
    assert int(memory) < MOST_MEMORY, f"{int(memory) // 1000} MB"
    return Ran(done.returncode, done.stdout.decode(errors="replace"), err)


def within(seconds: float, is_so: Callable[[], bool]) -> bool:
    """Whether that comes true in this time: of what a peer does when we are done already."""
    until = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > until:
            return False
        time.sleep(0.005)
    return True


def signalled(home: Path, signum: int, stuck: Callable[[], bool], go_on: Callable[[], None], *options: str) -> Ran:
    """`mailsync c` in a process that gets a signal once it is stuck, and ends, though nothing goes on before."""
    words = [sys.executable, "-m", "mailsync", *options, "c"]
    process = subprocess.Popen(words, cwd=home, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert stuck()
        process.send_signal(signum)
        out, err = process.communicate(timeout=60)
    finally:
        go_on()
        with suppress(OSError):
            process.kill()
        process.wait()
    return Ran(process.returncode, out, err)


def obey_permissions() -> None:
    """For `before`: root, too, may read and write only what the modes of files allow."""
    if os.geteuid() == 0:
        libc = ctypes.CDLL(None, use_errno=True)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER):
            if libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0):
                raise OSError(ctypes.get_errno(), "rights cannot be given up")


@contextmanager
def ordinary_rights() -> Iterator[None]:
    """As `obey_permissions`, in this process and for a while."""
    if os.geteuid():
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header, rights = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()  # capget(2), version 3
    assert libc.capget(header, rights) == 0
    effective = rights[0]
    for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER):
        rights[0] &= ~(1 << capability)
    assert libc.capset(header, rights) == 0
    try:
        yield
    finally:
        rights[0] = effective
        assert libc.capset(header, rights) == 0


def forget_cache(home: Path) -> None:
    shutil.rmtree(home / ".cache", ignore_errors=True)


def pause() -> None:
    """Until a change from now on would show: the clock of a file system moves in steps."""
    since = time.time_ns()
    while not is_past(since):
        time.sleep(TICK / 4)


def resting(box: Local) -> Token:
    """The token of a mailbox, once any change from then on would make it another one."""
    for _ in range(1000):
        if token := files.token(box.sight().values()):
            return token
        time.sleep(0.005)
    raise TimeoutError
