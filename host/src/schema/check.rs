//! Whether the cache can work on a database: for readiness probes, and to name what is wrong and how to fix
//! it.
//!
//! The host asks all of this on its own behalf; the component is not involved.

mod error;

use std::time::Duration;

use cimd_cache_guest::limits::FUTURE_TOLERANCE_SECONDS;
use cimd_cache_guest::statements;
use futures_util::future::try_join_all;
use tokio_postgres::Client;
use tokio_postgres::types::Type;

use super::inspect::{self, HISTORY, Privilege, column, one_row};
use super::migrations;
use super::name::Schema;
use crate::postgres::{ConnectError, Failure};

pub use self::error::CheckError;

/// What a check found on a database that is in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckReport {
    /// The server's version, in its own words.
    pub server_version: String,
    /// The version of the schema. A newer one than this program knows is in order too: migrations leave the
    /// statements of the version before them working.
    pub schema_version: u32,
    /// The role that is logged in.
    pub role: String,
    /// Whether the role has more privileges than the cache needs.
    pub privileged: bool,
    /// The most by which two clocks of the database may differ, as set in the schema: see
    /// [`Settings::clock_tolerance`](crate::migrations::Settings::clock_tolerance).
    pub clock_tolerance: Duration,
}

const VERSION: &str = "\
select coalesce(pg_catalog.max(version), 0)::bigint from cimd_cache.schema_history";

const PURGE: &str = "\
select p.purged_at is not null, (extract(epoch from p.clock_tolerance) operator(pg_catalog.*) 1000000)::bigint
from (select 1) one
left join cimd_cache.purge p on p.id operator(pg_catalog.=) 1";

/// Whether the role may do what only an owner needs.
const PRIVILEGED: &str = "\
select pg_catalog.has_table_privilege('cimd_cache.purge'::pg_catalog.regclass, 'delete')";

/// Whether the role inherits from `cimd_cache_app`. False if there is no such role.
const IS_APP: &str = "\
select coalesce(pg_catalog.bool_or(pg_catalog.pg_has_role(oid, 'usage')), false)
from pg_catalog.pg_roles where rolname operator(pg_catalog.=) 'cimd_cache_app'";

/// In milliseconds. To a statement that runs this long, a row that was stored meanwhile looks like one from
/// the future, and it would replace it.
const TOO_LONG: i64 = FUTURE_TOLERANCE_SECONDS * 1_000;

/// How many keys a check looks up like a get. On a distributed engine each key lives on some node, so several
/// nodes are very likely asked, but not certainly all.
const KEYS: usize = 8;

/// Checks everything, in some ten round trips, and reports the first thing that is wrong. The outer error is
/// about the connection, the inner one about what was found.
pub(crate) async fn check(
    client: &Client,
    schema: &Schema,
) -> Result<Result<CheckReport, CheckError>, Failure> {
    let server = inspect::server(client).await?;
    let found = inspect::inspect(client, schema, &server.role).await?;
    let ask = async |sql| one_row(client, &schema.qualify(sql), &[]).await;
    let schema = schema.clone();
    if found.table(HISTORY).is_none() {
        return Ok(Err(CheckError::SchemaMissing { schema }));
    }
    let lacks = found.lacking.first();
    if let Some(missing) = lacks.filter(|privilege| privilege.is_for_the_record()) {
        return Ok(Err(lacking(client, schema, server.role, missing).await?));
    }
    let version: i64 = column(&ask(VERSION).await?, 0)?;
    let (version, needed) = (u32::try_from(version).unwrap_or_default(), migrations::latest());
    if version < needed {
        return Ok(Err(CheckError::SchemaOlder { schema, found: version, needed }));
    }
    if let Some(table) = found.tables.iter().find(|table| !table.complete) {
        return Ok(Err(CheckError::Table { schema, table: table.name }));
    }
    if let Some(index) = found.broken.first() {
        return Ok(Err(CheckError::Index { schema, table: index.table, column: index.column }));
    }
    if let Some(missing) = lacks {
        return Ok(Err(lacking(client, schema, server.role, missing).await?));
    }
    if let Some(table) = found.tables.iter().find(|table| table.row_security) {
        return Ok(Err(CheckError::RowSecurity { table: format!("{}.{}", schema.quoted(), table.name) }));
    }
    let purge = ask(PURGE).await?;
    if !column::<bool>(&purge, 0)? {
        return Ok(Err(CheckError::PurgeRow { schema }));
    }
    if server.read_only {
        return Ok(Err(ConnectError::ReadOnly.into()));
    }
    if !(1..TOO_LONG).contains(&server.statement_timeout) {
        return Ok(Err(CheckError::StatementTimeout));
    }
    let get = schema.qualify(statements::GET.sql);
    let gets = (0..KEYS).map(async |key| {
        let url = format!("https://check-{key}.invalid/");
        one_row(client, &get, &[(&url, Type::TEXT)]).await
    });
    if let Err(failure) = try_join_all(gets).await {
        tracing::warn!(error = %failure, "the check's get failed");
        return Ok(Err(match (ConnectError::from(&failure), failure) {
            (ConnectError::TimedOut, _) => ConnectError::TimedOut.into(),
            (_, Failure::Database(_)) => CheckError::Get,
            (_, failure) => CheckError::from(&failure),
        }));
    }
    let tolerance: i64 = column(&purge, 1)?;
    Ok(Ok(CheckReport {
        server_version: server.version,
        schema_version: version,
        role: server.role,
        privileged: column(&ask(PRIVILEGED).await?, 0)?,
        clock_tolerance: Duration::from_micros(tolerance.unsigned_abs()),
    }))
}

/// The error for a missing privilege. `migrate` must be told the role, unless it is `cimd_cache_app` or a
/// member of it.
async fn lacking(
    client: &Client,
    schema: Schema,
    role: String,
    missing: &Privilege,
) -> Result<CheckError, Failure> {
    let missing = missing.sql(&schema);
    let mut command = schema.migrate_command();
    if !column::<bool>(&one_row(client, IS_APP, &[]).await?, 0)? {
        command = format!("{command} --app-role {}", shell_word(&role));
    }
    Ok(CheckError::Privilege { role, missing, command })
}

/// As a word of a shell's command line.
fn shell_word(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if text.bytes().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_role_s_name_is_one_word_of_the_command_whatever_is_in_it() {
        for (role, word) in [("auth", "auth"), ("my app", "'my app'"), ("a'b;c", r"'a'\''b;c'")] {
            assert_eq!(shell_word(role), word);
        }
    }
}
