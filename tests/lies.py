"""What a server may lie about: floods and faults that fit any command, and lies that fit one."""

from __future__ import annotations

import base64
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, count, repeat

from .liars import CAPABILITIES, QRESYNC, Lie, Rewrite, trapped
from .servers.fake import GREETING, Answer, Bye, Cut, Edit, FakeServer, Inject, Pour, Trap
from .servers.fakewire import Command

Pieces = Callable[[Command], Iterable[bytes]]

COMMANDS: Mapping[str, bytes] = {
    "greeting": re.escape(GREETING),
    "login": rb"AUTHENTICATE",
    "namespace": rb"NAMESPACE",
    "list": rb'LIST "" "\*',
    "select": rb'SELECT "x"',
    "listing": rb"UID FETCH \S+ .*HEADER",
    "body": rb"BODY\.PEEK\[\]",
    "flags": rb"UID FETCH \S+ \(UID FLAGS\)",
    "store": rb"UID STORE",
    "expunge": rb"UID EXPUNGE",
    "append": rb"APPEND",
    "create": rb"CREATE",
}


def ever(text: bytes) -> Pieces:
    return lambda _: repeat(text * 4096)


def numbered(form: bytes, begin: bytes = b"") -> Pieces:
    """Again and again, each with a number of its own."""

    def pieces(_: Command) -> Iterator[bytes]:
        yield begin
        for first in count(1, 2000):
            yield b"".join(form.replace(b"#", b"%d" % n) for n in range(first, first + 2000))

    return pieces


def once(*lines: bytes) -> Pieces:
    """These lines, and the end of the command."""
    return lambda command: [*(line + b"\r\n" for line in lines), command.tag + b" OK done\r\n"]


# ---- whatever was asked, more than anybody can take ------------------------------------------------------------------

MANY = 10**6
FLOODS: Mapping[str, Pieces] = {
    "a line without end": lambda _: chain([b"* OK "], repeat(b"x" * 65536)),
    "a line of NULs without end": lambda _: repeat(b"\0" * 65536),
    "OKs without end": ever(b"* OK still here\r\n"),
    "EXISTS without end": ever(b"* 1 EXISTS\r\n"),
    "the same FETCH without end": ever(b"* 1 FETCH (UID 1 FLAGS ())\r\n"),
    "FETCHes without end": numbered(b"* # FETCH (UID # FLAGS ())\r\n"),
    "mailboxes without end": numbered(b'* LIST () "/" box#\r\n'),
    "+ without end": ever(b"+ eA==\r\n"),
    "capabilities without end": numbered(b" X#", b"* CAPABILITY IMAP4rev1"),
    "CAPABILITY without end": numbered(b"* CAPABILITY IMAP4rev1 X#\r\n"),
    "literals without end": lambda _: chain([b'* LIST () "/" '], repeat(b"{65536}\r\n" + b"x" * 65536)),
    "literals of a FETCH without end": lambda _: chain([b"* 1 FETCH ("], repeat(b" X {65536}\r\n" + b"x" * 65536)),
    "empty literals without end": lambda _: chain([b"* 1 FETCH ("], repeat(b" {0}\r\n" * 1000)),
    "EXPUNGE without end": ever(b"* 1 EXPUNGE\r\n"),
    "VANISHED without end": ever(b"* VANISHED 1:4294967295\r\n"),
    "SEARCH without end": numbered(b" #", b"* SEARCH"),
    "a name a megabyte deep": once(b"* LIST " + b"(" * MANY),
    "a FETCH a megabyte deep": once(b"* 1 FETCH " + b"(" * MANY + b")" * MANY),
    "millions of values": once(b"* 1 FETCH (X " + b"()" * 7 * MANY + b")"),
    "a million flags": once(b"* 1 FETCH (UID 1 FLAGS (" + b" ".join(b"k%d" % n for n in range(MANY)) + b"))"),
    "a million parts of a set": once(b"* VANISHED " + b",".join(b"%d" % n for n in range(1, 2 * MANY, 2))),
    "a literal of 2^63 bytes": lambda _: [b'* LIST () "/" {9223372036854775808}\r\n', b"x" * 1000],
    "a literal of 10^30 bytes": lambda _: [b"* 1 FETCH (BODY[] {1%s}\r\n" % (b"0" * 30), b"x" * 1000],
    "a literal of 4 GB": lambda _: [b"* 1 FETCH (UID 1 BODY[] {4294967296}\r\n", b"x" * 1000],
    "a literal of 2 GB that is a name": lambda _: [b'* LIST () "/" {2147483648}\r\n', b"x" * 1000],
    "a literal of 2 GB that is cut": lambda _: [b"* 1 FETCH (UID 1 BODY[] {2147483648}\r\n", b"x" * 1000],
    "a literal of a negative size": lambda _: [b"* 1 FETCH (UID 1 BODY[] {-1}\r\n", b"x" * 1000],
    "a literal of a size that is none": lambda _: [b"* 1 FETCH (UID 1 BODY[] {1e3}\r\n", b"x" * 1000],
}
FLOODED = [
    Lie(f"{flood} after {name}", trapped(Trap(match, Pour(pieces), nth=0)), frozenset({0, 1, 6, 7}), heavy=True)
    for name, match in COMMANDS.items()
    for flood, pieces in FLOODS.items()
]

