"""Two requests share a fetch, and its document must not be stored."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from cimd_cache import AsyncCache, Miss
from cimd_cache.fastmcp import _CachedFetcher
from fastmcp.server.auth import cimd
from fastmcp.server.auth.ssrf import SSRFFetchResponse

CLIENT_ID = "https://client.example/metadata.json"


class Empty:
    """A backing without documents."""

    async def run(self, call: Any, timeout_ms: int | None) -> Miss:
        return Miss("a ticket")

    async def close(self) -> None:
        pass


def test_who_waited_fetches_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may have come after a delete, and what it waited for is from before."""

    async def fetch_twice() -> list[Any]:
        fetches, go = 0, asyncio.Event()

        async def origin(*_: Any, **__: Any) -> SSRFFetchResponse:
            nonlocal fetches
            fetches += 1
            name = f"fetch {fetches}"
            await go.wait()
            document = {"client_id": CLIENT_ID, "client_name": name, "redirect_uris": ["https://app.example/cb"]}
            return SSRFFetchResponse(json.dumps(document).encode(), 200, {"cache-control": "no-store"})

        monkeypatch.setattr(cimd, "ssrf_safe_fetch_response", origin)
        fetcher = _CachedFetcher(AsyncCache(Empty()), 10.0, 250)
        requests = [asyncio.create_task(fetcher.fetch(CLIENT_ID)) for _ in range(2)]
        while len(asyncio.all_tasks()) < 4 or fetches == 0:
            # This one, both requests and the fetch that they share.
            await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)
        assert fetches == 1
        go.set()
        return [document.client_name for document in await asyncio.gather(*requests)]

    assert sorted(asyncio.run(fetch_twice())) == ["fetch 1", "fetch 2"]
