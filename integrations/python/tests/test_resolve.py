"""resolve, for threads."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from cimd_cache import Cache, CimdCacheError
from model import Model

ID = "https://client.example/metadata.json"
SECONDS = 20


class Origin:
    """Fetches that end when the test says so, each with what the origin says at its start."""

    def __init__(self, document: str = '{"v":1}') -> None:
        self.document = document
        self.began = threading.Semaphore(0)
        self.may_end = threading.Semaphore(0)
        self.fetches = 0
        self._lock = threading.Lock()

    def fetch(self, client_id: str) -> tuple[str, int]:
        with self._lock:
            self.fetches += 1
        document = self.document
        self.began.release()
        assert self.may_end.acquire(timeout=SECONDS)
        return document, 60

    def wait_for_fetch(self) -> None:
        assert self.began.acquire(timeout=SECONDS)


class Scene:
    def __init__(self) -> None:
        self.model, self.origin = Model(), Origin()
        self.cache = Cache(self.model, away_fetches=2)
        self.threads = ThreadPoolExecutor(16)

    def begin(self) -> Future[str]:
        return self.threads.submit(self.cache.resolve, ID, self.origin.fetch)

    def begin_and_miss(self) -> Future[str]:
        """Returns when the caller has missed, and so waits, or is about to."""
        missed = threading.Event()
        self.model.after_get = missed.set
        begun = self.begin()
        assert missed.wait(SECONDS)
        self.model.after_get = lambda: None
        return begun

    def waiting(self, count: int) -> None:
        """Until so many callers are between their first get and their end."""
        until(lambda: self.cache._resolver._flights._places[ID].callers == count and self.model.gets >= count)


def until(is_so: Callable[[], bool]) -> None:
    import time

    last = time.monotonic() + SECONDS
    while not is_so():
        assert time.monotonic() < last, "never"
        time.sleep(0.001)


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_document_is_fetched_once_and_then_hit(scene: Scene) -> None:
    scene.origin.may_end.release()
    assert [scene.cache.resolve(ID, scene.origin.fetch) for _ in range(3)] == ['{"v":1}'] * 3
    assert scene.origin.fetches == 1
    assert [put.ticket for put in scene.model.puts] == ["1"]


def test_callers_share_a_fetch(scene: Scene) -> None:
    first = scene.begin()
    scene.origin.wait_for_fetch()
    others = [scene.begin() for _ in range(9)]
    scene.waiting(10)
    scene.origin.may_end.release()
    assert {one.result(SECONDS) for one in [first, *others]} == {'{"v":1}'}
    assert (scene.origin.fetches, len(scene.model.puts)) == (1, 1)
    assert scene.cache._resolver._flights._places == {}


def test_one_who_missed_before_a_flight_that_has_landed_looks_again(scene: Scene) -> None:
    go_on = threading.Event()

    def hold() -> None:
        scene.model.after_get = lambda: None
        assert go_on.wait(SECONDS)

    scene.model.after_get = hold
    late = scene.begin()
    until(lambda: scene.model.gets == 1)
    scene.origin.may_end.release()
    assert scene.cache.resolve(ID, scene.origin.fetch) == '{"v":1}'
    go_on.set()
    assert late.result(SECONDS) == '{"v":1}'
    assert scene.origin.fetches == 1


def test_what_is_superseded_answers_one_request_only(scene: Scene) -> None:
    first = scene.begin()
    scene.origin.wait_for_fetch()
    other = scene.begin()
    scene.waiting(2)
    # Another node deletes, and the origin has new keys.
    scene.model.delete(ID)
    scene.origin.document = '{"v":2}'
    scene.origin.may_end.release(2)
    assert first.result(SECONDS) == '{"v":1}'
    assert other.result(SECONDS) == '{"v":2}'
    assert scene.cache.resolve(ID, scene.origin.fetch) == '{"v":2}'


@pytest.mark.parametrize("remove", ["delete", "purge"])
def test_nobody_joins_a_flight_from_before_a_delete_or_purge(scene: Scene, remove: str) -> None:
    first = scene.begin()
    scene.origin.wait_for_fetch()
    if remove == "delete":
        scene.cache.delete(ID)
    else:
        scene.cache.purge()
    scene.origin.document = '{"v":2}'
    second = scene.begin()
    # It does not wait for the first: it fetches at once.
    scene.origin.wait_for_fetch()
    scene.origin.may_end.release(2)
    assert (first.result(SECONDS), second.result(SECONDS)) == ('{"v":1}', '{"v":2}')
    assert scene.cache.resolve(ID, scene.origin.fetch) == '{"v":2}'
    assert scene.origin.fetches == 2


@pytest.mark.parametrize("remove", ["delete", "purge"])
def test_a_delete_that_takes_long_ends_what_began_before_and_during_it(scene: Scene, remove: str) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        begun.set()
        assert go_on.wait(SECONDS)

    scene.model.before_removal = hold
    flights = [scene.begin()]
    scene.origin.wait_for_fetch()
    removal = scene.threads.submit(scene.cache.purge if remove == "purge" else lambda: scene.cache.delete(ID))
    assert begun.wait(SECONDS)
    flights.append(scene.begin())
    scene.origin.wait_for_fetch()
    go_on.set()
    removal.result(SECONDS)
    flights.append(scene.begin())
    scene.origin.wait_for_fetch()
    scene.origin.may_end.release(3)
    for flight in flights:
        assert flight.result(SECONDS) == '{"v":1}'


def test_a_flight_from_before_a_delete_that_failed_is_left_too(scene: Scene) -> None:
    first = scene.begin()
    scene.origin.wait_for_fetch()
    scene.model.away = "timed-out"
    with pytest.raises(CimdCacheError):
        scene.cache.delete(ID)
    scene.model.away = None
    second = scene.begin()
    scene.origin.wait_for_fetch()
    scene.origin.may_end.release(2)
    assert first.result(SECONDS) == second.result(SECONDS)


def test_one_who_misses_after_the_put_began_asks_again(scene: Scene) -> None:
    """The put is done, its flight is about to land, and another node deletes: a miss from after that delete must not
    be answered with the document from before it."""
    stored, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        scene.model.after_put = lambda: None
        stored.set()
        assert go_on.wait(SECONDS)

    scene.model.after_put = hold
    first = scene.begin()
    scene.origin.wait_for_fetch()
    scene.origin.may_end.release()
    assert stored.wait(SECONDS)
    scene.model.delete(ID)
    scene.origin.document = '{"v":2}'
    second = scene.begin_and_miss()
    scene.origin.may_end.release()
    go_on.set()
    assert (first.result(SECONDS), second.result(SECONDS)) == ('{"v":1}', '{"v":2}')


def test_a_failure_is_shared_and_nothing_is_put(scene: Scene) -> None:
    def refuse(client_id: str) -> tuple[str, int]:
        scene.origin.fetch(client_id)
        raise ValueError("not a client")

    both = [scene.threads.submit(scene.cache.resolve, ID, refuse) for _ in range(2)]
    scene.origin.wait_for_fetch()
    scene.waiting(2)
    scene.origin.may_end.release()
    for one in both:
        with pytest.raises(ValueError, match="not a client"):
            one.result(SECONDS)
    assert (scene.origin.fetches, scene.model.puts) == (1, [])
    scene.origin.may_end.release()
    assert scene.cache.resolve(ID, scene.origin.fetch) == '{"v":1}'


def test_one_who_fetches_and_is_killed_leaves_the_others_to_themselves(scene: Scene) -> None:
    def killed(client_id: str) -> tuple[str, int]:
        scene.origin.fetch(client_id)
        raise SystemExit

    first = scene.threads.submit(scene.cache.resolve, ID, killed)
    scene.origin.wait_for_fetch()
    second = scene.begin()
    scene.waiting(2)
    scene.origin.may_end.release(2)
    assert second.result(SECONDS) == '{"v":1}'
    assert isinstance(first.exception(SECONDS), SystemExit)


@pytest.mark.parametrize("code", ["unavailable", "timed-out", "storage", "not-configured"])
def test_away_each_fetches_and_nothing_is_put(
    scene: Scene, code: str, caplog: pytest.LogCaptureFixture
) -> None:
    scene.model.away = code
    scene.origin.may_end.release(3)
    with caplog.at_level(logging.WARNING, "cimd_cache"):
        for _ in range(3):
            assert scene.cache.resolve(ID, scene.origin.fetch) == '{"v":1}'
    assert (scene.origin.fetches, scene.model.puts) == (3, [])
    assert len(caplog.records) == 1, "one warning a second"
    assert code in caplog.text and "client.example" not in caplog.text
    with pytest.raises(CimdCacheError) as failed:
        scene.cache.resolve(ID, scene.origin.fetch, on_unavailable="fail")
    assert (failed.value.code, scene.origin.fetches) == (code, 3)


def test_away_so_many_fetch_at_once_and_no_more(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    scene.model.away = "unavailable"
    both = [scene.begin() for _ in range(2)]
    for _ in both:
        scene.origin.wait_for_fetch()
    monkeypatch.setattr("cimd_cache.without_cache.SLOT_SECONDS", 0.01)
    with pytest.raises(CimdCacheError, match="as many documents are fetched"):
        scene.cache.resolve(ID, scene.origin.fetch)
    assert scene.origin.fetches == 2
    scene.origin.may_end.release(3)
    for one in both:
        one.result(SECONDS)
    assert scene.cache.resolve(ID, scene.origin.fetch) == '{"v":1}'


def test_a_cache_that_goes_away_before_the_put_answers_who_fetched(scene: Scene) -> None:
    first = scene.begin()
    scene.origin.wait_for_fetch()
    other = scene.begin()
    scene.waiting(2)
    scene.model.before_put = lambda: setattr(scene.model, "away", "unavailable")
    scene.origin.document = '{"v":2}'
    scene.origin.may_end.release(2)
    # The other cannot know whether there was a delete, and fetches for itself.
    assert (first.result(SECONDS), other.result(SECONDS)) == ('{"v":1}', '{"v":2}')
    assert len(scene.model.puts) == 1


@pytest.mark.parametrize("code", ["invalid-url", "wrong-token", "not-ready"])
def test_what_is_wrong_with_the_call_or_the_set_up_is_raised(scene: Scene, code: str) -> None:
    scene.model.away = code
    with pytest.raises(CimdCacheError) as failed:
        scene.cache.resolve(ID, scene.origin.fetch)
    assert (failed.value.code, scene.origin.fetches) == (code, 0)


def test_a_document_that_cannot_be_stored_is_refused(scene: Scene) -> None:
    with pytest.raises(CimdCacheError) as failed:
        scene.cache.resolve(ID, lambda _: ("x" * 20_000, 60))
    assert failed.value.code == "invalid-metadata"


def test_a_lifetime_that_is_over_is_0(scene: Scene) -> None:
    scene.cache.resolve(ID, lambda _: ("{}", -5))
    assert scene.model.puts[0].expires_in == 0


def test_a_fork_does_not_wait_for_the_parent_s_fetch(scene: Scene) -> None:
    first = scene.begin()
    scene.origin.wait_for_fetch()
    child = os.fork()
    if child == 0:
        try:
            os._exit(0 if scene.cache.resolve(ID, lambda _: ('{"v":3}', 60)) == '{"v":3}' else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    scene.origin.may_end.release()
    assert first.result(SECONDS) == '{"v":1}'
