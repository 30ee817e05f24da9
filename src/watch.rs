//! Files that are read and parsed at the start, and again whenever they change: one, several, directories of them.
//!
//! Read at the start, a file that cannot be had is an error. Later the old state stays, and one warning says why. Asks
//! the file system by time, size and number once a second, so that it works on every file system and through replaced
//! symbolic links (mounted secrets). Never knows what a file means, and never logs what is in it.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use files::Look;
pub use files::{Place, Read};

mod files;

/// Most bytes that are read, of all files together.
pub const MAX_SIZE: u64 = 16 * 1024 * 1024;

/// Most files of a directory.
pub const MAX_FILES: usize = 4096;

/// How often the file system is asked. A change is taken up once it has lasted from one time to the next.
pub const EVERY: Duration = Duration::from_secs(1);

/// What keeps a file from being taken up.
#[derive(Debug, thiserror::Error)]
pub enum Problem {
    /// The operating system's reason.
    #[error("{0}")]
    Unreadable(io::Error),
    /// A directory where a file is wanted, a pipe or a device.
    #[error("not a regular file")]
    NotAFile,
    /// Larger than [`MAX_SIZE`].
    #[error("larger than {} MiB", MAX_SIZE / 1024 / 1024)]
    TooLarge,
    /// More than [`MAX_FILES`].
    #[error("more than {MAX_FILES} files")]
    TooMany,
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
    fn new(path: &Path, problem: Problem) -> Self {
        Self { path: path.to_owned(), problem }
    }

    /// A file whose content makes no sense, for parsers of several.
    pub fn unparsable(path: &Path, why: impl fmt::Display) -> Self {
        Self::new(path, Problem::Unparsable(why.to_string()))
    }

    /// Why.
    pub fn problem(&self) -> &Problem {
        &self.problem
    }

    fn kind(&self) -> io::ErrorKind {
        match &self.problem {
            Problem::Unreadable(error) => error.kind(),
            Problem::NotAFile
            | Problem::TooLarge
            | Problem::TooMany
            | Problem::NotUtf8
            | Problem::Unparsable(_) => io::ErrorKind::InvalidData,
        }
    }
}

/// The parsed content of files, as new as can be. Clones are the same files.
pub struct Watched<T> {
    inner: Arc<Inner<T>>,
}

type Parse<T> = Box<dyn Fn(&[Read]) -> Result<T, WatchError> + Send + Sync>;

struct Inner<T> {
    places: Vec<Place>,
    parse: Parse<T>,
    current: watch::Sender<Arc<T>>,
    /// Held while reading, so that of two readers the later does not lose to the earlier.
    seen: Mutex<Seen>,
}

/// What was last seen of the files.
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

