from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[2] / "integrations" / "python" / "tests")]

from nodes import Pair, pair  # noqa: E402
from origin import HOST, Origin  # noqa: E402
from private_postgres import PrivatePostgres, private_postgres  # noqa: E402

_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PrivatePostgres]:
    with private_postgres() as started:
        yield started


@pytest.fixture(scope="session")
def origin(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Origin]:
    with Origin(tmp_path_factory.mktemp("origin")).running() as running:
        yield running


@pytest.fixture(scope="session", params=["service", "in-process"])
def nodes(request: pytest.FixtureRequest, postgres: PrivatePostgres, origin: Origin) -> Iterator[Pair]:
    with pair(request.param, postgres, origin) as started:
        yield started


@pytest.fixture
def client_id() -> str:
    """A client that no other test knows."""
    return f"https://{HOST}/{next(_numbers)}/metadata.json"
