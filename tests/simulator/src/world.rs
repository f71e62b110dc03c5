//! Callers, nodes, a network that loses answers, and a database whose clock may be set back: one history, by a seed.
//!
//! The guest is synchronous: it asks for a statement and has the rows. To have many calls in flight at once without
//! a thread for each, a call is kept as its arguments and the answers it has had so far. To go on with it, it is
//! run again from its beginning on those answers; what it asks for next is noted, and that run thrown away. The
//! guest has neither clock nor randomness, so it asks the same every time.

use std::ops::Range;

use cimd_cache_guest::sql::{Row, Sql, SqlError, Value};
use cimd_cache_guest::statements::{Purpose, Statement};

use crate::calls::{self, Asked};
use crate::checker::{self, Violation};
use crate::choices::{Choices, Clocks, START};
use crate::history::{Answer, Between, Call, CallFailure, History, Micros, Position, Request, StepBack};
use crate::mutant::Mutant;
use crate::table::{Begun, Table, Waiting};

const SECOND: Micros = 1_000_000;
const NODES: usize = 4;
/// No statement runs for a minute.
const STATEMENT_TIMEOUT: Micros = 60 * SECOND;
/// The SQLSTATE of a statement that ran into its timeout.
const QUERY_CANCELED: &str = "57014";
/// Longer than any lifetime, and any ticket.
pub(crate) const ELEVEN_YEARS: Micros = 11 * 366 * 86_400 * SECOND;

/// A history that was simulated.
#[derive(Debug)]
pub struct Simulated {
    /// What callers saw.
    pub history: History,
    /// What happened, a line for each step, if it was asked for.
    pub steps: Vec<String>,
    /// What the contract does not allow.
    pub violations: Vec<Violation>,
}

/// Simulates the history of a seed on the table of a mutant, or of the real SQL.
pub fn simulate(seed: u64, mutant: Option<Mutant>) -> Simulated {
    World::new(seed, mutant, false).run()
}

/// As [`simulate`], and tells each step.
pub fn simulate_and_tell(seed: u64, mutant: Option<Mutant>) -> Simulated {
    World::new(seed, mutant, true).run()
}

struct World {
    choices: Choices,
    style: Style,
    tell: bool,
    table: Table,
    clock: Micros,
    clocks: Clocks,
    peak: Micros,
    position: Position,
    flights: Vec<Flight>,
    orphans: Vec<Orphan>,
    history: History,
    /// How each call may fail, by its index.
    permitted: Vec<Option<CallFailure>>,
    /// Those that the history does not show.
    violations: Vec<Violation>,
    steps: Vec<String>,
}

/// What is likely in a history, in percent, and how much of it there is.
struct Style {
    events: u32,
    at_once: usize,
    clock: u32,
    start: u32,
    loss: u32,
    steps_back: u32,
}

/// A call in flight. A get-many is several calls of the history, one after the other there.
struct Flight {
    calls: Range<usize>,
    asked: Asked,
    answers: Vec<Result<Vec<Row>, SqlError>>,
    stage: Stage,
}

/// A statement whose caller does not wait for it any more.
struct Orphan {
    calls: Range<usize>,
    stage: Stage,
}

/// Where a statement is.
enum Stage {
    Sent(&'static Statement, Vec<Value>),
    Waiting(Waiting),
    Answered(Result<Vec<Row>, SqlError>),
}

/// Hands out the answers so far and notes what is asked then.
struct Replay<'a> {
    answers: std::slice::Iter<'a, Result<Vec<Row>, SqlError>>,
    asked: &'a mut Option<(&'static Statement, Vec<Value>)>,
}

impl Sql for Replay<'_> {
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        match self.answers.next() {
            Some(answer) => answer.clone(),
            None => {
                self.asked.get_or_insert((statement, parameters));
                Err(SqlError::Unavailable)
            }
        }
    }
}

impl World {
    fn new(seed: u64, mutant: Option<Mutant>, tell: bool) -> Self {
        let mut choices = Choices::new(seed);
        let style = Style {
            events: choices.rng.u32(40..160),
            at_once: *choices.one_of(&[1, 1, 2, 3, 5]),
            clock: choices.rng.u32(5..30),
            start: choices.rng.u32(10..60),
            loss: *choices.one_of(&[0, 0, 3, 10]),
            steps_back: *choices.one_of(&[0, 0, 0, 1, 2]),
        };
        let clocks = Clocks::new(&mut choices);
        let history = History { clock_tolerance: clocks.tolerance, ..History::default() };
        Self {
            choices,
            style,
            tell,
            table: Table::new(START - 86_400 * SECOND, clocks.tolerance, mutant),
            clock: START,
            clocks,
            peak: START,
            position: 0,
            flights: Vec::new(),
            orphans: Vec::new(),
            history,
            permitted: Vec::new(),
            violations: Vec::new(),
            steps: Vec::new(),
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
        let permitted = &self.permitted;
        let verdict = checker::check(&self.history, |call, failure| permitted[call] == Some(failure));
        let mut violations = verdict.err().unwrap_or_default();
        violations.extend(self.violations.into_iter().chain(left));
        Simulated { history: self.history, steps: self.steps, violations }
    }

    fn event(&mut self) {
        self.position += 1;
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
            self.tell(|world| format!("the clock shows {}", world.clock));
        }
        self.peak = self.peak.max(self.clock);
    }

