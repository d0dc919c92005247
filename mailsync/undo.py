"""Put back what the last run has deleted. The next run carries it to the other side: it is new there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from .drivers.contract import Box, Wanted
from .errors import BoxError
from .kept import KeptRun, Record
from .model import DELETED, NONE, Failure, FlagChange, Identify, Listing, Mailbox, MessageId, Side, Uid
from .moving import leaves, put
from .report import Report, Summary
from .report.results import Restored
from .stores import Store, is_to_be_made


def undo(
    stores: Mapping[Side, Store], run: KeptRun, identify: Identify, report: Report, summary: Summary, *, simulate: bool
) -> None:
    """What cannot be put back stays where it is kept, and is told. `summary` counts."""
    for record in run.records():
        if not run.holds(record):
            continue
        store = stores[record.side]
        if record.store != store.name:
            summary.failed += 1
            report.problem(
                f"{record.boxname}: was deleted from store {record.store}, which is no longer in this channel"
            )
            continue
        try:
            with _lying(store, run, record, identify) as (kept, uids):
                arrived, failed = (0, []) if simulate else _put_back(store, record, kept, uids)
                report.restored(Restored(record.boxname, store.name, len(uids) if simulate else arrived))
        except (BoxError, OSError) as err:
            arrived, failed = 0, [Failure(record.boxname, str(err), err.hint if isinstance(err, BoxError) else "")]
        for failure in failed:
            summary.failed += 1
            report.problem(f"{record.boxname}: not put back: {failure}", failure.hint)
        summary.copied[record.side] += arrived
    if not simulate and not summary.failed:
        run.remove()


@contextmanager
def _lying(store: Store, run: KeptRun, record: Record, identify: Identify) -> Iterator[tuple[Box, list[Uid]]]:
    """Where the messages of a record are, and which they are there."""
    if record.maildir:
        maildir = run.maildir(record.maildir)
        uids = [entry.uid for entry in maildir.listing(identify).entries]
        with maildir.open(write=True) as box:
            yield box, uids
        return
    mailbox = Mailbox(record.trash)
    [(_, listing)] = store.driver.listings([Wanted(mailbox)], identify)
    if isinstance(listing, Failure):
        raise BoxError(f"{mailbox}: {listing.why}", listing.hint)
    with store.driver.open(mailbox, write=True) as box:
        yield box, _found(listing, record)


def _found(listing: Listing, record: Record) -> list[Uid]:
    """By what the trash calls them; where that is not known, or no longer true, the newest with their ids."""
    same = listing.validity == record.validity
    there = {entry.uid: entry.id for entry in listing.entries}
    newest = {entry.id: entry.uid for entry in listing.entries}
    found = []
    for uid, id in zip(map(Uid, record.uids), map(MessageId, record.ids), strict=True):
        if same and there.get(uid) == id:
            found.append(uid)
        elif not (same and uid) and id in newest:
            found.append(newest[id])
    return found


def _put_back(store: Store, record: Record, kept: Box, uids: list[Uid]) -> tuple[int, list[Failure]]:
    boxname = record.boxname
    if not uids:
        return 0, []
    if is_to_be_made(store.find(boxname)):
        store.create(boxname)
    with ExitStack() as stack:
        target = stack.enter_context(store.open(boxname, write=True))
        # Marked \Deleted, it would be deleted again, or not be copied to the other side.
        list(kept.set_flags([FlagChange(uid, NONE, frozenset({DELETED})) for uid in uids]))
        arrived, failed = put(kept, target, uids)
        if arrived and not leaves(kept, target):
            answers = kept.expunge(list(arrived))
            failed |= {Uid(answer.what): answer for answer in answers if isinstance(answer, Failure)}
    return len(arrived), [failure for failure in failed.values() if not failure.gone]
