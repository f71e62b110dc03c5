//! The sandbox: what an instance of the component may have, and how it is called.
//!
//! A fresh instance for each call makes gets up to 3.5 times slower, so a worker reuses its instance, but
//! only after a call that returned. After anything else (a trap, a call that ran out of time) the store must
//! not be entered again.

mod answer;
mod component;
mod import;
mod state;

use rustix::io::Errno;
use tokio::time::Instant;
use wasmtime::component::{Component, Linker};
use wasmtime::{Config, Engine, OptLevel, StoreLimitsBuilder};

pub(crate) use self::answer::{checked, lookup, lookups, swept};
pub use self::component::COMPONENT;
pub(crate) use self::state::{Lent, Overtime};
use self::state::{State, TICK};
use crate::bindings::{CimdCache, CimdCachePre};

/// The most memory of one instance, in bytes: room for many copies of the largest document, and a bound on
/// what a fault in the guest could take.
const MEMORY_BYTES: usize = 4 << 20;

/// Unused address space around an instance's memory, in bytes. Nothing relies on it; it would stop an access
/// that a fault in the compiler let through.
const GUARD_BYTES: u64 = 64 << 10;

/// What a component may consist of: its module, the adapters around it, and their tables.
const CORE_INSTANCES: usize = 4;
const TABLES: usize = 2;
const TABLE_ELEMENTS: usize = 20_000;

/// The most bytes that the guest can make the host copy at once: a statement with its parameters, or an
/// answer. Both have closer limits, but those are checked after the copy, and a list that names one text many
/// times takes almost none of the guest's memory. Enough for the largest result from the database, plus the
/// overhead of its texts.
const COPIED_BYTES: usize = 3 << 20;

/// The most that a guest may have on its stack, in bytes, and the stack of the fiber it runs on, which the
/// host's side of an import shares.
const WASM_STACK_BYTES: usize = 256 << 10;
const FIBER_STACK_BYTES: usize = 1 << 20;

/// What a component is compiled to.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    /// Machine code of this machine, in memory that is made executable.
    Machine,
    /// The code of wasmtime's interpreter, Pulley, which needs no executable memory.
    #[cfg_attr(
        not(feature = "interpreter"),
        expect(dead_code, reason = "only a setting of the feature asks for it")
    )]
    Interpreter,
}

/// A component that can be run.
pub(crate) struct Sandbox<L: Lent> {
    pre: CimdCachePre<State<L>>,
    calls_each: u32,
}

impl<L: Lent> Sandbox<L> {
    /// Compiles a component, which takes tens of milliseconds for ours. Each instance serves at most
    /// `calls_each` calls.
    pub(crate) fn new(component: &[u8], target: Target, calls_each: u32) -> wasmtime::Result<Self> {
        let mut config = config();
        if let Target::Interpreter = target {
            config.target("pulley64")?;
        }
        let engine = Engine::new(&config)?;
        let mut linker = Linker::new(&engine);
        import::add_to_linker(&mut linker)?;
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

    pub(crate) async fn instantiate(&self) -> wasmtime::Result<Instance<L>> {
        let limits = StoreLimitsBuilder::new()
            .instances(CORE_INSTANCES)
            .memories(1)
            .memory_size(MEMORY_BYTES)
            .tables(TABLES)
            .table_elements(TABLE_ELEMENTS)
            .build();
        // Code that runs at instantiation gets as much time as a call that waits for nothing.
        let deadline = Instant::now() + TICK;
        let mut store = Store::new(self.pre.engine(), State::new(deadline, limits));
        store.limiter(State::limits);
        store.set_hostcall_fuel(COPIED_BYTES);
        store.epoch_deadline_callback(|mut store| store.data_mut().at_tick());
        store.set_epoch_deadline(1);
        let exports = self.pre.instantiate_async(&mut store).await?;
        Ok(Instance { store, exports, calls_left: self.calls_each })
    }
}

/// The store of an instance.
pub(crate) type Store<L> = wasmtime::Store<State<L>>;

/// One instance, entered by one call at a time.
pub(crate) struct Instance<L: Lent> {
    store: Store<L>,
    exports: CimdCache,
    calls_left: u32,
}

impl<L: Lent> Instance<L> {
    /// Calls the guest, and lends it a database for as long as that takes. After an error it must not be
    /// called again.
    pub(crate) async fn call<R>(
        &mut self,
        loan: L,
        deadline: Instant,
        call: impl AsyncFnOnce(&CimdCache, &mut Store<L>) -> wasmtime::Result<R>,
    ) -> (wasmtime::Result<R>, Option<L>) {
        self.calls_left -= 1;
        self.store.data_mut().begin(loan, deadline);
        self.store.set_epoch_deadline(1);
        let answer = call(&self.exports, &mut self.store).await;
        (answer, self.store.data_mut().end())
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
        // An instance reserves only as much address space as it may have memory: a process may have a limit,
        // and many caches. By default wasmtime reserves 4 GiB for each, which saves bounds checks. They cost
        // at most a tenth of a call, and a quarter of the guest's part of the largest put. wasmtime's pooling
        // allocator splits its reservation into more mappings than the kernel allows to a few pools of
        // 10,000.
        .memory_reservation(MEMORY_BYTES as u64)
        .memory_reservation_for_growth(0)
        .memory_may_move(false)
        .memory_guard_size(GUARD_BYTES)
        // The component was optimised when it was built. Doing it again saves 0.1 µs a call and makes each
        // start of the command a tenth longer.
        .cranelift_opt_level(OptLevel::None);
    config
}

/// Checks that an instance can get the memory and tables that it starts with; otherwise every call would
/// fail.
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

/// Whether the operating system had no memory, or no address space, to give. (What a guest is refused beyond
/// its limit is another error.)
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
