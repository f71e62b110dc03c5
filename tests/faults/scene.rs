//! What all fault tests share: a server, nodes under load, a fault, and the verdict on what was recorded.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cimd_cache_simulator::History;
use cimd_cache_simulator::checker::check;
use cimd_cache_simulator::history::{Answer, Call, CallFailure, Request};
use tokio::sync::{Mutex, MutexGuard};

use crate::load::{Callers, Load};
use crate::node::{CONNECTIONS, DEADLINE, Node, Way, node};
use crate::record::Record;
use crate::server::Server;
use crate::watch::{Backends, Stalls};

/// How long a call whose answer was lost may still take effect once the fault is over: what was sent is done
/// by then, or stopped by the server's own time limit.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// Within what the cache is back after the database is, and by how much a call may miss its deadline.
pub(crate) const BACK_WITHIN: Duration = Duration::from_secs(1);
const LATE_BY: Duration = Duration::from_millis(100);

/// The longest a call takes when all is well, on a busy machine.
const PROMPT: Duration = Duration::from_millis(300);

/// How the scene is set.
#[derive(Default)]
pub(crate) struct Setting<'a> {
    /// Further arguments of the server.
    pub(crate) arguments: &'a [&'a str],
    /// The directory that the server's data is in.
    pub(crate) parent: Option<&'a Path>,
    pub(crate) load: Load,
    pub(crate) way: Way,
}

/// A server and its nodes, for one scene after the other.
pub(crate) struct Stage {
    /// One scene at a time.
    pub(crate) turn: MutexGuard<'static, ()>,
    pub(crate) server: Server,
    pub(crate) nodes: Vec<Node>,
}

/// Nodes under load on a server that is about to fail.
pub(crate) struct Scene {
    name: &'static str,
    pub(crate) server: Server,
    pub(crate) record: Arc<Record>,
    pub(crate) nodes: Vec<Node>,
    callers: Option<Callers>,
    stalls: Stalls,
    backends: Backends,
    tasks_before: usize,
    memory_before: usize,
    faults: Vec<(Instant, Instant)>,
    turn: MutexGuard<'static, ()>,
}

/// What may happen while a fault is on.
pub(crate) struct Allowed<'a> {
    /// How calls may fail.
    pub(crate) failures: &'a [CallFailure],
    /// Whether gets may.
    pub(crate) gets: bool,
    /// How many more connections the server may count than there may be: those that only one side knows to be
    /// over.
    pub(crate) remaining_processes: usize,
    /// How soon after the fault no call may fail any more.
    pub(crate) back_within: Duration,
}

impl Allowed<'_> {
    /// Nobody may notice.
    pub(crate) const NOTHING: Self =
        Self { failures: &[], gets: false, remaining_processes: 0, back_within: BACK_WITHIN };
}

impl Default for Allowed<'_> {
    fn default() -> Self {
        Self {
            failures: &[CallFailure::Unavailable, CallFailure::TimedOut],
            gets: true,
            remaining_processes: 0,
            back_within: BACK_WITHIN,
        }
    }
}

impl Scene {
    /// Two nodes, straight on the server.
    pub(crate) async fn set(name: &'static str, setting: Setting<'_>) -> Self {
        let turn = turn().await;
        let server = Server::start(setting.arguments, setting.parent).await;
        let url = server.url("cimd_cache_app");
        let nodes = setting.way.nodes(vec![node(&url), node(&url)]).await;
        Self::play(name, Stage { turn, server, nodes }, setting.load).await
    }

    /// On a server and nodes that are there.
    pub(crate) async fn play(name: &'static str, stage: Stage, load: Load) -> Self {
        let Stage { turn, server, nodes } = stage;
        let record = Arc::new(Record::new());
        let (stalls, backends) = (Stalls::watch(), Backends::watch(server.url("postgres")));
        let callers = Callers::start(&record, &nodes, load);
        // Every connection has been used by then.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let (tasks_before, memory_before) = (tasks(), resident_bytes());
        let faults = Vec::new();
        Self {
            name,
            server,
            record,
            nodes,
            callers: Some(callers),
            stalls,
            backends,
            tasks_before,
            memory_before,
            faults,
            turn,
        }
    }

    /// The database fails, and takes connections again when `fault` returns.
    pub(crate) async fn fault(&mut self, fault: impl AsyncFnOnce(&mut Server)) {
        let began = Instant::now();
        fault(&mut self.server).await;
        self.faults.push((began, Instant::now()));
        // Until what was lost has settled, and for some time in which nothing may go wrong any more.
        tokio::time::sleep(SETTLED_AFTER + Duration::from_millis(1_500)).await;
    }

    /// As [`fault`](Self::fault), but the next one may come while the cache is still returning from it.
    pub(crate) async fn brief_fault(&mut self, fault: impl AsyncFnOnce(&mut Server)) {
        let began = Instant::now();
        fault(&mut self.server).await;
        self.faults.push((began, Instant::now()));
        tokio::time::sleep(Duration::from_millis(400)).await;
    }

    /// How many calls have failed so far.
    pub(crate) fn failed_so_far(&self) -> usize {
        self.record.count(|call| matches!(call.answer, Answer::Failed(_)))
    }

