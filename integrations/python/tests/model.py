"""A cache in memory, with the rules that resolve relies on, for tests that decide the order of things."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from cimd_cache import CimdCacheError, Hit, Miss
from cimd_cache.calls import Delete, Get, Purge, Put


class Model:
    """Tickets are numbers that grow; a delete and a purge take one too."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._now = 0
        self._documents: dict[str, tuple[int, str | None]] = {}
        self._purged = 0
        self.away: str | None = None
        self.puts: list[Put] = []
        self.before_put: Callable[[], None] = lambda: None
        self.after_put: Callable[[], None] = lambda: None
        self.before_removal: Callable[[], None] = lambda: None
        self.after_get: Callable[[], None] = lambda: None
        self.gets = 0

    def run(self, call: Any, timeout_ms: int | None) -> Any:
        if self.away is not None:
            raise CimdCacheError(self.away, "away")
        match call:
            case Get(client_id):
                with self._lock:
                    self._now += 1
                    self.gets += 1
                    since, document = self._documents.get(client_id, (0, None))
                    found: Hit | Miss = Miss(str(self._now))
                    if document is not None and since > self._purged:
                        later = datetime.now(timezone.utc) + timedelta(hours=1)
                        found = Hit(document, later, timedelta(hours=1), str(self._now))
                self.after_get()
                return found
            case Put(client_id, metadata, ticket):
                self.puts.append(call)
                self.before_put()
                outcome = self._put(client_id, metadata, int(ticket or 0))
                self.after_put()
                return outcome
            case Delete(client_id):
                self.before_removal()
                return self.delete(client_id)
            case Purge():
                self.before_removal()
                self.purge()
                return None
        raise AssertionError(call)

    def _put(self, client_id: str, metadata: str, ticket: int) -> str:
        if self.away is not None:
            raise CimdCacheError(self.away, "away")
        with self._lock:
            since, _ = self._documents.get(client_id, (0, None))
            if ticket < max(since, self._purged):
                return "superseded"
            self._documents[client_id] = (ticket, metadata)
            return "stored"

    def delete(self, client_id: str) -> bool:
        """As another node would."""
        with self._lock:
            self._now += 1
            _, before = self._documents.get(client_id, (0, None))
            self._documents[client_id] = (self._now, None)
            return before is not None

    def purge(self) -> None:
        with self._lock:
            self._now += 1
            self._purged = self._now

    def close(self) -> None:
        pass


class AsyncModel:
    def __init__(self, model: Model) -> None:
        self.model = model

    async def run(self, call: Any, timeout_ms: int | None) -> Any:
        return self.model.run(call, timeout_ms)

    async def close(self) -> None:
        pass