# ---- whatever was asked, an answer that is none ----------------------------------------------------------------------


def tagged_first(answer: bytes) -> bytes:
    lines = answer.splitlines(keepends=True)
    return b"".join(lines[-1:] + lines[:-1])


BROKEN: Mapping[str, Callable[[], object]] = {
    "nothing": lambda: Pour(lambda _: ()),
    "half an answer": lambda: Cut(30),
    "garbage": lambda: Pour(lambda _: [bytes(range(256)) * 4]),
    "BYE": lambda: Bye("\x1b[2Jgoodbye " * 1000, "instead"),
    "NO": lambda: Answer("NO \x1b]0;owned\x07 not today " + "x" * 100_000),
    "BAD": lambda: Answer("BAD \x9b31m what?"),
    "OK and nothing done": lambda: Answer("OK done"),
    "OK of another command": lambda: Edit(lambda answer: re.sub(rb"(?m)^[A-Z]{4}\d+ ", b"zzz9 ", answer)),
    "OK of an earlier command": lambda: Edit(
        lambda answer: re.sub(rb"(?m)^([A-Z]{4})(\d+) ", rb"\g<1>1 OK x\r\n\1\2 ", answer)
    ),
    "OK before the data": lambda: Edit(tagged_first),
    "its answer twice": lambda: Edit(lambda answer: answer * 2),
    "its answer backwards": lambda: Edit(lambda answer: b"".join(answer.splitlines(keepends=True)[::-1])),
    "an end that is neither OK nor NO": lambda: Answer("FINE done"),
    "+ that nobody waits for": lambda: Inject(b"+ go on\r\n"),
    "an answer with NULs": lambda: Edit(lambda answer: answer.replace(b" ", b" \0", 3)),
    "an answer with bare CRs": lambda: Edit(lambda answer: answer.replace(b" ", b"\r", 3)),
}
STALLING = {
    "OK of another command",
    "OK of an earlier command",
    "its answer backwards",
    "an answer with NULs",
    "an answer with bare CRs",
}
ANSWERED = [
    Lie(
        f"{fault} to {name}",
        trapped(Trap(match, make(), nth=0)),  # type: ignore[arg-type]
        frozenset({0, 1, 6, 7}),
        stalls=fault in STALLING,
    )
    for name, match in COMMANDS.items()
    for fault, make in BROKEN.items()
]

# ---- lies about one thing --------------------------------------------------------------------------------------------


def edited(match: bytes, pattern: bytes, by: bytes | Callable[[re.Match[bytes]], bytes], nth: int = 0) -> Trap:
    return Trap(match, Edit(Rewrite(pattern, by)), nth=nth)


