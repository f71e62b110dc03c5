"""Both kinds of client behind one face, so that a test says once what both do."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from cimd_cache import AsyncCache, Cache


class Blocking:
    """An AsyncCache, called from a test that is no coroutine."""

    def __init__(self, loop: asyncio.AbstractEventLoop, cache: AsyncCache) -> None:
        self._loop, self._cache = loop, cache
        self.pool: Any = None

    def wait(self, coroutine: Any) -> Any:
        return self._loop.run_until_complete(coroutine)

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            async def made() -> Any:
                return await getattr(self._cache, name)(*args, **kwargs)

            return self._loop.run_until_complete(made())

        return call


@contextlib.contextmanager
def connected(kind: str, where: str, **options: Any) -> Iterator[Any]:
    if kind == "threads":
        with Cache.connect(where, **options) as cache:
            yield cache
        return
    loop = asyncio.new_event_loop()
    blocking = Blocking(loop, AsyncCache.connect(where, **options))
    try:
        yield blocking
    finally:
        blocking.close()
        loop.close()


@contextlib.contextmanager
def in_process(kind: str, url: str, *, pool: dict[str, Any] | None = None, **options: Any) -> Iterator[Any]:
    """A cache on a pool of this kind; the pool itself is its attribute `pool`."""
    from cimd_cache.in_process import from_asyncpg, from_psycopg

    # A pool that gives up at once on a server that is away asks again at the next call.
    # A machine that stalls must not look like a database that is away; the server's own limits stay.
    options.setdefault("deadline_ms", 20_000)
    settings = {"min_size": 1, "max_size": 4, **(pool or {})}
    if kind == "psycopg":
        from psycopg_pool import ConnectionPool

        with ConnectionPool(url, open=True, reconnect_timeout=0, **settings) as opened:
            with Cache.in_process(from_psycopg(opened), **options) as cache:
                cache.pool = opened  # type: ignore[attr-defined]
                yield cache
        return
    loop = asyncio.new_event_loop()

    async def open_pool() -> Any:
        if kind == "asyncpg":
            import asyncpg

            return await asyncpg.create_pool(url, **settings)
        from psycopg_pool import AsyncConnectionPool

        opened = AsyncConnectionPool(url, open=False, reconnect_timeout=0, **settings)
        await opened.open()
        return opened

    opened = loop.run_until_complete(open_pool())
    query = from_asyncpg(opened) if kind == "asyncpg" else from_psycopg(opened)
    blocking = Blocking(loop, AsyncCache.in_process(query, **options))
    blocking.pool = opened
    try:
        yield blocking
    finally:
        blocking.close()
        loop.run_until_complete(opened.close())
        loop.close()


both = pytest.mark.parametrize("kind", ["threads", "asyncio"])
pools = pytest.mark.parametrize("kind", ["psycopg", "psycopg-async", "asyncpg"])
