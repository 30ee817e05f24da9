//! What the SDK's answers mean, in the words of [`super::answers`]; and a count of each request that it sends.

use std::fmt;

use aws_sdk_s3::config::interceptors::FinalizerInterceptorContextRef;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_smithy_runtime_api::box_error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::{HttpResponse, Metadata};

use super::answers::{self, Answer};
use crate::metrics::Metrics;
use crate::store::error::{Error, Kind, Op};

/// What a failed call of the SDK means.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "the SDK's enum is open: what it adds is a failure to send"
)]
pub(super) fn answer<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> Answer {
    match error {
        SdkError::ServiceError(service) => {
            answers::judge(service.raw().status().as_u16(), service.err().code())
        }
        SdkError::ResponseError(response) => {
            answers::judge(response.raw().status().as_u16(), Some("Unreadable"))
        }
        SdkError::ConstructionFailure(_) => Answer::Fault(Kind::Denied),
        _ => Answer::Retry,
    }
}

/// The failure of a call, its cause kept.
pub(super) fn error<E>(op: Op, key: impl fmt::Display, error: &SdkError<E, HttpResponse>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
{
    let kind = match answer(error) {
        Answer::Fault(kind) => kind,
        Answer::NoUpload | Answer::Retry | Answer::Skewed | Answer::Failed => Kind::Unavailable,
        // Absence where a call has none: the bucket itself is missing.
        Answer::Absent | Answer::Ok | Answer::Unchanged | Answer::Unsatisfiable => Kind::Denied,
    };
    Error::new(kind, op, key, chain(error))
}

/// An error and its causes on one line: the SDK's own display stops at "service error".
pub(super) fn chain<E>(error: &SdkError<E, HttpResponse>) -> String
where
    E: std::error::Error + 'static,
{
    let mut line = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        line.push_str(": ");
        line.push_str(&cause.to_string());
        next = cause.source();
    }
    line
}

/// Counts every request that the SDK sends, retries included.
#[derive(Debug)]
pub(super) struct Counting(pub(super) Metrics);

const fn verb(operation: &str) -> &'static str {
    match operation.as_bytes() {
        b"CreateMultipartUpload" => "create",
        b"CompleteMultipartUpload" => "complete",
        b"AbortMultipartUpload" => "abort",
        b"UploadPartCopy" | b"CopyObject" => "copy",
        b"DeleteObject" | b"DeleteObjects" => "delete",
        b"ListObjectsV2" => "list",
        b"ListMultipartUploads" => "uploads",
        b"HeadObject" => "head",
        b"HeadBucket" => "bucket",
        _ => "other",
    }
}

#[aws_smithy_runtime_api::client::interceptors::dyn_dispatch_hint]
impl Intercept for Counting {
    fn name(&self) -> &'static str {
        "Counting"
    }

    fn read_after_attempt(
        &self,
        context: &FinalizerInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        bag: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = bag.load::<Metadata>().map_or("", |metadata| metadata.name());
        let outcome = match (context.response(), context.output_or_error()) {
            (_, Some(Ok(_))) => "ok",
            (Some(response), _) => {
                answers::outcome(answers::judge(response.status().as_u16(), Some("Unread")))
            }
            (None, _) => "unavailable",
        };
        self.0.call(verb(operation), outcome);
        Ok(())
    }
}
