"""A store of local mailboxes: finds them, and hands each to the format it is in.

Knows no message; what lies where, and how it is named, is in `places`. Names come out as the patterns say them:
`Mail/%` gives `Mail/x`, `~/m/%` gives `~/m/x`. Other than 5.2.7's, its listings have no files that hold no mail (but as
failures), no dot files but those that hold mail, nothing below a link back to a directory above it, no INBOX that is
not there, and no second name for the file that is INBOX.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Self

from .. import directories
from ..errors import BoxError, StoreError
from ..model import BoxInfo, Failure, Fault, Holds, Identify, Listing, Mailbox
from ..names import MAILDIR_PARTS, Patterns, is_inbox
from ..unchanged import State, lasting, state
from .contract import Box, Sight, Wanted
from .files import inode, scan, token, why
from .formats import FORMATS, Local, by_name, recognise
from .maildir import PARTS
from .places import INBOX, MH_INBOX, Place, Places, Root, look, look_or_fail
from .walk import Entry, Walk, entries_of, inode_of, is_ours, unseen

_AT_FDCWD, _RENAME_NOREPLACE = -100, 1  # linux/fcntl.h, linux/fs.h


class LocalStore:
    """Mailboxes below `home`. `format` (maildir, maildir++, mbox, mh) says what to create; else what is there most.

    `patterns` are those of the store: its layout is decided by what lies at their roots.
    """

    def __init__(
        self,
        home: str,
        *,
        patterns: Sequence[str] = (),
        format: str | None = None,
        fsync: bool = True,
        environ: Mapping[str, str],
    ) -> None:
        self._format = format
        self._fsync = fsync
        self._places = Places(home, patterns, format, environ)
        self._formats: dict[Mailbox, str] = {}  # of what was looked at
        self._sight: dict[str, State | None] = {}
        self._sight_lasts = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    @property
    def delimiter(self) -> str:
        """A dot for a Maildir++, else a slash. StoreError where that cannot be told."""
        return "." if self._places.plus else "/"

    def boxes(self, patterns: Sequence[str]) -> Sequence[BoxInfo]:
        wanted = Patterns(patterns, self.delimiter)
        found: dict[Mailbox, BoxInfo] = {}
        for info in self._walk(wanted, patterns):
            found.setdefault(info.mailbox, info)
        return list(found.values())

    def find(self, mailbox: Mailbox) -> BoxInfo | None:
        try:
            if not mailbox or mailbox.endswith("/"):
                found = look_or_fail(self._places.directory(mailbox))
                return BoxInfo(mailbox, selectable=False) if found and stat.S_ISDIR(found.st_mode) else None
            place = self._places.place(mailbox)
            self._see(place.path)
            return self._info(mailbox, place.path, place.format) if look_or_fail(place.path) else None
        except BoxError as err:
            return unseen(mailbox, str(err), err.hint)

    def holds(self, mailbox: Mailbox) -> Holds:
        place = self._places.place(mailbox)
        with _spoils(mailbox):
            kind = self._kind(place) if look_or_fail(place.path) else None
            return self._made(kind or self._to_create(place), place, mailbox).holds()

    def listings(self, wanted: Sequence[Wanted], identify: Identify) -> Iterator[tuple[Mailbox, Listing | Failure]]:
        for each in wanted:
            yield each.mailbox, self._listing(each, identify)

    @contextmanager
    def open(self, mailbox: Mailbox, *, write: bool) -> Iterator[Box]:
        with _spoils(mailbox):
            opened = self._existing(mailbox).open(write=write)
            box = opened.__enter__()
        try:
            yield box
        except BaseException:  # not ours: an OSError in here may be a server's connection
            if not opened.__exit__(*sys.exc_info()):
                raise
        else:
            with _spoils(mailbox):
                opened.__exit__(None, None, None)

    def create(self, mailbox: Mailbox) -> None:
        place = self._places.place(mailbox)
        with _spoils(mailbox):
            found = look_or_fail(place.path)
            if found and self._kind(place):
                return
            kind = self._to_create(place)
            self._make_room(mailbox, place, kind)
            if found and (kind.format == "mbox" or not stat.S_ISDIR(found.st_mode)):
                raise BoxError(f"{mailbox}: {place.path} is there already and is no {kind.format}")
            self._made(kind, place, mailbox).create()

    def delete(self, mailbox: Mailbox) -> None:
        if self._places.place(mailbox).inbox:
            raise BoxError(f"{mailbox} is never deleted")
        with _spoils(mailbox):
            self._existing(mailbox).delete()

    def rename(self, old: Mailbox, new: Mailbox) -> None:
        """What is below the old name goes along, except in a Maildir++."""
        source, target = self._places.place(old), self._places.place(new)
        if source.inbox or target.inbox:
            raise BoxError(f"{old} cannot be renamed to {new}: INBOX keeps its name")
        kind = type(self._existing(old))
        with _spoils(old):
            if os.path.lexists(target.path):
                raise BoxError(f"{old} cannot be renamed to {new}: that is there already")
            self._make_room(new, target, kind)
            _move(source.path, target.path)
            if self._fsync:
                for directory in {os.path.dirname(source.path), os.path.dirname(target.path)}:
                    directories.sync(directory)
        if old in self._formats:
            self._formats[new] = self._formats.pop(old)

    def identity(self, mailbox: Mailbox) -> str | None:
        """Device and inode of its directory or file; an mbox that is rewritten has another one afterwards."""
        return inode(self._places.place(mailbox).path)

    def sight(self) -> Sight | None:
        return Sight(self._sight) if self._sight_lasts else None

    def faults(self, mailbox: Mailbox) -> Sequence[Fault]:
        from .faults import of_mailbox, of_no_mailbox

        if not mailbox or mailbox.endswith("/"):
            return ()
        place = self._places.place(mailbox)
        with _spoils(mailbox):
            kind = self._kind(place) if look_or_fail(place.path) else None
            return of_mailbox(kind.format, place.path, mailbox) if kind else of_no_mailbox(place.path)

    # ---- one mailbox ----

    def _kind(self, place: Place) -> type[Local] | None:
        return recognise(place.path, place.format)

    def _made(self, kind: type[Local], place: Place, mailbox: Mailbox) -> Local:
        return kind(place.path, mailbox, fsync=self._fsync, root=self._places.root_of(mailbox, place))

    def _existing(self, mailbox: Mailbox) -> Local:
        place = self._places.place(mailbox)
        if not look_or_fail(place.path):
            raise _Gone(f"{mailbox}: there is no such mailbox")
        with _spoils(mailbox):
            kind = self._kind(place)
        if not kind:
            raise BoxError(f"{mailbox}: {place.path} is no mailbox")
        return self._made(kind, place, mailbox)

    def _to_create(self, place: Place) -> type[Local]:
        most = Counter(self._formats.values())
        return by_name(place.format or self._format or max(FORMATS, key=most.__getitem__))

    def _make_room(self, mailbox: Mailbox, place: Place, kind: type[Local]) -> None:
        """The directories above a mailbox that is to be made."""
        if kind.format == "maildir" and not MAILDIR_PARTS.isdisjoint(self._places.levels(mailbox)):
            raise BoxError(f"{mailbox}: cur, new and tmp are the inside of a Maildir")
        if is_ours(os.path.basename(place.path)):
            raise BoxError(f"{mailbox}: this is how lock files and temporary files are named")
        above = os.path.dirname(place.path)
        while not os.path.lexists(above):
            above = os.path.dirname(above)
        if not os.path.isdir(above):
            raise BoxError(f"{mailbox}: {above} is a file, nothing can be made below it")
        directories.make(os.path.dirname(place.path), fsync=self._fsync)

    def _listing(self, wanted: Wanted, identify: Identify) -> Listing | Failure:
        try:
            with _spoils(wanted.mailbox):
                box, known = self._existing(wanted.mailbox), wanted.known()
                if known and known.token and known.token == token(box.sight().values()):
                    return known
                return box.listing(identify, known)
        except BoxError as err:
            return Failure(wanted.mailbox, str(err), err.hint, gone=isinstance(err, _Gone))

    def _info(self, mailbox: Mailbox, path: str, only: str | None) -> BoxInfo:
        """What is there, under this name. It is there: whatever hinders is a failure."""
        try:
            self._see(path)
            kind = recognise(path, only)
            if kind:
                seen = kind(path, mailbox, fsync=self._fsync).sight()
                self._note(seen)
                self._formats[mailbox] = kind.format
                return BoxInfo(mailbox, token=token(seen.values()))
            if not os.path.isdir(path):
                why_not = "not a mailbox: neither a directory nor a file that begins as an mbox does"
                return BoxInfo(mailbox, False, None, Failure(mailbox, why_not), stray=True)
            with scan(path):
                pass
            if not os.access(path, os.X_OK):
                return unseen(mailbox, "Permission denied")
            missing = [part for part in PARTS if not os.path.isdir(os.path.join(path, part))]
            # Copied by a tool that leaves out empty directories: its mail is not gone.
            if len(missing) == 1 and not _half_made(path, missing):
                return unseen(mailbox, f"a Maildir without {missing[0]}", f"mkdir {os.path.join(path, missing[0])}")
            return BoxInfo(mailbox, selectable=False)
        except OSError as err:
            return unseen(mailbox, why(err))
        except BoxError as err:
            return unseen(mailbox, str(err), err.hint)

    # ---- what it depends on, before it is read ----

    def _see(self, path: str) -> None:
        with suppress(OSError):  # what cannot be seen is a failure: no run comes to rest on that
            self._note({path: state(path)})

    def _note(self, seen: Mapping[str, State | None]) -> None:
        """What was seen first counts: all that was done with it came later."""
        for path, found in seen.items():
            before = self._sight.setdefault(path, found)
            if found and before and found[: len(before)] == before:
                self._sight[path] = found  # looked at more closely
            if not lasting(found):
                self._sight_lasts = False

    # ---- the walk ----

    def _walk(self, wanted: Patterns, patterns: Sequence[str]) -> Iterator[BoxInfo]:
        special = [INBOX] if wanted.matches(INBOX) else []
        special += [MH_INBOX] if any(text.lower() == MH_INBOX for text in patterns) else []
        known_as_inbox = None
        if INBOX in special:
            for path in self._places.inboxes():
                self._see(path)
            with suppress(BoxError):  # `find` tells it
                known_as_inbox = self._places.place(INBOX).path
        for mailbox in special:
            if info := self.find(mailbox):
                yield info
        for root in self._places.roots(patterns):
            self._see(root.path)
            try:
                found = look(root.path)
                if not found or not stat.S_ISDIR(found.st_mode):
                    continue
                entries = entries_of(root.path)
                in_mailbox = recognise(root.path, root.format) is not None
            except OSError as err:
                raise StoreError(f"{root.path}: {why(err)}") from err
            if root.name.rstrip("/") and not root.name.startswith("#") and wanted.matches(root.name):
                yield BoxInfo(Mailbox(root.name), selectable=False)
            is_top, top = root in self._places.tops, Mailbox(f"{root.name}INBOX")
            if is_top and in_mailbox and top not in special and wanted.matches(top):
                yield self._info(top, root.path, "maildir")
            if is_top and self._places.plus:
                yield from self._dotted(wanted, root, entries)
            else:
                walk, around = Walk(wanted, root.format, known_as_inbox, self._info), frozenset({inode_of(found)})
                yield from walk.below(root.name, entries, around, in_mailbox=in_mailbox)

    def _dotted(self, wanted: Patterns, root: Root, entries: Sequence[Entry]) -> Iterator[BoxInfo]:
        """The mailboxes of a Maildir++. A directory that begins with a dot and is no Maildir is none of it."""
        for entry in entries:
            mailbox = Mailbox(root.name + entry.name[1:])
            if not entry.hidden or entry.is_file or not wanted.matches(mailbox):
                continue
            info = self._info(mailbox, entry.path, "maildir")
            if is_inbox(entry.name[1:]) and info.selectable:
                yield unseen(Mailbox(root.name + entry.name), f"{root.path} is the INBOX of this Maildir++ already")
            elif info.selectable or info.failure:
                yield info


class _Gone(BoxError):
    """It is not there any more: nothing to complain of."""


def _half_made(path: str, missing: Sequence[str]) -> bool:
    """A run was killed while it made or removed this Maildir: what is made last is missing, and there is no message."""
    return missing == [PARTS[-1]] and not any(os.listdir(os.path.join(path, part)) for part in PARTS[:-1])


def _move(source: str, target: str) -> None:
    """Rename what must not take the place of anything, as a plain rename of a file would."""
    if os.path.isdir(source):
        os.rename(source, target)
    elif not _renamed_at_once(source, target):
        os.link(source, target)
        os.unlink(source)


def _renamed_at_once(source: str, target: str) -> bool:
    """False where the system cannot rename a file so that no other one is replaced. OSError."""
    import ctypes  # few runs rename an mbox

    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    if rename(_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE) == 0:
        return True
    error = ctypes.get_errno()
    if error in (errno.ENOSYS, errno.EINVAL, errno.ENOTSUP):
        return False
    raise OSError(error, os.strerror(error), target)


@contextmanager
def _spoils(mailbox: Mailbox) -> Iterator[None]:
    try:
        yield
    except OSError as err:
        where = f"{err.filename}: " if err.filename else ""
        raise BoxError(f"{mailbox}: {where}{why(err)}") from err
