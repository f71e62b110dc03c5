//! Migrations, and what is said of a schema or role that is not right.

use std::process::Command;
use std::time::Duration;

use cimd_cache::migrations::{self, MigrateError, Migrated, Settings};
use cimd_cache::{Cache, CheckError, ConnectError, Error, Schema};
use support::{Database, HOUR, ID, document, miss, one, roles_turn, version};

#[tokio::test]
async fn of_eight_migrations_at_once_one_applies_and_none_fails() {
    let database = Database::empty().await;
    database.create_roles(migrations::ROLES).await;
    let url = database.url("cimd_cache_owner");
    let migrations: Vec<_> = (0..8)
        .map(|_| {
            let url = url.clone();
            tokio::spawn(async move { migrations::migrate(&url, &Schema::default()).await.unwrap() })
        })
        .collect();
    let mut applied = Vec::new();
    for migration in migrations {
        let Migrated { applied: by_one, version, .. } = migration.await.unwrap();
        assert_eq!(version, migrations::latest());
        if !by_one.is_empty() {
            applied.push(by_one);
        }
    }
    assert_eq!(applied.len(), 1, "{applied:?}");
    assert_eq!(applied[0].len(), migrations::latest() as usize);
    assert!(database.node().check().await.is_ok());
}

#[tokio::test]
async fn a_schema_that_is_missing_or_older_is_reported_with_the_command_that_mends_it() {
    let database = Database::empty().await;
    let missing = database.node().check().await.unwrap_err();
    assert_eq!(missing, CheckError::SchemaMissing { schema: Schema::default() });
    assert!(missing.to_string().contains("cimd-cache migrate"));

    let database = Database::new().await;
    let admin = database.admin().await;
    let latest = "delete from cimd_cache.schema_history where version = (select max(version) from cimd_cache.schema_history)";
    admin.execute(latest, &[]).await.unwrap();
    let older = database.node().check().await.unwrap_err();
    let needed = migrations::latest();
    assert_eq!(older, CheckError::SchemaOlder { schema: Schema::default(), found: needed - 1, needed });
    assert!(older.to_string().contains("cimd-cache migrate"));
}

#[tokio::test]
async fn a_check_tells_whose_role_it_is_and_whether_the_database_takes_writes() {
    let database = Database::new().await;
    let (admin, node) = (database.admin().await, database.node());
    let ready = node.check().await.unwrap();
    assert_eq!((ready.schema_version, ready.role.as_str()), (migrations::latest(), "cimd_cache_app"));
    assert!(!ready.privileged);
    let as_superuser = Cache::builder().database_url(&database.url("postgres")).build().unwrap();
    assert!(as_superuser.check().await.unwrap().privileged);

    let read_only = format!("alter database {} set default_transaction_read_only = on", database.name);
    admin.batch_execute(&read_only).await.unwrap();
    let standby = database.node();
    assert_eq!(standby.check().await, Err(CheckError::Connection(ConnectError::ReadOnly)));
    // It lags behind, and would go on serving what was deleted.
    assert_eq!(standby.get(ID).await, Err(Error::Unavailable));
}

/// The table refuses by itself what the rules should never let through.
#[tokio::test]
async fn the_table_holds_no_row_that_the_rules_could_not_read() {
    let database = Database::new().await;
    let admin = database.admin().await;
    let row = |url: &str, metadata: &str, expires_at: &str| {
        format!(
            "insert into cimd_cache.client_id_metadata (url, metadata, expires_at, inserted_at, fetched_at, after_purge)
             values ({url}, {metadata}, {expires_at}, now(), now(), now())"
        )
    };
    for insert in [
        row("''", "'{}'", "now()"),
        row("repeat('x', 2049)", "'{}'", "now()"),
        row("'u'", "'[]'", "now()"),
        row("'u'", "'null'", "now()"),
        row("'u'", "'{}'", "'infinity'"),
        "insert into cimd_cache.purge values (2, now())".to_owned(),
    ] {
        let refused = admin.batch_execute(&insert).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "23514", "{insert}");
    }
    assert_eq!(one::<i64>(&admin, "select count(*) from cimd_cache.client_id_metadata", &[]).await, 0);
}

