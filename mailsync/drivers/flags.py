"""Translate flags between IMAP's words and those of Maildir and MH. Pure: names and texts, no files."""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from operator import methodcaller
from typing import NamedTuple, TypeVar

from ..model import ANSWERED, DELETED, DRAFT, FLAGGED, NONE, SEEN, SYSTEM, Flags, Holds

FORWARDED = "$Forwarded"
LETTERS: Mapping[str, str] = {"D": DRAFT, "F": FLAGGED, "P": FORWARDED, "R": ANSWERED, "S": SEEN, "T": DELETED}
MOST_KEYWORDS = 26  # a to z

UNSEEN = "unseen"
SEQUENCES: Mapping[str, str] = {"replied": ANSWERED, "flagged": FLAGGED, "draft": DRAFT, "deleted": DELETED}
RESERVED = frozenset({"all", "cur", "first", "last", "new", "next", "prev", UNSEEN, *SEQUENCES})  # cur is no flag

Unique = TypeVar("Unique", bound=str)
Ranges = list[tuple[int, int]]  # sorted, both ends included, no two that touch


# ---- Maildir ---------------------------------------------------------------------------------------------------------


class Name(NamedTuple):
    """The file name of a message in a Maildir, taken apart. `"".join` puts it together again."""

    unique: str
    separator: str  # ":2," or what file systems without colons use; "" where the name ends with the unique part
    letters: str
    extra: str  # ",..." what some programs put behind the letters


def split_name(name: str) -> Name:
    """Take a file name apart. `:1,` and what else is no list of flags belongs to the unique part."""
    unique, separator, info = name.rpartition(":2,")
    if separator and "," not in info:
        return Name(unique, separator, info, "")
    if not separator:
        for other in (";2,", "!2,"):
            unique, separator, info = name.rpartition(other)
            if separator and (not info or (info.isascii() and info.isalpha())):
                break
        else:
            return Name(name, "", "", "")
    letters, comma, extra = info.partition(",")
    return Name(unique, separator, letters, comma + extra)


def split_unique(name: str) -> tuple[str, str]:
    """The unique part and the separator alone, and twice as fast as `split_name`: a listing does it 50,000 times."""
    unique, separator, info = name.rpartition(":2,")
    return (unique, separator) if separator and "," not in info else split_name(name)[:2]


def letter_table(keywords: Mapping[int, str]) -> dict[str, str]:
    """What each letter means in a Maildir with these keywords."""
    return {**{chr(ord("a") + i): name for i, name in keywords.items() if i < MOST_KEYWORDS}, **LETTERS}


class FlagsReader:
    """Flags from where a message lies: "cur/NAME" or "new/NAME".

    Other than maildir(5) says, names in new/ have letters, too: mbsync and OfflineIMAP put there what is not \\Seen, be
    it flagged or deleted, and Dovecot and Courier read it so. Equal letters give the same object: 50,000 messages have
    few different ones.
    """

    def __init__(self, table: Mapping[str, str]) -> None:
        self._table = table
        self._known: dict[str, Flags] = {}

    def of(self, where: str) -> Flags:
        _, separator, info = where.rpartition(":2,")
        letters = info.partition(",")[0] if separator else split_name(where).letters
        flags = self._known.get(letters)
        if flags is None:
            flags = frozenset(self._table[letter] for letter in letters if letter in self._table)
            self._known[letters] = flags
        return flags


def change_letters(letters: str, add: Collection[str], remove: Collection[str], table: Mapping[str, str]) -> str:
    """The letters after a change, sorted. Letters without a meaning stay.

    A flag with two letters (Dovecot keeps `$Forwarded` as a keyword, others as P) gets and loses both.
    """
    plus, minus = {flag.lower() for flag in add}, {flag.lower() for flag in remove}
    stay = {letter for letter in letters if table.get(letter, "").lower() not in minus}
    come = {letter for letter, flag in table.items() if flag.lower() in plus}
    return "".join(sorted(stay | come))


def without_letter(flags: Iterable[str], table: Mapping[str, str]) -> list[str]:
    """The keywords that have no letter yet."""
    known = {flag.lower() for flag in table.values()}
    return sorted(flag for flag in flags if flag.lower() not in known and not flag.startswith("\\"))


