"""FastMCP's OAuth proxy, with its Client ID Metadata Documents in this cache.

FastMCP has no hook for that: `use_cache` puts a fetcher of ours in place of the proxy's own, by private names.
So it is for one version of FastMCP, and refuses another version, and a proxy without those names.
"""

from __future__ import annotations

import json
from typing import Any

from fastmcp import __version__ as _installed  # type: ignore[import-not-found, unused-ignore]
from fastmcp.server.auth.cimd import (  # type: ignore[import-not-found, unused-ignore]
    CIMDDocument,
    CIMDFetcher,
    CIMDFetchError,
    _CIMDCacheEntry,
)

from .async_cache import AsyncCache
from .errors import CimdCacheError
from .without_cache import Warnings

TESTED = "4.2.3"


def use_cache(proxy: Any, cache: AsyncCache, *, timeout_ms: int = 250, fastmcp_version: str = TESTED) -> None:
    """Makes an `OAuthProxy`, or a provider that is one, keep its documents in `cache`.

    Call it before the server starts; `timeout_ms` is how long a login waits for a get. Raises `not-ready` if this
    FastMCP has other insides. Pass another `fastmcp_version` only if you have tested that version.
    """
    manager: Any = getattr(proxy, "_cimd_manager", None)
    fetcher: Any = getattr(manager, "_fetcher", None)
    fits = isinstance(getattr(fetcher, "_cache", None), dict) and hasattr(fetcher, "timeout")
    if _installed != fastmcp_version:
        raise CimdCacheError("not-ready", f"this needs fastmcp {fastmcp_version}, and {_installed} is installed")
    if not fits or not {"freshness_lifetime", "must_revalidate"} <= set(_CIMDCacheEntry.__dataclass_fields__):
        raise CimdCacheError("not-ready", "the proxy has no CIMD, or other insides: see enable_cimd, and TESTED")
    manager._fetcher = _CachedFetcher(cache, fetcher.timeout, timeout_ms)


class _CachedFetcher(CIMDFetcher):  # type: ignore[misc, unused-ignore]
    def __init__(self, cache: AsyncCache, timeout: float, timeout_ms: int) -> None:
        super().__init__(timeout)
        self._shared, self._timeout_ms, self._warnings = cache, timeout_ms, Warnings()

    async def fetch(self, client_id_url: str) -> CIMDDocument:
        fetched: list[CIMDDocument] = []

        async def fetch_and_validate(client_id: str) -> tuple[str, int]:
            # A fetcher for this fetch alone: what FastMCP keeps in memory is never asked, and no other fetch
            # changes the entry that says how long this document is fresh.
            once = CIMDFetcher(self.timeout)
            fetched.append(await once.fetch(client_id))
            entry = once._cache.get(client_id)
            if entry is None:
                raise _NoStore
            lifetime = 0 if entry.must_revalidate else int(entry.freshness_lifetime)
            return fetched[-1].model_dump_json(exclude_unset=True), lifetime

        try:
            metadata = await self._shared.resolve(client_id_url, fetch_and_validate, timeout_ms=self._timeout_ms)
        except _NoStore:
            # Who only waited fetches too: a document from before its request may have been deleted since.
            if fetched:
                return fetched[-1]
        except CimdCacheError as error:
            # FastMCP takes this to refuse the client, and logs why.
            raise CIMDFetchError(str(error)) from error
        else:
            try:
                document = CIMDDocument.model_validate(json.loads(metadata))
                # FastMCP's own comparison.
                if str(document.client_id).rstrip("/") == client_id_url.rstrip("/"):
                    return document
            except ValueError:
                pass
            refusal = CimdCacheError("invalid-metadata", "give each server's rules a schema of their own")
            self._warnings.say("a stored document was refused; it is fetched for this request alone", refusal)
        return await CIMDFetcher(self.timeout).fetch(client_id_url)


class _NoStore(Exception):
    """The origin forbids that its document is stored."""
