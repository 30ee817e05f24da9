//! The refreshing itself: a unit's objects one after the other, the one whose age readers go by last.
//!
//! So a refresh that breaks off is taken up again by the next use: what readers look at is old still. A few units at a time, and
//! of one entry a few files; whatever fails is tried again by a later use, and only what operators can mend is said aloud.

use std::future::ready;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::mpsc;

use super::{AGAIN, Common, Job, Unit};
use crate::domain::artifact::EntryKey;
use crate::domain::layout::wheels::{self, Part};
use crate::domain::layout::{self, Stored};
use crate::metrics::Refreshed;
use crate::store::{self, Key, Kind, Listed, Listing, Store, Touched};

/// Units that are refreshed at a time.
const AT_ONCE: usize = 4;
/// Files of one entry that are refreshed at a time.
const FILES: usize = 4;
/// After so many refusals in a row nothing is tried for a while. One alone may be about its object, such as one that a rule has
/// moved to an archive.
const REFUSALS: u32 = 3;
/// How long nothing is tried where the store refuses.
const REFUSED: Duration = Duration::from_secs(3600);
/// How long nothing is tried where copies move no dates: only another server changes that.
const USELESS: Duration = Duration::from_secs(24 * 3600);

/// Who works the queue off.
#[derive(Debug)]
pub struct Workers {
    jobs: mpsc::Receiver<Job>,
    worker: Worker,
}

#[derive(Debug)]
struct Worker {
    store: Store,
    common: Arc<Common>,
    /// How many units in a row the store has refused.
    refusals: AtomicU32,
}

/// Why a unit was not refreshed.
enum Trouble {
    /// The store moves no dates.
    Unmoved,
    /// It failed.
    Failed(store::Error),
}

impl From<store::Error> for Trouble {
    fn from(error: store::Error) -> Self {
        Self::Failed(error)
    }
}

impl Workers {
    pub(super) fn new(store: Store, jobs: mpsc::Receiver<Job>, common: Arc<Common>) -> Self {
        Self { jobs, worker: Worker { store, common, refusals: AtomicU32::new(0) } }
    }

    /// Works until nobody is left who could tell of a use. May be dropped at any time: a copy is whole or was never made.
    pub async fn run(self) {
        let Self { mut jobs, worker } = self;
        let jobs = stream::poll_fn(move |context| jobs.poll_recv(context));
        jobs.for_each_concurrent(AT_ONCE, |job| worker.work(job)).await;
    }
}

impl Worker {
    async fn work(&self, Job { unit, hash }: Job) {
        let now = SystemTime::now();
        let place = unit.place();
        let (Some(age), Some(young)) = (self.common.ages.of(place), self.common.ages.young(place, now))
        else {
            return;
        };
        if self.common.is_paused(now) {
            self.common.metrics.refresh(Refreshed::Dropped);
            return;
        }
        let done = self.refresh(&unit, young).await;
        let (came, rest) = match &done {
            Ok(Touched::Done | Touched::Unmoved) => (Refreshed::Done, age),
            Ok(Touched::Young) => (Refreshed::Young, AGAIN.min(age)),
            Ok(Touched::Gone) => (Refreshed::Gone, AGAIN.min(age)),
            Err(_) => (Refreshed::Failed, AGAIN.min(age)),
        };
        self.common.metrics.refresh(came);
        // An age beyond all dates is never reached.
        self.common.tried.insert(hash, now.checked_add(rest).unwrap_or(now));
        tracing::debug!(?unit, outcome = came.name(), "refreshed, as it was used and is old");
        match done {
            Ok(_) => self.refusals.store(0, Ordering::Relaxed),
            Err(trouble) => self.judge(trouble, now),
        }
    }

