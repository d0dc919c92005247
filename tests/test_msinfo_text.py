"""The text of msinfo: what goes in comes out, 5.2.7 reads ours, we read 5.2.7's."""

import os
import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailsync.errors import MsinfoError
from mailsync.identity import identify, key
from mailsync.model import NONE, SEEN, Boxname, Digest, Digests, Flags, Line, MessageId
from mailsync.msinfo.text import Memory, candidate, date, format, parse

OLD = b"From: mailsync\nSubject: ab\n\n"
D1, D2 = Digest("0123456789abcdef" * 2), Digest("f" * 32)


def line(id: str, *rest: object) -> Line:
    return Line(MessageId(id), *rest)  # type: ignore[arg-type]


def memory(**boxes: list[Line]) -> Memory:
    found: Memory = {}
    for name, lines in boxes.items():
        box = found.setdefault(Boxname(name), {})
        for one in lines:
            box[key(one.id)] = (*box.get(key(one.id), ()), one)
    return found


def test_text_is_that_of_5_2_7_with_more_after_the_id() -> None:
    seen = memory(
        play=[line("<c@d>", frozenset({SEEN, "a b"}), Digests(D1, D1)), line("<a@b>"), line("<b@c>", NONE)],
        inbox=[
            line("<md5:" + D1, NONE, Digests(D1, D2)),
            line("<a>b", frozenset({SEEN})),
            line("<x@y>", NONE, None, MessageId("<X y>")),
        ],
        empty=[],
    )
    seen[Boxname("inbox")].pop(key(MessageId("<a>b")))

    text = format(seen, "ab", "msgid", 0.25)

    body = f"""empty
inbox
<alias:%3Cx@y%3E %3CX%20y%3E ()
<md5:{D1} () #{D1}/{D2}
play
<a@b>
<b@c> ()
<c@d> (\\Seen a%20b) #{D1}
"""
    assert text.decode() == (
        "From: mailsync\nSubject: ab\nX-Mailsync-Format: 1 msgid\n"
        f"X-Mailsync-Lines: 8 {len(body)}\nX-Mailsync-Date: 1970-01-01T00:00:00.250000+00:00\n\n{body}"
    )
    assert (seen, ()) == parse(text, "msgid")


def test_text_of_5_2_7_is_read() -> None:
    body = b"inbox\n<id1@example.org>\n<id2@example.org>\nplay\n<id6@example.org>\n\n"

    expected = memory(inbox=[line("<id1@example.org>"), line("<id2@example.org>")], play=[line("<id6@example.org>")])
    assert (expected, ()) == parse(OLD + body, "msgid")
    assert (expected, ()) == parse((OLD + body).replace(b"\n", b"\r\n"), "msgid")
    assert date(OLD + body) == ""


def test_text_of_5_2_7_of_the_md5_kind_is_read() -> None:
    id = f"<>, md5: <{D1}>"

    assert (memory(x=[line(id)]), ()) == parse(OLD + f"x\n{id}\n".encode(), "md5")


def test_odd_bodies_are_read_as_5_2_7_reads_them() -> None:
    body = b"<before@any>\nx\n<a> rest\nx\n<a>\n<b>\n\n<in@empty>\n<>\n<no close\n"

    found, notes = parse(OLD + body, "msgid")

    assert {"": [line("<before@any>"), line("<in@empty>")], "x": [line("<a>"), line("<b>")]} == {
        name: [one for group in box.values() for one in group] for name, box in found.items()
    }
    assert notes == ("1 lines of msinfo could not be read and are passed over",)


@pytest.mark.parametrize("text", [b"", OLD, OLD[:-1], OLD + b"\n\n", b"\n", b"From: mailsync"])
def test_empty_text_is_empty_memory(text: bytes) -> None:
    expected: Memory = {}

    assert (expected, ()) == parse(text, "msgid")


def test_what_a_later_mailsync_adds_to_a_line_is_passed_over() -> None:
    body = f"x\n<a> (\\Seen) #{D1} ~new\n<b> [new] (x)\n<c> (\\Seen)new\n<d> #{D2}\n".encode()

    expected = [
        line("<a>", frozenset({SEEN}), Digests(D1, D1)),
        line("<b>"),
        line("<c>"),
        line("<d>", None, Digests(D2, D2)),
    ]
    assert (memory(x=expected), ()) == parse(OLD + body, "msgid")


SAVED = format(memory(box=[line("<a@b>", NONE), line("<b@c>")], other=[]), "ab", "msgid", 1.0)


