from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from private_postgres import PrivatePostgres, Service, private_postgres, service  # noqa: E402


@pytest.fixture(scope="session")
def server() -> Iterator[PrivatePostgres]:
    with private_postgres() as started:
        yield started


@pytest.fixture
def database(server: PrivatePostgres) -> str:
    """The URL of an empty cache."""
    server.sql("truncate cimd_cache.client_id_metadata")
    return server.url("cimd_cache_app")


@pytest.fixture
def served(database: str) -> Iterator[Service]:
    with service(database, "--deadline-ms", "20000") as started:
        yield started
