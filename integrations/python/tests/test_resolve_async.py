"""resolve, for asyncio. The order of things is decided by events, as in test_resolve.py."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from cimd_cache import AsyncCache, CimdCacheError
from model import AsyncModel, Model

ID = "https://client.example/metadata.json"


class Origin:
    def __init__(self) -> None:
        self.document = '{"v":1}'
        self.began = asyncio.Semaphore(0)
        self.may_end = asyncio.Semaphore(0)
        self.fetches = self.cancelled = 0

    async def fetch(self, client_id: str) -> tuple[str, int]:
        self.fetches += 1
        document = self.document
        self.began.release()
        try:
            await self.may_end.acquire()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return document, 60


class Scene:
    def __init__(self) -> None:
        self.model, self.origin = Model(), Origin()
        self.cache = AsyncCache(AsyncModel(self.model), away_fetches=2)

    def begin(self) -> asyncio.Task[str]:
        return asyncio.create_task(self.cache.resolve(ID, self.origin.fetch))

    async def waiting(self, count: int) -> None:
        """Until so many wait for the flight that is under way."""
        while True:
            place = self.cache._own()._flights._places.get(ID)
            if place is not None and place.flight is not None and place.flight.waiting == count:
                return
            await asyncio.sleep(0)


def play(test: Coroutine[Any, Any, None]) -> None:
    async def within() -> None:
        await asyncio.wait_for(test, 20)

    asyncio.run(within())


def test_callers_share_a_fetch() -> None:
    async def test() -> None:
        scene = Scene()
        all_of_them = [scene.begin() for _ in range(10)]
        await scene.waiting(10)
        scene.origin.may_end.release()
        assert set(await asyncio.gather(*all_of_them)) == {'{"v":1}'}
        assert (scene.origin.fetches, len(scene.model.puts)) == (1, 1)
        assert await scene.cache.resolve(ID, scene.origin.fetch) == '{"v":1}'
        assert scene.origin.fetches == 1

    play(test())


def test_a_caller_that_is_cancelled_does_not_end_the_fetch_for_the_others() -> None:
    async def test() -> None:
        scene = Scene()
        first = scene.begin()
        await scene.waiting(1)
        second = scene.begin()
        await scene.waiting(2)
        first.cancel()
        await scene.waiting(1)
        scene.origin.may_end.release()
        assert await second == '{"v":1}'
        assert (scene.origin.fetches, scene.origin.cancelled, first.cancelled()) == (1, 0, True)

    play(test())


def test_a_fetch_that_nobody_waits_for_ends_and_nobody_joins_it() -> None:
    async def test() -> None:
        scene = Scene()
        first = scene.begin()
        await scene.waiting(1)
        first.cancel()
        second = scene.begin()
        while scene.origin.fetches < 2:
            await asyncio.sleep(0)
        assert scene.origin.cancelled == 1
        scene.origin.may_end.release()
        assert await second == '{"v":1}'

    play(test())


def test_what_is_superseded_answers_one_request_only() -> None:
    async def test() -> None:
        scene = Scene()
        both = [scene.begin() for _ in range(2)]
        await scene.waiting(2)
        await scene.origin.began.acquire()
        scene.model.delete(ID)
        scene.origin.document = '{"v":2}'
        scene.origin.may_end.release()
        scene.origin.may_end.release()
        assert await asyncio.gather(*both) == ['{"v":1}', '{"v":2}']

    play(test())


@pytest.mark.parametrize("remove", ["delete", "purge"])
def test_nobody_joins_a_flight_from_before_a_delete_or_purge(remove: str) -> None:
    async def test() -> None:
        scene = Scene()
        first = scene.begin()
        await scene.origin.began.acquire()
        await (scene.cache.delete(ID) if remove == "delete" else scene.cache.purge())
        scene.origin.document = '{"v":2}'
        second = scene.begin()
        await scene.origin.began.acquire()
        scene.origin.may_end.release()
        scene.origin.may_end.release()
        assert await asyncio.gather(first, second) == ['{"v":1}', '{"v":2}']

    play(test())


def test_a_failure_is_shared_and_nothing_is_put() -> None:
    async def test() -> None:
        scene = Scene()

        async def refuse(client_id: str) -> tuple[str, int]:
            await scene.origin.fetch(client_id)
            raise ValueError("not a client")

        both = [asyncio.create_task(scene.cache.resolve(ID, refuse)) for _ in range(2)]
        await scene.waiting(2)
        scene.origin.may_end.release()
        results = await asyncio.gather(*both, return_exceptions=True)
        assert [str(result) for result in results] == ["not a client"] * 2
        assert (scene.origin.fetches, scene.model.puts) == (1, [])

    play(test())


def test_away_each_fetches_and_nothing_is_put() -> None:
    async def test() -> None:
        scene = Scene()
        scene.model.away = "unavailable"
        many = [scene.begin() for _ in range(5)]
        for _ in range(2):
            await scene.origin.began.acquire()
        await asyncio.sleep(0)
        assert scene.origin.fetches == 2, "two at once, as the cache was told"
        for _ in many:
            scene.origin.may_end.release()
        assert set(await asyncio.gather(*many)) == {'{"v":1}'}
        assert (scene.origin.fetches, scene.model.puts) == (5, [])
        with pytest.raises(CimdCacheError):
            await scene.cache.resolve(ID, scene.origin.fetch, on_unavailable="fail")

    play(test())


def test_a_cache_that_goes_away_before_the_put_answers_who_fetched() -> None:
    async def test() -> None:
        scene = Scene()
        both = [scene.begin() for _ in range(2)]
        await scene.waiting(2)
        await scene.origin.began.acquire()
        scene.model.before_put = lambda: setattr(scene.model, "away", "unavailable")
        scene.origin.document = '{"v":2}'
        scene.origin.may_end.release()
        scene.origin.may_end.release()
        assert await asyncio.gather(*both) == ['{"v":1}', '{"v":2}']
        assert len(scene.model.puts) == 1

    play(test())


def test_one_cache_serves_one_loop_after_another() -> None:
    scene: Scene | None = None

    async def test() -> None:
        nonlocal scene
        scene = scene or Scene()

        async def fetch(client_id: str) -> tuple[str, int]:
            return '{"v":1}', 60

        scene.model.purge()
        assert await scene.cache.resolve(ID, fetch) == '{"v":1}'

    asyncio.run(test())
    asyncio.run(test())
