//! The table of S3's odd answers: what each status and error code means to us. One place, each row with its source.
//!
//! Pure. Both the hot verbs and the SDK's errors are judged here.

use crate::store::error::Kind;

/// What an answer means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    /// Done.
    Ok,
    /// There is no such object: the only answer that is a miss.
    Absent,
    /// The caller's copy is current (304).
    Unchanged,
    /// The range begins beyond the end (416).
    Unsatisfiable,
    /// A condition failed (412): somebody was first, or the object changed.
    Failed,
    /// There is no such multipart upload: completed by an earlier try, or aborted.
    NoUpload,
    /// The same request may succeed if it is sent again.
    Retry,
    /// The server's clock and ours differ: sign again with its time.
    Skewed,
    /// A failure for good.
    Fault(Kind),
}

/// Codes that mean absence. `NoSuchKey` is the rule; MinIO says `NoSuchVersion` for a key whose only version is gone,
/// and refuses names that it cannot hold with the rest: nothing can be stored there. (docs.rs keeps a like list.)
const ABSENT: [&str; 5] =
    ["NoSuchKey", "NoSuchVersion", "KeyTooLongError", "XMinioInvalidObjectName", "NotFound"];

/// Codes of a key that is both an object and a directory: `ObjectParentIsFile` and `ExistingObjectIsDirectory` from
/// versitygw's POSIX back end, the `XMinio…` ones from MinIO's.
const CONFLICT: [&str; 5] = [
    "ObjectParentIsFile",
    "ExistingObjectIsDirectory",
    "XMinioParentIsObject",
    "XMinioObjectExistsAsDirectory",
    "DirectoryObjectContainsData",
];

/// Codes that pass: S3 "Error responses", list of error codes, those marked for retry; `ConditionalRequestConflict` and
/// `OperationAborted` are its 409s for writes that met another (S3 "How to prevent object overwrites").
const PASSING: [&str; 12] = [
    "SlowDown",
    "SlowDownRead",
    "SlowDownWrite",
    "InternalError",
    "ServiceUnavailable",
    "RequestTimeout",
    "Busy",
    "ConditionalRequestConflict",
    "OperationAborted",
    "ServerNotInitialized",
    "Throttling",
    "XMinioServerNotInitialized",
];

/// Judges an answer by its status and, where the body had one, its error code.
///
/// A 200 can hold an error (S3 "CompleteMultipartUpload": the body of a long completion begins before its end is
/// known): callers pass the code then, and it counts.
pub(super) fn judge(status: u16, code: Option<&str>) -> Answer {
    if let Some(code) = code {
        if ABSENT.contains(&code) {
            return Answer::Absent;
        }
        if CONFLICT.contains(&code) {
            return Answer::Fault(Kind::Conflict);
        }
        if PASSING.contains(&code) {
            return Answer::Retry;
        }
        match code {
            "NoSuchUpload" => return Answer::NoUpload,
            "RequestTimeTooSkewed" => return Answer::Skewed,
            "PreconditionFailed" => return Answer::Failed,
            "InvalidRange" => return Answer::Unsatisfiable,
            "XMinioStorageFull" | "QuotaExceeded" => return Answer::Fault(Kind::Unavailable),
            // What we sent is not what arrived: a broken wire, so worth another try.
            "BadDigest" | "XAmzContentSHA256Mismatch" | "XAmzContentChecksumMismatch" | "IncompleteBody" => {
                return Answer::Retry;
            }
            _ => {}
        }
    }
    match status {
        200..=299 if code.is_some() => Answer::Retry,
        200..=299 => Answer::Ok,
        304 => Answer::Unchanged,
        // HEAD answers have no body, so no code: a bare 404 is an absent key (S3 "HeadObject"). With a code that is
        // not in the list above, it is the bucket that is missing: an error, not a miss.
        404 if code.is_none() => Answer::Absent,
        412 => Answer::Failed,
        416 => Answer::Unsatisfiable,
        // 403 is what absent keys get where we may not list (S3 "GetObject": grant s3:ListBucket). It could as well be
        // a lost permission, so it is never a miss.
        400..=499 if status != 408 && status != 409 && status != 429 => Answer::Fault(Kind::Denied),
        409 => Answer::Fault(Kind::Conflict),
        408 | 429 | 500 | 502 | 503 | 504 => Answer::Retry,
        // Redirects mean another region or endpoint; the rest no S3 says.
        _ => Answer::Fault(Kind::Denied),
    }
}

