//! The guest's instances: one call at a time each, kept for the next call.
//!
//! A fresh instance for every call costs nine tenths of the throughput, so an instance is used again, but only after
//! a call that returned. Whatever else ends a call (a trap, the deadline, a caller that gave up) leaves a store that
//! must not be entered again: the lease drops it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use rustix::io::Errno;
use tokio::time::Instant;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, OptLevel, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};

use crate::bindings::{CimdCache, CimdCachePre};
use crate::error::Error;
use crate::sql::{self, Sql};
use crate::throttle::Throttle;
use crate::turns::{Turn, Turns};

/// The component, as built from the guest.
pub(crate) const COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cimd-cache.component.wasm"));

/// The most memory of one instance, in bytes: room for many copies of the largest document, and a bound on what a
/// fault in the guest could take.
const MEMORY_BYTES: usize = 4 << 20;

/// How much address space an instance's memory has around it, in bytes. Nothing relies on it: it is there to stop what a
/// fault in the compiler could let through.
const GUARD_BYTES: u64 = 64 << 10;

/// What a component may consist of: its module, the adapters around it, and their tables.
const CORE_INSTANCES: usize = 4;
const TABLES: usize = 2;
const TABLE_ELEMENTS: usize = 20_000;

/// The most that the guest may have the host copy at once, in bytes: a statement with its parameters, or an answer.
/// Both are bounded more closely, but only when they are there to be looked at, and a list of one text many times over
/// takes next to nothing of the guest's memory. Twice the largest result that it can have had from the database.
const COPIED_BYTES: usize = 128 << 10;

/// The most that a guest may have on its stack, in bytes, and the stack of the fiber it runs on, which the host's
/// side of an import shares.
const WASM_STACK_BYTES: usize = 256 << 10;
const FIBER_STACK_BYTES: usize = 1 << 20;

/// How often a guest that is calculating is made to look whether its deadline has passed.
const TICK: Duration = Duration::from_millis(10);

/// For how many ticks a guest may go on without a pause, and again once its time is up: thousands of times what an
/// answer takes.
const TICKS_TO_SPARE: u32 = 2;

/// What a call may take over its deadline: the guest itself ends waiting at the deadline and answers with a typed
/// error.
pub(crate) const GRACE: Duration = Duration::from_millis(50);

/// What an instance has in its store.
pub(crate) struct State {
    sql: Sql,
    deadline: Instant,
    limits: StoreLimits,
    ticks: u32,
    overtime: u32,
}

impl State {
    /// What becomes of a guest that finds a tick has passed. The first ticks are for nothing: they passed while it waited
    /// for the database, and a task that yields for that moves to another thread, which costs more than the call. One
    /// that goes on calculating lets others have its thread at every further tick, until its time is up. Then too it has
    /// a few ticks, because what it is about to say is a typed error; after those it is stopped. No timer is needed for
    /// that: a guest that waits, waits for its import, which ends at the deadline.
    fn at_tick(&mut self) -> wasmtime::Result<UpdateDeadline> {
        if Instant::now() < self.deadline {
            self.ticks += 1;
            if self.ticks <= TICKS_TO_SPARE {
                return Ok(UpdateDeadline::Continue(1));
            }
            // tokio's own pause: after wasmtime's, a runtime of one thread would look for what has arrived for the
            // others only at every 61st tick.
            return Ok(UpdateDeadline::YieldCustom(1, Box::pin(tokio::task::yield_now())));
        }
        self.overtime += 1;
        if self.overtime > TICKS_TO_SPARE { Err(Overtime.into()) } else { Ok(UpdateDeadline::Continue(1)) }
    }
}

/// A guest that went on after its deadline.
#[derive(Debug, thiserror::Error)]
#[error("the guest did not answer by the deadline")]
struct Overtime;

/// One instance, entered by one call at a time.
struct Instance {
    store: Store<State>,
    exports: CimdCache,
    calls: u32,
}

/// How many instances there may be, and for how many calls each is kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) most: usize,
    pub(crate) calls_each: u32,
}

