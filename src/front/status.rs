//! The one table: each failure and what a client is told of it, over HTTP and over gRPC.
//!
//! Chosen by what its reader should do next. What the store did wrong is 503 with a fixed phrase, whatever it was: never a miss,
//! and never a word of paths, buckets or causes, which go to the log where the failure is handled.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, VARY, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use tonic::Code;

use crate::domain::{self, Fault};
use crate::metrics::Outcome;
use crate::payload::BodyError;

/// Why a request is not answered with what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// A name, digest, header or length does not parse or agree: one line that says which.
    Invalid(String),
    /// No credentials, or wrong ones.
    Unauthenticated(&'static str),
    /// Good credentials that are not enough.
    Forbidden(&'static str),
    /// Nothing there.
    Absent,
    /// No such route.
    NoRoute,
    /// The route has other verbs: which.
    Verb(&'static str),
    /// None of the forms that there are is acceptable: which there are.
    NotAcceptable(&'static str),
    /// Other contents have the name: one line that says so.
    Taken(String),
    /// Create-only, and already there.
    Exists,
    /// The name would have to be a file and a directory at once.
    Conflict,
    /// The body is larger than the limit, in bytes.
    TooLarge(u64),
    /// The body stopped arriving.
    Stalled,
    /// The body broke off: nobody reads the answer.
    Incomplete,
    /// Too many passwords wait to be checked.
    Busy,
    /// The request's form is not spoken here: what is.
    Unsupported(&'static str),
    /// The caller's deadline came first.
    Late,
    /// The store failed.
    Store(Fault),
}

/// What a client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Over HTTP.
    pub(crate) status: StatusCode,
    /// Over gRPC.
    pub(crate) grpc: Code,
    /// To people, where the failure has no line of its own.
    pub(crate) phrase: &'static str,
}

const fn row(status: StatusCode, grpc: Code, phrase: &'static str) -> Row {
    Row { status, grpc, phrase }
}

/// The table's rows for what the store did wrong: never a miss.
const fn store_row(fault: Fault) -> Row {
    let phrase = match fault {
        Fault::Unavailable => "the store does not answer; try again",
        Fault::Denied => "the store refuses the gateway; ask its operator",
        Fault::Corrupt => "what is stored is damaged; ask the operator",
    };
    row(StatusCode::SERVICE_UNAVAILABLE, Code::Unavailable, phrase)
}

impl Failure {
    /// The table.
    pub(crate) const fn row(&self) -> Row {
        match self {
            Self::Invalid(_) => {
                row(StatusCode::BAD_REQUEST, Code::InvalidArgument, "the request is malformed")
            }
            Self::Unauthenticated(_) => {
                row(StatusCode::UNAUTHORIZED, Code::Unauthenticated, "a user name and password are needed")
            }
            Self::Forbidden(_) => {
                row(StatusCode::FORBIDDEN, Code::PermissionDenied, "these credentials may not do that")
            }
            Self::Absent => row(StatusCode::NOT_FOUND, Code::NotFound, "not in the cache"),
            Self::NoRoute => row(StatusCode::NOT_FOUND, Code::Unimplemented, "no such route"),
            Self::Verb(_) => {
                row(StatusCode::METHOD_NOT_ALLOWED, Code::Unimplemented, "this route does not take that verb")
            }
            Self::NotAcceptable(_) => row(StatusCode::NOT_ACCEPTABLE, Code::InvalidArgument, "no such form"),
            Self::Taken(_) => row(StatusCode::CONFLICT, Code::AlreadyExists, "other contents have this name"),
            Self::Exists => row(StatusCode::PRECONDITION_FAILED, Code::AlreadyExists, "it is already there"),
            Self::Conflict => row(
                StatusCode::CONFLICT,
                Code::FailedPrecondition,
                "the name is already a directory, or below a file",
            ),
            Self::TooLarge(_) => row(
                StatusCode::PAYLOAD_TOO_LARGE,
                Code::ResourceExhausted,
                "the body is larger than the limit",
            ),
            Self::Stalled => {
                row(StatusCode::REQUEST_TIMEOUT, Code::DeadlineExceeded, "the body stopped arriving")
            }
            Self::Incomplete => row(StatusCode::BAD_REQUEST, Code::Cancelled, "the body broke off"),
            Self::Busy => row(
                StatusCode::TOO_MANY_REQUESTS,
                Code::ResourceExhausted,
                "too many passwords wait to be checked",
            ),
            Self::Unsupported(_) => {
                row(StatusCode::UNSUPPORTED_MEDIA_TYPE, Code::Unimplemented, "this form is not spoken here")
            }
            Self::Late => row(
                StatusCode::SERVICE_UNAVAILABLE,
                Code::DeadlineExceeded,
                "the deadline came before the answer",
            ),
            Self::Store(fault) => store_row(*fault),
        }
    }

    /// One line for the client.
    pub(crate) fn line(&self) -> String {
        match self {
            Self::Invalid(why) | Self::Taken(why) => why.clone(),
            Self::NotAcceptable(there) => format!("there are {there}"),
            Self::TooLarge(limit) => format!("the body is larger than the limit of {limit} bytes"),
            Self::Verb(allowed) => format!("this route takes {allowed}"),
            Self::Unsupported(why) => (*why).to_owned(),
            Self::Unauthenticated(why) | Self::Forbidden(why) if !why.is_empty() => (*why).to_owned(),
            Self::Unauthenticated(_)
            | Self::Forbidden(_)
            | Self::Absent
            | Self::NoRoute
            | Self::Exists
            | Self::Conflict
            | Self::Stalled
            | Self::Incomplete
            | Self::Busy
            | Self::Late
            | Self::Store(_) => self.row().phrase.to_owned(),
        }
    }

    /// What it counts as.
    pub(crate) const fn outcome(&self) -> Outcome {
        match self {
            Self::Invalid(_)
            | Self::NoRoute
            | Self::Verb(_)
            | Self::TooLarge(_)
            | Self::NotAcceptable(_)
            | Self::Taken(_)
            | Self::Conflict
            | Self::Unsupported(_)
            | Self::Exists => Outcome::Invalid,
            Self::Unauthenticated(_) | Self::Forbidden(_) | Self::Busy => Outcome::Refused,
            Self::Absent => Outcome::Miss,
            Self::Stalled | Self::Incomplete | Self::Late => Outcome::Broken,
            Self::Store(_) => Outcome::Failed,
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let status = self.row().status;
        let mut response = Response::new(Body::from(self.line() + "\n"));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        match &self {
            Self::Unauthenticated(_) => {
                headers.insert(
                    WWW_AUTHENTICATE,
                    HeaderValue::from_static("Basic realm=\"larder\", charset=\"UTF-8\""),
                );
            }
            Self::Verb(allowed) => {
                headers.insert(ALLOW, HeaderValue::from_static(allowed));
            }
            Self::NotAcceptable(_) => {
                headers.insert(VARY, HeaderValue::from_static("Accept"));
            }
            Self::Busy | Self::Store(Fault::Unavailable) => {
                headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
            }
            Self::Invalid(_)
            | Self::Forbidden(_)
            | Self::Absent
            | Self::NoRoute
            | Self::Exists
            | Self::Taken(_)
            | Self::Conflict
            | Self::TooLarge(_)
            | Self::Stalled
            | Self::Incomplete
            | Self::Unsupported(_)
            | Self::Late
            | Self::Store(Fault::Denied | Fault::Corrupt) => {}
        }
        response.extensions_mut().insert(self.outcome());
        response
    }
}

impl From<BodyError> for Failure {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Incomplete => Self::Incomplete,
            BodyError::Stalled => Self::Stalled,
            BodyError::TooLarge { limit } => Self::TooLarge(limit),
            BodyError::Length | BodyError::Digest(_) | BodyError::Refused => Self::Invalid(error.to_string()),
        }
    }
}

impl From<domain::Error> for Failure {
    fn from(error: domain::Error) -> Self {
        match error {
            domain::Error::Body(error) => error.into(),
            domain::Error::Conflict => Self::Conflict,
            domain::Error::Long => Self::Invalid(error.to_string()),
            domain::Error::Store(fault) => Self::Store(fault),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let all = [
            Failure::Invalid("a path segment is empty".to_owned()),
            Failure::Unauthenticated(""),
            Failure::Forbidden(""),
            Failure::Absent,
            Failure::NoRoute,
            Failure::Verb("GET, HEAD"),
            Failure::NotAcceptable("text/html"),
            Failure::Taken("File already exists".to_owned()),
            Failure::Exists,
            Failure::Conflict,
            Failure::TooLarge(10),
            Failure::Stalled,
            Failure::Incomplete,
            Failure::Busy,
            Failure::Unsupported("gzip is the only compression here"),
            Failure::Late,
            Failure::Store(Fault::Unavailable),
            Failure::Store(Fault::Denied),
            Failure::Store(Fault::Corrupt),
        ];
        let lines: Vec<String> = all
            .iter()
            .map(|failure| {
                let row = failure.row();
                format!("{} {:?} {}", row.status.as_u16(), row.grpc, failure.line())
            })
            .collect();
        insta::assert_snapshot!(lines.join("\n"));
    }
}
