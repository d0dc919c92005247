"""Names of mailboxes on servers: which there are, how they are said, and what must never become a path."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailsync.drivers.contract import Wanted
from mailsync.drivers.imap.account import Tell
from mailsync.drivers.imap.store import ImapStore
from mailsync.errors import BoxError, StoreError
from mailsync.model import BoxInfo, Failure, Mailbox

from .mail import MSGID, Kept, Mail, configure, digests, kept, maildir, message, put, read, run
from .servers import Login
from .servers.fake import EVERYTHING, EXCHANGE, GMAIL, Answer, Cut, Edit, FakeBox, FakeServer, Swallow, Trap
from .servers.stores import store

ALICE = Login("alice", "secret")
MAIL = [Mail(message("1"))]
KEPT = [kept(mail) for mail in MAIL]


@contextmanager
def opened(
    server: FakeServer, *patterns: str, prefix: str = "", subscribed: bool = False, odd: list[str] | None = None
) -> Iterator[ImapStore]:
    tell = Tell(odd=(odd if odd is not None else []).append)
    with store(server.port, ALICE, *patterns, prefix=prefix, subscribed=subscribed, tell=tell) as driver:
        yield driver


def boxes(driver: ImapStore) -> dict[str, BoxInfo]:
    return {info.mailbox: info for info in driver.boxes(driver.patterns)}


def selectable(driver: ImapStore) -> set[str]:
    return {name for name, info in boxes(driver).items() if info.selectable and not info.unwanted}


def on_server(server: FakeServer, name: bytes) -> list[Kept]:
    return [kept(Mail(one.raw.replace(b"\r\n", b"\n"), date=one.date)) for one in server.store[name].messages]


# ---- namespaces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("delimiter", "prefix", "namespace", "expected"),
    [
        (b"/", b"", None, ("", "/")),
        (b".", b"INBOX.", None, ("INBOX.", ".")),
        (None, b"", None, ("", None)),
        (b"/", b"", b'(("" "/")) (("~" "/")) (("#shared/" "/"))', ("", "/")),
        (b".", b"INBOX.", b'(("INBOX." ".")("#mh." ".")) NIL NIL', ("INBOX.", ".")),
        (b"/", b"", b'(({0}\r\n "/" "X-PARAM" ("a" "b"))) NIL NIL', ("", "/")),
        (b".", b"", b"NIL NIL NIL", ("", ".")),
        (b"/", b"Entw&APw-rfe/", b'(("Entw&APw-rfe/" "/")) NIL NIL', ("Entwürfe/", "/")),
    ],
)
def test_server_says_what_all_its_mailboxes_lie_below(
    delimiter: bytes | None, prefix: bytes, namespace: bytes | None, expected: tuple[str, str | None]
) -> None:
    with FakeServer(EXCHANGE, delimiter=delimiter, prefix=prefix, namespace=namespace) as server:
        server.store.create(prefix + b"a")
        with opened(server) as driver:
            assert expected == (driver.prefix, driver.delimiter)
            assert {"INBOX", f"{expected[0]}a"} == selectable(driver)


@pytest.mark.parametrize("delimiter", [b"/", b".", None])
def test_without_namespaces_the_delimiter_is_that_of_list(delimiter: bytes | None) -> None:
    with FakeServer(frozenset(), delimiter=delimiter) as server, opened(server) as driver:
        assert ("", delimiter and delimiter.decode()) == (driver.prefix, driver.delimiter)


def test_delimiter_of_a_given_prefix_is_that_of_its_namespace() -> None:
    namespace = b'(("" "/")("#mh." ".")) NIL NIL'
    with FakeServer(EXCHANGE, namespace=namespace) as server:
        with opened(server, "#mh.*", prefix="#mh.") as driver:
            assert ("#mh.", ".", ("#mh.*",)) == (driver.prefix, driver.delimiter, driver.patterns)
        with opened(server, "lists/*", prefix="lists/") as driver:
            assert ("lists/", "/") == (driver.prefix, driver.delimiter)


def test_mailbox_whose_levels_are_divided_otherwise_is_told() -> None:
    with FakeServer(EXCHANGE) as server:
        server.script.append(Trap(rb'LIST "" "\*"', Edit(lambda answer: b'* LIST () "." a.b\r\n' + answer), nth=0))
        with opened(server, "*") as driver:
            failure = boxes(driver)["a.b"].failure

    assert failure
    assert "divided" in failure.why


@pytest.mark.parametrize(
    "line",
    [
        b'* LIST () "ab" x\r\n',
        b'* LIST () "\xc3" x\r\n',
        b"* LIST x\r\n",
        b"* LIST () NIL\r\n",
        b'* LIST () "/" two words\r\n',
        b'* LIST () "/" (x)\r\n',
        b'* LIST () "/" "x\r\n',
    ],
)
def test_list_that_cannot_be_read_is_an_error_of_the_store(line: bytes) -> None:
    with FakeServer(EXCHANGE) as server:
        server.script.append(Trap(rb'LIST "" "\*"', Edit(lambda answer: line + answer), nth=0))
        with opened(server, "*") as driver, pytest.raises(StoreError):
            driver.boxes(["*"])


@pytest.mark.parametrize("capabilities", [EVERYTHING, frozenset()], ids=["everything", "none"])
@pytest.mark.parametrize("words", ["NO [SERVERBUG] no", "BAD what?"])
def test_list_that_is_refused_is_an_error_of_the_store(capabilities: frozenset[str], words: str) -> None:
    with FakeServer(capabilities) as server:
        server.store.create(b"a")
        server.script.append(Trap(rb'LIST "" "b', Answer(words), nth=0))
        with opened(server, "*") as driver, pytest.raises(StoreError):
            driver.boxes(["a*", "b*"])


@pytest.mark.parametrize("trap", [rb'LIST "" ""', rb"NAMESPACE"])
def test_namespaces_that_are_cut_are_an_error_of_the_store(trap: bytes) -> None:
    with FakeServer(EXCHANGE) as server:
        server.script.append(Trap(trap, Cut(8), nth=0))
        with opened(server) as driver, pytest.raises(StoreError):
            driver.prefix  # noqa: B018


# ---- names on the wire -----------------------------------------------------------------------------------------------

NAMES: Mapping[bytes, str] = {
    b"Entw&APw-rfe": "Entwürfe",
    b"&U,BTFw-/&ZeVnLIqe-": "台北/日本語",
    b"R&-D": "R&D",
    b"Tom & Jerry": "Tom & Jerry",
    b"&": "&",
    b"&AGE-": "&AGE-",
    b"caf\xc3\xa9": "café",
    b"caf\xe9": "caf\udce9",
    b'quo"te\\d': 'quo"te\\d',
    b"per%cent*": "per%cent*",
    b"foo[bar": "foo[bar",
    b"[Gmail]/x]": "[Gmail]/x]",
    b" blanks  in it ": " blanks  in it ",
    b"NIL": "NIL",
    b"x{5}": "x{5}",
    b"{5+}": "{5+}",
    b"(a)": "(a)",
    b"\\Seen": "\\Seen",
    b"-": "-",
    b"a" * 200: "a" * 200,
}


@pytest.mark.parametrize("literals", [False, True])
@pytest.mark.parametrize(("raw", "name"), NAMES.items(), ids=map(str, range(len(NAMES))))
def test_name_is_shown_as_text_and_said_as_it_was(raw: bytes, name: str, literals: bool) -> None:
    with FakeServer(EVERYTHING, literals=literals) as server:
        server.store.create(raw)
        with opened(server) as driver:
            assert name in selectable(driver)
            found = driver.find(Mailbox(name))
            assert found
            assert (name, True) == (found.mailbox, found.selectable)
            put(driver, name, MAIL)
            assert KEPT == read(driver, name)

        assert KEPT == on_server(server, raw)


@pytest.mark.parametrize("name", [name for raw, name in NAMES.items() if raw not in (b"caf\xc3\xa9", b"caf\xe9")])
def test_new_mailbox_has_the_name_that_was_asked_for(name: str) -> None:
    with FakeServer(EVERYTHING) as server, opened(server) as driver:
        driver.create(Mailbox(name))
        assert name in selectable(driver)
        driver.delete(Mailbox(name))
        assert driver.find(Mailbox(name)) is None


@pytest.mark.parametrize(
    ("one", "other"),
    [(b"Tom & Jerry", b"Tom &- Jerry"), (b"caf\xc3\xa9", b"caf&AOk-"), (b"&", b"&-")],
)
def test_two_mailboxes_that_are_shown_alike_are_both_left_alone(one: bytes, other: bytes) -> None:
    with FakeServer(EVERYTHING) as server:
        server.store.create(one)
        server.store.create(other)
        with opened(server) as driver:
            [failed] = [info for info in boxes(driver).values() if info.mailbox != "INBOX"]

    assert not failed.selectable
    assert failed.failure
    assert "two mailboxes" in failed.failure.why


@pytest.mark.parametrize("raw", [b"a\r\nz DELETE INBOX", b'a"\r\nz DELETE INBOX\r\ny NOOP "', b"a\0b", b"a\nb"])
def test_name_that_would_end_the_command_is_never_said(raw: bytes) -> None:
    with FakeServer(EVERYTHING) as server:
        server.store.create(raw)
        with opened(server) as driver:
            [name] = boxes(driver).keys() - {"INBOX"}
            [(_, answer)] = driver.listings([Wanted(Mailbox(name))], MSGID)
            assert isinstance(answer, Failure)
            for act in (driver.create, driver.delete):
                with pytest.raises(BoxError):
                    act(Mailbox(name))
            with pytest.raises(BoxError), driver.open(Mailbox(name), write=True):
                pass
            found = driver.find(Mailbox(name))
            assert found is None or not found.selectable

        assert 0 == server.count(rb"\A\S+ (DELETE|NOOP)")


def test_name_that_is_no_text_cannot_be_said() -> None:
    with FakeServer(EVERYTHING) as server, opened(server) as driver, pytest.raises(BoxError, match="UTF-8"):
        driver.create(Mailbox("caf\udce9"))


# ---- what is no mailbox, or not wanted -------------------------------------------------------------------------------


@pytest.mark.parametrize("attribute", [b"\\Noselect", b"\\NOSELECT", b"\\NonExistent"])
def test_name_that_cannot_be_opened_is_no_mailbox(attribute: bytes) -> None:
    with FakeServer(GMAIL) as server:
        server.store.create(b"a").attributes.add(attribute)
        with opened(server) as driver:
            assert {"INBOX": True, "a": False} == {name: info.selectable for name, info in boxes(driver).items()}


@pytest.mark.parametrize("attribute", [b"\\All", b"\\AllMail"])
def test_mailbox_of_all_mail_is_left_out_unless_it_is_named(attribute: bytes) -> None:
    with FakeServer(GMAIL) as server:
        server.store.create(b"[Gmail]/All Mail").attributes.add(attribute)
        with opened(server) as driver:
            left_out = boxes(driver)["[Gmail]/All Mail"]
        with opened(server, "*", "[Gmail]/All Mail") as driver:
            named = selectable(driver)

    assert left_out.unwanted
    assert {"INBOX", "[Gmail]/All Mail"} == named


def test_what_a_mailbox_is_for_is_known_where_the_server_says_it() -> None:
    with FakeServer(EVERYTHING) as server:
        server.store.create(b"Papierkorb").attributes.update({b"\\HasNoChildren", b"\\Trash"})
        with opened(server) as driver:
            assert {"INBOX": "", "Papierkorb": "\\Trash"} == {name: info.use for name, info in boxes(driver).items()}


@pytest.mark.parametrize("capabilities", [EVERYTHING, EXCHANGE, frozenset()], ids=["extended", "plain", "none"])
def test_only_subscribed_mailboxes_are_wanted_where_the_store_says_so(capabilities: frozenset[str]) -> None:
    with FakeServer(capabilities) as server:
        server.store.create(b"wanted").subscribed = True
        server.store.create(b"Entw&APw-rfe").subscribed = True
        server.store.create(b"other")
        with opened(server, subscribed=True) as driver:
            found = boxes(driver)

    assert {"INBOX", "wanted", "Entwürfe"} == {
        name for name, info in found.items() if info.selectable and not info.unwanted
    }
    assert found["other"].unwanted


@pytest.mark.parametrize("capabilities", [EVERYTHING, frozenset()], ids=["extended", "none"])
def test_patterns_add_up_and_take_away(capabilities: frozenset[str]) -> None:
    with FakeServer(capabilities) as server:
        for name in (b"a/b", b"a/c", b"d", b"e/f/g"):
            server.store.create(name)
        with opened(server, "a/*", "d", "e/%", "!a/c") as driver:
            assert {"a/b", "d"} == selectable(driver)


# ---- INBOX and case --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("spelt", [b"inbox", b"Inbox", b'"inBOX"'])
def test_inbox_is_inbox_however_the_server_spells_it(spelt: bytes) -> None:
    with FakeServer(EXCHANGE) as server:
        server.script.append(
            Trap(rb"LIST", Edit(lambda answer: answer.replace(b" INBOX\r\n", b" %s\r\n" % spelt)), nth=0)
        )
        with opened(server) as driver:
            assert {"INBOX"} == selectable(driver)
            put(driver, "INBOX", MAIL)
            assert KEPT == read(driver, "INBOX")


def test_inbox_below_a_prefix_cannot_be_told_from_inbox() -> None:
    with FakeServer(EXCHANGE, delimiter=b".", prefix=b"INBOX.") as server:
        server.store.create(b"INBOX.INBOX")
        with opened(server) as driver:
            info = boxes(driver)["INBOX.INBOX"]

    assert info.failure
    assert ("cannot be told from INBOX" in info.failure.why, info.stray) == (True, False)


def test_inbox_below_a_given_prefix_is_a_mailbox_like_others() -> None:
    with FakeServer(EXCHANGE, delimiter=b".", prefix=b"INBOX.") as server:
        server.store.create(b"INBOX.INBOX")
        with opened(server, "INBOX.*", prefix="INBOX.") as driver:
            assert {"INBOX.INBOX"} == selectable(driver)


@pytest.mark.parametrize("name", ["inbox", "Inbox"])
def test_other_spelling_of_inbox_is_refused(name: str) -> None:
    """On the other store it is a mailbox of its own; here it would be INBOX."""
    with FakeServer(EVERYTHING) as server, opened(server) as driver:
        with pytest.raises(BoxError, match="INBOX"):
            driver.create(Mailbox(name))
        with pytest.raises(BoxError, match="INBOX"), driver.open(Mailbox(name), write=True):
            pass
        info = driver.find(Mailbox(name))
        assert info is None or info.failure


def test_server_that_folds_case_is_not_given_a_second_spelling() -> None:
    with FakeServer(EXCHANGE, case_insensitive=True) as server:
        server.store.create(b"Trash")
        with opened(server) as driver, pytest.raises(BoxError, match="trash"):
            driver.create(Mailbox("trash"))

        assert {b"INBOX", b"Trash"} == set(server.store)


# ---- creating --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("capabilities", [EVERYTHING, frozenset()], ids=["everything", "none"])
@pytest.mark.parametrize("strict", [False, True])
def test_mailbox_is_made_with_the_levels_above_and_subscribed(capabilities: frozenset[str], strict: bool) -> None:
    with FakeServer(capabilities) as server:
        if strict:  # a server that makes no level by itself
            server.script.append(Trap(rb'CREATE "a/b/c"', Answer("NO [NONEXISTENT] no parent")))
        with opened(server) as driver:
            driver.create(Mailbox("a/b/c"))
            driver.create(Mailbox("a/b/c"))
            assert "a/b/c" in selectable(driver)

        assert server.store[b"a/b/c"].subscribed
        assert strict == (b"a/b" in server.store and not server.store[b"a/b"].attributes)


def test_mailbox_that_is_only_a_level_is_made_real() -> None:
    with FakeServer(EVERYTHING) as server, opened(server) as driver:
        driver.create(Mailbox("a/b"))
        assert {"INBOX", "a/b"} == selectable(driver)
        driver.create(Mailbox("a"))
        assert {"INBOX", "a", "a/b"} == selectable(driver)


def test_subscription_that_is_refused_is_told_and_nothing_more() -> None:
    odd: list[str] = []
    with FakeServer(EVERYTHING) as server:
        server.script.append(Trap(rb"SUBSCRIBE", Answer("NO not here")))
        with opened(server, odd=odd) as driver:
            driver.create(Mailbox("a"))

        assert b"a" in server.store
    assert ["a: cannot be subscribed: not here"] == odd


def test_server_that_makes_another_name_of_it_is_an_error() -> None:
    """Gmail takes blanks away, Exchange changes characters; the mailbox would be made again in each run."""
    with FakeServer(EVERYTHING) as server:
        create = server.store.create
        server.store.create = lambda name: create(name.strip())  # type: ignore[method-assign]
        with opened(server) as driver, pytest.raises(BoxError, match="another name"):
            driver.create(Mailbox(" a "))


def test_mailbox_outside_of_all_namespaces_is_refused() -> None:
    with (
        FakeServer(EXCHANGE, delimiter=b".", prefix=b"INBOX.") as server,
        opened(server) as driver,
        pytest.raises(BoxError, match="namespace"),
    ):
        driver.create(Mailbox("a"))


@pytest.mark.parametrize("verb", ["DELETE", "RENAME"])
def test_mailbox_that_was_deleted_or_renamed_unheard_is_no_failure(verb: str) -> None:
    with FakeServer(EVERYTHING) as server:
        server.store.create(b"a")
        server.script.append(Trap(verb.encode(), Swallow()))
        with opened(server) as driver:
            driver.delete(Mailbox("a")) if verb == "DELETE" else driver.rename(Mailbox("a"), Mailbox("b"))

        assert {"DELETE": {b"INBOX"}, "RENAME": {b"INBOX", b"b"}}[verb] == set(server.store)


def test_mailbox_that_holds_mail_or_is_inbox_is_not_deleted() -> None:
    with FakeServer(EVERYTHING) as server:
        server.store.create(b"a").add(b"Subject: x\r\n\r\n")
        with opened(server) as driver:
            for name in ("a", "INBOX", "inbox"):
                with pytest.raises(BoxError):
                    driver.delete(Mailbox(name))

        assert {b"INBOX", b"a"} == set(server.store)


# ---- names that must not become paths --------------------------------------------------------------------------------

EVIL: Sequence[bytes] = (
    b"../evil",
    b"a/../../../evil",
    b"..",
    b".",
    b"/evil",
    b"a//evil",
    b"evil/",
    b"x\0evil",
    b"a/cur",
    b"tmp",
    b"new/x",
    b"evil" * 75,
    b"/".join([b"deep" * 20] * 60),
    b"line\r\nevil",
)
GOOD = (b"good", b"a/b", b"Entw&APw-rfe", b"~", b"-rf", b"$HOME", b"per%cent")


def tree(path: Path) -> set[str]:
    return {str(each.relative_to(path)) for each in path.rglob("*")}


@pytest.mark.parametrize("evil", EVIL, ids=map(str, range(len(EVIL))))
@pytest.mark.parametrize("format", ["maildir", "maildir++", "mbox", "mh"])
def test_evil_name_is_told_and_spoils_no_other(home: Path, evil: bytes, format: str) -> None:
    harmless = not {b"cur", b"new", b"tmp"}.isdisjoint(evil.split(b"/"))  # but in a Maildir
    with FakeServer(EVERYTHING) as server:
        for name in (evil, *GOOD[:2]):
            server.store[name] = FakeBox(7)
            server.store[name].add(message("1").replace(b"\n", b"\r\n"))
        near = f"store near {{ pat Mail/in/* prefix Mail/in/ format {format} fsync no }}\n"
        far = f"store far {{ server {{127.0.0.1:{server.port}/user=alice/notls}} passwd secret }}\n"
        configure(home, near + far + "channel c near far { msinfo .msinfo }\n")
        (home / "Mail" / "in").mkdir(parents=True)
        for _ in range(2):
            ran = run("c")
            assert int(format == "maildir" or not harmless) == ran.code, ran
            assert "bug" not in ran.err
        outside = {name for name in tree(home.parent) if not name.startswith("home/Mail/in/")}

        assert {"home", "home/Mail", "home/Mail/in", "home/.mailsync", "home/.msinfo"} >= {
            name for name in outside if not name.startswith(("home/.cache", "home/.local"))
        }
        if format != "maildir++":
            assert {"Mail/in/good", "Mail/in/a/b"} <= set(digests(home, "Mail/in/*", format))
        assert [1, 1] == [len(server.store[name].messages) for name in GOOD[:2]]
        assert 1 == len(server.store[evil].messages)


def test_mailbox_that_is_no_inbox_does_not_come_into_inbox(home: Path) -> None:
    with FakeServer(EVERYTHING) as server:
        maildir(home / "Mail" / "INBOX", message("1"))
        maildir(home / "Mail" / "inbox", message("2"))
        near = "store near { pat Mail/* prefix Mail/ format maildir fsync no }\n"
        far = f"store far {{ server {{127.0.0.1:{server.port}/user=alice/notls}} passwd secret }}\n"
        configure(home, near + far + "channel c near far { msinfo .msinfo }\n")
        for _ in range(2):
            ran = run("c")
            assert (1, True) == (ran.code, "inbox" in ran.err)

        assert [KEPT[0].exact] == [one.exact for one in on_server(server, b"INBOX")]
        assert {"Mail/INBOX", "Mail/inbox"} == set(digests(home, "Mail/*"))


@pytest.mark.parametrize("delimiter", [b"/", b".", None])
def test_names_come_and_go_between_a_maildir_and_a_server(home: Path, delimiter: bytes | None) -> None:
    """Also those whose levels are divided otherwise, or that hold what divides levels on the other side."""
    with FakeServer(EVERYTHING, delimiter=delimiter) as server:
        for name in (*GOOD, b"a.c" if delimiter == b"." else b"..good", b"x=2Fy"):
            server.store.create(name).add(message(name.decode()).replace(b"\n", b"\r\n"))
        maildir(home / "Mail" / "own", message("own"))
        maildir(home / "Mail" / "o.w.n", message("dots"))
        near = "store near { pat Mail/* prefix Mail/ format maildir fsync no }\n"
        far = f"store far {{ server {{127.0.0.1:{server.port}/user=alice/notls}} passwd secret }}\n"
        configure(home, near + far + "channel c near far { msinfo .msinfo }\n")
        first, second = run("--json", "c"), run("--json", "c")
        counts = {
            name: len(box.messages) for name, box in server.store.items() if not box.attributes and name != b"INBOX"
        }

    assert (0, 0, []) == (first.code, second.code, second.steps), first.err + second.err
    assert 11 == len(counts) == sum(counts.values())
    assert 11 == sum(len(box) for box in digests(home, "Mail/*").values())


def test_mailbox_that_is_subscribed_no_more_is_left_out_and_deleted_nowhere(home: Path) -> None:
    with FakeServer(EVERYTHING) as server:
        for name in (b"kept", b"dropped"):
            server.store.create(name).subscribed = True
            server.store[name].add(message(name.decode()).replace(b"\n", b"\r\n"))
        near = "store near { pat Mail/* prefix Mail/ }\n"
        far = f"store far {{ server {{127.0.0.1:{server.port}/notls/user=alice}} passwd secret subscribed yes }}\n"
        configure(home, near + far + "channel ab near far { msinfo .msinfo }\n")
        assert 0 == run("ab").code

        server.store[b"dropped"].subscribed = False
        ran = run("-vw", "ab")
        compared = run("--json", "ab", "far")

    assert (0, True) == (ran.code, "dropped: not subscribed" in ran.err)
    assert {"dropped"}.isdisjoint(event.get("box") for event in compared.events)
    assert {"Mail/dropped", "Mail/kept"} <= set(digests(home, "Mail/*"))
    assert [1, 1] == [len(digests(home, "Mail/*")[f"Mail/{name}"]) for name in ("dropped", "kept")]