/// How many there are and were.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count {
    pub(crate) existing: usize,
    pub(crate) in_use: usize,
    /// Because a call on them did not return.
    pub(crate) discarded: u64,
    /// Calls that got none.
    pub(crate) shed: u64,
}

/// All instances, those in use counted and the others kept.
pub(crate) struct Instances {
    pre: CimdCachePre<State>,
    sql: Sql,
    idle: Mutex<Vec<Instance>>,
    turns: Turns,
    limits: Limits,
    discarded: AtomicU64,
    told: Throttle,
}

impl Instances {
    /// Compiles a component: tens of milliseconds of work for ours, so once in a program's life.
    pub(crate) fn new(sql: Sql, limits: Limits, component: &[u8]) -> wasmtime::Result<Self> {
        let engine = Engine::new(&config())?;
        let mut linker = Linker::new(&engine);
        sql::add_to_linker(&mut linker, |state: &mut State| state.sql.view_until(state.deadline))?;
        let component = Component::new(&engine, component)?;
        check(&component)?;
        let pre = CimdCachePre::new(linker.instantiate_pre(&component)?)?;
        tick(&engine)?;
        Ok(Self {
            pre,
            sql,
            idle: Mutex::default(),
            turns: Turns::new(limits.most),
            limits,
            discarded: AtomicU64::new(0),
            told: Throttle::new(),
        })
    }

    /// What there is and was.
    pub(crate) fn count(&self) -> Count {
        let in_use = self.turns.taken();
        Count {
            existing: self.idle.lock().len() + in_use,
            in_use,
            discarded: self.discarded.load(Ordering::Relaxed),
            shed: self.turns.shed(),
        }
    }

    /// Calls the guest with an instance of its own, and is done at `deadline`.
    ///
    /// The outer result is the host's: there was no instance in time, or the guest failed to answer.
    pub(crate) async fn call<R>(
        &self,
        deadline: Instant,
        call: impl AsyncFnOnce(&CimdCache, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> Result<R, Error> {
        let turn = self.turns.take(deadline).await.ok_or(Error::Unavailable)?;
        let answer = async {
            let mut lease = self.lease(turn, deadline).await?;
            let instance = lease.instance();
            let answer =
                call(&instance.exports, &mut instance.store).await.inspect_err(|_| lease.failed = true)?;
            lease.give_back();
            Ok(answer)
        };
        answer.await.map_err(|error: wasmtime::Error| {
            let no_memory = is_out_of_memory(&error);
            if let Some(held_back) = self.told.pass() {
                let error = format!("{error:#}");
                if no_memory {
                    tracing::error!(
                        error,
                        held_back,
                        "there is no memory for another instance: raise this process's limit, or lower max_in_flight"
                    );
                } else {
                    tracing::error!(error, held_back, "the component failed; its instance is discarded");
                }
            }
            match error {
                _ if no_memory => Error::Unavailable,
                error if error.is::<Overtime>() => Error::TimedOut,
                _ => Error::Storage,
            }
        })
    }

    async fn lease<'a>(&'a self, turn: Turn<'a>, deadline: Instant) -> wasmtime::Result<Lease<'a>> {
        let idle = self.idle.lock().pop();
        let mut instance = match idle {
            Some(instance) => instance,
            None => self.instantiate(deadline).await?,
        };
        instance.calls += 1;
        let state = instance.store.data_mut();
        (state.deadline, state.ticks, state.overtime) = (deadline, 0, 0);
        instance.store.set_epoch_deadline(1);
        Ok(Lease { instance: Some(instance), failed: false, instances: self, _turn: turn })
    }

    async fn instantiate(&self, deadline: Instant) -> wasmtime::Result<Instance> {
        let limits = StoreLimitsBuilder::new()
            .instances(CORE_INSTANCES)
            .memories(1)
            .memory_size(MEMORY_BYTES)
            .tables(TABLES)
            .table_elements(TABLE_ELEMENTS)
            .build();
        let mut store = Store::new(
            self.pre.engine(),
            State { sql: self.sql.clone(), deadline, limits, ticks: 0, overtime: 0 },
        );
        store.limiter(|state| &mut state.limits);
        store.set_hostcall_fuel(COPIED_BYTES);
        store.epoch_deadline_callback(|mut store| store.data_mut().at_tick());
        store.set_epoch_deadline(1);
        let exports = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance { store, exports, calls: 0 })
    }
}

/// An instance for the length of a call. Dropped without [`Lease::give_back`] it takes the instance along.
struct Lease<'a> {
    instance: Option<Instance>,
    failed: bool,
    instances: &'a Instances,
    _turn: Turn<'a>,
}

