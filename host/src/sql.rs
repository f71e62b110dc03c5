//! The import `cimd:cache/sql`, for the cache's own instances and for programs that run the component under a
//! wasmtime of their own.
//!
//! Such a program makes a [`Sql`] with [`Builder::build_sql`](crate::Builder::build_sql), keeps it in its store, and
//! adds the import to its linker, beside whatever else its components import:
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
use std::time::Duration;

use tokio::time::Instant;
use wasmtime::component::{HasData, Linker};

use crate::bindings::cimd::cache::sql::{self as wit, Error, Row, Value};
use crate::postgres::{Admitted, Postgres};

/// The database that the component is lent, or the fact that there is none. Cheap to clone; all clones share the
/// same connections.
#[derive(Clone)]
pub struct Sql {
    postgres: Option<Arc<Postgres>>,
    deadline: Duration,
}

impl Sql {
    pub(crate) fn new(postgres: Option<Arc<Postgres>>, deadline: Duration) -> Self {
        Self { postgres, deadline }
    }

    /// What [`add_to_linker`] needs to answer a call. Each statement gets the whole deadline of the builder.
    pub fn view(&self) -> SqlView<'_> {
        SqlView { sql: self, deadline: None }
    }

    pub(crate) fn view_until(&self, deadline: Instant) -> SqlView<'_> {
        SqlView { sql: self, deadline: Some(deadline) }
    }

    pub(crate) fn postgres(&self) -> Option<&Postgres> {
        self.postgres.as_deref()
    }
}

impl std::fmt::Debug for Sql {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sql").field("configured", &self.postgres.is_some()).finish_non_exhaustive()
    }
}

/// A [`Sql`] for the length of one call.
#[derive(Debug)]
pub struct SqlView<'a> {
    sql: &'a Sql,
    deadline: Option<Instant>,
}

impl wit::Host for SqlView<'_> {
    async fn query(&mut self, statement: String, parameters: Vec<Value>) -> Result<Vec<Row>, Error> {
        let postgres = self.sql.postgres().ok_or(Error::NotConfigured)?;
        // A call of the cache's own brings its deadline along, and was let in by the pool of instances.
        let (deadline, admitted) = match self.deadline {
            Some(deadline) => (deadline, Admitted::Already),
            None => (Instant::now() + self.sql.deadline, Admitted::Here),
        };
        postgres.query(&statement, &parameters, deadline, admitted).await
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
