"""The component under wasmtime.

wasmtime-py converts values by way of module globals, so two threads that convert at once get each other's types
(tests/test_lock.py shows it). One lock for the process is held while a call converts and calculates, and released
while it waits for the database.
"""

from __future__ import annotations

import threading
from importlib.resources import files
from typing import Any

try:
    from wasmtime import Config, Engine, Store
    from wasmtime.component import Component, ExportIndex, Func, Linker, Record, Variant
except ImportError as error:
    raise ImportError("the component runs under wasmtime: pip install 'cimd-cache[in-process]'") from error

from .failures import SqlError
from .loan import Loan

__all__ = ["Instance", "Record", "Variant"]

PACKAGE = "cimd:cache"
VERSION = "0.1.0"

# The Rust host gives 4 MiB and batches of 32; here up to 64 documents travel at once.
_MEMORY_BYTES = 16 << 20
# Some hundred times what the largest document takes.
_FUEL = 2_000_000_000

converting = threading.Lock()
_compiled: tuple[Engine, Component] | None = None


def component_bytes() -> bytes:
    return (files(__package__) / "cimd-cache.wasm").read_bytes()


def _compile() -> tuple[Engine, Component]:
    """Compiles it once for the process. The lock is held."""
    global _compiled
    if _compiled is None:
        config = Config()
        # A component that calculates for ever is stopped.
        config.consume_fuel = True
        # Its own compiler has optimised it already.
        config.cranelift_opt_level = "none"
        engine = Engine(config)
        _compiled = engine, Component(engine, component_bytes())
    return _compiled


class Instance:
    """One instance makes one call at a time. After a call that raises it must not be used again."""

    def __init__(self) -> None:
        with converting:
            engine, component = _compile()
            self._store = Store(engine)
            self._store.set_limits(memory_size=_MEMORY_BYTES)
            self._store.set_fuel(_FUEL)
            self._loan: Loan | None = None
            linker = Linker(engine)
            with linker.root() as root, root.add_instance(f"{PACKAGE}/sql@{VERSION}") as sql:
                sql.add_func("query", self._query)
            self._instance = linker.instantiate(self._store, component)
            self._functions: dict[tuple[str, str], Func] = {}

    def call(self, interface: str, name: str, loan: Loan, *arguments: Any) -> Any:
        with converting:
            self._loan = loan
            self._store.set_fuel(_FUEL)
            try:
                return self._function(interface, name)(self._store, *arguments)
            finally:
                self._loan = None

    def _function(self, interface: str, name: str) -> Func:
        function = self._functions.get((interface, name))
        if function is None:
            of = self._export(f"{PACKAGE}/{interface}@{VERSION}", None)
            function = self._instance.get_func(self._store, self._export(name, of))
            assert function is not None
            self._functions[interface, name] = function
        return function

    def _export(self, name: str, of: ExportIndex | None) -> ExportIndex:
        index = self._instance.get_export_index(self._store, name, of)
        assert index is not None, name
        return index

    def _query(self, _store: object, statement: str, parameters: list[Any]) -> Any:
        loan = self._loan
        if loan is None:
            return Variant("unavailable")
        converting.release()
        try:
            answer = loan.query(statement, parameters)
        finally:
            converting.acquire()
        return Variant(answer.case, answer.sqlstate) if isinstance(answer, SqlError) else answer
