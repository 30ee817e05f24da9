//! Files and directories by one name in a directory that is open: no path is ever resolved twice, and no link followed.
//!
//! Whoever swaps a directory for a link to somewhere else, at whatever moment, is refused by the kernel.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Component, Path};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{AtFlags, Dir, FileType, FlockOperation, Mode, OFlags, RenameFlags, Stat};
use rustix::io::{Errno, retry_on_intr};

/// Where the system has it: reading a directory is not using it, for cleaners that go by its access time.
#[cfg(target_os = "linux")]
const QUIET: OFlags = OFlags::NOATIME;
#[cfg(not(target_os = "linux"))]
const QUIET: OFlags = OFlags::empty();

/// Nanoseconds since 1970.
pub(super) type Nanos = i64;

/// What is told of a file, directory or link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) kind: FileType,
    /// Device and inode.
    pub(super) id: (u64, u64),
    /// How many names it has, here and elsewhere.
    pub(super) links: u64,
    /// Length.
    pub(super) len: u64,
    /// What it takes of the disk, bytes, as `du` counts.
    pub(super) disk: u64,
    pub(super) read: Nanos,
    pub(super) written: Nanos,
    /// Permissions.
    pub(super) mode: Mode,
}

/// The system's numbers have another width on each architecture.
fn wide<T: TryInto<i64>>(number: T) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}

fn natural<T: TryInto<u64>>(number: T) -> u64 {
    number.try_into().unwrap_or(0)
}

fn nanos(seconds: i64, nanos: i64) -> Nanos {
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}

/// A moment as a count.
pub(super) fn since_1970(time: SystemTime) -> Nanos {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| wide(since.as_nanos()))
}

/// A count as a moment; what lies before 1970 is 1970.
pub(super) fn moment(time: Nanos) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(natural(time))
}

impl Facts {
    fn new(stat: &Stat) -> Self {
        Self {
            kind: FileType::from_raw_mode(stat.st_mode),
            id: (natural(stat.st_dev), natural(stat.st_ino)),
            links: natural(stat.st_nlink),
            len: natural(stat.st_size),
            // Blocks are of 512 bytes, whatever the file system's are (stat(2)).
            disk: natural(stat.st_blocks) * 512,
            read: nanos(wide(stat.st_atime), wide(stat.st_atime_nsec)),
            written: nanos(wide(stat.st_mtime), wide(stat.st_mtime_nsec)),
            mode: Mode::from_raw_mode(stat.st_mode),
        }
    }

    /// Of what is open.
    pub(super) fn of(file: impl AsFd) -> io::Result<Self> {
        Ok(Self::new(&rustix::fs::fstat(file)?))
    }

    /// Of a name, itself where it is a link.
    pub(super) fn at(dir: impl AsFd, name: &OsStr) -> io::Result<Self> {
        Ok(Self::new(&rustix::fs::statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)?))
    }

    pub(super) fn is_dir(&self) -> bool {
        self.kind == FileType::Directory
    }

    pub(super) fn is_file(&self) -> bool {
        self.kind == FileType::RegularFile
    }
}

/// Opens a name for reading, but no link.
fn open(dir: impl AsFd, name: &OsStr, how: OFlags) -> io::Result<OwnedFd> {
    let flags = how | OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    match rustix::fs::openat(&dir, name, flags | QUIET, Mode::empty()) {
        // Only an owner may read without a trace.
        Err(Errno::PERM) => Ok(rustix::fs::openat(dir, name, flags, Mode::empty())?),
        opened => Ok(opened?),
    }
}

/// A directory in a directory.
pub(super) fn directory(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    open(dir, name, OFlags::DIRECTORY)
}

/// A file in a directory.
pub(super) fn file(dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    open(dir, name, OFlags::empty())
}

/// The directory that a person names, who may name it by a link.
pub(super) fn root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

