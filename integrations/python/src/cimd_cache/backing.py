"""What a cache is backed by: something that runs calls."""

from __future__ import annotations

from typing import Protocol, TypeVar

from .calls import Call

T = TypeVar("T")


class Backing(Protocol):
    def run(self, call: Call[T], timeout_ms: int | None) -> T:
        """Runs a call. `timeout_ms` is how long the caller waits, and never lengthens the deadline."""

    def close(self) -> None: ...


class AsyncBacking(Protocol):
    async def run(self, call: Call[T], timeout_ms: int | None) -> T: ...

    async def close(self) -> None: ...
