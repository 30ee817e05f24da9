//! Removing and refreshing: objects, the directories they leave empty, and what a crash left in staging.
//!
//! Blocking: only ever called on the blocking pool. Never removes a directory that holds anything.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_NOW, UTIME_OMIT};
use rustix::io::Errno;

use super::Place;
use super::fault::{Fault, absent, is_one};
use super::read::present_now;
use super::stage::{LOCK, Staged};
use crate::store::{Error, Key, Op, Touched};

/// Removes objects and prunes what they leave empty. Goes on after a failure and returns the first.
pub(super) fn delete(place: &Place, keys: &[Key]) -> Result<(), Error> {
    let mut first = Ok(());
    let mut parents = BTreeSet::new();
    for key in keys {
        let path = place.path(key);
        match remove(place, &path) {
            // In order of their names: of siblings, the last one to go takes the directory.
            Ok(()) => drop(path.parent().map(|parent| parents.insert(parent.to_path_buf()))),
            Err(fault) => first = first.and(Err(fault.at(Op::Delete, key))),
        }
    }
    for parent in parents.iter().rev() {
        prune(place, &parent.join("x"));
    }
    first
}

fn remove(place: &Place, path: &Path) -> Result<(), Fault> {
    match fs::remove_file(path) {
        Ok(()) => Ok(()),
        Err(error) if absent(&error) => present_now(place),
        // The name of a directory is no object's. Linux says EISDIR to that, POSIX EPERM.
        Err(error) if is_one(&error, &[Errno::ISDIR, Errno::PERM]) && path.is_dir() => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Removes the directories above a path, as far as they are empty; the root stays. Whoever puts an object there at the
/// same time makes them again.
pub(super) fn prune(place: &Place, path: &Path) {
    for dir in path.ancestors().skip(1).take_while(|dir| *dir != place.root && dir.starts_with(&place.root)) {
        match fs::remove_dir(dir) {
            Ok(()) => {}
            Err(error) if is_one(&error, &[Errno::NOENT]) => {}
            Err(_) => return,
        }
    }
}

/// Removes a directory that holds nothing but empty directories. `false` where it holds more.
pub(super) fn remove_hollow(dir: &Path) -> io::Result<bool> {
    match fs::remove_dir(dir) {
        Ok(()) => return Ok(true),
        // It may have become an object, or gone: the next rename will tell.
        Err(error) if is_one(&error, &[Errno::NOENT]) => return Ok(true),
        Err(error) if is_one(&error, &[Errno::NOTDIR]) => return Ok(!dir.is_dir()),
        Err(error) if is_one(&error, &[Errno::NOTEMPTY, Errno::EXIST]) => {}
        Err(error) => return Err(error),
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() || !remove_hollow(&entry.path())? {
            return Ok(false);
        }
    }
    match fs::remove_dir(dir) {
        Err(error) if is_one(&error, &[Errno::NOTEMPTY, Errno::EXIST]) => Ok(false),
        Err(error) if !is_one(&error, &[Errno::NOENT]) => Err(error),
        Ok(()) | Err(_) => Ok(true),
    }
}

/// Sets a file's time to now, where it was written before a time, or in any case.
pub(super) fn touch(place: &Place, path: &Path, before: Option<SystemTime>) -> Result<Touched, Fault> {
    let times = Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 0, tv_nsec: UTIME_NOW },
    };
    let done = match fs::metadata(path) {
        Ok(stat) if !stat.is_file() => return Ok(Touched::Gone),
        Ok(stat) => match before {
            Some(before) if stat.modified()? >= before => return Ok(Touched::Young),
            Some(_) | None => {
                rustix::fs::utimensat(CWD, path, &times, AtFlags::empty()).map_err(io::Error::from)
            }
        },
        Err(error) => Err(error),
    };
    match done {
        Ok(()) => Ok(Touched::Done),
        Err(error) if absent(&error) => present_now(place).map(|()| Touched::Gone),
        Err(error) => Err(error.into()),
    }
}

/// Removes staged files that nobody has written to for so long.
pub(super) fn reap(place: &Place, age: Duration) -> Result<u64, Fault> {
    let entries = match fs::read_dir(&place.staging) {
        Err(error) if is_one(&error, &[Errno::NOENT]) => return Ok(0),
        entries => entries?,
    };
    let now = SystemTime::now();
    let mut reaped = 0;
    for entry in entries {
        let entry = entry?;
        // What vanishes meanwhile was somebody's upload.
        let Ok(stat) = entry.metadata() else { continue };
        let stale = now.duration_since(stat.modified()?).is_ok_and(|old| old >= age);
        if stale && stat.is_file() && entry.file_name() != LOCK {
            match fs::remove_file(entry.path()) {
                Ok(()) => reaped += 1,
                Err(error) if is_one(&error, &[Errno::NOENT]) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(reaped)
}

/// Whether the root is there and a file can be written beside the objects.
pub(super) fn probe(place: &Place) -> Result<(), Fault> {
    let mut staged = Staged::create(place)?;
    staged.write(b"?")?;
    fs::metadata(&place.root)?;
    Ok(())
}
