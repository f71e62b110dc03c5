//! The component that this crate carries.

/// The component, as built from the guest: exports `cimd:cache/cache` and `cimd:cache/maintenance`, imports
/// `cimd:cache/sql` and nothing else.
pub const COMPONENT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/cimd-cache.component.wasm"));
