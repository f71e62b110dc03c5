//! The WIT package as Rust, generated. The import is async: a guest that waits for the database gives its
//! thread back meanwhile.

wasmtime::component::bindgen!({
    path: "../wit",
    world: "cimd-cache",
    imports: { default: async },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: false },
});