@pytest.mark.parametrize("cut", range(len(SAVED) - len(b"box\n<a@b> ()\n<b@c>\nother\n"), len(SAVED) - 1))
def test_text_that_is_cut_off_is_an_error(cut: int) -> None:
    with pytest.raises(MsinfoError) as error:
        parse(SAVED[:cut], "msgid")

    assert "deletes nothing" in error.value.hint


def test_text_that_grew_is_an_error_unless_by_blank_lines() -> None:
    assert parse(SAVED, "msgid") == parse(SAVED + b"\n\r\n", "msgid")
    with pytest.raises(MsinfoError):
        parse(SAVED + b"more\n", "msgid")


@pytest.mark.parametrize(
    ("text", "kind", "use"),
    [
        (SAVED, "md5", "-t msgid"),
        (format({}, "ab", "md5", 1.0), "msgid", "-t md5"),
        (OLD + f"x\n<>, md5: <{D1}>\n".encode(), "msgid", "-t md5"),
        (OLD + b"x\n<a@b>\n", "md5", "-t msgid"),
        (SAVED.replace(b"Format: 1", b"Format: 2"), "msgid", "Update"),
    ],
)
def test_text_of_another_kind_is_an_error_that_says_what_to_use(text: bytes, kind: str, use: str) -> None:
    with pytest.raises(MsinfoError) as error:
        parse(text, kind)

    assert use in error.value.hint


def test_candidate_is_msinfo_of_that_very_channel() -> None:
    assert candidate(OLD, "ab")
    assert candidate(b"Received: x\n" + SAVED, "ab"), "by mail: for the caller to tell"
    assert not candidate(OLD, "a")
    assert not candidate(b"From: mailsync\nSubject: ab \n", "ab")
    assert not candidate(b"From: joe@x\nSubject: ab\n", "ab")


def test_newer_text_has_the_greater_date() -> None:
    assert date(format({}, "ab", "msgid", 9.0)) < date(format({}, "ab", "msgid", 10.5).replace(b"\n", b"\r\n"))


BYTES = st.binary(max_size=12)
NAMES = st.one_of(
    BYTES,
    st.sampled_from(
        [b"<x", b"a\nb", b"\r", b"=mailsync=", b"=mailsync=%41", b"From me", b">From x", b"", b"\0", b" x "]
    ),
).map(os.fsdecode)
MSGIDS = BYTES.map(lambda raw: identify("msgid")(b"X: y\nMessage-ID: " + raw.replace(b"\n", b"")) or "<md5:" + D1)
MD5S = st.sampled_from([f"<>, md5: <{D1}>", f"<>, md5: <{D2}>", "<md5:" + D1])
KEYWORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=5)
FLAGS: st.SearchStrategy[Flags | None] = st.none() | st.frozensets(st.sampled_from([SEEN, "$x"]) | KEYWORDS, max_size=3)
DIGESTS = st.none() | st.builds(Digests, st.sampled_from([D1, D2]), st.sampled_from([D1, D2]))


def memories(ids: st.SearchStrategy[str]) -> st.SearchStrategy[Memory]:
    lines = st.builds(line, ids, FLAGS, DIGESTS, st.none() | ids)
    return st.dictionaries(NAMES, st.lists(lines, max_size=4), max_size=4).map(lambda boxes: memory(**boxes))


def counted(found: Memory) -> dict[Boxname, dict[str, Counter[Line]]]:
    return {name: {id: Counter(group) for id, group in box.items()} for name, box in found.items()}


@given(memories(MSGIDS))
@example({Boxname(""): {}})
@example(memory(**{"": [line("<a>")]}))
def test_memory_comes_back_as_it_was(seen: Memory) -> None:
    text = format(seen, "ab", "msgid", 1.0)

    for raw in (text, text.replace(b"\n", b"\r\n"), text + b"\n"):
        found, notes = parse(raw, "msgid")
        assert counted(seen) == counted(found)
        assert notes == ()
    assert text == format(found, "ab", "msgid", 1.0)


@given(memories(MD5S))
def test_memory_of_the_md5_kind_comes_back_as_it_was(seen: Memory) -> None:
    found, notes = parse(format(seen, "ab", "md5", 1.0), "md5")

    assert counted(seen) == counted(found)
    assert notes == ()


PIECES = [
    b"<",
    b">",
    b"<a>",
    b"\n",
    b"\r\n",
    b" (",
    b")",
    b" #",
    b"%",
    b"%4",
    b"<md5:",
    b"<alias:",
    b"=mailsync=",
    b"\xff",
]
HEADERS = [OLD, b"X-Mailsync-Format: 1 msgid\n", b"X-Mailsync-Lines: 1", b"X-Mailsync-Lines: -1 \xb2\n\n", D1.encode()]


