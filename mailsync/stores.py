"""A store as a channel sees it: a driver, and the names that its mailboxes have on both sides."""

from __future__ import annotations

from _thread import RLock  # threading would cost each run a millisecond
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial

from .cache import Cache
from .config.values import StoreConfig
from .drivers.contract import Box, Driver, FindsMany, Wanted
from .errors import BoxError, StoreError
from .mapping import MappedNames, NoPartner, Renaming
from .model import BoxInfo, Boxname, Failure, Holds, Identify, Listing, Mailbox
from .names import BadName, Names, Patterns, is_inbox


@dataclass(frozen=True, slots=True)
class Contents:
    """The names of a store."""

    boxes: Mapping[Boxname, BoxInfo]
    failed: Mapping[Boxname, Failure]  # there is something, but it cannot be listed; all names below it likewise
    strays: frozenset[Boxname]  # those of `failed` that are no mail
    unwanted: Mapping[Boxname, str]  # what the store leaves out, and why
    nameless: Mapping[Mailbox, Failure] = field(default_factory=dict)  # what the channel has no name for

    def failure(self, boxname: Boxname) -> Failure | None:
        """Why nothing can be said of this boxname; None if its presence or absence is sure."""
        if boxname in self.failed:
            return self.failed[boxname]
        parts = boxname.split("/")
        above = (Boxname("/".join(parts[:n])) for n in range(1, len(parts)))
        return next((self.failed[name] for name in above if name in self.failed), None)


