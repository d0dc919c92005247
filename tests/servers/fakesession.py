"""The commands of the fake server: one session, from the greeting to the end of its connection."""

from __future__ import annotations

import base64
import binascii
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING

from .fakestore import (
    NEW_YEAR,
    NOSELECT,
    SYSTEM,
    Bad,
    FakeBox,
    FakeMessage,
    No,
    as_set,
    format_date,
    from_utf8,
    in_set,
    parse_date,
    to_utf8,
)
from .fakewire import LITERAL, PLAIN, QUOTABLE, Arguments, Command, Literal, Wire, literal, quoted

if TYPE_CHECKING:
    from .fake import FakeServer

GREETING = b"* GREETING"  # what a trap for it must match
ALWAYS = {b"CAPABILITY", b"NOOP", b"LOGOUT", b"ID"}
LOGGED_OUT = {b"LOGIN", b"AUTHENTICATE"}
SELECTED = {b"CLOSE", b"UNSELECT", b"CHECK", b"EXPUNGE", b"SEARCH", b"FETCH", b"STORE", b"COPY", b"MOVE"}
BY_UID = {b"SEARCH", b"FETCH", b"STORE", b"COPY", b"MOVE", b"EXPUNGE"}
OPTIONAL = {b"MOVE", b"UNSELECT", b"NAMESPACE", b"ENABLE", b"ID"}
NUMBERS_STAY = {b"FETCH", b"STORE", b"SEARCH"}  # no EXPUNGE is told during these (RFC 3501, section 7.4.1)
MACROS: dict[bytes, list[bytes]] = {b"FAST": [b"FLAGS", b"INTERNALDATE", b"RFC822.SIZE"]}
LIST_OPTIONS = {  # RETURN options and what a server must have for them
    b"SUBSCRIBED": "LIST-EXTENDED",
    b"CHILDREN": "LIST-EXTENDED",
    b"STATUS": "LIST-STATUS",
    b"SPECIAL-USE": "SPECIAL-USE",
}
SECTION = re.compile(rb"BODY(?:\.PEEK)?\[(?P<section>[^\]]*)\](?:<(?P<start>\d+)\.(?P<size>\d+)>)?")
LITERAL_MINUS = 4096  # bytes (RFC 7888, section 5)


@dataclass(slots=True)
class Given:
    """A message as APPEND brings it."""

    raw: bytes
    flags: list[bytes]
    date: int


