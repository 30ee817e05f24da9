//! A small HTTP client for tests, which says what a browser hides: whether a body came whole, what the
//! bare bytes were, what a broken upload gets. It follows nothing, retries nothing, and waits for
//! nothing longer than [`LIMIT`].

mod body;
mod raw;

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ClientConfig;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

pub(crate) use self::body::{Body, Pattern, broken, chunked, empty, full};
use super::{LIMIT, tls};

/// Asks one address, on a new connection each time unless [`Client::connect`] is used.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    addr: SocketAddr,
    h2: bool,
    auth: Option<HeaderValue>,
    tls: Option<Arc<ClientConfig>>,
}

/// An answer that came whole.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    /// Its status.
    pub(crate) status: StatusCode,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// Its body.
    pub(crate) body: Bytes,
}

impl Response {
    /// The body, for messages and comparison.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// A header's value, where it is there once and is text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.get_all(name).iter();
        let first = values.next()?.to_str().ok();
        if values.next().is_some() { None } else { first }
    }
}

/// How a body ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum End {
    /// As its framing (`Content-Length`, chunks, HTTP/2's end of stream) promised.
    Complete,
    /// With the connection, having promised nothing: nobody can tell.
    Unframed,
    /// Short of what was promised, or not at all within [`LIMIT`].
    Broken(String),
}

/// A body as far as it came, held in memory or not.
#[derive(Debug)]
pub(crate) struct Download {
    /// The answer's status.
    pub(crate) status: StatusCode,
    /// The answer's headers.
    pub(crate) headers: HeaderMap,
    /// What came, where it was asked to be kept.
    pub(crate) body: Bytes,
    /// How much came, bytes.
    pub(crate) length: u64,
    /// Of what came.
    pub(crate) sha256: [u8; 32],
    /// Whether that was all.
    pub(crate) end: End,
}

impl Client {
    /// Speaks HTTP/1.1 to `addr`.
    pub(crate) fn new(addr: SocketAddr) -> Self {
        Self { addr, h2: false, auth: None, tls: None }
    }

    /// Speaks HTTP/2 to `addr`, by prior knowledge.
    pub(crate) fn h2(addr: SocketAddr) -> Self {
        Self { addr, h2: true, auth: None, tls: None }
    }

    /// The same, by HTTP/2.
    pub(crate) fn over_h2(mut self) -> Self {
        self.h2 = true;
        self
    }

    /// Sends these credentials with every request that has none of its own.
    pub(crate) fn with_basic(mut self, user: &str, password: &str) -> Self {
        self.auth = Some(basic(user, password));
        self
    }

    /// Encrypts, in the way that is given.
    pub(crate) fn over(mut self, tls: &Arc<ClientConfig>) -> Self {
        self.tls = Some(Arc::clone(tls));
        self
    }

    /// A connection to keep.
    pub(crate) async fn connect(&self) -> io::Result<Connection> {
        let stream = bounded(TcpStream::connect(self.addr)).await??;
        stream.set_nodelay(true)?;
        match &self.tls {
            None => self.speak(stream).await,
            Some(config) => self.speak(bounded(tls::connect(config, stream)).await??).await,
        }
    }

    async fn speak<S>(&self, stream: S) -> io::Result<Connection>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let stream = TokioIo::new(stream);
        let mut driver = JoinSet::new();
        // How a connection ended is seen by the request under way.
        let sender = if self.h2 {
            let (sender, connection) =
                bounded(http2::handshake(TokioExecutor::new(), stream)).await?.map_err(io::Error::other)?;
            driver.spawn(async { drop(connection.await) });
            Sender::Two(sender)
        } else {
            let (sender, connection) = bounded(http1::handshake(stream)).await?.map_err(io::Error::other)?;
            driver.spawn(async { drop(connection.await) });
            Sender::One(sender)
        };
        Ok(Connection { client: self.clone(), sender, _driver: driver })
    }

    /// Asks on a new connection.
    ///
    /// # Panics
    /// Where no whole answer comes; [`Client::try_send`] says so instead.
    pub(crate) async fn send(&self, request: Request<Body>) -> Response {
        let what = describe(&request);
        self.try_send(request).await.unwrap_or_else(|error| panic!("{what}: {error}"))
    }

    /// Asks on a new connection.
    ///
    /// # Errors
    /// Where no whole answer comes.
    pub(crate) async fn try_send(&self, request: Request<Body>) -> io::Result<Response> {
        self.connect().await?.send(request).await
    }

    /// Asks, and insists on a status.
    pub(crate) async fn check(&self, request: Request<Body>, status: u16) -> Response {
        let what = describe(&request);
        let response = self.send(request).await;
        assert_eq!(response.status.as_u16(), status, "{what}: {}", response.text());
        response
    }

    /// Asks, and takes as much of the body as comes.
    ///
    /// # Errors
    /// Where not even a head comes.
    pub(crate) async fn download(&self, request: Request<Body>) -> io::Result<Download> {
        self.connect().await?.receive(request, true).await
    }

    /// As [`Client::download`], but measures the body instead of holding it.
    ///
    /// # Errors
    /// Where not even a head comes.
    pub(crate) async fn measure(&self, request: Request<Body>) -> io::Result<Download> {
        self.connect().await?.receive(request, false).await
    }

    /// Writes bytes and reads until the other side closes, or says nothing for a while. A reset ends it
    /// like a close.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Vec<u8> {
        raw::exchange(self.addr, bytes).await.expect("a raw exchange")
    }

    /// Writes bytes and reads one head, up to its empty line; then hangs up by RST. For what a server
    /// says to an upload whose body never comes.
    pub(crate) async fn raw_head(&self, bytes: &[u8]) -> String {
        raw::head(self.addr, bytes).await.expect("a raw head")
    }
}

