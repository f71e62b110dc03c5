//! A schema that was restored in part, belongs to somebody else, or hides its rows: what is said of it, and
//! that it helps.

use std::time::Duration;

use cimd_cache::migrations::{self, MigrateError, Settings};
use cimd_cache::{Cache, CheckError, Error, Schema};
use support::{Database, HOUR, ID, connect, document, miss, one, version};

use crate::program::command;

/// The command to run, which a sentence has between backticks.
fn command_in(sentence: &str) -> &str {
    sentence.split('`').nth(1).unwrap_or_else(|| panic!("no command in: {sentence}"))
}

/// Does what a sentence says, as the owner.
async fn obey(database: &Database, sentence: &str) {
    let said = command_in(sentence);
    let owner = database.url("cimd_cache_owner");
    match said.strip_prefix("cimd-cache ") {
        Some(arguments) => {
            let arguments: Vec<_> = arguments.split(' ').chain(["--database-url", &owner]).collect();
            let output = command(&arguments, "").await;
            assert!(output.status.success(), "{said}: {}", String::from_utf8_lossy(&output.stderr));
        }
        None => connect(&owner).await.batch_execute(said).await.unwrap(),
    }
}

/// Each spoils a working schema in one way, and the check's sentence has these words.
const SPOILED: [(&str, &str); 21] = [
    ("drop schema cimd_cache cascade", "no cache in the schema cimd_cache"),
    ("revoke usage on schema cimd_cache from cimd_cache_app", "usage on schema"),
    ("revoke select on cimd_cache.schema_history from cimd_cache_app", "select on cimd_cache.schema_history"),
    ("revoke select on cimd_cache.purge from cimd_cache_app", "select on cimd_cache.purge"),
    ("revoke update (purged_at) on cimd_cache.purge from cimd_cache_app", "update (purged_at)"),
    ("revoke select on cimd_cache.client_id_metadata from cimd_cache_app", "select on cimd_cache.client_id"),
    ("revoke insert on cimd_cache.client_id_metadata from cimd_cache_app", "insert on"),
    ("revoke update on cimd_cache.client_id_metadata from cimd_cache_app", "update on"),
    ("revoke delete on cimd_cache.client_id_metadata from cimd_cache_app", "delete on"),
    // As `pg_restore --no-owner --no-acl` leaves it.
    (
        "revoke all on all tables in schema cimd_cache from cimd_cache_app;
         revoke all on schema cimd_cache from cimd_cache_app",
        "usage on schema",
    ),
    ("delete from cimd_cache.purge", "row of the table purge"),
    ("drop index cimd_cache.client_id_metadata_expires_at", "no valid index on expires_at"),
    ("drop index cimd_cache.client_id_metadata_after_purge", "no valid index on after_purge"),
    // As a `create index concurrently` that failed leaves it.
    (
        "update pg_index set indisvalid = false
         where indexrelid = 'cimd_cache.client_id_metadata_after_purge'::regclass",
        "no valid index on after_purge",
    ),
    ("alter table cimd_cache.client_id_metadata drop constraint client_id_metadata_pkey", "index on url"),
    ("alter table cimd_cache.purge drop constraint purge_pkey", "index on id"),
    ("drop table cimd_cache.purge", "table purge"),
    ("drop table cimd_cache.client_id_metadata", "table client_id_metadata"),
    ("alter table cimd_cache.client_id_metadata drop column had_document", "table client_id_metadata"),
    ("alter table cimd_cache.client_id_metadata enable row level security", "row level security"),
    ("alter table cimd_cache.purge enable row level security", "row level security"),
];

