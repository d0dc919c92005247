"""One message, one id: in a file, and in whatever part of it a real server is asked for."""

from __future__ import annotations

import itertools
import re
import socket
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatchcase
from typing import NamedTuple

import pytest

from mailsync.identity import canonical, identify, key
from mailsync.model import Identify, MessageId

from .mail import ODD
from .servers import Login, Server, matrix, server

# What the servers of the first column make of messages that were put into them as the second one says.
COLUMNS = (
    *((name, "append") for name in ("dovecot", "dovecot-mbox", "dovecot-sdbox", "cyrus", "courier", "imap4d")),
    ("imap4d-maildir", "append"),
    ("dovecot", "file"),
    ("courier", "file"),
)
DATE = b'"17-Jul-2023 02:44:25 +0000"'  # imap4d refuses a message that has no date from anywhere


# ---- the messages ----------------------------------------------------------------------------------------------------

NAMES = {
    "usual": b"Message-ID",
    "lower": b"message-id",
    "upper": b"MESSAGE-ID",
    "Id": b"Message-Id",
    "blank": b"Message-ID ",
    "tab": b"Message-ID\t",
    "blanks": b"Message-ID  \t ",
    "folded": b"Message-ID\n ",
}
GAPS = {
    "none": b"",
    "blank": b" ",
    "blanks": b"   ",
    "tab": b"\t",
    "mixed": b" \t \t",
    "fold": b"\n ",
    "fold-tab": b"\n\t",
    "blank-fold": b" \n ",
    "fold-fold": b"\n \n\t",
    "blank-lines": b"\n  \n \t\n ",
}
VALUES = {
    "plain": b"<plain@x>",
    "bare": b"bare@x",
    "blank-in": b"<bl ank@x>",
    "tab-in": b"<ta\tb@x>",
    "fold-in": b"<fo\n ld@x>",
    "fold-tab-in": b"<fo\n\tldtab@x>",
    "fold-blanks-in": b"<fo\n    ldblanks@x>",
    "blank-line-in": b"<blank\n \n line@x>",
    "comment-after": b"<comment-after@x> (a comment)",
    "comment-before": b"(a comment) <comment-before@x>",
    "comment-folded": b"<comment-folded@x>\n (a\n comment)",
    "8-bit": b"<\xe4\xf6@x>",
    "utf-8": "<ü@x>".encode(),
    "nul": b"<nu\0l@x>",
    "nul-after": b"<nul-after@x>\0 more",
    "control": b"<con\x01\x7ftrol@x>",
    "cr-in": b"<c\rr@x>",
    "cr-after": b"<cr-after@x>\r",
    "crs-after": b"<crs-after@x>\r\r",
    "two": b"<two@x><other@x>",
    "two-apart": b"<two-apart@x> <other@x>",
    "open": b"<open@x",
    "closed": b"closed@x>",
    "quoted": b'<"a b\\"c"@x>',
    "blanks-after": b"<blanks-after@x>  \t ",
    "colon": b"<a:b@x>: c",
    "long": b"<" + b"l" * 3000 + b"@x>",
    "very-long": b"<" + b"v" * 70_000 + b"@x>",
    "empty": b"",
    "blank-only": b" ",
    "brackets": b"<>",
    "brackets-blank": b"< >",
}
ROUND = {
    "junk-before": b"this is junk\n%s\n",
    "junk-after": b"%s\nthis is junk\n",
    "junk-folded-before": b"this is junk\n and more\n%s\n",
    "junk-folded-after": b"%s\nthis is junk\n and more\n",
    "junk-of-blanks-before": b"Subject: x\n   \t\n%s\n",
    "blank-first": b" begins with a blank\n%s\n",
    "tab-first": b"\tbegins with a tab\n%s\n",
    "from-first": b"From a@x Mon Jan  1 00:00:00 2024\n%s\n",
    "from-between": b"Subject: x\nFrom a@x Mon Jan  1 00:00:00 2024\n%s\n",
    "quoted-from-first": b">From a@x Mon Jan  1 00:00:00 2024\n%s\n",
    "quoted-from-between": b"Subject: x\n>From a@x Mon Jan  1 00:00:00 2024\n%s\n",
    "colon-first": b": no name\n%s\n",
    "colon-between": b"Subject: x\n: no name\n%s\n",
    "name-with-blank": b"Message ID: <no@x>\n%s\n",
    "name-only": b"Message-ID\n%s\n",
    "name-8-bit": b"Mess\xe4ge-ID: <no@x>\n%s\n",
    "name-longer": b"X-Message-ID: <no@x>\nMessage-ID-X: <no@x>\nResent-Message-ID: <no@x>\n%s\n",
    "name-in-other": b"Subject: x\n Message-ID: <no@x>\n%s\n",
    "nul-before": b"Sub\0ject: x\0\n%s\n",
    "nul-line": b"\0\n%s\n",
    "8-bit-before": b"Subject: \xff\xfe\n%s\n",
    "cr-before": b"Subject: a\rb\n%s\n",
    "cr-line": b"Subject: x\n\r\r\n%s\n",
    "cr-hides": b"Subject: a\rMessage-ID: <hidden@x>\n%s\n",
    "long-before": b"Subject: " + b"x" * 20_000 + b"\n%s\n",
    "long-junk-before": b"x" * 20_000 + b"\n%s\n",
    "many-before": b"X: y\n" * 3000 + b"%s\n",
    "many-folds-before": b"Subject: x\n" + b" y\n" * 3000 + b"%s\n",
    "not-at-the-end": b"%s",
    "at-the-end": b"Subject: x\n%s",
    "second-same": b"%s\nMessage-ID: <second@x>\n",
    "second-lower": b"%s\nmessage-id: <second@x>\n",
    "second-folded": b"%s\nMessage-ID:\n <second@x>\n",
    "first-empty": b"Message-ID:\n%s\n",
    "first-brackets": b"Message-ID: <>\n%s\n",
    "first-blank-line": b"Message-ID: \n \t\n%s\n",
    "first-no-colon": b"Message-ID <no@x>\n%s\n",
    "first-name-blank": b"Message-ID : <first@x>\n%s\n",
    "first-name-folded": b"Message-ID\n : <first@x>\n%s\n",
    "in-body": b"Subject: x\n\n%s\n",
    "after-crlf": b"Subject: x\r\n%s\r\n",
    "after-empty-crlf": b"Subject: x\r\n\r\n%s\r\n",
    "after-crs": b"Subject: x\n\r\r\r\n%s\n",
    "after-blank-line": b"Subject: x\n \n%s\n",
    "comment": b"Subject: (a\n comment)\n%s (a\n comment)\n",
}
IDLESS = {
    "all": b"Date: D\nFrom: F\nTo: T\nCc: C\nSubject: S\nIn-Reply-To: I\nReferences: R\nReceived: V\n",
    "other-order": b"Received: V\nReferences: R\nIn-Reply-To: I\nSubject: S\nCc: C\nTo: T\nFrom: F\nDate: D\n",
    "date": b"Date: Mon, 1 Jan 2024 00:00:00 +0000\n",
    "from": b"From: A <a@x>\n",
    "from-twice": b"From: A <a@x>\nFrom: B <b@x>\n",
    "from-folded": b"From: A\n <a@x>,\n\tB <b@x>\n",
    "from-comment": b"From: a@x (A B)\n",
    "from-group": b"From: g: a@x, b@x;\n",
    "from-8-bit": b"From: J\xfcrgen <j@x>\n",
    "from-utf-8": "From: Jürgen <j@x>\n".encode(),
    "from-word": b"From: =?utf-8?q?J=C3=BCrgen?= <j@x>\n",
    "from-quoted": b'From: "a\\"b, c" <j@x>\n',
    "from-broken": b"From: <a@x, b\n",
    "to-many": b"To: " + b", ".join(b"user%d@example.org" % n for n in range(500)) + b"\n",
    "to-many-folded": b"To: " + b",\n ".join(b"user%d@example.org" % n for n in range(500)) + b"\n",
    "subject-8-bit": b"Subject: \xe4\xf6\xfc\n",
    "subject-utf-8": "Subject: äöü\n".encode(),
    "subject-nul": b"Subject: a\0b\n",
    "subject-cr": b"Subject: a\rb\n",
    "subject-control": b"Subject: a\x01b\x7f\x1b\n",
    "subject-tabs": b"Subject:\ta\t\tb\n",
    "subject-blanks": b"Subject:    a    b   \n",
    "subject-folded": b"Subject: a\n b\n\tc\n   d\n",
    "subject-fold-first": b"Subject:\n a\n",
    "subject-blank-lines": b"Subject: a\n \n b\n\t\n",
    "subject-name-blank": b"Subject : a\n",
    "subject-empty": b"Subject:\n",
    "subject-twice": b"Subject: a\nSubject: b\n",
    "subject-long": b"Subject: " + b"s" * 9000 + b"\n",
    "subject-many-folds": b"Subject: x\n" + b" y\n" * 3000,
    "received-many": b"".join(b"Received: from %d by y\n\tfor z; today\n" % n for n in range(200)),
    "references": b"References: <a@x>\n <b@x>\n\t<c@x>\nIn-Reply-To: <c@x>\n",
    "received-id": b"Received: x\nMessage-ID: \nDate: d\n",
    "mixed-with-junk": b"Date: d\njunk\nSubject: s\n junk\nTo: t\n",
    "delivered": b"Return-Path: <a@x>\nDelivered-To: b@x\nX-Other: y\n",
    "other-only": b"X-Other: y\n",
    "junk-only": b"junk\n",
    "junk-8-bit-only": b"ju\xe4nk\n",
    "nothing": b"",
    "like-msinfo-sent": b"From: mailsync\nSubject: channel\nReceived: x\n",
}


