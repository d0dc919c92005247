"""`python -m bench.drain bare|ours PORT USER PASSWORD`: fetches all bodies of an account, and drops them.

Prints the seconds and the CPU seconds that it took, without start and login.
"""

from __future__ import annotations

import sys
import time

from .bare import Bare
from .mail import BOXES


def bare(port: int, user: str, password: str) -> tuple[float, float]:
    with Bare(port, user, password) as server:
        begin = _clocks()
        for box in BOXES:
            if server.select(box):
                server.drain("UID FETCH 1:* (UID FLAGS INTERNALDATE BODY.PEEK[])")
        return _since(begin)


def ours(port: int, user: str, password: str) -> tuple[float, float]:
    from mailsync.drivers.imap.account import Account
    from mailsync.drivers.imap.store import ImapStore
    from mailsync.model import Failure, Mailbox, Uid
    from mailsync.spec import Remote

    class Known:
        def user(self) -> str:
            return user

        def password(self) -> str:
            return password

        def token(self, *, fresh: bool = False) -> None:
            return None

    with Bare(port, user, password) as server:
        counts = [(Mailbox(box), server.select(box)) for box in BOXES]
    account = Account(Remote("127.0.0.1", port, user=user, tls="never"))
    with ImapStore(account, Known(), patterns=["box%"], readonly=True) as store:
        store.boxes(["box%"])  # logged in
        begin = _clocks()
        for mailbox, count in counts:
            with store.open(mailbox, write=False) as box:
                for message in box.fetch([Uid(str(number + 1)) for number in range(count)]):
                    assert not isinstance(message, Failure), message
        return _since(begin)


def _clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def _since(begin: tuple[float, float]) -> tuple[float, float]:
    now = _clocks()
    return now[0] - begin[0], now[1] - begin[1]


if __name__ == "__main__":
    who, port, user, password = sys.argv[1:]
    print(*{"bare": bare, "ours": ours}[who](int(port), user, password))
