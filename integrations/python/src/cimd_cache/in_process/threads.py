"""The component from threads."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import TimeoutError as NotDone
from inspect import iscoroutinefunction
from typing import TypeVar

from ..calls import Call
from ..errors import timed_out
from .base import Base, deadline
from .statements import Query, Rows, Statement, Value

T = TypeVar("T")


class InProcessBacking(Base):
    def __init__(self, query: Query, schema: str, deadline_ms: int, most_calls: int) -> None:
        if iscoroutinefunction(query):
            raise TypeError("this query is asynchronous: use AsyncCache")
        super().__init__(schema, deadline_ms, most_calls)
        self._query = query

    def run(self, call: Call[T], timeout_ms: int | None) -> T:
        seconds = self._seconds(timeout_ms)
        until = deadline(seconds)
        future = self._workers.submit(lambda: self._rules.run(call, self._execute, until))
        try:
            return future.result(seconds)
        except (NotDone, TimeoutError):
            # What has begun goes on; its connection returns to the pool when the statement has ended.
            future.cancel()
            raise timed_out() from None

    def close(self) -> None:
        self._end()

    def _execute(self, statement: Statement, parameters: Sequence[Value]) -> Rows:
        return self._query(statement.sql, parameters, statement.name)
