"""A disk in memory: files and directories, all that was done to them, and what a power cut leaves of that.

What was not synced may be lost: of a file all that was written since its last fsync, of a directory the names that came
and went since its own. A rename is done wholly or not at all; it stays once either of its directories is synced.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import TypeAlias

ROOT = 1  # the number of the root
SECTOR = 64


@dataclass(slots=True)
class Node:
    """A file, a link or a directory."""

    mode: int
    changed: int  # ns
    modified: int
    data: bytearray = field(default_factory=bytearray)
    names: dict[str, int] = field(default_factory=dict)  # of a directory
    links: int = 0

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def size(self) -> int:
        return len(self.data)


# ---- what can be done ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Make:
    """A new file or directory gets its first name."""

    node: int
    parent: int
    name: str
    mode: int

    def do(self, disk: Disk, now: int) -> None:
        disk.nodes.setdefault(self.node, Node(self.mode, now, now))
        disk.enter(self.parent, self.name, self.node, now)


@dataclass(frozen=True, slots=True)
class Link:
    node: int
    parent: int
    name: str

    def do(self, disk: Disk, now: int) -> None:
        disk.enter(self.parent, self.name, self.node, now)


@dataclass(frozen=True, slots=True)
class Rename:
    node: int
    parent: int
    name: str
    to: int
    new: str

    def do(self, disk: Disk, now: int) -> None:
        disk.leave(self.parent, self.name, self.node, now)
        disk.enter(self.to, self.new, self.node, now)


@dataclass(frozen=True, slots=True)
class Unlink:
    """Of a file or an empty directory."""

    node: int
    parent: int
    name: str

    def do(self, disk: Disk, now: int) -> None:
        disk.leave(self.parent, self.name, self.node, now)


@dataclass(frozen=True, slots=True)
class Write:
    node: int
    at: int
    data: bytes
    quiet: bool = False  # through a map: the kernel says when

    def do(self, disk: Disk, now: int) -> None:
        node = disk.nodes[self.node]
        node.data.extend(bytes(max(0, self.at - node.size)))
        node.data[self.at : self.at + len(self.data)] = self.data
        node.changed = node.modified = now


@dataclass(frozen=True, slots=True)
class Truncate:
    node: int
    size: int

    def do(self, disk: Disk, now: int) -> None:
        node = disk.nodes[self.node]
        node.data.extend(bytes(max(0, self.size - node.size)))
        del node.data[self.size :]
        node.changed = node.modified = now


@dataclass(frozen=True, slots=True)
class Grow:
    """What is left of a write that was not synced, where lengths come to the disk before contents."""

    node: int
    size: int

    def do(self, disk: Disk, now: int) -> None:
        node = disk.nodes[self.node]
        node.data.extend(bytes(max(0, self.size - node.size)))


@dataclass(frozen=True, slots=True)
class Attributes:
    """Another mode or time."""

    node: int
    mode: int | None
    modified: int | None

    def do(self, disk: Disk, now: int) -> None:
        node = disk.nodes[self.node]
        node.mode = node.mode if self.mode is None else self.mode
        node.modified = node.modified if self.modified is None else self.modified
        node.changed = now


@dataclass(frozen=True, slots=True)
class Sync:
    """fsync of a file or a directory."""

    node: int

    def do(self, disk: Disk, now: int) -> None:
        pass


Step: TypeAlias = Make | Link | Rename | Unlink | Write | Truncate | Grow | Attributes | Sync
NAMING = (Make, Link, Rename, Unlink)


@dataclass(frozen=True, slots=True)
class Done:
    """A step, when it was done, and the path that it concerns."""

    step: Step
    now: int
    path: str

    def __str__(self) -> str:
        step = self.step
        more = (
            f" -> {step.new}" if isinstance(step, Rename) else f" {step.data[:40]!r}" if isinstance(step, Write) else ""
        )
        return f"{type(step).__name__} {self.path}{more}"


# ---- a disk ----------------------------------------------------------------------------------------------------------


@dataclass
class Disk:
    """What is on it, after all that was done since `before`."""

    nodes: dict[int, Node] = field(default_factory=lambda: {ROOT: Node(stat.S_IFDIR | 0o755, 0, 0, links=1)})
    before: Disk | None = None
    done: list[Done] = field(default_factory=list)

    def enter(self, parent: int, name: str, node: int, now: int) -> None:
        directory = self.nodes[parent]
        self.leave(parent, name, directory.names.get(name, 0), now)
        directory.names[name] = node
        directory.changed = directory.modified = now
        self.nodes[node].links += 1
        self.nodes[node].changed = now

    def leave(self, parent: int, name: str, node: int, now: int) -> None:
        """The name stays if it is another's."""
        directory = self.nodes[parent]
        if node and directory.names.get(name) == node:
            del directory.names[name]
            directory.changed = directory.modified = now
            self.nodes[node].links -= 1
            self.nodes[node].changed = now

    def do(self, done: Done) -> None:
        done.step.do(self, done.now)
        self.done.append(done)

    def free(self) -> int:
        """A number for a new node. What a power cut takes away leaves its number to others, as on real disks."""
        return max(self.nodes) + 1

    def path_of(self, node: int) -> str:
        """One of its paths, relative to the root; that of an open file without a name is ?."""
        if node == ROOT:
            return ""
        for number, directory in self.nodes.items():
            for name, entry in directory.names.items():
                if entry == node:
                    return os.path.join(self.path_of(number), name)
        return "?"

    def walk(self, node: int = ROOT, path: str = "") -> Iterator[tuple[str, Node]]:
        """All that can be reached, directories before what is in them."""
        yield path, self.nodes[node]
        for name, entry in sorted(self.nodes[node].names.items()):
            yield from self.walk(entry, os.path.join(path, name))

    def files(self, under: str = "") -> dict[str, bytes]:
        return {
            path: bytes(node.data) for path, node in self.walk() if not node.is_directory and path.startswith(under)
        }

    def digest(self, but: str) -> str:
        """Tells it from others, `but` for what lies below that."""
        found = hashlib.sha256()
        for path, node in self.walk():
            if not (but and path.startswith(but)):
                found.update(repr((path, node.mode, node.modified, node.data)).encode())
        return found.hexdigest()

    def snapshot(self) -> Disk:
        """As it is now, to begin with: everything is durable, what has no name is gone."""
        reached = {ROOT, *(entry for _, node in self.walk() for entry in node.names.values())}
        nodes = {}
        for number in sorted(reached):
            one = self.nodes[number]
            nodes[number] = Node(one.mode, one.changed, one.modified, bytearray(one.data), dict(one.names), one.links)
        return Disk(nodes)

    # ---- crashes -----------------------------------------------------------------------------------------------------

    def killed(self, count: int) -> Disk:
        """What was there after so many steps."""
        assert self.before
        disk = self.before.snapshot()
        for done in self.done[:count]:
            disk.do(done)
        return disk.snapshot()

    def cut(self, count: int, survives: Survives) -> Disk:
        """The power was cut after so many steps: what was synced is there, of the rest what `survives` says."""
        assert self.before
        disk, durable = self.before.snapshot(), self._durable(count)
        for done in self.done[:count]:
            if isinstance(done.step, Make):  # what has no name cannot be reached
                disk.nodes[done.step.node] = Node(done.step.mode, done.now, done.now)
        for n, done in enumerate(self.done[:count]):
            for step in [done.step] if n in durable else survives(done.step):
                if n in durable or disk.allows(step):
                    step.do(disk, done.now)
        return disk.snapshot()

    def allows(self, step: Step) -> bool:
        """False for what follows from a step that is lost."""
        if isinstance(step, Rename | Unlink):
            return self.nodes[step.parent].names.get(step.name) == step.node
        return True

    def _durable(self, count: int) -> set[int]:
        """Which of the first steps are sure to stay."""
        unsynced: dict[int, list[int]] = {}  # by file or directory
        named: dict[int, list[int]] = {}  # by what has got or lost a name; in their order
        durable: set[int] = set()
        for n, done in enumerate(self.done[:count]):
            match done.step:
                case Sync(node):
                    durable.update(unsynced.pop(node, ()))
                case Write(node) | Truncate(node) | Attributes(node):
                    unsynced.setdefault(node, []).append(n)
                case Make(node, parent) | Link(node, parent) | Unlink(node, parent) | Rename(node, parent):
                    named.setdefault(node, []).append(n)
                    for directory in {parent, getattr(done.step, "to", parent)}:
                        unsynced.setdefault(directory, []).append(n)
        for steps in named.values():
            last = max((n for n in steps if n in durable), default=-1)
            durable.update(n for n in steps if n < last)
        return durable