impl<T: Send + Sync + 'static> Watched<T> {
    /// Reads and parses one file for the first time. Blocks.
    pub fn open<E: fmt::Display>(
        path: impl Into<PathBuf>,
        parse: impl Fn(&str) -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, WatchError> {
        let path = path.into();
        let place = Place::File(path.clone());
        Self::open_all(vec![place], move |files| {
            let bytes = files.first().map_or(&[][..], |file| &file.bytes);
            let text = std::str::from_utf8(bytes).map_err(|_| WatchError::new(&path, Problem::NotUtf8))?;
            parse(text).map_err(|error| WatchError::unparsable(&path, error))
        })
    }

    /// Reads the files of several places, and parses them together: for what is good only as a whole. Blocks.
    pub fn open_all(
        places: Vec<Place>,
        parse: impl Fn(&[Read]) -> Result<T, WatchError> + Send + Sync + 'static,
    ) -> Result<Self, WatchError> {
        let contents = files::read(&places)?;
        let current = watch::Sender::new(Arc::new(parse(&contents.files)?));
        let digest = contents.digest();
        let seen = Mutex::new(Seen { read: contents.look, digest, ..Seen::default() });
        Ok(Self { inner: Arc::new(Inner { places, parse: Box::new(parse), current, seen }) })
    }

    /// The newest state that could be parsed. Costs as much as a clone of an `Arc`.
    pub fn current(&self) -> Arc<T> {
        Arc::clone(&self.inner.current.borrow())
    }

    /// Tells of each new state.
    pub fn subscribe(&self) -> watch::Receiver<Arc<T>> {
        self.inner.current.subscribe()
    }

    /// Reads the files now, changed or not. Blocks. Returns whether there is a new state; where they cannot be
    /// taken up the old state stays, and a warning is logged unless the last one said the same.
    pub fn reload_now(&self) -> Result<bool, WatchError> {
        self.inner.reload(&mut self.inner.seen.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks after the files until told to stop, once every [`EVERY`].
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
    /// Reads the files if they look changed, and looked the same the last time: who writes in place has ended then.
    fn poll(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Some(files::look(&self.places));
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
                    tracing::info!(path = self.name(), "the file is read again and in force");
                }
                seen.warned = None;
                Ok(new)
            }
            Err(error) => {
                let said = error.to_string();
                if seen.warned.as_ref() != Some(&said) {
                    tracing::warn!("{said}; the state before stays in force");
                    seen.warned = Some(said);
                }
                Err(error)
            }
        }
    }

    /// Their paths, for the log.
    fn name(&self) -> String {
        let names: Vec<_> = self.places.iter().map(|place| place.path().to_string_lossy()).collect();
        names.join(", ")
    }

    fn read(&self, seen: &mut Seen) -> Result<bool, WatchError> {
        // Until they are read: an error that passes without a change of the files is tried again.
        seen.read = None;
        let contents = files::read(&self.places)?;
        let digest = contents.digest();
        seen.read = contents.look;
        if digest == seen.digest {
            return Ok(false);
        }
        let value = (self.parse)(&contents.files)?;
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
        f.debug_struct("Watched").field("places", &self.inner.places).finish_non_exhaustive()
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

    use super::{MAX_SIZE, Place, Problem, Read, WatchError, Watched};

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
        let read = || watched.inner.seen.lock().unwrap().read.clone();
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

    /// Which files of a directory are taken, and what is not.
    fn names(files: &[Read]) -> Result<Vec<String>, WatchError> {
        let name = |file: &Read| file.path.file_name().unwrap().to_string_lossy().into_owned();
        Ok(files.iter().map(|file| format!("{}{}", file.place, name(file))).collect())
    }

    #[test]
    fn a_directory_is_the_files_below_it() {
        let (dir, single) = file("1");
        let list = dir.path().join("list");
        fs::create_dir_all(list.join("deep")).unwrap();
        fs::create_dir(list.join("..data")).unwrap();
        for name in ["b", "a", "deep/c", ".hidden", "..data/a"] {
            fs::write(list.join(name), name).unwrap();
        }
        std::os::unix::fs::symlink("..data/a", list.join("link")).unwrap();
        let places = vec![Place::Files(list.clone()), Place::Files(single.clone()), Place::File(single)];
        let watched = Watched::open_all(places, names).unwrap();
        let after_polls = || {
            watched.inner.poll();
            watched.inner.poll();
            watched.current().join(" ")
        };
        assert_eq!(after_polls(), "0a 0b 0c 0link 1file 2file");
        fs::remove_file(list.join("a")).unwrap();
        assert_eq!(after_polls(), "0b 0c 0link 1file 2file", "one is gone");
        fs::write(list.join("deep/d"), "new").unwrap();
        assert_eq!(after_polls(), "0b 0c 0d 0link 1file 2file", "one came");
        let circle = list.join("circle");
        std::os::unix::fs::symlink(".", &circle).unwrap();
        let error = watched.reload_now().unwrap_err();
        assert_eq!(error.to_string(), format!("{}: not a regular file", circle.display()));
        assert_eq!(watched.current().len(), 6, "the state before");
        fs::remove_dir_all(&list).unwrap();
        assert!(watched.reload_now().is_err());
        fs::create_dir(&list).unwrap();
        assert_eq!(after_polls(), "1file 2file", "nothing is in an empty one");
    }

    #[test]
    fn several_files_are_taken_up_together_or_not_at_all() {
        let (_one, first) = file("1");
        let (_two, second) = file("1");
        let same = |files: &[Read]| match files {
            [a, b] if a.bytes == b.bytes => Ok(a.bytes.clone()),
            [a, ..] => Err(WatchError::unparsable(&a.path, "not the same")),
            [] => unreachable!("there are two"),
        };
        let places = vec![Place::File(first.clone()), Place::File(second.clone())];
        let watched = Watched::open_all(places, same).unwrap();
        fs::write(&first, "2").unwrap();
        let error = watched.reload_now().unwrap_err().to_string();
        assert_eq!(error, format!("{}: not the same", first.display()));
        assert_eq!(*watched.current(), b"1");
        fs::write(&second, "2").unwrap();
        assert!(watched.reload_now().unwrap());
        assert_eq!(*watched.current(), b"2");
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
