"""The query function on psycopg's pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import psycopg
from psycopg import RawCursor
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool, PoolTimeout

from ..errors import CimdCacheError
from . import transaction
from .failures import sqlstate_of
from .psycopg3_values import read, write
from .statements import Query, Rows, Value


def query_on(pool: ConnectionPool[Any], statement_timeout_ms: int) -> Query:
    begin = transaction.begin(statement_timeout_ms)

    def query(text: str, parameters: Sequence[Value], name: str) -> Rows:
        # After the server was restarted each connection of the pool may be lost, and is found to be so in turn.
        for left in reversed(range(pool.max_size + 1)):
            attempt = _Attempt(begin, name)
            try:
                with pool.connection(timeout=transaction.CONNECTION_SECONDS) as connection:
                    return attempt.run(connection, text, parameters)
            except PoolTimeout as error:
                raise ConnectionError("the pool has no connection") from error
            except psycopg.Error as error:
                may_retry = transaction.may_retry(error, name, attempt.was_sent, attempt.is_lost)
                if left and may_retry:
                    continue
                if attempt.is_lost or (error.sqlstate is None and isinstance(error, psycopg.OperationalError)):
                    raise ConnectionError("the connection was lost") from error
                raise
        raise AssertionError("the last attempt returns or raises")

    return query


class _Attempt:
    def __init__(self, begin: str, name: str) -> None:
        self._begin, self._name = begin, name
        self.was_sent = False
        self.is_lost = False

    def run(self, connection: psycopg.Connection[Any], text: str, parameters: Sequence[Value]) -> Rows:
        status = connection.info.transaction_status
        if status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            raise transaction.is_inside()
        if connection.info.encoding != "utf-8":
            raise CimdCacheError("not-ready", "the pool's connections are not in UTF-8: set client_encoding")
        was_autocommit = connection.autocommit
        try:
            # psycopg would begin a transaction of its own kind otherwise. This sends nothing.
            connection.autocommit = True
            return self._transaction(connection, text, parameters)
        except Exception as error:
            self.is_lost = connection.closed
            if not self.is_lost:
                connection.rollback()
                if sqlstate_of(error) in ("0A000", "26000"):
                    # What this connection has prepared is of no use any more.
                    connection.close()
            raise
        finally:
            if connection.info.transaction_status == TransactionStatus.IDLE:
                connection.autocommit = was_autocommit

    def _transaction(
        self, connection: psycopg.Connection[Any], text: str, parameters: Sequence[Value]
    ) -> Rows:
        cursor = RawCursor(connection)
        cursor.execute(self._begin, prepare=False)
        self.was_sent = True
        prepare = self._name in transaction.PREPARED
        cursor.execute(text, write(parameters), prepare=prepare)
        rows = read(cursor.pgresult)
        cursor.execute("commit", prepare=False)
        return rows
