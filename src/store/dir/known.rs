//! Listings of directories in which no name has come or gone since: for objects that never change under their name.
//!
//! A directory's own change time moves with every name that comes, goes or is replaced in it, so one look at it stands for
//! a look at each file. Only for who asks for it ([`Listing::immutable`](crate::store::Listing::immutable)), since a file that
//! is written in place, or made young, does not move it. Bounded; what is lost is listed anew.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::hot::Identity;
use crate::store::Listed;

/// Bytes of all listings together, about.
const ROOM: u64 = 4 << 20;
/// A listing of more lines is not kept.
pub(super) const LONGEST: usize = 10_000;
/// What a line takes beside its key, about.
const AROUND: u64 = 80;
/// A directory that changed a shorter time ago is listed anew each time. It keeps its inode whatever changes in it, so its
/// time alone tells, and some file systems tell that by the second, or by two.
const SETTLED: Duration = Duration::from_millis(2500);
/// Listings that the table is laid out for.
const USUAL: usize = 1024;

#[derive(Debug, Clone)]
struct Kept {
    identity: Identity,
    lines: Arc<Vec<Listed>>,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<String, Kept> for Weight {
    fn weight(&self, place: &String, kept: &Kept) -> u64 {
        let of = |line: &Listed| match line {
            Listed::Object { key, .. } => AROUND + key.as_str().len() as u64,
            Listed::Prefix(prefix) => AROUND + prefix.as_str().len() as u64,
        };
        AROUND + place.len() as u64 + kept.lines.iter().map(of).sum::<u64>()
    }
}

/// The listings, by the place that they are of.
#[derive(Debug)]
pub(super) struct Known(Cache<String, Kept, Weight>);

impl Known {
    pub(super) fn new() -> Self {
        Self(Cache::with_weighter(USUAL, ROOM, Weight))
    }

    /// The lines, if this is the directory that they were read from, as it was then.
    pub(super) fn get(&self, place: &str, identity: Identity) -> Option<Arc<Vec<Listed>>> {
        let kept = self.0.get(place)?;
        (kept.identity == identity).then_some(kept.lines)
    }

    /// Keeps what was read of a directory that looked like this at the time at which its reading began.
    pub(super) fn keep(&self, place: &str, identity: Identity, began: SystemTime, lines: Vec<Listed>) {
        if identity.is_settled(began, SETTLED) && lines.len() <= LONGEST {
            self.0.insert(place.to_owned(), Kept { identity, lines: Arc::new(lines) });
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{Identity, Known};

    #[test]
    fn what_changed_within_a_coarse_tick_is_not_kept() {
        let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (later, kept) in [(200, false), (1000, false), (2000, false), (2500, true), (5000, true)] {
            let known = Known::new();
            known.keep("a/", Identity::made(1000), changed + Duration::from_millis(later), Vec::new());
            assert_eq!(known.get("a/", Identity::made(1000)).is_some(), kept, "{later}");
        }
    }
}
