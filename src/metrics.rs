//! The numbers that Larder counts, each with its help text; the page in `docs/` is generated from here.
//!
//! Handles are made once and shared: counting is an atomic addition. Knows nothing of what is counted beyond names.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Upper bounds of the latency buckets, in seconds.
const LATENCY: [f64; 12] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 5.0, 30.0, 120.0];

/// A request, as it is counted.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct RequestLabels {
    /// `artifact`, `please`, `ops` or `none` (no such route).
    pub protocol: &'static str,
    /// `get`, `head`, `put`, `post`, `delete`, `other`.
    pub verb: &'static str,
    /// `hit`, `miss`, `unchanged`, `stored`, `deleted`, `refused`, `invalid`, `failed`, `broken`, `ok`.
    pub outcome: &'static str,
}

/// Bytes or time of a protocol's verb.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VerbLabels {
    /// As [`RequestLabels::protocol`].
    pub protocol: &'static str,
    /// As [`RequestLabels::verb`].
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

/// All of Larder's metrics. Clones are the same counters.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
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
    /// 1 while the store answers.
    pub ready: Gauge,
}

impl Metrics {
    /// A fresh set, all zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("larder");
        let requests = Family::default();
        registry.register("requests", "Requests answered, by protocol, verb and outcome", requests.clone());
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
        let calls = Family::default();
        registry.register(
            "store_requests",
            "Requests to the store, retries included, by the store's verb and outcome",
            calls.clone(),
        );
        let inflight = Gauge::default();
        registry.register_with_unit(
            "inflight",
            "Bytes of bodies held in memory under --max-inflight-bytes",
            Unit::Bytes,
            inflight.clone(),
        );
        let connections = Gauge::default();
        registry.register("connections", "Open connections", connections.clone());
        let ready = Gauge::default();
        registry.register("ready", "1 while the store answers, else 0", ready.clone());
        Self {
            registry: Arc::new(registry),
            requests,
            latency,
            received,
            sent,
            calls,
            inflight,
            connections,
            ready,
        }
    }

    /// Counts one request to the store.
    pub fn call(&self, verb: &'static str, outcome: &'static str) {
        self.calls.get_or_create(&CallLabels { verb, outcome }).inc();
    }

    /// How many requests of this verb the store was sent, whatever came of them.
    pub fn calls_of(&self, verb: &'static str) -> u64 {
        OUTCOMES
            .iter()
            .filter_map(|outcome| self.calls.get(&CallLabels { verb, outcome }).map(|counter| counter.get()))
            .sum()
    }

    /// Notes how long a request took.
    pub fn took(&self, protocol: &'static str, verb: &'static str, time: Duration) {
        self.latency.get_or_create(&VerbLabels { protocol, verb }).observe(time.as_secs_f64());
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
