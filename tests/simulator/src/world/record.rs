//! What callers saw, and what else is known of a history.

use std::ops::Range;

use cimd_cache_guest::sql::SqlError;

use crate::calls::Asked;
use crate::checker::Violation;
use crate::history::{Answer, Between, Call, CallFailure, History, Micros, Position};

pub(super) struct Record {
    pub(super) position: Position,
    pub(super) history: History,
    /// How each call may fail, by its index.
    pub(super) permitted: Vec<Option<CallFailure>>,
    /// The violations that the history does not show.
    pub(super) violations: Vec<Violation>,
    /// Whether to keep a line for each step.
    tell: bool,
    pub(super) steps: Vec<String>,
}

impl Record {
    pub(super) fn new(clock_tolerance: Micros, tell: bool) -> Self {
        let history = History { clock_tolerance, ..History::default() };
        Self { position: 0, history, permitted: Vec::new(), violations: Vec::new(), tell, steps: Vec::new() }
    }

    /// A caller makes a call.
    pub(super) fn began(&mut self, node: usize, asked: &Asked) -> Range<usize> {
        let first = self.history.calls.len();
        self.history.calls.extend(asked.requests().map(|request| Call {
            node,
            began: self.position,
            ended: Position::MAX,
            settled: Position::MAX,
            now: Between { earliest: Micros::MAX, latest: Micros::MIN },
            request,
            answer: Answer::Lost,
        }));
        let calls = first..self.history.calls.len();
        self.permitted.resize(calls.end, None);
        self.tell(|| {
            let requests: Vec<_> = asked.requests().collect();
            format!("{} at node {node}: {requests:?}", named(&calls))
        });
        calls
    }

    /// A statement of the calls begins when the clock shows `now`.
    pub(super) fn statement_began(&mut self, calls: &Range<usize>, now: Micros) {
        for call in &mut self.history.calls[calls.clone()] {
            call.now.earliest = call.now.earliest.min(now);
            call.now.latest = call.now.latest.max(now);
        }
    }

    /// The calls may fail, because the database gave them this error.
    pub(super) fn permit(&mut self, calls: &Range<usize>, error: &SqlError) {
        let timed_out = matches!(error, SqlError::TimedOut | SqlError::Database(_));
        let failure = if timed_out { CallFailure::TimedOut } else { CallFailure::Unavailable };
        self.permitted[calls.clone()].fill(Some(failure));
    }

    /// The caller has its answers, or no longer waits for them.
    pub(super) fn ended(&mut self, calls: &Range<usize>, answers: &[Answer]) {
        for (ended, &answer) in self.history.calls[calls.clone()].iter_mut().zip(answers) {
            ended.answer = answer;
            ended.ended = self.position;
        }
    }

    /// The calls can no longer take effect.
    pub(super) fn settle(&mut self, calls: &Range<usize>, clock: Micros) {
        for settled in &mut self.history.calls[calls.clone()] {
            settled.settled = self.position;
            if settled.now.earliest > settled.now.latest {
                // None of its statements ever began.
                settled.now = Between::exactly(clock);
            }
        }
    }

    pub(super) fn tell(&mut self, step: impl FnOnce() -> String) {
        if self.tell {
            let step = format!("{:>4}  {}", self.position, step());
            self.steps.push(step);
        }
    }
}

/// The name of calls of the history that a caller made as one.
pub(super) fn named(calls: &Range<usize>) -> String {
    if calls.len() == 1 {
        format!("call {}", calls.start)
    } else {
        format!("calls {} to {}", calls.start, calls.end - 1)
    }
}
