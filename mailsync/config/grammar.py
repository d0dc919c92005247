"""Read a configuration. Knows no files: a text goes in, a Config or a ConfigError with all faults comes out.

    file    := { "store" NAME "{" { KEY VALUE } "}" | "channel" NAME STORE STORE "{" { KEY VALUE } "}" }

Tokens are as in 5.2.7: divided by white space; '#' begins a comment only where a token could begin; a backslash takes
the next character as it is; braces count only as tokens of their own, so that `{host/user=x}` is a value. New are
"quoted text", and that a brace alone is no value.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, reduce
from itertools import islice, takewhile
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..spec import SpecError
from ..wording import clean, did_you_mean, quoted
from . import sense
from .keys import CHANNEL, STORE, BadValue, Setting, default_ref
from .source import BLANKS, COMMENT, END, QUOTED, TEXT, Source, Word
from .values import ChannelConfig, Config, StoreConfig

if TYPE_CHECKING:
    from pyparsing import ParserElement

MOST_FAULTS = 100
TABLES: Mapping[str, Mapping[str, Setting]] = {"store": STORE, "channel": CHANNEL}


def parse(text: str, filename: str) -> Config:
    """Read a whole file, or raise ConfigError with every fault, in the order of the file.

    Of several syntax errors in one block only the first is told; values are checked everywhere.
    """
    reading = _Reading(Source(filename, text, {*STORE, *CHANNEL}))
    blocks = list(_blocks(text, reading))
    stores = {block.name.text: _store(block, reading) for block in blocks if block.kind == "store"}
    channels = {block.name.text: _channel(block, reading) for block in blocks if block.kind == "channel"}
    _check_names(blocks, reading)
    if reading.faults:
        raise ConfigError(reading.report())
    return Config(filename, stores, channels, tuple(text for _, text in sorted(reading.warnings.items())))


@dataclass(frozen=True, slots=True)
class _Block:
    """A store or a channel as it stands in the file."""

    kind: str
    names: tuple[Word, ...]  # its own; of a channel also those of its stores
    settings: tuple[tuple[Word, Word], ...]

    @property
    def name(self) -> Word:
        return self.names[0]

    def __str__(self) -> str:
        return f"{self.kind} {quoted(self.name.text)}"


@dataclass(slots=True)
class _Reading:
    """What is found wrong, while the file is read."""

    source: Source
    faults: dict[int, str] = field(default_factory=dict)  # by offset, the first of each place
    warnings: dict[int, str] = field(default_factory=dict)
    broken: set[str] = field(default_factory=set)  # names of blocks that could not be read: they are there all the same
    cut: bool = False  # too many syntax errors to go on

    def fault(self, at: int, message: str) -> None:
        self.faults.setdefault(at, message)

    def warn(self, at: int, message: str) -> None:
        self.warnings[at] = f"{self.source.place(at)}: {message}"

    def report(self) -> str:
        shown = [self.source.fault(at, message) for at, message in islice(sorted(self.faults.items()), MOST_FAULTS)]
        more = len(self.faults) - len(shown)
        return "\n".join([*shown, f"and {more} more faults"] if more else shown)


# ---- syntax ----------------------------------------------------------------------------------------------------------

A_SETTING = "a setting or '}'"
A_BRACE = "'{'"


@cache
def _grammar() -> ParserElement:
    """One block, or the end of the file."""
    import pyparsing as pp

    def word(pattern: str, name: str) -> ParserElement:
        terminal = pp.Regex(pattern, re.DOTALL).set_whitespace_chars(BLANKS).set_name(name)
        return terminal.set_parse_action(lambda _text, loc, found: Word(loc, found[0]))

    def block(kind: str, *names: str) -> ParserElement:
        setting = pp.MatchFirst([word(key + END, key) - word(TEXT, f"a value for '{key}'") for key in TABLES[kind]])
        parts = [*(word(TEXT, name) for name in names), pp.Suppress(word(r"\{" + END, A_BRACE))]
        parts += [pp.ZeroOrMore(setting), pp.Suppress(word(r"\}" + END, A_SETTING))]
        return reduce(lambda done, part: done - part, parts, word(kind + END, kind))

    store = block("store", "a name for the store")
    channel = block("channel", "a name for the channel", "the name of its first store", "the name of its second store")
    # The error stop after nothing: what is neither block nor end is an error, where scan_string would pass over it.
    blocks = pp.Empty() - pp.MatchFirst([store, channel, pp.StringEnd()]).set_name("'store' or 'channel'")
    return blocks.ignore(word(COMMENT, "a comment")).parse_with_tabs()


def _blocks(text: str, reading: _Reading) -> Iterator[_Block]:
    """All blocks that can be read. After a fault it goes on where the next block seems to begin."""
    from pyparsing import ParseFatalException

    begin: int | None = 0
    while begin is not None:
        start = begin
        try:
            for tokens, _, end in _grammar().scan_string(text[begin:]):
                if tokens:
                    yield _block([Word(begin + word.at, word.raw) for word in tokens])
                start = begin + end
            return
        except ParseFatalException as err:
            _syntax_fault(reading, start, begin + err.loc, err.msg.removeprefix("Expected "))
            begin = _next_block(reading.source, begin + err.loc)
        if len(reading.faults) >= MOST_FAULTS:
            reading.cut = True
            return


def _block(words: Sequence[Word]) -> _Block:
    kind = words[0].text
    last = 2 if kind == "store" else 4
    return _Block(kind, tuple(words[1:last]), tuple(zip(words[last::2], words[last + 1 :: 2], strict=True)))


def _next_block(source: Source, at: int) -> int | None:
    """Where the next word 'store' or 'channel' stands that begins a line or follows a '}'."""
    before = ""
    for word in source.words(at):
        if word.raw in TABLES and (before == "}" or source.begins_line(word.at)):
            return word.at
        before = word.raw
    return None


def _syntax_fault(reading: _Reading, start: int, at: int, expected: str) -> None:
    source = reading.source
    head = list(islice(source.words(start), 2))
    reading.broken |= {word.text for word in head[1:]}
    word = next(source.words(at), None)
    found = _found(source, word)
    if expected == A_SETTING:
        note = _setting_note(source, head, word)
    elif expected == A_BRACE and word:
        note = "; a blank must stand before '{'" if source.text[:at].rstrip(BLANKS).endswith("{") else ""
    elif expected.startswith("a value"):
        note = _value_note(source, start, word)
    else:
        note = did_you_mean(word.text, TABLES) if word and word == head[0] else ""
    reading.fault(word.at if word else source.end, f"found {found}, expected {expected}{note}")


def _found(source: Source, word: Word | None) -> str:
    if not word:
        return "the end of the file"
    if word.raw.startswith('"') and not re.fullmatch(QUOTED, word.raw, re.DOTALL):
        return "a quote that is not closed, or has text behind it"
    return source.quoted(word)


def _value_note(source: Source, start: int, word: Word | None) -> str:
    """What may have been meant where a value is missing."""
    at = word.at if word else len(source.text)
    *_, key = takewhile(lambda before: before.at < at, source.words(start))
    if "#" in source.text[key.at + len(key.raw) : at]:
        return r"; a value that begins with '#' is written '\#'"
    if word and word.raw in ("{", "}"):
        return f"; a brace as a value is written '\\{word.raw}'"
    return ""


def _setting_note(source: Source, head: Sequence[Word], word: Word | None) -> str:
    """What may have been meant by a word that is no setting."""
    kind, name = head[0].raw, head[1].text
    if not word or word.raw in TABLES:
        return f"; {kind} {quoted(name)} of line {source.where(head[0].at).line} is not closed"
    others = [other for other in TABLES if word.raw in TABLES[other]]
    if others:
        return f"; '{word.raw}' is a setting of a {others[0]}"
    if word.raw.startswith("}"):
        return "; a blank must stand behind '}'"
    if near := did_you_mean(word.raw, TABLES[kind]):
        return near
    behind_value = not source.begins_line(word.at) and not source.text[: word.at].rstrip(BLANKS).endswith("{")
    if behind_value and word.raw != "{":
        return "; a value that holds blanks is written in quotes"
    return ""


# ---- meaning ---------------------------------------------------------------------------------------------------------


def _store(block: _Block, reading: _Reading) -> StoreConfig:
    fields = _fields(block, reading)
    fields["ref"] = fields.get("ref") or default_ref(fields.get("server", ""))
    store = StoreConfig(name=block.name.text, where=reading.source.where(block.name.at), **fields)
    _check_sense(block, sense.of_store(store), reading)
    return store


def _channel(block: _Block, reading: _Reading) -> ChannelConfig:
    fields = _fields(block, reading)
    if "msinfo" not in {key.raw for key, _ in block.settings}:
        reading.fault(block.name.at, f"found no 'msinfo' in {block}, expected one, such as 'msinfo .msinfo'")
    fields.setdefault("msinfo", "")
    name, a, b = (word.text for word in block.names)
    channel = ChannelConfig(name=name, a=a, b=b, where=reading.source.where(block.name.at), **fields)
    _check_sense(block, sense.of_channel(channel), reading)
    return channel


def _fields(block: _Block, reading: _Reading) -> dict[str, Any]:
    """The values of a block's settings, by the name of their field."""
    fields: dict[str, Any] = {}
    given: dict[str, Word] = {}
    for key, value in block.settings:
        setting = TABLES[block.kind][key.raw]
        if setting.key in given and not setting.adds_up:
            reading.warn(key.at, f"'{key.raw}' is given again in {block}; the last one holds")
        given[setting.key] = key
        try:
            read = setting.read(value.text)
        except (BadValue, SpecError) as err:
            reading.fault(value.offset(err.column), str(err))
            continue
        fields[setting.field] = (*fields.get(setting.field, ()), read) if setting.adds_up else read
    for key in given.values():
        setting = TABLES[block.kind][key.raw]
        if setting.adds_up and (number := len(fields[setting.field])) > 1:
            name = clean(block.name.text)
            reading.warn(key.at, f"store {name}: {number} patterns add up; mailsync 5.2.7 used only the last")
    return fields


