"""What an instance is lent for one call: the statements of the list, and nothing else."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Union

from ..errors import CimdCacheError
from .failures import SqlError, sql_error, sqlstate_of
from .statements import Rows, Statement, Value

Execute = Callable[[Statement, Sequence[Value]], Rows]
Answer = Union[Rows, SqlError]

_log = logging.getLogger("cimd_cache")


class Loan:
    def __init__(self, statements: Mapping[str, Statement], execute: Execute, deadline: float) -> None:
        self._statements, self._execute, self._deadline = statements, execute, deadline
        self.refusal: CimdCacheError | None = None
        """A mistake in how the cache is used, for the caller and not for the component."""

    def query(self, text: str, parameters: Sequence[Value]) -> Answer:
        """Runs a statement for the component. It never raises: above it there is only machine code."""
        statement = self._statements.get(text)
        if statement is None or not statement.allows(parameters):
            _log.error("a statement that is not on the list was refused")
            return SqlError("not-allowed")
        if not statement.has_room_for(parameters):
            return SqlError("too-large")
        if time.monotonic() >= self._deadline:
            # Nobody waits for it any more.
            return SqlError("timed-out")
        try:
            return self._run(statement, parameters)
        except CimdCacheError as error:
            self.refusal = error
            return SqlError("unavailable")
        except BaseException as error:
            return failed(statement, error)

    def _run(self, statement: Statement, parameters: Sequence[Value]) -> Answer:
        rows = [list(row) for row in self._execute(statement, parameters)]
        if not statement.returns(rows):
            _log.error("the statement %s returned rows that are none of it: look at query", statement.name)
            return SqlError("database", "XX000")
        return rows if statement.has_room_for_rows(rows) else SqlError("too-large")


def failed(statement: Statement, error: BaseException) -> SqlError:
    mapped = sql_error(error)
    # The first line is the server's message; what follows may have values in it.
    message = (str(error).splitlines() or [""])[0]
    state = sqlstate_of(error) or type(error).__name__
    _log.warning("the statement %s failed: %s: %s", statement.name, state, message)
    return mapped