@dataclass(frozen=True, slots=True)
class Store:
    """A store, opened. While it is listed in one thread, another may look at single mailboxes of it."""

    config: StoreConfig
    driver: Driver
    names: Names | MappedNames
    patterns: Patterns
    texts: Sequence[str]  # of the patterns
    cache: Cache | None = None
    turn: RLock = field(default_factory=RLock, compare=False, repr=False)  # who has it may use the driver and the cache

    @property
    def name(self) -> str:
        return self.config.name

    def mapped(self, pairs: Sequence[tuple[str, str]]) -> Store:
        """The store as side b of a channel that calls its mailboxes otherwise."""
        return replace(self, names=MappedNames(self.names, Renaming(pairs))) if pairs else self

    def contents(self) -> Contents:
        """All names of the store, or StoreError."""
        boxes: dict[Boxname, BoxInfo] = {}
        failed: dict[Boxname, Failure] = {}
        strays: set[Boxname] = set()
        unwanted: dict[Boxname, str] = {}
        nameless: dict[Mailbox, Failure] = {}
        infos = self.driver.boxes(self.texts)
        self._forget_others(infos)
        for info in infos:
            try:
                boxname = self.names.boxname(info.mailbox)
            except NoPartner as err:
                nameless[info.mailbox] = Failure(
                    info.mailbox, str(err), "Leave it out with `pat !NAME`, or map it, too."
                )
                continue
            except BadName as err:
                raise StoreError(f"store {self.name}: {err}", "Give the store a pat and a prefix that fit.") from err
            if info.unwanted:
                unwanted[boxname] = info.unwanted
            elif info.failure:
                failed[boxname] = info.failure
                if info.stray:
                    strays.add(boxname)
            else:
                boxes[boxname] = info
        return Contents(boxes, failed, frozenset(strays), unwanted, nameless)

    def _forget_others(self, infos: Sequence[BoxInfo]) -> None:
        """What is known of mailboxes that would be listed if they were there. Below what cannot be seen, any may be."""
        if self.cache and not any(info.failure for info in infos):
            names = {info.mailbox for info in infos}
            self.cache.forget(lambda mailbox: mailbox not in names and self.patterns.matches(mailbox))

    def told(self, contents: Contents) -> str:
        """What was found, for -d."""
        uses = "".join(f", {name} is {info.use}" for name, info in contents.boxes.items() if info.use)
        return (
            f"store {self.name}: {type(self.driver).__name__}, delimiter {self.driver.delimiter!r}, patterns"
            f" {' '.join(self.texts)}: {len(contents.boxes)} names, {len(contents.failed)} that cannot be listed{uses}"
        )

    def listings(
        self, boxnames: Iterable[Boxname], identify: Identify
    ) -> Generator[tuple[Boxname, Listing | Failure], None, None]:
        """These mailboxes as the driver lists them. What is known is not read again; what was read is known then."""
        names: dict[Mailbox, Boxname] = {self.mailbox(boxname): boxname for boxname in boxnames}
        wanted = [Wanted(one, partial(self.cache.known, one)) if self.cache else Wanted(one) for one in names]
        try:
            listed = iter(self.driver.listings(wanted, identify))
            while True:
                with self.turn:
                    mailbox, found = next(listed, (None, None))
                    if self.cache and isinstance(found, Listing):
                        self.cache.keep(found)
                if mailbox is None or found is None:
                    break
                yield names.pop(mailbox), found
        except BoxError as err:
            for boxname in names.values():
                yield boxname, Failure(boxname, str(err), err.hint)

    def mailbox(self, boxname: Boxname) -> Mailbox:
        return self.names.mailbox(boxname)

    def wants(self, boxname: Boxname) -> bool:
        """True if a mailbox of this name would be listed, were it there."""
        return self.patterns.matches(self.mailbox(boxname))

    def is_trash(self, boxname: Boxname) -> bool:
        """True for the mailbox in which this store keeps what was deleted: it is in no channel."""
        trash = self.config.delete.trash
        return bool(trash) and self.mailbox(boxname) == trash

    def is_inbox(self, boxname: Boxname) -> bool:
        return is_inbox(boxname) or is_inbox(self.mailbox(boxname))

    def find(self, boxname: Boxname) -> BoxInfo | None:
        return self.driver.find(self.mailbox(boxname))

    def asked(self, boxnames: Iterable[Boxname]) -> Mapping[Boxname, BoxInfo | None]:
        """What `find` tells of each, of a store that can be asked for many at once; what is left out can be no name."""
        if not isinstance(self.driver, FindsMany):
            return {}
        names: dict[Mailbox, Boxname] = {}
        for boxname in boxnames:
            with suppress(BadName, BoxError):
                names[self.mailbox(boxname)] = boxname
        return {names[mailbox]: info for mailbox, info in self.driver.find_all(list(names)).items()}

    def holds(self, boxname: Boxname) -> Holds:
        with self.turn:
            return self.driver.holds(self.mailbox(boxname))

    @contextmanager
    def open(self, boxname: Boxname, *, write: bool) -> Iterator[Box]:
        with self.turn, self.driver.open(self.mailbox(boxname), write=write) as box:
            yield box

    def create(self, boxname: Boxname) -> None:
        self.driver.create(self.mailbox(boxname))

    def delete(self, boxname: Boxname) -> None:
        self.driver.delete(self.mailbox(boxname))

    def rename(self, old: Boxname, new: Boxname) -> None:
        self.driver.rename(self.mailbox(old), self.mailbox(new))

    @contextmanager
    def trash(self, boxname: Boxname) -> Iterator[Box]:
        """The mailbox for what is deleted from a box, whichever that is; open, and made if it is not there."""
        mailbox = Mailbox(self.config.delete.trash)
        if is_to_be_made(self.driver.find(mailbox)):
            self.driver.create(mailbox)
        with self.driver.open(mailbox, write=True) as box:
            yield box


def is_to_be_made(info: BoxInfo | None) -> bool:
    """There is no mailbox, or half of one: a run was killed that made it."""
    return info is None or not (info.selectable or info.failure)


def over(config: StoreConfig, driver: Driver, texts: Sequence[str]) -> Store:
    """A store over a driver of this machine that is open. `texts`: of the patterns."""
    return Store(config, driver, Names(config.prefix, driver.delimiter), Patterns(texts, driver.delimiter), texts)
