//! The numbered files of `migrations/`, written for a schema and taken apart into statements.

use refinery::Migration;

use crate::schema::name::Schema;

mod embedded {
    refinery::embed_migrations!("../migrations");
}

/// The version that this program brings a schema to.
pub fn latest() -> u32 {
    let runner = embedded::migrations::runner();
    let versions = runner.get_migrations().iter().map(|migration| migration.version());
    versions.max().and_then(|version| u32::try_from(version).ok()).unwrap_or_default()
}

/// The migrations, written for a schema.
pub(super) fn migrations(schema: &Schema) -> Vec<Migration> {
    let embedded = embedded::migrations::runner();
    let migrations = embedded.get_migrations().iter().map(|migration| {
        let sql = migration.sql().unwrap_or_default();
        Migration::unapplied(&migration.to_string(), &schema.qualify(sql))
    });
    let mut migrations: Vec<_> =
        migrations.collect::<Result<_, _>>().expect("the names are those that were embedded");
    migrations.sort_by_key(Migration::version);
    migrations
}

/// The statements of a file: each ends with a semicolon at the end of a line, outside of a body between `$$`.
pub(super) fn statements(sql: &str) -> Vec<&str> {
    let (mut statements, mut from, mut body) = (Vec::new(), 0, false);
    let mut at = 0;
    for line in sql.split_inclusive('\n') {
        at += line.len();
        body ^= line.matches("$$").count() % 2 == 1;
        if !body && line.trim_end().ends_with(';') {
            statements.push(sql[from..at].trim());
            from = at;
        }
    }
    statements.extend(Some(sql[from..].trim()).filter(|rest| !rest.is_empty()));
    statements
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_taken_apart_into_its_statements() {
        let file = "-- first; really\nselect 1\n  + 1;\ndo $$\nbegin\n  perform 1;\nend\n$$;\n\nselect 2;\n";
        let each =
            ["-- first; really\nselect 1\n  + 1;", "do $$\nbegin\n  perform 1;\nend\n$$;", "select 2;"];
        assert_eq!(statements(file), each);
        assert_eq!(statements("select 1"), ["select 1"]);
        assert_eq!(statements(" \n"), [""; 0]);
    }

    #[test]
    fn what_was_applied_once_has_the_checksum_that_is_recorded_for_it() {
        let checksums: Vec<_> = migrations(&Schema::default()).iter().map(Migration::checksum).collect();
        assert_eq!(checksums[..1], [6_424_859_715_082_178_495]);
    }
}
