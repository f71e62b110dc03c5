"""The origin of all documents: an HTTPS proxy that answers for every host itself, and counts fetches."""

from __future__ import annotations

import json
import ssl
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import trustme

HOST = "client.example"


@dataclass
class Fetch:
    """A fetch that is held: it has reached the origin, and is answered when it is let go."""

    arrived: threading.Event = field(default_factory=threading.Event)
    go: threading.Event = field(default_factory=threading.Event)


class Origin:
    def __init__(self, directory: Path) -> None:
        authority = trustme.CA()
        self.authority = directory / "authority.pem"
        authority.cert_pem.write_to_path(str(self.authority))
        self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(HOST).configure_cert(self.tls)
        self.fetches: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._answers: dict[str, tuple[bytes, dict[str, str]]] = {}
        self._held: dict[str, Fetch] = {}
        handler = type("Handler", (_Handler,), {"origin": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def serve(self, url: str, document: dict[str, Any] | bytes, **headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        with self._lock:
            self._answers[url] = (body, {name.replace("_", "-"): value for name, value in headers.items()})

    @contextmanager
    def hold(self, url: str) -> Iterator[Fetch]:
        """Holds the next fetch of a URL, with the document that is served now."""
        held = Fetch()
        with self._lock:
            self._held[url] = held
        try:
            yield held
        finally:
            held.go.set()

    def answer(self, url: str) -> tuple[bytes, dict[str, str]] | None:
        with self._lock:
            self.fetches[url] += 1
            answer = self._answers.get(url)
            held = self._held.pop(url, None)
        if held is not None:
            held.arrived.set()
            held.go.wait()
        return answer

    @contextmanager
    def running(self) -> Iterator[Origin]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    origin: Origin
    _inner: ssl.SSLSocket | None = None

    def do_CONNECT(self) -> None:
        self.send_response_only(200)
        self.end_headers()
        # What follows on this connection is for the host that was named.
        self._inner = self.origin.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self._inner.makefile("rb"), self._inner.makefile("wb", buffering=0)
        self.close_connection = False

    def do_GET(self) -> None:
        answer = self.origin.answer(f"https://{self.headers['Host']}{self.path}")
        body, headers = answer or (b"", {})
        self.send_response_only(404 if answer is None else 200)
        for name, value in {**headers, "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = True

    def finish(self) -> None:
        super().finish()
        if self._inner is not None:
            self._inner.close()
