"""What the two backings in process have in common."""

from __future__ import annotations

import os
import time

from ..errors import CimdCacheError
from .component import Rules
from .workers import Workers


class Base:
    def __init__(self, schema: str, deadline_ms: int, most_calls: int) -> None:
        if not 1 <= deadline_ms <= 30_000:
            raise ValueError("deadline_ms is between 1 and 30,000")
        self._rules = Rules(schema)
        self._workers = Workers(most_calls)
        self._deadline_ms = deadline_ms
        self._process = os.getpid()
        self._is_closed = False

    def _seconds(self, timeout_ms: int | None) -> float:
        """How long the caller waits. Raises if it may not call at all."""
        if self._is_closed:
            raise CimdCacheError("unavailable", "this cache is closed")
        if self._process != os.getpid():
            # Neither the threads nor a pool survive a fork.
            raise CimdCacheError("not-ready", "this cache was made before a fork: make one in each process")
        if timeout_ms is None:
            return self._deadline_ms / 1_000
        if timeout_ms < 1:
            raise ValueError("timeout_ms is at least 1")
        return min(timeout_ms, self._deadline_ms) / 1_000

    def _end(self) -> None:
        self._is_closed = True
        self._workers.close()


def deadline(seconds: float) -> float:
    return time.monotonic() + seconds
