//! A staged file, and its way into place. Blocking: only ever called on the blocking pool.
//!
//! Write, mark with the checksum, sync, rename, sync the directories. Until the rename nothing is visible; dropped
//! before, the file is gone.

use std::fs::{self, DirBuilder, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{FlockOperation, XattrFlags};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::fault::{Fault, is_one};
use super::{Place, Sync, read, tidy};
use crate::store::checksum::{Crc, Running};
use crate::store::{Key, Mode, Put, Stored};

/// The extended attribute that holds the checksum of a file's bytes.
pub(super) const ATTRIBUTE: &str = "user.larder.crc64nvme";

/// The file in the staging directory that swaps are locked with. Never removed: a lock is on a file, not on a name.
pub(super) const LOCK: &str = "lock";

/// How often a commit is tried again because directories came or went meanwhile.
const TRIES: usize = 16;

/// Most steps up and down on the way to a directory; paths of 4 KiB need no more.
const STEPS: usize = 8192;

/// A file that is being written, in the staging directory.
#[derive(Debug)]
pub(super) struct Staged {
    file: NamedTempFile,
    running: Running,
}

impl Staged {
    /// An empty one. Makes the staging directory where it is missing.
    pub(super) fn create(place: &Place) -> Result<Self, Fault> {
        let file = match named(&place.staging) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                place.prepare()?;
                named(&place.staging)?
            }
            file => file?,
        };
        Ok(Self { file, running: Running::new() })
    }

    /// The same file by another handle, which sees failures of the medium for itself.
    pub(super) fn again(&self) -> io::Result<File> {
        self.file.reopen()
    }

    /// Adds bytes.
    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.running.update(bytes);
        self.file.as_file_mut().write_all(bytes)
    }

    /// Puts the file in its place, unless the caller left.
    pub(super) fn commit(
        self,
        place: &Place,
        key: &Key,
        how: &Put,
        left: &AtomicBool,
    ) -> Result<Stored, Fault> {
        let crc = mark(place, self.file.as_file(), self.running.finish(), how.mark.as_deref())?;
        if place.sync == Sync::Always {
            self.file.as_file().sync_all()?;
        }
        let etag = read::meta(&self.file.as_file().metadata()?, crc)?.etag;
        let mut way = Way { place, target: place.path(key), mode: &how.mode, changed: Vec::new() };
        match way.go(self.file, left) {
            Ok(false) => Ok(Stored::Exists),
            Ok(true) => {
                way.sync()?;
                Ok(Stored::Done { etag })
            }
            Err(fault) => {
                tidy::prune(place, &way.target);
                Err(fault)
            }
        }
    }
}

/// Readable by others, as far as the umask allows: an operator's `ls`, a file server beside us.
fn named(staging: &Path) -> io::Result<NamedTempFile> {
    tempfile::Builder::new()
        .prefix("put-")
        .permissions(fs::Permissions::from_mode(0o644))
        .tempfile_in(staging)
}

/// Notes the checksum and the mark behind it, and returns the checksum where the file system keeps it.
fn mark(place: &Place, file: &File, crc: Crc, mark: Option<&str>) -> Result<Option<Crc>, Fault> {
    let note = mark.map_or_else(|| crc.to_string(), |mark| format!("{crc} {mark}"));
    match rustix::fs::fsetxattr(file, ATTRIBUTE, note.as_bytes(), XattrFlags::empty()) {
        Ok(()) => Ok(Some(crc)),
        Err(errno) if [Errno::NOTSUP, Errno::OPNOTSUPP].contains(&errno) => {
            let what = "the file system keeps no extended attributes: objects are stored without checksums";
            place.once(&place.plain, what);
            Ok(None)
        }
        Err(errno) => Err(errno.into()),
    }
}

/// The way of one file into its place.
struct Way<'p> {
    place: &'p Place,
    target: PathBuf,
    mode: &'p Mode,
    /// Directories that got a new directory on the way.
    changed: Vec<PathBuf>,
}

/// What stands in the way.
enum Block {
    /// Nothing any more.
    Cleared,
    /// An object, and it is to stay.
    Object,
}

