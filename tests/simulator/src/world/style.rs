//! What kind of history a seed gives.

use crate::choices::Choices;

/// What is likely in a history, in percent, and how much of it there is.
pub(super) struct Style {
    pub(super) events: u32,
    pub(super) at_once: usize,
    pub(super) clock: u32,
    pub(super) start: u32,
    pub(super) loss: u32,
    pub(super) steps_back: u32,
}

impl Style {
    pub(super) fn of(choices: &mut Choices) -> Self {
        Self {
            events: choices.rng.u32(40..160),
            at_once: *choices.one_of(&[1, 1, 2, 3, 5]),
            clock: choices.rng.u32(5..30),
            start: choices.rng.u32(10..60),
            loss: *choices.one_of(&[0, 0, 3, 10]),
            steps_back: *choices.one_of(&[0, 0, 0, 1, 2]),
        }
    }
}
