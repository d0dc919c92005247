"""examples/: the configurations for who comes from another program say what they are meant to, and nothing unknown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mailsync import config

from .mail import run
from .samples import ROOT

EXAMPLES = sorted((ROOT / "examples").glob("from-*.conf"))
README = (ROOT / "README.rst").read_text(encoding="utf-8")
of_each = pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)


@of_each
def test_example_is_understood_without_a_warning(example: Path) -> None:
    found = config.parse(example.read_text(), example.name)

    assert () == found.warnings
    assert found.channels
    assert set(found.stores) == {store for channel in found.channels.values() for store in (channel.a, channel.b)}


@of_each
def test_example_that_is_shown_reads_back_as_it_was(home: Path, example: Path) -> None:
    shown = run("-f", str(example), "-dc")
    (home / "shown").write_text(shown.out)
    again = run("-f", "shown", "-dc")

    assert (0, "", shown.out) == (shown.code, shown.err, again.out)
    assert config.parse(example.read_text(), "x") == config.parse(shown.out, "x")


def test_each_example_is_named_in_the_readme() -> None:
    assert {f"examples/{example.name}" for example in EXAMPLES} == set(re.findall(r"examples/from-[\w.-]+", README))
