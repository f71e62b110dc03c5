"""Two nodes, what their cache needs, and the means to stop either."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Literal
from urllib.parse import urlencode

from origin import Origin
from private_postgres import PrivatePostgres, Service, command

Backing = Literal["service", "in-process"]
SERVER = Path(__file__).with_name("server.py")
# No answer in this time counts as none at all. A fetch by FastMCP is given up after 30 seconds.
SECONDS = 90


@dataclass(frozen=True)
class Login:
    """What the authorize endpoint answered."""

    status: int
    location: str
    body: str

    @property
    def is_accepted(self) -> bool:
        """FastMCP has accepted client and redirect URI, and asks the user for consent."""
        return self.status == 302 and "/consent?txn_id=" in self.location

    @property
    def is_refused(self) -> bool:
        return self.status == 400 and json.loads(self.body)["error"] == "invalid_request"


class Node:
    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        self._environment = environment
        self._home, self._log = directory, directory / "log"
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    def start(self) -> None:
        # It gets a socket that listens already: who asks too early waits in its queue.
        with socket.create_server(("127.0.0.1", 0)) as listener, self._log.open("ab") as log:
            self._port = listener.getsockname()[1]
            self._process = subprocess.Popen(
                [sys.executable, str(SERVER), str(listener.fileno())],
                env={**os.environ, **self._environment, "FASTMCP_HOME": str(self._home)},
                pass_fds=[listener.fileno()],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
            )

    def wait_until_it_answers(self) -> None:
        # Without a bound: importing FastMCP takes long on a busy machine, and if the process ends, so does its socket.
        self._request("GET", "/.well-known/oauth-authorization-server", None)

    def stop(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait()
            self._process = None

    def login(self, client_id: str, redirect_uri: str) -> Login:
        query = urlencode(
            {
                "client_id": client_id,
                "redirect_uri": redirect_uri,
                "response_type": "code",
                "code_challenge": "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM",
                "code_challenge_method": "S256",
                "state": "a state",
            }
        )
        status, location, body = self._request("GET", f"/authorize?{query}")
        return Login(status, location, body)

    def delete(self, client_id: str) -> None:
        assert self._request("DELETE", f"/cache/document?{urlencode({'client_id': client_id})}")[0] == 204

    def purge(self) -> None:
        assert self._request("POST", "/cache/purge")[0] == 204

    def has_cache(self) -> bool:
        return self._request("POST", "/cache/check")[0] == 204

    def log(self) -> str:
        return self._log.read_text()

    def _request(self, method: str, path: str, seconds: float | None = SECONDS) -> tuple[int, str, str]:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=seconds)
        try:
            connection.request(method, path, headers={"Accept": "application/json", "Connection": "close"})
            response = connection.getresponse()
            return response.status, response.getheader("Location", ""), response.read().decode()
        except OSError as error:
            raise AssertionError(f"the node does not answer: {self.log()}") from error
        finally:
            connection.close()


class Pair:
    """Nodes A and B. By the service, each has one beside it, as on a machine of its own."""

    def __init__(self, backing: Backing, postgres: PrivatePostgres, origin: Origin, directory: Path) -> None:
        self.backing, self.postgres, self.origin = backing, postgres, origin
        self.services: list[Service] = []
        self.nodes: list[Node] = []
        database = postgres.url("cimd_cache_app")
        for name in "ab":
            home = directory / name
            home.mkdir()
            environment = {
                "FASTMCP_SSRF_TRUST_PROXY": "true",
                "HTTPS_PROXY": origin.url,
                "ORIGIN_AUTHORITY": str(origin.authority),
                "DATABASE_URL": database,
            }
            if backing == "service":
                self.services.append(Service(database, home))
                environment["CIMD_CACHE_SOCKET"] = self.services[-1].socket
            self.nodes.append(Node(home, environment))
        self.a, self.b = self.nodes

    def start(self) -> None:
        for service in self.services:
            service.start()
        self._start_nodes()

    def stop(self) -> None:
        for part in (*self.nodes, *self.services):
            part.stop()

    def restart_nodes(self) -> None:
        for node in self.nodes:
            node.stop()
        self._start_nodes()

    def _start_nodes(self) -> None:
        for node in self.nodes:
            node.start()
        for node in self.nodes:
            node.wait_until_it_answers()

    def wait_for_the_cache(self) -> None:
        # The service, and the pool in process, try the database again by themselves.
        for node in self.nodes:
            while not node.has_cache():
                pass

    def row(self, client_id: str) -> str:
        """The stored document and how long it is fresh, in minutes; nothing if there is no row."""
        return self.postgres.sql(
            "select metadata::text || ' ' || ceil(extract(epoch from expires_at - fetched_at) / 60)"
            f" from cimd_cache.client_id_metadata where url = '{client_id}'"
        )

    def store(self, client_id: str, document: str) -> None:
        """What a server with other rules stores on the same schema."""
        subprocess.run(
            [command(), "put", client_id, "-", "--expires-in", "3600"],
            input=document.encode(),
            env={**os.environ, "DATABASE_URL": self.postgres.url("cimd_cache_app")},
            check=True,
            capture_output=True,
        )


@contextmanager
def pair(backing: Backing, postgres: PrivatePostgres, origin: Origin) -> Iterator[Pair]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cimd-cache-fastmcp-")))
        started = Pair(backing, postgres, origin, directory)
        stack.callback(started.stop)
        started.start()
        yield started


@contextmanager
def away(pair: Pair, what: str) -> Iterator[None]:
    """Takes the cache away from both nodes, and gives it back."""
    processes = [service.process for service in pair.services]
    if what == "database stopped":
        pair.postgres.stop()
    for service, process in zip(pair.services, processes):
        if what == "service stopped":
            service.stop()
        elif what == "service hung":
            assert process is not None
            process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        if what == "database stopped":
            pair.postgres.start()
        for service, process in zip(pair.services, processes):
            if what == "service stopped":
                service.start()
            elif what == "service hung":
                assert process is not None
                process.send_signal(signal.SIGCONT)
    pair.wait_for_the_cache()
