//! The kept inputs, and a bounded number of variations of them, the same in every run. `make fuzz` goes on
//! from here, guided by coverage.

use cimd_cache_fuzz::mutate::mutated;
use cimd_cache_fuzz::{TARGETS, Target, corpus};

/// As many as take a few seconds without optimisation.
const VARIATIONS: u64 = 100_000;

/// Shows the input if the target panics on it.
fn run(target: Target, input: &str, origin: &str) {
    struct Shown<'a>(&'a str, &'a str);
    impl Drop for Shown<'_> {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("{}: {:?}", self.1, self.0);
            }
        }
    }
    let _shown = Shown(input, origin);
    target(input);
}

#[test]
fn what_is_kept_and_what_is_made_of_it_is_answered_as_promised() {
    for (name, target) in TARGETS {
        let inputs = corpus::of(name).unwrap();
        assert!(inputs.len() > 5, "{name}: {}", inputs.len());
        for (origin, input) in &inputs {
            run(target, input, &format!("{name}, {origin}"));
        }
        for seed in 0..VARIATIONS {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut any = || rng.choice(&inputs).unwrap().1.as_bytes();
            let (input, other) = (any(), any());
            run(target, &mutated(&mut rng, input, other), &format!("{name}, seed {seed}"));
        }
    }
}