def made() -> Iterator[tuple[str, bytes]]:
    for (name, text), (gap, blanks) in itertools.product(NAMES.items(), GAPS.items()):
        yield f"name-{name}-{gap}", text + b":" + blanks + b"<%s@x>\nSubject: x\n\nhi\n" % f"{name}-{gap}".encode()
    for (gap, blanks), (name, value) in itertools.product(GAPS.items(), VALUES.items()):
        if gap in ("none", "blank", "fold", "blank-lines"):
            yield f"value-{name}-{gap}", b"Subject: x\nMessage-ID:" + blanks + value + b"\nDate: d\n\nhi\n"
    for name, text in ROUND.items():
        yield f"round-{name}", text.replace(b"%s", b"Message-ID: <%s@x>" % name.encode()) + b"\nhi\n"
        yield f"round-{name}-no-body", text.replace(b"%s", b"Message-ID: <%s@x>" % name.encode())
    for name, text in IDLESS.items():
        yield f"idless-{name}", text + b"\nhi\n"
        yield f"idless-{name}-no-body", text
    for name, text in ODD.items():
        yield f"odd-{name}", text


# Not the empty one: Cyrus takes the next command for it, and imap4d hangs up.
MESSAGES: Mapping[str, bytes] = {name: raw for name, raw in made() if raw}


