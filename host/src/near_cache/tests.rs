//! The near cache's rules, with statements whose answers the tests give.

use std::time::SystemTime;

use cimd_cache_guest::ticket::Ticket;

use super::*;
use crate::types::Ticket as Text;

const URL: &str = "https://client.example/metadata.json";
const OTHER: &str = "https://other.example/metadata.json";
const MINUTE: Duration = Duration::from_secs(60);

fn near(ttl: Duration) -> NearCache {
    NearCache::new(Settings { ttl, bytes: 1 << 20 })
}

fn entry(metadata: &str, fresh_for: Duration) -> Entry {
    let ticket = Text::from(Ticket::new(1_000_000, 7).unwrap().to_string());
    Entry {
        metadata: metadata.to_owned(),
        expires_at: SystemTime::UNIX_EPOCH,
        fresh_for,
        ticket,
        is_near: true,
    }
}

fn hit(metadata: &str) -> Result<Lookup, Error> {
    Ok(Lookup::Hit(entry(metadata, MINUTE)))
}

fn ask(near: &NearCache) -> Gets<'_> {
    near.gets(vec![URL.into()])
}

fn kept(near: &NearCache, url: &str) -> Option<String> {
    near.hit(url, Instant::now()).map(|entry| entry.metadata)
}

/// A node that keeps a document.
fn keeping(metadata: &str) -> NearCache {
    let near = near(MINUTE);
    ask(&near).answered(&[hit(metadata)]);
    assert_eq!(kept(&near, URL).as_deref(), Some(metadata));
    near
}

/// One key, or all.
const WRITTEN: [Option<&str>; 2] = [Some(URL), None];

#[test]
fn a_document_is_kept_for_the_time_to_live_and_not_past_its_expiry() {
    // What is fresh for a second more by a clock that is right may not be by one that is a thousandth slow.
    let slow = MINUTE - MINUTE / 1_000;
    for (ttl, fresh_for, kept_for) in [(MINUTE, MINUTE * 2, MINUTE), (MINUTE * 2, MINUTE, slow)] {
        let near = near(ttl);
        let before = Instant::now();
        let asked = ask(&near);
        let sent = Instant::now();
        asked.answered(&[Ok(Lookup::Hit(entry("{}", fresh_for)))]);
        let answered = Instant::now();
        assert!(near.hit(URL, before.after(kept_for - Duration::from_millis(1))).is_some());
        assert!(near.hit(URL, sent.after(kept_for + Duration::from_millis(1))).is_none(), "{ttl:?}");
        let later = near.hit(URL, answered.after(Duration::from_secs(30))).unwrap();
        assert!(later.fresh_for <= fresh_for - Duration::from_millis(30_030), "{:?}", later.fresh_for);
    }
}

#[test]
fn a_document_that_is_fresh_no_more_when_it_arrives_is_not_kept() {
    let near = near(MINUTE);
    ask(&near).answered(&[Ok(Lookup::Hit(entry("{}", Duration::ZERO)))]);
    assert_eq!((kept(&near, URL), near.bytes()), (None, 0));
}

#[test]
fn a_hit_has_a_ticket_of_its_own_moment() {
    let near = keeping("{}");
    let later = near.hit(URL, Instant::now().after(Duration::from_secs(30))).unwrap();
    let ticket = Ticket::parse(later.ticket.as_str()).unwrap();
    let passed = Duration::from_micros((ticket.read_at() - 1_000_000).unsigned_abs());
    assert!(passed > Duration::from_secs(29), "{passed:?}");
}

#[test]
fn what_a_write_overtook_is_not_kept() {
    for (written, effect) in
        WRITTEN.into_iter().flat_map(|written| [(written, Effect::Done), (written, Effect::Unknown)])
    {
        // The write begins before the get, after it, or is over before the get is answered.
        let near = near(MINUTE);
        let write = near.write(written);
        let asked = ask(&near);
        write.ended(effect);
        asked.answered(&[hit("old")]);
        assert_eq!(kept(&near, URL), None);

        let asked = ask(&near);
        let write = near.write(written);
        asked.answered(&[hit("old")]);
        write.ended(effect);
        assert_eq!(kept(&near, URL), None);

        let asked = ask(&near);
        near.write(written).ended(effect);
        asked.answered(&[hit("old")]);
        assert_eq!(kept(&near, URL), None);
        assert!(near.flights.lock().keys.values().all(|state| state.gets == 0 && state.writes == 0));
    }
}

