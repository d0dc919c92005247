"""Messages that go from one local mailbox to another: by a new name where that can be, and always first the new one."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from mailsync.drivers import delivery
from mailsync.drivers.contract import Transfers
from mailsync.drivers.local import LocalStore
from mailsync.drivers.maildir import Maildir
from mailsync.drivers.mboxopen import MboxBox
from mailsync.drivers.mboxscan import Edit
from mailsync.drivers.mboxtext import Source
from mailsync.errors import BoxError
from mailsync.model import ANSWERED, FLAGGED, NONE, SEEN, Appended, Failure, FlagChange, Mailbox, Message, Uid

from .mail import MSGID, NEW_YEAR, Mail, entries, local, maildir, message, put, raws, read
from .servers import server
from .servers.stores import store_on

A, B = Mailbox("Mail/a"), Mailbox("Mail/b")
Act = Callable[[], object]


@pytest.fixture
def store(home: Path) -> LocalStore:
    """One with an empty Maildir `b`."""
    found = local(home, "Mail/*", format="maildir")
    found.create(B)
    return found


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """On another file system."""
    if not os.access("/dev/shm", os.W_OK) or os.stat("/dev/shm").st_dev == os.stat(tmp_path).st_dev:
        pytest.skip("no other file system here")
    with TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


def transfer(
    verb: str, source: LocalStore, uids: Sequence[Uid], to: LocalStore | None = None
) -> list[Appended | Failure]:
    """From `a` to `b`."""
    with source.open(A, write=True) as a, (to or source).open(B, write=True) as b:
        assert isinstance(a, Transfers)
        assert a.reaches(b)
        return list(a.copy(uids, b) if verb == "copy" else a.move(uids, b))


def uids(store: LocalStore, mailbox: Mailbox = A) -> list[Uid]:
    return [entry.uid for entry in entries(store, mailbox)]


def messages(path: Path) -> list[Path]:
    return sorted(file for part in ("cur", "new") for file in (path / part).iterdir())


# ---- Maildir -------------------------------------------------------------------------------------------------------


def test_moved_message_is_the_same_file_under_a_new_name(home: Path, store: LocalStore) -> None:
    put(store, A, [Mail(message(), frozenset({SEEN}))])
    [old] = messages(home / A)
    os.utime(old, ns=(0, 86400 * 10**9 + 123456789))
    before = old.stat()

    [answer] = transfer("move", store, uids(store))

    [new] = messages(home / B)
    after = new.stat()
    assert isinstance(answer, Appended)
    assert (f"{answer.uid}:2,S", []) == (new.name, messages(home / A))
    assert old.name.partition(".")[2] != new.name.partition(".")[2]
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    size = len(message())
    assert f",S={size},W={size + message().count(bytes([10]))}:2,S" == new.name[new.name.index(",") :]


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("1.a.x:2,", ",S={size}:2,"),
        ("1.a.x,S={size}:2,", ",S={size}:2,"),
        ("1.a.x,S={size},W=7:2,", ",S={size},W=7:2,"),
        ("1.a.x,W=7:2,", ",S={size}:2,"),
        ("1.a.x,S=9,W=7:2,", ",S={size}:2,"),
    ],
)
def test_name_tells_sizes_as_far_as_they_are_known(home: Path, store: LocalStore, name: str, wanted: str) -> None:
    size = str(len(message()))
    maildir(home / A)
    (home / A / "cur" / name.replace("{size}", size)).write_bytes(message())

    transfer("move", store, uids(store))

    [new] = messages(home / B)
    assert new.name.endswith(wanted.replace("{size}", size))
    assert new.name.count(",") == wanted.count(",")


def test_copy_is_a_link_and_yet_a_message_of_its_own(home: Path, store: LocalStore) -> None:
    put(store, A, [Mail(message(n), frozenset({SEEN})) for n in range(2)])

    transfer("copy", store, uids(store))
    assert [2] * 4 == [file.stat().st_nlink for box in (A, B) for file in messages(home / box)]
    transfer("copy", store, uids(store)[:1])  # a second time
    with store.open(B, write=True) as b:
        first, second, third = uids(store, B)
        list(b.set_flags([FlagChange(first, frozenset({FLAGGED}), frozenset({SEEN}))]))
        assert [second] == list(b.expunge([second]))
    with store.open(A, write=True) as a:
        assert uids(store)[:1] == list(a.expunge(uids(store)[:1]))

    seen, flagged = frozenset({SEEN}), frozenset({FLAGGED})
    assert {"<1@x>": seen} == {one.id: one.flags for one in entries(store, A)}
    assert {first: flagged, third: seen} == {one.uid: one.flags for one in entries(store, B)}
    assert [message(0)] * 2 == raws(store, B)


def test_copy_of_a_copy_is_moved_back_and_all_are_there(home: Path, store: LocalStore) -> None:
    put(store, A, [Mail(message())])
    transfer("copy", store, uids(store))

    with store.open(A, write=True) as a, store.open(B, write=True) as b:
        assert isinstance(b, Transfers)
        assert all(isinstance(answer, Appended) for answer in b.move(uids(store, B), a))

    assert ([message()] * 2, []) == (raws(store, A), raws(store, B))


@pytest.mark.parametrize("verb", ["move", "copy"])
def test_message_that_nobody_has_seen_stays_new(home: Path, store: LocalStore, verb: str) -> None:
    [seen] = maildir(home / A, message(1))
    (home / A / "new" / "1.new.x").write_bytes(message(2))

    transfer(verb, store, uids(store))

    assert [("cur", "<1@x>"), ("new", "<2@x>")] == [
        (file.parent.name, one.id)
        for file, one in zip(messages(home / B), sorted(entries(store, B), key=lambda one: one.id), strict=True)
    ]
    assert seen.name != messages(home / B)[0].name


def test_keywords_have_the_letters_of_the_other_maildir(home: Path, store: LocalStore) -> None:
    put(store, A, [Mail(message(1), frozenset({"Work", "Home"}))])
    put(store, B, [Mail(message(2), frozenset({"Other", "work"}))])

    transfer("move", store, uids(store))

    assert "0 Other\n1 work\n2 Home\n" == (home / B / "dovecot-keywords").read_text()
    assert [{"Other", "work"}, {"work", "Home"}] == [one.flags for one in entries(store, B)]


def test_letter_that_came_since_the_mailbox_was_opened_is_understood(home: Path, store: LocalStore) -> None:
    put(store, A, [Mail(message())])
    with store.open(A, write=True) as a, store.open(B, write=True) as b:
        list(a.heads(uids(store)))
        with store.open(A, write=True) as other:
            list(other.set_flags([FlagChange(uids(store)[0], frozenset({"Late"}))]))
        assert isinstance(a, Transfers)
        list(a.move(uids(store), b))

    assert [{"Late"}] == [one.flags for one in entries(store, B)]


def test_keyword_for_which_there_is_no_room_stays_behind(home: Path, store: LocalStore) -> None:
    full = {f"k{n}" for n in range(26)}
    put(store, A, [Mail(message(1), frozenset({SEEN, "k3", "Work"}))])
    put(store, B, [Mail(message(2), frozenset(full))])

    [answer] = transfer("move", store, uids(store))

    assert isinstance(answer, Appended)
    assert [full, {SEEN, "k3"}] == [one.flags for one in entries(store, B)]


@pytest.mark.usefixtures("ordinary")
def test_keyword_that_cannot_be_written_down_keeps_the_message_where_it_is(home: Path, store: LocalStore) -> None:
    put(store, A, [Mail(message(n), flags) for n, flags in enumerate((frozenset({"Work"}), NONE))])
    (home / B).chmod(0o500)

    answers = transfer("move", store, uids(store))

    (home / B).chmod(0o700)
    assert [True, False] == [isinstance(answer, Failure) for answer in answers]
    assert [["<0@x>"], ["<1@x>"]] == [[one.id for one in entries(store, box)] for box in (A, B)]


def test_all_names_of_a_moved_message_go(home: Path, store: LocalStore) -> None:
    [file] = maildir(home / A, message())
    os.link(file, home / A / "new" / file.name.partition(":")[0])

    [answer] = transfer("move", store, uids(store))

    assert isinstance(answer, Appended)
    assert ([], 1) == (messages(home / A), messages(home / B)[0].stat().st_nlink)


def test_two_messages_of_one_name_stay_where_they_are(home: Path, store: LocalStore) -> None:
    [file] = maildir(home / A, message(1))
    (home / A / "new" / file.name.partition(":")[0]).write_bytes(message(2))

    answers = transfer("move", store, uids(store)) + transfer("copy", store, uids(store))

    assert all(isinstance(answer, Failure) and not answer.gone for answer in answers)
    assert (2, []) == (len(messages(home / A)), messages(home / B))


@pytest.mark.parametrize("verb", ["move", "copy"])
def test_message_that_is_a_link_becomes_a_file(home: Path, store: LocalStore, verb: str) -> None:
    maildir(home / A)
    (home / "Mail" / "store").write_bytes(message())
    (home / A / "cur" / "1.a.x:2,S").symlink_to("../../store")

    [answer] = transfer(verb, store, uids(store))

    [new] = messages(home / B)
    assert isinstance(answer, Appended)
    assert (False, message()) == (new.is_symlink(), new.read_bytes())
    assert [{SEEN}] == [one.flags for one in entries(store, B)]
    assert (message(), verb == "copy") == ((home / "Mail" / "store").read_bytes(), bool(messages(home / A)))


def test_message_comes_to_another_file_system(home: Path, elsewhere: Path, store: LocalStore) -> None:
    flags = [frozenset({SEEN, "Work"}), NONE, frozenset({ANSWERED})]
    put(store, A, [Mail(message(n), some, NEW_YEAR + n) for n, some in enumerate(flags)])
    far = local(elsewhere, "Mail/*", format="maildir")
    put(far, B, [Mail(message("old"), frozenset({"Old"}))])
    before, some = read(store, A), uids(store)

    [copied] = transfer("copy", store, some[2:], far)
    moved = transfer("move", store, [some[1], Uid("none"), some[0]], far)

    assert isinstance(copied, Appended)
    assert [some[1], True, some[0]] == [one.source if isinstance(one, Appended) else one.gone for one in moved]
    assert (before, before[2:]) == ([one for one in read(far, B) if one.id != "<old@x>"], read(store, A))
    assert [] == list((elsewhere / B / "tmp").iterdir())


def test_mailbox_is_within_reach_by_its_format_and_not_by_another_name_of_itself(home: Path, store: LocalStore) -> None:
    private = local(home, "Private/*", format="maildir")
    mbox = local(home, "Boxes/*", format="mbox")
    put(store, A, [Mail(message())])
    private.create(Mailbox("Private/x"))
    mbox.create(Mailbox("Boxes/x"))
    (home / "Mail" / "again").symlink_to("a")

    with (
        store.open(A, write=True) as a,
        private.open(Mailbox("Private/x"), write=True) as there,
        mbox.open(Mailbox("Boxes/x"), write=True) as other,
        store.open(Mailbox("Mail/again"), write=True) as again,
    ):
        assert isinstance(a, Transfers)
        assert [True, False, False] == [a.reaches(box) for box in (there, other, again)]


# ---- MH --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mh(home: Path) -> LocalStore:
    """One with three messages in `a`, and one in `b`."""
    found = local(home, "Mail/*", format="mh")
    flags = [frozenset({FLAGGED, "Work"}), NONE, frozenset({SEEN, ANSWERED})]
    put(found, A, [Mail(message(n), some, NEW_YEAR + n) for n, some in enumerate(flags)])
    put(found, B, [Mail(message("old"), frozenset({SEEN, "Work"}))])
    return found


def numbers(path: Path) -> list[str]:
    return sorted(file.name for file in path.iterdir() if not file.name.startswith("."))


def sequences(path: Path) -> set[str]:
    return set((path / ".mh_sequences").read_text().splitlines())


def test_moved_message_of_mh_is_the_same_file_under_the_next_number(home: Path, mh: LocalStore) -> None:
    before = (home / A / "1").stat()
    moving = uids(mh)

    answers = transfer("move", mh, [moving[2], moving[0]])

    after = (home / B / "3").stat()
    assert ([["2"], ["1", "2", "3"]]) == [numbers(home / box) for box in (A, B)]
    assert (before.st_ino, before.st_mtime_ns, 1) == (after.st_ino, after.st_mtime_ns, after.st_nlink)
    assert uids(mh, B)[1:] == [one.uid for one in answers if isinstance(one, Appended)]
    assert {"unseen: 2"} == sequences(home / A)
    assert {"Work: 1 3", "replied: 2", "flagged: 3", "unseen: 3"} == sequences(home / B)


def test_copy_of_a_message_of_mh_stays_when_a_program_writes_to_the_other(home: Path, mh: LocalStore) -> None:
    transfer("copy", mh, uids(mh))
    with open(home / A / "1", "ab") as file:
        file.write(b"Forwarded: to everybody\n")

    assert [message("old"), *(message(n) for n in range(3))] == raws(mh, B)


def test_message_of_mh_that_is_a_link_becomes_a_file(home: Path, mh: LocalStore) -> None:
    (home / "Mail" / "store").write_bytes(message("far"))
    (home / A / "4").symlink_to("../store")

    answers = transfer("move", mh, uids(mh)[2:])

    assert all(isinstance(answer, Appended) for answer in answers)
    assert (["1", "2"], [message("old"), message(2), message("far")]) == (numbers(home / A), raws(mh, B))
    assert [False] * 3 == [(home / B / number).is_symlink() for number in numbers(home / B)]
    assert message("far") == (home / "Mail" / "store").read_bytes()


def test_message_that_has_another_number_now_is_moved_and_the_one_that_is_gone_is_not(
    home: Path, mh: LocalStore
) -> None:
    old = uids(mh)
    (home / A / "1").unlink()
    (home / A / "3").rename(home / A / "1")

    answers = transfer("move", mh, old)

    assert [True, False, False] == [isinstance(answer, Failure) and answer.gone for answer in answers]
    assert [[], ["1", "2", "3"]] == [numbers(home / box) for box in (A, B)]


def test_message_of_mh_comes_to_another_file_system(home: Path, elsewhere: Path, mh: LocalStore) -> None:
    far = local(elsewhere, "Mail/*", format="mh")
    far.create(B)
    before = read(mh, A)

    answers = transfer("move", mh, [*uids(mh), Uid("none")], far)

    assert [True] * 3 == [isinstance(answer, Appended) for answer in answers[:3]]
    assert isinstance(answers[3], Failure)
    assert (before, []) == (read(far, B), read(mh, A))
    assert {"Work", "replied", "flagged", "unseen"} == {line.partition(":")[0] for line in sequences(elsewhere / B)}


def test_sequences_that_cannot_be_written_keep_the_messages_where_they_are(home: Path, mh: LocalStore) -> None:
    (home / B / ".mh_sequences").unlink()
    (home / B / ".mh_sequences").mkdir()

    answers = transfer("move", mh, uids(mh))

    assert all(isinstance(answer, Failure) and not answer.gone for answer in answers)
    assert [["1", "2", "3"], ["1"]] == [numbers(home / box) for box in (A, B)]


# ---- mbox ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def mbox(home: Path) -> LocalStore:
    """One with five messages in `a`, and none in `b`."""
    found = local(home, "Mail/*", format="mbox")
    put(found, A, [Mail(message(n)) for n in range(5)])
    found.create(B)
    return found


def test_mbox_is_rewritten_once_however_many_batches_are_moved_out_of_it(
    mbox: LocalStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was for each batch: of 50,000 messages a hundred times, and synced."""
    monkeypatch.setattr(delivery, "BATCH", 2)
    rewritten: list[int] = []
    rewrite = MboxBox._rewrite

    def noted(box: MboxBox, data: Source, edits: Sequence[Edit]) -> None:
        rewritten.append(len(edits))
        rewrite(box, data, edits)

    monkeypatch.setattr(MboxBox, "_rewrite", noted)
    wanted = uids(mbox)

    answers = transfer("move", mbox, [*wanted[:2], Uid("none"), *wanted[2:]])

    assert [*wanted[:2], "none", *wanted[2:]] == [
        one.source if isinstance(one, Appended) else one.what for one in answers
    ]
    assert [5] == rewritten
    assert ([], [message(n) for n in range(5)]) == (raws(mbox, A), raws(mbox, B))


