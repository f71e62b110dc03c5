"""Why a call of the component holds a lock, and when it does not."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest
from cimd_cache import Cache, CimdCacheError, Miss

pytest.importorskip("wasmtime")

ID = "https://client.example/metadata.json"
ROW = [1_764_000_000_000_000, 1_763_000_000_000_000, None, None]

# Eight threads, a switch of threads every 10 µs, and no database: only calls. Prints how many went wrong.
_THREADS = f"""
import contextlib, sys, threading, time
from cimd_cache import Miss
from cimd_cache.calls import Get
from cimd_cache.in_process import instance
from cimd_cache.in_process.component import Rules

class NoLock(contextlib.nullcontext):
    def acquire(self): pass
    def release(self): pass

if sys.argv[1] == "without":
    instance.converting = NoLock()
rules, wrong, until = Rules("cimd_cache"), [], time.monotonic() + float(sys.argv[2])
rules.run(Get("{ID}"), lambda *_: [{ROW}], until)
sys.setswitchinterval(1e-5)

def calls():
    while time.monotonic() < until and not (wrong and sys.argv[1] == "without"):
        try:
            found = rules.run(Get("{ID}"), lambda *_: [{ROW}], until + 60)
            assert type(found) is Miss, found
        except Exception as error:
            wrong.append(error)

threads = [threading.Thread(target=calls, daemon=True) for _ in range(8)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(wrong))
"""


def eight_threads(how: str, seconds: float) -> str:
    # In a process of its own: without the lock it may crash.
    done = subprocess.run([sys.executable, "-c", _THREADS, how, str(seconds)], capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else f"status {done.returncode}"


def test_eight_threads_with_the_lock() -> None:
    assert eight_threads("with", 3) == "0"


def test_eight_threads_without_the_lock() -> None:
    # It ends with the first failure, mostly within a second or two.
    if eight_threads("without", 60) == "0":
        pytest.skip("a minute without a failure: look whether wasmtime-py still needs the lock")


def test_the_lock_is_released_while_a_statement_runs() -> None:
    """Four calls are within their statements at one time, or none of them gets on."""
    within = threading.Barrier(4)

    def query(text: str, parameters: object, name: str) -> list[list[int | None]]:
        within.wait(20)
        return [ROW]

    with Cache.in_process(query, deadline_ms=30_000) as cache:
        found: list[object] = []
        threads = [threading.Thread(target=lambda: found.append(cache.get(ID))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [type(one) for one in found] == [Miss] * 4


def test_a_call_that_waits_longer_than_it_may_gives_up_and_is_not_begun() -> None:
    began, go_on, asked = threading.Event(), threading.Event(), []

    def query(text: str, parameters: object, name: str) -> list[list[int | None]]:
        asked.append(parameters)
        began.set()
        go_on.wait(20)
        return [ROW]

    with Cache.in_process(query, most_calls=1, deadline_ms=30_000) as cache:
        first = threading.Thread(target=lambda: cache.get("https://first.example/"))
        first.start()
        assert began.wait(20)
        with pytest.raises(CimdCacheError) as failed:
            cache.get("https://second.example/", timeout_ms=1)
        assert failed.value.code == "timed-out"
        go_on.set()
        first.join()
        assert type(cache.get(ID)) is Miss
    assert asked == [["https://first.example/"], [ID]]
