//! Turns: how many calls may be under way, and who is told at once that his will not come.
//!
//! A call over the number waits for another to end. When the database is slow the queue grows, and those at its end would
//! only wait for their deadline: a server that asks on every login is better told at once. How long a queue takes follows
//! from its length and from how long calls have lately kept their turns.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use crate::throttle::Throttle;

/// A moving average follows a new value by one part in so many.
const INERTIA: u64 = 16;

/// A number of turns.
#[derive(Debug)]
pub(crate) struct Turns {
    free: Semaphore,
    most: usize,
    waiting: AtomicUsize,
    /// For how long calls keep their turns, in nanoseconds: a moving average over those that others waited for, and over
    /// those that were much shorter.
    kept: AtomicU64,
    shed: AtomicU64,
    told: Throttle,
}

/// The right to be under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    _permit: SemaphorePermit<'a>,
    turns: &'a Turns,
    began: Instant,
}

impl Turns {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            free: Semaphore::new(most),
            most,
            waiting: AtomicUsize::new(0),
            kept: AtomicU64::new(0),
            shed: AtomicU64::new(0),
            told: Throttle::new(),
        }
    }

    /// How many are taken.
    pub(crate) fn taken(&self) -> usize {
        self.most - self.free.available_permits()
    }

    /// How many calls were refused a turn so far.
    pub(crate) fn shed(&self) -> u64 {
        self.shed.load(Ordering::Relaxed)
    }

    /// A turn, or none: at once if those who wait already will take longer than until `deadline`, else then.
    pub(crate) async fn take(&self, deadline: Instant) -> Option<Turn<'_>> {
        let permit = match self.free.try_acquire() {
            Ok(permit) => permit,
            Err(_) => match self.wait(deadline).await {
                Some(permit) => permit,
                None => {
                    self.refuse();
                    return None;
                }
            },
        };
        Some(Turn { _permit: permit, turns: self, began: Instant::now() })
    }

    fn refuse(&self) {
        self.shed.fetch_add(1, Ordering::Relaxed);
        if let Some(held_back) = self.told.pass() {
            let waiting = self.waiting.load(Ordering::Relaxed);
            let under_way = self.most;
            tracing::warn!(waiting, under_way, held_back, "a call is shed: too many are under way");
        }
    }

    async fn wait(&self, deadline: Instant) -> Option<SemaphorePermit<'_>> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if Instant::now() + self.clears_in(before) > deadline {
            return None;
        }
        // The semaphore is never closed.
        tokio::time::timeout_at(deadline, self.free.acquire()).await.ok()?.ok()
    }

    /// How long it takes until so many waiting calls, and one more, have had their turn.
    fn clears_in(&self, waiting: usize) -> Duration {
        // Of `most` turns that end evenly spread, the next one does after a `most`th of the time that each takes.
        let rounds = (waiting + 1) as f64 / self.most as f64;
        Duration::from_nanos(self.kept.load(Ordering::Relaxed)).mul_f64(rounds)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let average = self.turns.kept.load(Ordering::Relaxed);
        let kept = u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        // While nobody waits, nobody needs the average; but one from worse times would keep those out who could wait.
        if self.turns.waiting.load(Ordering::Relaxed) > 0 || kept < average / 2 {
            // Of two that end at once one may be forgotten: it is an average.
            let average = average - average / INERTIA + kept / INERTIA;
            self.turns.kept.store(average, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With 2 turns that take a second each, as the average knows after a while.
    async fn slow_turns() -> Turns {
        let turns = Turns::new(2);
        turns.kept.store(1_000_000_000, Ordering::Relaxed);
        turns
    }

    #[tokio::test(start_paused = true)]
    async fn who_cannot_have_a_turn_in_time_is_told_at_once() {
        let turns = slow_turns().await;
        let far = Instant::now() + Duration::from_secs(60);
        let _taken = [turns.take(far).await, turns.take(far).await];
        let began = Instant::now();
        assert!(
            turns.take(began + Duration::from_millis(400)).await.is_none(),
            "the next ends after half a second"
        );
        assert_eq!(began.elapsed(), Duration::ZERO);
        // Five who wait take up two and a half seconds.
        let waiting = futures_util::future::join_all((0..5).map(|_| turns.take(far)));
        let asking = async {
            let ask =
                async |millis| turns.take(Instant::now() + Duration::from_millis(millis)).await.is_none();
            assert!(ask(2_900).await);
            assert_eq!((began.elapsed(), turns.shed()), (Duration::ZERO, 2));
            assert!(ask(3_100).await);
            assert_eq!(began.elapsed(), Duration::from_millis(3_100), "that one waited, and nobody ended");
        };
        tokio::select! { biased; _ = waiting => panic!("there is no turn"), () = asking => {} }
        assert_eq!(turns.waiting.load(Ordering::Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn the_average_follows_what_calls_take() {
        let turns = Turns::new(1);
        let far = Instant::now() + Duration::from_secs(3_600);
        for (millis, calls) in [(1_000_u64, 100), (10, 200)] {
            let call = async || {
                let turn = turns.take(far).await.unwrap();
                tokio::time::sleep(Duration::from_millis(millis)).await;
                drop(turn);
            };
            futures_util::future::join_all((0..calls).map(|_| call())).await;
            let average = Duration::from_nanos(turns.kept.load(Ordering::Relaxed)).as_secs_f64() * 1_000.0;
            assert!((average / millis as f64 - 1.0).abs() < 0.1, "{average} ms, of {millis}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn worse_times_are_forgotten_also_when_nobody_waits() {
        let turns = slow_turns().await;
        for _ in 0..200 {
            drop(turns.take(Instant::now() + Duration::from_secs(60)).await.unwrap());
        }
        assert!(turns.clears_in(0) < Duration::from_millis(1));
    }
}