def test_what_arrived_before_the_other_mbox_failed_is_moved(mbox: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Left in both, it would be sent for a second time."""
    monkeypatch.setattr(delivery, "BATCH", 2)
    wanted, answers = uids(mbox), []

    with mbox.open(A, write=True) as a, mbox.open(B, write=True) as b:
        assert isinstance(a, MboxBox)
        append = b.append

        def failing(messages: Iterable[Message]) -> Iterator[Appended | Failure]:
            if isinstance(b, MboxBox) and len(b) == 4:
                raise BoxError("taken away")
            return append(messages)

        monkeypatch.setattr(b, "append", failing)
        with pytest.raises(BoxError, match="taken away"):
            for answer in a.move(wanted, b):
                answers.append(answer)

    assert wanted[:4] == [one.source for one in answers if isinstance(one, Appended)]
    assert ([message(4)], [message(n) for n in range(4)]) == (raws(mbox, A), raws(mbox, B))


def test_message_that_was_copied_is_not_sent_again_because_the_old_mbox_was_replaced(
    home: Path, mbox: LocalStore
) -> None:
    """The failure was told as that of a copy that did not arrive."""
    [first, second, *_] = wanted = uids(mbox)
    shutil.copy(home / A, home / "other")

    with mbox.open(A, write=True) as a, mbox.open(B, write=True) as b:
        assert isinstance(a, Transfers)
        copied = list(a.copy(wanted[:2], b))
        os.replace(home / "other", home / A)
        answers = delivery.removed(a, copied)

    assert [first, second] == [one.what for one in answers if isinstance(one, Failure) and one.shared]
    assert all(re.match("it was copied, but .* was replaced", one.why) for one in answers if isinstance(one, Failure))
    assert (5, 2) == (len(raws(mbox, A)), len(raws(mbox, B)))


# ---- killed --------------------------------------------------------------------------------------------------------


CHANGES = {"os.rename", "os.link", "os.remove"}


def killed(after: int, act: Act) -> bool:
    """Do it in a process that is killed before its next change to a directory after so many; False if it got through.

    Files that are made in tmp/ and written to are no such change: nobody sees them.
    """
    pid = os.fork()
    if pid == 0:
        left = [after]

        def watch(event: str, args: object) -> None:
            if event in CHANGES:
                if not left[0]:
                    os._exit(9)
                left[0] -= 1

        try:
            sys.addaudithook(watch)
            act()
        except BaseException:
            os._exit(1)
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, 9)
    return status == 9


@pytest.mark.parametrize("far", [False, True], ids=["same file system", "another"])
@pytest.mark.parametrize("verb", ["move", "copy"])
@pytest.mark.parametrize("format", ["maildir", "mh", "mbox"])
def test_message_is_there_wherever_a_run_is_killed(
    home: Path, elsewhere: Path, format: str, verb: str, far: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivery, "BATCH", 2)
    source = local(home, "Mail/*", format=format)
    to = local(elsewhere, "Mail/*", format=format) if far else source
    expected = {f"<{n}@x>": frozenset({SEEN, f"K{n}"} if n else {}) for n in range(3)}

    def flags(where: LocalStore, mailbox: Mailbox) -> list[tuple[str, frozenset[str]]]:
        return [(one.id, one.flags) for one in entries(where, mailbox)]

    for after in range(100):
        for path in (home, elsewhere):
            shutil.rmtree(path / "Mail", ignore_errors=True)
        old = put(to, B, [Mail(message("old"), flags) for flags in expected.values()])  # it knows the keywords
        with to.open(B, write=True) as box:
            assert old == list(box.expunge(old))
        put(source, A, [Mail(message(n), expected[f"<{n}@x>"]) for n in range(3)])
        wanted = uids(source)

        was_killed = killed(after, lambda wanted=wanted: transfer(verb, source, wanted, to))  # type: ignore[misc]

        here, there = flags(source, A), flags(to, B)
        assert expected == dict(here) | dict(there)
        assert all(expected[id] == flags for id, flags in here + there)
        assert len(here) == len(set(here))
        assert len(there) == len(set(there))
        if (format, verb, far) == ("maildir", "move", False):
            assert set(here).isdisjoint(there)
        if not was_killed:
            break
    assert after >= 3
    assert (list(expected.items()) if verb == "copy" else [], 3) == (here, len(there))


# ---- beside Dovecot --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["move", "copy"])
def test_dovecot_finds_each_message_in_its_place_with_its_flags(verb: str) -> None:
    dovecot = server("dovecot")
    login = dovecot.new_login()
    a, b = (Mailbox(f"{dovecot.prefix}{name}") for name in "ab")
    flags = [frozenset({SEEN, "Work"}), frozenset({"Home"}), NONE]
    with store_on(dovecot, login, "*") as far:
        put(far, a, [Mail(message(n), some, NEW_YEAR + n) for n, some in enumerate(flags)])
        put(far, b, [Mail(message("old"), frozenset({"Home"}))])
        before, old = read(far, a), read(far, b)
        root = dovecot.maildir(login)
        assert root
        paths = [next(root.rglob(f"{name}/cur")).parent for name in "ab"]
        owner = paths[0].stat()

        source, target = (Maildir(str(path), Mailbox(path.name)) for path in paths)
        with source.open(write=True) as here, target.open(write=True) as there:
            wanted = [entry.uid for entry in source.listing(MSGID).entries]
            assert all(isinstance(answer, Appended) for answer in getattr(here, verb)(wanted, there))
        for path in [*paths, *(file for top in paths for file in top.rglob("*"))]:
            os.chown(path, owner.st_uid, owner.st_gid)

        assert sorted([*before, *old]) == sorted(read(far, b))
        assert ([] if verb == "move" else before) == read(far, a)
        with far.open(b, write=True) as box:
            uids = [entry.uid for entry in entries(far, b)]
            assert uids[:2] == list(box.set_flags([FlagChange(uid, frozenset({FLAGGED})) for uid in uids[:2]]))
            assert uids[1:] == list(box.expunge(uids[1:]))
        assert ([] if verb == "move" else before) == read(far, a)