/// Waits until nobody else holds a directory's lock, and holds it until the directory is closed. On a file system without
/// locks nobody waits.
pub(super) fn wait_for(dir: impl AsFd) -> io::Result<()> {
    match retry_on_intr(|| rustix::fs::flock(&dir, FlockOperation::LockExclusive)) {
        Ok(()) | Err(Errno::NOTSUP | Errno::NOLCK | Errno::INVAL | Errno::BADF) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A directory further down, name by name.
pub(super) fn descend(root: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    let mut here = root.as_fd().try_clone_to_owned()?;
    for part in path.components() {
        match part {
            Component::Normal(name) => here = directory(&here, name)?,
            Component::CurDir => {}
            Component::Prefix(_) | Component::RootDir | Component::ParentDir => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
    }
    Ok(here)
}

/// The names in a directory, in no order, without the two that every directory has.
pub(super) fn names(dir: impl AsFd) -> io::Result<Vec<OsString>> {
    let mut found = Vec::new();
    // The same opening of it, which leaves no trace where that can be.
    let mut entries = Dir::new(dir.as_fd().try_clone_to_owned()?)?;
    entries.rewind();
    for entry in entries {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            name => found.push(OsString::from_vec(name.to_vec())),
        }
    }
    Ok(found)
}

/// Gives a name another, within its directory, but never one that is taken.
pub(super) fn rename(dir: impl AsFd, from: &OsStr, to: &OsStr) -> io::Result<()> {
    match rustix::fs::renameat_with(&dir, from, &dir, to, RenameFlags::NOREPLACE) {
        // A file system that cannot look and rename in one step.
        Err(Errno::INVAL | Errno::NOSYS) => match rustix::fs::statat(&dir, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(io::ErrorKind::AlreadyExists.into()),
            Err(Errno::NOENT) => Ok(rustix::fs::renameat(&dir, from, &dir, to)?),
            Err(error) => Err(error.into()),
        },
        done => Ok(done?),
    }
}

/// Removes a name and all below it. Goes into directories that nobody may write to, as their owner may.
pub(super) fn remove(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    let refused = match rustix::fs::unlinkat(&dir, name, AtFlags::empty()) {
        // Linux says EISDIR to a directory, POSIX EPERM.
        Err(errno @ (Errno::ISDIR | Errno::PERM)) => errno,
        Err(Errno::NOENT) => return Ok(()),
        done => return Ok(done?),
    };
    let inner = directory_after(refused, &dir, name)?;
    let mode = Facts::of(&inner)?.mode;
    if !mode.contains(Mode::RWXU) {
        rustix::fs::fchmod(&inner, mode | Mode::RWXU)?;
    }
    for below in names(&inner)? {
        remove(&inner, &below)?;
    }
    remove_empty(dir, name)
}

/// What could not be unlinked, if that is since it is a directory. A file may be refused too (one that is immutable, or
/// another's in a sticky directory): it is there, and the refusal is what there is to say.
fn directory_after(refused: Errno, dir: impl AsFd, name: &OsStr) -> io::Result<OwnedFd> {
    match directory(&dir, name) {
        Err(error) if is_gone(&error) && Facts::at(&dir, name).is_ok_and(|facts| !facts.is_dir()) => {
            Err(refused.into())
        }
        opened => opened,
    }
}

/// Removes a directory, where it is empty.
pub(super) fn remove_empty(dir: impl AsFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Err(Errno::NOENT) => Ok(()),
        done => Ok(done?),
    }
}

/// Whether an error says that a name is not, or no longer, what it was taken for: gone, or a link, or another kind.
pub(super) fn is_gone(error: &io::Error) -> bool {
    let errno = error.raw_os_error();
    [Errno::NOENT, Errno::NOTDIR, Errno::LOOP].iter().any(|gone| errno == Some(gone.raw_os_error()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_may_not_be_unlinked_is_not_gone() {
        let place = tempfile::tempdir().unwrap();
        for name in ["file", "dir/below"] {
            std::fs::create_dir_all(place.path().join(name).parent().unwrap()).unwrap();
            std::fs::write(place.path().join(name), "x").unwrap();
        }
        std::os::unix::fs::symlink("dir", place.path().join("link")).unwrap();
        let dir = root(place.path()).unwrap();
        for name in ["file", "link"] {
            let error = directory_after(Errno::PERM, &dir, OsStr::new(name)).unwrap_err();
            assert!(!is_gone(&error), "{name}: {error}");
            assert_eq!(error.raw_os_error(), Some(Errno::PERM.raw_os_error()), "{name}");
        }
        directory_after(Errno::PERM, &dir, OsStr::new("dir")).unwrap();
        assert!(is_gone(&directory_after(Errno::ISDIR, &dir, OsStr::new("none")).unwrap_err()));
    }
}
