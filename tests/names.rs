//! What a statement means is not for others to decide: whatever they create in the database, and whatever the
//! search path says, every name in our SQL is Postgres' own (CVE-2018-1058).

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::time::Duration;

use cimd_cache::migrations::{self, Settings};
use cimd_cache::statements::{self, Type as ParameterType};
use cimd_cache::{Cache, Expiry, Lookup, Schema};
use support::{Database, HOUR, ID, connect, document, shifted, ticket};
use tokio_postgres::Client;
use tokio_postgres::types::{ToSql, Type};

/// The names in some SQL that are looked up along the search path, if they do not say their schema.
#[derive(Debug, Default)]
struct Names {
    functions: BTreeSet<String>,
    operators: BTreeSet<String>,
    types: BTreeSet<String>,
}

impl Names {
    fn collect(&mut self, sql: &str) {
        let sql =
            sql.lines().map(|line| line.split("--").next().unwrap_or_default()).collect::<Vec<_>>().join(" ");
        // Every second piece is a literal.
        for code in sql.split('\'').step_by(2) {
            let is_operator = |c: char| "+-*/<>=~!@#%^&|?".contains(c);
            self.operators
                .extend(code.split(|c| !is_operator(c)).filter(|name| !name.is_empty()).map(str::to_owned));
            let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            for (at, _) in code.match_indices('(') {
                let before = code[..at].trim_end();
                self.functions.extend(before.rsplit(|c| !is_word(c)).next().map(str::to_lowercase));
            }
            for (at, _) in code.match_indices("::") {
                let name = code[at + 2..].trim_start_matches("pg_catalog.").trim_start_matches('"');
                self.types.extend(name.split(|c| !is_word(c)).next().map(str::to_lowercase));
            }
        }
        for names in [&mut self.functions, &mut self.types] {
            names.retain(|name| !name.is_empty());
        }
    }
}

/// Everything that the command and the library send, which is taken from the server's log, so that none is
/// forgotten.
async fn names_in_use() -> Names {
    let database = Database::empty().await;
    let admin = database.admin().await;
    database.create_roles(migrations::ROLES).await;
    for role in ["cimd_cache_owner", "cimd_cache_app"] {
        let log = format!("alter role {role} in database {} set log_statement = 'all'", database.name);
        admin.batch_execute(&log).await.unwrap();
    }
    tour(&database).await;
    let sent = database.logged();
    for statement in statements::ALL {
        assert!(sent.iter().any(|sql| sql.contains(statement.sql)), "{} is not in the log", statement.name);
    }
    let mut names = Names::default();
    for logged in &sent {
        names.collect(logged.split_once(": ").unwrap().1);
    }
    names.collect(migrations::ROLES);
    names
}

/// All that is ever asked of a database, with what came of it but for times.
async fn tour(database: &Database) -> Vec<String> {
    let mut seen = Vec::new();
    let mut see = |answer: &dyn Debug| seen.push(format!("{answer:?}"));
    let mut settings = Settings::from(&Schema::default());
    settings.clock_tolerance = Some(Duration::ZERO);
    for _ in 0..2 {
        see(&migrations::migrate(&database.url("cimd_cache_owner"), settings.clone()).await);
    }
    let node =
        Cache::builder().database_url(&database.app_url()).deadline(Duration::from_secs(20)).build().unwrap();
    see(&node.check().await);
    let before = ticket(&node, ID).await;
    for (expiry, ticket) in [
        (HOUR, Some(before.clone())),
        (Expiry::After(Duration::MAX), None),
        (HOUR, Some(before.clone())),
        (HOUR, Some(shifted(&before, 3_600))),
    ] {
        see(&node.put(ID, &document(1), expiry, ticket.as_ref()).await);
        see(
            &matches!(node.get(ID).await.unwrap(), Lookup::Hit(entry) if entry.fresh_for > Duration::from_secs(3_500)),
        );
    }
    // Two at once, the first of which has no connection yet: they go together.
    let other = Cache::builder().database_url(&database.app_url()).build().unwrap();
    let together = futures_util::future::join(other.get(ID), other.get("https://other.example/")).await;
    see(&matches!(together, (Ok(Lookup::Hit(_)), Ok(Lookup::Miss(_)))));
    see(&node.delete(ID).await);
    see(&node.delete(ID).await);
    see(&node.purge().await);
    see(&node.sweep(10).await);
    seen
}

