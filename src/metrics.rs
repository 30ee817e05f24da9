//! The numbers that Larder counts, each with its help text; the page in `docs/` is generated from here.
//!
//! Handles are made once and shared: counting is an atomic addition. Knows nothing of what is counted beyond names.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

pub use sweeps::{AmountLabels, Sweeps, Swept, SweptAmounts, SweptLabels};

mod sweeps;

/// Upper bounds of the latency buckets, in seconds.
const LATENCY: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0];

/// What a request spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// Please's HTTP cache, up to v13.
    Artifact,
    /// Please's HTTP cache, v14 and later.
    Please,
    /// Python's Simple index, and its files.
    Simple,
    /// Python's uploads.
    Legacy,
    /// Curdling's API.
    Curdling,
    /// Please's RPC cache, and what gRPC has beside it.
    Rpc,
    /// Health, readiness, metrics.
    Ops,
    /// No route of ours.
    None,
}

/// What a request did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// GET.
    Get,
    /// HEAD.
    Head,
    /// PUT.
    Put,
    /// POST.
    Post,
    /// DELETE.
    Delete,
    /// Any other method.
    Other,
}

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Found and sent.
    Hit,
    /// Not in the cache.
    Miss,
    /// The client's copy is current.
    Unchanged,
    /// Stored.
    Stored,
    /// Removed.
    Deleted,
    /// Refused by rights.
    Refused,
    /// Refused as malformed.
    Invalid,
    /// The store failed.
    Failed,
    /// Broke off on its way.
    Broken,
    /// Answered; none of the above.
    Done,
}

/// How a TLS handshake ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handshake {
    /// The connection is encrypted.
    Done,
    /// The client's certificate was not good: out of date, or of no authority that is known.
    Certificate,
    /// The client did not go on: often it does not trust our certificate.
    Declined,
    /// The client left without a word.
    Closed,
    /// No common version, or no TLS at all.
    Failed,
    /// Not done within the time of a request's head.
    Slow,
}

/// What came of making young what was used and is old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refreshed {
    /// It is as young as if it had just been stored.
    Done,
    /// Another gateway had done it, or it was stored anew.
    Young,
    /// It is not there any more.
    Gone,
    /// The store failed or refused, or copies move no dates there.
    Failed,
    /// Too many waited already, or nothing is tried for a while because the store refuses.
    Dropped,
}

impl Protocol {
    /// Its label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Artifact => "artifact",
            Self::Please => "please",
            Self::Simple => "simple",
            Self::Legacy => "legacy",
            Self::Curdling => "curdling",
            Self::Rpc => "rpc",
            Self::Ops => "ops",
            Self::None => "none",
        }
    }
}

impl Verb {
    /// Its label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Head => "head",
            Self::Put => "put",
            Self::Post => "post",
            Self::Delete => "delete",
            Self::Other => "other",
        }
    }
}

impl Handshake {
    /// Its label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "ok",
            Self::Certificate => "certificate",
            Self::Declined => "declined",
            Self::Closed => "closed",
            Self::Failed => "failed",
            Self::Slow => "slow",
        }
    }
}

impl Refreshed {
    /// Its label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Young => "young",
            Self::Gone => "gone",
            Self::Failed => "failed",
            Self::Dropped => "dropped",
        }
    }
}

impl Outcome {
    /// Its label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Unchanged => "unchanged",
            Self::Stored => "stored",
            Self::Deleted => "deleted",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
            Self::Failed => "failed",
            Self::Broken => "broken",
            Self::Done => "ok",
        }
    }
}

/// Labels of a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// [`Protocol::name`].
    pub protocol: &'static str,
    /// [`Verb::name`].
    pub verb: &'static str,
    /// [`Outcome::name`].
    pub outcome: &'static str,
}

/// Labels of the bytes or the time of a protocol's verb.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VerbLabels {
    /// [`Protocol::name`].
    pub protocol: &'static str,
    /// [`Verb::name`].
    pub verb: &'static str,
}

/// A request to the store, as it is counted: one for each that goes over the wire, retries too.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CallLabels {
    /// `get`, `head`, `put`, `part`, `create`, `complete`, `abort`, `delete`, `list`, `copy`, `uploads`, `bucket`.
    pub verb: &'static str,
    /// `ok`, `absent`, `unchanged`, `exists`, `conflict`, `denied`, `unavailable`, `corrupt`, `cancelled`.
    pub outcome: &'static str,
}

/// Labels of a TLS handshake.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct HandshakeLabels {
    /// [`Handshake::name`].
    pub result: &'static str,
}

/// Labels of a refresh.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RefreshLabels {
    /// [`Refreshed::name`].
    pub outcome: &'static str,
}

/// All of Larder's metrics. Clones are the same counters.
#[derive(Clone)]
pub struct Metrics(Arc<Registered>);

/// Handles of one protocol's verb: looked up once, then an addition.
#[derive(Default)]
struct Handles {
    outcomes: [OnceLock<Counter>; 10],
    latency: OnceLock<Histogram>,
    received: OnceLock<Counter>,
    sent: OnceLock<Counter>,
}

