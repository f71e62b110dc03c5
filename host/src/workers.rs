//! All workers of a cache, and the way to them.
//!
//! There are workers for gets, for puts and deletes, and one for maintenance: sweeps, and what the host asks
//! about connections that fell silent. They begin when there is work for them, and end when their connection
//! has not been used for a while.
//!
//! From the bottom: `request` is what is asked, `admission` and `queue` decide who is served when, `shared`
//! is what everybody knows, `loan` lends a connection to one call, `executor` has the connection and the
//! instance, `calls` is what is done with them, and `worker` is the loop around all of it.

mod admission;
mod calls;
mod executor;
mod loan;
mod queue;
mod request;
mod shared;
mod worker;

use std::ops::Deref;
use std::sync::Arc;

use cimd_cache_guest::statements::Purpose;

use self::executor::Executor;
pub(crate) use self::loan::Loan;
pub(crate) use self::request::{Put, Request, Task};
pub(crate) use self::shared::{Limits, Shared};
use self::worker::Worker;
use crate::near_cache::NearCache;
use crate::postgres::Database;
use crate::sandbox::Sandbox;

/// The workers of a cache. Dropped, they end.
pub(crate) struct Workers(Arc<Shared>);

impl Workers {
    /// Starts none yet. Without a sandbox only statements are run, for somebody else's instances.
    pub(crate) fn new(
        database: Option<Database>,
        sandbox: Option<Sandbox<Loan>>,
        near: Option<NearCache>,
        limits: Limits,
    ) -> Self {
        let sandbox = sandbox.map(Arc::new);
        let start = move |shared: &Arc<Shared>, purpose: Purpose, number: usize| {
            let executor = Executor::new(shared.clone(), sandbox.clone(), purpose, number);
            tokio::spawn(Worker::new(executor).run());
        };
        Self(Arc::new(Shared::new(database, near, limits, Box::new(start))))
    }
}

impl Deref for Workers {
    type Target = Arc<Shared>;

    fn deref(&self) -> &Arc<Shared> {
        &self.0
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.0.close();
    }
}
