//! A judge of the cache's answers.
//!
//! Of the calls of many callers only [what they saw](history) is kept, and the [checker], which is written from the
//! contract and knows neither the guest nor the SQL, says whether every answer was allowed.

pub mod bug;
pub mod checker;
pub mod history;
pub mod table;

pub use bug::Bug;
pub use checker::{Violation, check};
pub use history::History;
