"""The bytes of a message that came from a server, as both kinds of stores want them. Knows no protocol.

A large message lies in a file without a name, so that memory stays small and an APPEND never begins before all of it is
here: once begun, a literal can only be finished or the connection given up.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from ...header import reduced
from ..contract import AtOnce
from ..files import to_wire, wire_size
from .tokens import Literal

IN_MEMORY = 1024 * 1024  # bytes
CHUNK = 256 * 1024


def keep(pieces: Iterable[bytes], size: int) -> Literal:
    """Take in `size` bytes. OSError if the disk is full."""
    if size <= IN_MEMORY:
        return Literal(b"".join(pieces))
    import tempfile  # with random and shutil, for what few mailboxes hold

    file = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as the message
    try:
        for piece in pieces:
            file.write(piece)
    except BaseException:
        file.close()
        raise
    return Literal(file)


@dataclass(frozen=True, slots=True)
class ServerBody(AtOnce):
    """A message as a server gave it."""

    literal: Literal

    def size(self, *, wire: bool) -> int:
        return sum(map(len, self.chunks(wire=wire)))

    def head(self) -> bytes:
        """The header block, without the empty line at its end; of one that is too long what tells the message."""
        data = self.literal.data
        text = data if isinstance(data, bytes) else next(_read(data), b"")
        end = text.find(b"\r\n\r\n")
        if text.startswith(b"\r\n"):
            return b""
        if end >= 0:
            return text[: end + 2]
        return text if isinstance(data, bytes) else reduced(self.chunks(wire=False))

    def at_once(self) -> tuple[bytes, int] | None:
        text = self.literal.data
        if not isinstance(text, bytes):
            return None
        local, is_wire = _without_cr(text)
        return local, len(text) if is_wire else wire_size(local)

    def chunks(self, *, wire: bool) -> Iterator[bytes]:
        """`wire`: as it came, but for line ends that are no CRLF. Else each CRLF is LF, and nothing else changes."""
        data = self.literal.data
        pieces = (data,) if isinstance(data, bytes) else _read(data)
        return to_wire(pieces) if wire else map(to_local, _whole_ends(pieces))


def to_local(text: bytes) -> bytes:
    """Each CRLF becomes LF."""
    return _without_cr(text)[0]


def _without_cr(text: bytes) -> tuple[bytes, bool]:
    """Each CRLF as LF; and whether all line ends were CRLF, and no CR stood alone."""
    local = text.replace(b"\r", b"")
    # To take all CRs away, put one before each LF, and compare is four times faster than to look for CRLF.
    if local.replace(b"\n", b"\r\n") == text:
        return local, True
    return text.replace(b"\r\n", b"\n"), False


def _read(file: IO[bytes]) -> Iterator[bytes]:
    at = 0
    while True:
        file.seek(at)  # others may read it, too, between two pieces
        piece = file.read(CHUNK)
        if not piece:
            return
        at += len(piece)
        yield piece


def _whole_ends(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes, cut so that no CR is parted from its LF."""
    held = b""
    for piece in pieces:
        piece = held + piece
        held = piece[-1:] if piece.endswith(b"\r") else b""
        yield piece[: len(piece) - len(held)]
    if held:
        yield held
