//! `get` and `put`: one object, streamed. What breaks leaves neither half a file nor half an object.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use tempfile::NamedTempFile;
use tokio::io::AsyncReadExt;

use super::{Error, Shown, json_line};
use crate::payload::{Body, BodyError, Content, Meta, Payload, ReadError, Want};
use crate::store::{Key, Mode, Put, Store, Stored};

/// Bytes that are read from a file at a time.
const CHUNK: usize = 256 * 1024;

/// The name that stands for standard input or output.
fn is_dash(path: &Path) -> bool {
    path.as_os_str() == "-"
}

#[derive(Debug, Serialize)]
struct Fetched<'k> {
    #[serde(flatten)]
    object: Shown<'k>,
    etag: &'k str,
}

/// Fetches an object into a file, which appears once it is whole, or to `out` where the file is `-`.
/// With `json`, a line on `out` says what the file holds.
pub async fn get(store: &Store, key: &Key, to: &Path, json: bool, out: &mut impl Write) -> Result<(), Error> {
    let Some(object) = store.get(key, &Want::default()).await? else {
        return Err(Error::Absent(key.clone()));
    };
    let Body::Whole(content) = object.body else {
        return Err(Error::Read { key: key.clone(), source: ReadError::Broken });
    };
    if is_dash(to) {
        copy(key, content, out, Error::Output).await?;
        return Ok(out.flush()?);
    }
    save(key, content, to).await?;
    if json { report(key, &object.meta, out) } else { Ok(()) }
}

fn report(key: &Key, meta: &Meta, out: &mut impl Write) -> Result<(), Error> {
    json_line(out, &Fetched { object: Shown::new(key, meta.size, meta.modified), etag: &meta.etag })?;
    Ok(out.flush()?)
}

async fn save(key: &Key, content: Content, to: &Path) -> Result<(), Error> {
    let at = |source| Error::File { path: to.to_owned(), source };
    let mut staged = Staged::open(to).map_err(at)?;
    copy(key, content, &mut staged, at).await?;
    staged.keep().map_err(at)
}

async fn copy(
    key: &Key,
    content: Content,
    out: &mut impl Write,
    failed: impl Fn(io::Error) -> Error,
) -> Result<(), Error> {
    let mut chunks = content.into_stream();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|source| Error::Read { key: key.clone(), source })?;
        out.write_all(&chunk).map_err(&failed)?;
    }
    Ok(())
}

/// A file on its way: beside its place until it is whole, except where the place is a pipe or a device.
enum Staged {
    Beside { file: NamedTempFile, place: PathBuf },
    Direct(File),
}

impl Staged {
    fn open(place: &Path) -> io::Result<Self> {
        let place = match fs::metadata(place) {
            Ok(there) if there.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
            // A rename would put a file where the device was.
            Ok(there) if !there.is_file() => {
                return File::options().write(true).open(place).map(Self::Direct);
            }
            // What a link points to is replaced, not the link.
            Ok(_) => place.canonicalize()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => place.to_owned(),
            Err(error) => return Err(error),
        };
        let beside = place.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let file = tempfile::Builder::new()
            .prefix(".larder-")
            // As any new file: the umask takes what it wants.
            .permissions(Permissions::from_mode(0o666))
            .tempfile_in(beside)?;
        Ok(Self::Beside { file, place })
    }

    fn keep(self) -> io::Result<()> {
        match self {
            Self::Direct(_) => Ok(()),
            Self::Beside { file, place } => file.persist(place).map(drop).map_err(|error| error.error),
        }
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Beside { file, .. } => file.write(bytes),
            Self::Direct(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Debug, Serialize)]
struct Kept<'k> {
    key: &'k str,
    etag: &'k str,
}

/// Stores a file, or standard input where it is `-`. With `create`, only where there is no such object.
pub async fn put(
    store: &Store,
    key: &Key,
    from: &Path,
    create: bool,
    json: bool,
    out: &mut impl Write,
) -> Result<(), Error> {
    let broke = Broke::default();
    let payload = open(from, &broke).await.map_err(|source| Error::File { path: from.to_owned(), source })?;
    let mode = if create { Mode::Create } else { Mode::Replace };
    let stored =
        store.put(key, payload, Put { mode, ..Put::default() }).await.map_err(|error| {
            match broke.lock().unwrap_or_else(PoisonError::into_inner).take() {
                Some(source) => Error::File { path: from.to_owned(), source },
                None => error.into(),
            }
        })?;
    match stored {
        Stored::Exists => Err(Error::Exists(key.clone())),
        Stored::Done { etag } => {
            if json {
                json_line(out, &Kept { key: key.as_str(), etag: &etag })?;
                out.flush()?;
            }
            Ok(())
        }
    }
}

/// Why reading a file broke off: the store is told only that it did.
type Broke = Arc<Mutex<Option<io::Error>>>;

async fn open(from: &Path, broke: &Broke) -> io::Result<Payload> {
    if is_dash(from) {
        let file = File::from(io::stdin().as_fd().try_clone_to_owned()?);
        return Ok(Payload::new(None, chunks(tokio::fs::File::from_std(file), Arc::clone(broke))));
    }
    let file = tokio::fs::File::open(from).await?;
    let there = file.metadata().await?;
    if there.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    // A pipe has no length that is worth announcing.
    let len = there.is_file().then_some(there.len());
    Ok(Payload::new(len, chunks(file, Arc::clone(broke))))
}

fn chunks(
    mut file: tokio::fs::File,
    broke: Broke,
) -> impl Stream<Item = Result<Bytes, BodyError>> + Send + 'static {
    file.set_max_buf_size(CHUNK);
    stream::try_unfold((file, vec![0; CHUNK], broke), |(mut file, mut buffer, broke)| async move {
        match file.read(&mut buffer).await {
            Ok(0) => Ok(None),
            // Copied: a pipe gives a few bytes at a time, and each must not hold a whole buffer.
            Ok(length) => {
                let chunk = Bytes::copy_from_slice(buffer.get(..length).unwrap_or_default());
                Ok(Some((chunk, (file, buffer, broke))))
            }
            Err(error) => {
                *broke.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                Err(BodyError::Incomplete)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_kept_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let place = dir.path().join("x");
        fs::write(&place, b"old").unwrap();
        let mut staged = Staged::open(&place).unwrap();
        staged.write_all(b"new").unwrap();
        drop(staged);
        assert_eq!(fs::read(&place).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        let mut staged = Staged::open(&place).unwrap();
        staged.write_all(b"new").unwrap();
        staged.keep().unwrap();
        assert_eq!(fs::read(&place).unwrap(), b"new");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn devices_and_links_stay_what_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let link = dir.path().join("link");
        fs::write(dir.path().join("x"), b"old").unwrap();
        std::os::unix::fs::symlink("x", &link).unwrap();
        let mut staged = Staged::open(&link).unwrap();
        staged.write_all(b"new").unwrap();
        staged.keep().unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read(dir.path().join("x")).unwrap(), b"new");
        assert!(matches!(Staged::open(Path::new("/dev/null")).unwrap(), Staged::Direct(_)));
        assert!(Staged::open(dir.path()).is_err());
    }
}