# ---- what is known ---------------------------------------------------------------------------------------------------

NUL_IN_ID = "value-nul-none value-nul-blank value-nul-fold value-nul-blank-lines"
NUL_IN_FIELD = "value-nul-* idless-subject-nul* odd-nul-in-header"
# Dovecot leaves out of HEADER.FIELDS a field whose name and colon are on two lines, and looks for more after an empty
# line whose line end is not CRLF alone; an mbox keeps no other.
DOVECOT = "name-folded-* round-first-name-folded*"
DOVECOT_MORE = "round-after-crs*"
DOVECOT_FILE = f"{DOVECOT_MORE} round-cr-line*"
# Courier leaves out a field whose name is not followed by its colon at once.
COURIER_FIRST = "round-first-name-*"
COURIER_ID = f"name-blank* name-tab-* name-folded-* {COURIER_FIRST}"
COURIER = f"{COURIER_ID} idless-subject-name-blank*"
CYRUS = "round-many-before*"  # it looks at 1000 lines (maxheaderlines)
CYRUS_8BIT = "value-8-bit-* value-utf-8-* round-8-bit-before* idless-subject-8-bit* idless-subject-utf-8* odd-8-bit-*"
# imap4d ends a message at a NUL, and puts a blank into an empty field.
IMAP4D_ID = "round-nul-line* round-first-empty* idless-subject-empty* odd-nul-in-header"
IMAP4D_BODY = "idless-nothing odd-no-header odd-blank-line-first"  # imap4d-maildir loses the first empty line

