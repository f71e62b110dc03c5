//! What becomes of a component that keeps no rule: `tests/hostile`, in the host that the real one has.
//!
//! Each call ends by its deadline or soon after, with a refusal or a typed error; the next one works; and
//! nothing reaches the database that is not on the list.

use std::time::Duration;

use cimd_cache::statements::{CLOCK, GET, PUT};
use cimd_cache::{BuildError, Builder, COMPONENT, Cache, Error, Lookup};
use cimd_cache_hostile::COMPONENT as HOSTILE;
use support::{Database, HOUR, ID, Log, document, hit, version};

/// With one instance at a time: whatever a call leaves behind, the next one meets.
pub(crate) fn hostile(database: &Database) -> Builder {
    let builder = Cache::builder().database_url(&database.app_url()).component(HOSTILE);
    builder.deadline(Duration::from_secs(1)).read_connections(1)
}

/// The URL of a call is an order for the component; see `tests/hostile/src/guest.rs`.
pub(crate) async fn tell(node: &Cache, order: &str) -> Result<Lookup, Error> {
    // Generous: what is meant is that it ends at all.
    let answer = tokio::time::timeout(Duration::from_secs(10), node.get(order)).await;
    answer.unwrap_or_else(|_| panic!("it does not end: {order}"))
}

/// What the import answered, as the component reports it.
async fn query(node: &Cache, parameters: &str, sql: &str) -> String {
    hit(node, &format!("query {parameters}\n{sql}")).await.metadata
}

/// A statement of the list goes to the database and back.
pub(crate) async fn works(node: &Cache) {
    assert_eq!(query(node, "t", GET.sql).await, "rows: 1");
}

#[tokio::test]
async fn no_statement_passes_that_is_not_on_the_list_to_the_byte() {
    let database = Database::new().await;
    let node = hostile(&database).build().unwrap();
    database.log_statements().await;
    works(&node).await;
    let so_far = database.logged().len();
    for sql in [
        "",
        "select 1",
        "select pg_sleep(60)",
        "delete from cimd_cache.client_id_metadata",
        "set role cimd_cache_owner",
        &GET.sql[..GET.sql.len() - 1],
        &format!("{} ", GET.sql),
        &format!("\n{}", GET.sql),
        &GET.sql.replace('\n', " "),
        &GET.sql.to_uppercase(),
        &format!("{} -- a comment", GET.sql),
        &format!("/* a comment */ {}", GET.sql),
        &format!("{};", GET.sql),
        &format!("{}; delete from cimd_cache.client_id_metadata", GET.sql),
        &format!("{}\0", GET.sql),
        &format!("explain analyze {}", GET.sql),
        &GET.sql.replace("cimd_cache.", "other."),
    ] {
        assert_eq!(query(&node, "t", sql).await, "not-allowed", "{sql}");
    }
    assert_eq!(database.logged()[so_far..], [""; 0]);
    works(&node).await;
}

#[tokio::test]
async fn no_parameters_pass_but_those_of_the_statement() {
    let database = Database::new().await;
    let node = hostile(&database).build().unwrap();
    database.log_statements().await;
    works(&node).await;
    let so_far = database.logged().len();
    // Of each letter's kind: boolean, int64, text, bytes.
    for (statement, parameters) in [
        (&GET, ""),
        (&GET, "i"),
        (&GET, "b"),
        (&GET, "y"),
        (&GET, "tt"),
        (&GET, &"t".repeat(1_000)),
        (&CLOCK, "t"),
        (&PUT, "tt"),
        (&PUT, "ttttii"),
        (&PUT, "iitttt"),
    ] {
        assert_eq!(query(&node, parameters, statement.sql).await, "not-allowed", "{parameters}");
    }
    let too_large = hit(&node, &format!("flood 1 70000\n{}", GET.sql)).await.metadata;
    assert_eq!(too_large, "too-large");
    // Nor what is no value at all: a text that is not UTF-8, a case that there is not.
    for parameters in ["!", "?"] {
        let order = format!("query {parameters}\n{}", GET.sql);
        assert_eq!(tell(&node, &order).await, Err(Error::Storage), "{parameters}");
    }
    assert_eq!(database.logged()[so_far..], [""; 0]);
    works(&node).await;
}

#[tokio::test]
async fn an_instance_gets_four_mebibytes_and_no_more() {
    let database = Database::new().await;
    let node = hostile(&database).build().unwrap();
    for _ in 0..2 {
        assert_eq!(hit(&node, "grow-memory").await.metadata, (4 << 20).to_string());
        assert_eq!(tell(&node, "fill-memory").await, Err(Error::Storage));
    }
    works(&node).await;
}

/// The same text many times over costs the component little, and would cost the host all of it.
#[tokio::test]
async fn parameters_of_a_hundred_megabytes_are_not_even_copied() {
    let database = Database::new().await;
    let node = hostile(&database).build().unwrap();
    works(&node).await;
    let before = peak_of_memory();
    for flood in ["flood 125 1000000", "flood 100000 1000", "flood 100000 0"] {
        let order = format!("{flood}\n{}", GET.sql);
        assert_eq!(tell(&node, &order).await, Err(Error::Storage), "{flood}");
        works(&node).await;
    }
    // The other tests run meanwhile, so this is no exact figure.
    let grown = peak_of_memory() - before;
    assert!(grown < 100 << 20, "by {} MiB", grown >> 20);
}

