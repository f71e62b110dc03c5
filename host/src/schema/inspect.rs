//! What is in a database: the server, the cache's tables, their indexes, and what a role may do with them.
//!
//! Every role can read the catalogs, so this works without any privilege on the schema. Both
//! [`check`](super::check) and
//! [`migrations`](super::migrations) use it: what one reports, the other repairs.

use futures_util::future::try_join_all;
use tokio_postgres::types::{FromSql, ToSql, Type};
use tokio_postgres::{GenericClient, Row};

use super::name::Schema;
use crate::postgres::Failure;

/// The server and this connection to it.
pub(crate) struct Server {
    pub(crate) version: String,
    pub(crate) role: String,
    pub(crate) read_only: bool,
    /// In milliseconds; 0 means no limit.
    pub(crate) statement_timeout: i64,
}

/// The schema, as a role finds it.
pub(crate) struct Found {
    /// Who owns the schema. None if there is no such schema.
    pub(crate) owner: Option<String>,
    /// Whether it belongs to the login role, or to `cimd_cache_owner` if the login role may act for it. Other
    /// owners do not count, even for a superuser, who may act for everybody: somebody may have made the
    /// schema, and triggers in it, first.
    pub(crate) owned: bool,
    /// Whether the schema has anything that is not the cache's.
    pub(crate) foreign: bool,
    pub(crate) tables: Vec<Table>,
    /// Which of the [indexes](INDEXES) are missing or invalid.
    pub(crate) broken: Vec<&'static Index>,
    /// Which of the [privileges](PRIVILEGES) the role lacks.
    pub(crate) lacking: Vec<&'static Privilege>,
}

/// One of the cache's tables.
pub(crate) struct Table {
    pub(crate) name: &'static str,
    /// None if the table is not there, or is something else, such as a view.
    pub(crate) owner: Option<String>,
    pub(crate) owned: bool,
    pub(crate) complete: bool,
    /// Whether row level security applies to the role that is logged in.
    pub(crate) row_security: bool,
}

/// The tables, with the columns that the latest version has. `schema_history` is the record of migrations.
const TABLES: [(&str, &[&str]); 3] = [
    (HISTORY, &["version", "name", "applied_on", "checksum"]),
    ("purge", &["id", "purged_at", "clock_tolerance"]),
    (
        DOCUMENTS,
        &["url", "metadata", "expires_at", "inserted_at", "fetched_at", "after_purge", "had_document"],
    ),
];

pub(crate) const HISTORY: &str = "schema_history";
const DOCUMENTS: &str = "client_id_metadata";

/// An index that the statements need: without the unique ones no write works, without the others a sweep
/// reads all.
pub(crate) struct Index {
    pub(crate) table: &'static str,
    pub(crate) column: &'static str,
    pub(crate) unique: bool,
}

const INDEXES: [Index; 4] = [
    Index { table: "purge", column: "id", unique: true },
    Index { table: DOCUMENTS, column: "url", unique: true },
    Index { table: DOCUMENTS, column: "expires_at", unique: false },
    Index { table: DOCUMENTS, column: "after_purge", unique: false },
];

/// A privilege that auth servers' role needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Privilege {
    /// On a table, or on the schema where this is empty.
    table: &'static str,
    name: &'static str,
    column: Option<&'static str>,
}

const fn on(table: &'static str, name: &'static str) -> Privilege {
    Privilege { table, name, column: None }
}

const PRIVILEGES: [Privilege; 8] = [
    on("", "usage"),
    on(HISTORY, "select"),
    on("purge", "select"),
    Privilege { table: "purge", name: "update", column: Some("purged_at") },
    on(DOCUMENTS, "select"),
    on(DOCUMENTS, "insert"),
    on(DOCUMENTS, "update"),
    on(DOCUMENTS, "delete"),
];

impl Privilege {
    /// Whether it is needed to read the record of migrations, which says what else there has to be.
    pub(crate) fn is_for_the_record(&self) -> bool {
        ["", HISTORY].contains(&self.table)
    }

