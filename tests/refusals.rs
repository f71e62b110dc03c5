//! 7 and 8: what cannot be stored, and under which keys.

use cimd_cache::{Cache, Error, Lookup, PutOutcome};
use support::{Database, HOUR, ID, document, documents, hit, miss, row, version};

/// 7
#[tokio::test]
async fn a_document_that_cannot_be_stored_is_refused_and_the_stored_one_stays() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let stored = row(&admin, ID).await;

    let nested = format!("{{\"a\":{}{}}}", "[".repeat(64), "]".repeat(64));
    let too_large = format!("{{\"a\":\"{}\"}}", "x".repeat(16 * 1_024 - 7));
    for metadata in [
        "",
        "nonsense",
        "{\"a\":1",
        "{\"a\":1}}",
        "{\"a\":1,}",
        "[]",
        "null",
        "1",
        "\"{}\"",
        "{\"redirect_uris\":[\"https://good.example/\"],\"redirect_uris\":[\"https://evil.example/\"]}",
        "{\"jwks\":{\"keys\":[{\"kid\":1,\"\\u006bid\":2}]}}",
        "{\"a\":\"\\u0000\"}",
        "{\"a\":\"\0\"}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":\"\\udfff\"}",
        "{\"a\":1e400}",
        &nested,
        &too_large,
        &number_bomb("1e131071"),
        &number_bomb("1e308"),
        &number_bomb("1e-9999"),
        "{\"a\":0e2000000000}",
        &"x".repeat(8 << 20),
        &"\u{fc}".repeat(8 << 20),
    ] {
        let refused = node.put(ID, metadata, HOUR, None).await;
        assert!(matches!(refused, Err(Error::InvalidMetadata(_))), "{metadata}: {refused:?}");
    }
    assert_eq!(row(&admin, ID).await, stored);
    assert_eq!(version(&node.get(ID).await.unwrap()), Some(1));
}

/// A document of many numbers that are short to write and long to write out: `1e131071` makes 1,801 bytes
/// here and 26 MB as `jsonb` shows it.
fn number_bomb(number: &str) -> String {
    let bomb = format!("[{}]", vec![number; 200].join(","));
    format!("{{\"a\":{bomb}}}")
}

/// 7
#[tokio::test]
async fn a_number_bomb_does_not_grow_memory() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    let bomb = number_bomb("1e131071");
    assert_eq!(bomb.len(), "{\"a\":}".len() + 1_801);
    let put =
        async || assert!(matches!(node.put(ID, &bomb, HOUR, None).await, Err(Error::InvalidMetadata(_))));
    put().await;
    let before = resident_bytes();
    for _ in 0..100 {
        put().await;
    }
    // One bomb that went off would be 26 MB; other tests of this process need some meanwhile.
    let growth = resident_bytes().saturating_sub(before);
    assert!(growth < 300 << 20, "{growth} bytes");
    assert_eq!(row(&admin, ID).await, None);
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

/// 8
#[tokio::test]
async fn keys_are_compared_byte_by_byte() {
    let database = Database::new().await;
    let node = database.node();
    let keys = [
        "https://c.example/a",
        "https://c.example/a/",
        "https://C.example/a",
        "HTTPS://c.example/a",
        "https://c.example:443/a",
        "https://c.example/%61",
        "https://c.example/A",
        "https://c.example/a ",
        " https://c.example/a",
        "https://c.example/./a",
        "https://c.example/a?",
        "https://c.example/\u{e9}",
        "https://c.example/e\u{301}",
        "https://c.example/%C3%A9",
    ];
    for (number, key) in (0..).zip(keys) {
        assert_eq!(node.put(key, &document(number), HOUR, None).await.unwrap(), PutOutcome::Stored);
    }
    for (number, key) in (0..).zip(keys) {
        assert_eq!(version(&node.get(key).await.unwrap()), Some(number), "{key}");
    }
    assert!(node.delete(keys[0]).await.unwrap());
    for key in &keys[1..] {
        hit(&node, key).await;
    }
}

/// 8
#[tokio::test]
async fn a_key_may_have_1_to_2048_bytes() {
    let database = Database::new().await;
    let node = database.node();
    for length in [1, 255, 256, 2_048] {
        let key = incompressible(length);
        assert_eq!(key.len(), length);
        miss(&node, &key).await;
        assert_eq!(node.put(&key, &document(1), HOUR, None).await.unwrap(), PutOutcome::Stored, "{length}");
        assert_eq!(version(&node.get(&key).await.unwrap()), Some(1), "{length}");
        assert!(node.delete(&key).await.unwrap());
    }
    let umlauts = "\u{fc}".repeat(1_025);
    for key in ["", "https://c.example/\0", &incompressible(2_049), &"x".repeat(8 << 20), &umlauts] {
        assert!(is_invalid_url(node.get(key).await));
        assert!(is_invalid_url(node.put(key, &document(1), HOUR, None).await));
        assert!(is_invalid_url(node.delete(key).await));
    }
}

fn is_invalid_url<T>(answer: Result<T, Error>) -> bool {
    matches!(answer, Err(Error::InvalidUrl(_)))
}

/// Text that Postgres cannot make shorter, so that a btree entry has its whole length.
fn incompressible(length: usize) -> String {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut letter = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        char::from(b' ' + 1 + (state >> 33) as u8 % 94)
    };
    std::iter::repeat_with(&mut letter).take(length).collect()
}

/// 15: the real component, on input of every kind. Nothing is configured behind it, so that any other answer
/// than a typed one would be a trap's.
#[tokio::test]
async fn no_input_traps() {
    use proptest::strategy::{Strategy, ValueTree};
    let node = Cache::builder().read_connections(1).build().unwrap();
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let texts = proptest::string::string_regex("[\\[\\]{}\":,\\\\u0-9eE+. \0-]{0,200}|\\PC{0,3000}").unwrap();
    let known: Vec<_> = documents().into_iter().map(|(_, text)| text).collect();
    for round in 0..500_usize {
        let mut text = || texts.new_tree(&mut runner).unwrap().current();
        let (url, metadata, ticket) = (text(), text(), text());
        // Every other document is a real one, cut off somewhere.
        let metadata = if round % 2 == 0 { metadata } else { known[round % 7].chars().take(round).collect() };
        let seconds = (url.len() as u64).wrapping_mul(u64::MAX / 5);
        let expiry = cimd_cache::Expiry::After(std::time::Duration::from_secs(seconds));
        let typed = |error: &Error| {
            assert!(
                !matches!(error, Error::Storage | Error::TimedOut | Error::Unavailable),
                "{url:?}: {error}"
            );
        };
        typed(&node.get(&url).await.map(|lookup| matches!(lookup, Lookup::Hit(_))).unwrap_err());
        typed(&node.put(&url, &metadata, expiry, Some(&ticket.as_str().into())).await.unwrap_err());
        typed(&node.put("u", &metadata, HOUR, None).await.unwrap_err());
        typed(&node.delete(&url).await.unwrap_err());
    }
}
