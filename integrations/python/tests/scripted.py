"""A server whose connections do what a test says: for what a real service does rarely or never."""

from __future__ import annotations

import contextlib
import shutil
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

Connection = Callable[[socket.socket, list[bytes]], None]
MISS = b'{"outcome":"miss","ticket":"t"}'


def ok(body: bytes, *headers: bytes) -> bytes:
    lines = [b"HTTP/1.1 200 OK", b"Content-Type: application/json", *headers]
    if not any(header.lower().startswith((b"transfer-encoding", b"connection")) for header in headers):
        lines.append(b"Content-Length: %d" % len(body))
    return b"\r\n".join([*lines, b"", body])


def read_request(connection: socket.socket) -> bytes:
    """The head of a request, and its body; empty if the client has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = connection.recv(65_536)
        if not more:
            return b""
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    length = 0
    for line in head.split(b"\r\n"):
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    while len(body) < length:
        body += connection.recv(65_536)
    return data


def answers(*each: bytes) -> Connection:
    """One answer for each request on a connection, and then it is closed."""

    def serve(connection: socket.socket, requests: list[bytes]) -> None:
        for one in each:
            request = read_request(connection)
            if not request:
                return
            requests.append(request)
            connection.sendall(one)

    return serve


def hangs(connection: socket.socket, requests: list[bytes]) -> None:
    """Answers nothing until the client goes."""
    requests.append(read_request(connection))
    with contextlib.suppress(ConnectionError):
        connection.recv(1)


class Scripted:
    def __init__(self, path: str, connections: list[Connection]) -> None:
        self.path, self.requests = path, list[bytes]()
        self.closed = threading.Semaphore(0)
        self._connections = connections
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(16)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        for script in self._connections:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                script(connection, self.requests)
            self.closed.release()

    def stop(self) -> None:
        # Wakes the thread that accepts.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(20)


@contextlib.contextmanager
def scripted(*connections: Connection) -> Iterator[Scripted]:
    directory = Path(tempfile.mkdtemp(prefix="cimd-cache-python-"))
    server = Scripted(str(directory / "cache.sock"), list(connections))
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(directory)