def told(name: str, command: str, *lines: bytes, after: int = 0, **more: object) -> Lie:
    """Something more in the answer to a command."""
    data = b"".join(line + b"\r\n" for line in lines)
    return Lie(name, trapped(Trap(COMMANDS[command], Inject(data, after), nth=0)), **more)  # type: ignore[arg-type]


def said(
    name: str, command: str, pattern: bytes, by: bytes | Callable[[re.Match[bytes]], bytes], **more: object
) -> Lie:
    """Something else in the answer to a command."""
    return Lie(name, trapped(edited(COMMANDS[command], pattern, by)), **more)  # type: ignore[arg-type]


NAMES = (
    b'".."',
    b'"../evil"',
    b'"a/../../evil"',
    b'"/etc/evil"',
    b'"./x"',
    b'"a//b"',
    b'""',
    b'"x/"',
    b'"~/evil"',
    b"evil\0",
    b'"evil\x1b[2J"',
    b'"evil\x07\x08"',
    b'"evil\x9b31m"',
    b'"evil\xff\xfe"',
    b'"&AAA-evil"',
    b'"&AC8-evil"',
    b'"&AC4ALgAv-evil"',
    b'"&evil"',
    b'"&2D0-evil"',
    b'"X"',
    b'"x\xcc\x88"',
    b'"&AQA-x"',
    b'"cur"',
    b'"x/cur"',
    b'"evil\r"',
    b"NIL",
    b'"' + b"d/" * 10_000 + b'evil"',
    b'"' + b"l" * 300 + b'"',
)
LITERALS = (b"a\r\n* BYE evil", b"../../evil", b"\0", b"evil\n", b"x" * 100_000)
ONE = re.compile(rb"\* 1 FETCH \(.*?\r\n(?=\* |[A-Z]{4}\d+ OK)", re.DOTALL)


def swapped(answer: bytes) -> bytes:
    """Each message with the text of the one before it."""
    texts = re.findall(rb"\{\d+\}\r\n(?:[^)]|\n\))*", answer)
    texts = texts[-1:] + texts[:-1]
    return re.sub(rb"\{\d+\}\r\n(?:[^)]|\n\))*", lambda _: texts.pop(0), answer)


def other_text(found: re.Match[bytes]) -> bytes:
    text = b"Subject: no\r\nMessage-ID: <1@x>\r\n\r\nno\r\n"
    return b"{%d}\r\n%s)\r\n" % (len(text), text)