def maildir_holds(keywords: Mapping[int, str]) -> Holds:
    table = letter_table(keywords)
    return Holds(flags=SYSTEM | frozenset(table.values()), any_keyword=len(table) < MOST_KEYWORDS + len(LETTERS))


def in_delivery_order(uniques: Iterable[Unique]) -> list[Unique]:
    """Sorted by the second of delivery, with which a unique name begins (more digits: later), then by text."""
    found = sorted(uniques)
    found.sort(key=methodcaller("find", "."))  # keeps the order of those with equally many digits
    return found


def parse_keywords(text: bytes) -> dict[int, str]:
    """The keywords by number from the text of `dovecot-keywords`: lines of `NUMBER NAME`, others are passed over."""
    keywords = {}
    for line in text.splitlines():
        number, _, name = line.partition(b" ")
        if number.isdigit() and len(number) < 10 and name.strip():
            keywords[int(number)] = name.strip().decode("utf-8", "surrogateescape")
    return keywords


def add_keywords(text: bytes, names: Iterable[str], in_use: Collection[str]) -> bytes:
    """The text with lines for those new names that have room and can be written; all there was stays.

    `in_use`: letters that file names carry. One without a meaning gets none: the messages that carry it would all
    seem to have the new keyword.
    """
    keywords = parse_keywords(text)
    for name in without_letter(names, letter_table(keywords)):
        free = (i for i in range(MOST_KEYWORDS) if i not in keywords and chr(ord("a") + i) not in in_use)
        number = next(free, None)
        if number is None or not name or any(c <= " " or c == "\x7f" for c in name):
            continue
        keywords[number] = name
        if text and not text.endswith(b"\n"):
            text += b"\n"
        text += b"%d %s\n" % (number, name.encode("utf-8", "surrogateescape"))
    return text


# ---- MH --------------------------------------------------------------------------------------------------------------


def sequence_name(keyword: str) -> str:
    """A name for this keyword that nmh accepts: letters and digits, a letter first, no reserved word.

    Such a keyword is its own name. Any other is `kw` and its bytes, those but letters and digits, and `x`, as `xHH`.
    """
    return keyword if _plain(keyword) else _escaped(keyword)


def sequence_keyword(name: str) -> str | None:
    """The keyword that a sequence stands for; None: it stands for no keyword."""
    return name if _plain(name) else _unescaped(name)


def parse_sequences(text: bytes) -> dict[str, Ranges]:
    """The sequences from the text of `.mh_sequences`. A name that comes twice is united; what is no number is left out.

    Ranges are not spread out: `1-999999999` costs nothing.
    """
    found: dict[str, Ranges] = {}
    for _, name, ranges in _sequence_lines(text):
        found.setdefault(name, []).extend(ranges)
    return {name: _united(ranges) for name, ranges in found.items()}


def flags_by_number(sequences: Mapping[str, Ranges], numbers: Sequence[int]) -> dict[int, Flags]:
    """The flags of these messages; `numbers` sorted. Who is not in `unseen` is \\Seen."""
    flags: dict[int, Flags] = dict.fromkeys(numbers, frozenset({SEEN}))
    shared: dict[tuple[Flags, str], Flags] = {}
    for name, ranges in sequences.items():
        flag = SEEN if name == UNSEEN else SEQUENCES.get(name) or sequence_keyword(name)
        if flag is None:
            continue
        for first, last in ranges:
            for number in numbers[bisect_left(numbers, first) : bisect_right(numbers, last)]:
                old = flags[number]
                new = shared.get((old, flag))
                if new is None:
                    new = shared[old, flag] = old - {SEEN} if flag == SEEN else old | {flag}
                flags[number] = new
    return flags


class SequenceChange(NamedTuple):
    number: int
    add: Flags = NONE
    remove: Flags = NONE


