"""What is sent again on the pools of psycopg and asyncpg after a failure, and what is not."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from typing import Any

import pytest
from cimd_cache import CimdCacheError
from either import in_process, pools
from private_postgres import PrivatePostgres

pytest.importorskip("wasmtime")
psycopg = pytest.importorskip("psycopg")
pytest.importorskip("asyncpg")

ID = "https://client.example/metadata.json"
CONNECTIONS = "select pid from pg_stat_activity where usename = 'cimd_cache_app'"
WAITING = f"{CONNECTIONS} and wait_event_type = 'Lock'"


@pools
def test_connections_that_the_server_ended_are_replaced_unseen(
    kind: str, server: PrivatePostgres, database: str
) -> None:
    with in_process(kind, database) as cache:
        # Whether the loss is noticed before, at or after the begin is a matter of luck.
        for call in 5 * (lambda: cache.put(ID, "{}", ticket=None, expires_in=60), lambda: cache.get(ID)):
            call()
            server.sql("select pg_terminate_backend(pid, 10000) from pg_stat_activity where usename = 'cimd_cache_app'")
            call()


@pools
def test_a_write_whose_connection_was_lost_is_not_sent_again_and_a_read_is(
    kind: str, server: PrivatePostgres, database: str
) -> None:
    with in_process(kind, database) as cache, concurrent.futures.ThreadPoolExecutor(1) as thread:
        cache.put(ID, '{"v":1}', ticket=None, expires_in=60)

        def lost(call: Callable[[], Any], holder: Any) -> tuple[Any, bool]:
            """Makes a call that waits in its statement, and ends its connection; whether another waits then."""
            holder.execute("lock table cimd_cache.client_id_metadata in access exclusive mode")
            made = thread.submit(call)
            while not (first := server.sql(WAITING)):
                pass
            server.sql(f"select pg_terminate_backend({first}, 10000)")
            while not (second := server.sql(WAITING)) and not made.done():
                pass
            return made, second != ""

        with psycopg.connect(server.url("postgres")) as holder:
            made, is_sent_again = lost(lambda: cache.put(ID, '{"v":2}', ticket=None, expires_in=60), holder)
            with pytest.raises(CimdCacheError) as failed:
                made.result()
            assert (failed.value.code, is_sent_again) == ("unavailable", False)
        assert cache.get(ID).document == {"v": 1}
        with psycopg.connect(server.url("postgres")) as holder:
            made, is_sent_again = lost(lambda: cache.get(ID), holder)
            assert is_sent_again
        assert made.result().document == {"v": 1}


@pools
@pytest.mark.parametrize(
    ("state", "times", "is_replaced"),
    [
        ("40001", 2, False),
        ("40P01", 2, False),
        # What is prepared is of no use any more, so that connection goes too.
        ("0A000", 2, True),
        ("26000", 2, True),
        ("23514", 1, False),
    ],
)
def test_what_the_server_rolled_back_is_sent_again(
    kind: str, server: PrivatePostgres, database: str, state: str, times: int, is_replaced: bool
) -> None:
    server.sql("create sequence public.tries; grant usage on sequence public.tries to cimd_cache_app")
    server.sql(
        "create function public.fail_once() returns trigger language plpgsql as $$ begin "
        f"if nextval('public.tries') = 1 then raise 'no' using errcode = '{state}'; end if; return new; end $$"
    )
    server.sql(
        "create trigger fail_once before insert on cimd_cache.client_id_metadata "
        "for each row execute function public.fail_once()"
    )
    try:
        with in_process(kind, database, pool={"max_size": 1}) as cache:
            cache.get(ID)
            before = server.sql(CONNECTIONS)
            if times == 1:
                with pytest.raises(CimdCacheError) as failed:
                    cache.put(ID, "{}", ticket=None, expires_in=60)
                assert failed.value.code == "storage"
            else:
                assert cache.put(ID, "{}", ticket=None, expires_in=60) == "stored"
            assert server.sql("select last_value from public.tries") == str(times)
            cache.get(ID)
            assert (server.sql(CONNECTIONS) != before) == is_replaced
    finally:
        server.sql("drop function public.fail_once cascade; drop sequence public.tries")
