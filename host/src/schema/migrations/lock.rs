//! One migration at a time: a transaction's advisory lock, and who has it.

use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{Client, Transaction};

use crate::postgres::Failure;
use crate::schema::inspect::{column, one_row};
use crate::schema::name::Schema;

/// What stands for this schema among a database's advisory locks: "cimd" in ASCII.
const LOCK: i64 = 0x6369_6d64;

/// Waits for the lock, for as long as the transaction's `lock_timeout` allows.
pub(super) async fn take(transaction: &Transaction<'_>) -> Result<(), Failure> {
    let sql = "select pg_catalog.pg_advisory_xact_lock($1)::pg_catalog.text";
    one_row(transaction, sql, &[(&LOCK, Type::INT8)]).await.map(|_| ())
}

/// The process of the server that most likely held up a migration: one that has the lock of another
/// migration, else the one that has held any lock on the cache's tables for the longest.
pub(super) async fn holder(client: &Client, schema: &Schema) -> Option<i32> {
    let sql = "\
select l.pid
from pg_catalog.pg_locks l
left join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) l.relation
left join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
left join pg_catalog.pg_stat_activity a on a.pid operator(pg_catalog.=) l.pid
where l.granted and l.pid operator(pg_catalog.<>) pg_catalog.pg_backend_pid()
  and l.database operator(pg_catalog.=)
      (select oid from pg_catalog.pg_database where datname operator(pg_catalog.=) pg_catalog.current_database())
  and ((l.locktype operator(pg_catalog.=) 'advisory' and l.classid::bigint operator(pg_catalog.=) 0
        and l.objid::bigint operator(pg_catalog.=) $2 and l.objsubid operator(pg_catalog.=) 1)
       or n.nspname operator(pg_catalog.=) $1)
order by l.locktype, a.xact_start
limit 1";
    let parameters: [(&(dyn ToSql + Sync), Type); 2] = [(&schema.name(), Type::NAME), (&LOCK, Type::INT8)];
    column(&one_row(client, sql, &parameters).await.ok()?, 0).ok()
}
