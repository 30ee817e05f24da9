//! A directory as a store: keys are paths below the root, files hold exactly the objects' bytes.
//!
//! The only room that touches the file system. An object is staged in one hidden directory, [`STAGING`], and renamed
//! into its place, so a reader sees the old one or the new one, and a crash leaves nothing but a staged file for
//! `reap`. Its checksum rides as an extended attribute; a file without one, copied in by hand, is served
//! unchecked. Directories that become empty are removed: like a bucket, the store has none.
//!
//! Symbolic links are followed, so an operator may lay parts of the tree elsewhere for reading; writes need the root and
//! all below it to be one file system. Work on files happens on the blocking pool, but for reads that the kernel can
//! answer from memory; of small objects read lately the bytes are kept (`hot`), and the file is looked at each time. Never keeps
//! an index, never trusts that it is alone.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use futures_util::stream::Stream;
use rustix::io::Errno;
use tokio::runtime::{self, Runtime};
use tokio::task::{JoinHandle, spawn_blocking};

pub(super) use self::examine::Examiner;
use self::fault::{Fault, is_one};
use self::hot::Hot;
use self::known::Known;
use super::key::STAGING;
use super::{BATCH, Error, Key, Kind, Listed, Listing, Op, Prefix, Put, PutError, Stored, Touched};
use crate::budget::Budget;
use crate::metrics::Metrics;
use crate::payload::{Body, Meta, Object, Payload, Want};

mod examine;
mod fault;
mod hot;
mod known;
mod list;
mod read;
mod stage;
mod stream;
mod tidy;
mod write;

/// When bytes are forced to the medium.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sync {
    /// Before each put is acknowledged: what was acknowledged outlives a power failure.
    #[default]
    Always,
    /// Left to the operating system: what was acknowledged outlives the process, not a power failure.
    Never,
}

/// Why a text is no [`Sync`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("neither \"always\" nor \"never\"")]
pub struct SyncError;

impl FromStr for Sync {
    type Err = SyncError;

    fn from_str(text: &str) -> Result<Self, SyncError> {
        match text {
            "always" => Ok(Self::Always),
            "never" => Ok(Self::Never),
            _ => Err(SyncError),
        }
    }
}

impl fmt::Display for Sync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Always => "always",
            Self::Never => "never",
        })
    }
}

/// Which directory, and how carefully.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The store's root; created with its parents where it is missing.
    pub root: PathBuf,
    /// When bytes are forced to the medium.
    pub sync: Sync,
    /// Bytes of small objects, read lately, that are kept in memory; 0 keeps none.
    pub memory: u64,
}

/// A few threads for writes that wait for no disk. Such a write is short, and the runtime's own pool would start a thread
/// for each of them: what these then cost each other is more than the write.
#[derive(Debug)]
struct Writers(Option<Runtime>);

impl Writers {
    fn start() -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).max(2);
        let mut builder = runtime::Builder::new_current_thread();
        builder.max_blocking_threads(threads).thread_name("larder-write").build().map(|pool| Self(Some(pool)))
    }

    fn start_work<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        match &self.0 {
            Some(pool) => pool.spawn_blocking(work),
            None => start(work),
        }
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // Where the store is dropped nothing may be waited for.
        if let Some(pool) = self.0.take() {
            pool.shutdown_background();
        }
    }
}

/// What all verbs share.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    staging: PathBuf,
    sync: Sync,
    hot: Hot,
    known: Known,
    writers: Writers,
    budget: Budget,
    metrics: Metrics,
    /// Whether the kernel opens files from its caches without waiting, as far as is known.
    quick: AtomicBool,
    /// Whether it was said already that checksums cannot be kept here.
    plain: AtomicBool,
    /// Whether it was said already that there are files that are no objects.
    strange: AtomicBool,
}

impl Place {
    fn path(&self, key: &Key) -> PathBuf {
        self.root.join(key.as_str())
    }

    /// Makes the root and the staging directory where they are missing.
    fn prepare(&self) -> Result<(), Fault> {
        let mut changed = Vec::new();
        stage::make(&self.staging, &mut changed)?;
        changed.iter().try_for_each(|dir| self.sync_dir(dir))
    }

    /// Forces a directory's entries to the medium, if that is wanted.
    fn sync_dir(&self, dir: &Path) -> Result<(), Fault> {
        if self.sync == Sync::Never {
            return Ok(());
        }
        match File::open(dir).and_then(|dir| dir.sync_all()) {
            Ok(()) => Ok(()),
            // Deleted again by now, with all that was in it; or a file system that syncs no directories.
            Err(error) if is_one(&error, &[Errno::NOENT, Errno::NOTDIR, Errno::INVAL]) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Says a thing once in the life of the store.
    fn once(&self, said: &AtomicBool, what: &str) {
        if !said.swap(true, Ordering::Relaxed) {
            tracing::warn!(root = %self.root.display(), "{what}");
        }
    }
}

/// Starts work on the blocking pool. It goes on to its end, even if nobody waits for it any more.
fn start<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    spawn_blocking(work)
}

/// Does work on the blocking pool: one hop there and back.
async fn hop<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    joined(start(work).await)
}

fn joined<T>(done: Result<Result<T, Fault>, tokio::task::JoinError>) -> Result<T, Fault> {
    done.unwrap_or_else(|lost| Err(Fault::Io(io::Error::other(lost))))
}

/// Counts one call when it ends, or as cancelled where it is dropped before.
struct Count<'m> {
    metrics: &'m Metrics,
    verb: &'static str,
    outcome: &'static str,
}

impl<'m> Count<'m> {
    const fn new(metrics: &'m Metrics, verb: &'static str) -> Self {
        Self { metrics, verb, outcome: "cancelled" }
    }

