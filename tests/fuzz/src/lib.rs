//! Hostile input for the cache's rules, run natively: documents, URLs and tickets from strangers, rows and
//! errors from a database that is not the one expected.
//!
//! A [target](TARGETS) takes any text, gives it to the rules, and panics if they break a promise. It works
//! out what the answer must be by itself, in another way than the rules do: [`json`] is a second reader of
//! JSON, [`rows`] and [`arguments`] say in plain arithmetic what a call may answer.
//!
//! Two drivers feed the targets. `make fuzz` is guided by coverage and takes as long as you let it
//! (`libfuzzer/`, a crate outside the workspace, because it needs a C++ compiler and cargo-fuzz). The tests
//! of this crate replay what that has found worth keeping ([`corpus`]) and many [variations](mutate) of it,
//! with nothing but stable Rust. The black-box test `fuzzed` sends what the rules accept to a real Postgres
//! too.

pub mod arguments;
pub mod corpus;
pub mod json;
pub mod metadata;
pub mod mutate;
pub mod rows;

/// Takes any text and panics if the rules answer wrongly.
pub type Target = fn(&str);

/// All targets, each under the name of its file in `corpus/`.
pub const TARGETS: [(&str, Target); 4] = [
    ("metadata", metadata::run),
    ("url", arguments::url),
    ("ticket", arguments::ticket),
    ("rows", rows::run),
];
