//! Reading: open, look, and hand over what is small in one piece.
//!
//! A hop to the blocking pool costs more than a small read itself, so the kernel is first asked for what it can answer
//! from memory (`openat2` with `RESOLVE_CACHED`, `preadv2` with `RWF_NOWAIT`); where it would have to wait, the
//! whole read is done again on the pool, in one hop. Never writes.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};

use super::fault::{Fault, absent, is_one};
use super::hot::Identity;
use super::stage::ATTRIBUTE;
use super::{Place, hop, stream};
use crate::payload::{Body, Content, MARK_MOST, Meta, Object, Want};
use crate::store::checksum::Crc;
use crate::store::{Key, SMALL};

/// Whether the medium may be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    /// Only what is in memory, else [`Fault::Again`]: for async threads.
    Never,
    /// As long as it takes: for the blocking pool.
    Long,
}

/// A file that is an object.
struct Opened {
    file: File,
    stat: fs::Metadata,
}

impl Opened {
    /// What is known of it.
    fn look(&self) -> Result<(Meta, Option<Crc>), Fault> {
        let (crc, mark) = checksum(&self.file)?;
        Ok((Meta { mark, ..meta(&self.stat, crc)? }, crc))
    }
}

/// Reads an object, in no hop or in one.
pub(super) async fn get(place: &Arc<Place>, key: &Key, want: &Want) -> Result<Option<Object>, Fault> {
    match fetch(place, key, want, Wait::Never) {
        Err(Fault::Again) => {
            let (place, key, want) = (Arc::clone(place), key.clone(), want.clone());
            hop(move || fetch(&place, &key, &want, Wait::Long)).await
        }
        answer => answer,
    }
}

/// Looks at an object, in no hop or in one.
pub(super) async fn head(place: &Arc<Place>, key: &Key) -> Result<Option<Meta>, Fault> {
    let look = |place: &Place, path: &Path, wait| {
        open(place, path, wait)?.map(|opened| opened.look().map(|(meta, _)| meta)).transpose()
    };
    let path = place.path(key);
    match look(place, &path, Wait::Never) {
        Err(Fault::Again) => {
            let place = Arc::clone(place);
            hop(move || look(&place, &path, Wait::Long)).await
        }
        answer => answer,
    }
}

fn fetch(place: &Arc<Place>, key: &Key, want: &Want, wait: Wait) -> Result<Option<Object>, Fault> {
    let Some(opened) = open(place, &place.path(key), wait)? else { return Ok(None) };
    let identity = Identity::of(&opened.stat);
    let (meta, crc, kept) = match place.hot.get(key, identity) {
        Some((meta, bytes)) => (meta, None, Some(bytes)),
        None => opened.look().map(|(meta, crc)| (meta, crc, None))?,
    };
    // The validator decides before a byte is read.
    if want.has(&meta.etag) {
        return Ok(Some(Object { meta, body: Body::Unchanged }));
    }
    let range = want.range_of(&meta.etag).map(|range| range.resolve(meta.size));
    if range == Some(None) {
        return Ok(Some(Object { meta, body: Body::Unsatisfiable }));
    }
    let part = range.flatten();
    let content = match usize::try_from(meta.size) {
        Ok(size) if size <= SMALL => {
            let all = match kept {
                Some(bytes) => bytes,
                None => {
                    let bytes = small(&opened.file, size, crc, wait)?;
                    place.hot.keep(key, identity, &meta, &bytes);
                    bytes
                }
            };
            Content::Bytes(match part {
                // Both lie within `size`: so does the sum.
                Some((first, last)) => all.slice(first as usize..=last as usize),
                None => all,
            })
        }
        Ok(_) | Err(_) => {
            let wanted = part.map_or(0..meta.size, |(first, last)| first..last.saturating_add(1));
            // The checksum is of the whole. Without one, no more is read than is wanted.
            let read = if crc.is_some() { 0..meta.size } else { wanted.clone() };
            stream::content(place, opened.file, key, read, wanted, crc, want.paid)
        }
    };
    let body = match part {
        Some((first, last)) => Body::Part { first, last, content },
        None => Body::Whole(content),
    };
    Ok(Some(Object { meta, body }))
}

fn open(place: &Place, path: &Path, wait: Wait) -> Result<Option<Opened>, Fault> {
    // Without O_NONBLOCK, opening a FIFO waits for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_with(place, path, flags, wait) {
        Ok(fd) => File::from(fd),
        Err(Fault::Io(error)) if absent(&error) => return present(place, wait).map(|()| None),
        Err(fault) => return Err(fault),
    };
    let stat = file.metadata()?;
    if !stat.is_file() {
        return Ok(None);
    }
    Ok(Some(Opened { file, stat }))
}

/// A missing file is a miss only in a store that is there: an unmounted disk has no misses.
fn present(place: &Place, wait: Wait) -> Result<(), Fault> {
    let there = match wait {
        Wait::Never => open_with(place, &place.staging, directory(), wait).map(|_| ()),
        Wait::Long => fs::metadata(&place.staging).map(|_| ()).map_err(Fault::Io),
    };
    match there {
        Err(Fault::Io(error)) if absent(&error) => Err(Fault::Gone),
        answer => answer,
    }
}

/// As [`present`], where waiting is allowed.
pub(super) fn present_now(place: &Place) -> Result<(), Fault> {
    present(place, Wait::Long)
}

#[cfg(target_os = "linux")]
fn directory() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

#[cfg(not(target_os = "linux"))]
fn directory() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

