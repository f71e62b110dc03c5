//! The numbers of the contract, once more: this file knows nothing of the guest's.

use crate::history::Micros;

pub(super) const SECOND: Micros = 1_000_000;
/// 5: for how long a ticket is good.
pub(super) const TICKET: Micros = 600 * SECOND;
/// 5: how far ahead of now a fetch may lie before its row is one from the future.
pub(super) const FUTURE_TOLERANCE: Micros = 60 * SECOND;
/// 5: no statement runs for longer.
pub(super) const STATEMENT: Micros = FUTURE_TOLERANCE;
/// 6: how far ahead an expiry may lie.
pub(super) const LIFETIME: Micros = 87_660 * 3_600 * SECOND;
/// 6: the last second of the year 9999.
pub(super) const LATEST_SECOND: i64 = 253_402_300_799;
/// 12: the most that one sweep removes, whatever it was asked.
pub(super) const SWEEP_ROWS: u32 = 1_000;
