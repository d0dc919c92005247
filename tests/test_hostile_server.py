"""Mail and names that mean harm, with a real server as the other side: nothing is lost, and runs come to rest."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import pytest

from mailsync.errors import BoxError
from mailsync.model import Mailbox

from . import scenario
from .mail import digests, forget_cache, maildir, run, run_within_bounds
from .scenario import on_machine, on_server
from .test_hostile_mail import SMALL
from .tried import HOSTILE, Points

pytestmark = HOSTILE

LONG: Mapping[str, bytes] = {
    "id late": b"X: " + b"x" * 2_000_000 + b"\nMessage-ID: <late@x>\n\nhi\n",
    "id folded": b"Message-ID: <a\n" + b" b\n" * 300_000 + b" c@x>\n\nhi\n",
    "long id": b"Message-ID: <" + b"i" * 200_000 + b"@x>\n\nhi\n",
    "received": b"".join(b"Received: from %d\n" % n for n in range(80_000)) + b"Subject: received\n\nhi\n",
    "no id": b"X: " + b"x" * 2_000_000 + b"\nSubject: no id\n\nhi\n",
    "other fields": b"".join(b"X-%d: v\n" % n for n in range(150_000)) + b"From: fields@x\n\nhi\n",
    "ids": b"".join(b"Message-ID: <%d@x>\n" % n for n in range(60_000)) + b"\nhi\n",
}


def at_rest(home: Path, channel: str) -> None:
    forget_cache(home)
    assert [] == run("-s", "--json", channel).steps


@pytest.mark.parametrize("mails", [SMALL, LONG], ids=["small", "long"])
def test_hostile_mail_goes_over_a_server(home: Path, mails: Mapping[str, bytes], record_property: Points) -> None:
    """Of a header longer than is held here, a server tells the same id: or all of it would be deleted and come back."""
    places = {"a": on_machine("maildir", "a"), "s": on_server("dovecot"), "b": on_machine("mbox", "b")}
    scenario.channels(home, places, ["as", "sb"])
    maildir(home / "a/box", *mails.values())

    for channel in ("as", "sb"):
        ran = run_within_bounds(home, channel)
        assert (0, "") == (ran.code, ran.err), ran.err[-2000:]
        at_rest(home, channel)

    [there] = (box for name, box in digests(home, "b/*").items() if name == "b/box")
    assert len(mails) == len(there) == len(digests(home, "a/*")["a/box"])
    at_rest(home, "as")
    record_property("points", len(mails))


@pytest.mark.parametrize("format", ["maildir", "maildir++", "mbox", "mh"])
def test_no_name_of_a_server_leads_out_of_a_local_store(home: Path, format: str) -> None:
    places = {"s": on_server("dovecot"), "b": on_machine(format, "b")}
    stores = scenario.channels(home, places, ["sb"])
    odd = [
        "x.lock",
        "a.b..c",
        " blank ",
        "=2E",
        "~root",
        "#mh",
        "caf\u00e9",
        "cafe\u0301",
        "x" * 200,
        "..",
        "a/../b",
        "cur",
    ]
    with stores.opened("s") as store:
        for name in odd:
            with suppress(BoxError):  # what it lets nobody make
                store.driver.create(Mailbox(name))
        assert 7 < len(scenario.boxnames(store))
    before = set(home.parent.rglob("*"))

    ran = run("sb")

    assert ran.code in (0, 1)
    ours = (home / "b", home / ".cache", home / ".local")
    made = set(home.parent.rglob("*")) - before - {home / ".msinfo-sb"}
    assert all(any(path == one or path.is_relative_to(one) for one in ours) for path in made), made
    forget_cache(home)
    left = run("-s", "--json", "sb").steps
    assert {step["box"] for step in left} <= {"x.lock"}  # what cannot be there is told in each run
