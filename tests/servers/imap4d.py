"""GNU Mailutils imap4d: no UIDPLUS, no MOVE, no keywords; what a client must do without."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from .packages import tree
from .processes import Daemon, in_namespace
from .running import PASSWORD, Login, Server

UID = 5000  # whom mail belongs to; needs no name
NAMES = ("imap4d", "imap4d-maildir")
_DOMAIN = "test"


class Imap4d(Server):
    family = "imap4d"

    def __init__(self, name: str, directory: Path) -> None:
        self._kind = "maildir" if name == "imap4d-maildir" else "mbox"
        super().__init__(name, directory)

    def new_login(self) -> Login:
        user = next(self._users)
        login = Login(f"{user}@{_DOMAIN}", PASSWORD)
        home = self.directory_of(login)
        (home / "Mail").mkdir(parents=True)
        inbox = home / "INBOX"  # without it, a user who was never sent a message could not APPEND one either
        if self._kind == "mbox":
            inbox.touch()
        else:
            for name in ("cur", "new", "tmp"):
                (inbox / name).mkdir(parents=True)
        os.chown(home, UID, UID)
        self.give(login, home)
        with self._passwords.open("a") as file:
            file.write(f"{user}:{self._hashed}:{UID}:{UID}:{user}:{home}:/bin/false\n")
        return login

    def maildir(self, login: Login) -> Path:
        return self.directory_of(login) / "Mail"

    def directory_of(self, login: Login) -> Path:
        return self.directory / "home" / login.user.partition("@")[0]

    def _started(self) -> Daemon:
        here = self.directory
        for name in ("home", "domains"):
            (here / name).mkdir()
        command = ["openssl", "passwd", "-5", "-salt", "salt", PASSWORD]
        self._hashed = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        self._passwords = here / "domains" / _DOMAIN
        self._passwords.touch()
        configuration = here / "conf"
        configuration.write_text(f"""\
auth {{
  authentication clear;
  authentication "generic:virtdomain";
  authorization clear;
  authorization virtdomain;
}};
virtdomain {{ passwd-dir "{here}/domains"; }};
mailbox {{ mailbox-type {self._kind}; }};
logging {{ syslog no; }};
namespace personal {{
  prefix "" {{ directory "{here}/home/${{user}}/Mail"; delimiter "/"; mailbox-type {self._kind}; }};
}};
mode daemon;
foreground yes;
tls {{ ssl-certificate-file "{self.certificate}"; ssl-key-file "{self.key}"; }};
tcp-wrappers {{ enable no; }};
server 127.0.0.1:{self.port} {{ tls-mode ondemand; }};
server 127.0.0.1:{self.tls_port} {{ tls-mode connection; }};
""")
        script = here / "start"
        script.write_text(f"{tree('imap4d')}/usr/sbin/imap4d --config-file={configuration}\nexit $?\n")
        return Daemon(in_namespace(script), here / "log")
