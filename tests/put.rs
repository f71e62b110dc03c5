//! 4 to 6 and 10: which document stays, for how long, and what a repetition does.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use cimd_cache::{Error, Expiry, PutOutcome, Ticket};
use support::{Database, HOUR, ID, document, hit, miss, one, row, shifted, ticket, version};

const TEN_YEARS: u64 = 87_660 * 3_600;

/// 4
#[tokio::test]
async fn a_put_replaces_document_and_expiry_and_keeps_one_row() {
    let database = Database::new().await;
    let (a, b, admin) = (database.node(), database.node(), database.admin().await);
    a.put(ID, &document(1), HOUR, None).await.unwrap();
    let before = hit(&b, ID).await;
    b.put(ID, &document(2), Expiry::After(Duration::from_secs(7_200)), None).await.unwrap();
    let after = hit(&a, ID).await;
    assert_eq!(version(&a.get(ID).await.unwrap()), Some(2));
    assert!(after.expires_at > before.expires_at + Duration::from_secs(3_500));
    assert_eq!(one::<i64>(&admin, "select count(*) from cimd_cache.client_id_metadata", &[]).await, 1);
}

/// 5: also where the older document would live longer.
#[tokio::test]
async fn an_older_fetch_never_replaces_a_newer_one() {
    let database = Database::new().await;
    let (a, b, admin) = (database.node(), database.node(), database.admin().await);
    let older = ticket(&a, ID).await;
    let newer = ticket(&b, ID).await;
    assert_eq!(b.put(ID, &document(2), HOUR, Some(&newer)).await.unwrap(), PutOutcome::Stored);
    let stored = row(&admin, ID).await;
    let year = Expiry::After(Duration::from_secs(365 * 86_400));
    assert_eq!(a.put(ID, &document(1), year, Some(&older)).await.unwrap(), PutOutcome::Superseded);
    assert_eq!(row(&admin, ID).await, stored, "the row is untouched");
    assert_eq!(version(&a.get(ID).await.unwrap()), Some(2));
}

/// 5: an expired document still holds off an older one.
#[tokio::test]
async fn an_expired_document_is_not_replaced_by_an_older_one() {
    let database = Database::new().await;
    let node = database.node();
    let older = ticket(&node, ID).await;
    let newer = ticket(&node, ID).await;
    let at_once = Expiry::After(Duration::ZERO);
    assert_eq!(node.put(ID, &document(2), at_once, Some(&newer)).await.unwrap(), PutOutcome::Stored);
    assert_eq!(node.put(ID, &document(1), HOUR, Some(&older)).await.unwrap(), PutOutcome::Superseded);
    miss(&node, ID).await;
}

/// 5
#[tokio::test]
async fn a_ticket_is_good_for_ten_minutes_and_not_ahead_of_the_clock() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    let now = ticket(&node, ID).await;
    let put = async |ticket: &Ticket| node.put(ID, &document(1), HOUR, Some(ticket)).await;

    assert_eq!(put(&shifted(&now, -601)).await, Ok(PutOutcome::Superseded));
    // After a failover to a clock that is a little behind, a ticket is ahead of it. That is not the caller's
    // mistake.
    assert_eq!(put(&shifted(&now, 50)).await, Ok(PutOutcome::Superseded));
    assert!(matches!(put(&shifted(&now, 3_600)).await, Err(Error::InvalidTicket(_))));
    assert_eq!(row(&admin, ID).await, None);
    assert_eq!(put(&shifted(&now, -590)).await, Ok(PutOutcome::Stored));
    for none in ["", "1795465560", "2026-11-23T19:06:00Z"] {
        assert!(matches!(put(&Ticket::from(none)).await, Err(Error::InvalidTicket(_))), "{none}");
    }
}

/// 5: what a clock that was set back has left over does not block a URL for ever.
#[tokio::test]
async fn a_row_from_over_a_minute_ahead_is_replaced_and_a_nearer_one_is_not() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    let ahead =
        "update cimd_cache.client_id_metadata set fetched_at = now() + $1::bigint * interval '1 second'";
    for (seconds, expected) in [(55_i64, PutOutcome::Superseded), (120, PutOutcome::Stored)] {
        for with_ticket in [true, false] {
            admin.execute("delete from cimd_cache.client_id_metadata", &[]).await.unwrap();
            node.put(ID, &document(1), HOUR, None).await.unwrap();
            let given = ticket(&node, ID).await;
            admin.execute(ahead, &[&seconds]).await.unwrap();
            let stored = node.put(ID, &document(2), HOUR, with_ticket.then_some(&given)).await.unwrap();
            assert_eq!(stored, expected, "{seconds} seconds ahead, with a ticket: {with_ticket}");
        }
    }
}

/// 6
#[tokio::test]
async fn an_absolute_expiry_is_truncated_to_seconds() {
    let database = Database::new().await;
    let node = database.node();
    let hour_ahead = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 3_600;
    let at = UNIX_EPOCH + Duration::from_millis(hour_ahead * 1_000 + 999);
    node.put(ID, &document(1), Expiry::At(at), None).await.unwrap();
    assert_eq!(hit(&node, ID).await.expires_at, UNIX_EPOCH + Duration::from_secs(hour_ahead));
}

