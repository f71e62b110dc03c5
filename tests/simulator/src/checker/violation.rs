//! What the checker finds.

use std::fmt;
use std::ops::Range;

/// An answer that the contract does not allow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The number in the contract.
    pub rule: u8,
    /// The calls that contradict each other, by their index in the history; the first gave the answer.
    pub calls: Vec<usize>,
    /// What is wrong, in words.
    pub explanation: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "contract {}: {} (calls {:?})", self.rule, self.explanation, self.calls)
    }
}

impl Violation {
    /// 1: the answers of a get-many come from one statement. What is wrong between them, if anything is.
    pub(crate) fn of_get_many(calls: Range<usize>, discord: Option<&str>) -> Option<Self> {
        discord.map(|why| Self { rule: 1, calls: calls.collect(), explanation: why.into() })
    }

    /// 12: after eleven years the sweeps up to `last` have removed all `rows`, each once, left none, and said
    /// so.
    pub(crate) fn of_sweeps(last: usize, rows: u64, removed: u64, left: u64, more: bool) -> Option<Self> {
        let explanation = || {
            format!(
                "of {rows} rows the last sweeps removed {removed} and left {left}, and said {more} to more"
            )
        };
        demand(removed == rows && left == 0 && !more, 12, &[last], explanation).err()
    }
}

pub(super) type Judgement = Result<(), Violation>;

pub(super) fn demand(
    kept: bool,
    rule: u8,
    calls: &[usize],
    explanation: impl FnOnce() -> String,
) -> Judgement {
    if kept { Ok(()) } else { violation(rule, calls, explanation()) }
}

pub(super) fn violation(rule: u8, calls: &[usize], explanation: String) -> Judgement {
    Err(Violation { rule, calls: calls.to_vec(), explanation })
}
