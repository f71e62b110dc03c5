"""Where the service is."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from typing import Union
from urllib.parse import urlsplit

Token = Union[str, Callable[[], str], None]


@dataclass(frozen=True)
class Target:
    socket: str | None
    """The path of a Unix socket, or else the three below."""
    host: str
    port: int
    is_tls: bool
    path: str
    """What goes before /v1, without a / at its end."""

    @property
    def host_header(self) -> str:
        """To the letter what the service lists: with the port, where it is not that of the scheme."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_usual = self.port == (443 if self.is_tls else 80)
        return host if is_usual else f"{host}:{self.port}"


def target(where: str) -> Target:
    """Reads `/run/….sock`, `unix:/run/….sock`, `http://127.0.0.1:8080` or `https://…`."""
    path = where.removeprefix("unix:")
    if path.startswith("/"):
        return Target(path, "localhost", 80, False, "")
    url = urlsplit(where)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("the service is named by the path of its socket, or by an http or https URL")
    if url.username or url.query or url.fragment:
        raise ValueError("the service's URL has no user, query or fragment: pass the token as token=")
    is_tls = url.scheme == "https"
    return Target(None, url.hostname, url.port or (443 if is_tls else 80), is_tls, url.path.rstrip("/"))


def context(target: Target, tls: ssl.SSLContext | None) -> ssl.SSLContext | None:
    if not target.is_tls:
        if tls is not None:
            raise ValueError("tls is for a service that is named by an https URL")
        return None
    return ssl.create_default_context() if tls is None else tls


def token_headers(token: Token) -> dict[str, str]:
    if token is None:
        return {}
    # A function is asked each time: a token file may change while the program runs.
    text = token if isinstance(token, str) else token()
    return {"Authorization": f"Bearer {text}"}
