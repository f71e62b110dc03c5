"""The component on the pools of psycopg and asyncpg, on a real Postgres."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from cimd_cache import AsyncCache, Cache, CimdCacheError, Hit, Miss
from either import in_process, pools
from private_postgres import PrivatePostgres

pytest.importorskip("wasmtime")
psycopg = pytest.importorskip("psycopg")
asyncpg = pytest.importorskip("asyncpg")

ID = "https://client.example/metadata.json"


@pools
def test_what_goes_in_comes_out(kind: str, database: str) -> None:
    with in_process(kind, database) as cache:
        cache.check()
        missed = cache.get(ID)
        assert cache.put(ID, '{"n":1.500000000000000000001}', ticket=missed.ticket, expires_in=60) == "stored"
        found = cache.get(ID)
        assert isinstance(found, Hit) and found.metadata == '{"n": 1.500000000000000000001}'
        assert [type(one) for one in cache.get_many([ID, "", "https://b.example/"])] == [Hit, CimdCacheError, Miss]
        assert [cache.delete(ID), cache.delete(ID)] == [True, False]
        assert cache.put(ID, "{}", ticket=missed.ticket, expires_in=60) == "superseded"
        cache.purge()
        assert (cache.sweep().removed, cache.sweep().more) == (0, False)


def settings(kind: str, cache: Any) -> list[Any]:
    """What a user of the pool finds on a connection."""
    sql = "select current_setting('statement_timeout'), current_setting('transaction_isolation'), pg_backend_pid()"
    if kind == "psycopg":
        with cache.pool.connection() as connection:
            return [*connection.execute(sql).fetchone(), connection.autocommit]

    async def ask() -> list[Any]:
        if kind == "asyncpg":
            async with cache.pool.acquire() as connection:
                return [*await connection.fetchrow(sql), connection.is_in_transaction()]
        async with cache.pool.connection() as connection:
            return [*await (await connection.execute(sql)).fetchone(), connection.autocommit]

    found: list[Any] = cache.wait(ask())
    return found


@pools
def test_a_transaction_is_read_committed_and_limited_and_the_connection_returns_as_it_was(
    kind: str, server: PrivatePostgres, database: str
) -> None:
    server.sql("alter role cimd_cache_app set default_transaction_isolation = 'serializable'")
    server.sql("alter role cimd_cache_app set statement_timeout = 0")
    try:
        with in_process(kind, database, pool={"max_size": 1}) as cache:
            before = settings(kind, cache)
            assert before[:2] == ["0", "serializable"]
            # It looks at what it runs under: see check.py.
            cache.check()
            cache.put(ID, "{}", ticket=None, expires_in=60)
            with pytest.raises(CimdCacheError):
                cache.put(ID, "[]", ticket=None, expires_in=60)
            assert settings(kind, cache) == before
    finally:
        server.sql("alter role cimd_cache_app reset default_transaction_isolation")
        server.sql("alter role cimd_cache_app set statement_timeout = '5s'")


@pytest.mark.parametrize(
    ("begin", "reason"),
    [
        ("begin isolation level serializable; set local statement_timeout = '1s'", "READ COMMITTED"),
        ("begin isolation level read committed; set local statement_timeout = 0", "statement_timeout"),
        ("begin isolation level read committed; set local statement_timeout = '60s'", "statement_timeout"),
        ("begin isolation level read committed read only; set local statement_timeout = '1s'", "no writes"),
        ("", "one transaction"),
    ],
)
def test_check_finds_a_query_that_does_not_do_its_part(database: str, begin: str, reason: str) -> None:
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("begin" if not begin else "select")

        def query(text: str, parameters: Any, name: str) -> Any:
            if begin:
                connection.execute(begin)
            rows = psycopg.RawCursor(connection).execute(text, list(parameters)).fetchall()
            if begin:
                connection.execute("commit")
            return rows

        with Cache.in_process(query) as cache, pytest.raises(CimdCacheError, match=reason) as failed:
            cache.check()
        assert failed.value.code == "not-ready"


def test_check_finds_what_is_missing(server: PrivatePostgres, database: str) -> None:
    with in_process("psycopg", database) as cache:
        cache.check()
        for break_it, repair, reason in (
            ("revoke delete on cimd_cache.client_id_metadata from cimd_cache_app",
             "grant delete on cimd_cache.client_id_metadata to cimd_cache_app", "privilege"),
            ("revoke update (purged_at) on cimd_cache.purge from cimd_cache_app",
             "grant update (purged_at) on cimd_cache.purge to cimd_cache_app", "privilege"),
            ("alter table cimd_cache.client_id_metadata rename to gone",
             "alter table cimd_cache.gone rename to client_id_metadata", "42P01"),
            ("update cimd_cache.schema_history set version = 0 where version = 2",
             "update cimd_cache.schema_history set version = 2 where version = 0", "migrate"),
            ("alter table cimd_cache.client_id_metadata enable row level security",
             "alter table cimd_cache.client_id_metadata disable row level security", "a get failed"),
        ):
            server.sql(break_it)
            try:
                with pytest.raises(CimdCacheError, match=reason) as failed:
                    cache.check()
                assert failed.value.code == "not-ready"
            finally:
                server.sql(repair)
        cache.check()


@contextlib.contextmanager
def lending_inside_a_transaction(kind: str, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    with in_process(kind, database) as cache:
        if kind == "asyncpg":
            monkeypatch.setattr(asyncpg.Connection, "is_in_transaction", lambda self: True)
            yield cache
            monkeypatch.undo()
            return
        real = cache.pool.getconn

        if kind == "psycopg":
            def getconn(timeout: Any = None) -> Any:
                connection = real(timeout)
                connection.execute("select 1")
                return connection
        else:
            async def getconn(timeout: Any = None) -> Any:
                connection = await real(timeout)
                await connection.execute("select 1")
                return connection

        monkeypatch.setattr(cache.pool, "getconn", getconn)
        yield cache


@pools
def test_a_connection_inside_a_transaction_is_refused(
    kind: str, server: PrivatePostgres, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with lending_inside_a_transaction(kind, database, monkeypatch) as cache:
        for call in (lambda: cache.get(ID), lambda: cache.put(ID, "{}", ticket=None, expires_in=60)):
            with pytest.raises(CimdCacheError, match="inside a transaction") as failed:
                call()
            assert failed.value.code == "not-ready"
    assert server.sql("select count(*) from cimd_cache.client_id_metadata") == "0"


def test_only_pools_are_taken(database: str) -> None:
    from cimd_cache.in_process import from_asyncpg, from_psycopg

    with psycopg.connect(database) as connection:
        for wrong in (connection, database, None):
            for adapter in (from_psycopg, from_asyncpg):
                with pytest.raises(TypeError, match="takes a pool"):
                    adapter(wrong)
    with in_process("psycopg", database) as cache:
        for timeout in (0, 30_001):
            with pytest.raises(ValueError):
                from_psycopg(cache.pool, statement_timeout_ms=timeout)


def test_what_is_registered_on_a_connection_does_not_matter(database: str) -> None:
    from psycopg.rows import dict_row
    from psycopg.types.string import TextBinaryLoader

    class Shouting(TextBinaryLoader):
        def load(self, data: Any) -> str:
            return "SHOUT"

    def configure(connection: Any) -> None:
        connection.adapters.register_loader("text", Shouting)
        connection.adapters.register_loader("int8", Shouting)
        connection.prepare_threshold = None

    pool = {"kwargs": {"row_factory": dict_row, "cursor_factory": psycopg.ClientCursor}, "configure": configure}
    with in_process("psycopg", database, pool=pool) as cache:
        cache.put(ID, '{"v":1}', ticket=None, expires_in=60)
        assert cache.get(ID).document == {"v": 1}
    with in_process("psycopg", database, pool={"kwargs": {"client_encoding": "latin1"}}) as cache:
        with pytest.raises(CimdCacheError, match="UTF-8"):
            cache.get(ID)


@pools
def test_a_statement_that_waits_too_long_is_timed_out_and_rolled_back(
    kind: str, server: PrivatePostgres, database: str
) -> None:
    with in_process(kind, database, pool={"max_size": 1}) as cache:
        cache.put(ID, '{"v":1}', ticket=None, expires_in=60)
        with psycopg.connect(server.url("postgres")) as holder:
            holder.execute("select from cimd_cache.client_id_metadata for update")
            with pytest.raises(CimdCacheError) as failed:
                cache.put(ID, '{"v":2}', ticket=None, expires_in=60)
            assert failed.value.code == "timed-out"
            assert cache.get(ID).document == {"v": 1}
        assert cache.get(ID).document == {"v": 1}


@pools
def test_a_server_that_is_away_is_unavailable_and_used_again(kind: str, server: PrivatePostgres, database: str) -> None:
    with in_process(kind, database) as cache:
        cache.put(ID, '{"v":1}', ticket=None, expires_in=60)
        server.stop()
        try:
            with pytest.raises(CimdCacheError) as failed:
                cache.get(ID)
            assert failed.value.code == "unavailable"
        finally:
            server.start()
        assert cache.get(ID).document == {"v": 1}


def test_a_cancelled_call_returns_its_connection_when_its_statement_has_ended(
    server: PrivatePostgres, database: str
) -> None:
    async def test() -> None:
        from cimd_cache.in_process import from_asyncpg

        async with asyncpg.create_pool(database, min_size=1, max_size=1) as pool:
            async with AsyncCache.in_process(from_asyncpg(pool)) as cache:
                await cache.put(ID, '{"v":1}', ticket=None, expires_in=60)
                async with await psycopg.AsyncConnection.connect(server.url("postgres")) as holder:
                    await holder.execute("select from cimd_cache.client_id_metadata for update")
                    put = asyncio.create_task(cache.put(ID, '{"v":2}', ticket=None, expires_in=60))
                    waiting = "select count(*) from pg_locks where not granted"
                    while (await (await holder.execute(waiting)).fetchone())[0] == 0:
                        await asyncio.sleep(0.01)
                    put.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await put
                    assert pool.get_idle_size() == 0
                # The lock is free: the put goes on as if its caller were there.
                found = await cache.get(ID)
                assert isinstance(found, Hit) and found.document == {"v": 2}

    asyncio.run(test())


@pools
def test_a_plan_that_a_migration_made_outdated_is_made_anew(
    kind: str, server: PrivatePostgres, database: str
) -> None:
    with in_process(kind, database, pool={"max_size": 1}) as cache:
        for _ in range(10):
            cache.put(ID, '{"v":1}', ticket=None, expires_in=60)
        # Everything that is prepared on the connection is gone, as behind a pooler that lends another one.
        if kind == "psycopg":
            with cache.pool.connection() as connection:
                connection.execute("deallocate all")
        else:
            async def forget() -> None:
                lent = cache.pool.acquire() if kind == "asyncpg" else cache.pool.connection()
                async with lent as connection:
                    await connection.execute("deallocate all")

            cache.wait(forget())
        assert cache.get(ID).document == {"v": 1}


@pools
def test_a_cache_in_another_schema_is_another_cache(kind: str, server: PrivatePostgres, database: str) -> None:
    server.migrate("--schema", "strict")
    try:
        with in_process(kind, database) as lax, in_process(kind, database, schema="strict") as strict:
            strict.check()
            lax.put(ID, "{}", ticket=None, expires_in=60)
            assert type(strict.get(ID)) is Miss and type(lax.get(ID)) is Hit
    finally:
        server.sql("drop schema strict cascade")
