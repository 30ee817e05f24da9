//! Please's HTTP cache from the client's side: `/ping`, and whether a file is there, and sending one.
//!
//! Bounded in time, and patient with a server that is busy: what may pass is tried [`ATTEMPTS`] times. Never follows a
//! redirect: a POST would turn into a GET. Never reads an artifact.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use tokio::time::{sleep, timeout};

use super::content::{Content, Outgoing};
use super::{Address, Cause, Error};
use crate::domain::artifact::ArtifactKey;
use crate::reach::{self, Authorities};

/// How often a request is sent before the cache counts as unreachable.
const ATTEMPTS: u32 = 4;
/// The wait before the second attempt; it doubles.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take, and beyond it a second for each [`SLOWEST`] bytes sent.
const ANSWER: Duration = Duration::from_secs(60);
const SLOWEST: u64 = 256 * 1024;
/// Most bytes that are read of an explanation.
const EXPLANATION: usize = 4096;

/// What stands for itself in a path's segment (RFC 3986's unreserved characters, and the slash between segments).
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// Whoever keeps artifacts, asked over kept connections. A clone asks over the same ones.
#[derive(Debug, Clone)]
pub struct Artifacts {
    client: Client<HttpsConnector<HttpConnector>, Outgoing>,
    address: Arc<Address>,
}

impl Artifacts {
    /// Asks at this address, and over TLS only one whom an authority in this file knows; without a file, one of this
    /// machine's. Connects to nobody yet.
    ///
    /// # Errors
    /// [`Error::Tls`] where the address is of TLS, and there is no authority.
    pub fn new(address: Address, authorities: Option<&Path>) -> Result<Self, Error> {
        let authorities = match authorities {
            _ if !address.is_secure() => Authorities::None,
            None => Authorities::Machine,
            Some(file) => Authorities::File(file),
        };
        let connector = reach::connector(authorities, CONNECT).map_err(Error::Tls)?;
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(Duration::from_secs(20));
        Ok(Self { client: builder.build(connector), address: Arc::new(address) })
    }

    /// Where it asks, without credentials.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// Whether an artifact cache answers there at all.
    ///
    /// # Errors
    /// Each of them [final](Error::is_final).
    pub async fn ping(&self) -> Result<(), Error> {
        match self.ask(&Method::GET, "/ping", None).await? {
            (StatusCode::OK, _) => Ok(()),
            (status, _) => Err(Error::Stranger { server: self.address.to_string(), status }),
        }
    }

    /// Whether a file is there. Not to be asked of a name that [is a glob](crate::domain::glob::is_glob) to readers: they are
    /// answered by the files that it takes, or that it is a bad one.
    ///
    /// # Errors
    /// Where it cannot be told.
    pub async fn has(&self, file: &ArtifactKey) -> Result<bool, Error> {
        match self.ask(&Method::HEAD, &path(file), None).await? {
            (StatusCode::OK, _) => Ok(true),
            (StatusCode::NOT_FOUND, _) => Ok(false),
            (status, text) => Err(Error::Status { status, text }),
        }
    }

    /// Sends a file, over whatever is there.
    ///
    /// # Errors
    /// Where it was not acknowledged.
    pub async fn send(&self, file: &ArtifactKey, content: &Content) -> Result<(), Error> {
        match self.ask(&Method::POST, &path(file), Some(content)).await? {
            (status, _) if status.is_success() => Ok(()),
            (status, text) => Err(Error::Status { status, text }),
        }
    }

    /// The answer and its explanation, after as many attempts as it takes.
    async fn ask(
        &self,
        method: &Method,
        path: &str,
        content: Option<&Content>,
    ) -> Result<(StatusCode, String), Error> {
        let mut pause = PAUSE;
        for attempt in 1.. {
            let request =
                self.request(method, path, content).map_err(|error| Error::Content(error.into()))?;
            let answer = self.once(request, content.map_or(0, Content::len)).await;
            let last = attempt >= ATTEMPTS;
            match answer {
                Ok((status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN), _)) => {
                    return Err(Error::Refused { server: self.address.to_string(), status });
                }
                Ok((status, text)) if last || !is_passing(status) => return Ok((status, text)),
                Err(Broke::Content(cause)) => return Err(Error::Content(cause)),
                Err(Broke::Connection(source)) if last => {
                    return Err(Error::Unreachable { server: self.address.to_string(), source });
                }
                Ok(_) | Err(Broke::Connection(_)) => {}
            }
            // Half of it by chance, so that many who wait do not come back at once.
            sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause *= 2;
        }
        unreachable!("the last attempt returns")
    }

    fn request(
        &self,
        method: &Method,
        path: &str,
        content: Option<&Content>,
    ) -> Result<Request<Outgoing>, http::Error> {
        let mut request = Request::builder().method(method).uri(self.address.join(path)?);
        if let Some(who) = self.address.credentials() {
            request = request.header(AUTHORIZATION, who.header());
        }
        match content {
            None => request.body(Content::bytes(Bytes::new()).open()),
            Some(content) => request
                .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
                .header(CONTENT_LENGTH, content.len())
                .body(content.open()),
        }
    }

    async fn once(&self, request: Request<Outgoing>, len: u64) -> Result<(StatusCode, String), Broke> {
        let limit = ANSWER + Duration::from_secs(len / SLOWEST);
        let asking = async {
            let answer = self.client.request(request).await.map_err(Broke::from)?;
            Ok((answer.status(), explanation(answer).await))
        };
        timeout(limit, asking).await.unwrap_or_else(|late| Err(Broke::Connection(late.into())))
    }
}

/// Why there is no answer.
enum Broke {
    Content(Cause),
    Connection(Cause),
}

impl From<hyper_util::client::legacy::Error> for Broke {
    fn from(error: hyper_util::client::legacy::Error) -> Self {
        // hyper calls it the user's error where the body that it was to send broke.
        let ours = std::error::Error::source(&error)
            .and_then(|cause| cause.downcast_ref::<hyper::Error>())
            .is_some_and(hyper::Error::is_user);
        if ours { Self::Content(error.into()) } else { Self::Connection(error.into()) }
    }
}

/// Whether the same request may be answered otherwise in a moment.
fn is_passing(status: StatusCode) -> bool {
    status == StatusCode::TOO_MANY_REQUESTS
        || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
}

fn path(file: &ArtifactKey) -> String {
    format!("/artifact/{}", utf8_percent_encode(&file.to_string(), PLAIN))
}

async fn explanation(answer: Response<Incoming>) -> String {
    // Read to its end, so that the connection can be used again.
    let Ok(body) = Limited::new(answer.into_body(), EXPLANATION).collect().await else {
        return String::new();
    };
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    text.lines().next().unwrap_or_default().chars().filter(|c| !c.is_control()).take(200).collect()
}
