"""What the blocks of a file mean: values, names that stand for other blocks, groups. Knows no text but words."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from typing import Any

from ..spec import SpecError
from ..wording import did_you_mean, quoted
from . import sense
from .blocks import NAMES, Block, Reading
from .keys import TABLES, BadValue, default_ref
from .source import Word
from .values import ChannelConfig, Config, StoreConfig


def of(blocks: Sequence[Block], reading: Reading) -> Config:
    """The whole file; what it cannot mean is told to `reading`."""
    stores = {block.name.text: _store(block, reading) for block in blocks if block.kind == "store"}
    channels = {block.name.text: _channel(block, reading) for block in blocks if block.kind == "channel"}
    _check_names(blocks, reading)
    groups = _groups({block.name.text: block for block in blocks if block.kind == "group"}, reading)
    if not reading.faults:
        by_name = {block.name.text: block for block in blocks}
        for name, odd in sense.of_config(stores, channels):
            _check_sense(by_name[name], [odd], reading)
    warnings = tuple(text for _, text in sorted(reading.warnings))
    return Config(reading.source.filename, stores, channels, warnings, groups)


# ---- stores and channels ---------------------------------------------------------------------------------------------


def _store(block: Block, reading: Reading) -> StoreConfig:
    fields = _fields(block, reading)
    fields["ref"] = fields.get("ref") or default_ref(fields.get("server", ""))
    store = StoreConfig(name=block.name.text, where=reading.source.where(block.name.at), **fields)
    _check_sense(block, sense.of_store(store), reading)
    return store


def _channel(block: Block, reading: Reading) -> ChannelConfig:
    fields = _fields(block, reading)
    if "msinfo" not in {key.raw for key, *_ in block.settings}:
        reading.fault(block.name.at, f"found no 'msinfo' in {block}, expected one, such as 'msinfo .msinfo'")
    fields.setdefault("msinfo", "")
    name, a, b = (word.text for word in block.names)
    channel = ChannelConfig(name=name, a=a, b=b, where=reading.source.where(block.name.at), **fields)
    _check_sense(block, sense.of_channel(channel), reading)
    return channel


def _fields(block: Block, reading: Reading) -> dict[str, Any]:
    """The values of a block's settings, by the name of their field."""
    fields: dict[str, Any] = {}
    given: set[str] = set()
    for key, *values in block.settings:
        setting = TABLES[block.kind][key.raw]
        if setting.key in given and not setting.adds_up:
            reading.warn(key.at, f"'{key.raw}' is given again in {block}; the last one holds")
        given.add(setting.key)
        read = []
        for value in values:
            try:
                read.append(setting.read(value.text))
            except (BadValue, SpecError) as err:
                reading.fault(value.offset(err.column), str(err))
        if len(read) == setting.takes:
            one = read[0] if setting.takes == 1 else tuple(read)
            fields[setting.field] = (*fields.get(setting.field, ()), one) if setting.adds_up else one
    return fields


def _check_sense(block: Block, found: Iterable[sense.Odd], reading: Reading) -> None:
    for odd in found:
        at = _place(block, odd)
        if odd.is_fault:
            reading.fault(at, odd.message)
        else:
            reading.warn(at, f"{block}: {odd.message}")


def _place(block: Block, odd: sense.Odd) -> int:
    if not odd.key:
        return block.name.at
    lines = [setting for setting in block.settings if setting[0].raw == odd.key]
    return lines[odd.nth][odd.word].at


# ---- names -----------------------------------------------------------------------------------------------------------


def _check_names(blocks: Sequence[Block], reading: Reading) -> None:
    """Names are told apart, channels join two different stores that are there, and groups hold channels."""
    first: dict[str, Block] = {}
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
        return  # what the rest defines is not known
    for block in (block for block in blocks if block.kind == "channel"):
        a, b = block.names[1:]
        for word in (a, b):
            _check_kind(word, ("store",), first, reading)
        if a.text == b.text:
            reading.fault(b.at, f"found store {quoted(b.text)} twice in {block}, expected two different stores")
    for block in (block for block in blocks if block.kind == "group"):
        for word in block.members:
            _check_kind(word, ("channel", "group"), first, reading)


def _check_kind(word: Word, kinds: Collection[str], first: Mapping[str, Block], reading: Reading) -> None:
    """What a name stands for must be one of these."""
    name = word.text
    found = first.get(name)
    if name in reading.broken or (found and found.kind in kinds):
        return
    what = f"a {found.kind}" if found else "which is not defined"
    note = did_you_mean(name, [other for other, block in first.items() if block.kind in kinds])
    if word.raw in NAMES:
        note = "; behind a group without braces the next block must begin a line"
    reading.fault(word.at, f"found {quoted(name)}, {what}, expected the name of a {' or a '.join(kinds)}{note}")


# ---- groups ----------------------------------------------------------------------------------------------------------


def _groups(groups: Mapping[str, Block], reading: Reading) -> dict[str, tuple[str, ...]]:
    """The channels of each group, those of groups in it where these stand; each once."""
    for block in groups.values():
        _check_members(block, reading)
    holds = {name: [word.text for word in block.members if word.text in groups] for name, block in groups.items()}
    channels: dict[str, tuple[str, ...]] = {}
    try:
        for name in TopologicalSorter(holds).static_order():
            words = groups[name].members
            channels[name] = tuple(dict.fromkeys(chain.from_iterable(channels.get(w.text, (w.text,)) for w in words)))
    except CycleError as err:
        inner, outer, *_ = err.args[1]  # from what is held to what holds it
        word = next(word for word in groups[outer].members if word.text == inner)
        message = f"found group {quoted(inner)}, which holds {quoted(outer)} itself, expected groups that form no ring"
        reading.fault(word.at, message)
    return {name: channels[name] for name in groups if name in channels}


def _check_members(block: Block, reading: Reading) -> None:
    if not block.members:
        reading.fault(block.name.at, f"found nothing in {block}, expected the name of a channel")
    known: set[str] = set()
    for word in block.members:
        if word.text in known:
            reading.fault(word.at, f"found {quoted(word.text)} again in {block}, expected each name once")
        known.add(word.text)
