//! What goes, in which order, and what that frees: value to value.
//!
//! Never looks at a file system or a clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::path::PathBuf;
use std::time::Duration;

use super::at::Nanos;
use super::name::Form;

/// Entries used within this time of each other count as used at the same time.
const EQUAL: Duration = Duration::from_mins(10);

/// Sizes between which a cache is kept, in bytes as `du` counts them. Invariant: the low one is not above the high one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Marks {
    high: u64,
    low: u64,
}

impl Marks {
    /// From this size on something is done, until it is less than that. `None` where `low` is above `high`.
    pub fn new(high: u64, low: u64) -> Option<Self> {
        (low <= high).then_some(Self { high, low })
    }

    /// Whether so much is left alone.
    pub fn is_under_high(self, bytes: u64) -> bool {
        bytes < self.high
    }

    /// Whether so much is little enough.
    pub fn is_under_low(self, bytes: u64) -> bool {
        bytes < self.low
    }
}

/// A file that has more than one name, here or elsewhere: device, inode, and the disk it takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shared {
    pub(super) id: (u64, u64),
    pub(super) disk: u64,
}

/// What is known of an entry.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    /// Below the cache's directory.
    pub(super) path: PathBuf,
    pub(super) form: Form,
    /// Device and inode of its directory, or of the archive.
    pub(super) id: (u64, u64),
    /// When one of its files was read last.
    pub(super) used: Nanos,
    /// When anything of it was written last.
    pub(super) written: Nanos,
    /// What goes with it for sure.
    pub(super) own: u64,
    /// A name of a file that has more of them, each.
    pub(super) shared: Vec<Shared>,
}

impl Entry {
    /// All that it takes, each file once.
    pub(super) fn size(&self) -> u64 {
        let mut files: Vec<Shared> = self.shared.clone();
        files.sort_unstable_by_key(|file| file.id);
        files.dedup_by_key(|file| file.id);
        self.own + files.iter().map(|file| file.disk).sum::<u64>()
    }
}

/// Entries in the order in which they go: least recently used first; of all that were used within ten minutes of the
/// least recently used one that is left, the largest.
pub(super) fn order(entries: &[Entry]) -> Vec<usize> {
    let mut by_use: Vec<usize> = (0..entries.len()).collect();
    by_use.sort_unstable_by_key(|index| (entries.get(*index).map(|entry| (entry.used, &entry.path)), *index));
    let used = |at: usize| by_use.get(at).and_then(|index| entries.get(*index)).map_or(0, |entry| entry.used);
    let equal = i64::try_from(EQUAL.as_nanos()).unwrap_or(i64::MAX);
    // Positions in `by_use`: of those that are taken, of the oldest that is not, and behind the last that may be.
    let (mut taken, mut oldest, mut next) = (vec![false; by_use.len()], 0, 0);
    let mut equals = BinaryHeap::new();
    let mut order = Vec::with_capacity(by_use.len());
    while order.len() < by_use.len() {
        while taken.get(oldest).copied().unwrap_or(false) {
            oldest += 1;
        }
        while next < by_use.len() && used(next).saturating_sub(used(oldest)) < equal {
            let size = by_use.get(next).and_then(|index| entries.get(*index)).map_or(0, Entry::size);
            equals.push((size, Reverse(next)));
            next += 1;
        }
        let Some((_, Reverse(at))) = equals.pop() else { break };
        if let Some(taken) = taken.get_mut(at) {
            *taken = true;
        }
        order.extend(by_use.get(at));
    }
    order
}

/// What a tree takes, and how that changes as entries go: a file with several names is gone with the last of them.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    total: u64,
    /// How many names each shared file has in the tree.
    names: HashMap<(u64, u64), u64>,
}

impl Ledger {
    /// Adds what belongs to one thing.
    pub(super) fn add(&mut self, own: u64, shared: &[Shared]) {
        self.total += own;
        for file in shared {
            let names = self.names.entry(file.id).or_default();
            if *names == 0 {
                self.total += file.disk;
            }
            *names += 1;
        }
    }