#[tokio::test]
async fn a_check_names_what_is_wrong_and_the_command_that_mends_it() {
    for (spoil, words) in SPOILED {
        let database = Database::new().await;
        let node = database.node();
        node.put(ID, &document(1), HOUR, None).await.unwrap();
        database.admin().await.batch_execute(spoil).await.unwrap();
        let sentence = database.node().check().await.expect_err(spoil).to_string();
        assert!(sentence.contains(words), "{spoil}: {sentence}");
        obey(&database, &sentence).await;
        let mended = database.node();
        assert!(mended.check().await.is_ok(), "{spoil}: {:?}", mended.check().await);
        mended.put(ID, &document(2), HOUR, None).await.unwrap();
        assert_eq!(version(&node.get(ID).await.unwrap()), Some(2), "{spoil}");
    }
}

/// What a policy or a missing privilege hides is not absent: no get misses, no sweep counts zero.
#[tokio::test]
async fn hidden_rows_are_an_error_of_every_call_that_would_not_see_them() {
    let policy = "create policy none on cimd_cache.client_id_metadata for select using (false);
                  create policy writes on cimd_cache.client_id_metadata for insert with check (true);
                  create policy changes on cimd_cache.client_id_metadata for update using (true);";
    for hide in [
        "alter table cimd_cache.client_id_metadata enable row level security",
        &format!("{policy} alter table cimd_cache.client_id_metadata enable row level security"),
        "alter table cimd_cache.purge enable row level security",
        "revoke select on cimd_cache.client_id_metadata from cimd_cache_app",
        "revoke usage on schema cimd_cache from cimd_cache_app",
    ] {
        let database = Database::new().await;
        // Connected and prepared before, and with a role that is not the one whose settings roles.sql makes.
        let admin = database.admin().await;
        let login = format!("login_{}", database.name);
        admin.batch_execute(&format!("create role {login} login in role cimd_cache_app")).await.unwrap();
        let nodes = [&database.app_url(), &database.url(&login)]
            .map(|url| Cache::builder().database_url(url).deadline(Duration::from_secs(10)).build().unwrap());
        for node in &nodes {
            node.put(ID, &document(1), HOUR, None).await.unwrap();
            assert_eq!(version(&node.get(ID).await.unwrap()), Some(1));
        }
        admin.batch_execute(hide).await.unwrap();
        for node in &nodes {
            assert_eq!(node.get(ID).await, Err(Error::Storage), "{hide}");
            assert_eq!(node.sweep(10).await, Err(Error::Storage), "{hide}");
            assert_eq!(node.put(ID, &document(2), HOUR, None).await, Err(Error::Storage), "{hide}");
            assert_eq!(node.delete(ID).await, Err(Error::Storage), "{hide}");
        }
        drop(nodes);
        let gone = format!("revoke cimd_cache_app from {login}");
        admin.batch_execute(&gone).await.unwrap();
    }
}

