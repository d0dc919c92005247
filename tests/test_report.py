"""What is shown, and how: fit for a terminal, in columns, to streams that may go away."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.errors import StoreError
from mailsync.identity import identify
from mailsync.model import Boxname, Head, Uid
from mailsync.out import Out
from mailsync.report import Summary
from mailsync.report.classic import Classic
from mailsync.report.columns import LINE, day, fit, message
from mailsync.report.headers import Telling
from mailsync.report.jsonlines import JsonLines
from mailsync.report.printable import printable, printable_lines

NEW_YEAR = 1704067200  # 2024, as UTC


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "UTC")
        time.tzset()
        yield
    time.tzset()


# ---- printable -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain text, gr\xfcn \u4e2d \U0001f600", "plain text, gr\xfcn \u4e2d \U0001f600"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\nb\tc\rd", "a\\x0ab\\x09c\\x0dd"),
        ("\x7f\x80\x9b", "\\x7f\\x80\\x9b"),
        ("\udcff", "\\xff"),
        ("\ud800", "\\ud800"),
        ("\u202eevil\u2066", "\\u202eevil\\u2066"),
        ("zero\u200bwidth\ufeff", "zero\\u200bwidth\\ufeff"),
        ("\u2028\u2029", "\\u2028\\u2029"),
        ("\U000e0041", "\\U000e0041"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, shown: str) -> None:
    assert shown == printable(text)


@given(st.text() | st.binary().map(os.fsdecode))
def test_printable_text_can_be_encoded_and_holds_no_control(text: str) -> None:
    shown = printable(text)

    shown.encode()
    assert shown == printable(shown)
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in shown)


@given(st.text())
def test_lines_of_our_own_stay_lines(text: str) -> None:
    shown = printable_lines(text)

    assert [printable(line) for line in text.split("\n")] == [line.replace("\t", "\\x09") for line in shown.split("\n")]


# ---- columns ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ab", "ab  "),
        ("abcd", "abcd"),
        ("abcde", "abcd"),
        ("", "    "),
        ("\u4e2d\u6587", "\u4e2d\u6587"),
        ("\u4e2d\u6587\u5b57", "\u4e2d\u6587"),
        ("a\u4e2d\u6587", "a\u4e2d "),
        ("e\u0301e\u0301", "e\u0301e\u0301  "),
        ("abcde\u0301", "abcd"),
        ("abce\u0301", "abce\u0301"),
        ("\u0e01\u0e34\u0e01", "\u0e01\u0e34\u0e01  "),
        ("\u2764\ufe0f", "\u2764\ufe0f  "),
        ("\U0001f600!", "\U0001f600! "),
    ],
)
def test_text_takes_four_columns(text: str, shown: str) -> None:
    assert shown == fit(text, 4)


@given(st.text(alphabet="a\u4e2d\xfc\U0001f600", max_size=20), st.integers(0, 12))
def test_columns_are_filled_exactly(text: str, width: int) -> None:
    wide = sum(2 if char in "\u4e2d\U0001f600" else 1 for char in fit(text, width))

    assert wide == width


def head(sender: bytes = b"", subject: bytes = b"", date: int = NEW_YEAR) -> Head:
    return Head(Uid("1"), b"From: " + sender + b"\nSubject: " + subject + b"\n", date)


def test_line_of_a_message() -> None:
    assert "Mon Jan  1 Eve                    Hello                      " == message(head(b"Eve <eve@x>", b"Hello"))


def test_long_line_of_a_message_is_cut_off() -> None:
    shown = message(head(b"e" * 50 + b"@x", b"s" * 50))

    assert "Mon Jan  1 " + "e" * 22 + " " + "s" * 29 == shown


def test_encoded_words_are_decoded_and_folding_is_one_blank() -> None:
    shown = message(head(b"=?utf-8?b?SsO8cmdlbg==?= <j@x>", b"=?iso-8859-1?q?gr=FCn?=\n and\n\tblue"))

    assert "Mon Jan  1 J\xfcrgen                 gr\xfcn and blue" == shown.rstrip()


def test_line_of_a_message_without_header_is_blank() -> None:
    assert " " * LINE == message(None)
    assert ("Mon Jan  1" + " " * LINE)[:LINE] == message(head())


@pytest.mark.parametrize("date", [10**18, -(10**18), 2**70])
def test_impossible_date_is_blank(date: int) -> None:
    assert " " * 11 == day(date)


@given(st.binary(max_size=80), st.binary(max_size=80))
def test_any_bytes_make_one_line(sender: bytes, subject: bytes) -> None:
    shown = message(Head(Uid("1"), b"From: " + sender + b"\nSubject: " + subject + b"\n", NEW_YEAR))

    assert shown == printable(shown)


# ---- out -------------------------------------------------------------------------------------------------------------


def test_reader_that_is_gone_is_no_failure() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as file:
        out = Out(file)
        out.line("one")
        out.line("two")

    assert out.lost is None


def test_full_disk_is_remembered() -> None:
    with open("/dev/full", "w") as file:
        out = Out(file)
        out.line("one")
        out.line("two")

    assert out.lost
    assert out.lost.strerror == "No space left on device"


def test_closed_stream_takes_anything() -> None:
    out = Out(None)
    out.line("one")

    assert (None, False) == (out.lost, out.is_terminal)


@pytest.mark.parametrize(("encoding", "shown"), [("ascii", b"gr\\xfcn \\u4e2d\n"), ("latin-1", b"gr\xfcn \\u4e2d\n")])
def test_what_the_encoding_lacks_is_escaped(encoding: str, shown: bytes) -> None:
    raw = io.BytesIO()
    wrapper = io.TextIOWrapper(raw, encoding)
    Out(wrapper).line("gr\xfcn \u4e2d")

    assert shown == raw.getvalue()


# ---- reports ---------------------------------------------------------------------------------------------------------


@dataclass
class Both:
    """What a report wrote on stdout and stderr."""

    out: io.StringIO = field(default_factory=io.StringIO)
    err: io.StringIO = field(default_factory=io.StringIO)

    def classic(self, *, quiet: bool = False, warnings: bool = False, debugging: bool = False) -> Classic:
        return Classic(Out(self.out), Out(self.err), quiet=quiet, warnings=warnings, debugging=debugging)


def test_many_lines_of_an_error_cannot_pass_for_several_errors() -> None:
    both = Both()
    both.classic().problem("a\nmailsync: b\x1b", "do\n\tthis")

    assert "mailsync: a\n  mailsync: b\\x1b\n  do\n  \tthis\n" == both.err.getvalue()


def test_quiet_keeps_the_heading_until_there_is_something_to_tell() -> None:
    both = Both()
    report = both.classic(quiet=True)
    report.begin("sync", ["ab", "a", "b"])
    assert both.out.getvalue() == ""

    report.removed(Boxname("old"), [("a/old", None)])
    assert both.out.getvalue() == 'Synchronizing stores "a" <-> "b"...\nold: deleting\n  a/old\n'


def test_notes_are_told_with_warnings_or_where_asked_for() -> None:
    silent, told = Both(), Both()
    for both, warnings in ((silent, False), (told, True)):
        report = both.classic(warnings=warnings)
        report.note("one")
        report.note("two", asked=True)

    assert ("mailsync: two\n", "mailsync: one\nmailsync: two\n") == (silent.err.getvalue(), told.err.getvalue())


def test_traceback_is_told_with_debug_only() -> None:
    silent, told = Both(), Both()
    for both, debugging in ((silent, False), (told, True)):
        try:
            raise StoreError("gone", "look")
        except StoreError as error:
            both.classic(debugging=debugging).error(error, error.code)

    assert silent.err.getvalue() == "mailsync: gone\n  look\n"
    assert "Traceback" in told.err.getvalue()
    assert __file__ in told.err.getvalue()


def test_json_lines_are_ascii_whatever_they_tell() -> None:
    out = io.StringIO()
    report = JsonLines(Out(out))
    report.begin("sync", ["ab", "\x1b", "b\udcff"])
    report.problem("\u202e\n")
    report.error(StoreError("\x9b", "hint"), 6)
    report.end(Summary())

    lines = out.getvalue().splitlines()
    assert out.getvalue().isascii()
    assert ["begin", "problem", "error", "end"] == [json.loads(line)["event"] for line in lines]
    assert ["\x1b", "b\udcff"] == json.loads(lines[0])["stores"]
    assert {"event": "error", "code": 6, "text": "\x9b", "hint": "hint"} == json.loads(lines[2])


def test_mended_ids_and_junk_are_told_while_they_are_read() -> None:
    both = Both()
    telling = Telling(identify("msgid"), both.classic(), ids=True, junk=True)

    assert "<a@x>" == telling(b"Message-ID: a@x\njunk \x1b\n")
    assert both.err.getvalue().splitlines() == [
        "mailsync: Message-ID a@x is read as <a@x>",
        "mailsync: <a@x>: no header field: junk \\x1b",
    ]


def test_progress_needs_no_rich_until_it_is_drawn() -> None:
    code = (
        "from mailsync.report.progress import RichProgress as R; R().pause(); import sys; print('rich' in sys.modules)"
    )

    assert subprocess.check_output([sys.executable, "-c", code]) == b"False\n"
