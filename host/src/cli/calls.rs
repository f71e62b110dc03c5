//! The commands but `demo`: each is a call of the library, and words for its outcome.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use cimd_cache::migrations::Migrated;
use cimd_cache::statements::{self, Purpose, Type};
use cimd_cache::{COMPONENT, Cache, CheckError, Error, Lookup, Stored, migrations};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::args::{Component, Database, Delete, Format, Get, Migrate, Put, Sweep};
use super::{Failed, Outcome, print, say};

/// The most that is read of a document: far more than what is accepted.
const READ_BYTES: u64 = 1 << 20;

/// How many rows the library removes at once.
const BATCH: u32 = 1_000;

pub(super) async fn get(database: &Database, arguments: Get) -> Result<Outcome, Failed> {
    let cache = open(database).await?;
    let lookup = cache.get(&arguments.client_id).await?;
    match (arguments.format, &lookup) {
        (Format::Metadata, Lookup::Hit(entry)) => print(format!("{}\n", entry.metadata))?,
        (Format::Metadata, Lookup::Miss(_)) => say("miss: there is no fresh document of this client"),
        (Format::Json, lookup) => print(format!("{}\n", to_json(lookup)?))?,
    }
    Ok(match lookup {
        Lookup::Hit(_) => Outcome::Done,
        Lookup::Miss(_) => Outcome::Miss,
    })
}

