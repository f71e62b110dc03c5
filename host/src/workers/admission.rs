//! Which calls a queue admits: one that cannot be served before its deadline is better rejected at once.
//!
//! The wait follows from the queue's length and from how long recent work took.

use std::time::Duration;

/// The average follows longer work by one part in so many, and shorter work by half: worse times must not
/// keep those out who could be served again.
const INERTIA: u32 = 8;

/// How long a worker lately took: a moving average.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pace(Duration);

impl Pace {
    /// Some work is over.
    pub(crate) fn took(&mut self, time: Duration) {
        let Self(average) = self;
        *average = match time.checked_sub(*average) {
            Some(longer) => *average + longer / INERTIA,
            None => (*average + time) / 2,
        };
    }

    /// How long it takes until a worker begins with what comes after `ahead` pieces of work, if each of
    /// `workers` is busy and has been so for at least `busy_for`.
    pub(crate) fn wait(&self, ahead: usize, workers: usize, busy_for: Duration) -> Duration {
        // Work that ends evenly spread over the workers ends that often.
        self.0.max(busy_for).mul_f64((ahead + 1) as f64 / workers as f64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn after(times: impl IntoIterator<Item = Duration>) -> Pace {
        times.into_iter().fold(Pace::default(), |mut pace, time| {
            pace.took(time);
            pace
        })
    }

    #[test]
    fn a_queue_takes_as_long_as_its_length_says() {
        let pace = after([SECOND; 100]);
        for (ahead, workers, seconds) in [(0, 1, 1.0), (0, 2, 0.5), (3, 2, 2.0), (15, 16, 1.0)] {
            let wait = pace.wait(ahead, workers, Duration::ZERO).as_secs_f64();
            assert!((wait / seconds - 1.0).abs() < 0.01, "{ahead} before, {workers} workers: {wait}");
        }
    }

    #[test]
    fn worse_times_are_forgotten_at_once_and_believed_slowly() {
        let millisecond = SECOND / 1_000;
        let wait = |pace: Pace| pace.wait(0, 1, Duration::ZERO);
        assert!(wait(after([millisecond, SECOND])) < SECOND / 4);
        assert!(wait(after([SECOND; 100].into_iter().chain([millisecond; 10]))) < 3 * millisecond);
    }

    #[test]
    fn work_that_does_not_end_counts_by_how_long_it_has_been_going_on() {
        let pace = after([SECOND / 1_000; 10]);
        assert_eq!(pace.wait(1, 2, SECOND), SECOND);
    }
}