# By server, way and kind: the messages whose id there is not the one of their file, but for `any` all by one way only.
# `any`: the server has changed what makes the id.
KNOWN: Mapping[tuple[str, str, str], Mapping[str, str]] = {
    ("dovecot", "append", "msgid"): {
        "any": NUL_IN_ID,
        "fields": f"{DOVECOT} {DOVECOT_MORE}",
        "quick": f"round-first-name-folded* {DOVECOT_MORE}",
    },
    ("dovecot", "append", "md5"): {
        "any": NUL_IN_FIELD,
        "fields": f"{DOVECOT} {DOVECOT_MORE}",
    },
    ("dovecot-mbox", "append", "msgid"): {"any": NUL_IN_ID, "fields": DOVECOT, "quick": "round-first-name-folded*"},
    ("dovecot-mbox", "append", "md5"): {"any": NUL_IN_FIELD, "fields": DOVECOT},
    ("dovecot", "file", "msgid"): {
        "any": NUL_IN_ID,
        "fields": f"{DOVECOT} {DOVECOT_FILE}",
        "quick": f"round-first-name-folded* {DOVECOT_FILE}",
    },
    ("dovecot", "file", "md5"): {
        "any": NUL_IN_FIELD,
        "fields": f"{DOVECOT} {DOVECOT_FILE}",
    },
    ("cyrus", "append", "msgid"): {"fields": CYRUS},
    ("cyrus", "append", "md5"): {"any": CYRUS_8BIT, "fields": CYRUS},
    ("courier", "append", "msgid"): {"fields": COURIER, "quick": COURIER_FIRST},
    ("courier", "append", "md5"): {"fields": COURIER},
    # The last line of a file that has no body does not count as header if it does not end; only the whole tells it.
    ("courier", "file", "msgid"): {
        "header": "round-at-the-end-no-body",
        "fields": f"{COURIER} round-at-the-end-no-body",
        "quick": f"{COURIER_FIRST} round-at-the-end-no-body {DOVECOT_FILE}",
    },
    ("courier", "file", "md5"): {
        "header": "round-at-the-end-no-body",
        "fields": f"{COURIER} round-at-the-end-no-body",
    },
    ("imap4d", "append", "msgid"): {"any": f"{IMAP4D_ID} idless-subject-nul*"},
    ("imap4d", "append", "md5"): {
        "any": f"{IMAP4D_ID} value-nul-*",
        # It makes `From : : a@x` of a postmark in the middle; HEADER.FIELDS does not show that.
        "header": "round-from-between*",
        "body": "round-from-between*",
    },
    ("imap4d-maildir", "append", "msgid"): {"any": f"{IMAP4D_ID} idless-subject-nul* {IMAP4D_BODY}"},
    ("imap4d-maildir", "append", "md5"): {
        "any": f"{IMAP4D_ID} value-nul-* {IMAP4D_BODY}",
        "header": "round-from-between*",
        "body": "round-from-between*",
    },
}


def known(name: str, how: str, kind: str) -> Mapping[str, str]:
    return KNOWN["dovecot" if name == "dovecot-sdbox" else name, how, kind]


def matching(patterns: str, names: Iterable[str]) -> set[str]:
    return {name for name in names for pattern in patterns.split() if fnmatchcase(name, pattern)}


# ---- a client --------------------------------------------------------------------------------------------------------


class Client:
    """As little of IMAP as this needs; not a byte is changed in either direction."""

    def __init__(self, server: Server, login: Login) -> None:
        self._socket = socket.create_connection((server.host, server.port), timeout=30)
        self._file = self._socket.makefile("rb")
        self._file.readline()
        self.command(b"LOGIN %s %s" % (login.user.encode(), login.password.encode()))

    def command(self, text: bytes) -> list[tuple[bytes, list[bytes]]]:
        """The answer's lines, the last one tagged, each with its literals."""
        self._socket.sendall(b"t " + text + b"\r\n")
        return list(self._answer())

    def append(self, raw: bytes) -> bool:
        self._socket.sendall(b"t APPEND INBOX () %s {%d}\r\n" % (DATE, len(raw)))
        if not self._file.readline().startswith(b"+"):
            return False
        self._socket.sendall(raw + b"\r\n")
        return list(self._answer())[-1][0].startswith(b"t OK")

    def parts(self, part: bytes) -> dict[int, bytes]:
        """By uid, this part of every message."""
        found = {}
        for line, literals in self.command(b"UID FETCH 1:* (UID BODY.PEEK[%s])" % part):
            if uid := re.search(rb"FETCH .*\bUID (\d+)", line):
                found[int(uid[1])] = literals[-1] if literals else quoted(line)
        return found

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._socket.close()

    def _answer(self) -> Iterator[tuple[bytes, list[bytes]]]:
        line = b""
        while not line.startswith(b"t "):
            line, literals = self._file.readline(), []
            assert line, "the server closed the connection"
            while size := re.search(rb"\{(\d+)\}\r\n$", line):
                literals.append(self._file.read(int(size[1])))
                line = line[: size.start()] + self._file.readline()
            yield line, literals


def quoted(line: bytes) -> bytes:
    """The value of the only quoted string; NIL is nothing."""
    found = re.search(rb'\] "((?:[^"\\]|\\.)*)"', line)
    return re.sub(rb"\\(.)", rb"\1", found[1]) if found else b""


# ---- the tests -------------------------------------------------------------------------------------------------------


