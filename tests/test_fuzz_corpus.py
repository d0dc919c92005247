"""What fuzzing has found, and what reaches far: each input of a corpus through its target, without atheris."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from . import fuzz
from .tried import FUZZED

pytestmark = FUZZED


@pytest.mark.parametrize("name", fuzz.targets())
def test_corpus_of_target_finds_nothing_any_more(name: str, record_property: Callable[[str, object], None]) -> None:
    run = fuzz.targets()[name]
    points = 0
    for path in fuzz.corpus(name):
        try:
            run(path.read_bytes())
        except Exception as err:
            raise AssertionError(f"{path.name} falls again") from err
        points += 1

    assert points, f"{name} has no corpus"
    record_property("points", points)


def test_each_corpus_has_its_target() -> None:
    assert fuzz.targets().keys() == {path.name for path in fuzz.CORPUS.iterdir()}
