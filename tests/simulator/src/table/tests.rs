use cimd_cache_guest::statements::{DELETE, GET, PUT};

use super::rows::SECOND;
use super::*;

const URL: &str = "https://client.example/";
const NOW: Micros = 1_795_465_560 * SECOND;

fn begin(table: &mut Table, statement: &Statement, more: &[Value], now: Micros) -> Waiting {
    let parameters = [&[Value::Text(URL.into())], more].concat();
    match table.begin(statement, &parameters, now) {
        Begun::Waiting(waiting) => waiting,
        Begun::Done(rows) => panic!("{} gave {rows:?}", statement.name),
    }
}

/// A put of a document fetched at its beginning.
fn begin_put(table: &mut Table, now: Micros) -> Waiting {
    let lifetime = Value::Int64(3_600);
    let parameters = [Value::Text("{}".into()), Value::Null, lifetime, Value::Null, Value::Null];
    begin(table, &PUT, &parameters, now)
}

/// The clock is set back, and then passes the moment at which a row is a minute ahead. A statement that began
/// before that moment takes the row for one from the future, and one that began after it does not. The second
/// is applied first.
#[test]
fn a_statement_from_before_a_row_was_only_a_minute_ahead_does_not_undo_a_delete_from_after() {
    let (before, after) = (NOW - 60 * SECOND - 1, NOW - 60 * SECOND);
    for (mutant, late_delete, undone) in [
        (None, false, false),
        (None, true, false),
        (Some(Mutant::FutureRowIfFetchedAhead), false, true),
        (Some(Mutant::TombstoneIfFetchedAhead), true, true),
    ] {
        let mut table = Table::new(NOW, 0, mutant);
        let ahead = begin_put(&mut table, NOW);
        table.apply(ahead);
        let put = begin_put(&mut table, before);
        let late = late_delete.then(|| begin(&mut table, &DELETE, &[], before));
        let delete = begin(&mut table, &DELETE, &[], after);
        table.apply(delete);
        if let Some(late) = late {
            table.apply(late);
        }
        let stored = !table.apply(put).is_empty();
        assert_eq!(stored, undone, "{mutant:?}, with a second delete: {late_delete}");
        let Begun::Done(rows) = table.begin(&GET, &[Value::Text(URL.into())], after) else { panic!() };
        assert_eq!(rows[0][2] != Value::Null, undone, "{mutant:?}");
    }
}
