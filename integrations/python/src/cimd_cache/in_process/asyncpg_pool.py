"""The query function on asyncpg's pool."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Any

import asyncpg

from . import transaction
from .statements import AsyncQuery, Rows, Value


# The last is what asyncpg says when it is asked for something just as the server ends the connection.
_FAILURES = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, asyncpg.InternalClientError)


def query_on(pool: asyncpg.Pool[Any], statement_timeout_ms: int) -> AsyncQuery:
    begin = transaction.begin(statement_timeout_ms)

    async def query(text: str, parameters: Sequence[Value], name: str) -> Rows:
        # After the server was restarted each connection of the pool may be lost, and is found to be so in turn.
        for left in reversed(range(pool.get_max_size() + 1)):
            attempt = _Attempt(begin)
            try:
                async with pool.acquire(timeout=transaction.CONNECTION_SECONDS) as connection:
                    return await attempt.run(connection, text, parameters)
            except (asyncio.TimeoutError, TimeoutError) as error:
                raise ConnectionError("the pool has no connection") from error
            except _FAILURES as error:
                is_lost = attempt.is_lost or (attempt.has_connection and isinstance(error, OSError))
                if left and transaction.may_retry(error, name, attempt.was_sent, is_lost):
                    continue
                if is_lost or isinstance(error, asyncpg.InterfaceError):
                    raise ConnectionError("the connection was lost") from error
                raise
        raise AssertionError("the last attempt returns or raises")

    return query


class _Attempt:
    def __init__(self, begin: str) -> None:
        self._begin = begin
        self.has_connection = False
        self.was_sent = False
        self.is_lost = False

    async def run(self, connection: Any, text: str, parameters: Sequence[Value]) -> Rows:
        self.has_connection = True
        if connection.is_in_transaction():
            raise transaction.is_inside()
        try:
            await connection.execute(self._begin)
            self.was_sent = True
            records = await connection.fetch(text, *parameters)
            await connection.execute("commit")
        except _FAILURES as error:
            self.is_lost = not await _is_rolled_back(connection, error)
            if not self.is_lost and transaction.is_outdated(error):
                await connection.close()
            raise
        return [list(record) for record in records]


async def _is_rolled_back(connection: Any, error: Exception) -> bool:
    """Whether the connection is in order after a failure. If not, it is ended."""
    try:
        # After an error of asyncpg's own, nobody knows what state it is in.
        if not isinstance(error, asyncpg.InternalClientError) and not connection.is_closed():
            await connection.execute("rollback")
            return True
        connection.terminate()
    except _FAILURES:
        # The server had said that it ends the connection, and has done so now; or the pool has taken it back.
        with contextlib.suppress(asyncpg.InterfaceError):
            connection.terminate()
    return False
