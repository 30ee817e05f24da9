//! What the suites stand on: real listeners, real processes, real S3 servers, and the ways in which
//! they fail. Everything listens on port 0 of the loopback interface, is bounded in time, and ends
//! with the value that stands for it.
//!
//! Nothing here knows what Larder promises; that is said in the suites.

pub(crate) mod backends;
pub(crate) mod balancer;
pub(crate) mod certs;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod process;
pub(crate) mod proxy;
pub(crate) mod python;
pub(crate) mod rpc;
pub(crate) mod tls;

use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

/// The longest that anything in a test is waited for: long enough for a loaded machine, short enough
/// to name what hangs.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Something that serves on a thread and a runtime of its own, so that a test which blocks, or has no
/// runtime, does not stop it. Ends, connections and all, when dropped.
#[derive(Debug)]
pub(crate) struct Background {
    stop: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Runs what `serve` gives until this is dropped. Whatever it has not ended by then is dropped.
    pub(crate) fn run<F, Fut>(serve: F) -> Self
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = ()>,
    {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .expect("a runtime for the background");
            runtime.block_on(async move { stopped.run_until_cancelled(serve()).await });
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// Says what is left out or put up with to whoever runs the tests: past what the harness keeps to itself where a test
/// passes.
pub(crate) fn aloud(text: &str) {
    use std::io::Write as _;
    // Where nobody listens there is nobody to tell.
    std::io::stderr().write_all(format!("\n*** {text} ***\n").as_bytes()).ok();
}

/// Any free port of the loopback interface.
pub(crate) fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

/// A variable that tells the test binary of its surroundings; an empty one is none.
#[expect(clippy::disallowed_methods, reason = "a test binary has no command line to be told by")]
pub(crate) fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
