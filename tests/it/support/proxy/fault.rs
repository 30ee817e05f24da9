//! What can go wrong between Larder and its store, and when: faults, the rules that choose one for a
//! request, and the log of requests seen. No IO.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use http::{HeaderMap, Method, StatusCode};

/// One way for a store, or the network before it, to fail. Counts of bytes are of the body; a body
/// with no byte beyond the count passes whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: the request passes.
    Pass,
    /// As [`FaultProxy::set`](super::FaultProxy::set): the port is closed and connections under way are
    /// reset. By a rule: the connection is reset and the request goes nowhere.
    Refuse,
    /// The request is taken and never answered.
    Hang,
    /// The request is carried out, and the connection reset instead of an answer.
    LoseAnswer,
    /// The connection is reset once this many bytes of the answer have been sent; fewer may arrive.
    ResetMidBody(u64),
    /// As [`Fault::ResetMidBody`], but closed in good order: the answer is shorter than it says.
    CloseMidBody(u64),
    /// After this many bytes of the answer nothing more comes, and nothing ends.
    HangMidBody(u64),
    /// The answer is cut to this many bytes and says so in its `Content-Length`: it looks whole.
    UnderstateLength(u64),
    /// The lowest bit of the byte at this offset of the answer is turned over.
    FlipByte(u64),
    /// Both connections are reset once this many bytes of the request's body have been passed on.
    ResetMidUpload(u64),
    /// The lowest bit of the byte at this offset of the request's body is turned over.
    FlipUploadByte(u64),
    /// 503 `SlowDown`; the request goes nowhere. So with the next three; each reads the body first.
    SlowDown,
    /// 500 `InternalError`.
    InternalError,
    /// 403 `AccessDenied`.
    AccessDenied,
    /// 200 with an `<Error>` inside, as Complete, Copy and the batched delete may answer.
    OkWithError,
    /// One request in `n`, by chance, is answered by 503 `SlowDown`; the same ones for the same seed
    /// and order of requests.
    OneIn {
        /// At least 1.
        n: u32,
        /// Where chance begins.
        seed: u64,
    },
    /// The request passes, this much later.
    Latency(Duration),
    /// The request passes without this header.
    Strip(&'static str),
    /// The request passes, and the answer's date is so many seconds ahead.
    Ahead(u64),
    /// 200 and this XML, with a validator; the request goes nowhere.
    Says(&'static str),
}

impl Fault {
    /// The answer that this fault gives in the store's stead: status and S3 error code.
    pub(super) fn answer(&self) -> Option<(StatusCode, &'static str)> {
        match self {
            Self::SlowDown => Some((StatusCode::SERVICE_UNAVAILABLE, "SlowDown")),
            Self::InternalError => Some((StatusCode::INTERNAL_SERVER_ERROR, "InternalError")),
            Self::AccessDenied => Some((StatusCode::FORBIDDEN, "AccessDenied")),
            Self::OkWithError => Some((StatusCode::OK, "InternalError")),
            Self::Pass
            | Self::Refuse
            | Self::Hang
            | Self::LoseAnswer
            | Self::ResetMidBody(_)
            | Self::CloseMidBody(_)
            | Self::HangMidBody(_)
            | Self::UnderstateLength(_)
            | Self::FlipByte(_)
            | Self::ResetMidUpload(_)
            | Self::FlipUploadByte(_)
            | Self::OneIn { .. }
            | Self::Latency(_)
            | Self::Strip(_)
            | Self::Ahead(_)
            | Self::Says(_) => None,
        }
    }
}

/// The head of a request that the proxy has seen.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// Its method.
    pub(crate) method: Method,
    /// Path and query, as sent.
    pub(crate) target: String,
    /// Its headers, credentials among them.
    pub(crate) headers: HeaderMap,
}

impl Seen {
    /// The path, as sent: `/bucket/key`.
    pub(crate) fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// Whether the query has this name, with or without a value.
    pub(crate) fn asks(&self, name: &str) -> bool {
        let query = self.target.split_once('?').map_or("", |(_, query)| query);
        query.split('&').any(|pair| pair.split('=').next() == Some(name))
    }

    /// What S3 calls this request (its API reference, "Actions"); `Other` beyond those that Larder uses.
    pub(crate) fn verb(&self) -> &'static str {
        let copy = self.headers.contains_key("x-amz-copy-source");
        let object = self.path().trim_start_matches('/').contains('/');
        match self.method.as_str() {
            "GET" if self.asks("uploads") => "ListMultipartUploads",
            "GET" if self.asks("uploadId") => "ListParts",
            "GET" if self.asks("list-type") => "ListObjectsV2",
            "GET" if self.asks("lifecycle") => "GetBucketLifecycle",
            "PUT" if self.asks("lifecycle") => "PutBucketLifecycle",
            "GET" if object => "GetObject",
            "HEAD" if object => "HeadObject",
            "HEAD" => "HeadBucket",
            "PUT" if self.asks("partNumber") && copy => "UploadPartCopy",
            "PUT" if self.asks("partNumber") => "UploadPart",
            "PUT" if copy => "CopyObject",
            "PUT" if object => "PutObject",
            "POST" if self.asks("uploads") => "CreateMultipartUpload",
            "POST" if self.asks("uploadId") => "CompleteMultipartUpload",
            "POST" if self.asks("delete") => "DeleteObjects",
            "DELETE" if self.asks("uploadId") => "AbortMultipartUpload",
            "DELETE" if object => "DeleteObject",
            _ => "Other",
        }
    }
}

/// Says which requests a rule is for.
type Predicate = Box<dyn Fn(&Seen) -> bool + Send>;

