//! Small objects that were read lately, kept in memory for as long as their file is the same file.
//!
//! What it saves is reading and checking the bytes again; the file is opened and looked at each time all the same, so an
//! object that was replaced, changed in place or deleted, by whomever, is never served from here. Never a copy of its own:
//! what is handed out is shared.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::payload::Meta;
use crate::store::Key;

/// A file that changed a shorter time ago is not kept: its clock may not have ticked since, so that another file in its
/// place (on the same inode, freed meanwhile) could look the same.
const SETTLED: Duration = Duration::from_millis(200);
/// What an object takes beside its bytes, its name and its mark, about: of small ones that is most.
const AROUND: u64 = 448;
/// Mean size of an object that the table is laid out for.
const USUAL: u64 = 8 << 10;

/// What tells a file from any other, and from itself after a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    size: u64,
    changed: (i64, i64),
}

impl Identity {
    pub(super) fn of(stat: &fs::Metadata) -> Self {
        Self {
            device: stat.dev(),
            inode: stat.ino(),
            size: stat.size(),
            changed: (stat.ctime(), stat.ctime_nsec()),
        }
    }

    #[cfg(test)]
    pub(super) const fn made(changed: i64) -> Self {
        Self { device: 1, inode: 2, size: 3, changed: (changed, 0) }
    }

    /// Whether it changed so long ago, at this time: a later change shows then.
    pub(super) fn is_settled(&self, now: SystemTime, age: Duration) -> bool {
        let (Ok(seconds), Ok(nanoseconds)) = (u64::try_from(self.changed.0), u32::try_from(self.changed.1))
        else {
            return false;
        };
        let changed = SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        now.duration_since(changed).is_ok_and(|since| since >= age)
    }
}

#[derive(Debug, Clone)]
struct Kept {
    identity: Identity,
    meta: Meta,
    bytes: Bytes,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Key, Kept> for Weight {
    fn weight(&self, key: &Key, kept: &Kept) -> u64 {
        let mark = kept.meta.mark.as_ref().map_or(0, String::len);
        AROUND + (key.as_str().len() + mark + kept.bytes.len()) as u64
    }
}

/// The objects.
#[derive(Debug)]
pub(super) struct Hot(Option<Cache<Key, Kept, Weight>>);

impl Hot {
    /// Room for so many bytes; 0 keeps nothing.
    pub(super) fn new(bytes: u64) -> Self {
        let items = usize::try_from(bytes / USUAL).unwrap_or(usize::MAX).max(16);
        Self((bytes > 0).then(|| Cache::with_weighter(items, bytes, Weight)))
    }

    /// The object, if this is the file that it was read from.
    pub(super) fn get(&self, key: &Key, identity: Identity) -> Option<(Meta, Bytes)> {
        let kept = self.0.as_ref()?.get(key)?;
        (kept.identity == identity).then_some((kept.meta, kept.bytes))
    }

    /// Keeps what was read from this file and passed its check.
    pub(super) fn keep(&self, key: &Key, identity: Identity, meta: &Meta, bytes: &Bytes) {
        if let Some(kept) = &self.0
            && identity.is_settled(SystemTime::now(), SETTLED)
        {
            kept.insert(key.clone(), Kept { identity, meta: meta.clone(), bytes: bytes.clone() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Hot, Identity, Meta, SETTLED};
    use bytes::Bytes;
    use std::time::{Duration, SystemTime};

    fn identity(changed: i64) -> Identity {
        Identity::made(changed)
    }

    #[test]
    fn only_the_same_file_is_found() {
        let hot = Hot::new(1 << 20);
        let key = "please/aa/b".parse().unwrap();
        let meta = Meta { size: 3, etag: "e".to_owned(), modified: SystemTime::UNIX_EPOCH, mark: None };
        hot.keep(&key, identity(1000), &meta, &Bytes::from_static(b"abc"));
        assert_eq!(hot.get(&key, identity(1000)).unwrap().1, "abc");
        let changes: [fn(&mut Identity); 4] =
            [|it| it.device += 1, |it| it.inode += 1, |it| it.size += 1, |it| it.changed.1 += 1];
        for change in changes {
            let mut other = identity(1000);
            change(&mut other);
            assert!(hot.get(&key, other).is_none());
        }
        assert!(hot.get(&"please/aa/c".parse().unwrap(), identity(1000)).is_none());
    }

    #[test]
    fn what_changed_just_now_is_not_kept() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (later, settled) in [(0, false), (199, false), (200, true), (5000, true)] {
            let later = then + Duration::from_millis(later);
            assert_eq!(identity(1000).is_settled(later, SETTLED), settled, "{later:?}");
        }
        assert!(!identity(1001).is_settled(then, SETTLED), "a clock that is behind");
        assert!(!identity(-1).is_settled(then, SETTLED));
    }

    #[test]
    fn it_stays_within_its_room() {
        let hot = Hot::new(64 << 10);
        let meta = Meta { size: 3, etag: "e".to_owned(), modified: SystemTime::UNIX_EPOCH, mark: None };
        let bytes = Bytes::from(vec![7; 8 << 10]);
        let key = |n: usize| format!("please/aa/{n}").parse().unwrap();
        for n in 0..100 {
            hot.keep(&key(n), identity(1000), &meta, &bytes);
        }
        let kept = (0..100).filter(|n| hot.get(&key(*n), identity(1000)).is_some()).count();
        assert!((1..=8).contains(&kept), "{kept}");
        let none = Hot::new(0);
        none.keep(&key(0), identity(1000), &meta, &bytes);
        assert!(none.get(&key(0), identity(1000)).is_none());
    }
}
