//! An examination of a bucket: each probe one question or a few, by single requests as they are (`wire/raw.rs`).
//!
//! What may exist because of it is noted before it is asked for, and every request that may change something runs to its
//! end in a task of its own: so that [`Examiner::clean`] finds all of it, wherever [`Examiner::run`] was broken off. Writes
//! only where it has seen that it may delete. Decides nothing about what it sees.

mod access;
mod ask;
mod bucket;
mod conditions;
mod exposure;
mod ledger;
mod lists;
mod objects;
mod reach;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use self::ledger::Ledger;
use super::{Config, S3};
use crate::budget::Budget;
use crate::metrics::Metrics;
use crate::store::error::{Error, Kind, Op};
use crate::store::examine::{Depth, Observation, PLACE, Probe, Seen};
use crate::store::key::Key;

/// Names of what is written, below the examination's own place; in their order.
const FIRST: &str = "a-first";
const SECOND: &str = "b-second";
const THIRD: &str = "c-third";
/// A name that nothing is stored under.
const NOBODY: &str = "nobody";

/// Who examines a bucket.
pub(in crate::store) struct Examiner {
    s3: Arc<S3>,
    plain: bool,
    encrypted: bool,
    depth: Depth,
    /// What all that it writes lies below.
    base: String,
    tracker: TaskTracker,
    ledger: Arc<Ledger>,
    /// Requests in a row that were not answered.
    silence: AtomicU32,
}

impl fmt::Debug for Examiner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Examiner").field("base", &self.base).finish_non_exhaustive()
    }
}

/// What the probes before tell those behind.
#[derive(Debug, Default)]
struct Known {
    /// Whether the bucket keeps versions, as far as it says.
    versions: Option<bool>,
    /// Whether a version would remain of what is deleted, if versions are kept.
    sticky: bool,
    /// Whether what is written must be kept.
    retained: bool,
    /// Whether objects can be listed, read, deleted.
    list: bool,
    delete: bool,
    /// Whether uploads can be aborted.
    abort: bool,
    /// Why nothing may be written, if so.
    no_write: Option<String>,
}

impl Examiner {
    /// Reads the default chain and prepares.
    pub(in crate::store) async fn connect(config: Config, depth: Depth) -> Result<Self, Error> {
        let plain = config.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let base = format!("{PLACE}/{:016x}", fastrand::u64(..));
        let encrypted = config.sse.is_some();
        let s3 = S3::connect(config, None, Budget::new(1 << 20), Metrics::new()).await?;
        let examiner = Self {
            s3: Arc::new(s3),
            plain,
            encrypted,
            depth,
            base,
            tracker: TaskTracker::new(),
            ledger: Arc::default(),
            silence: AtomicU32::new(0),
        };
        // The longest name that is asked for, beside the store's own prefix.
        examiner.name(FIRST).map(|_| examiner)
    }

    fn name(&self, leaf: &str) -> Result<Key, Error> {
        let name = format!("{}/{leaf}", self.base);
        name.parse().map_err(|error| Error::new(Kind::Denied, Op::Probe, name, error))
    }

    /// See [`crate::store::examine::Examination::run`].
    pub(in crate::store) async fn run(&self, tell: &(dyn Fn(Observation) + Sync)) {
        let say = |probe, seen| tell(Observation { probe, seen });
        if !self.reach(&say).await {
            return;
        }
        let mut known = Known::default();
        self.bucket(&say, &mut known).await;
        self.access(&say, &mut known).await;
        self.write(&say, &mut known).await;
        self.exposure(&say).await;
    }

    /// All that needs an object of our own.
    async fn write(&self, say: &Say<'_>, known: &mut Known) {
        if let Some(why) = known.no_write.take() {
            self.unwritten(say, known, &why).await;
            return;
        }
        let Some(written) = self.objects(say, known).await else { return };
        self.conditions(say, known, written.is_read()).await;
        self.lists(say, known).await;
        self.strangers(say).await;
        self.refresh(say, &written).await;
        self.delete_many(say, known).await;
    }

    /// Waits for what is under way and removes all that may be there. Whatever could not be removed is named.
    pub(in crate::store) async fn clean(&self) -> Seen {
        self.tracker.close();
        if tokio::time::timeout(Duration::from_secs(10), self.tracker.wait()).await.is_err() {
            tracing::debug!("a request of the examination does not end");
        }
        self.tracker.reopen();
        self.silence.store(0, std::sync::atomic::Ordering::Relaxed);
        self.abort_uploads().await;
        self.delete_objects().await;
        self.delete_versions().await;
        self.s3.close().await;
        self.ledger.rest()
    }
}

/// Who is told what was seen.
type Say<'s> = dyn Fn(Probe, Seen) + Sync + 's;

/// Each of these was not tried.
fn skip(say: &Say<'_>, probes: &[Probe], why: &str) {
    probes.iter().for_each(|probe| say(*probe, Seen::Skipped(why.to_owned())));
}
