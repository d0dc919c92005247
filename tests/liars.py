"""A run against a server that lies, and what must be true of it whatever the lie was.

Two stores are equal, then each gets news: that is the scene. A lie is told in the run that would bring the news over.
Then the server is honest again, and the next run does what the first would have done.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from .mail import Ran, configure, crlf, digest, digests, forget_cache, maildir, message, run, run_within_bounds
from .servers.fake import EVERYTHING, Edit, FakeServer, Trap

LONGEST_WORDS = 20_000  # characters of all that is said about a lie
CAPABILITIES = EVERYTHING | {"ESEARCH"}
QRESYNC = CAPABILITIES | {"QRESYNC"}
# The waits before something is tried again are not waited for.
NO_WAITS = "from mailsync import stopping\nstopping.sleep = lambda seconds: None\n"


@dataclass(frozen=True)
class Lie:
    """What a server does in one run; which exit codes that may end with, and what is then said."""

    name: str
    tell: Callable[[FakeServer], object]
    codes: Set[int] = frozenset({0, 1, 6})
    words: str = ""  # a pattern
    heavy: bool = False  # it is tried on how much a run takes: in a process of its own
    capabilities: Set[str] = CAPABILITIES
    spoils: bool = False  # the server itself does to its mail what nobody wanted
    says_gone: bool = False  # that a message is gone, which may be deleted then, and is kept for a while
    flags: bool = True  # those that it tells are true
    about: str = "far"  # what it is that an error names, if neither the store nor one of its mailboxes
    options: str = ""  # of the store
    stalls: bool = False  # its run waits for what does not come: it is not given a minute, as honest ones are

    def __str__(self) -> str:
        return self.name


@dataclass
class Rewrite:
    """For `Edit`. It must come true: else nothing was tried."""

    pattern: bytes
    by: bytes | Callable[[re.Match[bytes]], bytes]
    done: int = 0

    def __call__(self, answer: bytes) -> bytes:
        new, count = re.subn(self.pattern, self.by, answer)
        self.done += count
        return new


def trapped(*traps: Trap) -> Callable[[FakeServer], object]:
    return lambda server: server.script.extend(traps)


@dataclass
class Scene:
    """A home with a Maildir, an account with the same mail, and news on both sides that no run has seen."""

    home: Path
    server: FakeServer
    options: str = ""  # of the store on the server
    before: dict[str, Counter[str]] = field(default_factory=dict)  # of what nobody deletes: digests by side
    files: Set[str] = frozenset()  # of the home, but for mail, cache and state

    def __post_init__(self) -> None:
        self.configure()
        maildir("Mail/x", *map(message, "123"))
        assert (0, "") == self.honest("c")
        self.server.store[b"x"].add(crlf(message("4")))
        self.server.store[b"x"].set_flags(2, [rb"\Flagged"])
        new = self.home / "Mail/x/cur/1800000000.5.x:2,S"
        new.write_bytes(message("5"))
        one, _, three = sorted((self.home / "Mail/x/cur").glob("17*"))
        one.rename(f"{one}S")
        three.unlink()
        maildir("Mail/z", message("6"))
        self.before = {"near": self.near(), "far": self.far()}
        self.before["far"][name_of("3")] = 0  # to be deleted
        self.files = self.outside()

    def configure(self, more: str = "") -> None:
        where = f"server {{127.0.0.1:{self.server.port}/user=alice/notls}} passwd secret"
        far = f"store far {{ {where} {self.options} {more} }}\n"
        near = "store near { pat Mail/* prefix Mail/ format maildir fsync no }\n"
        configure(self.home, near + far + "channel c near far { msinfo .msinfo }\n")

    @staticmethod
    def honest(*args: str) -> tuple[int, str]:
        ran = run(*args)
        return ran.code, ran.err

    def near(self) -> Counter[str]:
        return Counter(str(one) for box in digests(self.home, "Mail/*").values() for one in box)

    def far(self, *, trash: bool = True) -> Counter[str]:
        boxes = [box for name, box in self.server.store.items() if trash or name != b"Trash"]
        raws = (one.raw.replace(b"\r\n", b"\n") for box in boxes for one in box.messages)
        return Counter(map(digest_of, raws))

    def kept(self) -> Counter[str]:
        """What --undo would put back."""
        files = (path for path in (self.home / ".local").rglob("cur/*"))
        return Counter(digest_of(path.read_bytes()) for path in files)

    def outside(self) -> Set[str]:
        """All that lies outside of the store and of our own directories."""
        found = {str(path.relative_to(self.home.parent)) for path in self.home.parent.rglob("*")}
        return frozenset(name for name in found if not name.startswith(("home/Mail/", "home/.cache", "home/.local")))

    # ---- the law -----------------------------------------------------------------------------------------------------

    def check(self, lie: Lie, *, apart: bool, planted: str = "") -> Ran:
        """Tell the lie, then the truth."""
        lie.tell(self.server)
        met = [trap.met for trap in self.server.script]
        if lie.stalls:
            self.configure("timeout 1")
        ran = run_within_bounds(self.home, "c", planted=NO_WAITS + planted) if apart else run("c")
        self.configure()
        assert [trap.met for trap in self.server.script] != met or not met
        edits = [trap.action.change for trap in self.server.script if isinstance(trap.action, Edit)]
        assert all(edit.done for edit in edits if isinstance(edit, Rewrite))
        self.server.script.clear()
        self.server.capabilities = lie.capabilities
        self.check_words(lie, ran)
        self.check_mail(lie)
        if not (lie.spoils or lie.says_gone):
            self.check_healed(lie)
        return ran

    @staticmethod
    def check_words(lie: Lie, ran: Ran) -> None:
        assert ran.code in lie.codes, ran
        assert not re.search(r"Traceback|bug in mailsync|out of memory|MemoryError|KeyError|AssertionError", ran.err), (
            ran
        )
        assert re.search(lie.words, ran.err), ran
        assert len(ran.out + ran.err) < LONGEST_WORDS, ran
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]", ran.out + ran.err), ran
        if ran.code:
            assert re.search(rf"(?m)^mailsync: .*\b(far|x|z|INBOX|127\.0\.0\.1|{lie.about})\b", ran.err), ran

    def check_mail(self, lie: Lie) -> None:
        """Nothing is deleted that nobody deleted, nothing is there twice, and nothing is where it should not be."""
        near, far = self.near(), self.far()
        assert not self.before["near"] - near - (self.kept() if lie.says_gone else Counter())
        assert lie.spoils or not self.before["far"] - far
        assert 1 >= max(near[name_of(name)] for name in "123456")
        assert self.outside() - self.files <= {"home/.msinfo"}

    def check_healed(self, lie: Lie) -> None:
        """With an honest server all is done; and then there is nothing to be done."""
        assert 0 == run("--retry", "c").code
        forget_cache(self.home)
        assert [] == run("-s", "--json", "c").steps
        assert Counter(map(name_of, "12456")) <= self.near()
        assert {name_of(name): self.near()[name_of(name)] for name in "123456"} == {
            name_of(name): self.far(trash=False)[name_of(name)] for name in "123456"
        }
        if lie.flags:
            assert [{rb"\Seen"}, {rb"\Flagged"}] == [self.flags("1"), self.flags("2")]

    def flags(self, name: str) -> set[bytes]:
        return next(one.flags for one in self.server.store[b"x"].messages if one.raw == crlf(message(name)))


def digest_of(raw: bytes) -> str:
    return str(digest(raw))


def name_of(name: str) -> str:
    """The digest of one of the scene's messages."""
    return digest_of(message(name))


@contextmanager
def scene(home: Path, lie: Lie) -> Iterator[Scene]:
    with FakeServer(lie.capabilities) as server:
        server.store.create(b"x")
        yield Scene(home, server, lie.options)