impl Lease<'_> {
    fn instance(&mut self) -> &mut Instance {
        self.instance.as_mut().expect("it is taken only when the lease ends")
    }

    fn give_back(mut self) {
        if let Some(instance) = self.instance.take()
            && instance.calls < self.instances.limits.calls_each
        {
            self.instances.idle.lock().push(instance);
        }
    }
}

impl Drop for Lease<'_> {
    fn drop(&mut self) {
        if self.instance.is_some() {
            self.instances.discarded.fetch_add(1, Ordering::Relaxed);
            if !self.failed {
                tracing::debug!("a caller gave up half-way; the instance of its call is discarded");
            }
        }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .epoch_interruption(true)
        .max_wasm_stack(WASM_STACK_BYTES)
        .async_stack_size(FIBER_STACK_BYTES)
        // An instance takes as much address space as it may have memory, and none before it is needed: a process may have a
        // limit, and many caches. As it comes, wasmtime reserves 4 GiB for each, which saves checks of bounds that take
        // a tenth of a call at most, and a quarter of the guest's part of the largest put; and its pool of instances divides what it reserves into more mappings than the
        // kernel allows to a few pools of 10,000.
        .memory_reservation(MEMORY_BYTES as u64)
        .memory_reservation_for_growth(0)
        .memory_may_move(false)
        .memory_guard_size(GUARD_BYTES)
        // The component has been optimised when it was built. To do so again saves 0.1 µs a call and makes each start of
        // the command a tenth longer.
        .cranelift_opt_level(OptLevel::None);
    config
}

/// Whether an instance of the component will get what it begins with; else each call would find out anew.
fn check(component: &Component) -> wasmtime::Result<()> {
    let required = component.resources_required();
    let fits = required.is_some_and(|required| {
        required.num_memories <= 1
            && required.max_initial_memory_size.is_none_or(|bytes| bytes <= MEMORY_BYTES as u64)
            && required.num_tables <= TABLES as u32
            && required.max_initial_table_size.is_none_or(|elements| elements <= TABLE_ELEMENTS as u64)
    });
    wasmtime::ensure!(fits, "it begins with more memory or tables than an instance may have");
    Ok(())
}

/// Whether the operating system had no memory, or no address space, to give. (What a guest is refused beyond its limit is
/// another error.)
pub(crate) fn is_out_of_memory(error: &wasmtime::Error) -> bool {
    is_of_the_system(error, Errno::NOMEM)
}

/// Whether the operating system lets no memory of this process become executable.
pub(crate) fn is_denied(error: &wasmtime::Error) -> bool {
    is_of_the_system(error, Errno::ACCESS) || is_of_the_system(error, Errno::PERM)
}

fn is_of_the_system(error: &wasmtime::Error, errno: Errno) -> bool {
    error.chain().any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error);
        cause.downcast_ref() == Some(&errno) || io == Some(errno.raw_os_error())
    })
}

/// Advances the engine's epoch for as long as the engine lives.
fn tick(engine: &Engine) -> wasmtime::Result<()> {
    let engine = engine.weak();
    std::thread::Builder::new().name("cimd-cache-epoch".to_owned()).spawn(move || {
        while let Some(engine) = engine.upgrade() {
            engine.increment_epoch();
            drop(engine);
            std::thread::sleep(TICK);
        }
    })?;
    Ok(())
}