LISTS = [
    Lie(
        "names that are no names",
        trapped(
            Trap(
                COMMANDS["list"],
                Inject(
                    b"".join(b'* LIST () "/" %s\r\n' % name for name in NAMES)
                    + b"".join(b'* LIST () "/" {%d}\r\n%s\r\n' % (len(name), name) for name in LITERALS)
                ),
                nth=0,
            )
        ),
    ),
    told("a name that differs in case", "list", b'* LIST () "/" "X"', b'* LIST () "/" "inbox"'),
    told(
        "two names that are shown alike",
        "list",
        b'* LIST () "/" "&AOQ-"',
        b'* LIST () "/" "\xc3\xa4"',
        words="two mailboxes",
        about="ä",
    ),
    *(
        said(f"a delimiter {by!r}", "list", rb'"/" ', by)
        for by in (b'"//" ', b'"" ', b"NIL ", b'"\\"" ', b'"\xff" ', b'"\0" ', b"/ ", b"() ", b'"x" ', b'"." ')
    ),
    said("names without attributes", "list", rb"\([^)]*\) ", b""),
    said("no mailbox that can be opened", "list", rb"LIST \(", rb"LIST (\\Noselect "),
    said("namespaces that are garbage", "namespace", rb"\(\(.*", b'(("" "/" "x")) (NIL) "\x1b[2J"'),
    said("a namespace outside of all names", "namespace", rb'""', b'"../"', spoils=True),
    said("a namespace that is a literal", "namespace", rb'""', b"{3}\r\n../", spoils=True),
    told(
        "the STATUS of another mailbox",
        "list",
        b'* STATUS "elsewhere" (MESSAGES 5 UIDNEXT 6 UIDVALIDITY 2 HIGHESTMODSEQ 3)',
    ),
    said("STATUS of no messages", "list", rb"MESSAGES \d+", b"MESSAGES 0"),
    said(
        "STATUS as of the last run",
        "list",
        rb"UIDNEXT \d+ MESSAGES \d+ HIGHESTMODSEQ \d+",
        b"UIDNEXT 4 MESSAGES 3 HIGHESTMODSEQ 4",
    ),
    said(
        "STATUS that is garbage",
        "list",
        rb"STATUS (\S+) \(.*?\)",
        rb"STATUS \1 (MESSAGES (x) UIDNEXT \"5\" UIDVALIDITY)",
    ),
    said("STATUS of 10^30 messages", "list", rb"MESSAGES \d+", b"MESSAGES 1" + b"0" * 30),
]
MANY_FLAGS = b"FLAGS (" + b" ".join(b"key%d" % n for n in range(10**5)) + b" "
OPENED = [
    *(
        said(f"EXISTS {by.decode()}", "select", rb"\* \d+ EXISTS", b"* %s EXISTS" % by)
        for by in (b"1", b"4294967296", b"4294967295", b"9999999", b"-1", b"x")
    ),
    *(
        said(f"UIDVALIDITY {by.decode()}", "select", rb"\[UIDVALIDITY \d+\]", b"[UIDVALIDITY %s]" % by)
        for by in (b"0", b"-1", b"x", b"99999999999999999999", b"(2)")
    ),
    said("no UIDVALIDITY", "select", rb"\* OK \[UIDVALIDITY.*\r\n", b""),
    Lie(
        "another UIDVALIDITY at each SELECT",
        trapped(
            *(
                edited(COMMANDS["select"], rb"\[UIDVALIDITY \d+\]", b"[UIDVALIDITY %d]" % (90 + n), nth=n)
                for n in range(1, 9)
            )
        ),
    ),
    *(
        said(f"UIDNEXT {by.decode()}", "select", rb"\[UIDNEXT \d+\]", b"[UIDNEXT %s]" % by)
        for by in (b"0", b"1", b"4294967295", b"99999999999999999999", b"x")
    ),
    *(
        said(
            f"HIGHESTMODSEQ {by.decode()} ({how})",
            "select",
            rb"\[HIGHESTMODSEQ \d+\]",
            b"[HIGHESTMODSEQ %s]" % by,
            capabilities=caps,
        )
        for by in (b"0", b"1", b"18446744073709551616", b"99999999999999999999999", b"x")
        for how, caps in (("CONDSTORE", CAPABILITIES), ("QRESYNC", QRESYNC))
    ),
    said("flags that are no flags", "select", rb"FLAGS \(.*?\)", b'FLAGS ("a b" \\ [ \xff {5} %s)' % (b"k" * 10_000)),
    said("a hundred thousand keywords", "select", rb"FLAGS \(", MANY_FLAGS, heavy=True),
    said("no flag that stays", "select", rb"PERMANENTFLAGS \(.*?\)", b"PERMANENTFLAGS ()"),
]
LISTING = [
    *(
        said(f"UID {by.decode()}", "listing", rb"UID 1 ", b"UID %s " % by)
        for by in (b"0", b"4294967296", b"9999999999", b"99999999999999999999", b"-1", b"2", b"4", b"x")
    ),
    Lie(
        "messages in descending order",
        trapped(Trap(COMMANDS["listing"], Edit(lambda answer: b"".join([*ONE.findall(answer)[:1], answer])))),
    ),
    said("no UID", "listing", rb"UID \d+ ", b""),
    said(
        "a message that is not listed",
        "listing",
        rb"(?s)\* 2 FETCH .*?\)\r\n(?=\* 3)",
        b"",
        words="1 messages were not listed",
    ),
    said("the header of another message", "listing", rb"<1@x>", b"<2@x>", says_gone=True),
    said("one id for all", "listing", rb"<\d@x>", b"<1@x>", says_gone=True),
    said("headers that are missing", "listing", rb"BODY\[.*?\] \{\d+\}\r\n[^)]*\)", b"BODY[HEADER] NIL)"),
    said(
        "a Message-ID of a megabyte",
        "listing",
        rb"\{\d+\}\r\nMessage-ID: <1@x>\r\n\r\n",
        b"{1000017}\r\nMessage-ID: <%s>\r\n\r\n" % (b"i" * 999_999),
        heavy=True,
        says_gone=True,
    ),
    said("a header with NULs", "listing", rb"<1@x>", b"<\0@\0>", says_gone=True),
    said("a header with an escape", "listing", rb"<1@x>", b"<\x1b[2>", says_gone=True),
    *(
        said(f"INTERNALDATE {by.decode()}", "listing", rb'INTERNALDATE ".*?"', b'INTERNALDATE "%s"' % by)
        for by in (
            b"",
            b"01-Jan-0000 00:00:00 +0000",
            b"01-Jan-0001 00:00:00 +9999",
            b"31-Dec-9999 23:59:59 -9999",
            b"yesterday",
            b"99-Feb-2024 99:99:99 +0000",
        )
    ),
    *(
        said(f"RFC822.SIZE {by.decode()}", "listing", rb"RFC822.SIZE \d+", b"RFC822.SIZE %s" % by)
        for by in (b"0", b"1", b"-5", b"9223372036854775808", b"99999999999999999999999", b"x")
    ),
    said(
        "flags that are no flags of a message",
        "listing",
        rb"FLAGS \(.*?\)",
        b'FLAGS ("a b" \\ \\* \\\\Seen [ \xff {5} nil %s)' % (b"k" * 10_000),
        flags=False,
    ),
    said("a hundred thousand flags of each message", "listing", rb"FLAGS \(", MANY_FLAGS, heavy=True),
    told(
        "EXPUNGE of a number that is not there",
        "listing",
        b"* 99 EXPUNGE",
        b"* 0 EXPUNGE",
        b"* 4294967295 EXPUNGE",
        after=1,
    ),
    told(
        "FETCHes of what was not asked",
        "listing",
        b"* 9 FETCH (UID 77 FLAGS ())",
        b"* 0 FETCH (UID 1)",
        b'* 2 FETCH (BODY[TEXT] "x" UID 2)',
        b"* 1 FETCH (ENVELOPE (NIL NIL) X-Y 5)",
        after=1,
    ),
    told("EXISTS that goes down", "listing", b"* 1 EXISTS", b"* 0 EXISTS", after=1),
    told(
        "other VANISHED than there were",
        "listing",
        b"* VANISHED 77,4000:4100",
        b"* VANISHED (EARLIER) 9:4294967295",
        after=0,
        capabilities=QRESYNC,
    ),
    *(
        told(f"{line.decode()} ({command}, {after})", command, line, after=after, capabilities=QRESYNC, heavy=True)
        for command, after in (("select", 4), ("listing", 0), ("listing", 1), ("flags", 0))
        for line in (
            b"* VANISHED 1:4294967295",
            b"* VANISHED (EARLIER) 1:4294967295",
            b"* VANISHED x",
            b"* VANISHED 0",
            b"* VANISHED",
        )
        if (command, after) != ("listing", 1) or b"EARLIER" in line
    ),
    told(
        "ESEARCH that is garbage",
        "listing",
        b'* ESEARCH (TAG "x") UID ALL 1:4294967295',
        b"* ESEARCH",
        b"* SEARCH x 99999999999999999999999",
    ),
]
BODIES = [
    said("a body of another message", "body", rb"<4@x>", b"<1@x>", codes=frozenset({1}), words="another text"),
    said("a body of another UID", "body", rb"UID 4 ", b"UID 1 "),
    said("a UID that is none with a body", "body", rb"UID 4 ", b"UID 99999999999999999999 "),
    said(
        "a body of nothing",
        "body",
        rb"(?s)BODY\[\] \{\d+\}.*?\)\r\n",
        b"BODY[] NIL)\r\n",
        codes=frozenset({1}),
        words="no content",
    ),
    said("an empty body", "body", rb"(?s)BODY\[\] \{\d+\}.*?\)\r\n", b"BODY[] {0}\r\n)\r\n", codes=frozenset({1})),
    said("a shorter body than was told", "body", rb"(?s)\{\d+\}\r\n.*\r\n\)\r\n", other_text, codes=frozenset({1})),
    said(
        "two bodies for one message",
        "body",
        rb"(?s)(\* \d+ FETCH .*?\r\n\)\r\n)",
        lambda found: found[1] + found[1].replace(b"<4@x>", b"<1@x>"),
    ),
    said("no body at all", "body", rb"(?s)\* \d+ FETCH .*\r\n\)\r\n", b""),
    said("a longer literal than there is", "body", rb"\{(\d+)\}", b"{9999}", stalls=True),
    said("a shorter literal than there is", "body", rb"\{(\d+)\}", b"{50}"),
    said(
        "a date that is none with a body", "body", rb'INTERNALDATE ".*?"', b'INTERNALDATE "01-Jan-0001 00:00:00 +9999"'
    ),
    said(
        "a date of the year 9999 with a body",
        "body",
        rb'INTERNALDATE ".*?"',
        b'INTERNALDATE "31-Dec-9999 23:59:59 -9999"',
    ),
]
CHANGES = [
    Lie("a STORE to another message", trapped(edited(COMMANDS["flags"], rb"UID 1 ", b"UID 2 "))),
    said(
        "flags that never change",
        "flags",
        rb"FLAGS \(.*?\)",
        b"FLAGS ()",
        codes=frozenset({1}),
        words="does not keep these flags",
    ),
    Lie(
        "STORE that is modified by all",
        trapped(Trap(COMMANDS["store"], Answer("OK [MODIFIED 1:4294967295] x"), nth=0)),
        heavy=True,
    ),
    Lie("STORE that is modified by garbage", trapped(Trap(COMMANDS["store"], Answer("OK [MODIFIED a,b] x"), nth=0))),
    Lie(
        "EXPUNGE that does nothing",
        trapped(Trap(COMMANDS["expunge"], Answer("OK done"), nth=0)),
        frozenset({1}),
        "server keeps it",
    ),
    *(
        said(
            f"APPENDUID {by.decode()[:40]}",
            "append",
            rb"\[APPENDUID (\d+) \S+\]",
            rb"[APPENDUID %s]" % by,
            heavy=b"4294967295" in by,
        )
        for by in (
            rb"\1 1:4294967295",
            rb"\1 1:3",
            rb"\1 0",
            rb"\1 -5",
            rb"\1 1",
            rb"77 1",
            rb"\1 99999999999",
            rb"\1",
            rb"x y",
            rb"\1 1,1",
        )
    ),
    said("APPEND without its UID", "append", rb"\[APPENDUID .*?\] ", b""),
    *(
        Lie(
            f"COPYUID {by.decode()}",
            trapped(edited(rb"UID MOVE", rb"\[COPYUID (\d+) \S+ \S+\]", rb"[COPYUID %s]" % by)),
            options="delete trash:Trash",
            heavy=b"4294967295" in by,
        )
        for by in (
            rb"\1 1:4294967295 1:4294967295",
            rb"\1 3 1:2",
            rb"\1 3",
            rb"77 3 1",
            rb"\1 1 1",
            rb"\1 3 0",
            rb"x y z",
        )
    ),
    Lie("MOVE that does nothing", trapped(Trap(rb"UID MOVE", Answer("OK done"), nth=0)), options="delete trash:Trash"),
]


