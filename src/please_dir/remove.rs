//! Removing one entry so that nobody sees half of it, or sparing it.
//!
//! Each step looks again at what it is about to touch: between the plan and now the entry may have been used, rewritten,
//! locked or removed. First it takes the name that whoever writes this entry would take, so that of the two only one has it;
//! then a name that nobody else takes, under which it is removed.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::at::{self, Facts};
use super::measure::{self, Measured, Times};
use super::name::Form;
use super::plan::Entry;

/// Why an entry is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Spared {
    /// Somebody holds a lock on it.
    Locked,
    /// It was read since the tree was.
    Used,
    /// It is another one by now, or is being written.
    Rewritten,
    /// It is gone already, by another's hand.
    Gone,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Outcome {
    Removed,
    Spared(Spared),
    /// It may be there in part, under a name that no reader looks for.
    Failed(io::Error),
}

/// Removes an entry, whole or unfinished.
pub(super) fn entry(root: &OwnedFd, entry: &Entry, times: Times) -> Outcome {
    match attempt(root, entry, times) {
        Ok(None) => Outcome::Removed,
        Ok(Some(why)) => Outcome::Spared(why),
        Err(error) if at::is_gone(&error) => Outcome::Spared(Spared::Gone),
        Err(error) => Outcome::Failed(error),
    }
}

fn attempt(root: &OwnedFd, entry: &Entry, times: Times) -> io::Result<Option<Spared>> {
    let (Some(above), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let dir = at::descend(root, above)?;
    let held = match entry.form {
        Form::Directory => at::directory(&dir, name)?,
        Form::Archive => at::file(&dir, name)?,
    };
    // Locks end with what they are on, at the end of this.
    let beside = lock_file(&dir, name)?;
    let locks = [beside.as_ref(), Some(&held)];
    for file in locks.into_iter().flatten() {
        if lock(file)? == Lock::Others {
            return Ok(Some(Spared::Locked));
        }
    }
    if let Some(why) = changed(&held, entry, times)? {
        return Ok(Some(why));
    }
    take_away(&dir, name, entry.form)
}

/// Whether it is not what was planned for any more.
fn changed(held: &OwnedFd, entry: &Entry, times: Times) -> io::Result<Option<Spared>> {
    let facts = Facts::of(held)?;
    let now = match entry.form {
        Form::Directory => measure::directory(held, times)?,
        Form::Archive => {
            let mut sum = Measured::default();
            sum.add(&facts, times);
            sum
        }
    };
    Ok(if facts.id != entry.id || now.written != entry.written {
        Some(Spared::Rewritten)
    } else if now.used() > entry.used {
        Some(Spared::Used)
    } else {
        None
    })
}

fn longer(name: &OsStr) -> OsString {
    let mut name = name.to_owned();
    name.push("=");
    name
}

fn take_away(dir: &OwnedFd, name: &OsStr, form: Form) -> io::Result<Option<Spared>> {
    let mut last = longer(name);
    match at::rename(dir, name, &last) {
        // Somebody writes the same entry at this moment: theirs will be the newer one.
        Err(error) if is_taken(&error) => return Ok(Some(Spared::Rewritten)),
        done => done?,
    }
    if form == Form::Directory {
        // A writer who begins now makes, and fills, a directory of that name.
        let away = longer(&last);
        match at::rename(dir, &last, &away) {
            Ok(()) => last = away,
            Err(error) if is_taken(&error) => {}
            Err(error) => return Err(error),
        }
    }
    at::remove(dir, &last)?;
    Ok(None)
}

fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AlreadyExists | io::ErrorKind::DirectoryNotEmpty)
}

/// Whose lock it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lock {
    /// Ours, or nobody's on a file system without locks.
    Ours,
    Others,
}

fn lock(file: impl AsFd) -> io::Result<Lock> {
    match rustix::fs::flock(file, FlockOperation::NonBlockingLockExclusive) {
        Err(Errno::WOULDBLOCK) => Ok(Lock::Others),
        Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::INVAL | Errno::BADF) => Ok(Lock::Ours),
        Err(error) => Err(error.into()),
    }
}

