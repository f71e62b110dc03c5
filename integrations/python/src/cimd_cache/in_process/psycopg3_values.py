"""Values to and from psycopg, past whatever adapters are registered on the user's connections."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from psycopg.types.numeric import Int8

from .statements import Rows, Value


def write(parameters: Sequence[Value]) -> list[Any]:
    # An int would be sent as the smallest type that holds it, and so be another statement each time.
    return [Int8(value) if isinstance(value, int) else value for value in parameters]


def _boolean(data: bytes) -> bool:
    return data == b"t"


def _text(data: bytes) -> str:
    return data.decode()


# By the object identifiers of Postgres' types.
_READERS: dict[int, Callable[[bytes], Value]] = {16: _boolean, 20: int, 25: _text}


def read(result: Any) -> Rows:
    """Reads a result that the server sent as text."""
    if result is None or any(result.fformat(column) for column in range(result.nfields)):
        raise ValueError("not a result as text")
    readers = [_READERS.get(result.ftype(column), bytes) for column in range(result.nfields)]
    return [
        [_one(reader, result.get_value(row, column)) for column, reader in enumerate(readers)]
        for row in range(result.ntuples)
    ]


def _one(reader: Callable[[bytes], Any], data: bytes | None) -> Value:
    value: Value = None if data is None else reader(data)
    return value
