//! An examination of a directory: what its file system does, asked by doing it, below one hidden name.
//!
//! Directories that it has to make it notes, and removes again. Blocking work is done on the blocking pool, each probe in
//! bounded time: a network mount that hangs must not hang this. Decides nothing about what it sees.

mod files;
mod verbs;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::stage::LOCK;
use super::{Config, start};
use crate::store::examine::{Depth, Observation, PATIENCE, PLACE, Probe, Seen};
use crate::store::key::STAGING;

/// What is tried by writing.
const WRITES: [Probe; 10] = [
    Probe::Stage,
    Probe::OneDevice,
    Probe::Names,
    Probe::Write,
    Probe::Attributes,
    Probe::Read,
    Probe::CreateOnly,
    Probe::ReplaceSame,
    Probe::Refresh,
    Probe::Delete,
];

/// Who examines a directory.
#[derive(Debug)]
pub(in crate::store) struct Examiner {
    config: Config,
    depth: Depth,
    ground: Arc<Ground>,
}

/// Where it stands, and what it has made there.
#[derive(Debug)]
struct Ground {
    root: PathBuf,
    /// The name below [`PLACE`] that is ours.
    own: String,
    /// Directories that were not there, outermost first.
    made: Mutex<Vec<PathBuf>>,
}

impl Ground {
    fn place(&self) -> PathBuf {
        self.root.join(PLACE).join(&self.own)
    }

    fn staging(&self) -> PathBuf {
        self.root.join(STAGING)
    }

    /// Makes a directory and those above it, noting each.
    fn make(&self, dir: &Path) -> io::Result<()> {
        let missing: Vec<&Path> =
            dir.ancestors().take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists()).collect();
        for dir in missing.into_iter().rev() {
            self.made.lock().unwrap_or_else(PoisonError::into_inner).push(dir.to_owned());
            match fs::create_dir(dir) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                done => done?,
            }
        }
        Ok(())
    }

    fn remove(&self) -> Seen {
        let place = self.place();
        let removed = match fs::remove_dir_all(&place) {
            Err(error) if error.kind() != io::ErrorKind::NotFound && place.exists() => Err(error),
            Ok(()) | Err(_) => Ok(()),
        };
        let (staging, mut made) = (self.staging(), self.made.lock().unwrap_or_else(PoisonError::into_inner));
        // The file that swaps are locked with came with that directory and goes with it, unless somebody works there.
        let ours = |entry: io::Result<fs::DirEntry>| entry.is_ok_and(|entry| entry.file_name() == LOCK);
        if made.contains(&staging) && fs::read_dir(&staging).is_ok_and(|mut entries| entries.all(ours)) {
            drop(fs::remove_file(staging.join(LOCK)));
        }
        for dir in made.drain(..).rev() {
            // What is not empty is somebody's by now.
            if let Err(error) = fs::remove_dir(&dir) {
                tracing::debug!(dir = %dir.display(), %error, "a directory stays");
            }
        }
        match removed {
            Ok(()) => Seen::Well(String::new()),
            Err(error) => Seen::Wrong(format!("{} could not be removed: {error}", place.display())),
        }
    }
}

/// What a failure of the file system is.
fn failed(error: &io::Error) -> Seen {
    match matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) {
        true => Seen::Refused(error.to_string()),
        false => Seen::Failed(error.to_string()),
    }
}

impl Examiner {
    pub(in crate::store) fn new(config: &Config, depth: Depth) -> Self {
        let root = std::path::absolute(&config.root).unwrap_or_else(|_| config.root.clone());
        let own = format!("{:016x}", fastrand::u64(..));
        let ground = Ground { root, own, made: Mutex::default() };
        Self { config: config.clone(), depth, ground: Arc::new(ground) }
    }

    /// One probe, on the blocking pool.
    async fn ask(&self, probe: impl FnOnce(&Ground) -> Seen + Send + 'static) -> Seen {
        let ground = Arc::clone(&self.ground);
        match tokio::time::timeout(PATIENCE, start(move || probe(&ground))).await {
            Ok(Ok(seen)) => seen,
            Ok(Err(lost)) => Seen::Failed(lost.to_string()),
            Err(_) => Seen::Failed(format!("the file system does not answer within {PATIENCE:?}")),
        }
    }

    /// See [`crate::store::examine::Examination::run`].
    pub(in crate::store) async fn run(&self, tell: &(dyn Fn(Observation) + Sync)) {
        let say = |probe, seen| tell(Observation { probe, seen });
        let write = self.depth.write;
        let root = self.ask(move |ground| files::root(ground, write)).await;
        let reached = matches!(root, Seen::Well(_));
        say(Probe::Root, root);
        if !reached {
            return;
        }
        say(Probe::FileSystem, self.ask(files::sort).await);
        say(Probe::Room, self.ask(files::room).await);
        say(Probe::AccessTimes, self.ask(files::access_times).await);
        say(Probe::Owner, self.ask(files::owner).await);
        if !write {
            WRITES.iter().for_each(|probe| say(*probe, Seen::Skipped("this role does not write".to_owned())));
            return;
        }
        let (stage, clock) = (self.ask(files::stage).await, self.ask(files::clock).await);
        let staged = matches!(stage, Seen::Well(_));
        say(Probe::Stage, stage);
        say(Probe::Clock, clock);
        if !staged {
            let why = "no file can be written";
            WRITES.iter().skip(1).for_each(|probe| say(*probe, Seen::Skipped(why.to_owned())));
            return;
        }
        say(Probe::OneDevice, self.ask(files::one_device).await);
        say(Probe::Names, self.ask(files::names).await);
        self.verbs(&say).await;
    }

    /// See [`crate::store::examine::Examination::clean`].
    pub(in crate::store) async fn clean(&self) -> Seen {
        self.ask(Ground::remove).await
    }
}
