"""The cache, for threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from . import calls
from .answers import Lookup, PutOutcome, Swept
from .backing import Backing
from .errors import CimdCacheError
from .resolving import Fetch, Resolver
from .without_cache import OnUnavailable

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

    from .in_process import Query
    from .service.target import Token


class Cache:
    """A shared cache of validated client metadata documents. Any number of threads may share one.

    Made by `connect` or `in_process`. Every call raises CimdCacheError. `timeout_ms` is how long a caller waits:
    it shortens the cache's deadline and never lengthens it.
    """

    def __init__(self, backing: Backing, *, away_fetches: int = 16) -> None:
        self._backing = backing
        self._away_fetches = away_fetches
        self._process = os.getpid()
        self._resolver = Resolver(away_fetches)

    @classmethod
    def connect(
        cls,
        where: str,
        *,
        token: Token = None,
        tls: ssl.SSLContext | None = None,
        timeout: float = 5.0,
        away_fetches: int = 16,
    ) -> Cache:
        """By the service: the path of its socket, or a URL with a token (a text, or a function that returns it).

        `tls` is for an https URL whose certificate is not of the usual authorities, or to show one's own.
        `timeout`, in seconds, is a little more than the service's own deadline, so that the service answers
        first. Nothing is connected before the first call.
        """
        from .service.target import target
        from .service.threads import ServiceBacking

        return cls(ServiceBacking(target(where), token, tls, timeout), away_fetches=away_fetches)

    @classmethod
    def in_process(
        cls,
        query: Query,
        *,
        schema: str = "cimd_cache",
        deadline_ms: int = 2_000,
        most_calls: int = 16,
        away_fetches: int = 16,
    ) -> Cache:
        """By the component in this process, on `query`: see `from_psycopg`.

        At most `most_calls` are made at once; the others wait. It needs the extra `in-process`.
        """
        from .in_process.threads import InProcessBacking

        return cls(InProcessBacking(query, schema, deadline_ms, most_calls), away_fetches=away_fetches)

    def get(self, client_id: str, *, timeout_ms: int | None = None) -> Lookup:
        """A Hit, or a Miss with the ticket for the put after the fetch."""
        return self._backing.run(calls.get(client_id), timeout_ms)

    def get_many(
        self, client_ids: Sequence[str], *, timeout_ms: int | None = None
    ) -> list[Lookup | CimdCacheError]:
        """The answers to at most 64 gets, in the same order. A get that failed is answered with its error."""
        call = calls.get_many(client_ids)
        return self._backing.run(call, timeout_ms) if call.client_ids else []

    def put(
        self,
        client_id: str,
        metadata: str | bytes,
        *,
        ticket: str | None,
        expires_in: int | None = None,
        expires_at: datetime | None = None,
        timeout_ms: int | None = None,
    ) -> PutOutcome:
        """Stores a document that was validated, for so many seconds or until a time.

        `ticket` is that of the get before the fetch. None states that there is none: then a newer document, or
        a delete, is not protected from this one.
        """
        return self._backing.run(calls.put(client_id, metadata, ticket, expires_in, expires_at), timeout_ms)

    def delete(self, client_id: str, *, timeout_ms: int | None = None) -> bool:
        """Removes a document, and says whether there was one. Puts with older tickets are superseded."""
        call = calls.delete(client_id)
        self._own().let_go(client_id)
        try:
            return self._backing.run(call, timeout_ms)
        finally:
            # Also when the delete failed: it may have been applied.
            self._own().let_go(client_id)

    def purge(self, *, timeout_ms: int | None = None) -> None:
        """Removes all documents."""
        self._own().let_go(None)
        try:
            self._backing.run(calls.Purge(), timeout_ms)
        finally:
            self._own().let_go(None)

    def sweep(self, limit: int = 1_000, *, timeout_ms: int | None = None) -> Swept:
        """Removes at most so many rows that no get can return any more; a call removes at most 1,000."""
        return self._backing.run(calls.sweep(limit), timeout_ms)

    def check(self, *, timeout_ms: int | None = None) -> None:
        """Raises `not-ready` if the cache cannot be used as it is set up."""
        self._backing.run(calls.Check(), timeout_ms)

    def resolve(
        self,
        client_id: str,
        fetch_and_validate: Fetch,
        *,
        on_unavailable: OnUnavailable = "fetch",
        timeout_ms: int = 250,
    ) -> str:
        """The document of a client as text: from the cache, else from its origin.

        `fetch_and_validate(client_id)` returns the document as text and its lifetime in seconds, or raises; then
        nothing is stored. `timeout_ms` is for the get. While the cache is away, `fetch` calls
        `fetch_and_validate` for each caller and stores nothing, and `fail` raises.
        """
        if on_unavailable not in ("fetch", "fail"):
            raise ValueError("on_unavailable is 'fetch' or 'fail'")
        return self._own().resolve(
            client_id,
            lambda: self.get(client_id, timeout_ms=timeout_ms),
            self._put_fetched(client_id),
            fetch_and_validate,
            on_unavailable,
        )

    def close(self) -> None:
        """Ends the connections. With `in_process` the pool stays open: it is yours."""
        self._backing.close()

    def __enter__(self) -> Cache:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _put_fetched(self, client_id: str) -> Callable[[str, int, str], PutOutcome]:
        def put(metadata: str, lifetime: int, ticket: str) -> PutOutcome:
            return self.put(client_id, metadata, ticket=ticket, expires_in=max(lifetime, 0))

        return put

    def _own(self) -> Resolver:
        if self._process != os.getpid():
            # After a fork, the threads that fetch are those of the parent.
            self._process, self._resolver = os.getpid(), Resolver(self._away_fetches)
        return self._resolver
