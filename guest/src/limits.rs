//! The numbers of the contract. The SQL repeats some of them as text; a test in [`crate::statements`]
//! compares the two.

/// The longest `client_id` URL, in bytes. In Postgres, a btree entry over 2,704 bytes fails, but only if the
/// key does not compress: without this limit, anyone who chooses the URL could choose when a put fails.
pub const URL_BYTES: usize = 2_048;

/// The most URLs that one call may look up. From this, [`URL_BYTES`] and [`METADATA_BYTES`] a host can tell
/// how large a statement and its result may be.
pub const URLS_AT_ONCE: usize = 64;

/// The largest document, in bytes. The draft recommends that servers read no more than 5 kilobytes (section
/// 6.6).
pub const METADATA_BYTES: usize = 16 * 1_024;

/// How deep arrays and objects may nest in a document. The document itself is the first level.
pub const METADATA_NESTING: usize = 64;

/// The longest text of a ticket, in bytes. Today's have 33; a host that bounds their length leaves room for
/// others.
pub const TICKET_BYTES: usize = 64;

/// The longest text of an error, in bytes.
pub const ERROR_TEXT_BYTES: usize = 256;

/// How long a ticket is good for, in seconds.
pub const TICKET_SECONDS: i64 = 10 * 60;

/// How far ahead of the database's clock an expiry may lie, in seconds: ten years of 365.25 days. A later one
/// is stored as this.
pub const LIFETIME_SECONDS: i64 = 87_660 * 3_600;

/// How far ahead of the database's clock a row may be stamped, in seconds. A row stamped further in the
/// future was written before the clock was set back, and may be replaced. This must exceed the longest that a
/// statement can run: `now()` is fixed when a statement starts, so to a put that waited for a lock a newer
/// row seems to come from the future.
pub const FUTURE_TOLERANCE_SECONDS: i64 = 60;

/// The age of a fetch or deletion, in seconds, from which a sweep may remove its row: a ticket's life, plus
/// the longest that a put which presents it can run.
pub const SWEEP_AGE_SECONDS: i64 = TICKET_SECONDS + FUTURE_TOLERANCE_SECONDS;

/// The most rows that one sweep removes: so few that it locks them only for moments.
pub const SWEEP_ROWS: u32 = 1_000;

/// 9999-12-31T23:59:59Z in seconds since 1970, the latest time that RFC 3339 can write.
pub const LATEST_SECOND: i64 = 253_402_300_799;

/// Microseconds in a second: the resolution of Postgres' `timestamptz`, and of a ticket.
pub const MICROS: i64 = 1_000_000;
