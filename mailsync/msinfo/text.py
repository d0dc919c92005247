"""The text of msinfo: what a channel remembers, as one message. Knows no mailbox; finding and replacing is `mailbox`'s.

The format is that of mailsync 5.2.7, which reads what we write and whose own text we read: the name of a box on a line,
a line for each id below it, all in bytewise order. What we remember beyond the id follows its `>`, where 5.2.7 looks no
more; a line that it must not take for an id has no `>` at all:

    <id@host>                             both sides have it, flags never agreed (5.2.7 wrote the line)
    <id@host> (\\Answered \\Seen) #DIGEST   agreed flags; the digest of a group's member or a draft
    <id@host> () #DIGEST/DIGEST           ... which differs between the sides
    <md5:HEX ()                           a message without Message-ID
    <alias:ID ID ()                       one message whose id differs between the sides, both percent-escaped
    <>, md5: <HEX> ()                     an id of the md5 kind
"""

from __future__ import annotations

import re
from binascii import unhexlify
from collections import Counter
from collections.abc import Mapping
from operator import itemgetter

from ..errors import MsinfoError
from ..header import first, unfold
from ..identity import forged, hidden, key
from ..model import NONE, Boxname, BoxSeen, Digest, Digests, Flags, Key, Line, MessageId

Memory = dict[Boxname, dict[Key, tuple[Line, ...]]]

START_OVER = "Restore it from a backup; or move it away: the next run then unites both stores and deletes nothing."
MARK = b"=mailsync="  # an escaped boxname follows
_FORMAT, _LINES, _DATE = "X-Mailsync-Format", "X-Mailsync-Lines", "X-Mailsync-Date"

_PREFIX = {"msgid": "<", "md5": "<>, md5: <"}
_UNSEEN = re.compile(r"(<md5:[0-9a-f]{32})(?= |\Z)|<alias:([^ >]+) ([^ >]+)(?= |\Z)")  # what 5.2.7 passes over
_FLAGS = re.compile(r" \(([^()>]*)\)(?= |\Z)")
_DIGESTS = re.compile(r" #([0-9A-Za-z]+)(?:/([0-9A-Za-z]+))?(?= |\Z)")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_UNSAFE = re.compile(rb"[^!-~]|[%()<>]")
_ODD_NAME = re.compile(rb"<|>*+From |" + MARK)
_END = re.compile(rb"(?:\A|\n)\n")
_KINDS = {"msgid": "Message-IDs", "md5": "md5 sums"}

Tail = tuple[Flags | None, Digests | None]
Tails = dict[str, Tail]


def candidate(header: bytes, channel: str) -> bool:
    """True for what calls itself the memory of this channel, whose name must stand there exactly.

    Also for what came by mail: `identity.forged` tells that.
    """
    subject = first(header, b"subject")
    return subject is not None and unfold(subject) == _encoded(channel) and (hidden(header) or forged(header))


def date(raw: bytes) -> str:
    """When it was written, as text that sorts: of two, the greater is the newer. "" where 5.2.7 wrote it."""
    return _header(_split(raw)[0], _DATE)


