//! Sockets: binds, accepts, shakes hands, and drives HTTP/1.1 and HTTP/2 for a router, under limits, until the drain.
//!
//! Never knows what is served: no store, no status code of its own, no protocol beyond HTTP's framing.

mod activity;
mod connection;
mod drain;
mod handshake;
mod io;
mod service;
pub mod tls;
mod workers;

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tracing::{debug, warn};

use self::activity::{LONGEST, Order};
use self::connection::Hub;
pub use self::drain::{Drain, Drained, Signals};
use self::tls::Tls;
use self::workers::Workers;
use crate::metrics::Metrics;

/// Connections that the kernel completes before we accept them.
const BACKLOG: i32 = 1024;
/// How long to wait before accepting again when the process has no descriptors left.
const OUT_OF_DESCRIPTORS: Duration = Duration::from_millis(100);
/// How often, at the limit, another idle connection is looked for.
const FULL: Duration = Duration::from_millis(100);
/// A complaint that repeats is logged no more often than this.
const QUIET: Duration = Duration::from_secs(60);
/// After the drain's time is over: how long the tasks that were told to stop may take to do so.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What a peer may take of us, and what serves it. Every time-out closes one connection or one stream, never the server.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once. One more is accepted and waits; the connection idle longest is closed for it. 4096.
    pub max_connections: usize,
    /// From the first byte of a request (or the opening of the connection) to the end of its head. 30 s.
    pub header_timeout: Duration,
    /// How long a connection without a request stays open. A load balancer in front should give up first
    /// (theirs is 60 to 75 s), or it sends requests into a closing connection. 120 s.
    pub idle_timeout: Duration,
    /// How long a peer may take no byte of an answer that is ready for it. 30 s.
    pub write_timeout: Duration,
    /// How long an awaited request body may bring no byte; then it ends in
    /// [`BodyError::Stalled`](crate::payload::BodyError::Stalled). 30 s.
    pub body_timeout: Duration,
    /// How long requests under way may take to end once the drain began. 25 s.
    pub drain_timeout: Duration,
    /// Age at which a connection is asked to end, so that load spreads over new instances; requests under way
    /// end first. `None`: never. 30 min.
    pub max_age: Option<Duration>,
    /// The share of `max_age` by which it varies either way, lest all connections come back at once. 0.1.
    pub max_age_jitter: f64,
    /// Threads that connections are dealt out to, each with a runtime of its own; 0: all run on the caller's. 0.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 4096,
            header_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(120),
            write_timeout: Duration::from_secs(30),
            body_timeout: Duration::from_secs(30),
            drain_timeout: Duration::from_secs(25),
            max_age: Some(Duration::from_secs(30 * 60)),
            max_age_jitter: 0.1,
            workers: 0,
        }
    }
}

impl Limits {
    /// The age at which one connection is asked to end.
    fn age(&self) -> Option<Duration> {
        let spread = self.max_age_jitter.clamp(0.0, 1.0) * (2.0 * fastrand::f64() - 1.0);
        self.max_age.map(|age| age.min(LONGEST).mul_f64(1.0 + spread))
    }
}

/// A bound port. Several may run side by side under one [`Drain`], each with limits of its own.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    addr: SocketAddr,
    limits: Limits,
    workers: Workers,
    metrics: Metrics,
    tls: Option<Tls>,
}

impl Server {
    /// Binds, and has the kernel queue connections until [`run`](Self::run).
    ///
    /// # Errors
    /// What the operating system says: the address is taken, is not ours, or needs a privilege; or it gives no thread.
    pub async fn bind(addr: SocketAddr, limits: Limits, metrics: Metrics) -> std::io::Result<Self> {
        let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&addr.into())?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        let addr = listener.local_addr()?;
        let workers = Workers::start(limits.workers)?;
        Ok(Self { listener, addr, limits, workers, metrics, tls: None })
    }

    /// From here on every connection has to begin with a handshake.
    #[must_use]
    pub fn with_tls(mut self, tls: Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Where it listens: the port that the system chose, if it was asked to.
    pub fn local_addr(&self) -> SocketAddr {
        self.addr
    }

    /// Serves until the drain begins, then lets go: the port is closed at once, idle connections end, requests
    /// under way have `drain_timeout` to end, what is left is cut.
    ///
    /// Each request carries the peer as an [`axum::extract::ConnectInfo`] of its socket address, and the peer's
    /// [`Certificate`](crate::peer::Certificate) where it showed one.
    pub async fn run(self, router: Router, drain: Drain) -> Drained {
        let Self { listener, limits, workers, metrics, tls, .. } = self;
        let hub = Arc::new(Hub::new(router, limits, metrics, tls));
        let mut gate = Gate::new(hub.limits.max_connections);
        tokio::select! {
            biased;
            () = drain.begun() => {}
            () = gate.accept(&listener, &hub, &workers) => {}
        }
        drop(listener);
        finish(&hub).await
    }
}

