//! A file that is read and parsed at the start, and again whenever it changes.
//!
//! Read at the start, a file that cannot be had is an error. Later the old state stays, and one warning says why. Asks
//! the file system by time, size and number once a second, so that it works on every file system and through replaced
//! symbolic links (mounted secrets). Never knows what the file means, and never logs what is in it.

use std::fmt;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Largest file that is read, in bytes.
pub const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// How often the file system is asked. A change is taken up once it has lasted from one time to the next.
pub const EVERY: Duration = Duration::from_secs(1);

/// A file as young as this may change once more without looking changed: clocks of file systems are coarse.
const YOUNG: Duration = Duration::from_secs(2);

/// What keeps a file from being taken up.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The operating system's reason.
    #[error("{0}")]
    Unreadable(io::Error),
    /// A directory, a pipe or a device.
    #[error("not a regular file")]
    NotAFile,
    /// Larger than [`MAX_SIZE`].
    #[error("larger than {} MiB", MAX_SIZE / 1024 / 1024)]
    TooLarge,
    /// Some bytes are no text.
    #[error("not UTF-8")]
    NotUtf8,
    /// What the parser said.
    #[error("{0}")]
    Unparsable(String),
}

/// A file that could not be taken up, and why. Names the file: for logs and the terminal, not for answers.
#[derive(Debug, thiserror::Error)]
#[error("{}: {problem}", path.display())]
pub struct WatchError {
    path: PathBuf,
    problem: Problem,
}

impl WatchError {
    /// Why.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }
}

/// The parsed content of a file, as new as can be. Clones are the same file.
pub struct Watched<T> {
    inner: Arc<Inner<T>>,
}

type Parse<T> = Box<dyn Fn(&str) -> Result<T, String> + Send + Sync>;

struct Inner<T> {
    path: PathBuf,
    parse: Parse<T>,
    current: watch::Sender<Arc<T>>,
    /// Held while reading, so that of two readers the later does not lose to the earlier.
    seen: Mutex<Seen>,
}

/// What was last seen of the file.
#[derive(Debug, Default)]
struct Seen {
    /// The looks of what was last read. `None` where it has to be read again.
    read: Option<Look>,
    /// Other looks, seen once.
    changing: Option<Look>,
    /// The content that is current.
    digest: [u8; 32],
    /// The problem that was last warned of, and is not over.
    warned: Option<String>,
}

/// How a file looks from outside. A file that is not there looks like its error.
type Look = Result<Stamp, io::ErrorKind>;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
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

/// The text of a file; the looks that it had, unless it is too young for them to be relied on.
struct Content {
    text: String,
    look: Option<Look>,
}

fn read(path: &Path) -> Result<Content, Problem> {
    // Asked first: opening a pipe would wait for its writer.
    if !std::fs::metadata(path).map_err(Problem::Unreadable)?.is_file() {
        return Err(Problem::NotAFile);
    }
    let file = File::open(path).map_err(Problem::Unreadable)?;
    let metadata = file.metadata().map_err(Problem::Unreadable)?;
    let mut bytes = Vec::new();
    file.take(MAX_SIZE + 1).read_to_end(&mut bytes).map_err(Problem::Unreadable)?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(Problem::TooLarge);
    }
    let text = String::from_utf8(bytes).map_err(|_| Problem::NotUtf8)?;
    let age = metadata.modified().ok().and_then(|modified| SystemTime::now().duration_since(modified).ok());
    let settled = age.is_some_and(|age| age >= YOUNG);
    Ok(Content { text, look: settled.then(|| Ok(Stamp::of(&metadata))) })
}

