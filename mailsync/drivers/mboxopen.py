"""An open mbox: read, appended to, its flags changed, its messages removed. Knows nothing of stores or names.

The file stays locked as long as it is open. It changes in three ways only: a batch at its end (see mboxspool), a header
line patched by one of the same length, or all of it rewritten through a temporary file beside it.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain, islice

from .. import directories, stopping
from ..errors import BoxError
from ..header import reduced
from ..model import (
    HIDDEN,
    Appended,
    Entry,
    Failure,
    FlagChange,
    Flags,
    Head,
    Holds,
    Identify,
    Measured,
    Message,
    MessageId,
    Uid,
)
from . import delivery
from .contract import Box
from .files import FileError, measured, refusal, why, write_all
from .locks import Lock
from .mboxfile import FileData, MboxBody
from .mboxkept import State, keep, kept
from .mboxscan import Contents, Edit
from .mboxspool import Spool, SpoolError, Tail, beside, remove_spool, unfinished
from .mboxtext import (
    CHUNK,
    Source,
    Span,
    flags_of,
    numbering,
    plain_header,
    postmark_date,
    stored,
    with_first,
    with_flags,
)

BATCH = 1000  # messages appended together, or
BATCH_BYTES = 16 * 1024 * 1024
HOLDS = Holds(any_keyword=True)


class MboxBox:
    """An open mbox. What is known of the file is read anew whenever the file is not what it was."""

    def __init__(self, lock: Lock, *, write: bool, fsync: bool) -> None:
        self._lock, self._write, self._fsync = lock, write, fsync
        self._opened: list[FileData] = []
        try:
            if write:
                self._repair()
            self._load()
        except BaseException:
            self._let_go()
            raise

    def close(self) -> None:
        """Bodies cannot be read any more."""
        if self._lasting:
            keep(self._lock.path, self._state, self._contents)
        self._let_go()

    def __len__(self) -> int:
        return len(self._contents)

    @property
    def holds(self) -> Holds:
        return HOLDS

    @property
    def validity(self) -> str | None:
        return str(self._inode)

    def entries(self, identify: Identify, known: Mapping[Uid, MessageId]) -> Iterator[Entry]:
        """`known`: the ids of some."""
        for uid, span in self._current().items():
            stopping.check()
            header, flags = self._header(span)
            id = known[uid] if uid in known else identify(header)
            if id is None:
                id = identify.whole(self._body(span).chunks(wire=False))
            if id != HIDDEN:
                yield Entry(uid, id, flags)

    def fetch(self, uids: Sequence[Uid]) -> Iterator[Message | Failure]:
        names = self._current()
        for uid in uids:
            self._lock.refresh()
            if span := names.get(uid):
                try:
                    date, flags = self._date(span), flags_of(self._contents.raw_header(span))  # as they lie in the file
                except FileError as err:
                    yield self._failure(uid, err)
                    continue
                yield Message(uid, flags, date, self._body(span))
            else:
                yield _gone(uid)

    def heads(self, uids: Sequence[Uid]) -> Iterator[Head | Failure]:
        names = self._current()
        for uid in uids:
            span = names.get(uid)
            try:
                yield Head(uid, date=self._date(span), header=self._header(span)[0]) if span else _gone(uid)
            except FileError as err:
                yield self._failure(uid, err)

    def measure(self, uids: Sequence[Uid]) -> Iterator[Measured | Failure]:
        return measured(self.fetch(uids))

    def append(self, messages: Iterable[Message]) -> Iterator[Appended | Failure]:
        left = iter(messages)
        for first in left:
            pulled: list[Uid] = []
            try:
                answers = self._append(chain((first,), islice(left, BATCH - 1)), pulled)
            except SpoolError as err:
                # The disk is full, most likely: the rest would be fetched for nothing.
                for uid in chain(pulled or [first.uid], (message.uid for message in left)):
                    yield self._failure(uid, err)
                return
            yield from answers

    def set_flags(self, changes: Sequence[FlagChange]) -> Iterator[Uid | Failure]:
        names = self._current()
        headers: dict[Span, bytes] = {}
        for change in changes:
            if (span := names.get(change.uid)) and self._contents.takes_lines(span):
                raw = headers.get(span) or self._contents.raw_header(span)
                headers[span] = with_flags(raw, HOLDS.of(change.add), change.remove, crlf=self._contents.crlf)
        edits = [Edit(span.head, span.body, new) for span, new in headers.items()]
        failed = self._change([edit for edit in edits if edit.new != self._contents.data[edit.start : edit.end]])
        for change in changes:
            if (span := names.get(change.uid)) and span not in headers:
                yield Failure(change.uid, "its header begins as the rest of another line: no line can stand before it")
            else:
                yield self._answer(change.uid, span is not None, failed)

    def expunge(self, uids: Sequence[Uid]) -> Iterator[Uid | Failure]:
        names = self._current()
        going = {span for uid in uids if (span := names.get(uid))}
        failed = self._change([*(Edit(span.start, span.after, b"") for span in going), *self._renumbered(going)])
        for uid in uids:
            yield self._answer(uid, uid in names, failed)

    # ---- to another mbox ---------------------------------------------------------------------------------------------

    def reaches(self, to: Box) -> bool:
        return isinstance(to, MboxBox) and self._lock.path != to._lock.path

    def copy(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        for batch in delivery.batches(uids):
            yield from delivery.carry(batch, self, to, keep=True)

    def move(self, uids: Sequence[Uid], to: Box) -> Iterator[Appended | Failure]:
        """Both are locked: nobody can change a message after it was copied, and before it is removed.

        All that arrived is removed together: that rewrites the file.
        """
        copied: list[Appended | Failure] = []
        try:
            for answer in self.copy(uids, to):
                copied.append(answer)
        except (BoxError, OSError):
            yield from delivery.removed(self, copied)
            raise
        yield from delivery.removed(self, copied)

    # ---- what is there -----------------------------------------------------------------------------------------------

    def _load(self) -> None:
        """ValueError if it is no mbox."""
        state = State.of(self._lock.fd)
        tail = None if self._write else unfinished(self._lock.path, self._lock.fd)
        lasting = tail is None and state.lasting()
        data = self._without(tail, state.size) if tail else self._data(state.size)
        self._contents = (kept(self._lock.path, state, data) if lasting else None) or Contents(data)
        self._is_read(state, lasting=lasting)

    def _is_read(self, state: State, *, lasting: bool = False) -> None:
        """`_contents` is that of this state; not before, or an error would leave it wrong about where messages lie."""
        self._state, self._inode, self._lasting = state, state.inode, lasting

    def _let_go(self) -> None:
        for data in self._opened:
            data.close()

    def _data(self, size: int) -> Source:
        if not size:
            return b""
        # It has a descriptor of its own: closing it early may drop the lock, keeping it uses them up.
        while self._lock.survives_close and len(self._opened) > 1:
            self._opened.pop(0).close()
        data = FileData(self._lock.fd, size)
        self._opened.append(data)
        return data

    def _without(self, tail: Tail, size: int) -> Source:
        data = self._data(tail.start)
        if tail.end < size:  # rare enough to hold the file in memory
            data = data[0 : tail.start] + tail.gap + os.pread(self._lock.fd, size - tail.end, tail.end)
        return data

    def _current(self) -> dict[Uid, Span]:
        """The messages by uid. BoxError if the file was taken away, by a program that ignores locks."""
        self._lock.refresh()
        try:
            if not os.path.samestat(os.fstat(self._lock.fd), os.stat(self._lock.path)):
                raise BoxError(f"{self._lock.path} was replaced while it was locked")
            if State.of(self._lock.fd) != self._state:
                self._load()
        except (OSError, ValueError) as err:
            raise BoxError(f"{self._lock.path} was damaged while it was locked: {err}") from err
        return self._contents.names()

    def _header(self, span: Span) -> tuple[bytes, Flags]:
        """That of the message, or what tells it from others; and its flags."""
        header, flags = plain_header(self._contents.raw_header(span), self._contents.crlf)
        if self._contents.is_cut(span):
            header = reduced(self._body(span).chunks(wire=False))
        return header, flags

    def _body(self, span: Span) -> MboxBody:
        return MboxBody(self._contents.data, span, self._contents.crlf)

    def _date(self, span: Span) -> int:
        date = postmark_date(self._contents.postmark(span))
        return self._state.mtime // 10**9 if date is None else date

    # ---- changing it -------------------------------------------------------------------------------------------------

    def _append(self, messages: Iterable[Message], pulled: list[Uid]) -> list[Appended | Failure]:
        """One batch. SpoolError: nothing of it was written; `pulled` are the messages that were asked for."""
        self._current()
        failed: dict[int, Failure] = {}
        with Spool(self._lock.path, self._lock.fd, fsync=self._fsync) as spool:
            spool.write(self._contents.separator())
            for message in messages:
                self._lock.refresh()
                pulled.append(message.uid)
                size = spool.size
                try:
                    chunks = message.body.chunks(wire=False)
                    for chunk in stored(chunks, HOLDS.of(message.flags), message.date, self._contents.crlf):
                        spool.write(chunk)
                except SpoolError:
                    raise
                except FileError as err:
                    spool.cut(size)
                    failed[len(pulled) - 1] = refusal(message.uid, err)
                if spool.size >= BATCH_BYTES:
                    break
            if len(failed) < len(pulled):
                spool.commit()
        uids = iter(self._grown(len(pulled) - len(failed)))
        return [failed.get(n) or Appended(source, next(uids)) for n, source in enumerate(pulled)]

    def _grown(self, count: int) -> Sequence[Uid | None]:
        """The uids of what was appended."""
        before = len(self)
        state = State.of(self._lock.fd)
        self._contents.grow(self._data(state.size))
        self._is_read(state)
        if len(self) != before + count:
            return [None] * count
        return list(islice(reversed(self._contents.names()), count))[::-1]

    def _renumbered(self, going: set[Span]) -> Iterator[Edit]:
        """Who follows the message that keeps the file's UIDVALIDITY gets it: else IMAP clients would start anew."""
        spans = self._contents.spans
        left = next((span for span in spans if span not in going), None)
        if left and spans[0] in going and self._contents.takes_lines(left):
            raw = self._contents.raw_header(left)
            line = numbering(self._contents.raw_header(spans[0]))
            if line and not numbering(raw):
                yield Edit(left.head, left.body, with_first(line, raw))

    def _change(self, edits: Sequence[Edit]) -> OSError | None:
        """All of them or, if that fails, none."""
        if not edits:
            return None
        try:
            if all(len(edit.new) == edit.end - edit.start for edit in edits):
                self._patch(edits)
            else:
                self._rewrite(self._contents.data, sorted(edits))
                self._rewritten(sorted(edits))
        except OSError as err:
            return err
        return None

    def _patch(self, edits: Sequence[Edit]) -> None:
        before = os.fstat(self._lock.fd)
        for edit in edits:
            os.pwrite(self._lock.fd, edit.new, edit.start)
        _keep_news(self._lock.fd, before)
        if self._fsync:
            os.fsync(self._lock.fd)
        for data in self._opened:
            data.forget()
        self._is_read(State.of(self._lock.fd))

    def _rewritten(self, edits: Sequence[Edit]) -> None:
        """Where the messages lie now. If that must be read, whoever asks does so: after the last change nobody does."""
        state = State.of(self._lock.fd)
        self._inode, self._lasting = state.inode, False
        with suppress(OSError):
            if self._contents.edit(self._data(state.size), edits):
                self._is_read(state)

    def _rewrite(self, data: Source, edits: Sequence[Edit]) -> None:
        temporary = beside(self._lock.path, "rewrite")
        before = os.fstat(self._lock.fd)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | getattr(os, "O_NOATIME", 0)
        fd = os.open(temporary, flags, 0o600)
        try:
            at = 0
            for edit in [*edits, Edit(len(data), len(data), b"")]:
                for begin in range(at, edit.start, CHUNK):
                    write_all(fd, data[begin : min(begin + CHUNK, edit.start)])
                    self._lock.refresh()
                write_all(fd, edit.new)
                at = edit.end
            if (before.st_uid, before.st_gid) != (os.fstat(fd).st_uid, os.fstat(fd).st_gid):
                os.fchown(fd, before.st_uid, before.st_gid)
            os.fchmod(fd, stat.S_IMODE(before.st_mode))
            _keep_news(fd, before)
            if self._fsync:
                os.fsync(fd)
            if State.of(self._lock.fd) != self._state:
                raise FileError(errno.EBUSY, "another program, which ignores locks, changed the mbox meanwhile")
            self._lock.replace(fd, temporary)
        except BaseException:
            os.close(fd)
            with suppress(OSError):
                os.unlink(temporary)
            raise
        if self._fsync:
            directories.sync(os.path.dirname(self._lock.path))

    def _repair(self) -> None:
        """Put an end to what a killed run left."""
        with suppress(OSError):
            os.unlink(beside(self._lock.path, "rewrite"))
        tail = unfinished(self._lock.path, self._lock.fd)
        if tail:
            self._state = State.of(self._lock.fd)
            if tail.end == self._state.size:
                os.ftruncate(self._lock.fd, tail.start)
                if self._fsync:
                    os.fsync(self._lock.fd)
            else:
                self._rewrite(self._data(self._state.size), [Edit(*tail)])
        remove_spool(self._lock.path)

    def _answer(self, uid: Uid, known: bool, failed: OSError | None) -> Uid | Failure:
        if not known:
            return _gone(uid)
        return uid if failed is None else self._failure(uid, failed)

    def _failure(self, uid: Uid, err: OSError) -> Failure:
        hint = ""
        if err.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "Make room on that disk, then run mailsync again."
        elif err.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            directory = os.path.dirname(self._lock.path)
            hint = f"An mbox is changed through a second file beside it: let mailsync write to {directory}."
        return Failure(uid, why(err), hint, shared=True)


def _keep_news(fd: int, before: os.stat_result) -> None:
    """What was read last before its last change has new mail, for shells and mail readers: that shall not change.

    The second of the change is always another one: Dovecot compares no more than that, and the size, and would go on
    with what it knows of where messages lie.
    """
    now = max(os.fstat(fd).st_mtime_ns, (before.st_mtime_ns // 10**9 + 1) * 10**9)
    with suppress(PermissionError):  # only the owner may
        os.utime(fd, ns=(before.st_atime_ns if before.st_atime_ns < before.st_mtime_ns else now, now))


def _gone(uid: Uid) -> Failure:
    return Failure(uid, "no longer there", gone=True)