/// A fault with the state that it needs.
#[derive(Debug)]
struct Armed {
    fault: Fault,
    chance: fastrand::Rng,
}

impl Armed {
    fn new(fault: Fault) -> Self {
        let seed = if let Fault::OneIn { seed, .. } = fault { seed } else { 0 };
        Self { fault, chance: fastrand::Rng::with_seed(seed) }
    }

    fn fire(&mut self) -> Fault {
        let Fault::OneIn { n, .. } = self.fault else { return self.fault.clone() };
        if self.chance.u32(0..n) == 0 { Fault::SlowDown } else { Fault::Pass }
    }
}

struct Rule {
    wanted: Predicate,
    armed: Armed,
    left: Option<usize>,
}

/// The rules in force, and what has been seen under them.
pub(super) struct Plan {
    otherwise: Armed,
    rules: Vec<Rule>,
    seen: Vec<Seen>,
}

impl fmt::Debug for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Plan")
            .field("otherwise", &self.otherwise)
            .field("rules", &self.rules.len())
            .field("seen", &self.seen.len())
            .finish()
    }
}

impl Default for Plan {
    fn default() -> Self {
        Self { otherwise: Armed::new(Fault::Pass), rules: Vec::new(), seen: Vec::new() }
    }
}

impl Plan {
    pub(super) fn set(&mut self, fault: Fault) {
        self.otherwise = Armed::new(fault);
        self.rules.clear();
    }

    pub(super) fn add(&mut self, wanted: Predicate, fault: Fault, times: Option<usize>) {
        self.rules.push(Rule { wanted, armed: Armed::new(fault), left: times });
    }

    /// Logs a request, and says what becomes of it: the first rule that wants it and is not used up,
    /// or else what is in force for all.
    pub(super) fn decide(&mut self, seen: Seen) -> Fault {
        let mut fault = None;
        for rule in &mut self.rules {
            if rule.left != Some(0) && (rule.wanted)(&seen) {
                rule.left = rule.left.map(|left| left - 1);
                fault = Some(rule.armed.fire());
                break;
            }
        }
        self.seen.push(seen);
        fault.unwrap_or_else(|| self.otherwise.fire())
    }

    pub(super) fn seen(&self) -> &[Seen] {
        &self.seen
    }

    pub(super) fn take_seen(&mut self) -> Vec<Seen> {
        std::mem::take(&mut self.seen)
    }

    pub(super) fn verbs(&self) -> BTreeMap<&'static str, usize> {
        let mut counts = BTreeMap::new();
        for seen in &self.seen {
            *counts.entry(seen.verb()).or_default() += 1;
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::{Fault, HeaderMap, Method, Plan, Seen};

    fn seen(method: Method, target: &str) -> Seen {
        Seen { method, target: target.to_owned(), headers: HeaderMap::new() }
    }

    #[test]
    fn requests_are_named_as_s3_names_them() {
        let cases = [
            (Method::GET, "/b/k", "GetObject"),
            (Method::GET, "/b?list-type=2&prefix=uploads", "ListObjectsV2"),
            (Method::GET, "/b/?uploads", "ListMultipartUploads"),
            (Method::HEAD, "/b/k", "HeadObject"),
            (Method::HEAD, "/b", "HeadBucket"),
            (Method::PUT, "/b/k", "PutObject"),
            (Method::PUT, "/b/k?partNumber=1&uploadId=x", "UploadPart"),
            (Method::POST, "/b/k?uploads", "CreateMultipartUpload"),
            (Method::POST, "/b/k?uploadId=x", "CompleteMultipartUpload"),
            (Method::POST, "/b?delete", "DeleteObjects"),
            (Method::DELETE, "/b/k?uploadId=x", "AbortMultipartUpload"),
            (Method::DELETE, "/b/k", "DeleteObject"),
            (Method::PATCH, "/b/k", "Other"),
        ];
        for (method, target, verb) in cases {
            assert_eq!(seen(method.clone(), target).verb(), verb, "{method} {target}");
        }
        let mut copy = seen(Method::PUT, "/b/k");
        copy.headers.insert("x-amz-copy-source", "b/k".parse().unwrap());
        assert_eq!(copy.verb(), "CopyObject");
    }

    #[test]
    fn rules_come_first_and_are_used_up() {
        let mut plan = Plan::default();
        plan.set(Fault::Hang);
        plan.add(Box::new(|seen| seen.method == Method::GET), Fault::SlowDown, Some(1));
        assert_eq!(plan.decide(seen(Method::PUT, "/b/k")), Fault::Hang);
        assert_eq!(plan.decide(seen(Method::GET, "/b/k")), Fault::SlowDown);
        assert_eq!(plan.decide(seen(Method::GET, "/b/k")), Fault::Hang);
        plan.set(Fault::Pass);
        assert_eq!(plan.decide(seen(Method::GET, "/b/k")), Fault::Pass);
        assert_eq!(plan.verbs(), [("GetObject", 3), ("PutObject", 1)].into());
    }

    #[test]
    fn chance_is_the_same_for_the_same_seed() {
        let run = |seed| {
            let mut plan = Plan::default();
            plan.set(Fault::OneIn { n: 3, seed });
            (0..300).map(|_| plan.decide(seen(Method::GET, "/b/k"))).collect::<Vec<_>>()
        };
        let first = run(7);
        assert_eq!(first, run(7));
        assert_ne!(first, run(8));
        let hit = first.iter().filter(|fault| **fault == Fault::SlowDown).count();
        assert!((60..140).contains(&hit), "{hit} of 300");
    }
}
