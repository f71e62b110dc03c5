"""The service from asyncio, over its streams.

Not http.client on threads: the default executor has few threads, which name lookups need too, and a service that
hangs would hold them all; and a stream that is given up is closed at once.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import deque
from typing import TypeVar

from ..calls import Call, GetMany
from ..errors import CimdCacheError, timed_out
from . import wait
from .http1 import NotHttp, read_response, write_request
from .protocol import Request, answer, failure, merge, needs_no_request, request
from .target import Target, Token, context, token_headers

T = TypeVar("T")
_Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]

# The service takes a thousand connections from everybody; calls beyond these wait for one, within their time.
_CONNECTIONS = 64


class AsyncServiceBacking:
    """For the tasks of one event loop at a time."""

    def __init__(self, target: Target, token: Token, tls: ssl.SSLContext | None, timeout: float) -> None:
        self._target, self._token, self._timeout = target, token, timeout
        self._tls = context(target, tls)
        self._is_closed = False
        self._owner: tuple[asyncio.AbstractEventLoop | None, int] = (None, 0)
        self._idle: deque[_Stream] = deque()
        self._room = asyncio.Semaphore(_CONNECTIONS)

    async def run(self, call: Call[T], timeout_ms: int | None) -> T:
        if self._is_closed:
            raise CimdCacheError("unavailable", "this cache is closed")
        if needs_no_request(call):
            assert isinstance(call, GetMany)
            return merge(call.client_ids, [])  # type: ignore[return-value]
        self._begin()
        ask = request(call)
        headers = {"Host": self._target.host_header, **wait.headers(timeout_ms), **token_headers(self._token)}
        if ask.body is not None:
            headers["Content-Type"] = "application/json"
        head = write_request(ask.method, self._target.path + ask.target, headers, ask.body)
        try:
            status, body = await asyncio.wait_for(
                self._exchange(ask, head), wait.seconds(self._timeout, timeout_ms)
            )
        except (asyncio.TimeoutError, TimeoutError) as error:
            raise timed_out() from error
        except (OSError, EOFError, NotHttp) as error:
            raise failure(error) from error
        return answer(call, status, body)

    async def close(self) -> None:
        self._is_closed = True
        self._drop_idle()

    def _begin(self) -> None:
        owner = (asyncio.get_running_loop(), os.getpid())
        if self._owner != owner:
            # Streams belong to the loop, and after a fork to the parent as well.
            self._owner, self._idle, self._room = owner, deque(), asyncio.Semaphore(_CONNECTIONS)

    async def _exchange(self, ask: Request, sent: bytes) -> tuple[int, bytes]:
        async with self._room:
            while ask.is_repeatable and self._idle:
                stream = self._idle.pop()
                if stream[0].at_eof() or stream[1].is_closing():
                    stream[1].close()
                    continue
                try:
                    return await self._once(stream, sent)
                except (ConnectionError, EOFError):
                    # Closed while idle: begin anew, once.
                    self._drop_idle()
                    break
            return await self._once(await self._connect(), sent)

    async def _once(self, stream: _Stream, sent: bytes) -> tuple[int, bytes]:
        reader, writer = stream
        keep = False
        try:
            writer.write(sent)
            await writer.drain()
            status, body, keep = await read_response(reader)
            return status, body
        finally:
            # Whatever happened, the next call must not read what is left of this one's answer.
            if keep and not self._is_closed:
                self._idle.append(stream)
            else:
                writer.transport.abort()

    async def _connect(self) -> _Stream:
        if self._target.socket is not None:
            return await asyncio.open_unix_connection(self._target.socket)
        return await asyncio.open_connection(self._target.host, self._target.port, ssl=self._tls)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop()[1].transport.abort()