    /// As it is written after the word `grant`.
    pub(crate) fn sql(&self, schema: &Schema) -> String {
        let column = self.column.map(|column| format!(" ({column})")).unwrap_or_default();
        let object = match self.table {
            "" => format!("schema {}", schema.quoted()),
            table => format!("{}.{table}", schema.quoted()),
        };
        format!("{}{column} on {object}", self.name)
    }
}

impl Found {
    pub(crate) fn table(&self, name: &str) -> Option<&Table> {
        self.tables.iter().find(|table| table.name == name && table.owner.is_some())
    }
}

const SERVER: &str = "\
select pg_catalog.current_setting('server_version'),
       current_user::pg_catalog.text,
       pg_catalog.pg_is_in_recovery() or pg_catalog.current_setting('transaction_read_only')::boolean,
       (select setting::bigint from pg_catalog.pg_settings where name operator(pg_catalog.=) 'statement_timeout')";

/// One row. What else is in the schema: tables, views and sequences that the cache did not make.
const SCHEMA: &str = "\
select pg_catalog.pg_get_userbyid(n.nspowner)::pg_catalog.text,
       (pg_catalog.pg_get_userbyid(n.nspowner) operator(pg_catalog.=) any (array[current_user, 'cimd_cache_owner'::pg_catalog.name])
        and pg_catalog.pg_has_role(n.nspowner, 'usage')),
       exists (
         select from pg_catalog.pg_class c
         where c.relnamespace operator(pg_catalog.=) n.oid
           and c.relkind operator(pg_catalog.=) any ('{r,p,v,m,f,S}'::pg_catalog.\"char\"[])
           and c.relname operator(pg_catalog.<>) all ('{schema_history,purge,client_id_metadata}'::pg_catalog.name[])
       )
from (select 1) one
left join pg_catalog.pg_namespace n on n.nspname operator(pg_catalog.=) $1";

/// One row for a table: its owner, whether it has these columns, and whether rows of it may be hidden.
const TABLE: &str = "\
select pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text,
       (pg_catalog.pg_get_userbyid(c.relowner) operator(pg_catalog.=) any (array[current_user, 'cimd_cache_owner'::pg_catalog.name])
        and pg_catalog.pg_has_role(c.relowner, 'usage')),
       (select pg_catalog.count(*) from pg_catalog.pg_attribute a
        where a.attrelid operator(pg_catalog.=) c.oid and not a.attisdropped
          and a.attname::pg_catalog.text operator(pg_catalog.=) any ($3))
         operator(pg_catalog.=) pg_catalog.cardinality($3),
       pg_catalog.row_security_active(c.oid)
from (select 1) one
left join (pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace)
  on n.nspname operator(pg_catalog.=) $1 and c.relname operator(pg_catalog.=) $2
 and c.relkind operator(pg_catalog.=) any ('{r,p}'::pg_catalog.\"char\"[])";

/// Whether a table has a valid index that begins with a column, and is unique in it alone if it has to be.
const INDEX: &str = "\
select exists (
  select from pg_catalog.pg_index i
  join pg_catalog.pg_class c on c.oid operator(pg_catalog.=) i.indrelid
  join pg_catalog.pg_namespace n on n.oid operator(pg_catalog.=) c.relnamespace
  join pg_catalog.pg_attribute a
    on a.attrelid operator(pg_catalog.=) c.oid and a.attnum operator(pg_catalog.=) i.indkey[0]
  where n.nspname operator(pg_catalog.=) $1 and c.relname operator(pg_catalog.=) $2
    and a.attname operator(pg_catalog.=) $3
    and i.indisvalid and i.indisready and i.indpred is null
    and (not $4 or (i.indisunique and i.indimmediate and i.indnkeyatts operator(pg_catalog.=) 1))
)";

/// Whether a role has a privilege on a table, on a column of it, or on the schema. Null where there is no
/// such thing.
const PRIVILEGE: &str = "\
select case
         when $2 operator(pg_catalog.=) '' then pg_catalog.has_schema_privilege($5, n.oid, $3)
         when $4 is null then pg_catalog.has_table_privilege($5, c.oid, $3)
         else (select pg_catalog.has_column_privilege($5, c.oid, a.attnum, $3)
               from pg_catalog.pg_attribute a
               where a.attrelid operator(pg_catalog.=) c.oid and a.attname operator(pg_catalog.=) $4)
       end
from pg_catalog.pg_namespace n
left join pg_catalog.pg_class c
  on c.relnamespace operator(pg_catalog.=) n.oid and c.relname operator(pg_catalog.=) $2
where n.nspname operator(pg_catalog.=) $1";

/// Asks for the server.
pub(crate) async fn server(client: &impl GenericClient) -> Result<Server, Failure> {
    let row = one_row(client, SERVER, &[]).await?;
    Ok(Server {
        version: column(&row, 0)?,
        role: column(&row, 1)?,
        read_only: column(&row, 2)?,
        statement_timeout: column(&row, 3)?,
    })
}

/// Asks for the schema: what is there, and what `role` lacks.
pub(crate) async fn inspect(
    client: &impl GenericClient,
    schema: &Schema,
    role: &str,
) -> Result<Found, Failure> {
    let schema = schema.name();
    let row = one_row(client, SCHEMA, &[(&schema, Type::NAME)]).await?;
    let mut found = Found {
        owner: column(&row, 0)?,
        owned: column::<Option<_>>(&row, 1)?.unwrap_or_default(),
        foreign: column(&row, 2)?,
        tables: Vec::new(),
        broken: Vec::new(),
        lacking: Vec::new(),
    };
    if found.owner.is_none() {
        return Ok(found);
    }
    // Each of the three groups is sent at once.
    let tables = TABLES.iter().map(async |(name, columns)| {
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&schema, Type::NAME), (name, Type::NAME), (columns, Type::TEXT_ARRAY)];
        let row = one_row(client, TABLE, &parameters).await?;
        Ok::<_, Failure>(Table {
            name,
            owner: column(&row, 0)?,
            owned: column::<Option<_>>(&row, 1)?.unwrap_or_default(),
            complete: column::<Option<_>>(&row, 2)?.unwrap_or_default(),
            row_security: column::<Option<_>>(&row, 3)?.unwrap_or_default(),
        })
    });
    found.tables = try_join_all(tables).await?;
    let broken = INDEXES.iter().map(async |index| {
        let Index { table, column: name, unique } = index;
        let parameters: [(&(dyn ToSql + Sync), Type); 4] =
            [(&schema, Type::NAME), (table, Type::NAME), (name, Type::NAME), (unique, Type::BOOL)];
        let there = column::<bool>(&one_row(client, INDEX, &parameters).await?, 0)?;
        Ok::<_, Failure>((!there).then_some(index))
    });
    found.broken = try_join_all(broken).await?.into_iter().flatten().collect();
    let lacking = PRIVILEGES.iter().map(async |privilege| {
        let Privilege { table, name, column: of } = privilege;
        let parameters: [(&(dyn ToSql + Sync), Type); 5] = [
            (&schema, Type::NAME),
            (table, Type::NAME),
            (name, Type::TEXT),
            (of, Type::NAME),
            (&role, Type::NAME),
        ];
        let has: Option<bool> = column(&one_row(client, PRIVILEGE, &parameters).await?, 0)?;
        Ok::<_, Failure>((has == Some(false)).then_some(privilege))
    });
    found.lacking = try_join_all(lacking).await?.into_iter().flatten().collect();
    Ok(found)
}

/// One row, in one round trip: a statement with types need not be prepared first, and leaves nothing behind
/// on a pooler's connection.
pub(crate) async fn one_row(
    client: &impl GenericClient,
    sql: &str,
    parameters: &[(&(dyn ToSql + Sync), Type)],
) -> Result<Row, Failure> {
    let rows = client.query_typed(sql, parameters).await?;
    rows.into_iter().next().ok_or(Failure::NoRow)
}

/// A column of such a row.
pub(crate) fn column<T: for<'a> FromSql<'a>>(row: &Row, at: usize) -> Result<T, Failure> {
    Ok(row.try_get(at)?)
}
