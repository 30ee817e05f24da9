//! One connection, from its first byte to its end: finds the version, lets hyper speak it, and watches the clock.
//!
//! Over any byte stream: an encrypted one whose version was settled by ALPN is not searched for it. Never decides what
//! is answered.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout_at};
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::Limits;
use super::activity::{Activity, Connections, Due, Order, Turn, millis};
use super::handshake::{Secured, shake};
use super::io::{Version, Wire};
use super::service::Service;
use super::tls::Tls;
use super::workers::Desk;
use crate::metrics::Metrics;
use crate::peer::Certificate;

/// Most headers of a request.
const HEADERS: usize = 64;
/// HTTP/1: most bytes of a head, and of an answer held for the peer. With 1 300 connections at worst 160 MiB.
const BUFFER: usize = 64 << 10;
/// HTTP/2: bytes a stream may send unread. Full speed of a 10 Gbit/s line at 0.8 ms, or 400 Mbit/s at 20 ms.
const STREAM_WINDOW: u32 = 1 << 20;
/// HTTP/2: bytes all streams of a connection may send unread: what one peer can make us hold.
const CONNECTION_WINDOW: u32 = 2 << 20;
/// HTTP/2: streams of a connection.
const STREAMS: u32 = 256;
/// HTTP/2: bytes of an answer held for a stream that does not take them.
const SEND_BUFFER: usize = 128 << 10;
/// HTTP/2: most bytes of a head, as RFC 9113 counts them.
const HEADER_LIST: u32 = 16 << 10;
/// HTTP/2: streams reset by the peer before we saw them (CVE-2023-44487); more end the connection.
const EARLY_RESETS: usize = 20;
/// HTTP/2: streams reset by us for the peer's mistakes; more end the connection.
const OWN_RESETS: usize = 256;
/// HTTP/2: between pings, and how long their answer may take.
const PING: Duration = Duration::from_secs(30);
/// A timer that waits for nothing looks again after this.
const FAR: u64 = 3_600_000;

/// What all connections of a server share.
pub(super) struct Hub {
    pub(super) limits: Limits,
    pub(super) connections: Connections,
    pub(super) tasks: TaskTracker,
    metrics: Metrics,
    router: Router,
    one: http1::Builder,
    tls: Option<Tls>,
}

/// Who is at the other end.
#[derive(Debug, Clone)]
struct Peer {
    addr: SocketAddr,
    certificate: Option<Certificate>,
}

impl Hub {
    pub(super) fn new(router: Router, limits: Limits, metrics: Metrics, tls: Option<Tls>) -> Self {
        let mut one = http1::Builder::new();
        // hyper's own header time-out counts idle time as well and costs each request a timer: ours does neither.
        // A peer that closes its half has left, and its request is dropped: that is how cancellation comes.
        one.header_read_timeout(None).max_headers(HEADERS).max_buf_size(BUFFER).half_close(false);
        let router = router.with_state(());
        let (connections, tasks) = (Connections::default(), TaskTracker::new());
        Self { limits, connections, tasks, metrics, router, one, tls }
    }

    /// Serves a connection in a task of its own, on the worker whose it is; permit and desk are held until it has ended.
    pub(super) fn open(
        self: &Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        permit: Option<OwnedSemaphorePermit>,
        (worker, desk): (&Handle, Desk),
    ) -> io::Result<()> {
        let activity = Arc::new(Activity::new());
        let entry = Entry::new(Arc::clone(self), &activity, permit, desk);
        // Another runtime's events are not seen on the worker's: it takes the bare socket.
        let stream = stream.into_std()?;
        let serving = async move {
            match TcpStream::from_std(stream) {
                Ok(stream) => entry.hub.greet(stream, peer, &activity).await,
                Err(error) => debug!(%error, "a connection could not be taken over"),
            }
        };
        self.tasks.spawn_on(serving, worker);
        Ok(())
    }

    /// Serves a plain stream as it is, and the other kind once it is encrypted.
    async fn greet(&self, stream: TcpStream, addr: SocketAddr, activity: &Arc<Activity>) {
        let deadline = activity.moment(millis(self.limits.header_timeout));
        match &self.tls {
            None => {
                let mut wire = Wire::new(stream, Arc::clone(activity));
                let Some(version) = wire.version(deadline).await else { return };
                self.serve(wire, version, Peer { addr, certificate: None }, activity).await;
            }
            // Aside, so that plain connections are not as large as encrypted ones.
            Some(tls) => {
                let shaking = shake(tls, stream, addr, activity, deadline, &self.metrics);
                Box::pin(self.secure(shaking, addr, activity, deadline)).await;
            }
        }
    }

    async fn secure(
        &self,
        shaking: impl Future<Output = Option<Secured>>,
        addr: SocketAddr,
        activity: &Arc<Activity>,
        deadline: Instant,
    ) {
        let Some(Secured { stream, version, certificate }) = shaking.await else { return };
        let mut wire = Wire::new(stream, Arc::clone(activity));
        let version = match version {
            Some(version) => Some(version),
            None => wire.version(deadline).await,
        };
        match version {
            Some(version) => self.serve(wire, version, Peer { addr, certificate }, activity).await,
            // Without a goodbye the peer would have to take this for an attack.
            None => drop(timeout_at(deadline, wire.shutdown()).await),
        }
    }

    async fn serve<S>(&self, wire: Wire<S>, version: Version, peer: Peer, activity: &Arc<Activity>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let addr = peer.addr;
        let ended = match version {
            Version::One => self.serve_one(wire, peer, activity).await,
            Version::Two => self.serve_two(wire, peer, activity).await,
        };
        if let End::Cut = ended {
            debug!(peer = %addr, "connection cut: out of time");
        }
    }

