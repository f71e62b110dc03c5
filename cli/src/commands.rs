//! The commands that call the library: each is one call, and words for its outcome.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::Path;
use std::time::{Duration, Instant};

use cimd_cache::migrations::Migrated;
use cimd_cache::statements::{self, Purpose, Type};
use cimd_cache::{COMPONENT, Cache, CheckError, ConnectError, Error, Lookup, PutOutcome, migrations};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::args::{Component, Database, Delete, Format, Get, Migrate, Put, Sweep};
use crate::{Failed, Outcome, print, say};

/// The most that is read of a document: far more than what is accepted.
const READ_BYTES: u64 = 1 << 20;

/// How long a command's call may take, and finding out why it failed with it.
const DEADLINE: Duration = Duration::from_secs(2);

pub(super) async fn get(database: &Database, format: Format, arguments: Get) -> Result<Outcome, Failed> {
    let lookup = ask(database, async |cache| cache.get(&arguments.client_id).await).await?;
    match (format, &lookup) {
        (Format::Text, Lookup::Hit(entry)) => print(format!("{}\n", entry.metadata))?,
        (Format::Text, Lookup::Miss(_)) => say("miss: there is no fresh document of this client"),
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

/// Says what was done, to people or to programs.
fn answer(format: Format, text: &str, json: &Value) -> Result<(), Failed> {
    match format {
        Format::Text => {
            say(text);
            Ok(())
        }
        Format::Json => print(format!("{json}\n")),
    }
}

pub(super) async fn put(database: &Database, format: Format, arguments: Put) -> Result<Outcome, Failed> {
    let metadata = read(&arguments.file)?;
    let (expiry, ticket) = (arguments.expiry.expiry(), arguments.ticket.as_ref());
    let put = async |cache: &Cache| cache.put(&arguments.client_id, &metadata, expiry, ticket).await;
    match ask(database, put).await? {
        PutOutcome::Stored => {
            answer(format, "stored", &json!({ "outcome": "stored" }))?;
            Ok(Outcome::Done)
        }
        PutOutcome::Superseded => {
            let text = "superseded: something newer is known, and nothing was changed";
            answer(format, text, &json!({ "outcome": "superseded" }))?;
            Ok(Outcome::Superseded)
        }
    }
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
    let bytes =
        bytes.map_err(|error| Failed::usage(format!("cannot read {}: {}", file.display(), error.kind())))?;
    if bytes.len() as u64 == READ_BYTES {
        return Err(Failed::refused("the document is over a megabyte: at most 16 KiB can be stored"));
    }
    String::from_utf8(bytes).map_err(|_| Failed::refused("the document is not UTF-8"))
}

pub(super) async fn delete(
    database: &Database,
    format: Format,
    arguments: &Delete,
) -> Result<Outcome, Failed> {
    let had_document = ask(database, async |cache| cache.delete(&arguments.client_id).await).await?;
    let text = match had_document {
        true => "deleted",
        false => "no document was stored; a fetch in flight will still be superseded",
    };
    answer(format, text, &json!({ "outcome": "deleted", "had_document": had_document }))?;
    Ok(Outcome::Done)
}

pub(super) async fn purge(database: &Database, format: Format) -> Result<Outcome, Failed> {
    ask(database, async |cache| cache.purge().await).await?;
    answer(format, "purged: all documents are removed", &json!({ "outcome": "purged" }))?;
    Ok(Outcome::Done)
}

pub(super) async fn check(database: &Database, format: Format) -> Result<Outcome, Failed> {
    let ready = build(database)?.check().await?;
    match format {
        Format::Text => print(format!(
            "ready: Postgres {}, schema version {}, role {}{}\n",
            ready.server_version,
            ready.schema_version,
            ready.role,
            match ready.clock_tolerance {
                Duration::ZERO => String::new(),
                tolerance => format!(", clock tolerance {tolerance:?}"),
            }
        ))?,
        Format::Json => print(format!(
            "{}\n",
            json!({
                "outcome": "ready",
                "server_version": ready.server_version,
                "schema_version": ready.schema_version,
                "role": ready.role,
                "privileged": ready.privileged,
                "clock_tolerance_ms": u64::try_from(ready.clock_tolerance.as_millis()).unwrap_or(u64::MAX),
            })
        ))?,
    }
    if ready.privileged {
        say(
            "warning: this role may do more than the cache needs: auth servers should connect as cimd_cache_app",
        );
    }
    Ok(Outcome::Done)
}

pub(super) async fn sweep(database: &Database, format: Format, arguments: Sweep) -> Result<Outcome, Failed> {
    let limit = arguments.limit.unwrap_or(u64::MAX);
    let cache = build(database)?;
    let (mut removed, mut more) = (0, true);
    while more && removed < limit {
        // One call removes as many as it may: fewer than that.
        let batch = u32::try_from(limit - removed).unwrap_or(u32::MAX);
        let swept = diagnosed(&cache, Instant::now(), cache.sweep(batch).await).await?;
        removed += u64::from(swept.removed);
        more = swept.more;
    }
    let rest = if more { "more are left" } else { "none is left" };
    let json = json!({ "outcome": "swept", "removed": removed, "more": more });
    answer(format, &format!("removed {removed} rows; {rest}"), &json)?;
    Ok(Outcome::Done)
}

pub(super) async fn migrate(
    database: &Database,
    format: Format,
    arguments: Migrate,
) -> Result<Outcome, Failed> {
    if arguments.roles {
        // Without the first line psql would go on after an error, and exit with 0.
        print(format!("\\set ON_ERROR_STOP on\n{}", migrations::ROLES))?;
        return Ok(Outcome::Done);
    }
    let url = database.url()?.ok_or(CheckError::NotConfigured)?;
    let mut settings = migrations::Settings::from(&database.schema);
    settings.app_role = arguments.app_role;
    settings.clock_tolerance = arguments.clock_tolerance;
    settings.recreate = arguments.recreate;
    settings.wait = arguments.wait;
    let Migrated { applied, repaired, version } = migrations::migrate(&url, settings).await?;
    let done =
        [("applied", &applied), ("repaired", &repaired)].into_iter().filter(|(_, what)| !what.is_empty());
    let mut done: Vec<_> = done.map(|(did, what)| format!("{did} {}", what.join(", "))).collect();
    done.extend(
        arguments.clock_tolerance.map(|tolerance| format!("set the clock tolerance to {tolerance:?}")),
    );
    let done = if done.is_empty() { "nothing to do".to_owned() } else { done.join("; ") };
    let json =
        json!({ "outcome": "migrated", "applied": applied, "repaired": repaired, "schema_version": version });
    answer(format, &format!("{done}; the schema is at version {version}"), &json)?;
    Ok(Outcome::Done)
}

pub(super) fn component(arguments: Component) -> Result<Outcome, Failed> {
    if arguments.statements {
        print(format!("{:#}\n", statement_list()))?;
    } else if let Some(file) = arguments.output {
        let written = std::fs::write(&file, COMPONENT);
        written.map_err(|error| Failed::output(&file, &error))?;
        say(&format!("wrote {} ({} bytes)", file.display(), COMPONENT.len()));
    } else if io::stdout().is_terminal() {
        return Err(Failed::usage("refusing to write a binary to a terminal: use --output FILE"));
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
    let mut builder = Cache::builder().schema(database.schema.clone()).deadline(DEADLINE);
    if let Some(url) = database.url()? {
        builder = builder.database_url(&url);
    }
    Ok(builder.build()?)
}

/// Makes a call. It refuses wrong input also when the database is down.
async fn ask<T>(
    database: &Database,
    call: impl AsyncFnOnce(&Cache) -> Result<T, Error>,
) -> Result<T, Failed> {
    let (cache, began) = (build(database)?, Instant::now());
    let result = call(&cache).await;
    diagnosed(&cache, began, result).await
}

/// The outcome of a call that began then. If it failed for the database's sake, a check may tell more than
/// the call could, within what is left of the same deadline.
async fn diagnosed<T>(cache: &Cache, began: Instant, result: Result<T, Error>) -> Result<T, Failed> {
    let error = match result {
        Err(error @ (Error::Unavailable | Error::Storage)) => error,
        result => return Ok(result?),
    };
    let left = DEADLINE.saturating_sub(began.elapsed());
    match cache.with_deadline(left).check().await {
        // What it could not find out in the rest of the time is no cause.
        Ok(_) | Err(CheckError::Connection(ConnectError::TimedOut)) => Err(error.into()),
        Err(found) => Err(Failed::from(found).of(&error)),
    }
}
