//! Random histories of the cache, and a checker that judges them.
//!
//! The guest's rules are deterministic, so they can be run natively against a [model of the table](table)
//! with many callers at once, lost answers, late statements and a clock that steps back, all determined by a
//! [seed](simulate). Only [what callers saw](history) is kept of each history. The [checker] says whether
//! every answer was allowed: it is written from the contract, and knows neither the guest nor the SQL. It can
//! judge histories recorded on a real database too.
//!
//! [Mutants](Mutant) of the statements show that the checker works: it must find each of them.
//!
//! ```
//! assert_eq!(cimd_cache_simulator::simulate(1234, None).violations, []);
//! ```

pub mod calls;
pub mod checker;
mod choices;
pub mod history;
pub mod mutant;
pub mod search;
pub mod sequence;
pub mod table;
pub mod world;

pub use checker::{Violation, check};
pub use history::History;
pub use mutant::Mutant;
pub use sequence::{Backend, simulate_in_sequence};
pub use world::{Simulated, simulate};
