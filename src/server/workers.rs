//! Threads that connections are dealt out to, each with a runtime of its own.
//!
//! A connection stays where it was put: nothing of a request crosses from thread to thread, and no thread wakes another
//! for it. Work that would hold up its neighbours goes to the blocking pool, as everywhere.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Most threads that wait for files, of all workers together.
const BLOCKING: usize = 512;

/// The threads. They end when this is dropped, with whatever is left on them.
#[derive(Debug)]
pub(super) struct Workers {
    all: Vec<Worker>,
    _stop: DropGuard,
}

#[derive(Debug)]
struct Worker {
    handle: Handle,
    connections: Arc<AtomicUsize>,
}

/// A connection's place on a worker, given back on drop.
#[derive(Debug)]
pub(super) struct Desk(Arc<AtomicUsize>);

impl Drop for Desk {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Workers {
    /// So many threads. With none, connections run on the caller's runtime.
    pub(super) fn start(count: usize) -> io::Result<Self> {
        let stop = CancellationToken::new();
        let all = (0..count).map(|number| Worker::start(number, BLOCKING.div_ceil(count), stop.clone()));
        let mut all = all.collect::<io::Result<Vec<_>>>()?;
        if all.is_empty() {
            all.push(Worker { handle: Handle::current(), connections: Arc::default() });
        }
        Ok(Self { all, _stop: stop.drop_guard() })
    }

    /// The worker that has the fewest connections.
    pub(super) fn place(&self) -> (&Handle, Desk) {
        let Some(worker) = self.all.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed))
        else {
            unreachable!("there is always a worker")
        };
        worker.connections.fetch_add(1, Ordering::Relaxed);
        (&worker.handle, Desk(Arc::clone(&worker.connections)))
    }
}

impl Worker {
    fn start(number: usize, blocking: usize, stop: CancellationToken) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(blocking).build()?;
        let handle = runtime.handle().clone();
        thread::Builder::new().name(format!("larder-{number}")).spawn(move || {
            runtime.block_on(stop.cancelled());
            // A read that hangs in the file system would never end.
            runtime.shutdown_background();
        })?;
        Ok(Self { handle, connections: Arc::default() })
    }
}
