//! The Postgres schema that holds the tables, and SQL written for it.
//!
//! The rules' statements and the migrations name one schema, `cimd_cache`, in their text. A cache in another
//! schema runs the same texts with that one name replaced: the component knows nothing of it, and the list of
//! statements stays the one that was compiled in.

use std::borrow::Cow;
use std::str::FromStr;

/// The name of a schema: 1 to 63 of `a` to `z`, `0` to `9` and `_`, not beginning with a digit or with `pg_`,
/// which Postgres keeps for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema(Cow<'static, str>);

/// Why a text is not the name of a schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the schema's name has to be 1 to 63 of a-z, 0-9 and _, and not begin with a digit or with pg_")]
pub struct SchemaError;

impl Default for Schema {
    fn default() -> Self {
        Self(Cow::Borrowed("cimd_cache"))
    }
}

impl FromStr for Schema {
    type Err = SchemaError;

    fn from_str(name: &str) -> Result<Self, SchemaError> {
        let plain = name.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'));
        let begins = !name.starts_with(|first: char| first.is_ascii_digit()) && !name.starts_with("pg_");
        if !plain || !begins || !(1..=63).contains(&name.len()) {
            return Err(SchemaError);
        }
        Ok(Self(Cow::Owned(name.to_owned())))
    }
}

impl Schema {
    /// The name, as it stands in Postgres' catalogs.
    pub fn name(&self) -> &str {
        &self.0
    }

    /// The name as written in SQL. It is quoted unless it is the default, because a valid name such as `user`
    /// means something else in SQL.
    pub(crate) fn quoted(&self) -> Cow<'_, str> {
        if *self == Self::default() {
            Cow::Borrowed(self.name())
        } else {
            Cow::Owned(format!("\"{}\"", self.0))
        }
    }

    /// The command that brings this schema up to date, for error texts.
    pub(crate) fn migrate_command(&self) -> String {
        let option = if *self == Self::default() { String::new() } else { format!(" --schema {}", self.0) };
        format!("cimd-cache{option} migrate")
    }

    /// Rewrites SQL that names the schema `cimd_cache` for this schema. See [`quoted`](Self::quoted).
    pub(crate) fn qualify<'a>(&self, sql: &'a str) -> Cow<'a, str> {
        if *self == Self::default() {
            return Cow::Borrowed(sql);
        }
        let name = &self.0;
        // Before a name in the schema, and where a privilege on the schema itself is granted.
        let sql = sql.replace("cimd_cache.", &format!("\"{name}\"."));
        Cow::Owned(sql.replace("schema cimd_cache ", &format!("schema \"{name}\" ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_sql_could_misread_are_refused() {
        for name in ["", "a b", "a\"b", "a;b", "Upper", "1st", "pg_cache", "é", &"a".repeat(64)] {
            assert_eq!(name.parse::<Schema>(), Err(SchemaError), "{name}");
        }
        for name in ["a", "user", "_x1", &"a".repeat(63)] {
            assert_eq!(name.parse::<Schema>().unwrap().name(), name);
        }
    }

    #[test]
    fn only_the_schema_is_replaced() {
        let other: Schema = "tenant_1".parse().unwrap();
        let sql = "grant select on cimd_cache.purge to cimd_cache_app";
        assert_eq!(other.qualify(sql), r#"grant select on "tenant_1".purge to cimd_cache_app"#);
        assert_eq!(Schema::default().qualify(sql), sql);
        let usage = "grant usage on schema cimd_cache to cimd_cache_app";
        assert_eq!(other.qualify(usage), r#"grant usage on schema "tenant_1" to cimd_cache_app"#);
    }
}
