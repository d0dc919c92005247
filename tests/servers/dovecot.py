"""Dovecot: many faces of one server, by configuration. Takes any user name, with one password."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .processes import Daemon
from .running import PASSWORD, Login, Server

UID = 5000  # Dovecot touches no mail as root
_KEY = b"0123456789abcdef0123456789abcdef"
_SPECIAL = ("Drafts", "Trash", "Sent", "Junk", "Archive")


@dataclass(frozen=True, slots=True)
class Face:
    """What one configuration has that others have not."""

    location: str = "maildir:~/Maildir:LAYOUT=fs"
    mail: str | None = "Maildir"  # where that is, below a home
    prefix: str = ""
    delimiter: str = "/"
    capability: str = ""  # what is advertised instead of everything; it is obeyed all the same
    quota: str = ""
    oauth: bool = False
    tls_only: bool = False


FACES: Mapping[str, Face] = {
    "dovecot": Face(),
    "dovecot-dot": Face("maildir:~/Maildir", prefix="INBOX.", delimiter="."),
    "dovecot-mbox": Face("mbox:~/mail:INBOX=~/inbox", "mail"),
    "dovecot-sdbox": Face("sdbox:~/sdbox", None),
    "dovecot-bare": Face(capability="IMAP4rev1"),
    "dovecot-quota": Face(quota="100k"),
    "dovecot-oauth": Face(oauth=True),
    "dovecot-tls-only": Face(tls_only=True),
}


def token(login: Login, lifetime: float = 3600, key: bytes = _KEY) -> str:
    """An access token for `dovecot-oauth`, valid for so many seconds; below 0: expired. Another key: forged."""
    now = int(time.time())
    claims = {"sub": login.user, "iat": now - 9000, "nbf": now - 9000, "exp": int(now + lifetime)}
    text = b".".join(_base64(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, claims))
    return (text + b"." + _base64(hmac.new(key, text, hashlib.sha256).digest())).decode()


class Dovecot(Server):
    family = "dovecot"

    def __init__(self, name: str, directory: Path) -> None:
        self._face = FACES[name]
        self.prefix, self.delimiter = self._face.prefix, self._face.delimiter
        if self._face.tls_only:
            # A client whose address is the server's own counts as secure, and 127.0.0.1 is what a client gets.
            self.host = "127.0.0.2"
        super().__init__(name, directory)

    def new_login(self) -> Login:
        login = Login(next(self._users), PASSWORD)
        home = self.directory_of(login)
        home.mkdir()
        os.chown(home, UID, UID)
        return login

    def maildir(self, login: Login) -> Path | None:
        return self.directory_of(login) / self._face.mail if self._face.mail else None

    def _started(self) -> Daemon:
        (self.directory / "home").mkdir(exist_ok=True)
        if self._face.oauth:
            keys = self.directory / "keys" / "default" / "HS256"
            keys.mkdir(parents=True)
            (keys / "default").write_bytes(base64.b64encode(_KEY))
            (self.directory / "oauth2.conf").write_text(
                "introspection_mode = local\nusername_attribute = sub\n"
                f"local_validation_key_dict = fs:posix:prefix={self.directory}/keys/\n"
            )
        configuration = self.directory / "dovecot.conf"
        configuration.write_text(self._configuration())
        return Daemon(["/usr/sbin/dovecot", "-F", "-c", configuration], self.directory / "log")

    def _configuration(self) -> str:
        face, here = self._face, self.directory
        plugins = ["imap_zlib", *(["quota", "imap_quota"] if face.quota else [])]
        oauth = f"""
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {here}/oauth2.conf
}}
"""
        quota = f"""
plugin {{
  quota = count:User quota
  quota_vsizes = yes
  quota_grace = 0%%
  quota_rule = *:storage={face.quota}
}}
"""
        special = "\n".join(f"  mailbox {name} {{\n    special_use = \\{name}\n  }}" for name in _SPECIAL)
        return f"""
base_dir = {here}/run
state_dir = {here}/state
instance_name = {self.name}
log_path = {here}/dovecot.log
protocols = imap
listen = 127.0.0.1, 127.0.0.2
ssl = {"required" if face.tls_only else "yes"}
ssl_cert = <{self.certificate}
ssl_key = <{self.key}
disable_plaintext_auth = {"yes" if face.tls_only else "no"}
auth_mechanisms = plain login{" xoauth2 oauthbearer" if face.oauth else ""}
auth_failure_delay = 0
mail_max_userip_connections = 1000
first_valid_uid = 1
mail_uid = {UID}
mail_gid = {UID}
mail_location = {face.location}
mail_fsync = never
{f"imap_capability = {face.capability}" if face.capability else ""}
{oauth if face.oauth else ""}
passdb {{
  driver = static
  args = password={PASSWORD}
}}
userdb {{
  driver = static
  args = uid={UID} gid={UID} home={here}/home/%n
}}
namespace inbox {{
  inbox = yes
  separator = {face.delimiter}
  prefix = {face.prefix}
{special}
}}
service imap-login {{
  service_count = 0
  process_min_avail = 1
  inet_listener imap {{
    port = {self.port}
  }}
  inet_listener imaps {{
    port = {self.tls_port}
    ssl = yes
  }}
}}
service imap {{
  service_count = 100
}}
service auth {{
  client_limit = 2000
}}
service anvil {{
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  unix_listener stats-writer {{
    mode = 0666
  }}
}}
mail_plugins = {"quota" if face.quota else ""}
protocol imap {{
  mail_plugins = {" ".join(plugins)}
}}
{quota if face.quota else ""}
"""


def _base64(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
