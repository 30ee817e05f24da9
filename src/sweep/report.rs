//! How far a sweep is, and what came of it: counters that others may read meanwhile, and their sum.

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use bytesize::ByteSize;
use serde::Serialize;

use super::Terms;
use super::plan::Verdict;
use crate::domain::entries::Entry;

/// What a sweep is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Listing, to see what there is.
    Looking,
    /// Listing, and removing.
    Removing,
}

/// Counts as the sweep goes on.
#[derive(Debug, Default)]
pub struct Counters {
    stage: AtomicUsize,
    /// Bytes that are to go; 0 where that is not known.
    wanted: AtomicU64,
    /// Of this pass.
    listed: AtomicU64,
    listed_bytes: AtomicU64,
    /// Of the first pass.
    objects: AtomicU64,
    bytes: AtomicU64,
    passes: AtomicU64,
    gone: [AtomicU64; 3],
    expired: AtomicU64,
    surplus: AtomicU64,
    partial: AtomicU64,
    orphans: AtomicU64,
    spared: AtomicU64,
    failed: AtomicU64,
    uploads: AtomicU64,
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl Counters {
    /// What is going on.
    pub fn stage(&self) -> Stage {
        if self.stage.load(Ordering::Relaxed) == 0 { Stage::Looking } else { Stage::Removing }
    }

    /// Objects that this pass has seen, and their bytes.
    pub fn listed(&self) -> (u64, u64) {
        (read(&self.listed), read(&self.listed_bytes))
    }

    /// Bytes that are gone, or would be.
    pub fn freed(&self) -> u64 {
        read(&self.gone[2])
    }

    /// Bytes that are to be gone in the end, where that is known.
    pub fn wanted(&self) -> Option<u64> {
        Some(read(&self.wanted)).filter(|bytes| *bytes > 0)
    }

    /// Objects that could not be removed.
    pub fn failed(&self) -> u64 {
        read(&self.failed)
    }

    pub(super) fn begin(&self, stage: Stage, wanted: Option<u64>) {
        self.stage.store(usize::from(stage == Stage::Removing), Ordering::Relaxed);
        self.wanted.store(wanted.map_or(0, |bytes| self.freed() + bytes), Ordering::Relaxed);
        for counter in [&self.listed, &self.listed_bytes] {
            counter.store(0, Ordering::Relaxed);
        }
        add(&self.passes, 1);
    }

    pub(super) fn line(&self, bytes: u64) {
        add(&self.listed, 1);
        add(&self.listed_bytes, bytes);
        if read(&self.passes) == 1 {
            add(&self.objects, 1);
            add(&self.bytes, bytes);
        }
    }

    /// An entry is gone.
    pub(super) fn gone(&self, entry: &Entry, why: Verdict) {
        self.part_gone(entry.objects, entry.bytes, why);
        add(&self.gone[0], 1);
    }

    /// Some objects of an entry are gone.
    pub(super) fn part_gone(&self, objects: u64, bytes: u64, why: Verdict) {
        add(&self.gone[1], objects);
        add(&self.gone[2], bytes);
        match why {
            Verdict::Expired => add(&self.expired, 1),
            Verdict::Surplus => add(&self.surplus, 1),
            Verdict::Suspect => add(&self.partial, 1),
            Verdict::Orphan => add(&self.orphans, 1),
            Verdict::Keep => {}
        }
    }

    pub(super) fn spared(&self) {
        add(&self.spared, 1);
    }

    pub(super) fn fails(&self, objects: u64) {
        add(&self.failed, objects);
    }

    pub(super) fn reaped(&self, uploads: u64) {
        add(&self.uploads, uploads);
    }

    /// The sum, as far as it goes.
    pub fn summary(&self, terms: &Terms, reached: bool) -> Summary {
        let [entries, objects, bytes] = self.gone.each_ref().map(read);
        Summary {
            dry_run: terms.dry_run,
            seen: Amount { entries: None, objects: read(&self.objects), bytes: read(&self.bytes) },
            removed: Amount { entries: Some(entries), objects, bytes },
            expired: read(&self.expired),
            surplus: read(&self.surplus),
            partial: read(&self.partial),
            orphans: read(&self.orphans),
            uploads: read(&self.uploads),
            spared: read(&self.spared),
            failed: read(&self.failed),
            low_water: terms.rules.marks.map(|marks| marks.low),
            reached,
        }
    }
}

/// So much of something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Whole entries, where they are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entries: Option<u64>,
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What came of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Nothing was removed; this is what would be.
    pub dry_run: bool,
    /// What there was when it began.
    pub seen: Amount,
    /// What is gone, or would be.
    pub removed: Amount,
    /// Entries of it that were not used for too long.
    pub expired: u64,
    /// Entries of it that others of later use took the place of.
    pub surplus: u64,
    /// Entries, or what was left of them, whose Store broke off.
    pub partial: u64,
    /// Sidecars of nothing.
    pub orphans: u64,
    /// Uploads that broke off.
    pub uploads: u64,
    /// Entries that were to go, but for being written or used meanwhile.
    pub spared: u64,
    /// Objects that could not be removed; each was named when it failed.
    pub failed: u64,
    /// Where it was to stop, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub low_water: Option<u64>,
    /// Whether there is no more left than there may be.
    pub reached: bool,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = if self.dry_run { "would remove" } else { "removed" };
        let Amount { entries, objects, bytes } = self.removed;
        let entries = entries.unwrap_or_default();
        write!(f, "{what} {entries} entries ({objects} objects, {}) of", ByteSize(bytes))?;
        write!(f, " {} objects ({})", self.seen.objects, ByteSize(self.seen.bytes))?;
        for (count, name) in [
            (self.partial, "partial entries"),
            (self.orphans, "orphans"),
            (self.uploads, "broken uploads"),
            (self.spared, "spared"),
            (self.failed, "objects failed"),
        ] {
            if count > 0 {
                write!(f, ", {count} {name}")?;
            }
        }
        match (self.reached, self.low_water) {
            (false, Some(low)) => write!(f, "; above the mark of {} still", ByteSize(low)),
            (true, _) | (false, None) => Ok(()),
        }
    }
}
