"""Mail that servers change or refuse, on its way from a Maildir to a server, from there to another Maildir, and back.

None of it may ever be taken for deleted: neither where it is as it was, nor where it was changed. Each message has a
date of its own, which all servers keep: by that it is known wherever it is and whatever became of its bytes.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailsync.model import Boxname

from . import scenario
from .mail import NEW_YEAR, ODD, Ran, forget_cache, maildir, message, read, run
from .scenario import Stores, on_machine, on_server

SERVERS = ("dovecot", "dovecot-mbox", "cyrus", "courier", "imap4d")
BOX = Boxname("box")
MORE: Mapping[str, bytes] = {
    "8-bit-header-without-id": b"From: J\xfcrgen <j@x>\nSubject: \xe4\xf6\xfc\n\nhi\n",
    "utf-8-header-without-id": "From: Jürgen <j@x>\nSubject: äöü\n\nhi\n".encode(),
    "8-bit-header-and-bare-cr": b"From: J\xfcrgen <j@x>\nMessage-ID: <both@x>\n\na\rb\n",
    "8-bit-body": message("8-bit-body", b"\xe4\xf6\xfc\n"),
    "8-bit-body-without-anything": b"X-Other: y\n\n\xe4\xf6\xfc\n",
    "mixed-line-ends": message("mixed-line-ends", b"a\nb\r\nc\n\r\nd"),
    "mixed-line-ends-in-header": b"Subject: a\r\nFrom: a@x\nMessage-ID: <mixed-header@x>\r\n\nhi\n",
    "bare-cr-in-header": b"Subject: a\rb\nMessage-ID: <cr-header@x>\n\nhi\n",
    "bare-cr-in-header-without-id": b"Subject: a\rb\n\nhi\n",
    "bare-cr-in-id": b"Subject: x\nMessage-ID: <c\rr@x>\n\nhi\n",
    "nul-in-id": b"Subject: x\nMessage-ID: <nu\0l@x>\n\nhi\n",
    "nul-in-header-without-id": b"Subject: nul \0 in it\n\nhi\n",
    "no-blank-line": b"Subject: x\nMessage-ID: <no-blank@x>\nthis is a body already\n",
    "no-blank-line-without-id": b"Subject: no blank line\nthis is a body already\n",
    "body-is-blank-lines": message("blank-lines", b"\n\n\n"),
    "plain": message("plain"),
}
SINGLE: Mapping[str, bytes] = {**ODD, **MORE}
# Messages with one id, of which a server changes or refuses all but the last.
GROUPS: Mapping[str, list[bytes]] = {
    "group-bare-cr": [message("g-cr", b"one\r.\n"), message("g-cr", b"two\n")],
    "group-nul": [message("g-nul", b"one\0.\n"), message("g-nul", b"two\n")],
    "group-8-bit": [message("g-8-bit", b"one\n").replace(b"mail", b"\xe4"), message("g-8-bit", b"two\n")],
    "group-all": [
        message("g-all", b"one\0.\n"),
        message("g-all", b"two\r.\n"),
        message("g-all", b"three\n").replace(b"mail", b"\xfc"),
        message("g-all", b"four\n"),
    ],
}
MEMBERS = {group: {f"{group}-{n}": raw for n, raw in enumerate(raws)} for group, raws in GROUPS.items()}
ALL: Mapping[str, bytes] = {**SINGLE, **{name: raw for members in MEMBERS.values() for name, raw in members.items()}}
# Different messages of which a server makes equal ones.
EQUALS: Mapping[tuple[str, str], tuple[bytes, bytes]] = {
    ("dovecot", "nul"): (message("nul", b"one\0.\n"), message("nul", b"one\x80.\n")),
    ("cyrus", "8-bit-header"): (message("h").replace(b"mail", b"\xe4"), message("h").replace(b"mail", b"\xf6")),
    ("cyrus", "8-bit-id"): (b"Message-ID: <\xe4@x>\n\nhi\n", b"Message-ID: <\xf6@x>\n\nhi\n"),
    ("cyrus", "8-bit-without-id"): (b"Subject: \xe4\n\nhi\n", b"Subject: \xf6\n\nhi\n"),
    ("cyrus", "what-it-makes-of-it"): (b"Subject: \xe4\n\nhi\n", b"Subject: X\n\nhi\n"),
    ("courier", "bare-cr"): (message("cr", b"one\r.\n"), message("cr", b"one.\n")),
    ("imap4d", "nul"): (message("nul", b"one\0a\n"), message("nul", b"one\0b\n")),
}
NO_FIELDS = frozenset({"no-colon", "no-blank-line", "no-blank-line-without-id"})
NUL = frozenset(name for name, raw in ALL.items() if b"\0" in raw)
REFUSED: Mapping[str, frozenset[str]] = {
    "dovecot": frozenset({"empty"}),
    "dovecot-mbox": frozenset({"empty"}),
    "cyrus": frozenset({"empty", "quoted-from-first", "header-without-newline"}) | NUL | NO_FIELDS,
    "courier": frozenset({"empty"}),
    "imap4d": frozenset({"empty"}) | NO_FIELDS,
}


@dataclass(frozen=True, slots=True)
class Chain:
    """The stores a, s, b, of which s is on the server; the channels as and sb; one mailbox, filled by us in a."""

    home: Path
    server: str
    kind: str
    stores: Stores
    names: dict[int, str]  # of messages, by their date

    def put(self, mails: Mapping[str, bytes]) -> None:
        for file, name in zip(maildir(self.home / "a" / BOX, *mails.values()), mails, strict=True):
            self.date(file, name)

    def date(self, file: Path, name: str) -> None:
        when = NEW_YEAR + 60 * len(self.names)
        self.names[when] = name
        os.utime(file, (when, when))

    def files(self, store: str) -> list[tuple[str, Path]]:
        """All messages of a Maildir."""
        files = [file for part in ("cur", "new") for file in (self.home / store / BOX / part).iterdir()]
        return sorted((self.names[int(file.stat().st_mtime)], file) for file in files)

    def remove(self, store: str, names: Iterable[str]) -> None:
        wanted = set(names)
        files = [file for name, file in self.files(store) if name in wanted]
        assert len(wanted) == len(files)
        for file in files:
            file.unlink()

    def raws(self) -> list[tuple[str, bytes]]:
        """What is in a."""
        return [(name, file.read_bytes()) for name, file in self.files("a")]

    def there(self) -> list[str]:
        """What is on the server."""
        with self.stores.opened("s") as store:
            return sorted(self.names[one.date] for one in read(store.driver, store.mailbox(BOX)))

    def beyond(self) -> list[str]:
        """What is in b."""
        return [name for name, _ in self.files("b")]

    def runs(self, *channels: str) -> list[Ran]:
        return [run("--json", "-t", self.kind, channel) for channel in channels]


@pytest.fixture(params=["msgid", "md5"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=SERVERS)
def chain(request: pytest.FixtureRequest, home: Path, kind: str) -> Chain:
    return chain_over(request.param, home, kind)


def chain_over(server: str, home: Path, kind: str) -> Chain:
    places = {"a": on_machine("maildir", "a"), "s": on_server(server), "b": on_machine("maildir", "b")}
    return Chain(home, server, kind, scenario.channels(home, places, ["as", "sb"]), {})


def done(runs: Iterable[Ran]) -> list[dict[str, object]]:
    return [step for ran in runs for step in ran.steps if step["ok"]]


def failed(ran: Ran) -> int:
    return sum(not step["ok"] for step in ran.steps)


def deleted(runs: Iterable[Ran]) -> list[dict[str, object]]:
    return [step for ran in runs for step in ran.steps if step["event"] == "delete"]


def test_odd_mail_is_once_on_each_side_and_never_taken_for_deleted(chain: Chain) -> None:
    chain.put(ALL)
    refused = REFUSED[chain.server]

    first = chain.runs("as", "sb")
    again = chain.runs("as", "sb")
    forget_cache(chain.home)
    again += chain.runs("as", "sb")

    assert [] == deleted([*first, *again])
    assert sorted(ALL.items()) == chain.raws()
    assert sorted(ALL.keys() - refused) == chain.there() == chain.beyond()
    assert [] == done(again)
    assert [len(refused), 0, 0, 0, 0, 0] == [failed(ran) for ran in (*first, *again)]  # they wait for their next try
    assert [1, 0, 0, 0, 0, 0] == [ran.code for ran in (*first, *again)]


def test_what_is_refused_is_told_with_the_words_of_the_server(chain: Chain) -> None:
    chain.put({name: ALL[name] for name in REFUSED[chain.server]})

    ran = run("-q", "-t", chain.kind, "as")

    told = re.findall(
        r"^mailsync: box: .* cannot be copied to s: (an empty message|refused by the server): \w", ran.err, re.M
    )
    assert 1 == ran.code
    assert ["an empty message"] + ["refused by the server"] * (len(REFUSED[chain.server]) - 1) == sorted(told)


def test_odd_message_that_is_deleted_goes_everywhere_and_no_other(chain: Chain) -> None:
    chain.put(ALL)
    chain.runs("as", "sb")
    odd = sorted(SINGLE.keys() - REFUSED[chain.server])
    here, beyond = odd[::3], odd[1::3]

    chain.remove("a", here)
    chain.remove("b", beyond)
    runs = chain.runs("as", "sb", "as")

    left = ALL.keys() - {*here, *beyond}
    assert [len(here), len(here) + len(beyond), len(beyond)] == [len(deleted([ran])) for ran in runs]
    assert sorted((name, ALL[name]) for name in left) == chain.raws()
    assert sorted(left - REFUSED[chain.server]) == chain.there() == chain.beyond()
    assert [] == done(chain.runs("sb", "as"))


def test_member_of_a_group_that_is_deleted_goes_everywhere_and_no_other(chain: Chain) -> None:
    groups = [members for members in MEMBERS.values() if REFUSED[chain.server].isdisjoint(members)]
    mails = {name: raw for members in groups for name, raw in members.items()}
    gone = [list(members)[-1] for members in groups]
    chain.put(mails)
    chain.runs("as", "sb")

    chain.remove("b", gone)
    runs = chain.runs("sb", "as")

    left = mails.keys() - gone
    assert [len(gone)] * 2 == [len(deleted([ran])) for ran in runs]
    assert sorted((name, mails[name]) for name in left) == chain.raws()
    assert sorted(left) == chain.there() == chain.beyond()
    assert [] == done(chain.runs("as", "sb"))


@pytest.mark.parametrize("group", ["group-nul", "group-all"])
def test_member_of_a_group_of_which_another_is_refused_is_deleted_everywhere(home: Path, kind: str, group: str) -> None:
    chain = chain_over("cyrus", home, kind)
    refused, *others, last = MEMBERS[group]
    chain.put(MEMBERS[group])
    chain.runs("as", "sb")

    chain.remove("b", [last])
    chain.runs("sb", "as")

    assert sorted(others) == chain.there()
    assert sorted([refused, *others]) == [name for name, _ in chain.raws()]


def test_draft_that_is_saved_again_is_nowhere_lost(chain: Chain) -> None:
    """What is saved replaces what was there, but not where a server has changed that: it may be another one."""
    old, new = message("draft", b"one\r.\n"), message("draft", b"two\r.\n")
    chain.put({"old": old})
    [(_, file)] = chain.files("a")
    file.rename(f"{file}D")
    chain.runs("as", "sb")

    chain.remove("a", ["old"])
    file = file.with_name("1800000000.0.x:2,D")
    file.write_bytes(new)
    chain.date(file, "new")
    chain.runs("as", "sb")

    left = ["new", "old"] if chain.server == "courier" else ["new"]
    assert left == [name for name, _ in chain.raws()] == chain.there() == chain.beyond()
    assert new in dict(chain.raws()).values()
    assert [] == done(chain.runs("as", "sb"))


@pytest.mark.parametrize(("server", "what"), EQUALS)
def test_messages_that_a_server_makes_equal_stay_two(home: Path, kind: str, server: str, what: str) -> None:
    chain = chain_over(server, home, kind)
    mails = dict(zip(("one", "other"), EQUALS[server, what], strict=True))
    chain.put(mails)

    for _ in range(3):
        chain.runs("as")
        forget_cache(home)

    assert list(mails.items()) == chain.raws()
    assert [] == done(chain.runs("as"))


@pytest.mark.parametrize(("server", "what"), EQUALS)
def test_messages_that_a_server_makes_equal_stay_here_if_another_channel_removes_one(
    home: Path, kind: str, server: str, what: str
) -> None:
    """That channel sees a duplicate, and rightly so."""
    chain = chain_over(server, home, kind)
    mails = dict(zip(("one", "other"), EQUALS[server, what], strict=True))
    chain.put(mails)

    chain.runs("as", "sb", "as", "sb", "as")

    assert list(mails.items()) == chain.raws()
    assert [] == done(chain.runs("as", "sb"))