    /// All bytes, each file once: what `du` says.
    pub(super) const fn total(&self) -> u64 {
        self.total
    }

    /// Takes away what belongs to one thing, and says what that frees in the tree.
    pub(super) fn remove(&mut self, own: u64, shared: &[Shared]) -> u64 {
        let before = self.total;
        self.total = self.total.saturating_sub(own);
        for file in shared {
            if let Some(names) = self.names.get_mut(&file.id) {
                *names = names.saturating_sub(1);
                if *names == 0 {
                    self.total = self.total.saturating_sub(file.disk);
                    self.names.remove(&file.id);
                }
            }
        }
        before - self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Nanos = 60_000_000_000;

    fn entry(name: &str, minutes: i64, own: u64) -> Entry {
        Entry {
            path: name.into(),
            form: Form::Directory,
            id: (0, 0),
            used: minutes * MINUTE,
            written: 0,
            own,
            shared: Vec::new(),
        }
    }

    fn names(entries: &[Entry]) -> String {
        order(entries).into_iter().map(|at| entries[at].path.to_str().unwrap()).collect()
    }

    #[test]
    fn the_least_recently_used_goes_first_and_of_equals_the_larger() {
        assert_eq!(names(&[entry("a", 30, 9), entry("b", 10, 1), entry("c", 20, 5)]), "bca");
        assert_eq!(names(&[entry("a", 0, 1), entry("b", 9, 3), entry("c", 5, 2)]), "bca");
        // Ten minutes apart is apart.
        assert_eq!(names(&[entry("a", 0, 1), entry("b", 10, 3)]), "ab");
        // Equal to the oldest that is left, not to each other in a chain.
        assert_eq!(names(&[entry("a", 0, 1), entry("b", 9, 2), entry("c", 18, 3)]), "bac");
        assert_eq!(names(&[entry("b", 0, 1), entry("a", 0, 1)]), "ab");
        assert_eq!(names(&[]), "");
    }

    #[test]
    fn marks_are_in_order() {
        assert_eq!(Marks::new(1, 2), None);
        let marks = Marks::new(10, 8).unwrap();
        assert!(marks.is_under_high(9) && !marks.is_under_high(10));
        assert!(marks.is_under_low(7) && !marks.is_under_low(8));
    }

    #[test]
    fn a_shared_file_is_gone_with_its_last_name() {
        let file = |ino, disk| Shared { id: (1, ino), disk };
        let mut ledger = Ledger::default();
        ledger.add(1, &[file(1, 100), file(1, 100), file(2, 10)]);
        ledger.add(2, &[file(1, 100)]);
        assert_eq!(ledger.total(), 113);
        assert_eq!(ledger.remove(1, &[file(1, 100), file(1, 100), file(2, 10)]), 11);
        assert_eq!(ledger.remove(2, &[file(1, 100)]), 102);
        assert_eq!(ledger.total(), 0);
    }

    proptest! {
        #[test]
        fn nobody_goes_before_one_that_is_ten_minutes_older(
            all in proptest::collection::vec((0_i64..60, 0_u64..9), 0..40)
        ) {
            let entries: Vec<Entry> = all.iter().map(|(used, own)| entry("x", *used, *own)).collect();
            let order = order(&entries);
            let mut seen = order.clone();
            seen.sort_unstable();
            prop_assert_eq!(seen, (0..entries.len()).collect::<Vec<_>>());
            for (at, first) in order.iter().enumerate() {
                let oldest = order[at..].iter().map(|index| entries[*index].used).min().unwrap();
                prop_assert!(entries[*first].used - oldest < 10 * MINUTE);
                for later in &order[at + 1..] {
                    let equal = entries[*later].used - oldest < 10 * MINUTE;
                    prop_assert!(!equal || entries[*later].own <= entries[*first].own);
                }
            }
        }
    }
}
