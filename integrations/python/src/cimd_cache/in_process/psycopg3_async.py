"""The query function on psycopg's asynchronous pool: psycopg3.py, with `await`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import AsyncRawCursor
from psycopg.pq import TransactionStatus
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from . import transaction
from .psycopg3_attempt import Attempt
from .psycopg3_values import read, write
from .statements import AsyncQuery, Rows, Value


def query_on(pool: AsyncConnectionPool[Any], statement_timeout_ms: int) -> AsyncQuery:
    begin = transaction.begin(statement_timeout_ms)

    async def query(text: str, parameters: Sequence[Value], name: str) -> Rows:
        # After the server was restarted each connection of the pool may be lost, and is found to be so in turn.
        for left in reversed(range(pool.max_size + 1)):
            attempt = Attempt(name)
            try:
                async with pool.connection(timeout=transaction.CONNECTION_SECONDS) as connection:
                    return await _run(connection, attempt, begin, text, parameters)
            except PoolTimeout as error:
                raise ConnectionError("the pool has no connection") from error
            except psycopg.Error as error:
                if left and attempt.may_retry(error):
                    continue
                if attempt.ended_connection(error):
                    raise ConnectionError("the connection was lost") from error
                raise
        raise AssertionError("the last attempt returns or raises")

    return query


async def _run(
    connection: psycopg.AsyncConnection[Any], attempt: Attempt, begin: str, text: str, parameters: Sequence[Value]
) -> Rows:
    attempt.check(connection.info)
    was_autocommit = connection.autocommit
    try:
        # psycopg would begin a transaction of its own kind otherwise. This sends nothing.
        await connection.set_autocommit(True)
        cursor = AsyncRawCursor(connection)
        await cursor.execute(begin, prepare=False)
        attempt.was_sent = True
        await cursor.execute(text, write(parameters), prepare=attempt.prepares)
        rows = read(cursor.pgresult)
        await cursor.execute("commit", prepare=False)
        return rows
    except Exception as error:
        attempt.is_lost = not await _is_rolled_back(connection)
        if transaction.is_outdated(error):
            await connection.close()
        raise
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            await connection.set_autocommit(was_autocommit)


async def _is_rolled_back(connection: psycopg.AsyncConnection[Any]) -> bool:
    """As in psycopg3."""
    try:
        if not connection.closed:
            await connection.rollback()
            return True
    except psycopg.Error:
        await connection.close()
    return False