/// What [`Metrics`] shares.
pub struct Registered {
    registry: Registry,
    handles: [[Handles; 6]; 8],
    /// Requests answered.
    pub requests: Family<RequestLabels, Counter>,
    /// Time from the request's head to the end of its answer.
    pub latency: Family<VerbLabels, Histogram, fn() -> Histogram>,
    /// Bytes received in request bodies.
    pub received: Family<VerbLabels, Counter>,
    /// Bytes sent in response bodies.
    pub sent: Family<VerbLabels, Counter>,
    /// Requests to the store.
    pub calls: Family<CallLabels, Counter>,
    /// Bytes of bodies held in memory under the budget.
    pub inflight: Gauge,
    /// Open connections.
    pub connections: Gauge,
    /// TLS handshakes.
    pub handshakes: Family<HandshakeLabels, Counter>,
    /// Refreshes of what was used.
    pub refreshes: Family<RefreshLabels, Counter>,
    /// 1 while the store answers.
    pub ready: Gauge,
    /// What `larder sweep --every` did.
    pub sweeps: Sweeps,
}

/// A registered family of counters.
fn counted<L>(registry: &mut Registry, name: &str, help: &str) -> Family<L, Counter>
where
    L: Clone + fmt::Debug + Eq + std::hash::Hash + EncodeLabelSet + Send + Sync + 'static,
{
    let family = Family::default();
    registry.register(name, help, family.clone());
    family
}

impl Metrics {
    /// A fresh set, all zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("larder");
        let help = "Requests answered, by protocol, verb and outcome";
        let requests = counted(&mut registry, "requests", help);
        let latency: Family<VerbLabels, Histogram, fn() -> Histogram> =
            Family::new_with_constructor(|| Histogram::new(LATENCY));
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to the end of its answer",
            Unit::Seconds,
            latency.clone(),
        );
        let received = Family::default();
        registry.register_with_unit("received", "Bytes of request bodies", Unit::Bytes, received.clone());
        let sent = Family::default();
        registry.register_with_unit("sent", "Bytes of response bodies", Unit::Bytes, sent.clone());
        let help = "Requests to the store, retries included, by the store's verb and outcome";
        let calls = counted(&mut registry, "store_requests", help);
        let inflight = Gauge::default();
        registry.register_with_unit(
            "inflight",
            "Bytes of bodies held in memory under --max-inflight-bytes",
            Unit::Bytes,
            inflight.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let handshakes = counted(&mut registry, "tls_handshakes", "TLS handshakes, by what came of them");
        let help = "Entries that were made young because they were used, by what came of it";
        let refreshes = counted(&mut registry, "refreshes", help);
        let ready = Gauge::default();
        registry.register("ready", "1 while the store answers, else 0", ready.clone());
        Self(Arc::new(Registered {
            sweeps: Sweeps::registered(&mut registry),
            registry,
            handles: Default::default(),
            requests,
            latency,
            received,
            sent,
            calls,
            inflight,
            connections,
            handshakes,
            refreshes,
            ready,
        }))
    }

    fn handles(&self, protocol: Protocol, verb: Verb) -> &Handles {
        &self.0.handles[protocol as usize][verb as usize]
    }

    /// Counts a request that is over, and how long it took.
    pub fn request(&self, protocol: Protocol, verb: Verb, outcome: Outcome, took: Duration) {
        let handles = self.handles(protocol, verb);
        let (protocol, verb) = (protocol.name(), verb.name());
        let counted = || {
            let labels = RequestLabels { protocol, verb, outcome: outcome.name() };
            self.requests.get_or_create(&labels).clone()
        };
        handles.outcomes[outcome as usize].get_or_init(counted).inc();
        let timed = || self.latency.get_or_create(&VerbLabels { protocol, verb }).clone();
        handles.latency.get_or_init(timed).observe(took.as_secs_f64());
    }

    /// Counts bytes of request bodies.
    pub fn receive(&self, protocol: Protocol, verb: Verb, bytes: u64) {
        let labels = VerbLabels { protocol: protocol.name(), verb: verb.name() };
        let counter = || self.received.get_or_create(&labels).clone();
        self.handles(protocol, verb).received.get_or_init(counter).inc_by(bytes);
    }

    /// Counts bytes of response bodies.
    pub fn send(&self, protocol: Protocol, verb: Verb, bytes: u64) {
        let labels = VerbLabels { protocol: protocol.name(), verb: verb.name() };
        let counter = || self.sent.get_or_create(&labels).clone();
        self.handles(protocol, verb).sent.get_or_init(counter).inc_by(bytes);
    }

    /// Counts one request to the store.
    pub fn call(&self, verb: &'static str, outcome: &'static str) {
        self.calls.get_or_create(&CallLabels { verb, outcome }).inc();
    }

    /// Counts a TLS handshake that is over.
    pub fn handshake(&self, handshake: Handshake) {
        self.handshakes.get_or_create(&HandshakeLabels { result: handshake.name() }).inc();
    }

    /// Counts a refresh that is over, or was not begun.
    pub fn refresh(&self, came: Refreshed) {
        self.refreshes.get_or_create(&RefreshLabels { outcome: came.name() }).inc();
    }

    /// How many requests of this verb the store was sent, whatever came of them.
    pub fn calls_of(&self, verb: &'static str) -> u64 {
        OUTCOMES
            .iter()
            .filter_map(|outcome| self.calls.get(&CallLabels { verb, outcome }).map(|counter| counter.get()))
            .sum()
    }

    /// The page that Prometheus reads (OpenMetrics text).
    pub fn page(&self) -> String {
        let mut page = String::new();
        match prometheus_client::encoding::text::encode(&mut page, &self.registry) {
            Ok(()) => page,
            Err(fmt::Error) => String::new(),
        }
    }
}

/// Every outcome of a store request.
pub const OUTCOMES: [&str; 9] =
    ["ok", "absent", "unchanged", "exists", "conflict", "denied", "unavailable", "corrupt", "cancelled"];

impl std::ops::Deref for Metrics {
    type Target = Registered;

    fn deref(&self) -> &Registered {
        &self.0
    }
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Registered")
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}