@given(st.lists(st.sampled_from(PIECES + HEADERS) | BYTES).map(b"".join), st.sampled_from(["msgid", "md5"]))
def test_any_bytes_are_read_or_refused(raw: bytes, kind: str) -> None:
    date(raw)
    candidate(raw, "ab")
    with suppress(MsinfoError):
        parse(raw, kind)


# ---- with the real mailsync 5.2.7 ------------------------------------------------------------------------------------


def configure(home: Path) -> None:
    (home / ".mailsync").write_text(
        "store a { pat a/% prefix a/ } store b { pat b/% prefix b/ } channel ab a b { msinfo .msinfo }\n"
    )
    for side in "ab":
        (home / side).mkdir()


def run(original: str, home: Path, *args: str) -> str:
    """What 5.2.7 told."""
    done = subprocess.run([original, *args], cwd=home, check=True, capture_output=True, timeout=60)
    return done.stdout.decode("latin-1")


def mail(number: int, id: bytes = b"") -> bytes:
    id = id or b"<id%d@example.org>" % number
    return b"From joe@example.org Mon Jan  1 10:00:00 2024\nFrom: joe@ex.org\nMessage-ID: " + id + b"\n\nHello.\n\n"


def save(home: Path, text: bytes) -> None:
    (home / ".msinfo").write_bytes(b"From root@vm Sat Nov 21 20:36:44 2026 +0000\n" + text + b"\n")


def saved(home: Path) -> bytes:
    """The last message of msinfo, as 5.2.7 wrote it."""
    return b"From: mailsync" + (home / ".msinfo").read_bytes().rpartition(b"\nFrom: mailsync")[2]


@pytest.mark.parametrize("kind", ["msgid", "md5"])
def test_5_2_7_finds_nothing_to_do_in_what_we_wrote(original: str, home: Path, kind: str) -> None:
    configure(home)
    mails = [mail(number) for number in range(1, 8)]
    ids = [identify(kind)(text.partition(b"\n")[2]) or "" for text in mails]
    for side in "ab":
        (home / side / "box").write_bytes(b"".join(mails))
        (home / side / "empty").touch()
    words = [{SEEN}, {SEEN, "x y"}, {"(>)"}, {"ü"}]
    flags: list[Flags | None] = [None, NONE, *map(frozenset, words)]
    lines = [line(id, agreed) for id, agreed in zip(ids, flags, strict=False)]
    lines.append(line(ids[6], NONE, Digests(D1, D2)))
    # Neither side holds these, so 5.2.7 would tell them as deleted if it saw them.
    lines += [line("<md5:" + D2, NONE), line("<gone@x>", NONE, None, MessageId("<Gone@x>"))]
    save(home, format(memory(box=lines, empty=[]), "ab", kind, 1.0))

    for store in "ab":
        told = run(original, home, "-t", kind, "ab", store)
        assert "new" not in told
        assert "deleted" not in told

    told = run(original, home, "-t", kind, "ab")
    assert "copied" not in told
    assert "7 remain" in told

    found, notes = parse(saved(home), kind)
    assert notes == ()
    assert counted(memory(box=[line(id) for id in ids], empty=[])) == counted(found)


def test_5_2_7_deletes_what_we_remembered_and_one_side_has_no_more(original: str, home: Path) -> None:
    configure(home)
    (home / "a" / "box").write_bytes(mail(1) + mail(2))
    (home / "b" / "box").write_bytes(mail(1))
    seen = memory(box=[line("<id1@example.org>", NONE), line("<id2@example.org>", frozenset({SEEN}))])
    save(home, format(seen, "ab", "msgid", 1.0))

    run(original, home, "ab")

    assert b"<id2@" not in (home / "a" / "box").read_bytes()
    assert counted(memory(box=[line("<id1@example.org>")])) == counted(parse(saved(home), "msgid")[0])


def test_5_2_7_and_we_read_the_same_from_what_5_2_7_wrote(original: str, home: Path) -> None:
    configure(home)
    for side in "ab":
        (home / side / "box").write_bytes(mail(1) + mail(2, b"<\xfc x@y> z"))
        (home / side / "m\xfcll").touch()
    run(original, home, "ab")

    expected = memory(box=[line("<id1@example.org>"), line("<\xfc.x@y>")], müll=[])
    assert (expected, ()) == parse(saved(home), "msgid")