/// A kept connection.
#[derive(Debug)]
pub(crate) struct Connection {
    client: Client,
    sender: Sender,
    /// The connection's own task: dropped with it.
    _driver: JoinSet<()>,
}

#[derive(Debug)]
enum Sender {
    One(http1::SendRequest<Body>),
    Two(http2::SendRequest<Body>),
}

impl Connection {
    /// Asks, and waits for the whole answer.
    ///
    /// # Errors
    /// Where it does not come.
    pub(crate) async fn send(&mut self, request: Request<Body>) -> io::Result<Response> {
        let Download { status, headers, body, end, .. } = self.receive(request, true).await?;
        match end {
            End::Complete | End::Unframed => Ok(Response { status, headers, body }),
            End::Broken(why) => Err(io::Error::other(format!("{status}, then: {why}"))),
        }
    }

    /// Asks, and gives the answer as soon as its head is there, its body yet to be read.
    ///
    /// # Errors
    /// Where no head comes.
    pub(crate) async fn open(&mut self, request: Request<Body>) -> io::Result<http::Response<Incoming>> {
        let request = self.dress(request);
        // A large upload has its answer only at its end: the server's own limits bound it.
        let answer = match &mut self.sender {
            Sender::One(sender) => {
                bounded(sender.ready()).await?.map_err(io::Error::other)?;
                sender.send_request(request).await
            }
            Sender::Two(sender) => {
                bounded(sender.ready()).await?.map_err(io::Error::other)?;
                sender.send_request(request).await
            }
        };
        answer.map_err(io::Error::other)
    }

    async fn receive(&mut self, request: Request<Body>, keep: bool) -> io::Result<Download> {
        let head = request.method() == Method::HEAD;
        let answer = self.open(request).await?;
        let framed = head || is_framed(&answer);
        let (parts, mut body) = answer.into_parts();
        let (mut kept, mut length, mut hash) = (BytesMut::new(), 0, Sha256::new());
        let end = loop {
            match bounded(body.frame()).await {
                Ok(Some(Ok(frame))) => {
                    let Ok(data) = frame.into_data() else { continue };
                    length += data.len() as u64;
                    hash.update(&data);
                    if keep {
                        kept.extend_from_slice(&data);
                    }
                }
                Ok(Some(Err(broken))) => break End::Broken(chain(&broken)),
                Ok(None) if framed => break End::Complete,
                Ok(None) => break End::Unframed,
                Err(slow) => break End::Broken(slow.to_string()),
            }
        };
        let (status, headers) = (parts.status, parts.headers);
        Ok(Download { status, headers, body: kept.freeze(), length, sha256: hash.finalize().into(), end })
    }

    /// Adds what a client always sends, where the request does not say otherwise.
    fn dress(&self, mut request: Request<Body>) -> Request<Body> {
        let authority = self.client.addr.to_string();
        if let Some(auth) = &self.client.auth {
            request.headers_mut().entry(AUTHORIZATION).or_insert_with(|| auth.clone());
        }
        if self.client.h2 {
            let scheme = if self.client.tls.is_some() { "https" } else { "http" };
            let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
            let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(target);
            *request.uri_mut() = uri.build().expect("a URI of parts that were one");
            *request.version_mut() = Version::HTTP_2;
        } else {
            let host = HeaderValue::try_from(authority).expect("an address is a header value");
            request.headers_mut().entry(HOST).or_insert(host);
        }
        request
    }
}

/// Whether the answer's end can be told from the connection's.
fn is_framed(answer: &http::Response<Incoming>) -> bool {
    let status = answer.status();
    answer.version() == Version::HTTP_2
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || answer.headers().contains_key(CONTENT_LENGTH)
        || answer.headers().contains_key(TRANSFER_ENCODING)
}

/// A request by method and path; the body is the caller's.
pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path)
}

/// A request without a body.
pub(crate) fn bare(method: &str, path: &str) -> Request<Body> {
    request(method, path).body(empty()).expect("a well-formed request")
}

/// A request with a body of known length.
pub(crate) fn with_body(method: &str, path: &str, body: impl Into<Bytes>) -> Request<Body> {
    request(method, path).body(full(body)).expect("a well-formed request")
}

/// The value of `Authorization` for Basic (RFC 7617).
pub(crate) fn basic(user: &str, password: &str) -> HeaderValue {
    let value = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
    HeaderValue::try_from(value).expect("base64 is a header value")
}

fn describe(request: &Request<Body>) -> String {
    format!("{} {}", request.method(), request.uri())
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn bounded<F: Future>(future: F) -> io::Result<F::Output> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("nothing within {LIMIT:?}"));
    tokio::time::timeout(LIMIT, future).await.map_err(late)
}

/// The error of what cannot fail, as one that can.
fn never(never: Infallible) -> io::Error {
    match never {}
}

#[cfg(test)]
mod tests;
