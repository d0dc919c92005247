"""Mailbox names as IMAP writes them: modified UTF-7 (RFC 3501, 5.1.3). Pure."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, b2a_base64

_PLAIN = re.compile(r"[ -%'-~]+|&|[^ -~]+")
_SHIFTED = re.compile(rb"&([A-Za-z0-9+,]*)-")


def encode(name: str) -> bytes:
    """ValueError for a name that is no Unicode text: bytes that some file system has, kept by surrogateescape."""
    return b"".join(_encoded(run[0]) for run in _PLAIN.finditer(name))


def decode(raw: bytes) -> str | None:
    """None for what does not come back as the same bytes: such a name must be kept as it is.

    Servers hold names such as `Tom & Jerry`, which say something else once they were decoded and encoded.
    """
    try:
        name = "".join(
            part.decode("ascii") if n % 2 == 0 else _decoded(part) for n, part in enumerate(_SHIFTED.split(raw))
        )
        return name if encode(name) == raw else None
    except ValueError:
        return None


def _encoded(run: str) -> bytes:
    if run == "&":
        return b"&-"
    if run.isascii() and run.isprintable():
        return run.encode()
    return b"&" + b2a_base64(run.encode("utf-16-be"), newline=False).rstrip(b"=").replace(b"/", b",") + b"-"


def _decoded(text: bytes) -> str:
    if not text:
        return "&"
    try:
        return a2b_base64(text.replace(b",", b"/") + b"=" * (-len(text) % 4)).decode("utf-16-be")
    except Error as err:
        raise ValueError(str(err)) from err
