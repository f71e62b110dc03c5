//! The role that the host connects as, without the host in front of it: what it may do, what it may not, and
//! why rights alone would be no sandbox.

use cimd_cache::{CheckError, statements};
use support::{Database, HOUR, ID, document, one};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};

async fn connect(database: &Database) -> Client {
    let (app, connection) = tokio_postgres::connect(&database.app_url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    app
}

/// Every right it was given.
const RIGHTS: [(&str, &str); 8] = [
    ("select", "table cimd_cache.client_id_metadata"),
    ("insert", "table cimd_cache.client_id_metadata"),
    ("update", "table cimd_cache.client_id_metadata"),
    ("delete", "table cimd_cache.client_id_metadata"),
    ("select", "table cimd_cache.purge"),
    ("update (purged_at)", "table cimd_cache.purge"),
    ("usage", "schema cimd_cache"),
    ("select", "table cimd_cache.schema_history"),
];

/// Of the list, those statements that the role cannot run now.
async fn broken(app: &Client) -> Vec<&'static str> {
    let mut broken = Vec::new();
    for statement in statements::ALL {
        // Something that each of them takes, also as JSON. The rights are looked at before the first row.
        let value = |of: &statements::Type| -> &(dyn ToSql + Sync) {
            match of {
                statements::Type::Boolean => &true,
                statements::Type::Int64 => &1_i64,
                statements::Type::Text => &"{}",
            }
        };
        let parameters: Vec<_> = statement.parameters.iter().map(value).collect();
        if let Err(error) = app.query(statement.sql, &parameters).await {
            assert_eq!(error.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{error:?}");
            broken.push(statement.name);
        }
    }
    broken
}

#[tokio::test]
async fn it_has_the_rights_of_the_statements_and_no_other() {
    let database = Database::new().await;
    let admin = database.admin().await;
    // Each right that this role has in some object's list of rights, outside of the schemas that are
    // Postgres' own.
    let sql = "
        with granted as (
          select 'schema ' || nspname as object, null as columns, nspacl as acl from pg_namespace
          union all
          select 'table ' || oid::regclass, null, relacl from pg_class where relnamespace not in
            ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
          union all
          select 'table ' || attrelid::regclass, ' (' || attname || ')', attacl from pg_attribute
          union all
          select 'function ' || oid::regprocedure, null, proacl from pg_proc where pronamespace not in
            ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)
          union all
          select 'database', null, datacl from pg_database where datname = current_database()
        )
        select lower(privilege_type) || coalesce(columns, ''), object
        from granted, aclexplode(acl)
        where grantee = 'cimd_cache_app'::regrole";
    let granted = admin.query(sql, &[]).await.unwrap();
    let mut granted: Vec<(String, String)> = granted.iter().map(|row| (row.get(0), row.get(1))).collect();
    let mut rights = RIGHTS.map(|(right, object)| (right.to_owned(), object.to_owned()));
    granted.sort();
    rights.sort();
    assert_eq!(granted, rights);
    let nothing_else = "select count(*) from pg_roles r where rolname = 'cimd_cache_app'
                        and not (rolsuper or rolcreaterole or rolcreatedb or rolreplication or rolbypassrls)
                        and not exists (select from pg_auth_members where member = r.oid)
                        and not exists (select from pg_class where relowner = r.oid)";
    assert_eq!(one::<i64>(&admin, nothing_else, &[]).await, 1);
}

#[tokio::test]
async fn each_of_its_rights_is_needed() {
    let database = Database::new().await;
    let (app, admin) = (connect(&database).await, database.admin().await);
    assert_eq!(broken(&app).await, [""; 0]);
    for (right, object) in RIGHTS {
        let object = object.strip_prefix("table ").unwrap_or(object);
        admin.batch_execute(&format!("revoke {right} on {object} from cimd_cache_app")).await.unwrap();
        if object.ends_with("schema_history") {
            // No statement of the list: what `check` reads.
            let check = database.node().check().await;
            assert!(matches!(check, Err(CheckError::Privilege { .. })), "{check:?}");
        } else {
            assert_ne!(broken(&app).await, [""; 0], "{right} on {object}");
        }
        admin.batch_execute(&format!("grant {right} on {object} to cimd_cache_app")).await.unwrap();
    }
    assert_eq!(broken(&app).await, [""; 0]);
}

