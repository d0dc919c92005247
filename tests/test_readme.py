"""README.rst: every example is run, every table is compared with the program.

A comment `.. test: KIND` tells what the next block or table is. Console blocks are run from top to bottom in the home
that examples/demo.py makes; `.. test: new home` begins with a new one.
"""

from __future__ import annotations

import importlib.util
import json
import re
import signal
from collections import defaultdict
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from mailsync import arguments, config, differ, errors
from mailsync.config.keys import CHANNEL, STORE
from mailsync.findings import Kind

from .samples import ROOT, new_home, shell

README = (ROOT / "README.rst").read_text(encoding="utf-8")
CODE = re.compile(r"``(.+?)``")
KEYS_OF_OLD = {"server", "ref", "pat", "prefix", "passwd", "msinfo", "sizelimit"}
DIRECTIVES = {"code-block", "contents", "list-table", "test"}


class Block(NamedTuple):
    """A `code-block`, and the mark that stands before it."""

    mark: str
    line: int
    language: str
    text: str


def _blocks() -> Iterator[Block]:
    lines = README.splitlines()
    for number, line in enumerate(lines):
        if found := re.fullmatch(r"\.\. code-block:: (\w+)", line):
            body = []
            for text in lines[number + 2 :]:
                if text and not text.startswith("   "):
                    break
                body.append(text[3:])
            mark = lines[number - 2].removeprefix(".. test: ") if lines[number - 2].startswith(".. test: ") else ""
            yield Block(mark, number + 1, found[1], "\n".join(body).rstrip() + "\n")


def blocks(language: str, mark: str | None = None) -> list[Block]:
    return [b for b in _blocks() if b.language == language and mark in (None, b.mark)]


def table(mark: str) -> list[list[str]]:
    """The rows of the table behind a mark, without its header."""
    _, found, rest = README.partition(f".. test: {mark}\n\n")
    assert found, mark
    if rest.startswith(".. list-table::"):
        body = re.split(r"\n(?=\S)", rest)[0]
        rows = [re.split(r"^ {5}-", row, flags=re.M) for row in re.split(r"^ {3}\* -", body, flags=re.M)[1:]]
        return [[" ".join(cell.split()) for cell in row] for row in rows[1:]]
    body = rest.partition("\n\n")[0]
    rule, _, *lines = body.splitlines()
    ends = [found.span() for found in re.finditer("=+", rule)]
    return [[line[start:end].strip() for start, end in ends] for line in lines if not line.startswith("=")]


def first_words(cell: str) -> str:
    """What stands in ``...``, or nothing."""
    return CODE.search(cell)[1] if CODE.search(cell) else ""  # type: ignore[index]


# ---- examples --------------------------------------------------------------------------------------------------------


def test_each_console_example_gives_the_output_that_is_shown(tmp_path: Path) -> None:
    home = new_home(tmp_path / "0")

    for number, block in enumerate(blocks("console"), start=1):
        if block.mark == "new home":
            home = new_home(tmp_path / str(number))
        for command, output in _commands(block):
            assert output == _without_blanks_at_ends(shell(home, command)), f"line {block.line}: $ {command}"


@pytest.mark.parametrize("block", blocks("text", "config"), ids=lambda block: f"line-{block.line}")
def test_each_configuration_example_is_understood(block: Block) -> None:
    found = config.parse(block.text, "README.rst")

    assert found.stores
    assert found.channels
    assert all(channel.a in found.stores and channel.b in found.stores for channel in found.channels.values())


def test_each_block_of_text_is_tested() -> None:
    assert [] == [block.line for block in blocks("text") if block.mark != "config"]


def test_each_make_target_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    named = {found for block in blocks("sh") for found in re.findall(r"^make (\w+)", block.text, re.M)}

    assert {"demo", "test", "check", "torture", "fuzz"} == named
    assert all(f"\n{target}:" in makefile for target in named)


# ---- tables ----------------------------------------------------------------------------------------------------------


def test_truth_table_is_the_one_of_the_differ() -> None:
    lines = [line for line in (differ.__doc__ or "").splitlines() if line.startswith("|") and "---" not in line]
    of_differ = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]

    assert of_differ == [[cell.replace("\\-", "-") for cell in row] for row in table("truth")]


def test_keys_of_stores_are_all_there() -> None:
    assert set(STORE) == {first_words(row[0]) for row in table("store keys")}


def test_keys_of_channels_are_all_there() -> None:
    assert set(CHANNEL) == {first_words(row[0]) for row in table("channel keys")}


def test_keys_that_the_original_does_not_know_are_told_to_who_goes_back() -> None:
    section = README.partition("\nGoing back\n")[2].partition("\nLimits\n")[0]

    assert set() == {key for key in {*STORE, *CHANNEL} - KEYS_OF_OLD if f"``{key}``" not in section}


def test_options_are_all_there() -> None:
    real = set()
    for action in arguments.parser()._actions:
        if action.option_strings:
            short = next((text for text in action.option_strings if not text.startswith("--")), "")
            long = next((text for text in action.option_strings if text.startswith("--")), "")
            value = f" {action.metavar}" if action.metavar else ""
            real.add((f"{short}{value}" if short else "", f"{long}{value}"))

    assert real == {(first_words(short), first_words(long)) for short, long, _ in table("options")}


def test_exit_codes_are_all_there() -> None:
    real = {0, 4, *(128 + number for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))}
    real |= {thing.code for thing in vars(errors).values() if _is_error(thing)}

    assert real == {int(code) for row in table("exit codes") for code in row[0].split(",")}
    assert f"in this order: {' '.join(map(str, errors.WEIGHT))}." in README


