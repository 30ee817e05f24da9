//! Files from outside, as the file system tells of them, and from inside, as bytes.
//!
//! Never knows what the bytes mean, nor when to look. A directory stands for the files in it and in directories below it;
//! names that begin with a dot are passed over, since mounted secrets keep their older selves under such names.

use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};

use super::{MAX_FILES, MAX_SIZE, Problem, WatchError};

/// A file as young as this may change once more without looking changed: clocks of file systems are coarse.
const YOUNG: Duration = Duration::from_secs(2);

/// Where something is read from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// One file.
    File(PathBuf),
    /// One file, or a directory of files.
    Files(PathBuf),
}

impl Place {
    /// Its path.
    pub fn path(&self) -> &Path {
        match self {
            Self::File(path) | Self::Files(path) => path,
        }
    }

    /// The files that it stands for now, by name.
    fn files(&self) -> Result<Vec<PathBuf>, WatchError> {
        match self {
            Self::Files(path) if path.is_dir() => {
                let mut found = Vec::new();
                below(path, &mut found)?;
                found.sort();
                Ok(found)
            }
            Self::File(path) | Self::Files(path) => Ok(vec![path.clone()]),
        }
    }
}

/// Adds the files of a directory. Directories behind symbolic links are not entered, since they may lead in circles;
/// reading them as files fails, so none is passed over in silence.
fn below(directory: &Path, found: &mut Vec<PathBuf>) -> Result<(), WatchError> {
    let unreadable = |error| WatchError::new(directory, Problem::Unreadable(error));
    for entry in std::fs::read_dir(directory).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.file_name().as_bytes().starts_with(b".") {
            continue;
        }
        if entry.file_type().map_err(unreadable)?.is_dir() {
            below(&entry.path(), found)?;
        } else if found.len() == MAX_FILES {
            return Err(WatchError::new(directory, Problem::TooMany));
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// How files look from outside. What cannot be looked at looks like its error.
pub(super) type Look = Result<Vec<(PathBuf, Stamp)>, io::ErrorKind>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Also tells of permissions given back, and of rewriting with the old time put back.
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// How all files of these places look.
pub(super) fn look(places: &[Place]) -> Look {
    let mut all = Vec::with_capacity(places.len());
    for place in places {
        for path in place.files().map_err(|error| error.kind())? {
            let stamp = Stamp::of(&std::fs::metadata(&path).map_err(|error| error.kind())?);
            all.push((path, stamp));
        }
    }
    Ok(all)
}

/// A file that was read.
#[derive(Debug)]
pub struct Read {
    /// Which of the places it is of, counted from 0.
    pub place: usize,
    /// Where it is, for messages.
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What all files hold; the looks that they had, unless one is too young for them to be relied on.
pub(super) struct Contents {
    pub(super) files: Vec<Read>,
    pub(super) look: Option<Look>,
}

impl Contents {
    /// Tells other contents from these.
    pub(super) fn digest(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        for file in &self.files {
            hash.update((file.place as u64).to_le_bytes());
            hash.update((file.bytes.len() as u64).to_le_bytes());
            hash.update(&file.bytes);
        }
        hash.finalize().into()
    }
}

/// Reads all files of these places.
pub(super) fn read(places: &[Place]) -> Result<Contents, WatchError> {
    let (mut files, mut stamps) = (Vec::new(), Vec::new());
    let (mut left, mut settled) = (MAX_SIZE, true);
    for (number, place) in places.iter().enumerate() {
        for path in place.files()? {
            let (bytes, metadata) =
                content(&path, left).map_err(|problem| WatchError::new(&path, problem))?;
            left = left.saturating_sub(bytes.len() as u64);
            settled &= is_settled(&metadata);
            stamps.push((path.clone(), Stamp::of(&metadata)));
            files.push(Read { place: number, path, bytes });
        }
    }
    Ok(Contents { files, look: settled.then_some(Ok(stamps)) })
}

fn content(path: &Path, most: u64) -> Result<(Vec<u8>, Metadata), Problem> {
    // Asked first: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(Problem::Unreadable)?.is_file() {
        return Err(Problem::NotAFile);
    }
    let file = File::open(path).map_err(Problem::Unreadable)?;
    let metadata = file.metadata().map_err(Problem::Unreadable)?;
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes).map_err(Problem::Unreadable)?;
    if bytes.len() as u64 > most { Err(Problem::TooLarge) } else { Ok((bytes, metadata)) }
}

fn is_settled(metadata: &Metadata) -> bool {
    let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age >= YOUNG)
}