/// Nothing waits without end or word.
#[tokio::test]
async fn a_migration_that_waits_for_somebody_says_for_whom() {
    let database = Database::new().await;
    let owner = database.url("cimd_cache_owner");
    let mut settings = Settings::default();
    settings.wait = Duration::from_millis(100);
    for lock in [
        // Another migration's, which anybody may hold.
        "select pg_advisory_lock(1667853668)",
        "begin; select pg_advisory_xact_lock(1667853668)",
        "begin; lock table cimd_cache.purge in access exclusive mode",
        "begin; lock table cimd_cache.schema_history in access exclusive mode",
    ] {
        let holder = database.admin().await;
        holder.batch_execute(lock).await.unwrap();
        let process: i32 = one(&holder, "select pg_backend_pid()", &[]).await;
        let error = migrations::migrate(&owner, settings.clone()).await.unwrap_err();
        let named = matches!(error, MigrateError::Locked { process: Some(named), .. } if named == process);
        assert!(named && error.to_string().contains(&process.to_string()), "{lock}: {error}");
        // What it says to do helps.
        let said = error.to_string();
        database.admin().await.batch_execute(said.split('`').nth(1).unwrap()).await.unwrap();
        let patient = Settings::default();
        migrations::migrate(&owner, patient).await.unwrap();
    }
}

/// The roles' SQL is done whole or not at all, and psql's status says which.
#[tokio::test]
async fn the_sql_of_the_roles_stops_at_its_first_error() {
    let database = Database::empty().await;
    let stranger = format!("stranger_{}", database.name);
    let admin = database.admin().await;
    admin.batch_execute(&format!("create role {stranger} login")).await.unwrap();
    for (role, status) in [(stranger.as_str(), 3), ("postgres", 0)] {
        let _turn = roles_turn().await;
        let url = database.url(role);
        let pipe = format!("\"{}\" migrate --roles | psql -q '{url}'", env!("CARGO_BIN_EXE_cimd-cache"));
        let psql =
            tokio::task::spawn_blocking(move || Command::new("sh").args(["-c", &pipe]).output().unwrap());
        let output = psql.await.unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(status), "{said}");
        assert_eq!(said.matches("ERROR").count(), usize::from(status != 0), "{said}");
    }
    let owns = format!("drop role {stranger}");
    admin.batch_execute(&owns).await.unwrap();
    migrations::migrate(&database.url("cimd_cache_owner"), &Schema::default()).await.unwrap();
}

/// Two caches in one database, which know nothing of each other.
#[tokio::test]
async fn a_cache_may_have_a_schema_of_its_own() {
    let database = Database::new().await;
    let schema: Schema = "user".parse().unwrap();
    let missing = cache_in(&database, &schema).check().await;
    assert_eq!(missing, Err(CheckError::SchemaMissing { schema: schema.clone() }));
    migrations::migrate(&database.url("cimd_cache_owner"), &schema).await.unwrap();
    let (node, other) = (database.node(), cache_in(&database, &schema));
    assert!(!other.check().await.unwrap().privileged);

    node.put(ID, &document(1), HOUR, None).await.unwrap();
    miss(&other, ID).await;
    other.put(ID, &document(2), HOUR, None).await.unwrap();
    node.purge().await.unwrap();
    assert_eq!(version(&other.get(ID).await.unwrap()), Some(2));
    assert!(other.delete(ID).await.unwrap());
    let left = "select count(*) from \"user\".client_id_metadata where metadata is null";
    assert_eq!(one::<i64>(&database.admin().await, left, &[]).await, 1);
    assert_eq!(other.sweep(10).await.unwrap().removed, 0);
}

fn cache_in(database: &Database, schema: &Schema) -> Cache {
    Cache::builder().database_url(&database.app_url()).schema(schema.clone()).build().unwrap()
}
