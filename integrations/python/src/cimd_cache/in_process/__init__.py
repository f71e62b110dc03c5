"""The backing in process: the component, on your own database driver.

`Cache.in_process(query)` takes a function that runs one statement; `from_psycopg` and `from_asyncpg` make one of
a pool. Whoever writes one by hand owes the component what `wit/sql.wit` asks of a host:

* each call runs the statement in a transaction of its own, at READ COMMITTED, and commits it before it returns;
* no statement runs for a minute: set `statement_timeout` well below that;
* a failure is raised: with the SQLSTATE in `sqlstate`, as psycopg's and asyncpg's errors have it, or as an OSError
  if the connection was lost, or a TimeoutError.

`Cache.check` looks whether it does the first two.
"""

from .adapters import from_asyncpg, from_psycopg
from .statements import AsyncQuery, Query, Rows, Value

__all__ = ["AsyncQuery", "Query", "Rows", "Value", "from_asyncpg", "from_psycopg"]
