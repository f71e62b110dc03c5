//! One history, by a seed: callers, nodes, a network that loses answers, a database whose clock steps back.
//!
//! The guest is synchronous: it sends a statement and gets the rows. To have many calls in flight without a
//! thread for each, the world keeps a call as its arguments and the answers so far. To continue the call, it
//! runs it from the beginning on those answers, notes the statement that it sends next, and throws that run
//! away. The guest has neither clock nor randomness, so it sends the same statements every time.

use std::ops::Range;

use cimd_cache_guest::sql::{Row, SqlError};

use crate::calls::{self, Asked};
use crate::checker::{self, Violation};
use crate::choices::{Choices, Clocks, START};
use crate::history::{Answer, History, Micros, Request, StepBack};
use crate::mutant::Mutant;
use crate::table::{Begun, Table};

mod flight;
mod record;
mod style;

use flight::{Flight, Orphan, Replay, Stage};
use record::{Record, named};
use style::Style;

const SECOND: Micros = 1_000_000;
const NODES: usize = 4;
/// No statement runs for a minute.
const STATEMENT_TIMEOUT: Micros = 60 * SECOND;
/// The SQLSTATE of a statement that exceeded its timeout.
const QUERY_CANCELED: &str = "57014";
/// Longer than any lifetime, and any ticket.
pub(crate) const ELEVEN_YEARS: Micros = 11 * 366 * 86_400 * SECOND;

/// A history that was simulated.
#[derive(Debug)]
pub struct Simulated {
    /// What callers saw.
    pub history: History,
    /// What happened, a line for each step, from [`simulate_and_tell`].
    pub steps: Vec<String>,
    /// What the contract does not allow.
    pub violations: Vec<Violation>,
}

/// Simulates the history of a seed on the table of a mutant, or of the real SQL.
pub fn simulate(seed: u64, mutant: Option<Mutant>) -> Simulated {
    World::new(seed, mutant, false).run()
}

/// As [`simulate`], with a line for each step.
pub fn simulate_and_tell(seed: u64, mutant: Option<Mutant>) -> Simulated {
    World::new(seed, mutant, true).run()
}

