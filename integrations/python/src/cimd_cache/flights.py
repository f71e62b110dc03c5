"""Fetches that are under way, so that callers of one client_id share one.

A caller never shares a get: one that is in flight may be older than what the caller knows. Each asks for itself,
and only on a miss joins the fetch that is under way. What that fetch brings is good for it if the put was stored,
and began after the caller had missed: then nothing was deleted or purged from before the fetch until after the
miss, here or on any other node.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar, Union

from .errors import CimdCacheError


class Flight:
    """A fetch and its put."""

    def __init__(self) -> None:
        self.is_putting = False
        """Whether the put has begun. Who misses after that may have missed because of a delete after the put."""


F = TypeVar("F", bound=Flight)


@dataclass(frozen=True)
class Stored:
    """The document is good for all who waited."""

    metadata: str


@dataclass(frozen=True)
class Failed:
    """The fetch or the validation failed, for all who waited."""

    error: Exception


@dataclass(frozen=True)
class NotStored:
    """The cache went away between get and put: nobody knows whether a delete came in between."""

    error: CimdCacheError


@dataclass(frozen=True)
class Again:
    """Something newer is known, or whoever fetched has gone: who waited begins anew."""


Landing = Union[Stored, Failed, NotStored, Again]


@dataclass(frozen=True)
class Boarding(Generic[F]):
    flight: F
    is_mine: bool
    """Whether the caller has to fly it."""
    in_time: bool
    """Whether the caller had missed before the put began."""


class Place(Generic[F]):
    """What callers of one client_id have in common."""

    def __init__(self) -> None:
        self.callers = 0
        self.flight: F | None = None
        self.stored = 0
        """How many flights have stored a document since the first of these callers came."""


class Flights(Generic[F]):
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, Place[F]] = {}

    @contextmanager
    def caller(self, client_id: str) -> Iterator[Place[F]]:
        with self._lock:
            place = self._places.setdefault(client_id, Place())
            place.callers += 1
        try:
            yield place
        finally:
            with self._lock:
                place.callers -= 1
                if place.callers == 0:
                    del self._places[client_id]

    def board(self, place: Place[F], stored: int, begin: Callable[[], F]) -> Boarding[F] | None:
        """Joins the flight that is under way, or begins one, after a miss.

        None if a document was stored since the caller looked at `place.stored`, before its get: it looks again.
        """
        with self._lock:
            if place.flight is not None:
                return Boarding(place.flight, False, not place.flight.is_putting)
            if place.stored != stored:
                return None
            place.flight = begin()
            return Boarding(place.flight, True, True)

    def put_begins(self, flight: F) -> None:
        with self._lock:
            flight.is_putting = True

    def land(self, place: Place[F], flight: F, landing: Landing) -> None:
        with self._lock:
            if place.flight is flight:
                place.flight = None
            if isinstance(landing, Stored):
                place.stored += 1

    def let_go(self, client_id: str | None) -> None:
        """From now on nobody joins what is under way, for one client_id or for all."""
        with self._lock:
            places = self._places.values() if client_id is None else [self._places.get(client_id)]
            for place in places:
                if place is not None:
                    place.flight = None
