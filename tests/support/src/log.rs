//! What the library logs.

use std::io::{self, Write};
use std::sync::Arc;

use tracing_subscriber::fmt::format::FmtSpan;

/// What the library logs, as a program that uses it would see it.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<std::sync::Mutex<Vec<u8>>>);

impl Log {
    /// Collects everything that this thread logs, on which all tasks of a test run, for as long as the guard
    /// lives.
    pub fn listen(&self) -> impl Drop + use<> {
        self.listen_at(tracing::Level::TRACE)
    }

    /// The same, of what is at least as important.
    pub fn listen_at(&self, level: tracing::Level) -> impl Drop + use<> {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_max_level(level).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || log.clone()).finish())
    }

    /// Collects a line for each span that ends, with its fields and those that it is in, and what is logged
    /// within them.
    pub fn listen_to_spans(&self) -> impl Drop + use<> {
        let log = self.clone();
        let subscriber = tracing_subscriber::fmt().with_span_events(FmtSpan::CLOSE).with_ansi(false);
        tracing::subscriber::set_default(subscriber.with_writer(move || log.clone()).finish())
    }

    /// What was logged so far.
    pub fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl Write for Log {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
