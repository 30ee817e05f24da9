//! An entry's files, one at a time, on their way to a shared cache.
//!
//! An entry is sent whole or not at all as far as that can be told beforehand: everything in it is looked at before the
//! first file is handed on. A link cannot be sent as one, and following it could send anything: such an entry is left out.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::archive;
use super::at::{self, Facts};
use super::name::Form;
use super::plan::Entry;
use crate::client::{Chunks, Content};

/// Files up to this are sent from memory, others in pieces of this, bytes.
pub(super) const PIECE: usize = 256 * 1024;

/// Why an entry is not sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unsent {
    /// HTTP has no word for it.
    #[error("{0} is a link, or nothing that has content")]
    Kind(String),
    /// The shared cache could not find it again under this name.
    #[error("{name}: {why}")]
    Name { name: String, why: String },
    /// Somebody writes or removes it at this moment.
    #[error("in use")]
    Busy,
    /// Nobody takes files any more.
    #[error("stopped")]
    Stopped,
    #[error(transparent)]
    Read(#[from] io::Error),
}

impl Unsent {
    /// Whether that was to be expected, and is no failure.
    pub(super) const fn is_left_out(&self) -> bool {
        match self {
            Self::Kind(_) | Self::Name { .. } | Self::Busy => true,
            Self::Stopped | Self::Read(_) => false,
        }
    }
}

/// Who takes an entry's files. Both are told names relative to the entry.
pub(super) trait Taker {
    /// Whether a file of this name could be taken.
    fn check(&self, name: &str) -> Result<(), Unsent>;
    /// Takes one; waits for room.
    fn take(&mut self, name: &str, content: Content) -> Result<(), Unsent>;
}

/// Hands all files of an entry to a taker, having checked all of them. Blocks.
pub(super) fn hand(root: &OwnedFd, entry: &Entry, taker: &mut impl Taker) -> Result<(), Unsent> {
    let (Some(above), Some(name)) = (entry.path.parent(), entry.path.file_name()) else {
        return Err(Unsent::Busy);
    };
    let opened = at::descend(root, above).and_then(|dir| match entry.form {
        Form::Directory => at::directory(dir, name),
        Form::Archive => at::file(dir, name),
    });
    let held = match opened {
        Err(error) if at::is_gone(&error) => return Err(Unsent::Busy),
        opened => opened?,
    };
    // Whoever cleans up by our rules leaves it alone meanwhile.
    // Other answers than that it is locked are of file systems without locks.
    if rustix::fs::flock(&held, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
        return Err(Unsent::Busy);
    }
    match entry.form {
        // Whoever cleans up by other rules takes it away while it is read.
        Form::Directory => directory(&held, taker).map_err(|why| match why {
            Unsent::Read(ref error) if at::is_gone(error) => Unsent::Busy,
            Unsent::Kind(_) | Unsent::Name { .. } | Unsent::Busy | Unsent::Stopped | Unsent::Read(_) => why,
        }),
        Form::Archive => archive::hand(&File::from(held), taker),
    }
}

fn directory(dir: &OwnedFd, taker: &mut impl Taker) -> Result<(), Unsent> {
    let mut names = Vec::new();
    list(dir, "", &mut names)?;
    names.sort_unstable();
    names.iter().try_for_each(|name| taker.check(name))?;
    for name in names {
        let path = Path::new(&name);
        let above = at::descend(dir, path.parent().unwrap_or(Path::new("")))?;
        let file = at::file(&above, path.file_name().unwrap_or_default())?;
        let content = whole(File::from(file))?;
        taker.take(&name, content)?;
    }
    Ok(())
}

fn list(dir: &OwnedFd, below: &str, names: &mut Vec<String>) -> Result<(), Unsent> {
    for name in at::names(dir)? {
        let Some(text) = name.to_str() else {
            let name = format!("{below}{}", name.display());
            return Err(Unsent::Name { name, why: "not UTF-8".to_owned() });
        };
        let path = format!("{below}{text}");
        let facts = Facts::at(dir, &name)?;
        if facts.is_dir() {
            list(&at::directory(dir, &name)?, &format!("{path}/"), names)?;
        } else if facts.is_file() {
            names.push(path);
        } else {
            return Err(Unsent::Kind(path));
        }
    }
    Ok(())
}

/// All of a file: read now where it is small, else whenever it is sent.
pub(super) fn whole(file: File) -> Result<Content, Unsent> {
    let len = Facts::of(&file)?.len;
    if len <= PIECE as u64 {
        return Ok(Content::bytes(piece(&file, 0)?));
    }
    let file = Arc::new(file);
    Ok(Content::stream(len, move || pieces(Arc::clone(&file))))
}

fn pieces(file: Arc<File>) -> Chunks {
    stream::try_unfold((file, 0), |(file, offset)| async move {
        let (file, read) = tokio::task::spawn_blocking(move || {
            let read = piece(&file, offset);
            (file, read)
        })
        .await?;
        let bytes = read?;
        let next = offset + bytes.len() as u64;
        Ok((!bytes.is_empty()).then_some((bytes, (file, next))))
    })
    .boxed()
}

/// As much as there is from here on, up to [`PIECE`].
fn piece(file: &File, offset: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; PIECE];
    let mut length = 0;
    while let Some(room) = buffer.get_mut(length..).filter(|room| !room.is_empty()) {
        match file.read_at(room, offset + length as u64) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    // Small files are many: none holds a whole buffer.
    buffer.truncate(length);
    buffer.shrink_to_fit();
    Ok(buffer.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::please_dir::measure::Times;
    use crate::please_dir::walk;
    use std::fs;
    use std::path::PathBuf;

    /// Does something to the entry when it has got so far.
    struct Meddler {
        taken: usize,
        meddle: Box<dyn Fn(usize)>,
    }

    impl Taker for Meddler {
        fn check(&self, _: &str) -> Result<(), Unsent> {
            Ok(())
        }

        fn take(&mut self, _: &str, _: Content) -> Result<(), Unsent> {
            self.taken += 1;
            (self.meddle)(self.taken);
            Ok(())
        }
    }

    /// What comes of an entry of three files to which this happens when the first has been read, and how many were taken.
    fn meddled(meddle: impl Fn(PathBuf) + 'static) -> (Result<(), Unsent>, usize) {
        let dir = tempfile::tempdir().unwrap();
        let entry = dir.path().join("p/x/AAECAwQFBgcICQoLDA0ODxAREhM=");
        fs::create_dir_all(entry.join("gen")).unwrap();
        for name in ["a", "b", "gen/c"] {
            fs::write(entry.join(name), name).unwrap();
        }
        let root = at::root(dir.path()).unwrap();
        let planned = walk::read(&root, Times::Read).unwrap().entries.remove(0);
        let meddle = move |taken| {
            if taken == 1 {
                meddle(entry.clone());
            }
        };
        let mut taker = Meddler { taken: 0, meddle: Box::new(meddle) };
        let done = hand(&root, &planned, &mut taker);
        (done, taker.taken)
    }

    #[test]
    fn an_entry_that_goes_while_it_is_read_is_in_use() {
        let (done, taken) = meddled(|entry| fs::remove_dir_all(entry).unwrap());
        assert!(matches!(done, Err(Unsent::Busy)), "{done:?}");
        assert_eq!(taken, 1);
        let (done, taken) = meddled(|entry| fs::remove_dir_all(entry.join("gen")).unwrap());
        assert!(matches!(done, Err(Unsent::Busy)), "{done:?}");
        assert_eq!(taken, 2);
        let (done, taken) = meddled(|_| ());
        assert!(matches!(done, Ok(())) && taken == 3, "{done:?}");
    }
}