/// Operators, functions and types of these names in the schema `public`, for all arguments that our
/// statements may have, each of which raises an error if it runs; and for everybody to use.
async fn plant(admin: &Client, names: &Names) {
    let array =
        |names: &BTreeSet<String>| format!("'{{{}}}'", names.iter().cloned().collect::<Vec<_>>().join(","));
    let operators: BTreeSet<_> = names
        .operators
        .iter()
        .filter(|name| name.as_str() != "=>")
        .map(|name| format!("\"{name}\""))
        .collect();
    let sql = format!(
        r#"
        -- Or it would run into its own traps.
        set search_path = pg_catalog;
        create schema if not exists public;
        grant usage on schema public to public;
        do $plant$
        declare
          types text[] = '{{boolean,smallint,integer,bigint,double precision,numeric,text,name,"\"char\"",oid,timestamptz,interval,jsonb,regclass,name[],text[]}}';
          l text; r text; n text;
          body text = ' language plpgsql as $$ begin raise exception ''a trojan ran''; end $$';
        begin
          foreach n in array {functions}::text[] loop
            execute format('create function public.%I() returns timestamptz %s', n, body);
            foreach l in array types loop
              execute format('create function public.%I(%s) returns timestamptz %s', n, l, body);
              foreach r in array types loop
                execute format('create function public.%I(%s, %s) returns text %s', n, l, r, body);
              end loop;
            end loop;
            foreach l in array '{{oid,regclass,text,name}}'::text[] loop
              execute format('create function public.%I(name, %s, text) returns boolean %s', n, l, body);
            end loop;
            execute format('create function public.%I(name, oid, smallint, text) returns boolean %s', n, body);
            execute format('create function public.%I(variadic anyarray) returns boolean %s', n, body);
          end loop;
          foreach l in array types loop
            foreach r in array types loop
              execute format('create function public.trojan(%s, %s) returns boolean %s', l, r, body);
              foreach n in array {operators}::text[] loop
                execute format('create operator public.%s (leftarg = %s, rightarg = %s, function = public.trojan)', n, l, r);
              end loop;
            end loop;
          end loop;
          foreach n in array {types}::text[] loop
            execute format('create type public.%I as (a_trojan integer)', n);
          end loop;
        end
        $plant$;
        reset search_path;
        "#,
        functions = array(&names.functions),
        operators = array(&operators),
        types = array(&names.types),
    );
    admin.batch_execute(&sql).await.unwrap();
}

/// As a caller gets them whose connection has none of our settings, behind a pooler, each statement of the
/// list.
async fn raw(client: &Client) -> Vec<String> {
    let mut seen = Vec::new();
    let now: i64 = client.query_one(statements::CLOCK.sql, &[]).await.unwrap().get(0);
    let purged_at: i64 = client.query_one(statements::CLOCK.sql, &[]).await.unwrap().get(1);
    let array = format!("{{\"{ID}\"}}");
    for statement in statements::ALL {
        let put: [(&(dyn ToSql + Sync), Type); 6] = [
            (&ID, Type::TEXT),
            (&"{}", Type::TEXT),
            (&None::<i64>, Type::INT8),
            (&60_i64, Type::INT8),
            (&now, Type::INT8),
            (&purged_at, Type::INT8),
        ];
        let many: [(&(dyn ToSql + Sync), Type); 2] = [(&array, Type::TEXT), (&1_i64, Type::INT8)];
        let one: [(&(dyn ToSql + Sync), Type); 1] = match statement.parameters {
            [ParameterType::Int64] => [(&10_i64, Type::INT8)],
            _ => [(&ID, Type::TEXT)],
        };
        let parameters = match statement.parameters.len() {
            6 => &put[..],
            2 => &many[..],
            count => &one[..count],
        };
        let rows = client.query_typed(statement.sql, parameters).await;
        let rows = rows.unwrap_or_else(|error| panic!("{}: {error:?}", statement.name));
        let last = rows.first().and_then(|row| row.try_get::<_, Option<bool>>(row.len() - 1).ok());
        seen.push(format!("{}: {} rows, {last:?}", statement.name, rows.len()));
    }
    seen
}

#[tokio::test]
async fn no_name_in_our_sql_can_be_made_to_mean_something_else() {
    let names = names_in_use().await;
    for (known, found) in [("to_char", &names.functions), ("+", &names.operators), ("jsonb", &names.types)] {
        assert!(found.contains(known), "{known} is not in {found:?}");
    }
    let untouched = Database::empty().await;
    untouched.create_roles(migrations::ROLES).await;
    let expected = tour(&untouched).await;
    let expected_raw = raw(&connect(&untouched.app_url()).await).await;

    for schema in ["public", "cimd_cache_app", "cimd_cache_owner", "postgres"] {
        let database = Database::empty().await;
        let admin = database.admin().await;
        plant(&admin, &names).await;
        if schema != "public" {
            admin
                .batch_execute(&format!("alter schema public rename to {schema}; create schema public"))
                .await
                .unwrap();
        }
        // Planted things come first in whatever path there is, but that of a role which has its own.
        let path = format!("{schema}, public, pg_catalog");
        let hostile = format!("alter database {} set search_path = {path}", database.name);
        admin.batch_execute(&hostile).await.unwrap();
        // An administrator runs this, with all privileges.
        database.create_roles(migrations::ROLES).await;
        assert_eq!(tour(&database).await, expected, "{schema}");

        let client = connect(&database.app_url()).await;
        let unset = format!("set search_path = {path}; create temporary table text (a_trojan integer)");
        client.batch_execute(&unset).await.unwrap();
        assert_eq!(raw(&client).await, expected_raw, "{schema}");
    }
}

/// The test above can fail: the statements as they once were run what others have planted.
#[tokio::test]
async fn a_name_without_its_schema_is_found_out() {
    let database = Database::new().await;
    let admin = database.admin().await;
    let mut names = Names::default();
    names.collect("select to_timestamp(1) + x::jsonb");
    plant(&admin, &names).await;
    let app = connect(&database.app_url()).await;
    app.batch_execute("set search_path = public").await.unwrap();
    for sql in [
        "select to_timestamp(1)",
        "select 1 + 1::bigint * 1 + 1::numeric + 1::bigint",
        "select '{}'::text::jsonb",
    ] {
        let hijacked = app.batch_execute(&format!("set search_path = public, pg_catalog; {sql}")).await;
        assert!(hijacked.is_err(), "{sql}");
    }
}