Survives: TypeAlias = Callable[[Step], Sequence[Step]]  # what is left of a step that was not synced


def nothing(step: Step) -> Sequence[Step]:
    return ()


def names(step: Step) -> Sequence[Step]:
    """Names are there, what was written is not."""
    return (step,) if isinstance(step, NAMING) else ()


def contents(step: Step) -> Sequence[Step]:
    """What was written is there, names are not."""
    return () if isinstance(step, NAMING) else (step,)


def torn(step: Step) -> Sequence[Step]:
    """Of what was written there is the first half, in whole sectors: small ones, as what is written here is small."""
    if isinstance(step, Write):
        half = len(step.data) // 2 // SECTOR * SECTOR
        return (Write(step.node, step.at, step.data[:half], step.quiet),)
    return (step,)


def zeros(step: Step) -> Sequence[Step]:
    """Files have their lengths, but nothing is in what came to them. What was written over is as it was."""
    return (Grow(step.node, step.at + len(step.data)),) if isinstance(step, Write) else (step,)


def some(seed: int) -> Survives:
    """Each step may have come to the disk, or not."""
    random = Random(seed)
    return lambda step: (step,) if random.random() < 0.5 else ()


MODELS: dict[str, Callable[[int], Survives]] = {
    "nothing": lambda seed: nothing,
    "names": lambda seed: names,
    "contents": lambda seed: contents,
    "torn": lambda seed: torn,
    "zeros": lambda seed: zeros,
    "some": some,
}
