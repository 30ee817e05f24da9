//! Listing: a walk of the tree in byte order of the whole keys, as a bucket lists them.
//!
//! In a bucket `a.b` sorts before `a/c`, for `.` sorts before `/`; so a directory sorts as if its name ended in a slash.
//! One directory is read at a time; memory follows the depth and the widest directory, never the number of keys. What
//! vanishes during the walk is skipped, as are files that no key can name. Never follows a link back up.

use std::cmp::Ordering;
use std::fs::{self, DirEntry};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::sync::Arc;
use std::time::SystemTime;
use std::vec;

use futures_util::stream::{self, Stream, StreamExt as _};
use rustix::io::Errno;

use super::fault::{Fault, absent, is_one};
use super::hot::Identity;
use super::known::LONGEST;
use super::read::present_now;
use super::{Count, Place, hop, outcome};
use crate::store::{Error, Key, KeyError, Listed, Listing, Op, Prefix};

/// Most lines, and most directories, of one hop.
const BATCH: usize = 1024;

/// A name in a directory.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    name: String,
    dir: bool,
}

impl Entry {
    /// The order in which the keys below it stand among those of its siblings.
    fn order(&self, other: &Self) -> Ordering {
        if self.dir || other.dir {
            let whole = |entry: &Self| entry.dir.then_some(b'/');
            let (a, b) = (self.name.bytes().chain(whole(self)), other.name.bytes().chain(whole(other)));
            return a.cmp(b);
        }
        // Most directories hold files only, and byte by byte is slow.
        self.name.cmp(&other.name)
    }
}

/// A directory that the walk is in.
struct Frame {
    /// What all keys in it begin with: empty, or ending in a slash.
    name: String,
    /// Device and inode.
    id: (u64, u64),
    entries: vec::IntoIter<Entry>,
}

struct Walk {
    place: Arc<Place>,
    prefix: Prefix,
    shallow: bool,
    after: Option<String>,
    /// Whether a later reading counts as the object's time.
    used: bool,
    /// How many lines are still wanted.
    left: usize,
    /// Innermost last; empty before the first step, and after the last.
    stack: Vec<Frame>,
    begun: bool,
    /// Whether lines may be those of an earlier listing.
    immutable: bool,
    /// What is read, to be kept: of one directory, without any below it.
    reading: Option<Reading>,
}

/// A directory that is being read for the first time since it changed.
struct Reading {
    identity: Identity,
    began: SystemTime,
    lines: Vec<Listed>,
}

/// The lines of a listing.
pub(super) fn lines(
    place: &Arc<Place>,
    prefix: &Prefix,
    how: Listing,
) -> impl Stream<Item = Result<Listed, Error>> + Send + use<> {
    let whole = how.limit.is_none() && how.after.is_none() && !how.shallow;
    let walk = Walk {
        place: Arc::clone(place),
        prefix: prefix.clone(),
        shallow: how.shallow,
        after: how.after,
        used: how.used,
        left: how.limit.unwrap_or(usize::MAX),
        stack: Vec::new(),
        begun: false,
        immutable: how.immutable && !how.used && whole,
        reading: None,
    };
    stream::unfold(Some(walk), |walk| async {
        let walk = walk.filter(|walk| walk.left > 0)?;
        let (place, prefix, first) = (Arc::clone(&walk.place), walk.prefix.clone(), !walk.begun);
        let count = first.then(|| Count::new(&place.metrics, "list"));
        let (lines, next) = match hop(move || Ok(walk.steps())).await {
            Ok((lines, Ok(next))) => (lines, Ok(next)),
            Ok((lines, Err(fault))) => (lines, Err(fault.at(Op::List, &prefix))),
            Err(fault) => (Vec::new(), Err(fault.at(Op::List, &prefix))),
        };
        if let Some(count) = count {
            count.ends(next.as_ref().map_or_else(|error| outcome(error.kind), |_| "ok"));
        }
        let (end, next) = match next {
            Ok(next) => (None, next),
            Err(error) => (Some(Err(error)), None),
        };
        Some((stream::iter(lines.into_iter().map(Ok).chain(end)), next))
    })
    .flatten()
}

impl Walk {
    /// One hop's worth of lines, and the rest of the walk where there is more.
    fn steps(mut self) -> (Vec<Listed>, Result<Option<Self>, Fault>) {
        let mut lines = Vec::new();
        match self.walk(&mut lines) {
            Ok(more) => {
                self.left = self.left.saturating_sub(lines.len());
                self.note(&lines, more);
                (lines, Ok(more.then_some(self)))
            }
            Err(fault) => (lines, Err(fault)),
        }
    }

