//! The guest's rules in many histories, and the proof that the checker finds broken ones.

use cimd_cache_simulator::mutant::{Mutant, Seen};
use cimd_cache_simulator::search::first_violation;
use cimd_cache_simulator::sequence::{Model, simulate_in_sequence};
use cimd_cache_simulator::world::simulate;

const HISTORIES: u64 = 300_000;

#[test]
fn the_contract_allows_every_answer() {
    let found = first_violation(0..HISTORIES, |seed| simulate(seed, None));
    assert_eq!(found, None, "to see it: cargo run -p cimd-cache-simulator -- --seed {}", found.unwrap_or(0));
}

#[test]
fn the_contract_allows_every_answer_in_sequence() {
    let found = first_violation(0..50_000, |seed| simulate_in_sequence(seed, &mut Model::new(None)));
    assert_eq!(found, None);
}

#[test]
fn every_mutant_is_found() {
    for &mutant in Mutant::ALL.iter().filter(|mutant| mutant.seen() != Seen::Rarely) {
        let found = first_violation(0..HISTORIES, |seed| simulate(seed, Some(mutant)));
        println!("{}: seed {found:?}", mutant.name());
        assert_eq!(found.is_some(), mutant.seen() != Seen::BehindTheGuest, "{mutant:?}: {found:?}");
    }
}

/// This is what the tolerance is for: if the clocks differ and the database does not know it, a fetch from
/// before a delete brings back what was deleted.
#[test]
fn without_the_clock_tolerance_what_was_deleted_comes_back() {
    let brought_back = |seed| {
        let mut simulated = simulate(seed, Some(Mutant::ToleranceIgnored));
        simulated.violations.retain(|violation| violation.rule == 11);
        simulated
    };
    assert!(first_violation(0..HISTORIES, brought_back).is_some());
}

#[test]
fn calls_in_sequence_find_every_mutant_that_needs_no_overlap() {
    for &mutant in Mutant::ALL.iter().filter(|mutant| mutant.seen() != Seen::Rarely) {
        let found =
            first_violation(0..50_000, |seed| simulate_in_sequence(seed, &mut Model::new(Some(mutant))));
        println!("{}: seed {found:?}", mutant.name());
        assert_eq!(found.is_some(), mutant.seen() == Seen::InSequence, "{mutant:?}: {found:?}");
    }
}

#[test]
fn a_seed_always_gives_the_same_history() {
    for seed in 0..100 {
        assert_eq!(simulate(seed, None).history.calls, simulate(seed, None).history.calls, "{seed}");
    }
}
