//! Small histories: for each rule one that breaks it, and similar ones that do not.

use super::*;
use crate::history::{Call, Position, StepBack};

mod times;

const NOON: Micros = 1_795_435_200 * SECOND;
const MINUTE: Position = 60;
const KEY: usize = 1;

/// A call on one node. Its positions are at the same time the seconds past noon that the clock shows.
fn call(began: Position, ended: Position, request: Request, answer: Answer) -> Call {
    Call { node: 0, began, ended, settled: ended, now: Between::exactly(time(began)), request, answer }
}

fn time(second: Position) -> Micros {
    NOON + i64::try_from(second).unwrap() * SECOND
}

/// The ticket of a get at that second.
fn ticket(second: Position) -> Option<Ticket> {
    Some(Ticket::Of { at: time(second), latest: time(second), read_began: second, read_ended: second })
}

/// A put of a document that is fresh for an hour.
fn put((began, ended): (Position, Position), document: u64, ticket: Option<Ticket>, answer: Answer) -> Call {
    let request = Request::Put { key: KEY, document, expiry: Expiry::After(3_600), ticket };
    call(began, ended, request, answer)
}

/// A get that hits a document fetched at that second and fresh for an hour.
fn hit(at: Position, document: u64, fetched: Position) -> Call {
    let answer = Answer::Hit {
        document,
        expires_at: time(fetched + 3_600) / SECOND,
        fresh_for: (fetched + 3_600 - at) * 1_000,
        ticket_at: time(at),
    };
    call(at, at + 1, Request::Get { key: KEY }, answer)
}

fn miss(at: Position) -> Call {
    call(at, at + 1, Request::Get { key: KEY }, Answer::Miss { ticket_at: time(at) })
}

fn delete(began: Position, ended: Position, answer: Answer) -> Call {
    call(began, ended, Request::Delete { key: KEY }, answer)
}

fn purge(began: Position, ended: Position) -> Call {
    call(began, ended, Request::Purge, Answer::Purged)
}

/// The same call, with its answer lost: its now is unknown, and so is how long it may still take effect.
fn lost(call: Call) -> Call {
    let now = Between { latest: Micros::MAX, ..call.now };
    Call { settled: Position::MAX, now, answer: Answer::Failed(CallFailure::Unavailable), ..call }
}

/// The same call by a clock that was set back by this many seconds.
fn back(call: Call, seconds: i64) -> Call {
    let by = seconds * SECOND;
    Call { now: Between { earliest: call.now.earliest - by, latest: call.now.latest - by }, ..call }
}

/// The number in the contract of the rule that the history violates; none if it is allowed.
fn violated<const N: usize>(calls: [Call; N]) -> Option<u8> {
    violated_after(&[], calls)
}

fn violated_after<const N: usize>(steps_back: &[StepBack], calls: [Call; N]) -> Option<u8> {
    let history = History { calls: calls.to_vec(), steps_back: steps_back.to_vec(), clock_tolerance: 0 };
    let lost = |_, failure| failure == CallFailure::Unavailable;
    check(&history, lost).err().map(|violations| violations[0].rule)
}

use Answer::{Deleted, Stored, Superseded};

#[test]
fn a_document_that_was_stored_is_found_until_it_expires() {
    let stored = || put((1, 2), 7, ticket(0), Stored);
    assert_eq!(violated([stored(), hit(3, 7, 0)]), None);
    assert_eq!(violated([stored(), miss(3)]), Some(2));
    assert_eq!(violated([stored(), hit(3_599, 7, 0)]), None);
    assert_eq!(violated([stored(), miss(3_600)]), None);
    assert_eq!(violated([stored(), hit(3_600, 7, 0)]), Some(2));
    assert_eq!(violated([stored(), delete(3, 4, Deleted(false))]), Some(2));
    assert_eq!(violated([stored(), delete(3_600, 3_601, Deleted(true))]), Some(11));
}

#[test]
fn only_what_was_put_on_the_key_is_found() {
    let other_key = Request::Put { key: 2, document: 7, expiry: Expiry::After(3_600), ticket: None };
    assert_eq!(violated([call(1, 2, other_key, Stored), hit(3, 7, 1)]), Some(2));
    assert_eq!(violated([put((1, 2), 7, ticket(0), Superseded), hit(3, 7, 0)]), Some(5));
    assert_eq!(violated([hit(3, 7, 0), put((5, 6), 7, ticket(0), Stored)]), Some(2));
    assert_eq!(violated([delete(3, 4, Deleted(true))]), Some(11));
}

#[test]
fn a_hit_says_when_it_was_read_and_how_long_it_is_fresh() {
    let answered = |expires_at, fresh_for, ticket_at| {
        let answer = Answer::Hit { document: 7, expires_at, fresh_for, ticket_at };
        violated([put((1, 2), 7, ticket(0), Stored), call(3, 4, Request::Get { key: KEY }, answer)])
    };
    let expires_at = time(3_600) / SECOND;
    assert_eq!(answered(expires_at, 3_597_000, time(3)), None);
    assert_eq!(answered(expires_at + 1, 3_597_000, time(3)), Some(3));
    assert_eq!(answered(expires_at, 3_597, time(3)), Some(3));
    assert_eq!(answered(expires_at, 3_596_000, time(4)), Some(3));
}

