//! Bodies between HTTP and the domain: requests become a [`Payload`] within limits, what was read becomes a response.

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use futures_util::stream;
use headers::HeaderMapExt as _;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;

use crate::domain::writes::Terms;
use crate::metrics::{Metrics, Outcome, Protocol, Verb};
use crate::payload::{Body as Found, BodyError, Content, Meta, Object, Payload, Want};

use super::conditional::HeaderError;
use super::status::Failure;
use super::{App, conditional};

/// What a request body may be.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Largest object, in bytes.
    pub max_object_size: u64,
}

/// The body of a request. Where its length is announced and too large, that is refused before a byte is read (and before
/// `100 Continue` is sent, which happens with the first read).
fn payload(
    request: Request,
    limits: BodyLimits,
    metrics: Metrics,
    counted: (Protocol, Verb),
) -> Result<Payload, Failure> {
    let len = request.headers().typed_get::<headers::ContentLength>().map(|length| length.0);
    if request.headers().contains_key(CONTENT_LENGTH) && len.is_none() {
        return Err(Failure::Invalid("Content-Length is no number".to_owned()));
    }
    if len.is_some_and(|len| len > limits.max_object_size) {
        return Err(Failure::TooLarge(limits.max_object_size));
    }
    let arriving = Arriving { body: request.into_body(), seen: 0, limits, metrics, counted };
    let stream = stream::unfold(Some(arriving), |state| async {
        let mut arriving = state?;
        match arriving.next().await {
            Ok(Some(chunk)) => Some((Ok(chunk), Some(arriving))),
            Ok(None) => None,
            Err(error) => Some((Err(error), None)),
        }
    });
    Ok(Payload::new(len, stream))
}

struct Arriving {
    body: Body,
    seen: u64,
    limits: BodyLimits,
    metrics: Metrics,
    counted: (Protocol, Verb),
}

impl Arriving {
    async fn next(&mut self) -> Result<Option<Bytes>, BodyError> {
        loop {
            let frame = match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(cause(&error)),
                Some(Ok(frame)) => frame,
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            self.seen += data.len() as u64;
            if self.seen > self.limits.max_object_size {
                return Err(BodyError::TooLarge { limit: self.limits.max_object_size });
            }
            return Ok(Some(data));
        }
    }
}

/// Why a body broke off: the server says so where it knows better than "incomplete".
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> BodyError {
    let known = error.downcast_ref::<BodyError>().copied();
    known.or_else(|| error.source().map(cause)).unwrap_or(BodyError::Incomplete)
}

impl Drop for Arriving {
    fn drop(&mut self) {
        self.metrics.receive(self.counted.0, self.counted.1, self.seen);
    }
}

/// What a request brings to be stored: its body within the limits, the digests it declares, whether it may only create.
pub(crate) fn incoming(
    request: Request,
    app: &App,
    counted: (Protocol, Verb),
) -> Result<(Payload, Terms), Failure> {
    let invalid = |error: HeaderError| Failure::Invalid(error.to_string());
    let declared = conditional::declared(request.headers()).map_err(invalid)?;
    let create = conditional::create_only(request.headers()).map_err(invalid)?;
    let payload = payload(request, app.limits, app.metrics.clone(), counted)?;
    Ok((payload, Terms { declared, create }))
}

/// The answer to a GET that found its object. A stream that fails breaks the answer off.
pub(crate) fn object(object: Object, kind: HeaderValue) -> Response {
    let (status, headers) = conditional::head(&object);
    let (content, outcome) = match object.body {
        Found::Whole(content) | Found::Part { content, .. } => (content, Outcome::Hit),
        Found::Unchanged => (Content::Bytes(Bytes::new()), Outcome::Unchanged),
        Found::Unsatisfiable => (Content::Bytes(Bytes::new()), Outcome::Invalid),
    };
    let body = match content {
        Content::Bytes(bytes) => Body::from(bytes),
        Content::Stream(stream) => Body::from_stream(stream),
    };
    respond(status, headers, kind, outcome, body)
}

/// The answer to a HEAD that found its object.
pub(crate) fn about(meta: &Meta, want: &Want, kind: HeaderValue) -> Response {
    let (status, headers) = conditional::head_of(meta, want);
    let outcome = if status == StatusCode::OK { Outcome::Hit } else { Outcome::Unchanged };
    respond(status, headers, kind, outcome, Body::empty())
}

fn respond(
    status: StatusCode,
    mut headers: HeaderMap,
    kind: HeaderValue,
    outcome: Outcome,
    body: Body,
) -> Response {
    headers.insert(CONTENT_TYPE, kind);
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    response.extensions_mut().insert(outcome);
    response
}

/// The answer to a write that was committed.
pub(crate) fn stored(status: StatusCode, etag: &str) -> Response {
    let mut response = Response::new(Body::from("stored\n"));
    *response.status_mut() = status;
    if let Some(etag) = conditional::etag(etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response.extensions_mut().insert(Outcome::Stored);
    response
}
