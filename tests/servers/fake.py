"""An IMAP4rev1 server in memory, for what no real server can be asked to do: any set of capabilities, narrow
connections, answers in odd forms, changes and faults at a chosen moment; and it counts round trips.

    with FakeServer(capabilities=GMAIL) as server:
        server.store[b"INBOX"].add(b"Subject: x\r\n\r\nhi\r\n")
        server.script.append(Trap(rb"UID FETCH", Cut(100), nth=2))
"""

from __future__ import annotations

import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Literal, Self, TypeAlias

from .fakesession import GREETING, Session
from .fakestore import NEW_YEAR, FakeBox, FakeMessage, FakeStore, No
from .fakewire import Closed, Command, Tally, Wire, listen

__all__ = [
    "EVERYTHING",
    "EXCHANGE",
    "GMAIL",
    "GREETING",
    "NEW_YEAR",
    "Action",
    "Answer",
    "Bye",
    "Cut",
    "Delay",
    "Do",
    "Edit",
    "FakeBox",
    "FakeMessage",
    "FakeServer",
    "FakeStore",
    "Inject",
    "Pour",
    "Swallow",
    "Trap",
]

EXCHANGE = frozenset(
    {"AUTH=PLAIN", "AUTH=XOAUTH2", "CHILDREN", "ID", "LITERAL+", "MOVE", "NAMESPACE", "SASL-IR", "UIDPLUS", "UNSELECT"}
)
GMAIL = EXCHANGE - {"LITERAL+"} | {
    *("APPENDLIMIT=35651584", "CONDSTORE", "ENABLE", "LIST-EXTENDED", "LIST-STATUS", "LITERAL-", "SPECIAL-USE"),
    "UTF8=ACCEPT",
}
EVERYTHING = GMAIL - {"LITERAL-"} | {"LITERAL+", "MULTIAPPEND"}


# ---- the script ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Inject:
    """Untagged data, after so many responses of the answer: in the middle of many FETCHes, say. -1: after all."""

    data: bytes
    after: int = 0


@dataclass(frozen=True, slots=True)
class Bye:
    """End the connection with `* BYE`, before or after the answer, or instead of executing the command."""

    text: str
    when: Literal["before", "after", "instead"] = "instead"


@dataclass(frozen=True, slots=True)
class Cut:
    """Execute, send so many bytes of the answer, close. `reset`: so that the client sees ECONNRESET."""

    after_bytes: int
    reset: bool = False


@dataclass(frozen=True, slots=True)
class Swallow:
    """Execute, send nothing, close: the client cannot know whether it was done."""


@dataclass(frozen=True, slots=True)
class Delay:
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """Do not execute; this after the tag: `NO [UNAVAILABLE] try later`."""

    text: str


@dataclass(frozen=True, slots=True)
class Edit:
    """Execute, and send what this makes of the answer."""

    change: Callable[[bytes], bytes]


@dataclass(frozen=True, slots=True)
class Pour:
    """Do not execute; send these pieces, as many as the client takes, and then close."""

    pieces: Callable[[Command], Iterable[bytes]]


@dataclass(frozen=True, slots=True)
class Do:
    """Change something just before the command is executed, as another client would."""

    call: Callable[[FakeServer], object]


Action: TypeAlias = Inject | Bye | Cut | Swallow | Delay | Answer | Edit | Pour | Do


@dataclass(slots=True)
class Trap:
    """What happens at the nth command line, over all connections, in which `match` is found; 0: at each.

    The line is as in `log`: a literal is only its size. The greeting has the line `GREETING`.
    """

    match: str | bytes
    action: Action
    nth: int = 1
    met: int = field(default=0, init=False)

    def springs(self, line: bytes) -> bool:
        pattern = self.match.encode() if isinstance(self.match, str) else self.match
        if not re.search(pattern, line, re.IGNORECASE):
            return False
        self.met += 1
        return self.nth in (0, self.met)


# ---- the server ------------------------------------------------------------------------------------------------------


