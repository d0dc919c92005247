"""Targets: what stands in files."""

from __future__ import annotations

from mailsync import header

from . import target


@target
def header_fields(data: bytes) -> None:
    """A header reads alike with LF and with CRLF."""
    names = (b"subject", b"message-id", b"from")
    assert list(header.fields(data, names)) == list(header.fields(data.replace(b"\n", b"\r\n"), names))
