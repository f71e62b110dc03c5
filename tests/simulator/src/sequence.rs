//! Histories of calls one after the other, on any database.
//!
//! The same requests and times as in the simulated world, without what only a model can do: each statement
//! ends before the next begins. So the same seed can run on the model and on a real Postgres whose clock can
//! be set, and the checker must say the same of both.

use cimd_cache_guest::sql::{Row, Sql, SqlError, Value};
use cimd_cache_guest::statements::{GET, GET_MANY, Statement};

use crate::calls::{self, Asked, Told};
use crate::checker::{self, Violation};
use crate::choices::{Choices, Clocks};
use crate::history::{Answer, Between, Call, History, Micros, Position, Request, StepBack};
use crate::mutant::Mutant;
use crate::table::{Begun, Table};
use crate::world::{ELEVEN_YEARS, Simulated};

pub use crate::choices::START;

/// A database whose clock can be set. Its tables are empty when a history begins; the time of the last purge
/// does not matter.
pub trait Backend: Sql {
    /// A history begins, in which two clocks of the database may differ by this much.
    fn begin(&mut self, clock_tolerance: Micros);

    /// From now on `now()` is this, earlier or later than before; for a get or a get-many it is `read`.
    fn set_clock(&mut self, now: Micros, read: Micros);

    /// How many rows `client_id_metadata` has.
    fn rows(&mut self) -> u64;
}

/// The model as a backend.
#[derive(Debug)]
pub struct Model {
    table: Table,
    mutant: Option<Mutant>,
    now: Micros,
    read: Micros,
}

impl Model {
    /// Empty tables, of a mutant or of the real SQL.
    pub fn new(mutant: Option<Mutant>) -> Self {
        Self { table: Table::new(START, 0, mutant), mutant, now: START, read: START }
    }
}

impl Sql for Model {
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        let now = if [GET, GET_MANY].contains(statement) { self.read } else { self.now };
        Ok(match self.table.begin(statement, &parameters, now) {
            Begun::Done(rows) => rows,
            Begun::Waiting(waiting) => self.table.apply(waiting),
        })
    }
}

impl Backend for Model {
    fn begin(&mut self, clock_tolerance: Micros) {
        self.table = Table::new(START, clock_tolerance, self.mutant);
    }

    fn set_clock(&mut self, now: Micros, read: Micros) {
        (self.now, self.read) = (now, read);
    }

    fn rows(&mut self) -> u64 {
        self.table.rows()
    }
}

/// Runs the sequential history of a seed on a database. No failure is permitted.
pub fn simulate_in_sequence(seed: u64, backend: &mut dyn Backend) -> Simulated {
    let mut choices = Choices::new(seed);
    let calls = choices.rng.u32(15..60);
    let mut steps_back = *choices.one_of(&[0, 0, 0, 1, 2]);
    let clocks = Clocks::new(&mut choices);
    let history = History { clock_tolerance: clocks.tolerance, ..History::default() };
    let mut sequence =
        Sequence { choices, backend, clock: START, clocks, position: 0, history, violations: Vec::new() };
    sequence.backend.begin(sequence.clocks.tolerance);
    sequence.backend.set_clock(START, START);
    let mut peak = START;
    for _ in 0..calls {
        sequence.position += 1;
        if steps_back > 0 && sequence.choices.percent(5) {
            steps_back -= 1;
            sequence.history.steps_back.push(StepBack { at: sequence.position, peak });
            let by = sequence.choices.step_back();
            sequence.choices.stepped_back(peak);
            sequence.clock -= by;
        } else if sequence.choices.percent(50) {
            sequence.clock = sequence.choices.next_time(sequence.clock);
        }
        peak = peak.max(sequence.clock);
        let asked = sequence.choices.request(sequence.clock);
        sequence.call(&asked);
    }
    sequence.clock = peak + ELEVEN_YEARS;
    let left = sequence.sweep_all();
    let mut violations = checker::check(&sequence.history, |_, _| false).err().unwrap_or_default();
    violations.extend(sequence.violations.into_iter().chain(left));
    Simulated { history: sequence.history, steps: Vec::new(), violations }
}

struct Sequence<'a> {
    choices: Choices,
    backend: &'a mut dyn Backend,
    clock: Micros,
    clocks: Clocks,
    position: Position,
    history: History,
    /// The violations that the history does not show.
    violations: Vec<Violation>,
}

/// The guest owns its database; this lends it a borrowed one.
struct Lent<'a>(&'a mut dyn Backend);

impl Sql for Lent<'_> {
    fn query(&mut self, statement: &'static Statement, parameters: Vec<Value>) -> Result<Vec<Row>, SqlError> {
        self.0.query(statement, parameters)
    }
}

impl Sequence<'_> {
    fn call(&mut self, asked: &Asked) -> Told {
        self.position += 1;
        let began = self.position;
        let read = match asked.request {
            Request::Get { key } => self.clocks.at_key(key, self.clock),
            _ => self.clock,
        };
        self.backend.set_clock(self.clock, read);
        let told = calls::call(Lent(self.backend), asked);
        self.position += 1;
        if let Some(ticket) = told.ticket {
            self.choices.learn(ticket, Between::exactly(self.clock), (began, self.position));
        }
        let first = self.history.calls.len();
        self.history.calls.extend(asked.requests().zip(&told.answers).map(|(request, &answer)| Call {
            node: 0,
            began,
            ended: self.position,
            settled: self.position,
            now: Between::exactly(self.clock),
            request,
            answer,
        }));
        self.violations.extend(Violation::of_get_many(first..self.history.calls.len(), told.discord));
        told
    }

    fn sweep_all(&mut self) -> Option<Violation> {
        let rows = self.backend.rows();
        let (mut removed, mut left) = (0, true);
        let sweep = Asked::new(Request::Sweep { limit: 2 });
        while let [Answer::Swept { removed: some, more }] = self.call(&sweep).answers[..] {
            removed += u64::from(some);
            left = more;
            if some == 0 || !more {
                break;
            }
        }
        Violation::of_sweeps(self.history.calls.len() - 1, rows, removed, self.backend.rows(), left)
    }
}
