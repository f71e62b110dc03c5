"""Both clients against the real service on a real Postgres."""

from __future__ import annotations

import asyncio
import socket
import ssl
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from cimd_cache import Cache, CimdCacheError, Hit, Miss
from either import both, connected
from private_postgres import TOKEN, PrivatePostgres, Service, service, tls_service

ID = "https://client.example/metadata.json"
STRANGE = "https://c.example/?a=1&b=%26+ é#x"


@both
def test_what_goes_in_comes_out(kind: str, served: Service) -> None:
    with connected(kind, served.socket) as cache:
        cache.check()
        missed = cache.get(ID)
        assert cache.put(ID, '{"n":1.500000000000000000001}', ticket=missed.ticket, expires_in=60) == "stored"
        found = cache.get(ID)
        assert isinstance(found, Hit) and found.metadata == '{"n": 1.500000000000000000001}'
        assert timedelta(seconds=50) < found.fresh_for <= timedelta(seconds=60)
        at = datetime.now(timezone.utc) + timedelta(hours=1)
        assert cache.put(STRANGE, b'{"v":"\xc3\xa9"}', ticket=None, expires_at=at) == "stored"
        assert cache.get(STRANGE).document == {"v": "é"}
        assert abs(cache.get(STRANGE).expires_at - at) <= timedelta(seconds=1)
        many = cache.get_many([STRANGE, "", "https://c.example/?a=1", "x" * 3_000, ID])
        assert [type(one) for one in many] == [Hit, CimdCacheError, Miss, CimdCacheError, Hit]
        assert [one.code for one in cache.get_many(["", "\0"])] == ["invalid-url"] * 2 and cache.get_many([]) == []
        assert [cache.delete(ID), cache.delete(ID)] == [True, False]
        assert cache.put(ID, "{}", ticket=missed.ticket, expires_in=60) == "superseded"
        cache.purge()
        assert type(cache.get(STRANGE)) is Miss
        assert (cache.sweep(10).removed, cache.sweep().more) == (0, False)
        for refused in (lambda: cache.put(ID, "[]", ticket=None, expires_in=1),):
            with pytest.raises(CimdCacheError) as failed:
                refused()
            assert failed.value.code == "invalid-metadata"


@both
def test_over_tls_the_certificate_is_verified_and_the_token_sent(kind: str, database: str) -> None:
    with tls_service(database) as served:
        trusted = ssl.create_default_context(cafile=served.certificate)
        with connected(kind, served.url, token=lambda: TOKEN, tls=trusted) as cache:
            for _ in range(2):
                cache.check()
            assert type(cache.get(ID)) is Miss
        address = served.url.replace("localhost", "127.0.0.1")
        for where, tls in (served.url, None), (address, trusted):
            with connected(kind, where, token=TOKEN, tls=tls) as cache:
                with pytest.raises(CimdCacheError, match="certificate") as failed:
                    cache.check()
                assert failed.value.code == "unavailable"
        with connected(kind, served.url, token="another-token-of-the-tests", tls=trusted) as cache:
            with pytest.raises(CimdCacheError) as failed:
                cache.check()
            assert failed.value.code == "wrong-token"
        with pytest.raises(ValueError, match="https"), connected(kind, served.url.replace("https", "http"), tls=trusted):
            pass


@both
def test_check_says_not_ready(kind: str, server: PrivatePostgres, served: Service) -> None:
    with connected(kind, served.socket) as cache:
        server.sql("revoke select on cimd_cache.client_id_metadata from cimd_cache_app")
        try:
            with pytest.raises(CimdCacheError) as failed:
                cache.check()
            assert failed.value.code == "not-ready"
        finally:
            server.sql("grant select on cimd_cache.client_id_metadata to cimd_cache_app")
        cache.check()


@both
def test_resolve_goes_on_without_the_service_and_caches_again(kind: str, served: Service) -> None:
    fetched: list[str] = []

    def fetch(client_id: str) -> tuple[str, int]:
        fetched.append(client_id)
        return '{"v":1}', 60

    async def fetch_async(client_id: str) -> tuple[str, int]:
        return fetch(client_id)

    how: Any = fetch if kind == "threads" else fetch_async
    # A machine that stalls must not look like a cache that is away.
    with connected(kind, served.socket, timeout=30) as cache:
        for _ in range(3):
            cache.resolve(ID, how, timeout_ms=30_000)
        assert len(fetched) == 1
        served.stop()
        for _ in range(3):
            assert cache.resolve(ID, how, timeout_ms=30_000) == '{"v":1}'
        assert len(fetched) == 4
        with pytest.raises(CimdCacheError) as failed:
            cache.resolve(ID, how, timeout_ms=30_000, on_unavailable="fail")
        assert failed.value.code == "unavailable"
        served.start()
        assert cache.resolve(ID, how, timeout_ms=30_000) == '{"v": 1}'
        assert len(fetched) == 4


@both
def test_over_tcp_a_token_is_needed(kind: str, database: str, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    tokens = tmp_path / "tokens"
    tokens.write_text("a-token-of-this-test-0123456789\n")
    tokens.chmod(0o600)
    url = f"http://127.0.0.1:{port}"
    with service(database, "--listen", f"tcp:127.0.0.1:{port}", "--token-file", str(tokens)):
        with connected(kind, url, token=tokens.read_text().strip()) as cache:
            assert type(cache.get(ID)) is Miss
        for token, code in ((None, "no-token"), ("another-token-0123456789", "wrong-token")):
            with connected(kind, url, token=token) as cache:
                with pytest.raises(CimdCacheError) as failed:
                    cache.get(ID)
                assert failed.value.code == code
                # No client is logged in past a cache that is set up wrongly.
                with pytest.raises(CimdCacheError):
                    cache.resolve(ID, lambda _: pytest.fail("not fetched"))


def test_many_tasks_share_few_connections(served: Service) -> None:
    from cimd_cache import AsyncCache

    async def test() -> None:
        async with AsyncCache.connect(served.socket) as cache:
            found = await asyncio.gather(*[cache.get(f"https://c-{number}.example/") for number in range(500)])
            assert {type(one) for one in found} == {Miss}
            assert 1 <= len(cache._backing._idle) <= 64  # type: ignore[attr-defined]

    asyncio.run(test())


def test_threads_share_a_cache(served: Service) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with Cache.connect(served.socket) as cache, ThreadPoolExecutor(16) as threads:
        for number in range(20):
            cache.put(f"https://c-{number}.example/", f'{{"v":{number}}}', ticket=None, expires_in=60)

        def look(number: int) -> bool:
            found = cache.get(f"https://c-{number % 20}.example/")
            return isinstance(found, Hit) and found.document == {"v": number % 20}

        assert all(threads.map(look, range(1_000)))