#[tokio::test]
async fn a_migration_that_cannot_be_done_says_who_has_to_do_what() {
    let migrate = async |database: &Database, role: &str, schema: &str| {
        let schema: Schema = schema.parse().unwrap();
        migrations::migrate(&database.url(role), &schema).await.unwrap_err()
    };
    let database = Database::new().await;
    let admin = database.admin().await;
    let error = migrate(&database, "cimd_cache_app", "other").await;
    assert!(matches!(error, MigrateError::Privilege { .. }), "{error}");
    let error = migrate(&database, "cimd_cache_app", "cimd_cache").await;
    assert_eq!(
        error.to_string(),
        "schema cimd_cache belongs to the role cimd_cache_owner and not to cimd_cache_app: connect as cimd_cache_owner, or \
         let it run `alter schema cimd_cache owner to cimd_cache_app`"
    );
    // The command it names is the one that helps, also of a table alone and in another schema.
    migrations::migrate(&database.url("cimd_cache_owner"), &"user".parse::<Schema>().unwrap()).await.unwrap();
    for (give, schema) in [
        ("alter schema cimd_cache owner to postgres", "cimd_cache"),
        ("alter table cimd_cache.purge owner to postgres", "cimd_cache"),
        ("alter table cimd_cache.schema_history owner to postgres", "cimd_cache"),
        ("alter table \"user\".client_id_metadata owner to postgres", "user"),
    ] {
        admin.batch_execute(give).await.unwrap();
        let error = migrate(&database, "cimd_cache_owner", schema).await;
        assert!(matches!(error, MigrateError::Owner { .. }), "{give}: {error}");
        admin.batch_execute(command_in(&error.to_string())).await.unwrap();
        migrations::migrate(&database.url("cimd_cache_owner"), &schema.parse::<Schema>().unwrap())
            .await
            .unwrap();
    }

    // Somebody who may create schemas was here first, and waits for an administrator, or for the owner, to
    // whom he has granted himself.
    let mallory = format!("mallory_{}", database.name);
    let trap = format!(
        "create role {mallory} login; create schema trap authorization {mallory}; grant {mallory} to cimd_cache_owner;
         create table trap.schema_history (version int4, name text, applied_on text, checksum text);
         alter table trap.schema_history owner to {mallory}"
    );
    admin.batch_execute(&trap).await.unwrap();
    for role in ["postgres", "cimd_cache_owner"] {
        let error = migrate(&database, role, "trap").await;
        assert!(matches!(error, MigrateError::Owner { .. }), "{role}: {error}");
    }
    admin.batch_execute(&format!("drop owned by {mallory} cascade; drop role {mallory}")).await.unwrap();

    admin
        .batch_execute("create schema theirs authorization cimd_cache_owner; create table theirs.users ()")
        .await
        .unwrap();
    let error = migrate(&database, "cimd_cache_owner", "theirs").await;
    assert!(matches!(error, MigrateError::Foreign { .. }), "{error}");
    assert_eq!(
        one::<i64>(&admin, "select count(*) from pg_class where relnamespace = 'theirs'::regnamespace", &[])
            .await,
        1
    );
    // One that is empty was made for it.
    admin.batch_execute("create schema empty authorization cimd_cache_owner").await.unwrap();
    migrations::migrate(&database.url("cimd_cache_owner"), &"empty".parse::<Schema>().unwrap())
        .await
        .unwrap();
}

/// Tables without their record, or a record that is of other tables: what was restored in part is made anew,
/// when asked to.
#[tokio::test]
async fn tables_that_do_not_belong_together_are_recreated_only_on_request() {
    for spoil in [
        "drop table cimd_cache.schema_history",
        "delete from cimd_cache.schema_history",
        "update cimd_cache.schema_history set checksum = '1'",
        "update cimd_cache.schema_history set checksum = null, applied_on = 'yesterday'",
        "alter table cimd_cache.purge drop column clock_tolerance",
    ] {
        let database = Database::new().await;
        let node = database.node();
        node.put(ID, &document(1), HOUR, None).await.unwrap();
        let admin = database.admin().await;
        admin.batch_execute(spoil).await.unwrap();
        let owner = database.url("cimd_cache_owner");
        let refused = migrations::migrate(&owner, &Schema::default()).await.unwrap_err();
        assert!(matches!(refused, MigrateError::Damaged { .. }), "{spoil}: {refused}");
        assert_eq!(
            one::<i64>(&admin, "select count(*) from cimd_cache.client_id_metadata", &[]).await,
            1,
            "{spoil}"
        );
        obey(&database, &refused.to_string()).await;
        assert!(node.check().await.is_ok(), "{spoil}");
        miss(&node, ID).await;
    }
}

