//! The process at the other end of a Unix socket.

/// Its user, by number: for the log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peer(pub(crate) u32);