# ---- before the login, and below IMAP --------------------------------------------------------------------------------

SCRAM = frozenset({"AUTH=SCRAM-SHA-256", "SASL-IR", "LOGINDISABLED"})


def challenge(form: bytes) -> Pieces:
    """A first answer of SCRAM, in which `$` is the nonce of the client, and a last one that proves nothing."""

    def pieces(command: Command) -> Iterator[bytes]:
        first = base64.b64decode(command.text.split()[-1])
        nonce = first.partition(b"r=")[2]
        yield b"+ %s\r\n" % base64.b64encode(form.replace(b"$", nonce))
        yield b"+ %s\r\n" % base64.b64encode(b"v=" + base64.b64encode(b"x" * 32))
        yield command.tag + b" OK welcome\r\n"

    return pieces


def logs_in(name: str, pieces: Pieces, words: str) -> Lie:
    def tell(server: FakeServer) -> None:
        server.capabilities = SCRAM
        server.script.append(Trap("AUTHENTICATE", Pour(pieces), nth=0))

    return Lie(name, tell, frozenset({6, 7}), words, heavy=True)


LOGINS = [
    logs_in("SCRAM of 2^31 iterations", challenge(b"r=$x,s=QSXCR+Q6sek8bf92,i=2147483648"), "iterations"),
    logs_in("SCRAM of one iteration", challenge(b"r=$x,s=QSXCR+Q6sek8bf92,i=1"), "1 iterations"),
    logs_in("SCRAM of negative iterations", challenge(b"r=$x,s=QSXCR+Q6sek8bf92,i=-4096"), "iterations"),
    logs_in("SCRAM with a salt of a megabyte", challenge(b"r=$x,s=" + b"QSXC" * 250_000 + b",i=4096"), "65536 bytes"),
    logs_in(
        "SCRAM with a nonce that is not ours", challenge(b"r=abc,s=QSXCR+Q6sek8bf92,i=4096"), "does not continue ours"
    ),
    logs_in("SCRAM with our nonce alone", challenge(b"r=$,s=QSXCR+Q6sek8bf92,i=4096"), "does not continue ours"),
    logs_in("SCRAM with a wrong signature", challenge(b"r=$x,s=QSXCR+Q6sek8bf92,i=4096"), "does not know the password"),
    logs_in("SCRAM that is garbage", lambda _: [b"+ !!!\r\n"], "does not continue ours"),
    logs_in("SCRAM without a challenge", once(), "did not prove"),
    logs_in("SCRAM with challenges without end", lambda _: chain([b"+ ZQ==\r\n"], repeat(b"+ ZQ==\r\n")), ""),
    Lie(
        "PREAUTH",
        trapped(Trap(COMMANDS["greeting"], Edit(lambda answer: answer.replace(b"* OK", b"* PREAUTH")), nth=0)),
    ),
    said(
        "a greeting that is another protocol's",
        "greeting",
        rb"(?s).*",
        b"220 smtp \x1b[2J ESMTP\r\n",
        codes=frozenset({6}),
        words="not an IMAP server|does not speak IMAP",
    ),
]


