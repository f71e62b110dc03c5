"""The statements that may be sent: those of the component, and one of this host's own for `check`."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Union

Value = Union[None, bool, int, str]
Rows = Sequence[Sequence[Value]]
Query = Callable[[str, Sequence[Value], str], Rows]
"""`query(text, parameters, name)` runs one statement (`$1` is the first parameter) and returns all rows."""
AsyncQuery = Callable[[str, Sequence[Value], str], Awaitable[Rows]]

# What the rules need is in the second version of the schema.
SCHEMA_VERSION = 2

_TYPES: dict[str, type] = {"boolean": bool, "int64": int, "text": str}
_INT64 = range(-(2**63), 2**63)

# Limits of the Rust host: several times what the rules allow, counting 16 bytes for a value.
_VALUE_BYTES = 16
_MANY_PARAMETER_BYTES = 64 * (2 * 2_048 + 3) + (64 << 10)
_MANY_RESULT_BYTES = 2 << 20
_BYTES = 64 << 10


@dataclass(frozen=True)
class Statement:
    name: str
    purpose: str
    """`read`, `write` or `maintenance`."""
    sql: str
    """As it is sent."""
    parameters: tuple[str, ...]
    columns: tuple[str, ...]

    def allows(self, parameters: Sequence[object]) -> bool:
        return _are(parameters, self.parameters)

    def has_room_for(self, parameters: Sequence[Value]) -> bool:
        return _size(parameters) <= (_MANY_PARAMETER_BYTES if self.name == "get-many" else _BYTES)

    def returns(self, rows: Rows) -> bool:
        """Whether these can be rows of it."""
        return all(_are(row, self.columns) for row in rows)

    def has_room_for_rows(self, rows: Rows) -> bool:
        most = _MANY_RESULT_BYTES if self.name == "get-many" else _BYTES
        return sum(_size(row) for row in rows) <= most


def _are(values: Sequence[object], types: tuple[str, ...]) -> bool:
    return len(values) == len(types) and all(
        value is None or (type(value) is _TYPES[of] and (of != "int64" or value in _INT64))
        for value, of in zip(values, types)
    )


def _size(values: Sequence[Value]) -> int:
    return sum(_VALUE_BYTES + (len(value.encode()) if isinstance(value, str) else 0) for value in values)


def load(schema: str) -> dict[str, Statement]:
    """The component's statements by the text that it sends, written for a schema.

    A schema is a text replacement: the component knows only `cimd_cache`.
    """
    listed = json.loads((files(__package__) / "statements.json").read_text())
    return {
        one["sql"]: Statement(
            one["name"],
            one["purpose"],
            qualify(one["sql"], schema),
            tuple(one["parameters"]),
            tuple(one["columns"]),
        )
        for one in listed
    }


def qualify(sql: str, schema: str) -> str:
    if not re.fullmatch(r"(?!pg_)[a-z_][a-z0-9_]{0,62}", schema):
        raise ValueError("the schema's name is 1 to 63 of a-z, 0-9 and _, and begins with no digit and no pg_")
    return sql if schema == "cimd_cache" else sql.replace("cimd_cache.", f'"{schema}".')


# One row: the transaction's time, what it runs under, and whether the role may do what the statements do.
_CHECK = """\
select (extract(epoch from pg_catalog.now()) operator(pg_catalog.*) 1000000)::bigint,
       pg_catalog.current_setting('transaction_isolation'),
       (select setting::bigint from pg_catalog.pg_settings where name operator(pg_catalog.=) 'statement_timeout'),
       pg_catalog.current_setting('transaction_read_only')::boolean,
       (select pg_catalog.max(version)::bigint from cimd_cache.schema_history),
       pg_catalog.has_table_privilege('cimd_cache.client_id_metadata'::pg_catalog.regclass, 'select')
         and pg_catalog.has_table_privilege('cimd_cache.client_id_metadata'::pg_catalog.regclass, 'insert')
         and pg_catalog.has_table_privilege('cimd_cache.client_id_metadata'::pg_catalog.regclass, 'update')
         and pg_catalog.has_table_privilege('cimd_cache.client_id_metadata'::pg_catalog.regclass, 'delete')
         and pg_catalog.has_table_privilege('cimd_cache.purge'::pg_catalog.regclass, 'select')
         and pg_catalog.has_column_privilege('cimd_cache.purge'::pg_catalog.regclass, 'purged_at', 'update')"""


def check_statement(schema: str) -> Statement:
    columns = ("int64", "text", "int64", "boolean", "int64", "boolean")
    return Statement("check", "read", qualify(_CHECK, schema), (), columns)
