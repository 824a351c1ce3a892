"""A company's proxy: the only way out of some hosts."""

from __future__ import annotations

import contextlib
import socket
import threading


class CorporateProxy:
    """Answers CONNECT as it is told. Keeps the heads that it was sent.

    :param answer: what it says to each; after it, octets go both ways.
    :param forward: to the port of 127.0.0.1 that was asked for, whatever the host is called; else
        they are echoed.
    """

    def __init__(self, answer: bytes, *, forward: bool = False) -> None:
        self.answer = answer
        self.heads: list[bytes] = []
        self._forward = forward
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._server.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head:
                piece = connection.recv(1)
                if not piece:
                    return
                head += piece
            self.heads.append(head)
            connection.sendall(self.answer)
            if not self._forward:
                _copy(connection, connection)
                return
            port = int(head.split()[1].rpartition(b":")[2])
            with socket.create_connection(("127.0.0.1", port)) as server:
                back = threading.Thread(target=_copy, args=(server, connection), daemon=True)
                back.start()
                _copy(connection, server)
                back.join()

    def close(self) -> None:
        """Accept no more."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._server.close()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        if target is not source:
            target.shutdown(socket.SHUT_WR)
