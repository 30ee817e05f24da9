//! Every request's frame: its id, one line in the access log, its counts and its time.
//!
//! Handlers say what came of a request by an [`Outcome`] in the response's extensions; the protocol is told by the path.
//! Never logs credentials, query strings or bodies.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use headers::HeaderMapExt as _;
use http::{HeaderName, HeaderValue, Method, StatusCode, Uri};
use hyper::body::{Body as _, Frame, SizeHint};

use crate::metrics::{Metrics, Outcome, Protocol, Verb};
use crate::telemetry::field;

/// The header that carries a request's id, in and out.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

fn verb(method: &Method, path: &str, protocol: Protocol) -> Verb {
    if protocol == Protocol::Rpc {
        return match path.rsplit('/').next() {
            Some("Retrieve") => Verb::Get,
            Some("Store") => Verb::Put,
            Some("Delete") => Verb::Delete,
            Some(_) | None => Verb::Other,
        };
    }
    match *method {
        Method::GET => Verb::Get,
        Method::HEAD => Verb::Head,
        Method::PUT => Verb::Put,
        Method::POST => Verb::Post,
        Method::DELETE => Verb::Delete,
        _ => Verb::Other,
    }
}

fn protocol(path: &str, method: &Method) -> Protocol {
    let mut segments = path.trim_start_matches('/').split('/');
    let first = match segments.next() {
        Some("built") => segments.nth(1),
        first => first,
    };
    match first {
        Some("") if method != Method::DELETE => Protocol::Curdling,
        Some("artifact" | "ping" | "") => Protocol::Artifact,
        Some("please") => Protocol::Please,
        Some("simple" | "files" | "by-key") => Protocol::Simple,
        Some("api" | "p" | "s" | "project") => Protocol::Curdling,
        Some("legacy") => Protocol::Legacy,
        Some(service) if service.starts_with("proto.rpc_cache.") || service.starts_with("grpc.") => {
            Protocol::Rpc
        }
        Some("healthz" | "readyz" | "metrics") => Protocol::Ops,
        _ => Protocol::None,
    }
}

/// The client's id, where it is short and plain, else a new one.
fn request_id(request: &Request) -> HeaderValue {
    let given = request.headers().get(REQUEST_ID).filter(|id| {
        id.len() <= 64 && id.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
    });
    given.cloned().unwrap_or_else(|| {
        let id = format!("{:016x}", fastrand::u64(..));
        HeaderValue::from_maybe_shared(Bytes::from(id)).unwrap_or(HeaderValue::from_static("none"))
    })
}

/// The layer around all routes.
pub(crate) async fn trace(State(metrics): State<Metrics>, request: Request, next: Next) -> Response {
    let mut entry = Entry {
        metrics,
        started: Instant::now(),
        method: request.method().clone(),
        uri: request.uri().clone(),
        id: request_id(&request),
        status: StatusCode::OK,
        outcome: Outcome::Broken,
        sent: 0,
    };
    let mut response = next.run(request).await;
    entry.status = response.status();
    entry.outcome = response.extensions().get().copied().unwrap_or(Outcome::Done);
    response.headers_mut().insert(REQUEST_ID, entry.id.clone());
    let (head, body) = response.into_parts();
    let size = body.size_hint().exact();
    if body.is_end_stream() || size.is_some_and(|size| size <= crate::budget::FREE as u64) {
        entry.sent = if entry.method == Method::HEAD { 0 } else { size.unwrap_or(0) };
        drop(entry);
        return Response::from_parts(head, body);
    }
    let complete = entry.outcome;
    entry.outcome = Outcome::Broken;
    let announced = head.headers.typed_get::<headers::ContentLength>().map(|length| length.0);
    Response::from_parts(head, Body::new(Sending { body, announced, complete, entry }))
}

/// A request under way. Logged and counted when dropped: however it ends, it ends here.
struct Entry {
    metrics: Metrics,
    started: Instant,
    method: Method,
    uri: Uri,
    id: HeaderValue,
    status: StatusCode,
    outcome: Outcome,
    sent: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let protocol = protocol(self.uri.path(), &self.method);
        let verb = verb(&self.method, self.uri.path(), protocol);
        let took = self.started.elapsed();
        self.metrics.request(protocol, verb, self.outcome, took);
        self.metrics.send(protocol, verb, self.sent);
        let took_us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let request_id = self.id.to_str().unwrap_or_default();
        macro_rules! log {
            ($level:ident) => {
                tracing::event!(
                    target: "larder::access",
                    tracing::Level::$level,
                    { field::REQUEST_ID } = request_id,
                    { field::METHOD } = self.method.as_str(),
                    { field::PATH } = self.uri.path(),
                    { field::STATUS } = self.status.as_u16(),
                    { field::OUTCOME } = self.outcome.name(),
                    { field::SENT_BYTES } = self.sent,
                    { field::TOOK_US } = took_us,
                    "request"
                )
            };
        }
        // Probes come every few seconds and say nothing.
        if protocol == Protocol::Ops { log!(DEBUG) } else { log!(INFO) }
    }
}

/// A body on its way out: counts, and notes whether it came to its end.
struct Sending {
    body: Body,
    /// Its length, where the head tells it: hyper stops asking once it has so much.
    announced: Option<u64>,
    complete: Outcome,
    entry: Entry,
}

impl hyper::body::Body for Sending {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        match &frame {
            Some(Ok(frame)) => self.entry.sent += frame.data_ref().map_or(0, |data| data.len() as u64),
            None => self.entry.outcome = self.complete,
            Some(Err(_)) => {}
        }
        let whole = self.body.is_end_stream() || self.announced == Some(self.entry.sent);
        if whole && !matches!(frame, Some(Err(_))) {
            self.entry.outcome = self.complete;
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
