"""TLS from the first byte in front of a port that speaks plainly: between the two, all can be read and broken."""

from __future__ import annotations

import select
import socket
import ssl
import threading
from contextlib import suppress
from pathlib import Path
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any, Self


class TlsFront(ThreadingTCPServer):
    """Listens on 127.0.0.1 while its `with` block runs. Where the plain side ends, so does TLS, with a close_notify."""

    def __init__(self, plain_port: int, certificate: Path, key: Path) -> None:
        super().__init__(("127.0.0.1", 0), BaseRequestHandler)
        self._plain_port = plain_port
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)

    @property
    def port(self) -> int:
        return int(self.socket.getsockname()[1])

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def finish_request(self, request: Any, client_address: object) -> None:
        with (
            suppress(OSError),
            socket.create_connection(("127.0.0.1", self._plain_port)) as plain,
            self._context.wrap_socket(request, server_side=True) as secure,
        ):
            _carry(secure, plain)


def _carry(secure: ssl.SSLSocket, plain: socket.socket) -> None:
    """Both ways, up to the end of either side; the other side gets all that came before."""
    while True:
        for source in select.select([secure, plain], [], [])[0]:
            data = source.recv(1 << 16)  # no record is longer: nothing is left within `secure`
            if data:
                (plain if source is secure else secure).sendall(data)
                continue
            if source is plain:
                secure.setblocking(False)
                with suppress(ssl.SSLWantReadError):
                    secure.unwrap()
                secure.setblocking(True)
            other = plain if source is secure else secure
            other.shutdown(socket.SHUT_WR)
            while other.recv(1 << 16):
                pass
            return
