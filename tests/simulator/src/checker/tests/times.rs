//! Histories about tickets, expiries and the clocks they go by.

use super::*;

#[test]
fn fetches_before_and_after_a_step_back_have_no_order_until_ten_minutes_past_it() {
    let hour = 60 * MINUTE;
    let step = [StepBack { at: hour, peak: time(hour) }];
    let before = || put((hour - 2, hour - 1), 7, ticket(hour - 3), Stored);
    // The clock shows half an hour less from then on.
    let after = |second: Position, answer| {
        let at = time(second) - 1_800 * SECOND;
        let read = Some(Ticket::Of { at, latest: at, read_began: second, read_ended: second });
        back(put((second + 1, second + 2), 8, read, answer), 1_800)
    };
    let late = hour + 30 * MINUTE + 11 * MINUTE;
    assert_eq!(violated_after(&step, [before(), after(hour + 5, Stored)]), None);
    // A row from the future does not stand in the way.
    assert_eq!(violated_after(&step, [before(), after(hour + 5, Superseded)]), Some(5));
    // A row less than a minute ahead does.
    let nearly = hour + 29 * MINUTE + 30;
    assert_eq!(violated_after(&step, [before(), after(nearly, Superseded)]), None);
    let delete = |at| back(delete(at, at + 1, Deleted(false)), 1_800);
    let lost_before = || lost(before());
    let seen = |at: Position| {
        let answer = Answer::Hit {
            document: 7,
            expires_at: time(2 * hour - 3) / SECOND,
            fresh_for: (2 * hour - 3 - (at - 1_800)) * 1_000,
            ticket_at: time(at - 1_800),
        };
        back(call(at, at + 1, Request::Get { key: KEY }, answer), 1_800)
    };
    assert_eq!(violated_after(&step, [lost_before(), delete(hour + 5), seen(hour + 9)]), None);
    assert_eq!(violated_after(&step, [lost_before(), delete(late), seen(late + 5)]), Some(11));
}

#[test]
fn a_ticket_is_good_for_ten_minutes_and_not_before_its_time() {
    let at = |began: Position, answer| violated([put((began, began + 1), 7, ticket(100), answer)]);
    assert_eq!(at(699, Stored), None);
    assert_eq!(at(699, Superseded), Some(5));
    assert_eq!(at(700, Stored), Some(5));
    assert_eq!(at(700, Superseded), None);
    // Ahead of the clock, by at most a minute or by more.
    let ahead = Answer::Refused(Refusal::InvalidTicket);
    assert_eq!(at(100, ahead), Some(5));
    for (began, superseded, refused) in [(99, None, Some(5)), (40, None, Some(5)), (39, Some(5), None)] {
        assert_eq!(at(began, Stored), Some(5));
        assert_eq!(at(began, Superseded), superseded);
        assert_eq!(at(began, ahead), refused);
    }
    for answer in [Stored, Superseded] {
        assert_eq!(violated([put((1, 2), 7, Some(Ticket::Garbage), answer)]), Some(5));
    }
    assert_eq!(violated([put((1, 2), 7, Some(Ticket::Garbage), ahead)]), None);
}

#[test]
fn an_expiry_is_of_a_year_that_can_be_written() {
    let outside = Answer::Refused(Refusal::InvalidExpiry);
    for (expiry, right, wrong) in [
        (Expiry::After(u64::MAX), Stored, outside),
        (Expiry::At(253_402_300_799), Stored, outside),
        (Expiry::At(0), Stored, outside),
        (Expiry::At(-1), outside, Stored),
        (Expiry::At(253_402_300_800), outside, Superseded),
    ] {
        let request = Request::Put { key: KEY, document: 7, expiry, ticket: None };
        assert_eq!(violated([call(0, 1, request, right)]), None, "{expiry:?}");
        assert!(violated([call(0, 1, request, wrong)]).is_some(), "{expiry:?}");
    }
}

#[test]
fn an_expiry_over_ten_years_ahead_is_kept_as_ten_years_ahead() {
    let ten_years = 87_660 * 3_600;
    for (asked, kept) in [(ten_years - 1, ten_years - 1), (ten_years, ten_years), (ten_years + 1, ten_years)]
    {
        let request = Request::Put { key: KEY, document: 7, expiry: Expiry::After(asked), ticket: None };
        let hit = |lifetime| {
            let (expires_at, fresh_for) = (time(lifetime) / SECOND, (lifetime - 2) * 1_000);
            let answer = Answer::Hit { document: 7, expires_at, fresh_for, ticket_at: time(2) };
            violated([call(0, 1, request, Stored), call(2, 3, Request::Get { key: KEY }, answer)])
        };
        assert_eq!(hit(kept), None, "{asked}");
        assert_eq!(hit(kept + 1), Some(3), "{asked}");
    }
}

/// A get by a clock that is five seconds ahead of the clock of writes, and what it may say with a tolerance
/// of five seconds.
#[test]
fn with_several_clocks_a_fetch_is_only_known_to_have_begun_between_two_times() {
    let judged = |tolerance: i64, calls: [Call; 2]| {
        let history =
            History { calls: calls.to_vec(), clock_tolerance: tolerance * SECOND, ..History::default() };
        check(&history, |_, _| false).err().map(|violations| violations[0].rule)
    };
    let read = |ticket_at: Position, fresh_for: u64| {
        let expires_at = time(3_690) / SECOND;
        let answer = Answer::Hit { document: 7, expires_at, fresh_for, ticket_at: time(ticket_at) };
        call(100, 101, Request::Get { key: KEY }, answer)
    };
    let stored = || Call {
        request: Request::Put { key: KEY, document: 7, expiry: Expiry::After(3_700), ticket: None },
        ..put((0, 1), 7, None, Stored)
    };
    assert_eq!(judged(5, [stored(), read(100, 3_590_000)]), None);
    assert_eq!(judged(5, [stored(), read(105, 3_590_000)]), Some(3), "the ticket is from the future");
    assert_eq!(
        judged(5, [stored(), read(100, 3_600_001)]),
        Some(3),
        "fresh for longer than any clock allows"
    );
    assert_eq!(judged(0, [stored(), read(105, 3_600_000)]), Some(3));
    // A fetch that began before a delete must not come back, whatever time its ticket has.
    let fetched = |at| Some(Ticket::Of { at: time(at), latest: time(100), read_began: 100, read_ended: 101 });
    let deleted = || delete(102, 103, Deleted(false));
    assert_eq!(judged(5, [deleted(), put((110, 111), 8, fetched(100), Superseded)]), None);
    assert_eq!(judged(5, [deleted(), put((110, 111), 8, fetched(100), Stored)]), Some(11));
}
