//! A connection, and one request over it.
//!
//! Never retries and never follows a redirect: what the server said is what is counted.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{AUTHORIZATION, HOST};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;

use crate::body::{Payload, Size, block, name};
use crate::{Failure, Options, Verb};

/// Most names that are worked out before the run.
const TABLE: u64 = 100_000;

/// One URL.
#[derive(Debug)]
struct Target {
    address: SocketAddr,
    host: HeaderValue,
    template: String,
    /// The paths of the first keys.
    table: Vec<Uri>,
    /// What signs a GET of each of them.
    signed: Vec<HeaderMap>,
}

/// What is asked, of whom.
#[derive(Debug)]
pub(crate) struct Plan {
    targets: Vec<Arc<Target>>,
    block: Bytes,
    size: Size,
    first: u64,
    chunked: bool,
    verify: bool,
    expect: Option<StatusCode>,
    authorization: Option<HeaderValue>,
    /// Uploads so far, those before the measured ones too: each gets a key of its own while there are any.
    uploads: AtomicU64,
}

impl Plan {
    /// Works the names out; fails on a URL that is none, or not `http`.
    pub(crate) async fn new(options: &Options) -> Result<Self, Failure> {
        let (block, mut targets) = (block(), Vec::new());
        for url in &options.urls {
            targets.push(Arc::new(Target::new(url, &block, options).await?));
        }
        let authorization = match &options.user {
            Some(user) => Some(HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(user)))?),
            None => None,
        };
        let expect = options.expect.map(StatusCode::from_u16).transpose()?;
        let (size, first, chunked, verify) = (options.size, options.first, options.chunked, options.verify);
        let uploads = AtomicU64::new(0);
        Ok(Self { targets, block, size, first, chunked, verify, expect, authorization, uploads })
    }

    /// The number of the next upload.
    pub(crate) fn turn(&self) -> u64 {
        self.uploads.fetch_add(1, Ordering::Relaxed)
    }

    /// The URLs of the first keys.
    pub(crate) fn names(&self) -> impl Iterator<Item = String> {
        self.targets
            .iter()
            .flat_map(|target| target.table.iter().map(|path| format!("http://{}{path}", target.address)))
    }

    fn request(&self, target: &Target, verb: Verb, key: u64) -> Result<Request<Payload>, http::Error> {
        let index = usize::try_from(key - self.first).unwrap_or(usize::MAX);
        let uri = match target.table.get(index) {
            Some(uri) => uri.clone(),
            None => name(&target.template, &self.block, self.size, key).try_into()?,
        };
        let (method, body) = match verb {
            Verb::Get => (Method::GET, Payload::empty()),
            Verb::Head => (Method::HEAD, Payload::empty()),
            Verb::Put => (Method::PUT, Payload::new(&self.block, self.size, key, self.chunked)),
            Verb::Post => (Method::POST, Payload::new(&self.block, self.size, key, self.chunked)),
        };
        let mut request = Request::builder().method(method).uri(uri).header(HOST, &target.host);
        if let Some(value) = &self.authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let mut request = request.body(body)?;
        if let Some(signature) = target.signed.get(index) {
            request.headers_mut().extend(signature.clone());
        }
        Ok(request)
    }

    fn expects(&self, status: StatusCode) -> bool {
        self.expect.map_or(status.is_success(), |only| status == only)
    }
}

impl Target {
    async fn new(url: &str, block: &Bytes, options: &Options) -> Result<Self, Failure> {
        let rest =
            url.strip_prefix("http://").ok_or_else(|| format!("{url}: only http:// is spoken here"))?;
        let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
        let port = if host.rsplit(']').next().is_some_and(|tail| tail.contains(':')) { "" } else { ":80" };
        let address = lookup_host(format!("{host}{port}"))
            .await?
            .next()
            .ok_or_else(|| format!("{host}: no address"))?;
        let template = format!("/{path}");
        let known = if template.contains('{') { options.keys.min(TABLE) } else { 1 };
        let table = (0..known)
            .map(|index| name(&template, block, options.size, options.first + index).try_into())
            .collect::<Result<Vec<Uri>, _>>()?;
        let signed = match &options.sign {
            Some(access) => {
                table.iter().map(|path| access.headers("GET", host, path)).collect::<Result<_, _>>()?
            }
            None => Vec::new(),
        };
        Ok(Self { address, host: HeaderValue::from_str(host)?, template, table, signed })
    }
}

/// An open connection.
#[derive(Debug)]
pub(crate) struct Link {
    sender: SendRequest<Payload>,
    target: Arc<Target>,
    /// Moves the connection's bytes; ends with it.
    _driver: JoinSet<()>,
}

impl Link {
    /// Connects to the URL whose turn it is.
    pub(crate) async fn open(plan: &Plan, index: usize) -> Result<Self, Failure> {
        let target = Arc::clone(plan.targets.get(index % plan.targets.len()).ok_or("no URL")?);
        let stream = TcpStream::connect(target.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        let mut driver = JoinSet::new();
        // Its failure is the failure of the request under way, and is seen there.
        driver.spawn(async move { connection.await.unwrap_or_default() });
        Ok(Self { sender, target, _driver: driver })
    }

    /// Whether the connection takes another request.
    pub(crate) async fn ready(&mut self) -> bool {
        self.sender.ready().await.is_ok()
    }

    /// One request and all of its answer: bytes moved, or what was wrong in a few words.
    pub(crate) async fn ask(&mut self, plan: &Plan, verb: Verb, key: u64) -> Result<u64, String> {
        let request = plan.request(&self.target, verb, key).map_err(|error| error.to_string())?;
        let response =
            self.sender.send_request(request).await.map_err(|error| format!("request: {error}"))?;
        let status = response.status();
        let mut expected = Payload::new(&plan.block, plan.size, key, false);
        let (mut body, mut bytes, mut same) = (response.into_body(), 0, true);
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| format!("response: {error}"))?;
            if let Some(data) = frame.data_ref() {
                bytes += data.len() as u64;
                same &= !plan.verify || expected.continues_with(data);
            }
        }
        if !plan.expects(status) {
            return Err(format!("status {}", status.as_u16()));
        }
        let size = plan.size.of(key);
        match verb {
            Verb::Put | Verb::Post => Ok(size),
            Verb::Head => Ok(0),
            Verb::Get if !status.is_success() => Ok(bytes),
            Verb::Get if bytes != size => Err("wrong length".to_owned()),
            Verb::Get if !same => Err("wrong bytes".to_owned()),
            Verb::Get => Ok(bytes),
        }
    }
}
