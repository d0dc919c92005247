"""Courier: Maildir++ below `INBOX.`, few extensions, errors as NO."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

from .packages import tree
from .processes import Daemon, in_namespace
from .running import PASSWORD, Login, Server

# Whom mail belongs to: libgamin stalls each login for 1.2 s if the uid has no name.
OWNER = "mail"
USERS = 1000  # its database takes a fifth of a second to make: once, for more than any run needs
_CAPABILITY = "IMAP4rev1 UIDPLUS CHILDREN NAMESPACE THREAD=ORDEREDSUBJECT THREAD=REFERENCES SORT QUOTA IDLE"


class Courier(Server):
    family = "courier"
    prefix = "INBOX."
    delimiter = "."

    def new_login(self) -> Login:
        login = Login(next(self._users), PASSWORD)
        home = self.directory_of(login)
        for path in (home, *(home / "Maildir" / name for name in ("", "cur", "new", "tmp"))):
            path.mkdir()
        owner = pwd.getpwnam(OWNER)
        os.chown(home, owner.pw_uid, owner.pw_gid)
        self.give(login, home)
        return login

    def maildir(self, login: Login) -> Path:
        return self.directory_of(login) / "Maildir"

    def _started(self) -> Daemon:
        owner, here, root = pwd.getpwnam(OWNER), self.directory, tree("courier")
        for name in ("home", "etc", "etc/shared", "run", "run/authdaemon"):
            (here / name).mkdir()
        pem = here / "etc" / "imapd.pem"
        pem.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())
        hashed = subprocess.run(
            ["openssl", "passwd", "-1", PASSWORD], check=True, capture_output=True, text=True
        ).stdout
        (here / "etc" / "userdb").write_text(
            "".join(
                f"u{number}\tuid={owner.pw_uid}|gid={owner.pw_gid}|home={here}/home/u{number}|imappw={hashed.strip()}\n"
                for number in range(1, USERS + 1)
            )
        )
        (here / "etc" / "userdb").chmod(0o600)
        (here / "etc" / "authdaemonrc").write_text(
            'authmodulelist="authuserdb"\nauthmodulelistorig="authuserdb"\ndaemons=3\n'
            'authdaemonvar=/run/courier/authdaemon\nDEBUG_LOGIN=0\nDEFAULTOPTIONS=""\nLOGGEROPTS=""\n'
        )
        listen = (
            f"{root}/usr/sbin/couriertcpd -address=127.0.0.1 -maxprocs=200 -maxperip=200 -nodnslookup -noidentlookup"
        )
        login = f"{root}/usr/lib/courier/courier/imaplogin {root}/usr/bin/imapd Maildir"
        # For STARTTLS it becomes a user whom only its package would add.
        known = Path("/etc/passwd").read_text()
        (here / "passwd").write_text(f"{known}courier:x:{owner.pw_uid}:{owner.pw_gid}::/:/bin/false\n")
        script = here / "start"
        # Its paths are compiled in: each is one of ours in this namespace, on a mount point that stays behind empty.
        script.write_text(f"""\
set -e
mkdir -p /etc/courier /run/courier /usr/lib/courier /usr/lib/courier-authlib
mount --bind {here}/passwd /etc/passwd
mount --bind {here}/etc /etc/courier
mount --bind {here}/run /run/courier
mount --bind {root}/usr/lib/courier /usr/lib/courier
mount --bind {root}/usr/lib/courier-authlib /usr/lib/courier-authlib
perl {root}/usr/sbin/makeuserdb
/usr/lib/courier/courier-authlib/authdaemond &
while [ ! -S /run/courier/authdaemon/socket ]; do sleep 0.02; done
IMAP_STARTTLS=YES {listen} {self.port} {login} &
IMAP_TLS=1 {listen} {self.tls_port} {root}/usr/bin/couriertls -server -tcpd {login} &
wait
""")
        return Daemon(in_namespace(script), here / "log", self._environment())

    def _environment(self) -> dict[str, str]:
        root = tree("courier")
        return {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "LD_LIBRARY_PATH": f"{root}/usr/lib",
            "prefix": "/usr",
            "exec_prefix": "/usr",
            "IMAP_CAPABILITY": _CAPABILITY,
            "IMAP_CAPABILITY_ORIG": _CAPABILITY,
            "IMAP_CAPABILITY_TLS": f"{_CAPABILITY} AUTH=PLAIN",
            "IMAP_CAPABILITY_TLS_ORIG": f"{_CAPABILITY} AUTH=PLAIN",
            "IMAP_KEYWORDS": "1",
            "IMAP_ACL": "1",
            "IMAP_PROXY": "0",
            "IMAP_PROXY_FOREIGN": "0",
            "IMAP_IDLE_TIMEOUT": "1",
            "IMAP_ENHANCEDIDLE": "0",
            "IMAP_MAILBOX_SANITY_CHECK": "1",
            "IMAP_DISABLETHREADSORT": "0",
            "IMAP_CHECK_ALL_FOLDERS": "0",
            "IMAP_OBSOLETE_CLIENT": "0",
            "IMAP_UMASK": "022",
            "IMAP_USELOCKS": "0",
            "IMAP_SHAREDINDEXFILE": "/etc/courier/shared/index",
            "IMAP_TRASHFOLDERNAME": "Trash",
            "IMAP_EMPTYTRASH": "",
            "IMAP_MOVE_EXPUNGE_TO_TRASH": "0",
            "SENDMAIL": "/bin/false",
            "HEADERFROM": "X-IMAP-Sender",
            "MAILDIRPATH": "Maildir",
            "IMAP_TLS_REQUIRED": "0",
            "COURIERTLS": f"{root}/usr/bin/couriertls",
            "TLS_CERTFILE": "/etc/courier/imapd.pem",
            "TLS_VERIFYPEER": "NONE",
            "TLS_CACHEFILE": "",
            "TLS_CACHESIZE": "0",
            "TLS_STARTTLS_PROTOCOL": "",
        }
