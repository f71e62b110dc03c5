"""The query function on psycopg's pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from . import transaction
from .psycopg3_attempt import Attempt
from .psycopg3_values import read, write
from .statements import Query, Rows, Value


def query_on(pool: ConnectionPool[Any], statement_timeout_ms: int) -> Query:
    begin = transaction.begin(statement_timeout_ms)

    def query(text: str, parameters: Sequence[Value], name: str) -> Rows:
        # After the server was restarted each connection of the pool may be lost, and is found to be so in turn.
        for left in reversed(range(pool.max_size + 1)):
            attempt = Attempt(name)
            try:
                with pool.connection(timeout=transaction.CONNECTION_SECONDS) as connection:
                    return _run(connection, attempt, begin, text, parameters)
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


def _run(
    connection: psycopg.Connection[Any], attempt: Attempt, begin: str, text: str, parameters: Sequence[Value]
) -> Rows:
    attempt.check(connection.info)
    was_autocommit = connection.autocommit
    try:
        # psycopg would begin a transaction of its own kind otherwise. This sends nothing.
        connection.autocommit = True
        cursor = RawCursor(connection)
        cursor.execute(begin, prepare=False)
        attempt.was_sent = True
        cursor.execute(text, write(parameters), prepare=attempt.prepares)
        rows = read(cursor.pgresult)
        cursor.execute("commit", prepare=False)
        return rows
    except Exception as error:
        attempt.is_lost = not _is_rolled_back(connection)
        if transaction.is_outdated(error):
            connection.close()
        raise
    finally:
        if connection.info.transaction_status == TransactionStatus.IDLE:
            connection.autocommit = was_autocommit


def _is_rolled_back(connection: psycopg.Connection[Any]) -> bool:
    """Whether the connection is in order after a failure. If not, it is ended."""
    try:
        if not connection.closed:
            connection.rollback()
            return True
    except psycopg.Error:
        # The server had said that it ends the connection, and has done so now.
        connection.close()
    return False