/// A hosted database may have one role, which may create none.
#[tokio::test]
async fn a_database_with_one_role_can_be_set_up() {
    let database = Database::empty().await;
    let (admin, role) = (database.admin().await, format!("Only one \"{}\"", database.name));
    let quoted = format!("\"{}\"", role.replace('"', "\"\""));
    admin
        .batch_execute(&format!(
            "create role {quoted} login; grant create on database {} to {quoted}",
            database.name
        ))
        .await
        .unwrap();
    let url = database.url(&role.replace(' ', "%20").replace('"', "%22"));
    let mut settings = Settings::from(&Schema::default());
    settings.app_role = "nobody at all".to_owned();
    let missing = migrations::migrate(&url, settings.clone()).await.unwrap_err();
    assert!(
        matches!(missing, MigrateError::RolesMissing { .. }) && missing.to_string().contains("--app-role")
    );
    settings.app_role.clone_from(&role);
    migrations::migrate(&url, settings).await.unwrap();
    let node = Cache::builder().database_url(&url).build().unwrap();
    assert_eq!(node.check().await.map(|ready| ready.role), Ok(role));
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    assert_eq!(version(&node.get(ID).await.unwrap()), Some(1));
    assert!(node.delete(ID).await.unwrap());
    node.purge().await.unwrap();
    node.sweep(10).await.unwrap();
    admin.batch_execute(&format!("drop owned by {quoted} cascade; drop role {quoted}")).await.unwrap();
}

/// A role that is neither `cimd_cache_app` nor a member of it has to be named.
#[tokio::test]
async fn the_privileges_of_a_role_of_ones_own_are_granted_by_its_name() {
    // The second begins as the usual one does.
    for name in ["auth_server", "cimd_cache_app"] {
        let database = Database::new().await;
        let (admin, role) = (database.admin().await, format!("{name}_{}", database.name));
        admin.batch_execute(&format!("create role {role} login")).await.unwrap();
        let node = Cache::builder().database_url(&database.url(&role)).build().unwrap();
        let error = node.check().await.unwrap_err();
        assert!(matches!(error, CheckError::Privilege { .. }), "{error}");
        obey(&database, &error.to_string()).await;
        assert!(!node.check().await.unwrap().privileged);
        node.put(ID, &document(1), HOUR, None).await.unwrap();
        assert_eq!(version(&node.get(ID).await.unwrap()), Some(1));
        admin.batch_execute(&format!("drop owned by {role}; drop role {role}")).await.unwrap();
    }
}

/// With a tolerance, a ticket is earlier and a document fresh for less.
#[tokio::test]
async fn the_clock_tolerance_is_set_by_a_migration_and_kept_by_the_next() {
    let database = Database::new().await;
    let (node, owner) = (database.node(), database.url("cimd_cache_owner"));
    let mut settings = Settings::from(&Schema::default());
    settings.clock_tolerance = Some(Duration::from_secs(11));
    let refused = migrations::migrate(&owner, settings.clone()).await;
    assert!(matches!(refused, Err(MigrateError::ClockTolerance)));
    settings.clock_tolerance = Some(Duration::from_secs(5));
    for settings in [settings, Settings::default()] {
        migrations::migrate(&owner, settings).await.unwrap();
        assert_eq!(node.check().await.unwrap().clock_tolerance, Duration::from_secs(5));
    }
    // One that lives for less than the tolerance is not served at all.
    let ticket = miss(&node, ID).await;
    node.put(ID, &document(1), cimd_cache::Expiry::After(Duration::from_secs(10)), Some(&ticket))
        .await
        .unwrap();
    miss(&node, ID).await;
    node.put(ID, &document(1), HOUR, Some(&ticket)).await.unwrap();
    let hour = Duration::from_secs(3_600);
    let cimd_cache::Lookup::Hit(entry) = node.get(ID).await.unwrap() else { panic!() };
    assert!(entry.fresh_for <= hour - Duration::from_secs(10), "{:?}", entry.fresh_for);
    // What a delete removed stays removed, by the fetch that began right before it.
    let before = entry.ticket;
    node.delete(ID).await.unwrap();
    assert_eq!(node.put(ID, &document(1), HOUR, Some(&before)).await, Ok(cimd_cache::PutOutcome::Superseded));
    miss(&node, ID).await;
}
