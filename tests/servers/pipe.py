"""Standard input and output, joined to a port of 127.0.0.1: `python pipe.py PORT`, as `nc` does it."""

from __future__ import annotations

import os
import socket
import sys
import threading


def send(sock: socket.socket) -> None:
    while data := os.read(0, 65536):
        sock.sendall(data)
    sock.shutdown(socket.SHUT_WR)


if __name__ == "__main__":
    with socket.create_connection(("127.0.0.1", int(sys.argv[1]))) as sock:
        threading.Thread(target=send, args=(sock,), daemon=True).start()
        while data := sock.recv(65536):
            while data:
                data = data[os.write(1, data) :]