/// The most that this process has had in memory so far, in bytes; 0 where that cannot be known.
fn peak_of_memory() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak =
        status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.strip_suffix("kB")?.trim().parse().ok());
    peak.unwrap_or(0) << 10
}

#[tokio::test]
async fn a_call_that_does_not_end_is_ended() {
    let database = Database::new().await;
    let node = hostile(&database).build().unwrap();
    for order in [
        "loop",
        &format!("query-for-ever\n{}", GET.sql),
        "query-for-ever\nselect 1",
        // Inside of the host's own call for memory, which a result is written into.
        &format!("query-and-keep-the-host 1\n{}", GET.sql),
    ] {
        assert_eq!(tell(&node, order).await, Err(Error::TimedOut), "{order}");
        works(&node).await;
    }
}

/// A component from before there was get-many: its export is missing.
#[tokio::test]
async fn an_older_component_is_refused_with_a_sentence() {
    let mut old = HOSTILE.to_vec();
    // The component's own export of the function, by another name of the same length.
    let name = b"get-many";
    let places: Vec<_> =
        old.windows(name.len()).enumerate().filter(|(_, at)| *at == name).map(|(at, _)| at).collect();
    for place in places {
        old[place..place + name.len()].copy_from_slice(b"get-some");
    }
    let error = anyhow::Error::from(Cache::builder().component(old).build().unwrap_err());
    assert!(format!("{error:#}").contains("it has no get-many"), "{error:#}");
}

/// What one call leaves in an instance is there for the next one, unless it broke a rule; or at all, if so
/// wished.
#[tokio::test]
async fn no_instance_is_used_again_after_it_broke_a_rule() {
    let database = Database::new().await;
    let reused = hostile(&database).build().unwrap();
    for (order, recalled) in [
        ("remember 41", "41"),
        ("trap", "0"),
        ("remember 41", "41"),
        ("loop", "0"),
        ("remember 41", "41"),
        ("miss 1000 120", "0"),
        ("remember 41", "41"),
        ("flood 125 1000000", "0"),
    ] {
        let _ = tell(&reused, order).await;
        assert_eq!(hit(&reused, "recall").await.metadata, recalled, "{order}");
    }
    let fresh = hostile(&database).max_instance_reuse_count(1).build().unwrap();
    let _ = tell(&fresh, "remember 41").await;
    assert_eq!(hit(&fresh, "recall").await.metadata, "0");
}

/// On a single thread, which the one that calculates has to give back, even for what comes from the network.
#[tokio::test]
async fn others_are_answered_while_one_calculates() {
    let database = Database::new().await;
    let node = hostile(&database).read_connections(2).deadline(Duration::from_secs(20)).build().unwrap();
    let endless = node.clone();
    let endless = tokio::spawn(async move { endless.get("loop").await });
    while node.stats().in_flight == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        works(&node).await;
    }
    assert!(!endless.is_finished());
    endless.abort();
}

/// A component that goes on querying when its time is up is stopped a little later, and sends nothing in
/// between. A caller whose time is up when it calls has nothing begun for it.
#[tokio::test]
async fn nothing_is_sent_once_the_time_is_up() {
    let database = Database::new().await;
    let node = hostile(&database).build().unwrap();
    works(&node).await;
    let before = node.stats().statements;
    let late = node.with_deadline(Duration::ZERO);
    assert_eq!(tell(&late, &format!("query t\n{}", GET.sql)).await, Err(Error::Unavailable));
    assert_eq!(node.stats().statements, before);
    assert_eq!(tell(&node, &format!("query-for-ever\n{}", GET.sql)).await, Err(Error::TimedOut));
    works(&node).await;
    let after = node.stats().statements;
    works(&node).await;
    assert_eq!(node.stats().statements, after + 1);
}

/// It may hold what a caller put, or what somebody wants to stand in a log.
#[tokio::test]
async fn a_refused_statement_is_not_repeated_in_the_log() {
    let database = Database::new().await;
    let node = hostile(&database).build().unwrap();
    let log = Log::default();
    let _guard = log.listen_at(tracing::Level::INFO);
    assert_eq!(query(&node, "t", "select 'a secret'").await, "not-allowed");
    assert_eq!(query(&node, "i", GET.sql).await, "not-allowed");
    assert_eq!(tell(&node, "trap").await, Err(Error::Storage));
    let log = log.text();
    assert!(log.contains("not on the list") && log.contains("its instance is discarded"), "{log}");
    assert!(!log.contains("secret") && !log.contains("select"), "{log}");
}

#[tokio::test]
async fn a_component_of_ones_own_is_run_if_it_is_of_the_world() {
    let database = Database::new().await;
    let node = Cache::builder().database_url(&database.app_url()).component(COMPONENT).build().unwrap();
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    assert_eq!(version(&node.get(ID).await.unwrap()), Some(1));
    // Nothing at all, an empty module, an empty component.
    for other in [&b""[..], b"\0asm\x01\0\0\0", b"\0asm\x0d\0\x01\0"] {
        let error = Cache::builder().component(other).build().unwrap_err();
        assert!(matches!(error, BuildError::Component(_)), "{error}");
    }
}
