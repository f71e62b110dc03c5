"""What the adapters have in common: how a statement's transaction begins, and what is tried again."""

from __future__ import annotations

from ..errors import CimdCacheError
from .failures import sqlstate_of

# How long a call waits for a connection: less than its deadline, so that it can say why it failed.
CONNECTION_SECONDS = 1.5

# Statements that are worth preparing. They have different numbers of parameters, so that a pooler which mixes up
# the statements of its clients can never run one for the other.
PREPARED = frozenset({"get", "get-many", "put"})

READS = frozenset({"get", "get-many", "clock", "sweepable", "check"})

# A plan that is outdated after a migration, and a prepared statement that a pooler lost.
_OUTDATED = frozenset({"0A000", "26000"})

# The server rolled it back: besides these, two transactions in each other's way.
_ROLLED_BACK = _OUTDATED | {"40001", "40P01"}


def begin(statement_timeout_ms: int) -> str:
    """One message for all of it. `set local` ends with the transaction, so the pool's others never see it."""
    return (
        "begin isolation level read committed; "
        f"set local statement_timeout = {statement_timeout_ms}; "
        f"set local idle_in_transaction_session_timeout = {statement_timeout_ms}"
    )


def is_inside() -> CimdCacheError:
    return CimdCacheError(
        "not-ready",
        "the pool lent a connection that is inside a transaction: each call needs one of its own, so pass a pool "
        "that nobody has begun a transaction on",
    )


def may_retry(error: Exception, name: str, was_sent: bool, is_lost: bool) -> bool:
    """Whether the statement may be sent again: it was not applied, or it only reads."""
    if is_lost:
        return not was_sent or name in READS
    return sqlstate_of(error) in _ROLLED_BACK


def is_outdated(error: Exception) -> bool:
    """Whether what the connection has prepared is of no use any more."""
    return sqlstate_of(error) in _OUTDATED
