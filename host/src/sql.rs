//! The import `cimd:cache/sql`, for the cache's own instances and for programs that run the component under a
//! wasmtime of their own.
//!
//! Such a program makes a [`Sql`] with [`Builder::build_sql`](crate::Builder::build_sql), keeps it in its
//! store, and adds the import to its linker, beside whatever else its components import:
//!
//! ```no_run
//! use cimd_cache::sql::{self, Sql};
//! use wasmtime::component::{Component, Linker};
//! use wasmtime::{Engine, Store};
//!
//! struct State {
//!     sql: Sql,
//! }
//!
//! # async fn example() -> anyhow::Result<()> {
//! let engine = Engine::default();
//! let mut linker: Linker<State> = Linker::new(&engine);
//! sql::add_to_linker(&mut linker, |state| state.sql.view())?;
//!
//! let sql = cimd_cache::Cache::builder().database_url("postgres://cimd_cache_app@localhost/auth").build_sql()?;
//! let mut store = Store::new(&engine, State { sql });
//! let component = Component::new(&engine, cimd_cache::COMPONENT)?;
//! let instance = linker.instantiate_async(&mut store, &component).await?;
//! # Ok(())
//! # }
//! ```
//!
//! The import is asynchronous, so the component has to be called with wasmtime's `call_async`.

use std::sync::Arc;

use cimd_cache_guest::statements::{self, DELETE, PURGE};
use tokio::time::Instant;
use wasmtime::component::{HasData, Linker};

use crate::bindings::cimd::cache::sql::{self as wit, Error, Row, Value};
use crate::postgres::values;
use crate::workers::{Request, Task, Workers};

/// The database for a component in another wasmtime; without a database URL, every statement fails with
/// `not-configured`. Cheap to clone. All clones share the same connections, which end with the last clone.
#[derive(Clone)]
pub struct Sql(Arc<Workers>);

impl Sql {
    pub(crate) fn new(workers: Workers) -> Self {
        Self(Arc::new(workers))
    }

    /// Accepts no more statements, finishes those that are in flight or waiting, and then closes the
    /// connections in an orderly way. Returns when that is done, or after the builder's deadline at the
    /// latest.
    pub async fn close(&self) {
        self.0.close();
        let _ = tokio::time::timeout(self.0.deadline(), self.0.ended()).await;
    }

    /// What [`add_to_linker`] needs to answer a call. Each statement gets the whole deadline of the builder.
    pub fn view(&self) -> SqlView<'_> {
        SqlView(&self.0)
    }
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sql").field("configured", &self.0.database().is_some()).finish_non_exhaustive()
    }
}

/// A [`Sql`] for the length of one call.
pub struct SqlView<'a>(&'a Workers);

impl std::fmt::Debug for SqlView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SqlView").finish_non_exhaustive()
    }
}

impl wit::Host for SqlView<'_> {
    async fn query(&mut self, statement: String, parameters: Vec<Value>) -> Result<Vec<Row>, Error> {
        let Self(workers) = self;
        if workers.database().is_none() {
            return Err(Error::NotConfigured);
        }
        let index = workers.index_of(&statement)?;
        // Checked before it waits: a statement that is refused anyway must not take up room in the queue.
        values::check_parameters(statements::ALL[index], &parameters)
            .inspect_err(|failure| workers.log_failed(index, failure))?;
        let (statement, deadline) = (statements::ALL[index], Instant::now() + workers.deadline());
        let is_delete = [DELETE.name, PURGE.name].contains(&statement.name);
        let bytes = values::size_of(&parameters);
        let task = |reply| Task::Statement(index, parameters, reply);
        let request = Request::new(deadline, is_delete, bytes, task);
        workers.submit(statement.purpose, request).await
    }
}

/// Adds the import `cimd:cache/sql` to a linker. `view` finds the store's [`Sql`].
///
/// # Errors
///
/// When the linker has the import already.
pub fn add_to_linker<T: Send + 'static>(
    linker: &mut Linker<T>,
    view: fn(&mut T) -> SqlView<'_>,
) -> wasmtime::Result<()> {
    wit::add_to_linker::<T, HasSql>(linker, view)
}

struct HasSql;

impl HasData for HasSql {
    type Data<'a> = SqlView<'a>;
}
