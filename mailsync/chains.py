"""Which channels must run one after the other: those that use the same mail. Knows neither server nor file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, product

Login = tuple[str, str | None]  # which server, and who; None: not known yet, so it may be anybody


@dataclass(frozen=True, slots=True)
class Uses:
    """What the run of a channel works with."""

    logins: frozenset[Login] = frozenset()
    places: frozenset[str] = frozenset()  # paths without links, below which its local mail lies
    msinfo: str = ""  # mailboxes of that name are one mailbox

    @property
    def is_local(self) -> bool:
        return not self.logins

    def meets(self, other: Uses) -> bool:
        """True if both may come to the same mail. To have msinfo in the same mailbox does not count."""
        return any(_same(one, two) for one, two in product(self.logins, other.logins)) or any(
            _within(one, two) or _within(two, one) for one, two in product(self.places, other.places)
        )


def chains(uses: Sequence[Uses]) -> list[list[int]]:
    """The channels, by number, in chains that may run side by side; those that need no server are one chain.

    To look at local mail takes computing, and in one process two threads do not compute faster than one.
    """
    found: list[list[int]] = []
    for number, one in enumerate(uses):
        met = [links for links in found if any(one.meets(uses[link]) for link in links)]
        found = [links for links in found if links not in met] + [[*chain.from_iterable(met), number]]
    local = [links for links in found if all(uses[link].is_local for link in links)]
    away = [links for links in found if links not in local]
    together = [list(chain.from_iterable(local))] if local else []
    return sorted(map(sorted, away + together))


def _same(one: Login, other: Login) -> bool:
    return one[0] == other[0] and (one[1] == other[1] or None in (one[1], other[1]))


def _within(path: str, above: str) -> bool:
    return f"{path}/".startswith(f"{above.rstrip('/')}/")