fn open_with(place: &Place, path: &Path, flags: OFlags, wait: Wait) -> Result<OwnedFd, Fault> {
    match wait {
        Wait::Never => open_cached(place, path, flags),
        Wait::Long => Ok(retry_on_intr(|| rustix::fs::open(path, flags, Mode::empty()))?),
    }
}

#[cfg(target_os = "linux")]
fn open_cached(place: &Place, path: &Path, flags: OFlags) -> Result<OwnedFd, Fault> {
    use std::sync::atomic::Ordering;

    use rustix::fs::{CWD, ResolveFlags};

    if !place.quick.load(Ordering::Relaxed) {
        return Err(Fault::Again);
    }
    match rustix::fs::openat2(CWD, path, flags, Mode::empty(), ResolveFlags::CACHED) {
        Ok(fd) => Ok(fd),
        Err(Errno::AGAIN) => Err(Fault::Again),
        // Before Linux 5.6 there is no such call, before 5.12 no such flag; a sandbox may forbid it.
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => {
            place.quick.store(false, Ordering::Relaxed);
            Err(Fault::Again)
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(not(target_os = "linux"))]
fn open_cached(_place: &Place, _path: &Path, _flags: OFlags) -> Result<OwnedFd, Fault> {
    Err(Fault::Again)
}

/// The checksum that a file was stored with, and its mark. None where it came by other means, or where attributes
/// cannot be.
fn checksum(file: &File) -> Result<(Option<Crc>, Option<String>), Fault> {
    #[cfg(target_os = "linux")]
    const UNSET: Errno = Errno::NODATA;
    #[cfg(not(target_os = "linux"))]
    const UNSET: Errno = Errno::NOATTR;
    const UNREADABLE: Fault = Fault::Corrupt("the checksum beside the bytes cannot be read");

    let mut value = [0; 32 + MARK_MOST];
    match rustix::fs::fgetxattr(file, ATTRIBUTE, &mut value) {
        Ok(length) => {
            let text = value.get(..length).and_then(|text| std::str::from_utf8(text).ok());
            let (crc, mark) = text.map_or(("", None), |text| match text.split_once(' ') {
                Some((crc, mark)) => (crc, Some(mark.to_owned())),
                None => (text, None),
            });
            Ok((Some(Crc::parse(crc).ok_or(UNREADABLE)?), mark))
        }
        Err(Errno::RANGE) => Err(UNREADABLE),
        Err(errno) if [UNSET, Errno::NOTSUP, Errno::OPNOTSUPP].contains(&errno) => Ok((None, None)),
        Err(errno) => Err(errno.into()),
    }
}

/// What is known of a file. Its validator is its checksum and size, or else what changes when a file is written.
pub(super) fn meta(stat: &fs::Metadata, crc: Option<Crc>) -> io::Result<Meta> {
    let size = stat.len();
    let etag = match crc {
        Some(crc) => format!("{:016x}-{size:x}", crc.value()),
        None => format!("m{:x}.{:x}-{size:x}-{:x}", stat.mtime(), stat.mtime_nsec(), stat.ino()),
    };
    Ok(Meta { size, etag, modified: stat.modified()?, mark: None })
}

fn small(file: &File, size: usize, crc: Option<Crc>, wait: Wait) -> Result<Bytes, Fault> {
    let mut bytes = vec![0; size];
    match wait {
        Wait::Never if now(file, &mut bytes, 0) < size => return Err(Fault::Again),
        Wait::Never => {}
        Wait::Long => exactly(file, &mut bytes, 0)?,
    }
    if crc.is_some_and(|crc| crc != Crc::of(&bytes)) {
        return Err(Fault::Corrupt("the bytes fail the checksum they were stored with"));
    }
    Ok(bytes.into())
}

/// Reads what is in memory, and says how much that was. Failures count as nothing: the blocking read will tell.
#[cfg(target_os = "linux")]
pub(super) fn now(file: &File, into: &mut [u8], at: u64) -> usize {
    use std::io::IoSliceMut;

    use rustix::io::{ReadWriteFlags, preadv2};

    if into.is_empty() {
        return 0;
    }
    preadv2(file, &mut [IoSliceMut::new(into)], at, ReadWriteFlags::NOWAIT).unwrap_or(0)
}

/// Elsewhere there is no way to ask.
#[cfg(not(target_os = "linux"))]
pub(super) fn now(_file: &File, _into: &mut [u8], _at: u64) -> usize {
    0
}

/// Reads exactly so many bytes, waiting for them.
pub(super) fn exactly(file: &File, into: &mut [u8], at: u64) -> Result<(), Fault> {
    file.read_exact_at(into, at).map_err(|error| {
        if error.kind() == io::ErrorKind::UnexpectedEof {
            Fault::Corrupt("the file became shorter while it was read")
        } else {
            Fault::Io(error)
        }
    })
}

/// The validator of the object that is there now. Blocking.
pub(super) fn etag(place: &Place, path: &Path) -> Result<Option<String>, Fault> {
    let found = open(place, path, Wait::Long)?;
    found.map(|opened| opened.look().map(|(meta, _)| meta.etag)).transpose()
}

/// Whether an object is there now.
pub(super) fn exists(path: &Path) -> Result<bool, Fault> {
    match fs::metadata(path) {
        Ok(stat) => Ok(stat.is_file()),
        Err(error) if is_one(&error, &[Errno::NOENT, Errno::NOTDIR]) => Ok(false),
        Err(error) => Err(error.into()),
    }
}