    async fn serve_one<S>(&self, wire: Wire<S>, peer: Peer, activity: &Arc<Activity>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = self.one.serve_connection(TokioIo::new(wire), self.service(peer, activity));
        self.drive(Box::pin(connection).as_mut(), |it| it.graceful_shutdown(), activity).await
    }

    async fn serve_two<S>(&self, wire: Wire<S>, peer: Peer, activity: &Arc<Activity>) -> End
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        activity.multiplex();
        let timeout = self.limits.write_timeout;
        let streams = Streams { tasks: self.tasks.clone(), activity: Arc::clone(activity), timeout };
        let mut two = http2::Builder::new(streams);
        two.timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS)
            .max_send_buf_size(SEND_BUFFER)
            .max_header_list_size(HEADER_LIST)
            .max_pending_accept_reset_streams(EARLY_RESETS)
            .max_local_error_reset_streams(OWN_RESETS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING);
        let connection = two.serve_connection(TokioIo::new(wire), self.service(peer, activity));
        self.drive(Box::pin(connection).as_mut(), |it| it.graceful_shutdown(), activity).await
    }

    fn service(&self, peer: Peer, activity: &Arc<Activity>) -> Service {
        let Peer { addr: peer, certificate } = peer;
        let (router, activity) = (self.router.clone(), Arc::clone(activity));
        let (encrypted, body_timeout) = (self.tls.is_some(), self.limits.body_timeout);
        Service { router, peer, certificate, encrypted, activity, body_timeout }
    }

    /// Polls a connection to its end, or to the end of our patience.
    async fn drive<C, E>(
        &self,
        mut connection: Pin<&mut C>,
        finish: impl Fn(Pin<&mut C>),
        activity: &Activity,
    ) -> End
    where
        C: Future<Output = Result<(), E>>,
        E: fmt::Display,
    {
        let age = self.limits.age().map_or(u64::MAX, millis);
        let mut watch = Watch { timer: pin!(sleep_until(activity.moment(FAR))), armed: FAR };
        let mut closing = None;
        poll_fn(|cx| {
            activity.listen(cx.waker());
            loop {
                let order = activity.order();
                if order == Order::Cut {
                    return Poll::Ready(End::Cut);
                }
                if order == Order::Finish && closing.is_none() {
                    closing = Some(activity.now());
                    finish(connection.as_mut());
                }
                if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                    if let Err(error) = result {
                        debug!(%error, "connection ended early");
                    }
                    return Poll::Ready(End::Done);
                }
                let due = activity.due(&self.limits, closing, age);
                activity.tell(ready!(watch.poll(cx, activity, due)));
            }
        })
        .await
    }
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hub").field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// By itself, or by the peer.
    Done,
    /// By the clock, or by the drain.
    Cut,
}

/// The one timer of a connection. It is set earlier when something is due earlier, and otherwise left to ring in
/// vain and be set anew: a busy connection moves it once in a while, not once a request.
struct Watch<'a> {
    timer: Pin<&'a mut Sleep>,
    armed: u64,
}

impl Watch<'_> {
    /// What is due, once it is.
    fn poll(&mut self, cx: &mut Context<'_>, activity: &Activity, due: Due) -> Poll<Order> {
        if due.at < self.armed {
            self.arm(activity, due.at);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let now = activity.now();
            if due.at <= now {
                return Poll::Ready(due.what);
            }
            self.arm(activity, due.at.min(now + FAR));
        }
    }

    fn arm(&mut self, activity: &Activity, at: u64) {
        self.armed = at;
        self.timer.as_mut().reset(activity.moment(at));
    }
}

/// Runs the streams of an HTTP/2 connection, and ends the one whose peer takes nothing of its answer: the socket
/// does not tell, while other streams move.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    activity: Arc<Activity>,
    timeout: Duration,
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        // hyper calls the service, and then hands its future over here, before it takes the next request.
        match self.activity.take_turn() {
            Some(turn) => self.tasks.spawn(watched(stream, turn, Arc::clone(&self.activity), self.timeout)),
            None => self.tasks.spawn(stream),
        };
    }
}

/// A stream, dropped (which resets it) when it has been the peer's turn for too long.
async fn watched(
    stream: impl Future<Output = ()>,
    turn: Arc<Turn>,
    activity: Arc<Activity>,
    timeout: Duration,
) {
    let mut stream = pin!(stream);
    let mut timer = pin!(sleep(timeout));
    poll_fn(|cx| {
        if stream.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            let now = activity.now();
            let ends = turn
                .of_peer_since()
                .map_or(now.saturating_add(millis(timeout)), |since| since + millis(timeout));
            if ends <= now {
                return Poll::Ready(());
            }
            timer.as_mut().reset(activity.moment(ends));
        }
    })
    .await;
}

/// An open connection's place in the books, given back however it ends.
struct Entry {
    hub: Arc<Hub>,
    number: u64,
    _permit: Option<OwnedSemaphorePermit>,
    _desk: Desk,
}

impl Entry {
    fn new(
        hub: Arc<Hub>,
        activity: &Arc<Activity>,
        permit: Option<OwnedSemaphorePermit>,
        desk: Desk,
    ) -> Self {
        hub.metrics.connections.inc();
        let number = hub.connections.add(Arc::clone(activity));
        Self { hub, number, _permit: permit, _desk: desk }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.hub.connections.remove(self.number);
        self.hub.metrics.connections.dec();
    }
}
