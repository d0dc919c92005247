"""What each program is told: text of configurations for one far and one near store. Knows no files.

The peers have their best settings for a server near by: no TLS, and no compression, which costs more than it saves.
"""

from __future__ import annotations

from pathlib import Path

from .server import PASSWORD, Account

CHANNEL = "ab"


def mailsync(a: Path | Account, b: str, format: str, *, fsync: bool) -> str:
    local = f"format {format} fsync {'yes' if fsync else 'no'}"
    return _stores(a, b, local) + f"channel {CHANNEL} a b {{ msinfo .msinfo max_delete 1000000 }}\n"


def original(a: Path | Account, b: str) -> str:
    """For 5.2.7, which knows none of the new words, and does without `ref` only for names of this machine."""
    ref = f" ref {_server(a)}" if isinstance(a, Account) else ""
    return _stores(a, b, "", ref) + f"channel {CHANNEL} a b {{ msinfo .msinfo }}\n"


def mbsync(a: Path | Account, b: Path, *, fsync: bool) -> str:
    if isinstance(a, Account):
        far = f"""IMAPAccount server
Host 127.0.0.1
Port {a.port}
User {a.user}
Pass {PASSWORD}
SSLType None
AuthMechs LOGIN
Timeout 300
DisableExtension COMPRESS=DEFLATE

IMAPStore far
Account server
"""
    else:
        far = _maildir_store("far", a)
    return f"""FSync {"yes" if fsync else "no"}

{far}
{_maildir_store("near", b)}
Channel {CHANNEL}
Far :far:
Near :near:
Patterns box*
Create Both
Expunge Both
Sync All
SyncState *
CopyArrivalDate yes
"""


def offlineimap(a: Account, b: Path, *, fsync: bool) -> str:
    return f"""[general]
metadata = {b}.offlineimap
accounts = {CHANNEL}
maxsyncaccounts = 1
ui = quiet
fsync = {fsync}
socktimeout = 300

[Account {CHANNEL}]
localrepository = near
remoterepository = far

[Repository near]
type = Maildir
localfolders = {b}
sep = /

[Repository far]
type = IMAP
remotehost = 127.0.0.1
remoteport = {a.port}
remoteuser = {a.user}
remotepass = {PASSWORD}
ssl = no
starttls = no
auth_mechanisms = LOGIN
maxconnections = 3
folderfilter = lambda name: name.startswith('box')
"""


def _stores(a: Path | Account, b: str, local: str, ref: str = "") -> str:
    far = (
        f"server {_server(a)}{ref} passwd {PASSWORD} pat box%"
        if isinstance(a, Account)
        else f"pat {a}/% prefix {a}/ {local}"
    )
    return f"store a {{ {far} }}\nstore b {{ pat {b}/% prefix {b}/ {local} }}\n"


def _server(account: Account) -> str:
    return f"{{127.0.0.1:{account.port}/user={account.user}/notls}}"


def _maildir_store(name: str, path: Path) -> str:
    return f"MaildirStore {name}\nPath {path}/\nInbox {path}.inbox\nSubFolders Verbatim\n"
