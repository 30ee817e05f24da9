//! Kept connections to the bucket, each driven by the task whose request it carries.
//!
//! hyper's own pool runs every connection as a task of its own, so that each head and each piece of a body crosses from
//! task to task; for small requests these wake-ups cost as much as the request. Here a connection belongs to one request
//! at a time and is polled with it. Nothing runs while it is idle: a server that closed it is noticed at the next use. A
//! thread uses the connections that it opened: only its runtime hears of their bytes without being woken by another.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, Uri};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::client::conn::http1::{Builder, Connection, SendRequest};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower::{Service as _, ServiceExt as _};

use super::body::Chunks;

/// A connection that was idle longer is not used again: servers close theirs after a minute or so.
const IDLE_MOST: Duration = Duration::from_secs(20);
/// Most idle connections that are kept.
const KEPT: usize = 256;

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Cause = Box<dyn std::error::Error + Send + Sync>;

/// Why a request was not answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("no connection to the bucket")]
    Connect(#[source] Cause),
    #[error("no connection to the bucket within {0:?}")]
    Slow(Duration),
    #[error("the connection to the bucket broke")]
    Exchange(#[from] hyper::Error),
}

/// A connection with the request that it carries, if any.
struct Conn {
    sender: SendRequest<Chunks>,
    /// `None` once it has ended.
    driver: Option<Pin<Box<Connection<Io, Chunks>>>>,
    home: ThreadId,
}

impl Conn {
    /// Lets bytes move. An ended connection says so by what waits for it: the request, or its body.
    fn drive(&mut self, context: &mut Context<'_>) {
        if let Some(driver) = &mut self.driver
            && driver.as_mut().poll(context).is_ready()
        {
            self.driver = None;
        }
    }

    /// Whether another request can go over it.
    fn is_free(&mut self) -> bool {
        self.drive(&mut Context::from_waker(Waker::noop()));
        self.driver.is_some() && self.sender.is_ready()
    }
}

/// The connections to one server.
pub(super) struct Pool {
    connector: HttpsConnector<HttpConnector>,
    server: Uri,
    connect_timeout: Duration,
    /// Of each thread, the one used last at the end.
    idle: Mutex<HashMap<ThreadId, Vec<(Conn, Instant)>>>,
}

impl Pool {
    pub(super) fn new(
        connector: HttpsConnector<HttpConnector>,
        server: Uri,
        connect_timeout: Duration,
    ) -> Arc<Self> {
        Arc::new(Self { connector, server, connect_timeout, idle: Mutex::default() })
    }

    fn take(&self) -> Option<Conn> {
        let here = thread::current().id();
        loop {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let (mut conn, since) = idle.get_mut(&here)?.pop()?;
            drop(idle);
            if since.elapsed() < IDLE_MOST && conn.is_free() {
                return Some(conn);
            }
        }
    }

    fn keep(&self, mut conn: Conn) {
        if conn.is_free() {
            let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
            let kept = idle.values().map(Vec::len).sum::<usize>();
            if kept >= KEPT {
                // Those of threads that are gone or have nothing to do.
                idle.values_mut().for_each(|of| of.retain(|(_, since)| since.elapsed() < IDLE_MOST));
                idle.retain(|_, of| !of.is_empty());
            }
            if kept < KEPT {
                idle.entry(conn.home).or_default().push((conn, Instant::now()));
            }
        }
    }

    async fn open(&self) -> Result<Conn, Broken> {
        let mut connector = self.connector.clone();
        let opening = async {
            let io = connector.ready().await?.call(self.server.clone()).await?;
            let mut builder = Builder::new();
            let (sender, driver) = builder.max_buf_size(128 * 1024).handshake(io).await?;
            Ok::<_, Cause>(Conn { sender, driver: Some(Box::pin(driver)), home: thread::current().id() })
        };
        match tokio::time::timeout(self.connect_timeout, opening).await {
            Ok(opened) => opened.map_err(Broken::Connect),
            Err(_) => Err(Broken::Slow(self.connect_timeout)),
        }
    }

    /// Sends a request and waits for the head of its answer. Dropped before that, the connection goes with it.
    pub(super) async fn send(
        self: &Arc<Self>,
        mut request: Request<Chunks>,
    ) -> Result<Response<Flow>, Broken> {
        loop {
            let (mut conn, kept) = match self.take() {
                Some(conn) => (conn, true),
                None => (self.open().await?, false),
            };
            let mut sending = std::pin::pin!(conn.sender.try_send_request(request));
            let answer = std::future::poll_fn(|context| {
                conn.drive(context);
                sending.as_mut().poll(context)
            });
            match answer.await {
                Ok(response) => {
                    let pool = Arc::clone(self);
                    return Ok(response.map(|body| Flow { body, way: Some((conn, pool)) }));
                }
                // The server had closed it meanwhile, and nothing of the request was sent: on a fresh one it goes again.
                Err(mut failed) => match failed.take_message() {
                    Some(unsent) if kept => request = unsent,
                    _ => return Err(failed.into_error().into()),
                },
            }
        }
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool").field("server", &self.server).finish_non_exhaustive()
    }
}

/// The body of an answer. Read to its end, its connection is kept; dropped before, that is closed.
pub(super) struct Flow {
    body: Incoming,
    way: Option<(Conn, Arc<Pool>)>,
}

impl Flow {
    fn finish(&mut self) {
        if let Some((conn, pool)) = self.way.take() {
            pool.keep(conn);
        }
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = &mut *self;
        let mut frame = Pin::new(&mut this.body).poll_frame(context);
        if frame.is_pending()
            && let Some((conn, _)) = &mut this.way
        {
            conn.drive(context);
            frame = Pin::new(&mut this.body).poll_frame(context);
        }
        let frame = ready!(frame);
        if frame.is_none() {
            this.finish();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.finish();
        }
    }
}

impl std::fmt::Debug for Flow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Flow")
    }
}