/// The lock file beside an entry, where there is one.
fn lock_file(dir: &OwnedFd, name: &OsStr) -> io::Result<Option<OwnedFd>> {
    let mut beside = name.to_owned();
    beside.push(".lock");
    match at::file(dir, &beside) {
        Ok(file) => Ok(Some(file)),
        Err(error) if at::is_gone(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes an empty directory. `false` where it is not empty any more.
pub(super) fn hollow(root: &OwnedFd, path: &Path) -> io::Result<bool> {
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else { return Ok(false) };
    match at::descend(root, above).and_then(|dir| at::remove_empty(dir, name)) {
        Ok(()) => Ok(true),
        Err(error) if at::is_gone(&error) || is_taken(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::please_dir::walk;
    use std::fs::{self, File, FileTimes};
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    const HASH: &str = "AAECAwQFBgcICQoLDA0ODxAREhM=";

    struct Cache {
        dir: tempfile::TempDir,
        root: OwnedFd,
    }

    impl Cache {
        /// With one entry, of a directory, that nobody used for an hour.
        fn new() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let root = at::root(dir.path()).unwrap();
            let cache = Self { dir, root };
            fs::create_dir_all(cache.entry()).unwrap();
            cache.write("out", Duration::from_secs(3600));
            cache
        }

        fn entry(&self) -> PathBuf {
            self.dir.path().join("pkg/target").join(HASH)
        }

        fn write(&self, name: &str, age: Duration) {
            let path = self.entry().join(name);
            fs::write(&path, name).unwrap();
            let then = SystemTime::now() - age;
            let times = FileTimes::new().set_accessed(then).set_modified(then);
            for path in [path, self.entry()] {
                File::open(path).unwrap().set_times(times).unwrap();
            }
        }

        fn plan(&self) -> Entry {
            let mut entries = walk::read(&self.root, Times::Read).unwrap().entries;
            assert_eq!(entries.len(), 1);
            entries.remove(0)
        }

        #[track_caller]
        fn check(&self, planned: &Entry, expected: Spared) {
            match entry(&self.root, planned, Times::Read) {
                Outcome::Spared(why) => assert_eq!(why, expected),
                other @ (Outcome::Removed | Outcome::Failed(_)) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_nobody_uses_goes_without_a_trace() {
        let cache = Cache::new();
        assert!(matches!(entry(&cache.root, &cache.plan(), Times::Read), Outcome::Removed));
        assert_eq!(fs::read_dir(cache.dir.path().join("pkg/target")).unwrap().count(), 0);
    }

    #[test]
    fn what_was_used_since_the_plan_stays() {
        let cache = Cache::new();
        let planned = cache.plan();
        let file = File::open(cache.entry().join("out")).unwrap();
        file.set_times(FileTimes::new().set_accessed(SystemTime::now())).unwrap();
        cache.check(&planned, Spared::Used);
        assert!(cache.entry().join("out").exists());
    }

    #[test]
    fn what_was_written_since_the_plan_stays() {
        let cache = Cache::new();
        let planned = cache.plan();
        cache.write("more", Duration::ZERO);
        cache.check(&planned, Spared::Rewritten);
        // Another directory of the same name, with the same times.
        let planned = cache.plan();
        let aside = cache.dir.path().join("aside");
        fs::rename(cache.entry(), &aside).unwrap();
        fs::create_dir(cache.entry()).unwrap();
        for name in ["out", "more"] {
            fs::rename(aside.join(name), cache.entry().join(name)).unwrap();
        }
        cache.check(&planned, Spared::Rewritten);
        assert!(cache.entry().join("out").exists());
    }

    #[test]
    fn what_somebody_writes_at_the_moment_stays() {
        let cache = Cache::new();
        let writing = cache.dir.path().join("pkg/target").join(format!("{HASH}="));
        fs::create_dir(&writing).unwrap();
        cache.check(&cache.plan(), Spared::Rewritten);
        assert!(cache.entry().join("out").exists() && writing.exists(), "neither replaces the other");
    }

    #[test]
    fn what_became_a_link_is_not_followed() {
        let cache = Cache::new();
        let planned = cache.plan();
        let elsewhere = tempfile::tempdir().unwrap();
        fs::rename(cache.dir.path().join("pkg"), elsewhere.path().join("pkg")).unwrap();
        std::os::unix::fs::symlink(elsewhere.path().join("pkg"), cache.dir.path().join("pkg")).unwrap();
        cache.check(&planned, Spared::Gone);
        assert!(elsewhere.path().join("pkg/target").join(HASH).join("out").exists());
    }

    #[test]
    fn what_is_gone_is_no_failure() {
        let cache = Cache::new();
        let planned = cache.plan();
        fs::remove_dir_all(cache.dir.path().join("pkg")).unwrap();
        cache.check(&planned, Spared::Gone);
    }
}
