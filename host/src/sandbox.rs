//! The sandbox: what an instance of the component may have, and how it is called.
//!
//! A fresh instance for every call costs nine tenths of the throughput, so a worker uses its instance again, but only after
//! a call that returned. Whatever else ends a call (a trap, its time) leaves a store that must not be entered again.

use std::time::Duration;

use rustix::io::Errno;
use tokio::time::Instant;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, OptLevel, Store, StoreLimits, StoreLimitsBuilder, UpdateDeadline};

use crate::bindings::{CimdCache, CimdCachePre};
use crate::loan::Loan;
use crate::sql;

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
/// takes next to nothing of the guest's memory. The largest result that it can have had from the database, and as much as
/// its texts take beside.
const COPIED_BYTES: usize = 3 << 20;

/// The most that a guest may have on its stack, in bytes, and the stack of the fiber it runs on, which the host's
/// side of an import shares.
const WASM_STACK_BYTES: usize = 256 << 10;
const FIBER_STACK_BYTES: usize = 1 << 20;

/// How often a guest that is calculating is made to look whether its deadline has passed.
const TICK: Duration = Duration::from_millis(10);

/// For how many ticks a guest may go on without a pause, and again once its time is up: thousands of times what an
/// answer takes.
const TICKS_TO_SPARE: u32 = 2;

/// What an instance has in its store.
pub(crate) struct State {
    /// The connection, for the length of a call.
    pub(crate) loan: Option<Loan>,
    /// When the call must be over, but for the waiting for the database that it began before.
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
pub(crate) struct Overtime;

/// A component that can be run.
pub(crate) struct Sandbox {
    pre: CimdCachePre<State>,
    calls_each: u32,
}

impl Sandbox {
    /// Compiles a component: tens of milliseconds of work for ours, so once in a program's life. An instance is used for so
    /// many calls.
    pub(crate) fn new(component: &[u8], calls_each: u32) -> wasmtime::Result<Self> {
        let engine = Engine::new(&config())?;
        let mut linker = Linker::new(&engine);
        sql::add_own_to_linker(&mut linker)?;
        let component = Component::new(&engine, component)?;
        check(&component)?;
        let cache = component.get_export_index(None, "cimd:cache/cache@0.1.0");
        wasmtime::ensure!(
            cache.is_none() || component.get_export_index(cache.as_ref(), "get-many").is_some(),
            "it has no get-many, as components had not before that was added: build it anew from this version"
        );
        let pre = CimdCachePre::new(linker.instantiate_pre(&component)?)?;
        tick(&engine)?;
        Ok(Self { pre, calls_each })
    }

    pub(crate) async fn instantiate(&self) -> wasmtime::Result<Instance> {
        let limits = StoreLimitsBuilder::new()
            .instances(CORE_INSTANCES)
            .memories(1)
            .memory_size(MEMORY_BYTES)
            .tables(TABLES)
            .table_elements(TABLE_ELEMENTS)
            .build();
        // What the component runs when it is instantiated has as long as any call that waits for nothing.
        let deadline = Instant::now() + TICK;
        let mut store =
            Store::new(self.pre.engine(), State { loan: None, deadline, limits, ticks: 0, overtime: 0 });
        store.limiter(|state| &mut state.limits);
        store.set_hostcall_fuel(COPIED_BYTES);
        store.epoch_deadline_callback(|mut store| store.data_mut().at_tick());
        store.set_epoch_deadline(1);
        let exports = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance { store, exports, calls_left: self.calls_each })
    }
}

/// One instance, entered by one call at a time.
pub(crate) struct Instance {
    store: Store<State>,
    exports: CimdCache,
    calls_left: u32,
}

impl Instance {
    /// Calls the guest, with a connection for as long as that takes. After an error it must not be called again.
    pub(crate) async fn call<R>(
        &mut self,
        loan: Loan,
        deadline: Instant,
        call: impl AsyncFnOnce(&CimdCache, &mut Store<State>) -> wasmtime::Result<R>,
    ) -> (wasmtime::Result<R>, Option<Loan>) {
        self.calls_left -= 1;
        let state = self.store.data_mut();
        state.loan = Some(loan);
        (state.deadline, state.ticks, state.overtime) = (deadline, 0, 0);
        self.store.set_epoch_deadline(1);
        let answer = call(&self.exports, &mut self.store).await;
        (answer, self.store.data_mut().loan.take())
    }

    /// Whether it may be called once more.
    pub(crate) fn is_reusable(&self) -> bool {
        self.calls_left > 0
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
