"""Targets: what stands in files."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from unittest.mock import patch

from mailsync import addresses, header, identity, mapping, planfile, spec
from mailsync.config import grammar
from mailsync.drivers import flags, mboxtext
from mailsync.drivers.mboxscan import Contents
from mailsync.errors import ConfigError, MsinfoError, UsageError
from mailsync.model import NONE, Boxname, Flags, Mailbox
from mailsync.msinfo import text
from mailsync.names import BadName, Names, Patterns, check, is_inbox
from mailsync.report.columns import fit
from mailsync.report.printable import printable

from . import target

UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]")


def pieces(data: bytes) -> list[bytes]:
    """The same bytes in pieces; their first byte says how large."""
    size = 1 + (data[0] if data else 0) % 40
    return [data[at : at + size] for at in range(0, len(data), size)]


def folded(flags: Flags) -> set[str]:
    """Keywords are the same in any case."""
    return {flag.lower() for flag in flags}


def words(data: bytes) -> list[str]:
    return data.decode("utf-8", "surrogateescape").split("\n")


@target
def header_fields(data: bytes) -> None:
    """A header reads alike with LF and with CRLF."""
    names = (b"subject", b"message-id", b"from")
    assert list(header.fields(data, names)) == list(header.fields(data.replace(b"\n", b"\r\n"), names))


@target
def header_in_parts(data: bytes) -> None:
    """However it comes in pieces, all of it comes out; and if it is too long to be held, by the same id."""
    whole = b"".join(text for part, text in header.parts([data]) if part != "body")
    with patch.multiple(header, HOLD=60, MOST=10), patch.object(identity, "MOST", 10):
        assert data == b"".join(text for _, text in header.parts(pieces(data)))
        short = header.reduced(pieces(data))
        for kind in ("msgid", "md5"):
            assert identity.identify(kind)(whole) == identity.identify(kind)(short)


@target
def header_shown(data: bytes) -> None:
    """Nothing of it is a command to the terminal, and an address is found in any bytes."""
    addresses.parse(header.unfold(data))
    for shown in (header.decoded(data), header.address(data)):
        assert not UNFIT.search(printable(shown))
        fit(printable(shown), 20)


@target
def digests(data: bytes) -> None:
    """They do not depend on pieces, line ends, or the bookkeeping of an mbox."""
    whole = identity.examine([data])
    assert whole == identity.examine(pieces(data))
    if b"\r" not in data:
        assert whole == identity.examine(pieces(data.replace(b"\n", b"\r\n")))
    if not mboxtext.goes_on(data):
        assert whole == identity.examine(pieces(b"Status: RO\nX-TUID: a\n b\n" + data))


@target
def mbox(data: bytes) -> None:
    """What is appended to any mbox is found behind what was there, by the same digest; uids do not change."""
    sep = data.find(b"\0")
    there, message = data[: max(sep, 0)], data[sep + 1 :]
    try:
        before = Contents(there)
    except ValueError:
        return
    names = list(before.names())
    stored = b"".join(mboxtext.stored(pieces(message), NONE, 0, before.crlf))
    after = Contents(there + before.separator() + stored)
    if there.endswith(b"\n"):  # else the header of the last message may become another
        assert names == list(after.names())[: len(names)]
    assert len(names) + 1 == len(after)
    last = b"".join(mboxtext.plain(after.data, after.spans[-1], after.crlf))
    assert identity.examine([message]) == identity.examine([last])


@target
def mbox_flags(data: bytes) -> None:
    """A header that flags are put into and taken from is the message's own header."""
    head = data.partition(b"\n\n")[0] + b"\n"
    some = frozenset({"\\Seen", "\\Flagged", "k"})
    plain, _ = mboxtext.parted(head)
    with_some = mboxtext.with_flags(head, some, NONE)
    if not mboxtext.goes_on(head):
        assert plain == mboxtext.parted(with_some)[0]
        assert folded(some) <= folded(mboxtext.flags_of(with_some))
        assert not folded(some) & folded(mboxtext.flags_of(mboxtext.with_flags(with_some, NONE, some)))


