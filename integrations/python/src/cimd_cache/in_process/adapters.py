"""Query functions on the pools of psycopg and asyncpg. The driver is imported when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, overload

from .statements import AsyncQuery, Query

if TYPE_CHECKING:
    from asyncpg import Pool
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

# A little less than the deadline of a call, so that the server ends a statement before its caller has gone.
STATEMENT_TIMEOUT_MS = 1_900


@overload
def from_psycopg(
    pool: ConnectionPool[Any], *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS
) -> Query: ...
@overload
def from_psycopg(
    pool: AsyncConnectionPool[Any], *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS
) -> AsyncQuery: ...
def from_psycopg(
    pool: ConnectionPool[Any] | AsyncConnectionPool[Any], *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS
) -> Query | AsyncQuery:
    """A query function on a psycopg_pool: for `Cache` of a ConnectionPool, for `AsyncCache` of an async one.

    Each call takes a connection, runs one statement in a transaction of its own at READ COMMITTED with the
    time limit, and gives the connection back as it was.
    """
    from psycopg_pool import AsyncConnectionPool, ConnectionPool

    from . import psycopg3, psycopg3_async

    if isinstance(pool, ConnectionPool):
        return psycopg3.query_on(pool, _checked(statement_timeout_ms))
    if isinstance(pool, AsyncConnectionPool):
        return psycopg3_async.query_on(pool, _checked(statement_timeout_ms))
    raise TypeError("from_psycopg takes a pool of psycopg_pool: a connection may be inside a transaction")


def from_asyncpg(pool: Pool[Any], *, statement_timeout_ms: int = STATEMENT_TIMEOUT_MS) -> AsyncQuery:
    """The same on a pool of asyncpg, for `AsyncCache`."""
    import asyncpg

    from . import asyncpg_pool

    if not isinstance(pool, asyncpg.Pool):
        raise TypeError("from_asyncpg takes a pool of asyncpg: a connection may be inside a transaction")
    return asyncpg_pool.query_on(pool, _checked(statement_timeout_ms))


def _checked(statement_timeout_ms: int) -> int:
    if not 1 <= statement_timeout_ms <= 30_000:
        raise ValueError("statement_timeout_ms is between 1 and 30,000: the rules rely on it")
    return statement_timeout_ms