/// 6
#[tokio::test]
async fn a_lifetime_counts_from_the_ticket() {
    let database = Database::new().await;
    let node = database.node();
    let five_minutes_ago = shifted(&ticket(&node, ID).await, -300);
    let lifetime = |seconds| Expiry::After(Duration::from_secs(seconds));

    assert_eq!(
        node.put(ID, &document(1), lifetime(299), Some(&five_minutes_ago)).await.unwrap(),
        PutOutcome::Stored
    );
    miss(&node, ID).await;
    assert_eq!(
        node.put(ID, &document(1), lifetime(600), Some(&five_minutes_ago)).await.unwrap(),
        PutOutcome::Stored
    );
    let fresh_for = hit(&node, ID).await.fresh_for;
    assert!(fresh_for < Duration::from_secs(300) && fresh_for > Duration::from_secs(240), "{fresh_for:?}");
}

/// 6
#[tokio::test]
async fn an_expiry_in_the_past_is_stored_and_misses() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    for expiry in [Expiry::At(yesterday), Expiry::At(UNIX_EPOCH), Expiry::After(Duration::ZERO)] {
        assert_eq!(node.put(ID, &document(2), expiry, None).await.unwrap(), PutOutcome::Stored);
        miss(&node, ID).await;
        assert!(row(&admin, ID).await.unwrap().contains("version"));
    }
}

/// 6
#[tokio::test]
async fn an_expiry_out_of_range_is_refused() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    node.put(ID, &document(1), HOUR, None).await.unwrap();
    let stored = row(&admin, ID).await;
    let year_10000 = UNIX_EPOCH + Duration::from_secs(253_402_300_800);
    let given = ticket(&node, ID).await;
    for expiry in [Expiry::At(UNIX_EPOCH - Duration::from_nanos(1)), Expiry::At(year_10000)] {
        for ticket in [None, Some(&given)] {
            let put = node.put(ID, &document(2), expiry, ticket).await;
            assert!(matches!(put, Err(Error::InvalidExpiry(_))), "{expiry:?}: {put:?}");
        }
    }
    assert_eq!(row(&admin, ID).await, stored);
}

/// 6: lifetimes come from others' headers, and must not make a client's logins fail.
#[tokio::test]
async fn an_expiry_over_ten_years_ahead_is_kept_as_ten_years_ahead() {
    let database = Database::new().await;
    let (node, ten_years) = (database.node(), Duration::from_secs(TEN_YEARS));
    let year_9999 = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    for expiry in [
        Expiry::After(ten_years),
        Expiry::After(ten_years + Duration::from_secs(3_600)),
        Expiry::After(Duration::from_secs(1 << 31)),
        Expiry::After(Duration::MAX),
        Expiry::At(SystemTime::now() + ten_years + Duration::from_secs(3_600)),
        Expiry::At(year_9999),
    ] {
        let fetched = ticket(&node, ID).await;
        for ticket in [Some(&fetched), None] {
            assert_eq!(node.put(ID, &document(1), expiry, ticket).await, Ok(PutOutcome::Stored));
            let fresh_for = hit(&node, ID).await.fresh_for;
            let ten_minutes = Duration::from_secs(600);
            assert!((ten_years - ten_minutes..=ten_years).contains(&fresh_for), "{expiry:?}: {fresh_for:?}");
        }
    }
}

/// 10
#[tokio::test]
async fn repeating_a_put_with_its_ticket_is_safe() {
    let database = Database::new().await;
    let (a, b) = (database.node(), database.node());
    let first = miss(&a, ID).await;
    for _ in 0..2 {
        assert_eq!(a.put(ID, &document(1), HOUR, Some(&first)).await.unwrap(), PutOutcome::Stored);
    }
    let second = hit(&b, ID).await.ticket;
    assert_eq!(b.put(ID, &document(2), HOUR, Some(&second)).await.unwrap(), PutOutcome::Stored);
    assert_eq!(a.put(ID, &document(1), HOUR, Some(&first)).await.unwrap(), PutOutcome::Superseded);
    assert_eq!(version(&a.get(ID).await.unwrap()), Some(2));
}

/// 10
#[tokio::test]
async fn a_put_that_the_server_rolled_back_for_a_conflict_is_sent_again() {
    let database = Database::new().await;
    let (node, admin) = (database.node(), database.admin().await);
    // Sequences are not rolled back, so this one counts the tries.
    let trigger = |errcode: &str, times: u32| {
        format!(
            "drop sequence if exists tries; create sequence tries; grant usage on sequence tries to public;
             create or replace function stumble() returns trigger language plpgsql as $$
             begin
               if nextval('public.tries') <= {times} then raise exception using errcode = '{errcode}'; end if;
               return new;
             end $$;
             drop trigger if exists stumble on cimd_cache.client_id_metadata;
             create trigger stumble before insert on cimd_cache.client_id_metadata
             for each row execute function stumble()"
        )
    };
    for (errcode, times, answer, tries) in [
        ("40001", 2, Ok(PutOutcome::Stored), 3_i64),
        ("40P01", 2, Ok(PutOutcome::Stored), 3),
        ("40001", 99, Err(Error::Unavailable), 4),
        ("53100", 99, Err(Error::Storage), 1),
        ("57014", 99, Err(Error::TimedOut), 1),
        ("08006", 99, Err(Error::Unavailable), 1),
    ] {
        admin.batch_execute(&trigger(errcode, times)).await.unwrap();
        assert_eq!(node.put(ID, &document(1), HOUR, None).await, answer, "{errcode}");
        assert_eq!(one::<i64>(&admin, "select last_value from tries", &[]).await, tries, "{errcode}");
    }
}
