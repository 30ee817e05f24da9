//! Whole entries out of a listing: keys in byte order go in, entries come out as soon as none of their keys can follow.
//!
//! Pure, and small: it holds the entries whose keys are still coming, which are those of one place (and of the few that
//! may lie around it), and of each only so many keys. Never asks a store, never judges.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::layout::{self, Member, Part};
use crate::store::{Key, Prefix};

/// Of one entry so many keys are remembered. One with more is told by what it sums up to, and by where it lies.
pub const KEYS_HELD: usize = 1000;

/// An object as it was listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its key.
    pub key: Key,
    /// Bytes.
    pub size: u64,
    /// When it was last used, as far as the store knows.
    pub used: SystemTime,
}

/// A whole entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name, and what its keys begin with.
    pub name: String,
    /// Where all its keys lie, perhaps with others'; `None` where it is a single key.
    pub within: Option<Prefix>,
    /// What makes it an entry, where it has such a thing.
    pub head: Option<Line>,
    /// Its other keys, in order: the first [`KEYS_HELD`] of them.
    pub keys: Vec<Key>,
    /// Whether it has anything but sidecars.
    pub has_body: bool,
    /// All of its objects.
    pub objects: u64,
    /// Bytes of all of them.
    pub bytes: u64,
    /// The latest use of any of them.
    pub used: SystemTime,
}

impl Entry {
    fn new(member: Member) -> Self {
        Self {
            name: member.entry,
            within: member.within,
            head: None,
            keys: Vec::new(),
            has_body: false,
            objects: 0,
            bytes: 0,
            used: SystemTime::UNIX_EPOCH,
        }
    }

    fn add(&mut self, line: Line, part: Part) {
        self.has_body |= part != Part::Sidecar;
        self.objects += 1;
        self.bytes = self.bytes.saturating_add(line.size);
        self.used = if self.objects == 1 { line.used } else { self.used.max(line.used) };
        match part {
            Part::Head => self.head = Some(line),
            Part::Body | Part::Sidecar if self.keys.len() < KEYS_HELD => self.keys.push(line.key),
            Part::Body | Part::Sidecar => {}
        }
    }

    /// Whether all its keys are at hand.
    pub fn is_held_whole(&self) -> bool {
        self.keys.len() as u64 + u64::from(self.head.is_some()) == self.objects
    }
}

/// A place whose keys are still coming, and the entries in it.
#[derive(Debug)]
struct Open {
    place: Prefix,
    entries: BTreeMap<String, Entry>,
}

/// Collects keys to entries.
#[derive(Debug, Default)]
pub struct Entries {
    /// Innermost last.
    open: Vec<Open>,
}

impl Entries {
    /// Takes the next line of a listing in byte order; hands over the entries that it ends.
    pub fn push(&mut self, line: Line) -> Vec<Entry> {
        let mut done = Vec::new();
        while let Some(open) = self.open.pop() {
            if open.place.holds(&line.key) {
                self.open.push(open);
                break;
            }
            done.extend(open.entries.into_values());
        }
        let member = layout::member(&line.key);
        let Some(place) = member.within.clone() else {
            let mut entry = Entry::new(member.clone());
            entry.add(line, member.part);
            done.push(entry);
            return done;
        };
        let at = match self.open.iter().position(|open| open.place == place) {
            Some(at) => at,
            None => {
                self.open.push(Open { place, entries: BTreeMap::new() });
                self.open.len() - 1
            }
        };
        if let Some(open) = self.open.get_mut(at) {
            let part = member.part;
            open.entries.entry(member.entry.clone()).or_insert_with(|| Entry::new(member)).add(line, part);
        }
        done
    }

    /// The listing is over.
    pub fn finish(&mut self) -> Vec<Entry> {
        let innermost_first = self.open.drain(..).rev();
        innermost_first.flat_map(|open| open.entries.into_values()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{Entries, Entry, KEYS_HELD, Line};
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use std::time::{Duration, SystemTime};

    const H20: &str = "AAECAwQFBgcICQoLDA0ODxAREhM";
    const H8: &str = "dGVzdF9rZXk1";

    fn line(text: &str, size: u64, used: u64) -> Line {
        let key = text.replace('@', H20).replace('$', H8).parse().unwrap();
        Line { key, size, used: SystemTime::UNIX_EPOCH + Duration::from_secs(used) }
    }

    fn collect(lines: impl IntoIterator<Item = Line>) -> Vec<Entry> {
        let mut entries = Entries::default();
        let mut all: Vec<Entry> = lines.into_iter().flat_map(|line| entries.push(line)).collect();
        all.extend(entries.finish());
        all
    }

    #[test]
    fn an_entry_around_another_stays_one() {
        let outer = "artifact/linux_amd64/t/$";
        let found = collect([
            line(&format!("{outer}/.larder"), 1, 5),
            line(&format!("{outer}/a"), 2, 1),
            line(&format!("{outer}/p/x/@/a"), 4, 9),
            line(&format!("{outer}/z"), 8, 3),
            line("please/ab/abababababababab", 16, 0),
        ]);
        let told: Vec<_> =
            found.iter().map(|entry| (entry.bytes, entry.objects, entry.head.is_some())).collect();
        assert_eq!(told, [(4, 1, false), (11, 3, true), (16, 1, false)]);
        assert_eq!(found[1].used, line("x", 0, 5).used);
    }

    #[test]
    fn an_endless_entry_is_not_held() {
        let many = (0..5000).map(|n| line(&format!("artifact/linux_amd64/p/t/@/{n:05}"), 2, n));
        let [entry] = collect(many).try_into().unwrap();
        assert_eq!((entry.objects, entry.bytes, entry.keys.len()), (5000, 10_000, KEYS_HELD));
        assert!(!entry.is_held_whole());
        assert_eq!(entry.used, line("x", 0, 4999).used);
    }

    proptest! {
        /// Whatever lies beside and within each other: what is collected is what grouping all keys at once gives.
        #[test]
        fn nothing_is_lost_or_mixed_up(
            names in proptest::collection::btree_map(
                "(artifact/linux_a(/[ab]){1,2}/(@|\\$)(/[ab.]{1,2}){0,2}/(a|\\.larder|b/@/c)|please/ab/ab{9,11}|[ab]/[ab])",
                (0_u64..100, 0_u64..100), 0..40,
            ),
        ) {
            let mut lines: Vec<Line> = names
                .iter()
                .filter(|(name, _)| name.split('/').all(|part| part != "." && part != ".."))
                .map(|(name, (size, used))| line(name, *size, *used))
                .collect();
            lines.sort_by(|a, b| a.key.cmp(&b.key));
            lines.dedup_by(|a, b| a.key == b.key);
            let mut expected: BTreeMap<String, (u64, u64, SystemTime)> = BTreeMap::new();
            for line in &lines {
                let sum = expected.entry(super::layout::member(&line.key).entry).or_insert((0, 0, line.used));
                *sum = (sum.0 + 1, sum.1 + line.size, sum.2.max(line.used));
            }
            let found = collect(lines);
            prop_assert_eq!(found.len(), expected.len());
            for entry in found {
                prop_assert!(entry.is_held_whole());
                prop_assert_eq!(expected.get(&entry.name), Some(&(entry.objects, entry.bytes, entry.used)));
            }
        }
    }
}
