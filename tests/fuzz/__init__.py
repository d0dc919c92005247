"""Fuzz targets: what any bytes are given to, and what must then be true.

A target is a function with `@target` in `server` (what servers say) or `local` (what files say). It takes bytes; it
lets out no exception at all, so it catches those that are documented, and asserts what must hold for whatever was read.
Its corpus is `corpus/NAME`: a finding is put there by `make fuzz`, and `tests/test_fuzz_corpus.py` gives all of it to
the target in each `make test`, without atheris.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

Target: TypeAlias = Callable[[bytes], None]

CORPUS = Path(__file__).parent / "corpus"
MODULES = ("server", "local")
_targets: dict[str, Target] = {}


def target(function: Target) -> Target:
    """Mark a function as a target."""
    assert function.__name__ not in _targets
    _targets[function.__name__] = function
    return function


def targets() -> dict[str, Target]:
    """All of them by name."""
    for module in MODULES:
        import_module(f"{__name__}.{module}")
    return _targets


def corpus(name: str) -> list[Path]:
    """The inputs that are kept for a target."""
    return sorted(path for path in (CORPUS / name).glob("*") if path.is_file())