def pressed(*pieces: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
    packer = zlib.compressobj(9, wbits=-15)
    return b"".join(map(packer.compress, pieces)) + packer.flush(flush)


def compressing(name: str, pieces: Callable[[], Iterable[bytes]]) -> Lie:
    return Lie(
        name,
        trapped(Trap("COMPRESS", Pour(lambda command: chain([command.tag + b" OK go\r\n"], pieces())), nth=0)),
        capabilities=CAPABILITIES | {"COMPRESS=DEFLATE"},
        options="compress yes",
        heavy=True,
    )


BOMB = pressed(b"* OK " + b"x" * 60_000_000)
COMPRESSED = [
    compressing("a line that is a bomb", lambda: [BOMB]),
    compressing(
        "lines that are a bomb",
        lambda: chain([pressed(b"* OK x\r\n" * 1_000_000)], repeat(pressed(b"* OK x\r\n" * 1_000_000))),
    ),
    compressing("garbage instead of a stream", lambda: [b"\xff" * 100]),
    compressing("plain text instead of a stream", lambda: [b"* OK x\r\n" * 100]),
    compressing("a stream that is cut", lambda: [pressed(b"* OK x\r\n" * 100)[:-10]]),
    compressing("a stream that has ended", lambda: [pressed(b"* OK x\r\n", flush=zlib.Z_FINISH), b"* OK x\r\n"]),
    compressing("a stream of nothing without end", lambda: repeat(pressed(b""))),
]

SPECIAL = [*LISTS, *OPENED, *LISTING, *BODIES, *CHANGES, *LOGINS, *COMPRESSED]
