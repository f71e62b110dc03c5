"""A Postgres of our own, in a directory of its own, and the processes beside it."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_INSTALLED = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
BINARIES = Path(os.environ.get("PG_BIN") or _INSTALLED[-1])
USER = "postgres"


def command() -> str:
    return os.environ["CIMD_CACHE_BIN"]


def _as_user(*words: str) -> None:
    # Postgres refuses to run as root.
    prefix = ["runuser", "-u", USER, "--"] if os.getuid() == 0 else []
    done = subprocess.run([*prefix, *words], stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(f"{words[0]}: {done.stdout}{done.stderr}")


class PrivatePostgres:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._data = directory / "data"

    def url(self, role: str, database: str = "postgres") -> str:
        return f"postgres://{role}@/{database}?host={self.directory}"

    def create(self) -> None:
        _as_user(str(BINARIES / "initdb"), "-D", str(self._data), "-U", "postgres", "-A", "trust", "-E", "UTF8")
        self.start()
        roles = subprocess.run([command(), "migrate", "--roles"], check=True, capture_output=True).stdout
        psql = [str(BINARIES / "psql"), "-q", self.url("postgres")]
        subprocess.run(psql, input=roles, check=True, capture_output=True)
        self.migrate()

    def migrate(self, *options: str) -> None:
        words = [command(), "--database-url", self.url("cimd_cache_owner"), *options, "migrate"]
        subprocess.run(words, check=True, capture_output=True)

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.directory}' -c fsync=off"
        log = str(self.directory / "log")
        _as_user(str(BINARIES / "pg_ctl"), "-D", str(self._data), "-o", options, "-l", log, "-w", "start")

    def stop(self) -> None:
        _as_user(str(BINARIES / "pg_ctl"), "-D", str(self._data), "-m", "immediate", "-w", "stop")

    def sql(self, text: str) -> str:
        psql = [str(BINARIES / "psql"), "-qAt", "-v", "ON_ERROR_STOP=1", "-c", text, self.url("postgres")]
        return subprocess.run(psql, check=True, capture_output=True, text=True).stdout.strip()


@contextlib.contextmanager
def private_postgres() -> Iterator[PrivatePostgres]:
    # Who is told to stop leaves nothing behind either.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    directory = Path(tempfile.mkdtemp(prefix="cimd-cache-python-"))
    try:
        if os.getuid() == 0:
            user = pwd.getpwnam(USER)
            os.chown(directory, user.pw_uid, user.pw_gid)
        directory.chmod(0o755)
        server = PrivatePostgres(directory)
        server.create()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(directory)


class Service:
    """`cimd-cache serve` on a socket in a directory of its own."""

    def __init__(self, database_url: str, directory: Path, *options: str) -> None:
        self.socket = str(directory / "cache.sock")
        self._database_url, self._options = database_url, options
        self.process: subprocess.Popen[bytes] | None = None
        self._log = directory / "service.log"

    def start(self) -> None:
        words = [command(), "serve", "--listen", f"unix:{self.socket}", *self._options]
        environment = {**os.environ, "DATABASE_URL": self._database_url}
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(words, env=environment, stdin=subprocess.DEVNULL, stderr=log)
        self._wait_until_it_listens()

    def stop(self) -> None:
        if self.process is not None:
            self.process.terminate()
            self.process.wait()
            self.process = None

    def _wait_until_it_listens(self) -> None:
        import time

        until = time.monotonic() + 30
        while True:
            with socket.socket(socket.AF_UNIX) as probe:
                try:
                    probe.connect(self.socket)
                    return
                except OSError:
                    assert self.process is not None and self.process.poll() is None, self._log.read_text()
                    assert time.monotonic() < until, "the service does not listen"
                    time.sleep(0.01)


TOKEN = "a-token-of-the-tests"


class TlsService(NamedTuple):
    url: str
    certificate: Path


@contextlib.contextmanager
def service(database_url: str, *options: str) -> Iterator[Service]:
    directory = Path(tempfile.mkdtemp(prefix="cimd-cache-python-"))
    served = Service(database_url, directory, *options)
    try:
        served.start()
        yield served
    finally:
        served.stop()
        shutil.rmtree(directory)


@contextlib.contextmanager
def tls_service(database_url: str) -> Iterator[TlsService]:
    """A service on TCP, with a certificate for localhost that is its own authority, and one token."""
    directory = Path(tempfile.mkdtemp(prefix="cimd-cache-python-"))
    certificate, key, tokens = directory / "cert.pem", directory / "key.pem", directory / "tokens"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        + ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"]
        + ["-out", str(certificate), "-keyout", str(key)],
        check=True,
        capture_output=True,
    )
    tokens.touch(0o600)
    tokens.write_text(f"{TOKEN}\n")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--listen", f"tcp:127.0.0.1:{port}", "--host", f"localhost:{port}", "--token-file", str(tokens)]
    options += ["--tls-cert", str(certificate), "--tls-key", str(key), "--deadline-ms", "20000"]
    served = Service(database_url, directory, *options)
    try:
        served.start()
        yield TlsService(f"https://localhost:{port}", certificate)
    finally:
        served.stop()
        shutil.rmtree(directory)
