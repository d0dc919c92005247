"""Where a local mailbox lies: home, marks, INBOX, Maildir++. Knows no message and makes nothing.

A store whose root is a Maildir holds its INBOX there. It is a Maildir++ (levels separated by ".", all of them in
directories `.A.B` of the root) unless its other Maildirs have names without a leading dot. A root with both kinds is
refused: whichever were chosen, half of the mailboxes would look deleted.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from ..errors import BoxError, StoreError
from ..model import Mailbox
from ..names import MAILDIR_PARTS, BadName, Patterns, check, is_inbox
from .files import why
from .formats import recognise

INBOX, MH_INBOX = Mailbox("INBOX"), Mailbox("#mhinbox")
_MARK = re.compile(r"(?i)#mhinbox$|#mh/|#md/|#driver\.([a-z0-9]+)/")
_MARKED = {"maildir": "maildir", "md": "maildir", "mbox": "mbox", "unix": "mbox", "mh": "mh"}


@dataclass(frozen=True, slots=True)
class Place:
    path: str
    format: str | None = None  # the only one that it may have
    inbox: bool = False
    above: str | None = None  # the root of its Maildir++


@dataclass(frozen=True, slots=True)
class Root:
    """Where a walk starts. The name ends in "/" or is empty."""

    name: str
    path: str
    format: str | None = None  # of all that is below it


class Places:
    """All names of one store. The patterns say which roots it has."""

    def __init__(self, home: str, patterns: Sequence[str], format: str | None, environ: Mapping[str, str]) -> None:
        self.home = home
        self._patterns = patterns
        self._format = format
        self._environ = environ

    @cached_property
    def plus(self) -> bool:
        """True for a Maildir++. StoreError if that cannot be told."""
        if self._format is not None:
            return self._format == "maildir++"
        found = {root.name: _layout(root.path) for root in self._own_roots}
        dotted, plain, lone = (
            [name for name, is_ in found.items() if is_ == way] for way in ("dotted", "plain", "lone")
        )
        if dotted and plain:
            raise StoreError(
                f"{dotted[0]} is a Maildir++ and {plain[0] or '~'} is none",
                "Make two stores of them, each with its own pat.",
            )
        return bool(dotted or (lone and not plain))

    @cached_property
    def tops(self) -> Sequence[Root]:
        """The roots that are Maildirs themselves (in a Maildir++: or are to be). Longest name first."""
        roots = sorted(self._own_roots, key=lambda root: -len(root.name))
        if self.plus:
            return roots
        reached = Patterns(self._patterns)
        tops = []
        for root in roots:
            # What is listed under its own name must not be listed as INBOX again: all its mail would be there twice.
            own = root.name.removesuffix("/")
            if not (own and reached.matches(own)) and _is_maildir(root.path):
                if os.path.lexists(os.path.join(root.path, "INBOX")):
                    raise StoreError(f"{root.path} is a Maildir and holds INBOX: either could be {root.name}INBOX")
                tops.append(root)
        return tops

    def roots(self, patterns: Sequence[str]) -> list[Root]:
        """Each once, in the order of the patterns. StoreError for one that cannot be a path."""
        deep = [text for text in patterns if not is_inbox(text) and text.lower() != MH_INBOX]
        roots = []
        for name in Patterns(deep).roots():
            try:
                roots.append(self._root(name))
            except (BadName, BoxError) as err:
                hint = err.hint if isinstance(err, BoxError) else ""
                raise StoreError(f"pattern {name}...: {err}", hint) from err
        return roots

    def place(self, mailbox: Mailbox) -> Place:
        """Where a mailbox is or would be. BoxError for a name that must not become a path."""
        try:
            return self._place(mailbox)
        except BadName as err:
            raise BoxError(str(err)) from err

    def directory(self, name: str) -> str:
        """Path of what is no mailbox but a level of names: it ends in "/" or is empty. BoxError as in `place`."""
        try:
            return self._root(name).path
        except BadName as err:
            raise BoxError(str(err)) from err

    def root_of(self, mailbox: Mailbox, place: Place) -> str:
        """The directory of the store that it lies in; its own, where it is in none."""
        names = {root.name: root.path for root in self._all_roots if mailbox.startswith(root.name)}
        return names[max(names, key=len)] if names and not place.inbox else place.above or place.path

    def levels(self, mailbox: Mailbox) -> list[str]:
        """The levels below the root: those above it are the user's own, and may well be /tmp."""
        if self.plus:
            return []
        roots = [root.name for root in self._own_roots if mailbox.startswith(root.name)]
        below = mailbox.removeprefix(max(roots, key=len, default=""))
        return [os.path.basename(below)] if below.startswith("/") else below.split("/")

    @cached_property
    def _all_roots(self) -> list[Root]:
        return self.roots(self._patterns)

    @cached_property
    def _own_roots(self) -> list[Root]:
        return [root for root in self._all_roots if root.format in (None, "maildir")]

    def _root(self, name: str) -> Root:
        mark, rest = _split(name)
        check(_relative(rest).removesuffix("/"))
        return Root(name, self._path(mark, rest), _format_of(mark))

    def _place(self, mailbox: Mailbox) -> Place:
        for root in self.tops:
            if mailbox.startswith(root.name):
                rest = mailbox.removeprefix(root.name)
                if is_inbox(rest):
                    return Place(root.path, "maildir", inbox=True)
                if self.plus:
                    return _dotted(root, rest)
        if is_inbox(mailbox):
            return self._inbox()
        mark, rest = _split(mailbox)
        if mark.lower() == MH_INBOX:
            return Place(self._path("#mh/", "inbox"), "mh", inbox=True)
        if not _relative(rest):
            raise BadName(f'"{mailbox}" names no mailbox')
        check(_relative(rest))
        path = self._path(mark, rest)
        if any(level in MAILDIR_PARTS for level in rest.split("/")) and _inside_maildir(path):
            raise BadName(f"{mailbox}: cur, new and tmp are the inside of a Maildir")
        return Place(path, _format_of(mark))

    def _path(self, mark: str, rest: str) -> str:
        base = self.home
        if mark.lower() == "#mh/":
            from .mh import profile_path

            profile = profile_path(self.home)
            if profile is None:
                raise BoxError(
                    "there is no ~/.mh_profile that says where MH mail is", "Give it a line such as Path: Mail"
                )
            base = profile
        elif rest.startswith("~/"):
            rest = rest[2:]
        return os.path.join(base, rest)

    def inboxes(self) -> list[str]:
        """Where an INBOX may be that is not that of a root, best first."""
        mbox, maildir = (os.path.join(self.home, name) for name in ("mbox", "Maildir"))
        if (self._format or "").startswith("maildir"):
            return [maildir, mbox, *self._spools()]
        return [mbox, *self._spools(), maildir]

    def _inbox(self) -> Place:
        """The first that is there, else the very first: so what we make stays INBOX, whatever comes later."""
        mbox, order = os.path.join(self.home, "mbox"), self.inboxes()
        for path in order:
            found = look_or_fail(path)
            if found and (path != mbox or stat.S_ISREG(found.st_mode)):
                return Place(path, inbox=True)
        return Place(order[0], "mbox" if order[0] == mbox else "maildir", inbox=True)

    def _spools(self) -> list[str]:
        user = self._environ.get("USER") or _login()
        spools = [f"/var/mail/{user}", f"/var/spool/mail/{user}"] if user and "/" not in user else []
        return [self._environ["MAIL"], *spools] if self._environ.get("MAIL") else spools


