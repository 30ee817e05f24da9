//! Where log lines go: into a buffer, from which one thread writes them.
//!
//! A line costs its writer a copy, never a system call that may block: standard error is often a pipe that somebody
//! reads slowly. What does not fit is dropped and counted, never waited for. After a write the thread rests a
//! little, so that many lines are one write and one wake-up.

use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use tracing_subscriber::fmt::MakeWriter;

/// Most bytes that wait to be written.
const CAPACITY: usize = 1 << 20;

/// Buffers above this size are given back after a burst, in bytes.
const KEEP: usize = 64 * 1024;

/// How long the thread rests after a write.
const REST: Duration = Duration::from_millis(5);

/// How long closing waits for the last lines.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    dropped: u64,
    /// The thread sleeps until there is something.
    idle: bool,
    closing: bool,
    closed: bool,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    /// For the thread: there are lines, or it is time to end.
    work: Condvar,
    /// For whoever closes: the thread has ended.
    done: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what waits, leaving `spare` in its place. `None` once all is written and nothing more comes.
    fn take(&self, spare: Vec<u8>) -> Option<(Vec<u8>, u64)> {
        let mut state = self.lock();
        while state.waiting.is_empty() && state.dropped == 0 {
            if state.closing {
                return None;
            }
            state.idle = true;
            state = self.work.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        state.idle = false;
        Some((std::mem::replace(&mut state.waiting, spare), std::mem::take(&mut state.dropped)))
    }

    fn rest(&self) {
        let state = self.lock();
        // Nobody wakes a thread that is not idle, unless to end it.
        let (state, _timeout) = self
            .work
            .wait_timeout_while(state, REST, |state| !state.closing)
            .unwrap_or_else(PoisonError::into_inner);
        drop(state);
    }
}

/// A handle on the buffer; every clone writes to the same.
#[derive(Debug, Clone)]
pub struct Sink {
    shared: Arc<Shared>,
}

impl Sink {
    /// Starts the thread that writes to `out`. With `json`, what it has to say itself is a JSON object too.
    pub fn start(out: impl Write + Send + 'static, json: bool) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        thread::Builder::new().name("log".to_owned()).spawn(move || drain(&theirs, out, json))?;
        Ok(Self { shared })
    }

    /// Takes a line, or drops and counts it.
    fn push(&self, line: &[u8]) {
        let mut state = self.shared.lock();
        if state.waiting.len() + line.len() > CAPACITY {
            state.dropped += 1;
            return;
        }
        state.waiting.extend_from_slice(line);
        let wake = std::mem::take(&mut state.idle);
        drop(state);
        if wake {
            self.shared.work.notify_one();
        }
    }

    /// Writes what is left and ends the thread; gives up after a second, since nobody may be reading.
    pub fn close(&self) {
        let deadline = Instant::now() + PATIENCE;
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.work.notify_one();
        while !state.closed {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            state = self.shared.done.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

fn drain(shared: &Shared, mut out: impl Write, json: bool) {
    let mut spare = Vec::new();
    while let Some((mut lines, dropped)) = shared.take(spare) {
        if dropped > 0 {
            let text = format!("{dropped} lines of the log were dropped: nobody reads them fast enough");
            let note = if json {
                format!("{{\"level\":\"WARN\",\"message\":\"{text}\"}}\n")
            } else {
                format!(" WARN {text}\n")
            };
            lines.extend_from_slice(note.as_bytes());
        }
        if out.write_all(&lines).and_then(|()| out.flush()).is_err() {
            // There is nowhere left to complain; later lines get their own chance.
        }
        lines.clear();
        lines.shrink_to(KEEP);
        spare = lines;
        shared.rest();
    }
    shared.lock().closed = true;
    shared.done.notify_all();
}

/// One line on its way into the buffer.
#[derive(Debug)]
pub struct Line<'s>(&'s Sink);

impl Write for Line<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // The formatter hands a line over in one piece, its end included.
        self.0.push(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'w> MakeWriter<'w> for Sink {
    type Writer = Line<'w>;

    fn make_writer(&'w self) -> Line<'w> {
        Line(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    /// Tells of each write, then waits until it may end.
    struct Gate(mpsc::Sender<Vec<u8>>, mpsc::Receiver<()>);

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            self.1.recv().map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stuck_reader_costs_lines_and_not_time() {
        let (told, tell) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let sink = Sink::start(Gate(told, gate), false).unwrap();
        sink.push(b"first\n");
        assert_eq!(tell.recv().unwrap(), b"first\n");
        let big = vec![b'x'; CAPACITY - 1];
        sink.push(&big);
        sink.push(b"no room\n");
        sink.push(b"none\n");
        open.send(()).unwrap();
        let next = tell.recv().unwrap();
        assert!(next.ends_with(b" WARN 2 lines of the log were dropped: nobody reads them fast enough\n"));
        drop(open);
        sink.close();
    }

    #[test]
    fn closing_writes_what_is_left() {
        let (told, tell) = mpsc::channel();
        let (open, gate) = mpsc::channel();
        let sink = Sink::start(Gate(told, gate), true).unwrap();
        sink.push(b"last\n");
        open.send(()).unwrap();
        sink.close();
        assert_eq!(tell.recv().unwrap(), b"last\n");
    }
}
