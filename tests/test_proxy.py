"""The proxy, between a bare socket and the fake server."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .servers.fake import FakeServer
from .servers.proxy import Piece, Proxy, Scanner
from .test_fake_server import Raw, filled, mail, raw


def rest(client: Raw) -> bytes:
    """All that still comes, up to the end of the connection."""
    return client.file.read()


# ---- what it sees ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_scanner_finds_commands_whatever_the_pieces(size: int) -> None:
    stream = b"a NOOP\r\nb APPEND x {4+}\r\n{9}\n {0}\r\n\r\nc LOGIN {1}\r\nu {1}\r\np\r\n"
    scanner = Scanner()
    pieces: list[Piece] = []
    commands = []
    for at in range(0, len(stream), size):
        for piece in scanner.pieces(stream[at : at + size]):
            pieces.append(piece)
            if piece.last:
                commands.append(scanner.text)

    assert [b"a NOOP", b"b APPEND x {4+} {0}", b"c LOGIN {1} {1}"] == commands
    assert stream == b"".join(piece.data for piece in pieces)
    assert b"{9}\nup" == b"".join(piece.data for piece in pieces if piece.literal)
    assert 3 == sum(piece.first for piece in pieces)


def test_commands_and_bytes_are_counted() -> None:
    with FakeServer() as server, Proxy(server.port) as proxy:
        with raw(proxy) as client:
            for raw_message in (mail(1), b"x APPEND INBOX {3}\r\n"):
                client.append(b"APPEND INBOX", raw_message)
            client.send(b"a APPEND INBOX {%d+}\r\n%s\r\n" % (len(mail(2)), mail(2)))
            client.answer()
        with raw(proxy) as client:
            client.ask(b"LOGOUT")

    assert 3 == proxy.count("append inbox") == server.count("append inbox")
    assert 2 == proxy.connections
    assert (server.received, server.sent) == (proxy.received, proxy.sent)


def test_pipelined_commands_are_one_flight_where_answers_take_time() -> None:
    with FakeServer() as server, Proxy(server.port, delay_to_client=0.05) as proxy, raw(proxy) as client:
        before = proxy.flights
        for n in range(20):
            client.send(b"%d NOOP\r\n" % n)
        client.answer(b"19")
        pipelined = proxy.flights - before
        client.ask(b"NOOP")

    assert 1 == pipelined
    assert 2 == proxy.flights - before


@pytest.mark.parametrize("delays", [{"delay_to_client": 0.1}, {"delay_to_server": 0.1}])
def test_delay_is_that_of_a_long_way(delays: dict[str, float]) -> None:
    with FakeServer() as server, Proxy(server.port, **delays) as proxy, raw(proxy) as client:  # type: ignore[arg-type]
        start = time.monotonic()
        for n in range(20):
            client.send(b"%d NOOP\r\n" % n)
            time.sleep(0.005)
        client.answer(b"19")
        took = time.monotonic() - start

    assert 0.19 <= took < 1  # not 20 times the delay


@pytest.mark.parametrize("chunk", [1, 100])
def test_nothing_changes_in_chunks(chunk: int) -> None:
    with FakeServer() as server, Proxy(server.port, chunk=chunk) as proxy, raw(proxy) as client:
        said = client.append(b"APPEND INBOX", mail(1, 5000))
        client.ask(b"SELECT INBOX")
        client.send(b"a FETCH 1 BODY.PEEK[]\r\n")
        fetched = client.file.read(len(b"* 1 FETCH (BODY[] {5042}\r\n") + len(mail(1, 5000)))

    assert [b"a OK [APPENDUID 1 1] done"] == said
    assert fetched.endswith(mail(1, 5000))


# ---- what it breaks --------------------------------------------------------------------------------------------------


def test_swallowed_command_is_executed_and_not_answered() -> None:
    with FakeServer() as server, Proxy(server.port, swallow="APPEND", nth=2) as proxy, raw(proxy) as client:
        first = client.append(b"APPEND INBOX", mail(1))
        second = client.append(b"APPEND INBOX", mail(2))
        with raw(proxy) as again:
            third = again.append(b"APPEND INBOX", mail(3))

    assert [b"a OK [APPENDUID 1 1] done"] == first
    assert [] == second
    assert [b"a OK [APPENDUID 1 3] done"] == third
    assert [mail(1), mail(2), mail(3)] == [message.raw for message in server.store[b"INBOX"].messages]


def test_answers_are_swallowed_again_on_further_connections() -> None:
    with FakeServer() as server, Proxy(server.port, swallow="NOOP", times=2) as proxy:
        answers = []
        for _ in range(3):
            with raw(proxy) as client:
                answers.append(client.ask(b"NOOP"))

    assert [[], [], [b"a OK done"]] == answers
    assert 2 == proxy.met


def test_answers_before_the_swallowed_one_come_through() -> None:
    with FakeServer() as server, Proxy(server.port, swallow="MOVE") as proxy, raw(proxy) as client:
        filled(server)
        server.store.create(b"to")
        client.send(b"1 SELECT INBOX\r\n2 UID FETCH 1 BODY.PEEK[]\r\n3 UID MOVE 2:3 to\r\n4 NOOP\r\n")
        came = rest(client)

    assert came.endswith(b"hi\r\n)\r\n2 OK done\r\n")
    assert [1] == [message.uid for message in server.store[b"INBOX"].messages]


def test_connection_is_cut_after_bytes_to_the_client() -> None:
    with FakeServer() as server, Proxy(server.port, cut_to_client=100, first_only=True) as proxy:
        with raw(proxy, login=False) as client:
            client.send(b"a LOGIN alice secret\r\nb NOOP\r\n")
            came = len(client.greeting + rest(client))
        with raw(proxy) as client:
            again = client.ask(b"NOOP")

    assert 100 == came
    assert [b"a OK done"] == again


def test_connection_is_cut_after_bytes_to_the_server() -> None:
    with FakeServer() as server, Proxy(server.port, cut_to_server=200) as proxy, raw(proxy) as client:
        client.send(b"b APPEND INBOX {1000+}\r\n%s\r\n" % (b"x" * 1000))
        came = rest(client)

    assert b"" == came
    assert 200 == server.received
    assert [] == server.store[b"INBOX"].messages


@pytest.mark.parametrize("chunk", [None, 7])
def test_connection_is_cut_in_the_middle_of_a_literal_to_the_client(chunk: int | None) -> None:
    with (
        FakeServer() as server,
        Proxy(server.port, cut_literal_to_client=2, chunk=chunk) as proxy,
        raw(proxy) as client,
    ):
        server.store[b"INBOX"].add(mail(1))
        server.store[b"INBOX"].add(mail(2, 958))
        client.ask(b"SELECT INBOX")
        client.send(b"a UID FETCH 1:2 BODY.PEEK[]\r\n")
        came = rest(client)

    literal = mail(2, 958)
    assert 1000 == len(literal)
    assert came.endswith(b"{1000}\r\n" + literal[:500])


def test_connection_is_cut_in_the_middle_of_a_literal_to_the_server() -> None:
    with FakeServer() as server, Proxy(server.port, cut_literal_to_server=2) as proxy, raw(proxy) as client:
        first = client.append(b"APPEND INBOX", mail(1))
        second = client.append(b"APPEND INBOX", mail(2))

    assert [b"a OK [APPENDUID 1 1] done"] == first
    assert [] == second
    assert 1 == len(server.store[b"INBOX"].messages)


@contextmanager
def reset() -> Iterator[None]:
    with pytest.raises(ConnectionResetError):
        yield


@pytest.mark.parametrize("fault", [{"swallow": "NOOP"}, {"cut_to_client": 400}, {"cut_to_server": 30}])
def test_cut_can_be_a_reset(fault: dict[str, object]) -> None:
    with (
        FakeServer() as server,
        Proxy(server.port, reset=True, **fault) as proxy,  # type: ignore[arg-type]
        raw(proxy, login=False) as client,
        reset(),
    ):
        client.send(b"a LOGIN alice secret\r\nb CAPABILITY\r\nc NOOP\r\n")
        rest(client)


def test_server_that_hangs_up_is_passed_on() -> None:
    with FakeServer() as server, Proxy(server.port) as proxy, raw(proxy) as client:
        client.send(b"a LOGOUT\r\n")
        came = rest(client)

    assert re.fullmatch(rb"\* BYE .*\r\na OK done\r\n", came)
