"""CPU and latency of a get and a put: by the service, in process, and with psycopg alone.

    CIMD_CACHE_BIN=…/cimd-cache python bench/bench.py [CALLS [THREADS…]]

Postgres, the service and this client share the machine. CPU is that of this process alone.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from cimd_cache import Cache  # noqa: E402
from cimd_cache.in_process import from_psycopg  # noqa: E402
from cimd_cache.in_process.statements import load  # noqa: E402
from private_postgres import private_postgres, service  # noqa: E402
from psycopg import RawCursor  # noqa: E402
from psycopg_pool import ConnectionPool  # noqa: E402

DOCUMENTS = 1_000
TEXT = '{"client_id":"https://client.example/","redirect_uris":["https://client.example/cb"],"x":"' + "y" * 400 + '"}'
Do = Callable[[str], object]


def client_id(number: int) -> str:
    return f"https://client-{number % DOCUMENTS}.example/metadata.json"


def measure(name: str, do: Do, threads: int, calls: int) -> None:
    each = calls // threads
    times: list[list[float]] = [[] for _ in range(threads)]
    start = threading.Barrier(threads + 1)

    def work(mine: int) -> None:
        for number in range(20):
            do(client_id(number))
        start.wait()
        for number in range(each):
            began = time.perf_counter()
            do(client_id(mine * each + number))
            times[mine].append(time.perf_counter() - began)

    workers = [threading.Thread(target=work, args=(mine,)) for mine in range(threads)]
    for worker in workers:
        worker.start()
    start.wait()
    began, cpu = time.perf_counter(), time.process_time()
    for worker in workers:
        worker.join()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    every = sorted(one for mine in times for one in mine)
    median, p99 = statistics.median(every) * 1e6, every[len(every) * 99 // 100] * 1e6
    print(
        f"{name:<24} {threads:>2} threads  p50 {median:>7.0f} us  p99 {p99:>8.0f} us  "
        f"cpu {cpu / len(every) * 1e6:>6.0f} us  {len(every) / took:>7.0f}/s",
        flush=True,
    )


@contextmanager
def backings() -> Iterator[list[tuple[str, Do, Do]]]:
    with ExitStack() as stack:
        server = stack.enter_context(private_postgres())
        url = server.url("cimd_cache_app")
        pool = stack.enter_context(ConnectionPool(url, min_size=16, max_size=16, kwargs={"autocommit": True}))
        pool.wait()
        statements = {one.name: one.sql for one in load("cimd_cache").values()}

        def bare_get(one: str) -> object:
            with pool.connection() as connection:
                return RawCursor(connection).execute(statements["get"], [one], prepare=True).fetchall()

        def bare_put(one: str) -> object:
            parameters = [one, TEXT, None, 3_600, None, None]
            with pool.connection() as connection:
                return RawCursor(connection).execute(statements["put"], parameters, prepare=True).fetchall()

        served = stack.enter_context(service(url, "--deadline-ms", "30000"))
        by_service = stack.enter_context(Cache.connect(served.socket, timeout=60))
        # No deadline that a busy machine could meet.
        query = from_psycopg(pool, statement_timeout_ms=30_000)
        in_process = stack.enter_context(Cache.in_process(query, deadline_ms=30_000))

        def put_to(cache: Cache) -> Do:
            # With a ticket, as after a fetch, so that connections are used again.
            ticket = cache.get("https://ticket.example/").ticket
            return lambda one: cache.put(one, TEXT, ticket=ticket, expires_in=3_600)

        for number in range(DOCUMENTS):
            by_service.put(client_id(number), TEXT, ticket=None, expires_in=3_600)
        yield [
            ("psycopg alone", bare_get, bare_put),
            ("service", by_service.get, put_to(by_service)),
            ("in process", in_process.get, put_to(in_process)),
        ]


def main() -> None:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else 4_000
    with backings() as all_of_them:
        for threads in [int(word) for word in sys.argv[2:]] or [1, 16]:
            for name, get, put in all_of_them:
                measure(f"get {name}", get, threads, calls)
                measure(f"put {name}", put, threads, calls // 2)


if __name__ == "__main__":
    main()