class FakeServer:
    """Listens on 127.0.0.1 while its `with` block runs. A fault of its own is raised at the end of the block."""

    def __init__(
        self,
        capabilities: Set[str] = EVERYTHING,
        *,
        passwords: Mapping[str, str] | None = None,  # also the tokens of XOAUTH2; alice's is "secret"
        delimiter: bytes | None = b"/",
        prefix: bytes = b"",  # of the personal namespace; nothing can be created outside
        namespace: bytes | None = None,  # the NAMESPACE answer, literally
        case_insensitive: bool = False,  # mailbox names
        greeted: Set[str] | None = None,  # the capabilities told before the login, if not the same
        announce: bool = True,  # tell the capabilities in greeting and login, unasked
        preauth: bool = False,
        window: int | None = None,  # bytes read at a time, in small buffers: who sends much without reading is stuck
        split: int | None = None,  # bytes in a packet
        settle: float = 0.0,  # seconds of silence before each answer, after which the client is waiting for it
        literals: bool = False,  # every string of an answer comes as a literal
        order: int | None = None,  # seed: the items of a FETCH answer come in any order
        unsolicited: bool = False,  # each answer begins with FETCH (FLAGS ...) of all messages
        message_limit: int | None = None,  # bytes; else that of APPENDLIMIT
        quota: int | None = None,  # bytes of all messages
        refuse: Callable[[bytes], str | None] | None = None,  # the text after NO for a message
        gmail: bool = False,  # a message whose Message-ID is there is not stored again: its uid is the answer
    ) -> None:
        self.capabilities = capabilities
        self.passwords: Mapping[str, str] = {"alice": "secret"} if passwords is None else passwords
        self.namespace = namespace
        self.greeted = greeted
        self.announce = announce
        self.preauth = preauth
        self.literals = literals
        self.order = order
        self.unsolicited = unsolicited
        self.quota = quota
        self.refuse = refuse
        self.gmail = gmail
        self.message_limit = message_limit
        for each in capabilities:
            if each.startswith("APPENDLIMIT=") and message_limit is None:
                self.message_limit = int(each.partition("=")[2])
        self.store = FakeStore(delimiter, prefix, fold=case_insensitive)
        self.script: list[Trap] = []
        self.lock = threading.RLock()  # of the store and the script
        self.tally = Tally()
        self._narrow = (window, split, settle)
        self._listener = listen(window)
        self._wires: list[Wire] = []
        self._threads: list[threading.Thread] = []
        self._faults: list[BaseException] = []

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    @property
    def log(self) -> Sequence[bytes]:
        return self.tally.log

    @property
    def flights(self) -> int:
        """How often clients sent something after they had been sent something: round trips, the greeting's among them.

        Sure only with `settle` (0.01, say), where a client sends in pieces what it need not wait for; never with
        `window`, where bytes wait where the server cannot see them.
        """
        return self.tally.flights

    @property
    def connections(self) -> int:
        return self.tally.connections

    @property
    def received(self) -> int:
        return self.tally.received

    @property
    def sent(self) -> int:
        return self.tally.sent

    def count(self, regex: str | bytes) -> int:
        return self.tally.count(regex)

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for wire in self._wires:
            with suppress(OSError):
                wire.socket.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        if self._faults and kind is None:
            raise self._faults[0]

    # ---- what sessions ask -------------------------------------------------------------------------------------------

    def check(self, messages: Iterable[bytes]) -> None:
        """Whether all these may be stored."""
        total = 0
        for raw in messages:
            self.check_size(len(raw))
            if self.refuse and (text := self.refuse(raw)) is not None:
                raise No(text.encode())
            total += len(raw)
        self.check_quota(total)

    def check_size(self, size: int) -> None:
        if self.message_limit is not None and size > self.message_limit:
            raise No(b"[TOOBIG] the message is too large")

    def check_quota(self, size: int) -> None:
        if self.quota is not None and sum(box.size for box in self.store.values()) + size > self.quota:
            raise No(b"[OVERQUOTA] no room for it")

    def keep(self, box: FakeBox, raw: bytes, flags: Sequence[bytes], date: int) -> FakeMessage:
        new = FakeMessage(0, raw, set(), 0, 0).fields([b"Message-ID"])
        if self.gmail and new != b"\r\n":
            for message in box.messages:
                if message.fields([b"Message-ID"]) == new:
                    return message
        return box.add(raw, flags, date)

    # ---- connections -------------------------------------------------------------------------------------------------

    def _start(self, target: Callable[..., None], *arguments: object) -> None:
        self._threads.append(threading.Thread(target=target, args=arguments, daemon=True))
        self._threads[-1].start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            window, split, settle = self._narrow
            wire = Wire(sock, self.tally, window, split, settle)
            self._wires.append(wire)
            self.tally.connections += 1
            self._start(self._serve, wire)

    def _serve(self, wire: Wire) -> None:
        session = Session(self, wire)
        try:
            self._answer(session, wire, Command(GREETING), lambda _: session.greet())
            while not session.over:
                self._answer(session, wire, session.read(), session.execute)
            wire.hang_up()
        except Closed:
            wire.hang_up()
        except BaseException as err:
            self._faults.append(err)
            wire.hang_up(reset=True)

    def _answer(
        self, session: Session, wire: Wire, command: Command, execute: Callable[[Command], list[bytes]]
    ) -> None:
        with self.lock:
            actions = [trap.action for trap in self.script if trap.springs(command.text)]
        answer: list[bytes] | None = None
        for action in actions:
            match action:
                case Delay(seconds):
                    time.sleep(seconds)
                case Do(call):
                    with self.lock:
                        call(self)
                case Answer(text):
                    answer = [b"%s %s\r\n" % (command.tag, text.encode())]
                case Pour(pieces):
                    for piece in pieces(command):
                        wire.send(piece)
                    wire.hang_up()
                    raise Closed
                case Bye(text, "instead"):
                    answer = [_bye(text)]
                    session.over = True
        if answer is None:
            answer = execute(command)
        for action in actions:
            match action:
                case Inject(data, after):
                    answer.insert(after if after >= 0 else len(answer), data)
                case Bye(text, "before" | "after" as when):
                    answer.insert(0 if when == "before" else len(answer), _bye(text))
                    session.over = True
                case Edit(change):
                    answer = [change(b"".join(answer))]
                case Cut(size, reset):
                    wire.send(b"".join(answer)[:size])
                    wire.hang_up(reset=reset)
                    raise Closed
                case Swallow():
                    raise Closed
        wire.send(b"".join(answer))
        if session.compressing:
            wire.compress()


def _bye(text: str) -> bytes:
    return b"* BYE %s\r\n" % text.encode()
