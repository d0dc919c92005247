"""A power cut at any moment: whatever msinfo remembers of a message, the message is on the disk.

Whole runs, whose calls into the operating system are noted; then a disk that keeps only what was synced: of a file what
it held at its last fsync, of a directory the names it had at its own.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import pytest

from mailsync import channel
from mailsync.drivers import delivery

from .mail import configure, maildir, message, run
from .servers.fake import EVERYTHING, FakeServer
from .tried import POWER

pytestmark = POWER

BOXES = ("one", "two", "deep/three")
COUNT = 9  # messages of each box
BATCH = 4
CHANNEL = "channel c far near { msinfo .msinfo }\n"


# ---- what a run does -------------------------------------------------------------------------------------------------


class Made(NamedTuple):
    path: str
    file: int


class MadeDirectory(NamedTuple):
    path: str


class Named(NamedTuple):
    """It has a further name, or `old` is its name no more."""

    old: str
    new: str
    moved: bool


class Removed(NamedTuple):
    path: str


class Synced(NamedTuple):
    file: int
    content: bytes


class SyncedDirectory(NamedTuple):
    path: str


class Remembered(NamedTuple):
    """What msinfo names from now on, whether it is on the disk or not: it may be."""

    ids: frozenset[str]


Event: TypeAlias = Made | MadeDirectory | Named | Removed | Synced | SyncedDirectory | Remembered


@dataclass
class Trace:
    """The calls of this process that concern files below a home."""

    home: Path
    events: list[Event] = field(default_factory=list)
    _files: dict[str, int] = field(default_factory=dict)  # by path
    _open: dict[int, str | int] = field(default_factory=dict)  # by descriptor: the path of a directory, or a file
    _count: int = 0
    _ids: frozenset[str] = frozenset()

    def opened(self, fd: int, path: str, is_new: bool) -> None:
        if is_new:
            self._count += 1
            self._files[path] = self._count
            self.events.append(Made(path, self._count))
        self._open[fd] = path if os.path.isdir(path) else self._files.get(path, 0)

    def synced(self, fd: int) -> None:
        what = self._open.get(fd, 0)
        if isinstance(what, str):
            self.events.append(SyncedDirectory(what))
        elif what:
            [path, *_] = (path for path, file in self._files.items() if file == what)
            self.events.append(Synced(what, Path(path).read_bytes()))

    def named(self, old: str, new: str, moved: bool) -> None:
        if old in self._files:
            self._files[new] = self._files.pop(old) if moved else self._files[old]
            self.events.append(Named(old, new, moved))

    def removed(self, path: str) -> None:
        if self._files.pop(path, None):
            self.events.append(Removed(path))

    def look(self) -> None:
        """Whatever was done may have changed msinfo."""
        msinfo = self.home / ".msinfo"
        text = msinfo.read_text(errors="replace") if msinfo.exists() else ""
        ids = frozenset(id for id in map(id_of, range(COUNT * len(BOXES))) if id in text)
        if ids != self._ids:
            self._ids = ids
            self.events.append(Remembered(ids))


@contextmanager
def traced(home: Path) -> Iterator[Trace]:
    trace = Trace(home)

    def full(path: Any, dir_fd: int | None = None) -> str:
        return os.path.abspath(os.fspath(path)) if isinstance(path, str | os.PathLike) and dir_fd is None else ""

    def wrapped(name: str, note: Callable[..., None]) -> Callable[..., Any]:
        real = getattr(os, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            answer = real(*args, **kwargs)
            note(answer, *args, **kwargs)
            trace.look()
            return answer

        return call

    def open_(path: Any, flags: int, *args: Any, **kwargs: Any) -> int:
        is_new = bool(flags & os.O_CREAT) and not os.path.lexists(path)
        fd = real_open(path, flags, *args, **kwargs)
        if place := full(path, kwargs.get("dir_fd")):
            trace.opened(fd, place, is_new)
        return fd

    def close(fd: int) -> None:
        trace._open.pop(fd, None)
        real_close(fd)

    real_open, real_close = os.open, os.close
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "open", open_)
        patch.setattr(os, "close", close)
        patch.setattr(os, "fsync", wrapped("fsync", lambda _, fd: trace.synced(fd)))
        patch.setattr(os, "fdatasync", wrapped("fdatasync", lambda _, fd: trace.synced(fd)))
        patch.setattr(
            os, "mkdir", wrapped("mkdir", lambda _, path, *_mode: trace.events.append(MadeDirectory(full(path))))
        )
        patch.setattr(os, "unlink", wrapped("unlink", lambda _, path, **_at: trace.removed(full(path))))
        for name in ("rename", "replace"):
            patch.setattr(os, name, wrapped(name, lambda _, old, new: trace.named(full(old), full(new), True)))
        patch.setattr(os, "link", wrapped("link", lambda _, old, new, **_at: trace.named(full(old), full(new), False)))
        for name in ("write", "pwrite", "sendfile", "ftruncate"):
            patch.setattr(os, name, wrapped(name, lambda *_: None))
        yield trace


# ---- a disk that keeps what was synced -------------------------------------------------------------------------------


@dataclass
class Disk:
    names: dict[str, int] = field(default_factory=dict)  # 0 for a directory
    kept_names: dict[str, int] = field(default_factory=dict)
    kept: dict[int, bytes] = field(default_factory=dict)

    def do(self, event: Event) -> None:
        match event:
            case Made(path, file):
                self.names[path] = file
            case MadeDirectory(path):
                self.names[path] = 0
            case Named(old, new, moved):
                self.names[new] = self.names[old]
                if moved:
                    del self.names[old]
            case Removed(path):
                del self.names[path]
            case Synced(file, content):
                self.kept[file] = content
            case SyncedDirectory(path):
                for names in (self.kept_names, self.names):
                    here = {name: file for name, file in names.items() if os.path.dirname(name) == path}
                    if names is self.kept_names:
                        for name in here:
                            del self.kept_names[name]
                    else:
                        self.kept_names |= here

    def after_a_power_cut(self, root: str) -> bytes:
        """All that can still be reached below this directory, which is none of the oldest."""
        found = []
        for path, file in self.kept_names.items():
            above = path
            while above.startswith(root) and above in self.kept_names:
                above = os.path.dirname(above)
            if file and path.startswith(f"{root}/") and not above.startswith(root):
                found.append(self.kept.get(file, b""))
        return b"".join(found)


def id_of(number: int) -> str:
    return f"<{number}@x>"


def lost(events: list[Event], root: Path) -> set[str]:
    """What is remembered and would be missing, were the power cut after any of these events."""
    disk, remembered, missing = Disk(), frozenset[str](), set[str]()
    for event in events:
        if isinstance(event, Remembered):
            remembered = event.ids
        else:
            disk.do(event)
        there = disk.after_a_power_cut(str(root))
        missing |= {id for id in remembered if text_of(id) not in there}
    return missing


def text_of(id: str) -> bytes:
    """The end of this message: all of it is there."""
    return f"the end of {id}\n".encode()


def raws(box: int) -> list[bytes]:
    return [message(n, b"x\n" * n + text_of(id_of(n))) for n in range(box * COUNT, (box + 1) * COUNT)]


@contextmanager
def far(home: Path, kind: str) -> Iterator[str]:
    """A store with mail; its configuration."""
    if kind == "maildir":
        for n, box in enumerate(BOXES):
            maildir(home / "far" / box, *raws(n))
        yield "store far { pat far/* prefix far/ }\n"
        return
    with FakeServer(EVERYTHING) as fake:
        for n, name in enumerate(BOXES):
            made = fake.store.create(name.encode())
            for raw in raws(n):
                made.add(raw.replace(b"\n", b"\r\n"))
        server = f"{{localhost:{fake.port}/user=alice/notls}}"
        yield f"store far {{ server {server} pat one pat two pat deep/* passwd secret }}\n"


def first_run(home: Path, kind: str, format: str, fsync: str) -> list[Event]:
    with far(home, kind) as store:
        near = f"store near {{ pat near/* prefix near/ format {format} fsync {fsync} }}\n"
        configure(home, store + near + CHANNEL)
        with traced(home) as trace:
            ran = run("c")
    assert (0, "") == (ran.code, ran.err), ran.err
    return trace.events


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(delivery, "BATCH", BATCH)
    monkeypatch.setattr(channel, "SAVE_AFTER", COUNT)  # msinfo is saved after each box


# ---- laws ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["maildir", "server"])
@pytest.mark.parametrize("format", ["maildir", "mh", "mbox"])
def test_power_cut_at_any_moment_loses_nothing_that_is_remembered(home: Path, kind: str, format: str) -> None:
    events = first_run(home, kind, format, "yes")

    assert COUNT * len(BOXES) == max(len(event.ids) for event in events if isinstance(event, Remembered))
    assert 1 < sum(isinstance(event, Remembered) for event in events)
    assert set() == lost(events, home / "near")


def test_this_disk_would_lose_what_is_not_synced(home: Path) -> None:
    events = first_run(home, "maildir", "maildir", "no")

    assert COUNT * len(BOXES) == len(lost(events, home / "near"))


@pytest.mark.parametrize("kind", ["maildir", "server"])
def test_message_is_synced_then_named_then_its_directory_synced_then_remembered(home: Path, kind: str) -> None:
    events = first_run(home, kind, "maildir", "yes")

    for number in range(COUNT * len(BOXES)):
        synced, named, directory, *above, remembered = steps_of(events, id_of(number), home)
        assert synced < named < directory < remembered
        assert all(kept < remembered for kept in above)


def steps_of(events: list[Event], id: str, home: Path) -> list[int]:
    """When the message was synced, named, its directory synced, with those above it that are new, and remembered."""

    def first(wanted: Callable[[Event], bool], after: int = -1) -> int:
        return next(n for n, event in enumerate(events) if n > after and wanted(event))

    def kept(path: str) -> int:
        """When a new directory was sure to stay."""
        return first(lambda e: e == SyncedDirectory(os.path.dirname(path)), first(lambda e: e == MadeDirectory(path)))

    synced = first(lambda e: isinstance(e, Synced) and e.content.endswith(text_of(id)))
    staged = [e.path for e in events if isinstance(e, Made) and e.file == getattr(events[synced], "file", 0)]
    named = first(lambda e: isinstance(e, Named) and [e.old] == staged)
    place = os.path.dirname(getattr(events[named], "new", ""))
    directory = first(lambda e: e == SyncedDirectory(place), named)
    remembered = first(lambda e: isinstance(e, Remembered) and id in e.ids)
    above = [str(path) for path in Path(place).parents if path != home and path.is_relative_to(home)]
    return [synced, named, directory, *map(kept, above), remembered]