/// The document goes in as it is: a JSON parser would round its numbers.
fn to_json(lookup: &Lookup) -> Result<String, Failed> {
    let entry = match lookup {
        Lookup::Hit(entry) => entry,
        Lookup::Miss(ticket) => return Ok(format!(r#"{{"outcome":"miss","ticket":"{ticket}"}}"#)),
    };
    let expires_at = OffsetDateTime::from(entry.expires_at).format(&Rfc3339).map_err(|_| Error::Storage)?;
    Ok(format!(
        r#"{{"outcome":"hit","metadata":{},"expires_at":"{expires_at}","fresh_for_ms":{},"ticket":"{}"}}"#,
        entry.metadata,
        entry.fresh_for.as_millis(),
        entry.ticket
    ))
}

pub(super) async fn put(database: &Database, arguments: Put) -> Result<Outcome, Failed> {
    let metadata = read(&arguments.file)?;
    let cache = open(database).await?;
    let expiry = arguments.expiry.expiry();
    match cache.put(&arguments.client_id, &metadata, expiry, arguments.ticket.as_ref()).await? {
        Stored::Stored => say("stored"),
        Stored::Superseded => say("superseded: something newer is known, and nothing was changed"),
    }
    Ok(Outcome::Done)
}

fn read(file: &Path) -> Result<String, Failed> {
    let read = |input: &mut dyn Read| {
        let mut bytes = Vec::new();
        input.take(READ_BYTES).read_to_end(&mut bytes).map(|_| bytes)
    };
    let bytes = if file == Path::new("-") {
        read(&mut io::stdin().lock())
    } else {
        File::open(file).and_then(|mut file| read(&mut file))
    };
    let bytes = bytes
        .map_err(|error| Failed::wrong_use(format!("cannot read {}: {}", file.display(), error.kind())))?;
    if bytes.len() as u64 == READ_BYTES {
        return Err(Failed::wrong_use("the document is over a megabyte, and 16 KiB is what can be stored"));
    }
    String::from_utf8(bytes).map_err(|_| Failed::wrong_use("the document is not UTF-8"))
}

pub(super) async fn delete(database: &Database, arguments: Delete) -> Result<Outcome, Failed> {
    let cache = open(database).await?;
    match arguments.client_id {
        None => {
            cache.delete_all().await?;
            say("purged: all documents are removed");
        }
        Some(client_id) => say(match cache.delete(&client_id).await? {
            true => "deleted",
            false => "there was no document; a fetch under way is held off all the same",
        }),
    }
    Ok(Outcome::Done)
}

pub(super) async fn check(database: &Database) -> Result<Outcome, Failed> {
    let ready = build(database)?.check().await?;
    print(format!(
        "ready: Postgres {}, schema version {}, role {}\n",
        ready.server_version, ready.schema_version, ready.role
    ))?;
    if ready.privileged {
        say(
            "warning: this role may do more than the cache needs: auth servers should connect as cimd_cache_app",
        );
    }
    Ok(Outcome::Done)
}

pub(super) async fn sweep(database: &Database, arguments: Sweep) -> Result<Outcome, Failed> {
    let cache = open(database).await?;
    let mut removed = 0;
    let mut more = true;
    while more && removed < arguments.limit {
        let swept = cache.sweep(BATCH.min(arguments.limit - removed)).await?;
        removed += swept.removed;
        more = swept.more;
    }
    let rest = if more { "more may remain" } else { "no more were found" };
    say(&format!("removed {removed} rows; {rest}"));
    Ok(Outcome::Done)
}

pub(super) async fn migrate(database: &Database, arguments: Migrate) -> Result<Outcome, Failed> {
    if arguments.roles {
        // Without this psql would go on after an error, and exit with 0.
        print("\\set ON_ERROR_STOP on\n")?;
        print(migrations::ROLES)?;
        return Ok(Outcome::Done);
    }
    let url = database.database_url.as_deref().ok_or(CheckError::NotConfigured)?;
    let mut settings = migrations::Settings::from(&database.schema);
    settings.app_role = arguments.app_role;
    settings.clock_tolerance = arguments.clock_tolerance;
    settings.recreate = arguments.recreate;
    settings.wait = arguments.wait;
    let Migrated { applied, repaired, version } = migrations::migrate(url, settings).await?;
    let done =
        [("applied", applied), ("repaired", repaired)].into_iter().filter(|(_, what)| !what.is_empty());
    let done: Vec<_> = done.map(|(did, what)| format!("{did} {}", what.join(", "))).collect();
    let done = if done.is_empty() { "nothing to do".to_owned() } else { done.join("; ") };
    say(&format!("{done}; the schema is at version {version}"));
    Ok(Outcome::Done)
}

pub(super) fn component(arguments: Component) -> Result<Outcome, Failed> {
    if arguments.statements {
        print(format!("{:#}\n", statement_list()))?;
    } else if let Some(file) = arguments.output {
        let written = std::fs::write(&file, COMPONENT);
        written.map_err(|error| {
            Failed::wrong_use(format!("cannot write {}: {}", file.display(), error.kind()))
        })?;
        say(&format!("wrote {} ({} bytes)", file.display(), COMPONENT.len()));
    } else if io::stdout().is_terminal() {
        return Err(Failed::wrong_use("a component is not for a terminal: give --output FILE"));
    } else {
        print(COMPONENT)?;
    }
    Ok(Outcome::Done)
}

fn statement_list() -> Value {
    let types = |types: &[Type]| -> Vec<_> {
        let name = |of: &Type| match of {
            Type::Boolean => "boolean",
            Type::Int64 => "int64",
            Type::Text => "text",
        };
        types.iter().map(name).collect()
    };
    let statement = |statement: &&statements::Statement| {
        json!({
            "name": statement.name,
            "purpose": match statement.purpose {
                Purpose::Read => "read",
                Purpose::Write => "write",
                Purpose::Maintenance => "maintenance",
            },
            "sql": statement.sql,
            "parameters": types(statement.parameters),
            "columns": types(statement.columns),
        })
    };
    statements::ALL.iter().map(statement).collect()
}

fn build(database: &Database) -> Result<Cache, Failed> {
    // One call at a time needs no more.
    let mut builder = Cache::builder().schema(database.schema.clone()).max_in_flight(1);
    if let Some(url) = &database.database_url {
        builder = builder.database_url(url);
    }
    if let Some(folder) = cache_folder() {
        builder = builder.compiled_component_folder(folder);
    }
    Ok(builder.build()?)
}

/// Where this user's programs keep what they can make again (XDG Base Directory Specification).
fn cache_folder() -> Option<PathBuf> {
    let xdg = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|folder| folder.is_absolute());
    let folder = xdg.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?;
    Some(folder.join("cimd-cache"))
}

/// A cache whose schema is not too old. All else that may be wrong is left to the call itself, which also refuses
/// wrong input when the database is down.
async fn open(database: &Database) -> Result<Cache, Failed> {
    let cache = build(database)?;
    match cache.check().await {
        Err(error @ (CheckError::SchemaMissing { .. } | CheckError::SchemaOlder { .. })) => Err(error.into()),
        _ => Ok(cache),
    }
}