fn look(path: &Path) -> Look {
    std::fs::metadata(path).map(|metadata| Stamp::of(&metadata)).map_err(|error| error.kind())
}

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads and parses the file for the first time. Blocks.
    pub fn open<E: fmt::Display>(
        path: impl Into<PathBuf>,
        parse: impl Fn(&str) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, WatchError> {
        let path = path.into();
        let parse = move |text: &str| parse(text).map_err(|error| error.to_string());
        let first = read(&path).and_then(|content| {
            let value = parse(&content.text).map_err(Problem::Unparsable)?;
            Ok((value, content))
        });
        let (value, content) = match first {
            Ok(first) => first,
            Err(problem) => return Err(WatchError { path, problem }),
        };
        let digest = Sha256::digest(&content.text).into();
        let seen = Mutex::new(Seen { read: content.look, digest, ..Seen::default() });
        let current = watch::Sender::new(Arc::new(value));
        Ok(Self { inner: Arc::new(Inner { path, parse: Box::new(parse), current, seen }) })
    }

    /// The newest state that could be parsed. Costs as much as a clone of an `Arc`.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.inner.current.borrow())
    }

    /// Tells of each new state.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.inner.current.subscribe()
    }

    /// Reads the file now, changed or not. Blocks. Returns whether there is a new state; where the file cannot be
    /// taken up the old state stays, and a warning is logged unless the last one said the same.
    pub fn reload_now(&self) -> Result<bool, WatchError> {
        self.inner.reload(&mut self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks after the file until told to stop, once every [`EVERY`].
    pub fn watch(&self, tasks: &TaskTracker, stop: CancellationToken) {
        self.watch_every(EVERY, tasks, stop);
    }

    fn watch_every(&self, period: Duration, tasks: &TaskTracker, stop: CancellationToken) {
        let inner = Arc::clone(&self.inner);
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            let rounds = async {
                loop {
                    ticks.tick().await;
                    let inner = Arc::clone(&inner);
                    if let Err(error) = tokio::task::spawn_blocking(move || inner.poll()).await {
                        tracing::error!(%error, "a file could not be looked after");
                    }
                }
            };
            // A file system that hangs holds up a thread of the pool, not the end of the process.
            stop.run_until_cancelled(rounds).await;
        });
    }
}

impl<T> Inner<T> {
    /// Reads the file if it looks changed, and looked the same the last time: who writes in place has ended then.
    fn poll(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Some(look(&self.path));
        if seen.read == now {
            seen.changing = None;
        } else if seen.changing == now {
            // Success and failure are logged where they happen.
            drop(self.reload(&mut seen));
        } else {
            seen.changing = now;
        }
    }

    fn reload(&self, seen: &mut Seen) -> Result<bool, WatchError> {
        seen.changing = None;
        match self.read(seen) {
            Ok(new) => {
                if new || seen.warned.is_some() {
                    tracing::info!(path = %self.path.display(), "the file is read again and in force");
                }
                seen.warned = None;
                Ok(new)
            }
            Err(problem) => {
                let error = WatchError { path: self.path.clone(), problem };
                let said = error.to_string();
                if seen.warned.as_ref() != Some(&said) {
                    tracing::warn!("{said}; the state before stays in force");
                    seen.warned = Some(said);
                }
                Err(error)
            }
        }
    }

    fn read(&self, seen: &mut Seen) -> Result<bool, Problem> {
        // Until it is read: an error that passes without a change of the file is tried again.
        seen.read = None;
        let content = read(&self.path)?;
        seen.read = content.look;
        let digest: [u8; 32] = Sha256::digest(&content.text).into();
        if digest == seen.digest {
            return Ok(false);
        }
        let value = (self.parse)(&content.text).map_err(Problem::Unparsable)?;
        seen.digest = digest;
        self.current.send_replace(Arc::new(value));
        Ok(true)
    }
}

impl<T> Clone for Watched<T> {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner) }
    }
}

