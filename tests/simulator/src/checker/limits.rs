//! The numbers of the contract, repeated on purpose: the checker knows nothing of the guest.

use crate::history::Micros;

pub(super) const SECOND: Micros = 1_000_000;
/// 5: how long a ticket is good for.
pub(super) const TICKET: Micros = 600 * SECOND;
/// 5: how far ahead of now a row may be stamped before it is one from the future.
pub(super) const FUTURE_TOLERANCE: Micros = 60 * SECOND;
/// 5: no statement runs for longer.
pub(super) const STATEMENT: Micros = FUTURE_TOLERANCE;
/// 6: how far ahead an expiry may lie.
pub(super) const LIFETIME: Micros = 87_660 * 3_600 * SECOND;
/// 6: the last second of the year 9999.
pub(super) const LATEST_SECOND: i64 = 253_402_300_799;
/// 12: the most rows that one sweep removes, whatever its limit.
pub(super) const SWEEP_ROWS: u32 = 1_000;
