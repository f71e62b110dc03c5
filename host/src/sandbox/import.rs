//! The import `sql` for the cache's own instances: it uses what the call is lent.

use std::marker::PhantomData;

use wasmtime::component::{HasData, Linker};

use super::state::{Lent, State};
use crate::bindings::cimd::cache::sql::{self, Error, Row, Value};

pub(super) fn add_to_linker<L: Lent>(linker: &mut Linker<State<L>>) -> wasmtime::Result<()> {
    sql::add_to_linker::<State<L>, HasLoan<L>>(linker, |state| Import(state))
}

struct Import<'a, L>(&'a mut State<L>);

impl<L: Lent> sql::Host for Import<'_, L> {
    async fn query(&mut self, statement: String, parameters: Vec<Value>) -> Result<Vec<Row>, Error> {
        let loan = self.0.lent().ok_or(Error::Unavailable)?;
        loan.query(&statement, &parameters).await
    }
}

struct HasLoan<L>(PhantomData<L>);

impl<L: Lent> HasData for HasLoan<L> {
    type Data<'a> = Import<'a, L>;
}
