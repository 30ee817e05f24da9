//! A server that has a bucket's rules and nothing else, for what no real one does on demand: unknown elements, an editor at
//! the same time, settings beside the text, nonsense.

use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use larder::metrics::Metrics;
use larder::store::Store;
use md5::{Digest as _, Md5};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::support::backends::S3Server;
use crate::support::{Background, loopback};

/// S3's setting beside the rules.
pub(super) const MINIMUM: &str = "x-amz-transition-default-minimum-object-size";

/// A request that was seen.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) method: Method,
    pub(super) query: String,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

/// What the bucket has.
#[derive(Debug, Default)]
pub(super) struct Held {
    pub(super) text: Option<String>,
    pub(super) minimum: Option<String>,
    pub(super) server: Option<&'static str>,
    /// `Status` of its versions.
    pub(super) versions: &'static str,
    /// Rules with this word in them are refused.
    pub(super) refuses: Option<&'static str>,
    /// This word is forgotten on the way in.
    pub(super) forgets: Option<&'static str>,
    /// All requests.
    pub(super) asked: Vec<Asked>,
}

impl Held {
    /// How many requests of this method there were.
    pub(super) fn count(&self, method: &Method) -> usize {
        self.asked.iter().filter(|asked| asked.method == *method).count()
    }
}

/// What happens at each request before it is answered.
type Beside = Box<dyn FnMut(&Asked, &mut Held) + Send>;

/// The server.
pub(super) struct Fake {
    held: Arc<Mutex<Held>>,
    pub(super) server: S3Server,
    _serving: Background,
}

impl Fake {
    /// Serves a bucket with these rules.
    pub(super) fn start(text: Option<&str>) -> Self {
        Self::beside(text, |_, _| {})
    }

    /// The same; `beside` is called at each request, before it is carried out.
    pub(super) fn beside(text: Option<&str>, beside: impl FnMut(&Asked, &mut Held) + Send + 'static) -> Self {
        let listener = std::net::TcpListener::bind(loopback()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let held = Arc::new(Mutex::new(Held { text: text.map(str::to_owned), ..Held::default() }));
        let shared = Arc::clone(&held);
        let beside: Arc<Mutex<Beside>> = Arc::new(Mutex::new(Box::new(beside)));
        let serving = Background::run(move || async move {
            let listener = TcpListener::from_std(listener).unwrap();
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (held, beside) = (Arc::clone(&shared), Arc::clone(&beside));
                let service =
                    service_fn(move |request| answer(request, Arc::clone(&held), Arc::clone(&beside)));
                let connection = hyper::server::conn::http1::Builder::new();
                connections.spawn(connection.serve_connection(TokioIo::new(stream), service));
            }
        });
        let text = |text: &str| text.to_owned();
        let server = S3Server {
            name: text("fake"),
            endpoint,
            bucket: text("bucket"),
            key: text("k"),
            secret: text("s"),
        };
        Self { held, server, _serving: serving }
    }

    /// What it has. A statement that asks for it twice waits for itself.
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Insists that nothing was sent, and that these are its rules.
    #[track_caller]
    pub(super) fn is_untouched(&self, text: &str) {
        let held = self.held();
        assert_eq!((held.count(&Method::PUT), held.text.as_deref()), (0, Some(text)));
    }

    /// A store in its bucket, by the way of this endpoint.
    pub(super) async fn store_at(&self, endpoint: &str, prefix: &str) -> Store {
        let mut config = self.server.config(endpoint);
        config.prefix = Some(prefix.parse().unwrap());
        config.attempts = 2;
        self.server.store(config, Metrics::new()).await
    }

    pub(super) async fn store(&self, prefix: &str) -> Store {
        self.store_at(&self.server.endpoint, prefix).await
    }
}

fn error(status: u16, code: &str) -> Response<Full<Bytes>> {
    let text =
        format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>as asked</Message></Error>");
    Response::builder().status(status).body(Full::from(text)).unwrap()
}

async fn answer(
    request: Request<Incoming>,
    held: Arc<Mutex<Held>>,
    beside: Arc<Mutex<Beside>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let query = head.uri.query().unwrap_or_default().to_owned();
    let asked = Asked { method: head.method, query, headers: head.headers, body };
    let mut held = held.lock().unwrap();
    (beside.lock().unwrap())(&asked, &mut held);
    held.asked.push(asked.clone());
    let mut answer = carried_out(&asked, &mut held);
    if let Some(name) = held.server {
        answer.headers_mut().insert("server", http::HeaderValue::from_static(name));
    }
    Ok(answer)
}

fn carried_out(asked: &Asked, held: &mut Held) -> Response<Full<Bytes>> {
    if asked.query == "versioning=" {
        let status = if held.versions.is_empty() {
            String::new()
        } else {
            format!("<Status>{}</Status>", held.versions)
        };
        return Response::new(Full::from(format!(
            "<VersioningConfiguration>{status}</VersioningConfiguration>"
        )));
    }
    assert_eq!(asked.query, "lifecycle=");
    match asked.method.as_str() {
        "GET" => match &held.text {
            None => error(404, "NoSuchLifecycleConfiguration"),
            Some(text) => {
                let minimum = held.minimum.as_ref().map(|minimum| (MINIMUM, minimum.as_str()));
                let answer = Response::builder();
                let answer =
                    minimum.into_iter().fold(answer, |answer, (name, value)| answer.header(name, value));
                answer.body(Full::from(text.clone())).unwrap()
            }
        },
        "PUT" => put(asked, held),
        "DELETE" => {
            (held.text, held.minimum) = (None, None);
            Response::builder().status(204).body(Full::default()).unwrap()
        }
        _ => error(405, "MethodNotAllowed"),
    }
}

fn put(asked: &Asked, held: &mut Held) -> Response<Full<Bytes>> {
    let sum = STANDARD.encode(Md5::digest(&asked.body));
    if asked.headers.get("content-md5").is_none_or(|said| said.as_bytes() != sum.as_bytes()) {
        return error(400, "InvalidDigest");
    }
    let mut text = String::from_utf8(asked.body.to_vec()).unwrap();
    if held.refuses.is_some_and(|word| text.contains(word)) {
        return error(400, "InvalidArgument");
    }
    if let Some(word) = held.forgets {
        text = text.replace(word, "");
    }
    held.text = Some(text);
    // As AWS does it.
    held.minimum = asked.headers.get(MINIMUM).map(|value| value.to_str().unwrap().to_owned());
    Response::new(Full::default())
}