    /// What a failure means for all other units.
    fn judge(&self, trouble: Trouble, now: SystemTime) {
        match trouble {
            Trouble::Unmoved if self.common.is_paused(now) => {}
            Trouble::Unmoved => {
                self.common.pause(now, USELESS);
                tracing::warn!(
                    "this store does not move the date of an object that is copied onto itself: expiry goes by when things were \
                     stored, not by their last use; `--refresh off` saves the attempt"
                );
            }
            Trouble::Failed(error) if error.kind == Kind::Denied => {
                let refusals = self.refusals.fetch_add(1, Ordering::Relaxed) + 1;
                if refusals >= REFUSALS && !self.common.is_paused(now) {
                    self.common.pause(now, REFUSED);
                    tracing::warn!(
                        key = %error.key,
                        cause = %error.chain(),
                        "the store refuses to make objects young when they are used: it is left alone for an hour; a bucket's \
                         gateway needs s3:PutObject and s3:GetObject for it, a directory's has to own the files; or switch it \
                         off with `--refresh off`"
                    );
                }
            }
            Trouble::Failed(error) => {
                tracing::debug!(key = %error.key, cause = %error.chain(), "a refresh failed");
            }
        }
    }

    async fn refresh(&self, unit: &Unit, young: SystemTime) -> Result<Touched, Trouble> {
        match unit {
            Unit::Please(hash) => self.touch(&layout::please(hash), young).await,
            Unit::Build(index, key) => self.touch(&wheels::build(index, *key), young).await,
            Unit::Entry(entry) => self.entry(entry, young).await,
            // Readers go by the file's own age. A mark that is gone before its file takes nothing back: it is as young as the
            // youngest of them, whatever its age, also where a day ends in between.
            Unit::Distribution(index, filename) => {
                let parts = [Part::Record, Part::Yank, Part::Metadata, Part::Content, Part::Yank];
                let mut came = Touched::Gone;
                for part in parts {
                    let young = if part == Part::Yank { SystemTime::now() } else { young };
                    came = both(came, self.touch(&wheels::file(index, filename, part), young).await?);
                }
                Ok(came)
            }
        }
    }

    /// The files first, the manifest last: it is never younger than what it tells of.
    async fn entry(&self, entry: &EntryKey, young: SystemTime) -> Result<Touched, Trouble> {
        let lines = self.store.list(&layout::entry(entry), Listing::default());
        let (mut manifest, mut came) = (None, Touched::Gone);
        let old = lines.map_err(Trouble::from).try_filter_map(|line| {
            let Listed::Object { key, modified, .. } = line else { return ready(Ok(None)) };
            let old = match layout::parse(&key) {
                Some(Stored::Artifact(file)) if file.is_of(entry) => modified < young,
                Some(Stored::Manifest(of)) if of == *entry => {
                    manifest = (modified < young).then_some(key);
                    return ready(Ok(None));
                }
                Some(Stored::Artifact(_) | Stored::Manifest(_) | Stored::Please(_) | Stored::Wheel(_))
                | None => return ready(Ok(None)),
            };
            if !old {
                came = both(came, Touched::Young);
            }
            ready(Ok(old.then_some(key)))
        });
        let touched = old.map_ok(|key| async move { self.touch(&key, young).await });
        let files =
            touched.try_buffer_unordered(FILES).try_fold(Touched::Gone, |all, one| ready(Ok(both(all, one))));
        let files = files.await?;
        came = both(came, files);
        match manifest {
            Some(manifest) => Ok(both(came, self.touch(&manifest, young).await?)),
            None => Ok(came),
        }
    }

    async fn touch(&self, key: &Key, young: SystemTime) -> Result<Touched, Trouble> {
        match self.store.refresh(key, young).await? {
            Touched::Unmoved => Err(Trouble::Unmoved),
            came @ (Touched::Done | Touched::Young | Touched::Gone) => Ok(came),
        }
    }
}

/// What came of two objects of one unit.
fn both(one: Touched, other: Touched) -> Touched {
    match (one, other) {
        (Touched::Unmoved, _) | (_, Touched::Unmoved) => Touched::Unmoved,
        (Touched::Done, _) | (_, Touched::Done) => Touched::Done,
        (Touched::Young, _) | (_, Touched::Young) => Touched::Young,
        (Touched::Gone, Touched::Gone) => Touched::Gone,
    }
}
