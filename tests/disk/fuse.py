"""A disk, mounted: what the kernel asks by /dev/fuse (linux/fuse.h) becomes steps, and a fault may be one's answer.

Spoken here and not through libfuse, so that nothing need be installed, and the kernel keeps all names and attributes:
it alone changes them. Only root can mount.
"""

from __future__ import annotations

import ctypes
import errno
import os
import pickle
import signal
import stat
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from .model import ROOT, Attributes, Disk, Done, Link, Make, Rename, Step, Sync, Truncate, Unlink, Write

DEVICE = "/dev/fuse"
PR_SET_PDEATHSIG = 1  # linux/prctl.h
NEWNS, REC, PRIVATE, NOSUID, NODEV = 0x20000, 0x4000, 1 << 18, 2, 4  # sched.h, sys/mount.h
LOOKUP, FORGET, GETATTR, SETATTR, MKNOD, MKDIR, UNLINK, RMDIR, RENAME, LINK = 1, 2, 3, 4, 8, 9, 10, 11, 12, 13
RENAME2 = 45
READ, WRITE, STATFS, FSYNC, INIT, READDIR, FSYNCDIR, DESTROY, BATCH_FORGET, INTERRUPT = (
    15, 16, 17, 20, 26, 28, 30, 38, 42, 36,
)  # fmt: skip
SILENT = {FORGET, BATCH_FORGET, INTERRUPT}  # have no answer
HEAD = struct.Struct("<IIQQIIIHH")  # length, opcode, unique, node, uid, gid, pid, ...
ANSWER = struct.Struct("<IiQ")
ATTR = struct.Struct("<QQQQQQIIIIIIIIII")
FOREVER = 10**9  # seconds
BUFFER = 1 << 20
BIG_WRITES, NO_OPEN, NO_OPENDIR = 1 << 5, 1 << 17, 1 << 24
WRITTEN_BY_MAP = 1
MODE, UID, GID, SIZE, MTIME, MTIME_NOW = 1, 2, 4, 8, 32, 256


class Refused(Exception):
    """The answer is an error number."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is to happen at one of the steps."""

    at: int = 0  # the first of those below `within`, counted from 0
    within: Sequence[str] = ("",)  # beginnings of paths
    error: int = 0  # this error; 0: the process is killed before the step
    kinds: tuple[type[Any], ...] = ()  # of steps that are counted; () = all
    always: bool = False  # and at all that follow
    short: bool = False  # half of what is written is taken, before the error comes with the next step

    def concerns(self, step: Step, path: str) -> bool:
        return (not self.kinds or isinstance(step, self.kinds)) and path.startswith(tuple(self.within))