    /// Another server takes over, and its clock is behind. What was running is rolled back.
    fn fail_over(&mut self) {
        self.history.steps_back.push(StepBack { at: self.position, peak: self.peak });
        self.clock -= self.choices.step_back();
        self.choices.stepped_back(self.peak);
        self.tell(|world| format!("failover: the clock is set back to {}", world.clock));
        for flight in &mut self.flights {
            if let Stage::Waiting(_) = flight.stage {
                flight.stage = Stage::Answered(Err(SqlError::Unavailable));
            }
        }
        let (position, calls) = (self.position, &mut self.history.calls);
        self.orphans.retain(|orphan| {
            let running = matches!(orphan.stage, Stage::Waiting(_));
            if running {
                calls[orphan.calls.clone()].iter_mut().for_each(|call| call.settled = position);
            }
            !running
        });
    }

    fn start(&mut self, asked: Asked) {
        let first = self.history.calls.len();
        let node = self.choices.rng.usize(0..NODES);
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
        self.tell(|_| {
            let requests: Vec<_> = asked.requests().collect();
            format!("{} at node {node}: {requests:?}", named(&calls))
        });
        let flight = Flight { calls, asked, answers: Vec::new(), stage: Stage::Answered(Ok(Vec::new())) };
        self.resume(flight);
    }

    /// Gives the answer to a statement to the call that asked for it.
    fn deliver(&mut self, mut flight: Flight, answer: Result<Vec<Row>, SqlError>) {
        if let Err(error) = &answer {
            let timed_out = matches!(error, SqlError::TimedOut | SqlError::Database(_));
            let failure = if timed_out { CallFailure::TimedOut } else { CallFailure::Unavailable };
            self.permitted[flight.calls.clone()].fill(Some(failure));
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
            let read = &self.history.calls[flight.calls.start];
            self.choices.learn(ticket, read.now, (read.began, self.position));
        }
        self.violations.extend(Violation::of_get_many(flight.calls.clone(), told.discord));
        self.end(&flight.calls, &told.answers);
    }

    /// The caller has its answers, or does not wait for them any more.
    fn end(&mut self, calls: &Range<usize>, answers: &[Answer]) {
        let orphaned = self.orphans.iter().any(|orphan| orphan.calls == *calls);
        for (ended, &answer) in self.history.calls[calls.clone()].iter_mut().zip(answers) {
            ended.answer = answer;
            ended.ended = self.position;
        }
        if !orphaned {
            self.settle(calls);
        }
        self.tell(|_| format!("{} ends: {answers:?}", named(calls)));
    }

    /// The call cannot take effect any more.
    fn settle(&mut self, calls: &Range<usize>) {
        for settled in &mut self.history.calls[calls.clone()] {
            settled.settled = self.position;
            if settled.now.earliest > settled.now.latest {
                // None of its statements has ever begun.
                settled.now = Between::exactly(self.clock);
            }
        }
    }

    /// A call in flight goes a stage further.
    fn go_on(&mut self) {
        self.position += 1;
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
                self.settle(&orphan.calls);
            } else {
                self.orphans.push(orphan);
            }
        }
    }

    /// Begins or applies a statement.
    fn run_statement(&mut self, calls: &Range<usize>, stage: Stage) -> Stage {
        match stage {
            Stage::Sent(statement, parameters) => {
                for Call { now, .. } in &mut self.history.calls[calls.clone()] {
                    now.earliest = now.earliest.min(self.clock);
                    now.latest = now.latest.max(self.clock);
                }
                self.tell(|_| format!("{}: {} begins with {parameters:?}", named(calls), statement.name));
                let now = match self.history.calls[calls.start].request {
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
                self.tell(|_| {
                    format!("{}: the statement has run for a minute and is cancelled", named(calls))
                });
                Stage::Answered(Err(SqlError::Database(QUERY_CANCELED.to_owned())))
            }
            Stage::Waiting(waiting) => {
                let rows = self.table.apply(waiting);
                self.tell(|_| format!("{}: the statement is applied: {} rows", named(calls), rows.len()));
                Stage::Answered(Ok(rows))
            }
            answered @ Stage::Answered(_) => answered,
        }
    }

    /// A connection breaks, a deadline passes, or a caller leaves. The statement is not told.
    fn lose(&mut self) {
        let chosen = self.choices.rng.usize(0..self.flights.len());
        let mut flight = self.flights.swap_remove(chosen);
        let stage = std::mem::replace(&mut flight.stage, Stage::Answered(Ok(Vec::new())));
        let writes = match &stage {
            Stage::Sent(statement, _) => statement.purpose != Purpose::Read,
            Stage::Waiting(_) => true,
            Stage::Answered(_) => false,
        };
        if writes {
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

    /// 12: whatever happened, after eleven years all can be swept, and each row counts once.
    fn sweep_all(&mut self) -> Option<Violation> {
        self.clock = self.peak + ELEVEN_YEARS;
        let rows = self.table.rows();
        let (mut removed, mut left) = (0, true);
        while left {
            self.position += 1;
            self.start(Asked::new(Request::Sweep { limit: 2 }));
            while !self.flights.is_empty() {
                self.go_on();
            }
            let Answer::Swept { removed: some, more } = self.history.calls.last()?.answer else { break };
            removed += u64::from(some);
            // One that removes nothing and says that there is more would go on for ever.
            left = more;
            if some == 0 {
                break;
            }
        }
        Violation::of_sweeps(self.history.calls.len() - 1, rows, removed, self.table.rows(), left)
    }

    fn tell(&mut self, step: impl FnOnce(&Self) -> String) {
        if self.tell {
            let step = format!("{:>4}  {}", self.position, step(self));
            self.steps.push(step);
        }
    }
}

/// Calls of the history that are one of a caller.
fn named(calls: &Range<usize>) -> String {
    if calls.len() == 1 {
        format!("call {}", calls.start)
    } else {
        format!("calls {} to {}", calls.start, calls.end - 1)
    }
}
