"""Keep a server in reach: one connection, made when it is needed, and made again when it breaks. Knows no mailbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from ... import stopping
from ...errors import Lost, StoreError
from . import answers
from .account import QUIET, Account, Secrets, Tell
from .dial import Busy, dial
from .tokens import Response, Status
from .wire import DEFLATE, Connection

WAITS = (1.0, 5.0, 20.0, 60.0)  # seconds before each further try to reach a server that was there before
FAR = 0.015  # seconds of a round trip; on shorter ways bytes come faster than servers compress them
SLOW = 4_000_000  # bytes a second; servers compress some 20 MB, and by half
MUCH = 128 * 1024  # bytes; to compress less saves no more time than the round trip that it takes to agree on it
TRIES = 3  # for the same thing, while the connection breaks each time

T = TypeVar("T")


class Reach:
    """One account. `fresh` is told of each new connection before anything else is sent on it."""

    def __init__(
        self,
        account: Account,
        secrets: Secrets,
        tell: Tell = QUIET,
        *,
        fresh: Callable[[Connection], None],
        sleep: Callable[[float], None] = stopping.sleep,
        patient: bool = True,
    ) -> None:
        self.account = account
        self._secrets, self._tell, self._fresh, self._sleep = secrets, tell, fresh, sleep
        self._connection: Connection | None = None
        self._patient = patient  # wait where the server is busy
        self._coming = 0  # bytes that are surely to come
        self._breaks = False  # the last connection was compressed, and broke

    def connection(self) -> Connection:
        """One that works, with nothing left to read on it. StoreError if there is none to be had."""
        if self._connection is None or self._connection.lost:
            again = self._connection is not None
            if self._connection is not None:
                self._breaks = self._breaks or self._connection.compressed
                if self._connection.in_doubt:  # else one may look before it is there, and send it twice
                    self.wait(1, Lost("the connection broke before an answer came"))
            self._connection = None
            self._connection = self._connected(again)
        self._connection.settle()
        if self._is_to_compress(self._connection):
            self._connection.compress()
        return self._connection

    def expect(self, size: int) -> None:
        """So many bytes are to be fetched."""
        self._coming = size

    def end(self) -> None:
        """Log out."""
        if self._connection:
            self._connection.end()
            self._connection = None

    def wait(self, tries: int, why: Exception, seconds: float | None = None) -> None:
        """Before something is tried again for the `tries`th time."""
        seconds = WAITS[min(tries, len(WAITS)) - 1] if seconds is None else seconds
        self._tell.note(f"{self.account}: {why}; trying again in {seconds:g} s")
        self._sleep(seconds)

    def healed(self, act: Callable[[Connection], T]) -> T:
        """Do what may be done twice; again on a new connection if the old one breaks."""
        return self.patiently(lambda: act(self.connection()))

    def patiently(self, act: Callable[[], T]) -> T:
        """The same for what asks for its connection itself."""
        tries = 1
        while True:
            try:
                return act()
            except Lost as lost:
                if tries == TRIES:
                    raise
                self.wait(tries, lost)
                tries += 1

    def execute(self, command: bytes) -> tuple[Status, list[Response]]:
        """A command that may be given twice; waits where the server asks for it."""

        def act(conn: Connection) -> tuple[Status, list[Response]]:
            end, told = conn.execute(command)
            if not end.ok and (seconds := answers.wait(end)) is not None:
                conn.pause(seconds, str(end))
                end, told = conn.execute(command)
            return end, told

        return self.healed(act)

    def _is_to_compress(self, conn: Connection) -> bool:
        if not conn.has(DEFLATE):
            return False
        if self.account.compress == "auto":
            if self.account.tunnel or self._breaks:  # a tunnel mostly is ssh, and compresses if it should
                return False
            return conn.round_trip > FAR and conn.flow < SLOW and conn.traffic + self._coming > MUCH
        return self.account.compress == "yes"

    def _connected(self, again: bool) -> Connection:
        tries = 1
        while True:
            try:
                conn = Connection(dial(self.account, self._secrets, self._tell), self._tell, self._sleep)
                self._fresh(conn)
                return conn
            except (StoreError, Lost) as err:
                # Who was never there is told at once; who is busy, or was there a moment ago, is waited for.
                busy = isinstance(err, Busy)
                if tries > len(WAITS) or not (again or busy) or not self._patient:
                    raise
                self.wait(tries, err, err.wait if isinstance(err, Busy) else None)
                tries += 1
