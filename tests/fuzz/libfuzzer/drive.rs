//! Targets of `cimd-cache-fuzz` as libFuzzer programs.

/// Makes a program of a target. Half of the variations are libFuzzer's own, and half know JSON and rows.
#[macro_export]
macro_rules! drive {
    ($target:path) => {
        libfuzzer_sys::fuzz_target!(|input: &[u8]| -> libfuzzer_sys::Corpus {
            // What a host hands to the component is always UTF-8.
            let Ok(input) = std::str::from_utf8(input) else { return libfuzzer_sys::Corpus::Reject };
            $target(input);
            libfuzzer_sys::Corpus::Keep
        });
        libfuzzer_sys::fuzz_mutator!(|input: &mut [u8], size: usize, most: usize, seed: u32| {
            if seed % 2 == 0 {
                return libfuzzer_sys::fuzzer_mutate(input, size, most);
            }
            $crate::mutate(input, size, most, seed)
        });
    };
}

/// Varies the first `size` bytes of `input` in place, to at most `most` bytes. Returns how many there are
/// then.
pub fn mutate(input: &mut [u8], size: usize, most: usize, seed: u32) -> usize {
    let mut rng = fastrand::Rng::with_seed(seed.into());
    let before = &input[..size];
    let after = cimd_cache_fuzz::mutate::mutated(&mut rng, before, before).into_bytes();
    let size = after.len().min(most).min(input.len());
    input[..size].copy_from_slice(&after[..size]);
    size
}