struct World {
    choices: Choices,
    style: Style,
    table: Table,
    clock: Micros,
    clocks: Clocks,
    peak: Micros,
    flights: Vec<Flight>,
    orphans: Vec<Orphan>,
    record: Record,
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>, tell: bool) -> Self {
        let mut choices = Choices::new(seed);
        let style = Style::of(&mut choices);
        let clocks = Clocks::new(&mut choices);
        let record = Record::new(clocks.tolerance, tell);
        Self {
            choices,
            style,
            table: Table::new(START - 86_400 * SECOND, clocks.tolerance, mutant),
            clock: START,
            clocks,
            peak: START,
            flights: Vec::new(),
            orphans: Vec::new(),
            record,
        }
    }

    fn run(mut self) -> Simulated {
        for _ in 0..self.style.events {
            self.event();
        }
        while !(self.flights.is_empty() && self.orphans.is_empty()) {
            self.go_on();
        }
        let left = self.sweep_all();
        let Record { history, permitted, violations: others, steps, .. } = self.record;
        let verdict = checker::check(&history, |call, failure| permitted[call] == Some(failure));
        let mut violations = verdict.err().unwrap_or_default();
        violations.extend(others.into_iter().chain(left));
        Simulated { history, steps, violations }
    }

    fn event(&mut self) {
        self.record.position += 1;
        if self.choices.percent(self.style.clock) {
            self.set_clock();
        } else if self.flights.is_empty()
            || (self.flights.len() < self.style.at_once && self.choices.percent(self.style.start))
        {
            let asked = self.choices.request(self.clock);
            self.start(asked);
        } else if self.choices.percent(self.style.loss) {
            self.lose();
        } else {
            self.go_on();
        }
    }

    fn set_clock(&mut self) {
        if self.style.steps_back > 0 && self.choices.percent(8) {
            self.style.steps_back -= 1;
            self.fail_over();
        } else {
            self.clock = self.choices.next_time(self.clock);
            self.record.tell(|| format!("the clock shows {}", self.clock));
        }
        self.peak = self.peak.max(self.clock);
    }

    /// Another server takes over, and its clock is behind. What was running is rolled back.
    fn fail_over(&mut self) {
        self.record.history.steps_back.push(StepBack { at: self.record.position, peak: self.peak });
        self.clock -= self.choices.step_back();
        self.choices.stepped_back(self.peak);
        self.record.tell(|| format!("failover: the clock is set back to {}", self.clock));
        for flight in &mut self.flights {
            if let Stage::Waiting(_) = flight.stage {
                flight.stage = Stage::Answered(Err(SqlError::Unavailable));
            }
        }
        let (position, calls) = (self.record.position, &mut self.record.history.calls);
        self.orphans.retain(|orphan| {
            let running = matches!(orphan.stage, Stage::Waiting(_));
            if running {
                calls[orphan.calls.clone()].iter_mut().for_each(|call| call.settled = position);
            }
            !running
        });
    }

    fn start(&mut self, asked: Asked) {
        let node = self.choices.rng.usize(0..NODES);
        let calls = self.record.began(node, &asked);
        let flight = Flight { calls, asked, answers: Vec::new(), stage: Stage::Answered(Ok(Vec::new())) };
        self.resume(flight);
    }

    /// Gives the answer to a statement to the call that sent it.
    fn deliver(&mut self, mut flight: Flight, answer: Result<Vec<Row>, SqlError>) {
        if let Err(error) = &answer {
            self.record.permit(&flight.calls, error);
        }
        flight.answers.push(answer);
        self.resume(flight);
    }

    /// Runs a call on the answers it has. Either it wants another statement, or it is over.
    fn resume(&mut self, mut flight: Flight) {
        let mut wanted = None;
        let replay = Replay { answers: flight.answers.iter(), asked: &mut wanted };
        let told = calls::call(replay, &flight.asked);
        if let Some((statement, parameters)) = wanted {
            flight.stage = Stage::Sent(statement, parameters);
            self.flights.push(flight);
            return;
        }
        if let Some(ticket) = told.ticket {
            let read = &self.record.history.calls[flight.calls.start];
            self.choices.learn(ticket, read.now, (read.began, self.record.position));
        }
        self.record.violations.extend(Violation::of_get_many(flight.calls.clone(), told.discord));
        self.end(&flight.calls, &told.answers);
    }

    /// The caller has its answers, or no longer waits for them.
    fn end(&mut self, calls: &Range<usize>, answers: &[Answer]) {
        let orphaned = self.orphans.iter().any(|orphan| orphan.calls == *calls);
        self.record.ended(calls, answers);
        if !orphaned {
            self.record.settle(calls, self.clock);
        }
        self.record.tell(|| format!("{} ends: {answers:?}", named(calls)));
    }

    /// A call in flight goes a stage further.
    fn go_on(&mut self) {
        self.record.position += 1;
        let chosen = self.choices.rng.usize(0..self.flights.len() + self.orphans.len());
        if chosen < self.flights.len() {
            let mut flight = self.flights.swap_remove(chosen);
            match flight.stage {
                Stage::Answered(answer) => {
                    flight.stage = Stage::Answered(Ok(Vec::new()));
                    self.deliver(flight, answer);
                }
                stage => {
                    flight.stage = self.run_statement(&flight.calls, stage);
                    self.flights.push(flight);
                }
            }
        } else {
            let mut orphan = self.orphans.swap_remove(chosen - self.flights.len());
            let vanishes = matches!(orphan.stage, Stage::Sent(..)) && self.choices.percent(10);
            if !vanishes {
                orphan.stage = self.run_statement(&orphan.calls, orphan.stage);
            }
            if vanishes || matches!(orphan.stage, Stage::Answered(_)) {
                self.record.settle(&orphan.calls, self.clock);
            } else {
                self.orphans.push(orphan);
            }
        }
    }

    /// Begins or applies a statement.
    fn run_statement(&mut self, calls: &Range<usize>, stage: Stage) -> Stage {
        match stage {
            Stage::Sent(statement, parameters) => {
                self.record.statement_began(calls, self.clock);
                self.record
                    .tell(|| format!("{}: {} begins with {parameters:?}", named(calls), statement.name));
                let now = match self.record.history.calls[calls.start].request {
                    Request::Get { key } => self.clocks.at_key(key, self.clock),
                    _ => self.clock,
                };
                match self.table.begin(statement, &parameters, now) {
                    Begun::Done(rows) => Stage::Answered(Ok(rows)),
                    Begun::Waiting(waiting) => {
                        self.choices.statement_began(self.clock);
                        Stage::Waiting(waiting)
                    }
                }
            }
            Stage::Waiting(waiting) if self.clock - waiting.now >= STATEMENT_TIMEOUT => {
                self.record.tell(|| {
                    format!("{}: the statement has run for a minute and is cancelled", named(calls))
                });
                Stage::Answered(Err(SqlError::Database(QUERY_CANCELED.to_owned())))
            }
            Stage::Waiting(waiting) => {
                let rows = self.table.apply(waiting);
                self.record
                    .tell(|| format!("{}: the statement is applied: {} rows", named(calls), rows.len()));
                Stage::Answered(Ok(rows))
            }
            answered @ Stage::Answered(_) => answered,
        }
    }

    /// A connection breaks, a deadline passes, or a caller leaves. The statement does not know of it.
    fn lose(&mut self) {
        let chosen = self.choices.rng.usize(0..self.flights.len());
        let mut flight = self.flights.swap_remove(chosen);
        let stage = std::mem::replace(&mut flight.stage, Stage::Answered(Ok(Vec::new())));
        if stage.may_write() {
            self.orphans.push(Orphan { calls: flight.calls.clone(), stage });
        }
        if self.choices.percent(25) {
            self.end(&flight.calls, &vec![Answer::Lost; flight.calls.len()]);
        } else {
            let unavailable = self.choices.rng.bool();
            let error = if unavailable { SqlError::Unavailable } else { SqlError::TimedOut };
            self.deliver(flight, Err(error));
        }
    }

    /// 12: whatever happened, after eleven years every row can be swept, and is counted once.
    fn sweep_all(&mut self) -> Option<Violation> {
        self.clock = self.peak + ELEVEN_YEARS;
        let rows = self.table.rows();
        let (mut removed, mut left) = (0, true);
        while left {
            self.record.position += 1;
            self.start(Asked::new(Request::Sweep { limit: 2 }));
            while !self.flights.is_empty() {
                self.go_on();
            }
            let Answer::Swept { removed: some, more } = self.record.history.calls.last()?.answer else {
                break;
            };
            removed += u64::from(some);
            // A sweep that removes nothing and says that there is more would go on for ever.
            left = more;
            if some == 0 {
                break;
            }
        }
        Violation::of_sweeps(self.record.history.calls.len() - 1, rows, removed, self.table.rows(), left)
    }
}
