//! The calls: what goes in, what comes out, and what is refused.

use serde_json::json;
use support::service::Service;
use support::{Database, ID, document, one, row};

use super::{ENCODED, get};

#[tokio::test]
async fn a_document_goes_in_and_comes_out_as_it_is_stored() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut client = service.client().await;

    let missed = client.call(&get(ENCODED), None).await;
    assert_eq!((missed.status, missed.header("cimd-cache")), (200, Some("miss")));
    assert_eq!(missed.header("cache-control"), Some("no-store"));
    let missed = missed.json();
    let ticket = missed["ticket"].as_str().unwrap();
    assert_eq!(missed, json!({ "outcome": "miss", "ticket": ticket }));

    // Numbers that a JSON library would round come back digit by digit.
    let text = r#"{"client_id":"https://client.example/metadata.json","n":1.500000000000000000001}"#;
    let put = format!("PUT /v1/document?client_id={ENCODED}&ticket={ticket}&expires_in=3600");
    assert_eq!(client.call(&put, Some(text)).await.json(), json!({ "outcome": "stored" }));
    let hit = client.call(&get(ENCODED), None).await;
    assert_eq!((hit.status, hit.header("cimd-cache")), (200, Some("hit")));
    assert!(hit.body.contains("1.500000000000000000001"), "{}", hit.body);
    let hit = hit.json();
    assert_eq!(hit["metadata"]["client_id"], ID);
    assert!((3_500_000..=3_600_000).contains(&hit["fresh_for_ms"].as_u64().unwrap()), "{hit}");
    assert!(hit["expires_at"].as_str().unwrap().ends_with('Z'));

    // The same ticket once more is safe; an older one is superseded.
    assert_eq!(client.call(&put, Some(text)).await.json(), json!({ "outcome": "stored" }));
    let delete = format!("DELETE /v1/document?client_id={ENCODED}");
    for had_document in [true, false] {
        let deleted = json!({ "outcome": "deleted", "had_document": had_document });
        assert_eq!(client.call(&delete, None).await.json(), deleted);
    }
    assert_eq!(client.call(&put, Some(text)).await.json(), json!({ "outcome": "superseded" }));
    let without = put.replace(ticket, "none");
    assert_eq!(client.call(&without, Some(text)).await.json(), json!({ "outcome": "stored" }));
    assert_eq!(client.call("POST /v1/purge", None).await.json(), json!({ "outcome": "purged" }));
    assert_eq!(client.call(&get(ENCODED), None).await.json()["outcome"], "miss");
    let swept = json!({ "outcome": "swept", "removed": 0, "more": false });
    assert_eq!(client.call("POST /v1/sweep?limit=10", None).await.json(), swept);
    service.stop().await;
}

#[tokio::test]
async fn many_documents_are_looked_up_at_once_in_the_order_of_the_request() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut client = service.client().await;
    let put = format!("PUT /v1/document?client_id={ENCODED}&ticket=none&expires_in=60");
    client.call(&put, Some(&document(7))).await;
    let ids = json!({ "client_ids": ["https://other.example/", ID, "", ID] }).to_string();
    let answers = client.call("POST /v1/lookup", Some(&ids)).await.json();
    let outcomes: Vec<_> =
        answers["answers"].as_array().unwrap().iter().map(|answer| &answer["outcome"]).collect();
    assert_eq!(outcomes, ["miss", "hit", "error", "hit"]);
    assert_eq!(answers["answers"][1]["metadata"]["version"], 7);
    assert_eq!(answers["answers"][2]["code"], "invalid-url");
    for body in [r#"{"client_ids":[]}"#, r#"{"client_ids":[1]}"#, r#"{"client_ids":["a"],"x":1}"#, "[]", ""] {
        assert_eq!(
            client.call("POST /v1/lookup", Some(body)).await.problem(),
            (400, "body".to_owned()),
            "{body}"
        );
    }
    let many = json!({ "client_ids": vec!["a"; 65] }).to_string();
    assert_eq!(client.call("POST /v1/lookup", Some(&many)).await.problem(), (400, "body".to_owned()));
    service.stop().await;
}

