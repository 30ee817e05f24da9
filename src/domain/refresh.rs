//! Use keeps alive: what was found although it is getting old is made young again, behind everybody's back.
//!
//! Whoever finds something tells [`Refresh`], which compares two times. Only where the thing is old it goes into a queue, once,
//! and [`Workers`] refresh it with all that stands and falls with it. No answer waits for that: a full queue forgets, a store that
//! refuses is left alone for a while. Nothing is kept but what has been tried lately.

use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use quick_cache::sync::{Cache, EntryAction, EntryResult};
use tokio::sync::mpsc::{self, error::TrySendError};

use super::artifact::EntryKey;
use super::please::CacheHash;
use super::wheels::{BuildKey, DistributionFilename, IndexName};
use crate::metrics::{Metrics, Refreshed};
use crate::payload::{Body, Object};
use crate::store::Store;
pub use age::{Ages, Place};
pub use work::Workers;

mod age;
mod work;

/// Most units that wait for their turn: what one burst of uses brings, and a few KiB each at the very most.
const QUEUE: usize = 512;
/// Units of which it is remembered that they were tried: some 50 bytes each.
const REMEMBERED: usize = 10_000;
/// How long a unit that could not be refreshed is left alone, at most.
const AGAIN: Duration = Duration::from_secs(3600);

/// What is refreshed as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Unit {
    /// All files of an entry, and its manifest.
    Entry(EntryKey),
    /// An entry of Please v14 and later.
    Please(CacheHash),
    /// A distribution with its record, metadata and yank marker.
    Distribution(IndexName, DistributionFilename),
    /// What a build came to.
    Build(IndexName, BuildKey),
}

impl Unit {
    fn place(&self) -> Place {
        match self {
            Self::Entry(_) => Place::Artifacts,
            Self::Please(_) => Place::Please,
            Self::Distribution(index, _) | Self::Build(index, _) => Place::of(index),
        }
    }
}

/// A unit in the queue, and its name among those that were tried.
#[derive(Debug)]
struct Job {
    unit: Unit,
    hash: u64,
}

/// Where uses are told. Clones are the same queue; the default takes nothing.
#[derive(Debug, Clone, Default)]
pub struct Refresh(Option<Arc<Told>>);

#[derive(Debug)]
struct Told {
    queue: mpsc::Sender<Job>,
    common: Arc<Common>,
}

/// What those who tell and those who work share.
#[derive(Debug)]
struct Common {
    ages: Ages,
    metrics: Metrics,
    names: RandomState,
    /// Units that were tried, by their hash, and until when they are left alone.
    tried: Cache<u64, SystemTime>,
    /// Until when nothing is tried at all, in seconds since 1970.
    paused: AtomicU64,
}

impl Refresh {
    /// A queue, and who works it off.
    pub fn new(store: Store, ages: Ages, metrics: Metrics) -> (Self, Workers) {
        let (queue, jobs) = mpsc::channel(QUEUE);
        let common = Arc::new(Common {
            ages,
            metrics,
            names: RandomState::new(),
            tried: Cache::new(REMEMBERED),
            paused: AtomicU64::new(0),
        });
        let workers = Workers::new(store, jobs, Arc::clone(&common));
        (Self(Some(Arc::new(Told { queue, common }))), workers)
    }

    /// Something of this date was found.
    pub(super) fn used(&self, place: Place, modified: SystemTime, unit: impl FnOnce() -> Unit) {
        let Some(told) = &self.0 else { return };
        let now = SystemTime::now();
        if told.common.ages.is_due(place, modified, now) {
            told.offer(unit(), now);
        }
    }

    /// An object was found. Of one that is unchanged the store may not have told the date.
    pub(super) fn read(&self, place: Place, object: &Object, unit: impl FnOnce() -> Unit) {
        let untold = matches!(object.body, Body::Unchanged) && object.meta.modified == UNIX_EPOCH;
        if !untold {
            self.used(place, object.meta.modified, unit);
        }
    }

    /// The manifest of an entry took the place of one of this date: it is young now, and vouches for files that may not be.
    pub(super) fn grown(&self, entry: &EntryKey, before: SystemTime) {
        let Some(told) = &self.0 else { return };
        let now = SystemTime::now();
        if told.common.ages.young(Place::Artifacts, now).is_some_and(|young| before < young) {
            let unit = Unit::Entry(entry.clone());
            // Whenever it was refreshed: what came since has made its manifest younger than the rest.
            told.common.tried.remove(&told.common.names.hash_one(&unit));
            told.offer(unit, now);
        }
    }
}

impl Told {
    fn offer(&self, unit: Unit, now: SystemTime) {
        if self.common.is_paused(now) {
            return;
        }
        let hash = self.common.names.hash_one(&unit);
        if !self.common.claims(hash, now) {
            return;
        }
        match self.queue.try_send(Job { unit, hash }) {
            // The gateway is about to end.
            Ok(()) | Err(TrySendError::Closed(_)) => {}
            Err(TrySendError::Full(_)) => {
                self.common.tried.remove(&hash);
                self.common.metrics.refresh(Refreshed::Dropped);
            }
        }
    }
}

impl Common {
    /// Whether a unit is the caller's to try: nobody has tried it lately.
    fn claims(&self, hash: u64, now: SystemTime) -> bool {
        let until = now + AGAIN;
        let claim = self.tried.entry(&hash, Some(Duration::ZERO), |_, tried| {
            let free = *tried <= now;
            if free {
                *tried = until;
            }
            EntryAction::Retain(free)
        });
        match claim {
            EntryResult::Retained(free) => free,
            EntryResult::Vacant(room) => room.insert(until).is_ok(),
            // Somebody else is claiming it right now.
            EntryResult::Timeout | EntryResult::Removed(..) | EntryResult::Replaced(..) => false,
        }
    }

    fn is_paused(&self, now: SystemTime) -> bool {
        seconds(now) < self.paused.load(Ordering::Relaxed)
    }

    /// Tries nothing for a while.
    fn pause(&self, now: SystemTime, time: Duration) {
        self.paused.store(seconds(now + time), Ordering::Relaxed);
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests;