def edit_sequences(text: bytes, changes: Iterable[SequenceChange], cleared: Collection[int] = ()) -> bytes:
    """The text after these changes; `cleared` numbers first leave all sequences but `cur`.

    Lines that nothing changes stay as they are. A sequence without members has no line.
    """
    lines = list(_sequence_lines(text))
    put: dict[str, set[int]] = {}
    take: dict[str, set[int]] = {}
    names: dict[str, list[str]] = {}  # of each keyword, in lower case: the sequences that stand for it
    for _, name, _ in lines:
        keyword = sequence_keyword(name)
        if keyword is not None:
            names.setdefault(keyword.lower(), []).append(name)
    for number, add, remove in changes:
        for flag in remove | add:
            wanted = (flag in add) != (flag == SEEN)
            to, other = (put, take) if wanted else (take, put)
            for name in _names_of(flag, names)[: 1 if wanted else None]:
                to.setdefault(name, set()).add(number)
                other.setdefault(name, set()).discard(number)  # the last change of a message holds

    result = []
    for raw, name, ranges in lines:
        out = take.get(name, set()).union(cleared if name != "cur" else ())
        # What is put into a sequence goes into its first line only, should it have two.
        new = _united(_without(ranges, out) + [(n, n) for n in put.pop(name, ())])
        if new == _united(ranges):
            result.append(raw)
        elif new:
            result.append(_sequence_line(name, new))
    result += [_sequence_line(name, _united([(n, n) for n in numbers])) for name, numbers in put.items() if numbers]
    return b"".join(result)


_LEGAL = re.compile(r"[A-Za-z][A-Za-z0-9]*")
_ESCAPED = re.compile(r"kw((?:[A-Za-wyz0-9]|x[0-9a-f]{2})*)")


def _plain(keyword: str) -> bool:
    return bool(_LEGAL.fullmatch(keyword) and keyword.lower() not in RESERVED and _unescaped(keyword) is None)


def _escaped(keyword: str) -> str:
    raw = keyword.encode("utf-8", "surrogateescape")
    return "kw" + "".join(chr(b) if chr(b).isascii() and chr(b).isalnum() and b != 0x78 else f"x{b:02x}" for b in raw)


def _unescaped(name: str) -> str | None:
    """What `_escaped` was given; None for a name that it would not have made, which stands for itself."""
    match = _ESCAPED.fullmatch(name)
    if match is None:
        return None
    raw = re.sub(rb"x(..)", lambda m: bytes.fromhex(m[1].decode()), match[1].encode())
    keyword = raw.decode("utf-8", "surrogateescape")
    return keyword if _escaped(keyword) == name and not _plain(keyword) else None


def _names_of(flag: str, keywords: dict[str, list[str]]) -> list[str]:
    if flag in SYSTEM:
        return [UNSEEN if flag == SEEN else next(name for name, means in SEQUENCES.items() if means == flag)]
    if flag.startswith("\\"):
        return []
    return keywords.setdefault(flag.lower(), [sequence_name(flag)])


def _sequence_lines(text: bytes) -> Iterable[tuple[bytes, str, Ranges]]:
    """(line, name, members); a line that is none has the name "" and no members. Folded as a header may be."""
    for line in re.findall(rb"[^\n]+(?:\n[ \t][^\n]*)*\n?|\n", text):  # without a blank one the next may be its rest
        name, colon, value = line.partition(b":")
        raw = line if line.endswith(b"\n") else line + b"\n"
        if not colon:
            yield raw, "", []
            continue
        ranges: Ranges = []
        for found in re.finditer(rb"\S+", value):  # one by one: most are united with the one before
            first, dash, last = found[0].partition(b"-")
            if first.isdigit() and (last.isdigit() or not dash) and len(found[0]) < 40:
                ranges += [(int(first), int(last) if dash else int(first))]
                if len(ranges) > 1 and ranges[-1] == ranges[-2]:
                    ranges.pop()
        yield raw, name.strip().decode("utf-8", "surrogateescape"), ranges


def _sequence_line(name: str, ranges: Ranges) -> bytes:
    members = " ".join(str(first) if first == last else f"{first}-{last}" for first, last in ranges)
    return f"{name}: {members}\n".encode("utf-8", "surrogateescape")


def _united(ranges: Ranges) -> Ranges:
    result: Ranges = []
    for first, last in sorted(ranges):
        if result and first <= result[-1][1] + 1:
            result[-1] = (result[-1][0], max(last, result[-1][1]))
        elif first <= last:
            result.append((first, last))
    return result


def _without(ranges: Ranges, numbers: Collection[int]) -> Ranges:
    out = sorted(numbers)
    result = []
    for first, last in ranges:
        for number in out[bisect_left(out, first) : bisect_right(out, last)]:
            result.append((first, number - 1))
            first = number + 1
        result.append((first, last))
    return result