@dataclass
class Server:
    """Serves a disk until it is unmounted."""

    disk: Disk
    fault: Fault | None
    fd: int
    passed: int = 0  # steps that the fault concerns
    hit: list[Done] = field(default_factory=list)  # those that failed
    frozen: bool = False  # the process was killed: whatever else it has asked for is not done

    def serve(self) -> None:
        answers: dict[int, Callable[[int, bytes], bytes]] = {
            LOOKUP: self.lookup, GETATTR: self.getattr, SETATTR: self.setattr, MKNOD: self.mknod, MKDIR: self.mkdir,
            UNLINK: self.unlink, RMDIR: self.unlink, RENAME: self.rename, RENAME2: self.rename2, LINK: self.link,
            READ: self.read, WRITE: self.write, STATFS: self.statfs, FSYNC: self.fsync, FSYNCDIR: self.fsync,
            READDIR: self.readdir, INIT: self.init, DESTROY: lambda node, body: b"",
        }  # fmt: skip
        while True:
            try:
                request = os.read(self.fd, BUFFER + 4096)
            except OSError as err:
                if err.errno in (errno.EINTR, errno.ENOENT):
                    continue
                return  # ENODEV: unmounted
            _, opcode, unique, node, _, _, self.pid, _, _ = HEAD.unpack_from(request)
            if opcode in SILENT:
                continue
            error, body = 0, b""
            try:
                if opcode not in answers:
                    raise Refused(errno.ENOSYS)
                body = answers[opcode](node, request[HEAD.size :])
            except Refused as refused:
                error = refused.args[0]
            with suppress(FileNotFoundError):  # nobody waits for it any more
                os.write(self.fd, ANSWER.pack(ANSWER.size + len(body), -error, unique) + body)

    # ---- what changes something --------------------------------------------------------------------------------------

    def do(self, step: Step, path: str) -> None:
        """Refused if the fault says so. What the kernel does by itself (no pid) is none of the process's steps."""
        if self.frozen:
            raise Refused(errno.EIO)
        fault, done = self.fault, Done(step, self.now(), path)
        if fault and fault.concerns(step, path) and self.pid > 0 and not getattr(step, "quiet", False):
            n, self.passed = self.passed, self.passed + 1
            if n == fault.at or (fault.always and n > fault.at):
                self.hit.append(done)
                if not fault.error:
                    self.frozen = True
                    os.kill(self.pid, signal.SIGKILL)
                if not (fault.short and isinstance(step, Write) and len(step.data) > 1 and len(self.hit) == 1):
                    raise Refused(fault.error or errno.EIO)
                half = Write(step.node, step.at, step.data[: len(step.data) // 2])
                self.disk.do(Done(half, done.now, path))
                raise Short(len(half.data))
        self.disk.do(done)

    def now(self) -> int:
        """No two steps at the same time."""
        last = self.disk.done[-1].now if self.disk.done else 0
        return max(time.time_ns(), last + 1)

    def setattr(self, node: int, body: bytes) -> bytes:
        valid, _, _, size, _, _, mtime, _, _, mtime_ns, _, mode, _, _, _, _ = struct.unpack_from(
            "<IIQQQQQQIIIIIIII", body
        )
        path = self.disk.path_of(node)
        if valid & SIZE:
            self.do(Truncate(node, size), path)
        if valid & (MODE | MTIME):
            there = self.disk.nodes[node].mode
            new_mode = stat.S_IFMT(there) | stat.S_IMODE(mode) if valid & MODE else None
            when = None if not valid & MTIME else time.time_ns() if valid & MTIME_NOW else mtime * 10**9 + mtime_ns
            self.do(Attributes(node, new_mode, when), path)
        return self.getattr(node, b"")

    def mknod(self, parent: int, body: bytes) -> bytes:
        mode, _, umask, _ = struct.unpack_from("<IIII", body)
        return self.make(parent, body[16:], mode & ~umask)

    def mkdir(self, parent: int, body: bytes) -> bytes:
        mode, umask = struct.unpack_from("<II", body)
        return self.make(parent, body[8:], stat.S_IFDIR | stat.S_IMODE(mode & ~umask))

    def make(self, parent: int, raw: bytes, mode: int) -> bytes:
        [name] = _names(raw)
        node = self.disk.free()
        self.do(Make(node, parent, name, mode), self.path(parent, name))
        return self.entry(node)

    def unlink(self, parent: int, body: bytes) -> bytes:
        [name] = _names(body)
        node = self.child(parent, name)
        if self.disk.nodes[node].names:
            raise Refused(errno.ENOTEMPTY)
        self.do(Unlink(node, parent, name), self.path(parent, name))
        return b""

    def rename(self, parent: int, body: bytes) -> bytes:
        (to,) = struct.unpack_from("<Q", body)
        return self.renamed(parent, to, body[8:])

    def rename2(self, parent: int, body: bytes) -> bytes:
        """One that replaces nothing: the kernel has looked."""
        (to,) = struct.unpack_from("<Q", body)
        return self.renamed(parent, to, body[16:])

    def renamed(self, parent: int, to: int, raw: bytes) -> bytes:
        name, new = _names(raw)
        if (there := self.disk.nodes[to].names.get(new)) and self.disk.nodes[there].names:
            raise Refused(errno.ENOTEMPTY)
        self.do(Rename(self.child(parent, name), parent, name, to, new), self.path(to, new))
        return b""

    def link(self, parent: int, body: bytes) -> bytes:
        (node,) = struct.unpack_from("<Q", body)
        [name] = _names(body[8:])
        self.do(Link(node, parent, name), self.path(parent, name))
        return self.entry(node)

    def write(self, node: int, body: bytes) -> bytes:
        _, at, size, flags, _, _, _ = struct.unpack_from("<QQIIQII", body)
        quiet = bool(flags & WRITTEN_BY_MAP)
        try:
            self.do(Write(node, at, body[40 : 40 + size], quiet), self.disk.path_of(node))
        except Short as short:
            size = short.args[0]
        return struct.pack("<II", size, 0)

    def fsync(self, node: int, body: bytes) -> bytes:
        self.do(Sync(node), self.disk.path_of(node))
        return b""

    # ---- what changes nothing ----------------------------------------------------------------------------------------

    def init(self, node: int, body: bytes) -> bytes:
        _, _, read_ahead, flags = struct.unpack_from("<IIII", body)
        flags &= BIG_WRITES | NO_OPEN | NO_OPENDIR
        return struct.pack("<IIIIHHIIHH28x", 7, 31, read_ahead, flags, 16, 12, BUFFER, 1, 0, 0)

    def lookup(self, parent: int, body: bytes) -> bytes:
        [name] = _names(body)
        node = self.disk.nodes[parent].names.get(name)
        return self.entry(node) if node else struct.pack("<QQQQII", 0, 0, FOREVER, 0, 0, 0) + bytes(ATTR.size)

    def getattr(self, node: int, body: bytes) -> bytes:
        return struct.pack("<QII", FOREVER, 0, 0) + self.attributes(node)

    def entry(self, node: int) -> bytes:
        return struct.pack("<QQQQII", node, 0, FOREVER, FOREVER, 0, 0) + self.attributes(node)

    def attributes(self, node: int) -> bytes:
        it = self.disk.nodes[node]
        modified, changed = divmod(it.modified, 10**9), divmod(it.changed, 10**9)
        times = (modified[0], modified[0], changed[0], modified[1], modified[1], changed[1])
        blocks = (it.size + 511) // 512
        return ATTR.pack(node, it.size, blocks, *times, it.mode, max(1, it.links), os.getuid(), os.getgid(), 0, 4096, 0)

    def read(self, node: int, body: bytes) -> bytes:
        _, at, size = struct.unpack_from("<QQI", body)
        return bytes(self.disk.nodes[node].data[at : at + size])

    def readdir(self, node: int, body: bytes) -> bytes:
        _, at, size = struct.unpack_from("<QQI", body)
        found = [(".", node), ("..", ROOT), *sorted(self.disk.nodes[node].names.items())]
        text = b""
        for n, (name, number) in enumerate(found[at:], at + 1):
            raw = os.fsencode(name)
            kind = stat.S_IFMT(self.disk.nodes[number].mode) >> 12
            entry = struct.pack("<QQII", number, n, len(raw), kind) + raw
            entry += bytes(-len(entry) % 8)
            if len(text) + len(entry) > size:
                break
            text += entry
        return text

    def statfs(self, node: int, body: bytes) -> bytes:
        return struct.pack("<QQQQQIIII24x", 10**6, 10**6, 10**6, 10**6, 10**6, 4096, 255, 4096, 0)

    def child(self, parent: int, name: str) -> int:
        if name not in self.disk.nodes[parent].names:
            raise Refused(errno.ENOENT)
        return self.disk.nodes[parent].names[name]

    def path(self, parent: int, name: str) -> str:
        return os.path.join(self.disk.path_of(parent), name)


class Short(Exception):
    """So many bytes were written."""


def _names(raw: bytes) -> list[str]:
    return [os.fsdecode(name) for name in raw.split(b"\0")[:-1]]


# ---- mounted ---------------------------------------------------------------------------------------------------------


@dataclass
class Mounted:
    """What became of a disk while it was mounted; complete once it no longer is."""

    disk: Disk
    passed: int = 0
    hit: Sequence[Done] = ()


@cache
def why_not() -> str:
    """Why no disk can be mounted here; empty if it can."""
    if os.geteuid():
        return "only root can mount disks"
    if not os.path.exists(DEVICE):
        return f"there is no {DEVICE} here"
    pid = os.fork()  # what is tried leaves no trace
    if not pid:
        try:
            be_private()
            call("mount", b"none", b"/mnt", b"tmpfs", 0, None)
        except OSError:
            os._exit(1)
        os._exit(0)
    return "no disk can be mounted in this container" if os.waitpid(pid, 0)[1] else ""


@contextmanager
def mounted(disk: Disk, where: Path, fault: Fault | None = None) -> Iterator[Mounted]:
    """The disk, at an empty directory of this process and its children."""
    be_private()
    state = Mounted(disk)
    where.mkdir(exist_ok=True)
    fd = os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    call("mount", b"disk", os.fsencode(where), b"fuse.disk", NOSUID | NODEV, _options(fd))
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if not pid:
        _serve(Server(Disk(disk.snapshot().nodes, disk.snapshot()), fault, fd), writing)
    os.close(fd)
    os.close(writing)
    try:
        yield state
    finally:
        _unmount(where)
        with open(reading, "rb") as pipe:
            raw = pipe.read()
        os.waitpid(pid, 0)
        state.disk, state.passed, state.hit = pickle.loads(raw)


def _serve(server: Server, writing: int) -> None:
    """In a process of its own, which ends here."""
    try:
        call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)
        server.serve()
        with open(writing, "wb") as pipe:
            pickle.dump((server.disk, server.passed, server.hit), pipe)
    except BaseException:
        traceback.print_exc(file=sys.__stderr__)
    finally:
        os._exit(0)


_private: list[bool] = []


def be_private() -> None:
    """What is mounted from now on only this process and its children see, and it goes with them."""
    if not _private:
        call("unshare", NEWNS)
        call("mount", b"none", b"/", None, REC | PRIVATE, None)
        _private.append(True)


def _options(fd: int) -> bytes:
    return f"fd={fd},rootmode=40755,user_id={os.getuid()},group_id={os.getgid()},default_permissions".encode()


def _unmount(where: Path) -> None:
    try:
        call("umount2", os.fsencode(where), 0)
    except OSError:
        call("umount2", os.fsencode(where), 3)  # MNT_FORCE | MNT_DETACH


_libc = ctypes.CDLL(None, use_errno=True)


def call(name: str, *args: object) -> None:
    if getattr(_libc, name)(*args):
        raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
