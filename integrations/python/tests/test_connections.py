"""Connections to the service: kept, replaced, given up."""

from __future__ import annotations

import asyncio
import os

import pytest
from cimd_cache import AsyncCache, Cache, CimdCacheError, Miss
from either import both, connected
from scripted import MISS, answers, hangs, ok, scripted

ID = "https://client.example/metadata.json"
T = Miss("t")


@both
def test_a_connection_is_kept(kind: str) -> None:
    with scripted(answers(*[ok(MISS)] * 3)) as server, connected(kind, server.path) as cache:
        assert [cache.get(ID) for _ in range(3)] == [T] * 3
        assert len(server.requests) == 3


@both
def test_one_that_was_closed_while_idle_is_replaced_and_the_call_repeated_once(kind: str) -> None:
    with scripted(*[answers(ok(MISS))] * 2) as server, connected(kind, server.path) as cache:
        assert cache.get(ID) == T
        assert server.closed.acquire(timeout=20)
        assert cache.get(ID) == T
        assert len(server.requests) == 2


@both
def test_one_that_is_closed_under_a_request_is_replaced_once(kind: str) -> None:
    with scripted(answers(ok(MISS), b""), answers(ok(MISS))) as server, connected(kind, server.path) as cache:
        assert [cache.get(ID), cache.get(ID)] == [T, T]
        assert len(server.requests) == 3
    # A new one that is closed is no idle one: the call is not repeated.
    with scripted(answers(b""), answers(ok(MISS))) as server, connected(kind, server.path) as cache:
        with pytest.raises(CimdCacheError) as failed:
            cache.get(ID)
        assert (failed.value.code, len(server.requests)) == ("unavailable", 1)


@both
def test_a_put_without_a_ticket_takes_a_new_connection_and_is_sent_once(kind: str) -> None:
    stored = ok(b'{"outcome":"stored"}')
    with scripted(answers(ok(MISS), ok(MISS)), answers(b"")) as server:
        with connected(kind, server.path) as cache:
            cache.get(ID)
            # The scripted server takes one connection after another, so the first has to end for the second.
            cache.get(ID)
            assert server.closed.acquire(timeout=20)
            with pytest.raises(CimdCacheError):
                cache.put(ID, "{}", ticket=None, expires_in=60)
            assert sum(request.startswith(b"PUT") for request in server.requests) == 1
    with scripted(answers(ok(MISS), b""), answers(stored)) as server, connected(kind, server.path) as cache:
        cache.get(ID)
        assert cache.put(ID, "{}", ticket="t", expires_in=60) == "stored"
        assert sum(request.startswith(b"PUT") for request in server.requests) == 2


@both
def test_a_service_that_hangs_is_given_up(kind: str) -> None:
    with scripted(hangs, answers(ok(MISS))) as server, connected(kind, server.path) as cache:
        with pytest.raises(CimdCacheError) as failed:
            cache.get(ID, timeout_ms=1)
        assert failed.value.code == "timed-out"
        assert b"Cimd-Timeout-Ms: 1\r\n" in server.requests[0]
        # Its connection is not used again, or the late answer would be the next call's.
        assert cache.get(ID) == T


@both
def test_nobody_there_is_unavailable(kind: str) -> None:
    with connected(kind, "/nonexistent/cache.sock") as cache:
        with pytest.raises(CimdCacheError) as failed:
            cache.get(ID)
        assert failed.value.code == "unavailable"
        cache.close()
        with pytest.raises(CimdCacheError, match="closed"):
            cache.get(ID)


@both
@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\x00" * 70_000,
    ],
)
def test_what_is_no_answer_is_unavailable(kind: str, answer: bytes) -> None:
    with scripted(answers(answer)) as server, connected(kind, server.path) as cache:
        with pytest.raises(CimdCacheError) as failed:
            cache.get(ID)
        assert failed.value.code == "unavailable"


@both
def test_a_proxy_may_send_it_in_chunks_or_to_the_end(kind: str) -> None:
    chunked = ok(b"5\r\n" + MISS[:5] + b"\r\n%x;x=y\r\n" % len(MISS[5:]) + MISS[5:] + b"\r\n0\r\n\r\n", b"Transfer-Encoding: chunked")
    to_the_end = ok(MISS, b"Connection: close")
    with scripted(answers(chunked, chunked, to_the_end), answers(ok(MISS))) as server:
        with connected(kind, server.path) as cache:
            assert [cache.get(ID) for _ in range(4)] == [T] * 4


@both
def test_a_token_is_sent_and_asked_for_each_time(kind: str) -> None:
    tokens = iter(["one", "two"])
    with scripted(answers(ok(MISS), ok(MISS))) as server:
        with connected(kind, server.path, token=lambda: next(tokens)) as cache:
            cache.get(ID), cache.get(ID)
        assert b"Authorization: Bearer one\r\n" in server.requests[0]
        assert b"Authorization: Bearer two\r\n" in server.requests[1]


def test_a_fork_does_not_read_the_parent_s_answers() -> None:
    with scripted(answers(ok(MISS), ok(MISS)), answers(ok(b'{"outcome":"miss","ticket":"child"}'))) as server:
        with Cache.connect(server.path) as cache:
            assert cache.get(ID) == T
            child = os.fork()
            if child == 0:
                try:
                    # The scripted server serves it when the parent's connection has ended.
                    os._exit(0 if cache.get(ID) == Miss("child") else 1)
                finally:
                    os._exit(2)
            assert cache.get(ID) == T
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_call_that_is_cancelled_closes_its_connection() -> None:
    async def test() -> None:
        with scripted(hangs, answers(ok(MISS))) as server:
            async with AsyncCache.connect(server.path) as cache:
                call = asyncio.create_task(cache.get(ID))
                while not server.requests:
                    await asyncio.sleep(0.001)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
                assert await asyncio.to_thread(server.closed.acquire, timeout=20)
                assert await cache.get(ID) == T

    asyncio.run(test())


def test_one_cache_serves_one_loop_after_another() -> None:
    with scripted(answers(ok(MISS)), answers(ok(MISS))) as server:
        cache = AsyncCache.connect(server.path)

        async def get() -> object:
            return await cache.get(ID)

        assert asyncio.run(get()) == T
        assert asyncio.run(get()) == T
