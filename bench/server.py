"""An IMAP server of our own: the Dovecot of this machine, on loopback, without TLS. Each account is a Maildir."""

from __future__ import annotations

import grp
import os
import pwd
import shutil
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from itertools import count
from pathlib import Path

from .bare import Bare
from .daemons import Daemon, free_port
from .measure import Unmeasured, python

PASSWORD = "pass"
ROUND_TRIP = 50  # milliseconds, of the slow line
_UID = 5000  # Dovecot touches no mail as root
# What a synchronizer may ask for before it fetches: now it is in the server's own cache.
_KNOWN = "(FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[HEADER.FIELDS (MESSAGE-ID)] ENVELOPE)"


@dataclass(frozen=True, slots=True)
class Account:
    """A login, where its mail lies, and the port to reach it: of the slow line, or `direct`, of the server."""

    port: int
    direct: int
    user: str
    root: Path


class Server:
    """Runs from its first use until it is closed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._users = count(1)
        self._running: list[Daemon] = []

    def account(self, *, slow: bool = False, mail: Path | None = None, boxes: Iterable[str] = ()) -> Account:
        """A new one; with the mailboxes of a directory of Maildirs, linked, not copied. Unmeasured without Dovecot."""
        port = self._slow_port if slow else self._port
        user = f"u{next(self._users)}"
        root = self._path / "home" / user / "Maildir"
        root.parent.mkdir()
        if mail:  # before the server sees any of it: what it writes must not be linked
            subprocess.run(["cp", "-al", mail, root], check=True)
        else:
            root.mkdir()
        if os.getuid() == 0:
            subprocess.run(["chown", "-R", f"{_UID}:{_UID}", root.parent], check=True)
        with Bare(self._port, user, PASSWORD) as session:
            for box in boxes:
                if session.select(box):
                    session.drain(f"FETCH 1:* {_KNOWN}")
        return Account(port, self._port, user, root)

    def close(self) -> None:
        for daemon in self._running:
            daemon.stop()

    @cached_property
    def _port(self) -> int:
        program = shutil.which("dovecot", path=f"{os.defpath}:/usr/sbin:/usr/local/sbin")
        if not program:
            raise Unmeasured("Dovecot is not installed")
        (self._path / "home").mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            self._path.parent.chmod(0o711)  # the server comes here as another user
            os.chown(self._path / "home", _UID, _UID)
        port = free_port()
        configuration = self._path / "dovecot.conf"
        configuration.write_text(_configuration(self._path, port))
        return self._started(Daemon([program, "-F", "-c", str(configuration)], port, self._path / "dovecot"))

    @cached_property
    def _slow_port(self) -> int:
        words = [str(listen := free_port()), str(self._port), str(ROUND_TRIP / 2)]
        command = python("-m", "bench.delay", *words, directory=self._path)
        return self._started(Daemon(command.words, listen, self._path / "slow line"))

    def _started(self, daemon: Daemon) -> int:
        self._running.append(daemon)
        daemon.await_greeting()
        return daemon.port


def _configuration(here: Path, port: int) -> str:
    root = os.getuid() == 0
    uid, gid = (_UID, _UID) if root else (os.getuid(), os.getgid())
    # Without root all of it runs as one user, and nothing can be locked in.
    user, group = pwd.getpwuid(os.getuid()).pw_name, grp.getgrgid(os.getgid()).gr_name
    users = f"default_internal_user = {user}\ndefault_login_user = {user}\ndefault_internal_group = {group}"
    chroot = "" if root else "  chroot =\n"
    return f"""
base_dir = {here}/run
state_dir = {here}/state
instance_name = bench{port}
log_path = {here}/dovecot.log
protocols = imap
listen = 127.0.0.1
ssl = no
disable_plaintext_auth = no
auth_mechanisms = plain login
mail_max_userip_connections = 1000
first_valid_uid = 1
first_valid_gid = 1
mail_uid = {uid}
mail_gid = {gid}
mail_location = maildir:~/Maildir:LAYOUT=fs
{"" if root else users}
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={uid} gid={gid} home={here}/home/%n
}}
namespace inbox {{
  inbox = yes
  separator = /
}}
service imap-login {{
{chroot}  service_count = 0
  process_min_avail = 1
  inet_listener imap {{
    port = {port}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service imap {{
  service_count = 100
}}
service anvil {{
{chroot}  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
{chroot}  unix_listener stats-writer {{
    mode = 0666
  }}
}}
protocol imap {{
  mail_plugins = imap_zlib
}}
"""
