"""The bytes of an mbox, and of a message in it, read as they are asked for.

No map of the file: a program that ignores locks and cuts it short, or a disk that fails, would end the whole process.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from .files import FileError, to_wire
from .mboxtext import Source, Span, plain

WINDOW = 256 * 1024  # what was read last is kept: most is asked for in order


class FileData:
    """A file up to a size. FileError where it has become shorter, or cannot be read."""

    def __init__(self, fd: int, size: int) -> None:
        self._fd, self._size = os.dup(fd), size
        self._begin = self._end = 0  # of what is kept
        self._kept = b""

    def close(self) -> None:
        """Nothing can be read any more: not what another file has that gets this descriptor's number."""
        fd, self._fd = self._fd, -1
        self.forget()
        os.close(fd)

    def forget(self) -> None:
        """What was read: it may have been written over."""
        self._begin = self._end = 0
        self._kept = b""

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, part: slice) -> bytes:
        start, stop, begin = part.start, part.stop, self._begin
        if start is None or stop is None or start < begin or stop > self._end:
            start, stop, _ = part.indices(self._size)
            if start >= stop:
                return b""
            if start < begin or stop > self._end:
                self._read(start, max(stop - start, min(WINDOW, self._size - start)))
            begin = self._begin
        return self._kept[start - begin : stop - begin]

    def find(self, sub: bytes, start: int, end: int) -> int:
        """Looks no further than it must."""
        size = 8 * 1024
        while start < end:
            stop = min(start + size, end)
            found = self[start:stop].find(sub)
            if found >= 0:
                return start + found
            if stop == end:
                break
            start = stop - len(sub) + 1
            size *= 2
        return -1

    def rfind(self, sub: bytes, start: int, end: int) -> int:
        """Looks no further back than it must."""
        size = 8 * 1024
        while start < end:
            begin = max(start, end - size)
            found = self[begin:end].rfind(sub)
            if found >= 0:
                return begin + found
            if begin == start:
                break
            end = begin + len(sub) - 1
            size *= 2
        return -1

    def _read(self, start: int, size: int) -> None:
        try:
            self._kept = os.pread(self._fd, size, start)
        except OSError as err:
            raise FileError(err.errno, err.strerror) from err
        self._begin, self._end = start, start + len(self._kept)
        if len(self._kept) < size:
            raise FileError(errno.EIO, "the file became shorter while it was read")


@dataclass(frozen=True, slots=True)
class MboxBody:
    """A message in its file: gone when the box is closed."""

    data: Source
    span: Span
    crlf: bool

    def size(self, *, wire: bool) -> int:
        return sum(map(len, self.chunks(wire=wire)))

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        chunks = plain(self.data, self.span, self.crlf)
        return to_wire(chunks) if wire else chunks
