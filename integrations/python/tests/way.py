"""This package as a way in: see tests/conformance/README.md of the project.

    python tests/way.py service | service-async | in-process | in-process-async | asyncpg

The first two need CIMD_CACHE_SOCKET, the others DATABASE_URL.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import Any

from cimd_cache import AsyncCache, Cache, CimdCacheError, Hit, __version__

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
CALLS = ["get", "get-many", "put", "delete", "purge", "sweep", "check"]


def looked(found: Any) -> dict[str, Any]:
    if isinstance(found, Hit):
        return {
            "outcome": "hit",
            "metadata": found.metadata,
            "expires_at": (found.expires_at - EPOCH) // timedelta(seconds=1),
            "fresh_for_ms": found.fresh_for // timedelta(milliseconds=1),
            "ticket": found.ticket,
        }
    return {"outcome": "miss", "ticket": found.ticket}


def one(found: Any) -> dict[str, Any]:
    return {"error": found.code} if isinstance(found, CimdCacheError) else {"ok": looked(found)}


def begin(cache: Any, call: str, args: dict[str, Any]) -> tuple[Any, Callable[[Any], Any]]:
    """What to call, and how to say its answer. The call is not made yet."""
    match call:
        case "get":
            return lambda: cache.get(args["client_id"]), looked
        case "get-many":
            many = args["client_ids"]
            return lambda: cache.get_many(many), lambda found: {"answers": [one(each) for each in found]}
        case "put":
            rest = {"ticket": args.get("ticket"), "expires_in": args.get("expires_in")}
            if "expires_at" in args:
                rest["expires_at"] = EPOCH + timedelta(seconds=args["expires_at"])
            put = lambda: cache.put(args["client_id"], args["metadata"], **rest)  # noqa: E731
            return put, lambda outcome: {"outcome": outcome}
        case "delete":
            return lambda: cache.delete(args["client_id"]), lambda had: {"had_document": had}
        case "sweep":
            return lambda: cache.sweep(args["limit"]), lambda swept: vars(swept)
        case "purge" | "check":
            return getattr(cache, call), lambda _: {}
    raise CimdCacheError("no call " + call, "")


def reply(request: dict[str, Any], result: dict[str, Any]) -> str:
    return json.dumps({"id": request["id"], **result}) + "\n"


def hello(name: str) -> dict[str, Any]:
    return {"ok": {"name": f"python-{name}", "version": __version__, "calls": CALLS}}


def serve(name: str, cache: Cache) -> None:
    output = threading.Lock()

    def answer(request: dict[str, Any]) -> None:
        try:
            call, say = begin(cache, request["call"], request.get("args", {}))
            result = {"ok": say(call())}
        except CimdCacheError as error:
            result = {"error": error.code}
        write(request, result)

    def write(request: dict[str, Any], result: dict[str, Any]) -> None:
        with output:
            sys.stdout.write(reply(request, result))
            sys.stdout.flush()

    with ThreadPoolExecutor(32) as threads:
        for line in sys.stdin:
            request = json.loads(line)
            if request["call"] == "hello":
                write(request, hello(name))
            else:
                threads.submit(answer, request)


async def serve_async(name: str, cache: AsyncCache) -> None:
    async def answer(request: dict[str, Any]) -> None:
        try:
            if request["call"] == "hello":
                result = hello(name)
            else:
                call, say = begin(cache, request["call"], request.get("args", {}))
                result = {"ok": say(await call())}
        except CimdCacheError as error:
            result = {"error": error.code}
        sys.stdout.write(reply(request, result))
        sys.stdout.flush()

    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=1 << 24)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    tasks = set()
    while line := await lines.readline():
        task = asyncio.create_task(answer(json.loads(line)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    if tasks:
        await asyncio.wait(tasks)


# A pool that gives up at once on a server that is away asks again at the next call, and not after a pause.
POOL = {"min_size": 1, "max_size": 8, "reconnect_timeout": 0}


def in_process() -> None:
    from cimd_cache.in_process import from_psycopg
    from psycopg_pool import ConnectionPool

    with ConnectionPool(os.environ["DATABASE_URL"], open=True, **POOL) as pool:
        with Cache.in_process(from_psycopg(pool)) as cache:
            serve("in-process", cache)


async def in_process_async() -> None:
    from cimd_cache.in_process import from_psycopg
    from psycopg_pool import AsyncConnectionPool

    async with AsyncConnectionPool(os.environ["DATABASE_URL"], open=False, **POOL) as pool:
        async with AsyncCache.in_process(from_psycopg(pool)) as cache:
            await serve_async("in-process-async", cache)


async def on_asyncpg() -> None:
    import asyncpg
    from cimd_cache.in_process import from_asyncpg

    async with asyncpg.create_pool(os.environ["DATABASE_URL"], min_size=1, max_size=8) as pool:
        async with AsyncCache.in_process(from_asyncpg(pool)) as cache:
            await serve_async("asyncpg", cache)


async def service_async() -> None:
    async with AsyncCache.connect(os.environ["CIMD_CACHE_SOCKET"]) as cache:
        await serve_async("service-async", cache)


def main() -> None:
    match sys.argv[1:]:
        case ["service"]:
            with Cache.connect(os.environ["CIMD_CACHE_SOCKET"]) as cache:
                serve("service", cache)
        case ["service-async"]:
            asyncio.run(service_async())
        case ["in-process"]:
            in_process()
        case ["in-process-async"]:
            asyncio.run(in_process_async())
        case ["asyncpg"]:
            asyncio.run(on_asyncpg())
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