class Taken(NamedTuple):
    """What a server has of a message, as it answers FETCH."""

    raw: bytes  # as it was put in
    body: bytes
    header: bytes
    fields: Mapping[tuple[bytes, ...], bytes]  # by the names that were asked for

    @property
    def kept(self) -> bool:
        return whole(self.raw) == whole(self.body)

    def ids(self, rule: Identify) -> dict[str, MessageId]:
        """By each way to ask. `quick`: what is not sure then, as `header`; so without quick fields."""
        fields, quick = self.fields[rule.fields], self.fields[rule.quick] if rule.quick else self.header
        found = {"body": rule(self.body), "header": rule(self.header), "fields": rule(fields)}
        found["quick"] = rule.sure(quick) or found["header"]
        return {way: id or rule.whole([self.body]) for way, id in found.items()}


@pytest.fixture(scope="module", params=COLUMNS, ids=lambda column: heading(*column))
def column(request: pytest.FixtureRequest) -> tuple[str, str]:
    """A server, and how messages come into it."""
    name, how = request.param
    return name, how


@pytest.fixture(scope="module")
def taken(column: tuple[str, str]) -> Mapping[str, Taken]:
    """What the server took of all messages, by name."""
    name, how = column
    instance = server(name)
    login = instance.new_login()
    names = list(MESSAGES)
    if how == "file":
        deliver(instance, login)
    with Client(instance, login) as client:
        if how == "append":
            names = [name for name in names if client.append(on_wire(MESSAGES[name]))]
        client.command(b"SELECT INBOX")
        asked = {names for rule in map(identify, ("msgid", "md5")) for names in (rule.quick, rule.fields) if names}
        bodies, headers = client.parts(b""), client.parts(b"HEADER")
        fields = {names: client.parts(b"HEADER.FIELDS (%s)" % b" ".join(names)) for names in asked}
    assert len(names) == len(bodies)
    return {
        name: Taken(MESSAGES[name], bodies[uid], headers[uid], {names: fields[names][uid] for names in asked})
        for name, uid in zip(names, sorted(bodies), strict=True)
    }


@pytest.mark.parametrize("kind", ["msgid", "md5"])
@pytest.mark.parametrize("way", ["body", "header", "fields", "quick"])
def test_message_has_the_id_of_its_file_but_for_the_known(
    column: tuple[str, str], taken: Mapping[str, Taken], way: str, kind: str
) -> None:
    rule, expected = identify(kind), known(*column, kind)

    wrong = {name for name, had in taken.items() if key(had.ids(rule)[way]) != key(id_of_file(rule, had.raw))}

    matrix.record(f"wrong id, -t {kind} by {way}", heading(*column), str(len(wrong)))
    same = "header" if way == "quick" and not rule.quick else way
    assert matching(f"{expected.get('any', '')} {expected.get(same, '')}", taken) == wrong


@pytest.mark.parametrize("kind", ["msgid", "md5"])
def test_message_that_is_kept_has_the_id_of_its_file(taken: Mapping[str, Taken], kind: str) -> None:
    rule = identify(kind)

    wrong = [n for n, had in taken.items() if had.kept and had.ids(rule)["body"] != id_of_file(rule, had.raw)]

    assert [] == wrong


def test_servers_take_nearly_all_that_is_odd(column: tuple[str, str], taken: Mapping[str, Taken]) -> None:
    kept = sum(had.kept for had in taken.values())

    matrix.record(f"of {len(MESSAGES)} odd messages, taken", heading(*column), str(len(taken)))
    matrix.record(f"of {len(MESSAGES)} odd messages, unchanged", heading(*column), str(kept))
    assert len(MESSAGES) * 3 // 4 <= len(taken)


def test_what_looks_like_msinfo_is_not_sure() -> None:
    assert identify("md5").sure(b"From: mailsync\r\nSubject: channel\r\nDate: d\r\n\r\n") is None


def heading(name: str, how: str) -> str:
    return name if how == "append" else f"{name} by {how}"


def id_of_file(rule: Identify, raw: bytes) -> MessageId:
    return rule(raw) or rule.whole([raw])


def whole(raw: bytes) -> bytes:
    return b"".join(canonical([raw]))


def on_wire(raw: bytes) -> bytes:
    return raw.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def deliver(instance: Server, login: Login) -> None:
    """Put all messages into INBOX, in their order, as a mail delivery agent does."""
    maildir = instance.maildir(login)
    assert maildir
    for directory in (maildir / "cur", maildir / "new", maildir / "tmp"):
        directory.mkdir(parents=True, exist_ok=True)
    for number, raw in enumerate(MESSAGES.values()):
        (maildir / "cur" / f"{1700000000 + number}.{number}.host:2,").write_bytes(raw)
    instance.give(login, maildir)
