"""The host's side of the component: what it lets through, and what it makes of failures."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest
from cimd_cache import AsyncCache, Cache, CimdCacheError, Hit, Miss

pytest.importorskip("wasmtime")

from cimd_cache.in_process.failures import SqlError  # noqa: E402
from cimd_cache.in_process.instance import component_bytes  # noqa: E402
from cimd_cache.in_process.loan import Loan  # noqa: E402
from cimd_cache.in_process.statements import load, qualify  # noqa: E402

ID = "https://client.example/metadata.json"
MISS = [[1_764_000_000_000_000, 1_763_000_000_000_000, None, None]]


class Database(Exception):
    """As psycopg and asyncpg say it."""

    def __init__(self, sqlstate: str | None) -> None:
        super().__init__("ERROR: permission denied\nDETAIL: secret")
        self.sqlstate = sqlstate


def raising(error: BaseException) -> Callable[..., Any]:
    def query(text: str, parameters: object, name: str) -> Any:
        raise error

    return query


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (Database("57014"), "timed-out"),
        (Database("55P03"), "timed-out"),
        (Database("08006"), "unavailable"),
        (Database("57P01"), "unavailable"),
        (Database("25006"), "unavailable"),
        (Database("42501"), "storage"),
        (Database(None), "storage"),
        (ConnectionError(), "unavailable"),
        (TimeoutError(), "timed-out"),
        (asyncio.TimeoutError(), "timed-out"),
        (TypeError("a fault of query"), "storage"),
        (SystemExit(), "storage"),
        (CimdCacheError("not-ready", "a mistake in the set-up"), "not-ready"),
    ],
)
def test_a_failure_says_what_to_do(error: BaseException, code: str, caplog: pytest.LogCaptureFixture) -> None:
    with Cache.in_process(raising(error)) as cache:
        for call in (lambda: cache.get(ID), lambda: cache.put(ID, "{}", ticket=None, expires_in=1)):
            with pytest.raises(CimdCacheError) as failed:
                call()
            assert failed.value.code == code
            assert "secret" not in str(failed.value) + caplog.text and ID not in caplog.text
        with pytest.raises(CimdCacheError) as failed:
            cache.check()
        assert failed.value.code == "not-ready"
        # Afterwards it works as before.
        cache._backing._query = lambda *_: MISS  # type: ignore[attr-defined]
        assert type(cache.get(ID)) is Miss


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [[1, 2, None]],
        [["1", 2, None, None]],
        [[True, 2, None, None]],
        [[2**63, 2, None, None]],
        [[1, 2, b"{}", 3]],
        [[1, 2, "x" * 70_000, 3]],
        [[1, None, None, None]],
        None,
        [None],
    ],
)
def test_rows_that_are_none_of_the_statement_are_no_miss(rows: Any) -> None:
    with Cache.in_process(lambda *_: rows) as cache, pytest.raises(CimdCacheError) as failed:
        cache.get(ID)
    assert failed.value.code == "storage"


def test_only_statements_of_the_list_are_let_through() -> None:
    statements, asked = load("cimd_cache"), []
    loan = Loan(statements, lambda statement, parameters: asked.append(statement) or MISS, float("inf"))
    get = next(sql for sql, statement in statements.items() if statement.name == "get")
    for text, parameters in (
        ("select pg_sleep(60)", []),
        (get + " ", ["a"]),
        (get, []),
        (get, ["a", "b"]),
        (get, [1]),
        (get, [b"a"]),
    ):
        assert loan.query(text, parameters) == SqlError("not-allowed")
    assert loan.query(get, ["x" * 70_000]) == SqlError("too-large")
    assert asked == []
    assert loan.query(get, ["a"]) == MISS and loan.query(get, [None]) == MISS
    late = Loan(statements, lambda *_: pytest.fail("nobody waits for it"), 0)
    assert late.query(get, ["a"]) == SqlError("timed-out")


def test_the_statements_and_the_component_are_those_of_the_command(tmp_path: Any) -> None:
    import runpy
    from pathlib import Path

    here = Path(__file__).resolve().parent.parent
    take = runpy.run_path(str(here / "scripts" / "take_component.py"))["take"]
    take(os.environ["CIMD_CACHE_BIN"], tmp_path)
    assert (tmp_path / "cimd-cache.wasm").read_bytes() == component_bytes()
    listed = json.loads((tmp_path / "statements.json").read_text())
    assert [one["sql"] for one in listed] == list(load("cimd_cache"))


def test_a_schema_is_a_name_that_sql_cannot_misread() -> None:
    assert qualify("from cimd_cache.purge", "tenant_1") == 'from "tenant_1".purge'
    for name in ("", "a b", 'a"b', "Upper", "1st", "pg_cache", "é", "a" * 64, "a\n"):
        with pytest.raises(ValueError):
            Cache.in_process(lambda *_: MISS, schema=name)
    sent: list[str] = []
    with Cache.in_process(lambda text, *_: sent.append(text) or MISS, schema="strict") as cache:
        cache.get(ID)
    assert '"strict".client_id_metadata' in sent[0] and "cimd_cache" not in sent[0]


def test_a_component_that_fails_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    with Cache.in_process(lambda *_: MISS) as cache:
        cache.get(ID)
        rules = cache._backing._rules  # type: ignore[attr-defined]
        (first,) = rules._idle
        monkeypatch.setattr("cimd_cache.in_process.instance._FUEL", 10)
        with pytest.raises(CimdCacheError) as failed:
            cache.get(ID)
        assert failed.value.code == "storage" and not rules._idle
        monkeypatch.undo()
        assert type(cache.get(ID)) is Miss and first not in rules._idle


def test_a_query_of_the_other_kind_is_refused() -> None:
    async def query(text: str, parameters: object, name: str) -> Any:
        return MISS

    with pytest.raises(TypeError, match="AsyncCache"):
        Cache.in_process(query)
    with pytest.raises(TypeError, match="use Cache"):
        AsyncCache.in_process(lambda *_: MISS)


def test_after_a_fork_it_refuses_instead_of_waiting() -> None:
    with Cache.in_process(lambda *_: MISS) as cache:
        cache.get(ID)
        child = os.fork()
        if child == 0:
            try:
                cache.get(ID)
                os._exit(1)
            except CimdCacheError as error:
                os._exit(0 if error.code == "not-ready" else 2)
            finally:
                os._exit(3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_closed_cache_ends_its_threads() -> None:
    # Those of caches that other tests have closed may still be ending.
    before = set(threading.enumerate())
    cache = Cache.in_process(lambda *_: MISS)
    cache.get(ID)
    (worker,) = set(threading.enumerate()) - before
    cache.close()
    worker.join(20)
    assert not worker.is_alive()
    with pytest.raises(CimdCacheError, match="closed"):
        cache.get(ID)


def test_cancelling_gives_up_the_wait_and_the_statement_goes_on() -> None:
    async def test() -> None:
        began, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

        async def query(text: str, parameters: object, name: str) -> Any:
            began.set()
            await go_on.wait()
            ended.set()
            return MISS

        async with AsyncCache.in_process(query) as cache:
            call = asyncio.create_task(cache.get(ID))
            await began.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            go_on.set()
            await asyncio.wait_for(ended.wait(), 20)
            assert type(await cache.get(ID)) is Miss

    asyncio.run(test())


def test_a_hit_has_the_document_digit_by_digit() -> None:
    row = [1_764_000_000_000_000, 1_763_000_000_000_000, '{"n": 1.500000000000000000001}', 1_764_000_060_000_000]
    with Cache.in_process(lambda *_: [row]) as cache:
        found = cache.get(ID)
    assert isinstance(found, Hit) and found.metadata == '{"n": 1.500000000000000000001}'
    assert (found.expires_at.timestamp(), found.fresh_for.total_seconds()) == (1_764_000_060, 60)
    assert found.document == {"n": 1.5}
