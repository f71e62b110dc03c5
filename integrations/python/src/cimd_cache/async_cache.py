"""The cache, for asyncio. What the calls do is said at `Cache`."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from . import calls
from .answers import Lookup, PutOutcome, Swept
from .async_resolving import AsyncFetch, AsyncResolver
from .backing import AsyncBacking
from .errors import CimdCacheError
from .without_cache import OnUnavailable, Warnings

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from .in_process import AsyncQuery
    from .service.target import Token


class AsyncCache:
    """As `Cache`, for the tasks of one event loop at a time.

    Cancelling a call gives up the wait. What was sent goes on, and may or may not be applied.
    """

    def __init__(self, backing: AsyncBacking, *, away_fetches: int = 16) -> None:
        self._backing = backing
        self._away_fetches = away_fetches
        self._warnings = Warnings()
        self._owner: tuple[asyncio.AbstractEventLoop | None, int] = (None, 0)
        self._resolver: AsyncResolver | None = None

    @classmethod
    def connect(
        cls,
        where: str,
        *,
        token: Token = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 5.0,
        away_fetches: int = 16,
    ) -> AsyncCache:
        from .service.streams import AsyncServiceBacking
        from .service.target import target

        return cls(AsyncServiceBacking(target(where), token, tls, timeout), away_fetches=away_fetches)

    @classmethod
    def in_process(
        cls,
        query: AsyncQuery,
        *,
        schema: str = "cimd_cache",
        deadline_ms: int = 2_000,
        most_calls: int = 16,
        away_fetches: int = 16,
    ) -> AsyncCache:
        from .in_process.tasks import AsyncInProcessBacking

        return cls(AsyncInProcessBacking(query, schema, deadline_ms, most_calls), away_fetches=away_fetches)

    async def get(self, client_id: str, *, timeout_ms: int | None = None) -> Lookup:
        return await self._backing.run(calls.get(client_id), timeout_ms)

    async def get_many(
        self, client_ids: Sequence[str], *, timeout_ms: int | None = None
    ) -> list[Lookup | CimdCacheError]:
        call = calls.get_many(client_ids)
        return await self._backing.run(call, timeout_ms) if call.client_ids else []

    async def put(
        self,
        client_id: str,
        metadata: str | bytes,
        *,
        ticket: str | None,
        expires_in: int | None = None,
        expires_at: datetime | None = None,
        timeout_ms: int | None = None,
    ) -> PutOutcome:
        call = calls.put(client_id, metadata, ticket, expires_in, expires_at)
        return await self._backing.run(call, timeout_ms)

    async def delete(self, client_id: str, *, timeout_ms: int | None = None) -> bool:
        call = calls.delete(client_id)
        self._own().let_go(client_id)
        try:
            return await self._backing.run(call, timeout_ms)
        finally:
            # Also when the delete failed or was cancelled: it may have been applied.
            self._own().let_go(client_id)

    async def purge(self, *, timeout_ms: int | None = None) -> None:
        self._own().let_go(None)
        try:
            await self._backing.run(calls.Purge(), timeout_ms)
        finally:
            self._own().let_go(None)

    async def sweep(self, limit: int = 1_000, *, timeout_ms: int | None = None) -> Swept:
        return await self._backing.run(calls.sweep(limit), timeout_ms)

    async def check(self, *, timeout_ms: int | None = None) -> None:
        await self._backing.run(calls.Check(), timeout_ms)

    async def resolve(
        self,
        client_id: str,
        fetch_and_validate: AsyncFetch,
        *,
        on_unavailable: OnUnavailable = "fetch",
        timeout_ms: int = 250,
    ) -> str:
        if on_unavailable not in ("fetch", "fail"):
            raise ValueError("on_unavailable is 'fetch' or 'fail'")
        return await self._own().resolve(
            client_id,
            lambda: self.get(client_id, timeout_ms=timeout_ms),
            self._put_fetched(client_id),
            fetch_and_validate,
            on_unavailable,
        )

    async def close(self) -> None:
        await self._backing.close()

    async def __aenter__(self) -> AsyncCache:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _put_fetched(self, client_id: str) -> Callable[[str, int, str], Awaitable[PutOutcome]]:
        async def put(metadata: str, lifetime: int, ticket: str) -> PutOutcome:
            return await self.put(client_id, metadata, ticket=ticket, expires_in=max(lifetime, 0))

        return put

    def _own(self) -> AsyncResolver:
        owner = (asyncio.get_running_loop(), os.getpid())
        if self._resolver is None or self._owner != owner:
            self._owner, self._resolver = owner, AsyncResolver(self._away_fetches, self._warnings)
        return self._resolver
