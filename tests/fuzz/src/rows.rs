//! Answers of a database that follows no rules: any number of rows, of any columns, or any error. Every call
//! returns exactly the answer that the rows stand for, or `Storage`.
//!
//! An input is a text of lines, so that inputs can be read and written by hand:
//!
//! ```text
//! limit 10            an argument of the calls; others are at, after (an expiry), ticket, metadata
//! answer              the next statement's answer: rows follow
//! row                 a row: its columns follow
//! 1795465560000000    a bigint; others are null, true, false, 'text, x followed by bytes
//! times 1000          the last row this many times more
//! error 57014         instead of rows: a SQLSTATE, or unavailable, timed-out, too-large, not-allowed,
//!                     not-configured
//! ```

use cimd_cache_guest::cache::Cache;
use cimd_cache_guest::sql::Value;

mod expected;
mod input;
mod many;
mod script;

use expected::{expected_delete, expected_get, expected_put, expected_sweep, one_row, same_kind};
use input::Input;
use script::{Script, asked, names};

/// Makes every call against the answers that a text describes.
///
/// # Panics
///
/// If the rules break a promise.
pub fn run(text: &str) {
    let Input { arguments, answers } = Input::of(text);
    let asked = |call: &dyn Fn(&mut Script<'_>)| asked(&answers, call);
    asked(&|script| assert_eq!(Cache(script).get("u"), expected_get(&answers)));
    many::run(&answers);
    asked(&|script| assert_eq!(Cache(script).delete("u"), expected_delete(&answers)));
    asked(&|script| assert_eq!(Cache(script).purge(), one_row(answers.first()).map(|_| ())));

    for expiry in [arguments.at, arguments.after] {
        let ticket = arguments.ticket.as_deref();
        let put = asked(&|script| {
            let answer = Cache(&mut *script).put("u", arguments.metadata.clone(), expiry, ticket);
            match expected_put(&answers, expiry, ticket) {
                Some(expected) => assert!(same_kind(&answer, &expected), "{answer:?}, and not {expected:?}"),
                // The other targets check which rule refused it.
                None => assert!(answer.is_err() && script.asked.is_empty()),
            }
        });
        assert!(["put", "clock"].starts_with(&names(&put)), "{put:?}");
    }

    let sweep = asked(&|script| {
        let answer = Cache(script).sweep(arguments.limit);
        assert_eq!(answer, expected_sweep(&answers, arguments.limit));
    });
    // The last only if fewer rows were removed than the limit, and no sweeps at all if it is 0.
    let last = names(&sweep).iter().position(|name| *name == "sweepable").unwrap_or(sweep.len());
    assert!(last + 1 >= sweep.len(), "{sweep:?}");
    let sweep = &sweep[..last];
    assert!(["sweep-expired", "sweep-purged"].starts_with(&names(sweep)), "{sweep:?}");
    let limit = i64::from(arguments.limit.min(1_000));
    let removed = answers.first().and_then(|answer| answer.as_ref().ok()).map_or(0, Vec::len);
    // Each asks for what is left of the limit.
    let rests = [limit, limit - i64::try_from(removed).unwrap_or(limit)];
    for ((_, parameters), rest) in sweep.iter().zip(rests) {
        assert_eq!(*parameters, [Value::Int64(rest)]);
        assert!(rest > 0);
    }
}
