"""What came true in a run, as the events of --json: for hooks, which get it as a list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from ..out import Out
from .jsonlines import JsonLines, Value

KINDS = frozenset({"copy", "move", "flags", "delete", "create", "rename", "remove"})


@dataclass
class Changes(JsonLines):
    """Keeps them; prints nothing."""

    out: Out = field(default_factory=lambda: Out(None))
    events: list[Mapping[str, Value]] = field(default_factory=list)

    def emit(self, event: Mapping[str, Value]) -> None:
        if event["event"] in KINDS and event.get("ok"):
            self.events.append(event)