def parse(raw: bytes, kind: str) -> tuple[Memory, tuple[str, ...]]:
    """What the message remembers, and warnings about lines that had to be passed over.

    MsinfoError if it is cut off, of the other kind, or written by a later format: never taken for empty.
    """
    header, body = _split(raw)
    lines = _complete(header, body)
    _check_kind(header, lines, kind)
    plain = all(map(str.isascii, lines)) and all(map(str.isprintable, lines))  # each id is its own key
    memory: Memory = {}
    lost = 0
    box: dict[Key, tuple[Line, ...]] = {}
    groups: dict[tuple[Boxname, Key], Counter[Line]] = {}  # the ids with several lines
    again = False  # a box that comes twice, which no mailsync writes, is one box
    current: Boxname | None = None
    tails: Tails = {}
    prefix = _PREFIX[kind]
    skip = len(prefix)
    for text_line in lines:
        if text_line[:1] != "<":
            current = _boxname(text_line)
            again = current in memory
            box = memory.setdefault(current, {})
            continue
        # What nearly all lines are is read here, with few calls: a channel may remember a million.
        end = text_line.find(">", skip) + 1
        if end > skip + 1 and (skip == 1 or text_line.startswith(prefix)):
            id = MessageId(text_line[:end])
            rest = text_line[end:]
            flags, digests = tails.get(rest) or _tail(rest, tails)
            line = Line(id, flags, digests)
            folded = Key(id) if plain else key(id)
        elif unseen := _unseen(text_line, tails):
            line = unseen
            folded = key(line.id)
        else:
            lost += text_line != "<>" or kind == "md5"
            continue
        if current is None:
            current = Boxname("")
            box = memory.setdefault(current, {})
        before = box.get(folded)
        if before is None:
            box[folded] = (line,)
            continue
        group = groups.get((current, folded)) or groups.setdefault((current, folded), Counter(before))
        if not (again and line in group):
            group[line] += 1
    for (name, folded), group in groups.items():
        memory[name][folded] = tuple(group.elements())
    return memory, ((f"{lost} lines of msinfo could not be read and are passed over",) if lost else ())


def format(memory: Mapping[Boxname, BoxSeen], channel: str, kind: str, now: float) -> bytes:
    """The whole message, lines ending in LF. `now`: seconds since the epoch."""
    tails: dict[Flags | None, str] = {None: ""}
    lines: list[str] = []
    for name, box in sorted(((_name_line(name, box), box) for name, box in memory.items()), key=itemgetter(0)):
        lines.append(name)
        lines += sorted(_id_line(line, tails) for group in box.values() for line in group)
    body = "".join(line + "\n" for line in lines).encode("latin-1")
    return (
        b"From: mailsync\nSubject: "
        + _encoded(channel)
        + f"\n{_FORMAT}: 1 {kind}\n{_LINES}: {len(lines)} {len(body)}\n{_DATE}: {_iso(now)}\n\n".encode()
        + body
    )


def _split(raw: bytes) -> tuple[bytes, bytes]:
    """Header and body. CR goes: a mailbox on a server gives it to each line, and no line of ours has one."""
    text = raw.replace(b"\r\n", b"\n")
    end = _END.search(text)
    return (text[: end.start()], text[end.end() :]) if end else (text, b"")


def _complete(header: bytes, body: bytes) -> list[str]:
    """The lines of the body, which must be all that were written. Blank lines at the end are the mailbox's."""
    written = _header(header, _LINES).split()
    if not written:  # 5.2.7's, or edited by hand
        return body.rstrip(b"\n").decode("latin-1").split("\n") if body.strip(b"\n") else []
    if not all(number.isdecimal() and len(number) < 12 for number in written):
        raise MsinfoError(f"{_LINES} is no number", START_OVER)
    count = int(written[0])
    lines = body.decode("latin-1").split("\n")
    found = len(lines) - 1 if not lines[-1] else len(lines)
    if found < count:
        raise MsinfoError(f"it is cut off: {count} lines were written, {found} are there", START_OVER)
    # The size tells a last line that is cut off, too: half a boxname is a boxname.
    size = sum(map(len, lines[:count])) + count
    if any(lines[count:]) or (len(written) > 1 and size != int(written[1])):
        raise MsinfoError(f"it was changed: {count} lines were written, not these", START_OVER)
    return lines[:count]


