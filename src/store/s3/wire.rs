//! The hot verbs on the wire: signed requests over pooled HTTP/1.1 connections, with time-outs, retries and counts.
//!
//! Why not the SDK here: its machinery around one GET costs two to three times the request itself (`docs/benchmarks.md`).
//! It keeps every other verb. What both share is here: bounds on time, tries and requests at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use headers::HeaderMapExt as _;
use http::header::{CONTENT_LENGTH, HOST, HeaderName, HeaderValue, SERVER};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use tokio::sync::Semaphore;

use super::Config;
use super::answers::{self, Answer};
use super::body::Chunks;
use super::pool::{Broken, Flow, Pool};
use super::sign::{Hash, Signer};
use crate::metrics::Metrics;
use crate::reach::{self, Authorities};
use crate::store::error::{Error, Kind, Op};
use crate::store::key::Key;

mod raw;

pub(super) use raw::Raw;

/// First pause before a try is repeated; it doubles, up to [`PAUSE_MOST`], each time a random share of it.
const PAUSE: Duration = Duration::from_millis(50);
/// Longest pause between tries.
const PAUSE_MOST: Duration = Duration::from_secs(2);
/// Most bytes of an error body that are read.
const ERROR_BODY: usize = 64 * 1024;

/// One request of a hot verb.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) op: Op,
    /// The verb's name in metrics.
    pub(super) verb: &'static str,
    pub(super) method: Method,
    /// Query, without the question mark.
    pub(super) query: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Chunks,
    pub(super) hash: Hash,
    /// Not to be sent again, whatever comes of it.
    pub(super) once: bool,
}

impl Call {
    pub(super) fn new(op: Op, verb: &'static str, method: Method) -> Self {
        Self {
            op,
            verb,
            method,
            query: String::new(),
            headers: Vec::new(),
            body: Chunks::empty(),
            hash: Hash::Empty,
            once: false,
        }
    }

    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((HeaderName::from_static(name), value));
        }
        self
    }
}

/// An answer that is no failure, its body not yet read.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) answer: Answer,
    pub(super) response: Response<Flow>,
}

/// What one try came to, where it was no usable reply.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    #[error("the bucket answered {status} {code}: {message}")]
    Answer { status: StatusCode, code: String, message: String, server: Option<String>, answer: Answer },
    #[error(transparent)]
    Connection(Broken),
    #[error("no answer within {0:?}")]
    Slow(Duration),
    #[error("the body broke off")]
    Broken,
    #[error("the bytes fail their checksum")]
    Corrupt,
    #[error("the answer has more than {0} bytes")]
    Long(usize),
    #[error("the request could not be signed")]
    Unsigned(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the request could not be made")]
    Request(#[from] http::Error),
}

impl Trouble {
    fn passing(&self) -> bool {
        match self {
            // A directory that is being removed beside us (versitygw) passes too.
            Self::Answer { answer, .. } => {
                matches!(answer, Answer::Retry | Answer::Skewed | Answer::Fault(Kind::Conflict))
            }
            Self::Connection(_) | Self::Slow(_) | Self::Broken | Self::Corrupt => true,
            Self::Long(_) | Self::Unsigned(_) | Self::Request(_) => false,
        }
    }

    fn outcome(&self) -> &'static str {
        if let Self::Answer { answer, .. } = self {
            return answers::outcome(*answer);
        }
        answers::kind_name(self.kind())
    }

    pub(super) fn kind(&self) -> Kind {
        match self {
            Self::Answer { answer: Answer::Fault(kind), .. } => *kind,
            Self::Answer { .. } | Self::Connection(_) | Self::Slow(_) | Self::Broken => Kind::Unavailable,
            Self::Corrupt | Self::Long(_) => Kind::Corrupt,
            Self::Unsigned(_) | Self::Request(_) => Kind::Denied,
        }
    }
}

/// Signed requests to one bucket.
pub(super) struct Wire {
    pool: Arc<Pool>,
    authority: Authority,
    /// As it is signed: with a port wherever the endpoint has one.
    host: HeaderValue,
    /// The path of the bucket's root, without a slash at its end.
    root: String,
    prefix: String,
    pub(super) signer: Signer,
    metrics: Metrics,
    room: Arc<Semaphore>,
    tries: u32,
    first_byte: Duration,
    pub(super) idle: Duration,
}

