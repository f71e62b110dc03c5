"""A node: FastMCP with its OAuth proxy, on the cache. It listens on the socket whose number it is given.

CIMD_CACHE_SOCKET is a service's socket; without it the cache runs in this process, on DATABASE_URL. The node ends
when its stdin does. Beside FastMCP's own routes it has three of an administrator: delete, purge and check.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import asyncpg
import httpcore2
from cimd_cache import AsyncCache
from cimd_cache.fastmcp import use_cache
from cimd_cache.in_process import from_asyncpg
from fastmcp import FastMCP
from fastmcp.server.auth import OAuthProxy
from fastmcp.server.auth.providers.jwt import StaticTokenVerifier
from key_value.aio.stores.memory import MemoryStore
from starlette.requests import Request
from starlette.responses import Response

# FastMCP fetches by way of the proxy in HTTPS_PROXY, which is the origin. It trusts the machine's authorities and
# no variable changes that, so this one thing is patched: it trusts the tests' authority.
httpcore2.default_ssl_context = lambda **_: ssl.create_default_context(cafile=os.environ["ORIGIN_AUTHORITY"])


@asynccontextmanager
async def open_cache() -> AsyncIterator[AsyncCache]:
    if path := os.environ.get("CIMD_CACHE_SOCKET"):
        async with AsyncCache.connect(path) as cache:
            yield cache
    else:
        async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=0, max_size=4) as pool:
            async with AsyncCache.in_process(from_asyncpg(pool)) as cache:
                yield cache


async def serve(listener: socket.socket) -> None:
    async with open_cache() as cache:
        auth = OAuthProxy(
            upstream_authorization_endpoint="https://login.example/authorize",
            upstream_token_endpoint="https://login.example/token",
            upstream_client_id="upstream",
            upstream_client_secret="only for tests",
            token_verifier=StaticTokenVerifier(tokens={}),
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            client_storage=MemoryStore(),
            jwt_signing_key=b"only for tests, and 32 bytes long",
        )
        # Longer than a login should wait: on a busy machine a get in process may take more than the usual 250 ms.
        use_cache(auth, cache, timeout_ms=5_000)
        server = FastMCP("node", auth=auth)

        @server.custom_route("/cache/document", methods=["DELETE"])
        async def delete(request: Request) -> Response:
            await cache.delete(request.query_params["client_id"])
            return Response(status_code=204)

        @server.custom_route("/cache/purge", methods=["POST"])
        async def purge(_: Request) -> Response:
            await cache.purge()
            return Response(status_code=204)

        @server.custom_route("/cache/check", methods=["POST"])
        async def check(_: Request) -> Response:
            await cache.check()
            return Response(status_code=204)

        await server.run_http_async(show_banner=False, sockets=[listener])


def end_with_stdin() -> None:
    sys.stdin.read()
    os.kill(os.getpid(), signal.SIGTERM)


threading.Thread(target=end_with_stdin, daemon=True).start()
asyncio.run(serve(socket.socket(fileno=int(sys.argv[1]))))