def is_taken(name: str) -> bool:
    """True for a file or directory in the home directory itself that no mailbox can be: its name says another place."""
    return name == "~" or _MARK.match(f"{name}/") is not None


def look(path: str) -> os.stat_result | None:
    """None if there surely is nothing; OSError if that cannot be said.

    A link to nowhere, at the end or on the way, is an error: what it leads to may only be unmounted.
    """
    try:
        return os.stat(path)
    except NotADirectoryError:
        return None
    except FileNotFoundError:
        while (path := path.rstrip("/")) and not os.path.exists(path):
            if os.path.islink(path):
                raise OSError(errno.ENOENT, "a link to what is not there", path) from None
            path = os.path.dirname(path)
        return None


def look_or_fail(path: str) -> os.stat_result | None:
    """As `look`, with BoxError."""
    try:
        return look(path)
    except OSError as err:
        raise BoxError(f"{path}: {why(err)}") from err


def _split(name: str) -> tuple[str, str]:
    found = _MARK.match(name)
    return (found[0], name[found.end() :]) if found else ("", name)


def _format_of(mark: str) -> str | None:
    """BadName for `#driver.NAME/` with a format that is not known."""
    if not mark:
        return None
    name = mark.lower().strip("#/").removeprefix("driver.")
    if name not in _MARKED:
        raise BadName(f"{mark}: no such format")
    return _MARKED[name]


def _relative(rest: str) -> str:
    return rest[2:] if rest.startswith("~/") else rest.removeprefix("/")


def _dotted(root: Root, rest: str) -> Place:
    if not rest or "/" in rest:
        raise BadName(f"{root.name}{rest} cannot be a directory of the Maildir++ {root.path}")
    check(rest.replace(".", "/"))
    check(f".{rest}")
    return Place(os.path.join(root.path, f".{rest}"), "maildir", above=root.path)


def _layout(path: str) -> str:
    """dotted, plain, lone (a Maildir without others) or open (nothing there that tells)."""
    try:
        found = look(path)
        if not found or not stat.S_ISDIR(found.st_mode):
            return "open"
        with os.scandir(path) as entries:
            below = [e.name for e in entries if e.name not in MAILDIR_PARTS]
        if not _is_maildir(path):
            return "plain" if below else "open"
        dotted, plain = (_first_maildir(path, (n for n in below if n.startswith(".") == dot)) for dot in (True, False))
    except OSError as err:
        raise StoreError(f"{path}: {why(err)}") from err
    if dotted and plain:
        raise StoreError(
            f"{path} has the Maildirs {dotted} and {plain}: it is neither Maildir++ nor a tree",
            "Say which it is: format maildir++ or format maildir",
        )
    return "dotted" if dotted else "plain" if plain else "lone"


def _first_maildir(path: str, names: Iterable[str]) -> str | None:
    return next((name for name in names if _is_maildir(os.path.join(path, name))), None)


def _is_maildir(path: str) -> bool:
    return os.path.isdir(path) and recognise(path, "maildir") is not None


def _inside_maildir(path: str) -> bool:
    while len(path) > 1:
        path, level = os.path.split(path)
        if level in MAILDIR_PARTS and _is_maildir(path):
            return True
    return False


def _login() -> str | None:
    import pwd

    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return None
