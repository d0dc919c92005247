"""What side b calls a mailbox that side a calls otherwise: the lines `map A-BOX B-BOX` of a channel.

Knows boxnames and nothing of stores. A line is a pair of names, or of patterns with one `*` each, which stands for any
text at all. A name is looked for among the names first, then among the patterns in the order of the file; what no line
says is called the same on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from .model import Boxname, Mailbox, Side
from .names import BadName, Names, is_inbox
from .names import check as check_name
from .wording import clean, quoted

Pair = tuple[str, str]  # a line: what side a says, and what side b


class NoPartner(BadName):
    """A mailbox that has no name in this channel, because its namesake is the partner of another."""


class Renaming:
    """Boxname of side a <-> boxname of side b: one to one on all names that it accepts.

    A name is accepted if the way back leads to it. Else BadName: its namesake is the partner of another. If a line
    names INBOX, no other spelling of it is another mailbox: it is accepted as the line has it. `pairs` are as `check`
    wants them.
    """

    def __init__(self, pairs: Sequence[Pair]) -> None:
        lines = [_Line.of(pair) for pair in pairs]
        self._patterns = [line for line in lines if line.is_pattern]
        self._names = {
            side: {_folded(line.sides[side].text): line for line in lines if not line.is_pattern} for side in Side
        }

    def there(self, boxname: Boxname) -> Boxname:
        """What side b calls it."""
        return self._across(boxname, Side.A)

    def here(self, boxname: Boxname) -> Boxname:
        """What side a, and with it the channel, calls what side b calls so."""
        return self._across(boxname, Side.B)

    def _across(self, boxname: Boxname, side: Side) -> Boxname:
        partner, _ = self._partner(boxname, side)
        back, taken = self._partner(partner, side.other)
        if back != boxname:
            raise NoPartner(
                f"{boxname} of side {side.value} has no partner: {partner} of side {side.other.value} belongs to {back}"
                f" ({taken})"
            )
        if partner != boxname:
            for name in (partner, boxname):
                check_name(name)
        return partner

    def _partner(self, boxname: Boxname, side: Side) -> tuple[Boxname, _Line | None]:
        """What the lines say, whatever the way back, and the line that says it."""
        if line := self._names[side].get(_folded(boxname)):
            return Boxname(line.sides[side.other].text), line
        for line in self._patterns:
            if (run := line.sides[side].run(boxname)) is not None:
                return Boxname(line.sides[side.other].filled(run)), line
        return boxname, None


class MappedNames:
    """The names of the store of side b, by what side a calls them. BadName where either refuses a name."""

    def __init__(self, names: Names | MappedNames, renaming: Renaming) -> None:
        self._names = names
        self._renaming = renaming

    def boxname(self, mailbox: Mailbox) -> Boxname:
        return self._renaming.here(self._names.boxname(mailbox))

    def mailbox(self, boxname: Boxname) -> Mailbox:
        return self._names.mailbox(self._renaming.there(boxname))


# ---- what is wrong with the lines ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Problem:
    """A line that cannot be meant."""

    nth: int  # of the lines, from 0
    side: Side  # whose name it is about
    message: str


def check(pairs: Sequence[Pair]) -> Iterator[Problem]:
    """Names that are none or are there twice, and patterns that an earlier line leaves nothing to say for."""
    earlier: Mapping[Side, _Names] = {side: _Names() for side in Side}
    for nth, pair in enumerate(pairs):
        found = list(_of_pair(nth, pair))
        if not found:
            line = _Line.of(pair)
            found = [problem for side in Side for problem in _against(nth, side, line, earlier[side])]
            for side in Side:
                earlier[side].add(line.sides[side])
        yield from found


def _of_pair(nth: int, pair: Pair) -> Iterator[Problem]:
    a, b = pair
    for side, name in zip(Side, pair, strict=True):
        if why := _why_none(name):
            yield Problem(nth, side, why)
    if ("*" in a) != ("*" in b):
        yield Problem(nth, Side.B, f"found {quoted(b)} for {quoted(a)}, expected a '*' in both or in none")


def _why_none(name: str) -> str:
    if not name:
        return "found an empty name, expected one of a mailbox"
    if name.count("*") > 1:
        return f"found {quoted(name)}, expected one '*' at most"
    if "%" in name:
        return f"found {quoted(name)}, expected no '%': only '*' stands for any text here"
    try:
        check_name(name)
    except BadName as err:
        return f"found a name that no mailbox can have: {clean(str(err))}"
    return ""


def _against(nth: int, side: Side, line: _Line, earlier: _Names) -> Iterator[Problem]:
    name = line.sides[side]
    if _folded(name.text) in earlier.texts:
        yield Problem(nth, side, f"found {quoted(name.text)} again on this side, expected another name")
    elif line.is_pattern and (before := earlier.covering(name)):
        yield Problem(
            nth, side, f"found {quoted(name.text)} behind {quoted(before.text)}, which matches all that it matches"
        )


@dataclass(frozen=True, slots=True)
class _Names:
    """Those of one side, by what they begin with: a file may have thousands."""

    texts: set[str] = field(default_factory=set)  # folded
    patterns: dict[str, list[_Name]] = field(default_factory=dict)

    def add(self, name: _Name) -> None:
        self.texts.add(_folded(name.text))
        begin, wild, _ = name.text.partition("*")
        if wild:
            self.patterns.setdefault(begin, []).append(name)

    def covering(self, name: _Name) -> _Name | None:
        """The pattern that matches all that this one does; of several one of those with the shortest beginning."""
        begin = name.text.partition("*")[0]
        near = (one for end in range(len(begin) + 1) for one in self.patterns.get(begin[:end], ()))
        return next((one for one in near if one.covers(name)), None)


# ---- lines -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Name:
    """One of the two names of a line."""

    text: str

    def run(self, boxname: str) -> str | None:
        """What the `*` stands for in this name; None if it is not one of the pattern."""
        begin, end = self._around
        if len(boxname) < len(begin) + len(end) or not (boxname.startswith(begin) and boxname.endswith(end)):
            return None
        return boxname[len(begin) : len(boxname) - len(end)]

    def filled(self, run: str) -> str:
        return run.join(self._around)

    def covers(self, other: _Name) -> bool:
        """True if each name of the other pattern is one of this. A name covers nothing."""
        if "*" not in self.text:
            return False
        (begin, end), (its_begin, its_end) = self._around, other._around
        return its_begin.startswith(begin) and its_end.endswith(end)

    @property
    def _around(self) -> tuple[str, str]:
        begin, _, end = self.text.partition("*")
        return begin, end


@dataclass(frozen=True, slots=True)
class _Line:
    sides: Mapping[Side, _Name]

    @classmethod
    def of(cls, pair: Pair) -> _Line:
        return cls({side: _Name(text) for side, text in zip(Side, pair, strict=True)})

    @property
    def is_pattern(self) -> bool:
        return "*" in self.sides[Side.A].text

    def __str__(self) -> str:
        return " ".join(("map", *(f'"{name.text}"' for name in self.sides.values())))


def _folded(boxname: str) -> str:
    return "INBOX" if is_inbox(boxname) else boxname
