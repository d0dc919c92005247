"""Mail goes from format to format, by the command line, and comes back the same.

All formats hold all system flags, `$Forwarded` and keywords without blanks: Maildir 26 of them in a mailbox, mbox and
MH any number. A keyword with a blank, which IMAP has not either, is held by mbox and MH only. mbox keeps a line
`Status:` of a message's own, and the like, for its own use: the digest that messages are compared by leaves them out.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from itertools import combinations
from pathlib import Path

import pytest

from mailsync.model import SYSTEM, Flags

from .mail import NEW_YEAR, ODD, Kept, Mail, configure, digest, forget_cache, local, message, put, read_home, run

DATES = (0, 1, 86399, 951782400, NEW_YEAR, 2**31 - 1, 2**31, 4102444800)
KEYWORDS = ("$Forwarded", "$Label1", "NonJunk", "unseen", "kwork", "100%", "Entwürfe")
LEGS = [
    ("maildir", "mbox", "mh", "maildir"),
    ("mbox", "mh", "maildir++", "mbox"),
    ("mh", "maildir++", "mbox", "mh"),
    ("maildir++", "mh", "maildir", "mbox"),
]


def generated() -> list[Mail]:
    """What is odd, in all ways. No two are equal: of equal ones only the first would stay."""
    flags = [frozenset(some) for n in range(6) for some in combinations(sorted(SYSTEM), n)]
    keywords: list[Flags] = [frozenset({keyword}) for keyword in KEYWORDS]
    mails = [Mail(raw, flags[n % 32], NEW_YEAR + n) for n, raw in enumerate(ODD.values())]
    mails += [Mail(message(f"flags-{n}"), some) for n, some in enumerate([*flags, *keywords, frozenset(KEYWORDS)])]
    mails += [Mail(message(f"date-{date}"), date=date) for date in DATES]
    mails += [Mail(message("same-id", b"%d\n" % n), flags[n], NEW_YEAR + n) for n in range(4)]
    mails += [Mail(b"Subject: without id %d\n\nhi\n" % n, flags[n], NEW_YEAR + n) for n in range(3)]
    mails += [Mail(b"Subject: without id\n\nhi %d\n" % n, flags[n], NEW_YEAR + n) for n in range(3)]
    return mails


def of_python() -> list[Mail]:
    """The messages of the tests of Python's own email package."""
    if not importlib.util.find_spec("test") or not importlib.util.find_spec("test.test_email"):
        pytest.skip("the tests of the standard library are not installed")
    package = importlib.util.find_spec("test.test_email")
    assert package is not None
    assert package.origin is not None
    files = sorted((Path(package.origin).parent / "data").glob("msg_*.txt"))
    unique = {digest(file.read_bytes()): file.read_bytes() for file in files}
    return [Mail(raw, date=NEW_YEAR + n) for n, raw in enumerate(unique.values())]


@pytest.mark.parametrize("legs", LEGS, ids=" ".join)
@pytest.mark.parametrize("mails", [generated, of_python])
def test_mail_goes_through_all_formats_and_stays_the_same(home: Path, legs: Sequence[str], mails) -> None:  # type: ignore[no-untyped-def]
    sent = mails()
    put(local(home, "0/*", format=legs[0]), "0/box", sent)
    configure(home, "".join(_config(legs)))
    first = _boxes(home, 0, legs[0])
    assert [len(sent)] == [len(box) for box in first.values()]

    for n in range(len(legs) - 1):
        ran = run("-cd", f"leg{n}")

        assert (0, "") == (ran.code, ran.err)
        assert f"{len(sent)} copied s{n}->s{n + 1}.\n{len(sent)} remain.\n" in ran.out
        forget_cache(home)
        again = run("-cd", "-s", "--json", f"leg{n}")
        assert (0, []) == (again.code, [step for step in again.steps if step["box"] != "INBOX"])
        assert f"box: \n{len(sent)} remain.\n" in run("-cd", f"leg{n}").out
        # Each leg, not the last only: what one loses and another one finds again is lost.
        assert first == _boxes(home, n + 1, legs[n + 1])


def test_nothing_is_left_to_do_after_a_maildirpp_was_made(home: Path) -> None:
    put(local(home, "0/*", format="mbox"), "0/box", [Mail(message())])
    configure(home, "".join(_config(("mbox", "maildir++"))))

    run("leg0")

    assert [] == run("-s", "--json", "leg0").steps


def test_keyword_that_a_maildir_has_no_room_for_fails_alone(home: Path) -> None:
    keywords = [f"keyword{n}" for n in range(27)]
    put(local(home, "0/*", format="mbox"), "0/box", [Mail(message(k), frozenset({k})) for k in keywords])
    configure(home, "".join(_config(("mbox", "maildir"))))

    ran = run("leg0")

    assert 1 == ran.code
    assert "26 keywords" in ran.err
    assert 26 == len(_boxes(home, 1, "maildir")["box"])
    assert 27 == len(_boxes(home, 0, "mbox")["box"])


def _config(legs: Sequence[str]) -> Iterator[str]:
    for n, format in enumerate(legs):
        yield f"store s{n} {{\n  pat {n}/*\n  prefix {n}/\n  format {format}\n  fsync no\n}}\n"
    for n in range(len(legs) - 1):
        yield f"channel leg{n} s{n} s{n + 1} {{\n  msinfo .msinfo{n}\n}}\n"


def _boxes(home: Path, n: int, format: str) -> dict[str, list[Kept]]:
    """By boxname. The root of a Maildir++ is one, too; an empty one here."""
    found = read_home(home, f"{n}/*", format)
    return {name.removeprefix(f"{n}/"): box for name, box in found.items() if box}