#[tokio::test]
async fn it_can_do_nothing_else_to_the_cache_or_the_server() {
    let database = Database::new().await;
    let (app, admin) = (connect(&database).await, database.admin().await);
    admin.batch_execute("create schema other; create table other.secrets (secret text)").await.unwrap();
    for sql in [
        // The cache's tables, beyond their rows.
        "alter table cimd_cache.client_id_metadata add column more text",
        "alter table cimd_cache.client_id_metadata disable trigger all",
        "alter table cimd_cache.client_id_metadata owner to cimd_cache_app",
        "create index on cimd_cache.client_id_metadata (metadata)",
        "drop table cimd_cache.client_id_metadata",
        "truncate cimd_cache.client_id_metadata",
        "create trigger t before insert on cimd_cache.client_id_metadata execute function f()",
        "create rule r as on select to cimd_cache.client_id_metadata do instead select 1",
        "create table cimd_cache.more (id integer)",
        "drop schema cimd_cache cascade",
        "alter schema cimd_cache rename to mine",
        // The one row without which nothing counts, and its history.
        "update cimd_cache.purge set id = 2",
        "delete from cimd_cache.purge",
        "insert into cimd_cache.purge values (1, now())",
        "truncate cimd_cache.purge",
        "insert into cimd_cache.schema_history values (99, 'x', 'x', 'x')",
        "update cimd_cache.schema_history set version = 99",
        "delete from cimd_cache.schema_history",
        // Objects besides the cache's.
        "select * from other.secrets",
        "create table other.mine (id integer)",
        "create table public.mine (id integer)",
        "create schema mine",
        "create publication everything",
        "create extension hstore",
        "drop extension plpgsql",
        // Other roles, and the server.
        "set role cimd_cache_owner",
        "set role postgres",
        "set session authorization cimd_cache_owner",
        "grant cimd_cache_owner to cimd_cache_app",
        "alter role cimd_cache_app superuser",
        "alter role cimd_cache_owner password 'x'",
        "create role mine",
        "create database mine",
        "alter system set work_mem = '1GB'",
        "set log_statement = 'none'",
        "set session_replication_role = replica",
        "select pg_reload_conf()",
        "select rolpassword from pg_authid",
        "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'postgres'",
        // Files and programs.
        "copy cimd_cache.client_id_metadata to program 'cat'",
        "copy cimd_cache.client_id_metadata to '/tmp/documents'",
        "copy cimd_cache.client_id_metadata from '/etc/passwd'",
        "select pg_read_file('/etc/passwd')",
        "select pg_ls_dir('/')",
        "select lo_import('/etc/passwd')",
        "create function f() returns integer language c as 'libc', 'abort'",
    ] {
        let refused = app.batch_execute(sql).await.expect_err(sql);
        assert_eq!(refused.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{sql}: {refused:?}");
    }
}

/// What every role of a Postgres may do, and no right takes away: which is why the host has a list of
/// statements, and does not leave the component alone with this role.
#[tokio::test]
async fn the_role_alone_would_be_no_sandbox() {
    let database = Database::new().await;
    database.node().put(ID, &document(1), HOUR, None).await.unwrap();
    let app = connect(&database).await;
    for sql in [
        // Time, and what others wait for.
        "set statement_timeout = 0; select pg_sleep(0.001)",
        "select pg_advisory_lock(1)",
        "lock table cimd_cache.client_id_metadata in access exclusive mode",
        "select pg_terminate_backend(pid) from pg_stat_activity
         where usename = 'cimd_cache_app' and datname = current_database() and pid <> pg_backend_pid()",
        // Space.
        "create temporary table t as select generate_series(1, 1000)",
        "select lo_create(0)",
        // Code, messages, its own password.
        "do $$ begin perform 1; end $$",
        "notify anything, 'everything'",
        "alter role cimd_cache_app password 'x'",
        // All documents at once: to read, and to forge.
        "select * from cimd_cache.client_id_metadata",
        "update cimd_cache.client_id_metadata set metadata = '{}', expires_at = now() + interval '1 day'",
        "delete from cimd_cache.client_id_metadata",
        "update cimd_cache.purge set purged_at = now() + interval '1000 years'",
    ] {
        // Roles are the whole server's: nothing of it is to stay.
        let allowed = app.batch_execute(&format!("begin; {sql}; rollback")).await;
        assert!(allowed.is_ok(), "{sql}: {allowed:?}");
    }
}