impl<T> fmt::Debug for Watched<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("path", &self.inner.path).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::num::ParseIntError;
    use std::path::PathBuf;
    use std::time::{Duration, SystemTime};

    use tempfile::TempDir;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::{MAX_SIZE, Problem, WatchError, Watched};

    fn number(text: &str) -> Result<u32, ParseIntError> {
        text.trim().parse()
    }

    /// A file of that content, old enough to be relied on.
    fn file(content: &str) -> (TempDir, PathBuf) {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("file");
        fs::write(&path, content).unwrap();
        age(&path);
        (dir, path)
    }

    fn age(path: &PathBuf) {
        let file = fs::File::options().write(true).open(path).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_secs(60)).unwrap();
    }

    fn open(path: &PathBuf) -> Result<Watched<u32>, WatchError> {
        Watched::open(path, number)
    }

    #[test]
    fn at_the_start_a_problem_is_an_error() {
        let (dir, path) = file("7x");
        let error = open(&path).unwrap_err();
        assert!(matches!(error.problem(), Problem::Unparsable(_)));
        assert_eq!(error.to_string(), format!("{}: invalid digit found in string", path.display()));
        let problem = |path: PathBuf| open(&path).unwrap_err().problem;
        assert!(matches!(problem(dir.path().join("absent")), Problem::Unreadable(_)));
        assert!(matches!(problem(dir.path().to_owned()), Problem::NotAFile));
        fs::write(&path, b"\xff").unwrap();
        assert!(matches!(problem(path.clone()), Problem::NotUtf8));
        fs::File::create(&path).unwrap().set_len(MAX_SIZE + 1).unwrap();
        assert!(matches!(problem(path), Problem::TooLarge));
    }

    #[test]
    fn a_reload_takes_up_what_is_good_and_keeps_what_was() {
        let (_dir, path) = file("1");
        let watched = open(&path).unwrap();
        assert!(!watched.reload_now().unwrap(), "nothing new");
        fs::write(&path, "2").unwrap();
        assert!(watched.reload_now().unwrap());
        for bad in ["", "3x"] {
            fs::write(&path, bad).unwrap();
            assert!(watched.reload_now().is_err());
            assert_eq!(*watched.current(), 2);
        }
        fs::remove_file(&path).unwrap();
        assert!(watched.reload_now().is_err());
        assert_eq!(*watched.current(), 2);
        assert!(watched.inner.seen.lock().unwrap().warned.is_some());
        fs::write(&path, "2").unwrap();
        assert!(!watched.reload_now().unwrap(), "the old content is back");
        assert!(watched.inner.seen.lock().unwrap().warned.is_none());
    }

    #[test]
    fn a_change_is_taken_up_once_it_lasts() {
        let (dir, path) = file("1");
        let watched = open(&path).unwrap();
        let after_poll = || {
            watched.inner.poll();
            *watched.current()
        };
        assert_eq!(after_poll(), 1);
        fs::write(&path, "23").unwrap();
        assert_eq!(after_poll(), 1, "may still be written");
        fs::write(&path, "234").unwrap();
        assert_eq!(after_poll(), 1, "and was");
        assert_eq!(after_poll(), 234);
        fs::write(dir.path().join("new"), "567").unwrap();
        fs::rename(dir.path().join("new"), &path).unwrap();
        assert_eq!((after_poll(), after_poll()), (234, 567), "replaced");
        fs::remove_file(&path).unwrap();
        assert_eq!((after_poll(), after_poll()), (567, 567), "gone");
        fs::write(&path, "8").unwrap();
        assert_eq!((after_poll(), after_poll()), (567, 8), "and back");
    }

    #[test]
    fn a_young_file_is_read_again_and_an_old_one_is_not() {
        let (_dir, path) = file("1");
        let watched = open(&path).unwrap();
        let read = || watched.inner.seen.lock().unwrap().read;
        assert!(read().is_some());
        fs::write(&path, "2").unwrap();
        assert!(watched.reload_now().unwrap());
        assert!(read().is_none(), "too young");
        age(&path);
        watched.inner.poll();
        watched.inner.poll();
        assert!(read().is_some());
        assert_eq!(*watched.current(), 2);
    }

    #[tokio::test]
    async fn the_task_sees_changes_and_stops() {
        let (_dir, path) = file("1");
        let watched = open(&path).unwrap();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let mut states = watched.subscribe();
        watched.watch_every(Duration::from_millis(1), &tasks, stop.clone());
        fs::write(&path, "2").unwrap();
        let bounded = tokio::time::timeout(Duration::from_secs(30), states.wait_for(|state| **state == 2));
        bounded.await.unwrap().unwrap();
        stop.cancel();
        tasks.close();
        tokio::time::timeout(Duration::from_secs(30), tasks.wait()).await.unwrap();
    }
}