class Session:
    """Answers are lists of whole responses, the tagged one last."""

    def __init__(self, server: FakeServer, wire: Wire) -> None:
        self._server = server
        self._store = server.store
        self._wire = wire
        self._random = random.Random(server.order) if server.order is not None else None
        self._user: str | None = None
        self._enabled: set[bytes] = set()
        self._box: FakeBox | None = None
        self._view: list[FakeMessage] = []  # by sequence number, as the client was told
        self._known: dict[int, int] = {}  # uid: MODSEQ of the flags that the client was told
        self._validity = 0
        self._read_only = False
        self._told_at = (0, 0)  # MODSEQ and UIDNEXT of the box when all was told
        self.over = False
        self.compressing = False  # from the next answer on

    def greet(self) -> list[bytes]:
        if self._server.preauth:
            self._user = next(iter(self._server.passwords))
        return [self._line(b"*", b"PREAUTH" if self._user else b"OK", self._capability_code() + b"the fake is ready")]

    # ---- receiving ---------------------------------------------------------------------------------------------------

    def read(self) -> Command:
        """The next command, its literals asked for. One that is refused for them is answered here."""
        while True:
            text, literals = b"", list[bytes]()
            try:
                while True:
                    line = self._wire.line()
                    text += line
                    found = LITERAL.search(line)
                    if not found or (found[2] and not self._has("LITERAL+", "LITERAL-")):
                        return self._logged(Command(text, tuple(literals)))
                    size = int(found[1])
                    if not found[2]:
                        self._look_at_start(text, literals, size)
                        self._wire.send(b"+ go on\r\n")
                    data = self._wire.exactly(size)
                    if found[2] and size > LITERAL_MINUS and not self._has("LITERAL+"):
                        raise Bad(b"[TOOBIG] more than LITERAL- allows")
                    literals.append(data)
            except (No, Bad) as err:
                command = self._logged(Command(text))
                self._wire.send(self._line(command.tag, type(err).__name__.upper().encode(), err.args[0]))

    def _look_at_start(self, text: bytes, literals: list[bytes], size: int) -> None:
        """Refuse an APPEND as soon as its mailbox and size are known, as real servers do."""
        try:
            words = Command(text, (*literals, b"")).tokens()
        except Bad:
            return  # told when the command is complete
        match words:
            case [bytes(name), bytes(mailbox), *_, Literal()] if name.upper() == b"APPEND" and self._user:
                self._store.existing(mailbox, b"TRYCREATE")
                self._server.check_size(size)

    def _logged(self, command: Command) -> Command:
        with self._wire.tally.lock:
            self._wire.tally.log.append(command.text)
        return command

    # ---- executing ---------------------------------------------------------------------------------------------------

    def execute(self, command: Command) -> list[bytes]:
        """The whole answer. `over` is set where nothing comes after it."""
        try:
            arguments = Arguments(command.tokens())
            name = arguments.word()
            by_uid = name == b"UID"
            if by_uid:
                name = arguments.word()
            do = self._method(name, by_uid)
            # AUTHENTICATE waits for its client, and nobody else must wait for that.
            with self._server.lock if name != b"AUTHENTICATE" else nullcontext():
                if lost := self._lost_box():
                    self.over = True
                    return [lost]
                untagged = [*self._unsolicited(), *do(arguments, by_uid)]
                code = untagged.pop() if untagged and not untagged[-1].startswith(b"* ") else b""
                told = self._news(expunges=by_uid or name not in NUMBERS_STAY)
                return [*untagged, *told, self._line(command.tag, b"OK", code + b"done")]
        except No as err:
            return [*self._news(expunges=False), self._line(command.tag, b"NO", err.args[0])]
        except Bad as err:
            return [self._line(command.tag, b"BAD", err.args[0])]

    def _method(self, name: bytes, by_uid: bool) -> Callable[[Arguments, bool], Iterable[bytes]]:
        """A method yields untagged responses and, at most and at last, the response code of the tagged one."""
        method: Callable[[Arguments, bool], Iterable[bytes]] | None = getattr(self, f"_do_{_text(name).lower()}", None)
        absent = name in OPTIONAL and not self._has(_text(name))
        if method is None or absent or (by_uid and name not in BY_UID):
            raise Bad(b"unknown command")
        if by_uid and name == b"EXPUNGE":
            self._need("UIDPLUS")
        if name not in ALWAYS and (name in LOGGED_OUT) != (self._user is None):
            raise Bad(b"not in this state: " + (b"logged in" if self._user else b"not logged in"))
        if name in SELECTED and self._box is None:
            raise Bad(b"no mailbox is selected")
        return method

    def _has(self, *capabilities: str) -> bool:
        return any(each in self._server.capabilities for each in capabilities)

    def _need(self, *capabilities: str) -> None:
        if not self._has(*capabilities):
            raise Bad(b"not without " + capabilities[0].encode())

    def _line(self, tag: bytes, status: bytes, text: bytes) -> bytes:
        return b"%s %s %s\r\n" % (tag, status, text)

    # ---- strings and names -------------------------------------------------------------------------------------------

    def _string(self, text: bytes) -> bytes:
        if self._server.literals or not QUOTABLE.fullmatch(text):
            return literal(text)
        return quoted(text)

    def _name_out(self, name: bytes) -> bytes:
        if b"UTF8=ACCEPT" in self._enabled:
            name = to_utf8(name)
            if not name.isascii() and not self._server.literals:
                return quoted(name)
        plain = PLAIN.fullmatch(name) and name.upper() != b"NIL"
        return name if plain and not self._server.literals else self._string(name)

    def _name_in(self, arguments: Arguments) -> bytes:
        name = arguments.string()
        return from_utf8(name) if b"UTF8=ACCEPT" in self._enabled else name

    # ---- any state ---------------------------------------------------------------------------------------------------

    def _capabilities(self) -> bytes:
        told = self._server.capabilities
        if self._user is None and self._server.greeted is not None:
            told = self._server.greeted
        return b" ".join([b"CAPABILITY IMAP4rev1", *sorted(each.encode() for each in told)])

    def _capability_code(self) -> bytes:
        return b"[%s] " % self._capabilities() if self._server.announce else b""

    def _do_capability(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        arguments.end()
        yield b"* %s\r\n" % self._capabilities()

    def _do_noop(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        arguments.end()
        yield from ()

    def _do_logout(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        self._box = None
        self.over = True
        yield b"* BYE see you\r\n"

    def _do_id(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        yield b'* ID ("name" "fake")\r\n'

    def _do_compress(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        self._need("COMPRESS=DEFLATE")
        if arguments.word() != b"DEFLATE" or self.compressing:
            raise No(b"[COMPRESSIONACTIVE] once and for all" if self.compressing else b"unknown")
        self.compressing = True
        yield from ()

    # ---- logging in --------------------------------------------------------------------------------------------------

    def _do_login(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        if self._has("LOGINDISABLED"):
            raise No(b"[PRIVACYREQUIRED] not without TLS")
        user, password = arguments.string(), arguments.string()
        arguments.end()
        yield self._log_in(user, password)

    def _do_authenticate(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        mechanism = arguments.word()
        if not self._has(f"AUTH={_text(mechanism)}"):
            raise No(b"[CANNOT] unknown mechanism")
        if arguments:
            self._need("SASL-IR")
            first = arguments.string()
        else:
            first = self._ask(b"")
        try:
            response = base64.b64decode(b"" if first == b"=" else first, validate=True)
        except binascii.Error:
            raise Bad(b"not base64") from None
        if mechanism == b"PLAIN":
            if response.count(b"\0") != 2:
                raise Bad(b"not what PLAIN is made of")
            _, user, password = response.split(b"\0")
            yield self._log_in(user, password)
        elif mechanism == b"XOAUTH2":
            fields = dict(each.partition(b"=")[::2] for each in response.split(b"\1"))
            try:
                yield self._log_in(fields.get(b"user", b""), fields.get(b"auth", b"").removeprefix(b"Bearer "))
            except No:
                self._ask(base64.b64encode(b'{"status":"400","schemes":"Bearer"}'))
                raise
        else:
            raise No(b"[CANNOT] unknown mechanism")

    def _ask(self, challenge: bytes) -> bytes:
        self._wire.send(b"+ %s\r\n" % challenge)
        response = self._wire.line()
        self._logged(Command(response))
        if response == b"*":
            raise Bad(b"cancelled")
        return response

    def _log_in(self, user: bytes, password: bytes) -> bytes:
        if self._server.passwords.get(_text(user)) != _text(password):
            raise No(b"[AUTHENTICATIONFAILED] wrong user or password")
        self._user = _text(user)
        return self._capability_code()

    # ---- mailboxes ---------------------------------------------------------------------------------------------------

    def _do_enable(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        wanted = [each for each in arguments.words() if each in (b"UTF8=ACCEPT", b"CONDSTORE", b"QRESYNC")]
        enabled = [each for each in wanted if self._has(_text(each))]
        self._enabled.update(enabled)
        yield b" ".join([b"* ENABLED", *enabled]) + b"\r\n"

    def _do_namespace(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        own = b"((%s %s)) NIL NIL" % (self._string(self._store.prefix), self._delimiter())
        yield b"* NAMESPACE %s\r\n" % (self._server.namespace or own)

    def _delimiter(self) -> bytes:
        return quoted(self._store.delimiter) if self._store.delimiter else b"NIL"

    def _do_list(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        selection: list[bytes] = []
        if isinstance(arguments.peek(), list):
            self._need("LIST-EXTENDED")
            selection = arguments.group().words()
        reference = self._name_in(arguments)
        several = isinstance(arguments.peek(), list)
        if several:
            self._need("LIST-EXTENDED")
        patterns = arguments.group_or_one()
        names = [self._name_in(patterns)]
        while patterns:
            names.append(self._name_in(patterns))
        status = self._list_return(arguments)
        arguments.end()
        if names == [b""] and not several:
            yield b'* LIST (\\Noselect) %s ""\r\n' % self._delimiter()
            return
        for name, box in self._store.matching(reference, names):
            special = box.attributes - {NOSELECT}
            if (b"SUBSCRIBED" in selection and not box.subscribed) or (b"SPECIAL-USE" in selection and not special):
                continue
            subscribed = box.subscribed and (b"SUBSCRIBED" in selection or b"SUBSCRIBED" in status)
            yield self._listed(b"LIST", name, box, [rb"\Subscribed"] if subscribed else [])
            items = status.get(b"STATUS")
            if items is not None and NOSELECT not in box.attributes:
                yield self._status(name, box, items)

    def _list_return(self, arguments: Arguments) -> dict[bytes, list[bytes]]:
        """The return options, each with its arguments."""
        options: dict[bytes, list[bytes]] = {}
        if not arguments:
            return options
        if arguments.word() != b"RETURN":
            raise Bad(b"RETURN is missing")
        self._need("LIST-EXTENDED", "LIST-STATUS")
        group = arguments.group()
        while group:
            option = group.word()
            if option not in LIST_OPTIONS:
                raise Bad(b"unknown return option")
            self._need(LIST_OPTIONS[option])
            options[option] = group.group().words() if option == b"STATUS" else []
        return options

    def _listed(self, response: bytes, name: bytes, box: FakeBox, attributes: list[bytes]) -> bytes:
        attributes = [*attributes, *sorted(box.attributes if self._has("SPECIAL-USE") else box.attributes & {NOSELECT})]
        if self._has("CHILDREN", "LIST-EXTENDED"):
            attributes.append(rb"\HasChildren" if self._store.has_children(name) else rb"\HasNoChildren")
        told = self._name_out(name)
        return b"* %s (%s) %s %s\r\n" % (response, b" ".join(attributes), self._delimiter(), told)

    def _do_lsub(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        reference, pattern = self._name_in(arguments), self._name_in(arguments)
        arguments.end()
        for name, box in self._store.matching(reference, [pattern]):
            if box.subscribed:
                yield self._listed(b"LSUB", name, box, [])

    def _do_subscribe(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        self._store.existing(self._name_in(arguments)).subscribed = True
        arguments.end()
        yield from ()

    def _do_unsubscribe(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        self._store.existing(self._name_in(arguments)).subscribed = False
        arguments.end()
        yield from ()

    def _do_create(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        name = self._name_in(arguments)
        arguments.end()
        self._store.create(name)
        yield from ()

    def _do_delete(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        name = self._name_in(arguments)
        arguments.end()
        self._store.delete(name)
        yield from ()

    def _do_rename(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        old, new = self._name_in(arguments), self._name_in(arguments)
        arguments.end()
        self._store.rename(old, new)
        yield from ()

    def _do_status(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        name = self._name_in(arguments)
        items = arguments.group().words()
        arguments.end()
        yield self._status(name, self._store.existing(name), items)

    def _status(self, name: bytes, box: FakeBox, items: Sequence[bytes]) -> bytes:
        values = {
            b"MESSAGES": len(box.messages),
            b"RECENT": 0,
            b"UIDNEXT": box.uidnext,
            b"UIDVALIDITY": box.uidvalidity,
            b"UNSEEN": sum(1 for message in box.messages if rb"\Seen" not in message.flags),
        }
        if self._has("CONDSTORE"):
            values[b"HIGHESTMODSEQ"] = box.modseq
        if not set(items) <= set(values):
            raise Bad(b"unknown STATUS item")
        if b"HIGHESTMODSEQ" in items:
            self._enabled.add(b"CONDSTORE")
        told = b" ".join(b"%s %d" % (item, values[item]) for item in items)
        return b"* STATUS %s (%s)\r\n" % (self._name_out(name), told)

    # ---- the selected mailbox ----------------------------------------------------------------------------------------

    def _do_select(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        yield from self._select(arguments, read_only=False)

    def _do_examine(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        yield from self._select(arguments, read_only=True)

    def _select(self, arguments: Arguments, *, read_only: bool) -> Iterator[bytes]:
        self._box = None
        name = self._name_in(arguments)
        then: list[int] = []
        if arguments:
            self._need("CONDSTORE")
            parameters = arguments.group()
            match parameters.word():
                case b"QRESYNC" if b"QRESYNC" in self._enabled:
                    then = [int(word) for word in parameters.group().words()]
                case b"CONDSTORE":
                    parameters.end()
                case _:
                    raise Bad(b"unknown parameter")
            self._enabled.add(b"CONDSTORE")
        arguments.end()
        self._box = box = self._store.existing(name)
        self._read_only = read_only
        self._view = list(box.messages)
        self._known = {message.uid: message.modseq for message in box.messages}
        self._validity = box.uidvalidity
        self._told_at = (box.modseq, box.uidnext)
        yield b"* FLAGS (%s)\r\n" % b" ".join(box.flags)
        yield b"* %d EXISTS\r\n" % len(box.messages)
        yield b"* 0 RECENT\r\n"
        yield b"* OK [UIDVALIDITY %d] valid\r\n" % box.uidvalidity
        yield b"* OK [UIDNEXT %d] the next\r\n" % box.uidnext
        permanent = [] if read_only else sorted(box.permanent_flags)
        yield b"* OK [PERMANENTFLAGS (%s)] kept\r\n" % b" ".join(permanent)
        if self._has("CONDSTORE"):
            yield b"* OK [HIGHESTMODSEQ %d] highest\r\n" % box.modseq
        if then and then[0] == box.uidvalidity:
            yield from self._changes(box, since=then[1])
        yield b"[READ-ONLY] " if read_only else b"[READ-WRITE] "

    def _changes(self, box: FakeBox, since: int) -> Iterator[bytes]:
        """RFC 7162, 3.2.5.2. When messages went is forgotten: all that ever went are told."""
        if gone := sorted({*range(1, box.uidnext)}.difference(message.uid for message in box.messages)):
            yield b"* VANISHED (EARLIER) %s\r\n" % as_set(gone)
        for number, message in enumerate(box.messages, 1):
            if message.modseq > since:
                yield self._flags_changed(number, message, uid=True)

    @property
    def _selected(self) -> FakeBox:
        assert self._box
        return self._box

    def _writable(self) -> FakeBox:
        if self._read_only:
            raise No(b"[READ-ONLY] it was examined, not selected")
        return self._selected

    def _lost_box(self) -> bytes:
        """Why the connection must end, if the selected mailbox is not the one that was selected."""
        if self._box is None:
            return b""
        if not any(box is self._box for box in self._store.values()):
            return b"* BYE the selected mailbox was deleted\r\n"
        return b"* BYE UIDVALIDITY changed\r\n" if self._box.uidvalidity != self._validity else b""

    def _news(self, *, expunges: bool) -> Iterator[bytes]:
        """What has changed in the selected mailbox since the client was told last."""
        box = self._box
        if box is None or self._told_at == (box.modseq, box.uidnext):
            return
        if expunges:
            for number in range(len(self._view), 0, -1):
                if self._view[number - 1].gone:
                    uid = self._view.pop(number - 1).uid
                    by_uid = b"QRESYNC" in self._enabled
                    yield b"* VANISHED %d\r\n" % uid if by_uid else b"* %d EXPUNGE\r\n" % number
            self._told_at = (box.modseq, box.uidnext)
        for number, message in enumerate(self._view, 1):
            if not message.gone and self._known[message.uid] != message.modseq:
                yield self._flags_changed(number, message)
        last = self._view[-1].uid if self._view else 0
        new = [each for each in box.messages if each.uid > last and each.uid not in self._known]
        if new:
            self._view += new
            self._known.update((message.uid, message.modseq) for message in new)
            yield b"* %d EXISTS\r\n" % len(self._view)

    def _unsolicited(self) -> Iterator[bytes]:
        if self._server.unsolicited and self._box is not None:
            for number, message in enumerate(self._view, 1):
                yield b"* %d FETCH (FLAGS (%s))\r\n" % (number, b" ".join(sorted(message.flags)))

    def _flags_changed(self, number: int, message: FakeMessage, *, flags: bool = True, uid: bool = False) -> bytes:
        self._known[message.uid] = message.modseq
        items = [b"UID %d" % message.uid] if uid else []
        if flags:
            items.append(b"FLAGS (%s)" % b" ".join(sorted(message.flags)))
        if b"CONDSTORE" in self._enabled:
            items.append(b"MODSEQ (%d)" % message.modseq)
        return self._fetched(number, items)

    def _fetched(self, number: int, items: list[bytes]) -> bytes:
        if self._random:
            self._random.shuffle(items)
        return b"* %d FETCH (%s)\r\n" % (number, b" ".join(items))

    def _addressed(self, text: bytes, by_uid: bool) -> list[tuple[int, FakeMessage]]:
        """The messages of a set, with their sequence numbers; those that are expunged are passed over."""
        if not by_uid:
            wanted = in_set(text, len(self._view))
            if any(int(n) > len(self._view) for n in text.replace(b":", b",").split(b",") if n != b"*"):
                raise Bad(b"no such sequence number")
            found = [(n, message) for n, message in enumerate(self._view, 1) if wanted(n)]
        else:
            wanted = in_set(text, self._view[-1].uid if self._view else 0)
            found = [(n, message) for n, message in enumerate(self._view, 1) if wanted(message.uid)]
        return [(n, message) for n, message in found if not message.gone]

    def _do_close(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        arguments.end()
        if not self._read_only:
            self._remove(self._selected, self._selected.messages)
        self._box = None
        yield from ()

    def _do_unselect(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        arguments.end()
        self._box = None
        yield from ()

    def _do_check(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        arguments.end()
        yield from ()

    def _do_expunge(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        box = self._writable()
        if by_uid:
            self._remove(box, [message for _, message in self._addressed(arguments.string(), True)])
        else:
            self._remove(box, box.messages)
        arguments.end()
        yield from ()

    def _remove(self, box: FakeBox, messages: Iterable[FakeMessage]) -> None:
        uids = [message.uid for message in messages if rb"\Deleted" in message.flags]
        if uids:
            box.remove(*uids)

    def _do_search(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        if arguments.peek() == b"CHARSET":
            arguments.string()
            arguments.string()
        test = self._all_keys(arguments)
        found = [(n, message) for n, message in enumerate(self._view, 1) if not message.gone and test(n, message)]
        yield b" ".join([b"* SEARCH", *(b"%d" % (message.uid if by_uid else n) for n, message in found)]) + b"\r\n"

    def _all_keys(self, arguments: Arguments) -> Callable[[int, FakeMessage], bool]:
        tests = [self._key(arguments)]
        while arguments:
            tests.append(self._key(arguments))
        return lambda number, message: all(test(number, message) for test in tests)

    def _key(self, arguments: Arguments) -> Callable[[int, FakeMessage], bool]:
        """One search key (RFC 3501, section 6.4.4), as far as anybody here asks it."""
        if isinstance(arguments.peek(), list):
            return self._all_keys(arguments.group())
        key = arguments.word()
        flags = {flag[1:].upper(): flag for flag in SYSTEM}
        if key in flags:
            return lambda _, message: flags[key] in message.flags
        if key.startswith(b"UN") and key[2:] in flags:
            return lambda _, message: flags[key[2:]] not in message.flags
        match key:
            case b"ALL":
                return lambda _, message: True
            case b"NOT":
                inner = self._key(arguments)
                return lambda number, message: not inner(number, message)
            case b"OR":
                one, other = self._key(arguments), self._key(arguments)
                return lambda number, message: one(number, message) or other(number, message)
            case b"UID":
                uids = in_set(arguments.string(), self._view[-1].uid if self._view else 0)
                return lambda _, message: uids(message.uid)
            case b"KEYWORD" | b"UNKEYWORD":
                keyword = arguments.string().lower()
                has = key == b"KEYWORD"
                return lambda _, message: (keyword in {flag.lower() for flag in message.flags}) == has
            case b"HEADER":
                name, value = arguments.string(), arguments.string().lower()
                return lambda _, message: _field_holds(message, name, value)
            case b"MODSEQ":
                self._need("CONDSTORE")
                self._enabled.add(b"CONDSTORE")
                least = _number(arguments.string())
                return lambda _, message: message.modseq >= least
        numbers = in_set(key, len(self._view))
        return lambda number, _: numbers(number)

    # ---- FETCH and STORE ---------------------------------------------------------------------------------------------

    def _do_fetch(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        messages = self._addressed(arguments.string(), by_uid)
        items = arguments.group_or_one().words()
        items = MACROS.get(items[0] if items else b"", items)
        if arguments:
            self._need("CONDSTORE")
            modifier = arguments.group()
            if modifier.word() != b"CHANGEDSINCE":
                raise Bad(b"unknown modifier")
            since = _number(modifier.string())
            messages = [(number, message) for number, message in messages if message.modseq > since]
            items = items if b"MODSEQ" in items else [*items, b"MODSEQ"]
        arguments.end()
        if by_uid and b"UID" not in items:
            items = [b"UID", *items]
        if b"MODSEQ" in items:
            self._need("CONDSTORE")
            self._enabled.add(b"CONDSTORE")
        for number, message in messages:
            told = [self._item(message, item) for item in items]
            if self._reads(items) and rb"\Seen" not in message.flags:
                self._selected.set_flags(message.uid, message.flags | {rb"\Seen"})
            yield self._fetched(number, told)

    def _reads(self, items: Sequence[bytes]) -> bool:
        return not self._read_only and any(
            each.startswith((b"BODY[", b"RFC822.TEXT")) or each == b"RFC822" for each in items
        )

    def _item(self, message: FakeMessage, item: bytes) -> bytes:
        match item:
            case b"UID":
                return b"UID %d" % message.uid
            case b"FLAGS":
                self._known[message.uid] = message.modseq
                return b"FLAGS (%s)" % b" ".join(sorted(message.flags))
            case b"INTERNALDATE":
                return b"INTERNALDATE " + quoted(format_date(message.date))
            case b"RFC822.SIZE":
                return b"RFC822.SIZE %d" % len(message.raw)
            case b"MODSEQ":
                return b"MODSEQ (%d)" % message.modseq
            case b"RFC822":
                return b"RFC822 " + literal(message.raw)
            case b"RFC822.HEADER":
                return b"RFC822.HEADER " + literal(message.header)
        found = SECTION.fullmatch(item)
        if not found:
            raise Bad(b"unknown item")
        data = _section(message, found["section"])
        origin = b""
        if found["start"]:
            start = int(found["start"])
            data, origin = data[start : start + int(found["size"])], b"<%d>" % start
        return b"BODY[%s]%s %s" % (found["section"], origin, literal(data))

    def _do_store(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        box = self._writable()
        messages = self._addressed(arguments.string(), by_uid)
        unchanged_since = None
        if isinstance(arguments.peek(), list):
            self._need("CONDSTORE")
            self._enabled.add(b"CONDSTORE")
            modifier = arguments.group()
            if modifier.word() != b"UNCHANGEDSINCE":
                raise Bad(b"unknown modifier")
            unchanged_since = _number(modifier.string())
        how, _, silent = arguments.word().partition(b".")
        if how not in (b"FLAGS", b"+FLAGS", b"-FLAGS") or silent not in (b"", b"SILENT"):
            raise Bad(b"unknown item")
        flags = set(arguments.group().strings() if isinstance(arguments.peek(), list) else arguments.strings())
        modified: list[int] = []
        for number, message in messages:
            if unchanged_since is not None and message.modseq > unchanged_since:
                modified.append(message.uid if by_uid else number)
                continue
            box.set_flags(message.uid, _stored(message.flags, how, flags))
            if not silent or b"CONDSTORE" in self._enabled:
                yield self._flags_changed(number, message, flags=not silent, uid=by_uid)
            self._known[message.uid] = message.modseq
        if modified:
            yield b"[MODIFIED %s] " % as_set(modified)

    # ---- bringing messages in ----------------------------------------------------------------------------------------

    def _do_copy(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        code, _ = self._copy(arguments, by_uid)
        yield from [code] if code else []

    def _do_move(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        box = self._writable()
        code, messages = self._copy(arguments, by_uid)
        if code:  # must come before the EXPUNGEs (RFC 6851, section 4.3)
            yield b"* OK %s moved\r\n" % code.strip()
        if messages:
            box.remove(*(message.uid for message in messages))

    def _copy(self, arguments: Arguments, by_uid: bool) -> tuple[bytes, list[FakeMessage]]:
        """COPYUID, if there is something to say; and what was copied."""
        messages = [message for _, message in self._addressed(arguments.string(), by_uid)]
        target = self._store.existing(self._name_in(arguments), b"TRYCREATE")
        arguments.end()
        self._server.check_quota(sum(len(message.raw) for message in messages))
        new = [target.add(message.raw, message.flags, message.date).uid for message in messages]
        if not new or not self._has("UIDPLUS"):
            return b"", messages
        old = as_set([message.uid for message in messages])
        return b"[COPYUID %d %s %s] " % (target.uidvalidity, old, as_set(new)), messages

    def _do_append(self, arguments: Arguments, by_uid: bool) -> Iterator[bytes]:
        box = self._store.existing(self._name_in(arguments), b"TRYCREATE")
        given = [self._given(arguments)]
        while arguments:
            self._need("MULTIAPPEND")
            given.append(self._given(arguments))
        self._server.check(each.raw for each in given)
        uids = [self._server.keep(box, each.raw, each.flags, each.date).uid for each in given]
        if self._has("UIDPLUS"):
            yield b"[APPENDUID %d %s] " % (box.uidvalidity, as_set(uids))

    def _given(self, arguments: Arguments) -> Given:
        flags: list[bytes] = []
        if isinstance(arguments.peek(), list):
            flags = arguments.group().strings()
        date = NEW_YEAR
        text = arguments.string()
        if not isinstance(text, Literal) and text.upper() != b"UTF8":
            date = parse_date(text)
            text = arguments.string()
        if text.upper() == b"UTF8" and not isinstance(text, Literal):
            self._need("UTF8=ACCEPT")
            text = arguments.group().string()
        if not isinstance(text, Literal):
            raise Bad(b"the message must be a literal")
        return Given(bytes(text), flags, date)


def _text(sent: bytes) -> str:
    """Clients may send anything as a command."""
    return sent.decode(errors="replace")


def _number(text: bytes) -> int:
    if not text.isdigit():
        raise Bad(b"not a number")
    return int(text)


def _section(message: FakeMessage, section: bytes) -> bytes:
    match section.split(b" ", 1):
        case [b""]:
            return message.raw
        case [b"TEXT"]:
            return message.raw[len(message.header) :]
        case [b"HEADER"]:
            return message.header
        case [b"HEADER.FIELDS", names]:
            return message.fields(names.strip(b"()").replace(b'"', b"").split())
    raise Bad(b"unknown section")


def _field_holds(message: FakeMessage, name: bytes, value: bytes) -> bool:
    field = message.fields([name])
    return len(field) > 2 and value in field.partition(b":")[2].lower()


def _stored(old: set[bytes], how: bytes, flags: set[bytes]) -> set[bytes]:
    if how == b"FLAGS":
        return flags
    if how == b"+FLAGS":
        return old | flags
    less = {flag.lower() for flag in flags}
    return {flag for flag in old if flag.lower() not in less}
