"""Where a user's files of each kind lie: configuration, state, cache. Imports next to nothing."""

from __future__ import annotations

import os
import sys


def directory(kind: str) -> str:
    """As the XDG Base Directory Specification has it; on systems with rules of their own, as platformdirs has it.

    `kind`: "cache", "config" or "state".
    """
    if sys.platform in ("darwin", "win32"):
        import platformdirs

        match kind:
            case "cache":
                return platformdirs.user_cache_dir("mailsync")
            case "config":
                return platformdirs.user_config_dir("mailsync")
        return platformdirs.user_state_dir("mailsync")
    # Said again here, because a run that finds nothing to do would spend a tenth of its time on that import.
    home = os.environ.get(f"XDG_{kind.upper()}_HOME", "").strip()
    usual = {"cache": "~/.cache", "config": "~/.config", "state": "~/.local/state"}
    return os.path.join(home or os.path.expanduser(usual[kind]), "mailsync")
