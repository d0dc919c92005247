"""Cyrus, in the namespace it is born with and in the one that Debian gives it."""

from __future__ import annotations

import imaplib
import os
import pwd
import subprocess
from pathlib import Path

from .packages import tree
from .processes import Daemon, in_namespace
from .running import PASSWORD, Login, Server

OWNER = "mail"  # whom it runs as: any user that every Debian has
ADMIN = "admin"
NAMES = ("cyrus", "cyrus-alt")


class Cyrus(Server):
    family = "cyrus"

    def __init__(self, name: str, directory: Path) -> None:
        self._alternative = name == "cyrus-alt"
        self.prefix, self.delimiter = ("", "/") if self._alternative else ("INBOX.", ".")
        super().__init__(name, directory)

    def new_login(self) -> Login:
        login = Login(next(self._users), PASSWORD)
        self._add(login.user)
        with imaplib.IMAP4(self.host, self.port) as admin:
            admin.login(ADMIN, PASSWORD)
            answer = admin.create(f"user{self.delimiter}{login.user}")
            assert answer[0] == "OK", answer
        return login

    def _started(self) -> Daemon:
        owner = pwd.getpwnam(OWNER)
        for name in ("", "conf", "conf/db", "conf/socket", "conf/proc", "conf/lock", "conf/log", "spool", "run"):
            (self.directory / name).mkdir(exist_ok=True)
            os.chown(self.directory / name, owner.pw_uid, owner.pw_gid)
        os.chown(self.key, owner.pw_uid, owner.pw_gid)
        self._add(ADMIN)
        os.chown(self.directory / "conf" / "sasldb2", owner.pw_uid, owner.pw_gid)
        programs = tree("cyrus") / "usr/lib/cyrus/bin"
        settings, services = self.directory / "imapd.conf", self.directory / "cyrus.conf"
        settings.write_text(self._settings())
        services.write_text(f"""\
START {{
}}
SERVICES {{
  imap cmd="{programs}/imapd -C {settings} -U 100" listen="127.0.0.1:{self.port}" prefork=1 maxchild=200
  imaps cmd="{programs}/imapd -C {settings} -s -U 100" listen="127.0.0.1:{self.tls_port}" prefork=0 maxchild=200
}}
EVENTS {{
}}
DAEMON {{
  idled cmd="{programs}/idled -C {settings} -d"
}}
""")
        script = self.directory / "start"
        script.write_text(
            f"{programs}/master -D -C {settings} -M {services} -p {self.directory}/run/master.pid\nexit $?\n"
        )
        libraries = f"{tree('cyrus')}/usr/lib/x86_64-linux-gnu:{tree('cyrus')}/usr/lib"
        environment = {"PATH": os.environ["PATH"], "LD_LIBRARY_PATH": libraries, "CYRUS_VERBOSE": "0"}
        return Daemon(in_namespace(script), self.directory / "log", environment)

    def _add(self, user: str) -> None:
        database = self.directory / "conf" / "sasldb2"
        command = ["/usr/sbin/saslpasswd2", "-p", "-c", "-f", str(database), "-u", "localhost", user]
        subprocess.run(command, input=PASSWORD.encode(), check=True)

    def _settings(self) -> str:
        here, alternative = self.directory, "yes" if self._alternative else "no"
        return f"""\
configdirectory: {here}/conf
defaultpartition: default
partition-default: {here}/spool
proc_path: {here}/conf/proc
mboxname_lockpath: {here}/conf/lock
idlesocket: {here}/conf/socket/idle
lmtpsocket: {here}/conf/socket/lmtp
notifysocket: {here}/conf/socket/notify
servername: localhost
cyrus_user: {OWNER}
admins: {ADMIN}
virtdomains: off
unixhierarchysep: {alternative}
altnamespace: {alternative}
allowplaintext: yes
sasl_pwcheck_method: auxprop
sasl_auxprop_plugin: sasldb
sasl_sasldb_path: {here}/conf/sasldb2
sasl_mech_list: PLAIN
tls_server_cert: {self.certificate}
tls_server_key: {self.key}
tls_client_ca_dir: /etc/ssl/certs
tls_session_timeout: 0
autocreate_quota: -1
duplicatesuppression: no
conversations: no
sync_log: no
failedloginpause: 0
plaintextloginpause: 0
maxlogins_per_user: 0
specialusealways: yes
"""
