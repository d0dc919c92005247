"""Make many mailboxes in few round trips. What is refused here is tried again by itself, which tells why."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

from ...errors import BoxError
from ...model import Mailbox
from . import mailboxes
from .account import Tell
from .naming import Naming
from .reach import Reach
from .wire import Connection

AT_ONCE = 32  # mailboxes


def together(reach: Reach, naming: Naming, wanted: Sequence[Mailbox], tell: Tell) -> list[Mailbox]:
    """Create and subscribe these. Returns those that were created: the server says so, and lists them."""
    made = []
    for some in (wanted[at : at + AT_ONCE] for at in range(0, len(wanted), AT_ONCE)):
        made += reach.healed(partial(_created, naming, some))
    reach.healed(partial(_subscribe, naming, made, tell))
    return made


def _created(naming: Naming, wanted: Sequence[Mailbox], conn: Connection) -> list[Mailbox]:
    sent = []
    for mailbox in wanted:
        with suppress(BoxError):  # a name that cannot be said
            created, *lists = conn.send(b"CREATE " + naming.codec.quoted(mailbox), *naming.asking(conn, [mailbox]))
            sent.append((mailbox, created, lists))
    answers = [(mailbox, conn.result(created), naming.found(conn, lists)) for mailbox, created, lists in sent]
    return [mailbox for mailbox, end, found in answers if end.ok and mailboxes.has(found, mailbox)]


def _subscribe(naming: Naming, made: Sequence[Mailbox], tell: Tell, conn: Connection) -> None:
    tags = conn.send(*(b"SUBSCRIBE " + naming.codec.quoted(mailbox) for mailbox in made)) if made else []
    for mailbox, tag in zip(made, tags, strict=True):
        end = conn.result(tag)
        if not end.ok:
            tell.odd(f"{mailbox}: cannot be subscribed: {end}")