/// Judges one key's failure in a request that succeeded (S3 "DeleteObjects"), which has a code and no status. `None` where the
/// key is gone all the same.
pub(super) fn judge_key(code: Option<&str>) -> Option<Kind> {
    match judge(403, code) {
        Answer::Absent | Answer::NoUpload => None,
        // Who says no more may have meant anything.
        Answer::Fault(Kind::Denied) if code.is_none() => Some(Kind::Unavailable),
        Answer::Fault(kind) => Some(kind),
        Answer::Retry | Answer::Skewed => Some(Kind::Unavailable),
        Answer::Ok | Answer::Unchanged | Answer::Unsatisfiable | Answer::Failed => Some(Kind::Denied),
    }
}

/// The name of an answer in metrics.
pub(super) const fn outcome(answer: Answer) -> &'static str {
    match answer {
        Answer::Ok => "ok",
        Answer::Absent => "absent",
        Answer::Unchanged => "unchanged",
        Answer::Unsatisfiable => "ok",
        Answer::Failed => "exists",
        Answer::NoUpload => "absent",
        Answer::Retry | Answer::Skewed => "unavailable",
        Answer::Fault(kind) => kind_name(kind),
    }
}

/// The name of a failure in metrics.
pub(super) const fn kind_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Unavailable => "unavailable",
        Kind::Denied => "denied",
        Kind::Conflict => "conflict",
        Kind::Corrupt => "corrupt",
    }
}

/// The first value of an element in S3's error XML, which is flat: `<Error><Code>…</Code><Message>…</Message>…`.
pub(super) fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once("</").map(|(value, _)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_no_such_key_is_a_miss() {
        assert_eq!(judge(404, Some("NoSuchKey")), Answer::Absent);
        assert_eq!(judge(404, None), Answer::Absent);
        for (status, code) in [
            (404, Some("NoSuchBucket")),
            (403, None),
            (403, Some("AccessDenied")),
            (500, None),
            (503, Some("SlowDown")),
            (301, Some("PermanentRedirect")),
            (400, Some("AuthorizationHeaderMalformed")),
        ] {
            assert_ne!(judge(status, code), Answer::Absent, "{status} {code:?}");
        }
    }

    #[test]
    fn errors_inside_a_200_count() {
        assert_eq!(judge(200, Some("InternalError")), Answer::Retry);
        assert_eq!(judge(200, Some("SomethingNew")), Answer::Retry);
        assert_eq!(judge(200, None), Answer::Ok);
    }

    #[test]
    fn conflicts_and_races_differ() {
        assert_eq!(judge(409, Some("ConditionalRequestConflict")), Answer::Retry);
        assert_eq!(judge(409, Some("ObjectParentIsFile")), Answer::Fault(Kind::Conflict));
        assert_eq!(judge(412, Some("PreconditionFailed")), Answer::Failed);
    }

    #[test]
    fn a_key_that_is_refused_for_good_is_not_asked_for_again() {
        for (code, expected) in [
            (Some("NoSuchKey"), None),
            (Some("SlowDown"), Some(Kind::Unavailable)),
            (None, Some(Kind::Unavailable)),
            (Some("AccessDenied"), Some(Kind::Denied)),
            (Some("InvalidRequest"), Some(Kind::Denied)),
            (Some("MethodNotAllowed"), Some(Kind::Denied)),
            (Some("ObjectLocked"), Some(Kind::Denied)),
        ] {
            assert_eq!(judge_key(code), expected, "{code:?}");
        }
    }

    #[test]
    fn xml_is_read_by_element() {
        let xml = "<?xml?><Error><Code>SlowDown</Code><Message>Please</Message></Error>";
        assert_eq!(element(xml, "Code"), Some("SlowDown"));
        assert_eq!(element(xml, "Nothing"), None);
    }
}
