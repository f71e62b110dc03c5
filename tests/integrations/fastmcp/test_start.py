"""The adapter uses private names of FastMCP, and looks for them at start."""

from __future__ import annotations

from typing import Any

import cimd_cache.fastmcp
import pytest
from cimd_cache import AsyncCache, CimdCacheError
from cimd_cache.fastmcp import TESTED, use_cache
from fastmcp.server.auth import OAuthProxy
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from key_value.aio.stores.memory import MemoryStore


@pytest.fixture
def cache() -> AsyncCache:
    return AsyncCache.connect("/nowhere/cache.sock")


def proxy(**options: Any) -> Any:
    return OAuthProxy(
        upstream_authorization_endpoint="https://login.example/authorize",
        upstream_token_endpoint="https://login.example/token",
        upstream_client_id="upstream",
        upstream_client_secret="only for tests",
        token_verifier=StaticTokenVerifier(tokens={}),
        base_url="https://auth.example",
        client_storage=MemoryStore(),
        jwt_signing_key=b"only for tests, and 32 bytes long",
        **options,
    )


def refusal(auth: Any, cache: AsyncCache, **options: str) -> str:
    with pytest.raises(CimdCacheError) as raised:
        use_cache(auth, cache, **options)
    assert raised.value.code == "not-ready"
    return raised.value.detail


def test_it_takes_the_place_of_the_fetcher(cache: AsyncCache) -> None:
    auth = proxy()
    own = auth._cimd_manager._fetcher
    use_cache(auth, cache)
    assert auth._cimd_manager._fetcher is not own
    assert auth._cimd_manager._fetcher.timeout == own.timeout


def test_another_version_is_refused_unless_it_is_named(cache: AsyncCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cimd_cache.fastmcp, "_installed", "4.2.4")
    assert TESTED in refusal(proxy(), cache) and "4.2.4" in refusal(proxy(), cache)
    use_cache(proxy(), cache, fastmcp_version="4.2.4")


def test_a_proxy_without_cimd_is_refused(cache: AsyncCache) -> None:
    assert "enable_cimd" in refusal(proxy(enable_cimd=False), cache)


@pytest.mark.parametrize(
    "names",
    ["_cimd_manager", "_cimd_manager._fetcher", "_cimd_manager._fetcher._cache", "_cimd_manager._fetcher.timeout"],
)
def test_a_proxy_without_a_private_name_is_refused(cache: AsyncCache, names: str) -> None:
    auth = proxy()
    *path, last = names.split(".")
    holder = auth
    for name in path:
        holder = getattr(holder, name)
    delattr(holder, last)
    assert "other insides" in refusal(auth, cache)


@pytest.mark.parametrize("member", ["freshness_lifetime", "must_revalidate"])
def test_an_entry_without_a_member_is_refused(
    cache: AsyncCache, monkeypatch: pytest.MonkeyPatch, member: str
) -> None:
    monkeypatch.delitem(cimd_cache.fastmcp._CIMDCacheEntry.__dataclass_fields__, member)
    assert "other insides" in refusal(proxy(), cache)
