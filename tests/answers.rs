//! What the host makes of answers that are none: those of a component that keeps no rule.

use std::time::Duration;

use cimd_cache::statements::GET;
use cimd_cache::{Error, Lookup};
use support::{Database, HOUR, ID, document};

use crate::sandbox::{hostile, tell, works};

#[tokio::test]
async fn a_call_that_breaks_down_is_an_error() {
    let database = Database::new().await;
    let node = hostile(&database).build().unwrap();
    for order in [
        "trap",
        "recurse",
        // The import runs on what is left of the same stack.
        &format!("recurse-and-query\n{}", GET.sql),
        // The host is given memory to write to that is not the component's.
        &format!("query-and-keep-the-host 2\n{}", GET.sql),
    ] {
        assert_eq!(tell(&node, order).await, Err(Error::Storage), "{order}");
        works(&node).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_none_is_an_error() {
    let database = Database::new().await;
    // Also where answers are kept in front of the sandbox, but not for so long that the next call does not
    // meet it.
    for builder in [hostile(&database), hostile(&database).near_ttl(Duration::from_millis(1))] {
        let node = builder.build().unwrap();
        for order in [
            "text-outside",
            "text-without-end",
            "no-such-case",
            "no-such-result",
            "answer-outside",
            "answer-unaligned",
            // A ticket that is not UTF-8, has a NUL or a line break, or is none by its length.
            "miss 33 255",
            "miss 33 0",
            "miss 33 10",
            "miss 0 120",
            "miss 65 120",
            "miss 1000000 120",
            // Metadata, expiry, milliseconds of freshness, ticket.
            "hit 3000000 1800000000 1000 33",
            "hit 2 9223372036854775807 1000 33",
            "hit 2 -9223372036854775808 1000 33",
            "hit 2 -1 1000 33",
            "hit 2 1800000000 18446744073709551615 33",
            "hit 2 1800000000 1000 65",
            // The text of an error: not UTF-8, a line break for the log, too long for a sentence.
            "refuse 10 255",
            "refuse 10 10",
            "refuse 1000 120",
            "refuse 1000000 120",
        ] {
            let answer = tell(&node, order).await.map(|_| ());
            assert_eq!(answer, Err(Error::Storage), "{order}");
            works(&node).await;
        }
        assert_eq!(node.put(ID, &document(1), HOUR, None).await, Err(Error::Storage));
        assert_eq!(node.delete(ID).await, Err(Error::Storage));
        assert_eq!(node.purge().await, Err(Error::Storage));
        // It claims more than it was told to remove, or may.
        assert_eq!(node.sweep(1).await, Err(Error::Storage));
        works(&node).await;
    }
}

/// Many gets at once: as many answers as there are questions, each one that a get may give; else each is
/// asked alone.
#[tokio::test]
async fn an_answer_to_many_gets_is_checked_like_that_to_each() {
    let database = Database::new().await;
    let node = hostile(&database).build().unwrap();
    works(&node).await;
    let batch = async |urls: &[&str]| {
        let before = node.stats();
        let answers = futures_util::future::join_all(urls.iter().map(|url| node.get(url))).await;
        let after = node.stats();
        // They did go together.
        assert_eq!(
            (after.batches - before.batches, after.batched_keys - before.batched_keys),
            (1, urls.len() as u64)
        );
        (answers, after.instances_discarded - before.instances_discarded)
    };
    let version = |answer: &Result<Lookup, Error>| match answer {
        Ok(Lookup::Hit(entry)) => entry.metadata.clone(),
        other => format!("{other:?}"),
    };
    let (answers, discarded) = batch(&["many first", "many x-second", "many x-third"]).await;
    assert_eq!(
        answers.iter().map(version).collect::<Vec<_>>(),
        ["many first", "many x-second", "many x-third"]
    );
    assert_eq!(discarded, 0);
    for order in ["too-few", "too-many", "none", "a-million", "outside", "without-end"] {
        let order = format!("many {order}");
        let (answers, discarded) = batch(&[&order, "many x-second", "many x-third"]).await;
        let answers: Vec<_> = answers.iter().map(version).collect();
        assert_eq!(answers, [&order, "many x-second", "many x-third"], "the answers of one by one");
        assert_eq!(discarded, 1, "{order}");
    }
    // What one of them does is its own fault alone.
    for (order, error) in [
        ("trap", Error::Storage),
        ("recurse", Error::Storage),
        ("miss 65 120", Error::Storage),
        ("refuse 10 10", Error::Storage),
    ] {
        let (answers, discarded) = batch(&["many first", order, "many x-third"]).await;
        assert_eq!(version(&answers[0]), "many first", "{order}");
        assert_eq!(answers[1], Err(error), "{order}");
        assert_eq!(version(&answers[2]), "many x-third", "{order}");
        assert_eq!(discarded, 2, "{order}");
    }
    works(&node).await;
}
