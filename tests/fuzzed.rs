//! 7: what the rules accept, the database takes and gives back; what they refuse, the component refuses.
//!
//! The kept documents of `tests/fuzz/` and variations of them, through the real component to a real Postgres.
//! The rules on their own are fuzzed there.

use cimd_cache::{Error, PutOutcome};
use cimd_cache_fuzz::{corpus, json, mutate};
use cimd_cache_guest::document;
use support::{Database, HOUR, ID, hit};

#[tokio::test]
async fn documents_that_the_rules_accept_come_back_equal_from_postgres() {
    let database = Database::new().await;
    let node = database.node();
    let kept: Vec<_> = corpus::of("metadata").unwrap().into_iter().map(|(_, text)| text).collect();
    // Most variations are no JSON any more; of what was, a few are.
    let sound: Vec<_> = kept.iter().filter(|text| document::check(text).is_ok()).collect();
    let variation = |seed| {
        let mut rng = fastrand::Rng::with_seed(seed);
        let (input, other) = (rng.choice(&sound).unwrap(), rng.choice(&kept).unwrap());
        mutate::mutated(&mut rng, input.as_bytes(), other.as_bytes())
    };
    let (mut accepted, mut refused) = (0, 0);
    for (number, text) in kept.iter().cloned().chain((0..12_000).map(variation)).enumerate() {
        let is_accepted = document::check(&text).is_ok();
        // Some of the rest show that the component refuses what the rules refuse.
        if !is_accepted && number % 16 != 0 {
            continue;
        }
        let answer = node.put(ID, &text, HOUR, None).await;
        if is_accepted {
            assert!(matches!(answer, Ok(PutOutcome::Stored)), "{text:?}: {answer:?}");
            let stored = hit(&node, ID).await.metadata;
            assert_eq!(json::value(&stored).unwrap(), json::value(&text).unwrap(), "{text:?}");
            accepted += 1;
        } else {
            assert!(matches!(answer, Err(Error::InvalidMetadata(_))), "{text:?}: {answer:?}");
            refused += 1;
        }
    }
    assert!(accepted > 1_000 && refused > 200, "{accepted} accepted, {refused} refused");
}
