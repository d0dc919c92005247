"""examples/demo.py as a module, and a shell in the home that it makes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
DEMO = ROOT / "examples" / "demo.py"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo", DEMO)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = load()


def new_home(path: Path) -> Path:
    """A home with the three stores of the demo, and a `mailsync` that a shell finds."""
    path.mkdir()
    demo.build(path)
    program = path / ".bin" / "mailsync"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mailsync "$@"\n')
    program.chmod(0o755)
    return path


def shell(home: Path, command: str) -> str:
    """What a terminal shows of a command. Whether it fails, its output must tell."""
    environment = demo.environment(home)
    environment["PATH"] = f"{home}/.bin:{environment['PATH']}"
    done = subprocess.run(
        ["sh", "-c", command], cwd=home, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    return done.stdout.decode()
