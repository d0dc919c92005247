"""COMPRESS=DEFLATE: what arrives is what was sent, however it is cut; and it is begun only where it pays."""

from __future__ import annotations

import random
import socket
import sys
import threading
import tracemalloc
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailsync.drivers.imap.account import Account, Tell
from mailsync.drivers.imap.reach import FAR, MUCH, SLOW
from mailsync.drivers.imap.store import ImapStore
from mailsync.drivers.imap.stream import BUFFER, Stream
from mailsync.errors import Lost, StoreError
from mailsync.model import Mailbox
from mailsync.spec import Remote

from .mail import Mail, configure, digests, listing, maildir, message, put, raws, run
from .servers import Login, Server, server
from .servers.fake import EVERYTHING, Answer, Bye, Cut, FakeServer, Trap
from .servers.proxy import Proxy
from .servers.stores import Known, no_sleep

TIMEOUT = 5.0  # seconds
X = Mailbox("x")
COMPRESSING = EVERYTHING | {"COMPRESS=DEFLATE"}
PIPE = f"{sys.executable} {Path(__file__).parent}/servers/pipe.py {{}}"  # a tunnel to a port
ALICE = Login("alice", "secret")


class Peer:
    """The other end of a stream that is compressed."""

    def __init__(self) -> None:
        ours, self.socket = socket.socketpair()
        self.stream = Stream(ours, TIMEOUT)
        self._packer = zlib.compressobj(wbits=-15)
        self._unpacker = zlib.decompressobj(-15)

    def packed(self, data: bytes, flush: int = zlib.Z_SYNC_FLUSH) -> bytes:
        return self._packer.compress(data) + self._packer.flush(flush)

    def received(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self._unpacker.decompress(self.socket.recv(65536))
        return data

    def close(self) -> None:
        self.stream.close()
        self.socket.close()


@pytest.fixture
def peer() -> Iterator[Peer]:
    peer = Peer()
    peer.stream.deflate()
    yield peer
    peer.close()


# ---- the stream ------------------------------------------------------------------------------------------------------


@given(
    st.lists(st.binary(max_size=300).map(lambda line: line.replace(b"\n", b"") + b"\n"), min_size=1, max_size=20),
    st.lists(st.integers(0, 10**6), max_size=10),
    st.integers(0, 40),
)
def test_what_is_sent_arrives_however_it_is_cut(lines: list[bytes], cuts: list[int], early: int) -> None:
    """Some of it together with the line after which all is compressed."""
    peer = Peer()
    session = b"".join(map(peer.packed, lines))
    ends = sorted({0, early % (len(session) + 1), *(cut % (len(session) + 1) for cut in cuts), len(session)})
    pieces = [session[begin:end] for begin, end in pairwise(ends)]
    peer.socket.sendall(b"OK\r\n" + (pieces.pop(0) if early else b""))
    first = peer.stream.line()
    peer.stream.deflate()
    found = []

    def speak() -> None:
        for piece in pieces:
            peer.socket.sendall(piece)

    thread = threading.Thread(target=speak)
    thread.start()
    for line in lines:
        found.append(peer.stream.whole(len(line)))
    thread.join()
    peer.stream.send(b"".join(lines))

    assert (b"OK", lines) == (first, found)
    assert b"".join(lines) == peer.received(sum(map(len, lines)))
    peer.close()


def test_large_command_and_large_answer_pass_each_other(peer: Peer) -> None:
    """Both ends send more than any buffer takes before they read; and nothing of it can be compressed."""
    data = random.Random(1).randbytes(4_000_000)
    found = []

    def serve() -> None:
        peer.socket.sendall(peer.packed(data))
        found.append(peer.received(len(data)))

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    peer.stream.send(data)
    thread.join(TIMEOUT)

    assert [data] == found
    assert data == peer.stream.whole(len(data))


def test_little_that_stands_for_much_does_not_fill_the_memory(peer: Peer) -> None:
    size = 300_000_000
    bomb = peer.packed(b"\0" * size)
    thread = threading.Thread(target=peer.socket.sendall, args=(bomb,))
    tracemalloc.start()
    thread.start()
    largest = total = 0
    for piece in peer.stream.counted(size):
        largest, total = max(largest, len(piece)), total + len(piece)
    thread.join()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert len(bomb) * 500 < size == total
    assert largest <= BUFFER
    assert peak < 8 * BUFFER


def test_line_that_stands_for_no_end_is_given_up(peer: Peer) -> None:
    bomb = peer.packed(b"\0" * 40_000_000)
    with suppress(OSError):
        peer.socket.sendall(bomb)

    with pytest.raises(Lost, match="without end"):
        peer.stream.line()


def damaged(data: bytes) -> bytes:
    return data[:5] + bytes(255 ^ byte for byte in data[5:])


@pytest.mark.parametrize(
    ("what", "why"),
    [
        (b"* BYE too many\r\n* BYE go\r\n" * 9, "cannot be read"),
        (zlib.compress(b"* with a header\r\n"), "cannot be read"),
        (b"\xff" * 100, "cannot be read"),
    ],
)
def test_what_nobody_can_unpack_is_lost(peer: Peer, what: bytes, why: str) -> None:
    peer.socket.sendall(what)

    with pytest.raises(Lost, match=why):
        for _ in range(1000):
            peer.stream.line()
    assert peer.stream.closed


@pytest.mark.parametrize(
    ("flush", "why"), [(zlib.Z_SYNC_FLUSH, "the server closed it"), (zlib.Z_FINISH, "has ended what it compresses")]
)
def test_end_is_told_once_all_was_read(peer: Peer, flush: int, why: str) -> None:
    peer.socket.sendall(peer.packed(b"* BYE\r\n", flush))
    peer.socket.shutdown(socket.SHUT_WR)

    assert b"* BYE" == peer.stream.line()
    with pytest.raises(Lost, match=why):
        peer.stream.line()


# ---- what a server says to it ----------------------------------------------------------------------------------------


@contextmanager
def reached(port: int, compress: str, told: list[str] | None = None, tunnel: str = "") -> Iterator[ImapStore]:
    account = Account(Remote("127.0.0.1", port, user="alice", tls="never"), tunnel, timeout=TIMEOUT, compress=compress)
    tell = Tell(odd=told.append) if told is not None else Tell()
    with ImapStore(account, Known(ALICE), tell, patterns=("*",), sleep=no_sleep) as driver:
        yield driver


def names(driver: ImapStore) -> Sequence[str]:
    return [info.mailbox for info in driver.boxes(("*",))]


MAILS = [Mail(message(number, b"hello there\n" * number)) for number in range(50)]


@pytest.mark.parametrize(("window", "split"), [(None, None), (None, 7), (100, None)])
def test_all_goes_well_where_it_is_compressed(window: int | None, split: int | None) -> None:
    with FakeServer(COMPRESSING, window=window, split=split) as fake, reached(fake.port, "yes") as driver:
        driver.create(X)
        put(driver, "x", MAILS)
        found = raws(driver, "x")

    assert 1 == fake.count("COMPRESS DEFLATE")
    assert sorted(mail.raw for mail in MAILS) == sorted(found)


@pytest.mark.parametrize("answer", ["NO [COMPRESSIONACTIVE] TLS does", "BAD what?"])
def test_server_that_refuses_is_asked_once(answer: str) -> None:
    told: list[str] = []
    with FakeServer(COMPRESSING) as fake:
        fake.script.append(Trap("COMPRESS", Answer(answer), nth=0))
        with reached(fake.port, "yes", told=told) as driver:
            found = [names(driver), names(driver)]

    assert [["INBOX"]] * 2 == found
    assert (1, 1) == (fake.connections, fake.count("COMPRESS"))
    assert ["the server does not compress, as it offers: " + answer.partition(" ")[2]] == told


@pytest.mark.parametrize(("compress", "offered"), [("yes", EVERYTHING), ("no", COMPRESSING), ("auto", COMPRESSING)])
def test_server_is_not_asked_where_that_is_of_no_use(compress: str, offered: frozenset[str]) -> None:
    """It is near."""
    with FakeServer(offered) as fake, reached(fake.port, compress) as driver:
        driver.create(X)
        put(driver, "x", [Mail(message(n, b"x" * MUCH)) for n in range(3)])
        listing(driver, "x")

    assert 0 == fake.count("COMPRESS")


@pytest.mark.parametrize("action", [Bye("no"), Cut(0), Answer("OK but it does not")])
def test_connection_that_breaks_because_of_it_is_made_again(action: Bye | Cut | Answer) -> None:
    with FakeServer(COMPRESSING) as fake:
        fake.script.append(Trap("COMPRESS", action))
        with reached(fake.port, "yes") as driver:
            found = names(driver)

    assert (["INBOX"], 2, 2) == (found, fake.connections, fake.count("COMPRESS"))


def test_server_that_never_compresses_what_it_should_is_told() -> None:
    with FakeServer(COMPRESSING) as fake:
        fake.script.append(Trap("COMPRESS", Answer("OK but it does not"), nth=0))
        with reached(fake.port, "yes") as driver, pytest.raises((Lost, StoreError), match=r"cannot be read|closed"):
            names(driver)


# ---- where it pays ---------------------------------------------------------------------------------------------------


SLOWLY = SLOW / 4


def read_twice(driver: ImapStore, size: int) -> list[bool]:
    """From the first mailbox it is seen how fast the line is."""
    for name in ("x", "y"):
        driver.create(Mailbox(name))
        put(driver, name, [Mail(message("1", b"x" * size + b"\n"))])
    return [len(raw) > size for name in ("x", "y") for raw in raws(driver, name)]


@pytest.mark.parametrize(
    ("size", "compress", "tunnel", "rate", "times"),
    [
        (MUCH, "auto", "", SLOWLY, 1),
        (MUCH, "auto", "", None, 0),  # far away, and fast
        (100, "auto", "", SLOWLY, 0),
        (MUCH, "no", "", SLOWLY, 0),
        (MUCH, "auto", PIPE, SLOWLY, 0),
    ],
)
def test_much_over_a_slow_line_is_compressed(
    size: int, compress: str, tunnel: str, rate: float | None, times: int
) -> None:
    with (
        FakeServer(COMPRESSING) as fake,
        Proxy(fake.port, delay_to_client=2 * FAR, rate_to_client=rate) as proxy,
        reached(proxy.port, compress, tunnel=tunnel.format(proxy.port)) as driver,
    ):
        found = read_twice(driver, size)

    assert (times, [True, True]) == (fake.count("COMPRESS"), found)


def test_line_that_breaks_when_it_is_compressed_is_not_compressed_again() -> None:
    with FakeServer(COMPRESSING) as fake, Proxy(fake.port, delay_to_client=2 * FAR, rate_to_client=SLOWLY) as proxy:
        fake.script.append(Trap("COMPRESS", Answer("OK but it does not"), nth=0))
        with reached(proxy.port, "auto") as driver:
            found = read_twice(driver, MUCH)

    assert ([True, True], 1, 2) == (found, fake.count("COMPRESS"), fake.connections)


# ---- a real server ---------------------------------------------------------------------------------------------------

BODIES = [
    b"plain\n",
    b"",
    bytes(range(1, 256)).replace(b"\n", b"").replace(b"\r", b"") + b"\n",
    random.Random(2).randbytes(300_000).replace(b"\0", b"").replace(b"\r", b"").replace(b"\n", b"") + b"\n",
    b"z" * 3_000_000 + b"\n",
]


@pytest.fixture
def dovecot() -> Server:
    return server("dovecot")


@pytest.mark.parametrize("way", ["plain", "TLS", "STARTTLS", "tunnel"])
def test_run_is_byte_exact_both_ways(home: Path, dovecot: Server, way: str) -> None:
    login = dovecot.new_login()
    server, more = {
        "plain": (f"{{127.0.0.1:{dovecot.port}/notls/user={login.user}}}", ""),
        "TLS": (f"{{127.0.0.1:{dovecot.tls_port}/ssl/user={login.user}}}", f"ca {dovecot.certificate}"),
        "STARTTLS": (f"{{127.0.0.1:{dovecot.port}/tls/user={login.user}}}", f"ca {dovecot.certificate}"),
        "tunnel": (f"{{x/user={login.user}}}", f'tunnel "{PIPE.format(dovecot.port)}"'),
    }[way]
    store = f"server {server} passwd {login.password} compress yes {more}"
    configure(
        home,
        "store a { pat a/* prefix a/ }\nstore b { pat b/* prefix b/ }\n"
        f"store far {{ {store} }}\nchannel up a far {{ msinfo .up }}\nchannel down far b {{ msinfo .down }}\n",
    )
    maildir(home / "a/x", *(message(number, body) for number, body in enumerate(BODIES)))

    ran = [run("-di", "up"), run("-di", "down")]

    assert [0, 0] == [each.code for each in ran], ran
    assert all("OK Begin compression" in each.err + each.out for each in ran)
    assert digests(home, "a/*")["a/x"] == digests(home, "b/*")["b/x"]
