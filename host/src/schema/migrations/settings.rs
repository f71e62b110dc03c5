//! What a migration should do, and what it did.

use std::time::Duration;

use crate::schema::name::Schema;

/// The role that the migrations grant to, by its name in their text.
pub(super) const APP_ROLE: &str = "cimd_cache_app";

/// What a migration should do.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Settings {
    /// The schema, which is created if need be.
    pub schema: Schema,
    /// The role that auth servers connect as: `cimd_cache_app` by default. It is granted the privileges that
    /// the cache's statements need. If a database has only one role, name that one.
    pub app_role: String,
    /// The most by which two clocks of the database may differ, at most 10 seconds. None leaves the setting
    /// as it is, which is 0 unless it was set. Postgres has one clock. A distributed engine has one on each
    /// node, and takes the time of a get and of a put or delete from different nodes. If the difference is
    /// not allowed for, an in-flight fetch can resurrect a deleted document. With a tolerance, tickets are
    /// handed out that much earlier, and documents are fresh for that much less.
    pub clock_tolerance: Option<Duration>,
    /// Whether the cache's tables are dropped first, with all documents.
    pub recreate: bool,
    /// How long to wait for another migration, or for a lock on the tables: 30 seconds by default.
    pub wait: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self::from(&Schema::default())
    }
}

impl From<&Schema> for Settings {
    fn from(schema: &Schema) -> Self {
        Self {
            schema: schema.clone(),
            app_role: APP_ROLE.to_owned(),
            clock_tolerance: None,
            recreate: false,
            wait: Duration::from_secs(30),
        }
    }
}

/// What a migration did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migrated {
    /// The migrations that were applied, such as `V1__documents`.
    pub applied: Vec<String>,
    /// What was repaired: an index, the row of `purge`, a privilege.
    pub repaired: Vec<String>,
    /// The resulting version of the schema.
    pub version: u32,
}
