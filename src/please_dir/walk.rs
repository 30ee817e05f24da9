//! Reading a Please directory cache: every entry of it, whole or not, and what else takes room.
//!
//! A few threads walk the tree, each directory relative to the one above it, which stays open meanwhile; no link is
//! followed but the one that the person named. Never goes into an entry for anything but its size and times. Memory
//! follows the number of entries.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;

use super::at::{self, Facts, Nanos};
use super::measure::{self, Measured, Times};
use super::name::{Form, Name};
use super::plan::{Entry, Ledger, Shared};

/// Most threads: the disk has no more to give to others.
const THREADS: usize = 8;

/// A directory above all entries that holds nothing.
#[derive(Debug)]
pub(super) struct Hollow {
    pub(super) path: PathBuf,
    pub(super) written: Nanos,
    pub(super) disk: u64,
}

/// What a tree holds.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Entries that are whole.
    pub(super) entries: Vec<Entry>,
    /// Entries that are being written or deleted, or were when somebody was killed.
    pub(super) unfinished: Vec<Entry>,
    pub(super) hollow: Vec<Hollow>,
    /// Directories above entries, and files that are nobody's.
    other: u64,
    strays: Vec<Shared>,
    /// Places that could not be read.
    pub(super) unread: u64,
}

impl Tree {
    /// What all of it takes.
    pub(super) fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::default();
        ledger.add(self.other, &self.strays);
        for entry in self.entries.iter().chain(&self.unfinished) {
            ledger.add(entry.own, &entry.shared);
        }
        for hollow in &self.hollow {
            ledger.add(hollow.disk, &[]);
        }
        ledger
    }

    fn join(&mut self, other: Self) {
        self.entries.extend(other.entries);
        self.unfinished.extend(other.unfinished);
        self.hollow.extend(other.hollow);
        self.other += other.other;
        self.strays.extend(other.strays);
        self.unread += other.unread;
    }

    fn entry(&mut self, name: &Name, path: PathBuf, facts: &Facts, measured: Measured) {
        let entry = Entry {
            path,
            form: name.form,
            id: facts.id,
            used: measured.used(),
            written: measured.written,
            own: measured.own,
            shared: measured.shared,
        };
        if name.whole { self.entries.push(entry) } else { self.unfinished.push(entry) }
    }

    fn unread(&mut self, path: &Path, error: &io::Error) {
        if !at::is_gone(error) {
            tracing::warn!(path = %path.display(), cause = %error, "cannot be read, and is left alone");
            self.unread += 1;
        }
    }
}

/// A directory that is yet to be read.
struct Job {
    above: Arc<OwnedFd>,
    name: OsString,
    path: PathBuf,
}

/// What the threads share. The job that came last is done first, so that few directories are open.
#[derive(Default)]
struct Queue {
    left: Mutex<Left>,
    more: Condvar,
}

#[derive(Default)]
struct Left {
    jobs: Vec<Job>,
    /// Threads that may yet bring more.
    busy: usize,
}

impl Queue {
    fn put(&self, jobs: Vec<Job>) {
        if !jobs.is_empty() {
            self.left.lock().unwrap_or_else(PoisonError::into_inner).jobs.extend(jobs);
            self.more.notify_all();
        }
    }

    /// The next job; `None` once there is none and will be none.
    fn take(&self) -> Option<Job> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(job) = left.jobs.pop() {
                left.busy += 1;
                return Some(job);
            }
            if left.busy == 0 {
                self.more.notify_all();
                return None;
            }
            left = self.more.wait(left).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn done(&self) {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        left.busy = left.busy.saturating_sub(1);
        if left.busy == 0 {
            self.more.notify_all();
        }
    }
}

/// Reads all of a tree.
///
/// # Errors
/// Only where its top cannot be read; what cannot be read below is counted.
pub(super) fn read(root: &OwnedFd, times: Times) -> io::Result<Tree> {
    let queue = Queue::default();
    let mut tree = Tree { other: Facts::of(root)?.disk, ..Tree::default() };
    let top = Arc::new(root.try_clone()?);
    let names = at::names(&top)?;
    queue.put(list(&top, names, Path::new(""), times, &mut tree));
    let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS);
    let parts: Vec<Tree> = thread::scope(|scope| {
        let walkers: Vec<_> = (0..threads).map(|_| scope.spawn(|| work(&queue, times))).collect();
        walkers.into_iter().map(|walker| walker.join().unwrap_or_else(|panic| resume_unwind(panic))).collect()
    });
    parts.into_iter().for_each(|part| tree.join(part));
    Ok(tree)
}

fn work(queue: &Queue, times: Times) -> Tree {
    let mut tree = Tree::default();
    while let Some(job) = queue.take() {
        match enter(&job, times, &mut tree) {
            Ok(jobs) => queue.put(jobs),
            Err(error) => tree.unread(&job.path, &error),
        }
        queue.done();
    }
    tree
}

fn enter(job: &Job, times: Times, tree: &mut Tree) -> io::Result<Vec<Job>> {
    let dir = Arc::new(at::directory(&job.above, &job.name)?);
    let facts = Facts::of(&dir)?;
    let names = at::names(&dir)?;
    if names.is_empty() {
        let path = job.path.clone();
        tree.hollow.push(Hollow { path, written: facts.written, disk: facts.disk });
        return Ok(Vec::new());
    }
    tree.other += facts.disk;
    Ok(list(&dir, names, &job.path, times, tree))
}

/// Takes what is in a directory, and says which directories in it are none of an entry.
fn list(dir: &Arc<OwnedFd>, names: Vec<OsString>, path: &Path, times: Times, tree: &mut Tree) -> Vec<Job> {
    let mut jobs = Vec::new();
    for name in names {
        let path = path.join(&name);
        match one(dir, &name, &path, times, tree) {
            Ok(true) => jobs.push(Job { above: Arc::clone(dir), name, path }),
            Ok(false) => {}
            Err(error) => tree.unread(&path, &error),
        }
    }
    jobs
}

/// Whether a name is a directory to be read in its turn.
fn one(dir: &OwnedFd, name: &OsStr, path: &Path, times: Times, tree: &mut Tree) -> io::Result<bool> {
    let facts = Facts::at(dir, name)?;
    let form = if facts.is_dir() { Form::Directory } else { Form::Archive };
    // An entry is of a target, so there is a directory above it.
    let below = path.components().nth(1).is_some();
    let known = Name::parse(name, form).filter(|_| below && (facts.is_dir() || facts.is_file()));
    match known {
        Some(known) => {
            let measured = match form {
                Form::Directory => measure::directory(&at::directory(dir, name)?, times)?,
                Form::Archive => {
                    let mut sum = Measured::default();
                    sum.add(&facts, times);
                    sum
                }
            };
            tree.entry(&known, path.to_owned(), &facts, measured);
            Ok(false)
        }
        None if facts.is_dir() => Ok(true),
        None if facts.links > 1 => {
            tree.strays.push(Shared { id: facts.id, disk: facts.disk });
            Ok(false)
        }
        None => {
            tree.other += facts.disk;
            Ok(false)
        }
    }
}
