"""The component from asyncio: it calculates in a thread, and its statements run in the loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from inspect import iscoroutinefunction
from typing import TypeVar

from ..calls import Call
from ..errors import timed_out
from .base import Base, deadline
from .statements import AsyncQuery, Rows, Statement, Value

T = TypeVar("T")

# No statement takes longer. Only a loop that has ended never answers.
_LOST_SECONDS = 60.0


class AsyncInProcessBacking(Base):
    def __init__(self, query: AsyncQuery, schema: str, deadline_ms: int, most_calls: int) -> None:
        if not iscoroutinefunction(query):
            raise TypeError("this query is not asynchronous: use Cache")
        super().__init__(schema, deadline_ms, most_calls)
        self._query = query

    async def run(self, call: Call[T], timeout_ms: int | None) -> T:
        seconds = self._seconds(timeout_ms)
        until = deadline(seconds)
        loop = asyncio.get_running_loop()

        def execute(statement: Statement, parameters: Sequence[Value]) -> Rows:
            # Not cancelled with the caller: a driver would cancel the statement, and the commit of a write that is
            # cancelled while it waits for a standby becomes visible before it is safe.
            rows = asyncio.run_coroutine_threadsafe(self._rows(statement, parameters), loop)
            return rows.result(_LOST_SECONDS)

        future = self._workers.submit(lambda: self._rules.run(call, execute, until))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), seconds)
        except (asyncio.TimeoutError, TimeoutError):
            raise timed_out() from None

    async def close(self) -> None:
        self._end()

    async def _rows(self, statement: Statement, parameters: Sequence[Value]) -> Rows:
        return await self._query(statement.sql, parameters, statement.name)
