//! Hostile input for the cache's rules, run natively: documents, URLs and tickets from strangers, rows and errors from a
//! database that is not the one expected.
//!
//! A [target](TARGETS) takes a text, whatever it is, gives it to the rules, and panics if they break a promise. What the
//! answer has to be it finds out by itself, in another way than the rules do: [`json`] is a second reader of JSON,
//! [`rows`] and [`arguments`] say in plain arithmetic what a call may answer.
//!
//! Two drivers feed the targets. `make fuzz` is guided by coverage and takes as long as it is told (`libfuzzer/`, a
//! crate of its own outside of the workspace, because it needs a C++ compiler and cargo-fuzz). The tests of this
//! crate replay what that has found worth keeping ([`corpus`]) and some thousand [variations](mutate) of it, with nothing
//! but stable Rust. What the rules accept goes to a real Postgres too, in the black-box test `fuzzed`.

pub mod arguments;
pub mod corpus;
pub mod json;
pub mod metadata;
pub mod mutate;
pub mod rows;

/// Something that takes any text and panics if the rules answer wrongly.
pub type Target = fn(&str);

/// All targets, each under the name of its file in `corpus/`.
pub const TARGETS: [(&str, Target); 4] = [
    ("metadata", metadata::run),
    ("url", arguments::url),
    ("ticket", arguments::ticket),
    ("rows", rows::run),
];