def _check_sense(block: _Block, found: Iterable[sense.Odd], reading: _Reading) -> None:
    places = {key.raw: key.at for key, _ in block.settings}
    for odd in found:
        if odd.is_fault:
            reading.fault(places[odd.key], odd.message)
        else:
            reading.warn(places[odd.key], f"{block}: {odd.message}")


def _check_names(blocks: Sequence[_Block], reading: _Reading) -> None:
    """Names are told apart, and channels join two different stores that are there."""
    first: dict[str, _Block] = {}
    for block in blocks:
        name = block.name
        if not name.text:
            reading.fault(name.at, f"found an empty name, expected a name for the {block.kind}")
        elif name.text in first:
            before = first[name.text]
            place = reading.source.place(before.name.at)
            reading.fault(
                name.at, f"found the name {quoted(name.text)} again, expected another; {before} is at {place}"
            )
        first.setdefault(name.text, block)
    if reading.cut:
        return  # stores of the rest are not known
    stores = {name for name, block in first.items() if block.kind == "store"}
    for block in (block for block in blocks if block.kind == "channel"):
        a, b = block.names[1:]
        for word in (a, b):
            if word.text not in stores | reading.broken:
                reading.fault(word.at, _no_store(word.text, stores, first))
        if a.text == b.text:
            reading.fault(b.at, f"found store {quoted(b.text)} twice in {block}, expected two different stores")


def _no_store(name: str, stores: Collection[str], first: Mapping[str, _Block]) -> str:
    what = "a channel" if name in first else "which is not defined"
    return f"found {quoted(name)}, {what}, expected the name of a store{did_you_mean(name, stores)}"
