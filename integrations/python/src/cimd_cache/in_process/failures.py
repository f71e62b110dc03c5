"""Why a statement has no rows, in the words of `wit/sql.wit`."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass


@dataclass(frozen=True)
class SqlError:
    """A case of the interface's error; `sqlstate` is that of `database`."""

    case: str
    sqlstate: str | None = None


def sqlstate_of(error: BaseException) -> str | None:
    """psycopg and asyncpg have it under the same name."""
    state = getattr(error, "sqlstate", None)
    return state if isinstance(state, str) and len(state) == 5 else None


def sql_error(error: BaseException) -> SqlError:
    state = sqlstate_of(error)
    if state is not None:
        if state == "57014":
            return SqlError("timed-out")
        if state.startswith(("08", "57P")):
            return SqlError("unavailable")
        return SqlError("database", state)
    if isinstance(error, (TimeoutError, asyncio.TimeoutError)):
        return SqlError("timed-out")
    if isinstance(error, (OSError, EOFError)):
        return SqlError("unavailable")
    # A fault of the query function: an operator must look.
    return SqlError("database", "XX000")