#[test]
fn the_later_ticket_wins_whenever_it_arrives() {
    let newer = || put((3, 4), 8, ticket(2), Stored);
    assert_eq!(violated([newer(), put((5, 6), 7, ticket(1), Stored)]), Some(5));
    assert_eq!(violated([newer(), put((5, 6), 7, ticket(1), Superseded)]), None);
    assert_eq!(violated([newer(), put((3, 6), 7, ticket(1), Stored), hit(7, 8, 2)]), None);
    assert_eq!(violated([newer(), put((3, 6), 7, ticket(1), Stored), hit(7, 7, 1)]), Some(5));
    // Of equal tickets the later put wins, and either if the two overlap.
    assert_eq!(violated([newer(), put((5, 6), 7, ticket(2), Stored), hit(7, 8, 2)]), Some(5));
    assert_eq!(violated([newer(), put((5, 6), 7, ticket(2), Superseded)]), Some(5));
    assert_eq!(violated([newer(), put((3, 6), 7, ticket(2), Stored), hit(7, 8, 2)]), None);
    assert_eq!(violated([newer(), put((3, 6), 7, ticket(2), Stored), hit(7, 7, 2)]), None);
}

#[test]
fn a_put_is_superseded_only_by_something_newer() {
    let superseded = || put((5, 6), 7, ticket(2), Superseded);
    assert_eq!(violated([superseded()]), Some(5));
    assert_eq!(violated([put((1, 2), 8, ticket(1), Stored), superseded()]), Some(5));
    assert_eq!(violated([lost(put((4, 5), 8, ticket(3), Stored)), superseded()]), None);
    assert_eq!(violated([superseded(), put((6, 7), 8, ticket(3), Stored)]), Some(5));
    assert_eq!(violated([lost(delete(3, 4, Deleted(true))), superseded()]), None);
    assert_eq!(violated([purge(3, 4), superseded()]), None);
    assert_eq!(violated([purge(0, 1), superseded()]), Some(5));
}

#[test]
fn a_lost_put_may_be_there_or_not_but_once_seen_it_stays() {
    let unknown = || lost(put((1, 2), 7, ticket(0), Stored));
    assert_eq!(violated([unknown(), miss(3), hit(5, 7, 0)]), None);
    assert_eq!(violated([unknown(), hit(3, 7, 0), miss(5)]), Some(2));
    // It may take effect late, but not over a newer one.
    let newer = || put((3, 4), 8, ticket(2), Stored);
    assert_eq!(violated([unknown(), newer(), hit(5, 8, 2)]), None);
    assert_eq!(violated([unknown(), newer(), hit(5, 7, 0)]), Some(5));
}

#[test]
fn what_was_deleted_stays_away() {
    let stored = || put((1, 2), 7, ticket(0), Stored);
    let deleted = || delete(3, 4, Deleted(true));
    assert_eq!(violated([stored(), deleted(), miss(5)]), None);
    assert_eq!(violated([stored(), deleted(), hit(5, 7, 0)]), Some(11));
    assert_eq!(violated([stored(), delete(3, 9, Deleted(true)), hit(5, 7, 0), miss(7)]), None);
    assert_eq!(violated([stored(), lost(deleted()), hit(5, 7, 0), miss(700)]), None);
    assert_eq!(violated([deleted_before(), put((5, 6), 7, ticket(2), Stored)]), Some(11));
    assert_eq!(violated([deleted_before(), put((5, 6), 7, ticket(3), Stored), hit(7, 7, 3)]), None);
}

fn deleted_before() -> Call {
    delete(3, 4, Deleted(false))
}

#[test]
fn what_was_purged_stays_away_also_if_the_clock_was_set_back() {
    let stored = || put((1, 2), 7, ticket(0), Stored);
    assert_eq!(violated([stored(), purge(3, 4), hit(5, 7, 0)]), Some(11));
    assert_eq!(violated([stored(), purge(3, 9), hit(5, 7, 0), miss(7)]), None);
    assert_eq!(violated([purge(3, 4), put((5, 6), 7, ticket(0), Stored)]), Some(11));
    let step = [StepBack { at: 3, peak: time(3) }];
    let read = Some(Ticket::Of { at: time(2), latest: time(2), read_began: 2, read_ended: 2 });
    let late = |answer| back(put((65, 66), 7, read, answer), 60);
    assert_eq!(violated_after(&step, [back(purge(4, 5), 60), late(Stored)]), Some(11));
    assert_eq!(violated_after(&step, [back(purge(4, 5), 60), late(Superseded)]), None);
}

#[test]
fn a_sweep_keeps_to_its_limit_and_a_failure_needs_a_reason() {
    let sweep = |limit, removed| {
        violated([call(1, 2, Request::Sweep { limit }, Answer::Swept { removed, more: false })])
    };
    assert_eq!(sweep(5, 5), None);
    assert_eq!(sweep(5, 6), Some(12));
    assert_eq!(sweep(u32::MAX, 1_001), Some(12));
    let failed = |failure| violated([call(1, 2, Request::Get { key: KEY }, Answer::Failed(failure))]);
    assert_eq!(failed(CallFailure::Unavailable), None);
    assert_eq!(failed(CallFailure::Storage), Some(14));
    assert_eq!(violated([call(1, 2, Request::Get { key: KEY }, Answer::Stored)]), Some(14));
}

#[test]
fn what_is_known_only_between_bounds_is_not_blamed() {
    let vague = |call: Call| {
        let now = Between { earliest: time(0), latest: time(3_700) };
        Call { now, ..call }
    };
    for answer in [Stored, Superseded] {
        assert_eq!(violated([vague(put((1, 2), 7, ticket(100), answer))]), None, "{answer:?}");
    }
    let written = || vague(put((1, 2), 7, None, Stored));
    assert_eq!(violated([written(), vague(delete(3, 4, Deleted(false)))]), None);
    assert_eq!(violated([written(), vague(delete(3, 4, Deleted(true)))]), None);
    assert_eq!(violated([written(), hit(3_650, 7, 1_000)]), None);
    assert_eq!(violated([written(), miss(3_650)]), None);
}