impl Way<'_> {
    /// `false` where an object is there that must not be replaced. Directories are made only when they are missed,
    /// and may vanish again at any moment: whoever deletes the last object in one takes it along.
    fn go(&mut self, mut file: NamedTempFile, left: &AtomicBool) -> Result<bool, Fault> {
        let mut last = None;
        for _ in 0..TRIES {
            if left.load(Ordering::Relaxed) {
                return Err(Fault::Left);
            }
            let moved = match self.mode {
                Mode::Replace => file.persist(&self.target),
                Mode::Create => file.persist_noclobber(&self.target),
                Mode::Swap(etag) => {
                    // Between the look and the rename nobody else's swap may come.
                    let _alone = lock(self.place)?;
                    if read::etag(self.place, &self.target)?.as_deref() != Some(etag) {
                        return Ok(false);
                    }
                    file.persist(&self.target)
                }
            };
            let back = match moved {
                Ok(_) => return Ok(true),
                Err(back) => back,
            };
            match self.clear(&back.error)? {
                Some(Block::Cleared) => {}
                Some(Block::Object) => return Ok(false),
                None => return Err(back.error.into()),
            }
            last = Some(back.error);
            file = back.file;
        }
        Err(last.map_or(Fault::Left, Fault::Io))
    }

    /// Sees to what a rename failed for; `None` where that cannot be helped.
    fn clear(&mut self, error: &io::Error) -> Result<Option<Block>, Fault> {
        if is_one(error, &[Errno::NOENT]) {
            if let Some(parent) = self.target.parent() {
                make(parent, &mut self.changed)?;
            }
            return Ok(Some(Block::Cleared));
        }
        if is_one(error, &[Errno::NOTDIR]) {
            return Err(Fault::Conflict("the key lies below an object"));
        }
        if !is_one(error, &[Errno::ISDIR, Errno::EXIST, Errno::NOTEMPTY]) {
            return Ok(None);
        }
        match fs::metadata(&self.target) {
            Ok(stat) if !stat.is_dir() => Ok(Some(Block::Object)),
            Ok(_) if tidy::remove_hollow(&self.target)? => Ok(Some(Block::Cleared)),
            Ok(_) => Err(Fault::Conflict("the key is a directory of objects")),
            Err(gone) if is_one(&gone, &[Errno::NOENT]) => Ok(Some(Block::Cleared)),
            Err(other) => Err(other.into()),
        }
    }

    /// Forces the new names to the medium. Directories that others made meanwhile are theirs to sync.
    fn sync(&self) -> Result<(), Fault> {
        let mut dirs = self.changed.iter().map(PathBuf::as_path).chain(self.target.parent());
        dirs.try_for_each(|dir| self.place.sync_dir(dir))
    }
}

/// Keeps all other swaps of this store out, those of other processes too, until the handle is dropped.
fn lock(place: &Place) -> Result<File, Fault> {
    let file = File::options().create(true).write(true).truncate(false).open(place.staging.join(LOCK))?;
    rustix::io::retry_on_intr(|| rustix::fs::flock(&file, FlockOperation::LockExclusive))?;
    Ok(file)
}

/// Makes a directory and those above it, noting each that got an entry. One that vanishes again is not missed here.
pub(super) fn make(dir: &Path, changed: &mut Vec<PathBuf>) -> Result<(), Fault> {
    let below_object = Fault::Conflict("the key lies below an object");
    let mut missing = vec![dir];
    for _ in 0..STEPS {
        let Some(dir) = missing.last().copied() else { return Ok(()) };
        match DirBuilder::new().mode(0o755).create(dir) {
            Ok(()) => changed.extend(dir.parent().map(Path::to_path_buf)),
            Err(error) if is_one(&error, &[Errno::NOENT]) => {
                missing.push(dir.parent().ok_or(error)?);
                continue;
            }
            Err(error) if is_one(&error, &[Errno::NOTDIR]) => return Err(below_object),
            Err(error) if is_one(&error, &[Errno::EXIST]) => {
                if fs::metadata(dir).is_ok_and(|stat| !stat.is_dir()) {
                    return Err(below_object);
                }
            }
            Err(error) => return Err(error.into()),
        }
        missing.pop();
    }
    Err(Fault::Io(Errno::NOENT.into()))
}
