"""One attempt at a statement on psycopg: what its connection must be like, and what a failure means."""

from __future__ import annotations

import psycopg
from psycopg.pq import TransactionStatus

from ..errors import CimdCacheError
from . import transaction


class Attempt:
    def __init__(self, name: str) -> None:
        self._name = name
        self.was_sent = False
        self.is_lost = False

    @property
    def prepares(self) -> bool:
        return self._name in transaction.PREPARED

    def check(self, info: psycopg.ConnectionInfo) -> None:
        """Refuses a connection on which a call would be part of something else, or would mistake texts."""
        if info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            raise transaction.is_inside()
        if info.encoding != "utf-8":
            raise CimdCacheError("not-ready", "the pool's connections are not in UTF-8: set client_encoding")

    def may_retry(self, error: psycopg.Error) -> bool:
        return transaction.may_retry(error, self._name, self.was_sent, self.is_lost)

    def ended_connection(self, error: psycopg.Error) -> bool:
        return self.is_lost or (error.sqlstate is None and isinstance(error, psycopg.OperationalError))
