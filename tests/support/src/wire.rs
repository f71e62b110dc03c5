//! Counts on the way between a client and its server.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What clients have sent to a server, by the messages of its protocol.
#[derive(Debug, Default)]
pub struct Wire {
    prepared: AtomicUsize,
    round_trips: AtomicUsize,
}

/// What was counted so far.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Statements that were prepared.
    pub prepared: usize,
    /// How often a client waited for the server.
    pub round_trips: usize,
}

impl Wire {
    pub(crate) fn count(&self, message: u8) {
        match message {
            b'P' => self.prepared.fetch_add(1, Ordering::Relaxed),
            // Sync and Query: after these a client waits for the server to be ready again.
            b'S' | b'Q' => self.round_trips.fetch_add(1, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// The counts of now.
    pub fn seen(&self) -> Seen {
        Seen {
            prepared: self.prepared.load(Ordering::Relaxed),
            round_trips: self.round_trips.load(Ordering::Relaxed),
        }
    }
}
