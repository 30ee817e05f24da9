//! The end of the process, in order: who is told, who asks, and what came of it.
//!
//! Never exits the process itself.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::info;

/// Whether we are leaving. Clones are the same switch; it goes one way only.
#[derive(Debug, Clone, Default)]
pub struct Drain(CancellationToken);

impl Drain {
    /// A switch that is not thrown yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// From now on no new work is taken. Again: no effect.
    pub fn begin(&self) {
        self.0.cancel();
    }

    /// Whether [`begin`](Self::begin) was called. Readiness probes are told no from then on.
    pub fn is_draining(&self) -> bool {
        self.0.is_cancelled()
    }

    /// Waits for [`begin`](Self::begin).
    pub async fn begun(&self) {
        self.0.cancelled().await;
    }
}

/// How a drain ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Requests that did not end within `drain_timeout` and were cut.
    pub cut: usize,
}

impl Drained {
    /// Whether every request ended by itself.
    pub fn in_time(self) -> bool {
        self.cut == 0
    }
}

/// SIGTERM and SIGINT, taken over from their default, which is to die at once.
#[derive(Debug)]
pub struct Signals {
    term: Signal,
    int: Signal,
}

impl Signals {
    /// Takes both signals over. From here on [`drive`](Self::drive) has to run for them to have any effect.
    ///
    /// # Errors
    /// Where the operating system does not let us.
    pub fn install() -> io::Result<Self> {
        Ok(Self { term: signal(SignalKind::terminate())?, int: signal(SignalKind::interrupt())? })
    }

    /// Begins the drain at the first signal. Resolves at the second one, with the exit code to leave with at once
    /// (128 and the signal's number, as shells have it).
    pub async fn drive(mut self, drain: Drain) -> i32 {
        let first = self.next().await;
        info!(signal = first, "draining; a second signal ends at once");
        drain.begin();
        128 + self.next().await
    }

    /// The number of the next signal.
    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.term.recv() => SignalKind::terminate().as_raw_value(),
            _ = self.int.recv() => SignalKind::interrupt().as_raw_value(),
        }
    }
}
