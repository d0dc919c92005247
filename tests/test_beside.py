"""Both sides of a channel at the same time: what comes of it is the same, and the thread ends whatever happens."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, suppress
from pathlib import Path

import pytest

from mailsync import stopping
from mailsync.beside import AHEAD, Aside, both
from mailsync.errors import BoxError, LoginError
from mailsync.stopping import Stop, Stopped

from .mail import Ran, configure, message, run, signalled
from .servers import server
from .servers.fake import Action, Answer, Bye, Cut, Do, FakeServer, Trap

BOUND = 30.0  # seconds, after which a meeting that does not happen has failed
BOXES = [b"box%d" % number for number in range(40)]  # more than one flight


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """No thread is left over."""
    before = set(threading.enumerate())
    yield
    assert before >= {thread for thread in threading.enumerate() if "_work" in thread.name}


def counting(most: int, given: list[int]) -> Generator[int, None, None]:
    try:
        for number in range(most):
            given.append(number)
            yield number
    finally:
        given.append(-1)


# ---- one thread ------------------------------------------------------------------------------------------------------


def test_all_comes_in_order_and_to_an_end() -> None:
    with Aside(counting(1000, [])) as aside:
        aside.begin()
        found = list(aside)
        again = list(aside)

    assert (list(range(1000)), []) == (found, again)


def test_no_more_is_made_than_a_few_items_ahead() -> None:
    given: list[int] = []
    with Aside(counting(1000, given)) as aside:
        aside.begin()
        taken = [next(aside) for _ in range(10)]

    assert list(range(10)) == taken
    assert len(given) <= 10 + AHEAD + 2
    assert -1 == given[-1]


def test_error_is_raised_where_the_items_are_wanted() -> None:
    def failing() -> Generator[int, None, None]:
        yield 1
        raise BoxError("no", "but")

    with Aside(failing()) as aside:
        aside.begin()
        assert 1 == next(aside)
        with pytest.raises(BoxError, match="no") as caught:
            next(aside)
        assert [] == list(aside)
    assert "but" == caught.value.hint


def waiting(begun: threading.Event, ended: list[BaseException]) -> Generator[int, None, None]:
    yield 0
    begun.set()
    try:
        stopping.sleep(1000)
    except BaseException as err:
        ended.append(err)
        raise


@pytest.mark.parametrize("error", [KeyboardInterrupt, Stopped, BoxError, GeneratorExit])
def test_thread_that_waits_ends_when_the_block_is_left(error: type[BaseException]) -> None:
    begun, ended = threading.Event(), list[BaseException]()
    with suppress(error), Aside(waiting(begun, ended)) as aside:
        aside.begin()
        next(aside)
        assert begun.wait(BOUND)
        raise error(signal.SIGINT)

    assert [Stopped] == [type(err) for err in ended]


def test_who_stops_a_thread_stops_the_one_beside_it() -> None:
    """As in a run of several channels: the thread of a channel waits for what its own helper waits for."""
    stop, begun, ended = Stop(), threading.Event(), list[BaseException]()
    raised: list[object] = []

    def channel() -> None:
        with stopping.stopped_by(stop):
            try:
                with Aside(waiting(begun, ended)) as aside:
                    aside.begin()
                    raised.append(list(aside))
            except Stopped as stopped:
                raised.append(stopped.code)
            stopping.check()  # it was told once

    thread = threading.Thread(target=channel)
    thread.start()
    assert begun.wait(BOUND)
    stop.now(signal.SIGTERM)
    thread.join(BOUND)
    stop.close()

    assert [128 + signal.SIGTERM] == raised
    assert [Stopped] == [type(err) for err in ended]


def test_both_come_at_the_same_time() -> None:
    barrier = threading.Barrier(2, timeout=BOUND)

    assert [0, 1] == sorted(both(barrier.wait, barrier.wait))


def test_what_fails_in_either_is_raised_here() -> None:
    def fail() -> int:
        raise LoginError("wrong")

    for one, other in ((fail, int), (int, fail), (fail, fail)):
        with pytest.raises(LoginError, match="wrong"):
            both(one, other)


def test_one_is_stopped_where_the_other_fails() -> None:
    def fail() -> None:
        raise LoginError("wrong")

    with pytest.raises(LoginError):
        both(lambda: stopping.sleep(1000), fail)


# ---- a run between two servers ---------------------------------------------------------------------------------------


class Two:
    """Two servers that hold the same but for one message each."""

    def __init__(self, home: Path, a: FakeServer, b: FakeServer) -> None:
        self.home, self.sides = home, (a, b)
        for number, each in enumerate(self.sides):
            for box in BOXES:
                found = each.store.create(box)
                for one in ("same", number):
                    found.add(message(f"{box.decode()}-{one}").replace(b"\n", b"\r\n"))
        self.configure()

    def configure(self, more: str = "") -> None:
        text = "".join(
            f"store s{n} {{ server {{127.0.0.1:{each.port}/user=alice}} passwd secret {more} }}\n"
            for n, each in enumerate(self.sides)
        )
        configure(self.home, text + "channel c s0 s1 { msinfo .msinfo exclude INBOX }\n")

    def contents(self) -> list[dict[bytes, list[bytes]]]:
        return [
            {box: sorted(one.raw for one in each.store[box].messages) for box in each.store if box != b"INBOX"}
            for each in self.sides
        ]


@pytest.fixture
def two(home: Path) -> Iterator[Two]:
    with FakeServer() as a, FakeServer() as b:
        yield Two(home, a, b)


def meeting(*servers: FakeServer, command: bytes) -> Callable[[], bool]:
    """None of them answers before all were asked. Gives what tells whether they were."""
    barrier = threading.Barrier(len(servers), timeout=BOUND)
    traps = [Trap(command, Do(lambda _: barrier.wait())) for _ in servers]
    for each, trap in zip(servers, traps, strict=True):
        each.script.append(trap)
    return lambda: all(trap.met for trap in traps) and not barrier.broken


@pytest.mark.parametrize("command", [rb"AUTHENTICATE", rb"LIST .*STATUS", rb"EXAMINE|SELECT"])
def test_servers_are_asked_at_the_same_time(two: Two, command: bytes) -> None:
    met = meeting(*two.sides, command=command)
    ran = run("c")

    assert (0, True) == (ran.code, met()), ran.err
    a, b = two.contents()
    assert a == b
    assert {3} == {len(messages) for messages in a.values()}


def test_settled_channel_asks_both_servers_at_the_same_time(two: Two) -> None:
    ran = [run("c"), run("c"), run("c")]
    met = meeting(*two.sides, command=b"AUTHENTICATE")
    lists = [each.count("EXAMINE|SELECT") for each in two.sides]
    ran.append(run("c"))

    assert ([0] * 4, True) == ([each.code for each in ran], met()), ran
    assert lists == [each.count("EXAMINE|SELECT") for each in two.sides]


def outcome(home: Path, a: FakeServer, b: FakeServer, *options: str) -> tuple[Ran, object]:
    two = Two(home, a, b)
    for each in two.sides:  # same id, other text: only reading them tells
        for box in BOXES[::3]:
            for text in ("x\r\n", "y\r\n") if each is a else ("y\r\n", "z\r\n"):
                each.store[box].add(b"Message-ID: <twin@x>\r\n\r\n" + text.encode())
    return run(*options, "c"), two.contents()


def test_outcome_is_that_of_one_side_after_the_other(home: Path) -> None:
    """Also where messages of side a must be read while it is being listed."""
    with FakeServer() as a, FakeServer() as b:
        at_once, found = outcome(home, a, b)
    (home / ".msinfo").unlink()
    with FakeServer() as a, FakeServer() as b:
        in_turn, expected = outcome(home, a, b, "-d")

    assert (0, 0) == (at_once.code, in_turn.code)
    assert (expected, in_turn.out) == (found, at_once.out)


@pytest.mark.parametrize("action", [Bye("later"), Cut(10), Cut(3, reset=True)])
@pytest.mark.parametrize("side", [0, 1])
def test_connection_that_breaks_meanwhile_is_made_again(
    two: Two, side: int, action: Action, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mailsync.drivers.imap.reach.WAITS", (0.0,) * 4)
    two.sides[side].script.append(Trap(rb"FETCH", action, nth=5))
    ran = run("c")

    assert 0 == ran.code, ran.err
    a, b = two.contents()
    assert a == b


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize(
    ("command", "answer", "code", "why"),
    [
        (b"AUTHENTICATE", "NO [AUTHENTICATIONFAILED] who are you", 7, "who are you"),
        (b"LIST", "NO not now", 6, "cannot be listed: "),
        (rb'(EXAMINE|SELECT) "?box7\b', "NO not this one", 1, "not this one"),
    ],
)
def test_error_of_either_side_is_told_as_ever(
    two: Two, side: int, command: bytes, answer: str, code: int, why: str
) -> None:
    two.sides[side].script.append(Trap(command, Answer(answer), nth=0))
    ran = run("c")

    assert code == ran.code, ran
    assert why in ran.err


@pytest.mark.parametrize("option", ["-d", "-di", "-vb", "-vp"])
def test_what_is_told_of_a_side_is_not_mixed_with_the_other(two: Two, option: str) -> None:
    threads = set()
    for each in two.sides:
        each.script.append(Trap(b"FETCH", Do(lambda _: threads.update(threading.enumerate())), nth=0))
    ran = run(option, "c")

    assert 0 == ran.code, ran.err
    assert [] == [thread.name for thread in threads if "_work" in thread.name]


def at_command(side: FakeServer, command: bytes, act: Callable[[], object]) -> None:
    side.script.append(Trap(command, Do(lambda _: act())))


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("silent", [[0], [1], [0, 1]])
@pytest.mark.parametrize("command", [b"AUTHENTICATE", b"FETCH"])
def test_signal_ends_a_run_that_waits_for_servers(two: Two, signum: int, silent: Sequence[int], command: bytes) -> None:
    asked, go_on = threading.Semaphore(0), threading.Event()

    def hang() -> None:
        asked.release()
        go_on.wait(BOUND)

    for number in silent:
        at_command(two.sides[number], command, hang)
    ran = signalled(two.home, signum, lambda: all(asked.acquire(timeout=BOUND) for _ in silent), go_on.set)

    assert (128 + signum, False) == (ran.code, "Traceback" in ran.err), ran.err


def test_channels_side_by_side_look_at_both_sides_at_the_same_time(home: Path) -> None:
    with FakeServer() as a, FakeServer() as b, FakeServer() as c, FakeServer() as d:
        text = ""
        met = meeting(a, b, c, d, command=b"AUTHENTICATE")
        for number, each in enumerate((a, b, c, d)):
            each.store.create(b"x").add(message(str(number)).replace(b"\n", b"\r\n"))
            text += f"store s{number} {{ server {{127.0.0.1:{each.port}/user=alice}} passwd secret }}\n"
        configure(
            home,
            text + "channel c s0 s1 { msinfo .m1 }\nchannel d s2 s3 { msinfo .m2 }\n",
        )
        ran = run("c", "d")
        found = [len(each.store[b"x"].messages) for each in (a, b, c, d)]

    assert (0, [2] * 4, True) == (ran.code, found, met()), ran.err


def test_two_logins_to_one_account_come_one_after_the_other(home: Path) -> None:
    """They share what is kept of it on this machine."""
    found = server("dovecot")
    login = found.new_login()
    store = f"server {{127.0.0.1:{found.port}/notls/user={login.user}}} passwd {login.password}"
    configure(
        home,
        f"store a {{ {store} pat a/* prefix a/ }}\nstore b {{ {store} pat b/* prefix b/ }}\n"
        f"store near {{ pat n/* prefix n/ }}\n"
        "channel c a b { msinfo .msinfo }\n",
    )
    ran = run("c")

    assert 0 == ran.code, ran.err


def test_stream_of_both_sides_that_is_left_early_leaves_no_thread() -> None:
    begun, ended = threading.Event(), list[BaseException]()

    def stream() -> Generator[int, None, None]:
        with Aside(waiting(begun, ended)) as aside:
            aside.begin()
            yield from aside

    with closing(stream()) as items:
        assert 0 == next(items)
        assert begun.wait(BOUND)
    assert [Stopped] == [type(err) for err in ended]
