//! A store that fails on demand: an HTTP/1.1 proxy between Larder and a real S3 server. It counts the
//! requests, passes them on byte for byte (`Host` and signature among them, so the server checks the
//! one against the other as ever), and strikes where it is told to.
//!
//! It repeats nothing, caches nothing, and never makes a failure better than it was: where the server
//! cannot be reached or breaks off, so does the proxy.

mod body;
mod fault;

use std::collections::BTreeMap;
use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as std_mpsc};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use headers::HeaderMapExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderValue, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self as client, SendRequest};
use hyper::server::conn::http1 as server;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use socket2::{Domain, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex as AsyncMutex, mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::body::{Body, Down, Event, struck, whole};
use self::fault::Plan;
pub(crate) use self::fault::{Fault, Seen};
use super::{Background, LIMIT, loopback};

/// The proxy. Serves until dropped.
#[derive(Debug)]
pub(crate) struct FaultProxy {
    addr: SocketAddr,
    shared: Arc<Shared>,
    gate: mpsc::UnboundedSender<Gate>,
    _serving: Background,
}

/// Opens or closes the port, and says when that is done.
#[derive(Debug)]
struct Gate {
    open: bool,
    done: std_mpsc::SyncSender<()>,
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    plan: Mutex<Plan>,
    /// How many requests were ever seen.
    count: watch::Sender<usize>,
}

impl Shared {
    fn plan(&self) -> MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl FaultProxy {
    /// Stands before `upstream`, passing everything.
    pub(crate) fn start(upstream: SocketAddr) -> Self {
        // Bound and never listening, this holds the port while it is closed.
        let holder = bind(loopback()).expect("a port for the proxy");
        let addr = holder.local_addr().ok().and_then(|addr| addr.as_socket()).expect("the proxy's address");
        let listener = listen(addr).expect("the proxy's listener");
        let shared = Arc::new(Shared { upstream, plan: Mutex::default(), count: watch::Sender::new(0) });
        let (gate, gates) = mpsc::unbounded_channel();
        let served = Arc::clone(&shared);
        let serving = Background::run(move || async move {
            accept(addr, listener, gates, served).await;
            drop(holder);
        });
        Self { addr, shared, gate, _serving: serving }
    }

    /// Where Larder finds its store.
    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The same, as `--s3-endpoint` takes it.
    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// Every request from now on meets `fault`; rules are forgotten. In force when this returns.
    /// Requests under way keep what they met, but [`Fault::Refuse`] resets them.
    pub(crate) fn set(&self, fault: Fault) {
        let open = fault != Fault::Refuse;
        self.shared.plan().set(fault);
        let (done, wait) = std_mpsc::sync_channel(1);
        self.gate.send(Gate { open, done }).expect("the proxy serves");
        wait.recv_timeout(LIMIT).expect("the proxy opens or closes its port");
    }

    /// Requests that `wanted` picks meet `fault`, the next `times` of them or all. Earlier rules go
    /// first; [`FaultProxy::set`] forgets them all.
    pub(crate) fn set_when(
        &self,
        wanted: impl Fn(&Seen) -> bool + Send + 'static,
        fault: Fault,
        times: Option<usize>,
    ) {
        self.shared.plan().add(Box::new(wanted), fault, times);
    }

    /// The requests seen since the start, or since they were last taken, in the order of their heads.
    pub(crate) fn requests(&self) -> Vec<Seen> {
        self.shared.plan().seen().to_vec()
    }

    /// As [`FaultProxy::requests`], and begins anew.
    pub(crate) fn take_requests(&self) -> Vec<Seen> {
        self.shared.plan().take_seen()
    }

    /// How many of each of S3's verbs are among [`FaultProxy::requests`].
    pub(crate) fn verbs(&self) -> BTreeMap<&'static str, usize> {
        self.shared.plan().verbs()
    }

    /// Waits until a request that `wanted` picks is among [`FaultProxy::requests`].
    pub(crate) async fn until_seen(&self, wanted: impl Fn(&Seen) -> bool) {
        let mut count = self.shared.count.subscribe();
        let found = async {
            while !self.shared.plan().seen().iter().any(&wanted) {
                if count.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, found).await.expect("the awaited request arrives");
    }
}

fn bind(addr: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    // Two sockets may hold one port only where both say so and neither listens yet.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    Ok(socket)
}

fn listen(addr: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = bind(addr)?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

async fn accept(
    addr: SocketAddr,
    first: std::net::TcpListener,
    mut gates: mpsc::UnboundedReceiver<Gate>,
    shared: Arc<Shared>,
) {
    let register = |listener| TcpListener::from_std(listener).expect("the listener on the runtime");
    let mut listener = Some(register(first));
    let mut connections = JoinSet::new();
    let mut cut = CancellationToken::new();
    loop {
        tokio::select! {
            biased;
            Some(Gate { open, done }) = gates.recv() => {
                if open && listener.is_none() {
                    listener = Some(register(listen(addr).expect("the proxy's port, again")));
                } else if !open {
                    listener.take().iter().for_each(unlisten);
                    cut.cancel();
                    while connections.join_next().await.is_some() {}
                    cut = CancellationToken::new();
                }
                // Whoever asked may have stopped waiting.
                done.send(()).ok();
            }
            accepted = next(listener.as_ref()) => if let Ok((stream, _)) = accepted {
                connections.spawn(connection(stream, Arc::clone(&shared), cut.clone()));
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

/// Takes the port back at once. Closing is not enough: a process that another test is just starting
/// holds a copy of every socket until it has become its own program.
fn unlisten(listener: &TcpListener) {
    SockRef::from(listener).shutdown(Shutdown::Both).expect("a listener to shut down");
}

async fn next(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

/// One connection of Larder's, until either side ends it or a fault does.
async fn connection(stream: TcpStream, shared: Arc<Shared>, cut: CancellationToken) {
    // Of a socket that is gone already there is nothing to do for us.
    drop(stream.set_nodelay(true));
    let Ok(handle) = SockRef::from(&stream).try_clone() else { return };
    let (down, mut falls) = mpsc::unbounded_channel();
    let link = Arc::new(Link { shared, upstream: AsyncMutex::default(), down });
    let service = service_fn(move |request| Arc::clone(&link).pass(request));
    let serving = server::Builder::new()
        .auto_date_header(false)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service);
    let fall = tokio::select! {
        served = serving => { drop(served); Down::Close }
        fall = falls.recv() => fall.unwrap_or(Down::Close),
        () = cut.cancelled() => Down::Reset,
    };
    // The handle is the last of the socket by now: what closing it does is told to it here.
    if fall == Down::Reset {
        drop(handle.set_linger(Some(Duration::ZERO)));
    }
}

/// One connection's way to the server, opened when first needed and kept.
#[derive(Debug)]
struct Link {
    shared: Arc<Shared>,
    upstream: AsyncMutex<Option<Upstream>>,
    down: mpsc::UnboundedSender<Down>,
}

#[derive(Debug)]
struct Upstream {
    sender: SendRequest<Body>,
    /// The connection's own task: dropped with it.
    _driver: JoinSet<()>,
}

impl Upstream {
    async fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = client::Builder::new()
            .preserve_header_case(true)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(io::Error::other)?;
        let mut driver = JoinSet::new();
        // How it ended is seen by the request under way.
        driver.spawn(async { drop(connection.await) });
        Ok(Self { sender, _driver: driver })
    }
}

impl Link {
    async fn pass(self: Arc<Self>, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let seen = Seen {
            method: request.method().clone(),
            target: request.uri().path_and_query().map_or("*", |target| target.as_str()).to_owned(),
            headers: request.headers().clone(),
        };
        let fault = self.shared.plan().decide(seen);
        self.shared.count.send_modify(|count| *count += 1);
        if let Some((status, code)) = fault.answer() {
            // An answer before the body has been read could be lost in the reset that follows.
            request.into_body().collect().await.map_err(io::Error::other)?;
            return Ok(s3_error(status, code));
        }
        match fault {
            Fault::Refuse => self.fall(Down::Reset).await,
            Fault::Hang => std::future::pending().await,
            Fault::LoseAnswer => {
                self.forward(request.map(whole)).await?;
                self.fall(Down::Reset).await
            }
            Fault::Latency(late) => {
                tokio::time::sleep(late).await;
                self.forward(request.map(whole)).await
            }
            Fault::ResetMidUpload(at) => self.struck_upload(request, at, Event::Fall(Down::Reset)).await,
            Fault::FlipUploadByte(at) => self.struck_upload(request, at, Event::Flip).await,
            Fault::ResetMidBody(at) => self.struck_answer(request, at, Event::Fall(Down::Reset)).await,
            Fault::CloseMidBody(at) => self.struck_answer(request, at, Event::Fall(Down::Close)).await,
            Fault::HangMidBody(at) => self.struck_answer(request, at, Event::Hang).await,
            Fault::FlipByte(at) => self.struck_answer(request, at, Event::Flip).await,
            Fault::UnderstateLength(at) => {
                let mut answer = self.struck_answer(request, at, Event::End).await?;
                understate(&mut answer, at);
                Ok(answer)
            }
            Fault::Strip(name) => {
                let mut request = request.map(whole);
                request.headers_mut().remove(name);
                self.forward(request).await
            }
            Fault::Ahead(seconds) => {
                let mut answer = self.forward(request.map(whole)).await?;
                let date = SystemTime::now() + Duration::from_secs(seconds);
                answer.headers_mut().typed_insert(headers::Date::from(date));
                Ok(answer)
            }
            Fault::Says(xml) => {
                request.into_body().collect().await.map_err(io::Error::other)?;
                let mut answer =
                    Response::new(Full::new(Bytes::from(xml)).map_err(|never| match never {}).boxed_unsync());
                answer.headers_mut().insert(ETAG, HeaderValue::from_static("\"00\""));
                Ok(answer)
            }
            Fault::Pass
            | Fault::SlowDown
            | Fault::InternalError
            | Fault::AccessDenied
            | Fault::OkWithError
            | Fault::OneIn { .. } => self.forward(request.map(whole)).await,
        }
    }

    /// Brings the connection down, and never comes back.
    async fn fall<T>(&self, down: Down) -> T {
        self.down.send(down).ok();
        std::future::pending().await
    }

    async fn struck_upload(
        &self,
        request: Request<Incoming>,
        at: u64,
        event: Event,
    ) -> io::Result<Response<Body>> {
        self.forward(request.map(|body| struck(body, at, event, self.down.clone()))).await
    }

    async fn struck_answer(
        &self,
        request: Request<Incoming>,
        at: u64,
        event: Event,
    ) -> io::Result<Response<Body>> {
        let answer = self.exchange(request.map(whole)).await;
        Ok(answer.map(|body| struck(body, at, event, self.down.clone())))
    }

    async fn forward(&self, request: Request<Body>) -> io::Result<Response<Body>> {
        Ok(self.exchange(request).await.map(whole))
    }

    /// Asks the server. Where that fails the connection is reset, as if there were no proxy.
    async fn exchange(&self, request: Request<Body>) -> Response<Incoming> {
        let mut slot = self.upstream.lock().await;
        let kept = match slot.as_mut() {
            Some(upstream) => upstream.sender.ready().await.is_ok(),
            None => false,
        };
        if !kept {
            *slot = Upstream::connect(self.shared.upstream).await.ok();
        }
        let answer = match slot.as_mut() {
            Some(upstream) => upstream.sender.send_request(request).await.ok(),
            None => None,
        };
        match answer {
            Some(answer) => answer,
            None => self.fall(Down::Reset).await,
        }
    }
}

fn understate(answer: &mut Response<Body>, length: u64) {
    let truth =
        answer.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if truth.is_some_and(|truth| truth > length) {
        answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// An error in S3's own form (API reference, "Error responses").
fn s3_error(status: http::StatusCode, code: &str) -> Response<Body> {
    let text = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>A fault of the \
         test's own</Message><RequestId>0000000000000000</RequestId><HostId>proxy</HostId></Error>"
    );
    let body = Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync();
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    answer
}

#[cfg(test)]
mod tests;