    fn walk(&mut self, lines: &mut Vec<Listed>) -> Result<bool, Fault> {
        if !self.begun {
            self.begun = true;
            if self.immutable
                && let Some(known) = self.known()
            {
                lines.extend(known.iter().cloned());
                return Ok(false);
            }
            if !self.enter(self.prefix.as_str().to_owned())? {
                return present_now(&self.place).map(|()| false);
            }
        }
        let mut directories = 0;
        while let Some(frame) = self.stack.last_mut() {
            let Some(entry) = frame.entries.next() else {
                self.stack.pop();
                continue;
            };
            let full = format!("{}{}", frame.name, entry.name);
            if entry.dir {
                directories += 1;
                self.directory(full, lines)?;
            } else if self.is_behind(&full) {
                lines.extend(self.object(full)?);
            }
            if lines.len() >= self.left.min(BATCH) || directories >= BATCH {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The lines of an earlier listing, if they hold; else what is read now is to be kept.
    fn known(&mut self) -> Option<Arc<Vec<Listed>>> {
        let began = SystemTime::now();
        let identity = Identity::of(&fs::metadata(self.place.root.join(self.prefix.as_str())).ok()?);
        let known = self.place.known.get(self.prefix.as_str(), identity);
        self.reading = known.is_none().then(|| Reading { identity, began, lines: Vec::new() });
        known
    }

    /// Notes lines that were read, and keeps them all once there are no more.
    fn note(&mut self, lines: &[Listed], more: bool) {
        let Some(reading) = &mut self.reading else { return };
        reading.lines.extend_from_slice(lines);
        if reading.lines.len() > LONGEST {
            self.reading = None;
        } else if !more && let Some(Reading { identity, began, lines }) = self.reading.take() {
            self.place.known.keep(self.prefix.as_str(), identity, began, lines);
        }
    }

    fn directory(&mut self, full: String, lines: &mut Vec<Listed>) -> Result<(), Fault> {
        let name = format!("{full}/");
        // What changes below it does not show in the directory above.
        self.reading = None;
        if self.shallow {
            if self.is_behind(&name) && self.holds_object(&name)? {
                lines.extend(Key::try_from(full).ok().map(|key| Listed::Prefix(Prefix::below(&key))));
            }
        } else if self.may_lead_behind(&name) {
            self.enter(name)?;
        }
        Ok(())
    }

    /// Whether a line with this text is asked for.
    fn is_behind(&self, text: &str) -> bool {
        self.after.as_deref().is_none_or(|after| text > after)
    }

    /// Whether keys that begin with this text can be asked for.
    fn may_lead_behind(&self, name: &str) -> bool {
        self.is_behind(name) || self.after.as_deref().is_some_and(|after| after.starts_with(name))
    }

    /// Goes into a directory. `false` where it is none, or one that the walk is in already.
    fn enter(&mut self, name: String) -> Result<bool, Fault> {
        let path = self.place.root.join(&name);
        let id = match fs::metadata(&path) {
            Ok(stat) if stat.is_dir() => (stat.dev(), stat.ino()),
            Ok(_) => return Ok(false),
            Err(error) if absent(&error) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        if self.stack.iter().any(|frame| frame.id == id) {
            self.place.once(&self.place.strange, "a symbolic link leads back up: listings leave it out");
            return Ok(false);
        }
        let mut entries = entries(&self.place, &name)?;
        entries.sort_unstable_by(Entry::order);
        self.stack.push(Frame { name, id, entries: entries.into_iter() });
        Ok(true)
    }

    fn object(&self, full: String) -> Result<Option<Listed>, Fault> {
        let stat = match fs::metadata(self.place.root.join(&full)) {
            Ok(stat) if stat.is_file() => stat,
            Ok(_) => return Ok(None),
            Err(error) if absent(&error) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        // A file system that keeps no access times says so.
        let read = if self.used { stat.accessed().ok() } else { None };
        let modified = read.into_iter().fold(stat.modified()?, SystemTime::max);
        Ok(Key::try_from(full).ok().map(|key| Listed::Object { key, size: stat.len(), modified }))
    }

    /// Whether any object lies below: a directory that a crash left empty is none of a listing's lines.
    fn holds_object(&self, name: &str) -> Result<bool, Fault> {
        let mut names = vec![name.to_owned()];
        while let Some(name) = names.pop() {
            for entry in entries(&self.place, &name)? {
                if !entry.dir {
                    return Ok(true);
                }
                names.push(format!("{name}{}/", entry.name));
            }
        }
        Ok(false)
    }
}

/// The files and directories of a directory, in no order; none where it is gone.
fn entries(place: &Place, name: &str) -> Result<Vec<Entry>, Fault> {
    let read = match fs::read_dir(place.root.join(name)) {
        Err(error) if absent(&error) => return Ok(Vec::new()),
        read => read?,
    };
    let mut entries = Vec::new();
    for entry in read {
        let entry = entry?;
        let known =
            entry.file_name().into_string().map(|file| (Key::try_from(format!("{name}{file}")), file));
        match known {
            Ok((Ok(_), file)) => entries.extend(is_dir(&entry)?.map(|dir| Entry { name: file, dir })),
            Ok((Err(KeyError::Reserved), _)) => {}
            Ok((Err(_), _)) | Err(_) => {
                place.once(&place.strange, "there are files that no key can name: listings leave them out");
            }
        }
    }
    Ok(entries)
}

/// Whether an entry is a directory; `None` where it is neither that nor a file. A link is what it leads to.
fn is_dir(entry: &DirEntry) -> io::Result<Option<bool>> {
    let kind = entry.file_type().and_then(|kind| {
        if kind.is_symlink() { fs::metadata(entry.path()).map(|stat| stat.file_type()) } else { Ok(kind) }
    });
    match kind {
        Ok(kind) => Ok((kind.is_dir() || kind.is_file()).then_some(kind.is_dir())),
        Err(error) if absent(&error) || is_one(&error, &[Errno::LOOP]) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn siblings_sort_as_the_keys_below_them(a in "[a./ -]{1,4}", b in "[a./ -]{1,4}", x: bool, y: bool) {
            prop_assume!(a != b && !a.contains('/') && !b.contains('/'));
            let full = |name: &str, dir: bool| if dir { format!("{name}/z") } else { name.to_owned() };
            let keys = full(&a, x).cmp(&full(&b, y));
            let (a, b) = (Entry { name: a, dir: x }, Entry { name: b, dir: y });
            prop_assert_eq!(a.order(&b), keys);
        }
    }
}
