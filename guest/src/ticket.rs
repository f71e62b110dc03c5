//! Tickets: when a fetch began, and after which purge.
//!
//! A ticket is a fencing token. Every get hands one out, and the put that follows presents it. It is text, so
//! that hosts need not know what is in it, and so that a time of another unit or another origin is not taken
//! for one by accident.
//!
//! It carries two times of the database's clock: that of the read, which orders fetches, and that of the last
//! purge which the read saw. The second must equal the time of the current purge; no order decides. So a
//! purge stops every fetch in flight, even if the clock was set back in between.

use std::fmt;
use std::time::Duration;

use crate::limits::{LATEST_SECOND, MICROS, TICKET_BYTES};

/// The bytes of a ticket's text: twice sixteen digits, and a hyphen.
const TEXT_BYTES: usize = 33;

const _: () = assert!(TEXT_BYTES <= TICKET_BYTES, "hosts refuse a ticket that is longer");

/// The moment of a read, in the database's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    read_at: i64,
    purged_at: i64,
}

impl Ticket {
    /// The ticket of a read at `read_at` that saw the last purge at `purged_at`, both in microseconds since
    /// 1970. None if either is outside the years 1970 to 9999.
    pub fn new(read_at: i64, purged_at: i64) -> Option<Self> {
        let plausible = 0..(LATEST_SECOND + 1) * MICROS;
        (plausible.contains(&read_at) && plausible.contains(&purged_at))
            .then_some(Self { read_at, purged_at })
    }

    /// Reads what [`fmt::Display`] wrote, and nothing else: no shorter or longer form, no other case.
    pub fn parse(text: &str) -> Option<Self> {
        let (read_at, purged_at) = text.split_once('-')?;
        Self::new(parse_micros(read_at)?, parse_micros(purged_at)?)
    }

    /// The ticket of a moment at least `elapsed` later, for a host that answers from its memory: a fetch that
    /// begins then is newer than the read. A thousandth of `elapsed` is left off, so that a clock which runs
    /// a little fast does not give a ticket ahead of the database's clock. The rates of synchronised clocks
    /// differ by at most half of that (500 parts per million, RFC 5905 section 11.3).
    #[must_use]
    pub fn later(self, elapsed: Duration) -> Self {
        let micros = elapsed.as_micros() - elapsed.as_micros().div_ceil(1_000);
        let read_at = self.read_at.saturating_add(i64::try_from(micros).unwrap_or(i64::MAX));
        Self::new(read_at, self.purged_at).unwrap_or(self)
    }

    /// When the read took place, in microseconds since 1970.
    pub fn read_at(self) -> i64 {
        self.read_at
    }

    /// When the last purge before the read took place, in microseconds since 1970.
    pub fn purged_at(self) -> i64 {
        self.purged_at
    }
}

fn parse_micros(text: &str) -> Option<i64> {
    let digits = text.len() == 16 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    digits.then(|| i64::from_str_radix(text, 16).ok())?
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // By hand: in the sandbox, formatting integers through a template costs a get more than all its
        // rules.
        let mut text = [b'-'; TEXT_BYTES];
        for (digits, micros) in [(0..16, self.read_at), (17..33, self.purged_at)] {
            for (shift, digit) in (0..64).step_by(4).rev().zip(&mut text[digits]) {
                *digit = b"0123456789abcdef"[(micros >> shift) as usize & 0xf];
            }
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_ticket_reads_back_as_it_was_written(read_at in 0..LATEST_SECOND * MICROS, purged_at in 0..LATEST_SECOND * MICROS) {
            let ticket = Ticket::new(read_at, purged_at).unwrap();
            prop_assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket));
        }

        #[test]
        fn what_parses_is_what_would_be_written(text in "[0-9a-f]{14,17}-?[0-9a-fA-F+ ]{14,17}|\\PC{0,40}") {
            if let Some(ticket) = Ticket::parse(&text) {
                prop_assert_eq!(ticket.to_string(), text);
            }
        }
    }

    #[test]
    fn a_later_ticket_is_never_ahead_of_the_time_that_passed() {
        let ticket = Ticket::new(1_000_000, 7).unwrap();
        for (millis, later) in [(0, 1_000_000), (1, 1_000_999), (1_000, 1_999_000), (60_000, 60_940_000)] {
            let later = Ticket::new(later, 7).unwrap();
            assert_eq!(ticket.later(Duration::from_millis(millis)), later, "{millis} ms");
        }
        assert_eq!(ticket.later(Duration::MAX), ticket);
    }

    #[test]
    fn times_of_other_units_and_origins_are_no_tickets() {
        for text in [
            "",
            "-",
            "1795465560",
            "1795465560123456",
            "2026-11-23T19:06:00Z",
            "00064fcd8a4c8a40",
            "00064fcd8a4c8a40-",
            "00064FCD8A4C8A40-00064fcd8a4c8a40",
            "+0064fcd8a4c8a40-00064fcd8a4c8a40",
            "ffffffffffffffff-00064fcd8a4c8a40",
            "7fffffffffffffff-00064fcd8a4c8a40",
        ] {
            assert_eq!(Ticket::parse(text), None, "{text}");
        }
        assert!(Ticket::parse("00064fcd8a4c8a40-00064fcd8a4c8a40").is_some());
    }
}
