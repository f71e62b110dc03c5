"""resolve for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable

from . import without_cache
from .answers import Hit, Lookup, PutOutcome
from .errors import CimdCacheError
from .flights import Again, Failed, Flight, Flights, Landing, NotStored, Place, Stored
from .without_cache import OnUnavailable, Warnings

Fetch = Callable[[str], tuple[str, int]]


class _Flight(Flight):
    def __init__(self) -> None:
        super().__init__()
        self.landed = threading.Event()
        self.landing: Landing = Again()


class Resolver:
    def __init__(self, away_fetches: int) -> None:
        self._flights: Flights[_Flight] = Flights()
        self._slots = threading.BoundedSemaphore(away_fetches)
        self._warnings = Warnings()

    def let_go(self, client_id: str | None) -> None:
        self._flights.let_go(client_id)

    def resolve(
        self,
        client_id: str,
        get: Callable[[], Lookup],
        put: Callable[[str, int, str], PutOutcome],
        fetch: Fetch,
        on_unavailable: OnUnavailable,
    ) -> str:
        with self._flights.caller(client_id) as place:
            while True:
                stored = place.stored
                try:
                    looked = get()
                except CimdCacheError as error:
                    return self._without(client_id, error, fetch, on_unavailable)
                if isinstance(looked, Hit):
                    return looked.metadata
                boarding = self._flights.board(place, stored, _Flight)
                if boarding is None:
                    continue
                flight = boarding.flight
                if boarding.is_mine:
                    return self._fly(place, flight, client_id, looked.ticket, put, fetch)
                flight.landed.wait()
                match flight.landing:
                    case Stored(metadata) if boarding.in_time:
                        return metadata
                    case Failed(failure):
                        raise failure
                    case NotStored(away):
                        return self._without(client_id, away, fetch, on_unavailable)

    def _fly(
        self,
        place: Place[_Flight],
        flight: _Flight,
        client_id: str,
        ticket: str,
        put: Callable[[str, int, str], PutOutcome],
        fetch: Fetch,
    ) -> str:
        try:
            metadata, lifetime = fetch(client_id)
            self._flights.put_begins(flight)
            try:
                outcome = put(metadata, lifetime, ticket)
            except CimdCacheError as error:
                if error.code == "invalid-metadata":
                    raise
                self._warnings.say("a document was fetched and could not be stored", error)
                flight.landing = NotStored(error)
                return metadata
            # If it is superseded, what was fetched is good for this request, and for no other.
            flight.landing = Stored(metadata) if outcome == "stored" else Again()
            return metadata
        except Exception as error:
            flight.landing = Failed(error)
            raise
        finally:
            self._flights.land(place, flight, flight.landing)
            flight.landed.set()

    def _without(
        self, client_id: str, error: CimdCacheError, fetch: Fetch, on_unavailable: OnUnavailable
    ) -> str:
        refusal = without_cache.refuse(error, on_unavailable)
        if refusal is not None:
            raise refusal
        self._warnings.say("the cache is away: documents are fetched and not stored", error)
        if not self._slots.acquire(timeout=without_cache.SLOT_SECONDS):
            raise without_cache.no_slot() from error
        try:
            # Never put: without a ticket that would undo a delete.
            return fetch(client_id)[0]
        finally:
            self._slots.release()