/// Each is refused with its own code, and the row is what it was, to the transaction that wrote it.
#[tokio::test]
async fn what_is_refused_changes_nothing_and_has_a_code() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut client = service.client().await;
    let put = |rest: &str| format!("PUT /v1/document?client_id={ENCODED}{rest}");
    client.call(&put("&ticket=none&expires_in=60"), Some(&document(1))).await;
    let admin = database.admin().await;
    let before = row(&admin, ID).await;
    assert!(before.is_some());
    let long = "x".repeat(2_049);
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(70_000));
    let over = format!("{{\"a\":\"{}\"}}", "x".repeat(20_000));
    for (request, body, status, code) in [
        (put("&expires_in=60"), Some("{}"), 400, "missing-parameter"),
        (put("&ticket=none"), Some("{}"), 400, "one-expiry"),
        (put("&ticket=none&expires_in=60&expires_at=2030-01-01T00:00:00Z"), Some("{}"), 400, "one-expiry"),
        (put("&ticket=none&expires_in=-1"), Some("{}"), 400, "parameter-value"),
        (put("&ticket=none&expires_in=+1"), Some("{}"), 400, "parameter-value"),
        (put("&ticket=none&expires_at=tomorrow"), Some("{}"), 400, "parameter-value"),
        (put("&ticket=none&expires_in=60&x=1"), Some("{}"), 400, "unknown-parameter"),
        (put("&ticket=none&ticket=none&expires_in=60"), Some("{}"), 400, "parameter-twice"),
        (put("&ticket=none&expires_in=60&%zz"), Some("{}"), 400, "query-syntax"),
        (put("&ticket=nonsense&expires_in=60"), Some("{}"), 422, "invalid-ticket"),
        (put("&ticket=none&expires_at=1969-12-31T23:59:59Z"), Some("{}"), 422, "invalid-expiry"),
        (put("&ticket=none&expires_in=60"), Some("[]"), 422, "invalid-metadata"),
        (put("&ticket=none&expires_in=60"), Some(&*over), 422, "invalid-metadata"),
        (put("&ticket=none&expires_in=60"), Some(&*large), 413, "body-too-large"),
        (put("&ticket=none&expires_in=60"), None, 415, "content-type"),
        (get(""), None, 422, "invalid-url"),
        (get(&long), None, 422, "invalid-url"),
        (get("a%00b"), None, 422, "invalid-url"),
        (get("a&b=c"), None, 400, "unknown-parameter"),
        ("GET /v1/document".to_owned(), None, 400, "missing-parameter"),
        ("GET /v1/documents".to_owned(), None, 404, "not-found"),
        (format!("POST /v1/document?client_id={ENCODED}"), Some("{}"), 405, "method"),
        (format!("DELETE /v1/document?client_id={ENCODED}"), Some("{}"), 400, "body"),
        ("POST /v1/sweep?limit=0".to_owned(), None, 400, "parameter-value"),
        ("POST /v1/purge?client_id=a".to_owned(), None, 400, "unknown-parameter"),
    ] {
        let answer = client.call(&request, body).await;
        let shown = request.chars().take(80).collect::<String>();
        assert_eq!(answer.problem(), (status, code.to_owned()), "{shown}: {}", answer.body);
        assert!(!answer.body.contains("xxxx") && !answer.body.contains("nonsense"), "{}", answer.body);
        // After a body that was not read to its end the connection is closed.
        client = service.client().await;
    }
    let html =
        client.send("GET /v1/document?client_id=a HTTP/1.1\r\nHost: x\r\nAccept: text/html\r\n\r\n").await;
    assert_eq!(html.problem(), (406, "not-acceptable".to_owned()));
    assert_eq!(row(&admin, ID).await, before);
    service.stop().await;
}

/// The bytes of the key are those between the `=` and the `&`, decoded once.
#[tokio::test]
async fn a_key_is_what_was_encoded() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut client = service.client().await;
    for encoded in ["a+b", "a%2Bb", "a%20b", "https://c.example/?x=1%26y=2", "a%2526", "%C3%A9"] {
        let put = format!("PUT /v1/document?client_id={encoded}&ticket=none&expires_in=60");
        assert_eq!(client.call(&put, Some("{}")).await.status, 200);
    }
    let admin = database.admin().await;
    let urls: Vec<String> = one(
        &admin,
        "select array_agg(url order by url collate \"C\") from cimd_cache.client_id_metadata",
        &[],
    )
    .await;
    assert_eq!(urls, ["a b", "a%26", "a+b", "https://c.example/?x=1&y=2", "é"]);
    service.stop().await;
}

#[tokio::test]
async fn a_slow_database_is_504_and_one_that_refuses_500() {
    let database = Database::new().await;
    let service = Service::start(&database).await;
    let mut client = service.client().await;
    let mut admin = database.admin().await;
    let lock = admin.transaction().await.unwrap();
    lock.batch_execute("lock table cimd_cache.client_id_metadata").await.unwrap();
    let hurried = format!("{} HTTP/1.1\r\nHost: x\r\nCimd-Timeout-Ms: 50\r\n\r\n", get(ENCODED));
    let late = client.send(&hurried).await;
    assert_eq!(late.problem(), (504, "timed-out".to_owned()));
    assert_eq!(late.header("retry-after"), Some("1"));
    lock.rollback().await.unwrap();
    let wrong = client.send(&hurried.replace("50", "0")).await;
    assert_eq!(wrong.problem(), (400, "header-value".to_owned()));
    admin.batch_execute("alter table cimd_cache.client_id_metadata rename to gone").await.unwrap();
    assert_eq!(client.call(&get(ENCODED), None).await.problem(), (500, "storage".to_owned()));
    service.stop().await;
}
