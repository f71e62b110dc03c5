"""The service from threads, over http.client."""

from __future__ import annotations

import http.client
import os
import socket
import ssl
from collections import deque
from typing import TypeVar

from ..calls import Call, GetMany
from ..errors import CimdCacheError
from . import wait
from .protocol import ANSWER_BYTES, Request, answer, failure, merge, needs_no_request, request
from .target import Target, Token, context, token_headers

T = TypeVar("T")

# How a connection looks that the service closed while nobody used it.
_CLOSED = (http.client.RemoteDisconnected, ConnectionResetError, ConnectionAbortedError, BrokenPipeError)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class ServiceBacking:
    """Any number of threads share it; a connection belongs to one call at a time."""

    def __init__(self, target: Target, token: Token, tls: ssl.SSLContext | None, timeout: float) -> None:
        self._target, self._token, self._timeout = target, token, timeout
        self._tls = context(target, tls)
        self._process = os.getpid()
        self._idle: deque[http.client.HTTPConnection] = deque()
        self._is_closed = False

    def run(self, call: Call[T], timeout_ms: int | None) -> T:
        if self._is_closed:
            raise CimdCacheError("unavailable", "this cache is closed")
        if needs_no_request(call):
            assert isinstance(call, GetMany)
            return merge(call.client_ids, [])  # type: ignore[return-value]
        ask = request(call)
        headers = {"Host": self._target.host_header, **wait.headers(timeout_ms), **token_headers(self._token)}
        if ask.body is not None:
            headers["Content-Type"] = "application/json"
        status, body = self._exchange(ask, headers, wait.seconds(self._timeout, timeout_ms))
        return answer(call, status, body)

    def close(self) -> None:
        self._is_closed = True
        while self._idle:
            self._idle.pop().close()

    def _exchange(self, ask: Request, headers: dict[str, str], seconds: float) -> tuple[int, bytes]:
        connection = self._take() if ask.is_repeatable else None
        if connection is not None:
            try:
                return self._once(connection, ask, headers, seconds)
            except _CLOSED:
                # The service closes what was idle for half a minute, and all when it stops: begin anew, once.
                self._drop_idle()
            except (OSError, http.client.HTTPException) as error:
                raise failure(error) from error
        try:
            return self._once(self._new(), ask, headers, seconds)
        except (OSError, http.client.HTTPException) as error:
            raise failure(error) from error

    def _once(
        self, connection: http.client.HTTPConnection, ask: Request, headers: dict[str, str], seconds: float
    ) -> tuple[int, bytes]:
        is_done = False
        try:
            connection.timeout = seconds
            if connection.sock is not None:
                connection.sock.settimeout(seconds)
            connection.request(ask.method, self._target.path + ask.target, ask.body, headers)
            response = connection.getresponse()
            body = response.read(ANSWER_BYTES + 1)
            # A chunked answer ends with a chunk of its own, which the read before may not have met.
            is_done = response.isclosed() or response.read(1) == b""
        finally:
            # Whatever happened, the next call must not read what is left of this one's answer.
            if not is_done:
                connection.close()
        if not is_done:
            raise http.client.HTTPException("the answer is too large")
        if connection.sock is not None and not self._is_closed:
            self._idle.append(connection)
        return response.status, body

    def _new(self) -> http.client.HTTPConnection:
        if self._target.socket is not None:
            return _UnixConnection(self._target.socket)
        if self._tls is not None:
            return http.client.HTTPSConnection(self._target.host, self._target.port, context=self._tls)
        return http.client.HTTPConnection(self._target.host, self._target.port)

    def _take(self) -> http.client.HTTPConnection | None:
        if self._process != os.getpid():
            # After a fork the parent still uses these connections: its answers must not be read here.
            self._process, self._idle = os.getpid(), deque()
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _drop_idle(self) -> None:
        while True:
            try:
                self._idle.pop().close()
            except IndexError:
                return
