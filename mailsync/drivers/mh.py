"""One MH mailbox: a directory of numbered files, with the flags in sequences beside them.

Knows nothing of other mailboxes: `local` finds and names them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from typing import ClassVar

from .. import directories, stopping
from ..errors import BoxError
from ..model import HIDDEN, NONE, SYSTEM, Entry, Failure, Flags, Holds, Identify, Listing, Mailbox, MessageId, Uid
from ..unchanged import State, deep_state, state
from . import files
from .flags import Ranges, flags_by_number, parse_sequences
from .mhopen import TRIES, OpenMh, file_of, is_number, uid_of
from .rewriting import unchanging

SEQUENCES = ".mh_sequences"
MOST_SEQUENCES = 1000  # with each a message may be in all of them
BOOKKEEPING = (SEQUENCES, ".xmhcache")


def profile_path(home: str) -> str | None:
    """Where `~/.mh_profile` says that MH mail lies; None if it says nothing."""
    path = _profile(home).get("path")
    return os.path.join(home, path) if path else None


class Mh:
    format: ClassVar[str] = "mh"

    def __init__(self, path: str, mailbox: Mailbox, *, fsync: bool = True, root: str = "") -> None:
        self.path, self.mailbox, self.fsync = path, mailbox, fsync
        self.inside = (path, root or path)  # where links may lead
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
        validity = self.validity()
        ids = {entry.uid: entry.id for entry in known.entries} if known and known.validity == validity else {}
        for _ in range(TRIES):
            names, flags = self._looked_at()
            found: dict[Uid, Entry] = {}
            unreadable: list[Failure] = []
            for number, uid in names.items():
                try:
                    if uid not in ids:
                        ids[uid] = self._identity(number, uid, identify)
                except FileNotFoundError:
                    break  # removed or given another number just now
                except OSError as err:
                    failed = files.failure(uid, err)
                    unreadable.append(replace(failed, why=f"message {number}: {failed.why}"))
                    continue
                if ids[uid] != HIDDEN:
                    found[uid] = Entry(uid, ids[uid], flags[number])
            else:
                entries = list(found.values())
                return Listing(
                    self.mailbox, entries, self.holds(), token, validity, tuple(unreadable), identity=validity
                )
        raise BoxError(f"{self.mailbox}: cannot be listed: another program changes it all the time")

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
            directories.make(self.path, fsync=self.fsync)
            os.close(os.open(self.sequences_file or self.at(SEQUENCES), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
            if self.fsync:
                directories.sync(self.path)
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
                directories.sync(os.path.dirname(os.path.abspath(self.path)))
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

    def places(self, sleep: files.Sleep = time.sleep) -> dict[int, str]:
        """The file of each number. OSError if not all can be had: one that gets another may be met under neither."""
        return dict(sorted(files.steadily(self.path, self._scan_files, sleep).items()))

    def inodes(self) -> dict[int, list[int]]:
        """The numbers of each inode, as they are at one moment; quick, and to be looked at again. OSError."""
        found: dict[int, list[int]] = {}
        with files.scan(self.path) as entries:
            for entry in entries:
                if is_number(entry.name):
                    with suppress(OSError):  # a link to nowhere, or to itself
                        inode = entry.stat().st_ino if entry.is_symlink() else entry.inode()
                        found.setdefault(inode, []).append(int(entry.name))
        return found

    def sequences(self) -> dict[str, Ranges]:
        with self.unchanging() as sequences:
            return sequences

    @contextmanager
    def unchanging(self) -> Iterator[dict[str, Ranges]]:
        """The sequences, while no program of MH gives messages other numbers.

        BoxError if they cannot be read: all messages would seem to have lost their flags.
        """
        with ExitStack() as stack:
            text = b""
            try:
                if self.sequences_file:
                    text = stack.enter_context(unchanging(self.sequences_file, self.inside))
            except OSError as err:
                raise BoxError(f"{self.mailbox}: cannot read {self.sequences_file}: {files.why(err)}") from err
            found = parse_sequences(text)
            if len(found) > MOST_SEQUENCES:
                raise BoxError(
                    f"{self.mailbox}: {self.sequences_file} has {len(found)} sequences, {MOST_SEQUENCES} are the most"
                )
            yield found

    def _looked_at(self) -> tuple[dict[int, Uid], dict[int, Flags]]:
        """Uids and flags by number."""
        with self.unchanging() as sequences:
            try:
                found = self.places(stopping.sleep)
            except OSError as err:
                raise BoxError(f"{self.mailbox}: cannot be listed: {files.why(err)}") from err
        names: dict[int, Uid] = {}
        used: set[str] = set()
        for number, file in found.items():
            names[number] = uid_of(file, number if file in used else None)
            used.add(file)
        return names, flags_by_number(sequences, list(names))

    def _identity(self, number: int, uid: Uid, identify: Identify) -> MessageId:
        """FileNotFoundError if another file has this number now."""
        id = files.identity_of(self.at(str(number)), identify, self.inside)
        if file_of(os.stat(self.at(str(number)))) != uid.partition("+")[0]:
            raise FileNotFoundError
        return id

    def _scan(self) -> list[int]:
        with files.scan(self.path) as found:
            return [
                int(entry.name)
                for entry in found
                if is_number(entry.name) and files.is_message(entry, self.path, self.path)
            ]

    def _scan_files(self) -> dict[int, str]:
        found = {}
        for number in self._scan():
            with suppress(FileNotFoundError):
                found[number] = file_of(os.stat(self.at(str(number))))
        return found


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
        text = os.fsdecode(files.read_small(os.path.join(home, ".mh_profile")))
    except OSError:
        return {}
    lines = text.replace("\n ", " ").replace("\n\t", " ").split("\n")
    entries = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in entries if colon}
