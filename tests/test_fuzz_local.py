"""What stands in files, made up: pieces of what the fuzz corpora have, put together at random, through each target.

The targets say what must hold, in `tests/fuzz/local.py`. What `make fuzz` has found is replayed by `test_fuzz_corpus`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from . import fuzz
from .fuzz import local
from .tried import FUZZED, PLANTED

EXAMPLES = 1000 if os.environ.get("MAILSYNC_TORTURE") else 60
TARGETS = [name for name, target in fuzz.targets().items() if target.__module__ == local.__name__]


def made_up(name: str) -> st.SearchStrategy[bytes]:
    """Words, blanks and signs of the corpus of this target, in any order, and any bytes."""
    words = {word for path in fuzz.corpus(name) for word in re.findall(rb"\w+|\s|\W", path.read_bytes())}
    whole = [path.read_bytes() for path in fuzz.corpus(name)]
    part = st.sampled_from(sorted(words)) | st.binary(max_size=3)
    made = st.lists(part, max_size=40).map(b"".join)
    cut = st.tuples(st.sampled_from(whole), st.integers(0, 200), made, st.integers(0, 20))
    return made | st.binary() | cut.map(lambda some: some[0][: some[1]] + some[2] + some[0][some[1] + some[3] :])


@FUZZED
@pytest.mark.parametrize("name", TARGETS)
def test_target_stands(name: str, record_property: Callable[[str, object], None]) -> None:
    record_property("points", tried(name, settings(max_examples=EXAMPLES)))


def tried(name: str, how: settings) -> int:
    """How many inputs."""
    points = 0

    @how
    @given(made_up(name))
    def stands(data: bytes) -> None:
        nonlocal points
        points += 1
        fuzz.targets()[name](data)

    stands()
    return points


BUGS: list[tuple[str, str, object]] = [
    ("digests", "mailsync.identity.parts", lambda chunks: ((("body", chunk)) for chunk in chunks)),
    ("mbox", "mailsync.drivers.mboxtext._quoted", lambda chunks: chunks),
    ("header_shown", "mailsync.report.printable._UNFIT", re.compile("\x00")),
    ("memory", "mailsync.msinfo.text._unpercent", lambda raw: raw),
    ("specification", "mailsync.spec._written", lambda value: value),
    ("boxnames", "mailsync.names._escape", lambda text, char: text),
    ("sequences", "mailsync.drivers.flags._without", lambda ranges, numbers: ranges),
    ("header_in_parts", "mailsync.header.last_field", lambda head, end: head.rfind(b"\n", 1, end)),
]


SURELY = settings(derandomize=True, max_examples=1000, phases=(Phase.generate,), database=None)


@PLANTED
@pytest.mark.parametrize(("name", "where", "bug"), BUGS, ids=lambda value: value if isinstance(value, str) else "")
def test_bug_in_a_parser_is_found(monkeypatch: pytest.MonkeyPatch, name: str, where: str, bug: object) -> None:
    monkeypatch.setattr(where, bug)

    with pytest.raises((AssertionError, LookupError, ValueError)):
        tried(name, SURELY)
