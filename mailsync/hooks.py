"""What a channel runs around its synchronization: `pre_sync`, `on_change` and `post_sync`.

Knows how they are told what happened; not what happened, nor who tells the user of a hook that failed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

from .errors import MailsyncError
from .model import Failure

PATIENCE = 3600.0  # seconds for each: an index may be made anew, but a hook that hangs must not keep the channel locked

Changes = Sequence[Mapping[str, object]]  # as the events of --json are


@dataclass(frozen=True, slots=True)
class Hooks:
    """The commands of one channel, each empty if there is none. `patience`: seconds that each of them gets."""

    channel: str
    stores: tuple[str, str]
    pre_sync: str = ""
    post_sync: str = ""
    on_change: str = ""
    patience: float = PATIENCE

    def before(self) -> None:
        """MailsyncError if pre_sync fails: then nothing must be synchronized."""
        if self.pre_sync:
            failure = self._run("pre_sync", self.pre_sync, None, {})
            if failure:
                raise MailsyncError(str(failure), f"Nothing was synchronized. {failure.hint}")

    def after(self, code: int, changes: Changes, numbers: Mapping[str, int]) -> list[Failure]:
        """Run on_change, if anything changed, then post_sync. Where one fails, the run's exit code is 1 if it was 0.

        `code`: exit code of the run so far. `numbers`: by the lower-case name under which a hook finds them.
        """
        failures: list[Failure] = []
        for hook, command in (("on_change", self.on_change if changes else ""), ("post_sync", self.post_sync)):
            if command:
                known = {**numbers, "exit": code or (1 if failures else 0)}
                failure = self._run(hook, command, changes, known)
                failures += [failure] if failure else []
        return failures

    def _run(self, hook: str, command: str, changes: Changes | None, numbers: Mapping[str, int]) -> Failure | None:
        from . import external  # few runs need it

        environ = {
            **os.environ,
            "MAILSYNC_HOOK": hook,
            "MAILSYNC_CHANNEL": self.channel,
            "MAILSYNC_STORE_A": self.stores[0],
            "MAILSYNC_STORE_B": self.stores[1],
            **{f"MAILSYNC_{name.upper()}": str(number) for name, number in numbers.items()},
        }
        try:
            with _stdin(changes) as stdin:
                ended = external.run_apart(command, stdin, environ, self.patience)
        except OSError as error:
            ended = external.Ended(external.why_not_run(error))
        if not ended.failed:
            return None
        return Failure(
            f"{hook} of channel {self.channel}",
            f"{ended.failed}: {ended.last}" if ended.last else ended.failed,
            "Run it by hand: its exit code must be 0.",
        )


@contextmanager
def _stdin(changes: Changes | None) -> Iterator[IO[bytes]]:
    """A file, not a pipe: a hook may read it or not, and when it likes. None: nothing to read."""
    if changes is None:
        with open(os.devnull, "rb") as nothing:
            yield nothing
        return
    import json
    import tempfile

    with tempfile.TemporaryFile() as file:
        file.write(b"[")
        file.write(b",\n".join(json.dumps(change).encode() for change in changes))
        file.write(b"]\n")
        file.flush()
        file.seek(0)
        yield file
