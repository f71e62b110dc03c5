"""resolve for asyncio. A flight is a task of its own: a caller that is cancelled does not end it for the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from . import without_cache
from .answers import Hit, Lookup, PutOutcome
from .errors import CimdCacheError
from .flights import Again, Failed, Flight, Flights, Landing, NotStored, Place, Stored
from .without_cache import OnUnavailable, Warnings

AsyncFetch = Callable[[str], Awaitable[tuple[str, int]]]
_Put = Callable[[str, int, str], Awaitable[PutOutcome]]


class _Flight(Flight):
    def __init__(self) -> None:
        super().__init__()
        self.task: asyncio.Task[tuple[str | None, Landing]] | None = None
        self.waiting = 0


class AsyncResolver:
    """For one event loop."""

    def __init__(self, away_fetches: int, warnings: Warnings) -> None:
        self._flights: Flights[_Flight] = Flights()
        self._slots = asyncio.BoundedSemaphore(away_fetches)
        self._warnings = warnings

    def let_go(self, client_id: str | None) -> None:
        self._flights.let_go(client_id)

    async def resolve(
        self,
        client_id: str,
        get: Callable[[], Awaitable[Lookup]],
        put: _Put,
        fetch: AsyncFetch,
        on_unavailable: OnUnavailable,
    ) -> str:
        with self._flights.caller(client_id) as place:
            while True:
                stored = place.stored
                try:
                    looked = await get()
                except CimdCacheError as error:
                    return await self._without(client_id, error, fetch, on_unavailable)
                if isinstance(looked, Hit):
                    return looked.metadata
                boarding = self._flights.board(place, stored, _Flight)
                if boarding is None:
                    continue
                flight = boarding.flight
                if boarding.is_mine:
                    flying = self._fly(flight, client_id, looked.ticket, put, fetch)
                    flight.task = asyncio.create_task(flying)
                    flight.task.add_done_callback(self._landed(place, flight))
                metadata, landing = await self._wait(flight)
                if isinstance(landing, Failed):
                    raise landing.error
                if metadata is not None and boarding.is_mine:
                    return metadata
                if isinstance(landing, Stored) and boarding.in_time:
                    return landing.metadata
                if isinstance(landing, NotStored):
                    return await self._without(client_id, landing.error, fetch, on_unavailable)

    def _landed(
        self, place: Place[_Flight], flight: _Flight
    ) -> Callable[[asyncio.Task[tuple[str | None, Landing]]], None]:
        def landed(task: asyncio.Task[tuple[str | None, Landing]]) -> None:
            landing: Landing = Again() if task.cancelled() or task.exception() else task.result()[1]
            self._flights.land(place, flight, landing)

        return landed

    async def _wait(self, flight: _Flight) -> tuple[str | None, Landing]:
        task = flight.task
        assert task is not None
        flight.waiting += 1
        try:
            await asyncio.wait([task])
        finally:
            flight.waiting -= 1
            if flight.waiting == 0 and not task.done():
                # Nobody is left. Who joins before it has ended begins anew.
                task.cancel()
        return (None, Again()) if task.cancelled() else task.result()

    async def _fly(
        self, flight: _Flight, client_id: str, ticket: str, put: _Put, fetch: AsyncFetch
    ) -> tuple[str | None, Landing]:
        try:
            metadata, lifetime = await fetch(client_id)
            self._flights.put_begins(flight)
            try:
                outcome = await put(metadata, lifetime, ticket)
            except CimdCacheError as error:
                if error.code == "invalid-metadata":
                    raise
                self._warnings.say("a document was fetched and could not be stored", error)
                return metadata, NotStored(error)
            # If it is superseded, what was fetched is good for the request that flew, and for no other.
            return metadata, Stored(metadata) if outcome == "stored" else Again()
        except Exception as error:
            return None, Failed(error)

    async def _without(
        self, client_id: str, error: CimdCacheError, fetch: AsyncFetch, on_unavailable: OnUnavailable
    ) -> str:
        refusal = without_cache.refuse(error, on_unavailable)
        if refusal is not None:
            raise refusal
        self._warnings.say("the cache is away: documents are fetched and not stored", error)
        try:
            await asyncio.wait_for(self._slots.acquire(), without_cache.SLOT_SECONDS)
        except (asyncio.TimeoutError, TimeoutError):
            raise without_cache.no_slot() from error
        try:
            # Never put: without a ticket that would undo a delete.
            return (await fetch(client_id))[0]
        finally:
            self._slots.release()
