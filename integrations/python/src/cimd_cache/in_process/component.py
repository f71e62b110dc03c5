"""The calls, made of the component: arguments in, answers out."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar, cast

from ..answers import Hit, Lookup, Miss, Swept
from ..calls import Call, Check, Delete, Get, GetMany, Purge, Put, Sweep
from ..errors import CimdCacheError
from .check import check
from .instance import Instance, Record, Variant
from .loan import Execute, Loan
from .statements import check_statement, load

T = TypeVar("T")

_log = logging.getLogger("cimd_cache")
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)

_TEXTS = {
    "not-configured": "there is no database: fix the deployment",
    "unavailable": "the database cannot be reached, or is overloaded: retry later",
    "timed-out": "the database did not answer in time: retry later",
    "storage": "the database refused, or is not set up: see the log, and run `cimd-cache check`",
}


class Rules:
    """The component's rules. Any number of threads share them; each call has an instance to itself."""

    def __init__(self, schema: str) -> None:
        self._statements = load(schema)
        self._check = check_statement(schema)
        # The first compiles the component, which no call should have to wait for.
        self._idle: deque[Instance] = deque([Instance()])

    def run(self, call: Call[T], execute: Execute, deadline: float) -> T:
        if isinstance(call, Check):
            self._run_check(execute, deadline)
            return cast(T, None)
        loan = Loan(self._statements, execute, deadline)
        try:
            instance = self._idle.pop()
        except IndexError:
            instance = Instance()
        try:
            result = _make(call, instance, loan)
        except Exception:
            # The instance is not used again: nobody knows what state it is in.
            _log.exception("an instance of the component failed")
            result = CimdCacheError("storage", _TEXTS["storage"])
        else:
            self._idle.append(instance)
        if loan.refusal is not None:
            raise loan.refusal
        if isinstance(result, CimdCacheError):
            raise result
        return cast(T, result)

    def _run_check(self, execute: Execute, deadline: float) -> None:
        loan = Loan({self._check.sql: self._check}, execute, deadline)
        check(
            lambda: loan.query(self._check.sql, ()),
            lambda: self.run(Get("https://check.invalid/"), execute, deadline),
            lambda: loan.refusal,
        )


def _make(call: Call[Any], instance: Instance, loan: Loan) -> object:
    def cache(name: str, *arguments: object) -> Any:
        return instance.call("cache", name, loan, *arguments)

    match call:
        case Get(client_id):
            return _answer(cache("get", client_id), _lookup)
        case GetMany(client_ids):
            # What is no Unicode cannot cross at all; the component refuses an empty URL as it would refuse that.
            answers = cache("get-many", [_crossing(one) for one in client_ids])
            return [_answer(one, _lookup) for one in answers]
        case Put(client_id, metadata, ticket, expires_in, expires_at):
            after = Variant("after", expires_in)
            expiry = after if expires_in is not None else Variant("at", expires_at)
            return _answer(cache("put", client_id, metadata, expiry, ticket), _outcome)
        case Delete(client_id):
            return _answer(cache("delete", client_id), bool)
        case Purge():
            return _answer(cache("purge"), lambda nothing: nothing)
        case Sweep(limit):
            return _answer(instance.call("maintenance", "sweep", loan, limit), _swept)
    raise TypeError(f"no call {type(call).__name__}")


def _answer(raw: Any, read: Callable[[Any], Any]) -> object:
    """Errors are the only answers that are tagged; the others come as their payload."""
    if not isinstance(raw, Variant):
        return read(raw)
    text = _TEXTS.get(raw.tag) or str(raw.payload)
    return CimdCacheError(raw.tag, text)


def _lookup(raw: Any) -> Lookup:
    if isinstance(raw, str):
        return Miss(raw)
    assert isinstance(raw, Record)
    entry = raw.__dict__
    expires_at = _EPOCH + timedelta(seconds=entry["expires-at"])
    fresh_for = timedelta(milliseconds=entry["fresh-for"])
    return Hit(entry["metadata"], expires_at, fresh_for, entry["ticket"])


def _outcome(raw: Any) -> str:
    if raw not in ("stored", "superseded"):
        raise ValueError("not an outcome of a put")
    return str(raw)


def _swept(raw: Any) -> Swept:
    return Swept(raw.__dict__["removed"], raw.__dict__["more"])


def _crossing(client_id: str) -> str:
    try:
        client_id.encode()
    except UnicodeEncodeError:
        return ""
    return client_id