    /// Ends the load, and judges.
    pub(crate) async fn end(mut self, allowed: Allowed<'_>) -> Stage {
        // Callers are what the tasks of before had too.
        let tasks_after = tasks();
        let memory_after = resident_bytes();
        if let Some(callers) = self.callers.take() {
            callers.stop(&self.record, &self.nodes).await;
        }
        let mut calls = self.record.take();
        calls.sort_by_key(|call| call.began);
        let faults: Vec<_> =
            self.faults.iter().map(|&(from, to)| (self.record.at(from), self.record.at(to))).collect();
        settle(&mut calls, &faults);

        let recovery = self.recovery(&calls);
        let late = calls.iter().map(|call| self.lateness(call)).max().unwrap_or_default();
        let failed = calls.iter().filter(|call| matches!(call.answer, Answer::Failed(_))).count();
        let (count, most) = (calls.len(), self.backends.most());
        let longest = calls.iter().map(|call| call.ended - call.began).max().unwrap_or_default();
        let history = History { calls, ..History::default() };
        // Each fault, and the time in which the cache may come back, if the machine itself is not late.
        let troubled: Vec<_> = self
            .faults
            .iter()
            .map(|&(from, to)| {
                let back = to + allowed.back_within;
                (self.record.at(from), self.record.at(back + self.stalls.between(to, back)))
            })
            .collect();
        let permitted = |call: usize, failure: CallFailure| {
            let call = &history.calls[call];
            allowed.failures.contains(&failure)
                && (allowed.gets || !matches!(call.request, Request::Get { .. }))
                && troubled.iter().any(|&(from, back)| call.ended >= from && call.began <= back)
        };
        let violations = check(&history, permitted).err().unwrap_or_default();
        println!(
            "| {} | {count} | {failed} | {:.0} ms | {:.0} ms | {most} of {} | {} |",
            self.name,
            longest as f64 / 1e6,
            recovery.as_secs_f64() * 1e3,
            CONNECTIONS * self.nodes.len(),
            violations.len(),
        );
        if !violations.is_empty() {
            for violation in violations.iter().take(5) {
                println!("{violation}");
                for call in &violation.calls {
                    println!("    {}", history.calls[*call]);
                }
            }
            panic!("{}: {} wrong answers", self.name, violations.len());
        }
        assert!(late <= LATE_BY, "{}: a call ended {late:?} after its deadline", self.name);
        // That no call fails after a second has been judged; one that is merely slow may be so because the
        // server still is.
        assert!(recovery <= 2 * allowed.back_within, "{}: back after {recovery:?}", self.name);
        let connections = CONNECTIONS * self.nodes.len() + allowed.remaining_processes;
        assert!((1..=connections).contains(&most), "{}: {most} connections", self.name);
        for node in &self.nodes {
            // A worker hands out its answer before it looks for the next work.
            let at_rest = async {
                while (node.stats().waiting, node.stats().in_flight, node.stats().silent) != (0, 0, 0) {
                    tokio::task::yield_now().await;
                }
            };
            let at_rest = tokio::time::timeout(DEADLINE, at_rest).await;
            assert!(at_rest.is_ok(), "{}: calls left over: {:?}", self.name, node.stats());
        }
        // A worker that was not there before may be there now.
        let more = CONNECTIONS * self.nodes.len();
        assert!(
            tasks_after <= self.tasks_before + more,
            "{}: {} tasks, then {tasks_after}",
            self.name,
            self.tasks_before
        );
        let grown = memory_after.saturating_sub(self.memory_before);
        assert!(grown < 64 << 20, "{}: {grown} bytes more", self.name);
        Stage { turn: self.turn, server: self.server, nodes: self.nodes }
    }

    /// How long after the end of a fault calls that began after it still failed or were slow, less what the
    /// machine itself was late.
    fn recovery(&self, calls: &[Call]) -> Duration {
        let prompt = u64::try_from(PROMPT.as_nanos()).unwrap();
        // A sweep takes as long as there is to sweep, and they wait for each other.
        let is_slow =
            |call: &Call| call.ended - call.began > prompt && !matches!(call.request, Request::Sweep { .. });
        let troubled = |call: &&Call| matches!(call.answer, Answer::Failed(_)) || is_slow(call);
        let after = self.faults.iter().enumerate().filter_map(|(number, &(_, back))| {
            let next = self.faults.get(number + 1).map_or(u64::MAX, |(next, _)| self.record.at(*next));
            let from = self.record.at(back);
            // One that met the next fault says nothing about this one.
            let troubled = calls.iter().filter(troubled);
            let troubled = troubled.filter(|call| (from..next).contains(&call.began) && call.ended < next);
            let took = Duration::from_nanos(troubled.map(|call| call.ended).max()? - from);
            Some(took.saturating_sub(self.stalls.between(back, back + took)))
        });
        after.max().unwrap_or_default()
    }

    /// By how much a call missed its deadline, less what the machine itself was late.
    fn lateness(&self, call: &Call) -> Duration {
        let over = Duration::from_nanos(call.ended - call.began).saturating_sub(DEADLINE);
        if over.is_zero() {
            return over;
        }
        let ended = self.record.instant(call.ended);
        over.saturating_sub(self.stalls.between(self.record.instant(call.began), ended))
    }
}

/// A write whose answer was lost may take effect until some time after the fault.
fn settle(calls: &mut [Call], faults: &[(u64, u64)]) {
    let grace = u64::try_from(SETTLED_AFTER.as_nanos()).unwrap();
    for call in calls {
        let is_lost = matches!(call.answer, Answer::Failed(_) | Answer::Lost);
        if is_lost && !matches!(call.request, Request::Get { .. }) {
            let fault = faults.iter().find(|(from, to)| (*from..=*to).contains(&call.ended));
            call.settled = fault.map_or(call.ended, |(_, to)| *to) + grace;
            call.now.latest += i64::try_from((call.settled - call.ended) / 1_000).unwrap();
        }
    }
}

/// One scene at a time.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::const_new(());
    TURN.lock().await
}

fn tasks() -> usize {
    tokio::runtime::Handle::current().metrics().num_alive_tasks()
}

fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}
