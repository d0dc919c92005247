"""One MH mailbox: a directory of numbered files, with the flags in sequences beside them.

Knows nothing of other mailboxes: `local` finds and names them.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import ClassVar

from ..errors import BoxError
from ..model import HIDDEN, NONE, SYSTEM, Entry, Failure, Holds, Identify, Listing, Mailbox, Uid
from ..unchanged import State, deep_state, state
from . import files
from .flags import Ranges, flags_by_number, parse_sequences
from .mhopen import OpenMh, is_number, uid_of

SEQUENCES = ".mh_sequences"
BOOKKEEPING = (SEQUENCES, ".xmhcache")


def profile_path(home: str) -> str | None:
    """Where `~/.mh_profile` says that MH mail lies; None if it says nothing."""
    path = _profile(home).get("path")
    return os.path.join(home, path) if path else None


class Mh:
    format: ClassVar[str] = "mh"

    def __init__(self, path: str, mailbox: Mailbox, *, fsync: bool = True) -> None:
        self.path, self.mailbox, self.fsync = path, mailbox, fsync
        name = _sequences_name()
        self.sequences_file = os.path.join(path, name) if name else None  # None: the user wants no public sequences

    @staticmethod
    def recognise(path: str) -> bool:
        """A directory with sequences or a numbered message. OSError if it cannot be read.

        An empty numbered file, or one that is an mbox, tells nothing: archives are named by years.
        """
        if not os.path.isdir(path):
            return False
        names = {SEQUENCES, _sequences_name()}
        with files.scan(path) as found:
            return any(
                (entry.name in names or (is_number(entry.name) and _is_message(os.path.join(path, entry.name))))
                and entry.is_file()
                for entry in found
            )

    def holds(self) -> Holds:
        return Holds(SYSTEM, any_keyword=True) if self.sequences_file else Holds(NONE)

    def validity(self) -> str | None:
        """Device and inode: a directory made anew under this name is another mailbox."""
        return files.inode(self.path)

    def sight(self) -> dict[str, State | None]:
        """Down to each message: editors write a draft in its place."""
        deep = {self.path: deep_state(self.path)}
        return deep | {self.sequences_file: state(self.sequences_file)} if self.sequences_file else deep

    def listing(self, identify: Identify, known: Listing | None = None) -> Listing:
        """All messages by number. The heads of those that are `known` are not read. BoxError if it cannot be read."""
        token = files.token(self.sight().values())
        numbers = self.numbers()
        # Read after the numbers: what is appended has its flags before its number.
        flags = flags_by_number(self.sequences(), numbers)
        validity = self.validity()
        ids = {entry.uid: entry.id for entry in known.entries} if known and known.validity == validity else {}
        entries: list[Entry] = []
        unreadable: list[Failure] = []
        for number in numbers:
            path = self.at(str(number))
            uid = Uid(str(number))
            try:
                uid = uid_of(number, os.stat(path))
                id = ids[uid] if uid in ids else files.identity_of(path, identify)
            except FileNotFoundError:
                continue  # removed just now
            except OSError as err:
                unreadable.append(files.failure(uid, err))
                continue
            if id != HIDDEN:
                entries.append(Entry(uid, id, flags[number]))
        return Listing(self.mailbox, entries, self.holds(), token, validity, tuple(unreadable), identity=validity)

    @contextmanager
    def open(self, *, write: bool) -> Iterator[OpenMh]:
        if not os.path.isdir(self.path):
            raise BoxError(f"{self.mailbox}: no directory at {self.path}")
        if write and (why_not := files.unwritable(self.path)):
            raise BoxError(f"{self.mailbox}: {self.path} cannot be written to: {why_not}")
        yield OpenMh(self)

    def create(self) -> None:
        """Made with an empty file for sequences, which is what it is recognised by. BoxError if it cannot be made."""
        try:
            files.make_directories(self.path, fsync=self.fsync)
            os.close(os.open(self.sequences_file or self.at(SEQUENCES), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if self.fsync:
                files.sync_directory(self.path)
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot be created: {files.why(err)}") from err

    def delete(self) -> None:
        """Take away the sequences, and the directory unless other mailboxes lie in it.

        BoxError, and nothing gone, if there is a message or a file that is not MH's.
        """
        try:
            with files.scan(self.path) as found:
                names = [entry.name for entry in found if not entry.is_dir(follow_symlinks=False)]
            ours = {*BOOKKEEPING, os.path.basename(self.sequences_file or SEQUENCES)}
            other = next((name for name in sorted(names) if name not in ours), None)
            if other is not None:
                raise BoxError(f"{self.mailbox} is not empty: {self.at(other)}")
            for name in names:
                os.unlink(self.at(name))
            with suppress(OSError):  # other mailboxes lie in it
                os.rmdir(self.path)
            if self.fsync:
                files.sync_directory(os.path.dirname(os.path.abspath(self.path)))
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot be deleted: {files.why(err)}") from err

    def at(self, name: str) -> str:
        return os.path.join(self.path, name)

    def numbers(self) -> list[int]:
        """BoxError if not all of them can be had: a part would look like deletions."""
        try:
            return sorted(files.steadily(self.path, self._scan))
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot be listed: {files.why(err)}") from err

    def sequences(self) -> dict[str, Ranges]:
        """BoxError if they cannot be read: all messages would seem to have lost their flags."""
        try:
            if self.sequences_file:
                with open(self.sequences_file, "rb", opener=files.open_quietly) as file:
                    return parse_sequences(file.read())
        except FileNotFoundError:
            pass
        except OSError as err:
            raise BoxError(f"{self.mailbox}: cannot read {self.sequences_file}: {files.why(err)}") from err
        return {}

    def _scan(self) -> list[int]:
        with files.scan(self.path) as found:
            return [int(entry.name) for entry in found if is_number(entry.name) and entry.is_file()]


def _is_message(path: str) -> bool:
    """False for what is empty or may be an mbox. What cannot be read is a message that cannot be read."""
    try:
        fd, _ = files.open_message(path)
    except OSError:
        return True
    try:
        return os.pread(fd, len(b"From "), 0) not in (b"", b"From ")
    finally:
        os.close(fd)


def _sequences_name() -> str | None:
    return _profile(os.path.expanduser("~")).get("mh-sequences", SEQUENCES) or None


def _profile(home: str) -> dict[str, str]:
    """The entries of the user's profile, names in lower case."""
    try:
        with open(os.path.join(home, ".mh_profile"), "rb") as file:
            lines = os.fsdecode(file.read()).replace("\n ", " ").replace("\n\t", " ").split("\n")
    except OSError:
        return {}
    entries = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in entries if colon}
