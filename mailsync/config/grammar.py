"""Read a configuration. Knows no files: a text goes in, a Config or a ConfigError with all faults comes out.

    file     := { "store" NAME settings | "channel" NAME STORE STORE settings | "group" NAME members }
    settings := "{" { KEY VALUE } "}"              some keys take two values
    members  := "{" { MEMBER } "}" | { MEMBER }    a MEMBER is a channel or a group

Tokens are as in 5.2.7: divided by white space; '#' begins a comment only where a token could begin; a backslash takes
the next character as it is; braces count only as tokens of their own, so that `{host/user=x}` is a value. New are
"quoted text", and that a brace alone is no value. Line ends are white space, with one exception: in a group the words
store, channel and group are names, but not where they begin a line. There a group without braces ends.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import cache, reduce
from itertools import islice, takewhile
from typing import TYPE_CHECKING

from ..errors import ConfigError
from ..wording import did_you_mean, quoted
from . import meaning
from .blocks import MOST_FAULTS, NAMES, Block, Reading
from .keys import CHANNEL, STORE, TABLES
from .source import BLANKS, COMMENT, END, QUOTED, TEXT, Source, Word
from .values import Config

if TYPE_CHECKING:
    from pyparsing import ParserElement, ParseResults


def parse(text: str, filename: str) -> Config:
    """Read a whole file, or raise ConfigError with every fault, in the order of the file.

    Of several syntax errors in one block only the first is told; values are checked everywhere.
    """
    reading = Reading(Source(filename, text, {*STORE, *CHANNEL}))
    blocks = list(_blocks(text, reading))
    config = meaning.of(blocks, reading)
    if reading.faults:
        raise ConfigError(reading.report())
    return config


# ---- syntax ----------------------------------------------------------------------------------------------------------

A_BLOCK = "'store', 'channel' or 'group'"
A_SETTING = "a setting or '}'"
A_MEMBER = "the name of a channel or '}'"
A_BRACE = "'{'"


@cache
def _grammar() -> ParserElement:
    """One block, or the end of the file."""
    import pyparsing as pp

    def word(pattern: str, name: str) -> ParserElement:
        terminal = pp.Regex(pattern, re.DOTALL).set_whitespace_chars(BLANKS).set_name(name)
        return terminal.set_parse_action(lambda _text, loc, found: Word(loc, found[0]))

    def sequence(*parts: ParserElement) -> ParserElement:
        """What follows the first part is an error where it is something else."""
        return reduce(lambda done, part: done - part, parts)

    def braced(element: ParserElement, close: str) -> ParserElement:
        opening, closing = word(r"\{" + END, A_BRACE), word(r"\}" + END, close)
        return sequence(pp.Suppress(opening), pp.ZeroOrMore(element), pp.Suppress(closing))

    def setting(key: str, takes: int) -> ParserElement:
        which = ["a", "a second"][:takes]
        return sequence(word(key + END, key), *(word(TEXT, f"{one} value for '{key}'") for one in which))

    def block(kind: str, *names: str) -> ParserElement:
        settings = pp.MatchFirst([setting(key, one.takes) for key, one in TABLES[kind].items()])
        return sequence(word(kind + END, kind), *(word(TEXT, name) for name in names), braced(settings, A_SETTING))

    store = block("store", "a name for the store")
    channel = block("channel", "a name for the channel", "the name of its first store", "the name of its second store")
    member = word(TEXT, "the name of a channel").add_condition(_is_member)
    members = pp.MatchFirst([braced(member, A_MEMBER), pp.OneOrMore(member)]).set_name("'{' or the name of a channel")
    group = sequence(word("group" + END, "group"), word(TEXT, "a name for the group"), members)
    # The error stop after nothing: what is neither block nor end is an error, where scan_string would pass over it.
    blocks = pp.Empty() - pp.MatchFirst([store, channel, group, pp.StringEnd()]).set_name(A_BLOCK)
    return blocks.ignore(word(COMMENT, "a comment")).parse_with_tabs()


def _is_member(text: str, at: int, found: ParseResults) -> bool:
    """The name of a kind of block is a name in a group, too, but not where it begins a line."""
    return found[0].raw not in NAMES or bool(text[text.rfind("\n", 0, at) + 1 : at].strip(BLANKS))


def _blocks(text: str, reading: Reading) -> Iterator[Block]:
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


def _block(words: Sequence[Word]) -> Block:
    kind = words[0].text
    end = 1 + NAMES[kind]
    names, rest = tuple(words[1:end]), words[end:]
    if kind == "group":
        return Block(kind, names, members=tuple(rest))
    return Block(kind, names, tuple(_settings(kind, rest)))


def _settings(kind: str, words: Sequence[Word]) -> Iterator[tuple[Word, ...]]:
    """Each key with its values; the last may lack some."""
    begin = 0
    while begin < len(words):
        end = begin + 1 + TABLES[kind][words[begin].raw].takes
        yield tuple(words[begin:end])
        begin = end


def _next_block(source: Source, at: int) -> int | None:
    """Where the next word 'store', 'channel' or 'group' stands that begins a line or follows a '}'."""
    before = ""
    for word in source.words(at):
        if word.raw in NAMES and (before == "}" or source.begins_line(word.at)):
            return word.at
        before = word.raw
    return None


def _syntax_fault(reading: Reading, start: int, at: int, expected: str) -> None:
    source = reading.source
    before = list(takewhile(lambda word: word.at < at, source.words(start)))
    head = list(islice(source.words(start), 2))
    reading.broken |= {word.text for word in head[1:]}
    word = next(source.words(at), None)
    note = ""
    if expected == A_SETTING and (taken := _taken_for_a_value(source, before)):
        key, word = taken
        expected = f"a second value for '{key.raw}'"
    elif expected in (A_SETTING, A_MEMBER) and (not word or word.raw in NAMES):
        note = f"; {head[0].raw} {quoted(head[1].text)} of line {source.where(head[0].at).line} is not closed"
    elif expected == A_SETTING and word:
        note = _setting_note(source, head[0].raw, word)
    elif expected == A_BRACE and word:
        note = "; a blank must stand before '{'" if source.text[:at].rstrip(BLANKS).endswith("{") else ""
    elif "value for" in expected:
        note = _value_note(source, before[-1], word)
    elif word and word == head[0]:
        note = did_you_mean(word.text, NAMES)
    reading.fault(word.at if word else source.end, f"found {_found(source, word)}, expected {expected}{note}")


def _found(source: Source, word: Word | None) -> str:
    if not word:
        return "the end of the file"
    if word.raw.startswith('"') and not re.fullmatch(QUOTED, word.raw, re.DOTALL):
        return "a quote that is not closed, or has text behind it"
    return source.quoted(word)


def _taken_for_a_value(source: Source, before: Sequence[Word]) -> tuple[Word, Word] | None:
    """The last key of a block, and what took the place of its second value: the setting of the next line."""
    kind = before[0].raw
    for key, *values in list(_settings(kind, before[2 + NAMES[kind] :]))[-1:]:
        if len(values) > 1 and values[-1].raw in TABLES[kind] and source.begins_line(values[-1].at):
            return key, values[-1]
    return None


def _value_note(source: Source, before: Word, word: Word | None) -> str:
    """What may have been meant where a value is missing."""
    at = word.at if word else len(source.text)
    if "#" in source.text[before.at + len(before.raw) : at]:
        return r"; a value that begins with '#' is written '\#'"
    if word and word.raw in ("{", "}"):
        return f"; a brace as a value is written '\\{word.raw}'"
    return ""


def _setting_note(source: Source, kind: str, word: Word) -> str:
    """What may have been meant by a word that is no setting."""
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
