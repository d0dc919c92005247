"""Tell of headers that had to be mended or guessed at, while they are read: -vb and -vp."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..header import first, no_fields, unfold
from ..model import Identify, MessageId
from . import Report


@dataclass(frozen=True, slots=True)
class Telling:
    """An `Identify` that reports what it sees. The ids are the same."""

    rule: Identify
    report: Report
    ids: bool
    junk: bool

    @property
    def fields(self) -> tuple[bytes, ...]:
        return self.rule.fields

    @property
    def quick(self) -> tuple[bytes, ...]:
        return self.rule.quick

    @property
    def version(self) -> str:
        return self.rule.version

    def __call__(self, header: bytes, /) -> MessageId | None:
        id = self.rule(header)
        self._tell(header, id)
        return id

    def sure(self, header: bytes, /) -> MessageId | None:
        """What it cannot tell by these fields is asked again with more of them, and told then."""
        id = self.rule.sure(header)
        if id is not None:
            self._tell(header, id)
        return id

    def whole(self, chunks: Iterable[bytes], /) -> MessageId:
        return self.rule.whole(chunks)

    def _tell(self, header: bytes, id: MessageId | None) -> None:
        raw = unfold(first(header, b"message-id") or b"").rstrip().decode("latin-1")
        if self.ids and id is not None and raw and raw != id and "md5:" not in id:
            self.report.note(f"Message-ID {raw} is read as {id}", asked=True)
        if self.junk:
            for line in no_fields(header):
                what = f"{id or 'a message'}: no header field: {line[:60].decode('latin-1')}"
                self.report.note(what, asked=True)