def _check_kind(header: bytes, lines: list[str], kind: str) -> None:
    """Ids of the other kind match nothing: all mail would count as new, or, worse, as one message."""
    version, _, found = _header(header, _FORMAT).partition(" ")
    if version not in ("", "1"):
        raise MsinfoError(f"its format is {version}, of a later mailsync; this one knows 1", "Update mailsync.")
    if not found:
        kinds = {
            line.startswith(_PREFIX["md5"])
            for line in lines
            if line[:1] == "<" and not line.startswith(("<md5:", "<alias:"))
        }
        if len(kinds) != 1:
            return
        found = "md5" if kinds.pop() else "msgid"
    if found != kind:
        what, other = _KINDS.get(found, found), _KINDS.get(kind, kind)
        raise MsinfoError(f"it remembers {what}, not {other}", f"Use -t {found}, or move it away to start over.")


def _unseen(text: str, tails: Tails) -> Line | None:
    """A line that 5.2.7 passes over. None: it is not of ours either, as 5.2.7's `<>` for all mail without an id."""
    found = _UNSEEN.match(text)
    if found is None:
        return None
    idless, here, there = found.groups()
    flags, digests = _tail(text[found.end() :], tails)
    if idless:
        return Line(MessageId(idless), flags, digests)
    return Line(_unescaped(here), flags, digests, _unescaped(there))


def _tail(text: str, tails: Tails) -> Tail:
    """What follows an id. What a later mailsync may put there is passed over."""
    flags: Flags | None = None
    at = 0
    if found := _FLAGS.match(text):
        keywords = (_unpercent(flag.encode("latin-1")) for flag in found[1].split())
        flags = frozenset(keyword.decode("utf-8", "surrogateescape") for keyword in keywords)
        at = found.end()
    digests = _DIGESTS.match(text, at)
    if digests:
        return flags, Digests(Digest(digests[1]), Digest(digests[2] or digests[1]))
    tails[text] = flags, None  # few differ; digests all do
    return tails[text]


def _id_line(line: Line, tails: dict[Flags | None, str]) -> str:
    tail = tails.get(line.flags)
    if tail is None:
        tail = tails[line.flags] = " (" + " ".join(sorted(map(_escaped, line.flags or NONE))) + ")"
    if line.digests:
        a, b = line.digests
        tail += f" #{a}" if a == b else f" #{a}/{b}"
    if line.alias is not None:
        # An id of 5.2.7's on one side only is what makes it delete: it must see none of the two.
        return f"<alias:{_escaped_id(line.id)} {_escaped_id(line.alias)}{tail}"
    return line.id + tail


def _boxname(line: str) -> Boxname:
    raw = line.encode("latin-1")
    if raw.startswith(MARK):
        raw = _unpercent(raw[len(MARK) :])
    return Boxname(raw.decode("utf-8", "surrogateescape"))


def _name_line(name: Boxname, box: BoxSeen) -> str:
    raw = _encoded(name)
    # A blank line with nothing below it could pass for one that a mailbox put at the end.
    if _ODD_NAME.match(raw) or any(byte in raw for byte in b"\r\n\0") or not (raw or box):
        raw = MARK + _percent(raw)
    return raw.decode("latin-1")


def _header(header: bytes, name: str) -> str:
    return unfold(first(header, name.lower().encode()) or b"").decode("latin-1").strip()


def _encoded(name: str) -> bytes:
    return name.encode("utf-8", "surrogateescape")


def _percent(raw: bytes) -> bytes:
    return _UNSAFE.sub(lambda match: b"%%%02X" % match[0][0], raw)


def _unpercent(raw: bytes) -> bytes:
    """What is no escape stays as it is."""
    return _ESCAPED.sub(lambda match: unhexlify(match[1]), raw)


def _escaped(keyword: str) -> str:
    return _percent(_encoded(keyword)).decode("ascii")


def _escaped_id(id: MessageId) -> str:
    return _percent(id.encode("latin-1", "replace")).decode("ascii")


def _unescaped(id: str) -> MessageId:
    return MessageId(_unpercent(id.encode("latin-1")).decode("latin-1"))


def _iso(now: float) -> str:
    from datetime import UTC, datetime  # not at the start: only runs that save want it

    return datetime.fromtimestamp(now, UTC).isoformat(timespec="microseconds")