/// Of two that overlap: what another node replaced does not come back.
#[test]
fn an_answer_does_not_take_the_place_of_one_that_was_asked_later() {
    let near = near(MINUTE);
    let (first, second) = (ask(&near), ask(&near));
    second.answered(&[hit("new")]);
    first.answered(&[hit("old")]);
    assert_eq!(kept(&near, URL).as_deref(), Some("new"));
}

#[test]
fn what_was_asked_after_a_write_is_kept() {
    for written in WRITTEN {
        let near = keeping("old");
        near.write(written).ended(Effect::Done);
        assert_eq!(kept(&near, URL), None);
        ask(&near).answered(&[hit("new")]);
        assert_eq!(kept(&near, URL).as_deref(), Some("new"));
    }
}

/// It may have taken effect already, and its caller may have gone.
#[test]
fn while_a_write_is_in_flight_the_key_is_left_to_the_database() {
    for written in WRITTEN {
        let near = keeping("old");
        let write = near.write(written);
        assert_eq!(kept(&near, URL), None);
        write.ended(Effect::Done);
    }
    let near = keeping("other's");
    let _write = near.write(Some(OTHER));
    assert_eq!(kept(&near, URL).as_deref(), Some("other's"));
}

/// Refused, shed, never sent: a database in trouble must not cost the hits as well.
#[test]
fn a_write_that_changed_nothing_leaves_everything_as_it_is() {
    for written in WRITTEN {
        let near = keeping("kept");
        let asked = near.gets(vec![OTHER.into()]);
        near.write(written).ended(Effect::None);
        near.write(Some(OTHER)).ended(Effect::None);
        asked.answered(&[hit("kept too")]);
        assert_eq!(kept(&near, URL).as_deref(), Some("kept"));
        assert_eq!(kept(&near, OTHER).as_deref(), Some("kept too"));
        assert!(near.flights.lock().keys.is_empty());
    }
}

#[test]
fn after_a_write_of_unknown_outcome_its_key_and_no_other_is_left_to_the_database() {
    for dropped in [false, true] {
        let near = keeping("old");
        near.gets(vec![OTHER.into()]).answered(&[hit("other")]);
        let write = near.write(Some(URL));
        if dropped {
            drop(write)
        } else {
            write.ended(Effect::Unknown)
        }
        // The statement may run only now, and what was read before it is old.
        ask(&near).answered(&[hit("old")]);
        assert_eq!(kept(&near, URL), None);
        assert_eq!(kept(&near, OTHER).as_deref(), Some("other"));
    }
    let near = keeping("old");
    drop(near.write(None));
    ask(&near).answered(&[hit("old")]);
    assert_eq!(kept(&near, URL), None);
}

#[test]
fn neither_misses_nor_failures_are_kept() {
    let near = near(MINUTE);
    for answer in [Ok(Lookup::Miss("ticket".into())), Err(Error::Unavailable)] {
        ask(&near).answered(&[answer]);
        assert_eq!(kept(&near, URL), None);
    }
    drop(ask(&near));
    assert!(near.flights.lock().keys.is_empty());
}

#[test]
fn of_a_batch_each_document_is_kept_under_its_own_url() {
    let near = near(MINUTE);
    let asked = near.gets(vec![URL.into(), "https://miss.example/".into(), OTHER.into()]);
    asked.answered(&[hit("first"), Ok(Lookup::Miss("ticket".into())), hit("last")]);
    assert_eq!(kept(&near, URL).as_deref(), Some("first"));
    assert_eq!(kept(&near, OTHER).as_deref(), Some("last"));
}

#[test]
fn what_is_kept_stays_under_the_bound() {
    let near = near(MINUTE);
    let metadata = "x".repeat(1_000);
    for number in 0..5_000 {
        let url = format!("{URL}?{number}");
        near.gets(vec![url.as_str().into()]).answered(&[hit(&metadata)]);
        assert!(near.bytes() <= 1 << 20);
    }
    assert!(near.bytes() > 1 << 19, "{} bytes", near.bytes());
    assert!(near.flights.lock().keys.is_empty());
}

/// Of each key whose write was lost something is known, but not for ever.
#[test]
fn what_is_known_of_keys_stays_bounded() {
    let near = near(MINUTE);
    for number in 0..5_000 {
        drop(near.write(Some(&format!("{URL}?{number}"))));
        let mut flights = near.flights.lock();
        // As if a minute had gone by.
        flights.keys.values_mut().for_each(|state| state.closed_until = None);
    }
    assert!(near.flights.lock().keys.len() <= 1_024);
}