    fn ends(mut self, outcome: &'static str) {
        self.outcome = outcome;
    }
}

impl Drop for Count<'_> {
    fn drop(&mut self) {
        self.metrics.call(self.verb, self.outcome);
    }
}

const fn outcome(kind: Kind) -> &'static str {
    match kind {
        Kind::Unavailable => "unavailable",
        Kind::Denied => "denied",
        Kind::Conflict => "conflict",
        Kind::Corrupt => "corrupt",
    }
}

/// The backend.
#[derive(Debug)]
pub(super) struct Dir {
    place: Arc<Place>,
}

impl Dir {
    /// Opens the store. A directory that cannot be had now is an error of each verb, and of [`Dir::probe`], not of
    /// this.
    pub(super) fn open(config: Config, budget: Budget, metrics: Metrics) -> Result<Self, Error> {
        // Absolute, so that nothing depends on the working directory later.
        let root = std::path::absolute(&config.root).unwrap_or(config.root);
        let place = Place {
            staging: root.join(STAGING),
            root,
            sync: config.sync,
            hot: Hot::new(config.memory),
            known: Known::new(),
            writers: match config.sync {
                Sync::Never => Writers::start().unwrap_or(Writers(None)),
                Sync::Always => Writers(None),
            },
            budget,
            metrics,
            quick: AtomicBool::new(cfg!(target_os = "linux")),
            plain: AtomicBool::new(false),
            strange: AtomicBool::new(false),
        };
        if let Err(error) = place.prepare() {
            tracing::warn!(root = %place.root.display(), %error, "the store's directory cannot be had");
        }
        Ok(Self { place: Arc::new(place) })
    }

    /// As [`super::Store::get`]. Objects up to [`super::SMALL`] and whole larger ones are checked; parts of larger
    /// ones are not, since the checksum is of the whole.
    pub(super) async fn get(&self, key: &Key, want: &Want) -> Result<Option<Object>, Error> {
        let count = Count::new(&self.place.metrics, "get");
        let found = read::get(&self.place, key, want).await.map_err(|fault| fault.at(Op::Get, key));
        count.ends(match &found {
            Ok(None) => "absent",
            Ok(Some(Object { body: Body::Unchanged, .. })) => "unchanged",
            Ok(Some(_)) => "ok",
            Err(error) => outcome(error.kind),
        });
        found
    }

    /// As [`super::Store::head`].
    pub(super) async fn head(&self, key: &Key) -> Result<Option<Meta>, Error> {
        let count = Count::new(&self.place.metrics, "head");
        let found = read::head(&self.place, key).await.map_err(|fault| fault.at(Op::Head, key));
        count.ends(match &found {
            Ok(None) => "absent",
            Ok(Some(_)) => "ok",
            Err(error) => outcome(error.kind),
        });
        found
    }

    /// As [`super::Store::put`].
    pub(super) async fn put(&self, key: &Key, payload: Payload, how: Put) -> Result<Stored, PutError> {
        let count = Count::new(&self.place.metrics, "put");
        let stored = write::put(&self.place, key, payload, how).await;
        count.ends(match &stored {
            Ok(Stored::Done { .. }) => "ok",
            Ok(Stored::Exists) => "exists",
            Err(PutError::Body(_)) => "cancelled",
            Err(PutError::Store(error)) => outcome(error.kind),
        });
        stored
    }

    /// As [`super::Store::delete`]. Goes on after a failure and returns the first.
    pub(super) async fn delete(&self, keys: &[Key]) -> Result<(), Error> {
        let mut first = Ok(());
        for batch in keys.chunks(BATCH) {
            let count = Count::new(&self.place.metrics, "delete");
            let (place, batch) = (Arc::clone(&self.place), batch.to_vec());
            let lost = || format!("{} keys", keys.len());
            let done = start(move || tidy::delete(&place, &batch))
                .await
                .unwrap_or_else(|error| Err(Error::new(Kind::Unavailable, Op::Delete, lost(), error)));
            count.ends(done.as_ref().map_or_else(|error| outcome(error.kind), |()| "ok"));
            first = first.and(done);
        }
        first
    }

    /// As [`super::Store::list`]; the limit is the caller's to keep, and only a hint here.
    pub(super) fn list(
        &self,
        prefix: &Prefix,
        how: Listing,
    ) -> impl Stream<Item = Result<Listed, Error>> + Send + use<> {
        list::lines(&self.place, prefix, how)
    }

    /// As [`super::Store::refresh`]; whatever its age where no time is given.
    pub(super) async fn touch(&self, key: &Key, before: Option<SystemTime>) -> Result<Touched, Error> {
        let count = Count::new(&self.place.metrics, "copy");
        let (place, path) = (Arc::clone(&self.place), self.place.path(key));
        let done = hop(move || tidy::touch(&place, &path, before)).await;
        let done = done.map_err(|fault| fault.at(Op::Touch, key));
        count.ends(match &done {
            Ok(Touched::Done | Touched::Unmoved) => "ok",
            Ok(Touched::Young) => "unchanged",
            Ok(Touched::Gone) => "absent",
            Err(error) => outcome(error.kind),
        });
        done
    }

    /// As [`super::Store::reap`].
    pub(super) async fn reap(&self, age: Duration) -> Result<u64, Error> {
        let place = Arc::clone(&self.place);
        hop(move || tidy::reap(&place, age)).await.map_err(|fault| fault.at(Op::Reap, ""))
    }

    /// As [`super::Store::probe`]: whether a file can be written. Makes the directory again where it went missing.
    pub(super) async fn probe(&self) -> Result<(), Error> {
        let place = Arc::clone(&self.place);
        hop(move || tidy::probe(&place)).await.map_err(|fault| fault.at(Op::Probe, ""))
    }
}

impl fmt::Display for Dir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.place.root.display())
    }
}