impl std::fmt::Debug for Wire {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Wire").field("authority", &self.authority).finish_non_exhaustive()
    }
}

impl Wire {
    pub(super) fn new(
        config: &Config,
        endpoint: &str,
        signer: Signer,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let wrong = |why: &str| Error::new(Kind::Denied, Op::Probe, "", format!("the endpoint {why}"));
        let base: Uri = endpoint.parse().map_err(|_| wrong("is no URL"))?;
        let (Some(scheme), Some(authority)) = (base.scheme().cloned(), base.authority().cloned()) else {
            return Err(wrong("has no host"));
        };
        let authorities = if scheme == Scheme::HTTPS { Authorities::Machine } else { Authorities::None };
        let connector = reach::connector(authorities, config.connect_timeout)
            .map_err(|error| Error::new(Kind::Denied, Op::Probe, "", error))?;
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| wrong("has an odd host"))?;
        let prefix = config.prefix.as_ref().map_or_else(String::new, |key| format!("{key}/"));
        Ok(Self {
            host,
            authority,
            root: base.path().trim_end_matches('/').to_owned(),
            pool: Pool::new(connector, base, config.connect_timeout),
            prefix,
            signer,
            metrics,
            room: Arc::new(Semaphore::new(config.max_requests)),
            tries: config.attempts.max(1),
            first_byte: config.first_byte_timeout,
            idle: config.idle_timeout,
        })
    }

    /// Whether the bucket is served on this machine.
    pub(super) fn is_local(&self) -> bool {
        let host = self.authority.host().trim_matches(['[', ']']);
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }

    /// The path of a key, or of the bucket itself, and its query, as they go over the wire and into the signature.
    fn target(&self, key: Option<&Key>, query: &str) -> Bytes {
        let (prefix, key) = key.map_or(("", ""), |key| (self.prefix.as_str(), key.as_str()));
        let mut text = Vec::with_capacity(self.root.len() + key.len() + query.len() + 16);
        text.extend_from_slice(self.root.as_bytes());
        text.push(b'/');
        for byte in prefix.bytes().chain(key.bytes()) {
            match byte {
                b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => text.push(byte),
                _ => text.extend_from_slice(format!("%{byte:02X}").as_bytes()),
            }
        }
        if !query.is_empty() {
            text.push(b'?');
            text.extend_from_slice(query.as_bytes());
        }
        text.into()
    }

    async fn request(&self, key: Option<&Key>, call: &Call) -> Result<Request<Chunks>, Trouble> {
        let target =
            PathAndQuery::from_maybe_shared(self.target(key, &call.query)).map_err(http::Error::from)?;
        let mut headers = HeaderMap::with_capacity(call.headers.len() + 6);
        headers.insert(HOST, self.host.clone());
        headers.extend(call.headers.iter().map(|(name, value)| (name.clone(), value.clone())));
        let place = (target.path(), call.query.as_str());
        let signing =
            self.signer.sign(&call.method, self.authority.as_str(), place, &mut headers, &call.hash);
        signing.await.map_err(Trouble::Unsigned)?;
        if call.method == Method::PUT {
            headers.insert(CONTENT_LENGTH, call.body.len().into());
        }
        let mut request = Request::new(call.body.clone());
        *request.method_mut() = call.method.clone();
        *request.uri_mut() = Uri::from(target);
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// One try: sign, send, wait for the head of an answer while bytes keep flowing.
    async fn attempt(&self, key: Option<&Key>, call: &Call) -> Result<Reply, Trouble> {
        let mut request = self.request(key, call).await?;
        let flow = Arc::new(AtomicU64::new(0));
        request.body_mut().watch(Arc::clone(&flow));
        let mut sending = std::pin::pin!(self.pool.send(request));
        let mut seen = 0;
        let response = loop {
            match tokio::time::timeout(self.first_byte, sending.as_mut()).await {
                Ok(response) => break response.map_err(Trouble::Connection)?,
                Err(_) => {
                    let now = flow.load(Ordering::Relaxed);
                    if now == seen {
                        return Err(Trouble::Slow(self.first_byte));
                    }
                    seen = now;
                }
            }
        };
        self.judge(&call.method, response).await
    }

    async fn judge(&self, method: &Method, response: Response<Flow>) -> Result<Reply, Trouble> {
        let status = response.status();
        if status.is_success() || matches!(status.as_u16(), 304 | 412) {
            let answer = answers::judge(status.as_u16(), None);
            return Ok(Reply { answer, response });
        }
        let (head, body) = response.into_parts();
        let (code, message) = self.error_of(body).await?;
        // Only HEAD's answers have no body to hold a code. A 404 of anybody else that has none is not the bucket's: a wrong
        // endpoint, a proxy's own page, an answer cut short.
        let coded = *method != Method::HEAD || !code.is_empty();
        let answer = answers::judge(status.as_u16(), coded.then_some(code.as_str()));
        if answer == Answer::Skewed
            && let Some(date) = head.headers.typed_get::<headers::Date>()
        {
            self.signer.learn_time(SystemTime::from(date));
        }
        let server = head.headers.get(SERVER).and_then(|name| Some(name.to_str().ok()?.to_owned()));
        Err(Trouble::Answer { status, code, message, server, answer })
    }

    async fn error_of(&self, body: Flow) -> Result<(String, String), Trouble> {
        let bytes = tokio::time::timeout(self.idle, Limited::new(body, ERROR_BODY).collect())
            .await
            .map_err(|_| Trouble::Slow(self.idle))?
            .map_err(|_| Trouble::Broken)?
            .to_bytes();
        let text = String::from_utf8_lossy(&bytes);
        let part = |name| answers::element(&text, name).unwrap_or_default().to_owned();
        Ok((part("Code"), part("Message")))
    }

    /// Sends a request about a key, or about the bucket itself, until it is answered, or may not be tried again; `finish` reads what of the body it wants, and
    /// may find it broken, which is a failed try too.
    pub(super) async fn send<'f, 'k, T>(
        &self,
        key: impl Into<Option<&'k Key>>,
        call: Call,
        finish: impl Fn(Reply) -> BoxFuture<'f, Result<T, Trouble>> + Send,
    ) -> Result<T, Error> {
        let key = key.into();
        let name = key.map_or("", Key::as_str);
        let mut pause = PAUSE;
        let mut tried = 0;
        loop {
            tried += 1;
            let room = self.room.acquire().await;
            let mut count = Count { metrics: &self.metrics, verb: call.verb, outcome: "cancelled" };
            let result = match self.attempt(key, &call).await {
                Ok(reply) => {
                    count.outcome = answers::outcome(reply.answer);
                    finish(reply).await
                }
                Err(trouble) => Err(trouble),
            };
            drop(room);
            let trouble = match result {
                Ok(value) => return Ok(value),
                Err(trouble) => trouble,
            };
            count.outcome = trouble.outcome();
            drop(count);
            if call.once || tried >= self.tries || !trouble.passing() {
                return Err(Error::new(trouble.kind(), call.op, name, trouble));
            }
            tracing::debug!(verb = call.verb, key = name, tried, cause = %trouble, "trying again");
            tokio::time::sleep(pause.mul_f32(0.5 + fastrand::f32() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MOST);
        }
    }

    /// Reads the body of a reply whose length is known to be small.
    pub(super) async fn collect(&self, response: Response<Flow>, most: usize) -> Result<Bytes, Trouble> {
        match tokio::time::timeout(self.idle, Limited::new(response.into_body(), most).collect()).await {
            Ok(Ok(all)) => Ok(all.to_bytes()),
            Ok(Err(_)) => Err(Trouble::Broken),
            Err(_) => Err(Trouble::Slow(self.idle)),
        }
    }

    /// Reads the rest of an answer that has nothing to say, so that its connection can be used again.
    pub(super) async fn drain(&self, response: Response<Flow>) {
        if let Err(trouble) = self.collect(response, ERROR_BODY).await {
            tracing::debug!(cause = %trouble, "an answer did not end");
        }
    }
}

/// Counts a request when it is over, however it ends.
struct Count<'m> {
    metrics: &'m Metrics,
    verb: &'static str,
    outcome: &'static str,
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.metrics.call(self.verb, self.outcome);
    }
}
