"""The question of the guard to a user at a terminal: by mailbox, and only "y" deletes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from .mail import maildir, message
from .test_several import Terminal
from .test_ways import files, setup


@pytest.fixture
def thinned(home: Path) -> Path:
    """60 messages were deleted in two mailboxes; one has come."""
    setup(home, inbox=50, lists=20, kept=1)
    for file in [*files(home, "A")[:45], *files(home, "A", "lists")[:15]]:
        file.unlink()
    maildir(home / "A/fresh", message("new"))
    return home


@pytest.mark.parametrize(
    ("answer", "deletes"),
    [("y\n", True), ("Yes\n", True), ("n\n", False), ("\n", False), ("yesterday\n", False), ("\x04", False)],
    ids=["y", "Yes", "n", "nothing", "yesterday", "end_of_input"],
)
def test_user_is_asked_by_mailbox_and_only_yes_deletes(thinned: Path, answer: str, deletes: bool) -> None:
    with Terminal(thinned, "ab") as terminal:
        question = terminal.until(b"Delete them? [y/N] ").decode()
        terminal.say(answer)
        rest = terminal.rest().decode()

    assert "60 messages would be deleted from store b, more than max_delete 50:\r\n" in question
    assert [("45", "50", "inbox"), ("15", "20", "lists")] == re.findall(r" (\d+) of (\d+) +(\w+)\r\n", question)
    assert (0 if deletes else 4) == terminal.code
    assert (not deletes) == ("--allow-mass-delete=60" in rest)
    assert (5 if deletes else 50, 5 if deletes else 20) == (len(files(thinned, "B")), len(files(thinned, "B", "lists")))
    assert 1 == len(files(thinned, "B", "fresh"))


def test_nobody_is_asked_where_nothing_is_done_or_nobody_can_answer(thinned: Path) -> None:
    for args, stdin in ((["-s", "ab"], True), (["--json", "ab"], True), (["ab"], False)):
        with Terminal(thinned, *args, stdin=stdin) as terminal:
            said = terminal.rest()

        assert (4, False) == (terminal.code, b"[y/N]" in said)
        assert 50 == len(files(thinned, "B"))
