"""The least that must be done, as short scripts: `python bench/peers.py NAME PATH...`."""

import os
import sys

CHUNK = 1 << 20


def heads(*roots: str) -> None:
    """Open every message of these Maildirs and read 4 KiB: what a synchronizer without a memory of files must do."""
    for root in roots:
        for box in os.listdir(root):
            for part in ("cur", "new"):
                directory = os.open(f"{root}/{box}/{part}", os.O_RDONLY)
                for name in os.listdir(directory):
                    fd = os.open(name, os.O_RDONLY, dir_fd=directory)
                    os.read(fd, 4096)
                    os.close(fd)
                os.close(directory)


def through(*roots: str) -> None:
    """Read all files of these directories once."""
    for root in roots:
        for name in os.listdir(root):
            with open(f"{root}/{name}", "rb", buffering=0) as file:
                while file.read(CHUNK):
                    pass


def pour(source: str, target: str) -> None:
    """Each Maildir into one file, its messages one after the other, unchanged; durable."""
    os.mkdir(target)
    for box in os.listdir(source):
        with open(f"{target}/{box}", "wb", buffering=CHUNK) as file:
            for entry in os.scandir(f"{source}/{box}/cur"):
                with open(entry.path, "rb", buffering=0) as message:
                    file.write(message.read())
            file.flush()
            os.fsync(file.fileno())


if __name__ == "__main__":
    name, *paths = sys.argv[1:]
    match name:
        case "heads":
            heads(*paths)
        case "through":
            through(*paths)
        case "pour":
            pour(*paths)
        case _:
            sys.exit(f"no script {name}")
