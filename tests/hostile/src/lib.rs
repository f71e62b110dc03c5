//! A component that breaks every rule it can, for the tests of the sandbox. `guest.rs` says what it can be
//! told to do. It has the same world as the real one, and `build.rs` makes it.

#[cfg(target_arch = "wasm32")]
mod guest;

/// The component.
#[cfg(not(target_arch = "wasm32"))]
pub const COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/hostile.component.wasm"));
