"""Run the fuzz targets with atheris, each in a process of its own: `make fuzz`.

What is found is written into the target's corpus, where the tests replay it; what only widens what is known of a target
lies in build/fuzz, and goes with `make clean`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from . import CORPUS, targets

MEGABYTES = 512  # of memory, python's and atheris's own among them
SECONDS = 10  # for one input
LONGEST = 8192  # bytes of an input, unless the corpus has longer ones
GROWN = Path("build/fuzz")  # inputs that reach what the corpus does not


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description="Fuzz what parses foreign bytes.")
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--list", action="store_true", help="the names of the targets")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this process
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="default: all")
    args = parser.parse_args()
    if args.here:
        fuzz(args.targets[0], args.seconds)
    known = targets()
    if unknown := [name for name in args.targets if name not in known]:
        parser.error(f"no target {', '.join(unknown)}; there are {', '.join(known)}")
    if args.list:
        print("\n".join(known))
        return 0
    fallen = [name for name in args.targets or known if not apart(name, args.seconds)]
    print(f"fallen: {', '.join(fallen)}; see {CORPUS}" if fallen else "nothing has fallen")
    return 1 if fallen else 0


def apart(name: str, seconds: int) -> bool:
    """Whether a target stands."""
    print(f"== {name}, {seconds} s", flush=True)
    command = [sys.executable, "-m", "tests.fuzz", "--here", "--seconds", str(seconds), name]
    return subprocess.run(command, check=False).returncode == 0


def fuzz(name: str, seconds: int) -> None:
    """Does not come back: libFuzzer ends the process."""
    try:
        import atheris
    except ImportError:
        sys.exit("atheris is missing: pip install '.[fuzz]'")
    with atheris.instrument_imports(include=["mailsync"]):
        run = targets()[name]
    grown, kept = GROWN / name, CORPUS / name
    for directory in (grown, kept):
        directory.mkdir(parents=True, exist_ok=True)
    longest = max([LONGEST, *(path.stat().st_size for path in kept.glob("*"))])
    options = {
        "max_total_time": seconds,
        "max_len": longest,
        "timeout": SECONDS,
        "rss_limit_mb": MEGABYTES,
        "artifact_prefix": f"{kept}/",
        "verbosity": 0,
        "print_final_stats": 1,
    }
    words = [f"-{option}={value}" for option, value in options.items()]
    atheris.Setup([sys.argv[0], *words, str(grown), str(kept)], run)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
