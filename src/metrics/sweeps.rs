//! What a sweep that runs again and again tells of itself. A gateway has none of these series: none appears before it is counted.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

/// How a sweep ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Swept {
    /// There is no more left than there may be.
    Done,
    /// There is more left than the mark, and nothing more may go.
    Short,
    /// The store failed, or refused to remove something.
    Failed,
}

impl Swept {
    /// Its label.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Short => "short",
            Self::Failed => "failed",
        }
    }
}

/// Labels of what ended in one way or another.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct SweptLabels {
    /// [`Swept::name`].
    pub result: &'static str,
}

/// Labels of an amount.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct AmountLabels {
    /// `entries`, `objects` or `bytes`.
    pub of: &'static str,
}

/// Counts of sweeps.
#[derive(Debug, Clone, Default)]
pub struct Sweeps {
    ended: Family<SweptLabels, Counter>,
    removed: Family<AmountLabels, Counter>,
    seen: Family<AmountLabels, Gauge>,
    took: Family<SweptLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
    at: Family<SweptLabels, Gauge<f64, std::sync::atomic::AtomicU64>>,
}

/// Entries, objects and bytes that a sweep removed, and objects and bytes that it saw.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SweptAmounts {
    /// Whole entries that are gone.
    pub entries: u64,
    /// Objects that are gone.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Objects that there were when it began.
    pub seen_objects: u64,
    /// Their bytes.
    pub seen_bytes: u64,
}

impl Sweeps {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let new = Self::default();
        registry.register("sweeps", "Sweeps that ended, by how", new.ended.clone());
        registry.register("sweep_removed", "What sweeps removed", new.removed.clone());
        registry.register("sweep_seen", "What the last sweep saw when it began", new.seen.clone());
        registry.register_with_unit(
            "sweep_took",
            "How long the last sweep took that ended so",
            Unit::Seconds,
            new.took.clone(),
        );
        registry.register_with_unit(
            "sweep_ended",
            "When the last sweep ended so, in seconds since 1970",
            Unit::Seconds,
            new.at.clone(),
        );
        new
    }

    /// Counts a sweep that is over.
    pub fn swept(&self, result: Swept, amounts: SweptAmounts, took: Duration, now: SystemTime) {
        let labels = SweptLabels { result: result.name() };
        self.ended.get_or_create(&labels).inc();
        for (of, count) in
            [("entries", amounts.entries), ("objects", amounts.objects), ("bytes", amounts.bytes)]
        {
            self.removed.get_or_create(&AmountLabels { of }).inc_by(count);
        }
        for (of, count) in [("objects", amounts.seen_objects), ("bytes", amounts.seen_bytes)] {
            self.seen.get_or_create(&AmountLabels { of }).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        self.took.get_or_create(&labels).set(took.as_secs_f64());
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at.get_or_create(&labels).set(since.as_secs_f64());
    }
}
