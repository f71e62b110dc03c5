"""Whether the cache can be used as it is set up, asked by way of the same query function."""

from __future__ import annotations

from collections.abc import Callable

from ..errors import CimdCacheError
from .failures import SqlError
from .loan import Answer
from .statements import SCHEMA_VERSION, Value

# In milliseconds: from here on a statement may outlast what the rules take for granted.
_TOO_LONG = 60_000


def check(
    ask: Callable[[], Answer], get: Callable[[], object], refusal: Callable[[], CimdCacheError | None]
) -> None:
    """Raises `not-ready` with the first thing that is wrong."""
    first, second = _row(ask(), refusal), _row(ask(), refusal)
    for is_right, otherwise in (
        (first[0] != second[0], "two calls ran in one transaction: each needs one of its own"),
        (first[1] == "read committed", "the isolation level is not READ COMMITTED: set it in query"),
        (_is_short(first[2]), "statement_timeout is not between 1 ms and a minute: set it in query"),
        (first[3] is False, "the server takes no writes: connect to the one that does"),
        (_is_new(first[4]), "the schema is missing or older than this package: run `cimd-cache migrate`"),
        (first[5] is True, "the role lacks a privilege: run `cimd-cache migrate`, or see `cimd-cache check`"),
    ):
        if not is_right:
            raise CimdCacheError("not-ready", otherwise)
    try:
        get()
    except CimdCacheError as error:
        raise CimdCacheError("not-ready", f"a get failed: {error}") from error


def _row(answer: Answer, refusal: Callable[[], CimdCacheError | None]) -> list[Value]:
    refused = refusal()
    if refused is not None:
        raise refused
    if isinstance(answer, SqlError):
        state = f" ({answer.sqlstate})" if answer.sqlstate else ""
        raise CimdCacheError("not-ready", f"the database cannot be used: {answer.case}{state}; see the log")
    if len(answer) != 1:
        raise CimdCacheError("not-ready", "query returned no row where there is always one")
    return list(answer[0])


def _is_short(milliseconds: Value) -> bool:
    return isinstance(milliseconds, int) and 1 <= milliseconds < _TOO_LONG


def _is_new(version: Value) -> bool:
    return isinstance(version, int) and version >= SCHEMA_VERSION