@target
def memory(data: bytes) -> None:
    """Read or refused; what was read comes back from what is written of it."""
    text.date(data)
    text.candidate(data, "c")
    for kind in ("msgid", "md5"):
        with suppress(MsinfoError):
            found, _ = text.parse(data, kind)
            again, lost = text.parse(text.format(found, "c", kind, 0), kind)
            for name, box in found.items():
                assert all(Counter(box[key]) == Counter(again[name][key]) for key in box)
            assert not lost
            again_and_again, _ = text.parse(text.format(again, "c", kind, 0), kind)
            assert again == again_and_again


@target
def configuration(data: bytes) -> None:
    """Read, or refused with a place; no password in what is told."""
    try:
        grammar.parse(data.decode("utf-8", "surrogateescape"), "F")
    except ConfigError as err:
        assert str(err).startswith("F:")


@target
def specification(data: bytes) -> None:
    """Read or refused; what is shown means the same."""
    name = data.decode("utf-8", "surrogateescape")
    try:
        found = spec.parse(name)
    except spec.SpecError as err:
        assert 0 <= err.column <= len(name)
    else:
        assert found == spec.parse(str(found))


@target
def boxnames(data: bytes) -> None:
    """Any pattern matches any name or not; what is accepted as a name comes back, and leads nowhere else."""
    pattern, name, *prefix = [*words(data), "", ""]
    Patterns(pattern.split(" ")).matches(name)
    Patterns(pattern.split(" "), ".").reaches(name)
    for names in (Names(prefix[0]), Names(prefix[0], "."), Names(prefix[0], ".", slash_in_level=True)):
        with suppress(BadName):
            check(name, maildir=True)
            assert not {"", ".", "..", "cur", "new", "tmp"} & set(name.split("/")) or not name
            assert name == names.boxname(names.mailbox(Boxname(name)))
        with suppress(BadName):
            assert name == names.mailbox(names.boxname(Mailbox(name)))


@target
def other_names(data: bytes) -> None:
    """Any lines `map A B` are refused, or make names that come back."""
    some = words(data)
    pairs = list(zip(some[1::2], some[2::2], strict=False))
    if not list(mapping.check(pairs)):
        renaming = mapping.Renaming(pairs)
        with suppress(BadName):
            back = renaming.here(renaming.there(Boxname(some[0])))
            assert back == some[0] or (is_inbox(back) and is_inbox(some[0]))


@target
def sequences(data: bytes) -> None:
    """Any sequences are read; what is put into them and taken out of them is there and is not."""
    numbers = [1, 2, 3, 1000]
    flags.flags_by_number(flags.parse_sequences(data), numbers)
    change = flags.SequenceChange(2, frozenset({"\\Flagged", "key word"}), frozenset({"\\Seen"}))
    edited = flags.edit_sequences(data, [change], {3})
    found = flags.flags_by_number(flags.parse_sequences(edited), numbers)
    assert {"\\flagged", "key word"} <= folded(found[2])
    assert "\\Seen" not in found[2]
    assert frozenset({"\\Seen"}) == found[3]


@target
def keywords(data: bytes) -> None:
    """Any keywords are read; a new one is added where there is room, and no other changes its meaning."""
    before = flags.parse_keywords(data)
    after = flags.parse_keywords(flags.add_keywords(data, ["added", "a b"], {"a"}))
    assert before.items() <= after.items()
    assert set(after.values()) - set(before.values()) <= {"added"}


@target
def file_names(data: bytes) -> None:
    """The name of any file is taken apart and put together; flags change only what they are."""
    name = data.decode("utf-8", "surrogateescape").replace("/", "").replace("\0", "") or "x"
    table = flags.letter_table({0: "zero"})
    assert name == "".join(flags.split_name(name))
    assert flags.split_unique(name) == flags.split_name(name)[:2]
    letters = flags.change_letters(flags.split_name(name).letters, {"\\Seen", "zero"}, {"\\Flagged"}, table)
    assert {"S", "a"} <= set(letters)
    assert "F" not in letters
    flags.FlagsReader(table).of(f"cur/{name}")


@target
def plan(data: bytes) -> None:
    """Read or refused; what was read differs from itself in nothing."""
    with suppress(UsageError):
        found = planfile.read(data, "plan")
        assert [] == planfile.differences(found.values, found.values)
    with suppress(ValueError, RecursionError):
        value = json.loads(data)
        if isinstance(value, dict):
            with suppress(UsageError, LookupError, TypeError, ValueError, AttributeError, RecursionError):
                planfile.read(planfile.text(value).encode(), "plan")