/// Lets the connections end, and ends those that do not.
async fn finish(hub: &Hub) -> Drained {
    hub.tasks.close();
    hub.connections.order(Order::Finish);
    if tokio::time::timeout(hub.limits.drain_timeout, hub.tasks.wait()).await.is_ok() {
        return Drained { cut: 0 };
    }
    let cut = hub.connections.requests();
    warn!(requests = cut, "the drain's time is over: what is left is cut");
    hub.connections.order(Order::Cut);
    if tokio::time::timeout(LAST_CALL, hub.tasks.wait()).await.is_err() {
        warn!(tasks = hub.tasks.len(), "some connections did not stop");
    }
    Drained { cut }
}

/// The way in: who may, and what was complained of.
struct Gate {
    permits: Arc<Semaphore>,
    full: Seldom,
    failed: Seldom,
}

impl Gate {
    fn new(connections: usize) -> Self {
        let permits = Arc::new(Semaphore::new(connections.clamp(1, Semaphore::MAX_PERMITS)));
        Self { permits, full: Seldom(None), failed: Seldom(None) }
    }

    /// Accepts for ever: no error of one connection, nor of all of them, ends the loop.
    async fn accept(&mut self, listener: &TcpListener, hub: &Arc<Hub>, workers: &Workers) {
        loop {
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let permit = self.admit(hub).await;
                    tune(&stream);
                    if let Err(error) = hub.open(stream, peer, permit, workers.place()) {
                        debug!(%error, "a connection could not be handed on");
                    }
                }
                Err(error) if is_of_the_peer(&error) => {
                    debug!(%error, "a connection broke before it was accepted")
                }
                Err(error) => {
                    if self.failed.now() {
                        warn!(%error, "cannot accept connections; trying again");
                    }
                    hub.connections.yield_one();
                    tokio::time::sleep(OUT_OF_DESCRIPTORS).await;
                }
            }
        }
    }

    /// A place for one more: at once, or once another has left.
    async fn admit(&mut self, hub: &Hub) -> Option<OwnedSemaphorePermit> {
        if let Ok(permit) = Arc::clone(&self.permits).try_acquire_owned() {
            return Some(permit);
        }
        if self.full.now() {
            let limit = hub.limits.max_connections;
            warn!(limit, "all connections are taken: new ones wait, idle ones are closed");
        }
        let mut place = pin!(Arc::clone(&self.permits).acquire_owned());
        loop {
            hub.connections.yield_one();
            if let Ok(permit) = tokio::time::timeout(FULL, &mut place).await {
                return permit.ok();
            }
        }
    }
}

/// Whether an error of `accept` speaks of one connection only (accept(2)).
fn is_of_the_peer(error: &std::io::Error) -> bool {
    use std::io::ErrorKind;
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::Interrupted
    )
}

/// Small answers leave at once, and peers that vanished are noticed.
fn tune(stream: &TcpStream) {
    let alive = TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15));
    let tuned = stream.set_nodelay(true).and_then(|()| SockRef::from(stream).set_tcp_keepalive(&alive));
    if let Err(error) = tuned {
        debug!(%error, "socket options not set");
    }
}

/// When something was last said.
struct Seldom(Option<Instant>);

impl Seldom {
    /// Whether it may be said again, which is then noted.
    fn now(&mut self) -> bool {
        let now = Instant::now();
        let due = self.0.is_none_or(|last| now.duration_since(last) >= QUIET);
        if due {
            self.0 = Some(now);
        }
        due
    }
}
