//! Which statements are prepared.
//!
//! Only the hot ones: the gets and the put. Everything else is sent unprepared, which also takes one round
//! trip and costs the server some planning. The reason is safety. A pooler in transaction mode that cannot
//! track prepared statements (pgbouncer before 1.21) can give one node a connection on which another has
//! prepared a different statement under the same name. The prepared ones have different numbers of
//! parameters, so the server refuses to run one for another, and a get can never turn out to be a put. After
//! such a refusal nothing is prepared any more.
//!
//! The get of another schema is a different statement with the same number of parameters. So only caches in
//! the schema `cimd_cache` prepare, unless their builder asserts that there is no such pooler. The same care
//! is needed when the text of one of them changes while nodes of both versions run.

use std::sync::atomic::{AtomicBool, Ordering};

use cimd_cache_guest::statements::{self, Statement};

/// Whether statements may be prepared on a database's connections. They may until a pooler mixes them up.
#[derive(Debug)]
pub(super) struct Prepares(AtomicBool);

impl Prepares {
    pub(super) fn new(allowed: bool) -> Self {
        Self(AtomicBool::new(allowed))
    }

    pub(super) fn is_used_for(&self, statement: &Statement) -> bool {
        is_hot(statement) && self.0.load(Ordering::Relaxed)
    }

    pub(super) fn give_up(&self) {
        if self.0.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                "a pooler mixes up prepared statements; from now on none are used, which makes gets slower: \
                 pgbouncer 1.21 or later with max_prepared_statements would do better"
            );
        }
    }
}

fn is_hot(statement: &Statement) -> bool {
    [statements::GET.name, statements::GET_MANY.name, statements::PUT.name].contains(&statement.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_prepared_statements_can_be_run_for_each_other() {
        let hot = statements::ALL.iter().filter(|statement| is_hot(statement));
        let mut counts: Vec<_> = hot.map(|statement| statement.parameters.len()).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 2, 6]);
    }
}