def test_kinds_of_findings_are_all_there() -> None:
    of_formats = re.findall(r'Fault\("([\w-]+)"', (ROOT / "mailsync/drivers/faults.py").read_text())

    assert {*map(str, Kind), *of_formats} == {kind for row in table("kinds") for kind in CODE.findall(row[0])}


def test_modules_are_all_there() -> None:
    package = ROOT / "mailsync"
    real = {path.relative_to(package).with_suffix("").as_posix() for path in package.rglob("[a-z]*.py")}
    packages = {path.parent.name for path in package.glob("*/__init__.py")}

    assert real == {first_words(row[0]) for row in table("modules")} - packages


def test_servers_are_those_that_the_tests_start() -> None:
    sources = (path.read_text() for path in (ROOT / "tests/servers").glob("*.py"))
    families = {name for text in sources for name in re.findall(r'^    family = "(\w+)"', text, re.M)}
    told = [row[0].lower() for row in table("servers")]

    assert len(families) == len(told)
    assert all(any(family in row for row in told) for family in families)


def test_json_events_have_the_fields_that_are_told(tmp_path: Path) -> None:
    documented = {first_words(row[0]): set(CODE.findall(re.sub(r"\(.*?\)", "", row[2]))) for row in table("events")}
    about_messages = {"from", "subject", "date"}
    allowed = {event: set(fields) for event, fields in documented.items()}
    allowed["held"] |= allowed["copy"] | allowed["flags"] | allowed["delete"]
    for event in ("copy", "move", "flags", "delete", "create", "rename", "remove"):
        allowed[event] |= {"ok", "error", "hint"}
    for event in ("copy", "move", "flags", "delete", "message"):
        allowed[event] |= about_messages

    seen: dict[str, set[str]] = defaultdict(set)
    for told in _events(new_home(tmp_path / "home")):
        fields = set(told) - {"event"}
        assert fields - {"channel"} <= allowed[told["event"]], told
        seen[told["event"]] |= fields

    missing = {event: fields - seen[event] for event, fields in documented.items() if fields - seen[event]}
    assert {} == missing
    assert about_messages <= seen["copy"] & seen["message"]


# ---- markup ----------------------------------------------------------------------------------------------------------


def test_markup_is_plain_enough_for_every_renderer() -> None:
    lines = README.splitlines()
    underlined = [
        (title, line)
        for title, line in pairwise(lines)
        if title.strip() and re.fullmatch(r"([=-])\1{3,}", line) and not title.startswith(("=", ".. "))
    ]
    used = set(re.findall(r"^\.\. ([\w-]+):", README, re.M))

    assert "\t" not in README
    assert [] == [line for line in lines if line != line.rstrip()]
    assert [] == [title for title, line in underlined if len(title) != len(line)]
    assert set() == used - DIRECTIVES
    assert [] == [line for line in lines if line.count("``") % 2]


def test_docutils_finds_nothing_wrong_where_it_is_installed() -> None:
    if importlib.util.find_spec("docutils") is None:
        return  # not one of our dependencies, and no reason to count as skipped
    core: Any = importlib.import_module("docutils.core")

    core.publish_doctree(README, settings_overrides={"halt_level": 2, "syntax_highlight": "none"})


# ---- helpers ---------------------------------------------------------------------------------------------------------


def _commands(block: Block) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", block.text, flags=re.M)[1:]:
        command, _, output = part.partition("\n")
        yield command, _without_blanks_at_ends(output)


def _without_blanks_at_ends(text: str) -> str:
    """No editor keeps blanks at the end of a line."""
    return "\n".join(line.rstrip() for line in text.splitlines()).rstrip("\n")


def _is_error(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, errors.MailsyncError)


def _events(home: Path) -> Iterator[dict[str, Any]]:
    """What a user's week may come to, in JSON: each event at least once."""
    week = """\
        sed 's/channel mail .*{/& max_delete 0/' .mailsync > careful
        mailsync --json -m -s mail
        mailsync --json mail
        rm Mail/inbox/cur/*.photo.*; mv Mail/inbox/cur/*.greetings.* Mail/inbox/cur/1.greetings:2,FS
        mailsync --json -vw -f careful mail laptop
        mailsync --json -f careful mail:inbox
        cp Mail/inbox/cur/*.potatoes-2.* Mail/inbox/cur/2.seen:2,T
        sed -i.old s/potatoes-2/another/ Mail/inbox/cur/2.seen:2,T; rm -f Mail/inbox/cur/*.old
        mailsync --json -m mail
        mkdir -p Mail/done/cur Mail/done/new Mail/done/tmp; mv Mail/inbox/cur/*.potatoes-1.* Mail/done/cur
        cp Mail/inbox/cur/*.potatoes-3.* Mail/done/cur/; mv Mail/letters Mail/post; mailsync --json mail
        sed 's/store backup *{/& delete mark /' .mailsync > marking; rm $(ls Mail/post/cur/* | head -n 1)
        mailsync --json -f marking mail; mailsync --json --undo mail
        rm -r Mail/lists; mailsync --json -D mail; mailsync --json -D mail
        mailsync --json mail to-mh
        mailsync --json -m laptop
        mailsync --json -m --check mail
        echo 'no mail' > Mail/stray; mailsync --json -vw laptop
        mailsync --json -dc
        mailsync --json -d nosuch"""
    for line in week.splitlines():
        for text in shell(home, line.strip()).splitlines():
            yield json.loads(text)
