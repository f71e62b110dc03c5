//! Migrations, and what is said of a schema or role that is not right.

use cimd_cache::migrations::{self, MigrateError, Migrated};
use cimd_cache::{Cache, CheckError, Error, Schema};

use crate::support::{Database, HOUR, ID, document, miss, one, version};

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
        let Migrated { applied: by_one, version } = migration.await.unwrap();
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
    assert_eq!(missing, CheckError::SchemaMissing);
    assert!(missing.to_string().contains("cimd-cache migrate"));

    let database = Database::new().await;
    let admin = database.admin().await;
    admin.execute("update cimd_cache.schema_history set version = version - 1", &[]).await.unwrap();
    let older = database.node().check().await.unwrap_err();
    let needed = migrations::latest();
    assert_eq!(older, CheckError::SchemaOlder { found: needed - 1, needed });
    assert!(older.to_string().contains("cimd-cache migrate"));
}

#[tokio::test]
async fn a_migration_that_cannot_be_done_says_who_has_to_do_what() {
    for database in [Database::new().await, Database::empty().await] {
        let refused = migrations::migrate(&database.app_url(), &Schema::default()).await;
        assert!(matches!(refused, Err(MigrateError::Rights)), "{refused:?}");
    }
    let later = Database::new().await;
    later.admin().await.execute("update cimd_cache.schema_history set checksum = '1'", &[]).await.unwrap();
    let refused = migrations::migrate(&later.url("cimd_cache_owner"), &Schema::default()).await;
    assert!(matches!(refused, Err(MigrateError::Failed)), "{refused:?}");
}

#[tokio::test]
async fn a_check_names_what_is_not_right() {
    let database = Database::new().await;
    let admin = database.admin().await;
    let node = database.node();
    let ready = node.check().await.unwrap();
    assert_eq!((ready.schema_version, ready.role.as_str()), (migrations::latest(), "cimd_cache_app"));
    assert!(!ready.privileged);
    let as_superuser = Cache::builder().database_url(&database.url("postgres")).build().unwrap();
    assert!(as_superuser.check().await.unwrap().privileged);

    for (spoil, mend, missing) in [
        ("revoke usage on schema cimd_cache from", "grant usage on schema cimd_cache to", "usage of"),
        (
            "revoke select on cimd_cache.schema_history from",
            "grant select on cimd_cache.schema_history to",
            "history",
        ),
        (
            "revoke delete on cimd_cache.client_id_metadata from",
            "grant delete on cimd_cache.client_id_metadata to",
            "delete",
        ),
        (
            "revoke update (purged_at) on cimd_cache.purge from",
            "grant update (purged_at) on cimd_cache.purge to",
            "purged_at",
        ),
    ] {
        admin.batch_execute(&format!("{spoil} cimd_cache_app")).await.unwrap();
        let error = node.check().await.unwrap_err();
        assert!(
            matches!(&error, CheckError::Rights { missing: right, .. } if right.contains(missing)),
            "{error}"
        );
        admin.batch_execute(&format!("{mend} cimd_cache_app")).await.unwrap();
        assert!(node.check().await.is_ok());
    }

    let read_only = format!("alter database {} set default_transaction_read_only = on", database.name);
    admin.batch_execute(&read_only).await.unwrap();
    let standby = database.node();
    assert_eq!(standby.check().await, Err(CheckError::ReadOnly));
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

/// Two caches in one database, which know nothing of each other.
#[tokio::test]
async fn a_cache_may_have_a_schema_of_its_own() {
    let database = Database::new().await;
    let schema: Schema = "user".parse().unwrap();
    let missing = cache_in(&database, &schema).check().await;
    assert_eq!(missing, Err(CheckError::SchemaMissing));
    migrations::migrate(&database.url("cimd_cache_owner"), &schema).await.unwrap();
    let (node, other) = (database.node(), cache_in(&database, &schema));
    assert!(!other.check().await.unwrap().privileged);

    node.put(ID, &document(1), HOUR, None).await.unwrap();
    miss(&other, ID).await;
    other.put(ID, &document(2), HOUR, None).await.unwrap();
    node.delete_all().await.unwrap();
    assert_eq!(version(&other.get(ID).await.unwrap()), Some(2));
    assert!(other.delete(ID).await.unwrap());
    let left = "select count(*) from \"user\".client_id_metadata where metadata is null";
    assert_eq!(one::<i64>(&database.admin().await, left, &[]).await, 1);
    assert_eq!(other.sweep(10).await.unwrap().removed, 0);
}

fn cache_in(database: &Database, schema: &Schema) -> Cache {
    Cache::builder().database_url(&database.app_url()).schema(schema.clone()).build().unwrap()
}
